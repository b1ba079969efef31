import math

import pytest
import torch

from occkit.geometry import Cameras, VoxelGrid
from occkit.losses import classes_of_cells
from occkit.samples import Occupancy
from occkit.taxonomy import OCC3D

GRID = VoxelGrid(origin=(0.0, -8.0, -4.0), voxel_size=(1.0, 1.0, 1.0), shape=(16, 16, 8))
EGO_FROM_CAMERA = torch.tensor([[0.0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]])


def scene():
    """Random labels, some free and some without one; random sparse depth in two cameras, some beyond the volume."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.tensor([0, 4, 11, 16, OCC3D.free_id, OCC3D.ignore_id], dtype=torch.uint8)
    semantics = ids[torch.randint(0, 6, (2, *GRID.shape), generator=generator)]
    intrinsics = torch.tensor([[20.0, 0, 12], [0, 20, 8], [0, 0, 1]]).expand(2, 2, 3, 3)
    cameras = Cameras(
        intrinsics=intrinsics.clone(), ego_from_camera=EGO_FROM_CAMERA.expand(2, 2, 4, 4).clone(), height=16, width=24
    )
    depth = 1.0 + 20.0 * torch.rand(2, 2, 16, 24, generator=generator)
    depth = torch.where(torch.rand(depth.shape, generator=generator) < 0.1, depth, torch.zeros(()))
    return depth, cameras, Occupancy(semantics=semantics, grid=GRID, taxonomy=OCC3D)


def naive(depth, label, sample, camera, row, column, cell):
    """The definition, one cell at a time: its nearest point, where that lies, and what is there."""
    best = None
    for v in range(row * cell, (row + 1) * cell):
        for u in range(column * cell, (column + 1) * cell):
            z = depth[sample, camera, v, u].item()
            if z > 0 and (best is None or z < best[0]):
                best = (z, u + 0.5, v + 0.5)
    if best is None:
        return OCC3D.ignore_id
    z, u, v = best
    point = (z, -(u - 12) / 20 * z, -(v - 8) / 20 * z)
    index = [math.floor(p - o) for p, o in zip(point, GRID.origin, strict=True)]
    if any(not 0 <= i < n for i, n in zip(index, GRID.shape, strict=True)):
        return OCC3D.ignore_id
    found = label.semantics[sample][tuple(index)].item()
    return OCC3D.ignore_id if found == OCC3D.free_id else found


def test_each_cell_shows_the_voxel_of_its_nearest_point():
    depth, cameras, label = scene()
    classes = classes_of_cells(depth, cameras, label, (4, 6))
    for index in torch.cartesian_prod(*(torch.arange(n) for n in classes.shape)).tolist():
        assert classes[tuple(index)].item() == naive(depth, label, *index, cell=4), index
    assert len(classes.unique()) == 5


def test_cells_must_divide_the_image():
    depth, cameras, label = scene()
    with pytest.raises(ValueError, match="16x24 pixels do not divide into 5x6 cells"):
        classes_of_cells(depth, cameras, label, (5, 6))
