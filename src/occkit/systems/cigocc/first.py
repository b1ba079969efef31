"""The first stage: segmentation and depth lifted together, a 3D network, and a first guess of the scene."""

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from occkit.errors import ConfigError
from occkit.geometry import VoxelGrid
from occkit.nn.blocks import resize_to
from occkit.nn.depth import DepthBins
from occkit.nn.lifting import GatherLiftConfig, SplatLiftConfig
from occkit.nn.volumes import ColumnNetConfig, VolumeNetConfig
from occkit.samples import Batch
from occkit.systems.cigocc.views import Shows
from occkit.taxonomy import Taxonomy


@dataclass(frozen=True, kw_only=True)
class HighConfig:
    """Segmentation as an input: features of a segmenter, classes of pixels, or both, side by side."""

    present: bool = True
    """Whether the network is shown them. If not, a learned vector stands in every cell, and what would read them is
    built but does not learn."""
    features: int = 0
    """Channels of the feature maps (`ImageInputsConfig.features`); 0 reads none."""
    masks: bool = False
    """Read the classes of the pixels (`ImageInputsConfig.masks`)."""
    channels: int = 32
    """Width of what is lifted."""

    def __post_init__(self) -> None:
        if self.features < 0 or self.channels < 1:
            raise ConfigError(f"HighConfig: expected features >= 0 and channels >= 1, got {self}")
        if self.present and not (self.features or self.masks):
            raise ConfigError("HighConfig: present, but neither features nor masks are read; set present to False")


@dataclass(frozen=True, kw_only=True)
class FirstStageConfig:
    """Lift segmentation along depth, join it with where depth hits, and look at it in 3D."""

    high: HighConfig = field(default_factory=lambda: HighConfig(features=256, masks=True, channels=128))
    """Segmentation."""
    lift: SplatLiftConfig | GatherLiftConfig = field(default_factory=SplatLiftConfig)
    """From pixels to voxels."""
    join: Literal["concat", "add"] = "concat"
    """How the voxels that depth hits come in: a channel more, or a learned vector added there."""
    net: VolumeNetConfig | ColumnNetConfig = field(
        default_factory=lambda: VolumeNetConfig(widths=(64, 128, 256), blocks=(1, 1, 1), channels=128)
    )
    """The 3D network; its first stage must have stride 1."""

    def build(
        self, bins: DepthBins, channels: int, taxonomy: Taxonomy, *, queries: bool = True, raw: bool = True
    ) -> "FirstStage":
        """Return the stage.

        Args:
            bins: of the depth it lifts along.
            channels: of its volumes.
            taxonomy: classes to score.
            queries: make Q_d.
            raw: make F_raw.
        """
        stage = FirstStage(self, bins, taxonomy)
        width = self.net.channels
        stage.queries = nn.Linear(width, channels) if queries else None
        stage.raw = nn.Linear(width, channels) if raw else None
        return stage


class FirstVolumes(NamedTuple):
    """What the first stage says."""

    queries: Float[Tensor, "b v c"] | None
    """Q_d before proposals are chosen, one row a voxel; None if queries come from elsewhere."""
    raw: Float[Tensor, "b v c"] | None
    """F_raw, one row a voxel; None if nobody reads it."""
    logits: Float[Tensor, "b k x y z"]
    """Class scores of the coarse voxels."""

    def occupied(self, free_id: int) -> Float[Tensor, "b x y z"]:
        """Return the probability that there is something."""
        return 1 - self.logits.softmax(dim=1)[:, free_id]


class FirstStage(nn.Module):
    """See `FirstStageConfig`. Source: Xu et al., "CIGOcc", ICRA 2025, by its figure; every size is ours."""

    def __init__(self, config: FirstStageConfig, bins: DepthBins, taxonomy: Taxonomy) -> None:
        super().__init__()
        self.config, self.taxonomy = config, taxonomy
        high = config.high
        self.features = nn.Conv2d(high.features, high.channels, 1) if high.features else None
        self.masks = nn.Conv2d(taxonomy.num_classes, high.channels, 1) if high.masks else None
        # Ones draw nothing, for arms are paired. Zeros would lift to an empty volume, and nothing behind its first norm
        # and ReLU would learn; ones lift to where the cameras look.
        self.constant = None if high.present else nn.Parameter(torch.ones(high.channels))
        if not high.present:
            for part in (self.features, self.masks):
                if part is not None:
                    part.requires_grad_(False)
        self.lift = config.lift.build(bins, high.channels)
        lifted = high.channels + self.lift.extra_channels
        self.hit = nn.Parameter(torch.randn(lifted) * 0.02) if config.join == "add" else None
        self.net = config.net.build(lifted + (config.join == "concat"))
        self.queries: nn.Linear | None = None
        self.raw: nn.Linear | None = None
        self.score = nn.Linear(config.net.channels, taxonomy.num_classes)

    def forward(
        self, batch: Batch, shows: Shows, hits: Bool[Tensor, "b x y z"] | None, grid: VoxelGrid
    ) -> FirstVolumes:
        """Run.

        Args:
            batch: has the segmentation.
            shows: depth and cameras.
            hits: voxels that depth hits; None without depth.
            grid: coarse voxels to fill.

        Raises:
            ConfigError: if the batch lacks the features or the classes that the config asks for.
        """
        size = (int(shows.depth.shape[3]), int(shows.depth.shape[4]))
        high = self._high(batch, size, count=shows.depth.shape[1])
        volume = self.lift(high, shows.depth, shows.cameras, grid)
        bit = volume.new_zeros(volume.shape[0], 1, *volume.shape[2:])
        if hits is not None:
            bit = hits[:, None].to(volume)
        joined = torch.cat([volume, bit], dim=1) if self.hit is None else volume + bit * self.hit[:, None, None, None]
        rows = self.net(joined).flatten(2).transpose(1, 2)
        logits = self.score(rows).transpose(1, 2).unflatten(2, grid.shape)
        return FirstVolumes(
            None if self.queries is None else self.queries(rows), None if self.raw is None else self.raw(rows), logits
        )

    def _high(self, batch: Batch, size: tuple[int, int], *, count: int) -> Float[Tensor, "b n c h w"]:
        shape = (batch.size, count)
        if self.constant is not None:
            return self.constant[:, None, None].expand(*shape, -1, *size)
        parts: list[Tensor] = []
        if self.features is not None:
            given = None if batch.inputs is None else batch.inputs.features
            if given is None:
                raise ConfigError(missing(batch, "segmentation features", "features"))
            if given.shape[2] != self.features.in_channels:
                raise ConfigError(
                    f"CigOcc: made for {self.features.in_channels} channels of segmentation features, the data has "
                    f"{given.shape[2]}; set HighConfig.features, or write others"
                )
            parts.append(self.features(resize_to(given[:, :count].flatten(0, 1), size)))
        if self.masks is not None:
            masks = None if batch.inputs is None else batch.inputs.masks
            if masks is None:
                raise ConfigError(missing(batch, "classes of its pixels", "masks"))
            parts.append(self.masks(self._shares(masks[:, :count].flatten(0, 1).long(), size)))
        return torch.stack(parts).sum(dim=0).unflatten(0, shape)

    def _shares(self, ids: Tensor, size: tuple[int, int]) -> Float[Tensor, "b k h w"]:
        """Return the share of each class in each cell; uncertain pixels belong to none."""
        classes = self.taxonomy.num_classes
        planes = F.one_hot(ids.clamp(max=classes), classes + 1)[..., :classes]
        return F.adaptive_avg_pool2d(planes.movedim(-1, 1).float(), size)


def missing(batch: Batch, what: str, field_name: str) -> str:
    """Return the sentence about an input that a batch lacks."""
    return (
        f"CigOcc: frame {batch.tokens[0]} (or one beside it) has no {what}; write them with occkit look --{field_name} "
        f"and name their folder in DataConfig.inputs"
    )
