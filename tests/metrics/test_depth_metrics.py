import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from occkit.metrics import DepthEvaluator, DepthPrior

NAMES = ("abs_rel", "sq_rel", "rmse", "rmse_log", "delta_1", "delta_2", "delta_3")


def naive(pairs):
    """The seven numbers of (prediction, truth) pairs, one after the other."""
    pairs = [(min(max(d, 0.1), 80.0), t) for d, t in pairs if 0.1 < t < 80.0]
    if not pairs:
        return [None] * 7
    n = len(pairs)
    ratios = [max(d / t, t / d) for d, t in pairs]
    return [
        sum(abs(d - t) / t for d, t in pairs) / n,
        sum((d - t) ** 2 / t for d, t in pairs) / n,
        math.sqrt(sum((d - t) ** 2 for d, t in pairs) / n),
        math.sqrt(sum((math.log(d) - math.log(t)) ** 2 for d, t in pairs) / n),
        *(sum(r < 1.25**k for r in ratios) / n for k in (1, 2, 3)),
    ]


def mean_of(rows):
    columns = [[value for value in column if value is not None] for column in zip(*rows, strict=True)]
    return [sum(column) / len(column) if column else None for column in columns]


def frames_of(seed, frames=4, cameras=3, size=(5, 6)):
    """Sparse truth, also outside the limits, and predictions around it; the last camera of the first frame has none."""
    random = np.random.default_rng(seed)
    out = []
    for index in range(frames):
        truth = random.choice([0.0, 0.05, 1.0], p=[0.4, 0.1, 0.5], size=(cameras, *size))
        truth = np.where(truth == 1, random.uniform(0.2, 100, truth.shape), truth)
        prediction = np.maximum(truth, 0.1) * random.lognormal(0, 0.4, truth.shape)
        if index == 0:
            truth[-1] = 0
        out.append((f"frame{index}", torch.tensor(prediction), torch.tensor(truth)))
    return out


def pairs_of(prediction, truth):
    return list(zip(prediction.flatten().tolist(), truth.flatten().tolist(), strict=True))


def evaluate(frames):
    evaluator = DepthEvaluator()
    for frame in frames:
        evaluator.add(*frame)
    return evaluator


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31))
def test_every_average_equals_the_naive_one(seed):
    frames = frames_of(seed)
    evaluator = evaluate(frames)
    by_camera = [[pairs_of(d[c], t[c]) for _, d, t in frames] for c in range(3)]
    pooled = [naive([pair for image in images for pair in image]) for images in by_camera]
    image_by_image = [mean_of([naive(image) for image in images]) for images in by_camera]
    expected = {
        "pixels": naive([pair for images in by_camera for image in images for pair in image]),
        "cameras": mean_of(pooled),
        "images": mean_of(image_by_image),
    }
    for average, values in expected.items():
        report = evaluator.report(average=average)
        assert [report[name] for name in NAMES] == pytest.approx(values, rel=1e-12)
        cameras = image_by_image if average == "images" else pooled
        for found, row in zip(report["per_camera"], cameras, strict=True):
            assert [found[name] for name in NAMES] == pytest.approx(row, rel=1e-12)
    counted = sum(0.1 < t < 80 for images in by_camera for image in images for _, t in image)
    assert (report["pixels"], report["frames"], report["limits"]) == (counted, 4, [0.1, 80.0])


def test_depth_scores_by_hand():
    evaluator = DepthEvaluator()
    truth = torch.tensor([[[10.0, 20.0, 0.0, 80.0, 0.1]], [[40.0, 0.0, 0.0, 0.0, 0.0]]])
    prediction = torch.tensor([[[12.0, 10.0, 7.0, 1.0, 1.0]], [[200.0, 0.0, 0.0, 0.0, 0.0]]])
    evaluator.add("a", prediction, truth)
    report = evaluator.report(average="pixels")
    # Errors 2, 10 and 40 (200 m are clamped to 80 m) at 10, 20 and 40 m; 80 m and 0.1 m themselves do not count.
    assert report["pixels"] == 3
    assert report["abs_rel"] == pytest.approx((0.2 + 0.5 + 1.0) / 3)
    assert report["sq_rel"] == pytest.approx((0.4 + 5 + 40) / 3)
    assert report["rmse"] == pytest.approx(math.sqrt((4 + 100 + 1600) / 3))
    assert report["rmse_log"] == pytest.approx(math.sqrt((math.log(1.2) ** 2 + 2 * math.log(2) ** 2) / 3))
    assert [report[f"delta_{k}"] for k in (1, 2, 3)] == pytest.approx([1 / 3, 1 / 3, 1 / 3])
    assert evaluator.report()["rmse"] == pytest.approx((math.sqrt(52) + 40) / 2)


def test_a_ratio_must_be_below_its_limit():
    evaluator = DepthEvaluator()
    prediction = torch.tensor([[[1.25, 0.8, 1.5625, 1.953]]], dtype=torch.float64)
    evaluator.add("a", prediction, torch.ones_like(prediction))
    report = evaluator.report()
    assert [report[f"delta_{k}"] for k in (1, 2, 3)] == [0.0, 0.5, 1.0]


@settings(max_examples=20, deadline=None)
@given(st.permutations(range(6)), st.integers(0, 6))
def test_processes_agree_to_the_last_bit(order, split):
    frames = frames_of(3, frames=6)
    whole = evaluate(frames)
    first, second = (evaluate([frames[i] for i in part]) for part in (order[:split], [*order[split:], *order[:2]]))
    first.merge(json.loads(json.dumps(second.state())))
    assert len(first) == 6
    for average in ("cameras", "pixels", "images"):
        assert first.report(average=average) == whole.report(average=average)


def test_a_token_counts_once():
    frame = frames_of(0)[1]
    evaluator = evaluate([frame, (frame[0], frame[1] + 5, frame[2])])
    assert len(evaluator) == 1
    evaluator.merge(evaluate([(frame[0], frame[1] + 5, frame[2])]).state())
    assert evaluator.report() == evaluate([frame]).report()


def test_nothing_measured_scores_none():
    evaluator = DepthEvaluator()
    evaluator.add("a", torch.ones(2, 3, 3), torch.zeros(2, 3, 3))
    for average in ("cameras", "pixels", "images"):
        assert [evaluator.report(average=average)[name] for name in NAMES] == [None] * 7


def test_limits_are_the_evaluators_own():
    evaluator = DepthEvaluator(near=1.0, far=5.0)
    evaluator.add("a", torch.tensor([[[9.0, 0.5, 3.0]]]), torch.tensor([[[4.0, 2.0, 6.0]]]))
    assert evaluator.report()["abs_rel"] == pytest.approx((1 / 4 + 1 / 2) / 2)


def test_doors():
    evaluator = DepthEvaluator()
    with pytest.raises(ValueError, match="no frame was added"):
        evaluator.report()
    with pytest.raises(ValueError, match=r"depth of a: expected \[cameras, height, width\] like the truth \(1, 2, 3\)"):
        evaluator.add("a", torch.ones(1, 2, 2), torch.ones(1, 2, 3))
    with pytest.raises(ValueError, match="depth of a: the prediction is not a number"):
        evaluator.add("a", torch.tensor([[[math.nan]]]), torch.ones(1, 1, 1))
    evaluator.add("a", torch.tensor([[[math.nan, 1.0]]]), torch.tensor([[[0.0, 1.0]]]))
    with pytest.raises(ValueError, match="depth of b: has 2 cameras, the frames before had 1"):
        evaluator.add("b", torch.ones(2, 1, 2), torch.ones(2, 1, 2))
    with pytest.raises(ValueError, match=r"merge: limits are \[0.1, 80.0\] here and \[0.1, 50.0\] there"):
        evaluator.merge(DepthEvaluator(far=50.0).state())
    with pytest.raises(ValueError, match="merge: expected `frames`"):
        evaluator.merge({"limits": [0.1, 80.0]})
    with pytest.raises(ValueError, match="expected one of cameras, pixels, images, got 'median'"):
        evaluator.report(average="median")
    with pytest.raises(ValueError, match="0 < near < far"):
        DepthEvaluator(near=0.0)


def test_the_prior_is_the_median_of_a_row_of_a_camera():
    first = torch.tensor([[[0.0, 4.0], [0.0, 0.0], [0.0, 0.0]], [[1.0, 1.0], [0.0, 2.0], [9.0, 0.0]]])
    second = torch.tensor([[[6.0, 8.0], [0.0, 0.0], [0.0, 0.0]], [[3.0, 3.0], [2.0, 0.0], [9.0, 9.0]]])
    prior = DepthPrior.fit([first, second])
    # Rows without a measurement take the camera's median.
    assert prior.rows.tolist() == [[6.0, 6.0, 6.0], [1.0, 2.0, 9.0]]
    assert prior.predict().shape == (2, 3, 2)
    assert torch.equal(prior.predict()[:, :, 0], prior.predict()[:, :, 1])
    blind = torch.zeros(2, 3, 2)
    blind[0] = first[0]
    assert DepthPrior.fit([blind]).rows[1].tolist() == [4.0, 4.0, 4.0], "a camera without any takes that of all"
    with pytest.raises(ValueError, match="above 0, got none"):
        DepthPrior.fit([torch.zeros(1, 2, 2)])
    with pytest.raises(ValueError, match="all of one shape"):
        DepthPrior.fit([torch.ones(1, 2, 2), torch.ones(1, 2, 3)])
