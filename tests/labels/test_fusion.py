"""From pixels to points, and from points to voxels: planes, movers, votes and what is not known."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fuzz import check_reader
from occkit.errors import ConfigError
from occkit.geometry import Cameras, VoxelGrid
from occkit.labels import (
    FusionConfig,
    LabelledPoints,
    LonelyPoints,
    StatisticalOutliers,
    back_project,
    fuse,
    read_points,
    write_points,
)
from occkit.labels.origins import is_made_of
from occkit.labels.points import remove_outliers
from occkit.taxonomy import OCC3D, SURROUNDOCC

GRID = VoxelGrid.from_range((0, -4, -1), (8, 4, 3), 1.0)
ROAD, CAR, TREE, POLE = (OCC3D.id_of(name) for name in ("driveable_surface", "car", "vegetation", "manmade"))
FREE, NOTHING = OCC3D.free_id, OCC3D.ignore_id
FORWARD = torch.tensor([[0.0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
STAY = np.eye(4)


def camera(height=8, width=12, focal=6.0):
    matrix = torch.tensor([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
    return Cameras(intrinsics=matrix[None], ego_from_camera=FORWARD[None], height=height, width=width)


def points(*rows, origin=(0.5, 0.0, 0.5)):
    """Rows of (x, y, z, id), metres, seen by one camera."""
    table = np.array(rows, dtype=np.float64).reshape(-1, 4)
    return LabelledPoints(
        position=(table[:, :3] * 100).round().astype(np.int16),
        ids=table[:, 3].astype(np.uint8),
        camera=np.zeros(len(table), np.uint8),
        origins=np.array([origin], np.float32),
    )


def moved(x):
    pose = np.eye(4)
    pose[0, 3] = x
    return pose


def named(frames, config=None, grid=GRID):
    return fuse(frames, grid, OCC3D, config or FusionConfig())


def test_a_plane_keeps_its_z_depth():
    depth = torch.full((1, 8, 12), 10.0)
    found = back_project(depth, torch.full((1, 8, 12), CAR, dtype=torch.uint8), camera(), OCC3D)
    assert len(found) == 96
    assert (found.position[:, 0] == 1000).all()
    corner = found.position[0] / 100
    assert np.allclose(corner, [10, 10 * (6 - 0.5) / 6, 10 * (4 - 0.5) / 6], atol=0.006)
    assert found.camera.dtype == np.uint8


def test_far_and_unknown_pixels_are_left_out_and_the_sky_lies_beyond_everything():
    depth = torch.full((1, 8, 12), 60.0)
    depth[0, :4] = 0.0
    ids = torch.full((1, 8, 12), TREE, dtype=torch.uint8)
    assert len(back_project(depth, ids, camera(), OCC3D)) == 0
    assert len(back_project(depth, ids, camera(), OCC3D, max_depth=61.0)) == 48
    ids[0, 0] = FREE
    sky = back_project(depth, ids, camera(), OCC3D)
    assert len(sky) == 12
    assert (sky.ids == FREE).all()
    far = np.linalg.norm(sky.position / 100, axis=1)
    assert np.allclose(far, 300, atol=0.02)


def test_the_sky_at_the_edge_of_a_wide_image_lies_where_its_pixel_looks():
    wide = camera(focal=1.2)
    depth, ids = torch.zeros(1, 8, 12), torch.full((1, 8, 12), FREE, dtype=torch.uint8)
    rays = wide.unproject(torch.tensor([[[0.5, 0.5]]]), torch.ones(1, 1))[0, 0]
    found = back_project(depth, ids, wide, OCC3D).position[0] / 100
    assert np.allclose(found / np.linalg.norm(found), (rays / rays.norm()).numpy(), atol=1e-3)


def test_a_stride_takes_the_middle_of_each_block():
    depth = torch.arange(1.0, 97.0).reshape(1, 8, 12) / 2
    found = back_project(depth, torch.full((1, 8, 12), CAR, dtype=torch.uint8), camera(), OCC3D, stride=4)
    assert len(found) == 6
    assert sorted(found.position[:, 0]) == sorted((depth[0, 2::4, 2::4].flatten() * 100).int().tolist())
    with pytest.raises(ValueError, match="must be"):
        back_project(depth[:, :4], torch.zeros(1, 4, 12, dtype=torch.uint8), camera(), OCC3D)


def test_a_stride_keeps_every_point_of_a_sparse_depth():
    depth = torch.zeros(1, 10, 13)
    ids = torch.full((1, 10, 13), CAR, dtype=torch.uint8)
    seen = {(0, 3): 5.0, (5, 1): 6.0, (3, 6): 7.0, (9, 12): 8.0}  # corners of blocks, and what is left over
    for (row, column), metres in seen.items():
        depth[0, row, column] = metres
    ids[0, 5, 1] = TREE
    lens = camera(height=10, width=13)
    found, every = (back_project(depth, ids, lens, OCC3D, stride=stride) for stride in (4, 1))
    assert {tuple(row) for row in found.position.tolist()} == {tuple(row) for row in every.position.tolist()}
    assert sorted(found.ids.tolist()) == sorted([CAR, CAR, CAR, TREE])
    # Of two in a block the one nearest to the middle (2, 2) counts, of equally near ones the upper; the middle wins.
    depth[0, 3, 3] = 9.0
    depth[0, 1, 1] = 10.0
    assert 1000 in back_project(depth, ids, lens, OCC3D, stride=4).position[:, 0]
    depth[0, 2, 2] = 11.0
    assert sorted(back_project(depth, ids, lens, OCC3D, stride=4).position[:, 0]) == [600, 700, 800, 1100]
    depth[0, 2, 2] = 60.0
    assert len(back_project(depth, ids, lens, OCC3D, stride=4)) == 3, "too far is not unknown"
    depth[0, 2, 2], ids[0, 2, 2] = 0.0, FREE
    assert (back_project(depth, ids, lens, OCC3D, stride=4).position[:, 0] > 20000).any(), "nor is the sky"
    ids[0, :4, :4], ids[0, 2, 2] = FREE, CAR
    assert len(back_project(depth, ids, lens, OCC3D, stride=4)) == 3, "nor does it stand for what is not known"


@pytest.mark.parametrize("unknown", [0.0, -3.0, float("nan"), float("inf")])
@pytest.mark.parametrize("stride", [1, 4])
def test_pixels_without_a_depth_are_no_points(unknown, stride):
    depth = torch.full((1, 8, 12), unknown)
    ids = torch.full((1, 8, 12), CAR, dtype=torch.uint8)
    assert len(back_project(depth, ids, camera(), OCC3D, stride=stride)) == 0
    depth[0, 4, 5], depth[0, 6, 5], depth[0, 4, 4] = 10.0, 60.0, unknown
    found = back_project(depth, ids, camera(), OCC3D, stride=stride)
    assert found.position[:, 0].tolist() == [1000], "what is too far does not stand for what is near"


def test_the_majority_names_a_voxel_and_the_box_is_half_open():
    frame = points(*[(2.5, 0.5, 0.5, ROAD)] * 3, *[(2.4, 0.4, 0.4, CAR)] * 2, (8.0, 0, 0, CAR), (0.0, -4.0, -1.0, TREE))
    labels = named([(frame, STAY)])
    assert labels.semantics[2, 4, 1] == ROAD
    assert labels.count[2, 4, 1] == 5
    assert labels.semantics[0, 0, 0] == TREE
    assert (labels.semantics != FREE).sum() == 2
    clamped = named([(frame, STAY)], FusionConfig(oob="clamp"))
    assert clamped.semantics[7, 4, 1] == CAR, "a slab on the face of the volume"


def test_past_frames_are_carried_over_but_not_what_moves():
    past = points((5.5, 0.5, 0.5, TREE), (4.5, 1.5, 0.5, CAR))
    labels = named([(points((3.5, 1.5, 0.5, CAR)), STAY), (past, moved(-2.0))])
    assert labels.semantics[3, 4, 1] == TREE
    assert labels.semantics[3, 5, 1] == CAR
    assert labels.semantics[2, 5, 1] == FREE
    trail = named([(points((3.5, 1.5, 0.5, CAR)), STAY), (past, moved(-2.0))], FusionConfig(filter_movers=False))
    assert trail.semantics[2, 5, 1] == CAR
    with pytest.raises(ConfigError, match=r"filter_movers=False and vote=.majority"):
        fuse([(past, STAY)], GRID, SURROUNDOCC, FusionConfig())


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), vote=st.sampled_from(["movers_first", "majority", "rare_first", "near_first"]))
def test_the_order_of_past_frames_does_not_matter(seed, vote):
    rng = np.random.default_rng(seed)
    frames = []
    for _ in range(4):
        rows = np.concatenate(
            [rng.uniform((0, -4, -1), (8, 4, 3), (300, 3)), rng.choice([CAR, ROAD, TREE], (300, 1))], 1
        )
        frames.append((points(*rows), moved(rng.uniform(-2, 2))))
    frames[0] = (frames[0][0], STAY)
    config = FusionConfig(vote=vote, pass_ratio=3.0, empty="carved")
    one, other = named(frames, config), named([frames[0], *frames[:0:-1]], config)
    assert np.array_equal(one.semantics, other.semantics)
    assert np.array_equal(one.count, other.count)


def test_the_votes_differ_in_who_decides():
    present = points(*[(2.5, 0.5, 0.5, POLE)] * 2, *[(6.5, 0.5, 0.5, TREE)] * 3)
    past = points(*[(2.5, 0.5, 0.5, TREE)] * 6, (6.5, 0.5, 0.5, TREE))
    frames = [(present, STAY), (past, STAY)]
    winners = {
        vote: int(named(frames, FusionConfig(vote=vote)).semantics[2, 4, 1])
        for vote in ("movers_first", "majority", "rare_first", "current_first")
    }
    assert winners == {"movers_first": TREE, "majority": TREE, "rare_first": POLE, "current_first": POLE}
    high = [(replace(frame, position=frame.position + np.int16([0, 0, 200])), pose) for frame, pose in frames]
    assert named(high, FusionConfig(vote="rare_first")).semantics[2, 4, 3] == TREE, "near the ground only"
    near, far = (
        points((5.5, 0.5, 0.5, POLE), origin=(1.0, 0, 0.5)),
        points(*[(5.5, 0.5, 0.5, TREE)] * 2, origin=(-15, 0, 0.5)),
    )
    assert named([(near, STAY), (far, STAY)], FusionConfig(vote="near_first")).semantics[5, 4, 1] == POLE
    assert named([(near, STAY), (far, STAY)]).semantics[5, 4, 1] == TREE


def test_what_moves_is_not_outvoted_by_what_lay_under_it():
    present = points(*[(2.5, 0.5, 0.5, CAR)] * 2, (2.5, 0.5, 0.5, ROAD), (6.5, 0.5, 0.5, POLE))
    past = points(*[(2.5, 0.5, 0.5, ROAD)] * 9, *[(6.5, 0.5, 0.5, TREE)] * 3, *[(4.5, 0.5, 0.5, CAR)] * 9)
    frames = [(present, STAY), (past, STAY)]
    kept = named(frames, FusionConfig(min_points=4))
    assert kept.semantics[2, 4, 1] == CAR
    assert kept.semantics[6, 4, 1] == TREE, "what stands is for all frames to name"
    assert kept.semantics[4, 4, 1] == FREE, "a car of another frame has gone since"
    assert named(frames, FusionConfig(vote="majority")).semantics[2, 4, 1] == ROAD
    alone = named([(points((2.5, 0.5, 0.5, CAR), (4.5, 0.5, 0.5, POLE)), STAY)], FusionConfig(min_points=4))
    assert alone.semantics[[2, 4], 4, 1].tolist() == [CAR, FREE], "one frame alone shows what moves"
    thin = points((3.5, 0.5, 0.5, POLE), *[(6.5, 0.5, 0.5, TREE)] * 9, origin=(0.5, 0.5, 0.5))
    for vote in ("current_first", "movers_first"):
        assert named([(thin, STAY)], FusionConfig(vote=vote, pass_ratio=4.0)).semantics[3, 4, 1] == FREE


def test_few_points_are_no_voxel():
    frame = points(*[(2.5, 0.5, 0.5, ROAD)] * 3, (4.5, 0.5, 0.5, ROAD))
    labels = named([(frame, STAY)], FusionConfig(min_points=3))
    assert (labels.semantics != FREE).sum() == 1
    assert labels.count[4, 4, 1] == 1


def test_free_is_what_a_ray_passed_and_the_rest_is_unknown():
    frame = points((5.5, 0.5, 0.5, POLE), (7.5, -2.5, 0.5, NOTHING), origin=(0.5, 0.5, 0.5))
    labels = named([(frame, STAY)], FusionConfig(empty="carved"))
    assert labels.semantics[:, 4, 1].tolist() == [FREE] * 5 + [POLE] + [NOTHING] * 2
    assert labels.visible[:6, 4, 1].all()
    assert not labels.visible[6:, 4, 1].any()
    assert labels.semantics[7, 1, 1] == FREE, "an uncertain pixel carves and names nothing"
    assert labels.semantics[0, 0, 0] == NOTHING
    plain = named([(frame, STAY)])
    assert (plain.semantics == NOTHING).sum() == 0
    assert np.array_equal(plain.visible, labels.visible)
    sky = named([(points((300, 0.5, 0.5, FREE), origin=(0.5, 0.5, 0.5)), STAY)], FusionConfig(empty="carved"))
    assert (sky.semantics[:, 4, 1] == FREE).all()


def test_what_rays_pass_through_stands_no_longer_there():
    ghost = points(*[(3.5, 0.5, 0.5, POLE)] * 2, (4.5, 0.5, 0.5, CAR), origin=(0.5, 0.5, 0.5))
    later = points(*[(6.5, 0.5, 0.5, TREE)] * 9, origin=(0.5, 0.5, 0.5))
    frames = [(ghost, STAY), (later, STAY)]
    assert named(frames).semantics[3, 4, 1] == POLE
    kept = named(frames, FusionConfig(pass_ratio=4.0))
    assert kept.semantics[3, 4, 1] == FREE
    assert kept.semantics[4, 4, 1] == CAR, "what moves is let alone"
    assert kept.semantics[6, 4, 1] == TREE
    assert kept.count[3, 4, 1] == 0


@pytest.mark.parametrize(
    "outliers", [StatisticalOutliers(neighbours=4, deviations=2.0), LonelyPoints(cell=0.5, least=3)]
)
def test_points_that_stand_alone_go_and_the_sky_stays(outliers):
    wall = [(5.0, y / 10, z / 10, POLE) for y in range(-10, 10) for z in range(10)]
    frame = points(*wall, (2.0, 3.0, 2.0, CAR), (300.0, 0, 0, FREE))
    kept = remove_outliers(frame, outliers, OCC3D)
    assert len(kept) == len(wall) + 1
    assert CAR not in kept.ids
    assert FREE in kept.ids
    assert remove_outliers(frame, None, OCC3D) is frame
    assert len(remove_outliers(frame.keep(np.zeros(len(frame), bool)), outliers, OCC3D)) == 0


def test_points_come_back_from_disk(tmp_path):
    frame = points((2.5, 0.5, 0.5, ROAD), (300.0, -1.0, 7.25, FREE))
    write_points(tmp_path / "a.npz", frame)
    again = read_points(tmp_path / "a.npz")
    for name in ("position", "ids", "camera", "origins"):
        assert np.array_equal(getattr(again, name), getattr(frame, name))
        assert getattr(again, name).dtype == getattr(frame, name).dtype
    check_reader(read_points, (tmp_path / "a.npz").read_bytes(), tmp_path / "b.npz")
    assert not is_made_of(tmp_path / "a.npz", "0" * 64)
    write_points(tmp_path / "c.npz", frame, made_of="0a" * 32)
    assert is_made_of(tmp_path / "c.npz", "0a" * 32)
    assert not is_made_of(tmp_path / "c.npz", "0b" * 32)
    assert not is_made_of(tmp_path / "nothing.npz", "0a" * 32)
    assert np.array_equal(read_points(tmp_path / "c.npz").position, frame.position)


@pytest.mark.parametrize("wrong", [{"history": -1}, {"min_points": 0}, {"carve_stride": 0}, {"pass_ratio": 0.0}])
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(ConfigError, match="FusionConfig"):
        FusionConfig(**wrong)
