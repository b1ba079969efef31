"""Volumes: residual networks over voxels, in three dimensions or with the height folded into channels."""

from dataclasses import dataclass, field
from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from occkit.errors import ConfigError
from occkit.nn.blocks import BatchNormConfig, ConvBlock, NormConfig, residual_stages, resize_to, run_stages


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
