"""Score a run or a folder of predictions under any number of named protocols."""

import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

if TYPE_CHECKING:
    from occkit.engine import Engine
    from occkit.metrics import Evaluator
    from occkit.training.label_sources import LabelSource

HELP = """Score a run, or a folder of predictions, under any number of named protocols.

A run is scored on the images and labels of --data; predictions (one <token>.npz a frame) against --data or any tree of
labels (--labels). Beside the scores on a generated world stands the constant prior, which knows nothing of the frame.
Several processes: torchrun --standalone --nproc-per-node 2 -m occkit.cli evaluate ...
"""


@dataclass(frozen=True)
class Args:
    """See HELP."""

    run: Annotated[str | None, tyro.conf.Positional] = None
    """Run or model folder, model that comes with occkit (lift-nano), or hub id; leave out with --predictions."""
    predictions: Path | None = None
    """Folder of <token>.npz in place of a run."""
    data: Path | None = None
    """Data set folder."""
    labels: Path | None = None
    """Tree of label files (labels.npz, SemanticKITTI voxels/, or NYUv2 .bin) in place of a data set."""
    protocol: tuple[str, ...] = ("occ3d",)
    """Protocols, by name; a wrong one lists those there are."""
    mask: Literal["camera", "lidar", "camera&lidar", "none"] | None = None
    """Evaluate only where this sensor saw, in place of each protocol's own mask."""
    split: Literal["train", "val", "test", "all"] = "val"
    """Part of --data."""
    origins: Path | None = None
    """JSON {token: [[x, y, z], ...]}: ray origins for --labels, metres."""
    allow_missing: bool = False
    """Score the frames that have both a prediction and a label, and say how many have not."""
    explain: bool = False
    """Say why the protocols disagree."""
    depth: bool = False
    """Also score the depth that a run renders against the LiDAR, without median scaling."""
    visibility: bool = False
    """Also score a run on SemanticKITTI apart: voxels that are visible now, occluded, outside of the image."""
    retrieval: tuple[Path, ...] | None = None
    """Also score how words find LiDAR points in a run: those of a generated world, or with a FOLDER POP-3D's."""
    retrieval_trilinear: bool = False
    """Interpolate between voxels for a point's score; else it is that of the voxel the point lies in."""
    drawings: Path | None = None
    """Also judge what a run draws for the texts of held-out frames; give the run that reads its images, trained on
    photographs alone."""
    drawn_frames: int = 100
    """With --drawings: how many, evenly spread."""
    network: Path | None = None
    """With --drawings: weights of Inception-v3 (safetensors) on whose features distances are measured, as FID is; else
    those of a small network trained on the photographs of --data."""
    per_class: bool = False
    """Also print a table of the classes."""
    engine: Literal["local", "ray"] = "local"
    """Who does the work: this process (and those of torchrun), or a Ray cluster (pip install occkit[ray])."""
    workers: int | None = None
    """With --engine ray: how many; by default one a GPU, or one a core where there is none."""
    address: str | None = None
    """With --engine ray: auto or HOST:PORT of a cluster that sees the same folders; by default one of this machine."""
    json: Path | None = None
    """Write the figures to this file; fractions, 0..1."""
    code: Path | None = None
    """Your own recipe file, for a run whose classes come from it. Its code is run."""


def main(argv: list[str]) -> int:
    """Entry of `occkit evaluate`."""
    args = tyro.cli(Args, args=argv, prog="occkit evaluate", description=HELP)
    wrong = _usage_problem(args)
    if wrong:
        print(f"occkit evaluate: {wrong} (occkit evaluate --help)", file=sys.stderr)
        return 2
    from occkit.engine import choose_engine
    from occkit.files import write_json
    from occkit.training.processes import process_state

    engine = choose_engine(args.engine, workers=args.workers, address=args.address)
    # First of all, because not every run knows words.
    retrieval = None if args.retrieval is None else _evaluate_retrieval(args, args.retrieval)
    evaluator, prior = _evaluate(args, engine)
    depth = _evaluate_depth(args) if args.depth else None
    parts = _evaluate_visibility(args) if args.visibility else None
    drawings = None if args.drawings is None else _evaluate_drawings(args, args.drawings)
    if not process_state().is_main_process:
        return 0
    report = evaluator.report()
    baseline = None if prior is None else prior.report()
    _print_tables(report, baseline, per_class=args.per_class)
    if args.explain:
        print(evaluator.explain())
    if depth is not None:
        _print_depth(depth)
        report["depth"] = depth
    if parts is not None:
        _print_visibility(parts)
        report["visibility"] = dict[str, object](parts)
    if drawings is not None:
        _print_drawings(drawings)
        report["drawings"] = drawings
    if retrieval is not None:
        _print_retrieval(retrieval)
        report["retrieval"] = retrieval
    if args.json is not None:
        for name, entry in (baseline or {}).items():
            report[name]["constant_prior"] = {k: v for k, v in entry.items() if k not in ("protocol", "counts")}
        write_json(args.json, report, indent=None)
    return 0


def _usage_problem(args: Args) -> str | None:
    if (args.run is None) == (args.predictions is None):
        return "give either a run or --predictions DIR"
    if (args.data is None) == (args.labels is None):
        return "give either --data ROOT or --labels DIR"
    if args.run is not None and args.data is None:
        return "a run needs images: give --data ROOT"
    if args.depth and args.run is None:
        return "--depth needs a run: predictions hold no depth"
    if args.visibility and args.run is None:
        return "--visibility needs a run: predictions say nothing of the image"
    if args.drawings is not None and args.run is None:
        return "--drawings needs a run: predictions draw nothing"
    if args.drawings is None and args.network is not None:
        return "--network goes with --drawings"
    if args.drawn_frames < 2:
        return f"--drawn-frames must be at least 2, got {args.drawn_frames}"
    if args.retrieval is not None and args.run is None:
        return "--retrieval needs a run: predictions hold no words"
    if args.retrieval is not None and len(args.retrieval) > 1:
        return f"--retrieval takes one folder, got {len(args.retrieval)}"
    if args.retrieval_trilinear and args.retrieval is None:
        return "--retrieval-trilinear goes with --retrieval"
    others = (args.depth, args.visibility, args.retrieval is not None, args.drawings is not None)
    if args.engine == "ray" and any(others):
        return "--engine ray scores protocols; give --depth, --visibility, --retrieval, --drawings in a call without it"
    if args.origins is not None and args.labels is None:
        return "--origins goes with --labels; a data set has its own"
    return None


def _evaluate(args: Args, engine: "Engine") -> "tuple[Evaluator, Evaluator | None]":
    """Return the evaluator of what was asked for, and that of the constant prior where --data is a generated world."""
    from occkit.data.datasets import open_dataset
    from occkit.data.frames import DataConfig
    from occkit.training import evaluate
    from occkit.training.checkpoint import from_pretrained
    from occkit.training.label_sources import LabelsFolder
    from occkit.training.processes import process_device
    from occkit.training.spread import spread_evaluation

    options: dict[str, Any] = {"mask": args.mask, "progress": True}
    labels: LabelSource
    tokens: list[str] | None = None
    if args.run is not None and args.data is not None and args.engine == "ray":
        evaluator, labels = _spread_run(args, args.run, args.data, engine)
    elif args.run is not None and args.data is not None:
        model, recipe = from_pretrained(args.run, code=args.code, device=process_device())
        dataset = labels = open_dataset(args.data, split=args.split, config=recipe.data)
        evaluator = evaluate.evaluate_model(model, dataset, args.protocol, **options)
    else:
        assert args.predictions is not None
        if args.data is not None:
            labels = open_dataset(args.data.absolute(), split=args.split, config=DataConfig())
        else:
            assert args.labels is not None
            labels = LabelsFolder(args.labels.absolute(), origins=args.origins)
        tokens = evaluate.match_tokens(args.predictions, labels, allow_missing=args.allow_missing)
        if len(tokens) < len(labels.tokens):
            print(f"{len(labels.tokens) - len(tokens)} of {len(labels.tokens)} labelled frames have no prediction")
        scored: dict[str, Any] = options | {"allow_missing": args.allow_missing}
        if args.engine == "ray":
            evaluator = spread_evaluation(args.predictions, labels, args.protocol, engine, **scored)
        else:
            evaluator = evaluate.evaluate_predictions(args.predictions, labels, args.protocol, **scored)
    if args.data is None or not evaluate.is_generated_world(args.data):
        return evaluator, None
    prior = evaluate.fit_prior(open_dataset(args.data, split="train", config=DataConfig()), progress=True)
    return evaluator, evaluate.evaluate_prior(prior, labels, args.protocol, tokens=tokens, **options)


def _spread_run(args: Args, run: str, data: Path, engine: "Engine") -> "tuple[Evaluator, LabelSource]":
    """Score a run on a cluster; this process needs the recipe only."""
    from occkit.data.datasets import open_dataset
    from occkit.training.checkpoint import open_recipe
    from occkit.training.spread import ModelSource, spread_evaluation

    where, recipe = open_recipe(run, code=args.code)
    dataset = open_dataset(data.absolute(), split=args.split, config=recipe.data)
    source = ModelSource(run=where, code=None if args.code is None else args.code.absolute())
    return spread_evaluation(source, dataset, args.protocol, engine, mask=args.mask, progress=True), dataset


def _evaluate_depth(args: Args) -> dict[str, Any]:
    """Return the depth scores of a run, on a generated world with those of the depth prior beside them."""
    from dataclasses import replace

    from occkit.data.datasets import open_dataset
    from occkit.data.frames import DataConfig
    from occkit.training.checkpoint import from_pretrained
    from occkit.training.evaluate import is_generated_world
    from occkit.training.evaluate_depth import evaluate_depth, evaluate_depth_prior, fit_depth_prior
    from occkit.training.processes import process_device

    assert args.run is not None
    assert args.data is not None
    model, recipe = from_pretrained(args.run, code=args.code, device=process_device())
    config = replace(recipe.data, load_depth=True)
    dataset = open_dataset(args.data, split=args.split, config=config)
    report = evaluate_depth(model, dataset, progress=True).report()
    if is_generated_world(args.data):
        still = DataConfig(image_size=config.image_size, keep_aspect=config.keep_aspect, cameras=config.cameras)
        prior = fit_depth_prior(open_dataset(args.data, split="train", config=still))
        report["constant_prior"] = evaluate_depth_prior(prior, dataset).report()
    return report


def _evaluate_visibility(args: Args) -> dict[str, dict[str, Any]]:
    """Return the scores of a run apart for what is visible, occluded and outside of the image."""
    from occkit.data.datasets import open_dataset
    from occkit.training.checkpoint import from_pretrained
    from occkit.training.evaluate_visibility import evaluate_visibility
    from occkit.training.processes import process_device

    assert args.run is not None
    assert args.data is not None
    model, recipe = from_pretrained(args.run, code=args.code, device=process_device())
    dataset = open_dataset(args.data, split=args.split, config=recipe.data)
    return evaluate_visibility(model, dataset, protocol=args.protocol[0], progress=True)


def _evaluate_drawings(args: Args, reader: Path) -> dict[str, Any]:
    """Return what the drawings of a run are worth, and by which network."""
    from dataclasses import replace

    from occkit.data.datasets import open_dataset
    from occkit.training.checkpoint import from_pretrained
    from occkit.training.evaluate_generation import Judging, evaluate_generation
    from occkit.training.feature_networks import InceptionFeatures
    from occkit.training.processes import process_device, process_state

    assert args.run is not None
    assert args.data is not None
    if not process_state().is_main_process:
        return {}
    network = None if args.network is None else InceptionFeatures(args.network)
    model, recipe = from_pretrained(args.run, code=args.code, device=process_device())
    reads, _ = from_pretrained(str(reader), code=args.code, device=process_device())
    still = replace(recipe.data, load_depth=False)
    held_out = open_dataset(args.data, split=args.split, config=still)
    training = open_dataset(args.data, split="train", config=still)
    training.withheld = frozenset(training.tokens)
    config = Judging(reader=str(reader), arms=(), frames=args.drawn_frames)
    keep, protocol = args.data / "judge", args.protocol[0]
    scores = evaluate_generation(
        model, reads, held_out, training, config, protocol=protocol, keep=keep, network=network
    )
    name = "WordJudge, trained on the photographs of --data" if network is None else network.name
    return {"network": name, "frames": min(args.drawn_frames, len(held_out)), **scores}


def _evaluate_retrieval(args: Args, folders: tuple[Path, ...]) -> dict[str, Any]:
    """Return how well words find LiDAR points in a run, beside the image features it learnt from."""
    from occkit.data.datasets import open_dataset
    from occkit.data.frames import DataConfig
    from occkit.data.pop3d import read_pop3d
    from occkit.errors import DataError
    from occkit.training.checkpoint import from_pretrained
    from occkit.training.evaluate_retrieval import check_answers, report_retrieval
    from occkit.training.processes import process_device
    from occkit.training.world_queries import world_queries

    assert args.run is not None
    assert args.data is not None
    model, recipe = from_pretrained(args.run, code=args.code, device=process_device())
    check_answers(model)
    if folders:
        queries = read_pop3d(folders[0])
    elif (args.data / "truth").is_dir():
        swept = open_dataset(args.data, split=args.split, config=DataConfig(load_points=True, load_depth=False))
        queries = world_queries(swept)
    else:
        raise DataError(args.data, "is no generated world with truth layers", "give --retrieval POP3D_FOLDER")
    trilinear = args.retrieval_trilinear
    return report_retrieval(
        model, args.data, recipe.data, queries, split=args.split, trilinear=trilinear, progress=True
    )


def _print_tables(report: dict[str, Any], baseline: dict[str, Any] | None, *, per_class: bool) -> None:
    from rich.console import Console
    from rich.table import Table

    frames = next(iter(report.values()))["frames"]
    table = Table(title=f"{frames} frames, per cent")
    values = ["value"] if baseline is None else ["value", "constant prior"]
    for column in ("protocol", "figure", *values, "mask", "classes", "absent class"):
        table.add_column(column, justify="right" if column in values else "left")
    for name, entry in report.items():
        rules = entry["protocol"]
        for figure, value in _figures(entry):
            shown = [_percent(value)] + ([] if baseline is None else [_percent(baseline[name].get(figure))])
            table.add_row(name, figure, *shown, str(rules["mask"]), _classes(figure, rules), _absent(rules))
    console = Console()
    console.print(table)
    if not per_class:
        return
    classes = Table(title="classes, per cent")
    classes.add_column("class")
    for name in report:
        classes.add_column(name, justify="right")
    scores = {name: entry.get("per_class", {}) for name, entry in report.items()}
    for label in dict.fromkeys(label for entry in scores.values() for label in entry):
        classes.add_row(label, *(_percent(scores[name].get(label)) for name in report))
    console.print(classes)


def _print_visibility(parts: dict[str, dict[str, Any]]) -> None:
    for part, entry in parts.items():
        shown = "  ".join(f"{figure} {_percent(value)}" for figure, value in _figures(entry))
        print(f"{part:<9} {shown}")


def _print_drawings(drawings: dict[str, Any]) -> None:
    print(f"Drawings for {drawings['frames']} texts; distances on the features of {drawings['network']}:")
    for name, value in drawings.items():
        if isinstance(value, float):
            print(f"  {name:<25} {value:.4g}")


def _print_depth(depth: dict[str, Any]) -> None:
    near, far = depth["limits"]
    print(f"Rendered depth, {depth['frames']} frames, mean over cameras, {near:g} to {far:g} m:")
    for who, scores in (("run", depth), ("prior", depth.get("constant_prior"))):
        if scores is not None:
            shown = "  ".join(f"{k} {v:.3f}" for k, v in scores.items() if isinstance(v, float))
            print(f"  {who:<6} {shown}")


def _print_retrieval(retrieval: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    rival: dict[str, Any] | None = retrieval["image_features"]
    if rival is None:
        print("no image features of all these frames beside the run: occkit features --split writes them")
    print(f"Retrieval by words, {retrieval['queries']} queries in {retrieval['frames']} frames, mAP in per cent.")
    for points in ("pop3d", "langocc"):
        entry, other = retrieval[points], {} if rival is None else rival[points]
        table = Table(title=f"{points}: {entry['points']}; (v): those of them in an image")
        table.add_column("query")
        for column in ("asked", *(name + v for v in ("", " (v)") for name in ("run", "image features", "chance"))):
            table.add_column(column, justify="right")
        rows = [("all", entry, other)]
        rows += [
            (text, values, other.get("per_query", {}).get(text, {})) for text, values in entry["per_query"].items()
        ]
        for text, values, features in rows:
            kinds = ((values, "map"), (features, "map"), (values, "prevalence"))
            shown = [_percent(found.get(f"{figure}{v}")) for v in ("", "_visible") for found, figure in kinds]
            table.add_row(text, str(values["queries"] + values["left_out"]), *shown)
        Console().print(table)


def _classes(figure: str, rules: dict[str, Any]) -> str:
    """Return how many classes a figure is the mean of: a suffix such as `_15` says so, else all of the protocol's."""
    if figure in ("iou", "precision", "recall"):
        return "occupied"
    restricted = re.search(r"_(\d+)", figure)
    return restricted[1] if restricted else str(len(rules["classes"]))


def _absent(rules: dict[str, Any]) -> str:
    when = {"union": " if neither labelled nor predicted", "label": " if not labelled"}
    return f"{rules['absent_class']}{when.get(rules.get('absent_when', ''), '')}"


def _figures(entry: dict[str, Any]) -> list[tuple[str, float | None]]:
    """Return the scores of a protocol's entry: its fractions, and None where no class counted."""
    return [(k, v) for k, v in entry.items() if v is None or isinstance(v, float)]


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f}"
