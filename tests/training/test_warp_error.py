"""Warp error: a wall that two frames see, right and wrong occupancy, hidden surfaces."""

import math

import pytest
import torch

from occkit.geometry import Cameras, VoxelGrid
from occkit.geometry.rays import camera_rays, pixel_grid
from occkit.training.warp_error import warp_error

GRID = VoxelGrid.from_range((0, -8, -8), (16, 8, 8), 0.5)
HEIGHT, WIDTH = 24, 32


def cameras(*ahead, aside=0.0):
    """One camera a time, looking along x, so many metres ahead and each further aside than the one before it."""
    pose = torch.tensor([[0.0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
    poses = pose.repeat(len(ahead), 1, 1, 1)
    poses[:, 0, 0, 3] = torch.tensor(ahead)
    poses[:, 0, 1, 3] = aside * torch.arange(len(ahead))
    intrinsics = torch.tensor([[24.0, 0, WIDTH / 2], [0, 24.0, HEIGHT / 2], [0, 0, 1]]).expand(len(ahead), 1, 3, 3)
    return Cameras(intrinsics=intrinsics, ego_from_camera=poses, height=HEIGHT, width=WIDTH)


def wall(at=10.0):
    occupied = torch.zeros(GRID.shape, dtype=torch.bool)
    occupied[int(at / 0.5)] = True
    return occupied


def pictures(rig, at=10.0):
    """A wall with slow waves of colour, where it is."""
    rays = camera_rays(rig, pixel_grid(HEIGHT, WIDTH).expand(*rig.batch_shape, -1, -1))
    points = rays.at((at - rays.origins[..., :1]) / rays.directions[..., :1])[..., 0, :]
    waves = torch.stack([points[..., 1], points[..., 2], points[..., 1] + points[..., 2]], dim=-2)
    return ((waves.sin() + 1) * 127).round().to(torch.uint8).unflatten(-1, (HEIGHT, WIDTH))


def test_frames_of_one_scene_agree_by_the_right_occupancy_and_not_by_another():
    rig = cameras(2.0, 0.0)
    images = pictures(rig)
    right = warp_error(images, wall(), rig, GRID)
    assert right < 0.01
    assert warp_error(images, wall(14.0), rig, GRID) > 5 * right
    assert warp_error(images[:1].expand_as(images), wall(), rig, GRID) > 5 * right, "frozen"
    assert warp_error(torch.full_like(images, 7), wall(), rig, GRID) < 1e-6


def test_every_pair_of_neighbours_counts():
    rig = cameras(2.0, 0.0, -2.0)
    images = pictures(rig)
    broken = images.clone()
    broken[2] = 255 - broken[2]
    assert warp_error(broken, wall(), rig, GRID) > 0.1 > 0.01 > warp_error(broken[:2], wall(), rig[:2], GRID)


def test_what_a_post_hides_from_the_other_camera_does_not_count():
    rig = cameras(0.0, 0.0, aside=3.0)
    images, behind = pictures(rig), wall()
    post = behind.clone()
    post[8:10, 12:16] = True
    # Neither image shows the post.
    hidden = warp_error(images, post, rig, GRID)
    assert warp_error(images, behind, rig, GRID) < 0.01
    black = images.clone()
    rays = camera_rays(rig, pixel_grid(HEIGHT, WIDTH).expand(2, 1, -1, -1))
    at = rays.at((4.0 - rays.origins[..., :1]) / rays.directions[..., :1])[..., 0, 1]
    covered = ((at > -2.0) & (at < 0.0)).unflatten(-1, (HEIGHT, WIDTH))
    black = black.masked_fill(covered[:, :, None], 0)
    assert warp_error(black, post, rig, GRID) < 0.5 * warp_error(black, behind, rig, GRID)
    assert hidden > 0.01


def test_without_neighbours_or_surfaces_there_is_no_error():
    rig = cameras(2.0, 0.0)
    images = pictures(rig)
    assert math.isnan(warp_error(images[:1], wall(), rig[:1], GRID))
    assert math.isnan(warp_error(images, torch.zeros(GRID.shape, dtype=torch.bool), rig, GRID))
    away = cameras(2.0, 0.0)
    away = Cameras(
        intrinsics=away.intrinsics,
        ego_from_camera=away.ego_from_camera @ torch.diag(torch.tensor([-1.0, 1.0, -1.0, 1.0])),
        height=HEIGHT,
        width=WIDTH,
    )
    assert math.isnan(warp_error(images, wall(), away, GRID)), "both look away"


@pytest.mark.parametrize("scale", [1, 2])
def test_images_may_be_larger_than_the_cameras_say(scale):
    rig = cameras(2.0, 0.0)
    images = pictures(rig).flatten(0, 1).float()
    larger = torch.nn.functional.interpolate(images, scale_factor=scale, mode="bilinear").round().to(torch.uint8)
    assert warp_error(larger[:, None], wall(), rig, GRID) < 0.01
