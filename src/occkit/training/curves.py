"""Losses and validation scores of a run against its steps: read from `metrics.jsonl`, and plotted."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from occkit.errors import ConfigError, DataError
from occkit.metrics import MAIN_FIGURES
from occkit.training.plots import COLOURS, new_figure, open_frame, plot_style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

METRICS_FILE = "metrics.jsonl"
"""Of a run: one line a step, and one a validation."""
MAX_METRICS_BYTES = 2**30
TOTAL = "loss"
"""Name of the sum of the losses."""
_ACROSS = 3
"""Panels in a row."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One number over the course of a run."""

    steps: Floats
    """Ascending."""
    values: Floats
    """As many; of a score fractions, 0..1."""


@dataclass(frozen=True, kw_only=True)
class RunCurves:
    """What a run wrote while it was trained."""

    losses: Mapping[str, Curve]
    """The sum ("loss") first, then each weighted loss."""
    scores: Mapping[str, Curve]
    """Figures of the validations, as `protocol.figure`, such as "occ3d.miou"."""


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """Return the lines of a run's `metrics.jsonl`; a last line that was cut off is left out.

    Raises:
        DataError: if there is no such file, it is empty, or a line is damaged.
    """
    path = run / METRICS_FILE
    if not path.is_file():
        raise DataError(run, f"has no {METRICS_FILE}", "expected the folder that `occkit train --out` wrote")
    if path.stat().st_size > MAX_METRICS_BYTES:
        raise DataError(path, f"is larger than {MAX_METRICS_BYTES} bytes", "is it the right file?")
    lines = path.read_text(errors="replace").splitlines()
    found: list[dict[str, Any]] = []
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
            if not isinstance(record, dict) or not isinstance(record.get("step"), int):
                raise ValueError("no step")
        except ValueError as error:
            if number == len(lines):
                break
            raise DataError(path, f"line {number} is damaged ({error})", "copy the file again") from error
        found.append(record)
    if not found:
        raise DataError(path, "holds no step", "was the training stopped before its first?")
    return found


def read_curves(run: Path) -> RunCurves:
    """Return the curves of a run.

    Raises:
        DataError: if its `metrics.jsonl` is missing or damaged.
    """
    points: dict[str, list[tuple[int, float]]] = {TOTAL: []}
    scored: dict[str, list[tuple[int, float]]] = {}
    for record in read_metrics(run):
        step = record["step"]
        losses: dict[str, Any] = {TOTAL: record.get("loss"), **_numbers(record.get("losses"))}
        for name, value in losses.items():
            if _is_number(value):
                points.setdefault(name, []).append((step, float(value)))
        for protocol, entry in _numbers(record.get("validation")).items():
            for figure, value in _numbers(entry).items():
                if _is_number(value):
                    scored.setdefault(f"{protocol}.{figure}", []).append((step, float(value)))
    return RunCurves(losses=_curves(points), scores=_curves(scored))


def _numbers(entry: Any) -> dict[str, Any]:
    return entry if isinstance(entry, dict) else {}


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def _curves(points: Mapping[str, Sequence[tuple[int, float]]]) -> dict[str, Curve]:
    found: dict[str, Curve] = {}
    for name, pairs in points.items():
        if pairs:
            steps, values = np.array(pairs, dtype=np.float64).T
            found[name] = Curve(steps=steps, values=values)
    return found


def running_mean(values: Floats, window: int) -> Floats:
    """Return the mean of the `window` values around each place, of fewer towards the ends."""
    if window <= 1 or len(values) < 2:
        return values
    before, after = (window - 1) // 2, window // 2
    sums = np.concatenate([[0.0], np.cumsum(values)])
    places = np.arange(len(values))
    first, last = np.maximum(places - before, 0), np.minimum(places + after + 1, len(values))
    return (sums[last] - sums[first]) / (last - first)


def plot_curves(
    runs: Mapping[str, RunCurves], *, only: Sequence[str] = (), smooth: int | None = None, log: bool = False
) -> "Figure":
    """Return a panel a loss and a protocol, with a line a run.

    Args:
        runs: curves by the name of the run.
        only: panels, by name: "loss", the name of a loss, or `protocol.figure`. By default the sum of the losses, each
            of them where there are several, and the main figure of each protocol.
        smooth: steps that a thick line averages over, the values as they are behind it; by default a fortieth of the
            longest run.
        log: logarithmic axis for the losses.

    Raises:
        ConfigError: if a panel is not there, or there is no run.
    """
    panels = _panels(runs, only)
    longest = max(float(c.steps[-1]) for run in runs.values() for c in (*run.losses.values(), *run.scores.values()))
    window = max(1, round(longest / 40)) if smooth is None else smooth
    across = min(_ACROSS, len(panels))
    down = -(-len(panels) // across)
    with plot_style():
        figure = new_figure(max(3.6, 2.4 * across), 1.9 * down + 0.35)
        for i, name in enumerate(panels):
            axes = figure.add_subplot(down, across, i + 1)
            _plot_panel(axes, name, runs, window, log=log)
            if i + across >= len(panels):
                axes.set_xlabel("step")
        handles, labels = figure.axes[0].get_legend_handles_labels()
        if len(runs) > 1:
            figure.legend(handles, labels, loc="outside lower center", ncols=min(len(runs), 5), frameon=False)
    return figure


def _panels(runs: Mapping[str, RunCurves], only: Sequence[str]) -> list[str]:
    if not runs:
        raise ConfigError("curves: no run to plot")
    losses = list(dict.fromkeys(name for run in runs.values() for name in run.losses))
    scores = list(dict.fromkeys(name for run in runs.values() for name in run.scores))
    unknown = [name for name in only if name not in (*losses, *scores)]
    if unknown:
        raise ConfigError(f"--only {unknown[0]}: the runs have {', '.join([*losses, *scores])}")
    if only:
        return list(only)
    protocols = dict.fromkeys(name.rpartition(".")[0] for name in scores)
    wanted = {p: [f"{p}.{figure}" for figure in MAIN_FIGURES if f"{p}.{figure}" in scores] for p in protocols}
    terms = [name for name in losses if name != TOTAL]
    shown = [TOTAL, *(terms if len(terms) > 1 else []), *(names[0] for names in wanted.values() if names)]
    return [name for name in shown if name in (*losses, *scores)]


def _plot_panel(axes: "Axes", name: str, runs: Mapping[str, RunCurves], window: int, *, log: bool) -> None:
    """Draw one number of every run that has it; the others keep their colours."""
    is_loss = any(name in run.losses for run in runs.values())
    means: list[Floats] = []
    for i, (label, run) in enumerate(runs.items()):
        colour = COLOURS[i % len(COLOURS)]
        curve = (run.losses if is_loss else run.scores).get(name)
        if curve is None:
            axes.plot([], [], color=colour, linewidth=1.4, label=label)
        elif is_loss:
            means.append(_plot_loss(axes, curve, window, colour, label))
        else:
            axes.plot(curve.steps, 100 * curve.values, "o-", color=colour, markersize=3, linewidth=1.4, label=label)
    open_frame(axes, grid="y")
    axes.set_title(_title(name) if is_loss else f"{name}, %", loc="left")
    if is_loss:
        _bound(axes, [run.losses[name].values for run in runs.values() if name in run.losses], means, log=log)
    _thousands(axes)


def _plot_loss(axes: "Axes", curve: Curve, window: int, colour: str, label: str) -> Floats:
    """Draw a loss and return its running mean."""
    spacing = (curve.steps[-1] - curve.steps[0]) / max(1, len(curve.steps) - 1)
    count = max(1, round(window / max(spacing, 1.0)))
    if count > 1:
        axes.plot(curve.steps, curve.values, color=colour, linewidth=0.5, alpha=0.28)
    mean = running_mean(curve.values, count)
    axes.plot(curve.steps, mean, color=colour, linewidth=1.4, label=label)
    return mean


def _bound(axes: "Axes", values: Sequence[Floats], means: Sequence[Floats], *, log: bool) -> None:
    """Let a few outliers leave the picture, so that the rest can be told apart; never a running mean."""
    together = np.concatenate(values)
    if log and (together > 0).all():
        axes.set_yscale("log")
        return
    low, high = np.percentile(together, [0.2, 99.5])
    low, high = min(low, *(m.min() for m in means)), max(high, *(m.max() for m in means))
    room = 0.05 * max(high - low, 1e-9)
    axes.set_ylim(low - room, high + room)


def _title(name: str) -> str:
    return "loss, sum" if name == TOTAL else name.replace("_", " ")


def _thousands(axes: "Axes") -> None:
    """Write 10000 steps as 10k."""
    shorten: Callable[[float, float], str] = lambda x, _: f"{x / 1000:g}k" if abs(x) >= 10000 else f"{x:g}"  # noqa: E731
    axes.xaxis.set_major_formatter(shorten)
