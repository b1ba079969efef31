"""The network of OccNeRF and its losses: a contracted field, rendered into images that need no label."""

from dataclasses import dataclass, field, replace
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from occkit.errors import ConfigError
from occkit.geometry import OCC3D_GRID, Cameras, ContractedGrid, VoxelGrid
from occkit.losses import (
    PhotometricConfig,
    VoxelLossConfig,
    cross_entropy,
    distortion_loss,
    edge_aware_smoothness,
    opacity_entropy,
    photometric_loss,
    voxel_losses,
)
from occkit.nn.camera_volume import CameraVolumeConfig
from occkit.samples import Batch, Prediction, Rendering
from occkit.systems.occnerf.rendering import RenderConfig, render_views
from occkit.taxonomy import TAXONOMIES, Taxonomy


@dataclass(frozen=True, kw_only=True)
class OccNerfLossConfig:
    """Weights of the losses; a loss of weight 0 is not computed."""

    photometric: float = 1.0
    """Images of other times, seen through the rendered depth, against the current ones."""
    comparison: PhotometricConfig = field(default_factory=PhotometricConfig)
    """How images are compared."""
    auto_mask_after: int = 0
    """Training passes in which sources as they are do not compete (ours). Where depth is far too near, they win
    everywhere and nothing says so: a field that gets there in its first steps stays there."""
    smoothness: float = 1e-3
    """Edge-aware smoothness of the rendered inverse depth."""
    semantics: float = 0.05
    """Cross-entropy of the rendered classes against those that a model saw in the images."""
    image_class_weights: tuple[float, ...] | None = None
    """Weight of each id in that cross-entropy; None weighs all pixels alike."""
    uncertain: Literal["ignored", "free"] = "ignored"
    """Pixels without a class: ignored, or taken for free as the released code does (an index that wraps around)."""
    entropy: float = 0.01
    """Binary entropy of each ray's opacity."""
    distortion: float = 0.01
    """How far a ray's weights lie apart."""
    sharpen_after: int = 100
    """Training passes without the last two, which can ruin the geometry of an untrained field (ours)."""
    labels: float = 0.0
    """Losses of the voxel scores against labels: EasyOcc's pseudo-labels plugged into this host."""
    voxels: VoxelLossConfig = field(default_factory=lambda: VoxelLossConfig(mask_camera_in_training=False))
    """Which losses these are."""


@dataclass(frozen=True, kw_only=True)
class OccNerfConfig:
    """Every choice of the network, its rendering and its losses."""

    taxonomy: str = "occ3d"
    """Name of the classes to predict."""
    grid: VoxelGrid = OCC3D_GRID
    """Volume to predict: the middle of the contracted one, voxel for voxel."""
    alpha: float = 2 / 3
    """Share of the contracted volume that the grid takes along each axis; 1 is a plain volume that ends with it."""
    network: CameraVolumeConfig = field(default_factory=CameraVolumeConfig)
    """From images to scores."""
    render: RenderConfig = field(default_factory=RenderConfig)
    """From scores to images."""
    auxiliary: tuple[int, ...] = ()
    """Also render these of the source images, by their place in `DataConfig.source_steps`, and compare each with all
    others: three depth maps from five images are (0, 1) of steps (-1, 1, -2, 2)."""
    losses: OccNerfLossConfig = field(default_factory=OccNerfLossConfig)
    """Loss weights."""

    def __post_init__(self) -> None:
        if self.taxonomy not in TAXONOMIES:
            raise ConfigError(f"OccNerfConfig.taxonomy: {self.taxonomy!r} is none of {', '.join(TAXONOMIES)}")
        if not 0 < self.alpha <= 1:
            raise ConfigError(f"OccNerfConfig.alpha: expected a share in (0, 1], got {self.alpha}")
        weights = self.losses.image_class_weights
        if weights is not None and len(weights) != TAXONOMIES[self.taxonomy].num_classes:
            raise ConfigError(
                f"OccNerfConfig.losses.image_class_weights: {len(weights)} weights for taxonomy {self.taxonomy}"
            )

    def field_of(self, grid: VoxelGrid) -> VoxelGrid | ContractedGrid:
        """Return the volume whose middle is a grid.

        Raises:
            ConfigError: if there is none of this `alpha`.
        """
        if self.alpha == 1:
            return grid
        try:
            return ContractedGrid.around(grid, alpha=self.alpha)
        except ValueError as error:
            raise ConfigError(f"OccNerfConfig.alpha: {error}") from None

    def build(self) -> "OccNerf":
        """Return the network, freshly initialised."""
        return OccNerf(self)


class OccNerf(nn.Module):
    """See `OccNerfConfig`.

    Source: Zhang et al., "OccNeRF: Advancing 3D occupancy prediction in LiDAR-free environments", 2023.
    """

    def __init__(self, config: OccNerfConfig) -> None:
        super().__init__()
        self.config = config
        self.taxonomy: Taxonomy = TAXONOMIES[config.taxonomy]
        self.network = config.network.build(config.field_of(config.grid).shape, self.taxonomy.num_classes)
        self.trained_steps: Tensor
        self.register_buffer("trained_steps", torch.zeros((), dtype=torch.int64))

    def forward(self, batch: Batch) -> Prediction:
        """Predict from the current images; in training the field is rendered, too.

        Raises:
            ConfigError: if the batch has other classes than the network.
        """
        if batch.taxonomy.name != self.taxonomy.name:
            raise ConfigError(
                f"OccNerf: made for the classes of {self.taxonomy.name}, the data has {batch.taxonomy.name}"
            )
        space = self.config.field_of(batch.grid)
        scores = self.network(batch.images[:, 0], batch.cameras[:, 0], space)
        if self.config.render.free_bias:
            bias = torch.zeros(scores.shape[1], 1, 1, 1, device=scores.device)
            bias[self.taxonomy.free_id] = self.config.render.free_bias
            scores = scores + bias
        inner = scores if isinstance(space, VoxelGrid) else scores[(..., *space.inner_slices)]
        prediction = Prediction(logits=inner, grid=batch.grid, taxonomy=batch.taxonomy, space_logits=scores)
        if not self.training:
            return prediction
        semantics = bool(self.config.losses.semantics)
        return replace(prediction, rendering=self._render(prediction, batch, batch.cameras[:, 0], semantics=semantics))

    def render_depth(self, prediction: Prediction, batch: Batch) -> Float[Tensor, "b n h w"]:
        """Return the z-depth of the current images, metres, as the predicted field shows it, at their full size."""
        return _depth_of(self._render(prediction, batch, batch.cameras[:, 0], semantics=False), batch)

    def loss(self, prediction: Prediction, batch: Batch) -> dict[str, Tensor]:
        """Return the weighted losses by name.

        Raises:
            ConfigError: if the batch lacks the sources, the classes of pixels or the labels that a weight needs.
        """
        weights = self.config.losses
        losses: dict[str, Tensor] = {}
        if weights.labels:
            losses |= self._label_losses(prediction, batch)
        views = prediction.rendering
        if views is None:
            views = self._render(prediction, batch, batch.cameras[:, 0], semantics=bool(weights.semantics))
        depth = _depth_of(views, batch)
        if weights.photometric:
            losses["photometric"] = weights.photometric * self._photometric_loss(prediction, batch, depth)
        if weights.smoothness:
            images = batch.images[:, 0].flatten(0, 1).float() / 255
            losses["smoothness"] = weights.smoothness * edge_aware_smoothness(depth.flatten(0, 1), images)
        if weights.semantics:
            losses["semantics"] = weights.semantics * self._semantic_loss(views, batch)
        if int(self.trained_steps) >= weights.sharpen_after:
            losses |= self._sharpening(views)
        if self.training:
            self.trained_steps += 1
        return losses

    def _render(self, prediction: Prediction, batch: Batch, cameras: Cameras, *, semantics: bool) -> Rendering:
        assert prediction.space_logits is not None
        generator = None
        if self.training:
            # Torch's random state is that of the step (training/loop.py), so that a resumed run draws the same.
            generator = torch.Generator().manual_seed(int(torch.randint(2**62, ())))
        return render_views(
            self.config.render,
            prediction.space_logits,
            self.config.field_of(batch.grid),
            cameras,
            free_id=self.taxonomy.free_id,
            semantics=semantics,
            generator=generator,
        )

    def _sharpening(self, views: Rendering) -> dict[str, Tensor]:
        assert views.weights is not None
        assert views.opacity is not None
        weights, losses = self.config.losses, dict[str, Tensor]()
        if weights.entropy:
            losses["entropy"] = weights.entropy * opacity_entropy(views.opacity.flatten())
        if weights.distortion:
            count = views.weights.shape[-1]
            # Samples are even in contracted depth: a metre far out counts less than one nearby.
            t = (torch.arange(count, device=views.weights.device) + 0.5) / count
            value = distortion_loss(views.weights.flatten(0, -2), t, torch.full_like(t, 1 / count))
            losses["distortion"] = weights.distortion * value
        return losses

    def _label_losses(self, prediction: Prediction, batch: Batch) -> dict[str, Tensor]:
        weights = self.config.losses
        if batch.occupancy is None:
            raise ConfigError(
                f"OccNerf: frame {batch.tokens[0]} (or one beside it) has no label, and losses.labels is "
                f"{weights.labels}; make pseudo-labels with occkit label, and set DataConfig.labels to their folder"
            )
        losses = voxel_losses(weights.voxels, prediction.logits, batch.occupancy, self.taxonomy)
        return {name: weights.labels * value for name, value in losses.items()}

    def _photometric_loss(self, prediction: Prediction, batch: Batch, depth: Float[Tensor, "b n h w"]) -> Tensor:
        if batch.sources is None or batch.source_cameras is None:
            raise ConfigError(
                f"OccNerf: frame {batch.tokens[0]} (or one beside it) has no images of other times to compare with; "
                "set DataConfig.source_steps, or losses.photometric to 0"
            )
        if max(self.config.auxiliary, default=-1) >= batch.sources.shape[1]:
            raise ConfigError(
                f"OccNerfConfig.auxiliary: {self.config.auxiliary} of {batch.sources.shape[1]} source images; "
                "set DataConfig.source_steps"
            )
        comparison = self.config.losses.comparison
        if int(self.trained_steps) < self.config.losses.auto_mask_after:
            comparison = replace(comparison, auto_mask=False)
        images = torch.cat([batch.images[:, :1], batch.sources], dim=1).float() / 255
        cameras = _join(batch.cameras[:, :1], batch.source_cameras)
        losses = []
        for place in (0, *(1 + index for index in self.config.auxiliary)):
            if place:
                depth = _depth_of(self._render(prediction, batch, cameras[:, place], semantics=False), batch)
            others = [i for i in range(images.shape[1]) if i != place]
            value = photometric_loss(
                comparison,
                images[:, place].flatten(0, 1),
                images[:, others].transpose(1, 2).flatten(0, 1),
                depth.flatten(0, 1),
                cameras[:, place].flatten(),
                cameras.map(lambda t, others=others: t[:, others].transpose(1, 2).flatten(0, 1)),
                generator=torch.Generator().manual_seed(int(torch.randint(2**62, ()))) if self.training else None,
            )
            losses.append(value)
        return torch.stack(losses).mean()

    def _semantic_loss(self, views: Rendering, batch: Batch) -> Tensor:
        if batch.image_semantics is None or views.features is None:
            raise ConfigError(
                f"OccNerf: frame {batch.tokens[0]} (or one beside it) has no classes of pixels; write them with "
                "occkit label --keep-images and set DataConfig.image_semantics to OUT/images, or losses.semantics to 0"
            )
        weights, free, ignore = self.config.losses, self.taxonomy.free_id, self.taxonomy.ignore_id
        rows, columns = views.features.shape[2:4]
        height, width = batch.image_semantics.shape[2:]
        row = ((torch.arange(rows) + 0.5) * height / rows).long()
        column = ((torch.arange(columns) + 0.5) * width / columns).long()
        shown = batch.image_semantics[:, :, row][..., column]
        if weights.uncertain == "free":
            shown = torch.where(shown == ignore, free, shown)
        scores = views.features.movedim(-1, 1)
        class_weights = weights.image_class_weights
        tensor = None if class_weights is None else scores.new_tensor(class_weights)
        return cross_entropy(scores, shown, ignore_id=ignore, weights=tensor)


def _depth_of(views: Rendering, batch: Batch) -> Float[Tensor, "b n h w"]:
    """Return rendered depth at the size of the images."""
    assert views.depth is not None
    return F.interpolate(views.depth, batch.images.shape[-2:], mode="bilinear", align_corners=False)


def _join(first: Cameras, others: Cameras) -> Cameras:
    """Return the cameras of several times, `[b, t, n]`, as those of all."""
    distortion = None
    if first.distortion is not None and others.distortion is not None:
        distortion = torch.cat([first.distortion, others.distortion], dim=1)
    return replace(
        first,
        intrinsics=torch.cat([first.intrinsics, others.intrinsics], dim=1),
        ego_from_camera=torch.cat([first.ego_from_camera, others.ego_from_camera], dim=1),
        distortion=distortion,
    )
