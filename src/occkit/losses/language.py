"""Losses on vision-language features: how far rendered vectors point away from what was seen."""

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

FeatureLossKind = Literal["cosine_guided", "mse", "cosine"]


def feature_loss(
    rendered: Float[Tensor, "r k"],
    target: Float[Tensor, "r k"],
    *,
    mask: Bool[Tensor, " r"],
    kind: FeatureLossKind = "cosine_guided",
) -> Float[Tensor, ""]:
    """Compare the directions of rendered features with those that were seen, the mean over all rays.

    With `c = 2 (1 - cos(p, g))`, which is the squared distance of the unit vectors: `mse` is c, `cosine` is c / 2, and
    `cosine_guided` is `sg[c] c`, whose gradient is that of `c^2 / 2`: what points elsewhere counts more.

    Args:
        rendered: p, of any length but 0; a vector of no length counts as orthogonal.
        target: g, of unit length.
        mask: rays that count; the others add 0 to the mean.
        kind: which of the three.

    Returns:
        A scalar >= 0; 0 (with a zero gradient) without rays. Differentiable in `rendered`.

    Source: LangOcc, 2024, cosine-similarity-guided MSE; the identity is ours.
    """
    if not rendered.shape[0]:
        return rendered.sum()
    distance = 2 - 2 * F.cosine_similarity(rendered, target, dim=-1, eps=1e-6)
    value = {"cosine_guided": distance.detach() * distance, "mse": distance, "cosine": distance / 2}[kind]
    return torch.where(mask, value, 0.0).mean()
