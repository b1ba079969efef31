"""Reading volumes and images between their cells: trilinear, bilinear, deformable, and planned for fixed points.

Volumes are tables: one row a voxel in C order of `[x, y, z]`, channels along the row. Coordinates are in voxel (or
pixel) units: the centre of voxel i is at i + 0.5, the volume fills 0 .. size, as `grid_sample(align_corners=False)` has
it.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from occkit.ops.gather import Backend, choose_backend, gather_sum
from occkit.ops.sampling import reference
from occkit.ops.sampling.depth_aware import depth_aware_sample
from occkit.ops.sampling.plans import SamplePlan
from occkit.ops.sampling.reference import Padding

__all__ = [
    "Padding",
    "SamplePlan",
    "deformable_sample_2d",
    "deformable_sample_3d",
    "depth_aware_sample",
    "sample_bilinear",
    "sample_planned",
    "sample_trilinear",
    "sampled_sum",
]


def sample_trilinear(
    volume: Float[Tensor, "v c"],
    shape: tuple[int, int, int],
    points: Float[Tensor, "*n 3"],
    *,
    padding: Padding = "zeros",
    backend: Backend = "auto",
) -> Float[Tensor, "*n c"]:
    """Interpolate a volume at points.

    `out[n] = sum over the 8 voxels i around x_n of prod_axis (1 - |x_n - 0.5 - i|) volume[i]`.

    Args:
        volume: one row a voxel, C order of `[x, y, z]`.
        shape: voxels along x, y, z; their product is V.
        points: voxel units, centre of voxel i at i + 0.5; finite.
        padding: what lies beyond the outermost voxel centres: zeros, or the voxel at the border.
        backend: see `occkit.ops.gather.Backend`.

    Returns:
        One row a point, dtype of `volume`. Differentiable in volume and points (once with numba).

    Raises:
        ValueError: if shapes do not agree.

    Example:
        >>> sample_trilinear(torch.tensor([[1.0], [3.0]]), (2, 1, 1), torch.tensor([[1.0, 0.5, 0.5]])).tolist()
        [[2.0]]

    Source: original; the interpolation is standard.
    """
    flat = points.reshape(-1, 1, 1, points.shape[-1])
    ones = torch.ones(flat.shape[:3], dtype=volume.dtype, device=volume.device)
    out = sampled_sum(volume[:, None, :], shape, flat, ones, padding=padding, backend=backend)
    return out.reshape(*points.shape[:-1], volume.shape[1])


def sample_planned(
    volume: Float[Tensor, "v c"], plan: SamplePlan, *, backend: Backend = "auto"
) -> Float[Tensor, "n c"]:
    """Interpolate a volume at the points of a plan: `sample_trilinear` without working out the corners again.

    Args:
        volume: one row a voxel, C order.
        plan: see `SamplePlan.build`.
        backend: see `occkit.ops.gather.Backend`.

    Returns:
        One row a point. Differentiable in volume.

    Source: original.
    """
    return gather_sum(volume, plan.bags, plan.factors, backend=backend)


def sample_bilinear(
    images: Float[Tensor, "n c h w"],
    points: Float[Tensor, "n *p 2"],
    *,
    padding: Padding = "zeros",
    backend: Backend = "auto",
) -> Float[Tensor, "n *p c"]:
    """Interpolate images at pixel coordinates.

    Args:
        images: one map an image.
        points: `(u, v)` pixels, centre of the top-left pixel at (0.5, 0.5); finite.
        padding: what lies beyond the outermost pixel centres: zeros, or the pixel at the border.
        backend: see `occkit.ops.gather.Backend`.

    Returns:
        One row a point, dtype of `images`. Differentiable in images and points (once with numba).

    Raises:
        ValueError: if shapes do not agree.

    Example:
        >>> sample_bilinear(torch.tensor([[[[1.0, 3.0]]]]), torch.tensor([[[1.0, 0.5]]])).tolist()
        [[[2.0]]]

    Source: original; the interpolation is standard.
    """
    if images.ndim != 4 or points.ndim < 2 or points.shape[0] != images.shape[0] or points.shape[-1] != 2:
        raise ValueError(
            f"images, points: expected [n, c, h, w] and [n, ..., 2], got {tuple(images.shape)} and "
            f"{tuple(points.shape)}"
        )
    count, channels, height, width = images.shape
    table = images.permute(0, 2, 3, 1).reshape(-1, 1, channels)
    stacked = _stack_images(points.reshape(count, -1, 2)).reshape(-1, 1, 1, 3)
    ones = torch.ones(stacked.shape[:3], dtype=images.dtype, device=images.device)
    out = sampled_sum(table, (count, height, width), stacked, ones, padding=padding, backend=backend, planar=True)
    return out.reshape(*points.shape[:-1], channels)


def deformable_sample_2d(
    values: Sequence[Float[Tensor, "b _ _ heads c"]],
    locations: Float[Tensor, "b q heads levels p 2"],
    weights: Float[Tensor, "b q heads levels p"],
    *,
    backend: Backend = "auto",
) -> Float[Tensor, "b q heads c"]:
    """Multi-scale, multi-head deformable sampling of images.

    `out[q, h] = sum over levels l, points p of weights[q, h, l, p] bilinear(values[l][.., h], locations[q, h, l, p])`.

    Args:
        values: one map `[b, h, w, heads, c]` a level.
        locations: `(u, v)` as fractions of width and height: (0, 0) is the outer corner of the first pixel, (1, 1) that
            of the last. Outside, values fade to zero.
        weights: attention weights; usually a softmax over levels and points.
        backend: see `occkit.ops.gather.Backend`.

    Returns:
        One row a query and head. Differentiable in values, locations and weights (once with numba).

    Raises:
        ValueError: if shapes do not agree.

    Source: Zhu et al. 2021 (Deformable DETR), equation 3, without its projections.
    """
    batch, num_heads, num_channels = _check_deformable(values, locations, weights, axes=2)
    total: Tensor | None = None
    for level, value in enumerate(values):
        height, width = value.shape[1:3]
        scale = locations.new_tensor([width, height])
        stacked = _stack_images(locations[:, :, :, level] * scale)
        part = sampled_sum(
            value.reshape(-1, num_heads, num_channels),
            (batch, height, width),
            stacked.flatten(0, 1),
            weights[:, :, :, level].flatten(0, 1),
            backend=backend,
            planar=True,
        )
        total = part if total is None else total + part
    assert total is not None
    return total.reshape(batch, -1, num_heads, num_channels)


def deformable_sample_3d(
    values: Sequence[Float[Tensor, "b _ _ _ heads c"]],
    locations: Float[Tensor, "b q heads levels p 3"],
    weights: Float[Tensor, "b q heads levels p"],
    *,
    backend: Backend = "auto",
) -> Float[Tensor, "b q heads c"]:
    """Multi-scale, multi-head deformable sampling of volumes.

    `out[q, h] = sum over levels l, points p of weights[q, h, l, p] trilinear(values[l][.., h], locations[q, h, l, p])`.

    Args:
        values: one volume `[b, x, y, z, heads, c]` a level.
        locations: `(x, y, z)` as fractions of the volume: (0, 0, 0) is its lower, (1, 1, 1) its upper corner. Outside,
            values fade to zero.
        weights: attention weights; usually a softmax over levels and points.
        backend: see `occkit.ops.gather.Backend`.

    Returns:
        One row a query and head. Differentiable in values, locations and weights (once with numba).

    Raises:
        ValueError: if shapes do not agree.

    Source: Zhu et al. 2021 (Deformable DETR), equation 3, with a third axis and without its projections.
    """
    _, num_heads, num_channels = _check_deformable(values, locations, weights, axes=3)
    samples: list[Tensor] = []
    for b in range(locations.shape[0]):
        total: Tensor | None = None
        for level, value in enumerate(values):
            nx, ny, nz = value.shape[1:4]
            part = sampled_sum(
                value[b].reshape(-1, num_heads, num_channels),
                (nx, ny, nz),
                locations[b, :, :, level] * locations.new_tensor([nx, ny, nz]),
                weights[b, :, :, level],
                backend=backend,
            )
            total = part if total is None else total + part
        assert total is not None
        samples.append(total)
    return torch.stack(samples)


def sampled_sum(
    volume: Float[Tensor, "v h c"],
    shape: tuple[int, int, int],
    points: Float[Tensor, "q h p 3"],
    weights: Float[Tensor, "q h p"],
    *,
    padding: Padding = "zeros",
    backend: Backend = "auto",
    planar: bool = False,
    skip_zeros: bool = False,
) -> Float[Tensor, "q h c"]:
    """Sum weighted trilinear samples, head by head: the one kernel under this folder and `render_features`.

    `out[q, h] = sum_p weights[q, h, p] trilinear(volume[:, h], points[q, h, p])`; samples are never stored.

    Args:
        volume: one row a voxel, C order, split into heads. Half precision is computed in float32.
        shape: voxels along x, y, z; their product is V.
        points: voxel units, centre of voxel i at i + 0.5; finite.
        weights: one factor a point.
        padding: as in `sample_trilinear`.
        backend: see `occkit.ops.gather.Backend`.
        planar: promise that every x is exactly a voxel centre inside the volume (a stack of images); half the work, and
            no gradient along x.
        skip_zeros: points of weight 0 give their weight gradient 0 instead of what their sample is worth, and cost
            nothing (numba).

    Returns:
        One row a query and head, dtype of `volume`. Differentiable in volume, points and weights (once with numba).

    Raises:
        ValueError: if shapes do not agree or padding is unknown.

    Source: original.
    """
    if volume.ndim != 3 or volume.shape[0] != shape[0] * shape[1] * shape[2]:
        raise ValueError(
            f"volume: expected {shape[0] * shape[1] * shape[2]} rows for {shape}, got {tuple(volume.shape)}"
        )
    if points.ndim != 4 or points.shape[-1] != 3 or points.shape[1] != volume.shape[1]:
        raise ValueError(f"points: expected [queries, {volume.shape[1]}, points, 3], got {tuple(points.shape)}")
    if weights.shape != points.shape[:-1]:
        raise ValueError(f"weights: expected {tuple(points.shape[:-1])} like points, got {tuple(weights.shape)}")
    if padding not in ("zeros", "border"):
        raise ValueError(f"padding: expected 'zeros' or 'border', got {padding!r}")
    dtype = torch.promote_types(volume.dtype, torch.float32)
    values, places, factors = volume.to(dtype), points.to(dtype), weights.to(dtype)
    chosen = choose_backend(backend, volume)
    if chosen == "reference":
        out = reference.sampled_sum(values, shape, places, _kept(factors, skip_zeros), padding)
    elif chosen == "torch":
        from occkit.ops.sampling import torch_taps

        out = torch_taps.sampled_sum(values, shape, places, _kept(factors, skip_zeros), padding)
    else:
        from occkit.ops.sampling.numba_cpu import SampledSum

        out = SampledSum.apply(values, places, factors, shape, (padding == "border", planar, skip_zeros))
    return out.to(volume.dtype)


def _kept(weights: Tensor, skip_zeros: bool) -> Tensor:
    """Cut the zeros off from the gradient."""
    return torch.where(weights == 0, 0, weights) if skip_zeros else weights


def _stack_images(points: Float[Tensor, "n *p 2"]) -> Float[Tensor, "n *p 3"]:
    """Turn `(u, v)` in image n into a point `(n + 0.5, v, u)` of the volume whose slices along x are the images."""
    number = torch.arange(points.shape[0], device=points.device, dtype=points.dtype) + 0.5
    number = number.reshape(-1, *[1] * (points.ndim - 1)).expand(*points.shape[:-1], 1)
    return torch.cat([number, points.flip(-1)], dim=-1)


def _check_deformable(
    values: Sequence[Tensor], locations: Tensor, weights: Tensor, *, axes: int
) -> tuple[int, int, int]:
    if not values or any(value.ndim != axes + 3 for value in values):
        raise ValueError(
            f"values: expected one [batch, {axes} axes, heads, channels] a level, "
            f"got {[tuple(value.shape) for value in values]}"
        )
    batch, num_heads, num_channels = values[0].shape[0], values[0].shape[-2], values[0].shape[-1]
    expected = (batch, locations.shape[1], num_heads, len(values), locations.shape[-2], axes)
    if tuple(locations.shape) != expected:
        raise ValueError(
            f"locations: expected [batch {batch}, queries, heads {num_heads}, levels {len(values)}, points, {axes}], "
            f"got {tuple(locations.shape)}"
        )
    if weights.shape != locations.shape[:-1]:
        raise ValueError(f"weights: expected {tuple(locations.shape[:-1])} like locations, got {tuple(weights.shape)}")
    return batch, num_heads, num_channels
