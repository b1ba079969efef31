"""Frustum proportion: how often each class occurs in what a part of the image looks through."""

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from occkit.geometry import Cameras, VoxelGrid


def frustum_proportion(
    logits: Float[Tensor, "b c x y z"],
    target: UInt8[Tensor, "b x y z"],
    cameras: Cameras,
    grid: VoxelGrid,
    *,
    parts: int = 8,
    ignore_id: int = 255,
) -> Float[Tensor, ""]:
    """Divergence of class histograms, the mean over the frusta of `parts x parts` pieces of each image.

    A labelled voxel belongs to the piece that its centre projects to. With `P_k` the share of each class in frustum `k`
    and `Q_k` the mean predicted probability there, `L = mean_k sum_c P_k(c) log(P_k(c) / Q_k(c))`, over classes that
    occur in it. A frustum without labelled voxels does not count.

    Args:
        logits: class scores before softmax.
        target: ids 0..c-1, or `ignore_id`.
        cameras: leading dimensions `[b, n]`, of the current images.
        grid: where the volume lies.
        parts: pieces along the width and the height of an image.
        ignore_id: id of voxels without a label.

    Returns:
        A scalar >= 0, natural logarithm; 0 (with a zero gradient) if no labelled voxel is in view.

    Source: Cao and de Charette, "MonoScene", CVPR 2022, equation 9.
    """
    classes = logits.shape[1]
    centres = grid.centers(device=logits.device).reshape(-1, 3)
    total, frusta = logits.sum() * 0.0, 0
    for index in range(logits.shape[0]):
        rows = logits[index].flatten(1).T.to(torch.promote_types(logits.dtype, torch.float32)).softmax(dim=1)
        ids = target[index].reshape(-1).long()
        for n in range(cameras.batch_shape[1]):
            piece = _pieces(cameras[index, n], centres, parts)
            chosen = ((piece >= 0) & (ids != ignore_id)).nonzero()[:, 0]
            flat = piece[chosen] * classes + ids[chosen]
            counts = torch.bincount(flat, minlength=parts * parts * classes).reshape(-1, classes).to(rows)
            found = torch.zeros_like(counts).index_add(0, piece[chosen], rows[chosen])
            total = total + _divergence(counts, found)
            frusta += int((counts.sum(dim=1) > 0).sum())
    return total / max(frusta, 1)


def _pieces(camera: Cameras, centres: Float[Tensor, "v 3"], parts: int) -> Tensor:
    """Return the piece of the image that each voxel centre projects to, row by row; -1 outside."""
    pixels, _, visible = camera.project(centres.to(camera.intrinsics))
    size = pixels.new_tensor([camera.width, camera.height])
    cell = (pixels / size * parts).floor().long().clamp(0, parts - 1)
    return torch.where(visible, cell[:, 1] * parts + cell[:, 0], -1)


def _divergence(counts: Float[Tensor, "k c"], found: Float[Tensor, "k c"]) -> Float[Tensor, ""]:
    """Return the sum over frusta of the divergence of the true from the found shares."""
    number = counts.sum(dim=1, keepdim=True).clamp(min=1)
    true, predicted = counts / number, (found / number).clamp(min=torch.finfo(found.dtype).tiny)
    return torch.where(true > 0, true * (true.clamp(min=1e-12).log() - predicted.log()), 0.0).sum()
