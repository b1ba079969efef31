"""SurroundOcc and OpenOccupancy: sparse rows."""

import numpy as np
import pytest
import torch

from fuzz import check_reader
from occkit.data.openoccupancy import OPENOCCUPANCY_GRID, read_rows
from occkit.data.openoccupancy import read_voxels as read_openoccupancy
from occkit.data.openoccupancy import write_voxels as write_openoccupancy
from occkit.data.surroundocc import SURROUNDOCC_GRID, read_voxels, write_voxels
from occkit.errors import DataError
from occkit.files import read_npy
from occkit.geometry import VoxelGrid
from occkit.samples import Occupancy
from occkit.taxonomy import OCC3D, SURROUNDOCC

GRID = VoxelGrid(origin=(-2.0, -1.5, -1.0), voxel_size=(0.5, 0.5, 0.5), shape=(8, 6, 4))


def random_label(seed=0, grid=GRID):
    rng = np.random.default_rng(seed)
    semantics = rng.choice([0, 0, 0, 1, 4, 11, 16, 255], size=grid.shape).astype(np.uint8)
    return Occupancy(semantics=torch.from_numpy(semantics), grid=grid, taxonomy=SURROUNDOCC)


def test_published_grids():
    assert (SURROUNDOCC_GRID.shape, OPENOCCUPANCY_GRID.shape) == ((200, 200, 16), (512, 512, 40))
    assert SURROUNDOCC_GRID.upper == (50, 50, 3)
    assert OPENOCCUPANCY_GRID.upper == (51.2, 51.2, 3)


def test_surroundocc_rows_are_x_y_z_class(tmp_path):
    semantics = torch.zeros(GRID.shape, dtype=torch.uint8)
    semantics[5, 2, 3] = 4
    semantics[1, 0, 2] = 255
    write_voxels(tmp_path / "a.npy", Occupancy(semantics=semantics, grid=GRID, taxonomy=SURROUNDOCC))
    assert read_npy(tmp_path / "a.npy").tolist() == [[1, 0, 2, 0], [5, 2, 3, 4]]


def test_openoccupancy_rows_are_z_y_x_class(tmp_path):
    semantics = torch.zeros(GRID.shape, dtype=torch.uint8)
    semantics[5, 2, 3] = 4
    write_openoccupancy(tmp_path / "a.npy", Occupancy(semantics=semantics, grid=GRID, taxonomy=SURROUNDOCC))
    assert read_npy(tmp_path / "a.npy").tolist() == [[3, 2, 5, 4]]


@pytest.mark.parametrize(("read", "write"), [(read_voxels, write_voxels), (read_openoccupancy, write_openoccupancy)])
def test_round_trip_is_equal_and_bytes_are_stable(tmp_path, read, write):
    label = random_label()
    write(tmp_path / "a.npy", label)
    back = read(tmp_path / "a.npy", grid=GRID)
    assert torch.equal(back.semantics, label.semantics)
    write(tmp_path / "b.npy", back)
    assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "b.npy").read_bytes()


def test_seven_columns_carry_velocity_before_the_class(tmp_path):
    rows = np.array([[3, 2, 5, 0.5, -1.0, 0.0, 4]], dtype=np.float32)
    np.save(tmp_path / "a.npy", rows)
    table = read_rows(tmp_path / "a.npy", grid=GRID)
    assert table.index.tolist() == [[5, 2, 3]]
    assert table.labels.tolist() == [4]
    assert table.velocity is not None
    assert table.velocity.tolist() == [[0.5, -1.0, 0.0]]


def test_float_rows_of_whole_numbers_are_read(tmp_path):
    np.save(tmp_path / "a.npy", np.array([[5, 2, 3, 16], [0, 0, 0, 0]], dtype=np.float64))
    semantics = read_voxels(tmp_path / "a.npy", grid=GRID).semantics
    assert (int(semantics[5, 2, 3]), int(semantics[0, 0, 0]), int(semantics[1, 1, 1])) == (16, 255, 0)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (np.zeros((3, 5), np.int32), "4 columns"),
        (np.zeros(4, np.int32), "shape"),
        (np.array([[3, 2, 7, 4]], np.int32), "axes look swapped"),
        (np.array([[9, 2, 9, 4]], np.int32), "below"),
        (np.array([[-1, 2, 3, 4]], np.int32), "-1"),
        (np.array([[1, 2, 3, 17]], np.int32), "17"),
        (np.array([[1.5, 2, 3, 4]], np.float32), "fractions"),
        (np.array([[np.nan, 2, 3, 4]], np.float32), "NaN"),
        (np.array([[1e30, 2, 3, 4]], np.float64), "1e+30"),
    ],
)
def test_faults_are_named(tmp_path, rows, words):
    np.save(tmp_path / "a.npy", rows)
    with pytest.raises(DataError, match=r"a\.npy") as caught:
        read_voxels(tmp_path / "a.npy", grid=GRID)
    assert words in str(caught.value)


def test_pickled_rows_are_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{"x": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="pickle"):
        read_voxels(tmp_path / "a.npy", grid=GRID)


def test_writer_wants_its_own_classes(tmp_path):
    label = random_label()
    with pytest.raises(ValueError, match="surroundocc"):
        write_voxels(tmp_path / "a.npy", Occupancy(semantics=label.semantics, grid=GRID, taxonomy=OCC3D))


@pytest.mark.parametrize("read", [read_voxels, read_openoccupancy])
def test_fuzz(tmp_path, read):
    write_voxels(tmp_path / "sound.npy", random_label())
    sound = (tmp_path / "sound.npy").read_bytes()
    check_reader(lambda path: read(path, grid=GRID), sound, tmp_path / "fuzzed.npy")
