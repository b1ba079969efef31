"""Reading volumes between voxel centres, in plain torch: the specification. Builds `points x 8 x channels`."""

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

Padding = Literal["zeros", "border"]
"""Beyond the outermost voxel centres: `zeros` fades to 0 within one voxel, `border` repeats the edge voxel."""

_CORNERS = [[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)]


def corner_taps(
    points: Float[Tensor, "*n 3"], shape: tuple[int, int, int], padding: Padding
) -> tuple[Int[Tensor, "*n 8"], Float[Tensor, "*n 8"]]:
    """Return the eight voxels around each point, as flat C-order rows, and their factors.

    With `x' = x - 0.5` and `f = x' - floor(x')` the factors are the products of `1 - f` and `f` along the three axes; a
    corner outside the volume gets factor 0 (and row 0). Differentiable in points through the factors.
    """
    limits = torch.tensor(shape, device=points.device)
    centred = points - 0.5
    if padding == "border":
        centred = torch.minimum(centred.clamp(min=0), (limits - 1).to(points.dtype))
    low = centred.detach().floor()
    fraction = centred - low
    offsets = torch.tensor(_CORNERS, device=points.device)  # [8, 3]
    corners = low.long()[..., None, :] + offsets
    # Written out, not `prod` and `all`, and products of matrices below, not sums: of no point at all ONNX Runtime gets
    # the shape of what is reduced wrong.
    fx, fy, fz = torch.where(offsets.bool(), fraction[..., None, :], 1 - fraction[..., None, :]).unbind(dim=-1)
    factors = fx * fy * fz
    x, y, z = ((corners >= 0) & (corners < limits)).unbind(dim=-1)
    inside = x & y & z
    rows = (corners[..., 0] * shape[1] + corners[..., 1]) * shape[2] + corners[..., 2]
    return torch.where(inside, rows, 0), torch.where(inside, factors, 0)


def sampled_sum(
    volume: Float[Tensor, "v h c"],
    shape: tuple[int, int, int],
    points: Float[Tensor, "q h p 3"],
    weights: Float[Tensor, "q h p"],
    padding: Padding,
) -> Float[Tensor, "q h c"]:
    """`out[q, h] = sum_p weights[q, h, p] trilinear(volume[:, h], points[q, h, p])`."""
    rows, factors = corner_taps(points, shape, padding)  # [q, h, p, 8]
    heads = torch.arange(volume.shape[1], device=volume.device)[:, None, None]
    samples = (factors[..., None, :] @ volume[rows, heads])[..., 0, :]  # [q, h, p, c]
    return (weights[..., None, :] @ samples)[..., 0, :]
