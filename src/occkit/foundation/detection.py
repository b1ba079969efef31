"""Boxes for phrases: the Protocol of detectors that understand words, and Grounding DINO."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Protocol

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional

from occkit.errors import ConfigError
from occkit.foundation.vocabularies import Call
from occkit.foundation.weights import load_model, load_processor

_MAX_ASPECT = 4.0
_FETCH = (
    "Grounding DINO is IDEA-Research/grounding-dino-base: load AutoModelForZeroShotObjectDetection and AutoProcessor "
    "once with from_pretrained and save both to one folder with save_pretrained"
)


@dataclass(frozen=True, kw_only=True)
class Detections:
    """What a detector found in an image."""

    boxes: Float[Tensor, "k 4"]
    """Left, top, right, bottom; pixels of the image."""
    scores: Float[Tensor, " k"]
    """How sure the detector is of each (0..1)."""
    meanings: tuple[str, ...]
    """Class of each, as the calls name it."""


class Detector(Protocol):
    """Finds what phrases name."""

    @property
    def description(self) -> dict[str, Any]:
        """JSON that names the detector and every setting that changes its boxes."""
        ...

    def detect(self, image: UInt8[Tensor, "3 h w"], calls: Sequence[Call]) -> Detections:
        """Find what the phrases of some calls name; those of one call compete with each other for each box.

        Args:
            image: RGB.
            calls: see `Vocabulary`; boxes that a phrase without a class wins are left out.

        Returns:
            Boxes of all calls, one call after the other, on the image's device.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class GroundingDinoDetectorConfig:
    """Grounding DINO, or MM-Grounding-DINO, of transformers (extra `hf`)."""

    kinds: ClassVar[tuple[str, ...]] = ("grounding-dino", "mm-grounding-dino")
    """What `model_type` of its weights may be."""
    fetch: ClassVar[str] = _FETCH
    """What to fetch, and how: for who has no weights yet."""

    weights: str
    """Folder or hub id of a model with safetensors, and of its processor."""
    box_threshold: float = 0.2
    """Boxes of which the detector is less sure are dropped (0..1)."""
    text_threshold: float = 0.2
    """Words that fit a box less well are not taken for its name (0..1)."""
    device: str = "cpu"
    """Where the model runs."""

    def __post_init__(self) -> None:
        for name in ("box_threshold", "text_threshold"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ConfigError(f"GroundingDinoDetector: {name} {getattr(self, name)} must lie in 0..1")

    def build(self) -> "GroundingDinoDetector":
        """Load model and processor.

        Raises:
            ConfigError: if transformers is not installed, or the weights are not those of a Grounding DINO.
        """
        return GroundingDinoDetector(self)


class GroundingDinoDetector:
    """See `GroundingDinoDetectorConfig`.

    Each call is one question, its phrases separated by full stops, and the model looks at the image anew for each. A
    box is kept if all the words that fit it belong to one phrase.

    Source: Liu et al., "Grounding DINO", ECCV 2024; Zhao et al., "An Open and Comprehensive Pipeline for Unified Object
    Grounding and Detection" (MM-Grounding-DINO), 2024; implementation of transformers; scores and thresholds as in
    OccNeRF, 2023.
    """

    def __init__(self, config: GroundingDinoDetectorConfig) -> None:
        self.config = config
        model = load_model(
            "GroundingDinoDetector",
            config.weights,
            loader="AutoModelForZeroShotObjectDetection",
            kinds=config.kinds,
            fetch=_FETCH,
        )
        self.model = model.to(config.device).eval()
        self.processor = load_processor("GroundingDinoDetector", config.weights, loader="AutoProcessor", fetch=_FETCH)

    @property
    def description(self) -> dict[str, Any]:
        """Name and settings; not the device, which does not change the result."""
        return {"detector": "grounding_dino"} | {k: v for k, v in asdict(self.config).items() if k != "device"}

    @torch.no_grad()
    def detect(self, image: UInt8[Tensor, "3 h w"], calls: Sequence[Call]) -> Detections:
        """Find what phrases name. See `Detector.detect`."""
        found = [self._ask(image, call) for call in calls]
        return Detections(
            boxes=torch.cat([boxes for boxes, _, _ in found]).to(image.device),
            scores=torch.cat([scores for _, scores, _ in found]).to(image.device),
            meanings=tuple(meaning for _, _, meanings in found for meaning in meanings),
        )

    def _ask(
        self, image: UInt8[Tensor, "3 h w"], call: Call
    ) -> tuple[Float[Tensor, "k 4"], Float[Tensor, " k"], list[str]]:
        height, width = image.shape[1:]
        # A strip has fewer places to propose a box at than the model proposes boxes: it is padded.
        low = math.ceil(max(height, width) / _MAX_ASPECT)
        padded = functional.pad(image, (0, max(0, low - width), 0, max(0, low - height)))
        inputs = self.processor(
            images=[padded.cpu().numpy()],
            text=[[phrase for phrase, _ in call]],
            return_tensors="pt",
            input_data_format="channels_first",
        ).to(self.config.device)
        (found,) = self.processor.post_process_grounded_object_detection(
            self.model(**inputs),
            inputs["input_ids"],
            threshold=self.config.box_threshold,
            text_threshold=self.config.text_threshold,
            target_sizes=[(padded.shape[1], padded.shape[2])],
        )
        boxes = found["boxes"]
        if padded.shape != image.shape:
            boxes = torch.minimum(boxes.clamp(min=0.0), boxes.new_tensor([width, height, width, height]))
        meanings = [meaning_of(name, call) for name in found["text_labels"]]
        inside = (boxes[:, 2:] > boxes[:, :2]).all(-1).tolist()
        kept = [index for index, meaning in enumerate(meanings) if meaning is not None and inside[index]]
        return boxes[kept], found["scores"][kept], [str(meanings[index]) for index in kept]


def meaning_of(found: str, call: Call) -> str | None:
    """Return the class of a box by the words that fit it.

    They must all be words of one phrase, and of no other of the call: for phrases of one word the name of the box is
    the phrase itself. Anything else, and a phrase without a class, is None.
    """
    words = set(found.replace(".", " ").split())
    fitting = [meaning for phrase, meaning in call if words and words <= set(phrase.split())]
    return fitting[0] if len(fitting) == 1 else None
