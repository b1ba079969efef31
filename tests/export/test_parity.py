import numpy as np
import pytest

from occkit.export.parity import MAX_DIFFERENCE, Difference


def scores(*rows: list[float]) -> np.ndarray:
    """Scores of two classes in as many voxels along z as there are rows."""
    return np.float32(rows).T.reshape(2, 1, 1, -1)


def test_difference_counts_scores_and_labels():
    expected = scores([1, 0], [0, 1], [3, 2], [5, 0])
    found = scores([1, 0], [0.5, 1], [2, 2.5], [5, 0])
    difference = Difference()
    difference.add("a", found, found.argmax(0), expected)
    assert (difference.largest, difference.mean) == (1.0, pytest.approx(2 / 8))
    assert difference.agreement == 3 / 4
    assert not difference.holds
    difference.add("b", expected, expected.argmax(0), expected)
    assert (difference.largest, difference.mean) == (1.0, pytest.approx(2 / 16))
    assert difference.agreement == 7 / 8
    assert difference.tokens == ["a", "b"]


def test_difference_holds_up_to_its_limits():
    expected = np.zeros((2, 10, 10, 10), np.float32)
    expected[0] = 1
    near = expected + np.float32(0.9 * MAX_DIFFERENCE)
    difference = Difference()
    assert not difference.holds  # nothing was compared
    labels = expected.argmax(0)
    difference.add("a", near, labels, expected)
    assert difference.holds
    labels[0, 0, 0] = 1
    difference = Difference()
    difference.add("a", near, labels, expected)
    assert difference.agreement == 0.999
    assert difference.holds
    labels[0, 0, 1] = 1
    difference = Difference()
    difference.add("a", near, labels, expected)
    assert not difference.holds


def test_difference_takes_nan_for_far_off():
    expected = np.zeros((2, 1, 1, 1), np.float32)
    difference = Difference()
    difference.add("a", np.full_like(expected, np.nan), expected.argmax(0), expected)
    assert difference.largest == np.inf
    assert not difference.holds
