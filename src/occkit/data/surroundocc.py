"""SurroundOcc labels: `samples/<LiDAR file name>.npy`, sparse rows `[x, y, z, class]` in the LiDAR frame.

Bytes: an npy file of shape (n, 4), any integer or float type. Frame: LIDAR_TOP of nuScenes (x right, y forward, z up),
box (-50, -50, -5) to (50, 50, 3), voxels of 0.5 m. Classes 1..16 are those of nuScenes-lidarseg; 0 is noise, which
evaluation ignores; a voxel without a row is empty. (GaussianFormer reads the same files with empty = 17.)

Source: Wei et al., "SurroundOcc", ICCV 2023; layout as in the published data.
"""

from pathlib import Path

from occkit.data.voxel_table import read_table, write_table
from occkit.geometry import VoxelGrid
from occkit.samples import Occupancy

SURROUNDOCC_GRID = VoxelGrid.from_range((-50, -50, -5), (50, 50, 3), 0.5)
"""200 x 200 x 16 voxels of 0.5 m in the LiDAR frame."""


def read_voxels(path: Path, *, grid: VoxelGrid = SURROUNDOCC_GRID) -> Occupancy:
    """Read a label file as a dense volume of the SurroundOcc taxonomy: 0 empty, 255 where the file says noise.

    Raises:
        DataError: if the rows are not voxel indices of `grid` with classes 0..16.
    """
    return read_table(path, axes="xyz", grid=grid, columns=(4,)).occupancy(grid)


def write_voxels(path: Path, occupancy: Occupancy) -> None:
    """Write a label file: one int16 row `[x, y, z, class]` for each voxel that is not empty, in C order.

    Raises:
        ValueError: if the ids are not those of the SurroundOcc taxonomy.
    """
    write_table(path, occupancy, axes="xyz")
