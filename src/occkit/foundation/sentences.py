"""Sentence encoders of transformers (extra `hf`): vectors of text that no image shares."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from occkit.errors import ConfigError
from occkit.files import read_json
from occkit.foundation.transformers_text import TransformersText, TransformersTextConfig
from occkit.foundation.weights import load_model, load_processor

_FETCH = (
    "all-MiniLM-L6-v2 is sentence-transformers/all-MiniLM-L6-v2: load AutoModel and AutoTokenizer once with "
    "from_pretrained and save both to one folder with save_pretrained"
)


@dataclass(frozen=True, kw_only=True)
class SentenceTextConfig(TransformersTextConfig):
    """A text encoder trained on sentences alone, whose vectors are means over tokens."""

    kinds: ClassVar[tuple[str, ...]] = ("bert", "mpnet")
    """What `model_type` of its weights may be."""
    fetch: ClassVar[str] = _FETCH
    """What to fetch, and how: for who has no weights yet."""

    max_tokens: int = 256
    """Prompts are cut off after so many tokens, or at the end of the model's context if that is shorter."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_tokens < 3:
            raise ConfigError(f"SentenceText: max_tokens {self.max_tokens} must be at least 3")

    def build(self) -> "SentenceText":
        """Load model and tokenizer.

        Raises:
            ConfigError: if transformers is not installed, or the weights are of another kind, or do not take means.
            DataError: if the folder's `1_Pooling/config.json` is damaged.
        """
        return SentenceText(self)


class SentenceText(TransformersText):
    """See `SentenceTextConfig`: `t = norm(sum_i m_i h_i / sum_i m_i)`, `h` the last layer, `m` 0 for padding.

    Words of like meaning lie close together, whatever they look like.

    Source: Reimers and Gurevych, "Sentence-BERT", EMNLP 2019; implementation of transformers.
    """

    name = "sentence_mean"

    def __init__(self, config: SentenceTextConfig) -> None:
        super().__init__(config)
        _check_pooling(config.weights)
        model = load_model(
            "SentenceText", config.weights, loader="AutoModel", kinds=config.kinds, fetch=_FETCH, unneeded="pooler."
        )
        self.model = model.to(config.device).eval()
        self.tokenizer = load_processor("SentenceText", config.weights, loader="AutoTokenizer", fetch=_FETCH)
        limits = (config.max_tokens, self.tokenizer.model_max_length, self.model.config.max_position_embeddings)
        self.max_tokens = int(min(limits))

    @property
    def width(self) -> int:
        """Numbers of a vector."""
        return self.model.config.hidden_size

    @property
    def description(self) -> dict[str, Any]:
        """Name, weights and where prompts are cut off; not the device and the batch."""
        return super().description | {"max_tokens": self.max_tokens}

    def _encode(self, prompts: Sequence[str]) -> Float[Tensor, "p c"]:
        tokens = self.tokenizer(
            list(prompts), padding=True, truncation=True, max_length=self.max_tokens, return_tensors="pt"
        ).to(self.config.device)
        hidden = self.model(**tokens).last_hidden_state.float()
        mask = tokens["attention_mask"][..., None].float()
        return functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1).cpu()


def _check_pooling(weights: str) -> None:
    """Refuse a folder that says that its vectors are not means over tokens."""
    path = Path(weights).expanduser() / "1_Pooling" / "config.json"
    if not path.is_file():
        return
    settings = read_json(path)
    modes = [name for name, on in settings.items() if name.startswith("pooling_mode_") and on]
    if modes not in ([], ["pooling_mode_mean_tokens"]):
        raise ConfigError(
            f"SentenceText: weights {weights!r} pool by {', '.join(modes)}, not by means over tokens; {_FETCH}"
        )
