"""OpenOcc v2.1: dense classes and flow."""

import numpy as np
import pytest
import torch

from fuzz import check_reader
from occkit.data.openocc import read_flow, read_labels, write_labels
from occkit.errors import DataError
from occkit.files import npz_keys, write_npz
from occkit.geometry import OCC3D_GRID, VoxelGrid
from occkit.samples import Occupancy
from occkit.taxonomy import OCC3D, OPENOCC

SHAPE = (10, 10, 4)
GRID = VoxelGrid.from_shape(OCC3D_GRID.origin, OCC3D_GRID.upper, SHAPE)


def random_label(seed=0):
    semantics = np.random.default_rng(seed).integers(0, 17, SHAPE).astype(np.uint8)
    return Occupancy(semantics=torch.from_numpy(semantics), grid=GRID, taxonomy=OPENOCC)


def test_round_trip_is_equal_and_bytes_are_stable(tmp_path):
    label, flow = random_label(), np.random.default_rng(1).normal(size=(*SHAPE, 2)).astype(np.float32)
    write_labels(tmp_path / "a.npz", label, flow=flow)
    back = read_labels(tmp_path / "a.npz")
    assert torch.equal(back.semantics, label.semantics)
    assert back.grid == GRID
    assert back.taxonomy is OPENOCC
    again = read_flow(tmp_path / "a.npz", shape=SHAPE)
    assert again is not None
    np.testing.assert_array_equal(again, flow)
    write_labels(tmp_path / "b.npz", back, flow=again)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_unknown_flow_is_written_as_zeros(tmp_path):
    write_labels(tmp_path / "a.npz", random_label())
    assert npz_keys(tmp_path / "a.npz") == ("semantics", "flow")
    flow = read_flow(tmp_path / "a.npz", shape=SHAPE)
    assert flow is not None
    assert not flow.any()


def test_label_without_flow(tmp_path):
    write_npz(tmp_path / "a.npz", semantics=random_label().semantics.numpy())
    assert read_flow(tmp_path / "a.npz", shape=SHAPE) is None


def test_faults_are_named(tmp_path):
    semantics = random_label().semantics.numpy()
    write_npz(tmp_path / "id.npz", semantics=np.full(SHAPE, 17, np.uint8), flow=np.zeros((*SHAPE, 2), np.float32))
    with pytest.raises(DataError, match="17"):
        read_labels(tmp_path / "id.npz")
    write_npz(tmp_path / "nan.npz", semantics=semantics, flow=np.full((*SHAPE, 2), np.nan, np.float32))
    with pytest.raises(DataError, match="NaN"):
        read_flow(tmp_path / "nan.npz", shape=SHAPE)
    write_npz(tmp_path / "shape.npz", semantics=semantics, flow=np.zeros((*SHAPE, 3), np.float32))
    with pytest.raises(DataError, match="flow"):
        read_flow(tmp_path / "shape.npz", shape=SHAPE)
    with pytest.raises(ValueError, match="openocc"):
        write_labels(tmp_path / "x.npz", Occupancy(semantics=torch.from_numpy(semantics), grid=GRID, taxonomy=OCC3D))


def test_fuzz(tmp_path):
    write_labels(tmp_path / "sound.npz", random_label())
    sound = (tmp_path / "sound.npz").read_bytes()
    check_reader(read_labels, sound, tmp_path / "fuzzed.npz")
    check_reader(lambda path: read_flow(path, shape=SHAPE), sound, tmp_path / "fuzzed.npz")
