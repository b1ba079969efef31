"""Deformable attention among the voxels of a volume, along all three axes.

VoxFormer and CGFormer fold their volume into a square image instead and attend there: a step of one pixel down jumps 32
voxels to the left. `VolumeAttentionConfig.fold` is there to reproduce them.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from occkit.errors import ConfigError
from occkit.ops.gather import Backend
from occkit.ops.sampling import deformable_sample_2d, deformable_sample_3d

Shape = tuple[int, int, int]


@dataclass(frozen=True, kw_only=True)
class VolumeAttentionConfig:
    """Layers of deformable attention of every voxel to its neighbours, each with a feed-forward network."""

    layers: int = 2
    """How many."""
    heads: int = 8
    """Attention heads; they share the channels out."""
    points: int = 8
    """Places that a head looks at around a voxel."""
    hidden: int = 256
    """Width of the feed-forward networks: twice the channels in VoxFormer and CGFormer, whose configs say 1024 and are
    overruled."""
    dropout: float = 0.1
    """Share of numbers that training leaves out, after the attention and in the feed-forward network."""
    fold: tuple[int, int] | None = None
    """Take the voxels in C order for an image of so many rows and columns and attend there, in two dimensions: (512,
    512) reproduces VoxFormer and CGFormer. None attends in three dimensions."""

    def __post_init__(self) -> None:
        for name in ("layers", "heads", "points", "hidden"):
            if getattr(self, name) < 1:
                raise ConfigError(f"VolumeAttention: {name} must be at least 1, got {getattr(self, name)}")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"VolumeAttention: dropout must lie in [0, 1), got {self.dropout}")

    def build(self, channels: int) -> "VolumeAttention":
        """Return the layers for volumes of `channels`.

        Raises:
            ConfigError: if the heads do not share the channels out evenly.
        """
        return VolumeAttention(self, channels)


class VolumeAttention(nn.Module):
    """See `VolumeAttentionConfig`; works on a volume of any size, but for a fold.

    Source: Zhu et al., "Deformable DETR", ICLR 2021, with a third axis; the order (attention, norm, feed-forward, norm)
    is that of Li et al., "VoxFormer", CVPR 2023. That queries know their place by a linear map of it is original.
    """

    def __init__(self, config: VolumeAttentionConfig, channels: int) -> None:
        super().__init__()
        if channels % config.heads:
            raise ConfigError(f"VolumeAttention: {config.heads} heads do not share out {channels} channels evenly")
        self.place = nn.Linear(3, channels)
        self.layers = nn.ModuleList(VolumeLayer(config, channels) for _ in range(config.layers))

    def forward(self, x: Float[Tensor, "b v c"], shape: Shape, *, backend: Backend = "auto") -> Float[Tensor, "b v c"]:
        """Return the voxels after all layers.

        Args:
            x: one row a voxel, C order of `[x, y, z]`.
            shape: voxels along x, y, z; their product is V.
            backend: see `occkit.ops.gather.Backend`.

        Raises:
            ConfigError: if the volume does not fill the fold.
        """
        place = self.place(_places(shape, x) * 2 - 1)
        for layer in self.layers:
            x = layer(x, place, shape, backend=backend)
        return x


class VolumeLayer(nn.Module):
    """Attention, norm, feed-forward network, norm; each adds to what was there."""

    def __init__(self, config: VolumeAttentionConfig, channels: int) -> None:
        super().__init__()
        self.attend = NeighbourAttention(config, channels)
        self.think = FeedForward(channels, config.hidden, config.dropout)
        self.dropout = nn.Dropout(config.dropout)
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in range(2))

    def forward(
        self, x: Float[Tensor, "b v c"], place: Float[Tensor, "v c"], shape: Shape, *, backend: Backend = "auto"
    ) -> Float[Tensor, "b v c"]:
        """Return the voxels after one layer."""
        x = self.norms[0](x + self.dropout(self.attend(x, x + place, shape, backend=backend)))
        return self.norms[1](x + self.think(x))


class FeedForward(nn.Sequential):
    """Two layers a row, as in a transformer."""

    def __init__(self, channels: int, hidden: int, dropout: float) -> None:
        super().__init__(
            nn.Linear(channels, hidden),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(hidden, channels),
            nn.Dropout(dropout),
        )


class NeighbourAttention(nn.Module):
    """`out[q] = W sum_p softmax_p(A q) V(place_q + offset_p(q))`, offsets in voxels; heads side by side."""

    def __init__(self, config: VolumeAttentionConfig, channels: int) -> None:
        super().__init__()
        self.heads, self.points, self.fold = config.heads, config.points, config.fold
        axes = 2 if config.fold else 3
        count = config.heads * config.points
        self.value = nn.Linear(channels, channels)
        self.offset = nn.Linear(channels, axes * count)
        self.weight = nn.Linear(channels, count)
        self.out = nn.Linear(channels, channels)
        start_apart(self.offset, self.weight, config.heads, config.points, axes)

    def forward(
        self, x: Float[Tensor, "b v c"], queries: Float[Tensor, "b v c"], shape: Shape, *, backend: Backend = "auto"
    ) -> Float[Tensor, "b v c"]:
        """Return what the voxels see of each other.

        Args:
            x: what is looked at.
            queries: what decides where to look, one row a voxel.
            shape: voxels along x, y, z.
            backend: see `occkit.ops.gather.Backend`.
        """
        batch, count, _ = x.shape
        weights = self.weight(queries).reshape(batch, count, self.heads, self.points).softmax(dim=-1)[:, :, :, None]
        offsets = self.offset(queries).reshape(batch, count, self.heads, self.points, -1)
        if self.fold is None:
            places = _places(shape, x)[:, None, None] + offsets / offsets.new_tensor(shape)
            values = self.value(x).reshape(batch, *shape, self.heads, -1)
            found = deformable_sample_3d([values], places[:, :, :, None], weights, backend=backend)
        else:
            rows, columns = self.fold
            if rows * columns != count:
                raise ConfigError(
                    f"VolumeAttention: {shape} voxels do not fill a fold of {self.fold}; set fold to None, which "
                    "attends in three dimensions"
                )
            # (u, v): the column is the first coordinate of a place in an image.
            here = _places((rows, columns, 1), x)[:, [1, 0]]
            places = here[:, None, None] + offsets / offsets.new_tensor([columns, rows])
            values = self.value(x).reshape(batch, rows, columns, self.heads, -1)
            found = deformable_sample_2d([values], places[:, :, :, None], weights, backend=backend)
        return self.out(found.flatten(2))


def start_apart(
    offset: nn.Linear, weight: nn.Linear, heads: int, points: int, axes: int, *, spacing: float = 1.0
) -> None:
    """Let each head look in a direction of its own at first, `spacing` cells away, twice that, ..., at all alike.

    In two dimensions directions lie on a circle, in three on a spiral around a sphere; their largest coordinate is 1.
    """
    number = torch.arange(heads, device=offset.bias.device)
    if axes == 2:
        angle = number * (2 * math.pi / heads)
        direction = torch.stack([angle.cos(), angle.sin()], dim=-1)
    else:
        angle, height = number * (math.pi * (3 - math.sqrt(5))), 1 - (2 * number + 1) / heads
        ring = (1 - height.square()).sqrt()
        direction = torch.stack([ring * angle.cos(), ring * angle.sin(), height], dim=-1)
    direction = direction / direction.abs().amax(dim=-1, keepdim=True)
    far = spacing * torch.arange(1, points + 1, device=offset.bias.device)[None, :, None]
    with torch.no_grad():
        offset.weight.zero_()
        offset.bias.copy_((direction[:, None] * far).reshape(-1))
        weight.weight.zero_()
        weight.bias.zero_()


def _places(shape: Shape, like: Tensor) -> Float[Tensor, "v 3"]:
    """Return the voxel centres as fractions of the volume, C order."""
    axes = [(torch.arange(n, device=like.device, dtype=like.dtype) + 0.5) / n for n in shape]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).reshape(-1, 3)
