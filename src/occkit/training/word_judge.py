"""A network that says which words and numbers of its caption an image shows: a judge that never saw a drawn one.

It is trained on photographs alone. Its pooled features stand where Inception's do for large images; they are its own,
and its figures must not be put beside those of another network.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, UInt8
from torch import Tensor, nn

from occkit.errors import DataError
from occkit.files import write_json
from occkit.nn.backbones import SmallConvNetConfig
from occkit.nn.blocks import GroupNormConfig
from occkit.nn.prompt_encoders import split_words
from occkit.training.checkpoint import load_weights, write_tensors

_FEWEST = 0.05
"""Words that fewer captions have, or lack, are not asked for."""
_COUNTED = re.compile(r"\b(\d+) (\w[^,.;]*)")
"""A number of a caption and what it counts."""
_MOST = 9
"""No one is asked for more of a thing."""
_PLURALS = {"children": "child", "people": "person", "buses": "bus"}


@dataclass(frozen=True, kw_only=True)
class WordJudgeConfig:
    """How the judge looks and how long it learns."""

    widths: tuple[int, ...] = (24, 48, 64)
    """Channels of its stages, each at half the size of the one before."""
    steps: int = 500
    """Training steps."""
    batch_size: int = 16
    """Photographs a step."""
    lr: float = 3e-3
    """Learning rate of AdamW, falling along a cosine."""
    seed: int = 1_000_003
    """Of weights and batches: not that of any arm."""


class WordJudge(nn.Module):
    """A small convolutional network over one image: pooled features, and a score for each word."""

    def __init__(self, config: WordJudgeConfig, words: Sequence[str]) -> None:
        super().__init__()
        self.words, self.widths = tuple(words), config.widths
        stages = len(config.widths)
        self.backbone = SmallConvNetConfig(
            widths=config.widths, blocks=(1,) * stages, out_stages=(stages - 1,), norm=GroupNormConfig()
        ).build()
        self.scores = nn.Linear(config.widths[-1], len(self.words))

    def features(self, images: UInt8[Tensor, "b 3 h w"]) -> Float[Tensor, "b c"]:
        """Return the mean over the image of the last stage."""
        maps = self.backbone(images.float() / 127.5 - 1)[-1]
        return cast(Tensor, maps.mean(dim=(-2, -1)))

    def forward(self, images: UInt8[Tensor, "b 3 h w"]) -> Float[Tensor, "b w"]:
        """Return a score for each word; above 0 the image shows it more likely than not."""
        return self.scores(self.features(images))


def words_to_judge(captions: Sequence[str]) -> tuple[str, ...]:
    """Return the words that enough captions have and enough lack, sorted.

    "2 car" stands for two cars or more; it is asked for if enough captions have them and enough have a single one.
    """
    said = [_words(caption) for caption in captions]
    count = {word: sum(word in words for words in said) for word in set[str]().union(*said)}
    few = _FEWEST * len(said)
    most = {word: count[_single(word)] if is_number(word) else len(said) for word in count}
    return tuple(sorted(word for word, n in count.items() if few <= n <= most[word] - few))


def is_number(word: str) -> bool:
    """Return whether a word of a judge stands for a number of things, as "2 car" does."""
    return " " in word


def shown_words(captions: Sequence[str], words: Sequence[str]) -> Bool[np.ndarray, "b w"]:
    """Return which words each caption has."""
    said = [_words(caption) for caption in captions]
    return np.array([[word in of_one for word in words] for of_one in said], np.bool_)


def counted_words(captions: Sequence[str], words: Sequence[str]) -> Bool[np.ndarray, "b w"]:
    """Return whether each caption has one at least of what a number counts; of other words, True."""
    said = [_words(caption) for caption in captions]
    return np.array([[not is_number(word) or _single(word) in of_one for word in words] for of_one in said], np.bool_)


def train_judge(
    config: WordJudgeConfig, images: UInt8[Tensor, "n 3 h w"], captions: Sequence[str], folder: Path
) -> WordJudge:
    """Return a judge trained on photographs, or the one of the same config and words that is kept in `folder`.

    Args:
        config: how.
        images: one camera's photographs.
        captions: of each.
        folder: where its safetensors file is kept, with a `.json` of its words and its config beside it.

    Raises:
        DataError: if no word can be judged by these captions, or the file is another judge's.
    """
    words = words_to_judge(captions)
    described = json.dumps({"words": words, "config": asdict(config)}, sort_keys=True)
    path = folder / f"judge-{hashlib.sha256(described.encode()).hexdigest()[:8]}.safetensors"
    if not words:
        raise DataError(path, "no word is in some captions and not in others", "judge a larger or more varied set")
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        judge = WordJudge(config, words)
        if path.is_file():
            load_weights(judge, path)
            return judge.eval()
        optimiser = torch.optim.AdamW(judge.parameters(), lr=config.lr, weight_decay=0.05)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, config.steps)
        wanted = torch.from_numpy(shown_words(captions, words)).float()
        for _ in range(config.steps):
            rows = torch.randint(len(images), (config.batch_size,))
            optimiser.zero_grad()
            F.binary_cross_entropy_with_logits(judge(images[rows]), wanted[rows]).backward()
            optimiser.step()
            schedule.step()
    write_tensors(path, judge.state_dict())
    write_json(path.with_suffix(".json"), {"words": list(words), "config": asdict(config)})
    return judge.eval()


def word_scores(
    scores: Float[np.ndarray, "n w"], shown: Bool[np.ndarray, "n w"], among: Bool[np.ndarray, "n w"] | None = None
) -> float:
    """Return how well scores tell images whose text has a word from those whose text lacks it; 0.5 is chance.

    The area under the ROC curve of each word, the mean over the words that some texts have and some lack: the share of
    pairs (one that has it, one that lacks it) in which the first scores higher, ties for a half.

    Args:
        scores: of each image and word.
        shown: whether its text has the word.
        among: which images count for a word; None for all.

    Raises:
        ValueError: if every text has the same words.
    """
    areas: list[float] = []
    for column, there, asked in zip(
        scores.T, shown.T, np.ones_like(shown.T) if among is None else among.T, strict=True
    ):
        column, there = column[asked], there[asked]
        if there.all() or not there.any():
            continue
        higher = (column[there][:, None] > column[~there]).mean()
        equal = (column[there][:, None] == column[~there]).mean()
        areas.append(float(higher + 0.5 * equal))
    if not areas:
        raise ValueError("word_scores: every text has the same words; nothing can be told apart")
    return float(np.mean(areas))


def _words(caption: str) -> set[str]:
    """Return a caption's words in the singular, and of what it counts "1 car", "2 car", ... up to its number."""
    counted = ((min(int(last), _MOST), _of_one(things)) for last, things in _COUNTED.findall(caption))
    numbers = {f"{n} {thing}" for last, thing in counted for n in range(1, last + 1)}
    return {_singular(word) for word in split_words(caption) if not word.isdigit()} | numbers


def _single(number: str) -> str:
    return f"1 {number.partition(' ')[2]}"


def _of_one(things: str) -> str:
    *before, last = split_words(things)
    return " ".join((*before, _singular(last)))


def _singular(word: str) -> str:
    if word in _PLURALS:
        return _PLURALS[word]
    if word.endswith(("ches", "xes", "sses")):
        return word[:-2]
    return word[:-1] if word.endswith("s") and not word.endswith(("ss", "us")) else word
