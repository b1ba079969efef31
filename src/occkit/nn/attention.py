"""Lifting by attention: queries on the volume's grid look where they project to in the images, and at each other.

What differs from BEVFormer: a query is a small network's answer to its place in the box instead of a learned vector, so
that any grid will do; each query looks at one map, not at several scales; past frames come in through `nn/temporal.py`.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from occkit.errors import ConfigError
from occkit.geometry import Cameras, VoxelGrid
from occkit.ops.sampling import deformable_sample_2d


class Projections(NamedTuple):
    """Where the points of the queries fall in one camera's image."""

    places: Float[Tensor, "q p 2"]
    """Fractions of width and height."""
    seen: Bool[Tensor, "q p"]
    """In front of the camera and inside the image."""


@dataclass(frozen=True, kw_only=True)
class AttentionLiftConfig:
    """Deformable attention from the cells of the volume into the images (BEVFormer); depth is not used.

    A flat volume (one voxel high) is BEVFormer's bird's-eye view: each cell then asks at several heights.
    """

    layers: int = 6
    """Encoder layers: attention among the queries, attention into the images, a feed-forward network."""
    heads: int = 8
    """Attention heads; they share the channels out."""
    heights: int = 4
    """Points of a query, evenly spread over the height of its cell."""
    points: int = 2
    """Places that a head looks at around the projection of each of these."""
    neighbours: int = 4
    """Places that a head looks at in the plane of the queries."""
    hidden: int = 512
    """Width of the feed-forward networks."""

    def __post_init__(self) -> None:
        for name in ("layers", "heads", "heights", "points", "neighbours", "hidden"):
            if getattr(self, name) < 1:
                raise ConfigError(f"AttentionLift: {name} must be at least 1, got {getattr(self, name)}")

    def build(self, bins: object, channels: int) -> "AttentionLift":
        """Return the lift for maps of `channels`; the depth bins do not matter."""
        del bins
        return AttentionLift(self, channels)


class AttentionLift(nn.Module):
    """See `AttentionLiftConfig`.

    Source: Li et al., "BEVFormer", ECCV 2022 (spatial cross-attention); Zhu et al., "Deformable DETR", ICLR 2021.
    """

    uses_depth = False
    extra_channels = 0

    def __init__(self, config: AttentionLiftConfig, channels: int) -> None:
        super().__init__()
        if channels % config.heads:
            raise ConfigError(f"AttentionLift: {config.heads} heads do not share out {channels} channels evenly")
        self.config = config
        self.ask = nn.Sequential(nn.Linear(3, channels), nn.ReLU(inplace=True), nn.Linear(channels, channels))
        self.layers = nn.ModuleList(AttentionLayer(config, channels) for _ in range(config.layers))

    def forward(
        self,
        context: Float[Tensor, "b n c h w"],
        depth: Float[Tensor, "b n d h w"],
        cameras: Cameras,
        grid: VoxelGrid,
    ) -> Float[Tensor, "b c x y z"]:
        """Lift; arguments as in `SplatLift.forward`."""
        del depth
        centres = grid.centers(dtype=context.dtype, device=context.device).reshape(-1, 3)
        lower, upper = centres.new_tensor(grid.origin), centres.new_tensor(grid.upper)
        queries = self.ask((centres - lower) / (upper - lower) * 2 - 1)
        volumes = []
        for index in range(context.shape[0]):
            rig = (cameras[index, n] for n in range(context.shape[1]))
            views = [project_queries(centres, camera, grid, self.config.heights) for camera in rig]
            x = queries
            for layer in self.layers:
                x = layer(x, context[index], views, grid)
            volumes.append(x)
        rows = torch.stack(volumes)
        return rows.reshape(len(volumes), *grid.shape, rows.shape[2]).permute(0, 4, 1, 2, 3)


def project_queries(centres: Float[Tensor, "q 3"], cameras: Cameras, grid: VoxelGrid, heights: int) -> Projections:
    """Project points spread over the height of each cell into one camera.

    Args:
        centres: of the cells, metres, reference frame.
        cameras: a single camera, without leading dimensions.
        grid: whose cells they are.
        heights: points a cell.
    """
    lift = ((torch.arange(heights) + 0.5) / heights - 0.5).to(centres) * grid.voxel_size[2]
    points = centres[:, None] + torch.stack([torch.zeros_like(lift), torch.zeros_like(lift), lift], dim=-1)
    pixels, _, seen = cameras.project(points.reshape(-1, 3))
    size = pixels.new_tensor([cameras.width, cameras.height])
    places = torch.where(seen[:, None], pixels / size, 0.0)
    return Projections(places.reshape(-1, heights, 2), seen.reshape(-1, heights))


class AttentionLayer(nn.Module):
    """Queries look at their neighbours, then into the images, then think; each step adds to what was there."""

    def __init__(self, config: AttentionLiftConfig, channels: int) -> None:
        super().__init__()
        self.neighbours = PlaneAttention(config, channels)
        self.images = ImageAttention(config, channels)
        self.think = nn.Sequential(
            nn.Linear(channels, config.hidden), nn.ReLU(inplace=True), nn.Linear(config.hidden, channels)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in range(3))

    def forward(
        self, x: Float[Tensor, "q c"], maps: Float[Tensor, "n c h w"], views: list[Projections], grid: VoxelGrid
    ) -> Float[Tensor, "q c"]:
        """Return the queries after one layer."""
        x = self.norms[0](x + self.neighbours(x, grid))
        x = self.norms[1](x + self.images(x, maps, views))
        return self.norms[2](x + self.think(x))


class ImageAttention(nn.Module):
    """Deformable attention into every image that sees a query; the mean over those images.

    `out[q] = W / |N_q| sum_{n in N_q} sum_p a[q, p] map_n(place_n[q, p] + offset[q, p])`.

    Source: Li et al., "BEVFormer", ECCV 2022, equation 2.
    """

    def __init__(self, config: AttentionLiftConfig, channels: int) -> None:
        super().__init__()
        self.heads, self.heights, self.points = config.heads, config.heights, config.points
        count = config.heads * config.heights * config.points
        self.value = nn.Conv2d(channels, channels, 1)
        self.offset = nn.Linear(channels, 2 * count)
        self.weight = nn.Linear(channels, count)
        self.out = nn.Linear(channels, channels)
        _spread_out(self.offset, config.heads, config.heights * config.points)

    def forward(
        self, x: Float[Tensor, "q c"], maps: Float[Tensor, "n c h w"], views: list[Projections]
    ) -> Float[Tensor, "q c"]:
        """Return what the queries see; zero (before the last projection) where no camera looks."""
        values = self.value(maps).permute(0, 2, 3, 1).unflatten(-1, (self.heads, -1))
        size = x.new_tensor([maps.shape[3], maps.shape[2]])
        total, count = torch.zeros_like(x), x.new_zeros(x.shape[0], 1)
        for view, value in zip(views, values, strict=True):
            rows = rows_of(view.seen.any(dim=1))
            asked = x[rows]
            shape = (rows.shape[0], self.heads, self.heights, self.points)
            places = view.places[rows][:, None, :, None] + self.offset(asked).reshape(*shape, 2) / size
            weights = self.weight(asked).reshape(shape).masked_fill(~view.seen[rows][:, None, :, None], -math.inf)
            weights = weights.flatten(2).softmax(dim=-1)
            found = deformable_sample_2d(
                [value[None]], places.flatten(2, 3)[None, :, :, None], weights[None, :, :, None]
            )
            total = total.index_add(0, rows, found[0].flatten(1))
            count = count.index_add(0, rows, torch.ones_like(count[rows]))
        return self.out(total / count.clamp(min=1))


class PlaneAttention(nn.Module):
    """Deformable attention among the queries of each layer of the volume. Source: BEVFormer, without its past."""

    def __init__(self, config: AttentionLiftConfig, channels: int) -> None:
        super().__init__()
        self.heads, self.points = config.heads, config.neighbours
        count = config.heads * config.neighbours
        self.value = nn.Linear(channels, channels)
        self.offset = nn.Linear(channels, 2 * count)
        self.weight = nn.Linear(channels, count)
        self.out = nn.Linear(channels, channels)
        _spread_out(self.offset, config.heads, config.neighbours)

    def forward(self, x: Float[Tensor, "q c"], grid: VoxelGrid) -> Float[Tensor, "q c"]:
        """Return what the queries see of each other; a volume's layers are planes of their own."""
        nx, ny, nz = grid.shape

        def planes(rows: Tensor) -> Tensor:
            return rows.reshape(nx * ny, nz, -1).transpose(0, 1)

        values = planes(self.value(x)).reshape(nz, nx, ny, self.heads, -1)
        cells = torch.stack(torch.meshgrid(torch.arange(nx), torch.arange(ny), indexing="ij"), dim=-1).reshape(-1, 2)
        # Rows of the plane are x, its columns y: the last coordinate is the column's.
        here = (cells.flip(-1).to(x) + 0.5) / x.new_tensor([ny, nx])
        offsets = planes(self.offset(x)).reshape(nz, nx * ny, self.heads, self.points, 2)
        places = here[None, :, None, None] + offsets / x.new_tensor([ny, nx])
        weights = planes(self.weight(x)).reshape(nz, nx * ny, self.heads, self.points).softmax(dim=-1)
        found = deformable_sample_2d([values], places[:, :, :, None], weights[:, :, :, None])
        return self.out(found.flatten(2).transpose(0, 1).reshape(nx * ny * nz, -1))


def _spread_out(layer: nn.Linear, heads: int, points: int) -> None:
    """Let each head look in a direction of its own at first, at one cell's distance, two, and so on."""
    angle = torch.arange(heads, device=layer.bias.device) * (2 * math.pi / heads)
    direction = torch.stack([angle.cos(), angle.sin()], dim=-1)
    far = torch.arange(1, points + 1, device=layer.bias.device)[None, :, None]
    with torch.no_grad():
        layer.weight.zero_()
        layer.bias.copy_((direction[:, None] * far).reshape(-1))


def rows_of(flags: Bool[Tensor, " q"]) -> Tensor:
    """Return the indices, int64, of the rows whose flag is set; on the meta device those of all rows."""
    if flags.is_meta:  # shapes only: the count is data, so take the largest
        return torch.arange(len(flags), device=flags.device)
    return flags.nonzero()[:, 0]
