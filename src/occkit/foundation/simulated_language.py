"""A stand-in for a text encoder on procedural worlds: vectors built from what words have to do with each other.

Source: original.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import sqrt
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from occkit.errors import ConfigError
from occkit.foundation.chance import chance
from occkit.foundation.language import check_prompts
from occkit.foundation.lexicon import LEXICON, Meaning, meaning_of_prompt

Vector = npt.NDArray[np.float64]

_CLASSES = tuple(name for classes in LEXICON.values() for name in classes)
_AXES = 1 + len(LEXICON) + len(_CLASSES)
_MIN_OWN = 16
"""Directions left for the words themselves."""


@dataclass(frozen=True, kw_only=True)
class SimulatedTextConfig:
    """Vectors in a narrow cone, as those of CLIP are; no weights, the same on every machine but for rounding."""

    width: int = 64
    """Numbers of a vector."""
    seed: int = 0
    """Vectors depend on the seed and the words, on nothing else."""
    same_class: float = 0.95
    """Cosine of two words of a class, such as car and taxi (0..1)."""
    same_kind: float = 0.85
    """Cosine of two words of a kind, such as car and bus (0..`same_class`)."""
    unrelated: float = 0.75
    """Cosine of any other two words (0..`same_kind`)."""
    context: float = 0.2
    """Length of what the rest of a sentence adds to its subject, of which it knows nothing (0..1)."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.unrelated <= self.same_kind <= self.same_class <= 1.0:
            raise ConfigError(
                "SimulatedText: expected 0 <= unrelated <= same_kind <= same_class <= 1, got "
                f"{self.unrelated}, {self.same_kind}, {self.same_class}"
            )
        if not 0.0 <= self.context <= 1.0:
            raise ConfigError(f"SimulatedText: context {self.context} must lie in 0..1")
        if self.width < _AXES + _MIN_OWN:
            raise ConfigError(f"SimulatedText: width {self.width} must be at least {_AXES + _MIN_OWN}")

    def build(self) -> "SimulatedText":
        """Return the encoder."""
        return SimulatedText(self)


class SimulatedText:
    """See `SimulatedTextConfig`.

    `t = norm(a g + b kind + c class + d word + e context)`, where everything has `g`, the axes of kinds and classes are
    orthogonal to it and to each other, and those of words are random directions orthogonal to all of them. The squares
    of a..d are the differences between the three cosines. Of words that `LEXICON` does not know kind, class and word
    are one direction of their own: they are unrelated to all others, and like themselves in any sentence.

    It does not know what adjectives mean: "red car" and "blue car" are two sentences about a car.
    """

    def __init__(self, config: SimulatedTextConfig) -> None:
        self.config = config
        drawn, triangle = np.linalg.qr(chance(config.seed, "axes").normal(size=(config.width, config.width)))
        axes = (drawn * np.sign(np.diagonal(triangle))).T
        names = ("everything", *LEXICON, *(f"class {name}" for name in _CLASSES))
        self._axes: dict[str, Vector] = dict(zip(names, axes, strict=False))
        self._own: Vector = axes[_AXES:]

    @property
    def width(self) -> int:
        """Numbers of a vector."""
        return self.config.width

    @property
    def description(self) -> dict[str, Any]:
        """Name and settings."""
        return {"text": "simulated"} | asdict(self.config)

    def encode(self, prompts: Sequence[str]) -> Float[Tensor, "p c"]:
        """Encode prompts. See `TextEncoder.encode`."""
        check_prompts(prompts)
        vectors = np.stack([self._encode(meaning_of_prompt(prompt)) for prompt in prompts])
        return torch.from_numpy(vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).float()

    def _encode(self, meaning: Meaning) -> Vector:
        config = self.config
        vector = sqrt(config.unrelated) * self._axes["everything"]
        if meaning.kind is None:
            vector = vector + sqrt(1 - config.unrelated) * self._direction("word", meaning.head)
        else:
            vector = vector + sqrt(config.same_kind - config.unrelated) * self._axes[meaning.kind]
            vector = vector + sqrt(config.same_class - config.same_kind) * self._axes[f"class {meaning.name}"]
            vector = vector + sqrt(1 - config.same_class) * self._direction("word", meaning.head)
        if meaning.context:
            vector = vector + config.context * self._direction("context", meaning.context)
        return vector

    def _direction(self, *names: str) -> Vector:
        """Return a direction that belongs to the names, orthogonal to those of kinds and classes."""
        own = chance(self.config.seed, *names).normal(size=len(self._own)) @ self._own
        return own / np.linalg.norm(own)
