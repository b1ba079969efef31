"""The picture of a claim card: every arm's scores, and every line against its threshold, with intervals."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
_DISTANCES = ("frechet", "kernel", "nearest", "diversity", "error")
_AS_THEY_ARE = ("cost.", *(f"{kind}.{name}" for kind in ("drawn", "told") for name in _DISTANCES))
"""Beginnings of metrics that are no fractions."""
_KEYS = ("claim", "seeds", "scores", "pass_lines")
_LINE_KEYS = ("kind", "metric", "arm", "value", "interval", "threshold", "met")


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
    for line in card["pass_lines"]:
        missing = [key for key in _LINE_KEYS if not isinstance(line, dict) or key not in line]
        if missing:
            raise DataError(path, f"is no claim card: a line lacks {', '.join(missing)}", "run the claim again")
    return card


def short_name(line: Mapping[str, Any]) -> str:
    """Return the quantity of a line in a few words, without the threshold."""
    sign = {"difference": f" {_MINUS} ", "ratio": " ÷ "}.get(line["kind"])
    who = line["arm"] if sign is None else f"{line['arm']}{sign}{line['baseline']}"
    return f"{who}, {line['metric']}"


def shown_metrics(scores: Scores, first: Sequence[str]) -> list[str]:
    """Return the metrics worth a column: `first`, then the headlines of protocols and of parts of the scene.

    What is in `first` of drawings is also shown of drawings for labels.
    """
    headlines: list[str] = []
    for metric in dict.fromkeys(metric for arm in scores.values() for metric in arm):
        protocol, _, name = metric.partition(".")
        if protocol == "told" and f"drawn.{name}" in first:
            headlines.append(metric)
        if name in ("miou", "rayiou") or (name == "iou" and protocol not in PARTS):
            headlines.append(metric)
    return list(dict.fromkeys([*first, *headlines]))


def scale_of(metric: str) -> float:
    """Return the factor with which a metric is shown: fractions in per cent, costs and distances as they are."""
    return 1.0 if metric.startswith(_AS_THEY_ARE) else 100.0


def heading_of(metric: str) -> str:
    """Return the name of a metric with its unit."""
    return metric if metric.startswith(_AS_THEY_ARE) else f"{metric}, %"


def plot_card(card: Mapping[str, Any]) -> "Figure":
    """Return the card as a picture: a panel a metric with every arm's seeds, mean and interval; below, every line.

    Args:
        card: as in `results/<system>.json`.
    """
    lines: Sequence[Mapping[str, Any]] = card["pass_lines"]
    metrics = shown_metrics(card["scores"], [line["metric"] for line in lines])
    groups = _groups(lines)
    down = -(-len(metrics) // _ACROSS)
    upper = down * (0.75 + 0.19 * len(card["scores"]))
    lower = sum(0.62 + 0.24 * len(group) for group in groups.values())
    title = textwrap.wrap(str(card["claim"]), 86)
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


Groups = dict[str, list[Mapping[str, Any]]]


def _groups(lines: Sequence[Mapping[str, Any]]) -> Groups:
    """Return the lines by the axis they need."""
    found: Groups = {}
    for line in lines:
        plain = line["metric"].startswith(_AS_THEY_ARE)
        unit = "as measured" if plain else "per cent" if line["kind"] == "score" else "percentage points"
        axis = "ratio of scores" if line["kind"] == "ratio" else f"{line['kind']}, {unit}"
        found.setdefault(axis, []).append(line)
    return found


def _plot_lines(part: "SubFigure", groups: Groups) -> None:
    ratios = [0.62 + 0.24 * len(group) for group in groups.values()]
    grid = part.add_gridspec(len(groups), 1, height_ratios=ratios)
    for i, (axis, group) in enumerate(groups.items()):
        axes = part.add_subplot(grid[i])
        for row, line in enumerate(group):
            _plot_line(axes, row, line, 1.0 if line["kind"] == "ratio" else scale_of(line["metric"]))
        if axis.startswith("difference"):
            axes.axvline(0, color=FAINT, linewidth=0.8)
        axes.set_yticks(range(len(group)), [short_name(line).replace("_", " ") for line in group])
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
