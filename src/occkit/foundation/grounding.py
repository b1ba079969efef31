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
from occkit.foundation.segmentation import SamSegmenterConfig, check_request
from occkit.foundation.vocabularies import OCCNERF_VOCABULARY, Call, Vocabulary
from occkit.foundation.weights import load_model, load_processor
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


@dataclass(frozen=True, kw_only=True)
class GroundedSamConfig:
    """Grounding DINO finds boxes for phrases, SAM cuts out what is in them (transformers, extra `hf`)."""

    detector: str = "IDEA-Research/grounding-dino-base"
    """Folder or hub id of a Grounding DINO model and its processor; the default has a Swin-B."""
    sam: str = "facebook/sam-vit-huge"
    """Folder or hub id of a SAM (v1) model."""
    vocabulary: Vocabulary = OCCNERF_VOCABULARY
    """What is asked for, and the taxonomy of the answer."""
    box_threshold: float = 0.2
    """Boxes of which the detector is less sure are dropped (0..1)."""
    text_threshold: float = 0.2
    """Words that fit a box less well are not taken for its name (0..1)."""
    uncertain: Literal["ignore", "free"] = "ignore"
    """What pixels in no mask become. `ignore` leaves them to nobody. `free` declares them empty, whatever stands there:
    OccNeRF's public code does so, where -1 indexes the last entry of a table, its paper says the contrary."""
    device: str = "cpu"
    """Where both models run."""

    def __post_init__(self) -> None:
        for name in ("box_threshold", "text_threshold"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ConfigError(f"GroundedSam: {name} {getattr(self, name)} must lie in 0..1")
        if self.uncertain not in ("ignore", "free"):
            raise ConfigError(f"GroundedSam: uncertain {self.uncertain!r} must be 'ignore' or 'free'")

    def build(self) -> "GroundedSam":
        """Load both models.

        Raises:
            ConfigError: if transformers is not installed, or the weights are not those of a Grounding DINO and a SAM.
        """
        return GroundedSam(self)


class GroundedSam:
    """See `GroundedSamConfig`.

    Each call of the vocabulary is one question to the detector, its phrases separated by full stops. Every box that
    belongs to one phrase is cut out by SAM, one mask each; then `merge_detections` gives a pixel to the surest box.

    Source: Liu et al., "Grounding DINO", ECCV 2024; Kirillov et al., "Segment Anything", ICCV 2023; scores and
    thresholds as in OccNeRF, 2023.
    """

    def __init__(self, config: GroundedSamConfig) -> None:
        self.config = config
        model = load_model(
            "GroundedSam",
            config.detector,
            loader="AutoModelForZeroShotObjectDetection",
            kinds=("grounding-dino", "mm-grounding-dino"),
        )
        self.detector = model.to(config.device).eval()
        self.processor = load_processor("GroundedSam", config.detector, loader="AutoProcessor")
        self.sam = SamSegmenterConfig(weights=config.sam, device=config.device).build()

    @property
    def taxonomy(self) -> Taxonomy:
        """That of the vocabulary."""
        return self.config.vocabulary.table

    @property
    def description(self) -> dict[str, Any]:
        """Name and settings; not the device, which does not change the result."""
        return {"labeller": "grounded_sam"} | {k: v for k, v in asdict(self.config).items() if k != "device"}

    @torch.no_grad()
    def label(self, images: UInt8[Tensor, "n 3 h w"], *, token: str, cameras: Sequence[str]) -> UInt8[Tensor, "n h w"]:
        """Label images; token and cameras are not looked at. See `SemanticLabeller.label`."""
        check_request(images, token, cameras)
        maps = [self._label(image) for image in images.to(self.config.device)]
        return torch.stack(maps).to(images.device)

    def _label(self, image: UInt8[Tensor, "3 h w"]) -> UInt8[Tensor, "h w"]:
        found = [self._detect(image, call) for call in self.config.vocabulary.calls]
        boxes, scores, classes = (torch.cat(parts) for parts in zip(*found, strict=True))
        masks = self.sam.masks_in_boxes(image, boxes)
        table = self.taxonomy
        none = table.ignore_id if self.config.uncertain == "ignore" else table.free_id
        return merge_detections(masks, scores, classes, none=none)

    def _detect(
        self, image: UInt8[Tensor, "3 h w"], call: Call
    ) -> tuple[Float[Tensor, "k 4"], Float[Tensor, " k"], Int64[Tensor, " k"]]:
        """Return boxes (left, top, right, bottom; pixels), scores and classes of what a call finds."""
        size = (image.shape[1], image.shape[2])
        inputs = self.processor(
            images=[image.cpu().numpy()],
            text=[[phrase for phrase, _ in call]],
            return_tensors="pt",
            input_data_format="channels_first",
        ).to(self.config.device)
        (found,) = self.processor.post_process_grounded_object_detection(
            self.detector(**inputs),
            inputs["input_ids"],
            threshold=self.config.box_threshold,
            text_threshold=self.config.text_threshold,
            target_sizes=[size],
        )
        meanings = [meaning_of(name, call) for name in found["text_labels"]]
        kept = [index for index, meaning in enumerate(meanings) if meaning is not None]
        classes = [self.taxonomy.id_of(meaning) for meaning in meanings if meaning is not None]
        return found["boxes"][kept], found["scores"][kept], torch.tensor(classes, dtype=torch.long, device=image.device)


def meaning_of(found: str, call: Call) -> str | None:
    """Return the class of a box by the words that fit it.

    They must all be words of one phrase, and of no other of the call: for phrases of one word the name of the box is
    the phrase itself. Anything else, and a phrase without a class, is None.
    """
    words = set(found.replace(".", " ").split())
    fitting = [meaning for phrase, meaning in call if words and words <= set(phrase.split())]
    return fitting[0] if len(fitting) == 1 else None


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
