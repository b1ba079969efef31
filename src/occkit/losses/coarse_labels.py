"""Labels of larger voxels, for scores of a coarser volume."""

import torch
from jaxtyping import UInt8
from torch import Tensor

from occkit.taxonomy import Taxonomy


def coarsen_labels(
    semantics: UInt8[Tensor, "b x y z"], taxonomy: Taxonomy, stride: tuple[int, int, int]
) -> UInt8[Tensor, "b _ _ _"]:
    """Return the label of each block of voxels: what is in it, however little.

    With `n` voxels in a block, `n_free` free and `n_ignored` without a label: if `n_free + n_ignored > 0.95 n`, the
    block is free where `n_free > n_ignored` and has no label otherwise; else it is of the most frequent class in it, of
    several the one of the lowest id. One labelled voxel among eight wins its block.

    Args:
        semantics: ids of the taxonomy.
        taxonomy: tells the free and ignore ids.
        stride: voxels of a block along x, y, z.

    Raises:
        ValueError: if the blocks do not fill the volume.

    Source: Song et al., "SSCNet", CVPR 2017, as MonoScene and VoxFormer prepare SemanticKITTI's `_1_2` and `_1_8`.
    """
    if any(n % s for n, s in zip(semantics.shape[1:], stride, strict=True)):
        raise ValueError(f"semantics: {tuple(semantics.shape[1:])} voxels do not divide into blocks of {stride}")
    sx, sy, sz = stride
    classes, voxels = taxonomy.num_classes, sx * sy * sz
    split = semantics.unflatten(3, (-1, sz)).unflatten(2, (-1, sy)).unflatten(1, (-1, sx))
    blocks = split.permute(0, 1, 3, 5, 2, 4, 6).flatten(4).long()
    blocks = torch.where(blocks == taxonomy.ignore_id, classes, blocks)
    counts = torch.zeros((*blocks.shape[:4], classes + 1), dtype=torch.int32, device=semantics.device)
    counts = counts.scatter_add(4, blocks, torch.ones_like(blocks, dtype=torch.int32))
    free, ignored = counts[..., taxonomy.free_id].clone(), counts[..., classes]
    things = counts[..., :classes]
    things[..., taxonomy.free_id] = -1
    nothing = torch.where(free > ignored, taxonomy.free_id, taxonomy.ignore_id)
    return torch.where(free + ignored > 0.95 * voxels, nothing, things.argmax(dim=-1)).byte()
