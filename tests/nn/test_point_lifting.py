import pytest
import torch

from occkit.geometry import Cameras, ContractedGrid, VoxelGrid, pose_from_rotation_translation, rotation_from_yaw
from occkit.nn.depth import DepthBins
from occkit.nn.lifting import gather_plan
from occkit.nn.point_lifting import MeanLiftConfig, lift_points
from occkit.ops.pooling import gather_views

EGO_FROM_OPTICAL = torch.tensor([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])
GRID = VoxelGrid.from_range((-6, -6, -1), (6, 6, 2), 0.75)
CONTRACTED = ContractedGrid.around(GRID)


def rig(*yaws, size=(40, 60), focal=30.0, place=(0.0, 0.0, 0.5)):
    height, width = size
    intrinsics = torch.tensor([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
    rotations = [rotation_from_yaw(torch.tensor(yaw)) @ EGO_FROM_OPTICAL for yaw in yaws]
    poses = [pose_from_rotation_translation(rotation, torch.tensor(place)) for rotation in rotations]
    return Cameras(
        intrinsics=intrinsics.expand(len(yaws), 3, 3).clone(),
        ego_from_camera=torch.stack(poses),
        height=height,
        width=width,
    )


def maps(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def lift(context, cameras, grid):
    return MeanLiftConfig().build(None, context.shape[2])(context, None, cameras, grid)


def batched(cameras):
    return cameras.map(lambda tensor: tensor[None])


def test_points_by_hand():
    # Two cameras that look along x and see 2 x 2 cells; on the axis all four cells count alike.
    features = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]], [[[10.0, 10.0], [10.0, 30.0]]]])
    cameras = rig(0.0, 0.0, place=(0.0, 0.0, 0.0))
    points = torch.tensor([[5.0, 0.0, 0.0], [3000.0, 0.0, 0.0], [-5.0, 0.0, 0.0], [3.0, 2.5, 1.8]])
    found, views = lift_points(features, cameras, points)
    assert views.tolist() == [2, 2, 0, 2]
    # The last point, to the left and up, is seen within half a cell of the corner: the first cell is continued.
    assert found[:, 0].tolist() == pytest.approx([(2.5 + 15.0) / 2, (2.5 + 15.0) / 2, 0.0, (1.0 + 10.0) / 2])
    # Of one camera that is turned away only the other counts.
    found, views = lift_points(features, rig(0.0, 3.1415926, place=(0.0, 0.0, 0.0)), points)
    assert views.tolist() == [1, 1, 1, 1]
    assert found[:3, 0].tolist() == pytest.approx([2.5, 2.5, 15.0])


def test_it_gathers_what_a_plan_without_depth_gathers():
    context, cameras = maps(1, 3, 5, 10, 15), rig(0.0, 0.7, 2.5)
    plan = gather_plan(cameras, GRID, DepthBins(), (10, 15))
    expected = gather_views(context[0].permute(0, 2, 3, 1).flatten(0, 2), plan)
    found = lift(context, batched(cameras), GRID)[0].flatten(1).T
    assert found.any(dim=1).float().mean() > 0.3
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_the_middle_of_a_contracted_volume_is_the_volume():
    context, cameras = maps(1, 3, 4, 10, 15), batched(rig(0.0, 2.1, -2.1))
    whole = lift(context, cameras, CONTRACTED)
    assert whole.shape == (1, 4, 24, 24, 6)
    middle = whole[(..., *CONTRACTED.inner_slices)]
    torch.testing.assert_close(middle, lift(context, cameras, GRID), atol=1e-3, rtol=1e-3)
    assert whole[:, :, -1, 12].any()  # far ahead, too


def test_a_batch_is_its_samples_lifted():
    context = maps(2, 2, 3, 10, 15)
    one, two = rig(0.0, 0.5), rig(0.2, -0.5, focal=25.0)
    both = Cameras(
        intrinsics=torch.stack([one.intrinsics, two.intrinsics]),
        ego_from_camera=torch.stack([one.ego_from_camera, two.ego_from_camera]),
        height=40,
        width=60,
    )
    apart = [lift(context[i : i + 1], batched(cameras), GRID) for i, cameras in enumerate((one, two))]
    assert torch.equal(lift(context, both, GRID), torch.cat(apart))
    assert not torch.equal(*apart)


def test_gradients_reach_maps_and_points():
    cameras = rig(0.0, 0.3).map(torch.Tensor.double)
    features = maps(2, 2, 3, 4).double().requires_grad_()
    points = torch.tensor([[4.0, 0.3, 0.6], [6.0, 1.1, 0.9], [-3.0, 0.0, 0.0]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda f, p: lift_points(f, cameras, p)[0], (features, points))


@pytest.mark.parametrize("grid", [GRID, CONTRACTED])
def test_meta_device_knows_the_shape(grid):
    cameras = rig(0.0, 0.5).map(lambda t: t[None].to("meta"))
    context = torch.empty(1, 2, 5, 10, 15, device="meta")
    assert lift(context, cameras, grid).shape == (1, 5, *grid.shape)


def test_it_has_nothing_to_learn():
    module = MeanLiftConfig().build(None, 8)
    assert not list(module.parameters())
    assert (module.uses_depth, module.extra_channels) == (False, 0)
