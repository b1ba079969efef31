"""Classes of pixels: the Protocol, and a detector that understands words with SAM behind it.

A label map holds ids of a taxonomy: its free id where there is sky, its ignore id where nobody knows.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol

import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

from occkit.errors import ConfigError
from occkit.foundation.detection import Detector, GroundingDinoDetectorConfig
from occkit.foundation.owlv2 import Owlv2DetectorConfig
from occkit.foundation.sam2 import Sam2SegmenterConfig
from occkit.foundation.segmentation import BoxSegmenter, SamSegmenterConfig, check_request
from occkit.foundation.vocabularies import OCCNERF_VOCABULARY, Vocabulary
from occkit.taxonomy import Taxonomy


class SemanticLabeller(Protocol):
    """Says what the pixels of images show."""

    @property
    def description(self) -> dict[str, Any]:
        """JSON that names the labeller and every setting that changes its maps."""
        ...

    @property
    def taxonomy(self) -> Taxonomy:
        """Whose ids the maps hold."""
        ...

    def label(self, images: UInt8[Tensor, "n 3 h w"], *, token: str, cameras: Sequence[str]) -> UInt8[Tensor, "n h w"]:
        """Label the images of one frame.

        Args:
            images: RGB.
            token: the frame's name.
            cameras: the name of each image's camera.

        Returns:
            Ids of `taxonomy`, on the images' device: its free id for sky, its ignore id where it is uncertain.

        Raises:
            ValueError: if images and cameras do not fit together.
        """
        ...


DetectorConfig = GroundingDinoDetectorConfig | Owlv2DetectorConfig
"""Detectors that understand words."""

BoxSegmenterConfig = SamSegmenterConfig | Sam2SegmenterConfig
"""Models that cut out what is in a box."""


@dataclass(frozen=True, kw_only=True)
class GroundedSamConfig:
    """A detector finds boxes for phrases, a SAM cuts out what is in them (transformers, extra `hf`)."""

    detector: DetectorConfig
    """Finds the boxes; OccNeRF's is a Grounding DINO with a Swin-B, IDEA-Research/grounding-dino-base."""
    sam: BoxSegmenterConfig
    """Cuts them out; OccNeRF's is facebook/sam-vit-huge."""
    vocabulary: Vocabulary = OCCNERF_VOCABULARY
    """What is asked for, and the taxonomy of the answer."""
    uncertain: Literal["ignore", "free"] = "ignore"
    """What pixels in no mask become. `ignore` leaves them to nobody. `free` declares them empty, whatever stands there:
    OccNeRF's public code does so, where -1 indexes the last entry of a table, its paper says the contrary."""

    def __post_init__(self) -> None:
        if self.uncertain not in ("ignore", "free"):
            raise ConfigError(f"GroundedSam: uncertain {self.uncertain!r} must be 'ignore' or 'free'")

    def build(self) -> "GroundedSam":
        """Load both models.

        Raises:
            ConfigError: if transformers is not installed, or weights are missing or of another kind.
        """
        return GroundedSam(self)


class GroundedSam:
    """See `GroundedSamConfig`.

    The detector is asked all calls of the vocabulary; every box is cut out by SAM, one mask each; then
    `merge_detections` gives a pixel to the surest box.

    Source: Liu et al., "Grounding DINO", ECCV 2024; Kirillov et al., "Segment Anything", ICCV 2023; put together as in
    OccNeRF, 2023.
    """

    def __init__(self, config: GroundedSamConfig) -> None:
        self.config = config
        self.detector: Detector = config.detector.build()
        self.sam: BoxSegmenter = config.sam.build()

    @property
    def taxonomy(self) -> Taxonomy:
        """That of the vocabulary."""
        return self.config.vocabulary.table

    @property
    def description(self) -> dict[str, Any]:
        """Both models and the settings."""
        return {
            "labeller": "grounded_sam",
            "detector": self.detector.description,
            "sam": self.sam.description,
            "vocabulary": asdict(self.config.vocabulary),
            "uncertain": self.config.uncertain,
        }

    def label(self, images: UInt8[Tensor, "n 3 h w"], *, token: str, cameras: Sequence[str]) -> UInt8[Tensor, "n h w"]:
        """Label images; token and cameras are not looked at. See `SemanticLabeller.label`."""
        check_request(images, token, cameras)
        return torch.stack([self._label(image) for image in images])

    def _label(self, image: UInt8[Tensor, "3 h w"]) -> UInt8[Tensor, "h w"]:
        found = self.detector.detect(image, self.config.vocabulary.calls)
        masks = self.sam.masks_in_boxes(image, found.boxes)
        table = self.taxonomy
        classes = torch.tensor([table.id_of(name) for name in found.meanings], dtype=torch.long, device=image.device)
        none = table.ignore_id if self.config.uncertain == "ignore" else table.free_id
        return merge_detections(masks, found.scores, classes, none=none)


def merge_detections(
    masks: Bool[Tensor, "k h w"], scores: Float[Tensor, " k"], classes: Int64[Tensor, " k"], *, none: int
) -> UInt8[Tensor, "h w"]:
    """Return one label map of overlapping masks: a pixel's class is that of `argmax_k mask_k score_k`.

    Args:
        masks: what each detection covers.
        scores: how sure the detector is of it; of equal ones the first wins.
        classes: ids 0..255.
        none: the id of pixels in no mask.

    Source: OccNeRF, 2023, eq. 9.
    """
    labels = torch.full(masks.shape[1:], none, dtype=torch.uint8, device=masks.device)
    for index in scores.argsort(descending=True, stable=True).flip(0).tolist():
        labels[masks[index]] = int(classes[index])
    return labels
