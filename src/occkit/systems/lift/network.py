"""The network of lift, its choices and its losses."""

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from occkit.errors import ConfigError
from occkit.geometry import OCC3D_GRID, Cameras, VoxelGrid
from occkit.losses import (
    VoxelLossConfig,
    classes_of_cells,
    cross_entropy,
    depth_binary_cross_entropy,
    depth_cross_entropy,
    nearest_depth_per_cell,
    training_mask,
    voxel_losses,
)
from occkit.nn.backbones import BackboneConfig, SmallConvNetConfig, normalise_images
from occkit.nn.depth import DepthNetConfig
from occkit.nn.heads import HeadConfig, HeightInChannelsHeadConfig, VolumeHeadConfig
from occkit.nn.lifting import GatherLiftConfig, LiftKindConfig
from occkit.nn.necks import ConcatNeckConfig, NeckConfig
from occkit.nn.stereo import CostVolume, StereoConfig
from occkit.nn.temporal import ConcatTemporalConfig
from occkit.samples import Batch, Occupancy, Prediction
from occkit.taxonomy import TAXONOMIES, Taxonomy


@dataclass(frozen=True, kw_only=True)
class LiftLossConfig:
    """Weights of the losses; a loss of weight 0 is not computed."""

    voxels: VoxelLossConfig = field(default_factory=VoxelLossConfig)
    """Losses of the class scores against the label."""
    depth: float = 0.05
    """Depth distribution against LiDAR depth."""
    depth_kind: Literal["binary", "categorical"] = "binary"
    """Binary cross-entropy of each bin (BEVDepth), or cross-entropy over the bins (ours)."""
    image_classes: float = 0.0
    """Cross-entropy of the class that an image cell shows: the label at its LiDAR point."""


@dataclass(frozen=True, kw_only=True)
class LiftConfig:
    """Every choice of the network and its losses."""

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
    image_steps: int = 0
    """First training passes that teach the image network alone, depth and classes; each is cheap (ours)."""
    lift: LiftKindConfig = field(default_factory=GatherLiftConfig)
    """From pixels to voxels."""
    num_past: int = 0
    """Past frames that the network looks at."""
    temporal: ConcatTemporalConfig | None = None
    """Fusion of the present and past volumes; None looks at past frames for stereo only."""
    stereo: StereoConfig | None = None
    """Depth from matching the previous frame; None is monocular."""
    head: HeadConfig = field(default_factory=VolumeHeadConfig)
    """From the lifted volume to class scores."""
    losses: LiftLossConfig = field(default_factory=LiftLossConfig)
    """Loss weights."""

    def __post_init__(self) -> None:
        if self.taxonomy not in TAXONOMIES:
            raise ConfigError(f"LiftConfig.taxonomy: {self.taxonomy!r} is none of {', '.join(TAXONOMIES)}")
        uses_past = self.temporal is not None or self.stereo is not None
        if (self.num_past > 0) != uses_past:
            raise ConfigError(
                f"LiftConfig: past frames (num_past is {self.num_past}) and their use (temporal, stereo) go together"
            )
        if self.losses.image_classes and not self.image_classes:
            raise ConfigError("LiftConfig: losses.image_classes has nothing to learn; set image_classes to True")
        if self.image_steps and not (self.losses.depth or self.losses.image_classes):
            raise ConfigError("LiftConfig: image_steps needs losses.depth or losses.image_classes to learn from")
        if self.image_classes and self.depth.context_channels < TAXONOMIES[self.taxonomy].num_classes:
            raise ConfigError(
                f"LiftConfig: image_classes takes {TAXONOMIES[self.taxonomy].num_classes} of the context channels, "
                f"there are {self.depth.context_channels}; raise depth.context_channels"
            )
        weights = self.losses.voxels.class_weights
        if weights is not None and len(weights) != TAXONOMIES[self.taxonomy].num_classes:
            raise ConfigError(
                f"LiftConfig.losses.voxels.class_weights: {len(weights)} weights for taxonomy {self.taxonomy}"
            )

    def build(self) -> "Lift":
        """Return the network, freshly initialised."""
        return Lift(self)


class Views(NamedTuple):
    """What the images of one time say, at feature resolution."""

    context: Float[Tensor, "b n c h w"]
    """Features to lift; the class probabilities first where the network scores classes in the images."""
    depth_logits: Float[Tensor, "b n d h w"]
    """Scores of the depth bins."""
    class_logits: Float[Tensor, "b n k h w"] | None
    """Scores of the classes, or None."""


class Lift(nn.Module):
    """See `LiftConfig`. Takes any number of cameras, any rig and any grid (the height of a 2D head is fixed)."""

    def __init__(self, config: LiftConfig) -> None:
        super().__init__()
        self.config = config
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
        if isinstance(config.head, HeightInChannelsHeadConfig):
            channels *= config.grid.coarsen(config.lift_stride).shape[2]
        self.head = config.head.build(channels, self.taxonomy.num_classes)
        self.trained_steps: Tensor
        self.register_buffer("trained_steps", torch.zeros((), dtype=torch.int64))

    @property
    def conditional_parameters(self) -> tuple[str, ...]:
        """Prefixes of what learns nothing in the first `image_steps`, or of a depth that nobody asks for."""
        unused = () if self.lift.uses_depth or self.config.losses.depth else ("depth.",)
        if not self.config.image_steps:
            return unused
        # Each of the two image losses reaches its own half of the depth network.
        half = not (self.config.losses.depth and self.config.losses.image_classes)
        return ("head.", "temporal.", "lift.", *(("depth.",) if half else unused))

    @property
    def images_only(self) -> bool:
        """Whether the next training pass teaches the image network alone."""
        return self.training and int(self.trained_steps) < self.config.image_steps

    def forward(self, batch: Batch) -> Prediction:
        """Predict; labels are not looked at. In the first `image_steps` of training the class scores are all zero.

        Raises:
            ConfigError: if the batch has too few past frames or other classes than the network.
        """
        self._check(batch)
        if self.images_only:
            volume, views = None, self._views(*self._maps(batch), 0, num_cameras=batch.images.shape[2])
            shape = (batch.size, self.taxonomy.num_classes, *batch.grid.shape)
            logits = views.context.new_zeros(()).expand(shape)
        else:
            volume, views = self.encode(batch)
            logits = self.head(volume, batch.grid.shape)
        return Prediction(
            logits=logits,
            grid=batch.grid,
            taxonomy=batch.taxonomy,
            depth_logits=views.depth_logits,
            image_logits=views.class_logits,
            features=volume,
        )

    def encode(self, batch: Batch) -> tuple[Float[Tensor, "b c x y z"], Views]:
        """Return the lifted (and fused) volume, and what the current images say."""
        grid = batch.grid.coarsen(self.config.lift_stride)
        maps, cameras = self._maps(batch)
        volumes: list[Tensor] = []
        current = None
        for time in range(len(maps) if self.temporal is not None else 1):
            # Only the present carries gradients: half the memory, and the weights are shared anyway.
            with torch.set_grad_enabled(torch.is_grad_enabled() and time == 0):
                views = self._views(maps, cameras, time, num_cameras=batch.images.shape[2])
                depth = views.depth_logits.softmax(dim=2)
                volume = self.lift(views.context, depth, batch.cameras[:, time], grid)
                volumes.append(self.enrich(volume, batch) if time == 0 else volume)
            current = views if current is None else current
        assert current is not None
        return volumes[0] if self.temporal is None else self.temporal(volumes), current

    def enrich(self, volume: Float[Tensor, "b c x y z"], batch: Batch) -> Float[Tensor, "b c x y z"]:
        """Return the present volume with what other sensors know; here there are none."""
        del batch
        return volume

    def loss(self, prediction: Prediction, batch: Batch) -> dict[str, Tensor]:
        """Return the weighted losses by name; in the first `image_steps` of training those of the images alone.

        Raises:
            ConfigError: if the batch lacks the labels, the camera mask or the LiDAR depth that the losses need.
        """
        weights, label = self.config.losses, batch.occupancy
        if label is None:
            raise ConfigError(f"Lift: frame {batch.tokens[0]} (or one beside it) has no label to learn from")
        training_mask(weights.voxels, label)  # complains at the first step, not after the `image_steps`
        losses: dict[str, Tensor] = {}
        if not self.images_only:
            losses = voxel_losses(weights.voxels, prediction.logits, label, self.taxonomy)
        if weights.depth:
            losses["depth"] = weights.depth * self._depth_loss(prediction, batch)
        if weights.image_classes:
            losses["image_classes"] = weights.image_classes * self._image_loss(prediction, batch, label)
        if self.training:
            self.trained_steps += 1
        return losses

    def _check(self, batch: Batch) -> None:
        if batch.taxonomy.name != self.taxonomy.name:
            raise ConfigError(f"Lift: made for the classes of {self.taxonomy.name}, the data has {batch.taxonomy.name}")
        if batch.images.shape[1] < 1 + self.config.num_past:
            raise ConfigError(
                f"Lift: needs {self.config.num_past} past frames, the batch has {batch.images.shape[1] - 1}; "
                f"set DataConfig.num_past, or use a recipe without past frames"
            )

    def _maps(self, batch: Batch) -> tuple[list[list[Tensor]], list[Cameras]]:
        """Return the backbone's maps and the flattened cameras of each time, now first."""
        maps, cameras = [], []
        for time in range(1 + self.config.num_past):
            images = normalise_images(batch.images[:, time].flatten(0, 1))
            with torch.set_grad_enabled(torch.is_grad_enabled() and time == 0):
                maps.append(self.backbone(images))
            cameras.append(batch.cameras[:, time].flatten())
        return maps, cameras

    def _views(self, maps: list[list[Tensor]], cameras: list[Cameras], time: int, *, num_cameras: int) -> Views:
        """Return what the images of one time say.

        For stereo each frame is matched with the one before it, the oldest with the one after it.
        """
        features = self.neck(maps[time][self.config.neck_from :])
        cost = None
        if self.stereo is not None and self.config.stereo is not None:
            other = time + 1 if time + 1 < len(maps) else time - 1
            stage = self.config.stereo.stage
            cost = self.stereo(maps[time][stage], maps[other][stage], cameras[time], cameras[other])
        context, depth_logits = (t.unflatten(0, (-1, num_cameras)) for t in self.depth(features, cameras[time], cost))
        if not self.config.image_classes:
            return Views(context, depth_logits, None)
        class_logits, rest = context.tensor_split([self.taxonomy.num_classes], dim=2)
        return Views(torch.cat([class_logits.softmax(dim=2), rest], dim=2), depth_logits, class_logits)

    def _depth_loss(self, prediction: Prediction, batch: Batch) -> Tensor:
        if batch.depth is None or prediction.depth_logits is None:
            raise ConfigError("Lift: the depth loss needs LiDAR depth; set DataConfig.load_depth, or losses.depth to 0")
        height, width = (int(s) for s in prediction.depth_logits.shape[-2:])
        nearest = nearest_depth_per_cell(batch.depth, (height, width))
        kind = depth_cross_entropy if self.config.losses.depth_kind == "categorical" else depth_binary_cross_entropy
        return kind(prediction.depth_logits, self.config.depth.bins.index_of(nearest))

    def _image_loss(self, prediction: Prediction, batch: Batch, label: Occupancy) -> Tensor:
        if batch.depth is None or prediction.image_logits is None:
            raise ConfigError(
                "Lift: the image classes need LiDAR depth; set DataConfig.load_depth, or losses.image_classes to 0"
            )
        height, width = (int(s) for s in prediction.image_logits.shape[-2:])
        shown = classes_of_cells(batch.depth, batch.cameras[:, 0], label, (height, width))
        scores, weights = prediction.image_logits.transpose(1, 2), self.config.losses.voxels.class_weights
        tensor = None if weights is None else scores.new_tensor(weights)
        return cross_entropy(scores, shown, ignore_id=self.taxonomy.ignore_id, weights=tensor)
