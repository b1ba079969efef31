"""The field that LangOcc and its rivals learn: images to a density for every voxel, and a vector that voxels carry.

What the vector is (language, a colour) and what teaches both is the business of `network.py` and `colours.py`; trunk,
density, rays and the words that tell the sky from everything else are the same for all, so that arms can be compared.
"""

from dataclasses import dataclass, field
from functools import partial
from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from occkit.errors import ConfigError
from occkit.geometry import Rays, VoxelGrid, camera_rays, intersect_box
from occkit.geometry.rays import pixel_grid
from occkit.nn.heads import HeadConfig, HeightInChannelsHeadConfig, VolumeHeadConfig
from occkit.nn.subspace import reduce_features
from occkit.samples import Batch, FeatureRays, Prediction
from occkit.systems.langocc.motion import follow, meets_what_has_gone
from occkit.systems.langocc.rays import RayKinds, RayRulesConfig, kinds_of
from occkit.systems.langocc.rendering import RayRenderConfig, Seen, render_rays
from occkit.systems.langocc.text import TextConfig
from occkit.systems.lift import LiftEncoder, LiftEncoderConfig

DEPTH_STRIDE = 4
"""Pixels between the rays of a depth image."""


@dataclass(frozen=True, kw_only=True)
class FieldConfig:
    """Every choice that does not depend on what the field learns from."""

    encoder: LiftEncoderConfig = field(default_factory=LiftEncoderConfig)
    """From images to a lifted volume."""
    head: HeadConfig = field(default_factory=VolumeHeadConfig)
    """From that volume to features of each voxel, of which both small networks read."""
    channels: int = 256
    """Width of these features."""
    hidden: int = 256
    """Width of the small networks' hidden layers."""
    layers: int = 3
    """Hidden layers of each."""
    text: TextConfig = field(default_factory=TextConfig)
    """Words and their vectors."""
    sigma_max: float = 1.0
    """Largest density, per metre. At the paper's 1 a voxel of 0.4 m stops a third of a ray at most."""
    density_start: float = 0.0
    """Score of the density before training: it is `sigma_max sigmoid(density_start)`. At the paper's 0 rays start in a
    fog that stops them two metres from the camera; below 0 they see farther."""
    threshold: float = 0.1
    """Voxels of less density are free."""
    render: RayRenderConfig = field(default_factory=RayRenderConfig)
    """Samples of a ray."""
    recompute: bool = False
    """Compute the small networks' hidden layers again in the backward pass: less memory, more time, same numbers."""

    def __post_init__(self) -> None:
        if self.layers < 0 or min(self.channels, self.hidden) < 1 or not self.sigma_max > 0 or self.threshold < 0:
            raise ConfigError(
                f"{type(self).__name__}: sizes and sigma_max must be positive, threshold not negative: {self}"
            )

    @property
    def grid(self) -> VoxelGrid:
        """Volume that the network is meant for."""
        return self.encoder.grid

    @property
    def taxonomy(self) -> str:
        """Name of the classes whose words are encoded with the network."""
        return self.text.prompts.taxonomy


class Field(nn.Module):
    """See `FieldConfig`. The voxel features are those after a ReLU, as published."""

    def __init__(self, config: FieldConfig) -> None:
        super().__init__()
        self.field_config = config
        self.encoder = LiftEncoder(config.encoder)
        width = self.encoder.volume_channels
        if isinstance(config.head, HeightInChannelsHeadConfig):
            width *= config.grid.coarsen(config.encoder.lift_stride).shape[2]
        self.head = config.head.build(width, config.channels)
        self.density = self.voxel_network(1, start=config.density_start)
        self.threshold = config.threshold
        self.text: Tensor
        self.basis: Tensor
        self.has_text: Tensor
        prompts, text = len(config.text.prompts.prompts), config.text
        self.register_buffer("text", torch.zeros(prompts, text.width))
        self.register_buffer("basis", torch.zeros(text.width, text.channels if text.subspace is not None else 0))
        self.register_buffer("has_text", torch.zeros((), dtype=torch.bool))

    @property
    def thresholds(self) -> tuple[float, ...]:
        """Densities worth trying, see `HasThreshold`."""
        return tuple(share * self.field_config.sigma_max for share in (0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9))

    def voxel_network(self, out: int, *, start: float | None = None) -> nn.Sequential:
        """Return a small network that reads the features of a voxel and writes `out` numbers, `start` at first."""
        config = self.field_config
        modules: list[nn.Module] = []
        channels = config.channels
        for _ in range(config.layers):
            modules += [nn.Linear(channels, config.hidden), nn.ReLU(inplace=True)]
            channels = config.hidden
        last = nn.Linear(channels, out)
        if start is not None:
            nn.init.constant_(last.bias, start)
        return nn.Sequential(*modules, last)

    def of_voxels(self, network: nn.Module, rows: Float[Tensor, "b x y z c"]) -> Float[Tensor, "b x y z k"]:
        """Return what a small network says of every voxel."""
        if not (self.field_config.recompute and self.training):
            return network(rows)
        return cast(Tensor, checkpoint(network, rows, use_reentrant=False, preserve_rng_state=False))

    def voxel_rows(self, batch: Batch) -> tuple[Float[Tensor, "b x y z c"], Float[Tensor, "b n c h w"]]:
        """Return the features of every voxel, and those of the present images that were lifted."""
        volume, views = self.encoder.encode(batch)
        return F.relu(self.head(volume, batch.grid.shape).permute(0, 2, 3, 4, 1)), views.context

    def densities(self, rows: Float[Tensor, "b x y z c"]) -> Float[Tensor, "b x y z"]:
        """Return the density of every voxel, per metre: `sigma_max sigmoid(.)`."""
        return self.field_config.sigma_max * torch.sigmoid(self.of_voxels(self.density, rows))[..., 0]

    def reduce(self, vectors: Float[Tensor, "n c"]) -> Float[Tensor, "n k"]:
        """Return vectors of the text encoder's space in that of the predicted features."""
        reduced = self.field_config.text.subspace is not None
        return reduce_features(vectors, self.basis.to(vectors)) if reduced else vectors

    def feature_rays_of(self, batch: Batch) -> FeatureRays:
        """Return the rays of a batch.

        Raises:
            ConfigError: if it has none.
        """
        if batch.feature_rays is None:
            raise ConfigError(
                f"LangOcc: frame {batch.tokens[0]} (or one beside it) has no features to compare with; write them with "
                "occkit features, and set DataConfig.features and feature_rays"
            )
        return batch.feature_rays

    def targets_of(self, rays: FeatureRays) -> Float[Tensor, "b r k"]:
        """Return what was seen along rays, in the space of the predicted features.

        Raises:
            ConfigError: if it is of another width or subspace.
        """
        self.check_width(rays)
        if rays.features.shape[-1] == self.field_config.text.width:
            return self.reduce(rays.features.flatten(0, 1)).unflatten(0, rays.features.shape[:2])
        return rays.features

    def check_width(self, rays: FeatureRays) -> None:
        """Complain about features of another width or subspace; see `targets_of`."""
        text, width = self.field_config.text, rays.features.shape[-1]
        if width == text.width:
            return
        if width != text.channels or rays.basis is None:
            raise ConfigError(
                f"LangOcc: the features have {width} channels; expected {text.width}, or {text.channels} in the "
                "subspace of the same prompts (occkit features --subspace)"
            )
        if not torch.allclose(rays.basis[0].to(self.basis), self.basis, atol=1e-3):
            raise ConfigError("LangOcc: the features are reduced to the subspace of other prompts; write them again")

    def kinds_of(self, rules: RayRulesConfig, stored: Float[Tensor, "r k"]) -> RayKinds:
        """Return which rays show the sky, and which a thing that may move.

        Args:
            rules: see there.
            stored: features as they are stored: at full width, where they are, for few channels confuse words.
        """
        config = self.field_config.text
        text = self.text.to(stored)
        return kinds_of(rules, stored, text if stored.shape[1] == config.width else self.reduce(text), config.prompts)

    def render(self, prediction: Prediction, rays: FeatureRays, frame: int, rules: RayRulesConfig) -> Seen:
        """Render what the voxels of one frame carry along its rays; in training the samples are moved by chance.

        With `movers="flow"` samples follow what has moved; rays that saw what has gone are taken for outside.

        Raises:
            ConfigError: if `rules` follow objects and the rays do not say which have moved.
        """
        assert prediction.features is not None
        assert prediction.density is not None
        generator = None
        if self.training:
            # Torch's random state is that of the step (training/loop.py), so that a resumed run draws the same.
            generator = torch.Generator().manual_seed(int(torch.randint(2**62, ())))
        lines, steps = Rays(origins=rays.origins[frame], directions=rays.directions[frame]), rays.steps[frame]
        motion, place = None, None
        if rules.movers == "flow":
            if rays.motion is None:
                raise ConfigError(
                    'RayRulesConfig.movers: "flow" needs to know what has moved; set DataConfig.feature_motion, which '
                    "nuScenes has"
                )
            motion = rays.motion.map(lambda t: t[frame])
            place = partial(follow, motion, steps, margin=rules.margin)
        seen = render_rays(
            self.field_config.render,
            prediction.density[frame].float(),
            prediction.features[frame].flatten(1).T.float().contiguous(),
            prediction.grid,
            lines,
            generator=generator,
            place=place,
        )
        if motion is None:
            return seen
        return seen._replace(inside=seen.inside & ~meets_what_has_gone(motion, steps, lines, margin=rules.margin))

    def render_depth(self, prediction: Prediction, batch: Batch) -> Float[Tensor, "b n h w"]:
        """Return the z-depth of the current images, metres: how far their rays get on average within the volume.

        One ray for each block of `DEPTH_STRIDE` pixels, through its middle.
        """
        assert prediction.density is not None
        cameras, (height, width) = batch.cameras[:, 0], batch.images.shape[-2:]
        pixels = pixel_grid(height, width, stride=DEPTH_STRIDE).to(prediction.density)
        rays = camera_rays(cameras, pixels.expand(*cameras.batch_shape, -1, -1))
        length = rays.directions.norm(dim=-1)
        grid, config = prediction.grid, self.field_config.render
        depth = torch.empty_like(length)
        for frame, density in enumerate(prediction.density.float()):
            ray = Rays(
                origins=rays.origins[frame].flatten(0, 1),
                directions=(rays.directions[frame] / length[frame][..., None]).flatten(0, 1),
            )
            seen = render_rays(config, density, density.new_zeros(density.numel(), 1), grid, ray)
            leaves = intersect_box(ray, grid)[1].clamp(max=config.far)
            far = seen.opacity * seen.depth + (1 - seen.opacity) * leaves
            depth[frame] = far.view_as(depth[frame]) / length[frame]
        cells = (height // DEPTH_STRIDE, width // DEPTH_STRIDE)
        return F.interpolate(depth.unflatten(-1, cells), (height, width), mode="nearest")

    def prepare_text(self) -> None:
        """Encode the prompts, once; loaded weights bring them along."""
        if bool(self.has_text):
            return
        config = self.field_config.text
        text = config.encode(config.prompts.texts)
        self.text.copy_(text)
        if config.subspace is not None:
            self.basis.copy_(config.subspace.build(text))
        self.has_text.fill_(True)


def mean_over_frames(frames: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Return the mean of each loss over the frames of a batch."""
    return {name: torch.stack([losses[name] for losses in frames]).mean() for name in frames[0]}
