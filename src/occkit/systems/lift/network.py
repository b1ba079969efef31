"""The network of lift, its choices and its losses."""

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from occkit.errors import ConfigError
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
from occkit.nn.heads import HeadConfig, HeightInChannelsHeadConfig, VolumeHeadConfig
from occkit.samples import Batch, Occupancy, Prediction
from occkit.systems.lift.encoder import LiftEncoder, LiftEncoderConfig
from occkit.taxonomy import TAXONOMIES


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
class LiftConfig(LiftEncoderConfig):
    """Every choice of the network and its losses."""

    image_steps: int = 0
    """First training passes that teach the image network alone, depth and classes; each is cheap (ours)."""
    head: HeadConfig = field(default_factory=VolumeHeadConfig)
    """From the lifted volume to class scores."""
    losses: LiftLossConfig = field(default_factory=LiftLossConfig)
    """Loss weights."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.losses.image_classes and not self.image_classes:
            raise ConfigError("LiftConfig: losses.image_classes has nothing to learn; set image_classes to True")
        if self.image_steps and not (self.losses.depth or self.losses.image_classes):
            raise ConfigError("LiftConfig: image_steps needs losses.depth or losses.image_classes to learn from")
        weights = self.losses.voxels.class_weights
        if weights is not None and len(weights) != TAXONOMIES[self.taxonomy].num_classes:
            raise ConfigError(
                f"LiftConfig.losses.voxels.class_weights: {len(weights)} weights for taxonomy {self.taxonomy}"
            )

    def build(self) -> "Lift":
        """Return the network, freshly initialised."""
        return Lift(self)


class Lift(LiftEncoder):
    """See `LiftConfig`. Takes any number of cameras, any rig and any grid (the height of a 2D head is fixed)."""

    def __init__(self, config: LiftConfig) -> None:
        super().__init__(config)
        self.config = config
        channels = self.volume_channels
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
