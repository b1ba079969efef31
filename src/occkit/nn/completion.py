"""From the voxels that asked the images to a whole volume: what the others hold."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class MaskTokenConfig:
    """All other voxels hold one learned vector (VoxFormer)."""

    def build(self, channels: int) -> "MaskToken":
        """Return the completion of volumes of `channels`."""
        return MaskToken(channels)


class MaskToken(nn.Module):
    """See `MaskTokenConfig`. Source: Li et al., "VoxFormer", CVPR 2023."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.randn(channels) * 0.02)

    def forward(
        self, volume: Float[Tensor, "v c"], rows: Int64[Tensor, " q"], answers: Float[Tensor, "q c"]
    ) -> Float[Tensor, "v c"]:
        """Return the whole volume, one row a voxel.

        Args:
            volume: what was known of every voxel before any asked; not looked at.
            rows: the voxels that asked.
            answers: what they know now.
        """
        return self.token.expand(volume.shape[0], -1).to(answers.dtype).index_copy(0, rows, answers)


@dataclass(frozen=True, kw_only=True)
class MlpPriorConfig:
    """All other voxels hold what was lifted into them, through a narrow network (CGFormer)."""

    hidden: int = 64
    """Width of its waist."""

    def build(self, channels: int) -> "MlpPrior":
        """Return the completion of volumes of `channels`."""
        return MlpPrior(self, channels)


class MlpPrior(nn.Module):
    """See `MlpPriorConfig`. Source: Yu et al., "CGFormer", NeurIPS 2024."""

    def __init__(self, config: MlpPriorConfig, channels: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(channels, config.hidden),
            nn.LayerNorm(config.hidden),
            nn.LeakyReLU(),
            nn.Linear(config.hidden, channels),
        )

    def forward(
        self, volume: Float[Tensor, "v c"], rows: Int64[Tensor, " q"], answers: Float[Tensor, "q c"]
    ) -> Float[Tensor, "v c"]:
        """Return the whole volume; arguments as in `MaskToken.forward`."""
        return self.net(volume).to(answers.dtype).index_copy(0, rows, answers)


@dataclass(frozen=True, kw_only=True)
class RawVolumeConfig:
    """All other voxels hold what the first stage made of them (CIGOcc's F_raw); those that asked hold both."""

    join: Literal["add", "replace", "concat"] = "add"
    """How answers come in: added to the volume, in its place, or beside it and mixed by a linear layer."""

    def build(self, channels: int) -> "RawVolume":
        """Return the completion of volumes of `channels`."""
        return RawVolume(self, channels)


class RawVolume(nn.Module):
    """See `RawVolumeConfig`. Source: Xu et al., "CIGOcc", ICRA 2025, by its figure; what the (+) is remains open."""

    def __init__(self, config: RawVolumeConfig, channels: int) -> None:
        super().__init__()
        self.join = config.join
        self.mix = nn.Linear(2 * channels, channels) if config.join == "concat" else None

    def forward(
        self, volume: Float[Tensor, "v c"], rows: Int64[Tensor, " q"], answers: Float[Tensor, "q c"]
    ) -> Float[Tensor, "v c"]:
        """Return the whole volume; arguments as in `MaskToken.forward`."""
        volume = volume.to(answers.dtype)
        if self.join == "add":
            return volume.index_add(0, rows, answers)
        if self.mix is None:
            return volume.index_copy(0, rows, answers)
        return self.mix(torch.cat([volume, torch.zeros_like(volume).index_copy(0, rows, answers)], dim=1))


CompletionConfig = MaskTokenConfig | MlpPriorConfig | RawVolumeConfig
"""What voxels hold that did not ask."""
