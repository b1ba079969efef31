"""The picture of a claim card: every arm's scores, and every line against its threshold, with intervals."""

import math
import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from occkit.errors import DataError
from occkit.files import read_json
from occkit.training.claim import PRIOR, Scores, mean_interval
from occkit.training.evaluate_visibility import PARTS
from occkit.training.plots import BAD, COLOURS, FAINT, GOOD, INK, new_figure, open_frame, plot_style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

_WIDTH = 7.2
"""Inches."""
_MINUS = "\u2212"
_ACROSS = 3
"""Panels of scores in a row."""
_KEYS = ("claim", "seeds", "scores", "pass_lines")
_NAME = r"(?P<metric>\S+) of (?P<arm>.+)"
_SENTENCES: tuple[tuple["Kind", re.Pattern[str]], ...] = (
    ("difference", re.compile(_NAME + r" exceeds that of (?P<baseline>.+?)(?: by more than \S+)?")),
    ("difference", re.compile(_NAME + r" is at most \S+ below that of (?P<baseline>.+)")),
    ("ratio", re.compile(_NAME + r" is more than \S+ times that of (?P<baseline>.+)")),
    ("score", re.compile(_NAME + r" is more than \S+")),
)
"""How the lines of a claim are put into words; a card holds the words only."""

Kind = Literal["difference", "ratio", "score"]
"""What the value of a line is."""


@dataclass(frozen=True, kw_only=True)
class LineWords:
    """What the sentence of a line says."""

    kind: Kind
    """What its value is."""
    metric: str | None
    """Of which metric; None if the sentence is of an unknown form."""
    short: str
    """The quantity in a few words, without the threshold."""


def read_card(path: Path) -> dict[str, Any]:
    """Read a claim card.

    Raises:
        DataError: if the file is missing, no JSON, or no claim card.
    """
    card = read_json(path, max_bytes=2**26)
    missing = [key for key in _KEYS if not isinstance(card, dict) or key not in card]
    if missing:
        raise DataError(path, f"is no claim card: it lacks {', '.join(missing)}", "give a JSON of `occkit reproduce`")
    if not card["scores"] or not isinstance(card["scores"], dict) or not isinstance(card["pass_lines"], list):
        raise DataError(path, "is no claim card: its scores or lines are empty or no list", "run the claim again")
    return card


def words_of(statement: str) -> LineWords:
    """Return what the sentence of a line (`Difference.statement` and its siblings) is about."""
    for kind, pattern in _SENTENCES:
        found = pattern.fullmatch(statement)
        if found:
            parts = found.groupdict()
            sign = {"difference": f" {_MINUS} ", "ratio": " ÷ "}.get(kind)
            who = parts["arm"] if sign is None else f"{parts['arm']}{sign}{parts['baseline']}"
            return LineWords(kind=kind, metric=parts["metric"], short=f"{who}, {parts['metric']}")
    return LineWords(kind="score", metric=None, short=statement)


def shown_metrics(scores: Scores, first: Sequence[str]) -> list[str]:
    """Return the metrics worth a column: `first`, then the headlines of protocols and of parts of the scene."""
    headlines: list[str] = []
    for metric in dict.fromkeys(metric for arm in scores.values() for metric in arm):
        protocol, _, name = metric.partition(".")
        if name in ("miou", "rayiou") or (name == "iou" and protocol not in PARTS):
            headlines.append(metric)
    return list(dict.fromkeys([*first, *headlines]))


def scale_of(metric: str | None) -> float:
    """Return the factor with which a metric is shown: fractions in per cent, costs as they are."""
    return 1.0 if metric is None or metric.startswith("cost.") else 100.0


def heading_of(metric: str) -> str:
    """Return the name of a metric with its unit."""
    return metric if metric.startswith("cost.") else f"{metric}, %"


def plot_card(card: Mapping[str, Any]) -> "Figure":
    """Return the card as a picture: a panel a metric with every arm's seeds, mean and interval; below, every line.

    Args:
        card: as in `results/<system>.json`.
    """
    lines: Sequence[Mapping[str, Any]] = card["pass_lines"]
    words = [words_of(line["statement"]) for line in lines]
    metrics = shown_metrics(card["scores"], [w.metric for w in words if w.metric is not None])
    groups = _groups(lines, words)
    down = -(-len(metrics) // _ACROSS)
    upper = down * (0.75 + 0.19 * len(card["scores"]))
    lower = sum(0.62 + 0.24 * len(group) for group in groups.values())
    title = textwrap.wrap(str(card["claim"]), 92)
    with plot_style():
        figure = new_figure(_WIDTH, 0.2 + 0.19 * len(title) + upper + lower + 0.25)
        figure.suptitle("\n".join(title), x=0.01, ha="left", fontsize=9.5, fontweight="bold")
        ratios = [upper, lower] if groups else [upper]
        parts = figure.subfigures(len(ratios), 1, height_ratios=ratios, squeeze=False)[:, 0]
        _plot_arms(parts[0], card["scores"], metrics, down)
        if groups:
            _plot_lines(parts[1], groups)
        seeds = len(card["seeds"])
        note = (
            f"{seeds} seed{'s' if seeds > 1 else ''}, each a tick; a dot is the mean, a bar its 95 % interval. "
            "Differences and ratios are paired over the seeds."
        )
        figure.supxlabel(note, x=0.01, ha="left", fontsize=7, color=FAINT)
    return figure


def _plot_arms(part: "SubFigure", scores: Scores, metrics: Sequence[str], down: int) -> None:
    arms = list(scores)
    across = min(_ACROSS, len(metrics))
    for panel, metric in enumerate(metrics):
        axes = part.add_subplot(down, across, panel + 1)
        for row, arm in enumerate(arms):
            values = [scale_of(metric) * v for v in scores[arm].get(metric, ())]
            if not values:
                continue
            colour = FAINT if arm == PRIOR else COLOURS[0]
            mean, interval = mean_interval(values)
            if interval is not None:
                axes.plot(interval, [row, row], color=colour, linewidth=3.2, alpha=0.3, solid_capstyle="butt")
            axes.plot(values, [row] * len(values), "|", color=colour, markersize=6.5, markeredgewidth=0.8)
            axes.plot([mean], [row], "o", color=colour, markersize=4.6, markeredgecolor="white", markeredgewidth=0.7)
        named = panel % across == 0
        axes.set_yticks(range(len(arms)), [a.replace("_", " ") for a in arms] if named else [""] * len(arms))
        axes.set_ylim(len(arms) - 0.4, -0.6)
        axes.set_title(heading_of(metric), loc="left")
        open_frame(axes, grid="both")
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)


Groups = dict[str, list[tuple[Mapping[str, Any], LineWords]]]


def _groups(lines: Sequence[Mapping[str, Any]], words: Sequence[LineWords]) -> Groups:
    """Return the lines by the axis they need."""
    found: Groups = {}
    for line, said in zip(lines, words, strict=True):
        cost = said.metric is None or said.metric.startswith("cost.")
        unit = "as measured" if cost else "per cent" if said.kind == "score" else "percentage points"
        axis = "ratio of scores" if said.kind == "ratio" else f"{said.kind}, {unit}"
        found.setdefault(axis, []).append((line, said))
    return found


def _plot_lines(part: "SubFigure", groups: Groups) -> None:
    ratios = [0.62 + 0.24 * len(group) for group in groups.values()]
    grid = part.add_gridspec(len(groups), 1, height_ratios=ratios)
    for i, (axis, group) in enumerate(groups.items()):
        axes = part.add_subplot(grid[i])
        for row, (line, said) in enumerate(group):
            _plot_line(axes, row, line, 1.0 if said.kind == "ratio" else scale_of(said.metric))
        if axis.startswith("difference"):
            axes.axvline(0, color=FAINT, linewidth=0.8)
        axes.set_yticks(range(len(group)), [said.short.replace("_", " ") for _, said in group])
        axes.set_ylim(len(group) - 0.4, -0.6)
        axes.set_title(f"{axis}; an upright mark is the threshold", loc="left")
        open_frame(axes, grid="both")
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)


def _plot_line(axes: "Axes", row: int, line: Mapping[str, Any], scale: float) -> None:
    """Draw one line: what holds is filled, what does not is hollow; the figures stand on the right."""
    threshold, value, interval, met = scale * line["threshold"], line["value"], line["interval"], bool(line["met"])
    axes.plot([threshold] * 2, [row - 0.32, row + 0.32], color=INK, linewidth=1.5)
    said = "no number"
    if value is not None and math.isfinite(value):
        colour = GOOD if met else BAD
        said = f"{scale * value:.2f}"
        if interval is not None:
            low, high = (scale * end for end in interval)
            axes.plot([low, high], [row, row], color=colour, linewidth=1.6, solid_capstyle="butt")
            said += f" [{low:.2f}, {high:.2f}]"
        face = colour if met else "white"
        axes.plot([scale * value], [row], "o", color=colour, markersize=5, markerfacecolor=face, markeredgewidth=1.1)
    said = f"{said} > {threshold:g}: {'holds' if met else 'does not hold'}".replace("-", _MINUS)
    place = axes.get_yaxis_transform()
    axes.text(1.015, row, said, transform=place, va="center", fontsize=7.2, color=GOOD if met else BAD)
