"""Draw figures for a paper: frames side by side, training curves, claim cards."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from occkit.errors import ConfigError, DataError

if TYPE_CHECKING:
    from occkit.data.frames import FrameDataset
    from occkit.samples import Occupancy, Sample
    from occkit.viewer.grid import GridRow

HELP = """Draw figures for a paper.

grid: frames below each other; images, ground truth and what any number of runs say of them (and their errors) side by
side. curves: losses and validation scores of runs against the steps. card: the arms and lines of a claim card.
"""

PAGE_INCHES = 7.2
"""Width of a page's text over two columns: what type sizes are chosen for, and what a PNG says of its size."""


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Frames below each other; images, ground truth, predictions and their errors side by side."""

    data: Path
    """Data set folder, or a rig."""
    out: Path
    """File to write, .png or .jpg."""
    runs: tuple[str, ...] = ()
    """What predicts: runs, model folders, or folders of <token>.npz, each as NAME=FOLDER or FOLDER."""
    frames: tuple[str, ...] = ("3",)
    """Names of frames, or how many, evenly spread."""
    split: Literal["train", "val", "test", "all"] = "val"
    """Part of the data set."""
    cameras: tuple[str, ...] | None = None
    """Cameras whose images are shown; all by default."""
    images: bool = True
    """Show images."""
    errors: bool = False
    """Beside each prediction its errors: false, missed, wrong class, where a camera saw."""
    seen_only: bool = False
    """Leave out voxels that no camera observed."""
    view: Literal["perspective", "top"] = "perspective"
    """Scenes from behind and above, or from straight above with forward upwards."""
    score: str | None = None
    """Protocol whose main figure of the frame is written into each prediction, such as occ3d."""
    caption: str | None = None
    """A line below the figure; by default it says what is shown. Empty for none."""
    width: int = 2400
    """Width of the figure, pixels."""
    code: Path | None = None
    """Your own recipe file, for runs whose classes come from it. Its code is run."""


@dataclass(frozen=True, kw_only=True)
class Curves:
    """Losses and validation scores of runs against the steps."""

    runs: Annotated[tuple[str, ...], tyro.conf.Positional]
    """Run folders, each as NAME=FOLDER or FOLDER."""
    out: Path
    """File to write: .png, .svg or .pdf."""
    only: tuple[str, ...] = ()
    """Panels to draw, such as "loss" or "occ3d.miou"; a wrong one lists those there are. All by default."""
    smooth: int | None = None
    """Steps that a thick line averages over; a fortieth of the longest run by default, 1 for none."""
    log: bool = False
    """Logarithmic axis for the losses."""


@dataclass(frozen=True, kw_only=True)
class Card:
    """The arms and the lines of a claim card, with 95 % intervals."""

    card: Annotated[Path, tyro.conf.Positional]
    """The JSON that `occkit reproduce` wrote, such as results/radocc.json."""
    out: Path
    """File to write: .png, .svg or .pdf."""


Form = (
    Annotated[Grid, tyro.conf.subcommand("grid", prefix_name=False)]
    | Annotated[Curves, tyro.conf.subcommand("curves", prefix_name=False)]
    | Annotated[Card, tyro.conf.subcommand("card", prefix_name=False)]
)


def main(argv: list[str]) -> int:
    """Entry of `occkit draw`."""
    args: Grid | Curves | Card = tyro.cli(Form, args=argv, prog="occkit draw", description=HELP)  # type: ignore[arg-type]
    _check_ending(args)
    if isinstance(args, Grid):
        _draw_grid(args)
    elif isinstance(args, Curves):
        _draw_curves(args)
    else:
        _draw_card(args)
    print(args.out)
    return 0


def _check_ending(args: Grid | Curves | Card) -> None:
    """Refuse a file we cannot write before any work is done for it."""
    endings = (".png", ".jpg", ".jpeg") if isinstance(args, Grid) else (".png", ".svg", ".pdf")
    if args.out.suffix.lower() not in endings:
        raise ConfigError(f"--out {args.out}: expected a name that ends in {', '.join(endings)}")


def _draw_card(args: Card) -> None:
    from occkit.files import write_bytes
    from occkit.training.claim_plot import plot_card, read_card
    from occkit.training.plots import encode_figure

    write_bytes(args.out, encode_figure(plot_card(read_card(args.card)), args.out.suffix))


def _draw_curves(args: Curves) -> None:
    from occkit.files import write_bytes
    from occkit.training.curves import plot_curves, read_curves
    from occkit.training.plots import encode_figure

    runs = {name: read_curves(Path(folder)) for name, folder in _named(args.runs).items()}
    figure = plot_curves(runs, only=args.only, smooth=args.smooth, log=args.log)
    write_bytes(args.out, encode_figure(figure, args.out.suffix))


def _named(runs: Sequence[str]) -> dict[str, str]:
    """Return folder by name; `NAME=FOLDER`, or a folder called by its own name."""
    found: dict[str, str] = {}
    for entry in runs:
        name, equals, folder = entry.partition("=")
        if not equals or Path(entry).exists():
            name, folder = Path(entry).resolve().name, entry
        if not name or not folder:
            raise ConfigError(f"{entry!r}: expected NAME=FOLDER or FOLDER")
        if name in found:
            raise ConfigError(f"two runs are called {name!r}; name them: first={found[name]} second={folder}")
        found[name] = folder
    return found


def _draw_grid(args: Grid) -> None:
    from occkit.data.selection import choose_frames
    from occkit.metrics import Evaluator
    from occkit.viewer import save_picture
    from occkit.viewer.figures import recording_car
    from occkit.viewer.grid import GridStyle, draw_grid

    if args.width < 400:
        raise ConfigError(f"--width must be at least 400, got {args.width}")
    if args.score is not None:
        Evaluator([args.score])  # a wrong name is told before anything is predicted
    runs = _named(args.runs)
    frames = _open(args, runs)
    tokens = choose_frames(frames.tokens, args.frames)
    samples = [frames.sample(frames.tokens.index(token)) for token in tokens]
    _check_labels(args, samples)
    predictions = {name: _predict(args, name, Path(folder), frames, tokens) for name, folder in runs.items()}
    rows = [_row(args, sample, frames, [predictions[name][sample.token] for name in runs]) for sample in samples]
    style = GridStyle(
        view=args.view,
        errors=args.errors,
        seen_only=args.seen_only,
        width=args.width,
        ego=recording_car(frames.name),
        caption=_caption(args, len(rows)) if args.caption is None else args.caption,
    )
    save_picture(args.out, draw_grid(rows, list(runs), style), inches=PAGE_INCHES)


def _open(args: Grid, runs: dict[str, str]) -> "FrameDataset":
    """Open the frames with their images as they are stored. A rig takes voxels and classes from the first run."""
    from occkit.cli.predict import open_frames
    from occkit.data.datasets import open_dataset
    from occkit.data.frames import DataConfig
    from occkit.data.rig import RigDataset
    from occkit.training.checkpoint import read_recipe

    frames = open_dataset(args.data, split=args.split, config=DataConfig(cameras=args.cameras, load_depth=False))
    models = [Path(folder) for folder in runs.values() if _is_model(Path(folder))]
    if isinstance(frames, RigDataset) and models:
        like = open_frames(args.data, args.split, read_recipe(models[0], code=args.code))
        frames.grid, frames.taxonomy = like.grid, like.taxonomy
    return frames


def _check_labels(args: Grid, samples: "Sequence[Sample]") -> None:
    without = [sample.token for sample in samples if sample.occupancy is None]
    if without and len(without) < len(samples):
        raise DataError(args.data, f"frame {without[0]} has no label, others have", "choose frames with --frames")
    if without and (args.errors or args.score is not None or not args.runs):
        raise DataError(args.data, "has no labels", "give --runs, and leave out --errors and --score")


def _is_model(folder: Path) -> bool:
    from occkit.training.checkpoint import find_model

    return find_model(folder) is not None


def _predict(
    args: Grid, name: str, folder: Path, frames: "FrameDataset", tokens: Sequence[str]
) -> "dict[str, Occupancy]":
    """Return what a run, or a folder of predictions, says of the frames."""
    import torch

    from occkit.cli.predict import open_frames
    from occkit.data.predictions import list_predictions, prediction_path, read_prediction
    from occkit.samples import Occupancy
    from occkit.training.checkpoint import from_pretrained
    from occkit.training.evaluate import predict_dataset

    if not _is_model(folder):
        there = list_predictions(folder)
        missing = [token for token in tokens if token not in there]
        if missing:
            raise DataError(folder, f"has no prediction of frame {missing[0]}", f"choose --frames, such as {there[0]}")
        volumes = {t: read_prediction(prediction_path(folder, t), shape=frames.grid.shape) for t in tokens}
    else:
        model, recipe = from_pretrained(folder, code=args.code)
        seen = open_frames(args.data, args.split, recipe)
        lacking = [token for token in tokens if token not in seen.tokens]
        if lacking:
            raise DataError(args.data, f"{name} cannot be shown frame {lacking[0]}", "choose others with --frames")
        volumes = dict(predict_dataset(model, seen, tokens=tokens, progress=True))
    wrong = [v.shape for v in volumes.values() if v.shape != frames.grid.shape]
    if wrong:
        raise DataError(folder, f"predicts {wrong[0]} voxels, the labels have {frames.grid.shape}", "take another run")
    return {
        t: Occupancy(semantics=torch.from_numpy(v), grid=frames.grid, taxonomy=frames.taxonomy)
        for t, v in volumes.items()
    }


def _row(args: Grid, sample: "Sample", frames: "FrameDataset", predictions: "list[Occupancy]") -> "GridRow":
    from occkit.viewer.canvas import to_array
    from occkit.viewer.grid import GridRow

    images = tuple(to_array(image) for image in sample.images[0].numpy()) if args.images else ()
    notes = () if args.score is None else tuple(_score(args.score, sample, frames, p) for p in predictions)
    return GridRow(images=images, label=sample.occupancy, predictions=tuple(predictions), notes=notes)


def _score(protocol: str, sample: "Sample", frames: "FrameDataset", prediction: "Occupancy") -> str:
    """Return the main figure of one frame under a protocol, in words."""
    from occkit.metrics import PROTOCOLS, Evaluator, RayProtocol, main_score

    evaluator = Evaluator([protocol])
    assert sample.occupancy is not None
    origins = frames.ray_origins(sample.token) if isinstance(PROTOCOLS[protocol], RayProtocol) else None
    evaluator.add(sample.token, prediction.semantics.numpy(), sample.occupancy, origins)
    entry = evaluator.report()[protocol]
    value = main_score(entry)
    name = "RayIoU" if "rayiou" in entry else "mIoU" if "miou" in entry else "IoU"
    return f"{name} {'-' if value is None else f'{100 * value:.1f}'}"


def _caption(args: Grid, count: int) -> str:
    """Return what the figure shows."""
    where = "from straight above, forward is up" if args.view == "top" else "from behind and above"
    name = args.data.resolve().name if args.data.is_dir() else args.data.resolve().parent.name
    said = f"{count} frame{'s' if count > 1 else ''} of {name} ({args.split}), seen {where}."
    if args.errors:
        said += " Errors are shown where a camera saw."
    if args.score is not None:
        said += f" Figures: {args.score} on the frame alone, per cent."
    return said
