"""From images to what is denoised, and back: the pixels themselves, or the latents of an autoencoder."""

from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from occkit.errors import ConfigError
from occkit.nn.noise_schedules import import_diffusers


@dataclass(frozen=True, kw_only=True)
class PixelCodecConfig:
    """No autoencoder: the pixels, squares of them folded into channels."""

    square: int = 1
    """Pixels along each side of a square that becomes one cell."""
    mean: float = 0.0
    """Mean of the images, -1..1, which is subtracted."""
    scale: float = 1.0
    """Factor that then brings them to a variance of about 1: noise levels mean what they say, and nets learn sooner."""

    def __post_init__(self) -> None:
        if self.square < 1 or not -1 <= self.mean <= 1 or not self.scale > 0:
            raise ConfigError(
                f"PixelCodec: square must be at least 1, mean lie in -1..1, scale be positive, got {self}"
            )

    def build(self) -> "PixelCodec":
        """Return the codec; it has no weights."""
        return PixelCodec(self)


class PixelCodec(nn.Module):
    """See `PixelCodecConfig`."""

    def __init__(self, config: PixelCodecConfig) -> None:
        super().__init__()
        self.config = config
        self.factor = config.square
        self.channels = 3 * config.square**2

    def encode(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n c _ _"]:
        """Return the cells of images in -1..1.

        Raises:
            ConfigError: if the size is no whole number of squares.
        """
        check_size(images, self.factor)
        return self.config.scale * (F.pixel_unshuffle(images, self.factor) - self.config.mean)

    def decode(self, latents: Float[Tensor, "n c _ _"]) -> Float[Tensor, "n 3 h w"]:
        """Return the images of cells."""
        return F.pixel_shuffle(latents / self.config.scale + self.config.mean, self.factor)


@dataclass(frozen=True, kw_only=True)
class VaeCodecConfig:
    """diffusers' variational autoencoder; frozen. The defaults are Stable Diffusion's."""

    channels: tuple[int, ...] = (128, 256, 512, 512)
    """Width of each level; each but the last halves the resolution."""
    layers: int = 2
    """Residual blocks of each level."""
    latent_channels: int = 4
    """Channels of a latent."""
    norm_groups: int = 32
    """Groups of the normalisation."""
    scale: float = 0.18215
    """Factor that brings latents to a variance of about 1."""

    def build(self) -> "VaeCodec":
        """Return the autoencoder, freshly initialised; weights are loaded by whoever trains.

        Raises:
            ConfigError: if diffusers is not installed.
        """
        return VaeCodec(self)


class VaeCodec(nn.Module):
    """See `VaeCodecConfig`. Source: Rombach et al., CVPR 2022; implementation of diffusers."""

    def __init__(self, config: VaeCodecConfig) -> None:
        super().__init__()
        self.config = config
        levels = len(config.channels)
        self.factor = 2 ** (levels - 1)
        self.channels = config.latent_channels
        self.vae: Any = import_diffusers().AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * levels,
            up_block_types=("UpDecoderBlock2D",) * levels,
            block_out_channels=config.channels,
            layers_per_block=config.layers,
            latent_channels=config.latent_channels,
            norm_num_groups=config.norm_groups,
            scaling_factor=config.scale,
        )

    def encode(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n c _ _"]:
        """Return scaled latents of images in -1..1: drawn from their distribution in training, else its mean.

        Raises:
            ConfigError: if the size is no multiple of the autoencoder's.
        """
        check_size(images, self.factor)
        found = self.vae.encode(images).latent_dist
        return self.config.scale * (found.sample() if self.training else found.mode())

    def decode(self, latents: Float[Tensor, "n c _ _"]) -> Float[Tensor, "n 3 h w"]:
        """Return the images of scaled latents; differentiable."""
        return self.vae.decode(latents / self.config.scale).sample


CodecConfig = PixelCodecConfig | VaeCodecConfig
"""The kinds of codecs there are."""


def check_size(images: Tensor, factor: int) -> None:
    """Raise a ConfigError unless the sides of images are multiples of a codec's factor."""
    height, width = (int(side) for side in images.shape[-2:])
    if height % factor or width % factor:
        raise ConfigError(
            f"images of {height} x {width} pixels: the codec needs multiples of {factor}; choose another image_size"
        )
