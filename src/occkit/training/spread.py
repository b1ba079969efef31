"""Prediction and evaluation of many frames on an engine: a worker holds the model, a task is a frame.

Same files and same sums as `training/evaluate.py`, whichever engine and however many workers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import track

from occkit.data.frames import FrameDataset
from occkit.data.loader import collate
from occkit.data.predictions import prediction_path, read_prediction, write_prediction
from occkit.engine import Engine, Stage, run_all
from occkit.errors import DataError
from occkit.files import remove_partials, write_json
from occkit.metrics import PROTOCOLS, Evaluator, RayProtocol
from occkit.training.checkpoint import fingerprint, from_pretrained
from occkit.training.evaluate import SOURCE, Volume, check_folder, label_of, match_tokens
from occkit.training.label_sources import LabelSource
from occkit.training.processes import process_device
from occkit.training.system import predict

_STAGE = "frame"


@dataclass(frozen=True, kw_only=True)
class ModelSource:
    """Where workers find the model."""

    run: str
    """Run or model folder, which every worker sees under this path, or hub id."""
    code: Path | None = None
    """The user's own recipe file; see `from_pretrained`."""


class _Model:
    """A model on the device of its process, asked frame by frame."""

    def __init__(self, source: ModelSource, dataset: FrameDataset) -> None:
        self.device = process_device()
        self.model, _ = from_pretrained(source.run, code=source.code, device=self.device)
        self.dataset = dataset
        self.places = {token: i for i, token in enumerate(dataset.tokens)}

    def ask(self, token: str) -> Volume:
        """Return the ids `[x, y, z]` of a frame.

        Raises:
            DataError: if it cannot be read.
        """
        batch = collate([self.dataset.sample(self.places[token])])
        with torch.no_grad():
            return predict(self.model, batch.to(self.device)).semantics()[0].cpu().numpy()


@dataclass(frozen=True, kw_only=True)
class _PredictConfig:
    source: ModelSource
    dataset: FrameDataset
    folder: Path

    def build(self) -> "_Predict":
        return _Predict(self)


class _Predict:
    """Writes the prediction of a frame and returns why it cannot be read, or None; asked for None, names the model."""

    def __init__(self, config: _PredictConfig) -> None:
        self.folder = config.folder
        self.model = _Model(config.source, config.dataset)

    def __call__(self, token: str | None) -> str | None:
        if token is None:
            return fingerprint(self.model.model)
        try:
            semantics = self.model.ask(token)
        except DataError as error:
            return str(error)
        write_prediction(self.folder, token, semantics)
        return None


def spread_predictions(
    source: ModelSource, dataset: FrameDataset, folder: Path, engine: Engine, *, progress: bool = True
) -> int:
    """Write one `<token>.npz` a frame as `write_predictions` does; frames that are there are not predicted again.

    Args:
        source: the model.
        dataset: the frames.
        folder: where to write; every worker sees it under this path.
        engine: who does the work.
        progress: show a bar on the terminal.

    Returns:
        The number of frames predicted now.

    Raises:
        DataError: if the folder holds predictions of other weights; or, when all others are written, frames could not
            be read or killed every worker.
    """
    folder = folder.absolute()
    stage = Stage(
        name=_STAGE,
        build=_PredictConfig(source=source, dataset=dataset, folder=folder).build,
        stateful=True,
        gpu=True,
    )
    failed: dict[str, str] = {}
    with engine.open([stage]) as crew:
        crew.submit(_STAGE, "fingerprint", None)
        named = crew.next()
        if named.lost is not None:
            raise DataError(source.run, f"the model cannot be loaded: {named.lost}", "see the logs of Ray")
        mine = {"weights_sha256": str(named.value)}
        check_folder(folder, mine)
        write_json(folder / SOURCE, mine)
        remove_partials(folder)
        missing = [token for token in dataset.tokens if not prediction_path(folder, token).is_file()]
        outcomes = run_all(crew, _STAGE, ((token, token) for token in missing))
        console = Console(stderr=True)
        for outcome in track(outcomes, "predicting", total=len(missing), console=console, disable=not progress):
            if outcome.lost is not None or outcome.value is not None:
                failed[outcome.key] = outcome.lost or outcome.value
    if failed:
        token = next(token for token in dataset.tokens if token in failed)
        raise DataError(
            token,
            f"{len(failed)} of {len(missing)} frames have no prediction, the others are written; this one: "
            f"{failed[token]}",
            "repair the frames and give the command again",
        )
    return len(missing)


@dataclass(frozen=True, kw_only=True)
class _ScoreConfig:
    source: ModelSource | Path
    labels: LabelSource
    protocols: tuple[str, ...]
    mask: str | None

    def build(self) -> "_Score":
        return _Score(self)


class _Score:
    """Returns the state of an evaluator that has counted one frame."""

    def __init__(self, config: _ScoreConfig) -> None:
        self.config = config
        self.casts_rays = any(isinstance(PROTOCOLS[name], RayProtocol) for name in config.protocols)
        self.model: _Model | None = None
        if isinstance(config.source, ModelSource):
            assert isinstance(config.labels, FrameDataset)
            self.model = _Model(config.source, config.labels)

    def __call__(self, token: str) -> dict[str, object]:
        config = self.config
        label = label_of(config.labels, token)
        if self.model is not None:
            semantics = self.model.ask(token)
        else:
            assert isinstance(config.source, Path)
            semantics = read_prediction(prediction_path(config.source, token), shape=label.grid.shape)
        evaluator = Evaluator(config.protocols, mask=config.mask)
        evaluator.add(token, semantics, label, config.labels.ray_origins(token) if self.casts_rays else None)
        return evaluator.state()


def spread_evaluation(
    source: ModelSource | Path,
    labels: LabelSource,
    protocols: Sequence[str],
    engine: Engine,
    *,
    mask: str | None = None,
    allow_missing: bool = False,
    progress: bool = False,
) -> Evaluator:
    """Score a model or a folder of predictions as `evaluate_model` and `evaluate_predictions` do; the sums are equal.

    Args:
        source: the model, or a folder of `<token>.npz`.
        labels: a data set, or for predictions a tree of labels.
        protocols: names of `occkit.metrics.PROTOCOLS`.
        engine: who does the work.
        mask: "camera", "lidar" or "none" in place of each protocol's own.
        allow_missing: for predictions: score the frames that have both a prediction and a label.
        progress: show a bar on the terminal.

    Raises:
        DataError: if a frame cannot be read, has no label or killed every worker: a score of the rest would not say so.
        ValueError: if a protocol is unknown.
    """
    evaluator = Evaluator(protocols, mask=mask)
    folder = source.absolute() if isinstance(source, Path) else None
    tokens = labels.tokens if folder is None else match_tokens(folder, labels, allow_missing=allow_missing)
    config = _ScoreConfig(source=folder or source, labels=labels, protocols=tuple(protocols), mask=mask)
    stage = Stage(name=_STAGE, build=config.build, stateful=True, gpu=folder is None)
    with engine.open([stage]) as crew:
        outcomes = run_all(crew, _STAGE, ((token, token) for token in tokens))
        console = Console(stderr=True)
        for outcome in track(outcomes, "evaluating", total=len(tokens), console=console, disable=not progress):
            if outcome.lost is not None:
                raise DataError(outcome.key, f"cannot be scored: {outcome.lost}", "see the logs of Ray")
            state: dict[str, Any] = outcome.value
            evaluator.merge(state)
    return evaluator
