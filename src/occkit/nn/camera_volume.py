"""From images to voxel scores without depth: image network, mean over the cameras that see a voxel, 3D head.

What OccNeRF and EasyOcc share. The volume may be a plain grid or a contracted one.
"""

from dataclasses import dataclass, field
from math import prod

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from occkit.errors import ConfigError
from occkit.geometry import Cameras, ContractedGrid, VoxelGrid
from occkit.nn.backbones import BackboneConfig, SmallConvNetConfig, normalise_images
from occkit.nn.heads import HeadConfig, HeightInChannelsHeadConfig, VolumeHeadConfig
from occkit.nn.necks import ConcatNeckConfig, NeckConfig
from occkit.nn.point_lifting import MeanLiftConfig


@dataclass(frozen=True, kw_only=True)
class CameraVolumeConfig:
    """Image network, parameter-free lift, head."""

    backbone: BackboneConfig = field(default_factory=SmallConvNetConfig)
    """Image network."""
    neck: NeckConfig = field(default_factory=ConcatNeckConfig)
    """Joins the backbone's maps."""
    channels: int = 64
    """Width of what is lifted."""
    lift_stride: tuple[int, int, int] = (1, 1, 1)
    """Voxels of the scores in one lifted voxel along x, y, z."""
    gain: bool = False
    """Multiply the lifted volume by a learned number for each voxel and channel, 1 at first. The released code of
    OccNeRF does (138 million parameters); the paper does not say so, and the network is then bound to its rig."""
    head: HeadConfig = field(default_factory=VolumeHeadConfig)
    """From the lifted volume to class scores."""

    def build(self, shape: tuple[int, int, int], num_classes: int) -> "CameraVolume":
        """Return the network for volumes whose scores have `shape`.

        Raises:
            ConfigError: if the stride does not divide the shape.
        """
        return CameraVolume(self, shape, num_classes)


class CameraVolume(nn.Module):
    """See `CameraVolumeConfig`.

    Source: Zhang et al. 2023 (OccNeRF), section III-B; Hayes et al. 2025 (EasyOcc) by its figure.
    """

    def __init__(self, config: CameraVolumeConfig, shape: tuple[int, int, int], num_classes: int) -> None:
        super().__init__()
        if any(n % s for n, s in zip(shape, config.lift_stride, strict=True)):
            raise ConfigError(f"CameraVolume: lift_stride {config.lift_stride} does not divide {shape} voxels")
        self.lift_stride = config.lift_stride
        coarse = self._coarse(shape)
        self.backbone = config.backbone.build()
        self.neck = config.neck.build(self.backbone.channels)
        self.project = nn.Conv2d(self.neck.channels, config.channels, 1)
        self.lift = MeanLiftConfig().build(None, config.channels)
        # A row a voxel: optimisers tell kernels from other parameters by their number of dimensions.
        self.gain = nn.Parameter(torch.ones(config.channels, prod(coarse))) if config.gain else None
        width = config.channels * (coarse[2] if isinstance(config.head, HeightInChannelsHeadConfig) else 1)
        self.head = config.head.build(width, num_classes)

    def forward(
        self, images: UInt8[Tensor, "b n 3 h w"], cameras: Cameras, grid: VoxelGrid | ContractedGrid
    ) -> Float[Tensor, "b k x y z"]:
        """Return class scores on a grid.

        Args:
            images: of one time.
            cameras: leading dimensions `[b, n]`.
            grid: any grid of any size; with `gain` or a head over channels of the size the network was made for.
        """
        maps = self.neck(self.backbone(normalise_images(images.flatten(0, 1))))
        context = self.project(maps).unflatten(0, images.shape[:2])
        volume = self.lift(context, None, cameras, self._coarsen(grid))
        if self.gain is not None:
            volume = (volume.flatten(2) * self.gain).reshape(volume.shape)
        return self.head(volume, grid.shape)

    def _coarse(self, shape: tuple[int, int, int]) -> tuple[int, int, int]:
        x, y, z = (n // s for n, s in zip(shape, self.lift_stride, strict=True))
        return x, y, z

    def _coarsen(self, grid: VoxelGrid | ContractedGrid) -> VoxelGrid | ContractedGrid:
        if isinstance(grid, ContractedGrid):
            return ContractedGrid(inner=grid.inner, shape=self._coarse(grid.shape), alpha=grid.alpha)
        return grid.coarsen(self.lift_stride)
