from dataclasses import replace

import pytest
import torch
from torch import nn

from occkit.errors import ConfigError
from occkit.geometry import OCC3D_GRID, VoxelGrid
from occkit.nn.blocks import GroupNormConfig
from occkit.nn.lidar import (
    NANO_HEIGHTS,
    NANO_PILLARS,
    FuseLidar,
    FuseLidarConfig,
    GroundStagesConfig,
    PillarEncoderConfig,
    PillarFeaturesConfig,
    TransposedNeckConfig,
    VoxelOccupancyConfig,
)

NANO_GRID = VoxelGrid.from_range((-40, -40, -1), (40, 40, 5.4), 0.8)
ODD_GRID = VoxelGrid(origin=(-2.0, 1.0, -1.0), voxel_size=(0.5, 0.4, 0.75), shape=(7, 10, 3))
UNIT_GRID = VoxelGrid(origin=(0.0, 0.0, 0.0), voxel_size=(1.0, 1.0, 1.0), shape=(2, 3, 4))
ODD_STAGES = GroundStagesConfig(widths=(4, 6, 8), layers=(1, 0, 1), strides=(2, 2, 2))
ODD_ENCODER = PillarEncoderConfig(
    stem=PillarFeaturesConfig(widths=(5, 7)), stages=ODD_STAGES, neck=TransposedNeckConfig(channels=3)
)
ENCODERS = [
    ODD_ENCODER,
    replace(ODD_ENCODER, stages=replace(ODD_STAGES, residual=True, strides=(1, 3, 2))),
    replace(ODD_ENCODER, stem=VoxelOccupancyConfig(num_heights=3)),
]


def cloud(count: int, grid: VoxelGrid, seed: int = 0, spread: float = 1.0) -> torch.Tensor:
    """Points over the grid's box, scaled about its middle: a few of them outside where `spread` is more than 1."""
    generator = torch.Generator().manual_seed(seed)
    part = (torch.rand(count, 4, generator=generator, dtype=torch.float64) - 0.5) * spread + 0.5
    return torch.cat([grid.points_at(part[:, :3] * torch.tensor(grid.shape)), part[:, 3:]], dim=1)


def trained(module: nn.Module, seed: int = 0) -> nn.Module:
    """The module in evaluation and float64, its normalisation no longer the identity."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand(tensor.shape, generator=generator) - (0 if "running_var" in name else 0.5))
    return module.double().eval()


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_parameter_counts_and_shapes_of_the_published_teacher():
    """HardVFE, SECOND, SECONDFPN, fusion and gate of RadOcc's teacher, counted from their published layers."""
    with torch.device("meta"):
        encoder = PillarEncoderConfig().build()
        fuse = FuseLidarConfig().build(32, 16, encoder.channels)
        points = (torch.zeros(90, 4), torch.zeros(70, 4))
        volume = torch.zeros(2, 32, 200, 200, 16)
    assert (count(encoder.stem), count(encoder.stages), count(encoder.neck)) == (9_088, 4_207_616, 598_784)
    assert (count(fuse.conv), count(fuse.gate)) == (4_129_792, 262_656)
    assert encoder.stem(points, OCC3D_GRID).shape == (2, 64, 200, 200)
    plane = encoder(points, OCC3D_GRID)
    assert plane.shape == (2, 384, 200, 200)
    assert fuse(volume, plane).shape == volume.shape


def test_published_pillars_are_half_a_voxel_wide(monkeypatch):
    encoder = PillarEncoderConfig().build()
    seen = []

    def stem(points: tuple[torch.Tensor, ...], grid: VoxelGrid) -> torch.Tensor:
        seen.append(grid)
        return torch.zeros(1, 64, *grid.shape[:2])

    monkeypatch.setattr(encoder.stem, "forward", stem)
    encoder.eval()((torch.zeros(1, 4),), replace(OCC3D_GRID, shape=(8, 8, 16)))
    assert seen[0].voxel_size == (0.2, 0.2, 0.4)
    assert seen[0].shape == (16, 16, 16)


def test_what_a_pillar_knows_of_its_points():
    """Two points in column (1, 2) of a grid whose columns are 4 m high; the layer hands the ten features through."""
    stem = PillarFeaturesConfig(widths=(10,)).build().eval()
    weight = stem.layers[0][0].weight.detach()
    nn.init.eye_(weight)
    points = torch.tensor([[1.25, 2.75, 3.0, 0.125], [1.75, 2.75, 1.0, 0.875]])
    plane = stem((points,), UNIT_GRID)
    position, from_mean, from_center = [1.75, 2.75, 3.0, 0.875], [0.25, 0.0, 1.0], [0.25, 0.25, 1.0]
    assert torch.allclose(plane[0, :, 1, 2], torch.tensor(position + from_mean + from_center), atol=1e-4)
    assert plane.count_nonzero() == 9
    weight.neg_()  # now the maximum of what lies behind, to the right and below
    behind_mean, behind_center = [0.25, 0.0, 1.0], [0.25, 0.0, 1.0]
    expected = torch.tensor([0.0, 0.0, 0.0, 0.0, *behind_mean, *behind_center])
    assert torch.allclose(stem((points,), UNIT_GRID)[0, :, 1, 2], expected, atol=1e-4)


@pytest.mark.parametrize("max_points", [None, 3])
def test_pillars_agree_with_a_loop_over_them(max_points):
    stem = trained(PillarFeaturesConfig(widths=(5, 7), max_points=max_points).build())
    clouds = (cloud(300, ODD_GRID, seed=1, spread=1.3), cloud(120, ODD_GRID, seed=2, spread=1.3))
    height = ODD_GRID.voxel_size[2] * ODD_GRID.shape[2]
    expected = torch.zeros(2, 7, *ODD_GRID.shape[:2], dtype=torch.float64)
    for sample, points in enumerate(clouds):
        index, inside = ODD_GRID.index_of(points[:, :3])
        for x in range(ODD_GRID.shape[0]):
            for y in range(ODD_GRID.shape[1]):
                mine = points[inside & (index[:, 0] == x) & (index[:, 1] == y)][:max_points]
                if not len(mine):
                    continue
                middle = torch.tensor([-2.0 + 0.5 * (x + 0.5), 1.0 + 0.4 * (y + 0.5), -1.0 + height / 2])
                xyz = mine[:, :3]
                features = torch.cat([mine, xyz - xyz.mean(dim=0), xyz - middle], dim=1)
                first = stem.layers[0](features)
                both = torch.cat([first, first.max(dim=0).values.expand_as(first)], dim=1)
                expected[sample, :, x, y] = stem.layers[1](both).max(dim=0).values
    assert expected.count_nonzero() > 100
    # The middle above is float32, as literals are.
    assert torch.allclose(stem(clouds, ODD_GRID), expected, atol=1e-6)


def test_a_full_pillar_keeps_its_first_points():
    stem = trained(PillarFeaturesConfig(widths=(6,), max_points=2).build())
    points = cloud(5, replace(UNIT_GRID, shape=(1, 1, 4)))
    assert torch.equal(stem((points,), UNIT_GRID), stem((points[:2],), UNIT_GRID))
    assert not torch.allclose(stem((points,), UNIT_GRID), stem((points[3:],), UNIT_GRID))


def test_the_order_of_points_does_not_matter_where_all_count():
    stem = trained(PillarFeaturesConfig(widths=(5, 7), max_points=None).build())
    points = cloud(200, ODD_GRID)
    assert torch.allclose(stem((points,), ODD_GRID), stem((points.flip(0),), ODD_GRID), atol=1e-12)


def test_occupancy_marks_voxels_and_keeps_heights_apart():
    points = torch.tensor(
        [[0.5, 1.5, 2.5, 0.1], [0.6, 1.4, 2.6, 0.9], [1.0, 0.0, 0.0, 0.0], [2.0, 1.0, 1.0, 0.0], [0.5, 0.5, 4.0, 0.0]]
    )
    plane = VoxelOccupancyConfig(num_heights=4).build()((points[3:], points), UNIT_GRID)
    expected = torch.zeros(2, 4, 2, 3)
    expected[1, 2, 0, 1] = 1  # height first, then x and y
    expected[1, 0, 1, 0] = 1  # on lower faces; the two points on upper faces are outside
    assert torch.equal(plane, expected)


@pytest.mark.parametrize("config", ENCODERS)
def test_points_outside_the_grid_are_ignored(config):
    encoder = trained(config.build())
    points = cloud(60, ODD_GRID)
    lower, upper = torch.tensor(ODD_GRID.origin).double(), torch.tensor(ODD_GRID.upper).double()
    middle = (lower + upper) / 2
    outside = [torch.full((1, 4), float("nan"), dtype=torch.float64)]
    for axis in range(3):
        for value in (lower[axis] - 1e-6, upper[axis] + 1e-6):
            point = torch.cat([middle, torch.ones(1)])[None]
            point[0, axis] = value
            outside.append(point)
    more = torch.cat([*outside, points, *outside])
    assert torch.allclose(encoder((more,), ODD_GRID), encoder((points,), ODD_GRID), atol=1e-12)


@pytest.mark.parametrize("config", ENCODERS)
def test_encoders_fill_any_grid(config):
    encoder = config.build()
    for shape in ((7, 10, 3), (1, 3, 3), (16, 8, 3)):
        grid = replace(ODD_GRID, shape=shape)
        plane = encoder((cloud(50, grid).float(), cloud(9, grid).float()), grid)
        assert plane.shape == (2, encoder.channels, *shape[:2])


def test_the_neck_lays_coarse_cells_over_the_fine_ones_they_came_from():
    """Of 5 x 6 cells, halved and rounded up to 3 x 3: coarse (2, 1) came from fine (4, 2) and (4, 3); 5 was cut off."""
    stages = GroundStagesConfig(widths=(2, 2), layers=(0, 0), strides=(1, 2))
    neck = TransposedNeckConfig(channels=1).build(stages).eval()
    for up in neck.ups:
        nn.init.ones_(up[0].weight)
    coarse = torch.zeros(1, 2, 3, 3)
    coarse[0, 0, 2, 1] = 1.0
    plane = neck([torch.zeros(1, 2, 5, 6), coarse])
    assert plane.nonzero().tolist() == [[0, 1, 4, 2], [0, 1, 4, 3]]


@pytest.mark.parametrize("config", ENCODERS)
def test_a_batch_of_two_is_two_of_one(config):
    encoder = trained(config.build())
    one, two = cloud(150, ODD_GRID, seed=1, spread=1.2), cloud(40, ODD_GRID, seed=2, spread=1.2)
    both = encoder((one, two), ODD_GRID)
    assert torch.allclose(both, torch.cat([encoder((one,), ODD_GRID), encoder((two,), ODD_GRID)]), atol=1e-12)
    assert not torch.allclose(both[0], both[1])


def test_a_point_is_seen_where_it_lies():
    """The plane changes in the column of a point added, and most there: x stays x and y stays y through the network."""
    grid = replace(ODD_GRID, shape=(21, 12, 3))
    stages = GroundStagesConfig(widths=(4,), layers=(0,), strides=(2,))
    encoder = trained(replace(ODD_ENCODER, stages=stages).build())
    empty = torch.zeros(0, 4, dtype=torch.float64)
    point = torch.cat([grid.points_at(torch.tensor([[15.7, 3.7, 1.5]])).double(), torch.ones(1, 1)], dim=1)
    change = (encoder((point,), grid) - encoder((empty,), grid))[0].abs().sum(dim=0)
    reached = {tuple(cell) for cell in change.nonzero().tolist()}
    assert (15, 3) in reached
    assert reached <= {(x, y) for x in (15, 16) for y in (3, 4)}  # the convolution of 3 fine columns around each cell


@pytest.mark.parametrize("num_points", [0, 1])
@pytest.mark.parametrize("norm", ["batch", "group"])
def test_empty_and_nearly_empty_clouds(num_points, norm):
    encoder = ODD_ENCODER.build()
    if norm == "group":
        stem = PillarFeaturesConfig(widths=(8, 8), norm=GroupNormConfig(channels_per_group=4))
        encoder = replace(ODD_ENCODER, stem=stem).build()
    clouds = (torch.zeros(0, 4), cloud(num_points, ODD_GRID).float())
    before = {name: value.clone() for name, value in encoder.stem.state_dict().items()}
    encoder(clouds, ODD_GRID).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in encoder.parameters())
    assert all(torch.equal(value, before[name]) for name, value in encoder.stem.state_dict().items())
    assert encoder.stem(clouds, ODD_GRID)[0].count_nonzero() == 0
    assert encoder.eval()(clouds, ODD_GRID).isfinite().all()


def test_same_bits_every_time():
    encoder = ODD_ENCODER.build()
    points = (cloud(500, ODD_GRID).float(),)

    def run() -> list[torch.Tensor]:
        encoder.zero_grad()
        plane = encoder(points, ODD_GRID)
        plane.square().sum().backward()
        return [plane.detach(), *(p.grad for p in encoder.parameters())]

    assert all(torch.equal(a, b) for a, b in zip(run(), run(), strict=True))


@pytest.mark.parametrize("config", [NANO_PILLARS, NANO_HEIGHTS])
def test_nano_networks_learn_on_the_nano_grid(config):
    encoder = config.build()
    fuse = FuseLidarConfig().build(2, 8, encoder.channels)
    plane = encoder((cloud(400, NANO_GRID).float(), cloud(300, NANO_GRID, seed=1).float()), NANO_GRID)
    assert plane.shape == (2, 48, 100, 100)
    fused = fuse(torch.randn(2, 2, 100, 100, 8), plane)
    fused.square().mean().backward()
    for name, parameter in [*encoder.named_parameters(), *fuse.named_parameters()]:
        assert parameter.grad is not None, name
        assert parameter.grad.count_nonzero() > 0, name


def copying_fusion(channels: int, heights: int, lidar_channels: int) -> FuseLidar:
    """A fusion that hands the camera through, adds the first LiDAR channel to its first, and halves all by its gate."""
    fuse = FuseLidarConfig(kernel=1).build(channels, heights, lidar_channels).eval()
    weight = torch.eye(channels * heights, channels * heights + lidar_channels)
    weight[0, channels * heights] = 1
    with torch.no_grad():
        fuse.conv[0].weight.copy_(weight[:, :, None, None])
        nn.init.zeros_(fuse.gate.weight)
        nn.init.zeros_(fuse.gate.bias)
    return fuse


def test_fusion_keeps_features_at_their_heights():
    fuse = copying_fusion(3, 4, 2)
    volume, lidar = torch.rand(2, 3, 5, 6, 4), torch.zeros(2, 2, 5, 6)
    assert torch.allclose(fuse(volume, lidar), volume / 2, atol=1e-4)
    lidar[1, 0, 4, 2] = 1.0
    expected = volume.clone()
    expected[1, 0, 4, 2, 0] += 1.0
    assert torch.allclose(fuse(volume, lidar), expected / 2, atol=1e-4)


def test_the_gate_scales_a_channel_by_what_the_whole_plane_says():
    fuse = copying_fusion(1, 2, 1)
    with torch.no_grad():
        fuse.gate.weight[1, 0] = 3.0  # the upper height listens to the lower
        fuse.gate.bias[0] = -1.0
    volume = torch.rand(2, 1, 3, 4, 2)
    gate = torch.sigmoid(3 * volume[:, 0, :, :, 0].mean(dim=(1, 2)))
    fused = fuse(volume, torch.zeros(2, 1, 3, 4))
    assert torch.allclose(fused[..., 1], volume[..., 1] * gate[:, None, None, None], atol=1e-4)
    assert torch.allclose(fused[..., 0], volume[..., 0] * torch.sigmoid(torch.tensor(-1.0)), atol=1e-4)


def test_a_batch_of_two_fuses_as_two_of_one():
    fuse = trained(FuseLidarConfig().build(3, 4, 5))
    volume, lidar = torch.randn(2, 3, 5, 6, 4).double(), torch.randn(2, 5, 5, 6).double()
    apart = torch.cat([fuse(volume[i : i + 1], lidar[i : i + 1]) for i in range(2)])
    assert torch.allclose(fuse(volume, lidar), apart, atol=1e-12)


def test_what_does_not_fit_is_refused():
    fuse = FuseLidarConfig().build(3, 4, 2)
    with pytest.raises(ConfigError, match="made for 3 channels and 4 heights, got 4 and 3"):
        fuse(torch.zeros(1, 4, 5, 6, 3), torch.zeros(1, 2, 5, 6))
    with pytest.raises(ConfigError, match=r"has \(6, 5\) cells and the volume \(5, 6\) columns"):
        fuse(torch.zeros(1, 3, 5, 6, 4), torch.zeros(1, 2, 6, 5))
    with pytest.raises(ConfigError, match="made for 8 heights"):
        VoxelOccupancyConfig().build()((torch.zeros(1, 4),), ODD_GRID)
    with pytest.raises(ConfigError, match="differ in length"):
        GroundStagesConfig(widths=(4, 8))
    with pytest.raises(ConfigError, match="at least one layer"):
        PillarFeaturesConfig(widths=())
    with pytest.raises(ConfigError, match="at least 1"):
        PillarFeaturesConfig(max_points=0)
