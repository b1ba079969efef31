"""Distances between sets of images, by hand."""

from dataclasses import replace

import numpy as np
import pytest

from occkit.errors import ConfigError
from occkit.metrics.generation import (
    FeatureSet,
    compare,
    frechet_distance,
    kernel_distance,
    mean_distance,
    nearest_distances,
    table,
)


def features(rows, network="small"):
    return FeatureSet(network=network, values=np.asarray(rows, dtype=np.float32))


SQUARE = [[1, 0], [-1, 0], [0, 1], [0, -1]]


def test_frechet_by_hand():
    """Covariance of the square is 2/3 of the identity, of the doubled one 8/3."""
    one, two = features(SQUARE), features(2 * np.array(SQUARE))
    assert frechet_distance(one, one) == pytest.approx(0.0, abs=1e-9)
    assert frechet_distance(one, two) == pytest.approx(2 * (2 / 3 + 8 / 3 - 2 * 4 / 3))
    moved = features(np.add(SQUARE, [3, 4]))
    assert frechet_distance(one, moved) == pytest.approx(25.0), "a shift gives its square"
    assert frechet_distance(moved, one) == pytest.approx(25.0)


def test_frechet_with_fewer_images_than_features():
    a, b = features([[1, 0, 0], [0, 0, 0]]), features([[0, 1, 0], [0, 0, 0]])
    # Two variances of 1/2 along different axes have no root in common; the means differ by 1/2 in two of them.
    assert frechet_distance(a, b) == pytest.approx(0.5 + 0.5 + 0.5)


def test_kernel_distance_by_hand():
    """One feature: k(x, y) = (xy + 1)^3."""
    a, b = features([[0], [1]]), features([[1], [2]])
    # k(0,1) = 1 within a; k(1,2) = 27 within b; between: 1, 1, 8, 27.
    assert kernel_distance(a, b) == pytest.approx(1 + 27 - 2 * (1 + 1 + 8 + 27) / 4)


def test_kernel_distance_of_one_kind_is_zero_on_average():
    rng = np.random.default_rng(0)
    found = [
        kernel_distance(features(rng.normal(size=(40, 3))), features(rng.normal(size=(40, 3)))) for _ in range(200)
    ]
    assert abs(np.mean(found)) < 3 * np.std(found) / np.sqrt(200)
    assert min(found) < 0 < max(found)
    far = kernel_distance(features(rng.normal(size=(40, 3))), features(2 + rng.normal(size=(40, 3))))
    assert far > 10 * max(found)


def test_nearest_and_diversity_by_hand():
    drawn, training = features([[0, 0], [3, 4]]), features([[3, 4], [0, 2], [9, 9]])
    assert nearest_distances(drawn, training).tolist() == pytest.approx([2.0, 0.0])
    assert mean_distance(drawn) == pytest.approx(5.0)
    assert mean_distance(features(SQUARE)) == pytest.approx((4 * 2 + 8 * 2**0.5) / 12)
    assert mean_distance(features([[1e3, 7], [1e3, 7]])) == 0.0


def test_many_images_are_compared_in_parts():
    rng = np.random.default_rng(0)
    many, few = rng.normal(size=(1500, 2)), rng.normal(size=(5, 2))
    direct = np.sqrt(((many[:, None] - few[None]) ** 2).sum(-1)).min(1)
    assert np.allclose(nearest_distances(features(many), features(few)), direct, atol=1e-5)
    gaps = np.sqrt(((many[:, None] - many[None]) ** 2).sum(-1))
    assert mean_distance(features(many)) == pytest.approx(gaps.sum() / (1500 * 1499), rel=1e-5)


def test_networks_are_never_mixed():
    a, b = features(SQUARE), features(SQUARE, network="large")
    for measure in (frechet_distance, kernel_distance, nearest_distances):
        with pytest.raises(ConfigError, match="features of small and of large cannot be compared"):
            measure(a, b)
    scores = compare(a, a, a)
    assert (scores.frechet, scores.nearest) == pytest.approx((0.0, 0.0), abs=1e-9)
    page = table({"mutual": scores, "text": scores})
    assert "Features of small; 4 images against 4 photographs." in page
    assert page.count("\n| ") == 3
    for other in (replace(scores, network="large"), replace(scores, images=5)):
        with pytest.raises(ConfigError, match="not comparable"):
            table({"mutual": scores, "text": other})


def test_features_that_are_none():
    for rows, network in (([[1.0]], "small"), ([[np.nan], [1]], "small"), (SQUARE, " "), ([1, 2], "small")):
        with pytest.raises(ConfigError, match="FeatureSet"):
            features(rows, network)
