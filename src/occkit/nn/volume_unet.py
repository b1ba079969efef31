"""A U-Net over voxels in decomposed convolutions, a context-relation prior at its bottom, and its head (MonoScene)."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import ceil, prod

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from occkit.errors import ConfigError
from occkit.nn.blocks import BatchNormConfig, ConvBlock, NormConfig, build_norm, resize_to

_AXES = ((1, 1, 3), (1, 3, 1), (3, 1, 1))


class DecomposedBlock(nn.Module):
    """A residual block whose 3x3x3 convolution is three of length 3, along z, y and x, each beside those before it.

    `y1 = norm(along z)`, `y2 = norm(along y of relu(y1)) + y1`, `y3 = norm(along x of relu(y2)) + y2 + y1`, between two
    1x1x1 convolutions that narrow to a quarter and widen again; a stride acts along each axis in its turn.

    Source: Li et al., "RGBD based dimensional decomposition residual network", CVPR 2019.
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, norm: NormConfig, dilation: int = 1, stride: int = 1
    ) -> None:
        super().__init__()
        narrow = max(out_channels // 4, 4)
        self.stride = stride
        self.enter = ConvBlock(in_channels, narrow, norm=norm, dims=3, kernel=1)
        self.along, self.norms = nn.ModuleList(), nn.ModuleList()
        for x, y, z in _AXES:
            spread = (_if_long(x, dilation), _if_long(y, dilation), _if_long(z, dilation))
            step = (_if_long(x, stride), _if_long(y, stride), _if_long(z, stride))
            padding = (spread[0] * (x // 2), spread[1] * (y // 2), spread[2] * (z // 2))
            self.along.append(
                nn.Conv3d(narrow, narrow, (x, y, z), stride=step, padding=padding, dilation=spread, bias=False)
            )
            self.norms.append(build_norm(norm, narrow, dims=3))
        self.leave = nn.Sequential(
            nn.Conv3d(narrow, out_channels, 1, bias=False), build_norm(norm, out_channels, dims=3)
        )
        self.shortcut: nn.Module = nn.Identity()
        if in_channels != out_channels:
            self.shortcut = nn.Sequential(
                nn.Conv3d(in_channels, out_channels, 1, bias=False), build_norm(norm, out_channels, dims=3)
            )

    def forward(self, x: Float[Tensor, "b c x y z"]) -> Float[Tensor, "b d _ _ _"]:
        """Return the block's output; each side is divided by the stride, rounded up."""
        value, before = self.enter(x), list[Tensor]()
        for axis, (conv, norm) in enumerate(zip(self.along, self.norms, strict=True)):
            found = norm(conv(value))
            before = [self._shrink(one, _AXES[axis]) for one in before]
            found = found + sum(before[1:], start=before[0]) if before else found
            before.append(found)
            value = F.relu(found)
        return F.relu(self.leave(value) + self.shortcut(self._shrink(x, (3, 3, 3))))

    def _shrink(self, x: Tensor, kernel: tuple[int, int, int]) -> Tensor:
        if self.stride == 1:
            return x
        step = (_if_long(kernel[0], self.stride), _if_long(kernel[1], self.stride), _if_long(kernel[2], self.stride))
        return F.avg_pool3d(x, step, stride=step, ceil_mode=True, count_include_pad=False)


def _if_long(side: int, value: int) -> int:
    """Return a stride or dilation along a kernel's axis: 1 where the kernel has length 1."""
    return value if side > 1 else 1


def _process(channels: int, dilations: Sequence[int], norm: NormConfig) -> nn.Sequential:
    return nn.Sequential(*(DecomposedBlock(channels, channels, norm=norm, dilation=d) for d in dilations))


@dataclass(frozen=True, kw_only=True)
class ContextPriorConfig:
    """Every voxel of the coarsest volume says how it relates to each mega-voxel (2 x 2 x 2 of them), and collects
    accordingly.

    The number of mega-voxels is fixed when the network is built: it is bound to its grid.
    """

    relations: int = 4
    """Kinds of relations; `losses.voxel_relations` teaches four: both free, one free, both occupied by one class, or by
    different classes."""
    dilations: tuple[int, ...] = (1, 2, 3)
    """Of the convolutions before."""

    def build(self, channels: int, shape: tuple[int, int, int], norm: NormConfig) -> "ContextPrior":
        """Return the prior for volumes of a shape."""
        return ContextPrior(self, channels, shape, norm)


class ContextPrior(nn.Module):
    """See `ContextPriorConfig`. Source: Cao and de Charette, "MonoScene", CVPR 2022, section 3.2."""

    def __init__(
        self, config: ContextPriorConfig, channels: int, shape: tuple[int, int, int], norm: NormConfig
    ) -> None:
        super().__init__()
        self.shape, self.megas = shape, prod(ceil(n / 2) for n in shape)
        self.relations = config.relations
        self.before = _process(channels, config.dilations, norm)
        self.gather = ConvBlock(channels, 2 * channels, norm=norm, dims=3, stride=2)
        self.relate = nn.Conv3d(channels, config.relations * self.megas, 1)
        self.join = ConvBlock((1 + 2 * config.relations) * channels, channels, norm=norm, dims=3, kernel=1)

    def forward(
        self, volume: Float[Tensor, "b c x y z"]
    ) -> tuple[Float[Tensor, "b c x y z"], Float[Tensor, "b r n m"]]:
        """Return the volume with what it collected, and the scores of the relations of voxels `n` with mega-voxels `m`.

        Raises:
            ConfigError: if the volume has another shape than the network was built for.
        """
        if tuple(volume.shape[2:]) != self.shape:
            raise ConfigError(f"ContextPrior: made for volumes of {self.shape}, got {tuple(volume.shape[2:])}")
        volume = self.before(volume)
        context = self.gather(volume).flatten(2).transpose(1, 2)
        scores = self.relate(volume).unflatten(1, (self.relations, self.megas)).flatten(3).transpose(2, 3)
        # The mean, not the sum, over mega-voxels: what follows does not depend on how many there are.
        found = scores.sigmoid() @ context[:, None] / self.megas
        collected = found.transpose(2, 3).flatten(1, 2).unflatten(2, self.shape)
        return self.join(torch.cat([volume, collected], dim=1)), scores


@dataclass(frozen=True, kw_only=True)
class VolumeUNetConfig:
    """Decomposed residual blocks down to a quarter of the resolution or further, and up again with skips."""

    widths: tuple[int, ...] = (64, 128, 256)
    """Width at each resolution, finest first."""
    dilations: tuple[int, ...] = (1, 2, 3)
    """Of the blocks at each resolution but the coarsest."""
    prior: ContextPriorConfig | None = field(default_factory=ContextPriorConfig)
    """At the coarsest resolution; None leaves it out."""
    norm: NormConfig = field(default_factory=BatchNormConfig)
    """Normalisation after each convolution."""

    def __post_init__(self) -> None:
        if len(self.widths) < 2:
            raise ConfigError(f"VolumeUNet: expected at least two widths, got {self.widths}")

    def build(self, in_channels: int, shape: tuple[int, int, int]) -> "VolumeUNet":
        """Return the network for volumes of `in_channels`; with a prior it is bound to `shape`."""
        return VolumeUNet(self, in_channels, shape)

    def coarsest(self, shape: tuple[int, int, int]) -> tuple[int, int, int]:
        """Return the shape of the volume at the bottom."""
        for _ in self.widths[1:]:
            shape = (ceil(shape[0] / 2), ceil(shape[1] / 2), ceil(shape[2] / 2))
        return shape


class VolumeUNet(nn.Module):
    """See `VolumeUNetConfig`.

    Source: Cao and de Charette, "MonoScene", CVPR 2022 (3D U-Net). Ours: the way up interpolates where theirs has
    transposed convolutions, so that odd sides need no care.
    """

    def __init__(self, config: VolumeUNetConfig, in_channels: int, shape: tuple[int, int, int]) -> None:
        super().__init__()
        widths, norm = config.widths, config.norm
        self.channels = widths[0]
        self.enter: nn.Module = nn.Identity()
        if in_channels != widths[0]:
            self.enter = ConvBlock(in_channels, widths[0], norm=norm, dims=3, kernel=1)
        pairs = list(pairwise(widths))
        self.stages = nn.ModuleList(_process(width, config.dilations, norm) for width in widths[:-1])
        self.downs = nn.ModuleList(DecomposedBlock(fine, coarse, norm=norm, stride=2) for fine, coarse in pairs)
        self.ups = nn.ModuleList(ConvBlock(coarse, fine, norm=norm, dims=3, kernel=1) for fine, coarse in pairs)
        self.prior = None
        if config.prior is not None:
            self.prior = config.prior.build(widths[-1], config.coarsest(shape), norm)

    def forward(
        self, volume: Float[Tensor, "b c x y z"]
    ) -> tuple[Float[Tensor, "b d x y z"], Float[Tensor, "b r n m"] | None]:
        """Return features at the resolution of the input, and the scores of the relations if there is a prior."""
        x, skips = self.enter(volume), list[Tensor]()
        for stage, down in zip(self.stages, self.downs, strict=True):
            skips.append(stage(x))
            x = down(skips[-1])
        scores = None
        if self.prior is not None:
            x, scores = self.prior(x)
        for up, skip in zip(reversed(list(self.ups)), reversed(skips), strict=True):
            x = resize_to(up(x), tuple(skip.shape[2:])) + skip
        return x, scores


@dataclass(frozen=True, kw_only=True)
class DilatedHeadConfig:
    """A convolution, dilated ones beside each other, and class scores."""

    fine: int = 0
    """Width to which the features are brought on the grid of the label before; 0 scores the coarse voxels and
    interpolates the scores."""
    dilations: tuple[int, ...] = (1, 2, 3)
    """Of the convolutions beside each other."""
    norm: NormConfig = field(default_factory=BatchNormConfig)
    """Normalisation after each convolution."""

    def build(self, in_channels: int, num_classes: int) -> "DilatedHead":
        """Return the head for volumes of `in_channels`."""
        return DilatedHead(self, in_channels, num_classes)


class DilatedHead(nn.Module):
    """See `DilatedHeadConfig`; works on a grid of any size.

    Source: MonoScene's completion head, after Roldao et al., "LMSCNet", 3DV 2020.
    """

    def __init__(self, config: DilatedHeadConfig, in_channels: int, num_classes: int) -> None:
        super().__init__()
        width, norm = config.fine or in_channels, config.norm
        self.refine: nn.Module | None = None
        if config.fine:
            self.refine = ConvBlock(in_channels, width, norm=norm, dims=3, kernel=1)
        self.first = nn.Conv3d(in_channels if self.refine is None else width, width, 3, padding=1)
        self.branches = nn.ModuleList(
            nn.Sequential(
                ConvBlock(width, width, norm=norm, dims=3, dilation=dilation),
                nn.Conv3d(width, width, 3, padding=dilation, dilation=dilation, bias=False),
                build_norm(norm, width, dims=3),
            )
            for dilation in config.dilations
        )
        self.score = nn.Conv3d(width, num_classes, 3, padding=1)

    def forward(self, volume: Float[Tensor, "b c _ _ _"], shape: tuple[int, int, int]) -> Float[Tensor, "b k x y z"]:
        """Return class scores on a grid of `shape`."""
        if self.refine is not None:
            volume = resize_to(self.refine(volume), shape)
        x = F.relu(self.first(volume))
        total = x
        for branch in self.branches:
            total = total + branch(x)
        return resize_to(self.score(F.relu(total)), shape)
