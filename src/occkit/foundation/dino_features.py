"""DINOv2 and DINOv3 of transformers (extra `hf`): features that no text shares."""

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from occkit.foundation.patches import PatchFeatures, PatchFeaturesConfig
from occkit.foundation.weights import load_model

_FETCH = (
    "DINOv2 is facebook/dinov2-base, DINOv3 facebook/dinov3-vitb16-pretrain-lvd1689m: load AutoModel once with "
    "from_pretrained and save it to a folder with save_pretrained"
)


@dataclass(frozen=True, kw_only=True)
class DinoFeaturesConfig(PatchFeaturesConfig):
    """A DINOv2, with or without registers, or a DINOv3; vision transformers only."""

    kinds: ClassVar[tuple[str, ...]] = ("dinov2", "dinov2_with_registers", "dinov3_vit")
    """What `model_type` of its weights may be."""
    fetch: ClassVar[str] = _FETCH
    """What to fetch, and how: for who has no weights yet."""

    def build(self) -> "DinoFeatures":
        """Load the model.

        Raises:
            ConfigError: if transformers is not installed, or the weights are not those of a DINO.
        """
        return DinoFeatures(self)


class DinoFeatures(PatchFeatures):
    """See `DinoFeaturesConfig`: the patches of the last layer after its norm; class token and registers are dropped.

    Source: Oquab et al., "DINOv2: Learning Robust Visual Features without Supervision", 2023; Darcet et al., "Vision
    Transformers Need Registers", ICLR 2024; Siméoni et al., "DINOv3", 2025; implementation of transformers.
    """

    name = "dino"
    mean = (0.485, 0.456, 0.406)
    std = (0.229, 0.224, 0.225)

    def __init__(self, config: DinoFeaturesConfig) -> None:
        model = load_model("DinoFeatures", config.weights, loader="AutoModel", kinds=config.kinds, fetch=_FETCH)
        self.model = model.to(config.device).eval()
        super().__init__(config, patch=self.model.config.patch_size)

    @property
    def width(self) -> int:
        """Channels."""
        return self.model.config.hidden_size

    def _tokens(self, pixels: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n p c"]:
        leading = 1 + getattr(self.model.config, "num_register_tokens", 0)
        return self.model(pixel_values=pixels).last_hidden_state[:, leading:]
