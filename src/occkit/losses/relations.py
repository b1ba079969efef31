"""Relations between voxels and mega-voxels: what a context prior is taught (MonoScene)."""

from math import ceil

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, UInt8
from torch import Tensor


def voxel_relations(
    labels: UInt8[Tensor, "b x y z"], *, num_classes: int, free_id: int, ignore_id: int = 255
) -> tuple[Bool[Tensor, "b 4 n m"], Bool[Tensor, "b n m"]]:
    """Return which relations each voxel has with some voxel of each mega-voxel, 2 x 2 x 2 voxels.

    The relations: both free; one of the two free; both occupied by the same class; by different classes. Mega-voxels at
    the upper ends may be cut off. Both are in C order.

    Args:
        labels: ids of the coarse volume, or `ignore_id`.
        num_classes: ids there are.
        free_id: id of empty space.
        ignore_id: id of voxels without a label.

    Returns:
        related: true where a relation occurs; several may.
        known: whether the voxel, and any of the mega-voxel's, has a label.

    Source: Cao and de Charette, "MonoScene", CVPR 2022, section 3.2 (four relations).
    """
    batch, sides = labels.shape[0], labels.shape[1:]
    one_hot = F.one_hot(torch.where(labels == ignore_id, num_classes, labels.long()), num_classes + 1)
    one_hot = one_hot[..., :num_classes].permute(0, 4, 1, 2, 3).float()
    pad = [amount for side in reversed(sides) for amount in (0, side % 2)]
    holds = F.max_pool3d(F.pad(one_hot, pad), 2).flatten(2).bool()  # b c m
    assert holds.shape[2] == ceil(sides[0] / 2) * ceil(sides[1] / 2) * ceil(sides[2] / 2)
    ids = labels.reshape(batch, -1).long()
    valid = ids != ignore_id
    own = torch.where(valid, ids, 0)
    same = holds.gather(1, own[:, :, None].expand(-1, -1, holds.shape[2]))
    occupied = valid & (ids != free_id)
    kinds = holds.sum(dim=1) - holds[:, free_id].long()  # b m: classes other than free
    here, free_there, thing_there = occupied[:, :, None], holds[:, None, free_id], (kinds > 0)[:, None]
    both_free = ~here & free_there
    one_free = (here & free_there) | (~here & thing_there)
    same_class = here & same
    other_class = here & (kinds[:, None] - same.long() > 0)
    known = valid[:, :, None] & holds.any(dim=1)[:, None]
    return torch.stack([both_free, one_free, same_class, other_class], dim=1) & known[:, None], known


def relation_loss(
    scores: Float[Tensor, "b r n m"], related: Bool[Tensor, "b r n m"], known: Bool[Tensor, "b n m"]
) -> Float[Tensor, ""]:
    """Binary cross-entropy of the relations, whose positives weigh `negatives / positives`, the mean over relations.

    Args:
        scores: before the sigmoid.
        related: which relations there are.
        known: where both have labels.

    Returns:
        A scalar >= 0; a relation that never occurs does not count, and nothing known gives 0 (with a zero gradient).

    Source: Cao and de Charette, "MonoScene", CVPR 2022, section 3.2.
    """
    total, counted = scores.sum() * 0.0, 0
    for kind in range(scores.shape[1]):
        rows, truth = scores[:, kind][known], related[:, kind][known].to(scores.dtype)
        positives = truth.sum()
        if not bool(positives > 0):
            continue
        weight = (len(truth) - positives) / positives
        total = total + F.binary_cross_entropy_with_logits(rows, truth, pos_weight=weight)
        counted += 1
    return total / max(counted, 1)
