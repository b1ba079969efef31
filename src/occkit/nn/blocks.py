"""The smallest bricks: convolution, normalisation and residual blocks in two and three dimensions."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class BatchNormConfig:
    """Batch normalisation: the published networks; needs several samples a step."""


@dataclass(frozen=True, kw_only=True)
class GroupNormConfig:
    """Group normalisation: the same in training and evaluation, whatever the batch size."""

    channels_per_group: int = 8
    """Channels that share their statistics; where it does not divide the width, the whole width is one group."""


NormConfig = BatchNormConfig | GroupNormConfig
Dimensions = Literal[2, 3]


def build_norm(config: NormConfig, channels: int, *, dims: Dimensions) -> nn.Module:
    """Return a normalisation layer for images (`dims` 2) or volumes (3)."""
    if isinstance(config, BatchNormConfig):
        return nn.BatchNorm2d(channels) if dims == 2 else nn.BatchNorm3d(channels)
    groups, rest = divmod(channels, config.channels_per_group)
    return nn.GroupNorm(1 if rest else groups, channels)


def _convolution(dims: Dimensions) -> Callable[..., nn.Module]:
    return nn.Conv2d if dims == 2 else nn.Conv3d


class ConvBlock(nn.Sequential):
    """Convolution without bias, normalisation, ReLU."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        norm: NormConfig,
        dims: Dimensions,
        kernel: int = 3,
        stride: int | tuple[int, ...] = 1,
        dilation: int = 1,
    ) -> None:
        padding = dilation * (kernel // 2)
        super().__init__(
            _convolution(dims)(
                in_channels,
                out_channels,
                kernel,
                stride=stride,
                padding=padding,
                dilation=dilation,
                bias=False,
            ),
            build_norm(norm, out_channels, dims=dims),
            nn.ReLU(inplace=True),
        )


class ResidualBlock(nn.Module):
    """Two 3x3(x3) convolutions beside a shortcut: `relu(norm(conv(relu(norm(conv(x))))) + shortcut(x))`.

    The shortcut is the identity, or a convolution of the block's stride with normalisation where width or stride change
    or `project` asks for it.

    Source: He et al., "Deep residual learning", CVPR 2016 (basic block).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        norm: NormConfig,
        dims: Dimensions,
        stride: int | tuple[int, ...] = 1,
        project: bool = False,
        shortcut_kernel: int = 3,
    ) -> None:
        super().__init__()
        conv = _convolution(dims)
        self.main = nn.Sequential(
            ConvBlock(in_channels, out_channels, norm=norm, dims=dims, stride=stride),
            conv(out_channels, out_channels, 3, padding=1, bias=False),
            build_norm(norm, out_channels, dims=dims),
        )
        moves = in_channels != out_channels or any(s != 1 for s in (stride if isinstance(stride, tuple) else (stride,)))
        self.shortcut: nn.Module = nn.Identity()
        if project or moves:
            padding = shortcut_kernel // 2
            self.shortcut = nn.Sequential(
                conv(in_channels, out_channels, shortcut_kernel, stride=stride, padding=padding, bias=False),
                build_norm(norm, out_channels, dims=dims),
            )

    def forward(self, x: Float[Tensor, "b c *s"]) -> Float[Tensor, "b d *r"]:
        """Return the block's output; each side is divided by the stride, rounded up."""
        return F.relu(self.main(x) + self.shortcut(x))


def residual_stages(
    in_channels: int,
    widths: Sequence[int],
    blocks: Sequence[int],
    strides: Sequence[int | tuple[int, ...]],
    *,
    norm: NormConfig,
    dims: Dimensions,
) -> nn.ModuleList:
    """Return the stages of a residual encoder, one after the other; a stage's first block has its stride."""
    stages = nn.ModuleList()
    for width, count, stride in zip(widths, blocks, strides, strict=True):
        first = ResidualBlock(in_channels, width, norm=norm, dims=dims, stride=stride, project=True)
        rest = [ResidualBlock(width, width, norm=norm, dims=dims) for _ in range(count - 1)]
        stages.append(nn.Sequential(first, *rest))
        in_channels = width
    return stages


def run_stages(stages: nn.ModuleList, x: Float[Tensor, "b c *s"]) -> list[Tensor]:
    """Return what each stage makes of the one before it, finest first."""
    scales = []
    for stage in stages:
        x = stage(x)
        scales.append(x)
    return scales


def resize_to(x: Float[Tensor, "b c *s"], size: tuple[int, ...]) -> Float[Tensor, "b c *r"]:
    """Interpolate linearly to a size, corners not aligned; the input itself where it has that size already."""
    if tuple(x.shape[2:]) == tuple(size):
        return x
    mode = "bilinear" if x.ndim == 4 else "trilinear"
    return F.interpolate(x, size=size, mode=mode, align_corners=False)
