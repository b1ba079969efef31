"""Sparse labels: an npy file with one row a voxel, the form SurroundOcc and OpenOccupancy share.

A row is `[voxel index (3), class]` or, with motion, `[voxel index (3), velocity (3), class]`. A voxel without a row is
empty; class 0 (lidarseg's "noise") and 255 mean "there is something, without a label".
"""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from occkit.errors import DataError
from occkit.files import read_npy, write_bytes
from occkit.geometry import VoxelGrid
from occkit.samples import Occupancy
from occkit.taxonomy import SURROUNDOCC

Axes = Literal["xyz", "zyx"]
_NO_LABEL = 0
_MAX_CLASS = 16


@dataclass(frozen=True, kw_only=True)
class VoxelTable:
    """The rows of a file, indices already in x, y, z order."""

    index: npt.NDArray[np.int64]
    """`[n, 3]` voxel indices x, y, z."""
    labels: npt.NDArray[np.uint8]
    """`[n]` classes 1..16 of the taxonomy, 255 for voxels without a label."""
    velocity: npt.NDArray[np.float32] | None = None
    """`[n, 3]` metres per second, where the file has seven columns."""

    def occupancy(self, grid: VoxelGrid) -> Occupancy:
        """Return the dense volume; where a voxel has several rows the last one counts, as in the published readers."""
        semantics = np.full(grid.shape, SURROUNDOCC.free_id, dtype=np.uint8)
        semantics[tuple(self.index.T)] = self.labels
        return Occupancy(semantics=torch.from_numpy(semantics), grid=grid, taxonomy=SURROUNDOCC)


def read_table(path: Path, *, axes: Axes, grid: VoxelGrid, columns: tuple[int, ...]) -> VoxelTable:
    """Read the rows of a sparse label file.

    Args:
        path: the file.
        axes: order in which the file holds the three indices.
        grid: volume the indices must lie in.
        columns: numbers of columns the format allows.

    Raises:
        DataError: naming the file: wrong shape, more rows than the grid has voxels allow, fractions, indices outside
            the grid (and whether they would fit in the other order), or classes that do not exist.
    """
    # Rows of 7 float64 for every voxel would be the largest sane file; anything beyond is refused unread.
    rows = read_npy(path, max_bytes=min(grid.num_voxels, 2**25) * 8 * max(columns))
    if rows.ndim != 2 or rows.shape[1] not in columns:
        wanted = " or ".join(str(c) for c in columns)
        raise DataError(path, f"expected rows of {wanted} columns, got shape {rows.shape}", "check what wrote it")
    if rows.dtype.kind == "f" and not np.isfinite(rows).all():
        raise DataError(path, "expected numbers, got NaN or infinity", "write the file again")
    whole = rows[:, [0, 1, 2, -1]]
    # Bounds come before the cast: a float beyond int64 has no integer to become.
    if whole.size and (whole.min() < 0 or whole.max() > 2**31):
        raise DataError(path, f"expected voxel indices and classes, got values {whole.min()}..{whole.max()}")
    cells = whole.astype(np.int64)
    if (cells != whole).any():
        raise DataError(path, "expected whole voxel indices and classes, got fractions", "these may be metres")
    index, labels = cells[:, :3], cells[:, 3]
    _check_inside(path, index, axes, grid)
    if ((labels > _MAX_CLASS) & (labels != SURROUNDOCC.ignore_id)).any():
        wrong = int(labels[(labels > _MAX_CLASS) & (labels != SURROUNDOCC.ignore_id)][0])
        raise DataError(path, f"expected classes 0..{_MAX_CLASS} (or 255), got {wrong}", "wrong format or class table?")
    return VoxelTable(
        index=index if axes == "xyz" else index[:, ::-1],
        labels=np.where(labels == _NO_LABEL, SURROUNDOCC.ignore_id, labels).astype(np.uint8),
        velocity=rows[:, 3:6].astype(np.float32) if rows.shape[1] == 7 else None,
    )


def _check_inside(path: Path, index: npt.NDArray[np.int64], axes: Axes, grid: VoxelGrid) -> None:
    if not len(index):
        return
    shape = np.array(grid.shape if axes == "xyz" else grid.shape[::-1])
    top = index.max(axis=0)
    if (top < shape).all():
        return
    remedy = "check the grid"
    if (top < shape[::-1]).all():
        remedy = f"the axes look swapped: this format stores {', '.join(axes)}"
    raise DataError(
        path, f"expected indices below {tuple(map(int, shape))} ({axes}), got {tuple(map(int, top))}", remedy
    )


def write_table(path: Path, occupancy: Occupancy, *, axes: Axes) -> None:
    """Write occupied and unlabelled voxels as rows of int16 in C order of `[x, y, z]`; unlabelled ones get class 0.

    Raises:
        ValueError: if the ids are not those of the SurroundOcc taxonomy.
    """
    if occupancy.taxonomy != SURROUNDOCC:
        raise ValueError(f"occupancy: expected taxonomy {SURROUNDOCC.name}, got {occupancy.taxonomy.name}")
    semantics = occupancy.semantics.numpy()
    # Two bytes a value: a resampled label has millions of rows for voxels nobody labelled.
    number = np.int16 if max(semantics.shape) < 2**15 else np.int32
    index = np.argwhere(semantics != SURROUNDOCC.free_id)
    labels = semantics[tuple(index.T)].astype(number)
    labels[labels == SURROUNDOCC.ignore_id] = _NO_LABEL
    ordered = index if axes == "xyz" else index[:, ::-1]
    write_npy(path, np.concatenate([ordered.astype(number), labels[:, None]], axis=1))


def write_npy(path: Path, array: npt.NDArray[np.signedinteger]) -> None:
    """Write an npy file, whole or not at all."""
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.ascontiguousarray(array), allow_pickle=False)
    write_bytes(path, buffer.getvalue())
