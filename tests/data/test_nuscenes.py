"""nuScenes layout: splits, partial downloads, motion compensation, labels, origins, hostile tables."""

import json

import layouts
import numpy as np
import pytest
import torch

from fuzz import check_reader
from occkit.data import DataConfig, open_dataset
from occkit.data.nuscenes_tables import read_tables
from occkit.data.views import read_captions
from occkit.errors import ConfigError, DataError
from occkit.geometry import transform_points
from occkit.samples import collate

PLAIN = DataConfig()


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return layouts.write_nuscenes(tmp_path_factory.mktemp("nuscenes"))


def opened(root, split="train", config=PLAIN, **options):
    return open_dataset(root, split=split, config=config, **options)


def test_a_sample_has_everything(root):
    dataset = opened(root, config=DataConfig(load_points=True))
    assert (dataset.name, len(dataset), dataset.tokens) == ("nuscenes", 3, ("0001f0", "0001f1", "0001f2"))
    assert dataset.camera_names == ("CAM_FRONT", "CAM_BACK")
    assert dataset.grid.shape == layouts.SHAPE
    assert dataset.grid.voxel_size == (4.0, 4.0, 1.6)
    sample = dataset[1]
    assert (sample.token, sample.scene, sample.timestamp) == ("0001f1", "scene-0001", 1_600_000_000_500_000)
    assert sample.images.shape == (1, 2, 3, *layouts.SIZE)
    assert sample.points.shape == (400, 4)
    assert torch.allclose(sample.points[:, 3], torch.tensor(51 / 255))
    assert sample.occupancy.mask_camera.all()
    assert np.allclose(sample.global_from_ego, layouts.ego_at(0.5))
    assert dataset.report == ()


def test_splits_follow_annotations(root):
    assert opened(root, "val").tokens == ("0002f0", "0002f1", "0002f2")
    assert len(opened(root, "all")) == 6
    with pytest.raises(DataError, match="none of its 2 scenes"):
        opened(root, "test")


def test_mini_has_its_official_split_without_annotations(tmp_path):
    scenes = ("scene-0061", "scene-0103", "scene-0916")
    layouts.write_nuscenes(tmp_path, version="v1.0-mini", scenes=scenes, frames=1, val=None)
    assert opened(tmp_path, "train").tokens == ("0061f0",)
    assert opened(tmp_path, "val").tokens == ("0103f0", "0916f0")


def test_without_annotations_only_all_is_known(tmp_path):
    layouts.write_nuscenes(tmp_path, frames=1, val=None)
    with pytest.raises(DataError, match=r"annotations\.json"):
        opened(tmp_path)
    assert len(opened(tmp_path, "all")) == 2


def test_test_version_is_the_test_split(tmp_path):
    layouts.write_nuscenes(tmp_path, version="v1.0-test", frames=1, val=None, labels=False)
    dataset = opened(tmp_path, "test")
    assert len(dataset) == 2
    assert dataset[0].occupancy is None


@pytest.mark.parametrize("frame", [0, 1, 2])
def test_static_points_project_alike_at_every_exposure(root, frame):
    """What each camera saw at its own exposure, through its own ego pose, is what `Sample.cameras` says."""
    sample = opened(root, config=DataConfig(num_past=1))[frame]
    points = layouts.world_points()
    in_reference = transform_points(torch.linalg.inv(sample.global_from_ego), torch.from_numpy(points)).float()
    for t, n in np.ndindex(2, 2):
        seconds = 0.5 * max(0, frame - t) + layouts.EXPOSURE[layouts.CAMERAS[n]]
        camera_from_global = np.linalg.inv(layouts.ego_at(seconds) @ layouts.mountings()[layouts.CAMERAS[n]])
        local = points @ camera_from_global[:3, :3].T + camera_from_global[:3, 3]
        front = local[:, 2] > 1
        expected = (local / local[:, 2:]) @ layouts.INTRINSICS.T
        pixels, depth, _ = sample.cameras[t, n].project(in_reference)
        assert front.sum() > 50
        assert np.abs(pixels.numpy()[front] - expected[front, :2]).max() < 0.02
        assert np.allclose(depth.numpy()[front], local[front, 2], atol=1e-3)


def test_depth_is_that_of_the_nearest_point_in_each_pixel(root):
    sample = opened(root, config=DataConfig(load_points=True))[1]
    pixels, depth, visible = sample.cameras[0, 0].project(sample.points[:, :3])
    expected = torch.zeros(layouts.SIZE)
    for (u, v), z, seen in zip(pixels.tolist(), depth.tolist(), visible.tolist(), strict=True):
        if seen and z > 1 and (expected[int(v), int(u)] == 0 or z < expected[int(v), int(u)]):
            expected[int(v), int(u)] = z
    assert (expected > 0).sum() > 20
    assert torch.allclose(sample.depth[0], expected, atol=1e-4)


def test_lidar_points_are_in_the_reference_frame(root):
    sample = opened(root, config=DataConfig(load_points=True))[2]
    in_global = transform_points(sample.global_from_ego, sample.points[:, :3].double())
    assert np.allclose(in_global, layouts.world_points(), atol=1e-3)


def test_the_first_frame_repeats_itself_as_its_past(root):
    sample = opened(root, config=DataConfig(num_past=2))[1]
    assert sample.images.shape[:2] == (3, 2)
    assert torch.equal(sample.images[1], sample.images[2])
    assert not torch.equal(sample.images[0], sample.images[1])
    assert torch.equal(sample.cameras.ego_from_camera[1], sample.cameras.ego_from_camera[2])


def test_cameras_are_chosen_by_name_and_order(root):
    dataset = opened(root, config=DataConfig(cameras=("CAM_BACK",)))
    assert dataset[0].camera_names == ("CAM_BACK",)
    assert dataset[0].images.shape[1] == 1
    with pytest.raises(ConfigError, match="CAM_FRONT, CAM_BACK"):
        opened(root, config=DataConfig(cameras=("CAM_SIDE",)))


def test_origins_are_the_lidar_positions_of_the_scene(root):
    dataset = opened(root)
    origins = dataset.ray_origins("0001f0")
    expected = [layouts.ego_at(0.5 * k) @ layouts.mountings()["LIDAR_TOP"] for k in range(3)]
    expected = [np.linalg.inv(layouts.ego_at(0)) @ m for m in expected]
    assert np.allclose(origins, [m[:3, 3] for m in expected], atol=1e-6)
    assert np.allclose(origins[0], (0.94, 0, 1.84))


def test_origins_are_thinned_to_eight_inside_the_box(tmp_path):
    layouts.write_nuscenes(tmp_path, scenes=("scene-0001",), frames=14, val=(), labels=False)
    origins = opened(tmp_path, "train").ray_origins("0001f0")
    inside = []
    for k in range(14):
        position = (np.linalg.inv(layouts.ego_at(0)) @ layouts.ego_at(0.5 * k) @ (0.94, 0, 1.84, 1))[:3]
        if abs(position[0]) < 39 and abs(position[1]) < 39:
            inside.append(position)
    # 8 of 8 here; the rounding of more is checked on its own below.
    assert len(origins) == min(8, len(inside))
    assert np.allclose(origins[0], inside[0], atol=1e-6)


def test_thinning_rounds_halves_to_even():
    from occkit.data.views import origins_along

    positions = np.column_stack([np.linspace(0, 30, 11), np.zeros(11), np.zeros(11)])
    kept = origins_along(positions, np.eye(4), (-40, -40, -1), (40, 40, 5.4))
    assert np.allclose(kept, positions[[0, 1, 3, 4, 6, 7, 9, 10]])
    edge = np.array([[39.0, 0, 0], [38.999, 0, 0], [0, -39.0, 9]])
    assert len(origins_along(edge, np.eye(4), (-40, -40, -1), (40, 40, 5.4))) == 1


def test_frames_without_images_are_left_out_and_counted(tmp_path):
    layouts.write_nuscenes(tmp_path)
    (tmp_path / "samples/CAM_BACK/0001f1-CAM_BACK.png").unlink()
    with pytest.warns(UserWarning, match="1 of 3 frames left out: no image of every camera, first 0001f1"):
        dataset = opened(tmp_path, config=DataConfig(num_past=1))
    assert dataset.tokens == ("0001f0", "0001f2")
    assert len(dataset.report) == 1
    # The past frame of the last one is not there: the last one is repeated.
    assert torch.equal(dataset[1].images[0], dataset[1].images[1])
    for path in (tmp_path / "samples/CAM_FRONT").iterdir():
        path.unlink()
    with pytest.raises(DataError, match="none of 3 frames has image of every camera"):
        opened(tmp_path)


@pytest.mark.filterwarnings("ignore:.*no label:UserWarning")
@pytest.mark.filterwarnings("ignore:.*have no label:UserWarning")
def test_frames_without_labels(tmp_path):
    layouts.write_nuscenes(tmp_path)
    (tmp_path / "gts/scene-0001/0001f0/labels.npz").unlink()
    assert opened(tmp_path, training=True).tokens == ("0001f1", "0001f2")
    shown = opened(tmp_path)
    assert len(shown) == 3
    assert shown[0].occupancy is None
    assert collate([shown[0], shown[1]]).occupancy is None
    for k in (1, 2):
        (tmp_path / f"gts/scene-0001/0001f{k}/labels.npz").unlink()
    assert len(opened(tmp_path, training=True)) == 3


def test_without_a_lidar_there_is_no_depth(tmp_path):
    layouts.write_nuscenes(tmp_path)
    for path in (tmp_path / "samples/LIDAR_TOP").iterdir():
        path.unlink()
    sample = opened(tmp_path, config=DataConfig(load_points=True), training=True)[0]
    assert sample.points is None
    assert sample.depth is None


def test_grid_json_states_the_grid(tmp_path):
    layouts.write_nuscenes(tmp_path, frames=1)
    grid = {"origin": [-10, -10, -1], "voxel_size": [1, 1, 0.5], "shape": list(layouts.SHAPE)}
    layouts.save(tmp_path / "grid.json", grid)
    assert opened(tmp_path).grid.upper == (10, 10, 1)
    for wrong in ({"shape": [20, 20, 8]}, {"shape": [1e6, 1e6, 1e6]}, {"voxel_size": [0, 1, 1]}, {"origin": [0, 0]}):
        layouts.save(tmp_path / "grid.json", grid | wrong)
        with pytest.raises(DataError):
            opened(tmp_path)[0]


def test_captions(tmp_path):
    layouts.write_nuscenes(tmp_path, frames=1)
    layouts.save(tmp_path / "captions.json", {"0001f0": "a quiet street"})
    assert opened(tmp_path)[0].caption == "a quiet street"


def edit(root, table, change, version="v1.0-trainval"):
    path = root / version / f"{table}.json"
    records = json.loads(path.read_text())
    change(records)
    path.write_text(json.dumps(records))


def first(**values):
    return lambda records: records[0].update(values)


@pytest.mark.parametrize(
    ("table", "change", "message"),
    [
        ("ego_pose", lambda r: [x.update(rotation=[0, 0, 0, 0]) for x in r], "unit quaternion"),
        ("ego_pose", lambda r: [x.update(translation=[0, 0, 1e300]) for x in r], "finite"),
        ("ego_pose", lambda r: [x.update(rotation="identity") for x in r], "rotation"),
        ("ego_pose", list.clear, "lacks 9 poses|lacks 18 poses"),
        ("calibrated_sensor", lambda r: [x.update(camera_intrinsic=[[1, 0], [0, 1]]) for x in r], "shape"),
        ("calibrated_sensor", lambda r: [x.update(camera_intrinsic=(-layouts.INTRINSICS).tolist()) for x in r], "fx"),
        ("sample", first(token="../../escape"), "plain name"),
        ("sample", first(scene_token="nowhere"), "scene"),
        ("sample", first(timestamp="noon"), "timestamp"),
        ("sample", list.clear, "empty table"),
        ("sample_data", lambda r: [x.update(filename="../../secret.png") for x in r], "below the data folder"),
        ("sample_data", lambda r: [x.update(filename="/etc/passwd") for x in r], "below the data folder"),
        ("sample_data", lambda r: [x.update(width=0, height=-3) for x in r], "size of an image"),
        ("sample_data", lambda r: [x.update(sample_token="x") for x in r], "sample"),
        ("sample_data", list.clear, "no key frame"),
        ("scene", first(name="a/b"), "plain name"),
        ("sensor", lambda r: r.append([]), "record"),
        ("sensor", lambda r: r.append({"token": 3}), "channel"),
    ],
)
def test_damaged_tables_are_named(tmp_path, table, change, message):
    layouts.write_nuscenes(tmp_path)
    edit(tmp_path, table, change)
    with pytest.raises(DataError, match=message) as caught:
        opened(tmp_path)
    if table != "sample_data" or "key" not in message:
        assert f"{table}.json" in str(caught.value)


def test_a_missing_table_is_named(tmp_path):
    layouts.write_nuscenes(tmp_path, frames=1)
    (tmp_path / "v1.0-trainval/ego_pose.json").unlink()
    with pytest.raises(DataError, match=r"ego_pose\.json: no such file"):
        opened(tmp_path)


def test_an_image_of_another_size_is_refused(tmp_path):
    layouts.write_nuscenes(tmp_path, frames=1)
    layouts.picture(tmp_path / "samples/CAM_FRONT/0001f0-CAM_FRONT.png", (24, 32))
    with pytest.raises(DataError, match="expected 64 x 48 pixels as its calibration says, got 32 x 24"):
        opened(tmp_path)[0]


def test_a_sweep_cut_off_is_refused(tmp_path):
    layouts.write_nuscenes(tmp_path, frames=1)
    path = tmp_path / "samples/LIDAR_TOP/0001f0-LIDAR_TOP.pcd.bin"
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(DataError, match="multiple of 20 bytes"):
        opened(tmp_path)[0]


@pytest.mark.parametrize("table", ["sample_data", "ego_pose", "sensor", "calibrated_sensor", "sample", "scene"])
def test_fuzzed_tables_end_in_a_data_error(tmp_path, table):
    layouts.write_nuscenes(tmp_path, scenes=("scene-0001",), frames=1, labels=False)
    path = tmp_path / f"v1.0-trainval/{table}.json"

    def read(_):
        try:
            read_tables(tmp_path / "v1.0-trainval")
        except DataError as error:
            # The fault may show in the table that points to the damaged one.
            raise DataError(path, str(error)) from error

    check_reader(read, path.read_bytes(), path, max_examples=25)


def test_fuzzed_captions(tmp_path):
    path = tmp_path / "captions.json"
    check_reader(lambda path: read_captions(path.parent), b'{"a": "b"}', path, max_examples=30)


def test_a_folder_that_is_no_data_set(tmp_path):
    with pytest.raises(DataError, match="rig"):
        opened(tmp_path)
    with pytest.raises(DataError, match="no such"):
        opened(tmp_path / "nothing")
