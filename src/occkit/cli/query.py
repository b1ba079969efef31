"""Ask the voxels of an open-vocabulary run for words."""

import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro

if TYPE_CHECKING:
    from occkit.data.answers import Answers
    from occkit.data.frames import FrameDataset
    from occkit.training.query import FoundRule
    from occkit.training.recipe import Recipe

HELP = """Ask the voxels of an open-vocabulary run (LangOcc) for words, and say which are found and where.

  occkit query RUN "red mailbox" "police car" --data ROOT --out DIR

A voxel is found if it fits the query at least as well as every word that names a class of the run (--margin M: better
by M; --against WORD ...: than these words instead). With --share S the best share S of a frame's occupied voxels is
found, whether or not it shows what is meant. What is in DIR already is kept, so an interrupted call is continued by
repeating it.
"""


@dataclass(frozen=True)
class Args:
    """See HELP."""

    run: tyro.conf.Positional[str]
    """Run or model folder, model that comes with occkit (lift-nano), or hub id."""
    queries: tyro.conf.Positional[tuple[str, ...]]
    """Words or phrases, each in quotes."""
    data: Path
    """Data set folder, or a rig.json."""
    split: Literal["train", "val", "test", "all"] = "val"
    """Part of the data set."""
    frames: tuple[str, ...] = ("5",)
    """Names of frames, or how many, evenly spread."""
    out: Path | None = None
    """Folder to write: queries.json, <token>.npz, pictures/; without it only the table is printed."""
    margin: float | None = None
    """By so much a cosine must exceed those with the rivals; 0 by default."""
    share: float | None = None
    """Take the best share of the occupied voxels (0..1) instead."""
    against: tuple[str, ...] = ()
    """Rival words in place of those that name the run's classes."""
    max_pictures: int = 3
    """Draw only so many frames, evenly spread."""
    json: Path | None = None
    """Write what was found to this file."""
    code: Path | None = None
    """Your own recipe file, for a run whose classes come from it. Its code is run."""


def main(argv: list[str]) -> int:
    """Entry of `occkit query`."""
    args = tyro.cli(Args, args=argv, prog="occkit query", description=HELP)
    wrong = _usage_problem(args)
    if wrong:
        print(f"occkit query: {wrong} (occkit query --help)", file=sys.stderr)
        return 2
    from occkit.cli.predict import open_frames
    from occkit.data.answers import read_answers
    from occkit.data.predictions import prediction_path
    from occkit.data.selection import choose_frames
    from occkit.files import write_json
    from occkit.training.checkpoint import from_pretrained
    from occkit.training.processes import process_device, process_state
    from occkit.training.query import Questions, ask_dataset, iterate_answers

    questions = Questions(queries=args.queries, rule=_rule(args), against=args.against)
    state = process_state()
    model, recipe = from_pretrained(args.run, code=args.code, device=process_device())
    everything = open_frames(args.data, args.split, recipe)
    dataset = everything.only(choose_frames(everything.tokens, args.frames))
    if args.out is None:
        answers = dict(iterate_answers(model, dataset, questions, progress=state.is_main_process))
    else:
        ask_dataset(model, dataset, args.out, questions)
        count, paths = len(args.queries), {token: prediction_path(args.out, token) for token in dataset.tokens}
        answers = {token: read_answers(path, queries=count) for token, path in paths.items()}
    if not state.is_main_process:
        return 0
    report = {query: _summary(answers, i) for i, query in enumerate(args.queries)}
    _print_table(report)
    if args.json is not None:
        write_json(args.json, report)
    if args.out is not None and args.max_pictures > 0:
        _draw(args, args.out, recipe, dataset, answers)
    return 0


def _usage_problem(args: Args) -> str | None:
    if not args.queries:
        return 'say what to look for: occkit query RUN "red mailbox" --data ROOT'
    if args.share is not None and (args.margin is not None or args.against):
        return "--share looks at no rivals: leave out --margin and --against"
    return None


def _rule(args: Args) -> "FoundRule":
    from occkit.training.query import FoundByRivals, FoundByShare

    return FoundByRivals(margin=args.margin or 0.0) if args.share is None else FoundByShare(share=args.share)


def _summary(answers: "dict[str, Answers]", query: int) -> dict[str, Any]:
    """Return what was found of a query: in all frames, and in each."""
    frames: dict[str, Any] = {}
    for token, answer in answers.items():
        margins = answer.margins[:, query]
        cluster = int(answer.clusters[query])
        frames[token] = {
            "voxels": int(answer.counts[query]),
            "cluster": cluster,
            "centre": [round(float(value), 3) for value in answer.centres[query]] if cluster else None,
            "best_cosine": float(answer.cosines[:, query].max()) if len(margins) else None,
            "best_margin": float(margins.max()) if len(margins) else None,
        }
    return {
        "frames": len(frames),
        "frames_found": sum(frame["voxels"] > 0 for frame in frames.values()),
        "voxels": sum(frame["voxels"] for frame in frames.values()),
        "per_frame": frames,
    }


def _print_table(report: dict[str, Any]) -> None:
    """Print what was found of each query, and the three frames where that is most."""
    width = max(len(token) for found in report.values() for token in found["per_frame"])
    print(f"{'':{width + 2}}  voxels  best cluster  x, y, z (ego frame, m)  best cosine")
    for query, found in report.items():
        print(f"{query}: in {found['frames_found']} of {found['frames']} frames, {found['voxels']:,} voxels")
        best = sorted(found["per_frame"].items(), key=lambda item: -item[1]["voxels"])
        for token, frame in best[:3]:
            if frame["voxels"]:
                x, y, z = frame["centre"]
                place = f"{x:6.1f} {y:6.1f} {z:6.1f}"
                numbers = f"{frame['voxels']:6,}  {frame['cluster']:12,}  {place:>22}  {frame['best_cosine']:11.3f}"
                print(f"  {token:<{width}}  {numbers}")


def _draw(args: Args, out: Path, recipe: "Recipe", dataset: "FrameDataset", answers: "dict[str, Answers]") -> None:
    """Draw every query of a few frames, one picture each; pictures that are there already are kept."""
    from rich.console import Console
    from rich.progress import track

    from occkit.cli.predict import open_frames
    from occkit.viewer import save_picture
    from occkit.viewer.figures import recording_car
    from occkit.viewer.heat import draw_answer

    frames = open_frames(args.data, args.split, recipe, full_size=True)
    ego = recording_car(frames.name)
    work = [(token, i) for token in dataset.spread(args.max_pictures).tokens for i in range(len(args.queries))]
    for token, i in track(work, description="drawing", console=Console(stderr=True)):
        name, answer = args.queries[i], answers[token]
        slug = "-".join(re.findall(r"\w+", name.lower()))[:40]
        path = out / "pictures" / f"{token}_{i + 1}_{slug}.png"
        if path.is_file():
            continue
        picture = draw_answer(
            frames.sample(frames.tokens.index(token)),
            answer.voxels,
            answer.margins[:, i],
            answer.grid,
            title=_title(name, answer, i),
            centre=answer.centres[i].tolist(),
            ego=ego,
        )
        save_picture(path, picture)
    print(f"pictures: {out / 'pictures'}")


def _title(name: str, answer: "Answers", query: int) -> str:
    count, cluster = int(answer.counts[query]), int(answer.clusters[query])
    if not count:
        return f"{name}: not found"
    x, y, z = answer.centres[query].tolist()
    ahead, side = "ahead" if x >= 0 else "behind", "left" if y >= 0 else "right"
    where = f"{abs(x):.1f} m {ahead}, {abs(y):.1f} m to the {side}, at a height of {z:.1f} m"
    return f"{name}: {count} of {len(answer.voxels)} occupied voxels; ring: {cluster} of them {where}"
