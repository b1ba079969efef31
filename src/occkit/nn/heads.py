"""Heads: from a lifted feature volume to class scores a voxel, in three dimensions or in two."""

from dataclasses import dataclass, field

from jaxtyping import Float
from torch import Tensor, nn

from occkit.errors import ConfigError
from occkit.nn.blocks import resize_to
from occkit.nn.volumes import GroundNetConfig, VolumeNetConfig, fold_height, unfold_height


@dataclass(frozen=True, kw_only=True)
class VolumeHeadConfig:
    """A 3D network over the volume, a 3x3x3 convolution and a classifier of two layers a voxel (BEVDet-Occ)."""

    net: VolumeNetConfig = field(default_factory=VolumeNetConfig)
    """The 3D network."""
    hidden: int = 64
    """Width of the classifier's hidden layer; 0 is a linear classifier."""

    def build(self, in_channels: int, num_classes: int) -> "VolumeHead":
        """Return the head for volumes of `in_channels`."""
        return VolumeHead(self, in_channels, num_classes)


class VolumeHead(nn.Module):
    """See `VolumeHeadConfig`; works on a grid of any size. Source: Huang and Huang, BEVDet-Occ."""

    def __init__(self, config: VolumeHeadConfig, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.net = config.net.build(in_channels)
        channels = config.net.channels
        self.conv = nn.Conv3d(channels, channels, 3, padding=1)
        if config.hidden:
            self.classify: nn.Module = nn.Sequential(
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
class HeightInChannelsHeadConfig:
    """Height folded into channels, a 2D network, and a classifier that writes all heights of a column at once."""

    net: GroundNetConfig = field(default_factory=GroundNetConfig)
    """The 2D network over the ground plane."""
    num_heights: int = 16
    """Voxels of a column of the volume to predict."""
    hidden: int = 512
    """Width of the classifier's hidden layer."""

    def build(self, in_channels: int, num_classes: int) -> "HeightInChannelsHead":
        """Return the head for `in_channels` of a folded volume: features times lifted heights."""
        return HeightInChannelsHead(self, in_channels, num_classes)


class HeightInChannelsHead(nn.Module):
    """See `HeightInChannelsHeadConfig`. Source: Yu et al., "FlashOcc", 2023 (channel-to-height)."""

    def __init__(self, config: HeightInChannelsHeadConfig, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.num_heights = config.num_heights
        self.in_channels = in_channels
        channels = config.net.channels
        self.net = config.net.build(in_channels)
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.classify = nn.Sequential(
            nn.Linear(channels, config.hidden),
            nn.Softplus(),
            nn.Linear(config.hidden, config.num_heights * num_classes),
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
        logits = self.classify(features.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return unfold_height(resize_to(logits, shape[:2]), self.num_heights)


HeadConfig = VolumeHeadConfig | HeightInChannelsHeadConfig
