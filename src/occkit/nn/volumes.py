"""Volumes: residual networks over voxels, in three dimensions or with the height folded into channels."""

from dataclasses import dataclass, field
from math import prod, sqrt
from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from occkit.errors import ConfigError
from occkit.nn.blocks import (
    BatchNormConfig,
    ConvBlock,
    NormConfig,
    build_norm,
    residual_stages,
    resize_to,
    run_stages,
)


@dataclass(frozen=True, kw_only=True)
class VolumeNetConfig:
    """Residual 3D encoder, its scales interpolated to the finest, concatenated and mixed by one 1x1x1 convolution."""

    widths: tuple[int, ...] = (32, 64, 128)
    """Channels of the stages."""
    blocks: tuple[int, ...] = (1, 2, 4)
    """Residual blocks of each stage."""
    strides: tuple[int | tuple[int, int, int], ...] = (1, 2, 2)
    """Stride of the first block of each stage, for all axes or for (x, y, z)."""
    channels: int = 32
    """Width of the result."""
    norm: NormConfig = field(default_factory=BatchNormConfig)
    """Normalisation after each convolution."""

    def __post_init__(self) -> None:
        if not len(self.widths) == len(self.blocks) == len(self.strides) > 0:
            raise ConfigError(f"VolumeNet: widths, blocks and strides differ in length: {self}")

    def build(self, in_channels: int) -> "VolumeNet":
        """Return the network for volumes of `in_channels`."""
        return VolumeNet(self, in_channels)


class VolumeNet(nn.Module):
    """See `VolumeNetConfig`. Source: Huang and Huang, BEVDet4D-Occ."""

    def __init__(self, config: VolumeNetConfig, in_channels: int) -> None:
        super().__init__()
        self.channels = config.channels
        self.stages = residual_stages(
            in_channels, config.widths, config.blocks, config.strides, norm=config.norm, dims=3
        )
        self.mix = ConvBlock(sum(config.widths), config.channels, norm=config.norm, dims=3, kernel=1)

    def forward(self, volume: Float[Tensor, "b c x y z"]) -> Float[Tensor, "b d _ _ _"]:
        """Return features at the resolution of the first stage."""
        scales = run_stages(self.stages, volume)
        size = tuple(scales[0].shape[2:])
        # Concatenating first and mixing then is the same, but enlarges many more channels.
        kernels = cast(nn.Conv3d, self.mix[0]).weight.split([scale.shape[1] for scale in scales], dim=1)
        mixed = F.conv3d(scales[0], kernels[0])
        for scale, kernel in zip(scales[1:], kernels[1:], strict=True):
            mixed = mixed + resize_to(F.conv3d(scale, kernel), size)
        for layer in list(self.mix)[1:]:
            mixed = layer(mixed)
        return mixed


@dataclass(frozen=True, kw_only=True)
class HourglassNetConfig:
    """Hour-glasses in a row: each goes twice down to half the resolution and up again, and knows the one before it."""

    channels: int = 32
    """Width at the volume's resolution, also of the result; inside the hour-glasses twice that."""
    hourglasses: int = 3
    """How many."""
    norm: NormConfig = field(default_factory=BatchNormConfig)
    """Normalisation after each convolution."""

    def __post_init__(self) -> None:
        if self.channels < 1 or self.hourglasses < 1:
            raise ConfigError(f"HourglassNet: channels and hourglasses must be at least 1: {self}")

    def build(self, in_channels: int) -> "HourglassNet":
        """Return the network for volumes of `in_channels`."""
        return HourglassNet(self, in_channels)


class HourglassNet(nn.Module):
    """See `HourglassNetConfig`; works on a volume of any size.

    Source: Chang and Chen, "PSMNet", CVPR 2018 (stacked hour-glass), as Zhang et al. 2023 (OccNeRF) use it.
    """

    def __init__(self, config: HourglassNetConfig, in_channels: int) -> None:
        super().__init__()
        self.channels = config.channels
        self.stem = nn.Sequential(
            ConvBlock(in_channels, config.channels, norm=config.norm, dims=3),
            ConvBlock(config.channels, config.channels, norm=config.norm, dims=3),
        )
        self.refine = nn.Sequential(
            ConvBlock(config.channels, config.channels, norm=config.norm, dims=3),
            nn.Conv3d(config.channels, config.channels, 3, padding=1, bias=False),
            build_norm(config.norm, config.channels, dims=3),
        )
        self.hourglasses = nn.ModuleList(Hourglass(config.channels, config.norm) for _ in range(config.hourglasses))
        spread_by_outputs(self)

    def forward(self, volume: Float[Tensor, "b c x y z"]) -> Float[Tensor, "b d x y z"]:
        """Return features at the resolution of the input."""
        stem = self.stem(volume)
        stem = stem + self.refine(stem)
        out, first_down, last_up = stem, None, None
        for hourglass in self.hourglasses:
            out, down, last_up = hourglass(out, first_down, last_up)
            out = out + stem
            first_down = down if first_down is None else first_down
        return out


class Hourglass(nn.Module):
    """Down to half and a quarter of the resolution and up again, beside what other hour-glasses had at half of it."""

    def __init__(self, channels: int, norm: NormConfig) -> None:
        super().__init__()
        wide = 2 * channels
        self.down = nn.Sequential(
            ConvBlock(channels, wide, norm=norm, dims=3, stride=2),
            nn.Conv3d(wide, wide, 3, padding=1, bias=False),
            build_norm(norm, wide, dims=3),
        )
        self.bottom = nn.Sequential(
            ConvBlock(wide, wide, norm=norm, dims=3, stride=2), ConvBlock(wide, wide, norm=norm, dims=3)
        )
        self.up = nn.ConvTranspose3d(wide, wide, 3, stride=2, padding=1, bias=False)
        self.up_norm = build_norm(norm, wide, dims=3)
        self.out = nn.ConvTranspose3d(wide, channels, 3, stride=2, padding=1, bias=False)
        self.out_norm = build_norm(norm, channels, dims=3)

    def forward(
        self,
        x: Float[Tensor, "b c x y z"],
        first_down: Float[Tensor, "b d _ _ _"] | None,
        last_up: Float[Tensor, "b d _ _ _"] | None,
    ) -> tuple[Float[Tensor, "b c x y z"], Float[Tensor, "b d _ _ _"], Float[Tensor, "b d _ _ _"]]:
        """Run.

        Args:
            x: what comes in.
            first_down: the first hour-glass's features at half the resolution, on its way down; None in the first.
            last_up: those of the hour-glass before this one on its way up; None in the first.

        Returns:
            What comes out, and this one's features at half the resolution, on its way down and up.
        """
        down = self.down(x)
        down = F.relu(down if last_up is None else down + last_up)
        up = self.up_norm(self.up(self.bottom(down), output_size=list(down.shape[2:])))
        up = F.relu(up + (down if first_down is None else first_down))
        return self.out_norm(self.out(up, output_size=list(x.shape[2:]))), down, up


def spread_by_outputs(module: nn.Module) -> None:
    """Draw the kernels of all 3D convolutions from `N(0, 2 / (k^3 outputs))`. Source: PSMNet; He et al., ICCV 2015."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv3d | nn.ConvTranspose3d):
            nn.init.normal_(layer.weight, std=sqrt(2 / (prod(layer.kernel_size) * layer.out_channels)))


@dataclass(frozen=True, kw_only=True)
class GroundNetConfig:
    """Residual 2D encoder over the ground plane, first and last scale joined (FlashOcc's bird's-eye-view network)."""

    widths: tuple[int, ...] = (128, 256, 512)
    """Channels of the stages."""
    blocks: tuple[int, ...] = (2, 2, 2)
    """Residual blocks of each stage."""
    strides: tuple[int, ...] = (2, 2, 2)
    """Stride of the first block of each stage; start with 1 where a voxel's width matters."""
    channels: int = 256
    """Width of the result, at the resolution of the input."""
    norm: NormConfig = field(default_factory=BatchNormConfig)
    """Normalisation after each convolution."""

    def __post_init__(self) -> None:
        if not len(self.widths) == len(self.blocks) == len(self.strides) >= 2:
            raise ConfigError(f"GroundNet: widths, blocks and strides must have one length, at least 2: {self}")

    def build(self, in_channels: int) -> "GroundNet":
        """Return the network for planes of `in_channels`."""
        return GroundNet(self, in_channels)


class GroundNet(nn.Module):
    """See `GroundNetConfig`. Source: Yu et al., "FlashOcc", 2023; Huang et al., BEVDet."""

    def __init__(self, config: GroundNetConfig, in_channels: int) -> None:
        super().__init__()
        self.channels = config.channels
        self.stages = residual_stages(
            in_channels, config.widths, config.blocks, config.strides, norm=config.norm, dims=2
        )
        wide = 2 * config.channels
        self.join = nn.Sequential(
            ConvBlock(config.widths[0] + config.widths[-1], wide, norm=config.norm, dims=2),
            ConvBlock(wide, wide, norm=config.norm, dims=2),
        )
        self.finish = nn.Sequential(
            ConvBlock(wide, config.channels, norm=config.norm, dims=2),
            nn.Conv2d(config.channels, config.channels, 1),
        )

    def forward(self, plane: Float[Tensor, "b c x y"]) -> Float[Tensor, "b d x y"]:
        """Return features at the resolution of the input."""
        scales = run_stages(self.stages, plane)
        fine = scales[0]
        joined = self.join(torch.cat([fine, resize_to(scales[-1], tuple(fine.shape[2:]))], dim=1))
        return self.finish(resize_to(joined, tuple(plane.shape[2:])))


def fold_height(volume: Float[Tensor, "b c x y z"]) -> Float[Tensor, "b c*z x y"]:
    """Return the volume as a plane whose channels are (feature, height), height the faster."""
    return volume.permute(0, 1, 4, 2, 3).flatten(1, 2)


def unfold_height(plane: Float[Tensor, "b cz x y"], num_heights: int) -> Float[Tensor, "b c x y z"]:
    """Return the volume whose heights were folded into channels; inverse of `fold_height`."""
    batch, channels, x, y = plane.shape
    return plane.reshape(batch, channels // num_heights, num_heights, x, y).permute(0, 1, 3, 4, 2)


@dataclass(frozen=True, kw_only=True)
class ColumnNetConfig:
    """A 2D network over the ground plane with the heights as channels; it answers for each height (LMSCNet's idea)."""

    net: GroundNetConfig = field(
        default_factory=lambda: GroundNetConfig(widths=(48, 64, 80), blocks=(1, 1, 1), strides=(1, 2, 2), channels=128)
    )
    """The 2D network."""
    heights: int = 16
    """Voxels of a column."""
    channels: int = 32
    """Width of the result."""

    def build(self, in_channels: int) -> "ColumnNet":
        """Return the network for volumes of `in_channels`."""
        return ColumnNet(self, in_channels)


class ColumnNet(nn.Module):
    """See `ColumnNetConfig`; bound to its number of heights.

    Source: Roldao et al., "LMSCNet", 3DV 2020, as VoxFormer's first stage uses it; the 2D network is FlashOcc's.
    """

    def __init__(self, config: ColumnNetConfig, in_channels: int) -> None:
        super().__init__()
        self.channels, self.heights = config.channels, config.heights
        self.net = config.net.build(in_channels * config.heights)
        self.unfold = nn.Conv2d(config.net.channels, config.channels * config.heights, 1)

    def forward(self, volume: Float[Tensor, "b c x y z"]) -> Float[Tensor, "b d x y z"]:
        """Return features at the resolution of the input.

        Raises:
            ConfigError: if the volume has another number of heights.
        """
        if volume.shape[4] != self.heights:
            raise ConfigError(f"ColumnNet: made for {self.heights} heights, got {volume.shape[4]}")
        return unfold_height(self.unfold(F.relu(self.net(fold_height(volume)))), self.heights)
