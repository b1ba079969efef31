"""Volumes: residual networks over voxels, in three dimensions or with the height folded into channels."""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor, nn

from occkit.errors import ConfigError
from occkit.nn.blocks import BatchNormConfig, ConvBlock, NormConfig, ResidualBlock, resize_to


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
        stages = []
        previous = in_channels
        for width, blocks, stride in zip(config.widths, config.blocks, config.strides, strict=True):
            first = ResidualBlock(previous, width, norm=config.norm, dims=3, stride=stride, project=True)
            rest = [ResidualBlock(width, width, norm=config.norm, dims=3) for _ in range(blocks - 1)]
            stages.append(nn.Sequential(first, *rest))
            previous = width
        self.stages = nn.ModuleList(stages)
        self.mix = ConvBlock(sum(config.widths), config.channels, norm=config.norm, dims=3, kernel=1)

    def forward(self, volume: Float[Tensor, "b c x y z"]) -> Float[Tensor, "b d _ _ _"]:
        """Return features at the resolution of the first stage."""
        scales = []
        for stage in self.stages:
            volume = stage(volume)
            scales.append(volume)
        size = tuple(scales[0].shape[2:])
        return self.mix(torch.cat([resize_to(s, size) for s in scales], dim=1))


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
        stages = []
        previous = in_channels
        for width, blocks, stride in zip(config.widths, config.blocks, config.strides, strict=True):
            first = ResidualBlock(previous, width, norm=config.norm, dims=2, stride=stride, project=True)
            rest = [ResidualBlock(width, width, norm=config.norm, dims=2) for _ in range(blocks - 1)]
            stages.append(nn.Sequential(first, *rest))
            previous = width
        self.stages = nn.ModuleList(stages)
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
        x, scales = plane, []
        for stage in self.stages:
            x = stage(x)
            scales.append(x)
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
