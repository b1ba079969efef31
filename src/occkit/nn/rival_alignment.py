"""What dual alignment is to be compared with: concatenation, cross-attention, convolutions, a ControlNet-type branch.

All read occupancy through the same `CameraEncoding` and add a residual that is 0 at first. Their default widths give
them the number of parameters of the default dual alignment, within 5 %, at 64 latent channels and 7 classes.
"""

import math
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from occkit.errors import ConfigError
from occkit.geometry import VoxelGrid
from occkit.nn.blocks import GroupNormConfig, build_norm
from occkit.nn.camera_encoding import CameraEncodingConfig, Views
from occkit.nn.token_alignment import TokenAlignment, TokensConfig, check_latent

NUM_FREQUENCIES = 6
"""Sines and cosines a coordinate in the code of a token's place."""


@dataclass(frozen=True, kw_only=True)
class ConcatAlignmentConfig:
    """Lifted occupancy beside the latent, depth in channels, and two 1x1 convolutions over both."""

    encoding: CameraEncodingConfig = field(default_factory=CameraEncodingConfig)
    """How occupancy is lifted."""
    hidden: int = 174
    """Channels between the two convolutions."""

    def build(self, *, latent_channels: int, num_classes: int, grid: VoxelGrid) -> "ConcatAlignment":
        """Return the module for latents of `latent_channels` and occupancy of `num_classes` on `grid`."""
        return ConcatAlignment(self, latent_channels=latent_channels, num_classes=num_classes, grid=grid)


class ConcatAlignment(nn.Module):
    """See `ConcatAlignmentConfig`: a place of the latent knows its own ray and nothing else."""

    def __init__(
        self, config: ConcatAlignmentConfig, *, latent_channels: int, num_classes: int, grid: VoxelGrid
    ) -> None:
        super().__init__()
        self.encoding = config.encoding.build(num_classes=num_classes, grid=grid)
        width = config.encoding.channels * config.encoding.depths
        self.mix = nn.Conv2d(latent_channels + width, config.hidden, 1)
        self.out = zero_convolution(config.hidden, latent_channels)

    def forward(
        self,
        latent: Float[Tensor, "b v c h w"],
        occupancy: Float[Tensor, "b t k x y z"],
        views: Views,
        present: Bool[Tensor, "b"] | None = None,
    ) -> Float[Tensor, "b v c h w"]:
        """Return the latent and a residual; see `occkit.nn.alignment`."""
        size = check_latent(latent, views, 1)
        planes = self.encoding(occupancy, views, size, present).flatten(2, 3)
        both = torch.cat([latent, planes.to(latent.dtype)], dim=2).flatten(0, 1)
        return latent + self.out(F.silu(self.mix(both))).unflatten(0, latent.shape[:2])


@dataclass(frozen=True, kw_only=True)
class ControlAlignmentConfig:
    """A ControlNet-type branch: the latent plus lifted occupancy through convolutions of its own, image by image.

    A ControlNet copies the encoder of its generator. This branch stands for one block of such a copy, at one place in
    the generator; it starts at random and not from the generator's weights.
    """

    encoding: CameraEncodingConfig = field(default_factory=CameraEncodingConfig)
    """How occupancy is lifted."""
    width: int = 48
    """Channels of the branch."""

    def build(self, *, latent_channels: int, num_classes: int, grid: VoxelGrid) -> "ControlAlignment":
        """Return the module for latents of `latent_channels` and occupancy of `num_classes` on `grid`."""
        return ControlAlignment(self, latent_channels=latent_channels, num_classes=num_classes, grid=grid)


class ControlAlignment(nn.Module):
    """See `ControlAlignmentConfig`. Source: Zhang et al., "Adding conditional control", ICCV 2023."""

    def __init__(
        self, config: ControlAlignmentConfig, *, latent_channels: int, num_classes: int, grid: VoxelGrid
    ) -> None:
        super().__init__()
        self.encoding = config.encoding.build(num_classes=num_classes, grid=grid)
        self.hint = nn.Conv2d(config.encoding.channels * config.encoding.depths, config.width, 1)
        self.enter = nn.Conv2d(latent_channels, config.width, 1)
        layers: list[nn.Module] = []
        for _ in range(2):
            layers += [
                build_norm(GroupNormConfig(), config.width, dims=2),
                nn.SiLU(),
                nn.Conv2d(config.width, config.width, 3, padding=1),
            ]
        self.block = nn.Sequential(*layers)
        self.out = zero_convolution(config.width, latent_channels)

    def forward(
        self,
        latent: Float[Tensor, "b v c h w"],
        occupancy: Float[Tensor, "b t k x y z"],
        views: Views,
        present: Bool[Tensor, "b"] | None = None,
    ) -> Float[Tensor, "b v c h w"]:
        """Return the latent and a residual; see `occkit.nn.alignment`."""
        size = check_latent(latent, views, 1)
        planes = self.encoding(occupancy, views, size, present).flatten(2, 3)
        x = self.enter(latent.flatten(0, 1)) + self.hint(planes.flatten(0, 1))
        return latent + self.out(x + self.block(x)).unflatten(0, latent.shape[:2])


@dataclass(frozen=True, kw_only=True)
class CrossAttentionAlignmentConfig:
    """Places of the latent ask the tokens of the occupancy, at a cost that grows with the square of their number."""

    encoding: CameraEncodingConfig = field(default_factory=CameraEncodingConfig)
    """How occupancy is lifted."""
    width: int = 64
    """Channels of queries and tokens."""
    heads: int = 4
    """Attention heads."""
    patch: int = 1
    """Rows and columns of the latent in one query, and in one token."""
    hidden: int = 92
    """Width of the feed-forward network after the attention."""
    across_views: bool = True
    """Ask the tokens of all views, or of the own view alone."""

    def __post_init__(self) -> None:
        if self.heads < 1 or self.width % self.heads:
            raise ConfigError(f"CrossAttention: {self.heads} heads do not share out {self.width} channels evenly")
        if self.patch < 1 or self.hidden < 1:
            raise ConfigError(f"CrossAttention: patch and hidden must be at least 1, got {self.patch}, {self.hidden}")

    def build(self, *, latent_channels: int, num_classes: int, grid: VoxelGrid) -> "CrossAttentionAlignment":
        """Return the module for latents of `latent_channels` and occupancy of `num_classes` on `grid`."""
        return CrossAttentionAlignment(self, latent_channels=latent_channels, num_classes=num_classes, grid=grid)


class CrossAttentionAlignment(nn.Module):
    """See `CrossAttentionAlignmentConfig`; queries and tokens know view, row and column of their place."""

    def __init__(
        self, config: CrossAttentionAlignmentConfig, *, latent_channels: int, num_classes: int, grid: VoxelGrid
    ) -> None:
        super().__init__()
        self.config = config
        width, patch = config.width, config.patch
        self.encoding = config.encoding.build(num_classes=num_classes, grid=grid)
        kernel = (config.encoding.depths, patch, patch)
        self.embed = nn.Conv3d(config.encoding.channels, width, kernel, stride=kernel)
        self.latent = nn.Conv2d(latent_channels, width, patch, stride=patch)
        self.place = nn.Linear(6 * NUM_FREQUENCIES, width)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.query, self.value_key = nn.Linear(width, width), nn.Linear(width, 2 * width)
        self.attended = nn.Linear(width, width)
        self.think = nn.Sequential(nn.Linear(width, config.hidden), nn.SiLU(), nn.Linear(config.hidden, width))
        self.out = zero_convolution(width, width)
        self.unpatch = nn.ConvTranspose2d(width, latent_channels, patch, stride=patch, bias=False)

    def forward(
        self,
        latent: Float[Tensor, "b v c h w"],
        occupancy: Float[Tensor, "b t k x y z"],
        views: Views,
        present: Bool[Tensor, "b"] | None = None,
    ) -> Float[Tensor, "b v c h w"]:
        """Return the latent and a residual; see `occkit.nn.alignment`."""
        size = check_latent(latent, views, self.config.patch)
        encoded = self.encoding(occupancy, views, size, present)
        tokens = self.embed(encoded.flatten(0, 1))[:, :, 0].movedim(1, -1).unflatten(0, latent.shape[:2])
        asking = self.latent(latent.flatten(0, 1)).movedim(1, -1).unflatten(0, latent.shape[:2])
        place = self.place(_code_places(tokens))
        shape = tokens.shape
        query = self._heads(self.query(self.norms[0](asking + place)))
        key, value = (self._heads(x) for x in self.value_key(self.norms[1](tokens + place)).chunk(2, dim=-1))
        found = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).reshape(shape)
        x = asking + self.attended(found)
        x = x + self.think(self.norms[2](x))
        residual = self.unpatch(self.out(x.flatten(0, 1).movedim(-1, 1)))
        return latent + residual.unflatten(0, latent.shape[:2]).to(latent.dtype)

    def _heads(self, x: Float[Tensor, "b v i j c"]) -> Float[Tensor, "m heads n d"]:
        """Return the tokens that may meet in one row, heads in front."""
        rows = x.flatten(1, 3) if self.config.across_views else x.flatten(2, 3).flatten(0, 1)
        return rows.unflatten(-1, (self.config.heads, -1)).transpose(1, 2)


@dataclass(frozen=True, kw_only=True)
class ConvAlignmentConfig:
    """Dual alignment with its scans replaced by depth-separable convolutions over views, rows and columns."""

    encoding: CameraEncodingConfig = field(default_factory=CameraEncodingConfig)
    """How occupancy is lifted."""
    tokens: TokensConfig = field(default_factory=TokensConfig)
    """Width, patch, depth tokens, zero convolution."""
    blocks: int = 2
    """Blocks, one after the other."""
    hidden: int = 122
    """Width inside a block."""
    kernel: int = 5
    """Rows and columns under a convolution of an image; over views it is 3."""

    def __post_init__(self) -> None:
        if self.blocks < 1 or self.hidden < 1 or self.kernel % 2 == 0:
            raise ConfigError(
                f"ConvAlignment: expected blocks and hidden of at least 1 and an odd kernel, got {self.blocks}, "
                f"{self.hidden} and {self.kernel}"
            )

    def build(self, *, latent_channels: int, num_classes: int, grid: VoxelGrid) -> TokenAlignment:
        """Return the module for latents of `latent_channels` and occupancy of `num_classes` on `grid`.

        Raises:
            ConfigError: if depth bins do not divide.
        """
        mixer = nn.Sequential(*(SeparableBlock(self, self.tokens.width) for _ in range(self.blocks)))
        return TokenAlignment(
            self.tokens, self.encoding, mixer, latent_channels=latent_channels, num_classes=num_classes, grid=grid
        )


class SeparableBlock(nn.Module):
    """`x + W2 SiLU(W1 over_views(in_images(norm(x))))`: a depth-wise 3D kernel taken apart, for speed."""

    def __init__(self, config: ConvAlignmentConfig, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.images = nn.Conv2d(width, width, config.kernel, padding=config.kernel // 2, groups=width)
        self.views = nn.Conv1d(width, width, 3, padding=1, groups=width)
        self.think = nn.Sequential(nn.Linear(width, config.hidden), nn.SiLU(), nn.Linear(config.hidden, width))

    def forward(self, tokens: Float[Tensor, "b v i j k c"]) -> Float[Tensor, "b v i j k c"]:
        """Return the tokens, having heard their neighbours."""
        b, v, i, j, k, c = tokens.shape
        x = self.norm(tokens).permute(0, 1, 4, 5, 2, 3).reshape(b * v * k, c, i, j)
        x = self.images(x).reshape(b, v, k, c, i, j).permute(0, 2, 4, 5, 3, 1).reshape(b * k * i * j, c, v)
        x = self.views(x).reshape(b, k, i, j, c, v).permute(0, 5, 2, 3, 1, 4)
        return tokens + self.think(x)


def zero_convolution(in_channels: int, out_channels: int) -> nn.Conv2d:
    """Return a 1x1 convolution that gives 0 until it is trained."""
    layer = nn.Conv2d(in_channels, out_channels, 1)
    nn.init.zeros_(layer.weight)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer


def _code_places(tokens: Float[Tensor, "b v i j c"]) -> Float[Tensor, "v i j f"]:
    """Return sines and cosines of view, row and column, each 0..1 over all there are, in octaves from half a turn."""
    axes = [(torch.arange(n, device=tokens.device) + 0.5) / n for n in tokens.shape[1:4]]
    places = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).to(tokens.dtype)
    turns = math.pi * 2.0 ** torch.arange(NUM_FREQUENCIES, device=tokens.device)
    angles = (places[..., None] * turns.to(tokens.dtype)).flatten(-2)
    return torch.cat([angles.sin(), angles.cos()], dim=-1)
