"""World -> train -> evaluate -> pictures and a report page: the first five minutes."""

import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from occkit.errors import ConfigError

if TYPE_CHECKING:
    from occkit.data.datasets import FrameDataset
    from occkit.training.recipe import Recipe
    from occkit.viewer.report import Bars, Block, Chart, Commands, Report, Section
    from occkit.world.presets import WorldConfig

HELP = """Show everything once: write a small procedural world, train a network on it, score it on streets it has
never seen, and draw what it predicts. Takes a few minutes on two cores and needs no GPU, no download and no data set.
With --fast a network that comes with occkit predicts at once.

What is in DIR already and complete is used again, so an interrupted demo is continued by repeating the command.
"""

MARKER = "demo.json"
"""Says that a folder was made by this command, and with which settings."""
PROTOCOLS = ("occ3d", "rayiou")
FAST_NETWORK = "lift-nano"
"""The network of --fast."""
FIGURES = (
    ("occ3d", "miou", "mIoU", "mean over the classes of the intersection over union, where a camera saw"),
    ("occ3d", "iou", "IoU", "occupied against free, whatever the class, where a camera saw"),
    ("rayiou", "rayiou", "RayIoU", "the right class at the right distance (1, 2, 4 m) along LiDAR-like rays"),
)
"""Protocol, figure in its JSON, name, meaning."""


@dataclass(frozen=True)
class Args:
    """See HELP."""

    out: Path = Path("demo")
    """Folder to write."""
    fast: bool = False
    """Train nothing: a network that comes with occkit predicts on a few new streets. Less than a minute."""
    seed: int = 0
    """Of the world and of the training."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What the demo does."""

    world: "WorldConfig"
    """Settings of the world."""
    num_scenes: int
    """Scenes; a fifth of them is held out."""
    recipe: "Recipe"
    """What is, or was, trained."""
    trained: Path | None = None
    """Model folder to take in place of a training."""
    num_shown: int
    """Held-out frames on the page."""


def main(argv: list[str]) -> int:
    """Entry of `occkit demo`."""
    args = tyro.cli(Args, args=argv, prog="occkit demo", description=HELP)
    started = time.monotonic()
    plan = make_plan(args)
    _claim(args)
    world = args.out / "world"
    with _stage("1/4 world: a procedural street in the layout of nuScenes, with Occ3D labels"):
        _write_world(plan, world, args.seed)
    if plan.trained is not None:
        print(f"2/4 no training: {plan.trained.name} comes with occkit", flush=True)
        steps_done = 0
    else:
        first = _first_picture(plan, world, args.out)
        print(f"first picture after {time.monotonic() - started:.0f} s: {first}", flush=True)
        with _stage(f"2/4 training {plan.recipe.name}, {plan.recipe.steps} steps"):
            steps_done = _train(plan, world, args.out / "run")
        if steps_done is None:
            print(f"stopped; its state is written. Go on with: occkit demo --out {args.out}")
            return 1
    with _stage("3/4 evaluation on held-out streets, beside the constant prior"):
        scores = _evaluate(plan, args, again=steps_done > 0)
    with _stage("4/4 pictures and report"):
        page = _write_page(plan, args, scores, again=steps_done > 0)
    _print_scores(scores)
    print(f"report: {page}")
    print(f"{time.monotonic() - started:.0f} s in all")
    return 0


def make_plan(args: Args) -> Plan:
    """Return the settings of the demo, or of its fast form."""
    from occkit.systems.lift import LiftConfig
    from occkit.training.checkpoint import find_model, read_recipe
    from occkit.training.recipe import load_recipe
    from occkit.world.presets import PRESETS

    nano = PRESETS["nano"]
    if args.fast:
        trained = find_model(FAST_NETWORK)
        assert trained is not None, "a part of the package"
        world = replace(nano, frames=1)
        return Plan(world=world, num_scenes=6, recipe=read_recipe(trained), num_shown=1, trained=trained)
    recipe = load_recipe("lift.nano")
    assert isinstance(recipe.system, LiftConfig)
    recipe = replace(
        recipe,
        name="lift.demo",
        system=replace(recipe.system, image_steps=120),
        steps=320,
        evaluate_every=None,
        save_every=60,
        seed=args.seed,
    )
    # One frame a street: neighbouring frames of one street teach almost the same.
    return Plan(world=replace(nano, frames=1), num_scenes=160, recipe=recipe, num_shown=2)


@contextmanager
def _stage(what: str) -> Generator[None]:
    print(what, flush=True)
    started = time.monotonic()
    yield
    print(f"    {time.monotonic() - started:.0f} s", flush=True)


def _claim(args: Args) -> None:
    """Make the folder ours, or refuse one that is not."""
    from occkit.files import read_json, write_json

    settings = {"made_by": "occkit demo", "fast": args.fast, "seed": args.seed}
    marker = args.out / MARKER
    if marker.is_file():
        if read_json(marker) != settings:
            raise ConfigError(f"{args.out}: holds a demo of other settings; give another folder as --out, or remove it")
        return
    if args.out.exists() and (not args.out.is_dir() or any(args.out.iterdir())):
        raise ConfigError(f"{args.out}: is not empty and not a demo; give a new folder as --out")
    write_json(marker, settings)


def _write_world(plan: Plan, world: Path, seed: int) -> None:
    import os

    from rich.console import Console
    from rich.progress import Progress

    from occkit.world.generate import generate

    with Progress(console=Console(stderr=True)) as bar:
        task = bar.add_task("scenes", total=plan.num_scenes)
        generate(
            plan.world,
            world,
            num_scenes=plan.num_scenes,
            seed=seed,
            workers=min(os.cpu_count() or 1, 8),
            progress=lambda _, done, total: bar.update(task, completed=done, total=total),
        )


def _frames(plan: Plan, world: Path, *, points: bool = False) -> "FrameDataset":
    """Open the held-out frames: as the network wants them, or with images as they are and LiDAR points."""
    from occkit.data.datasets import open_dataset

    config = plan.recipe.data
    if points:
        config = replace(config, image_size=None, load_points=True, load_depth=False)
    return open_dataset(world, split="val", config=config)


def _first_picture(plan: Plan, world: Path, out: Path) -> Path:
    """Draw what the network is going to learn: images in, voxels out."""
    from occkit.viewer import canvas, draw_perspective
    from occkit.viewer.figures import camera_sheet

    path = out / "pictures" / "world.png"
    if path.is_file():
        return path
    frames = _frames(plan, world, points=True)
    sample = frames.sample(frames.tokens.index(_by_light(frames)[0]))
    assert sample.occupancy is not None
    images = [canvas.to_array(image) for image in sample.images[0].numpy()]
    images = [canvas.resize(image, image.shape[0] * 3, image.shape[1] * 3) for image in images]
    label = canvas.add_caption(draw_perspective(sample.occupancy), "what it shall say: the label")
    cameras = camera_sheet(images, sample.camera_names, width=label.shape[1])
    legend = canvas.legend(canvas.present_classes([sample.occupancy]), width=label.shape[1])
    canvas.save_picture(path, canvas.stack([cameras, label, legend]))
    return path


def _by_light(frames: "FrameDataset") -> list[str]:
    """Return the first frame of each scene, brightest images first: at night there is little to look at on a page."""
    firsts: dict[str, tuple[float, str]] = {}
    for i, token in enumerate(frames.tokens):
        sample = frames.sample(i)
        firsts.setdefault(sample.scene, (-float(sample.images.float().mean()), token))
    return [token for _, token in sorted(firsts.values())]


def _train(plan: Plan, world: Path, run: Path) -> int | None:
    """Train, or go on training; return the number of steps done now, None if it was interrupted."""
    import shutil

    from occkit.training.checkpoint import RECIPE_FILE, read_state
    from occkit.training.loop import train

    resume = any((run / "state").glob("*/info.json"))
    if not resume and (run / RECIPE_FILE).is_file():
        shutil.rmtree(run)  # killed before its first state was written: nothing to go on from
    before = int(read_state(run / "state")[1]["step"]) if resume else 0
    result = train(plan.recipe, world, run, resume=resume)
    return result.step - before if result.finished else None


def _evaluate(plan: Plan, args: Args, *, again: bool) -> dict[str, Any]:
    """Score the trained network and the constant prior; return the evaluation JSON, one entry a protocol."""
    from occkit.data.datasets import open_dataset
    from occkit.files import read_json, write_json
    from occkit.training.checkpoint import from_pretrained
    from occkit.training.evaluate import evaluate_model, evaluate_prior, fit_prior

    world, path = args.out / "world", args.out / "evaluation.json"
    if path.is_file() and not again:
        return read_json(path)
    model, _ = from_pretrained(plan.trained or args.out / "run")
    held_out = _frames(plan, world)
    report: dict[str, Any] = evaluate_model(model, held_out, PROTOCOLS, progress=True).report()
    prior = fit_prior(open_dataset(world, split="train", config=plan.recipe.data))
    for name, entry in evaluate_prior(prior, held_out, PROTOCOLS).report().items():
        report[name]["constant_prior"] = {k: v for k, v in entry.items() if k not in ("protocol", "counts")}
    write_json(path, report)
    return report


def _write_page(plan: Plan, args: Args, scores: dict[str, Any], *, again: bool) -> Path:
    """Predict and draw some held-out frames, and write the report."""
    import torch
    from rich.console import Console
    from rich.progress import track

    from occkit.samples import Occupancy
    from occkit.training.checkpoint import from_pretrained
    from occkit.training.evaluate import predict_dataset
    from occkit.viewer import EgoCar, save_picture
    from occkit.viewer.figures import camera_blocks, draw_frame, scene_blocks, sheets
    from occkit.viewer.report import Link, Section, write_report
    from occkit.viewer.scene_files import write_scene_page
    from occkit.viewer.show import FrameToShow

    path = args.out / "report.html"
    if path.is_file() and not again:
        return path
    model, _ = from_pretrained(plan.trained or args.out / "run")
    frames, drawn = _frames(plan, args.out / "world"), _frames(plan, args.out / "world", points=True)
    tokens = _by_light(drawn)[: plan.num_shown]
    sections: list[Section] = []
    predictions = predict_dataset(model, frames, tokens=tokens)
    for token, semantics in track(predictions, "drawing", total=len(tokens), console=Console(stderr=True)):
        prediction = Occupancy(semantics=torch.from_numpy(semantics), grid=frames.grid, taxonomy=frames.taxonomy)
        sample = drawn.sample(drawn.tokens.index(token))
        views = draw_frame(sample, prediction, ego=EgoCar(), width=528)
        for name, picture in sheets(views).items():
            save_picture(args.out / "pictures" / f"{token}_{name}.png", picture)
        scene = f"scene_{len(sections) + 1}.html"
        volumes = {"prediction": lambda p=prediction: p, "label": lambda token=token: drawn.label(token)}
        frame = FrameToShow(token=token, volumes=volumes, sample=lambda sample=sample: sample, ego=EgoCar()).read()
        write_scene_page(args.out / scene, [frame], "prediction", title="Prediction")
        fly = Link(text="Fly through this prediction (one file, no server)", file=scene)
        title = "A street it has never seen" if not sections else "Another one"
        sections.append(Section(title=title, blocks=(*scene_blocks(views), fly, *camera_blocks(views))))
    write_report(path, _compose(plan, args, scores, sections, num_weights=sum(p.numel() for p in model.parameters())))
    return path


def _compose(plan: Plan, args: Args, scores: dict[str, Any], shown: "list[Section]", *, num_weights: int) -> "Report":
    """Return the page."""
    import torch

    from occkit import __version__
    from occkit.viewer.report import Report, Section

    training = (Section(title="Training", blocks=(_loss_chart(plan, args.out / "run"),)),) if not plan.trained else ()
    merits = tuple(
        (
            f"{_percent(scores[protocol][figure])} %",
            name,
            f"prior {_percent(_prior(scores, protocol, figure))} %",
        )
        for protocol, figure, name, _ in FIGURES
    )
    return Report(
        title="Occupancy from six cameras",
        lead=_lead(plan, num_weights),
        figures_of_merit=merits,
        sections=(
            *shown,
            Section(title="Numbers", blocks=_numbers(scores)),
            Section(title="Classes", blocks=(_class_bars(scores),)),
            *training,
            Section(title="Go on", blocks=(_commands(plan, args.out),)),
        ),
        footer=f"occkit {__version__}, torch {torch.__version__}, seed {args.seed}. Made by occkit demo.",
    )


def _lead(plan: Plan, num_weights: int) -> str:
    says = (
        "From six images and their calibration alone it says what is where: a class for each voxel of 80 x 80 x 6.4 "
        "metres."
    )
    network = f"A network of {num_weights / 1e6:.2f} million weights"
    if plan.trained is not None:
        return (
            f"{network} comes with occkit; it was trained on other procedural streets for {plan.recipe.steps} steps. "
            f"{says} The figures are those of very few frames; without --fast occkit demo trains a network of your own."
        )
    streets = plan.num_scenes - round(plan.num_scenes * 0.2)
    return (
        f"{network} looked at {streets * plan.world.frames} frames of six small camera images on {streets} procedural "
        f"streets, for {plan.recipe.steps} steps. {says}"
    )


def _numbers(scores: dict[str, Any]) -> "tuple[Block, ...]":
    from occkit.viewer.report import Table, Text

    rows = tuple(
        (f"{name}: {meaning}", p, _percent(scores[p][figure]), _percent(_prior(scores, p, figure)))
        for p, figure, name, meaning in FIGURES
    )
    explanation = Text(
        paragraphs=(
            "The constant prior knows nothing of the frame: in every voxel it says what is most often there on the "
            "training streets. A network that does not beat it has learned nothing from its images.",
        )
    )
    note = f"Per cent, on {scores['occ3d']['frames']} frames of held-out streets; counts are pooled over all frames."
    return Table(columns=("figure", "protocol", "model", "prior"), rows=rows, note=note), explanation


def _class_bars(scores: dict[str, Any]) -> "Bars":
    from occkit.taxonomy import OCC3D
    from occkit.viewer.report import Bar, Bars

    prior = scores["occ3d"]["constant_prior"]["per_class"]
    bars = tuple(
        Bar(
            name=name.replace("_", " "), colour=OCC3D.colours[OCC3D.id_of(name)], value=value, reference=prior.get(name)
        )
        for name, value in scores["occ3d"]["per_class"].items()
    )
    note = "Bar and figure: IoU in per cent under the occ3d protocol. Tick: the constant prior. n/a: not there."
    return Bars(bars=bars, note=note)


def _loss_chart(plan: Plan, run: Path) -> "Chart":
    from occkit.systems.lift import LiftConfig
    from occkit.training.curves import TOTAL, read_curves, running_mean
    from occkit.viewer.chart import Series
    from occkit.viewer.report import Chart

    lines = [
        Series(name=name.replace("_", " "), x=curve.steps.tolist(), y=running_mean(curve.values, 25).tolist())
        for name, curve in read_curves(run).losses.items()
        if name != TOTAL
    ]
    image_steps = plan.recipe.system.image_steps if isinstance(plan.recipe.system, LiftConfig) else 0
    first = f" The first {image_steps} steps teach the image network alone, depth and classes." if image_steps else ""
    caption = f"Each weighted loss, the mean of 25 steps.{first}"
    return Chart(lines=tuple(lines), x_label="step", y_label="loss", caption=caption)


def _commands(plan: Plan, out: Path) -> "Commands":
    from occkit.viewer.report import Commands

    world, run = out / "world", plan.trained.name if plan.trained else out / "run"
    return Commands(
        lines=(
            ("Fly through every street, errors and all, in the browser:", f"occkit view {run} --data {world}"),
            (
                "Score the network under more protocols, and see why they disagree:",
                f"occkit evaluate {run} --data {world} --protocol occ3d occ3d-sparseocc rayiou --explain",
            ),
            ("Train longer, on a larger world:", "occkit world --out world --scenes 15"),
            ("", "occkit train lift.nano --data world --out nano"),
            (
                "Use your own cameras, images and calibration in one rig.json:",
                f"occkit predict {run} --rig rig.json --out mine",
            ),
            ("See what a data set folder is, and what is wrong with it:", f"occkit doctor {world}"),
        )
    )


def _prior(scores: dict[str, Any], protocol: str, figure: str) -> float | None:
    return scores[protocol]["constant_prior"][figure]


def _percent(value: float | None) -> str:
    return "n/a" if value is None else f"{100 * value:.1f}"


def _print_scores(scores: dict[str, Any]) -> None:
    print(f"\n{'per cent':<10}{'model':>8}{'prior':>8}   on {scores['occ3d']['frames']} frames of held-out streets")
    for protocol, figure, name, _ in FIGURES:
        print(f"{name:<10}{_percent(scores[protocol][figure]):>8}{_percent(_prior(scores, protocol, figure)):>8}")
    print()
