"""Scoring the depth that a model renders against LiDAR, and that of a prior which knows nothing of the frame."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

from accelerate.utils import gather_object
from jaxtyping import Float
from torch import Tensor, nn

from occkit.data.frames import FrameDataset
from occkit.errors import ConfigError, DataError
from occkit.metrics import DepthEvaluator, DepthPrior, Evaluator
from occkit.samples import Batch, Prediction
from occkit.training.evaluate import evaluate_model, iterate_predictions, share
from occkit.training.processes import process_state
from occkit.training.system import RendersDepth


def evaluate_depth(model: nn.Module, dataset: FrameDataset, *, progress: bool = False) -> DepthEvaluator:
    """Score rendered depth on the frames of a data set; every process returns the result of all.

    Args:
        model: a `System` that is also `RendersDepth`.
        dataset: opened with `DataConfig.load_depth`.
        progress: show a bar on the terminal, on the first process.

    Raises:
        ConfigError: if the model renders no depth.
        DataError: if a frame has no measured depth.
    """
    evaluator = DepthEvaluator()
    add = _adder(evaluator, model)
    show = progress and process_state().is_main_process
    frames = iterate_predictions(model, dataset, tokens=share(dataset.tokens), progress=show, doing="depth")
    for batch, prediction in frames:
        add(batch, prediction)
    return _of_all(evaluator)


def evaluate_model_and_depth(
    model: nn.Module, dataset: FrameDataset, protocols: Sequence[str]
) -> tuple[Evaluator, DepthEvaluator]:
    """Score occupancy and rendered depth with one prediction a frame; every process returns the result of all.

    Args:
        model: a `System` that is also `RendersDepth`.
        dataset: labelled frames, opened with `DataConfig.load_depth`.
        protocols: names of `occkit.metrics.PROTOCOLS`.

    Returns:
        What `evaluate_model` and what `evaluate_depth` return.

    Raises:
        ConfigError: if the model renders no depth.
        DataError: if a frame has no label or no measured depth.
    """
    evaluator = DepthEvaluator()
    scores = evaluate_model(model, dataset, protocols, also=_adder(evaluator, model))
    return scores, _of_all(evaluator)


def _adder(evaluator: DepthEvaluator, model: nn.Module) -> Callable[[Batch, Prediction], None]:
    if not isinstance(model, RendersDepth):
        raise ConfigError(f"{type(model).__name__}: renders no depth to score; OccNeRF does")

    def add(batch: Batch, prediction: Prediction) -> None:
        if batch.depth is None:
            raise _unmeasured(batch.tokens[0])
        depth = model.render_depth(prediction, batch)
        evaluator.add(batch.tokens[0], depth[0].detach().cpu(), batch.depth[0].cpu())

    return add


def fit_depth_prior(dataset: FrameDataset) -> DepthPrior:
    """Fit the depth prior on a training split opened with `DataConfig.load_depth`.

    Raises:
        DataError: if a frame has no measured depth.
    """
    return DepthPrior.fit(depth for _, depth in _measured(dataset, dataset.tokens))


def evaluate_depth_prior(prior: DepthPrior, dataset: FrameDataset) -> DepthEvaluator:
    """Score the depth prior; arguments as in `evaluate_depth`."""
    evaluator = DepthEvaluator()
    for token, depth in _measured(dataset, share(dataset.tokens)):
        evaluator.add(token, prior.predict(), depth)
    return _of_all(evaluator)


def _measured(dataset: FrameDataset, tokens: Sequence[str]) -> Iterator[tuple[str, Float[Tensor, "n h w"]]]:
    position = {token: i for i, token in enumerate(dataset.tokens)}
    for token in tokens:
        depth = dataset.sample(position[token]).depth
        if depth is None:
            raise _unmeasured(token)
        yield token, depth


def _unmeasured(token: str) -> DataError:
    return DataError(token, "this frame has no LiDAR to compare depth with", "open the data with DataConfig.load_depth")


def _of_all(evaluator: DepthEvaluator) -> DepthEvaluator:
    if process_state().num_processes > 1:
        for state in cast(list[dict[str, Any]], gather_object([evaluator.state()])):
            evaluator.merge(state)
    return evaluator
