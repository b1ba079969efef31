"""The training loop: one function, its steps in order, and a state on disk from which it goes on to the bit.

Everything random follows from (seed, step, process): the order of frames, augmentation and dropout need no saved state.
Under `torchrun` each process takes its share of the frames and gradients are averaged; alone it is the same code.
"""

import json
import signal
import threading
import time
import warnings
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Literal, cast

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from accelerate.utils import set_seed
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn

from occkit.data.datasets import open_dataset
from occkit.data.frames import FrameDataset
from occkit.data.loader import Turns, iterate_batches
from occkit.data.rig_files import write_rigs
from occkit.errors import ConfigError, DataError, OcckitError
from occkit.files import read_json, write_json
from occkit.metrics import main_score
from occkit.samples import Batch
from occkit.training import checkpoint
from occkit.training.ema import Ema
from occkit.training.environment import describe
from occkit.training.evaluate import evaluate_model, is_generated_world
from occkit.training.optim import set_learning_rate
from occkit.training.processes import make_accelerator
from occkit.training.recipe import Recipe
from occkit.training.recipe_json import as_of_today, recipe_to_json
from occkit.training.start import start_from
from occkit.training.system import build_system, conditional_parameters, losses, predict, resting_parameters


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """How a training ended."""

    step: int
    """Optimiser steps done."""
    finished: bool
    """False if it was interrupted; its state is written."""
    best_score: float | None
    """Best main score of a validation, 0..1; None without validation."""


def train(recipe: Recipe, data_root: Path | str, out: Path | str, *, resume: bool = False) -> TrainResult:
    """Train a recipe and write a run folder: recipe, environment, metrics, weights (best and last) and state.

    Args:
        recipe: what to train.
        data_root: data set folder.
        out: run folder; must be new or empty unless resuming.
        resume: go on from the state in `out`, which must be of the same recipe. On the CPU, with as many processes and
            threads as before, the outcome is bit for bit that of a run that was never stopped.

    Raises:
        ConfigError: if `out` is not empty, the recipe is another one, or the device lacks the precision.
        DataError: if the data or the state cannot be read.
        OcckitError: if a loss is not finite.
    """
    out = Path(out)
    accelerator = make_accelerator(recipe.precision)
    _prepare_folder(out, recipe, resume=resume)
    accelerator.wait_for_everyone()
    trainer = _Trainer(recipe, Path(data_root), out, accelerator, resume=resume)
    if resume:
        trainer.load_state()
        if trainer.step >= recipe.steps:
            return TrainResult(step=trainer.step, finished=True, best_score=trainer.best_score)
    if accelerator.is_main_process:
        write_json(out / checkpoint.RECIPE_FILE, recipe_to_json(recipe))
        trainer.write_rigs()
        write_json(
            out / "environment.json",
            describe(accelerator.device, seed=recipe.seed, processes=accelerator.num_processes)
            | {"data": trainer.describe_data()},
        )
        checkpoint.truncate_lines(out / "metrics.jsonl", trainer.step)
    with _stop_request(repeated=accelerator.num_processes > 1) as stop_requested:
        return trainer.run(stop_requested)


class _LossOf(nn.Module):
    """Forward pass and losses as one call, which is what distributed training has to see."""

    def __init__(self, system: nn.Module) -> None:
        super().__init__()
        self.system = system
        prefixes = conditional_parameters(system)
        self.conditional = [p for n, p in system.named_parameters() if prefixes and n.startswith(prefixes)]

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        values = losses(self.system, predict(self.system, batch), batch)
        if self.conditional:
            # A gradient of zero instead of none: all processes must agree on which parameters have one.
            name = next(iter(values))
            values[name] = values[name] + 0.0 * torch.stack([p.sum() for p in self.conditional]).sum()
        return values


class _Trainer:
    def __init__(
        self, recipe: Recipe, data_root: Path, out: Path, accelerator: Accelerator, *, resume: bool = False
    ) -> None:
        self.recipe, self.out, self.accelerator = recipe, out, accelerator
        self.train_set = _frames(data_root, recipe, "train")
        self.val_set = None if recipe.evaluate_every is None else _validation_frames(data_root, recipe)
        set_seed(recipe.seed)
        self.system = build_system(recipe.system)
        if not resume:
            for folder in recipe.start:
                start_from(self.system, Path(folder).expanduser())
        self.system.to(accelerator.device)
        self.optimizer = recipe.optim.build(self.system)
        self.ema = None if recipe.ema_decay is None else Ema(self.system, recipe.ema_decay)
        model, prepared = accelerator.prepare(_LossOf(self.system), self.optimizer)
        self.model, self.prepared_optimizer = cast(nn.Module, model), cast(AcceleratedOptimizer, prepared)
        self.step = 0
        self.best_score: float | None = None

    def describe_data(self) -> dict[str, Any]:
        """Return what `environment.json` says of the data; not where it lies, which is nobody else's business."""
        return {
            "format": self.train_set.name,
            "generated": is_generated_world(self.train_set.root),
            "train_frames": len(self.train_set),
            "val_frames": None if self.val_set is None else len(self.val_set),
        }

    @property
    def frames_per_step(self) -> int:
        return self.recipe.batch_size * self.recipe.accumulate * self.accelerator.num_processes

    def run(self, stop_requested: Callable[[], bool]) -> TrainResult:
        batches = self.batches()
        with _Display(self.recipe, self.step, visible=self.accelerator.is_main_process) as display:
            while self.step < self.recipe.steps:
                started = time.perf_counter()
                values, norm = self.train_step(batches)
                self.step += 1
                *means, stopping = self.mean_over_processes([*values.values(), torch.tensor(float(stop_requested()))])
                seconds = time.perf_counter() - started
                display.step(self.record(dict(zip(values, means, strict=True)), norm, seconds))
                if self.is_due(self.recipe.evaluate_every) and self.val_set is not None:
                    display.validation(self.step, self.validate(self.val_set))
                if self.is_due(self.recipe.save_every) or self.is_due(self.recipe.evaluate_every) or stopping > 0:
                    self.save_state()
                if stopping > 0 and self.step < self.recipe.steps:
                    return TrainResult(step=self.step, finished=False, best_score=self.best_score)
        return TrainResult(step=self.step, finished=True, best_score=self.best_score)

    def write_rigs(self) -> None:
        """Keep the cameras of a training frame: whoever draws images later needs some."""
        middle = self.train_set.sample(len(self.train_set) // 2)
        write_rigs(self.out / checkpoint.RIGS_FOLDER, middle.cameras, middle.camera_names)

    def batches(self) -> Iterator[Batch]:
        return iterate_batches(
            self.train_set,
            batch_size=self.recipe.batch_size,
            start_step=self.step * self.recipe.accumulate,
            steps=(self.recipe.steps - self.step) * self.recipe.accumulate,
            seed=self.recipe.seed,
            rank=self.accelerator.process_index,
            world_size=self.accelerator.num_processes,
            turns=_turns(self.train_set, self.recipe),
            num_workers=self.recipe.num_workers,
        )

    def train_step(self, batches: Iterator[Batch]) -> tuple[dict[str, Tensor], float]:
        """Do one optimiser step; return this process's losses and the norm of the gradient before clipping."""
        recipe, accelerator = self.recipe, self.accelerator
        self.model.train()
        set_seed(_step_seed(recipe.seed, self.step, accelerator.process_index))
        set_learning_rate(self.optimizer, recipe.optim.lr_at(self.step, recipe.steps))
        sums: dict[str, Tensor] = {}
        prefixes = resting_parameters(self.system)  # before the passes, which may end a stage
        for part in range(recipe.accumulate):
            batch = next(batches).to(accelerator.device)
            last = part == recipe.accumulate - 1
            with nullcontext() if last else accelerator.no_sync(self.model):
                values = cast(dict[str, Tensor], self.model(batch))
                accelerator.backward(torch.stack(list(values.values())).sum() / recipe.accumulate)
            for name, value in values.items():
                sums[name] = sums.get(name, torch.zeros(())) + value.detach().cpu() / recipe.accumulate
        limit = recipe.optim.clip_norm
        norm = accelerator.clip_grad_norm_(self.model.parameters(), float("inf") if limit is None else limit)
        for name, parameter in self.system.named_parameters() if prefixes else ():
            if name.startswith(prefixes):
                parameter.grad = None
        self.prepared_optimizer.step()
        self.prepared_optimizer.zero_grad()
        if self.ema is not None:
            self.ema.update(self.system)
        return sums, float(cast(Tensor, norm))

    def mean_over_processes(self, values: list[Tensor]) -> list[float]:
        stacked = torch.stack([v.float() for v in values]).to(self.accelerator.device)
        return cast(Tensor, self.accelerator.reduce(stacked, reduction="mean")).tolist()

    def record(self, values: dict[str, float], norm: float, seconds: float) -> dict[str, Any]:
        """Write the line of a step to `metrics.jsonl`, and stop at a loss that is not finite."""
        bad = [name for name, value in values.items() if not abs(value) < float("inf")]
        if bad:
            raise OcckitError(
                f"step {self.step}: the loss {', '.join(bad)} is not finite; lower optim.lr or optim.clip_norm. "
                f"The newest state before it is in {self.out / 'state'}"
            )
        line = {
            "step": self.step,
            "loss": sum(values.values()),
            "losses": values,
            "lr": self.recipe.optim.lr_at(self.step - 1, self.recipe.steps),
            "grad_norm": norm if norm < float("inf") else None,
            "frames_per_s": self.frames_per_step / seconds,
        }
        self.append(line)
        return line

    def append(self, line: dict[str, Any]) -> None:
        if self.accelerator.is_main_process:
            with (self.out / "metrics.jsonl").open("a") as file:
                file.write(json.dumps(line, allow_nan=False) + "\n")

    def is_due(self, every: int | None) -> bool:
        """Say whether something done every so many steps is due now; at the end everything is."""
        return self.step == self.recipe.steps or (every is not None and self.step % every == 0)

    def validate(self, dataset: FrameDataset) -> dict[str, float | None]:
        """Score the weights that would be used (averaged ones if there are) and keep them if they are the best."""
        self.share_buffers()
        with self.ema.applied(self.system) if self.ema is not None else nullcontext():
            report = evaluate_model(self.system, dataset, self.recipe.protocols).report()
        scores = {name: {k: v for k, v in entry.items() if isinstance(v, float)} for name, entry in report.items()}
        self.append({"step": self.step, "validation": scores})
        score = main_score(report[self.recipe.protocols[0]])
        if score is not None and (self.best_score is None or score > self.best_score):
            self.best_score = score
            self.save_weights(checkpoint.WEIGHTS_FILE)
        return {name: main_score(entry) for name, entry in report.items()}

    def share_buffers(self) -> None:
        """Give every process the buffers (running statistics) of the first, so that all validate the same model."""
        if self.accelerator.num_processes > 1:
            for buffer in self.system.buffers():
                torch.distributed.broadcast(buffer, src=0)
            for tensor in self.ema.average.values() if self.ema is not None else ():
                torch.distributed.broadcast(tensor, src=0)

    def save_weights(self, name: str) -> None:
        if self.accelerator.is_main_process:
            weights = self.system.state_dict() if self.ema is None else self.ema.average
            checkpoint.write_tensors(self.out / name, weights)

    def save_state(self) -> None:
        self.save_weights(checkpoint.LAST_FILE)
        if self.best_score is None:
            self.save_weights(checkpoint.WEIGHTS_FILE)
        if self.accelerator.is_main_process:
            groups = {"model": self.system.state_dict(), "optimizer": checkpoint.pack_optimizer(self.optimizer)}
            if self.ema is not None:
                groups["ema"] = self.ema.average
            info = {
                "best_score": self.best_score,
                "ema_updates": None if self.ema is None else self.ema.num_updates,
                "grad_scaler": None if self.accelerator.scaler is None else self.accelerator.scaler.state_dict(),
                "processes": self.accelerator.num_processes,
            }
            checkpoint.write_state(self.out / "state", self.step, groups, info)
        self.accelerator.wait_for_everyone()

    def load_state(self) -> None:
        groups, info = checkpoint.read_state(self.out / "state")
        if info["processes"] != self.accelerator.num_processes:
            raise ConfigError(
                f"{self.out}: was trained by {info['processes']} processes, this is {self.accelerator.num_processes}; "
                "resume with as many, because the frames of a step follow from it"
            )
        self.system.load_state_dict(groups["model"])
        checkpoint.unpack_optimizer(self.optimizer, groups["optimizer"])
        if self.ema is not None:
            self.ema.load(groups["ema"], info["ema_updates"])
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(info["grad_scaler"])
        self.step, self.best_score = info["step"], info["best_score"]


def _prepare_folder(out: Path, recipe: Recipe, *, resume: bool) -> None:
    if not resume:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise ConfigError(f"{out}: is not empty; give a new folder as --out, or go on with it by --resume")
        out.mkdir(parents=True, exist_ok=True)
        return
    if not (out / "state").is_dir():
        raise DataError(out, "has no state to resume from", "start without --resume, in a new folder")
    old, new = as_of_today(read_json(out / checkpoint.RECIPE_FILE)), recipe_to_json(recipe)
    changed = [name for name in _differences(old, new) if name != "num_workers"]
    if changed:
        raise ConfigError(f"{out}: was trained with another recipe; it differs in {', '.join(changed[:5])}")


def _differences(old: Any, new: Any, where: str = "") -> list[str]:
    """Return the dotted names of the values in which two JSON documents differ."""
    if isinstance(old, dict) and isinstance(new, dict):
        a, b = cast(dict[str, Any], old), cast(dict[str, Any], new)
        return [d for key in {**a, **b} for d in _differences(a.get(key), b.get(key), f"{where}.{key}")]
    return [] if old == new else [where.removeprefix(".recipe.").removeprefix(".")]


def _validation_frames(root: Path, recipe: Recipe) -> FrameDataset | None:
    """Return the frames to validate on; None, with a sentence, where nothing is labelled by its nature."""
    frames = _frames(root, recipe, "val")
    if frames.name != "rig":
        return frames
    warnings.warn(f"{root}: a rig has no labels, so nothing is validated; the last weights are kept", stacklevel=2)
    return None


def _frames(root: Path, recipe: Recipe, split: Literal["train", "val"]) -> FrameDataset:
    limit = recipe.max_train_frames if split == "train" else recipe.max_val_frames
    dataset = open_dataset(root, split=split, config=recipe.data, training=split == "train")
    if len(dataset) == 0:
        raise DataError(root, f"the {split} split has no frames", "see what `occkit doctor` says about the folder")
    dataset = dataset if limit is None else dataset.spread(limit)
    if split == "train" and recipe.max_labelled_frames is not None:
        labelled = dataset.spread(recipe.max_labelled_frames).tokens
        dataset.withheld = frozenset(dataset.tokens) - frozenset(labelled)
    return dataset


def _turns(dataset: FrameDataset, recipe: Recipe) -> Turns | None:
    if recipe.labelled_share is None:
        return None
    withheld = tuple(i for i, token in enumerate(dataset.tokens) if token in dataset.withheld)
    labelled = tuple(i for i, token in enumerate(dataset.tokens) if token not in dataset.withheld)
    return Turns(first=labelled, second=withheld, share=recipe.labelled_share)


def _step_seed(seed: int, step: int, process: int) -> int:
    return int(np.random.SeedSequence((seed, step, process)).generate_state(1)[0])


@contextmanager
def _stop_request(*, repeated: bool) -> Generator[Callable[[], bool]]:
    """Turn the first Ctrl-C, or SIGTERM, into a question that is asked after each step; a second one ends at once.

    With `repeated` a second one means nothing: a process under torchrun gets the terminal's and torchrun's own.
    """
    requested = False

    def request(number: int, frame: FrameType | None) -> None:
        del frame
        nonlocal requested
        requested = True
        if not repeated:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)

    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    before = {number: signal.signal(number, request) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: requested
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Display:
    """A bar with loss, frames a second and the time left, and a line for each validation."""

    def __init__(self, recipe: Recipe, start: int, *, visible: bool) -> None:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]:.4f}  {task.fields[speed]:.1f} frames/s"),
            TimeRemainingColumn(),
        )
        self.bar = Progress(*columns, disable=not visible, console=Console(stderr=True))
        self.task = self.bar.add_task(
            recipe.name, total=recipe.steps, completed=start, loss=float("nan"), speed=float("nan")
        )
        self.visible = visible

    def __enter__(self) -> "_Display":
        self.bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.stop()

    def step(self, record: dict[str, Any]) -> None:
        self.bar.update(self.task, completed=record["step"], loss=record["loss"], speed=record["frames_per_s"])

    def validation(self, step: int, scores: dict[str, float | None]) -> None:
        if self.visible:
            shown = [f"{name} {'-' if score is None else f'{100 * score:.2f} %'}" for name, score in scores.items()]
            self.bar.console.print(f"step {step}: {', '.join(shown)}", highlight=False)
