"""Stereo from motion: a plane-sweep cost volume between two frames of the same camera."""

from dataclasses import dataclass, field
from math import log2

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from occkit.errors import ConfigError
from occkit.geometry import Cameras
from occkit.geometry.rays import pixel_grid
from occkit.nn.blocks import BatchNormConfig, ConvBlock, NormConfig
from occkit.nn.depth import DepthBins


def matching_cost(
    current: Float[Tensor, "b c h w"],
    other: Float[Tensor, "b c h w"],
    cameras: Cameras,
    other_cameras: Cameras,
    bins: DepthBins,
    *,
    group: int = 4,
    invalid_cost: float = 5.0,
) -> Float[Tensor, "b d h w"]:
    """Compare each cell with what the other frame shows if its depth were that of each bin.

    `cost[d] = sum_c |current[c](u) - other[c](project(unproject(u, depth_d)))|`, bilinear;
    `invalid_cost` where the point lies outside the other image.

    Args:
        current: features of the frame whose depth is sought.
        other: features of the other frame.
        cameras: leading dimension `[b]`, of the current images.
        other_cameras: the same cameras at the other time, poses in the same reference frame.
        bins: depths to try.
        group: channels compared at a time; bounds the memory, not the result.
        invalid_cost: what an unseen point costs.

    Returns:
        Costs >= 0. Differentiable in both feature maps.

    Source: Li et al., "BEVStereo", AAAI 2023; Huang and Huang, BEVDet4D with stereo depth.
    """
    batch, channels, height, width = current.shape
    here, there = cameras.resize(height, width), other_cameras.resize(height, width)
    pixels = pixel_grid(height, width).to(here.intrinsics)
    depth = bins.centers(device=pixels.device).to(pixels)
    points = here.unproject(
        pixels.repeat(bins.count, 1).expand(batch, -1, -1),
        depth.repeat_interleave(height * width).expand(batch, -1),
    )
    seen_at, _, visible = there.project(points)
    size = seen_at.new_tensor([width, height])
    positions = (2.0 * seen_at / size - 1.0).reshape(batch, bins.count * height, width, 2).to(other.dtype)
    cost = current.new_zeros(batch, bins.count, height, width)
    for start in range(0, channels, group):
        part = slice(start, start + group)
        warped = F.grid_sample(other[:, part], positions, padding_mode="border", align_corners=False)
        warped = warped.reshape(batch, -1, bins.count, height, width)
        cost = cost + (current[:, part, None] - warped).abs().sum(dim=1)
    return torch.where(visible.reshape(cost.shape), cost, torch.full_like(cost, invalid_cost))


@dataclass(frozen=True, kw_only=True)
class StereoConfig:
    """A cost volume against the previous frame, as further input of the depth network."""

    stage: int = 0
    """Which of the backbone's returned maps is compared; as fine as the neck or finer by a power of two."""
    channels: int | None = None
    """Reduce the compared maps to this width by a 1x1 convolution; None compares them as they are."""
    gradient: bool = True
    """Let the current frame's features learn from the comparison. Without, as published, it keeps nothing for the
    backward pass: 6 GiB less for six 64 x 176 maps of 256 channels and 88 bins."""
    norm: NormConfig = field(default_factory=BatchNormConfig)
    """Normalisation after each convolution."""

    def __post_init__(self) -> None:
        if self.channels is not None and not self.gradient:
            raise ConfigError(
                "StereoConfig.channels: a 1x1 convolution learns nothing without gradient; set it to None"
            )


class CostVolume(nn.Module):
    """Softmax over depth of the negative matching cost, brought to the neck's resolution by strided convolutions."""

    def __init__(self, config: StereoConfig, bins: DepthBins, *, in_channels: int, shrink: int) -> None:
        super().__init__()
        if shrink < 1 or shrink & (shrink - 1):
            raise ConfigError(f"StereoConfig.stage: the neck must be 1, 2, 4 ... times coarser than it, got {shrink}")
        self.bins = bins
        self.gradient = config.gradient
        self.project: nn.Module = nn.Identity()
        if config.channels is not None:
            self.project = nn.Conv2d(in_channels, config.channels, 1)
        steps = int(log2(shrink))
        blocks = [ConvBlock(bins.count, bins.count, norm=config.norm, dims=2, stride=2) for _ in range(steps)]
        self.refine = nn.Sequential(*(blocks or [ConvBlock(bins.count, bins.count, norm=config.norm, dims=2)]))

    def forward(
        self,
        current: Float[Tensor, "b c h w"],
        other: Float[Tensor, "b c h w"],
        cameras: Cameras,
        other_cameras: Cameras,
    ) -> Float[Tensor, "b d _ _"]:
        """Return one channel a depth bin at the neck's resolution; no gradient flows into the other frame."""
        with torch.no_grad():
            seen = self.project(other)
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.gradient):
            cost = matching_cost(self.project(current), seen, cameras, other_cameras, self.bins)
        return self.refine((-cost).softmax(dim=1))
