"""Running a claim: every arm and seed in a fresh process, each kept as a JSON file, so that an interrupted run goes on.

Below the output folder: `worlds/<seed>/`, `runs/<arm>-<seed>/` (training runs), `results/<arm>-<seed>.json`, `logs/`.
One arm and seed is `python -m occkit.training.claim_run SYSTEM ARM SEED WORLD_SEED OUT`, which is also what runs here.
"""

import importlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from accelerate.utils import gather_object

from occkit.data.datasets import open_dataset
from occkit.data.frames import DataConfig, FrameDataset
from occkit.data.teaching import DESCRIPTION
from occkit.errors import ConfigError, DataError, OcckitError
from occkit.files import read_json, write_json
from occkit.foundation import SimulatedSegmenterConfig
from occkit.training import environment
from occkit.training.checkpoint import load_run
from occkit.training.claim import PRIOR, Claim, Lesson, Scores, World, flatten
from occkit.training.evaluate import evaluate_model, evaluate_prior, fit_prior
from occkit.training.evaluate_depth import evaluate_depth, evaluate_depth_prior, fit_depth_prior
from occkit.training.evaluate_retrieval import evaluate_no_ranking, flat_retrieval, report_retrieval
from occkit.training.loop import train
from occkit.training.processes import process_device, process_state
from occkit.training.recipe import Recipe, available_systems, load_file
from occkit.training.recipe_json import as_of_today, recipe_to_json
from occkit.training.system import AnswersWords, RendersDepth
from occkit.training.teach import write_segment_maps, write_teachings
from occkit.training.world_queries import world_queries

MakeWorld = Callable[[World, int, Path], None]
"""Writes the world of a seed to a folder; handed in, because training does not know how worlds are made."""

_SWEEPS = DataConfig(load_points=True, load_depth=False)
"""What queries are made of."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What all arms and seeds gave."""

    seeds: tuple[int, ...]
    """Training seeds, the columns of `scores`."""
    scores: Scores
    """Arm -> metric -> one number a seed."""
    recipes: dict[str, Any]
    """Arm -> recipe as JSON, with the first seed."""
    commit: str | None
    """Commit the numbers come from; several, if results of an earlier one were kept."""
    device: str
    """Device in words."""
    wall_s: float
    """Seconds that the arms took, added up."""
    cpu_s: float
    """Processor seconds of the arms, added up."""


def load_claim(system: str) -> Claim:
    """Return a claim of a system.

    Args:
        system: name of a system of occkit, or the path of a Python file with a function `claim() -> Claim`. Another
            claim than that one is `radocc.effects`, or `file.py:effects`.

    Raises:
        ConfigError: if there is no such system or it claims nothing.
    """
    if ".py" in system:
        file, _, name = system.partition(":")
        module = load_file(Path(file))
    else:
        known, _, name = system.partition(".")
        if known not in available_systems():
            raise ConfigError(f"system {system!r}: there are {', '.join(available_systems())}; or give a FILE.py")
        module = importlib.import_module(f"occkit.systems.{known}")
    function = getattr(module, name or "claim", None)
    claim = function() if callable(function) else None
    if not isinstance(claim, Claim):
        raise ConfigError(
            f"system {system!r} claims nothing: {module.__file__} has no function {name or 'claim'}() -> Claim"
        )
    return claim


def run_claim(
    system: str,
    out: Path,
    make_world: MakeWorld,
    *,
    seeds: Sequence[int],
    world_seed: int = 0,
    jobs: int = 1,
    processes: int = 1,
    report: Callable[[str], None] = print,
) -> Outcome:
    """Run all arms over all seeds; finished ones are kept as long as recipe, world and protocols stay the same.

    Args:
        system: as in `load_claim`.
        out: output folder.
        make_world: writes the world of a seed.
        seeds: training seeds; the world of seed s is made from `world_seed + s`.
        world_seed: see above.
        jobs: arms that run at the same time.
        processes: processes of each arm, under torchrun if more than one.
        report: takes a line of text when an arm starts and when it has finished.

    Raises:
        OcckitError: if an arm fails, with the end of its log.
    """
    claim = load_claim(system)
    for seed in seeds:
        if any(_finished(claim, arm, seed, world_seed, out) is None for arm in (PRIOR, *claim.arms)):
            _world(claim.world, world_seed + seed, out, make_world)
    first = {PRIOR} if claim.lesson is None else {PRIOR, claim.lesson.teacher}
    # Teachers first, then the arms that nobody teaches; students wait for the teacher of their seed alone.
    arms = sorted((PRIOR, *claim.arms), key=lambda arm: (arm not in first, arm != PRIOR and _is_taught(claim, arm)))
    work = [(arm, seed) for group in (arms[: len(first)], arms[len(first) :]) for seed in seeds for arm in group]
    threads = max(1, (os.cpu_count() or 1) // (jobs * processes))

    def one(item: tuple[str, int]) -> dict[str, Any]:
        arm, seed = item
        if claim.lesson is not None and arm not in first and _is_taught(claim, arm):
            running[claim.lesson.teacher, seed].result()
        kept = _finished(claim, arm, seed, world_seed, out)
        if kept is None:
            report(f"{arm:>24}  seed {seed}  running; log {_log(out, arm, seed)}")
            _spawn([system, arm, str(seed), str(world_seed), str(out)], arm, seed, out, processes, threads)
            kept = _finished(claim, arm, seed, world_seed, out)
        if kept is None:
            raise OcckitError(f"arm {arm}, seed {seed}: ended without a result; see {_log(out, arm, seed)}")
        report(f"{arm:>24}  seed {seed}  {kept['wall_s']:7.0f} s  {_headline(kept['scores'])}")
        return kept

    pool = ThreadPoolExecutor(jobs)
    running: dict[tuple[str, int], Future[dict[str, Any]]] = {}
    try:
        for item in work:
            running[item] = pool.submit(one, item)
        results = {item: run.result() for item, run in running.items()}
    finally:
        # After a failure or Ctrl-C no further arm may start.
        pool.shutdown(cancel_futures=True)
    return _outcome(claim, seeds, results)


def run_arm(system: str, arm: str, seed: int, world_seed: int, out: Path) -> None:
    """Train and score one arm with one seed in this process, or in these under torchrun, and write its result."""
    started = time.perf_counter()
    claim = load_claim(system)
    root = _world_folder(out, world_seed + seed)
    state, identity = process_state(), _identity(claim, arm, seed, world_seed)
    device = process_device()
    earlier, rows = 0.0, dict[str, dict[str, float]]()
    if arm == PRIOR:
        prior = fit_prior(open_dataset(root, split="train", config=DataConfig()))
        frames = _scored(claim, root, DataConfig())
        scores = flatten(evaluate_prior(prior, frames, claim.protocols).report())
        if claim.depth:
            depth = fit_depth_prior(open_dataset(root, split="train", config=DataConfig()))
            scores |= flatten({"depth": evaluate_depth_prior(depth, frames).report()})
        rows = {row: flatten(read_json(root / file)) for row, file in claim.reports.items()}
        if claim.retrieval:
            swept = _scored(claim, root, _SWEEPS)
            scores |= flatten(flat_retrieval(evaluate_no_ranking(swept, world_queries(swept)).report()))
    else:
        recipe = _recipe(claim, arm, seed)
        run, resume = _run_folder(out, arm, seed, identity)
        earlier = _train_seconds(run, recipe, state.num_processes) if resume else 0.0
        before = environment.memory_in_use(device)
        # What is validated on the way decides nothing: the last weights are scored below.
        if not train(replace(recipe, evaluate_every=None), root, run, resume=resume).finished:
            raise KeyboardInterrupt
        memory = max(0, environment.peak_memory(device) - before)
        # The last weights and not the best: those were chosen by the frames that are scored here.
        model, _ = load_run(run, weights="last", device=device, code=_code(system))
        seconds = _train_seconds(run, recipe, state.num_processes)
        costs = {"cost.train_s": seconds, "cost.train_gb": memory / 1e9, "cost.parameters": float(_size(model))}
        frames = _scored(claim, root, recipe.data)
        scores = costs | flatten(evaluate_model(model, frames, claim.protocols).report())
        if claim.depth and isinstance(model, RendersDepth):
            measured = _scored(claim, root, replace(recipe.data, load_depth=True))
            scores |= flatten({"depth": evaluate_depth(model, measured).report()})
        if claim.retrieval and isinstance(model, AnswersWords):
            queries = world_queries(_scored(claim, root, _SWEEPS))
            scores |= flatten(flat_retrieval(report_retrieval(model, root, recipe.data, queries, split="val")))
        if claim.lesson is not None and claim.lesson.teacher == arm:
            _teach(claim, claim.lesson, model, recipe, root)
    cpu_s = sum(cast(list[float], gather_object([time.process_time()])))
    if state.is_main_process:
        result = identity | {
            "scores": scores,
            "rows": rows,
            "commit": _commits(out, arm, seed),
            "device": environment.device_name(device),
            "wall_s": earlier + time.perf_counter() - started,
            "cpu_s": cpu_s,
        }
        write_json(_result(out, arm, seed), result)


def _is_taught(claim: Claim, arm: str) -> bool:
    data = claim.arms[arm]().data
    return data.teaching is not None or data.segments is not None


def _scored(claim: Claim, root: Path, config: DataConfig) -> FrameDataset:
    val_set = open_dataset(root, split="val", config=config)
    return val_set if claim.val_frames is None else val_set.spread(claim.val_frames)


def _teach(claim: Claim, lesson: Lesson, model: torch.nn.Module, recipe: Recipe, root: Path) -> None:
    """Write what the students of a world need, for the frames that they look at."""
    looked_at = _training_frames(claim, root)
    write_teachings(model, _only(looked_at, root, recipe.data), root / lesson.folder, features=lesson.features)
    for folder, kind in lesson.segments.items():
        if process_state().is_main_process:
            images = _only(looked_at, root, DataConfig(cameras=recipe.data.cameras, load_depth=False))
            make = SimulatedSegmenterConfig.perfect if kind == "perfect" else SimulatedSegmenterConfig
            write_segment_maps(make(root=root).build(), images, root / folder)


def _training_frames(claim: Claim, root: Path) -> frozenset[str]:
    """Return the frames that some arm trains on."""
    chosen: set[str] = set()
    for make in claim.arms.values():
        recipe = make()
        frames = open_dataset(root, split="train", config=recipe.data, training=True)
        chosen |= set((frames.spread(recipe.max_train_frames) if recipe.max_train_frames else frames).tokens)
    return frozenset(chosen)


def _only(tokens: frozenset[str], root: Path, config: DataConfig) -> FrameDataset:
    frames = open_dataset(root, split="train", config=config)
    frames.tokens = tuple(token for token in frames.tokens if token in tokens)
    return frames


def _run_folder(out: Path, arm: str, seed: int, identity: dict[str, Any]) -> tuple[Path, bool]:
    """Return the run folder of an arm, and whether it holds a state of the very same run to go on from."""
    run, marker = out / "runs" / f"{arm}-{seed}", out / "runs" / f"{arm}-{seed}.json"
    # Another protocol asks for another evaluation of the same training.
    evaluation = ("protocols", "depth", "retrieval")
    identity = {key: value for key, value in identity.items() if key not in evaluation}
    same = marker.is_file() and _refreshed(read_json(marker)) == identity
    resume = same and any((run / "state").glob("[0-9]*"))
    state = process_state()
    state.wait_for_everyone()
    if state.is_main_process:
        if not resume:
            shutil.rmtree(run, ignore_errors=True)
        write_json(marker, identity)
    state.wait_for_everyone()
    return run, resume


def _identity(claim: Claim, arm: str, seed: int, world_seed: int) -> dict[str, Any]:
    """Return what must be unchanged for a kept result to count."""
    recipe = None if arm == PRIOR else recipe_to_json(_recipe(claim, arm, seed))
    world = _world_identity(claim.world, world_seed + seed)
    identity = {"arm": arm, "seed": seed, "recipe": recipe, "world": world, "protocols": list(claim.protocols)}
    if claim.depth:
        identity["depth"] = True
    if claim.reports and arm == PRIOR:
        identity["reports"] = dict(claim.reports)
    if claim.retrieval:
        identity["retrieval"] = True
    if claim.val_frames is not None:
        identity["val_frames"] = claim.val_frames
    if claim.lesson is not None and arm != PRIOR:
        taught_by = recipe_to_json(_recipe(claim, claim.lesson.teacher, seed))
        identity["lesson"] = {**asdict(claim.lesson), "recipe": taught_by}
    return identity


def _recipe(claim: Claim, arm: str, seed: int) -> Recipe:
    recipe = replace(claim.arms[arm](), seed=seed)
    return recipe if claim.val_frames is None else replace(recipe, max_val_frames=claim.val_frames)


def _finished(claim: Claim, arm: str, seed: int, world_seed: int, out: Path) -> dict[str, Any] | None:
    path = _result(out, arm, seed)
    if not path.is_file():
        return None
    result = _refreshed(read_json(path))
    wanted = _identity(claim, arm, seed, world_seed)
    if claim.lesson is not None and arm == claim.lesson.teacher:
        root = _world_folder(out, world_seed + seed)
        if not (root / claim.lesson.folder / DESCRIPTION).is_file():
            return None  # the world was made again since, and nobody has taught there
    return result if all(result.get(key) == value for key, value in wanted.items()) else None


def _refreshed(kept: Any) -> dict[str, Any]:
    """Return what was kept of a run, its recipes as of today."""
    fresh: dict[str, Any] = dict(kept)
    if fresh.get("recipe") is not None:
        fresh["recipe"] = as_of_today(fresh["recipe"])
    if isinstance(fresh.get("lesson"), dict):
        fresh["lesson"] = fresh["lesson"] | {"recipe": as_of_today(fresh["lesson"].get("recipe"))}
    return fresh


def _world_identity(world: World, seed: int) -> dict[str, Any]:
    commands = [list(command) for command in world.commands]
    described = {**asdict(world), "options": list(world.options), "commands": commands, "seed": seed}
    # Worlds that were made before there were commands are still what they were.
    return described if commands else {key: value for key, value in described.items() if key != "commands"}


def _world(world: World, seed: int, out: Path, make_world: MakeWorld) -> None:
    """Make the world of a seed unless it is there; it appears whole, by a rename."""
    folder, marker = _world_folder(out, seed), out / "worlds" / f"{seed}.json"
    wanted = _world_identity(world, seed)
    if folder.is_dir() and marker.is_file() and read_json(marker) == wanted:
        return
    shutil.rmtree(folder, ignore_errors=True)
    partial = folder.with_name(f"{seed}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    make_world(world, seed, partial)
    if not partial.is_dir():
        raise DataError(partial, "the world was not written", "run occkit world by hand to see why")
    partial.rename(folder)
    write_json(marker, wanted)


def _spawn(arguments: list[str], arm: str, seed: int, out: Path, processes: int, threads: int) -> None:
    launcher = [sys.executable, "-m"]
    if processes > 1:
        launcher += ["torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), "-m"]
    log = _log(out, arm, seed)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as file:
        ended = subprocess.run(
            [*launcher, __name__, *arguments],
            stdout=file,
            stderr=subprocess.STDOUT,
            env={**os.environ, "OMP_NUM_THREADS": str(threads)},
            check=False,
        )
    if ended.returncode != 0:
        tail = log.read_text(errors="replace").strip().splitlines()[-3:]
        raise OcckitError(f"arm {arm}, seed {seed}: failed ({' / '.join(tail)}); the whole log is {log}")


def _outcome(claim: Claim, seeds: Sequence[int], results: dict[tuple[str, int], dict[str, Any]]) -> Outcome:
    found = {arm: [results[arm, seed]["scores"] for seed in seeds] for arm in (PRIOR, *claim.arms)}
    found |= {row: [results[PRIOR, seed]["rows"][row] for seed in seeds] for row in claim.reports}
    scores: dict[str, dict[str, list[float]]] = {}
    for arm, of_arm in found.items():
        # A class that some seed's world lacks has no number there, and so none in the card.
        common = [metric for metric in of_arm[0] if all(metric in other for other in of_arm)]
        scores[arm] = {metric: [other[metric] for other in of_arm] for metric in common}
    commits = {c for result in results.values() if result["commit"] is not None for c in result["commit"].split(", ")}
    return Outcome(
        seeds=tuple(seeds),
        scores=scores,
        recipes={arm: recipe_to_json(_recipe(claim, arm, seeds[0]))["recipe"] for arm in claim.arms},
        commit=", ".join(sorted(commits)) or None,
        device=", ".join(sorted({str(result["device"]) for result in results.values()})),
        wall_s=sum(float(result["wall_s"]) for result in results.values()),
        cpu_s=sum(float(result["cpu_s"]) for result in results.values()),
    )


def _headline(scores: dict[str, float]) -> str:
    named = [f"{name} {100 * value:.2f} %" for name, value in scores.items() if name.endswith((".miou", ".rayiou"))]
    return "  ".join(named)


def _commits(out: Path, arm: str, seed: int) -> str | None:
    """Return the commit that trained an arm and, if it is another, the one that scored it."""
    trained = out / "runs" / f"{arm}-{seed}" / "environment.json"
    known = [read_json(trained).get("commit")] if trained.is_file() else []
    return ", ".join(dict.fromkeys(c for c in (*known, environment.commit()) if c)) or None


def _train_seconds(run: Path, recipe: Recipe, num_processes: int) -> float:
    """Return what the steps of a training took, however often it was interrupted."""
    if not (run / "metrics.jsonl").is_file():
        return 0.0
    frames_per_step = recipe.batch_size * recipe.accumulate * num_processes
    text = (run / "metrics.jsonl").read_text()
    # A kill may have cut the last line off.
    lines = [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]
    return sum(frames_per_step / line["frames_per_s"] for line in lines if "frames_per_s" in line)


def _size(model: torch.nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def _code(system: str) -> Path | None:
    return Path(system.partition(":")[0]) if ".py" in system else None


def _world_folder(out: Path, seed: int) -> Path:
    return out / "worlds" / str(seed)


def _result(out: Path, arm: str, seed: int) -> Path:
    return out / "results" / f"{arm}-{seed}.json"


def _log(out: Path, arm: str, seed: int) -> Path:
    return out / "logs" / f"{arm}-{seed}.txt"


if __name__ == "__main__":
    name, arm_name, *numbers, folder = sys.argv[1:]
    run_arm(name, arm_name, int(numbers[0]), int(numbers[1]), Path(folder))
