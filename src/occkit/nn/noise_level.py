"""How noisy an image is, told to a network that perceives: a vector added to its volume."""

import math
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from occkit.samples import Batch


class NoiseLevelEmbedding(nn.Module):
    """A vector for how noisy an image is: sinusoidal, then linear; nothing at initialisation."""

    def __init__(self, channels: int, *, width: int = 64) -> None:
        super().__init__()
        self.width = width
        self.out = nn.Linear(width, channels)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, level: Float[Tensor, "b"]) -> Float[Tensor, "b c"]:
        """Return the vectors of levels 0..1."""
        return self.out(sinusoids(1000 * level, self.width))


@runtime_checkable
class HearsNoise(Protocol):
    """A system that can be told how noisy its images are; whoever wants that puts a `NoiseLevelEmbedding` into it."""

    noise_channels: int
    """Width of the volume that the embedding is added to."""
    noise_embedding: NoiseLevelEmbedding | None
    """None until somebody puts one here; then a part of the system, its weights included."""


def add_noise_level(
    embedding: NoiseLevelEmbedding | None, volume: Float[Tensor, "b c *s"], batch: Batch
) -> Float[Tensor, "b c *s"]:
    """Return the volume with what the noise level of the batch adds; photographs leave it as it is."""
    if embedding is None or batch.noise_level is None:
        return volume
    vector = embedding(batch.noise_level)
    return volume + vector.reshape(*vector.shape, *[1] * (volume.ndim - 2))


def sinusoids(position: Float[Tensor, "n"], channels: int) -> Float[Tensor, "n c"]:
    """Return sines, then cosines, of positions at wave lengths from 2 pi to 10,000 times that."""
    half = channels // 2
    waves = torch.exp(torch.arange(half, device=position.device) * (-math.log(10_000.0) / max(half - 1, 1)))
    angles = position[:, None] * waves
    return nn.functional.pad(torch.cat([angles.sin(), angles.cos()], dim=1), (0, channels - 2 * half))
