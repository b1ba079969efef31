import pytest
import torch

from occkit.errors import ConfigError
from occkit.geometry import Cameras, pose_from_rotation_translation
from occkit.geometry.rays import camera_rays, pixel_grid
from occkit.nn.blocks import GroupNormConfig
from occkit.nn.depth import DepthBins
from occkit.nn.stereo import CostVolume, StereoConfig, matching_cost

EGO_FROM_OPTICAL = torch.tensor([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])
HEIGHT, WIDTH = 8, 24
BINS = DepthBins(start=2.0, stop=18.0, step=2.0)


def camera(position, *, scale=4):
    """Made for images four times larger than the feature maps."""
    intrinsics = torch.tensor([[20.0, 0.0, WIDTH / 2], [0.0, 20.0, HEIGHT / 2], [0.0, 0.0, 1.0 / scale]]) * scale
    pose = pose_from_rotation_translation(EGO_FROM_OPTICAL, torch.tensor(position))
    return Cameras(intrinsics=intrinsics[None], ego_from_camera=pose[None], height=HEIGHT * scale, width=WIDTH * scale)


def view_of_wall(cameras, distance):
    """Features of a textured wall at x = distance: a smooth function of where on the wall each cell looks."""
    rays = camera_rays(cameras.resize(HEIGHT, WIDTH), pixel_grid(HEIGHT, WIDTH)[None])
    t = (distance - rays.origins[..., 0]) / rays.directions[..., 0]
    point = rays.at(t[..., None])[..., 0, :]
    y, z = point[..., 1], point[..., 2]
    features = torch.stack([torch.sin(y), torch.cos(1.7 * y), torch.sin(0.6 * y + z), torch.cos(2 * z)], dim=1)
    return 3.0 * features.reshape(1, 4, HEIGHT, WIDTH)


@pytest.mark.parametrize(("bin_index", "moved"), [(1, (0.0, 1.0, 0.0)), (3, (0.0, 1.5, 0.0)), (2, (-2.0, 0.5, 0.0))])
def test_the_cost_is_least_at_the_true_depth(bin_index, moved):
    here, there = camera((0.0, 0.0, 0.0)), camera(moved)
    distance = BINS.centers()[bin_index].item()
    cost = matching_cost(view_of_wall(here, distance), view_of_wall(there, distance), here, there, BINS)
    inner = cost[0, :, 2:-2, 8:-10]
    assert (inner.argmin(dim=0) == bin_index).float().mean() > 0.95


def test_same_view_costs_nothing_and_unseen_points_cost_the_stated_sum():
    here, behind = camera((0.0, 0.0, 0.0)), camera((30.0, 0.0, 0.0))
    features = view_of_wall(here, 6.0)
    assert matching_cost(features, features, here, here, BINS).abs().max() < 1e-4
    cost = matching_cost(features, features, here, behind, BINS, invalid_cost=7.0)
    assert (cost == 7.0).all()


def test_groups_do_not_change_the_result():
    here, there = camera((0.0, 0.0, 0.0)), camera((0.0, 1.0, 0.0))
    a, b = view_of_wall(here, 6.0), view_of_wall(there, 6.0)
    one = matching_cost(a, b, here, there, BINS, group=1)
    assert torch.allclose(one, matching_cost(a, b, here, there, BINS, group=4), atol=1e-5)


@pytest.mark.parametrize(("shrink", "size"), [(1, (8, 24)), (4, (2, 6))])
def test_cost_volume_reaches_the_necks_resolution(shrink, size):
    config = StereoConfig(channels=2, norm=GroupNormConfig())
    network = CostVolume(config, BINS, in_channels=4, shrink=shrink)
    here, there = camera((0.0, 0.0, 0.0)), camera((0.0, 1.0, 0.0))
    now, past = view_of_wall(here, 6.0).requires_grad_(), view_of_wall(there, 6.0).requires_grad_()
    volume = network(now, past, here, there)
    assert volume.shape == (1, BINS.count, *size)
    volume.square().sum().backward()
    assert now.grad is not None
    assert past.grad is None
    assert all(p.grad is not None for p in network.parameters())


def test_without_gradient_the_frames_learn_nothing_and_the_result_is_the_same():
    here, there = camera((0.0, 0.0, 0.0)), camera((0.0, 1.0, 0.0))
    now, past = view_of_wall(here, 6.0).requires_grad_(), view_of_wall(there, 6.0)
    networks = []
    for gradient in (True, False):
        torch.manual_seed(0)
        config = StereoConfig(norm=GroupNormConfig(), gradient=gradient)
        networks.append(CostVolume(config, BINS, in_channels=4, shrink=4))
    with_gradient, without = (network(now, past, here, there) for network in networks)
    assert torch.equal(with_gradient, without)
    without.square().sum().backward()
    assert now.grad is None
    assert all(p.grad is not None for p in networks[1].parameters())
    with pytest.raises(ConfigError, match="learns nothing without gradient"):
        StereoConfig(channels=2, gradient=False)


@pytest.mark.parametrize("shrink", [0, 3])
def test_impossible_resolutions_are_refused(shrink):
    with pytest.raises(ConfigError, match="1, 2, 4"):
        CostVolume(StereoConfig(), BINS, in_channels=4, shrink=shrink)
