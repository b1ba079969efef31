"""Necks: several feature maps of a backbone become one."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import log2

import torch
from jaxtyping import Float
from torch import Tensor, nn

from occkit.errors import ConfigError
from occkit.nn.blocks import BatchNormConfig, ConvBlock, NormConfig, build_norm, resize_to


@dataclass(frozen=True, kw_only=True)
class ConcatNeckConfig:
    """FPN of Lift-Splat: coarser maps are interpolated to the finest, concatenated, two 3x3 convolutions."""

    channels: int = 256
    """Width of the result."""
    fine_channels: int = 0
    """Enlarge the result to twice its size and width to this, by two further convolutions; 0 leaves it as it is."""
    norm: NormConfig = field(default_factory=BatchNormConfig)
    """Normalisation after each convolution."""

    def build(self, in_channels: Sequence[int]) -> "ConcatNeck":
        """Return the neck for maps of the given widths, finest first."""
        return ConcatNeck(self, in_channels)


class ConcatNeck(nn.Module):
    """See `ConcatNeckConfig`. Source: Philion and Fidler, "Lift, Splat, Shoot", ECCV 2020; Huang et al., BEVDet."""

    def __init__(self, config: ConcatNeckConfig, in_channels: Sequence[int]) -> None:
        super().__init__()
        self.channels = config.fine_channels or config.channels
        self.convs = nn.Sequential(
            ConvBlock(sum(in_channels), config.channels, norm=config.norm, dims=2),
            ConvBlock(config.channels, config.channels, norm=config.norm, dims=2),
        )
        if config.fine_channels:
            self.convs.extend(
                [
                    nn.Upsample(scale_factor=2, mode="bilinear"),
                    ConvBlock(config.channels, config.fine_channels, norm=config.norm, dims=2),
                    ConvBlock(config.fine_channels, config.fine_channels, norm=config.norm, dims=2),
                ]
            )

    def forward(self, maps: list[Float[Tensor, "b _ _ _"]]) -> Float[Tensor, "b c h w"]:
        """Return one map at the resolution of the first of `maps`, or at twice that."""
        size = tuple(maps[0].shape[2:])
        return self.convs(torch.cat([resize_to(m, size) for m in maps], dim=1))


@dataclass(frozen=True, kw_only=True)
class AddNeckConfig:
    """Feature pyramid: every map to one width by 1x1, coarser ones added to finer ones, one 3x3 on the finest."""

    channels: int = 256
    """Width of the result."""

    def build(self, in_channels: Sequence[int]) -> "AddNeck":
        """Return the neck for maps of the given widths, finest first."""
        return AddNeck(self, in_channels)


class AddNeck(nn.Module):
    """See `AddNeckConfig`. Source: Lin et al., "Feature pyramid networks", CVPR 2017; only the finest level is made."""

    def __init__(self, config: AddNeckConfig, in_channels: Sequence[int]) -> None:
        super().__init__()
        self.channels = config.channels
        self.laterals = nn.ModuleList(nn.Conv2d(c, config.channels, 1) for c in in_channels)
        self.smooth = nn.Conv2d(config.channels, config.channels, 3, padding=1)

    def forward(self, maps: list[Float[Tensor, "b _ _ _"]]) -> Float[Tensor, "b c h w"]:
        """Return one map at the resolution of the first of `maps`."""
        levels = [lateral(m) for lateral, m in zip(self.laterals, maps, strict=True)]
        x = levels[-1]
        for level in reversed(levels[:-1]):
            x = level + resize_to(x, tuple(level.shape[2:]))
        return self.smooth(x)


@dataclass(frozen=True, kw_only=True)
class ScaleNeckConfig:
    """Every map to one stride by a convolution, strided or transposed, whose kernel is its stride; side by side."""

    channels: int = 128
    """Width of each map's part of the result."""
    scales: tuple[float, ...] = (0.5, 1.0, 2.0, 4.0, 4.0)
    """How many times each map is enlarged: powers of 2. The defaults are CGFormer's, for EfficientNet's five maps."""
    norm: NormConfig = field(default_factory=BatchNormConfig)
    """Normalisation after each convolution."""

    def build(self, in_channels: Sequence[int]) -> "ScaleNeck":
        """Return the neck for maps of the given widths, finest first.

        Raises:
            ConfigError: if there is not one scale for each map, or one is no power of 2.
        """
        return ScaleNeck(self, in_channels)


class ScaleNeck(nn.Module):
    """See `ScaleNeckConfig`. Source: Yan et al., "SECOND", Sensors 2018 (its feature pyramid); as CGFormer uses it."""

    def __init__(self, config: ScaleNeckConfig, in_channels: Sequence[int]) -> None:
        super().__init__()
        if len(config.scales) != len(in_channels) or any(not log2(scale).is_integer() for scale in config.scales):
            raise ConfigError(
                f"ScaleNeck: expected a power of 2 for each of {len(in_channels)} maps, got {config.scales}"
            )
        self.channels = config.channels * len(in_channels)
        parts = [_scaled(width, config, scale) for width, scale in zip(in_channels, config.scales, strict=True)]
        self.parts = nn.ModuleList(parts)

    def forward(self, maps: list[Float[Tensor, "b _ _ _"]]) -> Float[Tensor, "b c h w"]:
        """Return one map; where sides were odd the others are interpolated to the first."""
        found = [part(one) for part, one in zip(self.parts, maps, strict=True)]
        return torch.cat([resize_to(one, tuple(found[0].shape[2:])) for one in found], dim=1)


def _scaled(width: int, config: ScaleNeckConfig, scale: float) -> nn.Module:
    if scale > 1:
        kind: type[nn.Conv2d | nn.ConvTranspose2d] = nn.ConvTranspose2d
        side = round(scale)
    else:
        kind, side = nn.Conv2d, round(1 / scale)
    layer = kind(width, config.channels, side, stride=side, bias=False)
    return nn.Sequential(layer, build_norm(config.norm, config.channels, dims=2), nn.ReLU(inplace=True))


NeckConfig = ConcatNeckConfig | AddNeckConfig | ScaleNeckConfig
