"""Occ3D labels: byte layout, what is refused, splits."""

import io
import zipfile

import numpy as np
import pytest

from fuzz import check_reader
from occkit.data.occ3d import read_labels, read_splits, write_labels
from occkit.errors import DataError
from occkit.files import write_json, write_npz
from occkit.geometry import OCC3D_GRID, VoxelGrid


def volume(shape=(10, 10, 4), seed=0):
    return np.random.default_rng(seed).integers(0, 18, shape).astype(np.uint8)


def test_layout_is_that_of_the_published_files(tmp_path):
    semantics = volume()
    write_labels(tmp_path / "labels.npz", semantics=semantics, mask_lidar=semantics < 9, mask_camera=semantics < 5)
    with zipfile.ZipFile(tmp_path / "labels.npz") as archive:
        assert archive.namelist() == ["semantics.npy", "mask_lidar.npy", "mask_camera.npy"]
        for member in archive.infolist():
            assert member.compress_type == zipfile.ZIP_DEFLATED
            stream = io.BytesIO(archive.read(member))
            assert np.lib.format.read_magic(stream) == (1, 0)
            assert np.lib.format.read_array_header_1_0(stream) == ((10, 10, 4), False, np.dtype("u1"))
    with np.load(tmp_path / "labels.npz") as loaded:
        assert np.array_equal(loaded["semantics"], semantics)
        assert np.array_equal(loaded["mask_camera"], (semantics < 5).astype(np.uint8))


def test_round_trip(tmp_path):
    semantics = volume((200, 200, 16))
    write_labels(tmp_path / "labels.npz", semantics=semantics, mask_lidar=semantics < 9, mask_camera=semantics < 5)
    label = read_labels(tmp_path / "labels.npz")
    assert label.grid == OCC3D_GRID
    assert np.array_equal(label.semantics, semantics)
    assert np.array_equal(label.mask_lidar, semantics < 9)
    assert np.array_equal(label.mask_camera, semantics < 5)


def test_the_grid_follows_from_the_shape_unless_given(tmp_path):
    write_npz(tmp_path / "a.npz", semantics=volume((100, 100, 8)))
    label = read_labels(tmp_path / "a.npz")
    assert label.grid.voxel_size == (0.8, 0.8, 0.8)
    assert label.mask_camera is None
    grid = VoxelGrid.from_range((0, 0, 0), (10, 10, 4), 1)
    with pytest.raises(DataError, match=r"expected shape \(10, 10, 4\), got \(100, 100, 8\)"):
        read_labels(tmp_path / "a.npz", grid=grid)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"mask_camera": volume()}, "expected an array named semantics"),
        ({"semantics": volume((10, 10))}, "shape"),
        ({"semantics": volume((0, 10, 4))}, "expected a volume"),
        ({"semantics": volume().astype(np.float32)}, "kind"),
        ({"semantics": volume().astype(np.uint16)}, "expected uint8, got uint16"),
        ({"semantics": volume() + np.uint8(2)}, r"expected ids 0\.\.17 .* got 18"),
        ({"semantics": volume(), "mask_camera": volume((10, 10, 2))}, "mask_camera"),
        ({"semantics": volume(), "mask_lidar": np.full((10, 10, 4), 255, np.uint8)}, "expected 0 or 1, got 255"),
        ({"semantics": volume(), "mask_lidar": np.zeros(50, np.uint8)}, "mask_lidar: expected shape"),
    ],
)
def test_wrong_labels_are_named(tmp_path, arrays, message):
    write_npz(tmp_path / "labels.npz", **arrays)
    with pytest.raises(DataError, match=message):
        read_labels(tmp_path / "labels.npz")


def test_writers_refuse_other_arrays(tmp_path):
    good = volume()
    for semantics, mask in ((good.astype(int), good > 1), (good[0], good[0] > 1), (good, good), (good, good[:5] > 1)):
        with pytest.raises(ValueError, match="expected"):
            write_labels(tmp_path / "a.npz", semantics=semantics, mask_lidar=mask, mask_camera=mask)
    assert not (tmp_path / "a.npz").exists()


def test_splits(tmp_path):
    write_json(tmp_path / "annotations.json", {"train_split": ["a", "b"], "val_split": ["c"], "scene_infos": {}})
    splits = read_splits(tmp_path / "annotations.json")
    assert (splits["train"], splits["val"], splits["test"]) == ({"a", "b"}, {"c"}, frozenset())
    for wrong in (
        [],
        {"train_split": ["a"]},
        {"train_split": "a", "val_split": []},
        {"train_split": [1], "val_split": []},
    ):
        write_json(tmp_path / "annotations.json", wrong)
        with pytest.raises(DataError, match="_split"):
            read_splits(tmp_path / "annotations.json")


def test_fuzzed_files_end_in_a_data_error(tmp_path):
    write_labels(tmp_path / "a.npz", semantics=volume(), mask_lidar=volume() > 3, mask_camera=volume() > 3)
    check_reader(read_labels, (tmp_path / "a.npz").read_bytes(), tmp_path / "labels.npz", max_examples=40)
    check_reader(read_splits, b'{"train_split": ["a"], "val_split": []}', tmp_path / "a.json", max_examples=40)
