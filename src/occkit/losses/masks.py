"""Masks of classes as a teacher of image features: binary cross-entropy of each class in each cell."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from occkit.taxonomy import Taxonomy


def mask_shares(
    shown: UInt8[Tensor, "*b h w"], taxonomy: Taxonomy, size: tuple[int, int]
) -> tuple[Float[Tensor, "*b k y x"], Float[Tensor, "*b y x"]]:
    """Return the share of each class in each cell of a coarser image.

    Args:
        shown: ids of the pixels; the free id is sky, the ignore id uncertain.
        taxonomy: what the ids mean.
        size: `(y, x)` cells; must divide `(h, w)`.

    Returns:
        shares: of the cell's pixels that are certain, 0..1, one channel an id.
        known: share of the cell's pixels that are certain, 0..1.

    Raises:
        ValueError: if the cells do not divide the image.
    """
    height, width = shown.shape[-2:]
    if height % size[0] or width % size[1]:
        raise ValueError(f"shown: {height}x{width} pixels do not divide into {size[0]}x{size[1]} cells")
    cell = (height // size[0], width // size[1])
    flat = shown.reshape(-1, height, width).long()
    certain = flat != taxonomy.ignore_id
    # A class more for the uncertain, left out below.
    ids = torch.where(certain, flat, taxonomy.num_classes)
    planes = F.one_hot(ids, taxonomy.num_classes + 1)[..., : taxonomy.num_classes].movedim(-1, 1).float()
    shares, known = F.avg_pool2d(planes, cell), F.avg_pool2d(certain[:, None].float(), cell)
    shares = shares / known.clamp(min=1e-6)
    return shares.reshape(*shown.shape[:-2], -1, *size), known.reshape(*shown.shape[:-2], *size)


def mask_binary_cross_entropy(
    logits: Float[Tensor, "*b k y x"],
    shown: UInt8[Tensor, "*b h w"],
    taxonomy: Taxonomy,
    *,
    positive_weights: Float[Tensor, " k"] | None = None,
) -> Float[Tensor, ""]:
    """Binary cross-entropy of the masks of all classes that can be seen: their sum, the mean over certain cells.

    `L = -(1 / sum_p m_p) sum_p m_p sum_k [w_k T log s + (1 - T) log(1 - s)]`, `T` the share of class k in cell p,
    `m` the share of its pixels that are certain, `s` the sigmoid of the score.

    Args:
        logits: scores of each id; those of free space are not looked at.
        shown: ids of the pixels.
        taxonomy: what the ids mean.
        positive_weights: `w_k` of each id, such as `min(10, negatives / positives)`; None is 1.

    Returns:
        A scalar >= 0, natural logarithm; 0 (with a zero gradient) if no pixel is certain.

    Raises:
        ValueError: if the cells do not divide the image.

    Source: Xu et al., "CIGOcc", ICRA 2025 (L_bce of its figure); normalisation and weights are ours. A mean over
    classes would be as many times weaker as there are classes, and a cell has about one.
    """
    size = (int(logits.shape[-2]), int(logits.shape[-1]))
    shares, known = mask_shares(shown, taxonomy, size)
    chosen = list(taxonomy.semantic_ids)
    weights = None if positive_weights is None else positive_weights.to(logits)[chosen, None, None]
    each = F.binary_cross_entropy_with_logits(
        logits[..., chosen, :, :].float(), shares[..., chosen, :, :], pos_weight=weights, reduction="none"
    )
    total = (each * known[..., None, :, :]).sum()
    return total / known.sum().clamp(min=1e-6)


def positive_weights(counts: tuple[int, ...], *, limit: float = 10.0) -> tuple[float, ...]:
    """Return `min(limit, negatives / positives)` of each id.

    Args:
        counts: pixels of each id in the training set.
        limit: the largest weight, also that of an id that never occurs.

    Raises:
        ValueError: if no pixel is counted.
    """
    total = sum(counts)
    if total < 1:
        raise ValueError("counts: expected at least one pixel, got none")
    return tuple(limit if not n else min(limit, (total - n) / n) for n in counts)
