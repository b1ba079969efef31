"""Write what a trained teacher says about a data set, for students to learn from."""

import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import tyro

from occkit.errors import ConfigError

HELP = """Write what a trained teacher says about every frame (quantised scores, what the cameras see of them), and
segments of the images.

Students read both from the data's folder: DataConfig.teaching and DataConfig.segments name the folders below it. What
is there already is kept, so an interrupted call is continued by repeating it.
"""


@dataclass(frozen=True)
class Args:
    """See HELP."""

    run: tyro.conf.Positional[str]
    """Run or model folder of the teacher, or hub id."""
    data: Path
    """Data set folder."""
    out: Path | None = None
    """Folder to write; teaching/radocc below the data by default."""
    split: Literal["train", "val", "test", "all"] = "train"
    """Part of the data set."""
    features: bool = False
    """Keep the teacher's voxel features too, for feature alignment."""
    budget: str | None = None
    """Largest size of the folder, such as 500MB or 20GB; decides between 16 and 8 bits a number."""
    segments: Literal["none", "simulated", "sam"] = "none"
    """Also write segments: of a generated world by the stand-in, or by SAM."""
    sam: str | None = None
    """Folder or hub id of the weights of a SAM or SAM 2, for --segments sam."""
    segments_out: Path | None = None
    """Folder for them; segments/simulated or segments/sam below the data by default."""
    json: Path | None = None
    """Also write sizes and what quantisation costs to this file."""
    code: Path | None = None
    """Your own recipe file, for a run whose classes come from it. Its code is run."""


def main(argv: list[str]) -> int:
    """Entry of `occkit teach`."""
    args = tyro.cli(Args, args=argv, prog="occkit teach", description=HELP)
    if (args.segments == "sam") != (args.sam is not None):
        raise ConfigError("--segments sam and --sam WEIGHTS go together")
    budget = None if args.budget is None else parse_bytes(args.budget)
    from occkit.data.datasets import open_dataset
    from occkit.data.frames import DataConfig
    from occkit.data.teaching import note_cost
    from occkit.files import write_json
    from occkit.foundation import SimulatedSegmenterConfig, segmenter_config
    from occkit.training.checkpoint import from_pretrained
    from occkit.training.processes import process_device, process_state
    from occkit.training.teach import loss_of_quantisation, write_segment_maps, write_teachings

    state = process_state()
    model, recipe = from_pretrained(args.run, code=args.code, device=process_device())
    dataset = open_dataset(args.data, split=args.split, config=recipe.data)
    folder = args.out or args.data / "teaching" / "radocc"
    asked = write_teachings(model, dataset, folder, features=args.features, budget_bytes=budget)
    if state.is_main_process:
        size = sum(path.stat().st_size for path in folder.rglob("*.npz"))
        kept = f", {len(dataset) - asked} were there" if asked < len(dataset) and state.num_processes == 1 else ""
        print(f"{len(dataset)} frames{kept}, {size / 1e6:,.1f} MB: {folder}")
        lost = loss_of_quantisation(model, dataset, folder)
        print(
            f"what quantisation costs, on {lost.frames} frames: {100 * lost.changed:.3f} % of the visible voxels have "
            f"another class, KL divergence {lost.divergence:.2e}"
        )
        note_cost(folder, asdict(lost))
        if args.json is not None:
            write_json(args.json, {"frames": len(dataset), "bytes": size, "cost": asdict(lost)})
    if args.segments != "none" and state.is_main_process:
        config = DataConfig(cameras=recipe.data.cameras, load_depth=False)
        images = open_dataset(args.data, split=args.split, config=config)
        if args.sam is not None:
            segmenter = segmenter_config(args.sam).build()
        else:
            segmenter = SimulatedSegmenterConfig(root=args.data).build()
        maps = args.segments_out or args.data / "segments" / args.segments
        write_segment_maps(segmenter, images, maps)
        print(f"segments of {len(images)} frames: {maps}")
    return 0


def parse_bytes(text: str) -> int:
    """Return the number of bytes that a text such as "20GB" or "500 MB" says (powers of 1000).

    Raises:
        ConfigError: if it says none.
    """
    found = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([kKMGT]?)B?\s*", text)
    if found is None:
        raise ConfigError(f"--budget: expected a size such as 500MB or 20GB, got {text!r}")
    power = ("", "K", "M", "G", "T").index(found[2].upper())
    return round(float(found[1]) * 1000**power)
