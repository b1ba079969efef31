"""Rendering-assisted distillation of a whole batch: rays through its cameras, both models rendered along them.

The criteria are in `losses/distillation.py`; here is what leads to them: which pixels, which samples, what is rendered.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from occkit.errors import ConfigError
from occkit.geometry import VoxelGrid, camera_rays
from occkit.losses.distillation import (
    distill_affinity,
    distill_depth,
    distill_semantics,
    distill_termination,
    fields_from_logits,
    ray_subset,
)
from occkit.ops.rendering import render_depth, render_features, render_weights_from_density
from occkit.ops.sampling import sample_trilinear
from occkit.samples import Batch, Teaching

SEGMENTS_PER_VIEW = 2**16
"""Segment ids of one image lie below this."""
EPSILON = 1e-6
"""Keeps the logarithm of a probability finite."""


@dataclass(frozen=True, kw_only=True)
class RayDistillConfig:
    """Weights of the rendered losses (0 = not computed), and the rays along which both models are rendered."""

    termination: float = 0.0
    """Rendered depth consistency: divergence of where rays end (lambda_1)."""
    semantics: float = 0.0
    """Rendered semantic consistency, first part: divergence of the classes that rays show."""
    affinity: float = 0.0
    """Rendered semantic consistency, second part: segment-guided affinity (lambda_2)."""
    depth: float = 0.0
    """Smooth L1 distance of rendered depths: the alignment that the paper advises against."""
    num_rays: int = 1500
    """Rays of a frame, drawn anew in each step."""
    pixels: Literal["lidar", "all"] = "all"
    """Rays through pixels onto which a LiDAR point falls (the paper), or through any."""
    jitter: float = 0.0
    """Move each camera by a random offset of this standard deviation, metres: rays from poses that nobody had."""
    step: float = 0.8
    """Distance of the samples along a ray, metres of z-depth; the paper has half a voxel."""
    far: float = 45.0
    """Where rays end, metres of z-depth."""
    density: Literal["neg_free_logit", "logodds"] = "logodds"
    """How scores become densities; the public code has `neg_free_logit`."""
    shows: Literal["scores", "probabilities"] = "scores"
    """What is composited along a ray: class scores (the paper), where one voxel's large scores can outweigh all others;
    or probabilities of the class where something is, with "nothing" as one more for rays that end nowhere (ours)."""
    min_weight: float = 1e-3
    """Samples whose weight is below this carry no semantics."""
    rays_per_segment: int = 32
    """Rays drawn from a segment at most."""
    center: bool = False
    """Take the segment's mean off the rays' semantics before their affinities."""
    double_softmax: bool = False
    """The termination loss of the public code, a millionth of the divergence; for reproduction."""

    def __post_init__(self) -> None:
        if self.num_rays < 1 or not 0 < self.step <= self.far or self.jitter < 0:
            raise ConfigError(f"RayDistillConfig: num_rays, step, far must be positive and step <= far: {self}")

    @property
    def is_used(self) -> bool:
        """Whether any of the losses has a weight."""
        return any((self.termination, self.semantics, self.affinity, self.depth))


@dataclass(frozen=True, kw_only=True)
class FrameRays:
    """The samples of the rays of one frame, and the pixels that the rays go through."""

    points: Float[Tensor, "r s 3"]
    """Voxel units, centre of voxel i at i + 0.5."""
    t: Float[Tensor, " s"]
    """z-depth of the samples, metres."""
    pixels: Int64[Tensor, " r"]
    """Flat index over camera, row and column."""


def draw_rays(config: RayDistillConfig, batch: Batch, frame: int, *, generator: torch.Generator) -> FrameRays:
    """Draw rays of the current images of a frame.

    Raises:
        ConfigError: if `pixels` is "lidar" and the batch has no depth.
    """
    cameras = batch.cameras[frame, 0]
    (count,), height, width = cameras.batch_shape, cameras.height, cameras.width
    device = cameras.intrinsics.device
    if config.pixels == "lidar":
        if batch.depth is None:
            raise ConfigError('RayDistillConfig: pixels="lidar" needs LiDAR depth; set DataConfig.load_depth')
        depth = batch.depth[frame].reshape(-1)
        candidates = ((depth > 0) & (depth < config.far)).nonzero().squeeze(1)
    else:
        candidates = torch.arange(count * height * width, device=device)
    chosen = candidates[ray_subset(len(candidates), config.num_rays, generator=generator).to(device)]
    view, row, column = chosen // (height * width), chosen // width % height, chosen % width
    centres = torch.stack([column, row], dim=-1).to(cameras.intrinsics) + 0.5
    rays = camera_rays(cameras[view], centres[:, None])
    origins, directions = rays.origins[:, 0], rays.directions[:, 0]
    if config.jitter:
        moved = torch.randn(count, 3, generator=generator).to(origins) * config.jitter
        origins = origins + moved[view]
    t = (torch.arange(round(config.far / config.step), device=device) + 0.5).to(origins) * config.step
    points = origins[:, None] + t[:, None] * directions[:, None]
    return FrameRays(points=batch.grid.continuous_index(points), t=t, pixels=chosen)


def distill_along_rays(
    config: RayDistillConfig,
    logits: Float[Tensor, "b k x y z"],
    teaching: Teaching,
    batch: Batch,
    *,
    generator: torch.Generator,
) -> dict[str, Tensor]:
    """Return the weighted rendered losses of a batch by name, the mean over its frames.

    Args:
        config: which losses and which rays.
        logits: the student's class scores.
        teaching: the teacher's.
        batch: cameras of the current images; LiDAR depth and segments where the config needs them.
        generator: draws the rays.

    Returns:
        Scalars: termination, semantics, affinity, ray_depth. A frame without a ray adds 0.

    Raises:
        ConfigError: if the batch lacks what the config needs.

    Source: Zhang et al., "RadOcc", AAAI 2024, section 3; docs/radocc.md says what is ours.
    """
    if config.affinity and batch.segments is None:
        raise ConfigError("RayDistillConfig: affinity needs segments of the images; set DataConfig.segments")
    sums: dict[str, Tensor] = {}
    for frame in range(batch.size):
        rays = draw_rays(config, batch, frame, generator=generator)
        student = render_logits(config, logits[frame], rays, batch.grid, batch.taxonomy.free_id)
        with torch.no_grad():
            teacher = render_logits(config, teaching.logits[frame], rays, batch.grid, batch.taxonomy.free_id)
        for name, value in _compare(config, student, teacher, _segments_of(batch, frame, rays)).items():
            sums[name] = sums.get(name, torch.zeros((), device=value.device)) + value / batch.size
    return sums


def render_logits(
    config: RayDistillConfig, logits: Float[Tensor, "k x y z"], rays: FrameRays, grid: VoxelGrid, free_id: int
) -> tuple[Float[Tensor, "r s"], Float[Tensor, " r"], Float[Tensor, "r c"]]:
    """Render the class scores of one frame.

    Returns:
        weights: where each ray ends.
        depth: expected z-depth, metres.
        semantics: composited scores of the occupied classes, or their probabilities and that of hitting nothing; empty
            rows where no loss needs them.
    """
    # Weights are differences of exponentials: too fine for half precision.
    rows = logits.reshape(logits.shape[0], -1).T.to(torch.promote_types(logits.dtype, torch.float32))
    density, semantics = fields_from_logits(rows, free_id=free_id, density=config.density)
    sigma = sample_trilinear(density[:, None].contiguous(), grid.shape, rays.points)[..., 0]
    weights = render_weights_from_density(sigma, torch.full_like(rays.t, config.step))
    shown = weights.new_zeros(len(weights), 0)
    if config.semantics or config.affinity:
        # The weights of the semantics teach geometry too, as in the paper.
        carried, each = semantics, weights
        if config.shows == "probabilities":
            # Of being occupied by a class, so that a sample between a wall and the air shows the wall.
            carried = rows.softmax(dim=-1)[:, torch.arange(rows.shape[1], device=rows.device) != free_id]
            occupied = sample_trilinear(carried.sum(dim=-1, keepdim=True), grid.shape, rays.points)[..., 0]
            each = weights / occupied.clamp(min=EPSILON)
        shown = render_features(carried.contiguous(), grid.shape, rays.points, each, min_weight=config.min_weight)
        if config.shows == "probabilities":
            shown = torch.cat([shown, (1 - shown.sum(dim=-1, keepdim=True)).clamp(min=0)], dim=-1)
    return weights, render_depth(weights, rays.t), shown


def _segments_of(batch: Batch, frame: int, rays: FrameRays) -> Int64[Tensor, " r"] | None:
    if batch.segments is None:
        return None
    here = batch.segments[frame]
    ids = here.reshape(-1)[rays.pixels]
    view = rays.pixels // (here.shape[1] * here.shape[2])
    return torch.where(ids >= 0, ids + view * SEGMENTS_PER_VIEW, -1)


def _compare(
    config: RayDistillConfig,
    student: tuple[Tensor, Tensor, Tensor],
    teacher: tuple[Tensor, Tensor, Tensor],
    segments: Int64[Tensor, " r"] | None,
) -> dict[str, Tensor]:
    losses: dict[str, Tensor] = {}
    if config.termination:
        value = distill_termination(student[0], teacher[0], double_softmax=config.double_softmax)
        losses["termination"] = config.termination * value
    if config.depth:
        losses["ray_depth"] = config.depth * distill_depth(student[1], teacher[1])
    if config.semantics:
        shown = [side[2] if config.shows == "scores" else (side[2] + EPSILON).log() for side in (student, teacher)]
        losses["semantics"] = config.semantics * distill_semantics(shown[0], shown[1])
    if config.affinity and segments is not None:
        value = distill_affinity(
            student[2], teacher[2], segments, max_rays=config.rays_per_segment, center=config.center
        )
        losses["affinity"] = config.affinity * value
    return losses
