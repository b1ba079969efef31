"""Make the table of `benchmarks/README.md` from `benchmarks/results.json`: `python benchmarks/table.py`."""

import json
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER.parent))

from benchmarks.measure import Row, amount  # noqa: E402

START, END = "<!-- table: made by benchmarks/table.py -->", "<!-- end of table -->"


def markdown(report: dict) -> str:
    """Write the rows of a report as a Markdown table, with the machine above it."""
    machine = report["machine"]
    lines = [
        f"Measured on {machine['device']} ({machine['cpu']}, {machine['cores']} cores, {machine['threads']} torch "
        f"threads, load average {machine['load_average']}), torch {machine['torch']}, Python {machine['python']}.",
        "",
        "| benchmark | figure | sizes | ours | plain form | ratio | to reach | reached |",
        "|---|---|---|---:|---:|---:|---|---|",
    ]
    for entry in report["rows"]:
        row = Row(**entry)
        plain = "" if row.plain is None else amount(row.plain, row.unit)
        ratio = "" if row.ratio is None else f"{row.ratio:.1f}x"
        reached = {None: "", True: "yes", False: "**no**"}[row.reached]
        lines.append(
            f"| `{row.name}` | {row.what} | {row.shapes}, {row.dtype} | {amount(row.ours, row.unit)} | {plain} "
            f"| {ratio} | {row.target} | {reached} |"
        )
    return "\n".join(lines)


def insert(page: str, table: str) -> str:
    """Put the table between the two marks of the page.

    Raises:
        ValueError: if the page has lost its marks.
    """
    if START not in page or END not in page:
        raise ValueError(f"benchmarks/README.md: expected the lines {START} and {END}; put them back")
    head, rest = page.split(START, 1)
    return f"{head}{START}\n\n{table}\n\n{END}{rest.split(END, 1)[1]}"


def main() -> None:
    report = json.loads((FOLDER / "results.json").read_text(encoding="utf-8"))
    page = FOLDER / "README.md"
    page.write_text(insert(page.read_text(encoding="utf-8"), markdown(report)), encoding="utf-8")


if __name__ == "__main__":
    main()
