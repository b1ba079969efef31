"""Evaluation of a model, of a folder of predictions or of the constant prior, on one process or many.

Every process takes its share of the frames. Shares are padded to equal length with frames that others have too, so that
all processes do the same number of forward passes; the evaluator counts a frame once however often it is added.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import numpy.typing as npt
import torch
from accelerate.utils import gather_object
from rich.console import Console
from rich.progress import track
from torch import nn

from occkit.data.frames import FrameDataset
from occkit.data.loader import evaluation_indices, iterate_evaluation
from occkit.data.predictions import list_predictions, prediction_path, read_prediction, write_prediction
from occkit.errors import DataError
from occkit.files import read_json, write_json
from occkit.metrics import PROTOCOLS, ConstantPrior, Evaluator, RayProtocol
from occkit.samples import Batch, Occupancy, Prediction
from occkit.training.checkpoint import fingerprint
from occkit.training.label_sources import LabelSource
from occkit.training.processes import process_state
from occkit.training.system import HasThreshold, predict

T = TypeVar("T")
S = TypeVar("S")
Volume = npt.NDArray[np.uint8]
Frame = tuple[str, Volume, Occupancy]

SOURCE = "predictions.json"
"""File of a folder of predictions that says whose they are."""


def iterate_predictions(
    model: nn.Module,
    dataset: FrameDataset,
    *,
    tokens: Sequence[str] | None = None,
    progress: bool = False,
    doing: str = "predicting",
) -> Iterator[tuple[Batch, Prediction]]:
    """Predict frames one by one, in evaluation mode; the model is left in the mode it was in.

    Args:
        model: a `System` on any device.
        dataset: the frames; the next one is read while one is predicted.
        tokens: which frames and in which order; all by default.
        progress: show a bar on the terminal.
        doing: what the bar says.

    Yields:
        A batch of one, and what the model says about it.
    """
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    position = {token: i for i, token in enumerate(dataset.tokens)}
    indices = [position[token] for token in (dataset.tokens if tokens is None else tokens)]
    batches = iterate_evaluation(dataset, batch_size=1, indices=indices)
    was_training = model.training
    model.eval()
    try:
        for batch in _bar(batches, len(indices), doing, show=progress):
            with torch.no_grad():
                yield batch, predict(model, batch.to(device))
    finally:
        model.train(was_training)


def predict_dataset(
    model: nn.Module, dataset: FrameDataset, *, tokens: Sequence[str] | None = None, progress: bool = False
) -> Iterator[tuple[str, Volume]]:
    """Predict frames one by one; arguments as in `iterate_predictions`.

    Yields:
        Token and ids `[x, y, z]`, uint8.
    """
    for batch, prediction in iterate_predictions(model, dataset, tokens=tokens, progress=progress):
        yield batch.tokens[0], prediction.semantics()[0].cpu().numpy()


def write_predictions(model: nn.Module, dataset: FrameDataset, folder: Path, *, progress: bool = True) -> int:
    """Write one `<token>.npz` a frame; frames that are there already are not predicted again.

    Returns:
        The number of frames predicted now, by this process.

    Raises:
        DataError: if the folder holds predictions of other weights.
    """
    state = process_state()
    source = {"weights_sha256": fingerprint(model)}
    check_folder(folder, source)
    state.wait_for_everyone()
    if state.is_main_process:
        write_json(folder / SOURCE, source)
    missing = [t for t in share(dataset.tokens) if not prediction_path(folder, t).is_file()]
    show = progress and state.is_main_process
    for token, semantics in predict_dataset(model, dataset, tokens=missing, progress=show):
        write_prediction(folder, token, semantics)
    state.wait_for_everyone()
    return len(missing)


def check_folder(folder: Path, source: dict[str, str]) -> None:
    """Refuse a folder that holds predictions of another model.

    Raises:
        DataError: if it does.
    """
    marker = folder / SOURCE
    if marker.is_file() and read_json(marker) != source:
        raise DataError(folder, "holds predictions of another model", "give a new folder")
    if not marker.is_file() and folder.is_dir() and any(folder.rglob("*.npz")):
        raise DataError(folder, "holds files that are not this model's", "give a new folder")


def evaluate_model(
    model: nn.Module,
    dataset: FrameDataset,
    protocols: Sequence[str],
    *,
    mask: str | None = None,
    also: Callable[[Batch, Prediction], None] | None = None,
    progress: bool = False,
) -> Evaluator:
    """Score a model on the labelled frames of a data set; every process returns the result of all.

    Args:
        model: a `System`, the same on each process.
        dataset: frames and labels.
        protocols: names of `occkit.metrics.PROTOCOLS`.
        mask: "camera", "lidar" or "none" in place of each protocol's own.
        also: what else to do with each batch of one and its prediction.
        progress: show a bar on the terminal, on the first process.
    """
    show = progress and process_state().is_main_process

    def frames() -> Iterator[Frame]:
        for batch, prediction in iterate_predictions(model, dataset, tokens=share(dataset.tokens), progress=show):
            if also is not None:
                also(batch, prediction)
            token = batch.tokens[0]
            yield token, prediction.semantics()[0].cpu().numpy(), label_of(dataset, token)

    return _score(frames(), dataset, protocols, mask)


def choose_threshold(model: nn.Module, dataset: FrameDataset, protocol: str) -> float:
    """Set the threshold of a method to the one with the best IoU under a protocol, the first of equals, and return it.

    Args:
        model: a `System` that is also `HasThreshold`.
        dataset: labelled frames that nothing is to be claimed about.
        protocol: name of one of `occkit.metrics.PROTOCOLS` that has an IoU.
    """
    assert isinstance(model, HasThreshold)
    found: list[tuple[float, float]] = []
    for threshold in model.thresholds:
        model.threshold = threshold
        iou = evaluate_model(model, dataset, (protocol,)).report()[protocol]["iou"]
        found.append((iou if isinstance(iou, float) else 0.0, threshold))
    model.threshold = max(found, key=lambda pair: pair[0])[1]
    return model.threshold


def evaluate_predictions(
    folder: Path,
    labels: LabelSource,
    protocols: Sequence[str],
    *,
    mask: str | None = None,
    allow_missing: bool = False,
    progress: bool = False,
) -> Evaluator:
    """Score a folder of `<token>.npz`; arguments as in `evaluate_model`.

    Args:
        folder: the predictions.
        labels: a data set or a tree of labels.
        protocols: names of `occkit.metrics.PROTOCOLS`.
        mask: "camera", "lidar" or "none" in place of each protocol's own.
        allow_missing: score the frames that have both a prediction and a label, instead of demanding the same frames.
        progress: show a bar on the terminal, on the first process.

    Raises:
        DataError: if predictions are missing or have no label, or one cannot be read.
    """
    tokens = match_tokens(folder, labels, allow_missing=allow_missing)

    def read(token: str) -> Frame:
        label = label_of(labels, token)
        return token, read_prediction(prediction_path(folder, token), shape=label.grid.shape), label

    mine = share(tokens)
    show = progress and process_state().is_main_process
    return _score(_bar(_ahead(read, mine), len(mine), "evaluating", show=show), labels, protocols, mask)


def match_tokens(folder: Path, labels: LabelSource, *, allow_missing: bool) -> list[str]:
    """Return the frames that have both a prediction and a label, in the order of the labels.

    Raises:
        DataError: if there are none, or, unless `allow_missing`, one side has frames that the other lacks.
    """
    predicted = set(list_predictions(folder))
    both = [token for token in labels.tokens if token in predicted]
    missing = [token for token in labels.tokens if token not in predicted]
    extra = sorted(predicted.difference(labels.tokens))
    if not both:
        raise DataError(
            folder, f"no prediction has a label: the labels are of {labels.tokens[0]} ...", "compare the file names"
        )
    if (missing or extra) and not allow_missing:
        said = []
        if missing:
            said.append(
                f"{len(missing)} of {len(labels.tokens)} labelled frames have no prediction, such as {missing[0]}"
            )
        if extra:
            said.append(f"{len(extra)} predictions have no label, such as {extra[0]}")
        raise DataError(folder, "; ".join(said), "predict them, choose another split, or pass --allow-missing")
    return both


def fit_prior(dataset: FrameDataset, *, progress: bool = False) -> ConstantPrior:
    """Fit the constant prior, the most frequent class of each voxel, on the labels of a training split."""
    labels = _bar(_ahead(dataset.label, dataset.tokens), len(dataset), "fitting the constant prior", show=progress)
    return ConstantPrior.fit(label for label in labels if label is not None)


def evaluate_prior(
    prior: ConstantPrior,
    labels: LabelSource,
    protocols: Sequence[str],
    *,
    tokens: Sequence[str] | None = None,
    mask: str | None = None,
    progress: bool = False,
) -> Evaluator:
    """Score the constant prior; arguments as in `evaluate_model`."""
    volume = prior.predict()
    mine = share(labels.tokens if tokens is None else tokens)
    show = progress and process_state().is_main_process
    frames = _ahead(lambda token: (token, volume, label_of(labels, token)), mine)
    return _score(_bar(frames, len(mine), "evaluating the prior", show=show), labels, protocols, mask)


def is_generated_world(root: Path) -> bool:
    """Say whether a data set was generated by `occkit world`: then the constant prior belongs beside every score."""
    return (root / "captions.json").is_file() or (root / "truth").is_dir()


def _score(frames: Iterator[Frame], labels: LabelSource, protocols: Sequence[str], mask: str | None) -> Evaluator:
    """Count this process's frames and take in the counts of all other processes."""
    evaluator = Evaluator(protocols, mask=mask)
    casts_rays = any(isinstance(PROTOCOLS[name], RayProtocol) for name in protocols)
    for token, semantics, label in frames:
        evaluator.add(token, semantics, label, labels.ray_origins(token) if casts_rays else None)
    if process_state().num_processes > 1:
        for state in cast(list[dict[str, Any]], gather_object([evaluator.state()])):
            evaluator.merge(state)
    return evaluator


def label_of(labels: LabelSource, token: str) -> Occupancy:
    """Return the label of a frame.

    Raises:
        DataError: if it has none.
    """
    label = labels.label(token)
    if label is None:
        raise DataError(token, "this frame has no label", "choose a split that has labels, such as val")
    return label


def share(tokens: Sequence[str]) -> list[str]:
    """Return this process's frames, padded from the start to as many as the other processes have."""
    state = process_state()
    return [tokens[i] for i in evaluation_indices(len(tokens), state.process_index, state.num_processes)]


def _ahead(read: Callable[[S], T], items: Sequence[S]) -> Iterator[T]:
    """Yield `read(item)` for each item, reading the next one while the present one is used."""
    with ThreadPoolExecutor(1) as pool:
        pending = [pool.submit(read, item) for item in items[:1]]
        for following in items[1:]:
            current = pending.pop().result()
            pending.append(pool.submit(read, following))
            yield current
        for last in pending:
            yield last.result()


def _bar(items: Iterator[T], total: int, what: str, *, show: bool) -> Iterator[T]:
    if not show:
        return items
    return iter(track(items, description=what, total=total, console=Console(stderr=True)))
