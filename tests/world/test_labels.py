"""Voxel labels by hand, and against sampled points."""

import numpy as np
from test_tracing import flat_ground, solid

from occkit.geometry import VoxelGrid
from occkit.world.labels import seen_by_camera, seen_by_scanner, voxelise
from occkit.world.primitives import BALL, BOX, CYLINDER, concatenate, yaw_matrix
from occkit.world.sensors import pose
from occkit.world.tracing import Tracer

GRID = VoxelGrid.from_range((-8, -8, -1), (8, 8, 5.4), 0.8)
ROAD = 1


def test_box_fills_the_voxels_it_touches() -> None:
    box = solid(BOX, (2.0, 0.4, 2.2), (0.75, 0.35, 0.35))
    word = voxelise(box, flat_ground(), GRID, np.eye(4)).word
    expected = np.zeros(GRID.shape, bool)
    # x 1.25..2.75 -> voxels 11..13, y 0.05..0.75 -> 10, z 1.85..2.55 -> 3..4
    expected[11:14, 10:11, 3:5] = True
    assert np.array_equal(word == 8, expected)


def test_ground_lies_in_one_layer() -> None:
    word = voxelise(solid(BOX, (50, 0, 1), (1, 1, 1)), flat_ground(), GRID, np.eye(4)).word
    assert (word[:, :, 1] == ROAD).all()  # z 0 lies in [-0.2, 0.6)
    assert (np.delete(word, 1, axis=2) == 0).all()


def test_thin_pole_keeps_its_voxels() -> None:
    for x in np.linspace(0, 0.8, 9)[:-1] + 0.01:
        word = voxelise(solid(CYLINDER, (x, 0.3, 2.0), (0.02, 0.02, 2.0)), flat_ground(), GRID, np.eye(4)).word
        assert (word[10, 10, 2:6] == 8).all()


def test_ego_pose_moves_and_turns_the_volume() -> None:
    world = concatenate([solid(BALL, (10, 20, 3), (1, 1, 1))])
    ego = pose(yaw_matrix(np.pi / 2), np.array([10.0, 16.0, 0.0]))
    word = voxelise(world, flat_ground(20), GRID, ego).word
    x, y, _ = (word == 8).nonzero()
    # four metres ahead: x = 4 lies on the face between voxels 14 and 15, y = 0 on that between 9 and 10
    assert x.min() + x.max() == 29
    assert y.min() + y.max() == 19


def test_points_on_surfaces_lie_in_labelled_voxels() -> None:
    rng = np.random.default_rng(0)
    parts = [
        solid(
            BOX,
            (*rng.uniform(-6, 6, 2), 2.0),
            tuple(rng.uniform(0.05, 1.5, 3)),
            float(rng.uniform(0, 6)),
            float(rng.uniform(-1, 1)),
        )
        for _ in range(10)
    ]
    solids = concatenate(parts)
    occupied = voxelise(solids, flat_ground(), GRID, np.eye(4)).occupied
    unit = rng.uniform(-1, 1, (10, 500, 3))
    points = np.einsum("nij,npj->npi", solids.rotation, unit * solids.half[:, None]) + solids.center[:, None]
    index = np.floor((points.reshape(-1, 3) - np.array(GRID.origin)) / 0.8).astype(int)
    above = points.reshape(-1, 3)[:, 2] > 0.05
    inside = ((index >= 0) & (index < np.array(GRID.shape))).all(axis=1) & above
    assert occupied[tuple(index[inside].T)].all()


def test_a_wall_hides_what_is_behind() -> None:
    wall = solid(BOX, (4.0, 0.0, 2.0), (0.3, 8.0, 8.0))
    fan = np.stack(np.meshgrid([1.0], np.linspace(-1, 1, 41), np.linspace(-0.3, 0.3, 21)), axis=-1).reshape(-1, 3)
    fan /= np.linalg.norm(fan, axis=1, keepdims=True)
    scanner = np.eye(4)
    scanner[2, 3] = 1.5
    seen = seen_by_scanner(Tracer.build(wall, flat_ground()), GRID, np.eye(4), scanner, fan)
    assert seen[11:15, 10, 3].all()
    assert not seen[16:].any()


def test_a_camera_sees_up_to_the_depth_of_its_pixels() -> None:
    """One pixel looking forward along x from the middle of a voxel: depth 3 m, and then the open sky."""
    pose = np.eye(4)
    pose[:3, :3] = [[0, 0, 1], [-1, 0, 0], [0, -1, 0]]
    pose[:3, 3] = np.array(GRID.origin) + 0.4 + np.array([0.0, 4.0, 1.6])
    pixel = np.array([[1.0, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
    for depth, last in ((3.0, 4), (0.0, GRID.shape[0] - 1)):
        seen = seen_by_camera(GRID, pixel, pose, np.full((1, 1), depth, np.float32), 1)
        assert np.argwhere(seen).tolist() == [[x, 5, 2] for x in range(last + 1)]
