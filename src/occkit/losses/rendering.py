"""Losses on where rays end: whether they end at all, in one place, in as little as possible, and in what colour.

No labels are needed.

Entropy and distortion sharpen whatever is there: without a semantic loss beside them they can ruin the geometry of an
untrained field, so let them in late.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from occkit.losses.dense_distillation import at_least_single

# Probabilities are kept this far from 0 and 1, where logarithms have no finite slope.
MARGIN = 1e-6


def opacity_entropy(opacity: Float[Tensor, "*r"]) -> Float[Tensor, ""]:
    """Ask each ray whether it ends or not: `L = mean -p log p - (1 - p) log(1 - p)`.

    Args:
        opacity: probability p, 0..1, that a ray ends, `weights.sum(-1)`; or the weight of a last sample that is the
            background (`ops.rendering.end_in_last_sample`), which is 1 - p and gives the same.

    Returns:
        A scalar between 0 and log 2; 0 (with a zero gradient) if there are no rays. Differentiable; a ray within
        1e-6 of 0 or 1 has made up its mind and gets no gradient.

    Source: Zhang et al. 2023 (OccNeRF), released code.
    """
    if opacity.numel() == 0:
        return opacity.sum()
    p = at_least_single(opacity).clamp(MARGIN, 1 - MARGIN)
    return -(p * p.log() + (1 - p) * torch.log1p(-p)).mean()


def distortion_loss(
    weights: Float[Tensor, "*r s"], t: Float[Tensor, "*#r #s"], deltas: Float[Tensor, "*#r #s"]
) -> Float[Tensor, ""]:
    """Pull the weights of a ray together: the expected distance of two places where it might end.

    `L = mean over rays of sum_ij w_i w_j |t_i - t_j| + 1/3 sum_i w_i^2 delta_i`. The double sum is
    `2 sum_k (t_{k+1} - t_k) (sum_{i<=k} w_i) (sum_{i>k} w_i)`: every gap counts for the pairs on either side of it.
    That takes one pass and has terms of one sign, so that nothing cancels far out.

    Args:
        weights: from one of the `render_weights_*`.
        t: middle of each sample's interval, ascending along a ray; broadcasts to `weights`. In metres far samples
            outweigh all others: normalise to 0..1, or take contracted depths.
        deltas: length of each interval, unit of `t`; broadcasts to `weights`.

    Returns:
        A scalar >= 0, unit of `t`; 0 (with a zero gradient) if there are no rays. Differentiable in all three.

    Example:
        >>> distortion_loss(torch.tensor([[0.5, 0.5]]), torch.tensor([1.0, 3.0]), torch.zeros(1)).item()
        1.0

    Source: Barron et al., "Mip-NeRF 360", CVPR 2022, equation 15; its evaluation gap by gap is original.
    """
    if weights.numel() == 0:
        return weights.sum()
    weights, t = at_least_single(weights), at_least_single(t)
    before = weights.cumsum(dim=-1)[..., :-1]
    after = weights.flip(-1).cumsum(dim=-1).flip(-1)[..., 1:]
    gaps = t.expand_as(weights).diff(dim=-1)
    pairs = 2 * (gaps * before * after).sum(dim=-1)
    return (pairs + (weights * weights * deltas).sum(dim=-1) / 3).mean()


def occupancy_sparsity(logits: Float[Tensor, "*s"]) -> Float[Tensor, ""]:
    """Push occupancies `o = sigmoid(x)` to 0: `L = mean -log(1 - o) = mean softplus(x)`.

    Args:
        logits: x, of samples or voxels; with `o = 1 - sigmoid(x_free)` that is `-x_free`.

    Returns:
        A scalar >= 0, the binary cross-entropy against empty; 0 (with a zero gradient) if there is nothing to look at.
        Differentiable: the slope in x is o.

    Source: Zhang et al. 2023 (OccNeRF), released code (off by default).
    """
    return F.softplus(logits).mean() if logits.numel() else logits.sum()


def colour_loss(
    rendered: Float[Tensor, "r 3"], target: Float[Tensor, "r 3"], *, mask: Bool[Tensor, " r"]
) -> Float[Tensor, ""]:
    """Compare rendered colours with those of pixels: `L = mean over rays and channels of |c - g|`.

    Args:
        rendered: c, of each ray; one that ends nowhere is black.
        target: g, 0..1.
        mask: rays that count; the others add 0 to the mean.

    Returns:
        A scalar >= 0; 0 (with a zero gradient) without rays. Differentiable in `rendered`.

    Source: Boeder et al., "LangOcc", 3DV 2025, ablation of the supervision.
    """
    if not rendered.shape[0]:
        return rendered.sum()
    return torch.where(mask[:, None], (rendered - target).abs(), 0.0).mean()
