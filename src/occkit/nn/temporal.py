"""Fusion over time. Past cameras carry their pose in the present frame, so that past volumes are aligned as made."""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor, nn

from occkit.nn.blocks import BatchNormConfig, NormConfig, ResidualBlock


@dataclass(frozen=True, kw_only=True)
class ConcatTemporalConfig:
    """One residual 3D block on the volume of each time, shared, then all are concatenated (BEVDet4D)."""

    norm: NormConfig = field(default_factory=BatchNormConfig)
    """Normalisation after each convolution."""

    def build(self, channels: int, num_frames: int) -> "ConcatTemporal":
        """Return the fusion of `num_frames` volumes of `channels` each."""
        return ConcatTemporal(self, channels, num_frames)


class ConcatTemporal(nn.Module):
    """See `ConcatTemporalConfig`. Source: Huang and Huang, "BEVDet4D", 2022; no warping is needed here."""

    def __init__(self, config: ConcatTemporalConfig, channels: int, num_frames: int) -> None:
        super().__init__()
        self.out_channels = channels * num_frames
        self.prepare = ResidualBlock(channels, channels, norm=config.norm, dims=3, project=True)

    def forward(self, volumes: list[Float[Tensor, "b c x y z"]]) -> Float[Tensor, "b e x y z"]:
        """Return the volumes side by side, now first; past ones carry no gradient."""
        now = self.prepare(volumes[0])
        with torch.no_grad():
            past = [self.prepare(v) for v in volumes[1:]]
        return torch.cat([now, *past], dim=1)
