"""NYUv2 in SSCNet's layout: bytes, axes, pooling, depth maps, and the data set made of them."""

import struct
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fuzz import check_reader
from occkit.data import DataConfig, open_dataset
from occkit.data.doctor import examine
from occkit.data.nyuv2 import (
    NYUV2_GRID,
    RAW_SHAPE,
    NyuVolume,
    decode_runs,
    ego_from_world,
    encode_runs,
    intrinsics_of_size,
    points_of_depth,
    pool_ids,
    read_depth,
    read_semantics,
    read_volume,
    volume_from_sample,
    volume_to_sample,
    write_depth,
    write_volume,
)
from occkit.errors import ConfigError, DataError
from occkit.files import read_grey16, write_bytes
from occkit.taxonomy import NYUV2, NYUV2_CLASS_MAP, NYUV2_INVERSE_MAP, NYUV2_RAW_CLASSES, nyuv2_lookup
from occkit.training.label_sources import LabelsFolder
from occkit.world import ROOM_PRESETS, generate

TOTAL = 240 * 144 * 240
POSE = np.array([[1.0, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 1.2], [0, 0, 0, 1]])
"""A level camera, 1.2 m above the origin, that looks along the world's y."""
ORIGIN = np.array([-2.4, 1.0, -0.05])


def file_of(*runs, origin=ORIGIN, pose=POSE):
    head = struct.pack("<19f", *origin, *pose.ravel())
    return head + b"".join(struct.pack("<2I", *run) for run in runs)


@pytest.fixture(scope="module")
def rooms(tmp_path_factory):
    root = tmp_path_factory.mktemp("rooms")
    generate(replace(ROOM_PRESETS["room-nano"], height=30, supersample=1), root, format="nyuv2", num_scenes=3, seed=2)
    return root


def test_a_file_written_by_hand_is_read(tmp_path):
    path = tmp_path / "NYU0001_0000.bin"
    path.write_bytes(file_of((255, 1000), (9, 2), (0, TOTAL - 1002)))
    volume = read_volume(path)
    assert volume.ids.shape == RAW_SHAPE
    assert volume.ids.ravel()[[999, 1000, 1001, 1002]].tolist() == [255, 9, 9, 0]
    assert np.allclose(volume.origin, ORIGIN)
    assert np.allclose(volume.world_from_camera, POSE)
    assert read_volume(path, ids=False).ids is None


def test_the_stored_axes_are_x_z_y_of_the_world():
    """A voxel of the file and the point of the world in its middle meet in the frame of the sample."""
    stored = np.zeros((60, 36, 60), np.uint8)
    stored[7, 3, 20] = 5
    turned = volume_to_sample(stored)
    point = ORIGIN + (np.array([7, 20, 3]) + 0.5) * 0.08
    local = ego_from_world(ORIGIN)[:3, :3] @ point + ego_from_world(ORIGIN)[:3, 3]
    index, inside = NYUV2_GRID.index_of(torch.from_numpy(local))
    assert inside
    assert turned[tuple(index.tolist())] == 5
    assert index.tolist() == [20, 52, 3]  # forward 20, left of the middle, low
    assert np.array_equal(volume_from_sample(turned), stored)


def test_a_level_camera_looks_along_x_of_the_sample():
    pose = ego_from_world(ORIGIN) @ POSE
    assert np.allclose(pose[:3, 2], (1, 0, 0))
    assert np.allclose(pose[:3, 0], (0, -1, 0))  # its right is the sample's -y
    assert np.allclose(pose[:3, 3], (-1.0, 0.0, 1.2))


@pytest.mark.parametrize(
    ("runs", "expected"),
    [
        ({0: 61, 1: 3}, 0),  # 61 of 64 are more than 95 %
        ({0: 60, 1: 4}, 1),
        ({255: 61, 1: 3}, 255),
        ({0: 32, 255: 32}, 255),
        ({0: 33, 255: 31}, 0),
        ({0: 40, 3: 10, 2: 14}, 2),
        ({0: 44, 3: 10, 2: 10}, 2),  # of equally frequent ones the lowest
        ({17: 20, 9: 20, 6: 24}, 8),  # desk and table are one class
        ({16: 64}, 9),
    ],
)
def test_pooling(runs, expected):
    ids = np.repeat(np.array(list(runs), np.uint8), list(runs.values())).reshape(4, 4, 4)
    assert pool_ids(ids).tolist() == [[[expected]]]


def test_the_class_map():
    assert len(NYUV2_RAW_CLASSES) == len(NYUV2_CLASS_MAP) == 37
    table = nyuv2_lookup()
    names = {"night_stand": "furniture", "desk": "table", "computer": "tvs", "door": "objects", "chair": "chair"}
    for raw, name in names.items():
        assert NYUV2.classes[table[NYUV2_RAW_CLASSES.index(raw)]] == name
    assert [int(table[i]) for i in NYUV2_INVERSE_MAP] == list(range(12))
    assert (table[37:] == 255).all()


def test_depth_is_stored_in_turned_bits(tmp_path):
    depth = np.array([[0.0, 1.234], [8.191, 100.0]], np.float32)
    write_depth(tmp_path / "d.png", depth)
    stored = read_grey16(tmp_path / "d.png").astype(int)
    assert stored[0, 1] == 1234 * 8
    assert np.array_equal(read_depth(tmp_path / "d.png"), np.float32([[0.0, 1.234], [8.191, 8.191]]))
    # SSCNet's reader: bits turned right by three, millimetres.
    assert np.allclose(((stored >> 3) | (stored << 13 & 0xFFFF)) / 1000, [[0.0, 1.234], [8.191, 8.191]])


def test_points_of_a_depth_map():
    depth = np.zeros((480, 640), np.float32)
    depth[239, 319] = 2.0
    (point,) = points_of_depth(depth, np.eye(4))
    assert np.allclose(point, (-0.5 * 2 / 518.8579, -0.5 * 2 / 518.8579, 2.0, 0.0), atol=1e-6)
    assert np.allclose(intrinsics_of_size((60, 80))[:2], [[518.8579 / 8, 0, 40], [0, 518.8579 / 8, 30]])


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([0, 1, 2, 13, 36, 255]), st.integers(1, 400_000)), min_size=1, max_size=18))
def test_runs_survive_the_round_trip(tmp_path_factory, runs):
    rest = TOTAL - sum(length for _, length in runs)
    pairs = np.array([*runs, (7, rest)], dtype="<u4")
    ids = decode_runs(pairs, tmp_path_factory.getbasetemp())
    again = encode_runs(ids.ravel()).reshape(-1, 2)
    assert (again[1:, 0] != again[:-1, 0]).all()  # no two runs of one id in a row
    assert np.array_equal(decode_runs(again, tmp_path_factory.getbasetemp()), ids)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (file_of((0, TOTAL))[:40], "cut off"),
        (file_of((0, TOTAL))[:-3], "cut off"),
        (file_of((0, TOTAL - 5)), "cut off"),
        (file_of((0, TOTAL), (0, 1)), "no volume of NYUv2"),
        (file_of((0, 2**32 - 1), (0, 2**32 - 1)), "no volume of NYUv2"),
        (file_of((0, TOTAL - 9), (37, 9)), "37"),
        (file_of((0, TOTAL), pose=POSE.T), "transposed"),
        (file_of((0, TOTAL), pose=2 * POSE - np.diag([0, 0, 0, 1])), "rotation"),
        (file_of((0, TOTAL), origin=(np.nan, 0, 0)), "finite"),
    ],
)
def test_damage_is_named(tmp_path, data, problem):
    path = tmp_path / "NYU0001_0000.bin"
    path.write_bytes(data)
    with pytest.raises(DataError, match=problem):
        read_volume(path)


def test_whatever_a_file_holds_the_readers_answer(tmp_path, rooms):
    sound = file_of((255, 500), (3, TOTAL - 500))
    check_reader(read_volume, sound, tmp_path / "a.bin", max_examples=20)
    png = next((rooms / "NYUtrain").glob("*_0000.png")).read_bytes()
    check_reader(read_depth, png, tmp_path / "a.png", max_examples=20)


def test_the_writer_refuses_what_it_cannot_say(tmp_path):
    volume = NyuVolume(origin=ORIGIN, world_from_camera=POSE, ids=np.zeros((60, 36, 60), np.uint8))
    with pytest.raises(ValueError, match="240"):
        write_volume(tmp_path / "a.bin", volume)
    ids = np.full(RAW_SHAPE, 40, np.uint8)
    with pytest.raises(ValueError, match="40"):
        write_volume(tmp_path / "a.bin", replace(volume, ids=ids))


def test_the_data_set(rooms):
    sets = {split: open_dataset(rooms, split=split, config=DataConfig()) for split in ("train", "val", "test", "all")}
    assert {split: len(found) for split, found in sets.items()} == {"train": 2, "val": 1, "test": 1, "all": 3}
    dataset = sets["train"]
    assert (dataset.name, dataset.grid, dataset.taxonomy) == ("nyuv2", NYUV2_GRID, NYUV2)
    sample = dataset[0]
    assert sample.images.shape == (1, 1, 3, 30, 40)
    assert sample.occupancy.semantics.shape == (60, 60, 36)
    assert sample.occupancy.mask_camera is None
    assert sample.caption.startswith(("a ", "an "))
    assert dataset.scene(sample.token) == "NYU0001"
    assert np.allclose(dataset.ray_origins(sample.token)[0], sample.cameras.ego_from_camera[0, 0, :3, 3], atol=1e-5)


def test_depth_maps_agree_with_labels_and_images(rooms):
    for sample in open_dataset(rooms, split="all", config=DataConfig(load_points=True)):
        index, inside = sample.grid.index_of(sample.points[:, :3])
        assert sample.occupancy.occupied[tuple(index[inside].T)].float().mean() > 0.97
        # Every pixel's own point projects back into it.
        assert (sample.depth > 0).float().mean() > 0.97


def test_what_the_layout_does_not_have_is_refused(rooms, tmp_path):
    with pytest.raises(ConfigError, match="num_past to 0"):
        open_dataset(rooms, split="train", config=DataConfig(num_past=1))
    (tmp_path / "NYUtrain").mkdir()
    with pytest.raises(DataError, match="no frame"):
        open_dataset(tmp_path, split="train", config=DataConfig())
    write_bytes(tmp_path / "NYUtrain" / "NYU0001_0000.bin", file_of((0, TOTAL)))
    Image.new("RGB", (600, 480)).save(tmp_path / "NYUtrain" / "NYU0001_0000_color.jpg")
    with pytest.raises(DataError, match="4 : 3"):
        open_dataset(tmp_path, split="train", config=DataConfig())


def test_a_frame_without_its_image_is_left_out(rooms, tmp_path):
    for path in (rooms / "NYUtrain").glob("*"):
        if path.name != "NYU0001_0000_color.jpg":
            write_bytes(tmp_path / "depthbin" / "NYUtrain" / path.name, path.read_bytes())
    with pytest.warns(UserWarning, match="1 of 2 frames left out: no colour image"):
        assert open_dataset(tmp_path, split="train", config=DataConfig()).tokens == ("NYU0002_0000",)


def test_a_tree_of_volumes_is_a_labels_folder(rooms):
    labels = LabelsFolder(rooms / "NYUtest")
    assert labels.tokens == ("NYU0003_0000",)
    assert torch.equal(labels.label("NYU0003_0000").semantics, read_semantics(rooms / "NYUtest" / "NYU0003_0000.bin"))


# ---- the doctor ------------------------------------------------------------------------------------------------------


def copy_of(rooms, root):
    for path in rooms.glob("NYU*/*"):
        write_bytes(root / path.relative_to(rooms), path.read_bytes())
    return root


def problems(root, level="error"):
    return [f"{f.path}: {f.problem}" for f in examine(root).findings if f.level == level]


def test_sound_rooms_are_healthy(rooms):
    report = examine(rooms)
    assert report.kind == "NYUv2 scene completion"
    assert [f for f in report.findings if f.level != "info"] == []
    assert report.checked["frames compared with depth map"] == 3


def test_the_doctor_names_missing_and_damaged_files(rooms, tmp_path):
    root = copy_of(rooms, tmp_path)
    (root / "NYUtrain" / "NYU0001_0000_color.jpg").unlink()
    cut = root / "NYUtrain" / "NYU0002_0000.bin"
    cut.write_bytes(cut.read_bytes()[:-8])
    found = problems(root)
    assert any("NYU0001_0000" in p and "no colour image" in p for p in found)
    assert any("NYU0002_0000" in p and "cut off" in p for p in found)
    (root / "NYUtest" / "NYU0001_0000.bin").write_bytes((root / "NYUtrain" / "NYU0001_0000.bin").read_bytes())
    assert any("same frame" in p for p in problems(root))
    (root / "NYUtest" / "NYU0003_0000.png").unlink()
    assert any("no depth map" in p for p in problems(root, "warning"))


def test_the_doctor_sees_turned_labels(rooms, tmp_path):
    root = copy_of(rooms, tmp_path)
    for path in root.glob("NYU*/*.bin"):
        volume = read_volume(path)
        write_volume(path, replace(volume, ids=np.ascontiguousarray(volume.ids.transpose(2, 1, 0))))
    assert any("do not lie where the depth map saw things" in p for p in problems(root))
