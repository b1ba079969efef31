"""Depth distributions: bins along a pixel's z-depth, and the network that scores them knowing its camera."""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from occkit.errors import ConfigError
from occkit.geometry import Cameras
from occkit.geometry.rays import pixel_grid
from occkit.nn.blocks import BatchNormConfig, ConvBlock, NormConfig, ResidualBlock

NUM_CAMERA_NUMBERS = 18
"""Length of `describe_cameras`."""


@dataclass(frozen=True, kw_only=True)
class DepthBins:
    """Equal bins of z-depth: bin `k` is `[start + k step, start + (k+1) step)`.

    Example:
        >>> DepthBins(start=1.0, stop=45.0, step=0.5).count
        88
    """

    start: float = 1.0
    """Near edge of the first bin, metres."""
    stop: float = 45.0
    """Far edge of the last bin, metres."""
    step: float = 0.5
    """Width of a bin, metres."""

    def __post_init__(self) -> None:
        if not 0 < self.start < self.stop or self.step <= 0 or self.count < 2:
            raise ConfigError(f"DepthBins: expected 0 < start < stop and at least two bins, got {self}")

    @property
    def count(self) -> int:
        """Number of bins."""
        return round((self.stop - self.start) / self.step)

    def centers(self, *, device: torch.device | str = "cpu") -> Float[Tensor, "d"]:
        """Return the middle of each bin, metres."""
        return self.start + self.step * (torch.arange(self.count, device=device) + 0.5)

    def continuous_index(self, depth: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
        """Return z-depth (metres) in bins: the middle of bin `k` is at `k + 0.5`."""
        return (depth - self.start) / self.step

    def index_of(self, depth: Float[Tensor, "*s"]) -> Int64[Tensor, "*s"]:
        """Return the bin of each z-depth (metres), -1 where it lies in none."""
        index = torch.floor(self.continuous_index(depth)).long()
        return torch.where((index >= 0) & (index < self.count), index, torch.full_like(index, -1))


def describe_cameras(cameras: Cameras) -> Float[Tensor, "*b 18"]:
    """Return numbers of order one that say where a camera looks and how wide: the input of camera-aware layers.

    The first two rows of the intrinsics divided by width and height (6), then the first three rows of `ego_from_camera`
    with the translation in units of 2 m (12). Image augmentation is part of the intrinsics already.

    Source: Li et al., "BEVDepth", AAAI 2023 (27 numbers there, augmentation apart).
    """
    size = cameras.intrinsics.new_tensor([cameras.width, cameras.height])
    intrinsics = cameras.intrinsics[..., :2, :] / size[:, None]
    scale = cameras.ego_from_camera.new_tensor([1.0, 1.0, 1.0, 2.0])
    pose = cameras.ego_from_camera[..., :3, :] / scale
    return torch.cat([intrinsics.flatten(-2), pose.flatten(-2)], dim=-1)


def pixel_directions(cameras: Cameras, height: int, width: int) -> Float[Tensor, "b 3 height width"]:
    """Return the ego-frame direction of each cell of a feature map, unit forward component in its camera.

    Args:
        cameras: leading dimension `[b]`.
        height: rows of the feature map.
        width: columns of the feature map.

    Returns:
        `(x, y, z)` metres per metre of z-depth. With a flat street the depth of the ground follows from z alone.
    """
    small = cameras.resize(height, width)
    pixels = pixel_grid(height, width).to(small.intrinsics)
    directions = small.directions(pixels.expand(small.intrinsics.shape[0], -1, -1))
    in_ego = directions @ small.ego_from_camera[:, :3, :3].transpose(-1, -2)
    return in_ego.transpose(1, 2).reshape(-1, 3, height, width)


class CameraGate(nn.Module):
    """Squeeze-and-excitation with a gate from the camera: `x * sigmoid(mlp(camera))`, one factor a channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(NUM_CAMERA_NUMBERS, channels),
            nn.ReLU(inplace=True),
            nn.Linear(channels, channels),
            nn.ReLU(inplace=True),
            nn.Linear(channels, channels),
        )

    def forward(self, x: Float[Tensor, "b c h w"], camera: Float[Tensor, "b 18"]) -> Float[Tensor, "b c h w"]:
        """Return the gated features."""
        return x * torch.sigmoid(self.mlp(camera))[..., None, None]


@dataclass(frozen=True, kw_only=True)
class DepthNetConfig:
    """Context features and a depth distribution for each cell of the feature map, conditioned on the camera."""

    bins: DepthBins = field(default_factory=DepthBins)
    """Depth bins."""
    context_channels: int = 32
    """Width of the features that are lifted."""
    hidden: int = 256
    """Width between."""
    depth_blocks: int = 3
    """Residual blocks of the depth branch."""
    ray_directions: bool = True
    """Tell every pixel its direction in the ego frame (4 more input channels: direction and camera height)."""
    dilations: tuple[int, ...] = ()
    """Of an atrous pyramid behind the depth branch's blocks, () for none; (1, 6, 12, 18) in BEVDepth and CGFormer."""
    norm: NormConfig = field(default_factory=BatchNormConfig)
    """Normalisation after each convolution."""

    def build(self, in_channels: int, *, stereo_channels: int = 0) -> "DepthNet":
        """Return the network for maps of `in_channels` and a cost volume of `stereo_channels` (0 is none)."""
        return DepthNet(self, in_channels, stereo_channels=stereo_channels)


class DepthNet(nn.Module):
    """See `DepthNetConfig`. Source: Li et al., "BEVDepth", AAAI 2023; without its deformable convolution."""

    def __init__(self, config: DepthNetConfig, in_channels: int, *, stereo_channels: int = 0) -> None:
        super().__init__()
        self.ray_directions = config.ray_directions
        hidden, norm = config.hidden, config.norm
        self.reduce = ConvBlock(in_channels + 4 * config.ray_directions, hidden, norm=norm, dims=2)
        self.context_gate = CameraGate(hidden)
        self.context = nn.Conv2d(hidden, config.context_channels, 1)
        self.depth_gate = CameraGate(hidden)
        first = hidden + stereo_channels
        layers = [
            ResidualBlock(first if i == 0 else hidden, hidden, norm=norm, dims=2) for i in range(config.depth_blocks)
        ]
        if not layers and stereo_channels:
            raise ConfigError("DepthNet: a cost volume needs at least one of depth_blocks to be mixed in")
        pyramid = [AtrousPyramid(hidden, config.dilations, norm)] if config.dilations else []
        self.depth = nn.Sequential(*layers, *pyramid, nn.Conv2d(hidden, config.bins.count, 1))

    def forward(
        self,
        features: Float[Tensor, "b c h w"],
        cameras: Cameras,
        stereo: Float[Tensor, "b e h w"] | None = None,
    ) -> tuple[Float[Tensor, "b f h w"], Float[Tensor, "b d h w"]]:
        """Score the depth of each cell.

        Args:
            features: one map a camera.
            cameras: leading dimension `[b]`.
            stereo: cost volume of the same resolution.

        Returns:
            context: features to lift.
            depth_logits: scores of the depth bins before softmax.
        """
        height, width = features.shape[2:]
        if self.ray_directions:
            rays = pixel_directions(cameras, height, width)
            height_above = cameras.ego_from_camera[:, 2, 3, None, None, None].expand(-1, 1, height, width) / 2.0
            features = torch.cat([features, rays.to(features), height_above.to(features)], dim=1)
        x = self.reduce(features)
        camera = describe_cameras(cameras).to(x)
        context = self.context(self.context_gate(x, camera))
        deep = self.depth_gate(x, camera)
        if stereo is not None:
            deep = torch.cat([deep, stereo], dim=1)
        return context, self.depth(deep)


class AtrousPyramid(nn.Module):
    """Convolutions of several dilations and the mean of the whole map, side by side, mixed by a 1x1 convolution.

    Source: Chen et al., "Rethinking atrous convolution", 2017 (ASPP), as in BEVDepth; without its dropout, and without
    a norm of the mean, which a single image has no statistics for.
    """

    def __init__(self, channels: int, dilations: tuple[int, ...], norm: NormConfig) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            ConvBlock(channels, channels, norm=norm, dims=2, kernel=1 if d == 1 else 3, dilation=d) for d in dilations
        )
        self.whole = nn.Sequential(nn.Conv2d(channels, channels, 1), nn.ReLU(inplace=True))
        self.mix = ConvBlock((len(dilations) + 1) * channels, channels, norm=norm, dims=2, kernel=1)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Return features at the resolution of the input."""
        whole = self.whole(x.mean(dim=(2, 3), keepdim=True)).expand(-1, -1, *x.shape[2:])
        return self.mix(torch.cat([*(branch(x) for branch in self.branches), whole], dim=1))
