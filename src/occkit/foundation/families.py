"""Which adapter a folder of weights is for, by the `model_type` in its `config.json`: a user names folders only."""

from typing import ClassVar, Protocol, TypeVar

from occkit.foundation.clip import ClipFeaturesConfig, ClipTextConfig
from occkit.foundation.detection import GroundingDinoDetectorConfig
from occkit.foundation.dino_features import DinoFeaturesConfig
from occkit.foundation.grounding import BoxSegmenterConfig, DetectorConfig
from occkit.foundation.owlv2 import Owlv2DetectorConfig
from occkit.foundation.sam2 import Sam2FeaturesConfig, Sam2SegmenterConfig
from occkit.foundation.sam_features import SamFeaturesConfig
from occkit.foundation.segmentation import SamSegmenterConfig
from occkit.foundation.sentences import SentenceTextConfig
from occkit.foundation.siglip import SiglipFeaturesConfig, SiglipTextConfig
from occkit.foundation.weights import model_kind

TextConfig = ClipTextConfig | SiglipTextConfig | SentenceTextConfig
"""Text encoders."""

LanguageFeaturesConfig = ClipFeaturesConfig | SiglipFeaturesConfig
"""Features of the space of a text encoder with the same weights."""

VisionFeaturesConfig = SamFeaturesConfig | Sam2FeaturesConfig | DinoFeaturesConfig
"""Features that no text shares."""


def detector_config(weights: str, *, device: str = "cpu") -> DetectorConfig:
    """Return the settings of the detector that a folder or hub id holds.

    Raises:
        ConfigError: if transformers is not installed, or `config.json` is missing or of no detector.
    """
    return _chosen("detector", weights, (GroundingDinoDetectorConfig, Owlv2DetectorConfig))(
        weights=weights, device=device
    )


def segmenter_config(weights: str, *, device: str = "cpu") -> BoxSegmenterConfig:
    """Return the settings of the SAM or SAM 2 that a folder or hub id holds.

    Raises:
        ConfigError: if transformers is not installed, or `config.json` is missing or of no SAM.
    """
    return _chosen("segmenter", weights, (SamSegmenterConfig, Sam2SegmenterConfig))(weights=weights, device=device)


def text_config(weights: str, *, device: str = "cpu") -> TextConfig:
    """Return the settings of the text encoder that a folder or hub id holds.

    Raises:
        ConfigError: if transformers is not installed, or `config.json` is missing or of no text encoder.
    """
    return _chosen("text", weights, (ClipTextConfig, SiglipTextConfig, SentenceTextConfig))(
        weights=weights, device=device
    )


def language_features_config(
    weights: str, *, size: tuple[int, int] | None = None, device: str = "cpu"
) -> LanguageFeaturesConfig:
    """Return the settings of the features that a folder or hub id holds whose space a text encoder shares.

    Args:
        weights: folder or hub id.
        size: (height, width) that images are scaled to, pixels; None keeps them.
        device: where the model runs.

    Raises:
        ConfigError: if transformers is not installed, or `config.json` is missing or of no such model.
    """
    return _chosen("features", weights, (ClipFeaturesConfig, SiglipFeaturesConfig))(
        weights=weights, size=size, device=device
    )


def vision_features_config(weights: str, *, device: str = "cpu") -> VisionFeaturesConfig:
    """Return the settings of the features of an image encoder alone that a folder or hub id holds.

    Raises:
        ConfigError: if transformers is not installed, or `config.json` is missing or of no such model.
    """
    return _chosen("features", weights, (SamFeaturesConfig, Sam2FeaturesConfig, DinoFeaturesConfig))(
        weights=weights, device=device
    )


class _Adapter(Protocol):
    kinds: ClassVar[tuple[str, ...]]
    fetch: ClassVar[str]


A = TypeVar("A", bound=_Adapter)


def _chosen(guest: str, weights: str, choices: tuple[type[A], ...]) -> type[A]:
    kinds = tuple(kind for choice in choices for kind in choice.kinds)
    found = model_kind(guest, weights, kinds=kinds, fetch="; ".join(choice.fetch for choice in choices))
    return next(choice for choice in choices if found in choice.kinds)
