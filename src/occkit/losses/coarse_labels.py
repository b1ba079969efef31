"""Labels of larger voxels, by the rule of the published preprocessing."""

import torch
from jaxtyping import UInt8
from torch import Tensor

_FREE_SHARE = 0.95
"""A larger voxel with more free or unlabelled ones than this holds nothing."""


def coarse_labels(
    labels: UInt8[Tensor, "b x y z"],
    shape: tuple[int, int, int],
    *,
    num_classes: int,
    free_id: int,
    ignore_id: int = 255,
) -> UInt8[Tensor, "b _ _ _"]:
    """Return the labels of a coarser grid over the same box.

    A voxel `i` of `n` falls into `floor(i shape / n)`. Of those in one, if more than 95 % are free or without a label
    it is what most of these are (without a label if equal), else the most frequent class; of equally frequent ones the
    lowest. So one labelled voxel among eight wins.

    Args:
        labels: ids, or `ignore_id`.
        shape: of the coarser grid.
        num_classes: ids there are.
        free_id: id of empty space.
        ignore_id: id of voxels without a label.

    Source: Song et al., "SSCNet", CVPR 2017, as MonoScene and VoxFormer prepare NYUv2's and SemanticKITTI's labels.
    """
    place = torch.zeros(labels.shape[1:], dtype=torch.int64, device=labels.device)
    for axis, (fine, coarse) in enumerate(zip(labels.shape[1:], shape, strict=True)):
        index = torch.arange(fine, device=labels.device) * coarse // fine
        place = place * coarse + index.reshape([-1 if a == axis else 1 for a in range(3)])
    cells = shape[0] * shape[1] * shape[2]
    found = labels.long()
    ids = torch.where(found == ignore_id, num_classes, found)
    flat = (place.reshape(1, -1) + cells * torch.arange(len(ids), device=ids.device)[:, None]) * (num_classes + 1)
    votes = torch.bincount((flat + ids.flatten(1)).reshape(-1), minlength=len(ids) * cells * (num_classes + 1))
    votes = votes.reshape(len(ids), cells, num_classes + 1)
    free, unknown, total = votes[..., free_id], votes[..., num_classes], votes.sum(dim=2)
    classes = votes[..., :num_classes].clone()
    classes[..., free_id] = -1
    result = classes.argmax(dim=2)
    empty = free + unknown > _FREE_SHARE * total
    result = torch.where(empty, torch.where(free > unknown, free_id, ignore_id), result)
    return result.reshape(len(ids), *shape).to(torch.uint8)
