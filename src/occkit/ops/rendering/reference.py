"""Volume rendering along rays in plain torch: the specification."""

import torch
from jaxtyping import Float
from torch import Tensor


def weights_from_density(density: Float[Tensor, "*r s"], deltas: Float[Tensor, "*r s"]) -> Float[Tensor, "*r s"]:
    """`w_i = exp(-sum_{j<i} sigma_j delta_j) (1 - exp(-sigma_i delta_i))`."""
    optical = density * deltas
    before = torch.nn.functional.pad(optical.cumsum(dim=-1)[..., :-1], (1, 0))
    return torch.exp(-before) * -torch.expm1(-optical)


def weights_from_occupancy(probability: Float[Tensor, "*r s"]) -> Float[Tensor, "*r s"]:
    """`w_i = p_i prod_{j<i} (1 - p_j)`."""
    survived = torch.nn.functional.pad((1 - probability).cumprod(dim=-1)[..., :-1], (1, 0), value=1.0)
    return probability * survived


def weights_saturating(occupancy: Float[Tensor, "*r s"]) -> Float[Tensor, "*r s"]:
    """`W_i = min(1, sum_{j<=i} o_j)`, `w_i = W_i - W_{i-1}`."""
    accumulated = occupancy.cumsum(dim=-1).clamp(max=1)
    return torch.diff(accumulated, dim=-1, prepend=torch.zeros_like(accumulated[..., :1]))


def resample(
    weights: Float[Tensor, "*r s"], edges: Float[Tensor, "*r s+1"], quantiles: Float[Tensor, "*r n"]
) -> Float[Tensor, "*r n"]:
    """Invert the piecewise linear distribution function of the bins at ascending quantiles in [0, 1)."""
    widths = edges.diff(dim=-1)
    mass = torch.where(weights.sum(dim=-1, keepdim=True) > 0, weights, widths)  # an empty ray is sampled evenly
    mass = torch.where(mass.sum(dim=-1, keepdim=True) > 0, mass, 1.0)  # one of no length, where it is
    upper = mass.cumsum(dim=-1)
    upper = upper / upper[..., -1:]
    lower = torch.nn.functional.pad(upper[..., :-1], (1, 0))
    # The first bin whose upper value exceeds the quantile: never one without mass, for it rises by nothing.
    bins = torch.searchsorted(upper.contiguous(), quantiles.contiguous(), right=True).clamp(max=weights.shape[-1] - 1)
    low, high = lower.gather(-1, bins), upper.gather(-1, bins)
    fraction = ((quantiles - low) / (high - low)).clamp(0, 1)
    start, end = edges.gather(-1, bins), edges.gather(-1, bins + 1)
    return torch.minimum(start + fraction * (end - start), end)
