"""Losses on depth distributions against sparse depth: which bin a LiDAR point falls in."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor


def nearest_depth_per_cell(depth: Float[Tensor, "*b h w"], size: tuple[int, int]) -> Float[Tensor, "*b y x"]:
    """Reduce a sparse depth image to the nearest depth in each cell of a coarser image.

    Args:
        depth: z-depth, metres; 0 where unknown.
        size: `(y, x)` cells; must divide `(h, w)`.

    Returns:
        The smallest known depth of each cell, metres; 0 where the cell holds none.

    Raises:
        ValueError: if the cells do not divide the image.

    Source: Li et al., "BEVDepth", AAAI 2023 (minimum pooling of the projected points).
    """
    height, width = depth.shape[-2:]
    if height % size[0] or width % size[1]:
        raise ValueError(f"depth: {height}x{width} pixels do not divide into {size[0]}x{size[1]} cells")
    far = torch.where(depth > 0, -depth, torch.full_like(depth, -torch.inf)).reshape(-1, 1, height, width)
    cell = (height // size[0], width // size[1])
    nearest = -F.max_pool2d(far, kernel_size=cell, stride=cell)
    nearest = torch.where(torch.isinf(nearest), torch.zeros_like(nearest), nearest)
    return nearest.reshape(*depth.shape[:-2], *size)


def depth_binary_cross_entropy(logits: Float[Tensor, "*b d h w"], target: Int64[Tensor, "*b h w"]) -> Float[Tensor, ""]:
    """Binary cross-entropy of the softmax over depth bins against the one-hot bin, per cell with a depth.

    `L = -(1/n) sum_cells [log p_t + sum_{k != t} log(1 - p_k)]`

    Args:
        logits: scores of `d` depth bins.
        target: true bin 0..d-1; negative where unknown.

    Returns:
        A scalar; 0 (with a zero gradient) if no cell has a depth.

    Source: Li et al., "BEVDepth", AAAI 2023.
    """
    rows, bins = _known(logits, target)
    if bins.numel() == 0:
        return logits.sum() * 0.0
    probability = rows.float().softmax(dim=1)
    truth = F.one_hot(bins, rows.shape[1]).to(probability.dtype)
    return F.binary_cross_entropy(probability, truth, reduction="sum") / bins.numel()


def depth_cross_entropy(logits: Float[Tensor, "*b d h w"], target: Int64[Tensor, "*b h w"]) -> Float[Tensor, ""]:
    """Cross-entropy of the distribution over depth bins, the mean over cells with a depth: `-(1/n) sum log p_t`.

    Args:
        logits: scores of `d` depth bins.
        target: true bin 0..d-1; negative where unknown.

    Returns:
        A scalar; 0 (with a zero gradient) if no cell has a depth.

    Source: original.
    """
    rows, bins = _known(logits, target)
    if bins.numel() == 0:
        return logits.sum() * 0.0
    return F.cross_entropy(rows, bins)


def depth_gaussian_divergence(
    logits: Float[Tensor, "*b d h w"],
    depth: Float[Tensor, "*b h w"],
    edges: Float[Tensor, "e"],
    *,
    sigma: float = 0.5,
    doubled: bool = False,
) -> Float[Tensor, ""]:
    """Divergence of the distribution over depth bins from a normal one around the known depth, per cell with a depth.

    `L = (1/n) sum_cells sum_k T_k (log T_k - log p_k)`, `T_k` the mass of `N(depth, sigma)` in bin k over that in all.

    Args:
        logits: scores of `d` depth bins.
        depth: z-depth, metres; 0 where unknown.
        edges: of the bins, `d + 1` ascending, metres.
        sigma: standard deviation, metres.
        doubled: put the target at twice the depth, as CGFormer's code does: its mean is in bins of half a metre, its
            edges in metres. For reproduction.

    Returns:
        A scalar; 0 (with a zero gradient) if no cell has a depth within the bins.

    Source: Yu et al., "CGFormer", NeurIPS 2024 (pre-training).
    """
    rows = logits.movedim(-3, -1).reshape(-1, logits.shape[-3])
    mean = depth.reshape(-1, 1) * (2.0 if doubled else 1.0)
    below = torch.special.ndtr((edges - mean) / sigma)
    mass = below.diff(dim=1)
    chosen = ((depth.reshape(-1) > 0) & (mass.sum(dim=1) > 0.1)).nonzero()[:, 0]
    if chosen.numel() == 0:
        return logits.sum() * 0.0
    target = mass[chosen] / mass[chosen].sum(dim=1, keepdim=True)
    return F.kl_div(rows[chosen].float().log_softmax(dim=1), target.float(), reduction="batchmean")


def _known(
    logits: Float[Tensor, "*b d h w"], target: Int64[Tensor, "*b h w"]
) -> tuple[Float[Tensor, "v d"], Int64[Tensor, "v"]]:
    rows = logits.movedim(-3, -1).reshape(-1, logits.shape[-3])
    bins = target.reshape(-1)
    chosen = (bins >= 0).nonzero().squeeze(1)
    return rows[chosen], bins[chosen]
