"""Which voxel a ray meets first, which voxels it sees, and what measured end points carve free.

Everything here is in *voxel units*: voxel `i` fills `[i, i + 1)` along each axis; a caller subtracts the grid origin
and divides by the voxel size beforehand (`VoxelGrid.continuous_index`). Distances are the ray parameter: at `t` the ray
is at `origin + t * direction`, so unit directions give voxels, and metric directions divided by the voxel size give
metres. Nothing is differentiable. Sums and comparisons are float64 and in the same order in both forms, so that numba
and torch agree to the last bit.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from occkit.ops.raycast import reference

__all__ = ["MAX_STEPS_OUTSIDE", "Hits", "carve", "first_hit", "seen_voxels", "visible_voxels"]

Backend = Literal["auto", "numba", "torch"]
Start = Literal["floor", "truncate"]

MAX_STEPS_OUTSIDE = 1000
"""A ray that has not reached the grid after so many steps counts as missing it."""


@dataclass(frozen=True, kw_only=True)
class Hits:
    """What each ray met; the dtype of the distances is float64."""

    index: Int[Tensor, "r 3"]
    """The first occupied voxel; without one the last voxel inside the grid; (0, 0, 0) if the ray never was inside."""
    entry: Float[Tensor, "r"]
    """Ray parameter at which the ray enters that voxel, 0 if it starts there; -1 if the ray never was inside."""
    exit: Float[Tensor, "r"]
    """Ray parameter at which the ray leaves that voxel; -1 if the ray never was inside."""
    hit: Bool[Tensor, "r"]
    """Whether that voxel is occupied."""


def first_hit(
    occupied: Bool[Tensor, "x y z"] | UInt8[Tensor, "x y z"],
    origins: Float[Tensor, "r 3"],
    directions: Float[Tensor, "r 3"],
    *,
    start: Start = "floor",
    backend: Backend = "auto",
) -> Hits:
    """Walk each ray from voxel to voxel until one is occupied.

    At every step the ray crosses the nearest of the next faces, `t_axis = (face - origin) / direction`, which then
    moves on by `1 / |direction|`. Of equal distances the later axis wins: x only if `t_x < t_y` and `t_x < t_z`, y only
    if not `t_x < t_y` and `t_y < t_z`, else z. A component of zero counts as a step forward that never comes.

    Args:
        occupied: nonzero where there is something.
        origins: voxel units; they may lie outside the grid, up to `MAX_STEPS_OUTSIDE` steps away.
        directions: voxel units per unit of the ray parameter; any length but zero.
        start: voxel of the origin. `floor` is right everywhere; `truncate` rounds toward zero as the published RayIoU
            caster does, which puts an origin less than one voxel below the grid into voxel 0.
        backend: `auto` takes numba for CPU tensors and torch elsewhere.

    Returns:
        One `Hits` for all rays, on the device of `occupied`.

    Raises:
        ValueError: if a shape is wrong, or an origin or direction is not finite, or a direction has no length.

    Source: Amanatides and Woo, "A fast voxel traversal algorithm for ray tracing", 1987; tie rule and missing rays as
        in the ray caster of SparseOcc (Liu et al., ECCV 2024).

    Example:
        >>> wall = torch.zeros(4, 1, 1, dtype=torch.bool)
        >>> wall[2] = True
        >>> hits = first_hit(wall, torch.tensor([[0.5, 0.5, 0.5]]), torch.tensor([[1.0, 0.0, 0.0]]))
        >>> hits.index.tolist(), hits.entry.tolist(), hits.exit.tolist()
        ([[2, 0, 0]], [1.5], [2.5])
    """
    _check_volume("occupied", occupied)
    origins, directions = _check_rays(origins, directions)
    if start not in ("floor", "truncate"):
        raise ValueError(f"start: expected 'floor' or 'truncate', got {start!r}")
    truncate = start == "truncate"
    if _use_numba(backend, occupied):
        from occkit.ops.raycast import kernels

        index, entry, exit_, hit = kernels.first_hit(
            _bytes(occupied).numpy(), origins.numpy(), directions.numpy(), truncate, MAX_STEPS_OUTSIDE
        )
        found = (torch.from_numpy(index), torch.from_numpy(entry), torch.from_numpy(exit_), torch.from_numpy(hit))
    else:
        found = reference.first_hit(
            occupied, origins, directions, truncate=truncate, max_steps_outside=MAX_STEPS_OUTSIDE
        )
    return Hits(index=found[0], entry=found[1], exit=found[2], hit=found[3])


def visible_voxels(
    occupied: Bool[Tensor, "x y z"] | UInt8[Tensor, "x y z"],
    origins: Float[Tensor, "r 3"],
    directions: Float[Tensor, "r 3"],
    *,
    max_distance: float | None = None,
    backend: Backend = "auto",
) -> Bool[Tensor, "x y z"]:
    """Mark the voxels that at least one ray passes through or stops at.

    Args:
        occupied: nonzero where there is something; a ray stops in the first such voxel, which is seen too.
        origins: voxel units.
        directions: voxel units per unit of the ray parameter.
        max_distance: ray parameter up to which something is seen; a voxel must be entered before it. None: no limit.
        backend: as in `first_hit`.

    Returns:
        True where seen.

    Raises:
        ValueError: as `first_hit`.

    Source: original, on the walk of `first_hit`.
    """
    _check_volume("occupied", occupied)
    origins, directions = _check_rays(origins, directions)
    limit = float("inf") if max_distance is None else float(max_distance)
    if _use_numba(backend, occupied):
        from occkit.ops.raycast import kernels

        seen = kernels.visible_voxels(
            _bytes(occupied).numpy(), origins.numpy(), directions.numpy(), limit, MAX_STEPS_OUTSIDE
        )
        return torch.from_numpy(seen)
    return reference.visible_voxels(
        occupied, origins, directions, max_distance=limit, max_steps_outside=MAX_STEPS_OUTSIDE
    )


def carve(
    shape: tuple[int, int, int],
    origins: Float[Tensor, "r 3"],
    ends: Float[Tensor, "r 3"],
    *,
    backend: Backend = "auto",
) -> tuple[Int[Tensor, "x y z"], Int[Tensor, "x y z"]]:
    """Count how many measured rays pass through each voxel and how many end in it.

    A LiDAR return, or a pixel with depth, says that the space before it is free and that something is at its end. The
    end voxel is `floor(end)`; an end outside the grid counts nowhere but its ray still carves.

    Args:
        shape: voxels along x, y, z.
        origins: where the rays start, voxel units.
        ends: where they were stopped, voxel units. A ray of length zero is an end and passes nothing.
        backend: as in `first_hit`.

    Returns:
        passed: int64, rays that cross the voxel before they end.
        hit: int64, rays that end in it.

    Raises:
        ValueError: if a shape is wrong or a coordinate is not finite.

    Source: original; free-space carving as in occupancy grid mapping.
    """
    origins, ends = _check_segments(shape, origins, ends)
    if _use_numba(backend, origins):
        from occkit.ops.raycast import kernels

        passed, hit = kernels.carve(shape, origins.numpy(), ends.numpy(), MAX_STEPS_OUTSIDE)
        return torch.from_numpy(passed), torch.from_numpy(hit)
    return reference.carve(shape, origins, ends, max_steps_outside=MAX_STEPS_OUTSIDE)


def seen_voxels(
    shape: tuple[int, int, int],
    origins: Float[Tensor, "r 3"],
    ends: Float[Tensor, "r 3"],
    *,
    backend: Backend = "auto",
) -> Bool[Tensor, "x y z"]:
    """Mark the voxels that at least one measured ray passes through or ends in: where a count of `carve` is not zero.

    Args:
        shape: voxels along x, y, z.
        origins: where the rays start, voxel units.
        ends: where they were stopped, voxel units.
        backend: as in `first_hit`.

    Returns:
        True where seen.

    Raises:
        ValueError: as `carve`.

    Source: original.
    """
    origins, ends = _check_segments(shape, origins, ends)
    if _use_numba(backend, origins):
        from occkit.ops.raycast import kernels

        return torch.from_numpy(kernels.seen_voxels(shape, origins.numpy(), ends.numpy(), MAX_STEPS_OUTSIDE))
    return reference.seen_voxels(shape, origins, ends, max_steps_outside=MAX_STEPS_OUTSIDE)


def _check_volume(name: str, volume: Tensor) -> None:
    if volume.dim() != 3 or volume.dtype not in (torch.bool, torch.uint8):
        raise ValueError(
            f"{name}: expected a bool or uint8 volume [x, y, z], got {volume.dtype} {tuple(volume.shape)}; "
            "make one with `semantics != free_id`"
        )


def _check_vectors(name: str, vectors: Tensor) -> None:
    if vectors.dim() != 2 or vectors.shape[1] != 3 or not vectors.is_floating_point():
        raise ValueError(f"{name}: expected floating-point [rays, 3], got {vectors.dtype} {tuple(vectors.shape)}")
    if len(vectors) and not bool(torch.stack(vectors.aminmax()).isfinite().all()):  # NaN counts as both extremes
        raise ValueError(f"{name}: expected finite coordinates, got NaN or infinity")


def _check_rays(origins: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
    _check_vectors("origins", origins)
    _check_vectors("directions", directions)
    if origins.shape != directions.shape:
        raise ValueError(f"directions: expected {tuple(origins.shape)} like origins, got {tuple(directions.shape)}")
    along_x, along_y, along_z = directions.bool().unbind(dim=1)
    if not bool((along_x | along_y | along_z).all()):
        raise ValueError("directions: expected vectors with a length, got one of zeros")
    return origins.double().contiguous(), directions.double().contiguous()


def _check_segments(shape: tuple[int, int, int], origins: Tensor, ends: Tensor) -> tuple[Tensor, Tensor]:
    if len(shape) != 3 or min(shape) < 1:
        raise ValueError(f"shape: expected three positive numbers of voxels, got {shape}")
    _check_vectors("origins", origins)
    _check_vectors("ends", ends)
    if origins.shape != ends.shape:
        raise ValueError(f"ends: expected {tuple(origins.shape)} like origins, got {tuple(ends.shape)}")
    return origins.double().contiguous(), ends.double().contiguous()


def _bytes(volume: Tensor) -> Tensor:
    volume = volume.contiguous()
    return volume.view(torch.uint8) if volume.dtype == torch.bool else volume


def _use_numba(backend: Backend, tensor: Tensor) -> bool:
    if backend not in ("auto", "numba", "torch"):
        raise ValueError(f"backend: expected 'auto', 'numba' or 'torch', got {backend!r}")
    if backend == "numba" and tensor.device.type != "cpu":
        raise ValueError(f"backend: numba needs CPU tensors, got {tensor.device}; use 'torch' or move them to the CPU")
    return backend == "numba" or (backend == "auto" and tensor.device.type == "cpu")
