"""Losses against LiDAR beams: each says that there is something at its end and nothing before it."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from occkit.geometry import VoxelGrid
from occkit.ops.raycast import carve

# Probabilities are kept this far from 0 and 1, where logarithms have no finite slope.
MARGIN = 1e-6


def beam_targets(
    points: Float[Tensor, "p 3"], origin: tuple[float, float, float], grid: VoxelGrid
) -> tuple[Bool[Tensor, "x y z"], Bool[Tensor, "x y z"]]:
    """Return what a sweep says about the voxels of a grid.

    Args:
        points: where the beams end, metres, frame of the grid; those beyond the grid still cross it.
        origin: where they start, metres, the same frame.
        grid: voxels to speak about.

    Returns:
        hit: a beam ends in the voxel.
        passed: a beam crosses it and none ends in it. Of voxels that are neither nothing is known.

    Source: original; free-space carving as in occupancy grid mapping.
    """
    start = points.new_tensor(origin).expand_as(points)
    crossing, ending = carve(grid.shape, grid.continuous_index(start), grid.continuous_index(points))
    return ending > 0, (crossing > 0) & (ending == 0)


def beam_occupancy(
    probability: Float[Tensor, "x y z"], hit: Bool[Tensor, "x y z"], passed: Bool[Tensor, "x y z"]
) -> Float[Tensor, ""]:
    """Binary cross-entropy of occupancy where beams say something, the mean over these voxels.

    `L = mean over hit of -log p and over passed of -log(1 - p)`, every voxel alike.

    Args:
        probability: p, 0..1, of each voxel being occupied.
        hit: voxels that are.
        passed: voxels that are not; none is both.

    Returns:
        A scalar >= 0, natural logarithm; 0 (with a zero gradient) if no voxel is known. Differentiable; a probability
        within 1e-6 of 0 or 1 gets no gradient.

    Source: the usual definition, for what POP-3D (Vobecky et al., NeurIPS 2023) calls its occupancy loss; which voxels
        count is ours.
    """
    known = hit | passed
    p = probability[known].clamp(MARGIN, 1 - MARGIN)
    if not p.numel():
        return probability.sum() * 0.0
    return -torch.where(hit[known], p.log(), torch.log1p(-p)).mean()
