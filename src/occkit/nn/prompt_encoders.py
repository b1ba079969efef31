"""From a line of text to a vector a token, for a denoiser to look at; and what is said of a text that will not do."""

import importlib
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from occkit.errors import ConfigError
from occkit.nn.diffusion import PromptStates

MAX_CHARACTERS = 2000
"""Longest prompt that is read at all."""

NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
"""Words for numbers; a vocabulary that has "2" and not "two" reads "two" as "2"."""

SMALL_WORDS = frozenset(
    ("a", "an", "the", "and", "or", "of", "on", "in", "at", "with", "by", "to", "from", "under", "over", "near", "no")
)
"""Words that say nothing about a scene by themselves; a prompt needs others."""

_PADDING, _BEGIN, _SPECIAL = 0, 1, 2


def clean_prompt(text: object) -> str:
    """Return a prompt with its white space made single blanks.

    Raises:
        ConfigError: if it is empty, too long, or has control or other invisible characters.
    """
    if not isinstance(text, str) or not text.strip():
        raise ConfigError('prompt: is empty; say what to draw, such as "a straight street with 2 cars"')
    if len(text) > MAX_CHARACTERS:
        raise ConfigError(f"prompt: expected at most {MAX_CHARACTERS:,} characters, got {len(text):,}; say it shorter")
    line = " ".join(text.split())
    for character in line:
        if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co", "Cn"):
            raise ConfigError(
                f"prompt: has the invisible character U+{ord(character):04X}; leave it out: {line[:60]!a}"
            )
    return line


@dataclass(frozen=True, kw_only=True)
class WordPromptConfig:
    """A small transformer over whole words, trained with the denoiser: for worlds that speak in a few of them."""

    words: tuple[str, ...]
    """The vocabulary, in small letters; digits count as words."""
    width: int = 64
    """Numbers of a token's vector."""
    layers: int = 2
    """Transformer blocks."""
    heads: int = 4
    """Attention heads."""
    max_words: int = 77
    """Words that are read; a longer caption in training is cut off, a longer prompt refused."""

    def __post_init__(self) -> None:
        if not self.words or len(set(self.words)) != len(self.words):
            raise ConfigError("WordPrompt: words must be different, and some")
        if self.width % self.heads or min(self.layers, self.max_words) < 1:
            raise ConfigError(f"WordPrompt: heads must divide width, layers and max_words be 1 or more: {self}")

    def build(self) -> "WordPrompts":
        """Return the encoder, freshly initialised."""
        return WordPrompts(self)


class WordPrompts(nn.Module):
    """See `WordPromptConfig`. The empty text is one token that begins every text."""

    trainable = True
    """Whether it can learn: with a vocabulary of its own it must."""

    def __init__(self, config: WordPromptConfig) -> None:
        super().__init__()
        self.config = config
        self.width = config.width
        self.index = {word: i + _SPECIAL for i, word in enumerate(config.words)}
        self.embed = nn.Embedding(len(config.words) + _SPECIAL, config.width)
        self.places = nn.Parameter(0.02 * torch.randn(config.max_words + 1, config.width))
        layer = nn.TransformerEncoderLayer(
            config.width, config.heads, 4 * config.width, dropout=0.0, batch_first=True, norm_first=True
        )
        self.blocks = nn.TransformerEncoder(layer, config.layers, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(config.width)

    def examine(self, prompt: str) -> tuple[str, ...]:
        """Say what of a prompt is not understood, a remark each.

        Raises:
            ConfigError: if nothing of it is, if it is too long, or as `clean_prompt`.
        """
        said = split_words(clean_prompt(prompt))
        known = [word for word in said if self._find(word) is not None]
        unknown = list(dict.fromkeys(word for word in said if self._find(word) is None))
        if not any(word not in SMALL_WORDS and not word.isdigit() for word in known):
            raise ConfigError(
                f"prompt: no word of {prompt[:80]!r} is one that this model was trained with; it knows "
                f"{', '.join(word for word in self.config.words if word not in SMALL_WORDS and not word.isdigit())}"
            )
        if len(known) > self.config.max_words:
            raise ConfigError(
                f"prompt: has {len(known)} words, this model reads {self.config.max_words}; say it shorter"
            )
        return (f"words that this model was not trained with are left out: {', '.join(unknown)}",) if unknown else ()

    def forward(self, prompts: Sequence[str]) -> PromptStates:
        """Encode texts; unknown words are left out, the empty text is no prompt."""
        limit = self.config.max_words
        rows = [[_BEGIN, *filter(None, map(self._find, split_words(prompt)))][: limit + 1] for prompt in prompts]
        length = max(map(len, rows))
        tokens = torch.tensor([row + [_PADDING] * (length - len(row)) for row in rows], device=self.places.device)
        mask = tokens != _PADDING
        states = self.blocks(self.embed(tokens) + self.places[:length], src_key_padding_mask=~mask)
        return PromptStates(states=self.norm(states), mask=mask)

    def _find(self, word: str) -> int | None:
        if word not in self.index and word in NUMBERS:
            word = str(NUMBERS.index(word))
        return self.index.get(word)


def split_words(text: str) -> list[str]:
    """Return the words of a text in small letters, of any language; digits are words too."""
    return re.findall(r"\w+", text.lower())


@dataclass(frozen=True, kw_only=True)
class ClipPromptConfig:
    """CLIP's text encoder (transformers) and its tokenizer; frozen. The defaults are Stable Diffusion 2.1-base's."""

    tokenizer: str
    """Folder of the tokenizer: the `tokenizer` of a Stable Diffusion folder. Read when a prompt is."""
    width: int = 1024
    """Numbers of a token's vector."""
    hidden: int = 4096
    """Width inside a feed-forward network."""
    layers: int = 23
    """Transformer blocks; the last but one of OpenCLIP's 24."""
    heads: int = 16
    """Attention heads."""
    vocabulary: int = 49_408
    """Tokens there are."""
    max_tokens: int = 77
    """Tokens that are read, the first and the last included."""
    activation: str = "gelu"
    """Of the feed-forward networks; OpenAI's CLIP has "quick_gelu"."""

    def build(self) -> "ClipPrompts":
        """Return the encoder, freshly initialised; weights are loaded by whoever trains.

        Raises:
            ConfigError: if transformers is not installed.
        """
        return ClipPrompts(self)


class ClipPrompts(nn.Module):
    """See `ClipPromptConfig`. Source: Radford et al., 2021; implementation of transformers."""

    trainable = False
    """Whether it can learn: it knows enough."""

    def __init__(self, config: ClipPromptConfig) -> None:
        super().__init__()
        self.config = config
        self.width = config.width
        library = _transformers()
        self.model: Any = library.CLIPTextModel(
            library.CLIPTextConfig(
                vocab_size=config.vocabulary,
                hidden_size=config.width,
                intermediate_size=config.hidden,
                num_hidden_layers=config.layers,
                num_attention_heads=config.heads,
                max_position_embeddings=config.max_tokens,
                hidden_act=config.activation,
            )
        )
        self._tokenizer: Any = None

    @property
    def tokenizer(self) -> Any:
        """The tokenizer, read from its folder when it is first needed.

        Raises:
            ConfigError: if the folder does not hold one.
        """
        if self._tokenizer is None:
            folder = Path(self.config.tokenizer).expanduser()
            try:
                self._tokenizer = _transformers().CLIPTokenizer.from_pretrained(str(folder), local_files_only=True)
            except Exception as error:
                # Damage is answered with a dozen unrelated exceptions.
                reason = " ".join(str(error).split())[:200]
                raise ConfigError(
                    f"ClipPrompt.tokenizer: {folder} holds no tokenizer of CLIP ({reason}); name the folder tokenizer/ "
                    "of a Stable Diffusion model"
                ) from error
        return self._tokenizer

    def examine(self, prompt: str) -> tuple[str, ...]:
        """Say what of a prompt is doubtful, a remark each.

        Raises:
            ConfigError: if it has too many tokens, or as `clean_prompt`.
        """
        line = clean_prompt(prompt)
        count = len(self.tokenizer(line)["input_ids"])
        if count > self.config.max_tokens:
            raise ConfigError(f"prompt: has {count} tokens, this model reads {self.config.max_tokens}; say it shorter")
        english = re.search("[A-Za-z]", line)
        return () if english else ("CLIP was trained with English; this prompt has no Latin letter",)

    def forward(self, prompts: Sequence[str]) -> PromptStates:
        """Encode texts; longer ones are cut off at the end."""
        tokens = self.tokenizer(
            list(prompts),
            padding="max_length",
            truncation=True,
            max_length=self.config.max_tokens,
            return_tensors="pt",
        )
        device = next(self.model.parameters()).device
        states: Tensor = self.model(input_ids=tokens["input_ids"].to(device)).last_hidden_state
        return PromptStates(states=states)


PromptConfig = WordPromptConfig | ClipPromptConfig
"""The kinds of prompt encoders there are."""


def _transformers() -> Any:
    try:
        return importlib.import_module("transformers")
    except (ImportError, RuntimeError) as error:
        raise ConfigError(
            'ClipPrompt: needs the package transformers, which cannot be imported -- pip install "occkit[hf]"'
        ) from error
