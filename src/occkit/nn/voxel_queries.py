"""Some voxels ask the images: deformable cross-attention, in the image plane or in plane and depth, or a plain look.

What asks are proposals, voxels where something may be; what they are asked about is one feature map a camera, and its
depth distribution where depth counts. `nn/completion.py` makes a whole volume of the answers.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from occkit.errors import ConfigError
from occkit.geometry import Cameras
from occkit.nn.attention import rows_of
from occkit.nn.depth import DepthBins
from occkit.nn.point_lifting import lift_points
from occkit.nn.volume_attention import FeedForward, start_apart
from occkit.ops.gather import Backend
from occkit.ops.sampling import deformable_sample_2d, depth_aware_sample


class Shown(NamedTuple):
    """What the images of one frame show."""

    context: Float[Tensor, "n c h w"]
    """Features of each cell."""
    depth: Float[Tensor, "n d h w"]
    """Distribution over the depth bins of each cell."""
    cameras: Cameras
    """Leading dimension `[n]`, of the images that the maps come from."""
    bins: DepthBins
    """Of the distribution."""


@dataclass(frozen=True, kw_only=True)
class CrossAttentionConfig:
    """Layers of deformable attention from voxels into the images that see them."""

    layers: int = 3
    """How many."""
    heads: int = 8
    """Attention heads; they share the channels out."""
    points: int = 8
    """Places that a head looks at around the voxel's projection."""
    spacing: float = 1.0
    """Cells of the map between these places at first, along a head's direction; learning moves them from there. A cell
    of a small image spans a wider angle."""
    hidden: int = 256
    """Width of the feed-forward networks: twice the channels in VoxFormer and CGFormer, whose configs say 1024 and are
    overruled."""
    dropout: float = 0.1
    """Share of numbers that training leaves out."""
    depth_aware: bool = False
    """Look at places in the image and in depth (CGFormer), weighing a cell by its probability there; else in the image
    alone (VoxFormer)."""

    def __post_init__(self) -> None:
        for name in ("layers", "heads", "points", "hidden"):
            if getattr(self, name) < 1:
                raise ConfigError(f"CrossAttention: {name} must be at least 1, got {getattr(self, name)}")
        if not 0 <= self.spacing < math.inf:
            raise ConfigError(f"CrossAttention: spacing must be at least 0, got {self.spacing}")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"CrossAttention: dropout must lie in [0, 1), got {self.dropout}")

    def build(self, channels: int) -> "CrossAttention":
        """Return the layers for queries and maps of `channels`.

        Raises:
            ConfigError: if the heads do not share the channels out evenly.
        """
        return CrossAttention(self, channels)


class CrossAttention(nn.Module):
    """See `CrossAttentionConfig`.

    Source: Li et al., "VoxFormer", CVPR 2023 (2D); Yu et al., "CGFormer", NeurIPS 2024, after Li et al., "DFA3D", ICCV
    2023 (depth-aware).
    """

    def __init__(self, config: CrossAttentionConfig, channels: int) -> None:
        super().__init__()
        if channels % config.heads:
            raise ConfigError(f"CrossAttention: {config.heads} heads do not share out {channels} channels evenly")
        self.layers = nn.ModuleList(CrossLayer(config, channels) for _ in range(config.layers))

    def forward(
        self, x: Float[Tensor, "q c"], centres: Float[Tensor, "q 3"], shown: Shown, *, backend: Backend = "auto"
    ) -> Float[Tensor, "q c"]:
        """Return the queries after all layers.

        Args:
            x: one row a voxel that asks.
            centres: of these voxels, metres, reference frame.
            shown: what the images show.
            backend: see `occkit.ops.gather.Backend`.
        """
        for layer in self.layers:
            x = layer(x, centres, shown, backend=backend)
        return x


class CrossLayer(nn.Module):
    """Attention, norm, feed-forward network, norm; each adds to what was there."""

    def __init__(self, config: CrossAttentionConfig, channels: int) -> None:
        super().__init__()
        self.look = ImageLook(config, channels)
        self.think = FeedForward(channels, config.hidden, config.dropout)
        self.dropout = nn.Dropout(config.dropout)
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in range(2))

    def forward(
        self, x: Float[Tensor, "q c"], centres: Float[Tensor, "q 3"], shown: Shown, *, backend: Backend = "auto"
    ) -> Float[Tensor, "q c"]:
        """Return the queries after one layer."""
        x = self.norms[0](x + self.dropout(self.look(x, centres, shown, backend=backend)))
        return self.norms[1](x + self.think(x))


class ImageLook(nn.Module):
    """`out[q] = W / |N_q| sum_{n in N_q} sum_p softmax_p(A q) V_n(place_n(q) + offset_p(q))`, `N_q` who sees q.

    Offsets are in cells of the map, and in bins where depth counts.
    """

    def __init__(self, config: CrossAttentionConfig, channels: int) -> None:
        super().__init__()
        self.heads, self.points, self.depth_aware = config.heads, config.points, config.depth_aware
        count = config.heads * config.points
        self.value = nn.Linear(channels, channels)
        self.offset = nn.Linear(channels, 2 * count)
        self.weight = nn.Linear(channels, count)
        self.out = nn.Linear(channels, channels)
        start_apart(self.offset, self.weight, config.heads, config.points, axes=2, spacing=config.spacing)
        self.depth_offset: nn.Linear | None = None
        if config.depth_aware:
            self.depth_offset = nn.Linear(channels, count)
            nn.init.zeros_(self.depth_offset.weight)
            nn.init.zeros_(self.depth_offset.bias)

    def forward(
        self, x: Float[Tensor, "q c"], centres: Float[Tensor, "q 3"], shown: Shown, *, backend: Backend = "auto"
    ) -> Float[Tensor, "q c"]:
        """Return what the queries see; zero (before the last projection) where no camera looks."""
        context, cameras = shown.context, shown.cameras
        values = self.value(context.permute(0, 2, 3, 1)).unflatten(-1, (self.heads, -1))
        total, count = torch.zeros_like(x), x.new_zeros(x.shape[0], 1)
        for n in range(context.shape[0]):
            pixels, z, seen = cameras[n].project(centres)
            rows = rows_of(seen)
            reference = pixels[rows] / pixels.new_tensor([cameras.width, cameras.height])
            reference = torch.cat([reference, shown.bins.continuous_index(z[rows])[:, None] / shown.bins.count], dim=1)
            found = self._sample(x[rows], reference.to(x), values[n : n + 1], shown.depth[n : n + 1], backend)
            total = total.index_add(0, rows, found)
            count = count.index_add(0, rows, torch.ones_like(count[rows]))
        return self.out(total / count.clamp(min=1))

    def _sample(
        self,
        asked: Float[Tensor, "q c"],
        reference: Float[Tensor, "q 3"],
        values: Float[Tensor, "1 h w heads e"],
        depth: Float[Tensor, "1 d h w"],
        backend: Backend,
    ) -> Float[Tensor, "q c"]:
        shape = (asked.shape[0], self.heads, self.points)
        weights = self.weight(asked).reshape(shape).softmax(dim=-1)
        size = asked.new_tensor([values.shape[2], values.shape[1]])
        places = reference[:, None, None, :2] + self.offset(asked).reshape(*shape, 2) / size
        if self.depth_offset is None:
            found = deformable_sample_2d([values], places[None, :, :, None], weights[None, :, :, None], backend=backend)
        else:
            deeper = self.depth_offset(asked).reshape(*shape, 1) / depth.shape[1]
            places = torch.cat([places, reference[:, None, None, 2:] + deeper], dim=-1)
            found = depth_aware_sample(values, depth.permute(0, 2, 3, 1), places[None], weights[None], backend=backend)
        return found[0].flatten(1)


@dataclass(frozen=True, kw_only=True)
class PlainLookConfig:
    """Each voxel reads the feature at its projection; concatenated with its query, through two layers (a rival)."""

    hidden: int = 256
    """Width between the layers."""
    dropout: float = 0.1
    """Share of numbers that training leaves out, as in `CrossAttentionConfig`: after each of the two layers."""

    def build(self, channels: int) -> "PlainLook":
        """Return the fusion for queries and maps of `channels`."""
        return PlainLook(self, channels)


class PlainLook(nn.Module):
    """See `PlainLookConfig`. Source: original; the rival of deformable attention in the claim."""

    def __init__(self, config: PlainLookConfig, channels: int) -> None:
        super().__init__()
        self.mix = nn.Sequential(
            nn.Linear(2 * channels, config.hidden),
            nn.ReLU(inplace=True),
            nn.Dropout(config.dropout),
            nn.Linear(config.hidden, channels),
            nn.Dropout(config.dropout),
        )
        self.norm = nn.LayerNorm(channels)

    def forward(
        self, x: Float[Tensor, "q c"], centres: Float[Tensor, "q 3"], shown: Shown, *, backend: Backend = "auto"
    ) -> Float[Tensor, "q c"]:
        """Return the queries; arguments as in `CrossAttention.forward`. The mean over the cameras that see a voxel."""
        del backend
        found, _ = lift_points(shown.context, shown.cameras, centres)
        return self.norm(x + self.mix(torch.cat([x, found.to(x)], dim=1)))


FusionConfig = CrossAttentionConfig | PlainLookConfig
"""How proposals look at the images."""
