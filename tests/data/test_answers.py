import numpy as np
import pytest

from occkit.data.answers import Answers, read_answers, write_answers
from occkit.errors import DataError
from occkit.geometry import VoxelGrid

GRID = VoxelGrid(origin=(-1.0, -2.0, 0.5), voxel_size=(0.5, 0.4, 0.25), shape=(4, 10, 2))


def some_answers() -> Answers:
    return Answers(
        grid=GRID,
        voxels=np.array([[0, 9, 1], [3, 0, 0], [1, 1, 1]]),
        cosines=np.array([[0.9, 0.1], [0.2, 0.3], [0.5, 0.5]], np.float32),
        margins=np.array([[0.1, -0.2], [-0.1, 0.0], [0.0, -0.3]], np.float32),
        centres=np.array([[1.0, 2.0, 3.0], [np.nan] * 3], np.float32),
        clusters=np.array([2, 0]),
    )


def test_answers_come_back_as_they_were_written(tmp_path):
    answers = some_answers()
    again = read_answers(write_answers(tmp_path, "scene/frame", answers), queries=2)
    assert again.grid == GRID
    for name in ("voxels", "cosines", "margins", "centres", "clusters"):
        assert np.array_equal(getattr(again, name), getattr(answers, name), equal_nan=name == "centres")
    assert (tmp_path / "scene" / "frame.npz").is_file()


def test_a_margin_of_nothing_is_found():
    answers = some_answers()
    assert answers.found.tolist() == [[True, False], [False, True], [True, False]]
    assert answers.counts.tolist() == [2, 1]


def test_answers_to_another_number_of_queries_and_damage_are_refused(tmp_path):
    path = write_answers(tmp_path, "frame", some_answers())
    with pytest.raises(DataError, match=r"cosines: expected shape \(3, 1\), got \(3, 2\)"):
        read_answers(path, queries=1)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DataError, match=r"frame\.npz"):
        read_answers(path, queries=2)
