import numpy as np
import pytest
import torch

from occkit.geometry import Cameras, VoxelGrid
from occkit.samples import Occupancy
from occkit.taxonomy import OCC3D
from occkit.viewer import draw_overlay, draw_points

GRID = VoxelGrid.from_range((-8, -8, -1), (8, 8, 3), 0.5)
GREY = np.full((90, 160, 3), 128, dtype=np.uint8)
LENS = torch.tensor([-0.2, 0.05, 0.001, -0.001, 0.0], dtype=torch.float64)


def forward_camera(distortion=None):
    """At (0, 0, 1) in the ego frame, looking along x."""
    pose = torch.eye(4, dtype=torch.float64)
    pose[:3, :3] = torch.tensor([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]], dtype=torch.float64)
    pose[2, 3] = 1.0
    intrinsics = torch.tensor([[100.0, 0, 80], [0, 100, 45], [0, 0, 1]], dtype=torch.float64)
    return Cameras(intrinsics=intrinsics, ego_from_camera=pose, height=90, width=160, distortion=distortion)


def volume(voxels):
    semantics = torch.full(GRID.shape, OCC3D.free_id, dtype=torch.uint8)
    for index, label in voxels.items():
        semantics[index] = label
    return Occupancy(semantics=semantics, grid=GRID, taxonomy=OCC3D)


def changed(picture):
    return (picture != GREY).any(axis=-1)


@pytest.mark.parametrize("distortion", [None, LENS])
@pytest.mark.parametrize("index", [(28, 16, 4), (26, 20, 2), (30, 9, 6)])
def test_overlay_agrees_with_the_projection(index, distortion):
    camera = forward_camera(distortion)
    mask = changed(draw_overlay(GREY, camera, volume({index: OCC3D.id_of("car")})))
    corners = torch.tensor([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)], dtype=torch.float64)
    pixels, _, _ = camera.project(GRID.points_at(corners + torch.tensor(index)))
    v, u = np.nonzero(mask)
    # Projected corners bound the voxel's silhouette (a lens bends its edges by less than a pixel here).
    assert u.min() == pytest.approx(float(pixels[:, 0].min()), abs=1.5)
    assert u.max() + 1 == pytest.approx(float(pixels[:, 0].max()), abs=1.5)
    assert v.min() == pytest.approx(float(pixels[:, 1].min()), abs=1.5)
    assert v.max() + 1 == pytest.approx(float(pixels[:, 1].max()), abs=1.5)


def test_pixels_that_see_nothing_stay_as_they_are():
    noise = np.random.default_rng(0).integers(0, 256, GREY.shape, dtype=np.uint8)
    assert np.array_equal(draw_overlay(noise, forward_camera(), volume({})), noise)
    some = draw_overlay(noise, forward_camera(), volume({(28, 16, 4): 4}))
    assert np.array_equal(some[:, :40], noise[:, :40])
    assert not np.array_equal(some, noise)


def test_what_is_behind_the_camera_is_not_drawn():
    assert not changed(draw_overlay(GREY, forward_camera(), volume({(4, 16, 4): 4}))).any()


def test_nearer_voxel_hides_the_farther_one():
    pedestrian, car = OCC3D.id_of("pedestrian"), OCC3D.id_of("car")
    wall = {(24, j, k): pedestrian for j in range(12, 20) for k in range(8)}
    alone = draw_overlay(GREY, forward_camera(), volume(wall))
    both = draw_overlay(GREY, forward_camera(), volume(wall | {(30, 16, 4): car}))
    assert np.array_equal(alone, both)


def test_far_voxels_are_fainter():
    near = draw_overlay(GREY, forward_camera(), volume({(20, 15, 3): 4})).astype(int)
    far = draw_overlay(GREY, forward_camera(), volume({(31, 15, 3): 4})).astype(int)
    assert np.abs(near - 128).max() > np.abs(far - 128).max()


def test_own_car_is_looked_through():
    inside = {(16, 16, 4): 7, (16, 15, 3): 7, (16, 15, 4): 7, (16, 16, 3): 7}
    assert not changed(draw_overlay(GREY, forward_camera(), volume(inside))).any()
    assert changed(draw_overlay(GREY, forward_camera(), volume(inside), min_depth=0.0)).all()


def test_stride_draws_blocks_at_the_same_place():
    one = changed(draw_overlay(GREY, forward_camera(), volume({(22, 16, 4): 4})))
    four = changed(draw_overlay(GREY, forward_camera(), volume({(22, 16, 4): 4}), stride=4))
    assert four[:88].reshape(22, 4, 40, 4).any(axis=(1, 3)).sum() * 16 == four[:88].sum()
    assert (one & four).sum() > 0.7 * one.sum()
    assert not four[88:].any()  # the two rows beyond the last whole block


def test_points_lie_on_their_pixels_and_near_ones_on_top():
    points = torch.tensor([[10.0, 0.0, 1.0, 0.3], [5.0, 0.0, 1.0, 0.9], [-5.0, 0.0, 1.0, 0.5]])
    picture = draw_points(GREY, forward_camera(), points, max_depth=10.0, radius=2, colour_bar=False)
    v, u = np.nonzero(changed(picture))
    assert u.mean() + 0.5 == pytest.approx(80, abs=0.6)
    assert v.mean() + 0.5 == pytest.approx(45, abs=0.6)
    red, green, blue = picture[44, 79].astype(int)
    assert green > red
    assert green > blue


def test_colour_bar_says_the_range():
    with_bar = draw_points(GREY, forward_camera(), torch.zeros(0, 3), max_depth=40.0)
    assert changed(with_bar)[60:, 110:].any()
    assert not changed(with_bar)[:60].any()


def test_image_of_another_size_is_refused():
    with pytest.raises(ValueError, match=r"image: expected \[90, 160, 3\]"):
        draw_overlay(GREY[:80], forward_camera(), volume({}))
    stacked = forward_camera().map(lambda tensor: tensor[None])
    with pytest.raises(ValueError, match="one camera"):
        draw_points(GREY, stacked, torch.zeros(1, 3))


def test_a_class_may_be_painted_thinner_and_still_hides():
    pedestrian, car = OCC3D.id_of("pedestrian"), OCC3D.id_of("car")
    strength = [1.0] * OCC3D.num_classes
    strength[pedestrian] = 0.0
    wall = {(24, j, k): pedestrian for j in range(12, 20) for k in range(8)}
    hidden = draw_overlay(GREY, forward_camera(), volume(wall | {(30, 16, 4): car}), strength=strength)
    assert not changed(hidden).any()
    assert changed(draw_overlay(GREY, forward_camera(), volume({(30, 16, 4): car}), strength=strength)).any()
