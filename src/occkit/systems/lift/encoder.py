"""The encoder of lift: from images to a volume of features. Other systems put their own heads behind it."""

from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from occkit.errors import ConfigError
from occkit.geometry import OCC3D_GRID, Cameras, VoxelGrid
from occkit.nn.backbones import BackboneConfig, SmallConvNetConfig, normalise_images
from occkit.nn.depth import DepthBins, DepthNetConfig
from occkit.nn.lifting import GatherLiftConfig, LiftKindConfig
from occkit.nn.necks import ConcatNeckConfig, NeckConfig
from occkit.nn.noise_level import NoiseLevelEmbedding, add_noise_level
from occkit.nn.stereo import CostVolume, StereoConfig
from occkit.nn.temporal import ConcatTemporalConfig
from occkit.samples import Batch
from occkit.taxonomy import TAXONOMIES, Taxonomy


@dataclass(frozen=True, kw_only=True)
class LiftEncoderConfig:
    """Every choice on the way from images to a volume of features."""

    taxonomy: str = "occ3d"
    """Name of the classes to predict."""
    grid: VoxelGrid = OCC3D_GRID
    """Volume that the network is meant for; at run time the batch's own grid counts."""
    lift_stride: tuple[int, int, int] = (1, 1, 1)
    """Voxels of the label in one lifted voxel along x, y, z; the scores are interpolated back."""
    backbone: BackboneConfig = field(default_factory=SmallConvNetConfig)
    """Image network."""
    neck: NeckConfig = field(default_factory=ConcatNeckConfig)
    """Joins the backbone's maps."""
    neck_from: int = 0
    """First of the backbone's maps that the neck joins; finer ones are for stereo alone."""
    depth: DepthNetConfig = field(default_factory=DepthNetConfig)
    """Depth distribution and context."""
    image_classes: bool = False
    """Let the first context channels score the class that each cell shows, and lift their softmax (ours)."""
    lift: LiftKindConfig = field(default_factory=GatherLiftConfig)
    """From pixels to voxels."""
    num_past: int = 0
    """Past frames that the network looks at."""
    temporal: ConcatTemporalConfig | None = None
    """Fusion of the present and past volumes; None looks at past frames for stereo only."""
    stereo: StereoConfig | None = None
    """Depth from matching the previous frame; None is monocular."""

    def __post_init__(self) -> None:
        name = type(self).__name__
        if self.taxonomy not in TAXONOMIES:
            raise ConfigError(f"{name}.taxonomy: {self.taxonomy!r} is none of {', '.join(TAXONOMIES)}")
        uses_past = self.temporal is not None or self.stereo is not None
        if (self.num_past > 0) != uses_past:
            raise ConfigError(
                f"{name}: past frames (num_past is {self.num_past}) and their use (temporal, stereo) go together"
            )
        if self.image_classes and self.depth.context_channels < TAXONOMIES[self.taxonomy].num_classes:
            raise ConfigError(
                f"{name}: image_classes takes {TAXONOMIES[self.taxonomy].num_classes} of the context channels, "
                f"there are {self.depth.context_channels}; raise depth.context_channels"
            )


class Views(NamedTuple):
    """What the images of one time say, at feature resolution."""

    context: Float[Tensor, "b n c h w"]
    """Features to lift; the class probabilities first where the network scores classes in the images."""
    depth_logits: Float[Tensor, "b n d h w"]
    """Scores of the depth bins."""
    class_logits: Float[Tensor, "b n k h w"] | None
    """Scores of the classes, or None."""


class LiftEncoder(nn.Module):
    """See `LiftEncoderConfig`. Takes any number of cameras, any rig and any grid."""

    def __init__(self, config: LiftEncoderConfig) -> None:
        super().__init__()
        self.encoder_config = config
        self.taxonomy: Taxonomy = TAXONOMIES[config.taxonomy]
        bins = config.depth.bins
        self.backbone = config.backbone.build()
        self.neck = config.neck.build(self.backbone.channels[config.neck_from :])
        self.stereo: CostVolume | None = None
        if config.stereo is not None:
            stage = config.stereo.stage
            shrink = self.backbone.strides[config.neck_from] // self.backbone.strides[stage]
            self.stereo = CostVolume(config.stereo, bins, in_channels=self.backbone.channels[stage], shrink=shrink)
        self.depth = config.depth.build(self.neck.channels, stereo_channels=bins.count if self.stereo else 0)
        self.lift = config.lift.build(bins, config.depth.context_channels)
        channels = self.lifted_channels = config.depth.context_channels + self.lift.extra_channels
        self.temporal = None
        if config.temporal is not None:
            self.temporal = config.temporal.build(channels, 1 + config.num_past)
            channels = self.temporal.out_channels
        self.volume_channels = channels
        self.noise_channels = self.lifted_channels
        self.noise_embedding: NoiseLevelEmbedding | None = None

    @property
    def depth_bins(self) -> DepthBins:
        """What `Views.depth_logits` are scores of."""
        return self.encoder_config.depth.bins

    def encode(self, batch: Batch) -> tuple[Float[Tensor, "b c x y z"], Views]:
        """Return the lifted (and fused) volume, and what the current images say."""
        grid = batch.grid.coarsen(self.encoder_config.lift_stride)
        maps, cameras = self._maps(batch)
        volumes: list[Tensor] = []
        current = None
        for time in range(len(maps) if self.temporal is not None else 1):
            # Only the present carries gradients: half the memory, and the weights are shared anyway.
            with torch.set_grad_enabled(torch.is_grad_enabled() and time == 0):
                views = self._views(maps, cameras, time, num_cameras=batch.images.shape[2])
                depth = views.depth_logits.softmax(dim=2)
                volume = self.lift(views.context, depth, batch.cameras[:, time], grid)
                volume = add_noise_level(self.noise_embedding, volume, batch)
                volumes.append(self.enrich(volume, batch) if time == 0 else volume)
            current = views if current is None else current
        assert current is not None
        return volumes[0] if self.temporal is None else self.temporal(volumes), current

    def enrich(self, volume: Float[Tensor, "b c x y z"], batch: Batch) -> Float[Tensor, "b c x y z"]:
        """Return the present volume with what other sensors know; here there are none."""
        del batch
        return volume

    def _maps(self, batch: Batch) -> tuple[list[list[Tensor]], list[Cameras]]:
        """Return the backbone's maps and the flattened cameras of each time, now first."""
        maps, cameras = [], []
        for time in range(1 + self.encoder_config.num_past):
            images = normalise_images(batch.images[:, time].flatten(0, 1))
            with torch.set_grad_enabled(torch.is_grad_enabled() and time == 0):
                maps.append(self.backbone(images))
            cameras.append(batch.cameras[:, time].flatten())
        return maps, cameras

    def _views(self, maps: list[list[Tensor]], cameras: list[Cameras], time: int, *, num_cameras: int) -> Views:
        """Return what the images of one time say.

        For stereo each frame is matched with the one before it, the oldest with the one after it.
        """
        features = self.neck(maps[time][self.encoder_config.neck_from :])
        cost = None
        if self.stereo is not None and self.encoder_config.stereo is not None:
            other = time + 1 if time + 1 < len(maps) else time - 1
            stage = self.encoder_config.stereo.stage
            cost = self.stereo(maps[time][stage], maps[other][stage], cameras[time], cameras[other])
        context, depth_logits = (t.unflatten(0, (-1, num_cameras)) for t in self.depth(features, cameras[time], cost))
        if not self.encoder_config.image_classes:
            return Views(context, depth_logits, None)
        class_logits, rest = context.tensor_split([self.taxonomy.num_classes], dim=2)
        return Views(torch.cat([class_logits.softmax(dim=2), rest], dim=2), depth_logits, class_logits)
