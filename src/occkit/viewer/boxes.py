"""Voxels as boxes and as a surface, class by class: what a browser, a mesh file and a cut need of a volume."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool, Float32, Int64

from occkit.samples import Occupancy

_SIDES = (
    ((1, 0, 0), ((1, 0, 0), (1, 1, 0), (1, 1, 1), (1, 0, 1))),
    ((-1, 0, 0), ((0, 0, 0), (0, 0, 1), (0, 1, 1), (0, 1, 0))),
    ((0, 1, 0), ((0, 1, 0), (0, 1, 1), (1, 1, 1), (1, 1, 0))),
    ((0, -1, 0), ((0, 0, 0), (1, 0, 0), (1, 0, 1), (0, 0, 1))),
    ((0, 0, 1), ((0, 0, 1), (1, 0, 1), (1, 1, 1), (0, 1, 1))),
    ((0, 0, -1), ((0, 0, 0), (0, 1, 0), (1, 1, 0), (1, 0, 0))),
)
"""For each side of a voxel: the way it looks, and its corners, counter-clockwise seen from outside."""


@dataclass(frozen=True, kw_only=True)
class Cut:
    """A plane, and the half of the volume that stays: what lies below it along an axis."""

    axis: int
    """0 forward, 1 left, 2 up."""
    at: float
    """Metres, in the frame of the grid: voxels whose centre is above are left out."""


@dataclass(frozen=True, kw_only=True)
class Mesh:
    """The sides of voxels that can be seen, as a mesh."""

    vertices: Float32[np.ndarray, "v 3"]
    """Metres, in the frame of the grid; four a side."""
    faces: Int64[np.ndarray, "f 3"]
    """Two triangles a side, counter-clockwise seen from outside."""
    ids: npt.NDArray[np.uint8]
    """Class of each vertex."""


def kept_voxels(occupancy: Occupancy, cut: Cut | None) -> Bool[np.ndarray, "x y z"]:
    """Return which voxels are occupied and on the side of a cut that stays.

    Raises:
        ValueError: if it is not one volume, or the axis is none.
    """
    if occupancy.semantics.ndim != 3:
        raise ValueError(f"occupancy: expected one volume [x, y, z], got {tuple(occupancy.semantics.shape)}")
    kept = occupancy.occupied.numpy().copy()
    if cut is not None:
        if cut.axis not in (0, 1, 2):
            raise ValueError(f"cut: expected axis 0, 1 or 2, got {cut.axis}")
        grid = occupancy.grid
        centres = grid.origin[cut.axis] + (np.arange(grid.shape[cut.axis]) + 0.5) * grid.voxel_size[cut.axis]
        above = [slice(None)] * 3
        above[cut.axis] = centres > cut.at  # type: ignore[call-overload]
        kept[tuple(above)] = False
    return kept


def outer_boxes(occupancy: Occupancy, *, cut: Cut | None = None) -> dict[int, Float32[np.ndarray, "n 3"]]:
    """Return the centres of the voxels of each class, but for those shut in by voxels of their own class.

    Hiding one class therefore never changes what is there of another.

    Args:
        occupancy: `[x, y, z]`, one volume.
        cut: leave out what lies above this plane.

    Returns:
        Id -> centres in metres, frame of the grid, for the classes that occur, by id.
    """
    kept = kept_voxels(occupancy, cut)
    # No id is negative: what was cut away and what lies outside is of no class.
    semantics = np.where(kept, occupancy.semantics.numpy().astype(np.int16), -1)
    padded = np.pad(semantics, 1, constant_values=-1)
    shut_in = kept.copy()
    x, y, z = semantics.shape
    for (dx, dy, dz), _ in _SIDES:
        shut_in &= padded[1 + dx : 1 + dx + x, 1 + dy : 1 + dy + y, 1 + dz : 1 + dz + z] == semantics
    index = np.argwhere(kept & ~shut_in)
    ids = semantics[tuple(index.T)]
    centres = occupancy.grid.points_at(torch.from_numpy(index) + 0.5).numpy().astype(np.float32)
    return {int(i): centres[ids == i] for i in np.unique(ids)}


def outer_surface(occupancy: Occupancy, *, cut: Cut | None = None) -> Mesh:
    """Return the sides between a voxel and nothing, each with corners of its own.

    Args:
        occupancy: `[x, y, z]`, one volume.
        cut: leave out what lies above this plane.
    """
    kept = kept_voxels(occupancy, cut)
    padded = np.pad(kept, 1)
    x, y, z = kept.shape
    corners: list[npt.NDArray[np.int64]] = []
    ids: list[npt.NDArray[np.uint8]] = []
    semantics = occupancy.semantics.numpy()
    for (dx, dy, dz), side in _SIDES:
        open_side = kept & ~padded[1 + dx : 1 + dx + x, 1 + dy : 1 + dy + y, 1 + dz : 1 + dz + z]
        index = np.argwhere(open_side)
        corners.append((index[:, None] + np.array(side)).reshape(-1, 3))
        ids.append(np.repeat(semantics[tuple(index.T)], 4))
    grid = occupancy.grid
    vertices = np.array(grid.origin) + np.concatenate(corners) * np.array(grid.voxel_size)
    return Mesh(vertices=vertices.astype(np.float32), faces=_faces(len(vertices)), ids=np.concatenate(ids))


def box(size: Sequence[float]) -> tuple[Float32[np.ndarray, "24 3"], Int64[np.ndarray, "12 3"]]:
    """Return vertices and triangles, counter-clockwise seen from outside, of a box around the origin.

    Args:
        size: along x, y and z, metres.
    """
    vertices = (np.array([side for _, side in _SIDES]).reshape(-1, 3) - 0.5) * np.array(size)
    return vertices.astype(np.float32), _faces(len(vertices))


def _faces(corners: int) -> Int64[np.ndarray, "f 3"]:
    """Return two triangles for every four corners."""
    first = 4 * np.arange(corners // 4)[:, None]
    return np.concatenate([first + np.array([0, 1, 2]), first + np.array([0, 2, 3])], axis=1).reshape(-1, 3)
