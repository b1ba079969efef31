"""Open-vocabulary retrieval: does a query in words score the LiDAR points it is about above all others?

Average precision of each query over the points of one sweep, and the mean over queries. Two published evaluations
differ in the points they look at: both are reported, and beside them the score of a ranking that tells nothing apart.

| protocol | points |
|---|---|
| `pop3d` | all of the sweep |
| `langocc` | those inside the volume of the label; the others are left out before anything is counted |

`map` is over these points, `map_visible` ("mAP (v)") over those of them that fall into at least one image.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from jaxtyping import Bool, Float
from torch import Tensor

POINT_SETS = {"pop3d": "all points of the sweep", "langocc": "points inside the volume"}
"""Retrieval protocols, and the points each looks at."""

Outcome = tuple[float | None, int, int]
"""Of one query over one set of points: average precision (None without a relevant point), relevant points, points."""


def average_precision(scores: npt.ArrayLike, relevant: npt.ArrayLike) -> float | None:
    """Return the average precision of a ranking, `sum_k (R_k - R_{k-1}) P_k`.

    The sum is over the distinct scores, highest first, with precision P and recall R of all points that score at least
    as much: points of equal score count as one step, so that their order does not matter.

    Args:
        scores: `[p]`, the higher the more likely.
        relevant: `[p]`, bool.

    Returns:
        0..1; None if no point is relevant.

    Example:
        >>> average_precision([0.9, 0.8, 0.7], [True, False, True])
        0.8333333333333333

    Source: the definition of scikit-learn's `average_precision_score`.
    """
    values, hits = np.asarray(scores, np.float64), np.asarray(relevant, np.bool_)
    if not hits.any():
        return None
    order = np.argsort(-values, kind="stable")
    last = np.append(np.flatnonzero(np.diff(values[order])), len(values) - 1)  # of each run of equal scores
    found = np.cumsum(hits[order])[last]
    return float((np.diff(found, prepend=0) * (found / (last + 1))).sum() / found[-1])


class RetrievalEvaluator:
    """Counts queries one by one, each (token, query) once, and averages over all.

    Example:
        >>> import torch
        >>> evaluator = RetrievalEvaluator()
        >>> relevant = torch.tensor([True, False, False, False])
        >>> everywhere = torch.ones(4, dtype=torch.bool)
        >>> scores = torch.tensor([0.4, 0.9, 0.1, 0.2])
        >>> evaluator.add("frame", "mailbox", scores, relevant, visible=everywhere, inside_box=everywhere)
        >>> evaluator.report()["pop3d"]["map"], evaluator.report()["pop3d"]["prevalence"]
        (0.5, 0.25)

    Source: Vobecky et al., "POP-3D", NeurIPS 2023; the points of its evaluation, and of that of Boeder et al.,
    "LangOcc", 2024.
    """

    def __init__(self) -> None:
        self._queries: dict[tuple[str, str], dict[str, tuple[Outcome, Outcome]]] = {}

    def __len__(self) -> int:
        """Return the number of queries added."""
        return len(self._queries)

    def add(
        self,
        token: str,
        query: str,
        scores: Float[Tensor, "p"],
        relevant: Bool[Tensor, "p"],
        visible: Bool[Tensor, "p"],
        inside_box: Bool[Tensor, "p"],
    ) -> None:
        """Count one query; if it comes again for the same token, it is ignored.

        Args:
            token: the frame.
            query: the words.
            scores: of each point of the frame's sweep, the higher the more likely. Points outside of a system's volume
                need a score, too.
            relevant: the points that the query is about.
            visible: those that fall into at least one image.
            inside_box: those inside the volume of the label.

        Raises:
            ValueError: naming the query, if the arrays are not one value a point, or a score is not finite.
        """
        if (token, query) in self._queries:
            return
        values = scores.detach().cpu().double().numpy()
        masks = [np.asarray(mask.detach().cpu().numpy()) for mask in (relevant, visible, inside_box)]
        if values.ndim != 1 or any(mask.shape != values.shape or mask.dtype != np.bool_ for mask in masks):
            found = [f"{mask.dtype} {mask.shape}" for mask in masks]
            raise ValueError(
                f"query {query!r} of {token}: expected a score and three bools a point, got scores {values.shape}, "
                f"relevant, visible and inside_box {found}"
            )
        if not np.isfinite(values).all():
            raise ValueError(f"query {query!r} of {token}: {(~np.isfinite(values)).sum()} scores are not finite")
        hits, seen, inside = masks
        self._queries[token, query] = {
            name: (_outcome(values, hits, points), _outcome(values, hits, points & seen))
            for name, points in (("pop3d", np.ones_like(inside)), ("langocc", inside))
        }

    def state(self) -> dict[str, object]:
        """Return everything counted so far as plain JSON values, for a file or another process."""
        return {
            "queries": [
                [token, query, {name: [list(outcome) for outcome in pair] for name, pair in outcomes.items()}]
                for (token, query), outcomes in self._queries.items()
            ]
        }

    def merge(self, state: Mapping[str, object]) -> None:
        """Add the queries of another evaluator's `state` that are not here yet.

        Raises:
            ValueError: if it is no such state.
        """
        try:
            queries: Any = state["queries"]
            there = {
                (str(token), str(query)): {name: (_restore(kept[name][0]), _restore(kept[name][1])) for name in kept}
                for token, query, kept in queries
            }
            if any(set(outcomes) != set(POINT_SETS) for outcomes in there.values()):
                raise ValueError("other protocols")
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise ValueError("merge: expected the state of a RetrievalEvaluator, got something else") from error
        self._queries = there | self._queries

    def report(self) -> dict[str, object]:
        """Return the scores under both protocols.

        A query without a relevant point in a set of points is left out of its mean. Sums over queries are rounded once,
        so that neither order nor number of processes matters.

        Returns:
            For `pop3d` and `langocc` each: `points`, which are looked at; `map` and `map_visible`, fractions 0..1;
            `prevalence` and `prevalence_visible`, the mean share of relevant points: what equal scores would have;
            `queries` and `queries_visible` in these means, `left_out` and `left_out_visible`; `per_query`, the same by
            the words of the query. Then `queries` and `frames` in all. None where there is nothing to average.

        Raises:
            ValueError: if no query was added.
        """
        if not self._queries:
            raise ValueError("retrieval evaluation: no query was added, so there is nothing to score")
        texts = sorted({query for _, query in self._queries})
        report: dict[str, object] = {}
        for name, points in POINT_SETS.items():
            outcomes = {key: kept[name] for key, kept in self._queries.items()}
            by_text = {text: _summary([o for (_, query), o in outcomes.items() if query == text]) for text in texts}
            report[name] = {"points": points} | _summary(list(outcomes.values())) | {"per_query": by_text}
        frames = {token for token, _ in self._queries}
        return report | {"queries": len(self._queries), "frames": len(frames)}


def _outcome(
    scores: npt.NDArray[np.float64], relevant: npt.NDArray[np.bool_], points: npt.NDArray[np.bool_]
) -> Outcome:
    hits = relevant[points]
    return average_precision(scores[points], hits), int(hits.sum()), len(hits)


def _restore(values: Sequence[Any]) -> Outcome:
    precision, relevant, points = values
    return None if precision is None else float(precision), int(relevant), int(points)


def _summary(pairs: Sequence[tuple[Outcome, Outcome]]) -> dict[str, object]:
    summary: dict[str, object] = {}
    for column, suffix in enumerate(("", "_visible")):
        counted = [(ap, hits / points) for ap, hits, points in (pair[column] for pair in pairs) if ap is not None]
        summary[f"map{suffix}"] = _mean([ap for ap, _ in counted])
        summary[f"prevalence{suffix}"] = _mean([share for _, share in counted])
        summary[f"queries{suffix}"] = len(counted)
        summary[f"left_out{suffix}"] = len(pairs) - len(counted)
    return summary


def _mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None
