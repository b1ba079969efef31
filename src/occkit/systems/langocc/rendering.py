"""Two-stage rendering of a dense volume along any rays: where is something, then what is there."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from occkit.errors import ConfigError
from occkit.geometry import Rays, VoxelGrid, intersect_box
from occkit.ops.rendering import render_depth, render_features, render_weights_from_density, resample_intervals
from occkit.ops.sampling import sample_trilinear


@dataclass(frozen=True, kw_only=True)
class RayRenderConfig:
    """Which samples a ray has."""

    near: float = 0.05
    """Where rays begin, metres from their origin."""
    far: float = 40.0
    """Where they end, metres."""
    proposals: int = 50
    """Bins of the first pass, even in distance."""
    samples: int = 100
    """Intervals of the second pass, short where the first found something; gradients flow through these alone."""
    even: float = 0.01
    """Share of them that is spread evenly over the ray (ours): what stands between the first pass's places is found."""
    clip: bool = True
    """Put all bins into the part of a ray that lies in the volume (ours); else many of a far camera's miss it."""
    min_weight: float = 1e-3
    """Samples whose share of a ray's opacity is below this carry no features."""

    def __post_init__(self) -> None:
        if not 0 <= self.near < self.far or min(self.proposals, self.samples) < 1 or not 0 <= self.even <= 1:
            raise ConfigError(
                f"RayRenderConfig: expected 0 <= near < far, even in 0..1, at least one proposal and sample: {self}"
            )


class Seen(NamedTuple):
    """What rays see."""

    features: Float[Tensor, "r k"]
    """Sum of the features by weight; not normalised."""
    opacity: Float[Tensor, " r"]
    """Sum of the weights, 0..1."""
    depth: Float[Tensor, " r"]
    """Expected distance of what is seen, metres; 0 where nothing is."""
    inside: Bool[Tensor, " r"]
    """Whether the ray meets the volume between near and far."""
    thickness: Float[Tensor, " r"]
    """Integral of the density by the even bins: opacity is `1 - exp(-thickness)`, but this keeps its slope in fog."""


def render_rays(
    config: RayRenderConfig,
    density: Float[Tensor, "x y z"],
    features: Float[Tensor, "v k"],
    grid: VoxelGrid,
    rays: Rays,
    *,
    generator: torch.Generator | None = None,
    place: Callable[[Float[Tensor, "r s 3"]], Float[Tensor, "r s 3"]] | None = None,
) -> Seen:
    """Render features along rays.

    First pass: the density of even bins, from which the thickness has its gradient and the second pass none. Second:
    intervals of equal weight by the first, with the density of their middles; `w_i = T_i (1 - exp(-sigma_i delta_i))`,
    `F = sum_i w_i f(x_i)`.

    Args:
        config: see there.
        density: per metre, of each voxel.
        features: one row a voxel, C order of `[x, y, z]`.
        grid: where the volume lies.
        rays: origins and unit directions, frame of the grid; leading dimension `[r]`.
        generator: moves each ray's bins at random by up to half of one; None leaves them.
        place: says where in the volume samples look that lie at some points along the rays; None: right there.

    Returns:
        One row a ray. Differentiable in density and features.

    Source: Boeder et al., "LangOcc", 3DV 2025, section 3.3 (proposals, quantiles, compositing). Original: clipping to
    the volume, the even share, and that what passes all bins does not count for the last one.
    """
    near, far, inside = intersect_box(rays, grid)
    start, end = near.clamp(min=config.near), far.clamp(max=config.far)
    inside = inside & (end > start)
    if not config.clip:
        start, end = torch.full_like(start, config.near), torch.full_like(end, config.far)
    # A ray that misses gets an interval of no length: no weight, and nothing that is not finite.
    start = torch.where(inside, start, config.near)
    end = torch.where(inside, end, config.near)
    rows = density.reshape(-1, 1)
    edges = torch.linspace(0, 1, config.proposals + 1, device=start.device, dtype=start.dtype)
    edges = edges.expand(len(start), -1)
    if generator is not None:
        shift = torch.rand(len(start), 1, generator=generator, device=generator.device).to(edges) - 0.5
        moved = edges + shift / config.proposals
        edges = torch.cat([edges[:, :1], moved[:, 1:-1], edges[:, -1:]], dim=1)
    edges = start[:, None] + edges * (end - start)[:, None]
    look = rays.at if place is None else lambda t: place(rays.at(t))
    coarse = sample_trilinear(rows, grid.shape, grid.continuous_index(look((edges[:, 1:] + edges[:, :-1]) / 2)))
    lengths = edges.diff(dim=1)
    found = render_weights_from_density(coarse[..., 0].detach(), lengths)
    bounds = resample_intervals(found, edges, config.samples, even=config.even)
    t = (bounds[:, 1:] + bounds[:, :-1]) / 2
    points = grid.continuous_index(look(t))
    sigma = sample_trilinear(rows, grid.shape, points)[..., 0]
    weights = render_weights_from_density(sigma, bounds.diff(dim=1))
    opacity = weights.sum(dim=-1)
    # A share of the ray's own opacity, or a ray through thin air would carry nothing at all, and be compared with that.
    counted = torch.where(weights >= config.min_weight * opacity[:, None], weights, 0.0)
    shown = render_features(features, grid.shape, points, counted, min_weight=torch.finfo(weights.dtype).tiny)
    thickness = (coarse[..., 0] * lengths).sum(dim=-1)
    return Seen(shown, opacity, render_depth(weights, t, normalize=True), inside, thickness)
