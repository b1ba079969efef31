"""SSCBench-KITTI-360 voxels: `data_2d_raw/2013_05_28_drive_00SS_sync/voxels/FFFFFF.{bin,label,invalid}`.

Bytes: `.label` uint16 little-endian, *original* ids in the numbering of SemanticKITTI, C order of (256, 256, 32) =
`[x, y, z]`; `.bin` one bit a voxel (as SemanticKITTI); **`.invalid` one uint8 a voxel, not packed**: the trap of this
format. Frame: Velodyne, box (0, -25.6, -2) to (51.2, 25.6, 4.4), voxels of 0.2 m.

Of the original ids, 52 and 99 are classes here (other-structure, other-object), while bicyclist, motorcyclist, trunk
and outlier have none and are ignored. Splits: train 00 02 03 04 05 07 10, val 06, test 09.

Source: Li et al., "SSCBench", 2023; class table of its published configuration.
"""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
from jaxtyping import Bool

from occkit.data.semantickitti import grid_of_size
from occkit.errors import DataError
from occkit.files import read_bytes, write_bytes
from occkit.geometry import VoxelGrid

KITTI360_SPLITS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"train": ("00", "02", "03", "04", "05", "07", "10"), "val": ("06",), "test": ("09",)}
)
"""Sequences of each split."""

KITTI360_LEARNING_MAP: Mapping[int, int] = MappingProxyType(
    {0: 0, 10: 1, 11: 2, 13: 5, 15: 3, 16: 5, 18: 4, 20: 5, 30: 6, 40: 7, 44: 8, 48: 9, 49: 10, 50: 11, 51: 12, 52: 17}
    | {60: 7, 70: 13, 72: 14, 80: 15, 81: 16, 99: 18, 252: 1, 254: 6, 256: 5, 257: 5, 258: 4, 259: 5}
)
"""Original id -> train id of `taxonomy.KITTI360`; ids that are not here (1, 31, 32, 71, 253, 255) are ignored."""

KITTI360_INVERSE_MAP: tuple[int, ...] = (0, 10, 11, 15, 18, 20, 30, 40, 44, 48, 49, 50, 51, 70, 72, 80, 81, 52, 99)
"""Train id -> original id."""


def kitti360_lookup() -> npt.NDArray[np.uint8]:
    """Return the `[65536]` table original id -> train id, 255 where there is none."""
    table = np.full(65536, 255, dtype=np.uint8)
    for original, train in KITTI360_LEARNING_MAP.items():
        table[original] = train
    return table


def sequence_folder(sequence: str) -> str:
    """Return the folder of a sequence: `06` -> `2013_05_28_drive_0006_sync`."""
    return f"2013_05_28_drive_00{sequence}_sync"


def read_invalid(path: Path, *, grid: VoxelGrid | None = None) -> Bool[np.ndarray, "x y z"]:
    """Read an `.invalid` file: one byte a voxel, 1 = never observed; the grid follows from the size unless given.

    Raises:
        DataError: if the size is not one byte a voxel (bit-packed files are named as such) or a byte is neither 0 nor
            1.
    """
    data = read_bytes(path)
    if grid is not None and len(data) != grid.num_voxels:
        packed = 8 * len(data) == grid.num_voxels
        hint = "bits are packed as in SemanticKITTI: np.unpackbits it" if packed else "copy the file again"
        raise DataError(path, f"expected {grid.num_voxels:,} bytes (one a voxel), got {len(data):,}", hint)
    flags = np.frombuffer(data, dtype=np.uint8)
    if flags.max(initial=0) > 1:
        raise DataError(path, f"expected bytes 0 or 1, got {int(flags.max())}", "are its bits packed? unpack them")
    return flags.astype(np.bool_).reshape((grid or grid_of_size(path, len(data))).shape)


def write_invalid(path: Path, volume: Bool[np.ndarray, "x y z"]) -> None:
    """Write an `.invalid` file: one byte a voxel.

    Raises:
        ValueError: if `volume` is not bool with three dimensions.
    """
    if volume.dtype != np.bool_ or volume.ndim != 3:
        raise ValueError(f"volume: expected bool [x, y, z], got {volume.dtype} {volume.shape}")
    write_bytes(path, volume.astype(np.uint8).tobytes())
