"""Rays of other times among things that move: each sample goes with the thing that it lay in to where that is now.

Source: original.
"""

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from occkit.geometry import Rays, invert_pose, transform_points
from occkit.samples import ObjectMotion

AWAY = 1e6
"""Metres; where samples go that lie in nothing that is there now."""


@torch.no_grad()
def follow(
    motion: ObjectMotion, steps: Int64[Tensor, " r"], points: Float[Tensor, "r s 3"], *, margin: float
) -> Float[Tensor, "r s 3"]:
    """Return where in the present volume that is now which was at points when their rays were cast.

    `x' = ego_from_box box_from_ego x` in the box of an object as it was then. In the place where it is now there was
    something else, of which the volume knows nothing: there, and in the boxes of what has gone, points go away.

    Args:
        motion: of one frame.
        steps: keyframes from the current one to each ray's.
        points: samples along the rays, metres, reference frame.
        margin: metres by which boxes are widened, for voxels are coarser.
    """
    placed = points.clone()
    rows = motion.steps.nonzero()[:, 0].tolist()
    of_row = {row: (steps == motion.steps[row]).nonzero()[:, 0] for row in rows}
    for row, rays in of_row.items():
        if motion.remains[row]:
            half = motion.half_sizes[row] + margin
            left = _inside(invert_pose(motion.ego_from_box[row]), points[rays], half)[0]
            placed[rays] = torch.where(left[..., None], AWAY, placed[rays])
    for row, rays in of_row.items():
        there, local = _inside(motion.box_from_ego[row], points[rays], motion.half_sizes[row] + margin)
        now = _moved(motion.ego_from_box[row], local) if motion.remains[row] else local.new_tensor(AWAY)
        placed[rays] = torch.where(there[..., None], now, placed[rays])
    return placed


@torch.no_grad()
def meets_what_has_gone(
    motion: ObjectMotion, steps: Int64[Tensor, " r"], rays: Rays, *, margin: float
) -> Bool[Tensor, " r"]:
    """Return the rays that pass the box of an object which is not there now: nothing can show what they saw.

    Args:
        motion: of one frame.
        steps: keyframes from the current one to each ray's.
        rays: of any length, leading dimension `[r]`.
        margin: as in `follow`.
    """
    met = torch.zeros_like(steps, dtype=torch.bool)
    for row in (~motion.remains & (motion.steps != 0)).nonzero()[:, 0].tolist():
        half = motion.half_sizes[row] + margin
        start = transform_points(motion.box_from_ego[row], rays.origins)
        ahead = rays.directions @ motion.box_from_ego[row, :3, :3].mT
        # Along two planes the distances are infinite: of either sign between them, of one sign beside them.
        sides = torch.stack([(-half - start) / ahead, (half - start) / ahead])
        enters, leaves = sides.amin(dim=0).amax(dim=-1), sides.amax(dim=0).amin(dim=-1)
        met |= (steps == motion.steps[row]) & (leaves >= enters) & (leaves > 0)
    return met


def _inside(
    box_from_ego: Float[Tensor, "4 4"], points: Float[Tensor, "k s 3"], half: Float[Tensor, "3"]
) -> tuple[Bool[Tensor, "k s"], Float[Tensor, "k s 3"]]:
    local = _moved(box_from_ego, points)
    return (local.abs() <= half).all(dim=-1), local


def _moved(pose: Float[Tensor, "4 4"], points: Float[Tensor, "k s 3"]) -> Float[Tensor, "k s 3"]:
    return transform_points(pose, points.flatten(0, 1)).view_as(points)
