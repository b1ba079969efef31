"""Volume rendering: densities or occupancies at samples along rays become weights, and weights depth and features.

Samples are ordered from the ray's origin outwards, on the last dimension of `[*rays, samples]`. Whether the ray
parameter is distance or z-depth is the caller's choice, and comes back as it was.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from occkit.ops.gather import Backend
from occkit.ops.rendering import reference
from occkit.ops.sampling import Padding, sampled_sum

__all__ = [
    "composite",
    "end_in_last_sample",
    "render_depth",
    "render_features",
    "render_weights_from_density",
    "render_weights_from_occupancy",
    "render_weights_saturating",
    "resample",
    "resample_intervals",
    "termination_distribution",
]


def render_weights_from_density(
    density: Float[Tensor, "*r s"], deltas: Float[Tensor, "*#r #s"]
) -> Float[Tensor, "*r s"]:
    """Return the probability that each ray ends in each of its samples, from volume density.

    `w_i = T_i (1 - exp(-sigma_i delta_i))`, `T_i = exp(-sum_{j<i} sigma_j delta_j)`.

    Args:
        density: sigma, not negative, per unit of the ray parameter.
        deltas: interval of each sample, not negative, units of the ray parameter; broadcasts to `density`.

    Returns:
        Weights in 0..1; a ray's weights sum to `1 - exp(-sum sigma delta)`. Differentiable in both.

    Example:
        >>> render_weights_from_density(torch.tensor([0.0, 1e9, 5.0]), torch.ones(3)).tolist()
        [0.0, 1.0, 0.0]

    Source: Max 1995; Mildenhall et al. 2020 (NeRF), equation 3.
    """
    deltas = deltas.expand_as(density)
    return reference.weights_from_density(density, deltas)


def render_weights_from_occupancy(probability: Float[Tensor, "*r s"]) -> Float[Tensor, "*r s"]:
    """Return the probability that each ray ends in each of its samples, from occupancy probabilities.

    `w_i = p_i prod_{j<i} (1 - p_j)`.

    Args:
        probability: p, 0..1, of each sample being occupied.

    Returns:
        Weights in 0..1; a ray's weights sum to `1 - prod (1 - p)`. Differentiable, also where p is exactly 0 or 1.

    Example:
        >>> render_weights_from_occupancy(torch.tensor([0.5, 0.5, 1.0])).tolist()
        [0.5, 0.25, 0.25]

    Source: Oechsle et al. 2021 (UNISURF), equation 3.
    """
    return reference.weights_from_occupancy(probability)


def render_weights_saturating(occupancy: Float[Tensor, "*r s"]) -> Float[Tensor, "*r s"]:
    """Return weights from a saturating sum of occupancies.

    `W_i = min(1, sum_{j<=i} o_j)`, `w_i = W_i - W_{i-1}`.

    Args:
        occupancy: o, 0..1, of each sample.

    Returns:
        Weights in 0..1. Samples beyond the point where the sum reaches 1 get weight 0 and no gradient, and neither does
        the sample in which it passes 1. A ray's weights sum to less than 1 where it does not get there.

    Example:
        >>> [round(w, 4) for w in render_weights_saturating(torch.tensor([0.3, 0.5, 0.4, 0.9])).tolist()]
        [0.3, 0.5, 0.2, 0.0]

    Source: Zhang et al. 2023 (OccNeRF), the rendering its experiments use; equation 6 of the paper is compositing.
    """
    return reference.weights_saturating(occupancy)


def termination_distribution(weights: Float[Tensor, "*r s"]) -> Float[Tensor, "*r s+1"]:
    """Append the probability of hitting nothing, so that each ray has a true distribution.

    `w_s = 1 - sum_i w_i`, not below 0.

    Args:
        weights: from one of the `render_weights_*`.

    Returns:
        Probabilities that sum to 1; the last one is "no hit". Differentiable.

    Example:
        >>> termination_distribution(torch.tensor([0.25, 0.5])).tolist()
        [0.25, 0.5, 0.25]

    Source: original; a KL divergence between rays is wrong without it.
    """
    missing = (1 - weights.sum(dim=-1, keepdim=True)).clamp(min=0)
    return torch.cat([weights, missing], dim=-1)


def end_in_last_sample(weights: Float[Tensor, "*r s"]) -> Float[Tensor, "*r s"]:
    """Let the last sample be the background: it gets the weight that the others leave.

    `w_S = 1 - sum_{i<S} w_i`, not below 0: as if the last sample were occupied for certain, whatever was said of it.

    Args:
        weights: from one of the `render_weights_*`; one sample or more.

    Returns:
        Weights of the same samples that sum to 1, so that depth and features are true means. The last one is the
        transparency of all before it. Differentiable; what was said of the last sample gets no gradient.

    Example:
        >>> end_in_last_sample(torch.tensor([0.25, 0.5, 0.0])).tolist()
        [0.25, 0.5, 0.25]

    Source: Zhang et al. 2023 (OccNeRF), released code.
    """
    return termination_distribution(weights[..., :-1])


def composite(weights: Float[Tensor, "*r s"], values: Float[Tensor, "*r s c"]) -> Float[Tensor, "*r c"]:
    """Sum per-sample values by weight: `out = sum_i w_i v_i`.

    Args:
        weights: from one of the `render_weights_*`.
        values: anything carried by samples; for features of a volume `render_features` is much faster.

    Returns:
        One row a ray. Differentiable in both.

    Source: Mildenhall et al. 2020 (NeRF), equation 3.
    """
    return (weights[..., None, :] @ values)[..., 0, :]


def render_depth(
    weights: Float[Tensor, "*r s"], t: Float[Tensor, "*#r #s"], *, normalize: bool = False
) -> Float[Tensor, "*r"]:
    """Return the expected ray parameter at termination: `D = sum_i w_i t_i`.

    Args:
        weights: from one of the `render_weights_*`.
        t: ray parameter of each sample; broadcasts to `weights`.
        normalize: divide by `sum_i w_i`: the mean over the rays that end at all. A ray of no weight gives 0.

    Returns:
        Depth, unit of `t`. Differentiable in both.

    Source: Deng et al. 2022 (DS-NeRF), equation 4; `normalize` original.
    """
    depth = (weights * t).sum(dim=-1)
    if not normalize:
        return depth
    opacity = weights.sum(dim=-1)
    return depth / torch.where(opacity > 0, opacity, 1)


def render_features(
    volume: Float[Tensor, "v c"],
    shape: tuple[int, int, int],
    points: Float[Tensor, "*r s 3"],
    weights: Float[Tensor, "*r s"],
    *,
    min_weight: float = 0.0,
    padding: Padding = "zeros",
    backend: Backend = "auto",
) -> Float[Tensor, "*r c"]:
    """Render the features of a volume: sample and composite in one pass, without storing a sample.

    `out[r] = sum_i w[r, i] trilinear(volume, x[r, i])`.

    Args:
        volume: one row a voxel, C order of `[x, y, z]`.
        shape: voxels along x, y, z; their product is V.
        points: samples in voxel units, centre of voxel i at i + 0.5; finite.
        weights: from one of the `render_weights_*`.
        min_weight: leave out samples whose weight is below this; 0 leaves out none. They then get no gradient either.
        padding: as in `occkit.ops.sampling.sample_trilinear`.
        backend: see `occkit.ops.gather.Backend`.

    Returns:
        One row a ray, dtype of `volume`. Differentiable in volume, weights and points (once with numba).

    Raises:
        ValueError: if shapes do not agree.

    Example:
        >>> points = torch.tensor([[[0.5, 0.5, 0.5], [1.5, 0.5, 0.5]]])
        >>> render_features(torch.tensor([[1.0], [10.0]]), (2, 1, 1), points, torch.tensor([[0.5, 0.25]])).tolist()
        [[3.0]]

    Source: original; the sum is that of NeRF, equation 3, with any feature for colour.
    """
    if points.shape[:-1] != weights.shape:
        raise ValueError(f"points: expected {(*weights.shape, 3)} for these weights, got {tuple(points.shape)}")
    num_samples = weights.shape[-1]
    kept = torch.where(weights >= min_weight, weights, 0) if min_weight > 0 else weights
    out = sampled_sum(
        volume[:, None, :],
        shape,
        points.reshape(-1, 1, num_samples, 3),
        kept.reshape(-1, 1, num_samples),
        padding=padding,
        backend=backend,
        skip_zeros=min_weight > 0,
    )
    return out.reshape(*weights.shape[:-1], volume.shape[1])


def resample(
    weights: Float[Tensor, "*r s"],
    edges: Float[Tensor, "*#r s+1"],
    num_samples: int,
    *,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "*r n"]:
    """Place samples along rays in proportion to weights, by inverting their distribution function.

    The weights make a density that is constant within each bin; sample k is its quantile `(k + u) / n`, with u = 0.5
    or random in [0, 1) (stratified).

    Args:
        weights: mass of each bin, not negative; needs no normalisation. A ray of no mass is sampled evenly.
        edges: ascending bin edges, any unit; leading dimensions broadcast.
        num_samples: samples a ray.
        generator: source of the stratified offsets; None is deterministic.

    Returns:
        Ascending positions, unit of `edges`; a bin without mass gets none. Not differentiable: the result is detached.

    Raises:
        ValueError: if the shapes do not agree or `num_samples` is not positive.

    Example:
        >>> resample(torch.tensor([0.0, 2.0]), torch.tensor([0.0, 1.0, 2.0]), 2).tolist()
        [1.25, 1.75]

    Source: Mildenhall et al. 2020 (NeRF), section 5.2.
    """
    _check_bins(weights, edges)
    if num_samples < 1:
        raise ValueError(f"num_samples: expected 1 or more, got {num_samples}")
    with torch.no_grad():
        lead = weights.shape[:-1]
        weights = weights.detach()
        edges = edges.detach().to(weights.dtype).expand(*lead, -1)
        steps = torch.arange(num_samples, dtype=weights.dtype, device=weights.device).expand(*lead, -1)
        if generator is None:
            offsets = torch.full_like(steps, 0.5)
        else:
            offsets = torch.rand(steps.shape, generator=generator, dtype=weights.dtype, device=weights.device)
        below_one = 1 - torch.finfo(weights.dtype).eps
        return reference.resample(weights, edges, ((steps + offsets) / num_samples).clamp(max=below_one))


def resample_intervals(
    weights: Float[Tensor, "*r s"], edges: Float[Tensor, "*#r s+1"], num_intervals: int, *, even: float = 0.0
) -> Float[Tensor, "*r n+1"]:
    """Cut rays into intervals of equal mass, from the first edge to the last.

    Unlike the quantiles of `resample`, which lie in the mass, these leave no part of a ray out and let none stand for
    more than itself: the right nodes for an integral along the ray.

    Args:
        weights: mass of each bin, not negative; needs no normalisation. A ray of no mass is cut evenly.
        edges: ascending bin edges, any unit; leading dimensions broadcast.
        num_intervals: intervals a ray.
        even: share of the mass that is spread evenly over the ray's length, in 0..1: that much finds what the bins
            missed.

    Returns:
        Ascending edges of the intervals, unit of `edges`. Not differentiable: the result is detached.

    Raises:
        ValueError: if the shapes do not agree, `num_intervals` is not positive or `even` lies outside 0..1.

    Example:
        >>> resample_intervals(torch.tensor([0.0, 2.0]), torch.tensor([0.0, 1.0, 2.0]), 2).tolist()
        [0.0, 1.5, 2.0]

    Source: Mildenhall et al. 2020 (NeRF), section 5.2; intervals as in Barron et al. 2022 (Mip-NeRF 360).
    """
    _check_bins(weights, edges)
    if num_intervals < 1 or not 0 <= even <= 1:
        raise ValueError(f"expected at least 1 interval and even in 0..1, got {num_intervals} and {even}")
    with torch.no_grad():
        weights = weights.detach()
        edges = edges.detach().to(weights.dtype).expand(*weights.shape[:-1], -1)
        lengths, tiny = edges.diff(dim=-1), torch.finfo(weights.dtype).tiny
        mass, ray = (v.sum(dim=-1, keepdim=True).clamp(min=tiny) for v in (weights, lengths))
        weights = (1 - even) * weights / mass + even * lengths / ray
        quantiles = torch.arange(1, num_intervals, dtype=weights.dtype, device=weights.device) / num_intervals
        inner = reference.resample(weights, edges, quantiles.expand(*weights.shape[:-1], -1))
        return torch.cat([edges[..., :1], inner, edges[..., -1:]], dim=-1)


def _check_bins(weights: Tensor, edges: Tensor) -> None:
    if edges.shape[-1] != weights.shape[-1] + 1 or weights.shape[-1] < 1:
        raise ValueError(f"edges: expected {weights.shape[-1] + 1} for {weights.shape[-1]} bins, got {edges.shape[-1]}")
