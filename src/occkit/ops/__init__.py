"""TOOLS: tensor operations, one folder an op. They know voxel units and table rows, no cameras and no configuration.

| folder | does |
|---|---|
| `raycast` | the first voxel a ray meets, which voxels it sees, what measured end points carve free |
| `gather` | weighted sums of table rows: the sparse product under the plans below |
| `sampling` | trilinear and bilinear reading, 2D and 3D deformable sampling, reusable sampling plans |
| `pooling` | lift-splat pooling of pixels into voxels, and gathering pixels for voxels |
| `rendering` | densities or occupancies along rays to weights, depth, features; inverse-CDF resampling |
| `scan` | selective state-space scan of sequences: recurrence, chunks, Triton |

Each folder's `__init__.py` is the public door: equation, shapes, units, validation and the choice of backend.
`reference.py` is plain torch and says what the result is; the faster forms beside it are imported only when chosen.
"""
