"""Run the benchmarks, each with the plain form beside it in the same run."""

import importlib.util
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import tyro

from occkit.errors import ConfigError
from occkit.files import read_json, write_json


@dataclass(frozen=True)
class Args:
    """Run the benchmarks of the repository: each prints its figure and that of the plain form measured beside it."""

    names: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """Benchmarks to run (file names in the folder, without .py); all by default."""
    json: Path | None = None
    """Write the rows, with device, shapes and versions, to this file; rows of benchmarks that are not run stay."""
    folder: Path | None = None
    """Folder of the benchmarks; by default `benchmarks/` of the checkout this package runs from."""


def _benchmark_folder(given: Path | None) -> Path:
    folder = given or Path(__file__).resolve().parents[3] / "benchmarks"
    if not (folder / "measure.py").is_file():
        raise ConfigError(
            f"--folder {folder}: no benchmarks here (expected measure.py); they live in the repository, not in the "
            "installed package: clone it and run from the checkout, or name its benchmarks/ folder"
        )
    return folder


def _load(folder: Path, name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"benchmarks.{name}", folder / f"{name}.py")
    if spec is None or spec.loader is None:
        raise ConfigError(f"benchmark {name}: cannot be imported from {folder}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main(argv: list[str]) -> int:
    """Entry of `occkit bench`."""
    args = tyro.cli(Args, args=argv, prog="occkit bench")
    folder = _benchmark_folder(args.folder)
    sys.path.insert(0, str(folder.parent))  # so that a benchmark can import benchmarks.measure
    sources = sorted(folder.glob("*.py"))
    available = [path.stem for path in sources if "\ndef run(" in path.read_text(encoding="utf-8")]
    unknown = [name for name in args.names if name not in available]
    if unknown:
        raise ConfigError(f"no benchmark {unknown[0]!r}; there are {', '.join(available)}")
    measure = importlib.import_module("benchmarks.measure")
    rows, machine = list[dict[str, Any]](), measure.machine()
    if args.json is not None and args.names and args.json.is_file():
        rows, machine = _others(args.json, args.names, machine)
    for name in args.names or available:
        print(f"{name} ...", flush=True)
        for row in _load(folder, name).run():
            rows.append(asdict(row))
            print(f"  {measure.describe(row)}", flush=True)
        if args.json is not None:  # after each, so that an interrupted run leaves what it has
            write_json(args.json, {"machine": machine, "rows": sorted(rows, key=lambda row: row["name"])})
    if args.json is not None:
        print(f"wrote {args.json}")
    return 0


def _others(file: Path, names: tuple[str, ...], machine: dict[str, Any]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return the rows of other benchmarks in a file, and this machine with the higher load of the two runs."""
    report = read_json(file)
    if not isinstance(report, dict) or not {"machine", "rows"} <= set(report):
        raise ConfigError(f"--json {file}: is no file of occkit bench (expected machine and rows); name a new file")
    before, load = dict(report["machine"]), "load_average"
    busier = {load: max(before[load], machine[load])}
    if before | busier != machine | busier:
        changed = sorted(key for key in machine if key != load and before.get(key) != machine[key])
        raise ConfigError(
            f"--json {file}: holds figures of another machine ({', '.join(changed)}); run all, or name a new file"
        )
    return [row for row in report["rows"] if row["name"] not in names], machine | busier
