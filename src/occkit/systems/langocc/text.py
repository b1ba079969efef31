"""The text side of LangOcc: prompts become vectors once, and stay with the network's weights."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from occkit.errors import ConfigError
from occkit.foundation import (
    LANGOCC_PROMPTS,
    NO_TEMPLATES,
    TEMPLATES,
    ClipTextConfig,
    PromptTable,
    SiglipTextConfig,
    SimulatedTextConfig,
    TextEncoder,
    encode_with_templates,
    taxonomy_prompts,
)
from occkit.nn.open_vocabulary import cosine_scores
from occkit.nn.subspace import SubspaceConfig
from occkit.taxonomy import Taxonomy


@dataclass(frozen=True, kw_only=True)
class TextConfig:
    """Who turns words into vectors, and which words name the classes."""

    encoder: SimulatedTextConfig | ClipTextConfig | SiglipTextConfig | None = None
    """The encoder whose space the pixel features lie in; None leaves the vectors to the weights that are loaded."""
    width: int = 512
    """Numbers of its vectors."""
    prompts: PromptTable = LANGOCC_PROMPTS
    """Words for the classes of the data; other taxonomies are asked for by their own words."""
    templates: bool = True
    """Average each prompt over sentences."""
    subspace: SubspaceConfig | None = None
    """Predict features in a subspace of the prompts (Reduced); None keeps all channels (Full)."""

    @property
    def channels(self) -> int:
        """Width of the features that are predicted."""
        return self.width if self.subspace is None else self.subspace.dim

    def open(self) -> TextEncoder:
        """Return the encoder.

        Raises:
            ConfigError: if there is none, or its vectors are of another width.
        """
        if self.encoder is None:
            raise ConfigError("TextConfig.encoder: None cannot read words; give the encoder of the pixel features")
        encoder = self.encoder.build()
        if encoder.width != self.width:
            raise ConfigError(f"TextConfig.width: {self.width}, the encoder's vectors have {encoder.width}")
        return encoder

    def encode(self, prompts: tuple[str, ...]) -> Float[Tensor, "p c"]:
        """Return the vectors of prompts, averaged over sentences or not.

        Raises:
            ConfigError: as `open`.
        """
        return encode_with_templates(self.open(), prompts, templates=TEMPLATES if self.templates else NO_TEMPLATES)

    def table_for(self, taxonomy: Taxonomy) -> PromptTable:
        """Return the prompts of a taxonomy: the configured ones if they are its, else those it brings itself."""
        return self.prompts if self.prompts.taxonomy == taxonomy.name else taxonomy_prompts(taxonomy)


def class_logits(
    features: Float[Tensor, "v k"],
    density: Float[Tensor, " v"],
    text: Float[Tensor, "p k"],
    classes: Int64[Tensor, " p"],
    taxonomy: Taxonomy,
    *,
    threshold: float,
) -> Float[Tensor, "v c"]:
    """Return scores whose arg-max is zero-shot occupancy: the class of the best prompt, free below the threshold.

    A class scores a hundred times the cosine of its best prompt (CLIP's temperature); one without prompts never wins.
    The free score lies above all others where there is less density than the threshold, else below.

    Source: LangOcc, 2024, section 3.4; as scores original.
    """
    cosines = 100 * cosine_scores(features, text)
    logits = features.new_full((len(features), taxonomy.num_classes), -1000.0)
    logits = logits.scatter_reduce(1, classes.expand(len(features), -1), cosines, "amax")
    logits[:, taxonomy.free_id] = torch.where(density < threshold, 1000.0, -1000.0)
    return logits


def occupancy_logits(
    density: Float[Tensor, "*s x y z"], taxonomy: Taxonomy, *, threshold: float
) -> Float[Tensor, "*s c x y z"]:
    """Return scores of a field that has no classes: free below the threshold, else the taxonomy's first class.

    Which class it is means nothing: any metric of occupied against free is exact, any metric of classes is void.

    Source: original.
    """
    logits = density.new_full((*density.shape[:-3], taxonomy.num_classes, *density.shape[-3:]), -1000.0)
    logits[..., taxonomy.semantic_ids[0], :, :, :] = 0.0
    logits[..., taxonomy.free_id, :, :, :] = torch.where(density < threshold, 1000.0, -1000.0)
    return logits
