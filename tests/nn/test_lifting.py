import pytest
import torch

from occkit.geometry import Cameras, VoxelGrid, pose_from_rotation_translation, rotation_from_yaw
from occkit.nn.depth import DepthBins
from occkit.nn.lifting import MAX_CACHED_PLANS, GatherLiftConfig, SplatLiftConfig

EGO_FROM_OPTICAL = torch.tensor([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])
# Voxel (i, 1, 1) holds the points (i + 0.5, 0, 0): what a camera at the origin sees on its axis.
GRID = VoxelGrid(origin=(0.0, -1.5, -1.5), voxel_size=(1.0, 1.0, 1.0), shape=(6, 3, 3))
BINS = DepthBins(start=1.0, stop=5.0, step=1.0)
LIFTS = (SplatLiftConfig(), GatherLiftConfig(), GatherLiftConfig(interpolation="nearest", surface_channels=False))


def rig(*, yaws=(0.0,), focal=0.1, size=(2, 2), shift=0.0):
    """Cameras at the origin; a focal length of 0.1 pixels a pixel would see almost all that lies ahead."""
    height, width = size
    intrinsics = torch.tensor([[focal * width, 0.0, width / 2], [0.0, focal * height, height / 2], [0.0, 0.0, 1.0]])
    poses = [
        pose_from_rotation_translation(
            rotation_from_yaw(torch.tensor(y)) @ EGO_FROM_OPTICAL, torch.tensor([shift, 0, 0])
        )
        for y in yaws
    ]
    return Cameras(
        intrinsics=intrinsics.expand(1, len(yaws), 3, 3).clone(),
        ego_from_camera=torch.stack(poses)[None],
        height=height,
        width=width,
    )


def test_splat_puts_each_bin_where_it_lies():
    # One cell, looking along x: the middles of the bins are at x = 1.5, 2.5, 3.5, 4.5.
    context = torch.tensor([10.0]).reshape(1, 1, 1, 1, 1)
    depth = torch.tensor([0.1, 0.2, 0.3, 0.4]).reshape(1, 1, 4, 1, 1)
    volume = SplatLiftConfig().build(BINS, 3)(context, depth, rig(), GRID)
    assert volume.shape == (1, 1, 6, 3, 3)
    assert volume[0, 0, :, 1, 1].tolist() == pytest.approx([0, 1, 2, 3, 4, 0])
    assert volume.sum().item() == pytest.approx(10.0)


def test_gather_reads_the_probability_at_the_voxel():
    context = torch.tensor([10.0]).reshape(1, 1, 1, 1, 1)
    depth = torch.tensor([0.1, 0.2, 0.3, 0.4]).reshape(1, 1, 4, 1, 1)
    volume = GatherLiftConfig().build(BINS, 3)(context, depth, rig(), GRID)[0, :, :, 1, 1]
    # Voxel centres at 0.5, 1.5 ...: nearer than the first bin reads it, farther than the last bin reads that.
    # The weight of probability p is 8 p / (1 + 8 p).
    weights = [0.8 / 1.8, 0.8 / 1.8, 1.6 / 2.6, 2.4 / 3.4, 3.2 / 4.2, 3.2 / 4.2]
    assert volume[0].tolist() == pytest.approx([10 * w for w in weights])
    assert volume[1].tolist() == pytest.approx(weights)
    assert volume[2].tolist() == pytest.approx([0, 0, 0.1, 0.3, 0.6, 0.6], abs=1e-6)


def test_gather_averages_the_cameras_that_see_a_voxel():
    cameras = rig(yaws=(0.0, 0.0, 3.1415926))
    context = torch.tensor([1.0, 5.0, 100.0]).reshape(1, 3, 1, 1, 1)
    depth = torch.full((1, 3, 4, 1, 1), 0.25)
    volume = GatherLiftConfig(surface_channels=False).build(BINS, 3)(context, depth, cameras, GRID)
    assert volume[0, 0, 3, 1, 1].item() == pytest.approx(3.0 * 2 / 3)


@pytest.mark.parametrize("config", LIFTS)
def test_left_in_the_image_is_left_in_the_volume(config):
    # y points left: the left column of the image must appear at large y.
    context = torch.zeros(1, 1, 1, 1, 2)
    context[..., 0] = 1.0
    depth = torch.full((1, 1, 4, 1, 2), 0.25)
    volume = config.build(BINS, 3)(context, depth, rig(focal=1.0), GRID)[0, 0]
    assert volume[:, 2].sum() > 5 * volume[:, 0].sum()


@pytest.mark.parametrize("config", LIFTS)
def test_a_batch_is_its_samples(config):
    torch.manual_seed(0)
    one, two = rig(yaws=(0.0, 0.5), focal=0.5), rig(yaws=(0.2, -0.5), focal=0.6)
    both = Cameras(
        intrinsics=torch.cat([one.intrinsics, two.intrinsics]),
        ego_from_camera=torch.cat([one.ego_from_camera, two.ego_from_camera]),
        height=2,
        width=2,
    )
    context, depth = torch.randn(2, 2, 3, 2, 2), torch.randn(2, 2, 4, 2, 2).softmax(2)
    lift = config.build(BINS, 3)
    together = lift(context, depth, both, GRID)
    apart = [lift(context[i : i + 1], depth[i : i + 1], both[i : i + 1], GRID) for i in range(2)]
    assert torch.equal(together, torch.cat(apart))


@pytest.mark.parametrize("config", LIFTS)
def test_plans_are_reused_for_the_same_rig_and_never_for_another(config):
    lift = config.build(BINS, 3)
    torch.manual_seed(0)
    context, depth = torch.randn(1, 1, 2, 2, 2), torch.rand(1, 1, 4, 2, 2)
    first = lift(context, depth, rig(focal=1.0), GRID)
    assert len(lift.plans) == 1
    assert torch.equal(lift(context, depth, rig(focal=1.0), GRID), first)
    assert len(lift.plans) == 1
    moved = lift(context, depth, rig(focal=1.0, shift=-1.0), GRID)
    assert len(lift.plans) == 2
    assert not torch.equal(moved, first)
    for step in range(MAX_CACHED_PLANS + 2):
        lift(context, depth, rig(focal=1.0, shift=0.1 * step), GRID)
    assert len(lift.plans) == MAX_CACHED_PLANS


@pytest.mark.parametrize("config", LIFTS)
def test_plans_made_in_inference_can_be_trained_with(config):
    lift = config.build(BINS, 3)
    context = torch.ones(1, 1, 2, 2, 2)
    logits = torch.zeros(1, 1, 4, 2, 2)
    with torch.inference_mode():
        lift(context, logits.softmax(2), rig(focal=1.0), GRID)
    context.requires_grad_(), logits.requires_grad_()
    lift(context, logits.softmax(2), rig(focal=1.0), GRID).square().sum().backward()
    assert context.grad.any()
    assert logits.grad.any()


@pytest.mark.parametrize("config", LIFTS)
def test_shapes_on_the_meta_device(config):
    cameras = rig().map(lambda t: t.to("meta"))
    context, depth = torch.empty(1, 1, 5, 2, 2, device="meta"), torch.empty(1, 1, 4, 2, 2, device="meta")
    lift = config.build(BINS, 3)
    assert lift(context, depth, cameras, GRID).shape == (1, 5 + lift.extra_channels, 6, 3, 3)


def test_a_single_height_sums_the_column():
    torch.manual_seed(0)
    context, depth = torch.randn(1, 1, 2, 2, 2), torch.rand(1, 1, 4, 2, 2)
    flat = VoxelGrid(origin=GRID.origin, voxel_size=(1.0, 1.0, 3.0), shape=(6, 3, 1))
    lift = SplatLiftConfig().build(BINS, 3)
    cameras = rig(focal=1.0)
    tall = lift(context, depth, cameras, GRID)
    assert torch.allclose(lift(context, depth, cameras, flat)[..., 0], tall.sum(dim=-1), atol=1e-6)
