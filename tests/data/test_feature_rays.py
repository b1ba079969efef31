"""Rays through stored images and the features seen along them: where they run, what they show, who may ask."""

from dataclasses import replace

import layouts
import numpy as np
import pytest
import torch
from torch.nn import functional

from occkit.data import AugmentConfig, DataConfig, iterate_batches, open_dataset
from occkit.data.feature_rays import (
    FeatureReader,
    Pixels,
    carry_rays,
    ray_chance,
    share_out,
    stack_views,
    uniform_pixels,
)
from occkit.data.feature_store import FeatureLayout, create_store
from occkit.data.frames import FrameDataset
from occkit.data.transforms import flip_volume, reflection
from occkit.errors import ConfigError, DataError
from occkit.geometry import Cameras, transform_points
from occkit.samples import collate

DIM = 8
RAYS = DataConfig(features="features", feature_rays=300)


def write_store(data: FrameDataset, *, cameras=None, tokens=None, basis=False, map_size=(6, 8)):
    """Write features by chance, other ones for every frame."""
    layout = FeatureLayout(
        source={"extractor": {"features": "test"}, "subspace": None},
        cameras=cameras or data.camera_names,
        image_size=data.image_size,
        map_size=map_size,
        width=DIM + 4 if basis else DIM,
        dim=DIM,
        codec="float16",
    )
    draw = torch.Generator().manual_seed(1)
    directions = torch.linalg.qr(torch.randn(DIM + 4, DIM, generator=draw))[0] if basis else None
    store = create_store(data.root / "features", layout, directions)
    count, rows, columns, dim = layout.shape
    for token in data.tokens if tokens is None else tokens:
        store.write(token, functional.normalize(torch.randn(count, dim, rows, columns, generator=draw), dim=1))
    return store


def opened(root, config=RAYS, split="all"):
    return open_dataset(root, split=split, config=config, training=True)


@pytest.fixture(scope="module")
def drive(tmp_path_factory):
    """One scene of five frames in nuScenes' layout; sensors expose at times and places of their own."""
    root = layouts.write_nuscenes(tmp_path_factory.mktemp("n"), scenes=("scene-0001",), frames=5, val=())
    write_store(open_dataset(root, split="all", config=DataConfig()))
    return root


@pytest.fixture(scope="module")
def kitti(tmp_path_factory):
    root = layouts.write_kitti(tmp_path_factory.mktemp("k"), sequences=("00",))
    write_store(open_dataset(root, split="all", config=DataConfig()))
    return root


@pytest.fixture(scope="module")
def rigs(tmp_path_factory):
    """Three frames of two unlike cameras, one with a lens, whose poses come from a drive."""
    root = tmp_path_factory.mktemp("r")
    for index, name in enumerate("abc"):
        document = layouts.rig_document()
        document.pop("token")
        document["global_from_ego"] = layouts.ego_at(0.5 * index).tolist()
        document["cameras"][0]["global_from_ego"] = layouts.ego_at(0.5 * index - 0.04).tolist()
        layouts.write_rig(root / name, document)
    write_store(open_dataset(root, split="all", config=DataConfig()))
    return root


def exact_cameras(data, token, reference):
    """The cameras of a frame in the frame of another, made from the files' matrices by hand."""
    if data.name == "nuscenes":
        inverse = np.linalg.inv(layouts.ego_at(0.5 * int(reference[-1])))
        return [
            (inverse @ layouts.ego_at(0.5 * int(token[-1]) + layouts.EXPOSURE[name]) @ layouts.mountings()[name],
             layouts.INTRINSICS, (), layouts.SIZE)
            for name in layouts.CAMERAS
        ]  # fmt: skip
    if data.name == "rig":
        document, place = layouts.rig_document(), "abc".index(token)
        inverse = np.linalg.inv(layouts.ego_at(0.5 * "abc".index(reference)))
        delays = (-0.04, 0.0)
        return [
            (inverse @ layouts.ego_at(0.5 * place + delay) @ np.array(camera["ego_from_camera"]),
             np.array(camera["intrinsics"]), camera.get("distortion", ()), (camera["height"], camera["width"]))
            for camera, delay in zip(document["cameras"], delays, strict=True)
        ]  # fmt: skip
    here, there = (layouts.kitti_pose(int(name.split("_")[1])) for name in (reference, token))
    matrix = np.array([[50.0, 0, 47], [0, 50, 14], [0, 0, 1]])
    camera2_from_velodyne = layouts.pose(np.eye(3), layouts.P2_SHIFT) @ layouts.TR
    # poses.txt is about camera 0
    pose = np.linalg.inv(layouts.TR) @ np.linalg.inv(here) @ there @ layouts.TR @ np.linalg.inv(camera2_from_velodyne)
    return [(pose, matrix, (), (32, 96))]


def as_camera(pose, intrinsics, lens, size):
    return Cameras(
        intrinsics=torch.tensor(intrinsics),
        ego_from_camera=torch.tensor(pose),
        height=size[0],
        width=size[1],
        distortion=torch.tensor(lens).double() if len(lens) else None,
    )


@pytest.mark.parametrize("layout", ["drive", "kitti", "rigs"])
def test_rays_run_through_the_pixels_whose_features_they_have(layout, request):
    """Of a frame and its neighbours, in every layout: lens, exposure and poses are those of the files."""
    root = request.getfixturevalue(layout)
    data = opened(root, replace(RAYS, feature_horizon=1))
    store = FeatureReader(root / "features", data.camera_names).store
    index = 1
    token, rays = data.tokens[index], data.sample(index, seed=4).feature_rays
    assert rays.origins.shape == rays.directions.shape == (300, 3)
    assert sorted(rays.steps.unique().tolist()) == [-1, 0, 1]
    assert [(rays.steps == step).sum().item() for step in (-1, 0, 1)] == [100, 100, 100]
    assert torch.allclose(rays.directions.norm(dim=1), torch.ones(300), atol=1e-5)
    assert torch.allclose(rays.features.norm(dim=1), torch.ones(300), atol=1e-4)
    found = 0
    for step in (-1, 0, 1):
        other, mine = data.tokens[index + step], rays.map(lambda tensor, s=step: tensor[rays.steps == s])
        for number, parts in enumerate(exact_cameras(data, other, token)):
            camera = as_camera(*parts)
            here = (mine.origins.double() - camera.ego_from_camera[:3, 3]).norm(dim=1) < 1e-3
            # Any point of the ray falls into the same pixel, and that pixel is the centre of one.
            for distance in (2.0, 30.0):
                points = (mine.origins + distance * mine.directions)[here].double()
                pixels, _, visible = camera.project(points)
                assert visible.all()
                assert ((pixels - pixels.floor() - 0.5).abs() < 1e-2).all()
            scale = torch.tensor(data.image_size[::-1]) / torch.tensor([camera.width, camera.height])
            cameras = torch.full((int(here.sum()),), number)
            expected = store.sample(other, cameras, pixels.round(decimals=1) * scale)
            assert torch.allclose(mine.features[here], expected, atol=1e-4)
            found += int(here.sum())
    assert found == 300


def test_the_current_rays_unproject_as_the_cameras_do(drive):
    data = opened(drive)
    sample = data.sample(2, seed=1)
    rays, cameras = sample.feature_rays, sample.cameras[0]
    counted = 0
    for n in range(len(cameras.intrinsics)):
        ends = rays.origins + 7 * rays.directions
        pixels, depth, visible = cameras[n].project(ends)
        mine = visible & ((rays.origins - cameras.ego_from_camera[n, :3, 3]).norm(dim=1) < 1e-4)
        again = cameras[n].unproject(pixels[mine], depth[mine])
        assert torch.allclose(again, ends[mine], atol=1e-3)
        assert torch.allclose(pixels[mine], pixels[mine].floor() + 0.5, atol=1e-2)
        counted += int(mine.sum())
    assert counted == 300


def test_a_point_of_the_world_seen_from_two_frames_is_where_their_rays_meet(drive):
    data = opened(drive)
    tokens = data.tokens[1:3]
    reference = layouts.ego_at(0.5)
    point = torch.tensor((np.linalg.inv(reference) @ layouts.ego_at(3.0))[:3, 3] + (0, 2.0, 1.0))
    reader = FeatureReader(drive / "features", data.camera_names)
    lines = []
    for place, token in enumerate(tokens):
        there = layouts.ego_at(0.5 + 0.5 * place)
        pixel, _, visible = as_camera(*exact_cameras(data, token, tokens[0])[0]).project(point[None])
        assert visible.all()
        rays = reader.rays(token, data._views_of(token), Pixels(cameras=torch.tensor([0]), places=pixel))
        carried = carry_rays(rays, reference, there)
        lines.append((carried.origins[0].double(), carried.directions[0].double()))
    assert (lines[0][0] - lines[1][0]).norm() > 4, "the car has moved"
    for origin, direction in lines:
        assert distance_to_line(point, origin, direction) < 2e-3
    assert distance_to_line(point, rays.origins[0].double(), rays.directions[0].double()) > 0.5, "not carried"


def distance_to_line(point, origin, direction):
    offset = point - origin
    return (offset - (offset @ direction) * direction).norm()


def test_the_same_seed_the_same_rays(drive):
    data, again = opened(drive), opened(drive)
    same, other = data.sample(1, seed=5).feature_rays, data.sample(1, seed=6).feature_rays
    assert torch.equal(same.directions, again.sample(1, seed=5).feature_rays.directions)
    assert torch.equal(same.features, again.sample(1, seed=5).feature_rays.features)
    assert not torch.equal(same.directions, other.directions)
    assert torch.equal(data[1].feature_rays.directions, again[1].feature_rays.directions)
    assert not torch.equal(data[1].feature_rays.directions, data[2].feature_rays.directions)


def test_rays_do_not_shift_the_draws_of_augmentation(drive):
    augment = AugmentConfig()
    plain = opened(drive, DataConfig(augment=augment)).sample(1, seed=9)
    with_rays = opened(drive, replace(RAYS, augment=augment)).sample(1, seed=9)
    assert torch.equal(plain.images, with_rays.images)
    assert torch.equal(plain.cameras.ego_from_camera, with_rays.cameras.ego_from_camera)


def test_augmented_images_leave_the_rays_where_they_are_and_mirrored_volumes_take_them_along(drive):
    turned = AugmentConfig(scale=(-0.1, 0.1), rotate_degrees=5.0, mirror_image=1.0, flip_x=0.0, flip_y=0.0)
    plain = opened(drive).sample(1, seed=2)
    assert torch.equal(
        plain.feature_rays.directions,
        opened(drive, replace(RAYS, augment=turned)).sample(1, seed=2).feature_rays.directions,
    )
    for x, y in ((True, False), (False, True), (True, True)):
        flips = replace(turned, flip_x=float(x), flip_y=float(y))
        flipped = opened(drive, replace(RAYS, augment=flips)).sample(1, seed=2).feature_rays
        mirror = reflection(plain.grid, x=x, y=y).float()
        ends = plain.feature_rays.origins + 9 * plain.feature_rays.directions
        assert torch.allclose(flipped.origins + 9 * flipped.directions, transform_points(mirror, ends), atol=1e-4)
        assert torch.allclose(flipped.origins, transform_points(mirror, plain.feature_rays.origins), atol=1e-4)
        assert torch.equal(flipped.features, plain.feature_rays.features)
        twice = flip_volume(flip_volume(plain, x=x, y=y), x=x, y=y).feature_rays
        assert torch.allclose(twice.directions, plain.feature_rays.directions, atol=1e-6)


def test_uniform_pixels_are_those_of_all_images_alike(rigs):
    views = opened(rigs)._views_of("a")
    pixels = uniform_pixels(views, 20_000, np.random.default_rng(0))
    front, back = layouts.SIZE[0] * layouts.SIZE[1], 20 * 32
    assert (pixels.cameras == 1).float().mean() == pytest.approx(back / (front + back), abs=0.01)
    for camera, (height, width) in enumerate((layouts.SIZE, (20, 32))):
        places = pixels.places[pixels.cameras == camera]
        assert places.min(dim=0).values.tolist() == [0.5, 0.5]
        assert places.max(dim=0).values.tolist() == [width - 0.5, height - 0.5]
        counts = torch.bincount((places[:, 1] * width + places[:, 0]).long(), minlength=height * width)
        assert (counts > 0).float().mean() > 0.9
    assert len(uniform_pixels(views, 0, np.random.default_rng(0))) == 0


def test_frames_outside_of_the_scene_are_the_current_one(drive):
    data = opened(drive, replace(RAYS, feature_horizon=2))
    whole = dict.fromkeys(range(-2, 3), 60)
    for index, steps in ((0, {0: 180, 1: 60, 2: 60}), (4, {0: 180, -1: 60, -2: 60}), (2, whole)):
        rays = data.sample(index, seed=0).feature_rays
        found, counts = rays.steps.unique(return_counts=True)
        assert dict(zip(found.tolist(), counts.tolist(), strict=True)) == steps
        assert rays.origins[rays.steps == 0].norm(dim=1).max() < 4


def test_a_keyframe_without_an_image_is_the_current_one(tmp_path):
    root = layouts.write_nuscenes(tmp_path, scenes=("scene-0001",), frames=3, val=())
    (root / "samples" / "CAM_BACK" / "0001f2-CAM_BACK.png").unlink()
    with pytest.warns(UserWarning, match="1 of 3 frames left out"):
        write_store(open_dataset(root, split="all", config=DataConfig()))
    with pytest.warns(UserWarning, match="1 of 3 frames left out"):
        data = opened(root, replace(RAYS, feature_horizon=1))
    assert sorted(data.sample(1, seed=0).feature_rays.steps.unique().tolist()) == [-1, 0]


def test_rays_are_shared_out_evenly_and_chance_decides_who_gets_the_rest():
    frames = [("now", 0), ("a", -2), ("now", 0), ("b", 1)]
    seen = set()
    for seed in range(40):
        shares = share_out(10, frames, np.random.default_rng(seed))
        assert sum(count for _, _, count in shares) == 10
        assert {token: step for token, step, _ in shares} == {"now": 0, "a": -2, "b": 1}
        assert all(2 * k <= count <= 3 * k for (_, _, count), k in zip(shares, (2, 1, 1), strict=True))
        seen.add(tuple(count for _, _, count in shares))
    assert len(seen) > 2
    assert share_out(1, frames, np.random.default_rng(0))[0][2] == 1


def test_lidar_pixels_lie_on_returns_within_the_volume(drive):
    config = replace(RAYS, feature_pixels="lidar", feature_horizon=1, load_points=True)
    data = opened(drive, config)
    sample = data.sample(3, seed=3)
    lower, upper = torch.tensor(data.grid.origin), torch.tensor(data.grid.upper)
    rays = sample.feature_rays
    left_out = 0
    for step in (-1, 0, 1):
        mine = rays.map(lambda tensor, s=step: tensor[rays.steps == s])
        other = data[3 + step]
        moved = np.linalg.inv(layouts.ego_at(1.5)) @ layouts.ego_at(1.5 + 0.5 * step)
        inside = ((other.points[:, :3] >= lower) & (other.points[:, :3] < upper)).all(dim=1)
        points = transform_points(torch.tensor(moved), other.points[:, :3].double())
        assert distance_to_rays(points[inside], mine).min(dim=0).values.max() < 2e-3
        cameras = [as_camera(*parts) for parts in exact_cameras(data, other.token, other.token)]
        visible = torch.stack([camera.project(other.points[:, :3].double())[2] for camera in cameras]).any(dim=0)
        beyond = distance_to_rays(points[~inside & visible], mine)
        left_out += len(beyond)
        assert (beyond > 5e-3).all()
    assert left_out > 10
    uniform = opened(drive, replace(config, feature_pixels="uniform")).sample(3, seed=3).feature_rays
    assert distance_to_rays(sample.points[:, :3], uniform).min(dim=0).values.median() > 0.05


def distance_to_rays(points, rays):
    """`[p, r]` metres."""
    offset = points[:, None].double() - rays.origins
    along = (offset * rays.directions).sum(-1, keepdim=True).clamp(min=0)
    return (offset - along * rays.directions).norm(dim=-1)


def test_without_lidar_there_are_no_lidar_pixels(tmp_path):
    root = layouts.write_nuscenes(tmp_path, scenes=("scene-0001",), frames=2, val=())
    write_store(open_dataset(root, split="all", config=DataConfig()))
    for path in (root / "samples" / "LIDAR_TOP").iterdir():
        path.unlink()
    data = opened(root, replace(RAYS, feature_pixels="lidar"))
    with pytest.raises(DataError, match=r"0001f0 has no LiDAR.*uniform"):
        data.sample(0, seed=0)
    root = layouts.write_nuscenes(tmp_path / "far", scenes=("scene-0001",), frames=1, val=())
    write_store(open_dataset(root, split="all", config=DataConfig()))
    (path,) = (root / "samples" / "LIDAR_TOP").iterdir()
    np.full((4, 5), 500, "<f4").tofile(path)
    with pytest.raises(DataError, match=r"0001f0: no LiDAR return within the volume.*uniform"):
        opened(root, replace(RAYS, feature_pixels="lidar")).sample(0, seed=0)


def test_colours_are_those_of_the_stored_pixels(drive):
    data = opened(drive, replace(RAYS, feature_colours=True, image_size=(24, 32), feature_horizon=1))
    assert opened(drive).sample(1, seed=0).feature_rays.colours is None
    rays = data.sample(1, seed=0).feature_rays
    whole = open_dataset(drive, split="all", config=DataConfig())
    for step in (-1, 0, 1):
        image = whole[1 + step].images[0]
        mine = rays.map(lambda tensor, s=step: tensor[rays.steps == s])
        checked = 0
        for n, parts in enumerate(exact_cameras(data, data.tokens[1 + step], data.tokens[1])):
            camera = as_camera(*parts)
            here = (mine.origins.double() - camera.ego_from_camera[:3, 3]).norm(dim=1) < 1e-3
            column, row = camera.project((mine.origins + 5 * mine.directions)[here].double())[0].floor().long().T
            assert torch.allclose(mine.colours[here], image[n][:, row, column].T / 255, atol=1e-6)
            checked += int(here.sum())
        assert checked == 100


def test_features_at_points_are_those_of_the_pixels_they_fall_into(drive):
    config = DataConfig(features="features", point_features=True, load_points=True)
    data = opened(drive, config)
    store = FeatureReader(drive / "features", data.camera_names).store
    sample = data[1]
    assert sample.point_features.shape == (len(sample.points), DIM)
    assert sample.feature_rays is None
    total = torch.zeros(len(sample.points), DIM)
    for n, parts in enumerate(exact_cameras(data, sample.token, sample.token)):
        pixels, _, visible = as_camera(*parts).project(sample.points[:, :3].double(), min_depth=1.0)
        total[visible] += store.sample(sample.token, torch.full((int(visible.sum()),), n), pixels[visible])
    seen = total.norm(dim=1) > 0
    assert 0.1 < seen.float().mean() < 0.9
    assert (sample.point_features[~seen] == 0).all()
    assert torch.allclose(sample.point_features[seen], functional.normalize(total[seen], dim=1), atol=1e-4)
    mirrored = flip_volume(sample, y=True)
    assert torch.equal(mirrored.point_features, sample.point_features)
    batch = collate([sample, data[2]])
    assert torch.equal(batch.point_features[1], data[2].point_features)
    assert collate([sample, replace(sample, point_features=None)]).point_features is None


def test_a_point_that_two_cameras_see_has_the_mean_of_both(drive):
    data = opened(drive)
    front = data._views_of(data.tokens[0])[0]
    reader = FeatureReader(drive / "features", data.camera_names)
    reader._index = torch.tensor([0, 1])
    point = torch.tensor([[9.0, 0.5, 1.2], [-9.0, 0.5, 1.2]])
    both = reader.at_points(data.tokens[0], (front, front), point)
    (pixel,) = stack_views([front])[0].project(point[:1].double())[0]
    each = reader.store.sample(data.tokens[0], torch.tensor([0, 1]), pixel.expand(2, 2))
    assert torch.allclose(both[0], functional.normalize(each.sum(0), dim=0), atol=1e-5)
    assert (both[1] == 0).all()


def test_samples_become_batches_with_the_basis_of_the_store(tmp_path):
    root = layouts.write_nuscenes(tmp_path, scenes=("scene-0001",), frames=3, val=())
    store = write_store(open_dataset(root, split="all", config=DataConfig()), basis=True)
    data = opened(root, replace(RAYS, feature_colours=True))
    (batch,) = iterate_batches(data, batch_size=2, start_step=0, steps=1, seed=0, num_workers=0)
    rays = batch.feature_rays
    assert rays.features.shape == (2, 300, DIM)
    assert rays.colours.shape == (2, 300, 3)
    assert rays.steps.shape == (2, 300)
    assert torch.equal(rays.basis, store.basis.expand(2, -1, -1))
    assert batch.to("meta").feature_rays.basis.device.type == "meta"
    (again,) = iterate_batches(data, batch_size=2, start_step=0, steps=1, seed=0, num_workers=2)
    assert torch.equal(again.feature_rays.directions, rays.directions)
    lacking = replace(data[0], feature_rays=None)
    assert collate([data[0], lacking]).feature_rays is None
    plain = replace(data[0], feature_rays=replace(data[0].feature_rays, colours=None, basis=None))
    assert collate([plain]).feature_rays.basis is None


def test_nothing_is_loaded_for_evaluation(drive):
    config = replace(RAYS, features="nowhere", feature_horizon=3, point_features=True, load_points=True)
    sample = open_dataset(drive, split="all", config=config)[0]
    assert sample.feature_rays is None
    assert sample.point_features is None


def test_a_missing_store_frame_or_camera_is_named(tmp_path):
    root = layouts.write_nuscenes(tmp_path, scenes=("scene-0001",), frames=2, val=())
    with pytest.raises(DataError, match=r"features\.json.*no store of features.*occkit features"):
        opened(root)
    write_store(open_dataset(root, split="all", config=DataConfig()), cameras=("CAM_FRONT",), tokens=("0001f0",))
    with pytest.raises(ConfigError, match="no features of CAM_BACK, only of CAM_FRONT"):
        opened(root)
    data = opened(root, replace(RAYS, cameras=("CAM_FRONT",), feature_horizon=1))
    with pytest.raises(DataError, match=r"0001f1\.json.*occkit features"):
        data.sample(0, seed=0)


def test_cameras_may_come_in_another_order_than_in_the_store(drive):
    data = opened(drive, replace(RAYS, cameras=("CAM_BACK",)))
    token, views = data.tokens[0], data._views_of(data.tokens[0])
    reader = FeatureReader(drive / "features", data.camera_names)
    pixels = Pixels(cameras=torch.zeros(1).long(), places=torch.tensor([[20.0, 30.0]]))
    expected = reader.store.sample(token, torch.ones(1).long(), pixels.places)
    assert torch.equal(reader.at_pixels(token, views, pixels), expected)


def test_neighbours_need_poses(tmp_path):
    for name in "ab":
        document = layouts.rig_document()
        document.pop("token")
        document.pop("global_from_ego")
        document["cameras"][0].pop("global_from_ego")
        layouts.write_rig(tmp_path / name, document)
    write_store(open_dataset(tmp_path, split="all", config=DataConfig()))
    with pytest.raises(DataError, match=r"a/rig\.json.*need global_from_ego.*feature_horizon to 0"):
        opened(tmp_path, replace(RAYS, feature_horizon=1))
    assert opened(tmp_path).sample(0, seed=0).feature_rays.steps.tolist() == [0] * 300


def test_neighbours_need_poses_in_kitti(tmp_path):
    root = layouts.write_kitti(tmp_path, sequences=("00",))
    write_store(open_dataset(root, split="all", config=DataConfig()))
    folder = root / "dataset" / "sequences" / "00"
    lines = (folder / "poses.txt").read_text().splitlines()
    (folder / "poses.txt").write_text("\n".join(lines[:8]) + "\n")
    with pytest.raises(DataError, match="expected a pose for scan 000010"):
        opened(root, replace(RAYS, feature_horizon=1)).sample(1, seed=0)
    (folder / "poses.txt").unlink()
    with pytest.raises(DataError, match=r"00/poses\.txt.*set feature_horizon to 0"):
        opened(root, replace(RAYS, feature_horizon=1))
    assert opened(root).sample(1, seed=0).feature_rays is not None


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"feature_rays": -1}, "feature_rays: expected 0 or more"),
        ({"feature_rays": 1, "feature_horizon": -1}, "feature_horizon: expected 0 or more"),
        ({"feature_pixels": "sky"}, "uniform or lidar, got 'sky'"),
        ({"feature_rays": 1}, "feature_rays: needs features"),
        ({"point_features": True, "load_points": True}, "point_features: needs features"),
        ({"features": "f", "point_features": True}, "set load_points"),
        ({"features": "f", "feature_horizon": 1}, "feature_horizon: is about rays"),
        ({"features": "f", "feature_colours": True}, "feature_colours: is about rays"),
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong, message):
    with pytest.raises(ConfigError, match=message):
        DataConfig(**wrong)


def test_chance_of_rays_follows_from_seed_or_name():
    draws = [ray_chance(token, seed).integers(2**60) for token, seed in (("a", 1), ("b", 1), ("a", None), ("b", None))]
    assert draws[0] == draws[1]
    assert len(set(draws)) == 3
    assert ray_chance("a", 1).integers(2**60) != np.random.default_rng(1).integers(2**60)
    assert draws[2] == ray_chance("a", None).integers(2**60)
