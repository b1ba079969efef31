import math

import torch

from occkit.geometry import Rays, VoxelGrid, fan_rays, intersect_box
from occkit.geometry.rays import pixel_grid

GRID = VoxelGrid(origin=(0.0, 0, 0), voxel_size=(1.0, 1, 1), shape=(4, 4, 2))


def shoot(origin: list, direction: list) -> tuple[float, float, bool]:
    rays = Rays(origins=torch.tensor([origin]), directions=torch.tensor([direction]))
    near, far, hit = intersect_box(rays, GRID)
    return near.item(), far.item(), bool(hit)


def test_box_from_outside_inside_and_past_it():
    assert shoot([-2.0, 1.5, 0.5], [1.0, 0, 0]) == (2.0, 6.0, True)
    assert shoot([1.0, 1.5, 0.5], [2.0, 0, 0]) == (0.0, 1.5, True)
    assert not shoot([5.0, 1.5, 0.5], [1.0, 0, 0])[2]
    assert not shoot([-2.0, 5.0, 0.5], [1.0, 0, 0])[2]


def test_points_along_a_ray():
    rays = Rays(origins=torch.tensor([[1.0, 2, 3]]), directions=torch.tensor([[0.0, 0, 2]]))
    assert rays.at(torch.tensor([[0.0, 1.5]])).tolist() == [[[1, 2, 3], [1, 2, 6]]]


def test_fan_order_and_length():
    fan = fan_rays(torch.tensor([0.0, math.pi / 4], dtype=torch.float64), 4)
    assert fan.shape == (8, 3)
    assert torch.allclose(fan.norm(dim=-1), torch.ones(8, dtype=torch.float64))
    assert torch.allclose(
        fan[1], torch.tensor([0.0, 1, 0], dtype=torch.float64), atol=1e-12
    )  # azimuth is the inner loop
    assert torch.allclose(fan[4], torch.tensor([0.5**0.5, 0, 0.5**0.5], dtype=torch.float64))


def test_pixel_grid_centres():
    assert pixel_grid(2, 3).tolist() == [[0.5, 0.5], [1.5, 0.5], [2.5, 0.5], [0.5, 1.5], [1.5, 1.5], [2.5, 1.5]]
    assert pixel_grid(4, 4, stride=4).tolist() == [[2.0, 2.0]]
