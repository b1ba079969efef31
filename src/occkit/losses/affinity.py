"""Scene-class affinity: precision, recall and specificity of the whole scene as losses (MonoScene)."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int64, UInt8
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
    return classes_affinity(probabilities(rows), ids)


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
    return occupied_affinity(probabilities(rows), ids, free_id=free_id)


def probabilities(rows: Float[Tensor, "v c"]) -> Float[Tensor, "v c"]:
    """Return the softmax of voxels' scores, in float32 at least."""
    return rows.to(torch.promote_types(rows.dtype, torch.float32)).softmax(dim=1)


def classes_affinity(probability: Float[Tensor, "v c"], ids: Int64[Tensor, "v"]) -> Float[Tensor, ""]:
    """`semantic_affinity` of labelled voxels whose probabilities are known."""
    if ids.numel() == 0:
        return probability.sum() * 0.0
    return _affinity(probability, ids).mean()


def occupied_affinity(probability: Float[Tensor, "v c"], ids: Int64[Tensor, "v"], *, free_id: int) -> Float[Tensor, ""]:
    """`geometric_affinity` of labelled voxels whose probabilities are known."""
    occupied = ids != free_id
    if not bool(occupied.any()):
        return probability.sum() * 0.0
    free = probability[:, free_id, None]
    return _affinity(torch.cat([free, 1.0 - free], dim=1), occupied.long(), of=(1,)).sum()


def _affinity(
    probability: Float[Tensor, "v c"], ids: Int64[Tensor, "v"], *, of: Sequence[int] | None = None
) -> Float[Tensor, "k"]:
    """`-(log P + log R + log S)` of the classes `of`, each of which holds a voxel; None is of those that do.

    All four sums follow from three, so that nothing as large as the volume is made: in float64, because two of them are
    differences of large numbers.
    """
    count = torch.bincount(ids, minlength=probability.shape[1])
    own = probability.gather(1, ids[:, None])[:, 0].double()
    hit = own.new_zeros(len(count)).index_add(0, ids, own)
    total = probability.sum(dim=0, dtype=torch.float64)
    kept = count.nonzero()[:, 0] if of is None else torch.tensor(of, device=ids.device)
    hit, total, positives = hit[kept], total[kept], count[kept].double()
    negatives = len(ids) - positives
    precision, recall = _log_ratio(hit, total), _log_ratio(hit, positives)
    rejected = _log_ratio(negatives - (total - hit), negatives)
    specificity = torch.where(negatives > 0, rejected, torch.zeros_like(hit))
    return -(precision + recall + specificity).to(probability.dtype)


def _log_ratio(numerator: Float[Tensor, "k"], denominator: Float[Tensor, "k"]) -> Float[Tensor, "k"]:
    # Rounding may carry a sum of probabilities past its bounds: the loss must be neither negative nor undefined.
    return ((numerator.clamp(min=0.0) + EPSILON) / (denominator + EPSILON)).clamp(max=1.0).log()
