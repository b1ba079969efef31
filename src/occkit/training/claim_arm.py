"""One arm and one seed of a claim: trained, scored, and its result written.

`python -m occkit.training.claim_arm SYSTEM ARM SEED WORLD_SEED OUT`, in a process of its own or under torchrun.
"""

import json
import shutil
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from accelerate.utils import gather_object

from occkit.data.datasets import open_dataset
from occkit.data.frames import DataConfig, FrameDataset
from occkit.files import read_json, write_json
from occkit.foundation import SimulatedSegmenterConfig
from occkit.training import environment
from occkit.training.checkpoint import load_run
from occkit.training.claim import PRIOR, Claim, Lesson, flatten
from occkit.training.claim_results import (
    arm_identity,
    arm_recipe,
    load_claim,
    refreshed,
    result_path,
    run_path,
    world_folder,
)
from occkit.training.evaluate import choose_threshold, evaluate_model, evaluate_prior, fit_prior
from occkit.training.evaluate_depth import evaluate_depth_prior, evaluate_model_and_depth, fit_depth_prior
from occkit.training.evaluate_generation import evaluate_generation
from occkit.training.evaluate_retrieval import evaluate_no_ranking, flat_retrieval, report_retrieval
from occkit.training.evaluate_visibility import evaluate_visibility
from occkit.training.loop import train
from occkit.training.processes import process_device, process_state
from occkit.training.recipe import Recipe
from occkit.training.system import AnswersWords, HasThreshold, RendersDepth
from occkit.training.teach import write_segment_maps, write_teachings
from occkit.training.world_queries import world_queries

_SWEEPS = DataConfig(load_points=True, load_depth=False)
"""What queries are made of."""


def run_arm(system: str, arm: str, seed: int, world_seed: int, out: Path) -> None:
    """Train and score one arm with one seed in this process, or in these under torchrun, and write its result."""
    started = time.perf_counter()
    claim = load_claim(system)
    root = world_folder(out, world_seed + seed)
    state, identity = process_state(), arm_identity(claim, arm, seed, world_seed)
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
        recipe = arm_recipe(claim, arm, seed)
        recipe = replace(recipe, start=tuple(str(run_path(out, name, seed)) for name in claim.starts.get(arm, ())))
        run, resume = _run_folder(out, arm, seed, identity)
        earlier = sum(_step_seconds(run, recipe, state.num_processes)) if resume else 0.0
        before = environment.memory_in_use(device)
        # What is validated on the way decides nothing: the last weights are scored below.
        if not train(replace(recipe, evaluate_every=None), root, run, resume=resume).finished:
            raise KeyboardInterrupt
        memory = max(0, environment.peak_memory(device) - before)
        # The last weights and not the best: those were chosen by the frames that are scored here.
        model, _ = load_run(run, weights="last", device=device, code=_code(system))
        steps = _step_seconds(run, recipe, state.num_processes)
        costs = {
            "cost.train_s": sum(steps),
            "cost.step_s": statistics.median(steps),
            "cost.train_gb": memory / 1e9,
            "cost.parameters": float(_size(model)),
        }
        if claim.threshold_frames is not None and isinstance(model, HasThreshold):
            chosen_by = open_dataset(root, split="train", config=recipe.data).spread(claim.threshold_frames)
            costs["threshold"] = choose_threshold(model, chosen_by, claim.protocols[0])
        frames = _scored(claim, root, recipe.data)
        if claim.depth and isinstance(model, RendersDepth):
            measured = _scored(claim, root, replace(recipe.data, load_depth=True))
            found, depths = evaluate_model_and_depth(model, measured, claim.protocols)
            scores = costs | flatten(found.report() | {"depth": depths.report()})
        else:
            scores = costs | flatten(evaluate_model(model, frames, claim.protocols).report())
        if claim.visibility:
            scores |= flatten(evaluate_visibility(model, frames, protocol=claim.protocols[0]))
        if claim.retrieval and isinstance(model, AnswersWords):
            queries = world_queries(_scored(claim, root, _SWEEPS))
            scores |= flatten(flat_retrieval(report_retrieval(model, root, recipe.data, queries, split="val")))
        if claim.judging is not None and claim.judges(arm):
            scores |= _judge(claim, arm, model, recipe, root, out, seed)
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
        write_json(result_path(out, arm, seed), result)


def _judge(
    claim: Claim, arm: str, model: torch.nn.Module, recipe: Recipe, root: Path, out: Path, seed: int
) -> dict[str, float]:
    """Return what the drawings of an arm are worth; its first process draws them all."""
    judging = claim.judging
    assert judging is not None
    if not process_state().is_main_process:
        return {}
    reader, _ = load_run(run_path(out, judging.reader, seed), weights="last", device=process_device())
    still = replace(recipe.data, load_depth=False)
    held_out, training = (open_dataset(root, split=split, config=still) for split in ("val", "train"))
    training.withheld = frozenset(training.tokens)  # a judge looks at photographs and their texts
    scores: dict[str, float] = {}
    for kind, told in (("drawn", False), ("told", True)):
        if told and arm not in judging.told:
            continue
        found = evaluate_generation(
            model,
            reader,
            held_out,
            training,
            judging,
            protocol=claim.protocols[0],
            keep=root / "judge",
            told=told,
            seed=seed,
        )
        scores |= {f"{kind}.{name}": value for name, value in found.items()}
    return scores


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
    run, marker = run_path(out, arm, seed), out / "runs" / f"{arm}-{seed}.json"
    # Another protocol asks for another evaluation of the same training.
    evaluation = ("protocols", "depth", "retrieval", "visibility", "judging", "reader", "threshold_frames")
    identity = {key: value for key, value in identity.items() if key not in evaluation}
    same = marker.is_file() and refreshed(read_json(marker)) == identity
    resume = same and any((run / "state").glob("[0-9]*"))
    state = process_state()
    state.wait_for_everyone()
    if state.is_main_process:
        if not resume:
            shutil.rmtree(run, ignore_errors=True)
        write_json(marker, identity)
    state.wait_for_everyone()
    return run, resume


def _commits(out: Path, arm: str, seed: int) -> str | None:
    """Return the commit that trained an arm and, if it is another, the one that scored it."""
    trained = out / "runs" / f"{arm}-{seed}" / "environment.json"
    known = [read_json(trained).get("commit")] if trained.is_file() else []
    return ", ".join(dict.fromkeys(c for c in (*known, environment.commit()) if c)) or None


def _step_seconds(run: Path, recipe: Recipe, num_processes: int) -> list[float]:
    """Return what each step of a training took, however often it was interrupted."""
    if not (run / "metrics.jsonl").is_file():
        return []
    frames_per_step = recipe.batch_size * recipe.accumulate * num_processes
    text = (run / "metrics.jsonl").read_text()
    # A kill may have cut the last line off.
    lines = [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]
    return [frames_per_step / line["frames_per_s"] for line in lines if "frames_per_s" in line]


def _size(model: torch.nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def _code(system: str) -> Path | None:
    return Path(system.partition(":")[0]) if ".py" in system else None


if __name__ == "__main__":
    name, arm_name, *numbers, folder = sys.argv[1:]
    run_arm(name, arm_name, int(numbers[0]), int(numbers[1]), Path(folder))
