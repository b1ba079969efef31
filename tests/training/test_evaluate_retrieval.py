"""Retrieval of a model, of image features and of no ranking at all, on points whose voxels are known."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from knowing import GRID, Frames, Knows
from torch import Tensor, nn

from occkit.data.feature_store import FeatureLayout, create_store
from occkit.data.pop3d import RetrievalQuery
from occkit.errors import ConfigError, DataError
from occkit.training.claim import flatten
from occkit.training.evaluate_retrieval import (
    LOWEST,
    evaluate_image_features,
    evaluate_no_ranking,
    evaluate_retrieval,
    flat_retrieval,
    score_points,
    stored_features,
)

POINTS = torch.tensor([[0.5, 0.5, 1.5, 0], [2.2, 2.7, 0.1, 0], [3.9, 0.1, 0.9, 0], [9.0, 9.0, 9.0, 0]])
"""In a mailbox, on the road, on the road, outside."""
BOX = {(0, 0, 1): [0.0, 0.0, 1.0, 0.0]}


def query(*relevant: int, token: str = "a", word: str = "mailbox", visible: Tensor | None = None) -> RetrievalQuery:
    hits = torch.zeros(4, dtype=torch.bool)
    hits[list(relevant)] = True
    seen = torch.ones(4, dtype=torch.bool) if visible is None else visible
    return RetrievalQuery(token=token, query=word, relevant=hits, visible=seen)


def frames(**options: Any) -> Any:
    return Frames(**{"points": POINTS} | options)


def test_a_point_scores_as_its_voxel_does_and_lowest_outside() -> None:
    volumes = torch.arange(32.0).reshape(1, 4, 4, 2)
    points = POINTS[:, :3]
    assert score_points(volumes, GRID, points).tolist() == [[1.0, (2 * 4 + 2) * 2, (3 * 4 + 0) * 2, LOWEST]]
    between = torch.tensor([[1.5, 1.5, 0.5], [2.0, 1.5, 0.5], [3.9, 3.9, 1.9], [-0.1, 1.0, 1.0]])
    scores = score_points(volumes, GRID, between, between=torch.ones(1, *GRID.shape))[0]
    assert scores.tolist() == pytest.approx([10.0, (10 + 18) / 2, 31.0, LOWEST])
    # Half-way between two vectors at a right angle their sum is at 45 degrees to either.
    vectors = torch.zeros(2, *GRID.shape)
    vectors[0, :2], vectors[1, 2:] = 1.0, 1.0
    middle = torch.tensor([[2.0, 1.5, 0.5], [1.5, 1.5, 0.5]])
    found = score_points(vectors[:1], GRID, middle, between=vectors)[0]
    assert found.tolist() == pytest.approx([0.5**0.5, 1.0])


def test_a_model_that_knows_is_right() -> None:
    report = evaluate_retrieval(Knows(BOX), frames(), [query(0), query(1, 2, token="b", word="road")]).report()
    assert report["pop3d"]["map"] == report["langocc"]["map"] == 1.0
    assert report["pop3d"]["prevalence"] == pytest.approx((1 / 4 + 2 / 4) / 2)
    assert report["langocc"]["prevalence"] == pytest.approx((1 / 3 + 2 / 3) / 2)
    assert (report["queries"], report["frames"]) == (2, 2)


def test_density_plays_no_part_and_points_outside_come_last() -> None:
    class Opposite(Knows):
        def encode_words(self, words: Any) -> Tensor:
            return -super().encode_words(words)

    outside = query(3)
    report = evaluate_retrieval(Knows(free=True), frames(), [outside, query(1, 2, word="road")]).report()
    assert report["pop3d"]["per_query"]["mailbox"]["map"] == pytest.approx(1 / 4)
    assert report["langocc"]["per_query"]["mailbox"]["map"] is None
    assert report["pop3d"]["per_query"]["road"]["map"] == pytest.approx(2 / 3)
    # Even what could not fit worse is before what lies outside, but for a tie.
    worst = evaluate_retrieval(Opposite(), frames(), [query(3, word="road")]).report()
    assert worst["pop3d"]["map"] == pytest.approx(1 / 4)


def test_only_frames_that_are_asked_about_are_predicted() -> None:
    model = Knows(BOX)
    evaluate_retrieval(model, frames(), [query(0, token="b"), query(1, token="b", word="road")])
    assert model.calls == 1


def test_interpolation_is_a_choice() -> None:
    model = Knows({**BOX, (2, 2, 0): [0.3, 0.0, 0.9, 0.0]})
    points = POINTS.clone()
    points[0, :3], points[1, :3] = torch.tensor([0.9, 0.5, 1.5]), torch.tensor([2.5, 2.5, 0.5])
    plain = evaluate_retrieval(model, frames(points=points), [query(0)])
    soft = evaluate_retrieval(model, frames(points=points), [query(0)], trilinear=True)
    # Near the edge of its voxel 0.6 of the mailbox is left, and the other, in the middle of its own, has 0.95.
    assert plain.report()["pop3d"]["map"] == 1.0
    assert soft.report()["pop3d"]["map"] == 0.5


def test_a_ranking_that_tells_nothing_apart_scores_the_prevalence() -> None:
    report = evaluate_no_ranking(frames(), [query(0), query(1, 2, token="c", word="road")]).report()
    for name in ("pop3d", "langocc"):
        assert report[name]["map"] == report[name]["prevalence"] > 0


def test_what_does_not_fit_is_named() -> None:
    with pytest.raises(ConfigError, match="Linear: knows its classes and no other words"):
        evaluate_retrieval(nn.Linear(1, 1), frames(), [query(0)])
    with pytest.raises(DataError, match="a: this frame has no LiDAR points"):
        evaluate_retrieval(Knows(), frames(points=None), [query(0)])
    with pytest.raises(DataError, match=r"1 of 2 queries are about frames that are not there, such as z .*--split all"):
        evaluate_retrieval(Knows(), frames(), [query(0), query(0, token="z")])
    with pytest.raises(DataError, match="no frame shows enough"):
        evaluate_retrieval(Knows(), frames(), [])
    with pytest.raises(DataError, match="4 points are annotated, the sweep has 3"):
        evaluate_retrieval(Knows(), frames(points=POINTS[:3]), [query(0)])


def test_several_queries_of_a_frame_keep_their_own_scores() -> None:
    model = Knows(BOX)
    report = evaluate_retrieval(model, frames(), [query(1, 2, word="road"), query(0)]).report()
    assert model.calls == 1
    assert report["pop3d"]["per_query"]["mailbox"]["map"] == 1.0
    assert report["pop3d"]["per_query"]["road"]["map"] == 1.0


def store_of(root: Path, *, dim: int = 4, basis: Tensor | None = None) -> None:
    size = {"image_size": (3, 4), "map_size": (3, 4), "width": 4 if basis is None else len(basis), "dim": dim}
    layout = FeatureLayout(source={}, cameras=("front",), codec="float16", **size)
    store = create_store(root / "features", layout, basis)
    for token in ("a", "b"):
        maps = torch.nn.functional.normalize(torch.ones(1, dim, 3, 4), dim=1)
        store.write(token, maps)


SEEN = torch.tensor([[0.1, -0.1, 0.9, 0], [0.9, -0.1, 0.3, 0], [1.0, -0.1, 0, 0], [0, 0, 0, 0]])


def test_image_features_are_a_rival_and_what_no_camera_sees_comes_last(tmp_path: Path) -> None:
    store_of(tmp_path)
    encode = Knows().encode_words
    data = frames(features=SEEN, root=tmp_path)
    report = evaluate_image_features(encode, data, [query(0), query(3, token="b", word="house")]).report()
    assert report["pop3d"]["per_query"]["mailbox"]["map"] == 1.0
    # Features that are nothing like a house are still before the point that nobody sees.
    assert report["pop3d"]["per_query"]["house"]["map"] == pytest.approx(1 / 4)


def test_words_go_into_the_subspace_of_the_store(tmp_path: Path) -> None:
    basis = torch.eye(4)[:, 1:3]
    store_of(tmp_path, dim=2, basis=basis)
    data = frames(features=SEEN[:, 1:3], root=tmp_path)
    report = evaluate_image_features(Knows().encode_words, data, [query(0, 1)]).report()
    assert report["pop3d"]["map"] == 1.0
    with pytest.raises(ConfigError, match="features of 4 channels, words of 3; not one space"):
        evaluate_image_features(lambda words: torch.ones(len(words), 3), data, [query(0)])


def test_a_store_counts_when_it_has_the_frames(tmp_path: Path) -> None:
    store_of(tmp_path)
    config = replace(Frames().config, point_features=False)
    assert stored_features(tmp_path, replace(config, features="elsewhere"), [query(0)], split="val") is None
    assert stored_features(tmp_path, replace(config, features=None), [query(0)], split="val") is None
    assert stored_features(tmp_path, config, [query(0), query(0, token="c")], split="val") is None
    with pytest.raises(DataError, match="is no data set"):
        stored_features(tmp_path, config, [query(0), query(0, token="b")], split="val")


def test_reports_are_flattened_for_claims() -> None:
    report = evaluate_retrieval(Knows(BOX), frames(), [query(0)]).report()
    flat = flatten(flat_retrieval(report | {"image_features": report}))
    assert flat["retrieval.langocc.map"] == 1.0
    assert flat["retrieval.pop3d.prevalence"] == 0.25
    assert flat["retrieval.image_features.pop3d.map_visible"] == 1.0
    assert not any(name.startswith("retrieval.image") for name in flatten(flat_retrieval(report)))
