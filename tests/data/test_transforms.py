"""Images, cameras, points and labels move together, whatever is done to a sample."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from occkit.data.transforms import (
    AugmentConfig,
    ImagePlan,
    apply_to_cameras,
    apply_to_image,
    flip_volume,
    misjudge,
    plan_image,
    reflection,
)
from occkit.geometry import Cameras, VoxelGrid, camera_rays, invert_pose, project_depth, transform_points
from occkit.samples import Occupancy, Sample
from occkit.taxonomy import OCC3D

GRID = VoxelGrid(origin=(0.0, -4.0, -1.0), voxel_size=(1.0, 1.0, 1.0), shape=(12, 8, 3))
FORWARD = torch.tensor([[0.0, 0, 1, 0.5], [-1, 0, 0, 0.3], [0, -1, 0, 1.0], [0, 0, 0, 1]])
quick = settings(max_examples=60, deadline=None, database=None)


def cameras(height=90, width=160, count=1):
    matrix = torch.tensor([[100.0, 0, 83], [0, 110, 41], [0, 0, 1]])
    return Cameras(
        intrinsics=matrix.repeat(count, 1, 1),
        ego_from_camera=FORWARD.repeat(count, 1, 1),
        height=height,
        width=width,
    )


def blob(height, width, u, v, radius=6.0):
    """An image with one soft spot centred at (u, v), pixel centres at +0.5."""
    rows, columns = np.mgrid[:height, :width] + 0.5
    value = 255 * np.exp(-((columns - u) ** 2 + (rows - v) ** 2) / (2 * radius**2))
    return Image.fromarray(np.repeat(value[..., None], 3, axis=2).round().astype(np.uint8))


def spot(image):
    """Where the spot is: the centre of mass."""
    weight = image[0].astype(float)
    rows, columns = np.mgrid[: weight.shape[0], : weight.shape[1]] + 0.5
    return np.array([(columns * weight).sum(), (rows * weight).sum()]) / weight.sum()


plans = st.builds(
    ImagePlan,
    resized=st.tuples(st.integers(60, 130), st.integers(120, 200)),
    top=st.integers(-8, 8),
    left=st.integers(-8, 8),
    height=st.just(90),
    width=st.just(160),
    mirror=st.booleans(),
    rotate_degrees=st.floats(-12, 12) | st.just(0.0),
)


@quick
@given(plans, st.floats(-1.2, 1.2), st.floats(-0.5, 0.5))
def test_a_point_stays_where_the_moved_camera_sees_it(plan, y, z):
    """Draw a spot where the camera sees a point; after the plan it is where the plan's camera sees it."""
    point = torch.tensor([[5.5, y, 1 + z]])
    before = cameras()
    (u, v), *_ = before[0].project(point)[0].tolist()
    image = apply_to_image(blob(90, 160, u, v), plan)
    assert image.shape == (3, plan.height, plan.width)
    after = apply_to_cameras(before, plan)
    pixel = after[0].project(point)[0][0].numpy()
    # Where the spot is cut off, its centre of mass is not its middle.
    room = 3.5 * 6.0 * max(plan.resized[0] / 90, plan.resized[1] / 160)
    if room < pixel[0] < plan.width - room and room < pixel[1] < plan.height - room:
        assert np.abs(spot(image) - pixel).max() < 0.15


@quick
@given(plans)
def test_rays_of_a_moved_camera_go_through_the_pixels_they_come_from(plan):
    moved = apply_to_cameras(cameras(), plan)
    pixels = torch.tensor([[[3.5, 8.5], [80.0, 45.0], [150.5, 80.5]]])
    points = camera_rays(moved, pixels).at(torch.full((1, 3, 1), 7.0))[:, :, 0]
    back, depth, visible = moved.project(points)
    assert torch.allclose(back, pixels, atol=1e-2)
    assert torch.allclose(depth, torch.tensor(7.0), atol=1e-4)
    assert visible.all()


def test_mirroring_negates_the_focal_length():
    plan = ImagePlan(resized=(90, 160), top=0, left=0, height=90, width=160, mirror=True)
    moved = apply_to_cameras(cameras(), plan).intrinsics[0]
    assert moved[0].tolist() == [-100, 0, 160 - 83]
    image = np.random.default_rng(0).integers(0, 255, (90, 160, 3), dtype=np.uint8)
    assert np.array_equal(apply_to_image(Image.fromarray(image), plan), image[:, ::-1].transpose(2, 0, 1))


def test_a_plan_without_chance_scales_to_width_and_cuts_the_top():
    plan = plan_image((900, 1600), (256, 704), keep_aspect=True)
    assert (plan.resized, plan.top, plan.left) == ((396, 704), 140, 0)
    flat = plan_image((370, 1226), (384, 1280), keep_aspect=True)
    assert (flat.resized, flat.top) == ((386, 1280), 2)
    padded = plan_image((300, 1280), (384, 1280), keep_aspect=True)
    assert padded.top == -84
    image = apply_to_image(Image.new("RGB", (1280, 300), (9, 9, 9)), padded)
    assert image[:, :84].max() == 0
    assert image[:, 84:].min() == 9
    assert plan_image((900, 1600), (256, 704), keep_aspect=False).resized == (256, 704)


def test_random_plans_stay_in_their_ranges_and_repeat():
    config = AugmentConfig()
    drawn = [
        plan_image((900, 1600), (256, 704), keep_aspect=True, augment=config, rng=np.random.default_rng(k))
        for k in range(300)
    ]
    scales = np.array([p.resized[1] / 1600 for p in drawn])
    assert 0.379 < scales.min() < 0.39
    assert 0.54 < scales.max() < 0.551
    assert max(abs(p.rotate_degrees) for p in drawn) <= 5.4
    assert 0.4 < np.mean([p.mirror for p in drawn]) < 0.6
    for plan in drawn:
        assert plan.top == plan.resized[0] - 256
        assert 0 <= plan.left <= max(0, plan.resized[1] - 704)
    again = plan_image((900, 1600), (256, 704), keep_aspect=True, augment=config, rng=np.random.default_rng(5))
    assert again == drawn[5]


def sample(seed=0):
    rng = np.random.default_rng(seed)
    semantics = torch.from_numpy(rng.integers(0, 18, GRID.shape).astype(np.uint8))
    points = torch.from_numpy(rng.uniform((0, -4, -1, 0), (12, 4, 2, 1), (200, 4))).float()
    stacked = cameras(count=2)
    turn = torch.eye(4)
    turn[:2, :2] = torch.tensor([[0.8, -0.6], [0.6, 0.8]])
    stacked.ego_from_camera[1] = turn @ stacked.ego_from_camera[1]
    lifted = stacked.map(lambda tensor: tensor[None])
    return Sample(
        token="t",
        scene="s",
        timestamp=0,
        images=torch.zeros(1, 2, 3, 90, 160, dtype=torch.uint8),
        cameras=lifted,
        camera_names=("a", "b"),
        grid=GRID,
        taxonomy=OCC3D,
        occupancy=Occupancy(semantics=semantics, grid=GRID, taxonomy=OCC3D, mask_camera=semantics > 4),
        points=points,
        depth=project_depth(stacked, points),
        global_from_ego=torch.from_numpy(np.diag([1.0, 1, 1, 1])) + torch.tensor([[0.0, 0, 0, 5]] * 3 + [[0.0] * 4]),
    )


def test_a_misjudged_camera_is_wrong_in_its_principal_point_alone():
    two = cameras(count=2).map(lambda t: t.expand(3, *t.shape).clone())
    assert misjudge(two, 0.0, "a") is two
    wrong = misjudge(two, 1.5, "a")
    assert torch.equal(wrong.intrinsics, misjudge(two, 1.5, "a").intrinsics)
    assert torch.equal(wrong.ego_from_camera, two.ego_from_camera)
    off = wrong.intrinsics - two.intrinsics
    assert torch.equal(off[0], off[2]), "at all times alike"
    assert (off[..., :2, 2] != 0).all()
    off[..., :2, 2] = 0
    assert not off.any()
    sizes = [(misjudge(two, 1.5, str(k)).intrinsics - two.intrinsics)[0, :, :2, 2].numpy() for k in range(300)]
    assert np.std(sizes) == pytest.approx(1.5, rel=0.1)
    assert abs(np.mean(sizes)) < 0.2


def test_colours_change_by_chance_and_nothing_else_does():
    """Geometry is drawn as without it, so that recipes which do not ask for it are what they were."""
    plain, jittered = AugmentConfig(), AugmentConfig(brightness=0.4, contrast=0.4)
    image = Image.fromarray(np.arange(90 * 160 * 3, dtype=np.uint32).reshape(90, 160, 3).astype(np.uint8) // 2 + 32)
    factors = []
    for seed in range(50):
        one, other = (
            plan_image((90, 160), (45, 80), keep_aspect=True, augment=config, rng=np.random.default_rng(seed))
            for config in (plain, jittered)
        )
        assert (one.brightness, one.contrast) == (1.0, 1.0)
        assert replace(other, brightness=1.0, contrast=1.0) == one
        factors.append((other.brightness, other.contrast))
    assert np.abs(np.array(factors) - 1).max() <= 0.4
    assert (np.array(factors).std(axis=0) > 0.15).all()
    still = ImagePlan(resized=(90, 160), top=0, left=0, height=90, width=160)
    seen = apply_to_image(image, still).astype(float)
    brighter = apply_to_image(image, replace(still, brightness=1.25)).astype(float)
    assert np.abs(brighter - np.minimum(255, 1.25 * seen)).max() <= 1
    flatter = apply_to_image(image, replace(still, contrast=0.5)).astype(float)
    grey = np.asarray(image.convert("L")).mean()
    assert np.abs(flatter - (grey + 0.5 * (seen - grey))).max() <= 2


@pytest.mark.parametrize(("x", "y"), [(True, False), (False, True), (True, True)])
def test_a_mirrored_world_is_seen_in_the_same_pixels(x, y):
    before, after = sample(), flip_volume(sample(), x=x, y=y)
    for n in range(2):
        old, old_depth, _ = before.cameras[0, n].project(before.points[:, :3])
        new, new_depth, _ = after.cameras[0, n].project(after.points[:, :3])
        front = old_depth > 1
        assert front.any()
        assert torch.allclose(old[front], new[front], atol=2e-2)
        assert torch.allclose(old_depth, new_depth, atol=1e-4)
    assert torch.allclose(project_depth(after.cameras[0], after.points), before.depth, atol=1e-4)
    inverse = invert_pose(after.cameras.ego_from_camera) @ after.cameras.ego_from_camera
    assert torch.allclose(inverse, torch.eye(4).expand_as(inverse), atol=1e-5)
    assert torch.det(after.cameras.ego_from_camera[0, 0, :3, :3]).item() == pytest.approx(-1 if x != y else 1)


@pytest.mark.parametrize(("x", "y"), [(True, False), (False, True), (True, True)])
def test_points_keep_their_label_and_their_place_in_the_world(x, y):
    before, after = sample(), flip_volume(sample(), x=x, y=y)
    for name in ("semantics", "mask_camera"):
        values = []
        for one in (before, after):
            index, inside = one.grid.index_of(one.points[:, :3])
            assert inside.all()
            values.append(getattr(one.occupancy, name)[tuple(index.T)])
        assert torch.equal(*values)
    old = transform_points(before.global_from_ego, before.points[:, :3].double())
    new = transform_points(after.global_from_ego, after.points[:, :3].double())
    assert torch.allclose(old, new, atol=1e-5)
    assert torch.equal(before.points[:, 3], after.points[:, 3])


def test_two_mirrorings_cancel():
    once = reflection(GRID, x=True, y=True)
    assert torch.equal(once @ once, torch.eye(4, dtype=torch.float64))
    before, after = sample(), flip_volume(flip_volume(sample(), x=True, y=True), x=True, y=True)
    assert torch.equal(before.occupancy.semantics, after.occupancy.semantics)
    assert torch.allclose(before.points, after.points, atol=1e-5)
    assert flip_volume(before) is before


def test_depth_of_an_empty_sweep_is_zero():
    assert project_depth(cameras(count=2), torch.zeros(0, 4)).abs().sum() == 0


def test_the_nearest_point_wins_and_the_car_itself_is_not_seen():
    points = torch.tensor([[8.5, 0.3, 1.0], [4.5, 0.3, 1.0], [1.0, 0.3, 1.0]])
    depth = project_depth(cameras(), points)
    assert depth[0, 41, 83] == 4.0
    assert (depth > 0).sum() == 1
