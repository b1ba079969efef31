"""Scene-class affinity: precision, recall and specificity of the whole scene as losses (MonoScene)."""

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from occkit.losses.classification import select_labelled

# Added to numerators and denominators: -log stays finite (below 14) when a class is missed altogether.
EPSILON = 1e-6


def semantic_affinity(
    logits: Float[Tensor, "b c *s"],
    target: UInt8[Tensor, "b *s"],
    *,
    ignore_id: int = 255,
    mask: Bool[Tensor, "b *s"] | None = None,
) -> Float[Tensor, ""]:
    """Scene-class affinity loss over the classes present, free space among them.

    With `p_c` the softmax probability and sums over the labelled voxels of the whole batch:
    `P_c = sum_{y=c} p_c / sum p_c`, `R_c = sum_{y=c} p_c / |y=c|`, `S_c = sum_{y!=c} (1 - p_c) / |y!=c|`,
    `L = -mean_c (log P_c + log R_c + log S_c)`; `S_c` is left out when every voxel is of class `c`.

    Args:
        logits: class scores before softmax.
        target: ids 0..c-1, or `ignore_id`.
        ignore_id: id of voxels without a label.
        mask: true where the loss applies; None is everywhere.

    Returns:
        A scalar >= 0; 0 (with a zero gradient) if no voxel is labelled.

    Source: Cao and de Charette, "MonoScene", CVPR 2022, equations 4 to 7.
    """
    rows, ids = select_labelled(logits, target, ignore_id=ignore_id, mask=mask)
    if ids.numel() == 0:
        return logits.sum() * 0.0
    present = ids.unique()
    truth = ids[:, None] == present[None]
    return _affinity(rows.softmax(dim=1)[:, present], truth).mean()


def geometric_affinity(
    logits: Float[Tensor, "b c *s"],
    target: UInt8[Tensor, "b *s"],
    *,
    free_id: int,
    ignore_id: int = 255,
    mask: Bool[Tensor, "b *s"] | None = None,
) -> Float[Tensor, ""]:
    """Scene-class affinity loss of the one class "occupied", whose probability is `1 - p_free`.

    Args:
        logits: class scores before softmax.
        target: ids 0..c-1, or `ignore_id`.
        free_id: id of empty space.
        ignore_id: id of voxels without a label.
        mask: true where the loss applies; None is everywhere.

    Returns:
        A scalar >= 0; 0 (with a zero gradient) if no voxel is labelled or none is occupied.

    Source: Cao and de Charette, "MonoScene", CVPR 2022, equation 8.
    """
    rows, ids = select_labelled(logits, target, ignore_id=ignore_id, mask=mask)
    occupied = ids != free_id
    if not bool(occupied.any()):
        return logits.sum() * 0.0
    probability = 1.0 - rows.softmax(dim=1)[:, free_id, None]
    return _affinity(probability, occupied[:, None]).sum()


def _affinity(probability: Float[Tensor, "v k"], truth: Bool[Tensor, "v k"]) -> Float[Tensor, "k"]:
    """`-(log P + log R + log S)` of each column; every column holds at least one true voxel."""
    # Sums over 10^5 voxels: half precision would overflow.
    probability = probability.to(torch.promote_types(probability.dtype, torch.float32))
    true = truth.to(probability.dtype)
    hit = (probability * true).sum(dim=0)
    positives = true.sum(dim=0)
    negatives = (1.0 - true).sum(dim=0)
    rejected = ((1.0 - probability) * (1.0 - true)).sum(dim=0)
    precision = _log_ratio(hit, probability.sum(dim=0))
    recall = _log_ratio(hit, positives)
    specificity = torch.where(negatives > 0, _log_ratio(rejected, negatives), torch.zeros_like(hit))
    return -(precision + recall + specificity)


def _log_ratio(numerator: Float[Tensor, "k"], denominator: Float[Tensor, "k"]) -> Float[Tensor, "k"]:
    # Rounding may carry a sum of probabilities above its bound: the loss must not turn negative.
    return ((numerator + EPSILON) / (denominator + EPSILON)).clamp(max=1.0).log()
