"""MonoScene's network, its choices and its losses."""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor, nn

from occkit.errors import ConfigError
from occkit.geometry import Cameras, VoxelGrid
from occkit.losses import (
    VoxelLossConfig,
    coarse_labels,
    frustum_proportion,
    relation_loss,
    voxel_losses,
    voxel_relations,
)
from occkit.nn.backbones import normalise_images
from occkit.nn.heads import ConvHeadConfig
from occkit.nn.image_unet import ImageUNetConfig
from occkit.nn.point_lifting import lift_points
from occkit.nn.volume_unet import DilatedHeadConfig, VolumeUNetConfig
from occkit.samples import Batch, Occupancy, Prediction
from occkit.taxonomy import TAXONOMIES, Taxonomy

_RELATIONS = 4
_VOXELS = VoxelLossConfig(lovasz=0.0, semantic_affinity=1.0, geometric_affinity=1.0, mask_camera_in_training=False)


@dataclass(frozen=True, kw_only=True)
class MonoSceneLossConfig:
    """Weights of the losses; a loss of weight 0 is not computed."""

    voxels: VoxelLossConfig = _VOXELS
    """Cross-entropy and scene-class affinity of the class scores."""
    frustum: float = 1.0
    """Frustum proportion."""
    frustum_parts: int = 8
    """Pieces along each side of the image there."""
    relations: float = 1.0
    """Relations that the context prior scores; nothing without one."""


@dataclass(frozen=True, kw_only=True)
class MonoSceneConfig:
    """Every choice of the network and its losses."""

    taxonomy: str
    """Name of the classes to predict."""
    grid: VoxelGrid
    """Volume that the network is meant for; with a context prior it is bound to the number of voxels, else the batch's
    own grid counts."""
    lift_stride: tuple[int, int, int] = (1, 1, 1)
    """Voxels of the label in one of the network's along x, y, z."""
    image: ImageUNetConfig = field(default_factory=ImageUNetConfig)
    """From images to maps at several strides, of the width of the lifted volume."""
    volume: VolumeUNetConfig = field(default_factory=VolumeUNetConfig)
    """The 3D network, with the context prior."""
    head: DilatedHeadConfig | ConvHeadConfig = field(default_factory=DilatedHeadConfig)
    """From its features to class scores."""
    losses: MonoSceneLossConfig = field(default_factory=MonoSceneLossConfig)
    """Loss weights."""

    def __post_init__(self) -> None:
        if self.taxonomy not in TAXONOMIES:
            raise ConfigError(f"MonoScene.taxonomy: {self.taxonomy!r} is none of {', '.join(TAXONOMIES)}")
        prior = self.volume.prior
        if prior is not None and self.losses.relations and prior.relations != _RELATIONS:
            raise ConfigError(
                f"MonoScene: losses.relations teaches {_RELATIONS} relations, the prior has {prior.relations}; set "
                "volume.prior.relations or losses.relations to 0"
            )
        weights = self.losses.voxels.class_weights
        if weights is not None and len(weights) != TAXONOMIES[self.taxonomy].num_classes:
            raise ConfigError(f"MonoScene: {len(weights)} class weights for taxonomy {self.taxonomy}")

    def build(self) -> "MonoScene":
        """Return the network, freshly initialised."""
        return MonoScene(self)


class MonoScene(nn.Module):
    """See `MonoSceneConfig`. Takes any number of cameras of any rig; the paper has one.

    In three steps, so that another method can put its own between: `lift` takes images to voxel features, `enrich` adds
    what else is known (here nothing), `complete` takes them to class scores.
    """

    def __init__(self, config: MonoSceneConfig) -> None:
        super().__init__()
        self.config = config
        self.taxonomy: Taxonomy = TAXONOMIES[config.taxonomy]
        self.image = config.image.build()
        shape = config.grid.coarsen(config.lift_stride).shape
        self.volume = config.volume.build(self.image.channels, shape)
        self.head = config.head.build(self.volume.channels, self.taxonomy.num_classes)

    @property
    def volume_channels(self) -> int:
        """Width of what `lift` returns and `complete` takes."""
        return self.image.channels

    def lift(self, images: Float[Tensor, "b n 3 h w"], cameras: Cameras, grid: VoxelGrid) -> Float[Tensor, "b c x y z"]:
        """Lift features along lines of sight (FLoSP): `V(x) = sum over strides s of F_s(project(x))`.

        `F_s` are read at the projection of the voxel's centre, between pixels; the mean over the cameras that see it.

        Args:
            images: normalised (`nn.backbones.normalise_images`); gradients reach them.
            cameras: leading dimensions `[b, n]`, of these images.
            grid: of the label; the volume is coarser by `lift_stride`.

        Returns:
            The volume, zero where no camera sees.

        Source: Cao and de Charette, "MonoScene", CVPR 2022, equation 1. Ours: bilinear where theirs takes the nearest
        pixel, and several cameras.
        """
        coarse = grid.coarsen(self.config.lift_stride)
        maps = [m.unflatten(0, images.shape[:2]) for m in self.image(images.flatten(0, 1))]
        centres = coarse.centers(dtype=cameras.intrinsics.dtype, device=images.device).reshape(-1, 3)
        volumes: list[Tensor] = []
        for index in range(len(images)):
            rows = lift_points(maps[0][index], cameras[index], centres)[0]
            for found in maps[1:]:
                rows = rows + lift_points(found[index], cameras[index], centres)[0]
            volumes.append(rows.T.reshape(-1, *coarse.shape))
        return torch.stack(volumes)

    def enrich(self, volume: Float[Tensor, "b c x y z"], batch: Batch) -> Float[Tensor, "b c x y z"]:
        """Return the lifted volume with what else is known of the frames; here there is nothing."""
        del batch
        return volume

    def complete(
        self, volume: Float[Tensor, "b c x y z"], shape: tuple[int, int, int]
    ) -> tuple[Float[Tensor, "b k x y z"], Float[Tensor, "b r n m"] | None]:
        """Return class scores on a grid of `shape`, and the scores of the relations if there is a context prior."""
        features, relations = self.volume(volume)
        return self.head(features, shape), relations

    def forward(self, batch: Batch) -> Prediction:
        """Predict from the current images; labels are not looked at.

        Raises:
            ConfigError: if the batch has other classes than the network, or its prior another grid.
        """
        if batch.taxonomy.name != self.taxonomy.name:
            raise ConfigError(
                f"MonoScene: made for the classes of {self.taxonomy.name}, the data has {batch.taxonomy.name}"
            )
        volume = self.lift(normalise_images(batch.images[:, 0]), batch.cameras[:, 0], batch.grid)
        logits, relations = self.complete(self.enrich(volume, batch), batch.grid.shape)
        return Prediction(
            logits=logits, grid=batch.grid, taxonomy=batch.taxonomy, features=volume, relation_scores=relations
        )

    def loss(self, prediction: Prediction, batch: Batch) -> dict[str, Tensor]:
        """Return the weighted losses by name.

        Raises:
            ConfigError: if the batch lacks labels, or the camera mask that the losses ask for.
        """
        if batch.occupancy is None:
            raise ConfigError(f"MonoScene: frame {batch.tokens[0]} (or one beside it) has no label to learn from")
        weights, label = self.config.losses, batch.occupancy
        losses = voxel_losses(weights.voxels, prediction.logits, label, self.taxonomy)
        if weights.frustum:
            losses["frustum"] = weights.frustum * frustum_proportion(
                prediction.logits,
                label.semantics,
                batch.cameras[:, 0],
                batch.grid,
                parts=weights.frustum_parts,
                ignore_id=self.taxonomy.ignore_id,
            )
        if weights.relations and prediction.relation_scores is not None:
            losses["relations"] = weights.relations * self._relation_loss(prediction.relation_scores, label)
        return losses

    def _relation_loss(self, scores: Float[Tensor, "b r n m"], label: Occupancy) -> Tensor:
        taxonomy = self.taxonomy
        working = label.grid.coarsen(self.config.lift_stride).shape
        ids = {"num_classes": taxonomy.num_classes, "free_id": taxonomy.free_id, "ignore_id": taxonomy.ignore_id}
        coarse = coarse_labels(label.semantics, self.config.volume.coarsest(working), **ids)
        return relation_loss(scores, *voxel_relations(coarse, **ids))
