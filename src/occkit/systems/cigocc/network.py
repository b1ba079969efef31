"""CIGOcc's network, its choices and its losses; its hosts are other choices of the same."""

import math
from dataclasses import dataclass, field
from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from occkit.errors import ConfigError
from occkit.geometry import KITTI_GRID, VoxelGrid
from occkit.losses import (
    VoxelLossConfig,
    coarse_labels,
    depth_gaussian_divergence,
    frustum_proportion,
    mask_binary_cross_entropy,
    nearest_depth_per_cell,
    voxel_losses,
)
from occkit.nn.blocks import BatchNormConfig, ConvBlock, NormConfig, resize_to
from occkit.nn.completion import CompletionConfig, MaskTokenConfig, RawVolumeConfig
from occkit.nn.depth import DepthBins
from occkit.nn.heads import ConvHeadConfig, HeadConfig, HeightInChannelsHeadConfig
from occkit.nn.noise_level import NoiseLevelEmbedding, add_noise_level
from occkit.nn.planes import LocalGlobalConfig
from occkit.nn.proposals import OccupancyProposalsConfig, ProposalConfig, depth_hits
from occkit.nn.volume_attention import VolumeAttentionConfig
from occkit.nn.volumes import VolumeNetConfig
from occkit.nn.voxel_queries import CrossAttentionConfig, FusionConfig, Shown
from occkit.samples import Batch, Occupancy, Prediction
from occkit.systems.cigocc.first import FirstStage, FirstStageConfig, FirstVolumes, missing
from occkit.systems.cigocc.queries import ProposalQueriesConfig, QueryConfig
from occkit.systems.cigocc.views import GivenDepthConfig, PriorDepthConfig, Shows, ViewsConfig
from occkit.taxonomy import TAXONOMIES, Taxonomy

_VOXELS = VoxelLossConfig(lovasz=0.0, semantic_affinity=1.0, geometric_affinity=1.0, mask_camera_in_training=False)
_FIRST = VoxelLossConfig(lovasz=0.0, mask_camera_in_training=False)


@dataclass(frozen=True, kw_only=True)
class CigOccLossConfig:
    """Weights of the losses; a loss of weight 0 is not computed."""

    voxels: VoxelLossConfig = _VOXELS
    """Losses of the class scores against the label: L_ssc, L_scal^sem, L_scal^geo."""
    first: VoxelLossConfig | None = _FIRST
    """Losses of the first stage's scores: L_ssc. None where there is no first stage."""
    first_coarse: bool = False
    """Hold the first stage's scores against labels of its own, larger voxels (`losses.coarse_labels`), as VoxFormer
    does; else they are interpolated to the label's."""
    frustum: float = 0.0
    """Frustum proportion (MonoScene's; in none of the figures of CIGOcc, VoxFormer and CGFormer)."""
    masks: float = 0.0
    """Binary cross-entropy of the middle features against the classes of pixels: L_bce, the SAM distillation."""
    mask_weights: tuple[float, ...] | None = None
    """Weight of the positive cells of each id there (`losses.positive_weights`); None is 1."""
    features: float = 0.0
    """One minus the cosine between the middle features, through a 1x1 convolution, and the segmentation features:
    distillation of what SAM's encoder sees, in training only."""
    feature_channels: int = 256
    """Channels of the segmentation features, for that convolution."""
    depth: float = 0.0
    """Divergence of a scored depth distribution from the LiDAR's (CGFormer's pre-training)."""
    doubled_depth: bool = False
    """Put that target at twice the depth, as CGFormer's code does; for reproduction."""


@dataclass(frozen=True, kw_only=True)
class TwoStageConfig:
    """The first stage learns alone, then it is frozen and the rest learns (VoxFormer's order)."""

    steps: int
    """Training passes of the first stage."""

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ConfigError(f"TwoStage: steps must be at least 1, got {self.steps}; None trains both together")


@dataclass(frozen=True, kw_only=True)
class CigOccConfig:
    """Every choice of the network and its losses; the defaults are CIGOcc's, where its figure says."""

    taxonomy: str = "semantickitti"
    """Name of the classes to predict."""
    grid: VoxelGrid = KITTI_GRID
    """Volume that the network is meant for; at run time the batch's own grid counts, but for learned query tables."""
    lift_stride: tuple[int, int, int] = (2, 2, 2)
    """Voxels of the label in one of the network's along x, y, z."""
    channels: int = 128
    """Width of the middle features and of the volume."""
    views: ViewsConfig = field(default_factory=ViewsConfig)
    """Middle features and depth."""
    first: FirstStageConfig | None = field(default_factory=FirstStageConfig)
    """Segmentation and depth lifted together; None has no first stage (CGFormer)."""
    queries: QueryConfig = field(default_factory=ProposalQueriesConfig)
    """What voxels ask with."""
    proposals: ProposalConfig = field(default_factory=OccupancyProposalsConfig)
    """Which voxels ask."""
    fusion: FusionConfig = field(default_factory=CrossAttentionConfig)
    """How they look at the middle features."""
    completion: CompletionConfig = field(default_factory=RawVolumeConfig)
    """What the other voxels hold."""
    mixing: VolumeAttentionConfig | None = field(default_factory=VolumeAttentionConfig)
    """Attention among all voxels."""
    encoder: LocalGlobalConfig | VolumeNetConfig | None = None
    """A network over the volume behind it."""
    head: HeadConfig = field(default_factory=ConvHeadConfig)
    """From the volume to class scores."""
    norm: NormConfig = field(default_factory=BatchNormConfig)
    """Normalisation in the part that the masks teach through."""
    two_stage: TwoStageConfig | None = None
    """Train the first stage first; None trains both together."""
    losses: CigOccLossConfig = field(default_factory=CigOccLossConfig)
    """Loss weights."""

    def __post_init__(self) -> None:
        if self.taxonomy not in TAXONOMIES:
            raise ConfigError(f"CigOccConfig.taxonomy: {self.taxonomy!r} is none of {', '.join(TAXONOMIES)}")
        if self.first is None and (self.losses.first or self.two_stage or self.queries.needs_first):
            raise ConfigError(
                "CigOccConfig: without a first stage losses.first and two_stage must be None, and queries come from "
                "elsewhere"
            )
        if self.first is not None and self.losses.first is None:
            raise ConfigError("CigOccConfig: a first stage needs losses.first to learn what is occupied")
        if self.losses.first_coarse and self.losses.first is not None and self.losses.first.mask_camera_in_training:
            raise ConfigError("CigOccLossConfig: coarse labels have no camera mask; set it to False in losses.first")
        if self.proposals.uses_depth and isinstance(self.views.depth, PriorDepthConfig):
            raise ConfigError("CigOccConfig: a prior hits no voxels; let proposals be those that look occupied")
        if isinstance(self.head, HeightInChannelsHeadConfig):
            raise ConfigError("CigOccConfig: a head over channels is bound to heights; take one over voxels")

    def build(self) -> "CigOcc":
        """Return the network, freshly initialised."""
        return CigOcc(self)


class CigOcc(nn.Module):
    """See `CigOccConfig`. What the images show, the first stage, proposals, completion, the head.

    Source: Xu et al., "CIGOcc", ICRA 2025, by its figure; Li et al., "VoxFormer", CVPR 2023; Yu et al., "CGFormer",
    NeurIPS 2024. No code of CIGOcc is public.
    """

    def __init__(self, config: CigOccConfig) -> None:
        super().__init__()
        self.config = config
        self.taxonomy: Taxonomy = TAXONOMIES[config.taxonomy]
        width, bins = config.channels, config.views.depth.bins
        self.views = config.views.build(width)
        self.first: FirstStage | None = None
        if config.first is not None:
            raw = not isinstance(config.completion, MaskTokenConfig)
            asked = config.queries.needs_first
            self.first = config.first.build(bins, width, self.taxonomy, queries=asked, raw=raw)
        self.queries = config.queries.build(bins, width, config.grid.coarsen(config.lift_stride).num_voxels)
        self.completion = config.completion.build(width)
        self.mixing = None if config.mixing is None else config.mixing.build(width)
        self.encoder = None if config.encoder is None else config.encoder.build(width)
        wide = width if self.encoder is None else self.encoder.channels
        self.head = config.head.build(wide, self.taxonomy.num_classes)
        # Last, so that the rest starts the same whatever they are, with and without them.
        self.fusion = config.fusion.build(width)
        self.mask_head: nn.Module | None = None
        if config.losses.masks:
            half, classes = max(1, width // 2), self.taxonomy.num_classes
            score = nn.Conv2d(half, classes, 1)
            nn.init.constant_(cast(Tensor, score.bias), -math.log(classes - 1))  # a cell is of about one class
            self.mask_head = nn.Sequential(ConvBlock(width, half, norm=config.norm, dims=2), score)
        self.feature_head: nn.Conv2d | None = None
        if config.losses.features:
            self.feature_head = nn.Conv2d(width, config.losses.feature_channels, 1)
        self.noise_channels = width
        self.noise_embedding: NoiseLevelEmbedding | None = None
        self.trained_steps: Tensor
        self.register_buffer("trained_steps", torch.zeros((), dtype=torch.int64))

    @property
    def conditional_parameters(self) -> tuple[str, ...]:
        """Prefixes of what goes without a gradient while, or after, the first stage learns alone."""
        if self.config.two_stage is None:
            return ()
        return tuple(f"{name}." for name, _ in self.named_children())

    @property
    def resting_parameters(self) -> tuple[str, ...]:
        """Prefixes of what the next step must leave as it is: all behind the first stage, or that stage itself."""
        if self.config.two_stage is None:
            return ()
        if self.first_frozen:
            return ("first.",)
        # A depth that is scored, or a prior of it, is part of what the first stage lifts along.
        early = ("first", "views") if not isinstance(self.config.views.depth, GivenDepthConfig) else ("first",)
        return tuple(f"{name}." for name, _ in self.named_children() if name not in early)

    @property
    def depth_bins(self) -> DepthBins:
        """What `Prediction.depth_logits` are scores of, where a network scores depth."""
        return self.views.bins

    @property
    def first_alone(self) -> bool:
        """Whether the first stage is all that has learnt something yet."""
        return self.config.two_stage is not None and not self.first_frozen

    @property
    def first_frozen(self) -> bool:
        """Whether the first stage has learnt all it will. On the meta device, for shapes, it has."""
        two_stage = self.config.two_stage
        if two_stage is None:
            return False
        return next(self.parameters()).is_meta or int(self.trained_steps) >= two_stage.steps

    def forward(self, batch: Batch) -> Prediction:
        """Predict; labels are not looked at. While the first stage learns alone its scores are the prediction.

        Raises:
            ConfigError: if the batch has other classes than the network, or lacks an input that the config asks for.
        """
        if batch.taxonomy.name != self.taxonomy.name:
            raise ConfigError(
                f"CigOcc: made for the classes of {self.taxonomy.name}, the data has {batch.taxonomy.name}"
            )
        grid = batch.grid.coarsen(self.config.lift_stride)
        shows = self.views(batch)
        hits = None
        if shows.metres is not None:
            hits = torch.stack([depth_hits(m, shows.cameras[b], grid) for b, m in enumerate(shows.metres)])
        first = self._first(batch, shows, hits, grid)
        image_logits = image_features = None
        if self.first_alone and first is not None:
            logits = resize_to(first.logits, batch.grid.shape)
        else:
            volume = add_noise_level(self.noise_embedding, self._second(shows, first, hits, grid), batch)
            logits = self.head(volume, batch.grid.shape)
            # What only teaches is not computed when nobody learns.
            if self.training and self.mask_head is not None:
                image_logits = self.mask_head(shows.context.flatten(0, 1)).unflatten(0, shows.context.shape[:2])
            if self.training and self.feature_head is not None:
                image_features = self.feature_head(shows.context.flatten(0, 1)).unflatten(0, shows.context.shape[:2])
        return Prediction(
            logits=logits,
            grid=batch.grid,
            taxonomy=batch.taxonomy,
            depth_logits=shows.depth_logits,
            image_logits=image_logits,
            image_features=image_features,
            first_logits=None if first is None else first.logits,
        )

    def _first(self, batch: Batch, shows: Shows, hits: Tensor | None, grid: VoxelGrid) -> FirstVolumes | None:
        if self.first is None:
            return None
        frozen = self.first_frozen
        self.first.train(self.training and not frozen)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not frozen):
            return self.first(batch, shows, hits, grid)

    def _second(
        self, shows: Shows, first: FirstVolumes | None, hits: Tensor | None, grid: VoxelGrid
    ) -> Float[Tensor, "b c x y z"]:
        """Return the completed volume: proposals look at the images, all voxels look at each other."""
        queries = self.queries(shows, first, grid)
        base = queries if first is None or first.raw is None else first.raw
        occupied = None if first is None else first.occupied(self.taxonomy.free_id)
        centres = grid.centers(device=queries.device).reshape(-1, 3)
        volumes: list[Tensor] = []
        for index in range(len(queries)):
            rows = self.config.proposals.choose(
                None if hits is None else hits[index], None if occupied is None else occupied[index]
            )
            shown = Shown(shows.context[index], shows.depth[index], shows.cameras[index], self.views.bins)
            answers = self.fusion(queries[index, rows], centres[rows], shown)
            volumes.append(self.completion(base[index], rows, answers))
        volume = torch.stack(volumes)
        if self.mixing is not None:
            volume = self.mixing(volume, grid.shape)
        dense = volume.transpose(1, 2).unflatten(2, grid.shape)
        return dense if self.encoder is None else self.encoder(dense)

    def loss(self, prediction: Prediction, batch: Batch) -> dict[str, Tensor]:
        """Return the weighted losses by name; while the first stage learns alone those of its scores.

        Raises:
            ConfigError: if the batch lacks the label, the classes of pixels or the LiDAR depth that the losses need.
        """
        weights, label = self.config.losses, batch.occupancy
        if label is None:
            raise ConfigError(f"CigOcc: frame {batch.tokens[0]} (or one beside it) has no label to learn from")
        losses = self._first_losses(prediction, label)
        if weights.depth:
            value = scored_depth_loss(prediction, batch, self.views.bins, doubled=weights.doubled_depth)
            losses["depth"] = weights.depth * value
        if not self.first_alone:
            losses |= voxel_losses(weights.voxels, prediction.logits, label, self.taxonomy)
            losses |= self._image_losses(prediction, batch, label)
        if self.training:
            self.trained_steps += 1
        return losses

    def _first_losses(self, prediction: Prediction, label: Occupancy) -> dict[str, Tensor]:
        config = self.config.losses.first
        if config is None or prediction.first_logits is None or (self.first_frozen and self.training):
            return {}
        if self.config.losses.first_coarse:
            grid = label.grid.coarsen(self.config.lift_stride)
            ids = coarse_labels(
                label.semantics,
                grid.shape,
                num_classes=self.taxonomy.num_classes,
                free_id=self.taxonomy.free_id,
                ignore_id=self.taxonomy.ignore_id,
            )
            label = Occupancy(semantics=ids, grid=grid, taxonomy=label.taxonomy)
        logits = resize_to(prediction.first_logits, label.grid.shape)
        return {f"first_{name}": value for name, value in voxel_losses(config, logits, label, self.taxonomy).items()}

    def _image_losses(self, prediction: Prediction, batch: Batch, label: Occupancy) -> dict[str, Tensor]:
        weights, losses = self.config.losses, dict[str, Tensor]()
        if weights.frustum:
            cameras = batch.cameras[:, 0]
            value = frustum_proportion(prediction.logits, label.semantics, cameras, batch.grid)
            losses["frustum"] = weights.frustum * value
        if prediction.image_logits is not None:
            if batch.image_semantics is None:
                raise ConfigError(
                    f"CigOcc: frame {batch.tokens[0]} (or one beside it) has no classes of its pixels to learn from; "
                    "write them with occkit look --masks and name their folder in DataConfig.image_semantics"
                )
            shown = batch.image_semantics[:, : prediction.image_logits.shape[1]]
            positive = None if weights.mask_weights is None else prediction.logits.new_tensor(weights.mask_weights)
            value = mask_binary_cross_entropy(prediction.image_logits, shown, self.taxonomy, positive_weights=positive)
            losses["masks"] = weights.masks * value
        if prediction.image_features is not None:
            losses["features"] = weights.features * self._feature_loss(prediction.image_features, batch)
        return losses

    def _feature_loss(self, mine: Float[Tensor, "b n k h w"], batch: Batch) -> Tensor:
        """Return one minus the mean cosine with the segmentation features."""
        given = None if batch.inputs is None else batch.inputs.features
        if given is None:
            raise ConfigError(missing(batch, "segmentation features to learn from", "features"))
        if given.shape[2] != mine.shape[2]:
            raise ConfigError(
                f"CigOcc: losses.feature_channels is {mine.shape[2]}, the segmentation features have {given.shape[2]}"
            )
        size = (int(mine.shape[3]), int(mine.shape[4]))
        theirs = resize_to(given[:, : mine.shape[1]].flatten(0, 1), size)
        return 1 - F.cosine_similarity(mine.flatten(0, 1), theirs, dim=1).mean()


def scored_depth_loss(prediction: Prediction, batch: Batch, bins: DepthBins, *, doubled: bool = False) -> Tensor:
    """Return the divergence of a scored depth distribution from the LiDAR's (`losses.depth_gaussian_divergence`).

    Raises:
        ConfigError: if no depth is scored, or the batch has no LiDAR depth.
    """
    if batch.depth is None or prediction.depth_logits is None:
        raise ConfigError(
            "CigOcc: the depth loss needs scored depth and LiDAR depth; set DataConfig.load_depth, or losses.depth to 0"
        )
    scores = prediction.depth_logits
    size = (int(scores.shape[-2]), int(scores.shape[-1]))
    nearest = nearest_depth_per_cell(batch.depth[:, : scores.shape[1]], size)
    edges = bins.start + bins.step * torch.arange(bins.count + 1, device=scores.device)
    return depth_gaussian_divergence(scores, nearest, edges, doubled=doubled)
