"""Two depth distributions of the same cells, one scored, one given, look at each other; a 3D network weighs both."""

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from occkit.errors import ConfigError
from occkit.nn.blocks import BatchNormConfig, ConvBlock, NormConfig, residual_stages, resize_to, run_stages
from occkit.nn.volumes import VolumeNetConfig


@dataclass(frozen=True, kw_only=True)
class DepthFusionConfig:
    """A given depth map through a 2D network, attention between it and scored depth, and a 3D network over both."""

    widths: tuple[int, ...] = (112, 224, 448)
    """Channels of the 2D network over the given map, each stage at half the resolution of the one before."""
    window: int = 5
    """Cells along each side that a cell looks at, odd; itself in the middle."""
    net: VolumeNetConfig = field(
        default_factory=lambda: VolumeNetConfig(widths=(32, 64, 128), blocks=(1, 1, 1), channels=32)
    )
    """The 3D network over depth bins, rows and columns; its first stage must have stride 1."""
    norm: NormConfig = field(default_factory=BatchNormConfig)
    """Normalisation in the 2D network."""

    def __post_init__(self) -> None:
        if self.window < 1 or self.window % 2 == 0 or not self.widths:
            raise ConfigError(f"DepthFusion: expected an odd window and at least one width, got {self}")

    def build(self, bins: int) -> "DepthFusion":
        """Return the network for so many depth bins."""
        return DepthFusion(self, bins)


class DepthFusion(nn.Module):
    """See `DepthFusionConfig`. Source: Yu et al., "CGFormer", NeurIPS 2024; how scales are joined is ours."""

    def __init__(self, config: DepthFusionConfig, bins: int) -> None:
        super().__init__()
        strides = (1, *[2] * (len(config.widths) - 1))
        blocks = [1] * len(config.widths)
        self.down = residual_stages(bins, config.widths, blocks, strides, norm=config.norm, dims=2)
        steps = zip(config.widths[1:], config.widths, strict=False)
        self.up = nn.ModuleList(ConvBlock(wide, thin, norm=config.norm, dims=2) for wide, thin in steps)
        self.score = nn.Conv2d(config.widths[0], bins, 1)
        self.scored_looks = NeighbourCells(bins, config.window)
        self.given_looks = NeighbourCells(bins, config.window)
        self.net = config.net.build(2)
        width = config.net.channels
        self.gate = nn.Sequential(
            nn.Linear(width, max(1, width // 4)), nn.ReLU(inplace=True), nn.Linear(max(1, width // 4), width)
        )
        self.join = nn.Conv3d(width, 1, 3, padding=1)

    def forward(self, scores: Float[Tensor, "b d h w"], given: Float[Tensor, "b d h w"]) -> Float[Tensor, "b d h w"]:
        """Return the scores of the bins that both together give.

        Args:
            scores: of a network that saw the image, before softmax.
            given: distribution of each cell by a depth map; zero where it says nothing.
        """
        mine, theirs = scores.softmax(dim=1), self._read(given).softmax(dim=1)
        volume = torch.stack([self.given_looks(theirs, mine), self.scored_looks(mine, theirs)], dim=1)
        x = self.net(volume)
        x = x * torch.sigmoid(self.gate(x.mean(dim=(2, 3, 4))))[:, :, None, None, None]
        return self.join(x)[:, 0]

    def _read(self, given: Float[Tensor, "b d h w"]) -> Float[Tensor, "b d h w"]:
        scales = run_stages(self.down, given)
        x = scales[-1]
        for scale, up in zip(reversed(scales[:-1]), reversed(self.up), strict=True):
            x = scale + resize_to(up(x), tuple(scale.shape[2:]))
        return self.score(x)


class NeighbourCells(nn.Module):
    """`out = V + gamma sum_{cells c around} softmax_c(Q(x) . K(V_c) / sqrt(d)) W V_c`, gamma 0 at first.

    Source: Hassani et al., "Neighborhood Attention Transformer", CVPR 2023, one head. Cells outside of the map are left
    out; theirs moves the window inwards instead.
    """

    def __init__(self, channels: int, window: int) -> None:
        super().__init__()
        self.window = window
        self.query, self.key, self.value = (nn.Conv2d(channels, channels, 1) for _ in range(3))
        self.gamma = nn.Parameter(torch.zeros(()))

    def forward(self, x: Float[Tensor, "b c h w"], seen: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Return `seen`, and what `x` finds in it around each cell."""
        size = (int(seen.shape[2]), int(seen.shape[3]))
        keys, values = self._around(self.key(seen)), self._around(self.value(seen))
        scores = (self.query(x)[:, :, None] * keys).sum(dim=1) / seen.shape[1] ** 0.5  # [b, window^2, h, w]
        inside = self._around(seen.new_ones(1, 1, *size))[:, 0] > 0
        weights = scores.masked_fill(~inside, -torch.inf).softmax(dim=1)
        return seen + self.gamma * (values * weights[:, None]).sum(dim=2)

    def _around(self, maps: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c k h w"]:
        """Return the cells around each cell, row by row, zeros outside."""
        found = F.unfold(maps, self.window, padding=self.window // 2)
        return found.reshape(maps.shape[0], maps.shape[1], self.window**2, *maps.shape[2:])
