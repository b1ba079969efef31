"""Write the vision-language features of a data set's images."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro

from occkit.cli.teach import parse_bytes
from occkit.errors import ConfigError, OcckitError

if TYPE_CHECKING:
    from occkit.data.frames import FrameDataset
    from occkit.foundation import FeatureExtractor, PromptTable, SimulatedFeaturesConfig, TextEncoder
    from occkit.training.feature_cost import Vocabulary
    from occkit.training.feature_plan import Plan, Subspace
    from occkit.training.features import Filled

_KINDS = {
    "all": "(all)",
    "asked": "(asked for)",
    "images": "of images",
    "both": "of images and words",
    "words": "of words",
}

HELP = """Write the vision-language features of every frame's images: what language-supervised systems learn from.

On a generated world a stand-in with the faults of a real model makes them (--teacher simulated), elsewhere CLIP or
SigLIP (--teacher hf --clip FOLDER). --subspace keeps only the channels that tell the words of a vocabulary apart. What
is there already is kept, so an interrupted call is continued by repeating it; images that changed are looked at again.

--budget takes the finest of 16 bits, 8 bits, and 8 bits of fewer channels that fits, and shows what each would cost,
measured on a few frames, before it writes. `occkit doctor FOLDER` checks every byte of what was written.
"""


@dataclass(frozen=True)
class Args:
    """See HELP."""

    data: Path
    """Data set folder, or a rig.json."""
    out: Path
    """Folder to write: features.json, frames/<token>.json, objects/."""
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
    """Vocabulary of the subspace and of what is compared: LangOcc's 76 prompts, 24 plain words, or those of the data
    set's own classes."""
    budget: str | None = None
    """Largest size of all frames, such as 500MB or 20GB; decides the bits a number and, without --subspace, the
    channels."""
    check: bool = False
    """Write nothing: compare what is there with the images, and check every byte; exit status 1 if anything is
    wrong."""
    json: Path | None = None
    """Also write sizes and costs to this file."""


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
    from occkit.training.feature_plan import open_for_writing
    from occkit.training.features import fill_store
    from occkit.training.processes import process_state

    state = process_state()
    frames = open_dataset(args.data, split=args.split, config=DataConfig(load_depth=False))
    if args.check:
        return _check(args, frames)
    extractor = _extractor(args, frames)
    vocabulary = subspace = None
    # Of several processes the first one decides; what is there already was decided when it was made.
    if args.subspace is not None or (state.is_main_process and not (args.out / "features.json").is_file()):
        vocabulary = _vocabulary(args, frames)
    if args.subspace is not None and vocabulary is not None:
        subspace = _subspace(args, args.subspace, vocabulary)
    plan = open_for_writing(extractor, frames, args.out, subspace=subspace, budget_bytes=budget, vocabulary=vocabulary)
    if state.is_main_process and budget is not None:
        _show(plan, len(frames), budget)
    filled = fill_store(extractor, frames, plan.store)
    if state.is_main_process:
        _report(args, frames, plan, filled, alone=state.num_processes == 1)
    return 0


def _show(plan: "Plan", num_frames: int, budget: int) -> None:
    """Print what each way to write would weigh and cost."""
    from rich.console import Console
    from rich.table import Table

    if not plan.ladder:
        return
    cost = plan.ladder[0].cost
    table = Table(box=None, padding=(0, 2, 0, 0), title_justify="left")
    table.title = f"{num_frames} frames; costs measured on {cost.frames}"
    for name in ("", "bits", "channels", "MB", "1 - cosine", "99 %", f"best of {cost.words} words changes"):
        table.add_column(name, justify="right" if name else "left")
    for priced in plan.ladder:
        rung, cost = priced.rung, priced.cost
        taken = rung == plan.chosen
        table.add_row(
            "taken" if taken else "" if priced.bytes <= budget else "too large",
            "16" if rung.codec == "float16" else "8",
            f"{rung.dim} {_KINDS[rung.kind]}",
            f"{priced.bytes / 1e6:,.1f}",
            f"{cost.mean:.1e}",
            f"{cost.p99:.1e}",
            "not compared" if cost.changed is None else f"{100 * cost.changed:.2f} %",
        )
    Console(highlight=False, width=120).print(table)


def _report(args: Args, frames: "FrameDataset", plan: "Plan", filled: "Filled", *, alone: bool) -> None:
    from dataclasses import asdict

    from occkit.files import write_json

    store = plan.store
    layout, objects = store.layout, {store.path(token) for token in frames.tokens}
    report: dict[str, Any] = {
        "frames": len(frames),
        "objects": len(objects),
        "codec": layout.codec,
        "channels": layout.dim,
        "map_size": list(layout.map_size),
        "bytes": sum(path.stat().st_size for path in objects),
        "gb_per_1000_keyframes": layout.frame_bytes / 1e6,
        "cost": None if store.cost is None else asdict(store.cost),
        "ladder": [asdict(priced) for priced in plan.ladder],
    }
    there = len(frames) - filled.written - filled.shared
    kept = f", {there} were there" if there and alone else ""
    kept += f", {filled.shared} share another's" if filled.shared else ""
    kind = f"{layout.codec}, {layout.dim} of {layout.width} channels"
    print(f"{len(frames)} frames{kept}, {report['bytes'] / 1e6:,.1f} MB ({kind}): {args.out}")
    if filled.changed:
        print(f"{len(filled.changed)} of them made again: their images have changed, first {filled.changed[0]}")
    print(f"{report['gb_per_1000_keyframes']:,.3f} GB per 1,000 keyframes")
    if store.cost is not None:
        print(f"what writing costs, on {store.cost.frames} frames: {store.cost}")
    if args.json is not None:
        write_json(args.json, report)


def _check(args: Args, frames: "FrameDataset") -> int:
    """Compare the store with the images; see `Args.check`."""
    from occkit.data.feature_store import FeatureStore
    from occkit.files import write_json
    from occkit.training.features import compare_with_images

    found = compare_with_images(frames, FeatureStore(args.out))
    says = {"missing": "have no features", "changed": "have features of other images", "damaged": "are damaged"}
    for what, tokens in found.items():
        if tokens:
            more = f", and {len(tokens) - 3} more" if len(tokens) > 3 else ""
            print(f"{len(tokens)} of {len(frames)} frames {says[what]}: {', '.join(tokens[:3])}{more}")
    wrong = sum(map(len, found.values()))
    print(f"{len(frames) - wrong} of {len(frames)} frames are sound: {args.out}")
    if found["missing"] or found["changed"]:
        print("run occkit features without --check to make them")
    if args.json is not None:
        write_json(args.json, {"frames": len(frames)} | found)
    return 1 if wrong else 0


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


def _subspace(args: Args, dim: int, vocabulary: "Vocabulary") -> "Subspace":
    from occkit.nn.subspace import ArccosSubspaceConfig, SvdSubspaceConfig
    from occkit.training.feature_plan import find_subspace

    config = SvdSubspaceConfig(dim=dim) if args.fit == "svd" else ArccosSubspaceConfig(dim=dim, seed=args.seed)
    return find_subspace(config, vocabulary)


def _vocabulary(args: Args, frames: "FrameDataset") -> "Vocabulary | None":
    """Return the words as the text encoder of the extractor's space sees them; without one none, unless needed."""
    from occkit.training.feature_plan import find_vocabulary

    try:
        return find_vocabulary(_encoder(args, frames), _prompts(args, frames))
    except OcckitError as error:
        if args.subspace is not None:
            raise
        print(f"no words are compared, as there is no text encoder: {error}")
        return None


def _encoder(args: Args, frames: "FrameDataset") -> "TextEncoder":
    from occkit.foundation import text_config
    from occkit.training.processes import process_device

    if args.clip is not None:
        return text_config(args.clip, device=str(process_device())).build()
    return _stand_in(args, frames).text.build()


def _prompts(args: Args, frames: "FrameDataset") -> "PromptTable":
    from occkit.foundation import LANGOCC_PROMPTS, STREET_PROMPTS, taxonomy_prompts

    if args.prompts == "taxonomy":
        return taxonomy_prompts(frames.taxonomy)
    return {"langocc": LANGOCC_PROMPTS, "street": STREET_PROMPTS}[args.prompts]
