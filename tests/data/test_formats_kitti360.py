"""SSCBench-KITTI-360: class table and the unpacked `.invalid`."""

import numpy as np
import pytest

from fuzz import check_reader
from occkit.data.kitti360 import (
    KITTI360_INVERSE_MAP,
    KITTI360_LEARNING_MAP,
    kitti360_lookup,
    read_invalid,
    sequence_folder,
    write_invalid,
)
from occkit.data.semantickitti import write_packed
from occkit.errors import DataError
from occkit.geometry import KITTI_GRID, VoxelGrid
from occkit.taxonomy import KITTI360, SEMANTICKITTI, SEMANTICKITTI_INVERSE_MAP

SHAPE = (16, 16, 2)
GRID = VoxelGrid.from_shape(KITTI_GRID.origin, KITTI_GRID.upper, SHAPE)


def test_inverse_map_is_inverse_and_covers_every_class():
    table = kitti360_lookup()
    assert len(KITTI360_INVERSE_MAP) == KITTI360.num_classes == 19
    assert [int(table[i]) for i in KITTI360_INVERSE_MAP] == list(range(19))


def test_shared_classes_share_their_original_id():
    for name in set(KITTI360.classes) & set(SEMANTICKITTI.classes):
        assert KITTI360_INVERSE_MAP[KITTI360.id_of(name)] == SEMANTICKITTI_INVERSE_MAP[SEMANTICKITTI.id_of(name)]


def test_ids_without_a_class_are_ignored_not_empty():
    table = kitti360_lookup()
    assert [int(table[i]) for i in (1, 31, 32, 71, 253, 255, 7)] == [255] * 7
    assert (table[52], table[99]) == (KITTI360.id_of("other-structure"), KITTI360.id_of("other-object"))
    assert set(KITTI360_LEARNING_MAP.values()) == set(range(19))


def test_sequence_folder():
    assert sequence_folder("06") == "2013_05_28_drive_0006_sync"


def test_invalid_is_a_byte_a_voxel(tmp_path):
    volume = np.random.default_rng(0).random(SHAPE) < 0.5
    write_invalid(tmp_path / "a.invalid", volume)
    assert (tmp_path / "a.invalid").stat().st_size == 512
    np.testing.assert_array_equal(read_invalid(tmp_path / "a.invalid"), volume)
    np.testing.assert_array_equal(read_invalid(tmp_path / "a.invalid", grid=GRID), volume)


def test_packed_bits_are_named(tmp_path):
    write_packed(tmp_path / "a.invalid", np.ones(SHAPE, dtype=np.bool_))
    with pytest.raises(DataError, match="bits are packed"):
        read_invalid(tmp_path / "a.invalid", grid=GRID)
    (tmp_path / "b.invalid").write_bytes(bytes([7]) * 512)
    with pytest.raises(DataError, match="got 7"):
        read_invalid(tmp_path / "b.invalid")


def test_fuzz(tmp_path):
    check_reader(read_invalid, bytes(512), tmp_path / "fuzzed.invalid")
    check_reader(lambda path: read_invalid(path, grid=GRID), bytes(512), tmp_path / "fuzzed.invalid")
