"""OpenOccupancy labels: `scene_<scene token>/occupancy/<LiDAR token>.npy`, sparse rows in *reversed* axis order.

Bytes: an npy file of shape (n, 4) = `[z, y, x, class]`, or (n, 7) = `[z, y, x, vx, vy, vz, class]`. Frame: LIDAR_TOP
of nuScenes (x right, y forward, z up), box (-51.2, -51.2, -5) to (51.2, 51.2, 3), voxels of 0.2 m. Classes 1..16 as
nuScenes-lidarseg; 0 and 255 are noise, which evaluation ignores; a voxel without a row is empty.

Source: Wang et al., "OpenOccupancy", ICCV 2023; layout as in the published data.
"""

from pathlib import Path

from occkit.data.voxel_table import VoxelTable, read_table, write_table
from occkit.geometry import VoxelGrid
from occkit.samples import Occupancy

OPENOCCUPANCY_GRID = VoxelGrid.from_range((-51.2, -51.2, -5), (51.2, 51.2, 3), 0.2)
"""512 x 512 x 40 voxels of 0.2 m in the LiDAR frame."""


def read_rows(path: Path, *, grid: VoxelGrid = OPENOCCUPANCY_GRID) -> VoxelTable:
    """Read the rows of a label file, with velocities where it has them.

    Raises:
        DataError: if the rows are not voxel indices of `grid` with classes 0..16 or 255.
    """
    return read_table(path, axes="zyx", grid=grid, columns=(4, 7))


def read_voxels(path: Path, *, grid: VoxelGrid = OPENOCCUPANCY_GRID) -> Occupancy:
    """Read a label file as a dense volume of the SurroundOcc taxonomy: 0 empty, 255 where the file says noise.

    Raises:
        DataError: as `read_rows`.
    """
    return read_rows(path, grid=grid).occupancy(grid)


def write_voxels(path: Path, occupancy: Occupancy) -> None:
    """Write a label file: one int16 row `[z, y, x, class]` for each voxel that is not empty, in C order of `[x, y, z]`.

    Raises:
        ValueError: if the ids are not those of the SurroundOcc taxonomy.
    """
    write_table(path, occupancy, axes="zyx")
