"""Local and global context of a volume: a 3D network beside three planes, weighed against each other in every voxel."""

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from occkit.errors import ConfigError
from occkit.nn.backbones import SwinConfig
from occkit.nn.blocks import BatchNormConfig, ConvBlock, NormConfig, resize_to
from occkit.nn.volumes import GroundNetConfig, VolumeNetConfig


@dataclass(frozen=True, kw_only=True)
class SwinPlaneConfig:
    """A Swin transformer over a plane, its scales joined by a feature pyramid (CGFormer: Swin-T)."""

    swin: SwinConfig = field(
        default_factory=lambda: SwinConfig(
            width=96, depths=(2, 2, 6, 2), heads=(3, 6, 12, 24), window=7, drop_path=0.2, out_stages=(2, 3, 4)
        )
    )
    """The transformer; patches of 4 x 4 cells. A window of 7."""
    channels: int = 128
    """Width of the result."""
    norm: NormConfig = field(default_factory=BatchNormConfig)
    """Normalisation after the convolutions that join the scales."""

    def build(self, in_channels: int) -> "SwinPlane":
        """Return the network for planes of `in_channels`.

        Raises:
            ConfigError: if transformers is not installed.
        """
        return SwinPlane(self, in_channels)


class SwinPlane(nn.Module):
    """See `SwinPlaneConfig`. Source: Yu et al., "CGFormer", NeurIPS 2024; how the scales are joined is ours."""

    def __init__(self, config: SwinPlaneConfig, in_channels: int) -> None:
        super().__init__()
        self.body = config.swin.build(in_channels)
        self.channels = config.channels
        self.laterals = nn.ModuleList(
            ConvBlock(width, config.channels, norm=config.norm, dims=2, kernel=1) for width in self.body.channels
        )
        self.join = ConvBlock(config.channels, config.channels, norm=config.norm, dims=2)

    def forward(self, plane: Float[Tensor, "b c x y"]) -> Float[Tensor, "b d x y"]:
        """Return features at the resolution of the input; a narrow plane is stretched to 32 cells on the way."""
        size = (int(plane.shape[2]), int(plane.shape[3]))
        wide = resize_to(plane, (max(32, size[0]), max(32, size[1])))
        maps = [lateral(m) for lateral, m in zip(self.laterals, self.body(wide), strict=True)]
        x = maps[-1]
        for finer in reversed(maps[:-1]):
            x = finer + resize_to(x, tuple(finer.shape[2:]))
        return resize_to(self.join(x), size)


@dataclass(frozen=True, kw_only=True)
class LocalGlobalConfig:
    """A 3D network and three planes, each voxel's share of the four decided by a softmax (CGFormer)."""

    local: VolumeNetConfig = field(
        default_factory=lambda: VolumeNetConfig(widths=(128, 128, 128), blocks=(2, 2, 2), channels=128)
    )
    """The 3D network; its first stage must have stride 1."""
    plane: GroundNetConfig | SwinPlaneConfig = field(default_factory=SwinPlaneConfig)
    """The network over the planes, one for all three; as wide as the 3D network."""
    slabs: int = 8
    """Slabs into which the axis that a plane looks along is cut, the largest value of each kept."""

    def __post_init__(self) -> None:
        if self.plane.channels != self.local.channels or self.slabs < 1:
            raise ConfigError(
                f"LocalGlobal: expected a plane as wide as the 3D network and at least one slab, got "
                f"{self.plane.channels}, {self.local.channels} and {self.slabs}"
            )

    def build(self, in_channels: int) -> "LocalGlobal":
        """Return the network for volumes of `in_channels`."""
        return LocalGlobal(self, in_channels)


class LocalGlobal(nn.Module):
    """See `LocalGlobalConfig`; works on a volume of any size with at least `slabs` voxels along each axis.

    `out = sum_i softmax_i(W local) F_i`, `F` the local volume and the planes xy, yz and xz, each spread along the axis
    that it lacks. Source: Yu et al., "CGFormer", NeurIPS 2024 (local and global encoder).
    """

    def __init__(self, config: LocalGlobalConfig, in_channels: int) -> None:
        super().__init__()
        self.slabs, self.channels = config.slabs, config.local.channels
        self.local = config.local.build(in_channels)
        self.squeeze = nn.Sequential(
            nn.Linear(config.slabs * in_channels, in_channels),
            nn.ReLU(inplace=True),
            nn.Linear(in_channels, in_channels),
        )
        self.plane = config.plane.build(in_channels)
        self.share = nn.Conv3d(self.channels, 4, 1)

    def forward(self, volume: Float[Tensor, "b c x y z"]) -> Float[Tensor, "b d x y z"]:
        """Return features at the resolution of the input."""
        local = resize_to(self.local(volume), tuple(volume.shape[2:]))
        parts = [local]
        for axis in (4, 2, 3):  # the planes xy, yz, xz
            parts.append(self.plane(self._flatten(volume, axis)).unsqueeze(axis).expand_as(local))
        shares = self.share(local).softmax(dim=1)
        total = torch.zeros_like(local)
        for number, part in enumerate(parts):
            total = total + shares[:, number, None] * part
        return total

    def _flatten(self, volume: Float[Tensor, "b c x y z"], axis: int) -> Float[Tensor, "b d _ _"]:
        """Cut an axis into slabs, keep the largest of each, and mix the slabs into the channels."""
        size = list(volume.shape[2:])
        size[axis - 2] = self.slabs
        slabs = F.adaptive_max_pool3d(volume, tuple(size))
        rows = slabs.movedim(axis, 2).movedim((1, 2), (3, 4)).flatten(3)  # [b, first, second, c * slabs]
        return self.squeeze(rows).permute(0, 3, 1, 2)
