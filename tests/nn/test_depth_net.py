import math

import pytest
import torch

from occkit.errors import ConfigError
from occkit.geometry import Cameras, pose_from_rotation_translation, rotation_from_yaw
from occkit.nn.blocks import GroupNormConfig
from occkit.nn.depth import DepthBins, DepthNetConfig, describe_cameras, pixel_directions

EGO_FROM_OPTICAL = torch.tensor([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])


def camera(*, yaw=0.0, height=4, width=8, position=(1.0, 0.0, 1.5)):
    intrinsics = torch.tensor([[width / 2, 0.0, width / 2], [0.0, width / 2, height / 2], [0.0, 0.0, 1.0]])
    rotation = rotation_from_yaw(torch.tensor(yaw)) @ EGO_FROM_OPTICAL
    pose = pose_from_rotation_translation(rotation, torch.tensor(position))
    return Cameras(intrinsics=intrinsics[None], ego_from_camera=pose[None], height=height, width=width)


def test_bins_literals():
    bins = DepthBins(start=1.0, stop=3.0, step=0.5)
    assert bins.count == 4
    assert bins.centers().tolist() == [1.25, 1.75, 2.25, 2.75]
    depth = torch.tensor([0.0, 0.99, 1.0, 1.49, 1.5, 2.99, 3.0])
    assert bins.index_of(depth).tolist() == [-1, -1, 0, 0, 1, 3, -1]
    assert bins.continuous_index(bins.centers()).tolist() == [0.5, 1.5, 2.5, 3.5]


@pytest.mark.parametrize("wrong", [{"start": 0.0}, {"start": 5.0, "stop": 4.0}, {"step": 0.0}, {"step": 44.0}])
def test_impossible_bins_are_refused(wrong):
    with pytest.raises(ConfigError, match="DepthBins"):
        DepthBins(**wrong)


def test_camera_description_does_not_depend_on_resolution():
    assert torch.allclose(describe_cameras(camera()), describe_cameras(camera().resize(64, 128)))
    assert not torch.allclose(describe_cameras(camera()), describe_cameras(camera(yaw=0.5)))
    assert describe_cameras(camera())[0].tolist()[:6] == [0.5, 0.0, 0.5, 0.0, 1.0, 0.5]


def test_pixel_directions_meet_the_ground_where_geometry_says():
    cameras = camera(yaw=0.3)
    directions = pixel_directions(cameras, 4, 8)
    assert directions.shape == (1, 3, 4, 8)
    # Lowest row: the centre is 1.5 pixels below the axis, focal length 4: falls 0.375 m a metre of depth.
    ray = directions[0, :, 3, 2]
    depth = 1.5 / 0.375
    point = cameras.ego_from_camera[0, :3, 3] + ray * depth
    assert point[2].item() == pytest.approx(0.0, abs=1e-6)
    forward = torch.tensor([math.cos(0.3), math.sin(0.3), 0.0])
    assert (ray @ forward).item() == pytest.approx(1.0)


@pytest.mark.parametrize("rays", [True, False])
@pytest.mark.parametrize("stereo", [0, 5])
def test_depth_net_shapes_and_gradients(rays, stereo):
    config = DepthNetConfig(
        bins=DepthBins(start=1.0, stop=6.0, step=1.0),
        context_channels=3,
        hidden=8,
        depth_blocks=1,
        ray_directions=rays,
        norm=GroupNormConfig(),
    )
    network = config.build(4, stereo_channels=stereo)
    cost = torch.randn(1, stereo, 4, 8) if stereo else None
    context, logits = network(torch.randn(1, 4, 4, 8), camera(), cost)
    assert context.shape == (1, 3, 4, 8)
    assert logits.shape == (1, 5, 4, 8)
    (context.square().sum() + logits.square().sum()).backward()
    assert all(p.grad is not None for p in network.parameters())


def test_the_camera_changes_the_answer():
    network = DepthNetConfig(hidden=8, depth_blocks=0, ray_directions=False, norm=GroupNormConfig()).build(4)
    x = torch.randn(1, 4, 4, 8)
    assert not torch.allclose(network(x, camera())[1], network(x, camera(yaw=2.0))[1])


def test_stereo_without_blocks_is_refused():
    with pytest.raises(ConfigError, match="cost volume"):
        DepthNetConfig(depth_blocks=0).build(4, stereo_channels=3)
