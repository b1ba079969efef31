"""Losses on labelled voxels: cross-entropy and the Lovász-softmax surrogate of mIoU."""

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor


def select_labelled(
    logits: Float[Tensor, "b c *s"],
    target: UInt8[Tensor, "b *s"],
    *,
    ignore_id: int = 255,
    mask: Bool[Tensor, "b *s"] | None = None,
) -> tuple[Float[Tensor, "v c"], Int64[Tensor, "v"]]:
    """Gather the voxels that a loss may look at.

    Args:
        logits: class scores before softmax.
        target: ids 0..c-1, or `ignore_id`.
        ignore_id: id of voxels without a label.
        mask: true where the loss applies (for example seen by a camera); None is everywhere.

    Returns:
        logits: of the `v` voxels kept.
        target: their ids.

    Raises:
        ValueError: if a kept id has no channel in `logits`.
    """
    keep = target != ignore_id
    if mask is not None:
        keep = keep & mask
    channels = logits.shape[1]
    rows, ids = logits.movedim(1, -1).reshape(-1, channels), target.reshape(-1).long()
    if not bool(keep.all()):
        chosen = keep.reshape(-1).nonzero().squeeze(1)
        rows, ids = rows[chosen], ids[chosen]
    if ids.numel() and int(ids.max()) >= channels:
        raise ValueError(
            f"target: expected ids 0..{channels - 1} or {ignore_id} for {channels} channels, got {int(ids.max())}; "
            "the label and the network use different taxonomies"
        )
    return rows, ids


def cross_entropy(
    logits: Float[Tensor, "b c *s"],
    target: UInt8[Tensor, "b *s"],
    *,
    ignore_id: int = 255,
    mask: Bool[Tensor, "b *s"] | None = None,
    weights: Float[Tensor, "c"] | None = None,
) -> Float[Tensor, ""]:
    """Weighted cross-entropy, the mean over the labelled voxels `V`.

    `L = sum_V w[y_v] * -log softmax(logits_v)[y_v] / sum_V w[y_v]`

    Args:
        logits: class scores before softmax.
        target: ids 0..c-1, or `ignore_id`.
        ignore_id: id of voxels without a label.
        mask: true where the loss applies; None is everywhere.
        weights: one non-negative weight a class; None weighs all alike.

    Returns:
        A scalar, natural logarithm; 0 (with a zero gradient) if no voxel is labelled.

    Source: the usual definition; the normalisation by the sum of weights is that of VoxFormer and CGFormer.
    """
    rows, ids = select_labelled(logits, target, ignore_id=ignore_id, mask=mask)
    if ids.numel() == 0:
        return logits.sum() * 0.0
    return F.cross_entropy(rows, ids, weight=weights)


def lovasz_softmax(
    logits: Float[Tensor, "b c *s"],
    target: UInt8[Tensor, "b *s"],
    *,
    ignore_id: int = 255,
    mask: Bool[Tensor, "b *s"] | None = None,
    exclude: Sequence[int] = (),
) -> Float[Tensor, ""]:
    """Lovász-softmax: the convex extension of one minus the Jaccard index, averaged over the classes present.

    The errors `m_v = |[y_v = c] - p_v(c)|` of class `c` are sorted in falling order; with `J_k` the Jaccard *loss* when
    the first `k` voxels are wrong, `L_c = sum_k m_(k) (J_k - J_(k-1))`.

    Args:
        logits: class scores before softmax.
        target: ids 0..c-1, or `ignore_id`.
        ignore_id: id of voxels without a label.
        mask: true where the loss applies; None is everywhere.
        exclude: ids that are not averaged over (free space, to save its sort).

    Returns:
        A scalar in 0..1; 0 (with a zero gradient) if there is nothing to average. The order of the sort is not
        differentiated through, as in the paper.

    Source: Berman et al., "The Lovász-Softmax loss", CVPR 2018, algorithm 1 and equation 11.
    """
    rows, ids = select_labelled(logits, target, ignore_id=ignore_id, mask=mask)
    present = [c for c in ids.unique().tolist() if c not in exclude]
    if not present:
        return logits.sum() * 0.0
    truth = ids[None] == torch.tensor(present, device=ids.device)[:, None]
    # The steps of the Jaccard index are about one over the number of voxels: too fine for half precision.
    probability = rows.to(torch.promote_types(rows.dtype, torch.float32)).softmax(dim=1)[:, present].T
    errors = (truth.to(probability.dtype) - probability).abs()
    order = _falling_order(errors.detach())
    steps = _jaccard_steps(truth.gather(1, order), dtype=probability.dtype)
    return (errors.gather(1, order) * steps).sum(dim=1).mean()


def _falling_order(values: Float[Tensor, "k v"]) -> Int64[Tensor, "k v"]:
    """Indices that put each row of non-negative values into falling order; of equal values the later comes first."""
    if values.device.type != "cpu" or values.dtype != torch.float32:
        return values.argsort(dim=1, descending=True)
    # The bits of non-negative floats are ordered like the floats. With the index below them they are plain integers,
    # which numpy sorts by vector instructions: several times faster than an argsort.
    keys = (values.contiguous().view(torch.int32).long() << 32) | torch.arange(values.shape[1])
    return torch.from_numpy(np.sort(keys.numpy(), axis=1)).flip(1) & 0xFFFFFFFF


def _jaccard_steps(truth: Bool[Tensor, "k v"], *, dtype: torch.dtype) -> Float[Tensor, "k v"]:
    """`J_k - J_(k-1)` for voxels in the order given: the gradient of the Lovász extension."""
    # Integers below 2^24 are exact in float32; larger counts lose less than the loss itself.
    found = truth.cumsum(dim=1)
    positives = found[:, -1:]
    intersection = positives - found
    union = positives + torch.arange(1, truth.shape[1] + 1, device=truth.device) - found
    jaccard = 1.0 - intersection.to(dtype) / union.to(dtype)
    return torch.diff(jaccard, dim=1, prepend=torch.zeros_like(jaccard[:, :1]))


def inverse_log_weights(counts: Sequence[int]) -> tuple[float, ...]:
    """Class weights `1 / ln(n_c + 1.001)`: mild, a class a million times rarer weighs two to three times more.

    Args:
        counts: voxels of each class in the training labels.

    Returns:
        Weights scaled to mean 1. A class that never occurs gets the weight of one with a single voxel.

    Source: MonoScene's weights `1 / ln(n_c + 0.001)`, shifted by one so that a count of 0 or 1 stays finite.
    """
    raw = [1.0 / math.log(max(n, 1) + 1.001) for n in counts]
    return _mean_one(raw)


def inverse_power_weights(counts: Sequence[int], *, power: float = 0.5) -> tuple[float, ...]:
    """Class weights `n_c^-power`, scaled to mean 1 over the classes that occur.

    A weighted network prefers class `c` to free space where its probability exceeds `1 / (1 + w_c / w_free)`. The
    threshold that maximises an IoU of `J` is `J / (1 + J)`: a class that is hard to find wants several times the weight
    of free space, but far less than its rarity.

    Args:
        counts: voxels of each class in the training labels.
        power: 0 weighs all alike, 0.5 is the inverse square root.

    Returns:
        One weight a class; 0 for a class that never occurs.

    Raises:
        ValueError: if no class occurs.

    Source: original; the best threshold of an overlap measure is half the best F-measure (Lipton et al., 2014).
    """
    raw = [float(n) ** -power if n > 0 else 0.0 for n in counts]
    present = [w for w in raw if w > 0]
    if not present:
        raise ValueError("counts: expected at least one class that occurs, got only zeros")
    mean = sum(present) / len(present)
    return tuple(w / mean for w in raw)


def _mean_one(raw: Sequence[float]) -> tuple[float, ...]:
    mean = sum(raw) / len(raw)
    return tuple(w / mean for w in raw)
