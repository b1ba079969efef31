"""Rendering a field of scores into the images of a rig: depth and classes of every pixel, no label in sight."""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from occkit.errors import ConfigError
from occkit.geometry import (
    Cameras,
    ContractedGrid,
    VoxelGrid,
    camera_rays,
    contracted_depths,
    jitter_depths,
    linear_depths,
)
from occkit.geometry.rays import pixel_grid
from occkit.ops.rendering import (
    end_in_last_sample,
    render_depth,
    render_features,
    render_weights_from_density,
    render_weights_saturating,
)
from occkit.ops.sampling import sample_trilinear
from occkit.samples import Rendering


@dataclass(frozen=True, kw_only=True)
class RenderConfig:
    """Which rays, which samples, and how scores become weights."""

    size: tuple[int, int] = (180, 320)
    """Rows and columns of the rendered images; losses on the images interpolate depth to their size."""
    spacing: float | None = None
    """Distance of the samples, metres of z-depth; None is the shortest edge of a voxel. Beyond the inner box of a
    contracted volume they stretch."""
    near: float = 0.1
    """First sample, metres."""
    far: float = 200.0
    """Rendered depths are cut off here, metres."""
    weights: Literal["saturating", "compositing"] = "saturating"
    """`W_k = min(1, sum of occupancies)`, what the released code runs, or the paper's equation 6: transmittance."""
    occupancy: Literal["free_score", "odds"] = "free_score"
    """Log-odds of a voxel being occupied: minus its free score (released code: `1 - sigmoid`), or what the softmax over
    all classes says (ours), which is what the arg-max of the scores goes by."""
    background: bool = True
    """Let the last sample stop what passes all others (released code)."""
    jitter: float = 0.05
    """In training, shift the samples of each ray by up to this share of their spacing."""
    semantic_ratio: int = 4
    """Read the classes once for so many samples, at their mean, for the sum of their weights."""
    min_weight: float = 0.0
    """Leave such readings out whose weight is below this."""
    free_bias: float = 0.0
    """Added to the free score, so that the rays of an untrained field get somewhere (ours)."""

    def __post_init__(self) -> None:
        spacing = 1.0 if self.spacing is None else self.spacing
        if min(self.size) < 1 or spacing <= 0 or not 0 < self.near < self.far or self.semantic_ratio < 1:
            raise ConfigError(
                f"RenderConfig: size, spacing, near and semantic_ratio must be positive and near < far: {self}"
            )
        if not 0 <= self.jitter * spacing < self.near:
            raise ConfigError(f"RenderConfig: jitter times spacing must be less than near, got {self}")


def sample_depths(config: RenderConfig, space: VoxelGrid | ContractedGrid) -> Float[Tensor, " s"]:
    """Return the z-depths of the samples, metres: to the rim of a contracted volume, or half the diagonal of a grid.

    Source: Zhang et al. 2023 (OccNeRF), equation 7, one list for all rays as in the released code.
    """
    if isinstance(space, ContractedGrid):
        return contracted_depths(space, spacing=config.spacing, near=config.near)
    step = min(space.voxel_size) if config.spacing is None else config.spacing
    reach = sum((u - o) ** 2 for u, o in zip(space.upper, space.origin, strict=True)) ** 0.5 / 2
    return linear_depths(near=config.near, far=reach, count=max(2, int((reach - config.near) / step)))


def render_views(
    config: RenderConfig,
    scores: Float[Tensor, "b k x y z"],
    space: VoxelGrid | ContractedGrid,
    cameras: Cameras,
    *,
    free_id: int,
    semantics: bool,
    generator: torch.Generator | None = None,
) -> Rendering:
    """Render every frame of a batch from cameras of its own.

    Args:
        config: see there.
        scores: class scores before softmax, on `space`.
        space: where the voxels lie.
        cameras: leading dimensions `[b, n]`; of any time, poses in the frame of the volume.
        free_id: channel of empty space.
        semantics: render the classes too.
        generator: jitters the samples; None takes them as they are.

    Returns:
        Of every pixel, leading dimensions `[b, n, rows, columns]`: z-depth within near and far, the opacity before the
        background, the weights of the samples and, as features, the weighted mean of the scores. Differentiable in
        scores.

    Source: Zhang et al. 2023 (OccNeRF), section III-C; one camera at a time original.
    """
    rows, columns = config.size
    small = cameras.resize(rows, columns)
    pixels = pixel_grid(rows, columns).to(cameras.intrinsics)
    depths = sample_depths(config, space).to(cameras.intrinsics)
    depth, weights, shown = [], [], []
    for frame, field in enumerate(scores):
        # Weights are small differences of sums: too fine for half precision.
        values = field.flatten(1).T.to(torch.promote_types(field.dtype, torch.float32)).contiguous()
        opaque = _opacity(config, values, free_id)
        for camera in range(cameras.batch_shape[1]):
            rays = camera_rays(small[frame, camera], pixels)
            z = depths.expand(len(pixels), -1)
            if generator is not None:
                step = float(depths[1] - depths[0])
                z = jitter_depths(depths, len(pixels), amount=config.jitter * step, generator=generator)
            points = space.continuous_index(rays.at(z))
            w = _weights(config, opaque, space, points, z)
            weights.append(w)
            depth.append(render_depth(w, z).clamp(config.near, config.far))
            if semantics:
                shown.append(_classes(config, values, space, points, w))
    lead = (*cameras.batch_shape, rows, columns)
    all_weights = torch.stack(weights).reshape(*lead, len(depths))
    before = all_weights[..., :-1] if config.background else all_weights
    return Rendering(
        depth=torch.stack(depth).reshape(lead),
        opacity=before.sum(dim=-1),
        weights=all_weights,
        features=torch.stack(shown).reshape(*lead, -1) if semantics else None,
    )


def _opacity(config: RenderConfig, values: Float[Tensor, "v k"], free_id: int) -> Float[Tensor, "v 1"]:
    """Return what the weights are made of: an occupancy for each voxel, or a density per voxel edge."""
    odds = -values[:, free_id]
    if config.occupancy == "odds":
        others = torch.cat([values[:, :free_id], values[:, free_id + 1 :]], dim=1)
        odds = odds + others.logsumexp(dim=1)
    return (odds.sigmoid() if config.weights == "saturating" else F.softplus(odds))[:, None].contiguous()


def _weights(
    config: RenderConfig,
    opaque: Float[Tensor, "v 1"],
    space: VoxelGrid | ContractedGrid,
    points: Float[Tensor, "r s 3"],
    z: Float[Tensor, "r s"],
) -> Float[Tensor, "r s"]:
    # A contracted volume has no outside; a plain one is empty there.
    padding = "border" if isinstance(space, ContractedGrid) else "zeros"
    along = sample_trilinear(opaque, space.shape, points, padding=padding)[..., 0]
    if config.weights == "saturating":
        weights = render_weights_saturating(along)
    else:
        edge = min((space.inner if isinstance(space, ContractedGrid) else space).voxel_size)
        deltas = torch.diff(z, dim=1, append=(2 * z[:, -1:] - z[:, -2:-1])) / edge
        weights = render_weights_from_density(along, deltas)
    return end_in_last_sample(weights) if config.background else weights


def _classes(
    config: RenderConfig,
    values: Float[Tensor, "v k"],
    space: VoxelGrid | ContractedGrid,
    points: Float[Tensor, "r s 3"],
    weights: Float[Tensor, "r s"],
) -> Float[Tensor, "r k"]:
    missing = -weights.shape[1] % config.semantic_ratio
    if missing:
        points = torch.cat([points, points[:, -1:].expand(-1, missing, -1)], dim=1)
        weights = F.pad(weights, (0, missing))
    places = points.unflatten(1, (-1, config.semantic_ratio)).mean(dim=2)
    sums = weights.unflatten(1, (-1, config.semantic_ratio)).sum(dim=2)
    padding = "border" if isinstance(space, ContractedGrid) else "zeros"
    return render_features(values, space.shape, places, sums, min_weight=config.min_weight, padding=padding)
