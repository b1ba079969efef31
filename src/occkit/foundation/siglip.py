"""SigLIP and SigLIP 2 of transformers (extra `hf`): vectors of words, and features of pixels in the same space."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from occkit.errors import ConfigError
from occkit.foundation.patches import PatchFeatures, PatchFeaturesConfig
from occkit.foundation.transformers_text import TransformersText, TransformersTextConfig
from occkit.foundation.weights import load_model, load_processor

_FETCH = (
    "SigLIP 2 is google/siglip2-base-patch16-256 and the like, not those named naflex: load SiglipModel and "
    "AutoTokenizer once with from_pretrained and save both to one folder with save_pretrained; the tokenizer of "
    "SigLIP (1) needs the package sentencepiece"
)


@dataclass(frozen=True, kw_only=True)
class SiglipTextConfig(TransformersTextConfig):
    """The text encoder of SigLIP, or of a SigLIP 2 for one image size."""

    kinds: ClassVar[tuple[str, ...]] = ("siglip",)
    """What `model_type` of its weights may be; SigLIP 2 for one image size calls itself so, too."""
    fetch: ClassVar[str] = _FETCH
    """What to fetch, and how: for who has no weights yet."""

    def build(self) -> "SiglipText":
        """Load model and tokenizer.

        Raises:
            ConfigError: if transformers is not installed, or the weights are not those of a SigLIP.
        """
        return SiglipText(self)


class SiglipText(TransformersText):
    """See `SiglipTextConfig`.

    Prompts are lower-cased, padded to the model's context and cut off at its end. Padding is not masked: the model was
    trained so, and its answer stands in the last place.

    Source: Zhai et al., "Sigmoid Loss for Language Image Pre-Training", ICCV 2023; Tschannen et al., "SigLIP 2", 2025;
    implementation of transformers.
    """

    name = "siglip"

    def __init__(self, config: SiglipTextConfig) -> None:
        super().__init__(config)
        self.model = _load("SiglipText", config.weights, config.device)
        self.tokenizer = load_processor("SiglipText", config.weights, loader="AutoTokenizer", fetch=_FETCH)
        self.max_tokens: int = self.model.config.text_config.max_position_embeddings

    @property
    def width(self) -> int:
        """Numbers of a vector."""
        return self.model.config.text_config.projection_size

    def _encode(self, prompts: Sequence[str]) -> Float[Tensor, "p c"]:
        tokens = self.tokenizer(
            [prompt.lower() for prompt in prompts],
            padding="max_length",
            truncation=True,
            max_length=self.max_tokens,
            return_tensors="pt",
        )
        answer = self.model.text_model(input_ids=tokens["input_ids"].to(self.config.device))
        return functional.normalize(answer.pooler_output.float(), dim=-1).cpu()


@dataclass(frozen=True, kw_only=True)
class SiglipFeaturesConfig(PatchFeaturesConfig):
    """Dense features of SigLIP's image encoder, without any training."""

    kinds: ClassVar[tuple[str, ...]] = SiglipTextConfig.kinds
    """What `model_type` of its weights may be."""
    fetch: ClassVar[str] = _FETCH
    """What to fetch, and how: for who has no weights yet."""

    def build(self) -> "SiglipFeatures":
        """Load the model.

        Raises:
            ConfigError: if transformers is not installed, or the weights are not those of a SigLIP.
        """
        return SiglipFeatures(self)


class SiglipFeatures(PatchFeatures):
    """See `SiglipFeaturesConfig`.

    SigLIP has no class token: a pooling head asks all patches and gathers their values by attention. The vector of a
    patch is what that head answers if the patch is the only one it may look at: the patch's value and output
    projection, then the head's residual feed-forward network. So it lies where the vectors of images and text lie. The
    layers below are left as they are, self-attention of the last one included.

    Source: original; the values of the pooling attention are what Zhou et al., "Extract Free Dense Labels from CLIP"
    (MaskCLIP), ECCV 2022, take of CLIP's residual networks, which pool likewise.
    """

    name = "siglip_values"
    mean = (0.5, 0.5, 0.5)
    std = (0.5, 0.5, 0.5)

    def __init__(self, config: SiglipFeaturesConfig) -> None:
        self.model = _load("SiglipFeatures", config.weights, config.device)
        if not self.model.config.vision_config.vision_use_head:
            raise ConfigError(
                f"SiglipFeatures: weights {config.weights!r} have no pooling head, without which patches do not lie in "
                f"the space of text; {_FETCH}"
            )
        super().__init__(config, patch=self.model.config.vision_config.patch_size)

    @property
    def width(self) -> int:
        """Channels."""
        return self.model.config.vision_config.hidden_size

    def _tokens(self, pixels: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n p c"]:
        vision = self.model.vision_model
        patches = vision(pixel_values=pixels, interpolate_pos_encoding=True).last_hidden_state
        return vision.head(patches.flatten(0, 1)[:, None]).unflatten(0, patches.shape[:2])


def _load(guest: str, weights: str, device: str) -> Any:
    model = load_model(guest, weights, loader="SiglipModel", kinds=SiglipTextConfig.kinds, fetch=_FETCH)
    return model.to(device).eval()
