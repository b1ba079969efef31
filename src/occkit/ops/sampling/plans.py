"""Trilinear sampling at points that never move (a fixed rig): corners and factors worked out once."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from occkit.ops.gather import Bags
from occkit.ops.sampling.reference import Padding, corner_taps


@dataclass(frozen=True, kw_only=True)
class SamplePlan:
    """Which voxels each of a fixed set of points reads; see `SamplePlan.build` and `sample_planned`."""

    bags: Bags
    """Bags = points, table rows = voxels."""
    factors: Float[Tensor, "k"]
    """Trilinear factor of each tap."""

    @classmethod
    def build(
        cls, points: Float[Tensor, "n 3"], shape: tuple[int, int, int], *, padding: Padding = "zeros"
    ) -> "SamplePlan":
        """Work out the corners of each point; arguments as in `sample_trilinear`. Not differentiable in points."""
        rows, factors = corner_taps(points.detach(), shape, padding)
        owner = torch.arange(points.shape[0], device=points.device).repeat_interleave(8)
        bags, _ = Bags.from_pairs(
            owner,
            rows.reshape(-1),
            num_bags=points.shape[0],
            num_rows=shape[0] * shape[1] * shape[2],
            owner_is_sorted=True,
        )
        return cls(bags=bags, factors=factors.reshape(-1))
