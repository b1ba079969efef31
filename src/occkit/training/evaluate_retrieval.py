"""Scoring retrieval by words: the voxels of a model, the features of images, and a ranking that tells nothing apart."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from accelerate.utils import gather_object
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from occkit.data.datasets import open_dataset
from occkit.data.feature_store import DESCRIPTION, FeatureStore
from occkit.data.frames import DataConfig, FrameDataset, Split
from occkit.data.pop3d import RetrievalQuery
from occkit.errors import ConfigError, DataError
from occkit.geometry import VoxelGrid
from occkit.metrics.retrieval import POINT_SETS, RetrievalEvaluator
from occkit.nn.open_vocabulary import cosine_scores
from occkit.nn.subspace import reduce_features
from occkit.ops.sampling import sample_trilinear
from occkit.training.evaluate import iterate_predictions, share
from occkit.training.processes import process_state
from occkit.training.system import AnswersWords

LOWEST = -1.0
"""Score of a point that nothing is known of: outside of the volume, or in no image. No cosine is lower."""

Encode = Callable[[Sequence[str]], Tensor]
"""Turns words into vectors `[p, c]`, as `AnswersWords.encode_words`."""


def check_answers(model: nn.Module) -> AnswersWords:
    """Return the model as one that can be asked for words.

    Raises:
        ConfigError: if it cannot.
    """
    if not isinstance(model, AnswersWords):
        raise ConfigError(f"{type(model).__name__}: knows its classes and no other words; ask a run of LangOcc")
    return model


def report_retrieval(
    model: nn.Module,
    root: Path,
    config: DataConfig,
    queries: Sequence[RetrievalQuery],
    *,
    split: Split,
    trilinear: bool = False,
    progress: bool = False,
) -> dict[str, Any]:
    """Return the scores of a model, and of the image features it learns from where those of the split are stored.

    Args:
        model: as `evaluate_retrieval`.
        root: the data set.
        config: of the run.
        queries: what is looked for.
        split: part of the data set.
        trilinear: as `evaluate_retrieval`.
        progress: show a bar on the terminal.

    Returns:
        `RetrievalEvaluator.report`, with `point_score` ("voxel" or "trilinear") and `image_features`, another such
        report or None.

    Raises:
        ConfigError, DataError: as `evaluate_retrieval`.
    """
    dataset = open_dataset(root, split=split, config=replace(config, load_points=True))
    evaluator = evaluate_retrieval(model, dataset, queries, trilinear=trilinear, progress=progress)
    looked_up = stored_features(root, config, queries, split=split)
    rival = None
    if looked_up is not None:
        rival = evaluate_image_features(check_answers(model).encode_words, looked_up, queries).report()
    return evaluator.report() | {"point_score": "trilinear" if trilinear else "voxel", "image_features": rival}


def evaluate_retrieval(
    model: nn.Module,
    dataset: FrameDataset,
    queries: Sequence[RetrievalQuery],
    *,
    trilinear: bool = False,
    progress: bool = False,
) -> RetrievalEvaluator:
    """Score how well queries find their LiDAR points in a model's voxels; every process returns the result of all.

    The score of a point is the cosine of the query with the voxel that the point lies in, whatever the density there;
    points outside of the volume have `LOWEST`.

    Args:
        model: a `System` that is also `AnswersWords`.
        dataset: opened with `DataConfig.load_points`; frames that no query is about are not predicted.
        queries: from `world_queries` or `read_pop3d`.
        trilinear: the point's vector is interpolated between those of the eight voxels around it, each of unit length
            (at the border the outermost), as in LangOcc's evaluation.
        progress: show a bar on the terminal, on the first process.

    Raises:
        ConfigError: if the model knows no words, or has no vectors to interpolate.
        DataError: if there is no query, one is about a frame that is not there, or a frame has no LiDAR points.
    """
    asked = check_answers(model)
    by_token = group_queries(queries, dataset)
    vectors = _encode_all(asked.encode_words, queries)
    evaluator = RetrievalEvaluator()
    show = progress and process_state().is_main_process
    frames = iterate_predictions(model, dataset, tokens=share(list(by_token)), progress=show, doing="retrieval")
    for batch, prediction in frames:
        token = batch.tokens[0]
        if batch.points is None:
            raise _no_points(token)
        words = torch.stack([vectors[query.query] for query in by_token[token]])
        with torch.no_grad():
            volumes = asked.score_words(prediction, words)[0].float().cpu()
        between = None
        if trilinear:
            if prediction.features is None:
                raise ConfigError(f"{type(model).__name__}: predicts no vectors to interpolate; score voxels instead")
            between = functional.normalize(prediction.features[0].float().cpu(), dim=0)
        scores = score_points(volumes, batch.grid, batch.points[0][:, :3], between=between)
        _add(evaluator, by_token[token], scores, batch.points[0], batch.grid)
    return _of_all(evaluator)


def score_points(
    volumes: Float[Tensor, "q x y z"],
    grid: VoxelGrid,
    points: Float[Tensor, "p 3"],
    *,
    between: Float[Tensor, "k x y z"] | None = None,
) -> Float[Tensor, "q p"]:
    """Return the score of each point in each volume, `LOWEST` outside of the grid.

    Args:
        volumes: the cosine of each voxel's vector with each query.
        grid: where they lie.
        points: metres, frame of the grid.
        between: the unit vectors of the voxels; with them a point's own is interpolated, `cos(sum_i w_i f_i, t)
            = sum_i w_i (f_i . t) / |sum_i w_i f_i|`. Without, it is that of the voxel that the point lies in.
    """
    index, inside = grid.index_of(points)
    scores = volumes.new_full((len(volumes), len(points)), LOWEST)
    rows = volumes.flatten(1)
    if between is not None:
        places = grid.continuous_index(points[inside])
        joined = torch.cat([rows, between.flatten(1)]).T.contiguous()
        sampled = sample_trilinear(joined, grid.shape, places, padding="border").T
        length = sampled[len(rows) :].norm(dim=0).clamp(min=torch.finfo(sampled.dtype).tiny)
        scores[:, inside] = sampled[: len(rows)] / length
    else:
        scores[:, inside] = rows[:, grid.flat_index(index[inside])]
    return scores


def evaluate_image_features(
    encode: Encode, dataset: FrameDataset, queries: Sequence[RetrievalQuery]
) -> RetrievalEvaluator:
    """Score the features of the images themselves, looked up where LiDAR points fall.

    A rival without a network: it needs the LiDAR when it is asked. Points that no camera sees have `LOWEST`.

    Args:
        encode: of the encoder whose space the features lie in.
        dataset: opened for training, with `DataConfig.point_features`.
        queries: as above.

    Raises:
        ConfigError: if the features are of another width than the words.
        DataError: as `evaluate_retrieval`, or if a frame's features are not in the store.

    Source: the row "MaskCLIP" of Vobecky et al., "POP-3D", NeurIPS 2023.
    """
    assert dataset.config.features is not None
    store = FeatureStore(dataset.root / dataset.config.features)
    by_token = group_queries(queries, dataset)
    vectors = _encode_all(encode, queries)
    width = len(next(iter(vectors.values())))
    if width != store.layout.width:
        raise ConfigError(f"{store.folder}: features of {store.layout.width} channels, words of {width}; not one space")
    position = {token: index for index, token in enumerate(dataset.tokens)}
    evaluator = RetrievalEvaluator()
    for token in share(list(by_token)):
        sample = dataset.sample(position[token])
        if sample.points is None or sample.point_features is None:
            raise _no_points(token)
        words = torch.stack([vectors[query.query] for query in by_token[token]]).cpu()
        words = words if store.basis is None else reduce_features(words, store.basis)
        seen = sample.point_features.any(dim=1)
        scores = torch.where(seen, cosine_scores(sample.point_features, words).T, LOWEST)
        _add(evaluator, by_token[token], scores, sample.points, sample.grid)
    return _of_all(evaluator)


def evaluate_no_ranking(dataset: FrameDataset, queries: Sequence[RetrievalQuery]) -> RetrievalEvaluator:
    """Score a ranking that tells nothing apart: all points alike, so that each figure is the prevalence beside it."""
    evaluator = RetrievalEvaluator()
    position = {token: index for index, token in enumerate(dataset.tokens)}
    for token, asked in group_queries(queries, dataset).items():
        points = dataset.sample(position[token]).points
        if points is None:
            raise _no_points(token)
        _add(evaluator, asked, torch.zeros(len(asked), len(points)), points, dataset.grid)
    return evaluator


def stored_features(
    root: Path, config: DataConfig, queries: Sequence[RetrievalQuery], *, split: Split
) -> FrameDataset | None:
    """Return the data set with the features of its images at LiDAR points; None if they are not there.

    Args:
        root: the data set.
        config: that of a run; `DataConfig.features` says where its features lie.
        queries: the frames whose features must be there.
        split: part of the data set.
    """
    if config.features is None or not (root / config.features / DESCRIPTION).is_file():
        return None
    store = FeatureStore(root / config.features)
    if not all(store.has(query.token) for query in queries):
        return None
    looked_up = DataConfig(
        cameras=config.cameras, load_depth=False, load_points=True, features=config.features, point_features=True
    )
    return open_dataset(root, split=split, config=looked_up, training=True)


def group_queries(queries: Sequence[RetrievalQuery], dataset: FrameDataset) -> dict[str, list[RetrievalQuery]]:
    """Return the queries of each frame, frames in the order of the data set.

    Raises:
        DataError: if there is none, or one is about a frame that the data set lacks.
    """
    if not queries:
        raise DataError(dataset.root, "no frame shows enough of what is asked for", "choose more frames or other words")
    known = set(dataset.tokens)
    missing = [query.token for query in queries if query.token not in known]
    if missing:
        problem = f"{len(missing)} of {len(queries)} queries are about frames that are not there, such as {missing[0]}"
        raise DataError(dataset.root, problem, "choose another split, such as --split all")
    asked: dict[str, list[RetrievalQuery]] = {query.token: [] for query in queries}
    for query in queries:
        asked[query.token].append(query)
    return {token: asked[token] for token in dataset.tokens if token in asked}


def flat_retrieval(report: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return a retrieval report as entries for `claim.flatten`, `retrieval.<protocol>`; rivals in it have theirs."""
    entries = {f"retrieval.{name}": report[name] for name in POINT_SETS}
    rival: dict[str, Any] | None = report.get("image_features")
    if rival is not None:
        entries |= {f"retrieval.image_features.{name}": rival[name] for name in POINT_SETS}
    return entries


def _encode_all(encode: Encode, queries: Sequence[RetrievalQuery]) -> dict[str, Tensor]:
    texts = list(dict.fromkeys(query.query for query in queries))
    return dict(zip(texts, encode(texts), strict=True))


def _add(
    evaluator: RetrievalEvaluator,
    queries: Sequence[RetrievalQuery],
    scores: Float[Tensor, "q p"],
    points: Float[Tensor, "p c"],
    grid: VoxelGrid,
) -> None:
    inside = grid.index_of(points[:, :3])[1]
    for query, values in zip(queries, scores, strict=True):
        if len(query.relevant) != len(points):
            found = f"{len(query.relevant)} points are annotated, the sweep has {len(points)}"
            raise DataError(query.token, f"query {query.query!r}: {found}", "the annotation is of another sweep")
        evaluator.add(query.token, query.query, values, query.relevant, query.visible, inside)


def _no_points(token: str) -> DataError:
    return DataError(token, "this frame has no LiDAR points to find", "open the data with DataConfig.load_points")


def _of_all(evaluator: RetrievalEvaluator) -> RetrievalEvaluator:
    if process_state().num_processes > 1:
        for state in cast(list[dict[str, Any]], gather_object([evaluator.state()])):
            evaluator.merge(state)
    return evaluator
