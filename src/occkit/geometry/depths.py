"""Where rays are sampled: lists of depths shared by all rays of an image, and their jitter."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from occkit.geometry.contraction import ContractedGrid, uncontract


def linear_depths(
    *, near: float, far: float, count: int, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> Float[Tensor, "s"]:
    """Return the middles of equal intervals: `z_k = near + (k + 0.5) (far - near) / count`.

    Args:
        near: where the first interval begins, metres.
        far: where the last one ends, metres.
        count: number of intervals.
        dtype: of the result.
        device: of the result.

    Raises:
        ValueError: unless 0 <= near < far and count is positive.

    Example:
        >>> linear_depths(near=0.0, far=4.0, count=2).tolist()
        [1.0, 3.0]

    Source: original; Mildenhall et al. 2020 (NeRF), equation 2, without its randomness.
    """
    if not 0 <= near < far or count < 1:
        raise ValueError(f"linear_depths: expected 0 <= near < far and count >= 1, got {near}, {far} and {count}")
    steps = torch.arange(count, dtype=torch.float64, device=device) + 0.5
    return (near + steps * ((far - near) / count)).to(dtype)


def contracted_depths(
    grid: ContractedGrid,
    *,
    spacing: float | None = None,
    near: float = 0.1,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Float[Tensor, "s"]:
    """Return depths that are even over the inner box and stretch to the rim of a contracted volume.

    `z_k = near + D uncontract(c_k)`, `c_k` even from 0 to `1 - 0.5 / max(shape)`, D the diagonal of the inner box.
    There are `floor(D / (spacing alpha))` of them, so that up to D they are a little more than `spacing` apart.

    Args:
        grid: the volume.
        spacing: metres; None is the shortest edge of an inner voxel.
        near: added to all, metres.
        dtype: of the result.
        device: of the result.

    Returns:
        Ascending z-depths or distances, metres; 424 of them from 0.1 m to 11 km for OccNeRF's 300 x 300 x 24 volume.

    Raises:
        ValueError: if near is negative or spacing leaves fewer than two samples.

    Source: Zhang et al. 2023 (OccNeRF), equation 7, as in its released code: one list for all rays. That code then
    skips samples which have hardly moved in the volume since the one before; here all count.
    """
    diagonal = math.dist(grid.inner.origin, grid.inner.upper)
    step = min(grid.inner.voxel_size) if spacing is None else spacing
    count = int(diagonal / step / grid.alpha) if step > 0 else 0
    if count < 2 or near < 0:
        raise ValueError(f"contracted_depths: expected spacing > 0, two samples and near >= 0, got {step} and {near}")
    contracted = torch.linspace(0, 1 - 0.5 / max(grid.shape), count, dtype=torch.float64, device=device)
    return (near + diagonal * uncontract(contracted, alpha=grid.alpha)).to(dtype)


def jitter_depths(
    depths: Float[Tensor, "s"], num_rays: int, *, amount: float, generator: torch.Generator
) -> Float[Tensor, "r s"]:
    """Shift the depths of each ray by one offset of its own, uniform in `[-amount, amount)`.

    Args:
        depths: ascending, metres.
        num_rays: number of rays.
        amount: metres, less than the first depth; OccNeRF trains with a twentieth of the spacing.
        generator: draws the offsets.

    Returns:
        One row a ray, metres.

    Source: Zhang et al. 2023 (OccNeRF), released code.
    """
    offsets = torch.rand(num_rays, 1, generator=generator, device=generator.device, dtype=depths.dtype)
    return depths + (2 * offsets - 1).to(depths.device) * amount
