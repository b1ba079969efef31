"""Write the vision-language features of a data set's images."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro

from occkit.cli.teach import parse_bytes
from occkit.errors import ConfigError

if TYPE_CHECKING:
    from occkit.data.frames import FrameDataset
    from occkit.foundation import FeatureExtractor, SimulatedFeaturesConfig
    from occkit.training.features import Subspace

HELP = """Write the vision-language features of every frame's images: what language-supervised systems learn from.

On a generated world a stand-in with the faults of a real model makes them (--teacher simulated), elsewhere CLIP or
SigLIP (--teacher hf --clip FOLDER). --subspace keeps only the channels that tell the words of a vocabulary apart. What
is there already is kept, so an interrupted call is continued by repeating it.
"""


@dataclass(frozen=True)
class Args:
    """See HELP."""

    data: Path
    """Data set folder, or a rig.json."""
    out: Path
    """Folder to write: features.json, basis.npz, <token>.features."""
    split: Literal["train", "val", "test", "all"] = "train"
    """Part of the data set."""
    teacher: Literal["simulated", "hf"] = "simulated"
    """A stand-in that reads a world's truth layers, or the model from --clip."""
    strength: Literal["perfect", "realistic", "poor"] = "realistic"
    """How good the stand-in is."""
    seed: int = 0
    """Of the stand-in's faults, and of the first guess of --fit arccos."""
    clip: str | None = None
    """Folder or hub id of a CLIP, SigLIP or SigLIP 2 and its tokenizer, for --teacher hf; the folder says which."""
    size: tuple[int, int] | None = None
    """Height and width that images are scaled to for the model, pixels; as they are stored by default."""
    subspace: int | None = None
    """Keep so many channels; all by default."""
    fit: Literal["svd", "arccos"] = "svd"
    """How the subspace is found: in closed form, or by LangOcc's gradient descent."""
    prompts: Literal["langocc", "street", "taxonomy"] = "langocc"
    """Vocabulary of the subspace: LangOcc's 76 prompts, 24 plain words, or those of the data set's own classes."""
    budget: str | None = None
    """Largest size of the folder, such as 500MB or 20GB; decides between 16 and 8 bits a number."""
    json: Path | None = None
    """Also write the sizes to this file."""


def main(argv: list[str]) -> int:
    """Entry of `occkit features`."""
    args = tyro.cli(Args, args=argv, prog="occkit features", description=HELP)
    if (args.teacher == "hf") != (args.clip is not None):
        raise ConfigError("--teacher hf and --clip FOLDER go together")
    if args.size is not None and args.clip is None:
        raise ConfigError("--size scales the images for the model; it needs --teacher hf --clip FOLDER")
    budget = None if args.budget is None else parse_bytes(args.budget)
    from occkit.data.datasets import open_dataset
    from occkit.data.frames import DataConfig
    from occkit.files import write_json
    from occkit.training.features import write_features
    from occkit.training.processes import process_state

    state = process_state()
    frames = open_dataset(args.data, split=args.split, config=DataConfig(load_depth=False))
    extractor = _extractor(args, frames)
    subspace = None if args.subspace is None else _subspace(args, args.subspace, frames)
    store, written = write_features(extractor, frames, args.out, subspace=subspace, budget_bytes=budget)
    if not state.is_main_process:
        return 0
    report: dict[str, Any] = {
        "frames": len(frames),
        "codec": store.layout.codec,
        "channels": store.layout.dim,
        "map_size": list(store.layout.map_size),
        "bytes": sum(store.path(token).stat().st_size for token in frames.tokens),
        "gb_per_1000_keyframes": store.layout.frame_bytes / 1e6,
    }
    kept = f", {len(frames) - written} were there" if written < len(frames) and state.num_processes == 1 else ""
    kind = f"{store.layout.codec}, {store.layout.dim} of {store.layout.width} channels"
    print(f"{len(frames)} frames{kept}, {report['bytes'] / 1e6:,.1f} MB ({kind}): {args.out}")
    print(f"{report['gb_per_1000_keyframes']:,.3f} GB per 1,000 keyframes")
    if args.json is not None:
        write_json(args.json, report)
    return 0


def _extractor(args: Args, frames: "FrameDataset") -> "FeatureExtractor":
    from occkit.foundation import language_features_config
    from occkit.training.processes import process_device

    if args.clip is not None:
        return language_features_config(args.clip, size=args.size, device=str(process_device())).build()
    return _stand_in(args, frames).build()


def _stand_in(args: Args, frames: "FrameDataset") -> "SimulatedFeaturesConfig":
    from dataclasses import replace

    from occkit.foundation import SimulatedFeaturesConfig
    from occkit.foundation.truth import truth_folders

    if not truth_folders(frames.root):
        raise ConfigError(
            f"--teacher simulated reads the truth of a generated world, and {frames.root} has none; take --teacher hf "
            "--clip FOLDER"
        )
    return replace(getattr(SimulatedFeaturesConfig, args.strength)(frames.root), seed=args.seed)


def _subspace(args: Args, dim: int, frames: "FrameDataset") -> "Subspace":
    """Return the subspace of the vocabulary, as the text encoder of the extractor's space sees it."""
    from occkit.foundation import LANGOCC_PROMPTS, STREET_PROMPTS, taxonomy_prompts, text_config
    from occkit.nn.subspace import ArccosSubspaceConfig, SvdSubspaceConfig
    from occkit.training.features import find_subspace
    from occkit.training.processes import process_device

    config = SvdSubspaceConfig(dim=dim) if args.fit == "svd" else ArccosSubspaceConfig(dim=dim, seed=args.seed)
    if args.clip is not None:
        encoder = text_config(args.clip, device=str(process_device())).build()
    else:
        encoder = _stand_in(args, frames).text.build()
    if args.prompts == "taxonomy":
        return find_subspace(config, encoder, taxonomy_prompts(frames.taxonomy))
    return find_subspace(config, encoder, {"langocc": LANGOCC_PROMPTS, "street": STREET_PROMPTS}[args.prompts])
