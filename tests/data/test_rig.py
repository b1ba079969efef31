"""Own rigs: unlike cameras, lens distortion, exposure motion, LiDAR columns, hostile files."""

import copy
import json

import layouts
import numpy as np
import pytest
import torch

from fuzz import check_reader
from occkit.cli.predict import open_frames
from occkit.data import DataConfig, open_dataset
from occkit.data.rig import Rig
from occkit.errors import DataError
from occkit.geometry import OCC3D_GRID, transform_points
from occkit.training.recipe import load_recipe


def opened(path, config=None, **options):
    return open_dataset(path, split="all", config=config or DataConfig(), **options)


def test_a_rig_is_one_frame_without_labels(tmp_path):
    dataset = opened(layouts.write_rig(tmp_path), DataConfig(load_points=True))
    assert (dataset.name, dataset.tokens, dataset.camera_names) == ("rig", ("one",), ("front", "back"))
    assert dataset.grid == OCC3D_GRID
    sample = dataset[0]
    assert sample.timestamp == 12_500_000
    assert sample.occupancy is None
    assert dataset.label("one") is None
    assert sample.points.shape == (400, 4)
    assert torch.allclose(sample.points[:, 3], torch.tensor(0.2))
    assert np.allclose(dataset.ray_origins("one"), [[0.94, 0, 1.84]])
    assert opened(tmp_path).tokens == ("one",)


def test_images_of_different_sizes_are_brought_to_that_of_the_first(tmp_path):
    sample = opened(layouts.write_rig(tmp_path))[0]
    assert sample.images.shape == (1, 2, 3, *layouts.SIZE)
    expected = torch.tensor([[30.0, 0, 32], [0, 36, 24], [0, 0, 1]])
    assert torch.allclose(sample.cameras.intrinsics[0, 1], expected)
    assert sample.cameras.distortion.shape == (1, 2, 8)
    assert sample.cameras.distortion[0, 1].abs().max() == 0


def test_exposure_motion_is_compensated(tmp_path):
    sample = opened(layouts.write_rig(tmp_path), DataConfig(load_points=True))[0]
    expected = np.linalg.inv(layouts.ego_at(0)) @ layouts.ego_at(-0.04) @ layouts.mountings()["CAM_FRONT"]
    assert np.allclose(sample.cameras.ego_from_camera[0, 0], expected, atol=1e-5)
    assert np.allclose(sample.cameras.ego_from_camera[0, 1], layouts.mountings()["CAM_BACK"], atol=1e-6)
    in_global = transform_points(sample.global_from_ego, sample.points[:, :3].double())
    assert np.allclose(in_global, layouts.world_points(), atol=1e-3)


def test_lidar_columns_may_come_in_any_order_and_without_intensity(tmp_path):
    document = layouts.rig_document()
    document["lidar"]["columns"] = ["t", "z", "y", "x"]
    path = layouts.write_rig(tmp_path, document)
    rows = np.array([[9, 3, 2, 1], [9, np.nan, 0, 0], [9, 6, 5, 4]], dtype="<f4")
    rows.tofile(tmp_path / "sweep.bin")
    points = opened(path, DataConfig(load_points=True))[0].points
    expected = np.array([[1, 2, 3], [4, 5, 6.0]]) @ layouts.mountings()["LIDAR_TOP"][:3, :3].T + (0.94, 0, 1.84)
    assert np.allclose(points[:, :3], expected, atol=1e-5)
    assert points[:, 3].abs().max() == 0


def test_a_folder_of_rigs_is_a_drive(tmp_path):
    for k in range(3):
        document = layouts.rig_document()
        del document["token"], document["cameras"][0]["global_from_ego"]
        document["global_from_ego"] = layouts.ego_at(0.5 * k).tolist()
        layouts.write_rig(tmp_path / f"f{k}", document)
    dataset = opened(tmp_path, DataConfig(num_past=1, load_depth=False))
    assert dataset.tokens == ("f0", "f1", "f2")
    sample = dataset[2]
    expected = np.linalg.inv(layouts.ego_at(1.0)) @ layouts.ego_at(0.5) @ layouts.mountings()["CAM_FRONT"]
    assert np.allclose(sample.cameras.ego_from_camera[1, 0], expected, atol=1e-5)


def write_fleet(folder, counts=(2, 3)):
    for drive, count in enumerate(counts):
        for k in range(count):
            document = layouts.rig_document()
            del document["token"], document["cameras"][0]["global_from_ego"]
            document["global_from_ego"] = layouts.ego_at(10.0 * drive + 0.5 * k).tolist()
            layouts.write_rig(folder / f"drive{drive}" / f"{k}", document)
        grid = {"origin": [-8, -8, -1], "voxel_size": [0.4, 0.4, 0.4], "shape": [40, 40, 8]}
        (folder / f"drive{drive}" / "grid.json").write_text(json.dumps(grid))


def test_a_folder_of_drives_is_a_data_set_whose_scenes_are_drives(tmp_path):
    write_fleet(tmp_path)
    config = DataConfig(num_past=1, source_steps=(-1,), load_depth=False)
    dataset = opened(tmp_path, config, training=True)
    # Nothing reaches from one drive into another: the first frame of each has no source.
    assert dataset.tokens == ("drive0_1", "drive1_1", "drive1_2")
    assert [dataset.scene(token) for token in dataset.tokens] == ["drive0", "drive1", "drive1"]
    assert dataset.grid.shape == (40, 40, 8)
    whole = opened(tmp_path, DataConfig(num_past=1, load_depth=False))
    assert len(whole) == 5
    first_of_second = whole[2]
    assert first_of_second.token == "drive1_0"
    now, past = first_of_second.cameras.ego_from_camera
    assert torch.allclose(now, past), "the oldest frame of a drive stands in for those before it"
    assert opened(tmp_path / "drive1").tokens == ("0", "1", "2")
    for drive in (0, 1):
        (tmp_path / f"drive{drive}" / "grid.json").unlink()
    assert opened(tmp_path).grid == OCC3D_GRID


def test_a_network_predicts_on_the_grid_that_drives_state_and_else_on_its_own(tmp_path):
    write_fleet(tmp_path)
    recipe = load_recipe("easyocc.nano")
    assert open_frames(tmp_path, "all", recipe).grid.shape == (40, 40, 8)
    for drive in (0, 1):
        (tmp_path / f"drive{drive}" / "grid.json").unlink()
    assert open_frames(tmp_path, "all", recipe).grid == recipe.system.grid != OCC3D_GRID


def test_drives_on_different_grids_are_refused(tmp_path):
    write_fleet(tmp_path)
    (tmp_path / "drive1" / "grid.json").unlink()
    with pytest.raises(DataError, match=r"drive1.grid\.json: is another grid than that of drive0"):
        opened(tmp_path)


def test_without_a_lidar(tmp_path):
    document = layouts.rig_document()
    del document["lidar"]
    dataset = opened(layouts.write_rig(tmp_path, document))
    assert dataset[0].depth is None
    assert dataset.ray_origins("one").shape == (1, 3)


def changed(path, value):
    document = copy.deepcopy(layouts.rig_document())
    target = document
    for key in path[:-1]:
        target = target[key]
    if value is KeyError:
        del target[path[-1]]
    else:
        target[path[-1]] = value
    return document


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("cameras",), [], "1 to 64 cameras"),
        (("cameras",), KeyError, "cameras"),
        (("cameras", 0), 3, "name"),
        (("cameras", 0, "name"), "../x", "plain name"),
        (("cameras", 1, "name"), "front", "listed twice"),
        (("cameras", 0, "image"), "../x.png", "below the data folder"),
        (("cameras", 0, "image"), "a\0b.png", "below the data folder"),
        (("cameras", 0, "width"), -1, "positive size"),
        (("cameras", 0, "width"), True, "width"),
        (("cameras", 0, "intrinsics"), [[1, 0, 0], [0, 1, 0]], "front intrinsics: expected numbers of shape"),
        (("cameras", 0, "intrinsics"), [[0, 0, 5], [0, 1, 5], [0, 0, 1]], "fx s cx"),
        (("cameras", 0, "intrinsics"), "identity", "front intrinsics"),
        (("cameras", 0, "ego_from_camera"), np.diag([2.0, 2, 2, 1]).tolist(), "expected a rotation"),
        (("cameras", 0, "ego_from_camera"), np.diag([-1.0, 1, 1, 1]).tolist(), "expected a rotation"),
        (("cameras", 0, "ego_from_camera"), np.eye(4)[:3].tolist(), "shape"),
        (("cameras", 0, "ego_from_camera"), [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [1, 2, 3, 1]], "last row"),
        (("cameras", 0, "distortion"), [1, 2], "4, 5 or 8"),
        (("cameras", 0, "distortion"), {"k1": 1}, "distortion"),
        (("global_from_ego",), KeyError, "states global_from_ego"),
        (("timestamp",), "noon", "timestamp"),
        (("timestamp",), -1, "timestamp"),
        (("token",), "..", "plain name"),
        (("lidar",), 4, "points"),
        (("lidar", "columns"), ["x", "y"], "x, y and z"),
        (("lidar", "dtype"), "float64", "float32"),
        (("lidar", "ego_from_lidar"), KeyError, "ego_from_lidar"),
    ],
)
def test_faults_are_named(tmp_path, path, value, message):
    with pytest.raises(DataError, match=message) as caught:
        Rig(layouts.write_rig(tmp_path, changed(path, value)))
    assert "rig.json" in str(caught.value)


@pytest.mark.parametrize("text", ["NaN", "1e999", "Infinity", "[" * 100_000, '{"cameras": ' * 50_000])
def test_hostile_numbers_and_nesting(tmp_path, text):
    path = layouts.write_rig(tmp_path)
    path.write_text(json.dumps(layouts.rig_document()).replace("1.7", text))
    with pytest.raises(DataError):
        Rig(path)


def test_missing_files_are_named(tmp_path):
    path = layouts.write_rig(tmp_path)
    (tmp_path / "sweep.bin").unlink()
    with pytest.raises(DataError, match="sweep"):
        opened(path)[0]
    (tmp_path / "images/back.png").unlink()
    with pytest.raises(DataError, match="none of 1 frames has image"):
        opened(path)


def test_fuzzed_rigs_end_in_a_data_error(tmp_path):
    path = layouts.write_rig(tmp_path)
    check_reader(Rig, path.read_bytes(), path, max_examples=100)
