"""SAM 2 of transformers (extra `hf`) on single images: segments, masks in boxes, features."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor
from torch.nn import functional

from occkit.foundation.segmentation import SamSegmenter, SamSegmenterConfig, check_request
from occkit.foundation.weights import load_model

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_FETCH = (
    "SAM 2 is facebook/sam2.1-hiera-large, -base-plus, -small or -tiny: load Sam2Model once with from_pretrained and "
    "save it to a folder with save_pretrained"
)


@dataclass(frozen=True, kw_only=True)
class Sam2SegmenterConfig(SamSegmenterConfig):
    """SAM 2, asked with a grid of points; thresholds are those of its authors' mask generator."""

    kinds: ClassVar[tuple[str, ...]] = ("sam2", "sam2_video")
    """What `model_type` of its weights may be; published weights are those of the model for video."""
    fetch: ClassVar[str] = _FETCH
    """What to fetch, and how: for who has no weights yet."""

    weights: str
    """Folder or hub id that holds `config.json` and safetensors of a SAM 2 or 2.1 model."""
    min_predicted_iou: float = 0.8
    """Masks that the model itself trusts less are dropped (0..1)."""

    def build(self) -> "Sam2Segmenter":
        """Load the model.

        Raises:
            ConfigError: if transformers is not installed, or the weights are not those of a SAM 2.
        """
        return Sam2Segmenter(self)


class Sam2Segmenter(SamSegmenter):
    """See `Sam2SegmenterConfig`; masks become one map as those of `SamSegmenter`.

    Images are stretched to the model's square, nothing is padded. The memory of video is left out: each image is
    a first frame.

    Source: Ravi et al., "SAM 2: Segment Anything in Images and Videos", 2024; implementation of transformers.
    """

    def __init__(self, config: Sam2SegmenterConfig) -> None:
        self.config = config
        model = load_model("Sam2Segmenter", config.weights, loader="Sam2Model", kinds=config.kinds, fetch=_FETCH)
        self.model = model.to(config.device).eval()
        self.image_size: int = self.model.config.prompt_encoder_config.image_size

    @property
    def description(self) -> dict[str, Any]:
        """Name and settings; not the device and the batch, which do not change the result."""
        settings = asdict(self.config)
        return {"segmenter": "sam2"} | {k: v for k, v in settings.items() if k not in ("device", "points_per_batch")}

    def _prepare(self, image: UInt8[Tensor, "3 h w"]) -> tuple[Float[Tensor, "1 3 s s"], tuple[int, int]]:
        """Stretch the image to the model's square and normalise it."""
        size = (self.image_size, self.image_size)
        scaled = functional.interpolate(image[None].float(), size, mode="bilinear", antialias=True, align_corners=False)
        mean, std = (scaled.new_tensor(v)[:, None, None] for v in (_MEAN, _STD))
        return (scaled / 255.0 - mean) / std, size

    def _enlarge(
        self, logits: Float[Tensor, "s s"], resized: tuple[int, int], size: tuple[int, int]
    ) -> Bool[Tensor, "h w"]:
        return functional.interpolate(logits[None, None], size, mode="bilinear", align_corners=False)[0, 0] > 0


@dataclass(frozen=True, kw_only=True)
class Sam2FeaturesConfig:
    """The image encoder of SAM 2; 256 channels in all published sizes."""

    kinds: ClassVar[tuple[str, ...]] = Sam2SegmenterConfig.kinds
    """What `model_type` of its weights may be."""
    fetch: ClassVar[str] = _FETCH
    """What to fetch, and how: for who has no weights yet."""

    weights: str
    """Folder or hub id that holds `config.json` and safetensors of a SAM 2 or 2.1 model."""
    device: str = "cpu"
    """Where the model runs."""

    def build(self) -> "Sam2Features":
        """Load the model.

        Raises:
            ConfigError: if transformers is not installed, or the weights are not those of a SAM 2.
        """
        return Sam2Features(self)


class Sam2Features:
    """See `Sam2FeaturesConfig`: the coarsest level of the encoder, as the mask decoder reads it.

    Every image has the same 64 x 64 cells (published sizes), whatever its shape, because it is stretched to a square.
    Vectors are given length 1; no text shares their space.

    Source: Ravi et al., "SAM 2: Segment Anything in Images and Videos", 2024; implementation of transformers.
    """

    def __init__(self, config: Sam2FeaturesConfig) -> None:
        self.config = config
        self.sam = Sam2SegmenterConfig(weights=config.weights, device=config.device).build()
        vision = self.sam.model.config.vision_config
        self.channels: int = vision.fpn_hidden_size
        rows, columns = vision.backbone_feature_sizes[-1]
        self.cells: tuple[int, int] = (rows, columns)

    @property
    def width(self) -> int:
        """Channels."""
        return self.channels

    @property
    def description(self) -> dict[str, Any]:
        """Name and weights; not the device, which does not change the result."""
        return {"features": "sam2", "weights": self.config.weights}

    @property
    def reads_names(self) -> bool:
        """Token and cameras do not change the answer."""
        return False

    def map_size(self, image_size: tuple[int, int]) -> tuple[int, int]:
        """Return the cells along the height and the width, the same for every image."""
        return self.cells

    @torch.no_grad()
    def extract(
        self, images: UInt8[Tensor, "n 3 h w"], *, token: str, cameras: Sequence[str]
    ) -> Float[Tensor, "n c hf wf"]:
        """Extract features; token and cameras are not looked at. See `FeatureExtractor.extract`."""
        check_request(images, token, cameras)
        return torch.cat([self._extract(image) for image in images.to(self.config.device)]).to(images.device)

    def _extract(self, image: UInt8[Tensor, "3 h w"]) -> Float[Tensor, "1 c hf wf"]:
        pixels, _ = self.sam._prepare(image)
        return functional.normalize(self.sam.model.get_image_embeddings(pixels)[-1].float(), dim=1)
