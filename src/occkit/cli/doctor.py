"""Say what a data set folder is, and what is missing or wrong in it."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from occkit.errors import ConfigError

if TYPE_CHECKING:
    from occkit.data.doctor import Report

_STYLES = {"error": "bold red", "warning": "yellow", "info": "dim"}


@dataclass(frozen=True)
class Args:
    """Say what a data set folder is, and what is missing or wrong in it.

    Knows nuScenes (full, mini, generated) with Occ3D labels, SemanticKITTI, SSCBench-KITTI-360, NYUv2, label trees,
    rig.json, runs, predictions, what occkit features, teach and label write, and single files. Exit status 0: no
    error (warnings are allowed); 1: errors.
    """

    path: Annotated[Path, tyro.conf.Positional]
    """Folder or file."""
    frames: int = 20
    """Frames that are opened, read to the last byte or compared with the LiDAR; names and sizes are checked for all."""
    all: bool = False
    """Open every frame."""
    json: Path | None = None
    """Write the findings to this file."""


def main(argv: list[str]) -> int:
    """Entry of `occkit doctor`."""
    args = tyro.cli(Args, args=argv, prog="occkit doctor")
    if args.frames < 1:
        raise ConfigError(f"--frames: expected 1 or more, got {args.frames}")
    from rich.progress import Progress

    from occkit.data.doctor import examine
    from occkit.files import write_json

    with Progress(transient=True) as bar:
        task = bar.add_task("looking", total=None)
        report = examine(
            args.path,
            frames=None if args.all else args.frames,
            progress=lambda what, done, total: bar.update(task, description=what, completed=done, total=total),
        )
    _print(report)
    if args.json is not None:
        write_json(args.json, report.to_json())
    return 0 if report.healthy else 1


def _print(report: "Report") -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(highlight=False)
    counts = ", ".join(f"{number:,} {what}" for what, number in report.checked.items())
    console.print(f"{escape(report.path)}: [bold]{escape(report.kind)}[/bold]" + (f" ({counts})" if counts else ""))
    table = Table(box=None, padding=(0, 1), show_header=False)
    for finding in report.findings:
        hint = f"\n[dim]{escape(finding.remedy)}[/dim]" if finding.remedy else ""
        where = f"{escape(finding.path)}\n" if finding.count == 1 else ""
        table.add_row(f"[{_STYLES[finding.level]}]{finding.level}[/]", f"{where}{escape(finding.problem)}{hint}")
    if table.row_count:
        console.print(table)
    errors = sum(finding.count for finding in report.findings if finding.level == "error")
    console.print("healthy" if report.healthy else f"{errors} error{'s' * (errors != 1)}", style="bold")
