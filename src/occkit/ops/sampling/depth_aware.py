"""Sampling images and their depth distributions together: a point of an image at a depth, without a frustum volume.

The volume `V[v, u, k] = values[v, u] depth[v, u, k]` would hold every channel once a depth bin. Interpolated at a point
it is a weighted sum of four pixels, and each pixel's weight is its bilinear factor times its probability at that depth.
"""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from occkit.ops.gather import Backend, Bags, choose_backend, gather_sum


def depth_aware_sample(
    values: Float[Tensor, "b h w heads c"],
    depth: Float[Tensor, "b h w d"],
    locations: Float[Tensor, "b q heads p 3"],
    weights: Float[Tensor, "b q heads p"],
    *,
    backend: Backend = "auto",
) -> Float[Tensor, "b q heads c"]:
    """Deformable sampling of the outer product of images and depth distributions.

    `out[q, j] = sum_p weights[q, j, p] sum over corners i of w_i values[i, j] lerp(depth[i], k_p)`.

    Args:
        values: one map an image.
        depth: distribution over the bins of each cell.
        locations: `(u, v, k)` as fractions of width, height and the range of the bins: (0, 0, 0) is the outer corner of
            the first cell at the near edge of the first bin. Outside, values fade to zero.
        weights: attention weights; usually a softmax over the points.
        backend: see `occkit.ops.gather.Backend`; `reference` forms the outer product.

    Returns:
        One row a query and head. Differentiable in all four (once with numba).

    Raises:
        ValueError: if shapes do not agree.

    Source: Li et al., "DFA3D", ICCV 2023; as Yu et al., "CGFormer", NeurIPS 2024, use it. The sparse product original.
    """
    _check(values, depth, locations, weights)
    chosen = choose_backend(backend, values)
    if backend == "reference":
        return reference(values, depth, locations, weights)
    batch, height, width, heads, channels = values.shape
    queries, points = locations.shape[1], locations.shape[3]
    cells, factors = _corners(locations, depth, height, width)  # [b, q, heads, p, 4]
    factors = factors * weights[..., None]
    head = torch.arange(heads, device=values.device)[:, None, None]
    rows = (cells * heads + head).reshape(-1)
    owner = torch.arange(batch * queries * heads, device=values.device).repeat_interleave(points * 4)
    bags, _ = Bags.from_pairs(
        owner,
        rows,
        num_bags=batch * queries * heads,
        num_rows=batch * height * width * heads,
        owner_is_sorted=True,
    )
    out = gather_sum(values.reshape(-1, channels), bags, factors.reshape(-1), backend=chosen)
    return out.reshape(batch, queries, heads, channels)


def reference(
    values: Float[Tensor, "b h w heads c"],
    depth: Float[Tensor, "b h w d"],
    locations: Float[Tensor, "b q heads p 3"],
    weights: Float[Tensor, "b q heads p"],
) -> Float[Tensor, "b q heads c"]:
    """`depth_aware_sample` with the outer product formed and sampled trilinearly: the specification."""
    from occkit.ops.sampling import deformable_sample_3d

    frustum = depth[..., None, None] * values[:, :, :, None]  # [b, h, w, d, heads, c]
    places = locations[..., [1, 0, 2]]  # the volume's axes are v, u, k
    return deformable_sample_3d([frustum], places[:, :, :, None], weights[:, :, :, None], backend="reference")


def _corners(
    locations: Float[Tensor, "b q heads p 3"], depth: Float[Tensor, "b h w d"], height: int, width: int
) -> tuple[Int64[Tensor, "b q heads p 4"], Float[Tensor, "b q heads p 4"]]:
    """Return the four cells around each point, as rows over all images, and what each is worth."""
    batch, bins = depth.shape[0], depth.shape[3]
    size = locations.new_tensor([width, height, bins])
    centred = locations * size - 0.5
    low = centred.detach().floor()
    fraction = centred - low
    offsets = torch.cartesian_prod(torch.arange(2), torch.arange(2)).to(low.device)  # (v, u)
    row, column = low[..., 1, None].long() + offsets[:, 0], low[..., 0, None].long() + offsets[:, 1]
    down = torch.where(offsets[:, 0].bool(), fraction[..., 1, None], 1 - fraction[..., 1, None])
    right = torch.where(offsets[:, 1].bool(), fraction[..., 0, None], 1 - fraction[..., 0, None])
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    image = torch.arange(batch, device=low.device).reshape(-1, 1, 1, 1, 1)
    cells = torch.where(inside, (image * height + row) * width + column, 0)
    probability = torch.zeros_like(down)
    table = depth.reshape(-1)
    for step, share in ((0, 1 - fraction[..., 2]), (1, fraction[..., 2])):
        number = low[..., 2].long() + step
        known = (number >= 0) & (number < bins)
        places = cells * bins + torch.where(known, number, 0)[..., None]
        found = table.gather(0, places.reshape(-1)).reshape(places.shape)
        probability = probability + torch.where(known[..., None], found * share[..., None], 0)
    return cells, torch.where(inside, down * right * probability, 0)


def _check(values: Tensor, depth: Tensor, locations: Tensor, weights: Tensor) -> None:
    if values.ndim != 5 or depth.ndim != 4 or depth.shape[:3] != values.shape[:3]:
        raise ValueError(
            f"values, depth: expected [b, h, w, heads, c] and [b, h, w, d], got {tuple(values.shape)} and "
            f"{tuple(depth.shape)}"
        )
    expected = (values.shape[0], locations.shape[1], values.shape[3])
    if locations.ndim != 5 or tuple(locations.shape[:3]) != expected or locations.shape[-1] != 3:
        raise ValueError(
            f"locations: expected [{values.shape[0]}, queries, {values.shape[3]}, points, 3], "
            f"got {tuple(locations.shape)}"
        )
    if weights.shape != locations.shape[:-1]:
        raise ValueError(f"weights: expected {tuple(locations.shape[:-1])} like locations, got {tuple(weights.shape)}")
