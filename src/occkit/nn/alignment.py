"""Alignment of occupancy with a diffusion latent: OccScene's dual alignment, and what it is to be compared with.

All of them are modules called as `module(latent, occupancy, views, present=None)`:

- `latent` `[b, v, c, h, w]`: what a generator is drawing, v images (time x camera, time-major);
- `occupancy` `[b, t, k, x, y, z]`: class probabilities, one volume a time, finite;
- `views`: where the images look, and which volume each looks at;
- `present` `[b]`: where false, the occupancy is not read and a learned one takes its place.

The result is the latent plus a residual, which is exactly 0 before training. All start from the same camera encoding.
"""

from dataclasses import dataclass, field

from jaxtyping import Float
from torch import Tensor, nn

from occkit.errors import ConfigError
from occkit.geometry import VoxelGrid
from occkit.nn.camera_encoding import CameraEncodingConfig, Views
from occkit.nn.rival_alignment import (
    ConcatAlignmentConfig,
    ControlAlignmentConfig,
    ConvAlignmentConfig,
    CrossAttentionAlignmentConfig,
)
from occkit.nn.state_space import SCAN_ORDERS, BidirectionalMambaConfig, ScanOrder, scan_permutation
from occkit.nn.token_alignment import TokenAlignment, TokensConfig

__all__ = [
    "AlignmentConfig",
    "CameraEncodingConfig",
    "ConcatAlignmentConfig",
    "ControlAlignmentConfig",
    "ConvAlignmentConfig",
    "CrossAttentionAlignmentConfig",
    "DualAlignmentConfig",
    "ScanMixer",
    "TokensConfig",
    "Views",
]


@dataclass(frozen=True, kw_only=True)
class DualAlignmentConfig:
    """Occupancy lifted into every view, serialised over all views, and scanned both ways (OccScene's MDA)."""

    encoding: CameraEncodingConfig = field(default_factory=CameraEncodingConfig)
    """How occupancy is lifted: frustum or resize, with or without camera parameters, depth bins."""
    tokens: TokensConfig = field(default_factory=TokensConfig)
    """Width, patch, depth tokens, zero convolution."""
    mamba: BidirectionalMambaConfig = field(default_factory=BidirectionalMambaConfig)
    """The block: state, heads, gate, both ways or forward only."""
    blocks: int = 1
    """How many of them, one after the other."""
    order: ScanOrder = "frame_raster"
    """Which token comes after which; see `occkit.nn.state_space.scan_permutation`."""

    def __post_init__(self) -> None:
        if self.order not in SCAN_ORDERS:
            raise ConfigError(f"DualAlignment: order must be one of {SCAN_ORDERS}, got {self.order!r}")
        if self.order == "depth" and self.tokens.depths < 2:
            raise ConfigError("DualAlignment: order 'depth' needs tokens.depths of 2 or more, or it is 'frame_raster'")
        if self.blocks < 1:
            raise ConfigError(f"DualAlignment: blocks must be at least 1, got {self.blocks}")

    def build(self, *, latent_channels: int, num_classes: int, grid: VoxelGrid) -> TokenAlignment:
        """Return the module for latents of `latent_channels` and occupancy of `num_classes` on `grid`.

        Raises:
            ConfigError: if widths, heads or depth bins do not divide.
        """
        mixer = ScanMixer(self.mamba, self.tokens.width, blocks=self.blocks, order=self.order)
        return TokenAlignment(
            self.tokens, self.encoding, mixer, latent_channels=latent_channels, num_classes=num_classes, grid=grid
        )


class ScanMixer(nn.Module):
    """Mamba blocks over the tokens of all views as one sequence.

    Source: Li et al. 2024 (OccScene), figure of Mamba-based Dual Alignment, "sequential feature encoding".
    """

    def __init__(self, config: BidirectionalMambaConfig, width: int, *, blocks: int, order: ScanOrder) -> None:
        super().__init__()
        self.order: ScanOrder = order
        self.blocks = nn.ModuleList(config.build(width) for _ in range(blocks))

    def forward(self, tokens: Float[Tensor, "b v i j k c"]) -> Float[Tensor, "b v i j k c"]:
        """Return the tokens, each having heard those before it and, if so built, after it."""
        shape = tokens.shape[1:5]
        permutation = scan_permutation(self.order, *shape, device=tokens.device)
        sequence = tokens.flatten(1, 4)[:, permutation]
        for block in self.blocks:
            sequence = block(sequence)
        return sequence[:, permutation.argsort()].unflatten(1, shape)


AlignmentConfig = (
    DualAlignmentConfig
    | ConcatAlignmentConfig
    | CrossAttentionAlignmentConfig
    | ConvAlignmentConfig
    | ControlAlignmentConfig
)
"""All kinds of alignment."""
