"""The LiDAR beside the cameras: points to a plane of features over the ground, and that plane into a camera volume.

Points are scattered, so no sparse convolution is needed: into pillars whose features are learned, or into voxels whose
heights become channels. Every result has the x and y of the grid asked for. On the CPU the scatters give the same bits
on every run; on CUDA what is summed over points (a pillar's mean, gradients) may differ in the last ones.
"""

from dataclasses import dataclass, field
from math import prod

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from occkit.errors import ConfigError
from occkit.geometry import VoxelGrid
from occkit.nn.blocks import BatchNormConfig, ConvBlock, NormConfig, ResidualBlock, build_norm, run_stages
from occkit.nn.volumes import fold_height, unfold_height

POINT_FEATURES = 4 + 3 + 3
"""Of a point: x, y, z, intensity; its offset from the mean of its pillar's points, and from its pillar's centre."""


@dataclass(frozen=True, kw_only=True)
class PillarFeaturesConfig:
    """Points to pillars: a linear layer a point, the maximum over the points of a pillar, and again on both together.

    With `f_p` the features of point `p` and `max` over the points of its pillar, a layer is
    `g_p = relu(norm(W f_p))`; all but the last hand `[g_p, max g]` on, the last returns `max g`.
    """

    widths: tuple[int, ...] = (64, 64)
    """Channels of the layers; the last is the width of the result."""
    max_points: int | None = 64
    """Points of a pillar that count, the first in the order given; None takes all. Pillars are not limited."""
    norm: NormConfig = field(default_factory=BatchNormConfig)
    """Normalisation after each layer, over the points inside the grid."""

    def __post_init__(self) -> None:
        if not self.widths:
            raise ConfigError(f"PillarFeatures: expected at least one layer, got {self}")
        if self.max_points is not None and self.max_points < 1:
            raise ConfigError(f"PillarFeatures: max_points must be at least 1, or None for all, got {self.max_points}")

    def build(self) -> "PillarFeatures":
        """Return the layers."""
        return PillarFeatures(self)


class PillarFeatures(nn.Module):
    """See `PillarFeaturesConfig`.

    Source: Zhou and Tuzel, "VoxelNet", CVPR 2018 (layers); Lang et al., "PointPillars", CVPR 2019 (offsets, pillars).
    RadOcc's teacher reads the fifth column of a nuScenes record where this reads the intensity, and limits the pillars.
    """

    def __init__(self, config: PillarFeaturesConfig) -> None:
        super().__init__()
        self.channels = config.widths[-1]
        self.max_points = config.max_points
        inputs = (POINT_FEATURES, *(2 * width for width in config.widths[:-1]))
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Linear(i, o, bias=False), _point_norm(config.norm, o), nn.ReLU(inplace=True))
            for i, o in zip(inputs, config.widths, strict=True)
        )

    def forward(self, points: tuple[Float[Tensor, "_ 4"], ...], grid: VoxelGrid) -> Float[Tensor, "b c x y"]:
        """Return the features of the pillars over the columns of `grid`, zero where no point lies.

        Args:
            points: of each sample: x, y, z (metres, frame of the grid), intensity; those outside the grid are ignored.
            grid: its columns are the pillars.
        """
        (nx, ny, nz), (sx, sy, sz) = grid.shape, grid.voxel_size
        columns = VoxelGrid(origin=grid.origin, voxel_size=(sx, sy, sz * nz), shape=(nx, ny, 1))
        num_cells = len(points) * columns.num_voxels
        rows, cell = _locate(points, columns)
        if self.max_points is not None:
            first = _first_of_each(cell, self.max_points, num_cells)
            rows, cell = rows[first], cell[first]
        features = _describe(rows, cell, columns, len(points))
        for layer in self.layers[:-1]:
            features = layer(features)
            pillars = _max_of_each(features, cell, num_cells)
            features = torch.cat([features, pillars.index_select(0, cell)], dim=1)
        pillars = _max_of_each(self.layers[-1](features), cell, num_cells)
        return pillars.reshape(len(points), nx, ny, self.channels).permute(0, 3, 1, 2)


@dataclass(frozen=True, kw_only=True)
class VoxelOccupancyConfig:
    """Points to voxels: 1 where a point lies and 0 elsewhere, the heights as channels. Nothing is learned."""

    num_heights: int = 8
    """Voxels of a column of the grid."""

    def build(self) -> "VoxelOccupancy":
        """Return the module."""
        return VoxelOccupancy(self)


class VoxelOccupancy(nn.Module):
    """See `VoxelOccupancyConfig`. Source: Yang et al., "PIXOR", CVPR 2018 (occupied heights as channels)."""

    def __init__(self, config: VoxelOccupancyConfig) -> None:
        super().__init__()
        self.channels = config.num_heights

    def forward(self, points: tuple[Float[Tensor, "_ 4"], ...], grid: VoxelGrid) -> Float[Tensor, "b z x y"]:
        """Return what is occupied; arguments as in `PillarFeatures.forward`, lowest height first.

        Raises:
            ConfigError: if the grid's number of heights is not the one that the module was made for.
        """
        if grid.shape[2] != self.channels:
            raise ConfigError(f"VoxelOccupancy: made for {self.channels} heights, got a grid of {grid.shape}")
        rows, cell = _locate(points, grid)
        occupied = rows.new_zeros(len(points) * grid.num_voxels).index_fill(0, cell, 1.0)
        return fold_height(occupied.reshape(len(points), 1, *grid.shape))


@dataclass(frozen=True, kw_only=True)
class GroundStagesConfig:
    """2D convolutions over the ground plane in stages, each stage's result a scale (SECOND's backbone)."""

    widths: tuple[int, ...] = (64, 128, 256)
    """Channels of the stages."""
    layers: tuple[int, ...] = (3, 5, 5)
    """Blocks of each stage after its first, which has the stride."""
    strides: tuple[int, ...] = (2, 2, 2)
    """Stride of each stage."""
    residual: bool = False
    """Blocks of two convolutions beside a shortcut, instead of single convolutions."""
    norm: NormConfig = field(default_factory=BatchNormConfig)
    """Normalisation after each convolution."""

    def __post_init__(self) -> None:
        if not len(self.widths) == len(self.layers) == len(self.strides) > 0:
            raise ConfigError(f"GroundStages: widths, layers and strides differ in length: {self}")

    def build(self, in_channels: int) -> "GroundStages":
        """Return the stages for planes of `in_channels`."""
        return GroundStages(self, in_channels)


class GroundStages(nn.Module):
    """See `GroundStagesConfig`. Source: Yan et al., "SECOND", Sensors 2018, as PointPillars uses it."""

    def __init__(self, config: GroundStagesConfig, in_channels: int) -> None:
        super().__init__()
        block = ResidualBlock if config.residual else ConvBlock
        stages = []
        previous = in_channels
        for width, layers, stride in zip(config.widths, config.layers, config.strides, strict=True):
            first = block(previous, width, norm=config.norm, dims=2, stride=stride)
            rest = [block(width, width, norm=config.norm, dims=2) for _ in range(layers)]
            stages.append(nn.Sequential(first, *rest))
            previous = width
        self.stages = nn.ModuleList(stages)

    def forward(self, plane: Float[Tensor, "b c _ _"]) -> list[Float[Tensor, "b _ _ _"]]:
        """Return the scales, finest first; each side is divided by the strides so far, rounded up."""
        return run_stages(self.stages, plane)


@dataclass(frozen=True, kw_only=True)
class TransposedNeckConfig:
    """Every scale to the size of the finest by one transposed convolution, side by side (SECOND's neck)."""

    channels: int = 128
    """Width of each scale; the result has as many times this as there are scales."""
    norm: NormConfig = field(default_factory=BatchNormConfig)
    """Normalisation after each convolution."""

    def build(self, stages: GroundStagesConfig) -> "TransposedNeck":
        """Return the neck for the scales of these stages."""
        return TransposedNeck(self, stages)


class TransposedNeck(nn.Module):
    """See `TransposedNeckConfig`. Source: Lang et al., "PointPillars", CVPR 2019."""

    def __init__(self, config: TransposedNeckConfig, stages: GroundStagesConfig) -> None:
        super().__init__()
        self.channels = config.channels * len(stages.widths)
        ups = []
        for index, width in enumerate(stages.widths):
            factor = prod(stages.strides[1 : index + 1])
            conv = nn.ConvTranspose2d(width, config.channels, factor, stride=factor, bias=False)
            ups.append(nn.Sequential(conv, build_norm(config.norm, config.channels, dims=2), nn.ReLU(inplace=True)))
        self.ups = nn.ModuleList(ups)

    def forward(self, scales: list[Float[Tensor, "b _ _ _"]]) -> Float[Tensor, "b d x y"]:
        """Return one plane at the size of the first of `scales`; what strides rounded up to is cut off."""
        x, y = scales[0].shape[2:]
        return torch.cat([up(s)[..., :x, :y] for up, s in zip(self.ups, scales, strict=True)], dim=1)


@dataclass(frozen=True, kw_only=True)
class PillarEncoderConfig:
    """Points to a plane of features: a stem over fine columns, 2D stages whose first stride leads to voxels, a neck.

    The defaults are the LiDAR branch of RadOcc's teacher for Occ3D: pillars of 0.2 m, a plane of 384 channels at 0.4 m.
    """

    stem: PillarFeaturesConfig | VoxelOccupancyConfig = field(default_factory=PillarFeaturesConfig)
    """What is known of a column before its neighbours are."""
    stages: GroundStagesConfig = field(default_factory=GroundStagesConfig)
    """The 2D network; as many columns fill a voxel's edge as its first stride says."""
    neck: TransposedNeckConfig = field(default_factory=TransposedNeckConfig)
    """Joins the scales."""

    def build(self) -> "PillarEncoder":
        """Return the encoder."""
        return PillarEncoder(self)


class PillarEncoder(nn.Module):
    """See `PillarEncoderConfig`.

    Source: Lang et al., "PointPillars", CVPR 2019; Zhang et al., "RadOcc", AAAI 2024 (LiDAR branch of the teacher).
    """

    def __init__(self, config: PillarEncoderConfig) -> None:
        super().__init__()
        self.columns_per_voxel = config.stages.strides[0]
        self.stem = config.stem.build()
        self.stages = config.stages.build(self.stem.channels)
        self.neck = config.neck.build(config.stages)
        self.channels = self.neck.channels

    def forward(self, points: tuple[Float[Tensor, "_ 4"], ...], grid: VoxelGrid) -> Float[Tensor, "b d x y"]:
        """Return the plane, one cell a column of `grid`; arguments as in `PillarFeatures.forward`."""
        (nx, ny, nz), (sx, sy, sz), n = grid.shape, grid.voxel_size, self.columns_per_voxel
        fine = VoxelGrid(origin=grid.origin, voxel_size=(sx / n, sy / n, sz), shape=(nx * n, ny * n, nz))
        return self.neck(self.stages(self.stem(points, fine)))


LidarEncoderConfig = PillarEncoderConfig | VoxelOccupancyConfig
"""Either is built without arguments, has `channels`, and is called with points and a grid."""

_NANO_STAGES = GroundStagesConfig(widths=(32, 48, 64), layers=(1, 1, 1), strides=(1, 2, 2))

NANO_PILLARS = PillarEncoderConfig(
    stem=PillarFeaturesConfig(widths=(32, 32), max_points=None),
    stages=_NANO_STAGES,
    neck=TransposedNeckConfig(channels=16),
)
"""For 100 x 100 x 8 voxels of 0.8 m on a CPU: a pillar a voxel column, 48 channels."""

NANO_HEIGHTS = PillarEncoderConfig(
    stem=VoxelOccupancyConfig(num_heights=8), stages=_NANO_STAGES, neck=TransposedNeckConfig(channels=16)
)
"""The same network on the occupancy of the voxels, which keeps the heights apart that a pillar's maximum mixes."""


@dataclass(frozen=True, kw_only=True)
class FuseLidarConfig:
    """A LiDAR plane into a camera volume: heights folded into channels, a convolution over both, a gate a channel.

    `fused = unfold(g * sigmoid(A mean(g) + a))`, `g = relu(norm(W [fold(camera), lidar]))`, the mean over x and y.
    """

    kernel: int = 3
    """Side of the convolution, cells; 1 leaves the neighbours to the networks before and after."""
    norm: NormConfig = field(default_factory=BatchNormConfig)
    """Normalisation after the convolution."""

    def build(self, channels: int, num_heights: int, lidar_channels: int) -> "FuseLidar":
        """Return the fusion for volumes of `channels` and `num_heights` and planes of `lidar_channels`."""
        return FuseLidar(self, channels, num_heights, lidar_channels)


class FuseLidar(nn.Module):
    """See `FuseLidarConfig`.

    Source: Zhang et al., "RadOcc", AAAI 2024; Liang et al., "BEVFusion", NeurIPS 2022 (convolution and gate).
    """

    def __init__(self, config: FuseLidarConfig, channels: int, num_heights: int, lidar_channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.num_heights = num_heights
        folded = channels * num_heights
        self.conv = ConvBlock(folded + lidar_channels, folded, norm=config.norm, dims=2, kernel=config.kernel)
        self.gate = nn.Conv2d(folded, folded, 1)

    def forward(
        self, volume: Float[Tensor, "b c _ _ _"], lidar: Float[Tensor, "b d _ _"]
    ) -> Float[Tensor, "b c x y z"]:
        """Return the fused volume, of the camera volume's shape.

        Args:
            volume: camera features.
            lidar: LiDAR features, one cell a column of the volume.

        Raises:
            ConfigError: if the volume is not of the channels and heights that the fusion was made for, or the plane
                not of the volume's columns.
        """
        if (volume.shape[1], volume.shape[4]) != (self.channels, self.num_heights):
            raise ConfigError(
                f"FuseLidar: made for {self.channels} channels and {self.num_heights} heights, got "
                f"{volume.shape[1]} and {volume.shape[4]}"
            )
        if lidar.shape[2:] != volume.shape[2:4]:
            raise ConfigError(
                f"FuseLidar: the LiDAR plane has {tuple(lidar.shape[2:])} cells and the volume "
                f"{tuple(volume.shape[2:4])} columns; encode the points on the volume's grid"
            )
        plane = self.conv(torch.cat([fold_height(volume), lidar], dim=1))
        gate = torch.sigmoid(self.gate(plane.mean(dim=(2, 3), keepdim=True)))
        return unfold_height(plane * gate, self.num_heights)


class _PointBatchNorm(nn.BatchNorm1d):
    """Batch normalisation that a cloud of fewer than two points in training goes through, and leaves no trace in."""

    def forward(self, input: Float[Tensor, "p c"]) -> Float[Tensor, "p c"]:
        if not self.training or len(input) > 1:
            return super().forward(input)
        return F.batch_norm(input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)


def _point_norm(config: NormConfig, channels: int) -> nn.Module:
    if isinstance(config, BatchNormConfig):
        return _PointBatchNorm(channels)
    return build_norm(config, channels, dims=2)


def _locate(
    points: tuple[Float[Tensor, "_ 4"], ...], grid: VoxelGrid
) -> tuple[Float[Tensor, "p 4"], Int[Tensor, " p"]]:
    """Return the points inside the grid, and the flat index (sample, voxel) of each."""
    rows = torch.cat(points)
    sample = torch.cat([torch.full((p.shape[0],), i, device=rows.device) for i, p in enumerate(points)])
    index, inside = grid.index_of(rows[:, :3])
    kept = _indices(inside)
    return rows[kept], (sample * grid.num_voxels + grid.flat_index(index))[kept]


def _first_of_each(cell: Int[Tensor, " p"], limit: int, num_cells: int) -> Int[Tensor, " q"]:
    """Return which points are among the first `limit` of their cell."""
    place = torch.arange(cell.shape[0], device=cell.device)
    order = (cell * cell.shape[0] + place).argsort()  # by cell, then by place: no two are equal
    count = torch.zeros(num_cells, dtype=torch.int64, device=cell.device).index_add(0, cell, torch.ones_like(cell))
    start = count.cumsum(0) - count
    rank = place - start[cell[order]]
    return order[_indices(rank < limit)]


def _describe(
    rows: Float[Tensor, "p 4"], cell: Int[Tensor, " p"], columns: VoxelGrid, num_samples: int
) -> Float[Tensor, "p f"]:
    """Return what is known of each point; see `POINT_FEATURES`."""
    _, ny, _ = columns.shape
    column = cell % columns.num_voxels
    index = torch.stack([column // ny, column % ny, torch.zeros_like(column)], dim=-1)
    offset = rows[:, :3] - columns.points_at(index.to(rows) + 0.5)
    # Sums of offsets, not of coordinates: those are tens of metres, and their digits are lost.
    ones = torch.ones_like(offset[:, :1])
    sums = rows.new_zeros(num_samples * columns.num_voxels, 4).index_add(0, cell, torch.cat([offset, ones], dim=1))
    here = sums.index_select(0, cell)
    return torch.cat([rows, offset - here[:, :3] / here[:, 3:], offset], dim=1)


def _max_of_each(features: Float[Tensor, "p c"], cell: Int[Tensor, " p"], num_cells: int) -> Float[Tensor, "v c"]:
    """Return the maximum of each cell; of rectified features, so an empty cell's zero never hides a point."""
    index = cell[:, None].expand_as(features)
    return features.new_zeros(num_cells, features.shape[1]).scatter_reduce(0, index, features, "amax")


def _indices(flags: Bool[Tensor, " p"]) -> Int[Tensor, " q"]:
    if flags.is_meta:  # shapes only: the count is data, so take the largest
        return torch.arange(len(flags), device=flags.device)
    return flags.nonzero()[:, 0]
