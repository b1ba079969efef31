"""Attention from the volume into the images: where it looks, what it ignores, and a plain reference."""

import pytest
import torch
import torch.nn.functional as F

from occkit.errors import ConfigError
from occkit.geometry import Cameras, VoxelGrid
from occkit.nn.attention import AttentionLiftConfig, ImageAttention, project_queries

GRID = VoxelGrid(origin=(-4.0, -4.0, -1.0), voxel_size=(2.0, 2.0, 2.0), shape=(4, 4, 1))
SMALL = AttentionLiftConfig(layers=2, heads=2, heights=2, points=2, neighbours=3, hidden=16)
FORWARD = torch.tensor([[0.0, 0.0, 1.0, 0.0], [-1.0, 0.0, 0.0, 0.0], [0.0, -1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]])


def rig(num_cameras=2, batch=1):
    """One camera looks forward, the other back; 40 x 60 pixels."""
    poses = FORWARD.expand(batch, num_cameras, 4, 4).clone()
    if num_cameras > 1:
        poses[:, 1, :3, :3] = torch.diag(torch.tensor([-1.0, -1.0, 1.0])) @ FORWARD[:3, :3]
    intrinsics = torch.tensor([[30.0, 0.0, 30.0], [0.0, 30.0, 20.0], [0.0, 0.0, 1.0]])
    return Cameras(intrinsics=intrinsics.expand(batch, num_cameras, 3, 3), ego_from_camera=poses, height=40, width=60)


def built(config=SMALL, channels=8):
    torch.manual_seed(0)
    return config.build(None, channels)


def maps(num_cameras=2, batch=1, channels=8):
    torch.manual_seed(1)
    return torch.randn(batch, num_cameras, channels, 5, 7), torch.zeros(batch, num_cameras, 3, 5, 7)


@pytest.mark.parametrize("shape", [(4, 4, 1), (6, 3, 2)])
def test_any_grid_and_every_parameter_learns(shape):
    grid = VoxelGrid.from_shape(GRID.origin, GRID.upper, shape)
    lift = built()
    context, depth = maps(batch=2)
    volume = lift(context.requires_grad_(), depth, rig(batch=2), grid)
    assert volume.shape == (2, 8, *shape)
    volume.square().sum().backward()
    assert context.grad.abs().sum() > 0
    assert all(p.grad is not None for p in lift.parameters())


def test_points_of_a_query_lie_over_its_height():
    centres = GRID.centers(dtype=torch.float32).reshape(-1, 3)
    places, seen = project_queries(centres, rig()[0, 0], GRID, 2)
    ahead = (centres - torch.tensor([3.0, 1.0, 0.0])).norm(dim=1).argmin()
    # 3 m ahead, 1 m to the left, half a metre below and above the camera: u = 30 - 30 / 3, v = 20 +- 30 * 0.5 / 3.
    assert torch.allclose(places[ahead] * torch.tensor([60.0, 40.0]), torch.tensor([[20.0, 25.0], [20.0, 15.0]]))
    assert seen[ahead].all()
    assert not seen[centres[:, 0] < 0].any()


def test_the_image_behind_says_nothing_about_what_is_ahead():
    lift = built(AttentionLiftConfig(layers=1, heads=2, heights=2, points=1, neighbours=1, hidden=16))
    context, depth = maps()
    other = context.clone()
    other[:, 1] += 1.0
    with torch.no_grad():
        # Neighbours look a cell away at most at first: the row farthest ahead hears nothing of the row behind.
        difference = (lift(context, depth, rig(), GRID) - lift(other, depth, rig(), GRID)).abs().amax(dim=1)[0, ..., 0]
    assert difference[3].max() < 1e-6
    assert difference[0].max() > 1e-4


def test_image_attention_equals_a_plain_loop():
    torch.manual_seed(0)
    attention = ImageAttention(SMALL, 8).double()
    for parameter in attention.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    centres = GRID.centers(dtype=torch.float64).reshape(-1, 3)
    x = torch.randn(len(centres), 8, dtype=torch.float64)
    features = maps()[0][0].double()
    cameras = rig()
    views = [project_queries(centres.float(), cameras[0, n], GRID, 2) for n in (0, 1)]
    views = [view._replace(places=view.places.double()) for view in views]
    found = attention(x, features, views)
    value = attention.value(features)
    expected = torch.zeros_like(x)
    for q in range(len(x)):
        total, looking = torch.zeros(8, dtype=torch.float64), 0
        offset = attention.offset(x[q]).reshape(2, 2, 2, 2)
        score = attention.weight(x[q]).reshape(2, 2, 2)
        for n, view in enumerate(views):
            if not view.seen[q].any():
                continue
            looking += 1
            for head in range(2):
                heights = [h for h in range(2) if view.seen[q, h]]
                weights = torch.stack([score[head, h] for h in heights]).reshape(-1).softmax(dim=0).reshape(-1, 2)
                for row, h in enumerate(heights):
                    for p in range(2):
                        place = view.places[q, h] + offset[head, h, p] / torch.tensor([7.0, 5.0], dtype=torch.float64)
                        channels = value[n : n + 1, 4 * head : 4 * head + 4]
                        sampled = F.grid_sample(channels, (place * 2 - 1).reshape(1, 1, 1, 2), align_corners=False)
                        total[4 * head : 4 * head + 4] += weights[row, p] * sampled.reshape(4)
        expected[q] = attention.out(total / max(looking, 1))
    assert torch.allclose(found, expected, atol=1e-9)


def test_heads_must_share_the_channels_out():
    with pytest.raises(ConfigError, match="3 heads do not share out 8 channels"):
        AttentionLiftConfig(heads=3).build(None, 8)
    with pytest.raises(ConfigError, match="points must be at least 1"):
        AttentionLiftConfig(points=0)
