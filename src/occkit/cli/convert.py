"""Carry labels from one data set's format to another's, and say what is lost."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from occkit.errors import ConfigError


@dataclass(frozen=True)
class Args:
    """Carry labels from one data set's format to another's, and say what is lost.

    Occ3D, OpenOcc, SurroundOcc, OpenOccupancy, SemanticKITTI and SSCBench-KITTI-360 labels are renamed class by class
    and moved to the target's frame and grid; `conversion.json` beside the result keeps the account. A folder of
    predictions becomes a zip for the SemanticKITTI server, which is then checked by the server's rules.
    """

    source: Annotated[Path, tyro.conf.Positional]
    """Folder of the labels or, for a submission, of the predictions."""
    to: Literal[
        "occ3d", "openocc", "surroundocc", "openoccupancy", "semantickitti", "sscbench", "semantickitti-submission"
    ]
    """Format to write."""
    out: Path
    """Folder to write; for a submission the .zip."""
    from_: Annotated[
        Literal["occ3d", "openocc", "surroundocc", "openoccupancy", "semantickitti", "sscbench"] | None,
        tyro.conf.arg(name="from"),
    ] = None
    """Format to read; found out from the folder unless given."""
    grid: Literal["target", "source"] = "target"
    """target: resample to the target's frame and voxels. source: keep both (nothing is lost there); grid.json says
    so."""
    tables: Path | None = None
    """nuScenes root (or its v1.0-* folder): names of the LiDAR sweeps and the mounting of the LiDAR."""
    ego_from_lidar: Path | None = None
    """JSON file with a 4x4 matrix, the mounting of the LiDAR, where there are no tables."""
    data: Path | None = None
    """SemanticKITTI root: a submission must then hold exactly the frames the server asks for."""
    description: str | None = None
    """Text of the submission's description.txt."""
    json: Path | None = None
    """Write the account to this file too."""


def main(argv: list[str]) -> int:
    """Entry of `occkit convert`."""
    args = tyro.cli(Args, args=argv, prog="occkit convert")
    return _submit(args) if args.to == "semantickitti-submission" else _convert(args)


def _convert(args: Args) -> int:
    from rich.progress import Progress

    from occkit.data.convert import Conversion, convert_folder
    from occkit.data.convert_files import FORMATS, FormatName, recognise_format
    from occkit.data.convert_names import read_names, read_pose

    if args.description is not None or args.data is not None:
        raise ConfigError("--data and --description belong to --to semantickitti-submission")
    target: FormatName = args.to  # pyright: ignore[reportAssignmentType]
    conversion = Conversion(
        source=FORMATS[args.from_ or recognise_format(args.source)],
        target=FORMATS[target],
        keep_grid=args.grid == "source",
        ego_from_lidar=None if args.ego_from_lidar is None else read_pose(args.ego_from_lidar),
        names={} if args.tables is None else read_names(args.tables),
    )
    with Progress(transient=True) as bar:
        task = bar.add_task(f"{conversion.source.name} -> {conversion.target.name}", total=None)
        loss = convert_folder(
            args.source,
            args.out,
            conversion,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    print(f"{conversion.source.name} -> {conversion.target.name}: {args.out}")
    for line in loss.lines():
        print(f"  {line}")
    if args.json is not None:
        args.json.write_text(json.dumps(loss.to_json(), indent=1) + "\n", encoding="utf-8")
    return 0


def _submit(args: Args) -> int:
    from rich.progress import Progress

    from occkit.data.submission import validate_submission, write_submission

    with Progress(transient=True) as bar:
        task = bar.add_task("submission", total=None)
        count = write_submission(
            args.source,
            args.out,
            data_root=args.data,
            description=args.description,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    problems = validate_submission(args.out, data_root=args.data)
    print(f"{args.out}: {count} frames" + ("" if args.data else "; completeness not checked (give --data)"))
    for problem in problems:
        print(f"  {problem}")
    if args.json is not None:
        args.json.write_text(json.dumps({"frames": count, "problems": problems}, indent=1) + "\n", encoding="utf-8")
    return 1 if problems else 0
