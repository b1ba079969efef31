"""Write a run as ONNX, with a report on how well the file agrees with the run."""

import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro

from occkit.errors import ConfigError, DataError

if TYPE_CHECKING:
    from torch import nn

    from occkit.data.frames import FrameDataset
    from occkit.export import ExportConfig, Frame, GraphOptions
    from occkit.samples import Batch
    from occkit.training.recipe import Recipe

HELP = """Write a run as ONNX without custom operators, and a parity report (.parity.json, .parity.md) beside it.

  occkit export RUN --out model.onnx --data ROOT --variants fp16 int8

The file takes raw images and the calibration of any rig with as many cameras as the run's; model.fp16.onnx and
model.int8.onnx come beside it. Frames of --data measure parity and mIoU (other than those that calibrate 8 bits, where
the data set has a training split); without --data, noise seen by the cameras that the run keeps. Every frame is seen
by a moved rig, too. Nothing is written unless all scores are within 1e-4 of the run's and 99.9 % of the labels agree.
"""


@dataclass(frozen=True)
class Args:
    """See HELP."""

    run: tyro.conf.Positional[str]
    """Run or model folder, model that comes with occkit (lift-nano), or hub id."""
    out: Path
    """The file to write; ends in .onnx."""
    data: Path | None = None
    """Data set folder, or a rig.json, to measure and calibrate with."""
    split: Literal["train", "val", "test", "all"] = "val"
    """Part of --data that is measured."""
    frames: int = 4
    """Measure so many frames, evenly spread."""
    calibration: int = 16
    """Find the ranges of 8-bit numbers on so many frames."""
    batch: str = "1"
    """Frames of a call: a number, or "dynamic"."""
    variants: tuple[Literal["fp16", "int8"], ...] = ()
    """Smaller files beside it."""
    lens: bool = False
    """Take lens coefficients, even if the cameras here have none."""
    fixed_rig: bool = False
    """Make the cameras of the first frame part of the file: faster, and for this rig alone."""
    repeats: int = 5
    """Timed calls."""
    example: Path | None = None
    """Also write one frame of --data here, as rig.json and images, to try the file on."""
    code: Path | None = None
    """Your own recipe file, for a run whose classes come from it. Its code is run."""


def main(argv: list[str]) -> int:
    """Entry of `occkit export`."""
    args = tyro.cli(Args, args=argv, prog="occkit export", description=HELP)
    wrong = _usage_problem(args)
    if wrong:
        print(f"occkit export: {wrong} (occkit export --help)", file=sys.stderr)
        return 2
    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(f"export needs {', '.join(missing)}; pip install 'occkit[export]'")
    import logging

    from occkit.export import About, GraphOptions, export_system, spec_of
    from occkit.training.checkpoint import fingerprint, from_pretrained
    from occkit.training.system import AnswersWords

    for name in ("torch.onnx", "onnxscript", "onnx_ir"):
        logging.getLogger(name).setLevel(logging.ERROR)
    model, recipe = from_pretrained(args.run, code=args.code)
    measured = _measured(args, recipe)
    first, names = _first(args, recipe, measured)
    speaks = isinstance(model, AnswersWords)
    graph = GraphOptions(lens=args.lens, points=_looks_at_points(model, first), voxel_features=speaks)
    config = _config(args, recipe, graph)
    frames = _frames(first, measured, config)
    calibration = [] if "int8" not in args.variants else _calibration(args, recipe, graph)
    exported = export_system(
        model,
        spec_of(first, frames[0].inputs),
        frames,
        path=args.out,
        about=About(
            recipe=recipe.name,
            weights_sha256=fingerprint(model),
            keep_aspect=recipe.data.keep_aspect,
            camera_names=names,
            vocabulary=model.vocabulary if isinstance(model, AnswersWords) else (),
        ),
        config=config,
        calibration=calibration,
    )
    for file in exported.write(args.out):
        print(f"wrote {file}")
    _print_table(exported.report)
    if args.example is not None and args.data is not None:
        print(f"wrote {_write_example(args, args.data, args.example, recipe)}")
    return 0


def _usage_problem(args: Args) -> str | None:
    if args.out.suffix != ".onnx":
        return f"--out: expected a file that ends in .onnx, got {args.out.name}"
    if args.batch != "dynamic" and not (args.batch.isdecimal() and 1 <= int(args.batch) <= 64):
        return f'--batch: expected 1..64 or "dynamic", got {args.batch!r}'
    if min(args.frames, args.repeats, args.calibration) < 1:
        return "--frames, --repeats and --calibration must be at least 1"
    if args.data is None and "int8" in args.variants:
        return "--variants int8: needs --data, frames to find the ranges of the numbers on"
    if args.data is None and args.example is not None:
        return "--example: needs --data"
    return None


def _config(args: Args, recipe: "Recipe", graph: "GraphOptions") -> "ExportConfig":
    from occkit.export import ExportConfig

    return ExportConfig(
        batch=None if args.batch == "dynamic" else int(args.batch),
        variants=tuple(dict.fromkeys(args.variants)),
        graph=graph,
        fixed_rig=args.fixed_rig,
        repeats=args.repeats,
        protocol=recipe.protocols[0] if args.data is not None and recipe.protocols else None,
    )


def _measured(args: Args, recipe: "Recipe") -> "FrameDataset | None":
    """Return the frames to measure; None without a data set."""
    from occkit.cli.predict import open_frames

    if args.data is None:
        return None
    return open_frames(args.data, args.split, recipe).spread(args.frames)


def _first(args: Args, recipe: "Recipe", measured: "FrameDataset | None") -> "tuple[Batch, tuple[str, ...]]":
    """Return the first frame, and the names of its cameras: of the data, or noise in the cameras that the run keeps."""
    from occkit.samples import collate

    if measured is not None:
        return collate([measured.sample(0)]), measured.camera_names
    import torch

    from occkit.data.rig_files import drive_on, read_rigs
    from occkit.data.transforms import apply_to_cameras, plan_image
    from occkit.geometry import VoxelGrid
    from occkit.samples import Batch
    from occkit.taxonomy import TAXONOMIES
    from occkit.training.checkpoint import RIGS_FOLDER

    folder, size = Path(args.run) / RIGS_FOLDER, recipe.data.image_size
    grid, taxonomy = getattr(recipe.system, "grid", None), TAXONOMIES.get(str(getattr(recipe.system, "taxonomy", "")))
    if not folder.exists() or not isinstance(grid, VoxelGrid) or taxonomy is None or recipe.data.inputs is not None:
        raise DataError(args.run, "does not say what its frames look like", "give --data ROOT, or --data RIG.json")
    cameras, names = read_rigs(folder)
    if size is not None and size != (cameras.height, cameras.width):
        plan = plan_image((cameras.height, cameras.width), size, keep_aspect=recipe.data.keep_aspect)
        cameras = apply_to_cameras(cameras, plan)
    cameras = drive_on(cameras, 1 + recipe.data.num_past).map(lambda tensor: tensor[None])
    shape = (*cameras.batch_shape, 3, cameras.height, cameras.width)
    noise = torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return Batch(tokens=("noise",), images=noise, cameras=cameras, grid=grid, taxonomy=taxonomy), names


def _looks_at_points(model: "nn.Module", batch: "Batch") -> bool:
    """Say whether a system predicts from LiDAR points: without them, it complains."""
    from dataclasses import replace

    import torch

    from occkit.training.system import predict

    if batch.points is None:
        return False
    try:
        with torch.no_grad():
            predict(model, replace(batch, points=None))
    except ConfigError:
        return True
    return False


def _frames(first: "Batch", measured: "FrameDataset | None", config: "ExportConfig") -> "list[Frame]":
    """Return the frames to compare on, each of them by its own rig and, unless the rig is fixed, by a moved one."""
    from occkit.export import Frame, frame_inputs, moved_rig
    from occkit.metrics import PROTOCOLS, RayProtocol
    from occkit.samples import collate

    rays = config.protocol is not None and isinstance(PROTOCOLS[config.protocol], RayProtocol)
    frames: list[Frame] = []
    for index in range(1 if measured is None else len(measured)):
        batch = first if index == 0 or measured is None else collate([measured.sample(index)])
        token = batch.tokens[0]
        label = None if measured is None else measured.label(token)
        origins = measured.ray_origins(token) if rays and label is not None and measured is not None else None
        own = frame_inputs(batch, 0, config.graph)
        frames.append(Frame(token=token, inputs=own, label=label, origins=origins))
        if not config.fixed_rig:
            moved = frame_inputs(moved_rig(batch), 0, config.graph)
            frames.append(Frame(token=f"{token} (moved rig)", inputs=moved))
    return frames


def _calibration(args: Args, recipe: "Recipe", graph: "GraphOptions") -> "list[dict[str, Any]]":
    """Return frames to calibrate with: of the training split where there is one, else of what is measured."""
    from occkit.cli.predict import open_frames
    from occkit.export import frame_inputs
    from occkit.samples import collate

    assert args.data is not None
    try:
        dataset = open_frames(args.data, "train", recipe)
    except DataError:
        dataset = open_frames(args.data, args.split, recipe)
    dataset = dataset.spread(args.calibration)
    return [frame_inputs(collate([dataset.sample(i)]), 0, graph) for i in range(len(dataset))]


def _print_table(report: Any) -> None:
    """Print the numbers of the report."""
    print(f"{'':8} {'largest':>9} {'mean':>9} {'labels':>9} {'score':>7} {'call':>10}")
    rows = [("torch", report["torch"]), *report["variants"].items()]
    for name, entry in rows:
        score = "" if entry["score"] is None else f"{100 * entry['score']:.2f}"
        cells = " " * 29
        if "label_agreement" in entry:
            largest, mean = entry["max_abs_difference"], entry["mean_abs_difference"]
            cells = f"{largest:9.1e} {mean:9.1e} {100 * entry['label_agreement']:8.3f}%"
        print(f"{name:8} {cells} {score:>7} {entry['latency_ms']:7.1f} ms")


def _write_example(args: Args, data: Path, folder: Path, recipe: "Recipe") -> Path:
    """Write the first measured frame as it is stored: rig.json, and an image a camera."""
    from occkit.cli.predict import open_frames
    from occkit.data.rig_files import write_rigs
    from occkit.files import write_image

    frames = open_frames(data, args.split, recipe, full_size=True).spread(args.frames)
    sample = frames.sample(0)
    (place,) = write_rigs(folder, sample.cameras, sample.camera_names)
    for name, image in zip(sample.camera_names, sample.images[0], strict=True):
        write_image(folder / place / f"{name}.png", image.numpy())
    return folder / place / "rig.json"
