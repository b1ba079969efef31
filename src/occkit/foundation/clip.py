"""CLIP: vectors of words, and features of pixels from the same weights (transformers, extra `hf`)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from occkit.errors import ConfigError
from occkit.foundation.language import check_prompts
from occkit.foundation.patches import PatchFeatures, PatchFeaturesConfig
from occkit.foundation.weights import load_model, load_processor

_FETCH = (
    "CLIP ViT-B/16 is openai/clip-vit-base-patch16: load CLIPModel and CLIPTokenizer once with from_pretrained and "
    "save both to one folder with save_pretrained"
)


@dataclass(frozen=True, kw_only=True)
class ClipTextConfig:
    """The text encoder of CLIP."""

    kinds: ClassVar[tuple[str, ...]] = ("clip",)
    """What `model_type` of its weights may be."""

    weights: str
    """Folder or hub id of a CLIP model with safetensors, and of its tokenizer."""
    batch_size: int = 64
    """Prompts encoded at once; changes memory and speed, not the result."""
    device: str = "cpu"
    """Where the model runs."""

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ConfigError(f"ClipText: batch_size {self.batch_size} must be at least 1")

    def build(self) -> "ClipText":
        """Load model and tokenizer.

        Raises:
            ConfigError: if transformers is not installed, or the weights are not those of a CLIP.
        """
        return ClipText(self)


class ClipText:
    """See `ClipTextConfig`. Prompts longer than the model's context are cut off at its end.

    Source: Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", 2021.
    """

    def __init__(self, config: ClipTextConfig) -> None:
        self.config = config
        self.model = _load("ClipText", config.weights, config.device)
        self.tokenizer = load_processor("ClipText", config.weights, loader="CLIPTokenizer", fetch=_FETCH)
        self.max_tokens: int = self.model.config.text_config.max_position_embeddings

    @property
    def width(self) -> int:
        """Numbers of a vector."""
        return self.model.config.projection_dim

    @property
    def description(self) -> dict[str, Any]:
        """Name and weights; not the device and the batch, which do not change the result."""
        return {"text": "clip", "weights": self.config.weights}

    @torch.no_grad()
    def encode(self, prompts: Sequence[str]) -> Float[Tensor, "p c"]:
        """Encode prompts. See `TextEncoder.encode`."""
        check_prompts(prompts)
        size = self.config.batch_size
        return torch.cat([self._encode(prompts[start : start + size]) for start in range(0, len(prompts), size)])

    def _encode(self, prompts: Sequence[str]) -> Float[Tensor, "p c"]:
        tokens = self.tokenizer(
            list(prompts), padding=True, truncation=True, max_length=self.max_tokens, return_tensors="pt"
        ).to(self.config.device)
        answer = self.model.text_model(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"])
        return functional.normalize(self.model.text_projection(answer.pooler_output), dim=-1).float().cpu()


@dataclass(frozen=True, kw_only=True)
class ClipFeaturesConfig(PatchFeaturesConfig):
    """Dense features of CLIP's image encoder, a vision transformer, without any training."""

    kinds: ClassVar[tuple[str, ...]] = ("clip",)
    """What `model_type` of its weights may be."""

    def build(self) -> "ClipFeatures":
        """Load the model.

        Raises:
            ConfigError: if transformers is not installed, or the weights are not those of a CLIP.
        """
        return ClipFeatures(self)


class ClipFeatures(PatchFeatures):
    """See `ClipFeaturesConfig`.

    In the last layer attention gathers what the whole image shows. Without it a patch keeps what it shows itself: the
    values of the patch (layer norm, value and output projection) go straight to the final norm and the projection
    into the space of text, without the residual and the feed-forward network. A map has one cell a patch; the position
    embeddings are interpolated to the image.

    Source: Zhou et al., "Extract Free Dense Labels from CLIP" (MaskCLIP), ECCV 2022; implementation of transformers.
    LangOcc's teacher is MaskCLIP+, a network trained on such features.
    """

    name = "clip_values"
    mean = (0.48145466, 0.4578275, 0.40821073)
    std = (0.26862954, 0.26130258, 0.27577711)

    def __init__(self, config: ClipFeaturesConfig) -> None:
        self.model = _load("ClipFeatures", config.weights, config.device)
        super().__init__(config, patch=self.model.config.vision_config.patch_size)

    @property
    def width(self) -> int:
        """Channels."""
        return self.model.config.projection_dim

    def _tokens(self, pixels: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n p c"]:
        vision = self.model.vision_model
        answer = vision(pixel_values=pixels, interpolate_pos_encoding=True, output_hidden_states=True)
        last = vision.encoder.layers[-1]
        before = last.layer_norm1(answer.hidden_states[-2])
        values = last.self_attn.out_proj(last.self_attn.v_proj(before))[:, 1:]  # without the class token
        return self.model.visual_projection(vision.post_layernorm(values))


def _load(guest: str, weights: str, device: str) -> Any:
    model = load_model(guest, weights, loader="CLIPModel", kinds=ClipFeaturesConfig.kinds, fetch=_FETCH)
    return model.to(device).eval()
