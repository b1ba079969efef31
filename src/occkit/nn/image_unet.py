"""A U-Net over images: a backbone on the way down, skips on the way up, features at several strides."""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor, nn

from occkit.errors import ConfigError
from occkit.nn.backbones import BackboneConfig, SmallConvNetConfig
from occkit.nn.blocks import BatchNormConfig, ConvBlock, NormConfig, resize_to


@dataclass(frozen=True, kw_only=True)
class ImageUNetConfig:
    """Backbone and decoder, which goes up by factors of two from the coarsest map to the finest one asked for."""

    backbone: BackboneConfig = field(
        default_factory=lambda: SmallConvNetConfig(out_stages=(0, 1, 2, 3), blocks=(0, 1, 1, 1))
    )
    """The way down; its maps are the skips. Where it has none at a stride (EfficientNet here has none at 2), nothing is
    joined; at stride 1 it is the image."""
    widths: tuple[int, ...] = (16, 16, 24, 32)
    """Width of the decoder at each stride from the finest of `strides` up to half the backbone's coarsest."""
    strides: tuple[int, ...] = (1, 2, 4, 8)
    """Strides of the maps that are returned, ascending powers of two."""
    channels: int = 64
    """Width of each returned map."""
    norm: NormConfig = field(default_factory=BatchNormConfig)
    """Normalisation after each convolution of the decoder."""

    def __post_init__(self) -> None:
        powers = all(s > 0 and s & (s - 1) == 0 for s in self.strides)
        if not self.strides or not powers or list(self.strides) != sorted(set(self.strides)):
            raise ConfigError(f"ImageUNet: strides must be ascending powers of two, got {self.strides}")

    def build(self) -> "ImageUNet":
        """Return the network.

        Raises:
            ConfigError: if the widths do not belong to the strides between.
        """
        return ImageUNet(self)


class ImageUNet(nn.Module):
    """See `ImageUNetConfig`. Source: Cao and de Charette, "MonoScene", CVPR 2022, section 3 and supplement."""

    def __init__(self, config: ImageUNetConfig) -> None:
        super().__init__()
        self.strides, self.channels = config.strides, config.channels
        self.backbone = config.backbone.build()
        skips: dict[int, int] = dict(zip(self.backbone.strides, self.backbone.channels, strict=True))
        coarsest = max(skips)
        self.levels: list[int] = []
        stride = coarsest // 2
        while stride >= config.strides[0]:
            self.levels.append(stride)
            stride //= 2
        if len(config.widths) != len(self.levels) or config.strides[-1] > self.levels[0]:
            raise ConfigError(
                f"ImageUNet: a backbone of stride {coarsest} needs a width for each of the strides "
                f"{sorted(self.levels)}, and strides among these; got {config.widths} and {config.strides}"
            )
        skips[1] = 3
        width = skips[coarsest]
        self.ups, self.outs = nn.ModuleList(), nn.ModuleDict()
        for level, wide in zip(self.levels, reversed(config.widths), strict=True):
            joined = width + skips.get(level, 0)
            self.ups.append(
                nn.Sequential(
                    ConvBlock(joined, wide, norm=config.norm, dims=2), ConvBlock(wide, wide, norm=config.norm, dims=2)
                )
            )
            if level in config.strides:
                self.outs[str(level)] = nn.Conv2d(wide, config.channels, 1)
            width = wide

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> list[Float[Tensor, "b c _ _"]]:
        """Return a map for each of `strides`, finest first; sides are divided by the stride and rounded up."""
        found: dict[int, Tensor] = dict(zip(self.backbone.strides, self.backbone(images), strict=True))
        x = found[max(found)]
        found[1] = images
        height, width = (int(s) for s in images.shape[2:])
        maps: list[Tensor] = []
        for level, up in zip(self.levels, self.ups, strict=True):
            size = (-(-height // level), -(-width // level))
            x = resize_to(x, size)
            # EfficientNet rounds some odd sides down.
            x = up(torch.cat([x, resize_to(found[level], size)], dim=1) if level in found else x)
            if str(level) in self.outs:
                maps.append(self.outs[str(level)](x))
        return maps[::-1]
