"""Text encoders of transformers: what all have in common that answer with a vector a prompt."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from occkit.errors import ConfigError
from occkit.foundation.language import check_prompts


@dataclass(frozen=True, kw_only=True)
class TransformersTextConfig:
    """A text encoder, and how prompts come to it."""

    weights: str
    """Folder or hub id of a model with safetensors, and of its tokenizer."""
    batch_size: int = 64
    """Prompts encoded at once; changes memory and speed, not the result."""
    device: str = "cpu"
    """Where the model runs."""

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            guest = type(self).__name__.removesuffix("Config")
            raise ConfigError(f"{guest}: batch_size {self.batch_size} must be at least 1")


class TransformersText(ABC):
    """A `TextEncoder` that encodes some prompts at a time. Prompts longer than `max_tokens` are cut off there."""

    name: ClassVar[str]
    """Short name, for the description."""
    max_tokens: int
    """Of a prompt."""

    def __init__(self, config: TransformersTextConfig) -> None:
        self.config = config

    @property
    @abstractmethod
    def width(self) -> int:
        """Numbers of a vector."""

    @property
    def description(self) -> dict[str, Any]:
        """Name and weights; not the device and the batch, which do not change the result."""
        return {"text": self.name, "weights": self.config.weights}

    @torch.no_grad()
    def encode(self, prompts: Sequence[str]) -> Float[Tensor, "p c"]:
        """Encode prompts. See `TextEncoder.encode`."""
        check_prompts(prompts)
        size = self.config.batch_size
        return torch.cat([self._encode(prompts[start : start + size]) for start in range(0, len(prompts), size)])

    @abstractmethod
    def _encode(self, prompts: Sequence[str]) -> Float[Tensor, "p c"]:
        """Return unit vectors on the CPU."""
