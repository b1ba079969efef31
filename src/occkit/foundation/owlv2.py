"""Boxes for phrases by OWLv2 of transformers (extra `hf`)."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional

from occkit.errors import ConfigError
from occkit.foundation.detection import Detections
from occkit.foundation.vocabularies import Call
from occkit.foundation.weights import load_model, load_processor

_MEAN, _STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
_FETCH = (
    "OWLv2 is google/owlv2-base-patch16-ensemble: load Owlv2ForObjectDetection and AutoTokenizer once with "
    "from_pretrained and save both to one folder with save_pretrained"
)


@dataclass(frozen=True, kw_only=True)
class Owlv2DetectorConfig:
    """OWLv2: a vision transformer whose every patch proposes a box and compares it with the vectors of phrases."""

    kinds: ClassVar[tuple[str, ...]] = ("owlv2",)
    """What `model_type` of its weights may be."""
    fetch: ClassVar[str] = _FETCH
    """What to fetch, and how: for who has no weights yet."""

    weights: str
    """Folder or hub id of a model with safetensors, and of its tokenizer."""
    template: str = "a photo of a {}"
    """Sentence that a phrase is put into; `{}` asks for the phrase as it is."""
    box_threshold: float = 0.2
    """Boxes of which the detector is less sure are dropped (0..1)."""
    max_boxes: int = 300
    """The surest boxes of an image that are kept; a patch can propose one for every call."""
    device: str = "cpu"
    """Where the model runs."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.box_threshold <= 1.0:
            raise ConfigError(f"Owlv2Detector: box_threshold {self.box_threshold} must lie in 0..1")
        if self.max_boxes < 1:
            raise ConfigError(f"Owlv2Detector: max_boxes {self.max_boxes} must be at least 1")
        if self.template.count("{}") != 1:
            raise ConfigError(f"Owlv2Detector: template {self.template!r} must have {{}} in it once")

    def build(self) -> "Owlv2Detector":
        """Load model and tokenizer.

        Raises:
            ConfigError: if transformers is not installed, or the weights are not those of an OWLv2.
        """
        return Owlv2Detector(self)


class Owlv2Detector:
    """See `Owlv2DetectorConfig`.

    The image is padded with zeros at the right and below to a square, scaled to the model's size and looked at once,
    whatever is asked. In a call a box belongs to the phrase of the highest score; a score does not depend on the
    other phrases. Boxes are cut off at the image's border, and those in the padding are dropped. Scaling here is
    bilinear with antialiasing where the model's own processor blurs first.

    Source: Minderer et al., "Scaling Open-Vocabulary Object Detection", NeurIPS 2023; implementation of transformers.
    """

    def __init__(self, config: Owlv2DetectorConfig) -> None:
        self.config = config
        model = load_model(
            "Owlv2Detector", config.weights, loader="Owlv2ForObjectDetection", kinds=config.kinds, fetch=_FETCH
        )
        self.model = model.to(config.device).eval()
        self.tokenizer = load_processor("Owlv2Detector", config.weights, loader="AutoTokenizer", fetch=_FETCH)
        self.image_size: int = self.model.config.vision_config.image_size
        self.max_tokens: int = self.model.config.text_config.max_position_embeddings
        self._vectors: dict[str, Tensor] = {}

    @property
    def description(self) -> dict[str, Any]:
        """Name and settings; not the device, which does not change the result."""
        return {"detector": "owlv2"} | {k: v for k, v in asdict(self.config).items() if k != "device"}

    @torch.no_grad()
    def detect(self, image: UInt8[Tensor, "3 h w"], calls: Sequence[Call]) -> Detections:
        """Find what phrases name. See `Detector.detect`."""
        phrases = list(dict.fromkeys(phrase for call in calls for phrase, _ in call))
        logits, boxes = self._look(self._prepare(image), torch.stack([self._vector(phrase) for phrase in phrases]))
        # Boxes are shares of the padded square.
        corners = _corners(boxes) * max(image.shape[1:])
        limit = corners.new_tensor([image.shape[2], image.shape[1]]).repeat(2)
        corners = torch.minimum(corners.clamp(min=0.0), limit)
        inside = (corners[:, 2:] > corners[:, :2]).all(-1)
        found: list[tuple[float, Tensor, str]] = []
        for call in calls:
            columns = [phrases.index(phrase) for phrase, _ in call]
            scores, winners = logits[:, columns].sigmoid().max(-1)
            for index in (inside & (scores > self.config.box_threshold)).nonzero()[:, 0].tolist():
                meaning = call[int(winners[index])][1]
                if meaning is not None:
                    found.append((float(scores[index]), corners[index], meaning))
        return self._surest(found, image)

    def _surest(self, found: Sequence[tuple[float, Tensor, str]], image: Tensor) -> Detections:
        """Return the `max_boxes` surest in the order they were found in."""
        order = sorted(range(len(found)), key=lambda index: -found[index][0])[: self.config.max_boxes]
        kept = [found[index] for index in sorted(order)]
        boxes = torch.stack([box for _, box, _ in kept]) if kept else torch.zeros((0, 4))
        return Detections(
            boxes=boxes.to(image.device),
            scores=torch.tensor([score for score, _, _ in kept], device=image.device),
            meanings=tuple(meaning for _, _, meaning in kept),
        )

    def _prepare(self, image: UInt8[Tensor, "3 h w"]) -> Float[Tensor, "1 3 s s"]:
        side = max(image.shape[1:])
        padding = (0, side - image.shape[2], 0, side - image.shape[1])
        square = functional.pad(image.to(self.config.device).float() / 255.0, padding)
        size = (self.image_size, self.image_size)
        scaled = functional.interpolate(square[None], size, mode="bilinear", antialias=True, align_corners=False)
        mean, std = (scaled.new_tensor(v)[:, None, None] for v in (_MEAN, _STD))
        return (scaled - mean) / std

    def _look(
        self, pixels: Float[Tensor, "1 3 s s"], queries: Float[Tensor, "q c"]
    ) -> tuple[Float[Tensor, "p q"], Float[Tensor, "p 4"]]:
        """Return the logit of each patch for each phrase, and the patches' boxes: (centre, size), shares of a side."""
        cells, _ = self.model.image_embedder(pixel_values=pixels)
        features = cells.flatten(1, 2)
        logits, _ = self.model.class_predictor(features, queries[None])
        return logits[0].float(), self.model.box_predictor(features, cells)[0].float()

    def _vector(self, phrase: str) -> Float[Tensor, " c"]:
        """Return the vector of a phrase; it is asked for again with every image."""
        if phrase not in self._vectors:
            tokens = self.tokenizer(
                [self.config.template.replace("{}", phrase)],
                padding="max_length",
                truncation=True,
                max_length=self.max_tokens,
                return_tensors="pt",
            ).to(self.config.device)
            answer = self.model.owlv2.text_model(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"])
            self._vectors[phrase] = self.model.owlv2.text_projection(answer.pooler_output)[0]
        return self._vectors[phrase]


def _corners(boxes: Float[Tensor, "p 4"]) -> Float[Tensor, "p 4"]:
    """Return (left, top, right, bottom) of (centre, size)."""
    centre, size = boxes[:, :2], boxes[:, 2:]
    return torch.cat([centre - size / 2, centre + size / 2], dim=-1)
