"""Words as vectors: the Protocol of text encoders, and prompts averaged over templates."""

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from occkit.errors import ConfigError

_KINDS = ("photo", "blurry photo", "dark photo", "bright photo", "low-resolution photo", "close-up photo")

TEMPLATES: tuple[str, ...] = (
    *(f"a {kind} of {article} {{}}." for kind in _KINDS for article in ("a", "the")),
    "a photo of many {}.",
    "a photo of one {}.",
    "a photo of a {} on a street.",
    "a photo of a {} taken from a car.",
    "there is a {} in the scene.",
    "there is the {} in the scene.",
    "this is a {} in the scene.",
    "this is the {} in the scene.",
    "this is one {} in the scene.",
)
"""Sentences a word is put into. The wording is ours; LangOcc takes CLIP's 80 and the last five of these."""

NO_TEMPLATES: tuple[str, ...] = ("{}",)
"""The word alone."""


class TextEncoder(Protocol):
    """Turns text into vectors of the space that a `FeatureExtractor` shares."""

    @property
    def description(self) -> dict[str, Any]:
        """JSON that names the encoder and every setting that changes its vectors."""
        ...

    @property
    def width(self) -> int:
        """Numbers of a vector."""
        ...

    def encode(self, prompts: Sequence[str]) -> Float[Tensor, "p c"]:
        """Encode prompts as they are, each into a vector of length 1.

        Args:
            prompts: words or sentences.

        Returns:
            One vector a prompt, float32 on the CPU; a prompt's vector does not depend on its neighbours.

        Raises:
            ValueError: if there is no prompt, or one without a letter or digit.
        """
        ...


def check_prompts(prompts: Sequence[str]) -> None:
    """Check the argument of `TextEncoder.encode`.

    Raises:
        ValueError: if there is no prompt, or one without a letter or digit.
    """
    if isinstance(prompts, str) or not prompts:
        raise ValueError(f"prompts: expected a list of at least one text, got {prompts!r}")
    for prompt in prompts:
        if not any(character.isalnum() for character in prompt):
            raise ValueError(f"prompts: expected words, got {prompt!r}")


def encode_with_templates(
    encoder: TextEncoder, prompts: Sequence[str], *, templates: Sequence[str] = TEMPLATES
) -> Float[Tensor, "p c"]:
    """Encode prompts, each as the mean of its vectors in a number of sentences.

    `t = norm(mean_j norm(encode(template_j with the prompt)))`.

    Args:
        encoder: any.
        prompts: words or phrases.
        templates: sentences with one `{}` each.

    Returns:
        One vector of length 1 a prompt.

    Raises:
        ValueError: as `TextEncoder.encode`.
        ConfigError: if there is no template, or one without exactly one `{}`.

    Source: Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", 2021.
    """
    check_prompts(prompts)
    wrong = [template for template in templates if template.count("{}") != 1]
    if not templates or wrong:
        raise ConfigError(f"templates: expected at least one sentence with {{}} in it once, got {wrong or 'none'}")
    sentences = [template.replace("{}", prompt) for prompt in prompts for template in templates]
    vectors = functional.normalize(encoder.encode(sentences), dim=-1)
    return functional.normalize(torch.stack([some.mean(0) for some in vectors.split(len(templates))]), dim=-1)
