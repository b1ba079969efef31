import numpy as np
import pytest
import torch

from occkit.geometry import VoxelGrid
from occkit.samples import Occupancy
from occkit.taxonomy import OCC3D
from occkit.viewer import chase_camera, draw_perspective, draw_top, look_at
from occkit.viewer.surface import corner_shade, find_surface, sun_light

GRID = VoxelGrid.from_range((-10, -10, -1), (10, 10, 3), 1.0)
RED, BLUE = OCC3D.id_of("pedestrian"), OCC3D.id_of("car")


def volume(voxels):
    semantics = torch.full(GRID.shape, OCC3D.free_id, dtype=torch.uint8)
    for index, label in voxels.items():
        semantics[index] = label
    return Occupancy(semantics=semantics, grid=GRID, taxonomy=OCC3D)


def is_red(picture):
    colour = picture.astype(int)
    return (colour[..., 0] > 80) & (colour[..., 0] > 2 * colour[..., 1]) & (colour[..., 0] > 2 * colour[..., 2])


def is_blue(picture):
    colour = picture.astype(int)
    return (colour[..., 2] > 80) & (colour[..., 2] > 2 * colour[..., 0])


def centre_of(mask):
    v, u = np.nonzero(mask)
    return u.mean() + 0.5, v.mean() + 0.5


def top(voxels):
    return draw_top(volume(voxels), size=200, ego=None, rings=(), with_legend=False)


def test_top_view_has_forward_up_and_left_on_the_left():
    # Voxel (15, 10, 1) is ahead (x = 5.5, y = 0.5); (10, 15, 1) is to the left. Ten pixels a metre.
    u, v = centre_of(is_red(top({(15, 10, 1): RED})))
    assert u == pytest.approx(95, abs=1)
    assert v == pytest.approx(45, abs=1)
    u, v = centre_of(is_red(top({(10, 15, 1): RED})))
    assert u == pytest.approx(45, abs=1)
    assert v == pytest.approx(95, abs=1)


def test_top_view_shows_the_highest_voxel_of_a_column():
    picture = top({(10, 10, 0): BLUE, (10, 10, 3): RED})
    assert is_red(picture).sum() > 60
    assert not is_blue(picture).any()


def test_top_view_without_anything_is_the_plate():
    picture = top({})
    assert (picture == picture[0, 0]).all()


def test_top_view_follows_the_proportions_of_the_grid():
    grid = VoxelGrid.from_range((0, -10, 0), (10, 10, 2), 1.0)
    empty = Occupancy(semantics=torch.full(grid.shape, OCC3D.free_id, dtype=torch.uint8), grid=grid, taxonomy=OCC3D)
    assert draw_top(empty, size=200, with_legend=False).shape == (100, 200, 3)


def test_legend_is_below_and_names_what_is_there():
    bare = draw_top(volume({(3, 3, 1): RED}), size=200, with_legend=False)
    named = draw_top(volume({(3, 3, 1): RED}), size=200)
    assert named.shape[0] > bare.shape[0]
    assert np.array_equal(named[: bare.shape[0]], bare)
    assert is_red(named[bare.shape[0] :]).any()


@pytest.mark.parametrize("index", [(15, 10, 1), (12, 4, 2), (6, 14, 0)])
def test_perspective_puts_a_voxel_where_the_camera_projects_it(index):
    camera = look_at((-14.0, 3.0, 9.0), (0.0, 0.0, 0.0), height=240, width=320)
    picture = draw_perspective(volume({index: RED}), size=(240, 320), camera=camera, ego=None)
    centre = GRID.centers(dtype=torch.float64)[index][None]
    (at,), _, (visible,) = camera.project(centre)
    assert visible
    u, v = centre_of(is_red(picture))
    assert u == pytest.approx(float(at[0]), abs=2)
    assert v == pytest.approx(float(at[1]), abs=2)


def test_perspective_hides_what_is_behind():
    camera = look_at((-14.0, 0.5, 1.5), (0.0, 0.5, 1.4), height=120, width=160)
    behind = {(15, 10, 2): BLUE}
    front = {(5, y, z): RED for y in range(8, 13) for z in range(4)}
    draw = {"size": (120, 160), "camera": camera, "ego": None}
    assert is_blue(draw_perspective(volume(behind), **draw)).any()
    hidden = draw_perspective(volume(behind | front), **draw)
    assert is_red(hidden).any()
    assert not is_blue(hidden).any()


def test_ignored_voxels_are_not_drawn():
    assert np.array_equal(top({(10, 10, 1): OCC3D.ignore_id}), top({}))


def test_default_camera_sees_all_of_the_volume():
    camera = chase_camera(GRID, height=360, width=640)
    corners = torch.tensor(
        [[x, y, z] for x in (-10.0, 10.0) for y in (-10.0, 10.0) for z in (-1.0, 3.0)], dtype=torch.float64
    )
    _, depth, _ = camera.project(corners)
    assert (depth > 0).all()
    _, _, (middle,) = camera.project(torch.zeros(1, 3, dtype=torch.float64))
    assert middle


def test_same_volume_same_picture():
    voxels = {(10, 10, 1): RED, (4, 6, 0): BLUE}
    assert np.array_equal(
        draw_perspective(volume(voxels), size=(90, 160)), draw_perspective(volume(voxels), size=(90, 160))
    )


def test_a_wall_in_the_sun_throws_a_shadow():
    # Light comes from behind and left, so the ground ahead and to the right of a wall is dark.
    ground = {(x, y, 0): OCC3D.id_of("terrain") for x in range(20) for y in range(20)}
    pole = {(10, 10, z): RED for z in range(1, 4)}
    lit, shaded = top(ground).astype(int), top(ground | pole).astype(int)
    darker = (shaded.sum(-1) < 0.8 * lit.sum(-1)) & ~is_red(shaded)
    u, v = centre_of(darker)
    assert u > 95
    assert v < 95


def test_surface_is_the_entered_face():
    occupied = np.zeros(GRID.shape, dtype=bool)
    occupied[15, 10, 1] = True
    rays = _ray((-20.0, 0.5, 0.5), (1.0, 0.0, 0.0))
    surface = find_surface(occupied, GRID, rays)
    assert surface.index.tolist() == [[15, 10, 1]]
    assert surface.axis.tolist() == [0]
    assert surface.sign.tolist() == [-1]
    assert surface.distance[0] == pytest.approx(25.0, abs=1e-4)
    assert np.concatenate(surface.on_face) == pytest.approx([0.5, 0.5], abs=1e-5)


def test_surface_looks_through_what_is_too_near():
    occupied = np.zeros(GRID.shape, dtype=bool)
    occupied[10, 10, 1] = occupied[14, 10, 1] = True
    rays = _ray((0.2, 0.5, 0.5), (1.0, 0.0, 0.0))
    assert find_surface(occupied, GRID, rays).index.tolist() == [[10, 10, 1]]
    assert find_surface(occupied, GRID, rays, min_distance=1.0).index.tolist() == [[14, 10, 1]]


def test_niche_is_darker_than_the_open():
    occupied = np.zeros(GRID.shape, dtype=bool)
    occupied[:, :, 0] = True
    rays = _ray((0.5, 0.01, 2.9), (0.0, 0.0, -1.0))
    assert corner_shade(occupied, find_surface(occupied, GRID, rays))[0] == 1.0
    occupied[:, 9, 1] = True  # a wall along x right beside the point
    assert corner_shade(occupied, find_surface(occupied, GRID, rays))[0] == pytest.approx(1 - 2 / 6, abs=0.01)


def test_sun_does_not_reach_below_a_roof():
    occupied = np.zeros(GRID.shape, dtype=bool)
    occupied[:, :, 0] = True
    rays = _ray((0.5, 0.5, 0.9), (0.0, 0.0, -1.0))
    sun = np.array([0.0, 0.0, 1.0])
    assert sun_light(occupied, GRID, find_surface(occupied, GRID, rays), sun).tolist() == [1.0]
    occupied[:, :, 3] = True
    assert sun_light(occupied, GRID, find_surface(occupied, GRID, rays), sun).tolist() == [0.0]


def test_wrong_camera_or_volume_is_refused():
    with pytest.raises(ValueError, match="camera: expected one camera of 720x1280"):
        draw_perspective(volume({}), camera=chase_camera(GRID, height=10, width=20))
    with pytest.raises(ValueError, match="vertical"):
        look_at((0.0, 0.0, 5.0), (0.0, 0.0, 0.0), height=10, width=10)
    batched = volume({}).map(lambda tensor: tensor[None])
    with pytest.raises(ValueError, match="one volume"):
        draw_top(batched)


def _ray(origin, direction):
    from occkit.geometry import Rays

    return Rays(
        origins=torch.tensor([origin], dtype=torch.float64), directions=torch.tensor([direction], dtype=torch.float64)
    )
