"""Write pseudo-labels of a data set or of an own rig, from its images alone."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import tyro

from occkit.errors import ConfigError

if TYPE_CHECKING:
    from occkit.data.frames import FrameDataset, Split
    from occkit.foundation import DepthEstimator, SemanticLabeller, SimulatedDepthConfig, SimulatedLabellerConfig
    from occkit.labels import FactoryConfig

T = TypeVar("T", "SimulatedDepthConfig", "SimulatedLabellerConfig")

HELP = """Write a labelled volume for every frame, made from images and poses alone, in Occ3D's layout.

A depth model and a labeller look at each image; the points of 13 earlier frames are added, without what moves; voxels
take a vote. On a generated world stand-ins with the faults of real models do that (--teacher simulated), elsewhere the
models themselves (--teacher hf). A LiDAR without models is enough for geometry (--depth lidar --one-class others).
A recipe trains on the result with --data.labels FOLDER. What is there already is kept, so an interrupted call is
continued by repeating it, with the same bytes.
"""


@dataclass(frozen=True)
class Args:
    """See HELP."""

    out: Path
    """Folder to write: gts/<scene>/<token>/labels.npz, labels.json, pictures/."""
    data: Path | None = None
    """Data set folder."""
    rig: Path | None = None
    """A rig.json, or a folder of folders with one each."""
    split: Literal["train", "val", "test", "all"] = "all"
    """Part of --data."""
    teacher: Literal["simulated", "hf"] = "simulated"
    """Stand-ins that read a world's truth layers, or models from --depth-weights, --detector and --sam."""
    strength: Literal["perfect", "realistic", "poor"] = "realistic"
    """How good the stand-ins are."""
    seed: int = 0
    """Of the stand-ins' faults."""
    depth: Literal["model", "lidar"] = "model"
    """Where depth comes from: the teacher, or the LiDAR points of the frame."""
    one_class: str | None = None
    """Ask nobody what the pixels show: whatever has a depth is this class (Occ3D: others). Geometry alone."""
    depth_weights: str | None = None
    """Folder of a depth network of transformers, for --teacher hf."""
    canonical_focal: float | None = None
    """The depth network was trained for one camera of this focal length, pixels (Metric3D: 1000)."""
    canonical_size: tuple[int, int] | None = None
    """Height and width of that camera's images (Metric3D: 616 1064)."""
    detector: str | None = None
    """Folder or hub id of a Grounding DINO, MM-Grounding-DINO or OWLv2, for --teacher hf; the folder says which."""
    sam: str | None = None
    """Folder or hub id of a SAM or SAM 2, for --teacher hf; the folder says which."""
    vocabulary: Literal["occnerf", "words"] = "words"
    """What the detector is asked: OccNeRF's seven questions, or a word at a time."""
    no_sky: bool = False
    """Do not ask for the sky, neither for itself nor against a word: what it loses, things gain."""
    history: int = 13
    """Past keyframes whose points are added."""
    future: int = 0
    """Keyframes to come whose points are added."""
    keep_movers: bool = False
    """Also add what may move: every driving car becomes a trail."""
    stride: int = 4
    """One pixel of each block of so many squared, one with a depth if there is any; 1 for small images."""
    max_depth: float = 52.0
    """Leave out what is farther, metres."""
    uncertain: Literal["ignored", "free"] = "ignored"
    """Pixels without a class name nothing, or are taken for the sky as in OccNeRF's released code."""
    outliers: Literal["statistical", "lonely", "none"] | None = None
    """Which points are taken for errors: statistical for a model's depth, none for a LiDAR's unless said otherwise."""
    oob: Literal["drop", "clamp"] = "drop"
    """Points outside the volume; clamp puts slabs on its faces."""
    vote: Literal["movers_first", "majority", "rare_first", "current_first", "near_first"] = "movers_first"
    """Who names a voxel."""
    min_points: int = 1
    """Voxels with fewer points are empty."""
    pass_ratio: float | None = None
    """Empty voxels that so many times more rays pass than end in."""
    empty: Literal["free", "carved"] = "free"
    """Voxels without points are free, or free only where a ray passes and unknown elsewhere."""
    keep_images: bool = False
    """Also write the classes of the pixels, for losses on rendered images."""
    device: str | None = None
    """Where networks run: cpu, cuda, cuda:1; by default the GPU, if there is one."""
    engine: Literal["local", "ray"] = "local"
    """Who does the work: this process, or a Ray cluster (pip install occkit[ray]); the same files either way."""
    workers: int | None = None
    """With --engine ray: workers that hold the models; by default one a GPU, or one a core where there is none."""
    address: str | None = None
    """With --engine ray: auto or HOST:PORT of a cluster that sees the same folders; by default one of this machine."""
    points: Path | None = None
    """Keep the points of every frame in this folder, and take those that are there: labels fused in another way, from
    the same models, need no model again."""
    trust: bool = False
    """Take every label that is there for good; otherwise all images it was made of are read, to see whether they
    are the same."""
    max_pictures: int = 3
    """Draw so many frames, evenly spread."""
    json: Path | None = None
    """Also write the scores against the true labels, where there are any; fractions, 0..1."""


def main(argv: list[str]) -> int:
    """Entry of `occkit label`."""
    args = tyro.cli(Args, args=argv, prog="occkit label", description=HELP)
    if (args.data is None) == (args.rig is None):
        print("occkit label: give either --data ROOT or --rig RIG.json (occkit label --help)", file=sys.stderr)
        return 2
    from occkit.data.datasets import open_dataset
    from occkit.data.frames import DataConfig
    from occkit.engine import choose_engine
    from occkit.files import write_json
    from occkit.labels import make_labels
    from occkit.labels.quality import score_labels

    engine = choose_engine(args.engine, workers=args.workers, address=args.address)
    root = args.data or args.rig
    assert root is not None
    root = root.absolute()
    frames = open_dataset(root, split=args.split, config=DataConfig(load_depth=False))
    depth, labeller = _depth(args, frames), _labeller(args, frames)
    config = _config(args)
    made = make_labels(
        frames,
        args.out,
        depth=depth,
        labeller=labeller,
        config=config,
        keep_images=args.keep_images,
        points=args.points,
        engine=engine,
        trust=args.trust,
    )
    print(f"{made.written} labels{f', {made.kept} were there' if made.kept else ''}: {args.out}")
    if made.changed:
        count = len(made.changed)
        print(f"{count} of them were there, of other images or poses, first {made.changed[0]}")
    for token, reason in made.skipped.items():
        print(f"without a label: {token}: {reason}")
    report = score_labels(frames, args.out)
    if report is not None:
        _print_scores(report)
    if args.json is not None:
        write_json(args.json, {} if report is None else report)
    if args.max_pictures > 0:
        _draw(args, frames)
    return 0


def _config(args: Args) -> "FactoryConfig":
    from occkit.labels import FactoryConfig, FusionConfig, LonelyPoints, StatisticalOutliers

    fusion = FusionConfig(
        history=args.history,
        future=args.future,
        filter_movers=not args.keep_movers,
        oob=args.oob,
        vote=args.vote,
        min_points=args.min_points,
        pass_ratio=args.pass_ratio,
        empty=args.empty,
    )
    # Points of a LiDAR are few and far between far away: who stands alone there is no error.
    kind = args.outliers or ("none" if args.depth == "lidar" else "statistical")
    outliers = {"statistical": StatisticalOutliers(), "lonely": LonelyPoints(), "none": None}[kind]
    return FactoryConfig(
        stride=args.stride, max_depth=args.max_depth, uncertain=args.uncertain, outliers=outliers, fusion=fusion
    )


def _depth(args: Args, frames: "FrameDataset") -> "Callable[[], DepthEstimator]":
    """Return what makes the depth estimator, in the process that is to ask it."""
    from occkit.foundation import SimulatedDepthConfig, TransformersDepthConfig
    from occkit.training.processes import build_on

    if args.depth == "lidar":
        return partial(_lidar_depth, frames.root, args.split)
    if args.teacher == "simulated":
        return _stand_in(SimulatedDepthConfig, args, frames).build
    if args.depth_weights is None:
        raise ConfigError("--teacher hf needs --depth-weights FOLDER, or --depth lidar")
    config = TransformersDepthConfig(
        weights=args.depth_weights, canonical_focal=args.canonical_focal, canonical_size=args.canonical_size
    )
    return partial(build_on, config, args.device)


def _lidar_depth(root: Path, split: "Split") -> "DepthEstimator":
    from occkit.data.datasets import open_dataset
    from occkit.data.frames import DataConfig
    from occkit.foundation import LidarDepthConfig

    swept = open_dataset(root, split=split, config=DataConfig(load_points=True, load_depth=False))
    places = {token: index for index, token in enumerate(swept.tokens)}
    return LidarDepthConfig().build(lambda token: swept.sample(places[token]).points if token in places else None)


def _labeller(args: Args, frames: "FrameDataset") -> "Callable[[], SemanticLabeller]":
    """Return what makes the labeller, in the process that is to ask it."""
    from dataclasses import replace

    from occkit.foundation import (
        OCCNERF_VOCABULARY,
        WORD_VOCABULARY,
        GroundedSamConfig,
        OneClassLabellerConfig,
        SimulatedLabellerConfig,
        detector_config,
        segmenter_config,
    )
    from occkit.training.processes import build_on

    if args.one_class is not None:
        return OneClassLabellerConfig(name=args.one_class, taxonomy=frames.taxonomy.name).build
    if args.teacher == "simulated":
        return replace(_stand_in(SimulatedLabellerConfig, args, frames), sky=not args.no_sky).build
    if args.detector is None or args.sam is None:
        raise ConfigError(
            "--teacher hf needs --detector and --sam, folders or hub ids of their weights, or --one-class CLASS"
        )
    vocabulary = {"occnerf": OCCNERF_VOCABULARY, "words": WORD_VOCABULARY}[args.vocabulary]
    if args.no_sky:
        vocabulary = vocabulary.without_sky()
    detector, sam = detector_config(args.detector), segmenter_config(args.sam)
    return partial(build_on, GroundedSamConfig(detector=detector, sam=sam, vocabulary=vocabulary), args.device)


def _stand_in(kind: type[T], args: Args, frames: "FrameDataset") -> T:
    """Return the settings of a stand-in of the strength asked for: a class method of its config."""
    from dataclasses import replace

    from occkit.foundation.truth import truth_folders

    if not truth_folders(frames.root):
        raise ConfigError(
            f"--teacher simulated reads the truth of a generated world, and {frames.root} has none; take --teacher hf, "
            "or --depth lidar --one-class CLASS"
        )
    return replace(getattr(kind, args.strength)(frames.root), seed=args.seed)


def _print_scores(report: dict[str, Any]) -> None:
    print("The labels themselves, scored as if they were predictions (not what a network trained on them reaches):")
    for name, entry in report.items():
        print(f"  {name:<12} mIoU {100 * entry['miou']:6.2f}   IoU {100 * entry['iou']:6.2f}")


def _draw(args: Args, frames: "FrameDataset") -> None:
    """Draw a few labels over their images and from above."""
    from occkit.data.occ3d import label_path, read_labels
    from occkit.viewer import save_picture
    from occkit.viewer.figures import draw_frame, recording_car, sheets

    ego = recording_car(frames.name)
    for token in frames.spread(args.max_pictures).tokens:
        path = label_path(args.out, frames.scene(token), token)
        if not path.is_file():
            continue
        label = read_labels(path, grid=frames.grid, taxonomy=frames.taxonomy)
        views = draw_frame(frames.sample(frames.tokens.index(token)), label, ego=ego)
        for name, picture in sheets(views).items():
            ending = "jpg" if name in ("cameras", "lidar", "overlay") else "png"
            save_picture(args.out / "pictures" / f"{token}_{name}.{ending}", picture)
    print(f"pictures: {args.out / 'pictures'}")
