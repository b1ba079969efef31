"""Write one labelled volume a frame, from a data set or from your own cameras."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

if TYPE_CHECKING:
    from occkit.data.datasets import FrameDataset, Split
    from occkit.engine import Engine
    from occkit.metrics.agreement import LidarAgreement
    from occkit.samples import Occupancy, Sample
    from occkit.training.recipe import Recipe
    from occkit.viewer.figures import FrameViews
    from occkit.viewer.report import Block, Section, Table

HELP = """Write one <token>.npz a frame (uint8 volume `semantics`), and a page with pictures of the first frames.

The frames come from a data set (--data) or from your own cameras (--rig): images and calibration, no labels. With the
LiDAR of a rig, the page and lidar_agreement.json say how far the prediction agrees with it. What is in DIR already is
kept, so an interrupted call is continued by repeating it.
"""

PICTURE_WIDTH = 800
"""Width of a camera picture on the page, pixels."""


@dataclass(frozen=True)
class Args:
    """See HELP."""

    run: tyro.conf.Positional[str]
    """Run or model folder, model that comes with occkit (lift-nano), or hub id."""
    out: Path
    """Folder to write."""
    data: Path | None = None
    """Data set folder."""
    rig: Path | None = None
    """A rig.json, or a folder of folders with one each."""
    split: Literal["train", "val", "test", "all"] = "val"
    """Part of --data."""
    pictures: bool = True
    """Draw pictures and write report.html."""
    max_pictures: int = 3
    """Draw only so many frames, evenly spread; all frames are predicted."""
    json: Path | None = None
    """Also write the agreement with the LiDAR to this file; fractions, 0..1."""
    engine: Literal["local", "ray"] = "local"
    """Who does the work: this process (and those of torchrun), or a Ray cluster (pip install occkit[ray])."""
    workers: int | None = None
    """With --engine ray: workers that hold the model; by default one a GPU, or one a core where there is none."""
    address: str | None = None
    """With --engine ray: auto or HOST:PORT of a cluster that sees the same folders; by default one of this machine."""
    code: Path | None = None
    """Your own recipe file, for a run whose classes come from it. Its code is run."""


def main(argv: list[str]) -> int:
    """Entry of `occkit predict`."""
    args = tyro.cli(Args, args=argv, prog="occkit predict", description=HELP)
    if (args.data is None) == (args.rig is None):
        print("occkit predict: give either --data ROOT or --rig RIG.json (occkit predict --help)", file=sys.stderr)
        return 2
    from occkit.engine import choose_engine

    engine = choose_engine(args.engine, workers=args.workers, address=args.address)
    if args.engine == "ray":
        return _spread(args, engine)
    from accelerate import PartialState

    from occkit.training.checkpoint import from_pretrained
    from occkit.training.evaluate import write_predictions

    state = PartialState()
    model, recipe = from_pretrained(args.run, code=args.code, device=state.device or "cpu")
    root = args.data or args.rig
    assert root is not None
    dataset = open_frames(root, args.split, recipe)
    written = write_predictions(model, dataset, args.out)
    if state.is_main_process:
        kept = len(dataset) - written
        print(f"predicted {len(dataset)} frames{f' ({kept} were there)' if kept and state.num_processes == 1 else ''}")
        _report(args, recipe, dataset, root)
    return 0


def _spread(args: Args, engine: "Engine") -> int:
    """Predict on a cluster; this process needs the recipe only."""
    from occkit.training.checkpoint import open_recipe
    from occkit.training.spread import ModelSource, spread_predictions

    root = args.data or args.rig
    assert root is not None
    root = root.absolute()
    run, recipe = open_recipe(args.run, code=args.code)
    dataset = open_frames(root, args.split, recipe)
    code = None if args.code is None else args.code.absolute()
    written = spread_predictions(ModelSource(run=run, code=code), dataset, args.out, engine)
    kept = len(dataset) - written
    print(f"predicted {len(dataset)} frames{f' ({kept} were there)' if kept else ''}")
    _report(args, recipe, dataset, root)
    return 0


def open_frames(root: Path, split: "Split", recipe: "Recipe", *, full_size: bool = False) -> "FrameDataset":
    """Open the frames as the recipe wants them, or with images as they are and LiDAR points, to draw on.

    A rig states neither voxels nor classes: unless it has a grid.json, they are those that the model was made for.
    """
    from dataclasses import replace

    from occkit.data.datasets import open_dataset
    from occkit.data.rig import RigDataset
    from occkit.geometry import VoxelGrid
    from occkit.taxonomy import TAXONOMIES

    config = recipe.data
    if full_size:
        config = replace(config, image_size=None, num_past=0, load_points=True, load_depth=False, augment=None)
    dataset = open_dataset(root, split=split, config=config)
    if not isinstance(dataset, RigDataset):
        return dataset
    grid = getattr(recipe.system, "grid", None)
    if isinstance(grid, VoxelGrid) and dataset.stated_grid is None:
        dataset.grid = grid
    dataset.taxonomy = TAXONOMIES.get(str(getattr(recipe.system, "taxonomy", "")), dataset.taxonomy)
    return dataset


def _report(args: Args, recipe: "Recipe", dataset: "FrameDataset", root: Path) -> None:
    """Compare with the LiDAR, draw, and write what came out."""
    import torch
    from rich.console import Console
    from rich.progress import track

    from occkit.data.predictions import prediction_path, read_prediction
    from occkit.files import write_json
    from occkit.samples import Occupancy
    from occkit.viewer import save_picture
    from occkit.viewer.figures import draw_frame, recording_car, sheets
    from occkit.viewer.report import Report, write_report

    measured = args.rig is not None
    if not (args.pictures or measured):
        return
    frames = open_frames(root, args.split, recipe, full_size=True)
    drawn = set(frames.spread(args.max_pictures).tokens) if args.pictures and args.max_pictures > 0 else set()
    agreement: dict[str, LidarAgreement] = {}
    sections: list[Section] = []
    tokens = [token for token in frames.tokens if measured or token in drawn]
    ego = recording_car(frames.name)
    for token in track(tokens, description="comparing and drawing", console=Console(stderr=True)):
        sample = frames.sample(frames.tokens.index(token))
        semantics = read_prediction(prediction_path(args.out, token), shape=dataset.grid.shape)
        prediction = Occupancy(semantics=torch.from_numpy(semantics), grid=dataset.grid, taxonomy=dataset.taxonomy)
        if measured and sample.points is not None:
            agreement[token] = _agreement(prediction, sample, frames)
        if token in drawn:
            views = draw_frame(sample, prediction, ego=ego, width=PICTURE_WIDTH)
            for name, picture in sheets(views).items():
                ending = "jpg" if name in ("cameras", "lidar", "overlay") else "png"
                save_picture(args.out / "pictures" / f"{token}_{name}.{ending}", picture)
            sections.append(_section(token, views, agreement.get(token)))
    if agreement:
        document = {token: found.fractions() for token, found in agreement.items()}
        write_json(args.out / "lidar_agreement.json", document)
        if args.json is not None:
            write_json(args.json, document)
        for token, found in agreement.items():
            print(f"{token}: {_say(found)}")
    if args.pictures:
        page = args.out / "report.html"
        lead = (
            f"What {recipe.name} says about {len(drawn)} of {len(frames)} frames of {frames.root.resolve().name}, from "
            f"images and calibration of {len(frames.camera_names)} cameras."
        )
        write_report(page, Report(title="Predicted occupancy", lead=lead, sections=tuple(sections)))
        print(f"pictures: {page}")


def _agreement(prediction: "Occupancy", sample: "Sample", dataset: "FrameDataset") -> "LidarAgreement":
    import torch

    from occkit.metrics.agreement import lidar_agreement

    assert sample.points is not None
    return lidar_agreement(prediction, sample.points, torch.from_numpy(dataset.ray_origins(sample.token)[0]))


def _section(token: str, views: "FrameViews", agreement: "LidarAgreement | None") -> "Section":
    """Return the part of the page that shows one frame."""
    from occkit.viewer.figures import camera_blocks, scene_blocks
    from occkit.viewer.report import Section

    blocks: list[Block] = [] if agreement is None else [_agreement_table(agreement)]
    return Section(title=f"Frame {token}", blocks=(*blocks, *camera_blocks(views), *scene_blocks(views)))


def _agreement_table(agreement: "LidarAgreement") -> "Table":
    from occkit.viewer.report import Table

    found = agreement.fractions()
    rows = (
        ("LiDAR points in voxels predicted occupied", _percent(found["points_in_occupied"]), f"{agreement.points:,}"),
        (
            "voxels holding a point, predicted occupied",
            _percent(found["hit_voxels_occupied"]),
            f"{agreement.hit_voxels:,}",
        ),
        ("voxels beams only pass, predicted free", _percent(found["passed_voxels_free"]), f"{agreement.free_voxels:,}"),
        ("mean of the last two", _percent(found["balanced"]), ""),
    )
    note = (
        "Per cent, of so many points or voxels. The LiDAR was not an input. A prediction that says the same of every "
        "voxel has a mean of 50; a thin thing in a large voxel lets beams pass, so 100 is out of reach."
    )
    return Table(columns=("agreement with the LiDAR", "per cent", "of"), rows=rows, note=note)


def _say(agreement: "LidarAgreement") -> str:
    found = agreement.fractions()
    return (
        f"LiDAR points in occupied voxels {_percent(found['points_in_occupied'])} %, "
        f"voxels with points occupied {_percent(found['hit_voxels_occupied'])} %, "
        f"voxels beams passed free {_percent(found['passed_voxels_free'])} % (mean of both "
        f"{_percent(found['balanced'])} %; a constant prediction has 50 %)"
    )


def _percent(value: float | None) -> str:
    return "n/a" if value is None else f"{100 * value:.1f}"
