"""Carry a label onto another grid, possibly in another frame: nearest voxel at the target's voxel centres."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float64

from occkit.geometry import VoxelGrid
from occkit.samples import Occupancy


@dataclass(frozen=True, kw_only=True)
class Resampled:
    """A label on its new grid, and what the change cost."""

    occupancy: Occupancy
    """The label; voxels outside the source volume carry the ignore id and are unobserved in every mask."""
    uncovered: int
    """Target voxels outside the source volume."""
    dropped: int
    """Occupied source voxels that no target voxel took: outside the target volume, or between its centres."""


def resample(occupancy: Occupancy, *, grid: VoxelGrid, source_from_target: Float64[np.ndarray, "4 4"]) -> Resampled:
    """Give every target voxel the label of the source voxel its centre lies in.

    `target[i] = source[floor((source_from_target (o_t + (i + 0.5) s_t) - o_s) / s_s)]`

    Args:
        occupancy: the label, without batch dimensions.
        grid: target volume, in the target frame.
        source_from_target: rigid motion between the frames, metres.

    Source: original.
    """
    source = occupancy.grid
    lattice = _index_map(source, grid, source_from_target)
    flat = np.full(grid.num_voxels, -1, dtype=np.int64)
    taken = np.zeros(source.num_voxels, dtype=np.bool_)
    slab = grid.shape[1] * grid.shape[2]
    steps = np.stack(np.meshgrid(*(np.arange(n) for n in grid.shape[1:]), indexing="ij"), -1).reshape(-1, 2)
    shape = np.array(source.shape)
    for x in range(grid.shape[0]):
        # One slab at a time: OpenOccupancy's ten million centres would take 250 MB at once.
        position = steps @ lattice[:3, 1:3].T + lattice[:3, 0] * x + lattice[:3, 3]
        # A shared voxel face can land a rounding error below itself; a nanometre decides for the upper voxel.
        index = np.floor(position + 1e-9).astype(np.int64)
        inside = ((index >= 0) & (index < shape)).all(axis=1)
        at = np.ravel_multi_index(tuple(index[inside].T), source.shape)
        flat[x * slab : (x + 1) * slab][inside] = at
        taken[at] = True
    covered = flat >= 0
    occupied = occupancy.occupied.numpy().ravel()
    masks = {}
    for name in ("mask_camera", "mask_lidar"):
        mask = getattr(occupancy, name)
        if mask is not None:
            masks[name] = torch.from_numpy(_take(mask.numpy(), flat, covered, False, grid))
    if not covered.all() and "mask_lidar" not in masks:
        masks["mask_lidar"] = torch.from_numpy(covered.reshape(grid.shape))
    semantics = _take(occupancy.semantics.numpy(), flat, covered, occupancy.taxonomy.ignore_id, grid)
    return Resampled(
        occupancy=Occupancy(semantics=torch.from_numpy(semantics), grid=grid, taxonomy=occupancy.taxonomy, **masks),
        uncovered=int((~covered).sum()),
        dropped=int((occupied & ~taken).sum()),
    )


def _index_map(
    source: VoxelGrid, target: VoxelGrid, source_from_target: Float64[np.ndarray, "4 4"]
) -> Float64[np.ndarray, "4 4"]:
    """Return the affine map from a target voxel index to the continuous source index of its centre."""
    metres_from_index = np.eye(4)
    metres_from_index[:3, :3] = np.diag(target.voxel_size)
    metres_from_index[:3, 3] = np.array(target.origin) + 0.5 * np.array(target.voxel_size)
    index_from_metres = np.eye(4)
    index_from_metres[:3, :3] = np.diag(1.0 / np.array(source.voxel_size))
    index_from_metres[:3, 3] = -np.array(source.origin) / np.array(source.voxel_size)
    return index_from_metres @ source_from_target @ metres_from_index


def _take(
    volume: npt.NDArray[np.generic],
    flat: npt.NDArray[np.int64],
    covered: npt.NDArray[np.bool_],
    fill: int,
    grid: VoxelGrid,
) -> npt.NDArray[np.generic]:
    values = np.full(grid.num_voxels, fill, dtype=volume.dtype)
    values[covered] = volume.ravel()[flat[covered]]
    return values.reshape(grid.shape)
