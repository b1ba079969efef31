"""The claim card: the JSON, the table and the picture of what a claim's runs gave."""

import io
from dataclasses import asdict
from pathlib import Path
from typing import Any

from occkit.files import write_bytes, write_json
from occkit.training.claim import Claim, PassLine, judge, mean_interval
from occkit.training.claim_run import Outcome
from occkit.training.environment import versions
from occkit.training.evaluate_visibility import PARTS


def write_card(claim: Claim, outcome: Outcome, folder: Path, *, command: str) -> dict[str, Any]:
    """Judge a claim and write `<system>.json`, `<system>.md` and `<system>.png`.

    Args:
        claim: what is claimed.
        outcome: what the runs gave.
        folder: where the card goes.
        command: the command line that makes it again.

    Returns:
        The card, as in the JSON.
    """
    lines = [judge(line, outcome.scores) for line in claim.lines]
    card: dict[str, Any] = {
        "claim": claim.sentence,
        "arms": outcome.recipes,
        "seeds": list(outcome.seeds),
        "scores": outcome.scores,
        "pass_lines": [{**asdict(line), "interval": line.interval and list(line.interval)} for line in lines],
        "command": command,
        "commit": outcome.commit,
        "versions": versions(),
        "device": outcome.device,
        "wall_s": outcome.wall_s,
        "cpu_s": outcome.cpu_s,
    }
    write_json(folder / f"{claim.system}.json", card)
    write_bytes(folder / f"{claim.system}.md", table(claim, outcome, lines).encode())
    write_bytes(folder / f"{claim.system}.png", plot(claim, outcome))
    return card


def table(claim: Claim, outcome: Outcome, lines: list[PassLine]) -> str:
    """Return the card as Markdown: the lines and whether they hold, then each arm's scores."""
    rows = [f"**{claim.sentence}**", "", f"{len(outcome.seeds)} seeds, mean [95 % interval over seeds, paired].", ""]
    rows += ["| line | value | above | holds |", "|---|---|---|---|"]
    for line in lines:
        value = "-" if line.value is None else f"{line.value:.4f}"
        interval = "" if line.interval is None else f" [{line.interval[0]:.4f}, {line.interval[1]:.4f}]"
        rows.append(
            f"| {line.statement} | {value}{interval} | {line.threshold:g} | {'yes' if line.met else '**no**'} |"
        )
    metrics = _metrics(claim, outcome)
    rows += ["", f"| arm | {' | '.join(map(_heading, metrics))} |", "|---" * (len(metrics) + 1) + "|"]
    for arm, scores in outcome.scores.items():
        cells = [_cell([_scale(m) * v for v in scores[m]]) if m in scores else "-" for m in metrics]
        rows.append(f"| {arm} | {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


def plot(claim: Claim, outcome: Outcome) -> bytes:
    """Return a PNG with a panel a metric: every arm's seeds as ticks, its mean with the 95 % interval as a bar."""
    # The canvas classes and not pyplot: no display, and no state left behind.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    metrics, arms = _metrics(claim, outcome), list(outcome.scores)
    figure = Figure(figsize=(1.5 + 3.2 * len(metrics), 1.2 + 0.4 * len(arms)), layout="constrained")
    for panel, metric in enumerate(metrics):
        axes = figure.add_subplot(1, len(metrics), panel + 1)
        for row, arm in enumerate(arms):
            values = [_scale(metric) * v for v in outcome.scores[arm].get(metric, ())]
            if not values:
                continue
            mean, interval = mean_interval(values)
            axes.plot(values, [row] * len(values), "|", color="0.2", markersize=10)
            if interval is not None:
                axes.plot(interval, [row, row], "-", color="tab:blue", linewidth=2)
            axes.plot([mean], [row], "o", color="tab:blue", markersize=5)
        axes.set_yticks(range(len(arms)), arms if panel == 0 else [""] * len(arms))
        axes.set_ylim(len(arms) - 0.5, -0.5)
        axes.set_xlabel(_heading(metric))
        axes.grid(axis="x", color="0.9")
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)
    return buffer.getvalue()


def _metrics(claim: Claim, outcome: Outcome) -> list[str]:
    """Return the metrics worth a column: those the lines name, then the headlines of protocols and parts."""
    first = next(iter(outcome.scores.values()))
    headlines = [f"{p}.{name}" for p in claim.protocols for name in ("miou", "iou", "rayiou") if f"{p}.{name}" in first]
    headlines += [f"{part}.miou" for part in PARTS if claim.visibility]
    return list(dict.fromkeys([line.metric for line in claim.lines] + headlines))


def _scale(metric: str) -> float:
    """Return the factor with which a metric is shown: fractions in per cent, costs as they are."""
    return 1.0 if metric.startswith("cost.") else 100.0


def _heading(metric: str) -> str:
    return metric if metric.startswith("cost.") else f"{metric}, %"


def _cell(values: list[float]) -> str:
    mean, interval = mean_interval(values)
    return f"{mean:.2f}" if interval is None else f"{mean:.2f} ± {interval[1] - mean:.2f}"
