"""Heads: from a lifted feature volume to class scores a voxel, in three dimensions or in two."""

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from occkit.errors import ConfigError
from occkit.nn.blocks import BatchNormConfig, ConvBlock, GroupNormConfig, NormConfig, build_norm, resize_to
from occkit.nn.volumes import (
    GroundNetConfig,
    HourglassNetConfig,
    VolumeNetConfig,
    fold_height,
    spread_by_outputs,
    unfold_height,
)


@dataclass(frozen=True, kw_only=True)
class VolumeHeadConfig:
    """A 3D network over the volume, a 3x3x3 convolution and a classifier of two layers a voxel (BEVDet-Occ)."""

    net: VolumeNetConfig = field(default_factory=VolumeNetConfig)
    """The 3D network."""
    hidden: int | None = 64
    """Width of the classifier's hidden layer; 0 is a linear classifier, None has none: the convolution writes the
    scores itself (LangOcc)."""

    def build(self, in_channels: int, num_classes: int) -> "VolumeHead":
        """Return the head for volumes of `in_channels`."""
        return VolumeHead(self, in_channels, num_classes)


class VolumeHead(nn.Module):
    """See `VolumeHeadConfig`; works on a grid of any size. Source: Huang and Huang, BEVDet-Occ."""

    def __init__(self, config: VolumeHeadConfig, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.net = config.net.build(in_channels)
        channels = config.net.channels
        self.conv = nn.Conv3d(channels, num_classes if config.hidden is None else channels, 3, padding=1)
        if config.hidden is None:
            self.classify: nn.Module = nn.Identity()
        elif config.hidden:
            self.classify = nn.Sequential(
                nn.Linear(channels, config.hidden), nn.Softplus(), nn.Linear(config.hidden, num_classes)
            )
        else:
            self.classify = nn.Sequential(nn.ReLU(), nn.Linear(channels, num_classes))

    def forward(self, volume: Float[Tensor, "b c _ _ _"], shape: tuple[int, int, int]) -> Float[Tensor, "b k x y z"]:
        """Return class scores on a grid of `shape`; interpolated where the volume is coarser than that."""
        features = self.conv(self.net(volume))
        # Channels last: the classifier is one matrix product over all voxels.
        logits = self.classify(features.permute(0, 2, 3, 4, 1))
        return resize_to(logits.permute(0, 4, 1, 2, 3), shape)


@dataclass(frozen=True, kw_only=True)
class SkipVolumeHeadConfig:
    """A 3D network over coarse voxels, and the lifted features of the fine ones carried past it.

    A strided convolution makes voxels of `stride` fine ones, the 3D network gives them context, a linear layer writes
    `fine_channels` for each fine voxel in a coarse one, and a classifier of two layers reads those beside what was
    lifted into the fine voxel itself. Small things keep their place at the price of a coarse network.
    """

    net: VolumeNetConfig = field(default_factory=VolumeNetConfig)
    """The 3D network over coarse voxels; its first stage should have stride 1."""
    stride: tuple[int, int, int] = (2, 2, 2)
    """Fine voxels of a coarse one along x, y, z."""
    stem_channels: int = 32
    """Width of what the 3D network reads."""
    fine_channels: int = 16
    """Width of what it says to each fine voxel."""
    hidden: int = 48
    """Width of the classifier's hidden layer."""
    norm: NormConfig = field(default_factory=BatchNormConfig)
    """Normalisation after the strided convolution."""

    def build(self, in_channels: int, num_classes: int) -> "SkipVolumeHead":
        """Return the head for volumes of `in_channels`."""
        return SkipVolumeHead(self, in_channels, num_classes)


class SkipVolumeHead(nn.Module):
    """See `SkipVolumeHeadConfig`; works on a grid of any size that the stride divides. Source: original."""

    def __init__(self, config: SkipVolumeHeadConfig, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.stride = config.stride
        self.stem = nn.Sequential(
            nn.Conv3d(in_channels, config.stem_channels, config.stride, stride=config.stride, bias=False),
            build_norm(config.norm, config.stem_channels, dims=3),
            nn.ReLU(inplace=True),
        )
        self.net = config.net.build(config.stem_channels)
        sx, sy, sz = config.stride
        self.refine = nn.Linear(config.net.channels, sx * sy * sz * config.fine_channels)
        self.classify = nn.Sequential(
            nn.Linear(config.fine_channels + in_channels, config.hidden),
            nn.ReLU(inplace=True),
            nn.Linear(config.hidden, num_classes),
        )

    def forward(self, volume: Float[Tensor, "b c _ _ _"], shape: tuple[int, int, int]) -> Float[Tensor, "b k x y z"]:
        """Return class scores on a grid of `shape`; interpolated where the volume is coarser than that.

        Raises:
            ConfigError: if the stride does not divide the volume.
        """
        if any(n % s for n, s in zip(volume.shape[2:], self.stride, strict=True)):
            raise ConfigError(f"SkipVolumeHead: stride {self.stride} does not divide {tuple(volume.shape[2:])} voxels")
        coarse = self.refine(self.net(self.stem(volume)).permute(0, 2, 3, 4, 1))
        b, x, y, z, _ = coarse.shape
        sx, sy, sz = self.stride
        fine = coarse.reshape(b, x, y, z, sx, sy, sz, -1).permute(0, 1, 4, 2, 5, 3, 6, 7)
        fine = F.relu(fine.reshape(b, x * sx, y * sy, z * sz, -1))
        logits = self.classify(torch.cat([fine, volume.permute(0, 2, 3, 4, 1)], dim=-1))
        return resize_to(logits.permute(0, 4, 1, 2, 3), shape)


@dataclass(frozen=True, kw_only=True)
class HeightInChannelsHeadConfig:
    """Height folded into channels, a 2D network, and a classifier that writes all heights of a column at once."""

    net: GroundNetConfig = field(default_factory=GroundNetConfig)
    """The 2D network over the ground plane."""
    num_heights: int = 16
    """Voxels of a column of the volume to predict."""
    hidden: int = 512
    """Width of the classifier's hidden layer."""
    upsample: int = 1
    """Write so many columns along x and along y for each cell of the plane (FlashOcc: 1)."""

    def build(self, in_channels: int, num_classes: int) -> "HeightInChannelsHead":
        """Return the head for `in_channels` of a folded volume: features times lifted heights."""
        return HeightInChannelsHead(self, in_channels, num_classes)


class HeightInChannelsHead(nn.Module):
    """See `HeightInChannelsHeadConfig`. Source: Yu et al., "FlashOcc", 2023 (channel-to-height)."""

    def __init__(self, config: HeightInChannelsHeadConfig, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.num_heights = config.num_heights
        self.in_channels = in_channels
        self.upsample = config.upsample
        channels = config.net.channels
        self.net = config.net.build(in_channels)
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.classify = nn.Sequential(
            nn.Linear(channels, config.hidden),
            nn.Softplus(),
            nn.Linear(config.hidden, config.num_heights * num_classes * config.upsample**2),
        )

    def forward(self, volume: Float[Tensor, "b c _ _ _"], shape: tuple[int, int, int]) -> Float[Tensor, "b k x y z"]:
        """Return class scores on a grid of `shape`; interpolated where the plane is coarser than that.

        Raises:
            ConfigError: if the grid's number of heights is not the one that the head was made for.
        """
        plane = fold_height(volume)
        if shape[2] != self.num_heights or plane.shape[1] != self.in_channels:
            raise ConfigError(
                f"HeightInChannelsHead: made for {self.num_heights} heights and {self.in_channels} channels, got "
                f"{shape[2]} and {plane.shape[1]}; a head over channels is bound to its heights, a VolumeHead is not"
            )
        features = self.conv(self.net(plane))
        logits = F.pixel_shuffle(self.classify(features.permute(0, 2, 3, 1)).permute(0, 3, 1, 2), self.upsample)
        return unfold_height(resize_to(logits, shape[:2]), self.num_heights)


@dataclass(frozen=True, kw_only=True)
class HourglassHeadConfig:
    """Stacked hour-glasses over the volume, then 3x3x3 convolutions of which the last one scores the classes."""

    net: HourglassNetConfig = field(default_factory=HourglassNetConfig)
    """The 3D network; its normalisation is the head's too."""
    layers: int = 4
    """Convolutions of the network's width before the one that scores."""
    norm_scores: bool = True
    """Normalise the scores, as published; else the last convolution has a bias."""

    def build(self, in_channels: int, num_classes: int) -> "HourglassHead":
        """Return the head for volumes of `in_channels`."""
        return HourglassHead(self, in_channels, num_classes)


class HourglassHead(nn.Module):
    """See `HourglassHeadConfig`; works on a grid of any size.

    Source: Zhang et al. 2023 (OccNeRF), released code: its head for semantics, which scores free space as well.
    """

    def __init__(self, config: HourglassHeadConfig, in_channels: int, num_classes: int) -> None:
        super().__init__()
        channels, norm = config.net.channels, config.net.norm
        self.net = config.net.build(in_channels)
        self.hidden = nn.Sequential(*(ConvBlock(channels, channels, norm=norm, dims=3) for _ in range(config.layers)))
        self.score = nn.Conv3d(channels, num_classes, 3, padding=1, bias=not config.norm_scores)
        self.norm = build_norm(norm, num_classes, dims=3) if config.norm_scores else nn.Identity()
        spread_by_outputs(self.hidden)
        spread_by_outputs(self.score)

    def forward(self, volume: Float[Tensor, "b c _ _ _"], shape: tuple[int, int, int]) -> Float[Tensor, "b k x y z"]:
        """Return class scores on a grid of `shape`; interpolated where the volume is coarser than that."""
        return resize_to(self.norm(self.score(self.hidden(self.net(volume)))), shape)


@dataclass(frozen=True, kw_only=True)
class LinearHeadConfig:
    """Layer norm and one linear layer a voxel (VoxFormer)."""

    fine: bool = True
    """Interpolate the features to the label's voxels first, as published; else the scores, which is eight times cheaper
    for voxels of twice the edge."""

    def build(self, in_channels: int, num_classes: int) -> "LinearHead":
        """Return the head for volumes of `in_channels`."""
        return LinearHead(self, in_channels, num_classes)


class LinearHead(nn.Module):
    """See `LinearHeadConfig`; works on a grid of any size. Source: Li et al., "VoxFormer", CVPR 2023."""

    def __init__(self, config: LinearHeadConfig, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.fine = config.fine
        self.norm = nn.LayerNorm(in_channels)
        self.score = nn.Linear(in_channels, num_classes)

    def forward(self, volume: Float[Tensor, "b c _ _ _"], shape: tuple[int, int, int]) -> Float[Tensor, "b k x y z"]:
        """Return class scores on a grid of `shape`."""
        features = resize_to(volume, shape) if self.fine else volume
        logits = self.score(self.norm(features.permute(0, 2, 3, 4, 1)))
        return resize_to(logits.permute(0, 4, 1, 2, 3), shape)


@dataclass(frozen=True, kw_only=True)
class ConvHeadConfig:
    """A 3x3x3 and a 1x1x1 convolution on coarse voxels; the scores are interpolated (CGFormer)."""

    hidden: int = 64
    """Width between."""
    layers: int = 1
    """Layers of a voxel that are scored apart, one above the other (ours): a road is thinner than a coarse voxel."""
    norm: NormConfig = field(default_factory=lambda: GroupNormConfig(channels_per_group=2))
    """Normalisation between."""

    def build(self, in_channels: int, num_classes: int) -> "ConvHead":
        """Return the head for volumes of `in_channels`."""
        return ConvHead(self, in_channels, num_classes)


class ConvHead(nn.Module):
    """See `ConvHeadConfig`; works on a grid of any size. Source: Yu et al., "CGFormer", NeurIPS 2024."""

    def __init__(self, config: ConvHeadConfig, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.layers = config.layers
        self.mix = ConvBlock(in_channels, config.hidden, norm=config.norm, dims=3)
        self.score = nn.Conv3d(config.hidden, num_classes * config.layers, 1)

    def forward(self, volume: Float[Tensor, "b c _ _ _"], shape: tuple[int, int, int]) -> Float[Tensor, "b k x y z"]:
        """Return class scores on a grid of `shape`; interpolated where the volume is coarser than that."""
        scores = self.score(self.mix(volume)).unflatten(1, (-1, self.layers))  # [b, k, layers, x, y, z]
        return resize_to(scores.movedim(2, -1).flatten(-2), shape)


HeadConfig = (
    VolumeHeadConfig
    | SkipVolumeHeadConfig
    | HeightInChannelsHeadConfig
    | HourglassHeadConfig
    | LinearHeadConfig
    | ConvHeadConfig
)
