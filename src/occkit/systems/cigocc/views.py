"""What the images show and how far away: middle-level features, and a depth distribution from one of four sources."""

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from occkit.errors import ConfigError
from occkit.geometry import Cameras
from occkit.nn.backbones import BackboneConfig, SmallConvNetConfig, normalise_images
from occkit.nn.depth import DepthBins, DepthNetConfig
from occkit.nn.depth_fusion import DepthFusion, DepthFusionConfig
from occkit.nn.necks import ConcatNeckConfig, NeckConfig, ScaleNeckConfig
from occkit.nn.stereo import CostVolume, StereoConfig
from occkit.samples import Batch

KITTI_BINS = DepthBins(start=2.0, stop=58.0, step=0.5)
"""CGFormer's 112 bins."""


@dataclass(frozen=True, kw_only=True)
class GivenDepthConfig:
    """A depth map made before (`DataConfig.inputs`), as a distribution over the bins of each cell."""

    bins: DepthBins = KITTI_BINS
    """Depth bins."""
    spread: Literal["histogram", "nearest"] = "histogram"
    """The share of a cell's pixels in each bin, or all of it in the bin of the nearest pixel (CGFormer)."""
    near_by_a_bin: bool = False
    """Every depth one bin too near: CGFormer drops the first entry after a shift by half a bin. For reproduction."""


@dataclass(frozen=True, kw_only=True)
class MonoDepthConfig:
    """A network that is told the camera scores the bins (CGFormer, and BEVDepth before it)."""

    net: DepthNetConfig = field(default_factory=lambda: DepthNetConfig(bins=KITTI_BINS, context_channels=128))
    """The network; what it lifts are the middle features."""
    refine: GivenDepthConfig | None = None
    """Also read the given depth map so, cell by cell, and hit voxels with it: CGFormer's second branch. Its bins must
    be the network's."""
    fuse: DepthFusionConfig | None = None
    """How that comes in: attention between the two and a 3D network (CGFormer). None: the network scores the bins
    knowing the map, like a cost volume."""

    def __post_init__(self) -> None:
        if self.fuse is not None and self.refine is None:
            raise ConfigError("MonoDepth: fuse joins a given depth map to the network's; set refine")
        if self.refine is not None and self.refine.bins != self.net.bins:
            raise ConfigError(f"MonoDepth: bins of refine {self.refine.bins} are not the network's {self.net.bins}")

    @property
    def bins(self) -> DepthBins:
        """Depth bins."""
        return self.net.bins


@dataclass(frozen=True, kw_only=True)
class StereoDepthConfig:
    """The same network with a cost volume against the second camera of a pair, which shows nothing else."""

    net: DepthNetConfig = field(default_factory=lambda: DepthNetConfig(bins=KITTI_BINS, context_channels=128))
    """The network; what it lifts are the middle features."""
    stereo: StereoConfig = field(default_factory=StereoConfig)
    """The cost volume."""

    @property
    def bins(self) -> DepthBins:
        """Depth bins."""
        return self.net.bins


@dataclass(frozen=True, kw_only=True)
class PriorDepthConfig:
    """A learned distribution for each height in the image, the same in every frame: no depth at all."""

    bins: DepthBins = KITTI_BINS
    """Depth bins."""
    rows: int = 8
    """Heights between which it is interpolated."""
    scale: float = 1.0
    """Multiplies what is learnt: a step moves each number by the learning rate at most, and a few hundred of them
    leave an even distribution all but even."""


DepthSourceConfig = GivenDepthConfig | MonoDepthConfig | StereoDepthConfig | PriorDepthConfig
"""Where depth comes from."""


@dataclass(frozen=True, kw_only=True)
class ViewsConfig:
    """From images to features and depth."""

    present: bool = True
    """Whether the network sees the images. If not, a learned vector stands in every cell, and what would look at them
    is built but does not learn: ablations keep the number of parameters."""
    backbone: BackboneConfig = field(default_factory=SmallConvNetConfig)
    """Image network."""
    neck: NeckConfig = field(default_factory=ConcatNeckConfig)
    """Joins the backbone's maps."""
    neck_from: int = 0
    """First of the backbone's maps that the neck joins; finer ones are for stereo alone."""
    depth: DepthSourceConfig = field(default_factory=GivenDepthConfig)
    """Where depth comes from."""
    patches: bool = False
    """Add a linear map of each cell's own pixels to the features (ours): what colours say by themselves need not come
    through an image network that begins with random weights."""

    def __post_init__(self) -> None:
        if not self.present and isinstance(self.depth, MonoDepthConfig | StereoDepthConfig):
            raise ConfigError("ViewsConfig: without images there is no depth from them; take a given depth or a prior")

    def build(self, channels: int) -> "Views":
        """Return the network whose middle features have `channels`.

        Raises:
            ConfigError: if a depth network lifts another number of channels.
        """
        return Views(self, channels)


class Shows(NamedTuple):
    """What the images of a batch show, at feature resolution."""

    context: Float[Tensor, "b n c h w"]
    """Middle features."""
    depth: Float[Tensor, "b n d h w"]
    """Distribution over the bins; zero in cells without a known depth."""
    depth_logits: Float[Tensor, "b n d h w"] | None
    """Its scores, where a network gives them."""
    metres: Float[Tensor, "b n v u"] | None
    """z-depth to hit voxels with, at any resolution; 0 where unknown; None without depth."""
    cameras: Cameras
    """Leading dimensions `[b, n]`, of the images."""


class Views(nn.Module):
    """See `ViewsConfig`. Source: original, of published parts."""

    def __init__(self, config: ViewsConfig, channels: int) -> None:
        super().__init__()
        self.config = config
        self.bins = config.depth.bins
        self.backbone = config.backbone.build()
        self.neck = config.neck.build(self.backbone.channels[config.neck_from :])
        enlarged = config.neck.scales[0] if isinstance(config.neck, ScaleNeckConfig) else 1.0
        self.stride = round(self.backbone.strides[config.neck_from] / enlarged)
        self.stereo: CostVolume | None = None
        self.fuse: DepthFusion | None = None
        self.prior: nn.Parameter | None = None
        depth = config.depth
        if isinstance(depth, MonoDepthConfig | StereoDepthConfig):
            if depth.net.context_channels != channels:
                raise ConfigError(
                    f"Views: the depth network lifts {depth.net.context_channels} channels, the volume has {channels}"
                )
            extra = self.bins.count
            if isinstance(depth, StereoDepthConfig):
                stage = depth.stereo.stage
                shrink = self.stride // self.backbone.strides[stage]
                width = self.backbone.channels[stage]
                self.stereo = CostVolume(depth.stereo, self.bins, in_channels=width, shrink=shrink)
            elif depth.refine is None or depth.fuse is not None:
                extra = 0
                self.fuse = None if depth.fuse is None else depth.fuse.build(self.bins.count)
            self.measure = depth.net.build(self.neck.channels, stereo_channels=extra)
        else:
            self.project = nn.Conv2d(self.neck.channels, channels, 1)
        self.patches = nn.Conv2d(3, channels, self.stride, stride=self.stride) if config.patches else None
        if isinstance(depth, PriorDepthConfig):
            self.prior = nn.Parameter(torch.zeros(self.bins.count, depth.rows))
        self.constant = (
            None if config.present else nn.Parameter(torch.zeros(channels))
        )  # draws nothing: arms are paired
        if not config.present:
            for part in (self.backbone, self.neck, self.project, self.patches):
                if part is not None:
                    part.requires_grad_(False)

    def forward(self, batch: Batch) -> Shows:
        """Look at the current images.

        Raises:
            ConfigError: if the batch lacks the depth map or the second camera that the config asks for.
        """
        config = self.config.depth
        images, cameras = batch.images[:, 0], batch.cameras[:, 0]
        count = 1 if isinstance(config, StereoDepthConfig) else images.shape[1]
        if isinstance(config, StereoDepthConfig) and images.shape[1] != 2:
            raise ConfigError(
                f"Views: stereo needs two cameras, the frame has {images.shape[1]}; set DataConfig.cameras to "
                '("image_2", "image_3")'
            )
        seen = cameras[:, :count]
        if isinstance(config, MonoDepthConfig | StereoDepthConfig):
            return self._measured(batch, images, cameras, seen)
        context = self._context(images)
        size = (int(context.shape[3]), int(context.shape[4]))
        if isinstance(config, PriorDepthConfig):
            assert self.prior is not None
            rows = F.interpolate(config.scale * self.prior[None], size[0], mode="linear", align_corners=False)
            rows = rows[0].softmax(dim=0)
            depth = rows[None, None, :, :, None].expand(*context.shape[:2], -1, -1, size[1])
            return Shows(context, depth, None, None, seen)
        assert isinstance(config, GivenDepthConfig)
        metres = given_depth(batch)
        return Shows(context, spread_given(metres, config, size), None, metres, seen)

    def _context(self, images: Tensor) -> Float[Tensor, "b n c h w"]:
        if self.constant is not None:
            height, width = (-(-int(side) // self.stride) for side in images.shape[-2:])
            return self.constant[:, None, None].expand(*images.shape[:2], -1, height, width)
        plain = normalise_images(images.flatten(0, 1))
        context = self.project(self.neck(self.backbone(plain)[self.config.neck_from :]))
        return self._with_patches(context, plain).unflatten(0, images.shape[:2])

    def _with_patches(self, context: Float[Tensor, "b c h w"], images: Float[Tensor, "b 3 v u"]) -> Tensor:
        """Return features with those of the cells' own pixels added; a cell that the image does not fill is padded."""
        if self.patches is None:
            return context
        height, width = (int(side) * self.stride for side in context.shape[-2:])
        return context + self.patches(F.pad(images, (0, width - images.shape[3], 0, height - images.shape[2])))

    def _measured(self, batch: Batch, images: Tensor, cameras: Cameras, seen: Cameras) -> Shows:
        """Look with a network that scores the bins itself."""
        config, (size, number) = self.config.depth, images.shape[:2]
        count = seen.batch_shape[1]
        plain = normalise_images(images.flatten(0, 1))
        all_maps = self.backbone(plain)
        maps = [m.unflatten(0, (size, number)) for m in all_maps]
        features = self.neck([m[:, :count].flatten(0, 1) for m in maps[self.config.neck_from :]])
        extra = given = spread = None
        if self.stereo is not None and isinstance(config, StereoDepthConfig):
            compared = maps[config.stereo.stage]
            extra = self.stereo(compared[:, 0], compared[:, 1], cameras[:, 0], cameras[:, 1])
        elif isinstance(config, MonoDepthConfig) and config.refine is not None:
            given = given_depth(batch)
            spread = spread_given(given, config.refine, (int(features.shape[2]), int(features.shape[3]))).flatten(0, 1)
            extra = spread if self.fuse is None else None
        context, logits = self.measure(features, seen.flatten(), extra)
        context = self._with_patches(context, plain.unflatten(0, (size, number))[:, :count].flatten(0, 1))
        if self.fuse is not None and spread is not None:
            logits = self.fuse(logits, spread)
        context, logits = (t.unflatten(0, (size, count)) for t in (context, logits))
        metres = given
        if metres is None:
            metres = self.bins.centers(device=logits.device)[logits.detach().argmax(dim=2)]
        return Shows(context, logits.softmax(dim=2), logits, metres, seen)


def given_depth(batch: Batch) -> Float[Tensor, "b n h w"]:
    """Return the depth maps of a batch.

    Raises:
        ConfigError: if it has none.
    """
    if batch.inputs is None or batch.inputs.depth is None:
        raise ConfigError(
            f"CigOcc: frame {batch.tokens[0]} (or one beside it) has no depth map; write them with occkit look --depth "
            "and name their folder in DataConfig.inputs"
        )
    return batch.inputs.depth


def spread_given(
    metres: Float[Tensor, "b n v u"], config: GivenDepthConfig, size: tuple[int, int]
) -> Float[Tensor, "b n d h w"]:
    """Return the distribution of each cell as a config says; see `spread_depth`."""
    nearest, nearer = config.spread == "nearest", int(config.near_by_a_bin)
    return spread_depth(metres, config.bins, size, nearest=nearest, bins_nearer=nearer)


def spread_depth(
    metres: Float[Tensor, "b n v u"],
    bins: DepthBins,
    size: tuple[int, int],
    *,
    nearest: bool = False,
    bins_nearer: int = 0,
) -> Float[Tensor, "b n d h w"]:
    """Return the distribution over depth bins of each cell of a coarser image.

    Args:
        metres: z-depth of each pixel; 0 where unknown.
        bins: the bins.
        size: `(h, w)` cells; a pixel belongs to the cell in which its upper left corner lies.
        nearest: put all of a cell into the bin of its nearest pixel; else each bin has its share of the pixels.
        bins_nearer: move everything so many bins nearer.

    Returns:
        Sums to 1 over the bins, or to 0 in a cell without a known depth within them.
    """
    batch, count, height, width = metres.shape
    row = torch.arange(height, device=metres.device) * size[0] // height
    column = torch.arange(width, device=metres.device) * size[1] // width
    cell = (row[:, None] * size[1] + column).reshape(-1)
    cells, images = size[0] * size[1], batch * count
    known = metres.reshape(images, -1)
    if nearest:
        far = torch.where(known > 0, known, torch.inf)
        least = torch.full((images, cells), torch.inf, device=metres.device, dtype=metres.dtype)
        least = least.scatter_reduce(1, cell.expand(images, -1), far, "amin")
        known, cell = torch.where(least.isinf(), 0.0, least), torch.arange(cells, device=metres.device)
    index = bins.index_of(known) - bins_nearer
    index = torch.where((known > 0) & (index >= 0), index, bins.count)
    counts = torch.zeros(images, cells * (bins.count + 1), device=metres.device, dtype=metres.dtype)
    counts = counts.scatter_add(1, cell * (bins.count + 1) + index, torch.ones_like(known))
    shares = counts.reshape(images, *size, bins.count + 1)[..., : bins.count]
    shares = shares / shares.sum(dim=-1, keepdim=True).clamp(min=1.0)
    return shares.permute(0, 3, 1, 2).reshape(batch, count, bins.count, *size)
