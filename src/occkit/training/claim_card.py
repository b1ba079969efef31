"""The claim card: the JSON, the table and the picture of what a claim's runs gave."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from occkit.files import write_bytes, write_json
from occkit.training.claim import Claim, PassLine, judge, mean_interval
from occkit.training.claim_plot import heading_of, plot_card, scale_of, shown_metrics
from occkit.training.claim_run import Outcome
from occkit.training.environment import versions
from occkit.training.plots import encode_figure


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
    write_bytes(folder / f"{claim.system}.png", encode_figure(plot_card(card), ".png"))
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
    metrics = shown_metrics(outcome.scores, [line.metric for line in claim.lines])
    rows += ["", f"| arm | {' | '.join(map(heading_of, metrics))} |", "|---" * (len(metrics) + 1) + "|"]
    for arm, scores in outcome.scores.items():
        cells = [_cell([scale_of(m) * v for v in scores[m]]) if m in scores else "-" for m in metrics]
        rows.append(f"| {arm} | {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


def _cell(values: list[float]) -> str:
    mean, interval = mean_interval(values)
    return f"{mean:.2f}" if interval is None else f"{mean:.2f} ± {interval[1] - mean:.2f}"
