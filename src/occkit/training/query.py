"""Asking the voxels of a model for words: which of them are found, how well they fit, and where most of them are."""

import math
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy import ndimage
from torch import Tensor, nn

from occkit.data.answers import Answers, write_answers
from occkit.data.frames import FrameDataset
from occkit.data.predictions import prediction_path
from occkit.errors import ConfigError, DataError
from occkit.files import read_json, write_json
from occkit.geometry import VoxelGrid
from occkit.nn.open_vocabulary import cosine_scores
from occkit.samples import Prediction
from occkit.training.checkpoint import fingerprint
from occkit.training.evaluate import iterate_predictions, share
from occkit.training.evaluate_retrieval import check_answers
from occkit.training.processes import process_state
from occkit.training.system import AnswersWords

DESCRIPTION = "queries.json"
"""File of a folder of answers that says what was asked."""
MAX_CHARACTERS = 200
"""Of a query; text encoders read some seventy words and cut off the rest without a word."""
_SAME = 1 - 1e-5
"""Cosine from which on two words are one."""
_WORDS_AT_ONCE = 8
"""Rivals compared with a volume at once."""


@dataclass(frozen=True, kw_only=True)
class FoundByRivals:
    """A voxel is found if it fits the query as well as every rival word or better: the run's class words, or others.

    Nothing is found where nothing is meant; but a wider word than a rival ("vehicle" beside "car") finds little.
    """

    margin: float = 0.0
    """By so much its cosine with the query must exceed those with all rivals; below 0 it may fall short."""

    def __post_init__(self) -> None:
        if not -2 <= self.margin <= 2:
            raise ConfigError(f"FoundByRivals.margin: {self.margin} must be a difference of cosines, -2..2")


@dataclass(frozen=True, kw_only=True)
class FoundByShare:
    """The occupied voxels of a frame that fit the query best are found, whether or not it shows what is meant."""

    share: float = 0.01
    """Their share of the occupied voxels (0..1), at least one voxel; those as good as the last one are found, too."""

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise ConfigError(f"FoundByShare.share: {self.share} must lie in (0, 1]")


FoundRule = FoundByRivals | FoundByShare
"""When a voxel counts as found."""


@dataclass(frozen=True, kw_only=True)
class Questions:
    """What is asked of every frame."""

    queries: tuple[str, ...]
    """Words or phrases, see `check_queries`."""
    rule: FoundRule = FoundByRivals()
    """When a voxel counts as found."""
    against: tuple[str, ...] = ()
    """Rival words; empty for those that name the run's classes. A word whose vector is the query's is no rival of it,
    and neither is another query."""

    def __post_init__(self) -> None:
        check_queries(self.queries)
        if self.against:
            check_queries(self.against)


def check_queries(queries: Sequence[str]) -> None:
    """Check what is asked for.

    Raises:
        ConfigError: if nothing is, something is asked twice, or a query has no letter or digit, control characters,
            or more than `MAX_CHARACTERS`.
    """
    if not queries:
        raise ConfigError("query: expected at least one word or phrase, got none")
    for query in queries:
        if not query.strip():
            raise ConfigError(f"query {query!r}: is empty; say in words what to look for, such as 'red mailbox'")
        if len(query) > MAX_CHARACTERS:
            problem = f"expected at most {MAX_CHARACTERS} characters, got {len(query)}"
            raise ConfigError(f"query {query[:40]!r}...: {problem}; name one thing")
        # Line ends and the like, and bytes of the command line that are no text.
        if any(unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") for character in query):
            raise ConfigError(f"query {query!r}: has control characters; give plain text on one line")
        if not any(character.isalnum() for character in query):
            raise ConfigError(f"query {query!r}: has no letter or digit; say in words what to look for")
    twice = [query for query in dict.fromkeys(queries) if list(queries).count(query) > 1]
    if twice:
        raise ConfigError(f"query {twice[0]!r}: is asked for twice; give it once")


class Asker:
    """Puts questions to predictions of a model. The words are encoded once, when it is made.

    Args:
        model: a `System` that is also `AnswersWords`.
        questions: what is asked.

    Raises:
        ConfigError: if the model knows no words, cannot read these, or a query has no rival but itself.
    """

    def __init__(self, model: nn.Module, questions: Questions) -> None:
        self.model: AnswersWords = check_answers(model)
        self.questions = questions
        rivals = questions.against or self.model.vocabulary
        self.vectors = self.model.encode_words(questions.queries)
        self.rivals = self.model.encode_words(rivals)
        self._competes = cosine_scores(self.rivals, self.vectors) < _SAME
        alone = [q for q, any_rival in zip(questions.queries, self._competes.any(dim=0), strict=True) if not any_rival]
        if alone and isinstance(questions.rule, FoundByRivals):
            raise ConfigError(f"query {alone[0]!r}: has no rival but itself; give other words, or take the top share")

    @torch.no_grad()
    def answer(self, prediction: Prediction) -> Answers:
        """Return what the occupied voxels of a prediction of one frame answer."""
        occupied = prediction.semantics()[0] != prediction.taxonomy.free_id
        cosines = self._scores(prediction, self.vectors, occupied)
        if isinstance(self.questions.rule, FoundByRivals):
            margins = cosines - self._best_rival(prediction, occupied) - self.questions.rule.margin
        elif len(cosines):
            count = math.ceil(self.questions.rule.share * len(cosines))
            margins = cosines - cosines.topk(count, dim=0).values[-1]
        else:
            margins = cosines
        voxels = occupied.nonzero().cpu().numpy()
        values = margins.numpy()
        best = [_best_cluster(voxels, column, prediction.grid) for column in values.T]
        return Answers(
            grid=prediction.grid,
            voxels=voxels,
            cosines=cosines.numpy(),
            margins=values,
            centres=np.array([centre for centre, _ in best], np.float32).reshape(-1, 3),
            clusters=np.array([size for _, size in best], np.int32),
        )

    def _scores(self, prediction: Prediction, vectors: Tensor, occupied: Tensor) -> Float[Tensor, "v p"]:
        return self.model.score_words(prediction, vectors)[0, :, occupied].T.float().cpu()

    def _best_rival(self, prediction: Prediction, occupied: Tensor) -> Float[Tensor, "v q"]:
        """Return the highest cosine with a word that competes with each query; never the scores of all at once."""
        best = torch.full((int(occupied.sum()), len(self.questions.queries)), -math.inf)
        parts = zip(self.rivals.split(_WORDS_AT_ONCE), self._competes.split(_WORDS_AT_ONCE), strict=True)
        for vectors, competes in parts:
            scores = self._scores(prediction, vectors, occupied)
            for column in range(best.shape[1]):
                rivals = scores[:, competes[:, column].cpu()]
                if rivals.shape[1]:
                    best[:, column] = torch.maximum(best[:, column], rivals.amax(dim=1))
        return best


def _best_cluster(
    voxels: Int[np.ndarray, "v 3"], margins: Float[np.ndarray, "v"], grid: VoxelGrid
) -> tuple[list[float], int]:
    """Return centre (metres) and voxels of the cluster whose margins add up to most; voxels that share a corner touch.

    Of clusters that are as good, the larger one; without a voxel found the centre is NaN.
    """
    chosen = voxels[margins >= 0]
    if not len(chosen):
        return [math.nan] * 3, 0
    there = np.zeros(grid.shape, np.bool_)
    there[tuple(chosen.T)] = True
    numbered = np.zeros(grid.shape, np.int32)
    ndimage.label(there, structure=np.ones((3, 3, 3)), output=numbered)
    labels = numbered[tuple(chosen.T)]
    sizes = np.bincount(labels)
    weights = np.bincount(labels, margins[margins >= 0])
    best = max(range(1, len(sizes)), key=lambda label: (weights[label], sizes[label]))
    middle = chosen[labels == best].mean(axis=0) + 0.5
    centre = np.array(grid.origin) + middle * np.array(grid.voxel_size)
    return centre.tolist(), int(sizes[best])


def iterate_answers(
    model: nn.Module, dataset: FrameDataset, questions: Questions, *, progress: bool = False
) -> Iterator[tuple[str, Answers]]:
    """Ask every frame of a data set.

    Args:
        model: as `Asker`.
        dataset: the frames.
        questions: what is asked.
        progress: show a bar on the terminal.

    Yields:
        Token and answers.

    Raises:
        ConfigError: as `Asker`.
    """
    asker = Asker(model, questions)
    for batch, prediction in iterate_predictions(model, dataset, progress=progress, doing="asking"):
        yield batch.tokens[0], asker.answer(prediction)


def ask_dataset(
    model: nn.Module, dataset: FrameDataset, folder: Path, questions: Questions, *, progress: bool = True
) -> int:
    """Write the answers of every frame; frames that are there already are not asked again.

    Args:
        model: as `Asker`.
        dataset: the frames.
        folder: takes `queries.json` and a `<token>.npz` a frame.
        questions: what is asked.
        progress: show a bar on the terminal, on the first process.

    Returns:
        The number of frames asked now, by this process.

    Raises:
        ConfigError: as `Asker`.
        DataError: if the folder holds answers to other questions, or of another model.
    """
    asker, state = Asker(model, questions), process_state()
    source = _describe(asker, fingerprint(model))
    marker = folder / DESCRIPTION
    if marker.is_file() and read_json(marker) != source:
        raise DataError(folder, "holds answers to other questions, or of another model", "give a new folder")
    if not marker.is_file() and folder.is_dir() and any(folder.rglob("*.npz")):
        raise DataError(folder, "holds files that are no answers", "give a new folder")
    state.wait_for_everyone()
    if state.is_main_process:
        write_json(marker, source)
    missing = [token for token in share(dataset.tokens) if not prediction_path(folder, token).is_file()]
    show = progress and state.is_main_process
    for batch, prediction in iterate_predictions(model, dataset, tokens=missing, progress=show, doing="asking"):
        write_answers(folder, batch.tokens[0], asker.answer(prediction))
    state.wait_for_everyone()
    return len(missing)


def _describe(asker: Asker, weights: str) -> dict[str, Any]:
    questions = asker.questions
    rule = {"rule": type(questions.rule).__name__} | asdict(questions.rule)
    rivals = list(questions.against or asker.model.vocabulary)
    return {"queries": list(questions.queries), "found": rule, "against": rivals, "weights_sha256": weights}
