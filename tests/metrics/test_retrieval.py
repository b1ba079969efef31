"""Retrieval: average precision against its definition, both sets of points, queries that cannot be scored."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.functional.classification import binary_average_precision

from occkit.metrics import RetrievalEvaluator, average_precision


def naive(scores, relevant):
    """Precision and recall at every distinct score, one after the other."""
    positives = sum(relevant)
    if not positives:
        return None
    total, recall_before = 0.0, 0.0
    for threshold in sorted(set(scores), reverse=True):
        taken = [hit for score, hit in zip(scores, relevant, strict=True) if score >= threshold]
        recall = sum(taken) / positives
        total += (recall - recall_before) * sum(taken) / len(taken)
        recall_before = recall
    return total


points = st.lists(st.tuples(st.sampled_from([-1.0, -0.5, 0.0, -0.0, 0.25, 0.3, 1.0]), st.booleans()), max_size=40)


@settings(max_examples=200, deadline=None)
@given(points)
def test_average_precision_is_its_definition_ties_included(pairs):
    scores, relevant = [s for s, _ in pairs], [r for _, r in pairs]
    found, expected = average_precision(scores, relevant), naive(scores, relevant)
    assert found == (None if expected is None else pytest.approx(expected, rel=1e-12))
    backwards = average_precision(scores[::-1], relevant[::-1])
    assert backwards == found, "the order of equal scores does not matter"


@pytest.mark.parametrize(
    ("scores", "relevant", "expected"),
    [
        ([0.9, 0.8, 0.7, 0.6], [1, 1, 0, 0], 1.0),
        ([0.9, 0.8, 0.7, 0.6], [0, 0, 1, 1], 1 / 2 * 1 / 3 + 1 / 2 * 2 / 4),
        ([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1], 1 / 2 * 1 + 1 / 2 * 2 / 3),  # scikit-learn's own example: 0.8333
        ([0.5, 0.5, 0.5, 0.5], [0, 1, 0, 0], 1 / 4),  # all alike: the prevalence
        ([0.9, 0.5, 0.5, 0.1], [1, 1, 0, 1], 1 / 3 * 1 + 1 / 3 * 2 / 3 + 1 / 3 * 3 / 4),
        ([0.9, 0.5, 0.5, 0.1], [0, 1, 0, 0], 1 / 3),
        ([3.0], [1], 1.0),
    ],
)
def test_average_precision_by_hand(scores, relevant, expected):
    assert average_precision(scores, np.array(relevant, bool)) == pytest.approx(expected, rel=1e-12)


def test_average_precision_agrees_with_torchmetrics_on_a_sweep():
    random = np.random.default_rng(0)
    scores = np.round(random.random(3000), 2)
    relevant = random.random(3000) < 0.05 + 0.2 * scores
    theirs = binary_average_precision(torch.tensor(scores), torch.tensor(relevant).long())
    assert average_precision(scores, relevant) == pytest.approx(float(theirs), abs=1e-6)


def test_nothing_relevant_has_no_precision():
    assert average_precision([0.5, 0.2], [False, False]) is None
    assert average_precision([], []) is None


QUERIES = ("mailbox", "dog", "excavator")


def case(seed, count=200):
    random = np.random.default_rng(seed)
    scores = np.round(random.random(count), 1)
    masks = [random.random(count) < share for share in (0.15, 0.6, 0.7)]
    return scores, *masks


def evaluate(keys):
    evaluator = RetrievalEvaluator()
    for token, query in keys:
        arrays = [torch.tensor(a) for a in case(token * 10 + QUERIES.index(query))]
        evaluator.add(f"f{token}", query, *arrays)
    return evaluator


KEYS = [(token, query) for token in range(5) for query in QUERIES]


def test_both_protocols_and_both_means_by_hand():
    report = evaluate(KEYS).report()
    assert (report["queries"], report["frames"]) == (15, 5)
    for name in ("pop3d", "langocc"):
        for suffix in ("", "_visible"):
            values, shares = [], []
            for token, query in KEYS:
                scores, relevant, visible, inside = case(token * 10 + QUERIES.index(query))
                kept = np.ones_like(visible) if name == "pop3d" else inside.copy()
                if suffix:
                    kept &= visible
                values.append(naive(scores[kept].tolist(), relevant[kept].tolist()))
                shares.append(relevant[kept].mean())
            assert None not in values
            assert report[name][f"map{suffix}"] == pytest.approx(np.mean(values), rel=1e-12)
            assert report[name][f"prevalence{suffix}"] == pytest.approx(np.mean(shares), rel=1e-12)
            assert report[name][f"queries{suffix}"] == 15
            mailbox = [value for value, (_, query) in zip(values, KEYS, strict=True) if query == "mailbox"]
            assert report[name]["per_query"]["mailbox"][f"map{suffix}"] == pytest.approx(np.mean(mailbox), rel=1e-12)
    figures = [report[name][f"map{suffix}"] for name in ("pop3d", "langocc") for suffix in ("", "_visible")]
    assert len(set(figures)) == 4


def test_a_query_without_a_relevant_point_is_left_out_and_counted():
    evaluator = RetrievalEvaluator()
    relevant = torch.tensor([True, False, False, False])
    visible = torch.tensor([False, True, True, True])
    scores, everywhere = torch.tensor([0.4, 0.3, 0.2, 0.1]), torch.ones(4, dtype=torch.bool)
    evaluator.add("a", "dog", scores, relevant, visible, everywhere)
    evaluator.add("b", "dog", -scores, relevant, everywhere, ~relevant)
    evaluator.add("c", "dog", scores, ~everywhere, everywhere, everywhere)
    report = evaluator.report()
    pop3d, langocc = report["pop3d"], report["langocc"]
    assert (pop3d["queries"], pop3d["left_out"], pop3d["map"]) == (2, 1, (1.0 + 0.25) / 2)
    assert (pop3d["queries_visible"], pop3d["left_out_visible"], pop3d["map_visible"]) == (1, 2, 0.25)
    assert (langocc["queries"], langocc["left_out"], langocc["map"]) == (1, 2, 1.0)
    assert (langocc["queries_visible"], langocc["map_visible"], langocc["prevalence_visible"]) == (0, None, None)
    assert pop3d["prevalence"] == 0.25
    assert report["queries"] == 3


def test_neither_order_nor_processes_matter():
    whole = evaluate(KEYS).report()
    assert evaluate(KEYS[::-1]).report() == whole
    first, second = evaluate(KEYS[:9]), evaluate(KEYS[6:])  # three were seen by both
    first.merge(json.loads(json.dumps(second.state())))
    assert first.report() == whole
    assert len(first) == 15
    again = evaluate(KEYS)
    again.add("f0", "mailbox", *(torch.tensor(a) for a in case(77)))
    assert again.report() == whole, "a query that comes again is not counted"


@pytest.mark.parametrize(
    "state",
    [{}, {"queries": 3}, {"queries": [["a", "b"]]}, {"queries": [["a", "b", {"pop3d": [[1, 2, 3], [1, 2, 3]]}]]}],
)
def test_other_states_are_refused(state):
    with pytest.raises(ValueError, match="state of a RetrievalEvaluator"):
        RetrievalEvaluator().merge(state)


def test_what_cannot_be_scored_is_named():
    evaluator = RetrievalEvaluator()
    with pytest.raises(ValueError, match="no query"):
        evaluator.report()
    good, mask = torch.rand(5), torch.ones(5, dtype=torch.bool)
    with pytest.raises(ValueError, match=r"'dog' of f: expected a score and three bools"):
        evaluator.add("f", "dog", good, mask[:4], mask, mask)
    with pytest.raises(ValueError, match="three bools"):
        evaluator.add("f", "dog", good, mask.float(), mask, mask)
    with pytest.raises(ValueError, match="three bools"):
        evaluator.add("f", "dog", good[:, None], mask[:, None], mask[:, None], mask[:, None])
    with pytest.raises(ValueError, match="2 scores are not finite"):
        evaluator.add("f", "dog", torch.tensor([0.0, float("nan"), 1.0, float("inf"), 0.0]), mask, mask, mask)
    assert len(evaluator) == 0
