"""Draw scenes from text: images of every camera and frame, and the occupancy that belongs to them."""

import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

if TYPE_CHECKING:
    from occkit.geometry import Cameras
    from occkit.systems.occscene import OccScene, SamplingConfig
    from occkit.systems.occscene.folder import Request
    from occkit.training.recipe import Recipe

HELP = """Draw scenes from text: images of every camera and frame, and the occupancy that belongs to them.

  occkit generate RUN --prompt "a street with a crossing at night, with 2 cars" --out DIR

Only text is needed: the cameras are those of a frame that RUN was trained with, unless --rig or --data names others.
For each prompt and seed DIR gets a folder with the images and their rig.json (occkit predict --rig reads it),
occupancy/ with one <token>.npz a frame, sheet.png and sample.json; and one page for all, index.html. What is in DIR
already is kept, so an interrupted call is continued by repeating it. The same seed draws the same.
"""


@dataclass(frozen=True)
class Args:
    """See HELP."""

    run: tyro.conf.Positional[str]
    """Run or model folder of occscene, or hub id."""
    out: Path
    """Folder to write."""
    prompt: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """What to draw, in quotes; give it several times for several scenes."""
    samples: int = 1
    """Scenes of each prompt, with seeds one after the other."""
    seed: int = 0
    """Seed of the first."""
    steps: int = 50
    """Denoising steps."""
    guidance: float = 3.0
    """Scale of the text; 1 follows the model, more follows the prompt harder (Stable Diffusion: 7.5)."""
    occupancy_guidance: float = 1.0
    """Scale of the occupancy; above 1 at one more pass a step."""
    scheduler: str = "ddim"
    """ddim, ddpm, dpm++, euler, euler-ancestral or unipc."""
    every: int = 1
    """Perception reads the estimate at every so many steps."""
    average: float = 0.0
    """Share of what it read before that is kept, 0..1."""
    frames: int | None = None
    """Frames of a clip; those that RUN was trained with by default."""
    advance: float = 1.0
    """Metres between frames that a single rig drives straight ahead."""
    rig: Path | None = None
    """Cameras of a rig.json, or of a folder of folders with one each, in the order of time; images are not needed."""
    data: Path | None = None
    """Cameras of a frame of a data set."""
    frame: str | None = None
    """Name of the frame of --data; its middle one by default."""
    code: Path | None = None
    """Your own recipe file, for a run whose classes come from it. Its code is run."""


def main(argv: list[str]) -> int:
    """Entry of `occkit generate`."""
    args = tyro.cli(Args, args=argv, prog="occkit generate", description=HELP)
    wrong = _usage_problem(args)
    if wrong:
        print(f"occkit generate: {wrong} (occkit generate --help)", file=sys.stderr)
        return 2
    model, recipe = _load(args)
    wanted, missing = draw_into(args, model, recipe)
    kept = len(wanted) - len(missing)
    print(f"scenes drawn: {len(missing)}{f', there already: {kept}' if kept else ''}: {args.out / 'index.html'}")
    return 0


def draw_into(args: Args, model: "OccScene", recipe: "Recipe") -> "tuple[list[Request], list[Request]]":
    """Draw what is asked for and is not there yet into the folder, and write its page.

    Returns:
        What was asked for, and what of it was drawn now.

    Raises:
        OcckitError: if a prompt, the cameras or the folder are not what they should be.
    """
    from occkit.nn.prompt_encoders import clean_prompt
    from occkit.systems.occscene import check_cameras
    from occkit.systems.occscene.folder import Request, is_drawn, open_folder, write_page
    from occkit.training.checkpoint import fingerprint

    sampling = _sampling(args)
    prompts = tuple(dict.fromkeys(map(clean_prompt, args.prompt)))
    remarks = {prompt: model.prompts.examine(prompt) for prompt in prompts}
    for prompt in prompts:
        for remark in remarks[prompt]:
            print(f"occkit generate: {prompt[:60]!r}: {remark}", file=sys.stderr)
    cameras, names = _cameras(args, recipe, args.frames or model.config.clip.num_frames)
    check_cameras(model, cameras, sampling)
    settings = {
        "made_by": "occkit generate",
        "weights_sha256": fingerprint(model),
        "taxonomy": model.taxonomy.name,
        "grid": {key: list(value) for key, value in asdict(model.config.grid).items()},
        "sampling": asdict(sampling),
        "cameras": {"names": list(names), "poses": cameras.ego_from_camera.tolist()},
    }
    open_folder(args.out, settings)
    wanted = [Request(prompt=p, seed=args.seed + i) for p in prompts for i in range(args.samples)]
    missing = [request for request in wanted if not is_drawn(args.out, request)]
    _draw(args, model, missing, cameras, names, sampling, remarks)
    write_page(args.out, run=recipe.name, grid=model.config.grid, taxonomy=model.taxonomy)
    return wanted, missing


def _usage_problem(args: Args) -> str | None:
    if not args.prompt:
        return 'say what to draw: --prompt "a straight street with 2 cars"'
    if args.rig is not None and args.data is not None:
        return "--rig and --data both name cameras; give one of them"
    if args.frame is not None and args.data is None:
        return "--frame is the name of a frame of --data; give that too"
    if args.samples < 1 or (args.frames is not None and args.frames < 1):
        return "--samples and --frames must be at least 1"
    return None


def _sampling(args: Args) -> "SamplingConfig":
    from occkit.systems.occscene import SamplingConfig

    return SamplingConfig(
        scheduler=args.scheduler,
        steps=args.steps,
        guidance=args.guidance,
        occupancy_guidance=args.occupancy_guidance,
        every=args.every,
        average=args.average,
    )


def _load(args: Args) -> "tuple[OccScene, Recipe]":
    from occkit.errors import ConfigError
    from occkit.systems.occscene import OccScene
    from occkit.training.checkpoint import from_pretrained
    from occkit.training.processes import process_device

    model, recipe = from_pretrained(args.run, code=args.code, device=process_device())
    if not isinstance(model, OccScene):
        raise ConfigError(f"{args.run}: {recipe.name} does not draw; give a run of occscene")
    return model, recipe


def _cameras(args: Args, recipe: "Recipe", frames: int) -> "tuple[Cameras, tuple[str, ...]]":
    """Return the cameras `[t, n]` to draw for, at the size that the model was trained with, and their names."""
    from occkit.data.datasets import open_dataset
    from occkit.data.rig_files import drive_on, read_rigs
    from occkit.data.transforms import apply_to_cameras, plan_image
    from occkit.errors import DataError
    from occkit.training.checkpoint import RIGS_FOLDER

    if args.data is not None:
        config = replace(recipe.data, num_past=frames - 1, load_depth=False, load_points=False)
        dataset = open_dataset(args.data, split="all", config=config)
        token = args.frame or dataset.tokens[len(dataset) // 2]
        if token not in dataset.tokens:
            raise DataError(args.data, f"has no frame {token!r}, but such as {dataset.tokens[0]}", "name one of them")
        return dataset.sample(dataset.tokens.index(token)).cameras, dataset.camera_names
    folder = args.rig or Path(args.run) / RIGS_FOLDER
    if not folder.exists():
        raise DataError(
            folder, "no such file or folder", "the run keeps no cameras; give --rig RIG.json or --data ROOT"
        )
    cameras, names = read_rigs(folder)
    size, stored = recipe.data.image_size, (cameras.height, cameras.width)
    if size is not None and size != stored:
        cameras = apply_to_cameras(cameras, plan_image(stored, size, keep_aspect=recipe.data.keep_aspect))
    return drive_on(cameras, frames, advance=args.advance), names


def _draw(
    args: Args,
    model: "OccScene",
    requests: "list[Request]",
    cameras: "Cameras",
    names: tuple[str, ...],
    sampling: "SamplingConfig",
    remarks: dict[str, tuple[str, ...]],
) -> None:
    from rich.console import Console
    from rich.progress import Progress

    from occkit.systems.occscene import generate
    from occkit.systems.occscene.folder import write_sample

    with Progress(console=Console(stderr=True)) as bar:
        task = bar.add_task("drawing", total=len(requests) * sampling.steps)
        for request in requests:
            drawn = generate(
                model,
                request.prompt,
                cameras,
                sampling=sampling,
                seed=request.seed,
                progress=lambda *_: bar.advance(task),
            )
            write_sample(
                args.out,
                request,
                drawn,
                cameras,
                names,
                grid=model.config.grid,
                taxonomy=model.taxonomy,
                remarks=remarks[request.prompt],
            )
