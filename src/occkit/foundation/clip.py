"""CLIP: vectors of words, and features of pixels from the same weights (transformers, extra `hf`)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from occkit.foundation.patches import PatchFeatures, PatchFeaturesConfig
from occkit.foundation.transformers_text import TransformersText, TransformersTextConfig
from occkit.foundation.weights import load_model, load_processor

_FETCH = (
    "CLIP ViT-B/16 is openai/clip-vit-base-patch16: load CLIPModel and CLIPTokenizer once with from_pretrained and "
    "save both to one folder with save_pretrained"
)


@dataclass(frozen=True, kw_only=True)
class ClipTextConfig(TransformersTextConfig):
    """The text encoder of CLIP."""

    kinds: ClassVar[tuple[str, ...]] = ("clip",)
    """What `model_type` of its weights may be."""
    fetch: ClassVar[str] = _FETCH
    """What to fetch, and how: for who has no weights yet."""

    def build(self) -> "ClipText":
        """Load model and tokenizer.

        Raises:
            ConfigError: if transformers is not installed, or the weights are not those of a CLIP.
        """
        return ClipText(self)


class ClipText(TransformersText):
    """See `ClipTextConfig`. Prompts longer than the model's context are cut off at its end.

    Source: Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", 2021.
    """

    name = "clip"

    def __init__(self, config: ClipTextConfig) -> None:
        super().__init__(config)
        self.model = _load("ClipText", config.weights, config.device)
        self.tokenizer = load_processor("ClipText", config.weights, loader="CLIPTokenizer", fetch=_FETCH)
        self.max_tokens: int = self.model.config.text_config.max_position_embeddings

    @property
    def width(self) -> int:
        """Numbers of a vector."""
        return self.model.config.projection_dim

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
    fetch: ClassVar[str] = _FETCH
    """What to fetch, and how: for who has no weights yet."""

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
