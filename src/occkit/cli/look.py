"""Write what models see in a data set's images, for networks to read."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import tyro

from occkit.errors import ConfigError

if TYPE_CHECKING:
    from occkit.data.frames import FrameDataset
    from occkit.foundation import (
        DepthEstimator,
        FeatureExtractor,
        SemanticLabeller,
        SimulatedDepthConfig,
        SimulatedLabellerConfig,
        SimulatedSamFeaturesConfig,
        SimulatedStereoConfig,
    )
    from occkit.training.look import Looked

    T = TypeVar("T", SimulatedDepthConfig, SimulatedStereoConfig, SimulatedLabellerConfig, SimulatedSamFeaturesConfig)

HELP = """Write depth maps, classes of pixels and segmentation features of every frame's images: what cigocc reads.

On a generated world stand-ins with the faults of real models make them (--teacher simulated), elsewhere the models
themselves (--teacher hf). A recipe reads them with DataConfig.inputs, and learns from the classes with
DataConfig.image_semantics. What is there already is kept, so an interrupted call is continued by repeating it.
"""


@dataclass(frozen=True)
class Args:
    """See HELP."""

    data: Path
    """Data set folder, or a rig.json."""
    out: Path
    """Folder to write: depth/, masks/, features/."""
    split: Literal["train", "val", "test", "all"] = "all"
    """Part of the data set: inputs are needed wherever the network is asked."""
    cameras: tuple[str, ...] | None = None
    """Cameras to look at; those of the data set by default (SemanticKITTI: image_2)."""
    depth: Literal["none", "stereo", "mono", "run"] = "none"
    """Write depth maps: of a stereo matcher's stand-in (worlds only), of a network for single images, or of a run."""
    depth_run: str | None = None
    """With --depth run: run or model folder whose network scores depth in images, such as one of cigocc.nano_stereo or
    of lift."""
    masks: bool = False
    """Write classes of pixels."""
    features: bool = False
    """Write segmentation features."""
    teacher: Literal["simulated", "hf"] = "simulated"
    """Stand-ins that read a world's truth layers, or models from --depth-weights, --detector and --sam."""
    strength: Literal["perfect", "realistic", "poor"] = "realistic"
    """How good the stand-ins are."""
    seed: int = 0
    """Of the stand-ins' faults."""
    depth_weights: str | None = None
    """Folder of a depth network of transformers, for --teacher hf --depth mono."""
    detector: str | None = None
    """Folder or hub id of a Grounding DINO, MM-Grounding-DINO or OWLv2, for --teacher hf --masks."""
    sam: str | None = None
    """Folder or hub id of a SAM or SAM 2, for --teacher hf with --masks or --features."""
    encoder: str | None = None
    """Folder or hub id of a DINOv2, DINOv3, SAM or SAM 2, for --teacher hf --features; --sam by default."""
    device: str | None = None
    """Where networks run: cpu, cuda, cuda:1; by default the GPU, if there is one."""
    json: Path | None = None
    """Also write what it cost to this file: frames, milliseconds a frame, bytes."""


def main(argv: list[str]) -> int:
    """Entry of `occkit look`."""
    args = tyro.cli(Args, args=argv, prog="occkit look", description=HELP)
    if args.depth == "none" and not args.masks and not args.features:
        raise ConfigError("occkit look: nothing to write; ask for --depth stereo, --masks or --features")
    from occkit.data.datasets import open_dataset
    from occkit.data.frames import DataConfig
    from occkit.files import write_json
    from occkit.training.look import Looked, write_depth, write_masks, write_segmentation_features

    frames = open_dataset(args.data, split=args.split, config=DataConfig(cameras=args.cameras, load_depth=False))
    found: dict[str, Looked] = {}
    if args.depth == "run":
        found["depth"] = _depth_of_run(args)
    elif args.depth != "none":
        found["depth"] = write_depth(_depth(args, frames), frames, args.out / "depth")
    if args.masks:
        found["masks"] = write_masks(_labeller(args, frames), frames, args.out / "masks")
    if args.features:
        found["features"] = write_segmentation_features(_extractor(args, frames), frames, args.out / "features")
    report: Mapping[str, Any] = {
        what: {"frames": cost.frames, "ms_per_frame": cost.milliseconds_per_frame, "bytes": cost.bytes}
        for what, cost in found.items()
    }
    for what, cost in found.items():
        print(
            f"{what}: {cost.frames} of {len(frames)} frames now, {cost.milliseconds_per_frame:.0f} ms a frame, "
            f"{cost.bytes / 1e6:,.1f} MB: {args.out / what}"
        )
    if args.json is not None:
        write_json(args.json, dict(report))
    return 0


def _depth_of_run(args: Args) -> "Looked":
    from dataclasses import replace

    from occkit.data.datasets import open_dataset
    from occkit.data.frames import DataConfig
    from occkit.training.checkpoint import from_pretrained
    from occkit.training.look import write_depth_of_run
    from occkit.training.processes import chosen_device

    if args.depth_run is None:
        raise ConfigError("--depth run needs --depth-run RUN, whose network scores depth")
    if args.cameras is not None:
        raise ConfigError("--cameras: the run knows its own, and looks at those; leave it out with --depth run")
    model, recipe = from_pretrained(args.depth_run, device=chosen_device(args.device))
    seen = open_dataset(args.data, split=args.split, config=replace(recipe.data, load_depth=False))
    still = DataConfig(cameras=seen.camera_names, load_depth=False)
    stored = open_dataset(args.data, split=args.split, config=still)
    stored.tokens = seen.tokens  # what the run needs beside an image not every frame may have
    return write_depth_of_run(model, seen, stored, args.out / "depth", name=recipe.name)


def _depth(args: Args, frames: "FrameDataset") -> "DepthEstimator":
    from dataclasses import replace

    from occkit.foundation import SimulatedDepthConfig, SimulatedStereoConfig, TransformersDepthConfig
    from occkit.training.processes import build_on

    if args.teacher == "simulated" and args.depth == "stereo":
        return replace(_stand_in(SimulatedStereoConfig, args, frames), seed=args.seed).build()
    if args.teacher == "simulated":
        return replace(_stand_in(SimulatedDepthConfig, args, frames), seed=args.seed).build()
    if args.depth == "stereo":
        raise ConfigError(
            "--depth stereo: no trained stereo network comes with occkit; train one (cigocc.nano_stereo) and give its "
            "run with --depth run, write maps to <out>/depth/<token>/<camera>.png (256 times the metres), or take "
            "VoxFormer's sequences/<sequence>/<frame>.npy"
        )
    if args.depth_weights is None:
        raise ConfigError("--teacher hf --depth mono needs --depth-weights FOLDER")
    return build_on(TransformersDepthConfig(weights=args.depth_weights), args.device)


def _labeller(args: Args, frames: "FrameDataset") -> "SemanticLabeller":
    from dataclasses import replace

    from occkit.foundation import (
        GroundedSamConfig,
        SimulatedLabellerConfig,
        detector_config,
        one_word_per_call,
        segmenter_config,
    )
    from occkit.training.processes import build_on

    if args.teacher == "simulated":
        labeller = _stand_in(SimulatedLabellerConfig, args, frames)
        return replace(labeller, seed=args.seed).build()
    if args.detector is None or args.sam is None:
        raise ConfigError("--teacher hf --masks needs --detector and --sam, folders or hub ids of their weights")
    vocabulary = one_word_per_call("classes", frames.taxonomy)
    detector, sam = detector_config(args.detector), segmenter_config(args.sam)
    return build_on(GroundedSamConfig(detector=detector, sam=sam, vocabulary=vocabulary), args.device)


def _extractor(args: Args, frames: "FrameDataset") -> "FeatureExtractor":
    from dataclasses import replace

    from occkit.foundation import SimulatedSamFeaturesConfig, vision_features_config
    from occkit.training.processes import build_on

    if args.teacher == "simulated":
        config = _stand_in(SimulatedSamFeaturesConfig, args, frames)
        return replace(config, labeller=replace(config.labeller, seed=args.seed)).build()
    weights = args.encoder or args.sam
    if weights is None:
        raise ConfigError("--teacher hf --features needs --sam or --encoder, a folder or hub id of weights")
    return build_on(vision_features_config(weights), args.device)


def _stand_in(kind: "type[T]", args: Args, frames: "FrameDataset") -> "T":
    """Return the settings of a stand-in of the strength asked for: a class method of its config."""
    from occkit.foundation.truth import truth_folders

    if not truth_folders(frames.root):
        raise ConfigError(
            f"--teacher simulated reads the truth of a generated world, and {frames.root} has none; take --teacher hf"
        )
    return getattr(kind, args.strength)(frames.root)
