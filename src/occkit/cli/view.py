"""Look at labels, predictions, runs, worlds and drawn scenes: in a browser, or as one file."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro

from occkit.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from occkit.data.frames import FrameDataset
    from occkit.samples import Prediction
    from occkit.training.recipe import Recipe
    from occkit.viewer.browser import Ask, Draw
    from occkit.viewer.show import FrameToShow, Show, Shown
    from occkit.viewer.sources import Volumes

HELP = """Look at occupancy: fly through its voxels in a browser (Ctrl-C ends), or write it as one file.

  occkit view W                                    a data set or world: labels, images, LiDAR, masks
  occkit view runs/lift --data W                   what a run says, beside the labels, with its errors
  occkit view predictions --data W                 <token>.npz of any program
  occkit view W/labels/k13 --data W                pseudo-labels, or labels of another format
  occkit view runs/langocc --data W                type words, and the voxels that fit them light up
  occkit view drawn                                scenes of occkit generate; of a run of occscene: a line to draw from
  occkit view frame.npz                            one volume

--html FILE writes a page that opens without a server or a network, --png FILE a picture, --mesh FILE.glb or FILE.ply
the visible sides of the voxels; none of them needs a display. The page is reached from this machine only, unless --host
says otherwise.
"""

PICTURE_WIDTH = 640
"""Width of a camera picture in --png, pixels."""


@dataclass(frozen=True)
class Args:
    """See HELP."""

    path: tyro.conf.Positional[Path]
    """A data set, a run, a folder of predictions, labels or drawn scenes, or one volume."""
    data: Path | None = None
    """Data set that gives images, cameras and labels: for runs, and for folders of volumes."""
    against: Path | None = None
    """More volumes to show beside these, in front of the label: another folder, or another run."""
    split: Literal["train", "val", "test", "all"] = "all"
    """Part of the data set."""
    frames: tuple[str, ...] = ()
    """Names of frames, or how many, evenly spread; all by default, with --html 10, with --png and --mesh the first."""
    show: str | None = None
    """Which volume to show first or to write: label, prediction, "errors of prediction", observed ..."""
    format: Literal["occ3d", "openocc", "surroundocc", "openoccupancy", "semantickitti", "sscbench"] | None = None
    """Format of a folder of labels, where its files do not show it."""
    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 lets everyone on the network look."""
    port: int = 8080
    """Port of the page; 0 takes a free one."""
    html: Path | None = None
    """Write this file instead."""
    png: Path | None = None
    """Write this picture instead."""
    mesh: Path | None = None
    """Write this mesh instead, .glb or .ply."""
    code: Path | None = None
    """Your own recipe file, for a run whose classes come from it. Its code is run."""


def main(argv: list[str]) -> int:
    """Entry of `occkit view`."""
    args = tyro.cli(Args, args=argv, prog="occkit view", description=HELP)
    show, ask, draw = _open(args)
    if args.html or args.png or args.mesh:
        _write(args, show)
        return 0
    _serve(args, show, ask, draw)
    return 0


def _serve(args: Args, show: "Show", ask: "Ask | None", draw: "Draw | None") -> None:
    from occkit.viewer.browser import Browser

    browser = Browser(show, host=args.host, port=args.port, first=args.show, ask=ask, draw=draw)
    local = args.host in ("127.0.0.1", "localhost", "::1")
    who = "from this machine only" if local else "by EVERYONE who reaches this machine; there is no password"
    try:
        print(f"{show.title}: {len(show.frames)} frames at {browser.address}", flush=True)
        print(f"to be seen {who}; Ctrl-C ends", flush=True)
        browser.run()
    except KeyboardInterrupt:
        print("ended")
    finally:
        browser.stop()


def _write(args: Args, show: "Show") -> None:
    from occkit.viewer import save_picture

    if args.html is not None:
        from occkit.viewer.scene_files import write_scene_page

        frames = [frame.read() for frame in show.frames]
        write_scene_page(args.html, frames, _volume_name(args, frames[0]), title=show.title)
        print(f"{len(frames)} frames: {args.html}")
    first = show.frames[0].read() if args.png or args.mesh else None
    if args.png is not None and first is not None:
        from occkit.viewer.figures import picture_of

        save_picture(args.png, picture_of(first, width=PICTURE_WIDTH))
        print(f"frame {first.token}: {args.png}")
    if args.mesh is not None and first is not None:
        from occkit.viewer.scene_files import write_mesh

        count = write_mesh(args.mesh, first.volumes[_volume_name(args, first)])
        print(f"frame {first.token}, {count:,} triangles: {args.mesh}")


def _volume_name(args: Args, shown: "Shown") -> str:
    if args.show is not None and args.show not in shown.volumes:
        raise ConfigError(f"--show {args.show}: frame {shown.token} has {', '.join(shown.volumes)}")
    return args.show or next(iter(shown.volumes))


@dataclass(frozen=True, kw_only=True)
class _Run:
    """A trained model and the frames it is asked about."""

    model: "nn.Module"
    recipe: "Recipe"
    inputs: "FrameDataset"
    predict: "Callable[[str], Prediction]"
    """Of a frame. The last one is kept: it is looked at, and may be asked many words."""


def _open(args: Args) -> "tuple[Show, Ask | None, Draw | None]":
    """Return what to look at, and what may be asked of it."""
    from occkit.viewer.show import Show
    from occkit.viewer.sources import frames_of, labels_of, volumes_of

    if (args.path / "generated.json").is_file():
        return Show(title=f"scenes in {args.path}", frames=_chosen(args, _drawn_frames(args.path))), None, None
    run = _open_run(args, args.path, args.data) if _is_run(args.path) else None
    root = args.data or _own_data(args.path)
    dataset = None if root is None else _dataset(args, root, run)
    sources: list[Volumes] = []
    if run is not None:
        sources.append(_said_by(run, "prediction"))
    elif root != args.path:
        sources.append(volumes_of(args.path, dataset=dataset, kind=args.format))
    if args.against is not None:
        sources.append(_other(args, args.against, root, dataset))
    if dataset is not None:
        sources.append(labels_of(dataset))
    show = Show(title=f"{args.path}", frames=_chosen(args, frames_of(sources, dataset)))
    return (show, None, None) if run is None else (show, _asking(run, show), _drawing(run, args))


def _is_run(folder: Path) -> bool:
    from occkit.training.checkpoint import find_model

    return find_model(folder) is not None


def _open_run(args: Args, folder: Path, root: Path | None) -> _Run:
    from functools import lru_cache

    from occkit.cli.predict import open_frames
    from occkit.training.checkpoint import from_pretrained
    from occkit.training.evaluate import iterate_predictions
    from occkit.training.processes import process_device

    if root is None:
        raise ConfigError(f"{folder} is a run, and a run needs images: give --data ROOT")
    model, recipe = from_pretrained(folder, code=args.code, device=process_device())
    inputs = open_frames(root, args.split, recipe)

    @lru_cache(maxsize=1)
    def predict(token: str) -> "Prediction":
        ((_, prediction),) = iterate_predictions(model, inputs, tokens=[token])
        return prediction

    return _Run(model=model, recipe=recipe, inputs=inputs, predict=predict)


def _own_data(path: Path) -> Path | None:
    """Return the path if it is itself a data set."""
    from occkit.data.datasets import recognise_dataset

    return None if recognise_dataset(path) is None else path


def _dataset(args: Args, root: Path, run: _Run | None) -> "FrameDataset":
    """Open what is shown beside the volumes: images as they are stored, LiDAR points, labels."""
    from occkit.cli.predict import open_frames
    from occkit.data.datasets import open_dataset
    from occkit.data.frames import DataConfig

    if run is not None:
        return open_frames(root, args.split, run.recipe, full_size=True)
    return open_dataset(root, split=args.split, config=DataConfig(load_points=True, load_depth=False))


def _other(args: Args, path: Path, root: Path | None, dataset: "FrameDataset | None") -> "Volumes":
    from dataclasses import replace

    from occkit.viewer.sources import volumes_of

    if _is_run(path):
        return _said_by(_open_run(args, path, root), path.resolve().name)
    found = volumes_of(path, dataset=dataset, kind=args.format)
    return replace(found, name=f"against {found.name}") if found.name == args.path.resolve().name else found


def _said_by(run: _Run, name: str) -> "Volumes":
    """Return what a model says about the frames, asked when they are looked at."""
    from occkit.samples import Occupancy
    from occkit.viewer.sources import Volumes

    def read(token: str) -> Occupancy:
        semantics = run.predict(token).semantics()[0].cpu()
        return Occupancy(semantics=semantics, grid=run.inputs.grid, taxonomy=run.inputs.taxonomy)

    return Volumes(name=name, read=read)


def _asking(run: _Run, show: "Show") -> "Ask | None":
    """Return what answers words, of a model that knows any."""
    from occkit.training.query import Asker, FoundByRivals, FoundByShare, Questions
    from occkit.training.system import AnswersWords
    from occkit.viewer.heat import heat_volume
    from occkit.viewer.keys import Answer

    if not isinstance(run.model, AnswersWords):
        return None
    model = run.model

    def ask(query: str, index: int, best: bool) -> Answer:
        rule = FoundByShare() if best else FoundByRivals()
        found = Asker(model, Questions(queries=(query,), rule=rule)).answer(run.predict(show.frames[index].token))
        margins = found.margins[:, 0]
        return Answer(
            volume=heat_volume(found.voxels, margins, found.grid),
            low=float(margins.min(initial=0.0)),
            high=float(margins.max(initial=0.0)),
            remark=f"{query}: {int(found.counts[0]):,} of {len(margins):,} voxels {'are best' if best else 'found'}",
        )

    return ask


def _drawing(run: _Run, args: Args) -> "Draw | None":
    """Return what draws scenes, of a model that does; they are kept in a folder that goes when the viewer ends."""
    from occkit.systems.occscene import OccScene

    if not isinstance(run.model, OccScene):
        return None
    import atexit
    import shutil
    import tempfile

    folder = Path(tempfile.mkdtemp(prefix="occkit-drawn-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    generator: OccScene = run.model

    def draw(prompt: str, seed: int) -> "FrameToShow":
        from occkit.cli import generate

        request = generate.Args(run=str(args.path), out=folder, prompt=(prompt,), seed=seed, data=args.data)
        wanted, _ = generate.draw_into(request, generator, run.recipe)
        return _drawn_frames(folder, only=folder / wanted[0].name)[-1]

    return draw


def _drawn_frames(out: Path, *, only: Path | None = None) -> "tuple[FrameToShow, ...]":
    """Return the frames of the scenes that `occkit generate` drew."""
    from functools import partial

    from occkit.data.datasets import open_dataset
    from occkit.data.frames import DataConfig
    from occkit.errors import DataError
    from occkit.systems.occscene.folder import read_sample, read_volume, sample_folders
    from occkit.viewer.show import FrameToShow

    frames: list[Any] = []
    for folder in sample_folders(out) if only is None else (only,):
        rig = open_dataset(folder, split="all", config=DataConfig(load_depth=False))
        _, _, said = read_sample(folder)
        frames += [
            FrameToShow(
                token=token,
                scene=folder.name,
                volumes={"drawn": partial(read_volume, out, folder, token)},
                sample=partial(rig.sample, rig.tokens.index(token)),
                remark=f"{said['prompt']} (seed {said['seed']})",
            )
            for token in said["occupancy"]
        ]
    if not frames:
        raise DataError(out, "holds no drawn scene yet", "occkit generate RUN --prompt ... --out writes one")
    return tuple(frames)


def _chosen(args: Args, frames: "tuple[FrameToShow, ...]") -> "tuple[FrameToShow, ...]":
    """Return the frames that --frames names, or as many as it says, evenly spread."""
    from occkit.data.selection import choose_frames

    wanted = args.frames or (("10",) if args.html else ())
    if not wanted:
        return frames
    chosen = choose_frames([frame.token for frame in frames], wanted)
    return tuple(frame for frame in frames if frame.token in chosen)
