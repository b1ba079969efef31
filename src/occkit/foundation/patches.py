"""Features of patches: what all vision transformers have in common that answer with a vector a patch."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional

from occkit.errors import ConfigError
from occkit.foundation.segmentation import check_request


@dataclass(frozen=True, kw_only=True)
class PatchFeaturesConfig:
    """A vision transformer, and how images come to it."""

    weights: str
    """Folder or hub id of a model with safetensors."""
    size: tuple[int, int] | None = None
    """(height, width) that images are scaled to, pixels; None keeps them. Rounded to whole patches either way."""
    batch_size: int = 1
    """Images the model sees at once; changes memory and speed, not the result."""
    device: str = "cpu"
    """Where the model runs."""

    def __post_init__(self) -> None:
        if self.batch_size < 1 or (self.size is not None and min(self.size) < 1):
            guest = type(self).__name__.removesuffix("Config")
            raise ConfigError(f"{guest}: batch_size {self.batch_size} and size {self.size} must be at least 1")


class PatchFeatures(ABC):
    """A `FeatureExtractor` whose cells are the patches of a vision transformer."""

    name: ClassVar[str]
    """Short name, for the description."""
    mean: ClassVar[tuple[float, float, float]]
    """Of the colours that the model was trained on, 0..1."""
    std: ClassVar[tuple[float, float, float]]
    """Likewise."""

    def __init__(self, config: PatchFeaturesConfig, *, patch: int) -> None:
        self.config = config
        self.patch = patch

    @property
    @abstractmethod
    def width(self) -> int:
        """Channels."""

    @property
    def description(self) -> dict[str, Any]:
        """Name and settings; not the device and the batch, which do not change the result."""
        settings = {k: v for k, v in asdict(self.config).items() if k not in ("device", "batch_size")}
        return {"features": self.name} | settings

    @property
    def reads_names(self) -> bool:
        """Token and cameras do not change the answer."""
        return False

    def map_size(self, image_size: tuple[int, int]) -> tuple[int, int]:
        """Return the patches along the height and the width of an image."""
        rows, columns = (max(1, round(side / self.patch)) for side in self.config.size or image_size)
        return rows, columns

    @torch.no_grad()
    def extract(
        self, images: UInt8[Tensor, "n 3 h w"], *, token: str, cameras: Sequence[str]
    ) -> Float[Tensor, "n c hf wf"]:
        """Extract features; token and cameras are not looked at. See `FeatureExtractor.extract`."""
        check_request(images, token, cameras)
        maps = [self._extract(some.to(self.config.device)) for some in images.split(self.config.batch_size)]
        return torch.cat(maps).to(images.device)

    def _extract(self, images: UInt8[Tensor, "n 3 h w"]) -> Float[Tensor, "n c hf wf"]:
        rows, columns = self.map_size((images.shape[-2], images.shape[-1]))
        size = (rows * self.patch, columns * self.patch)
        scaled = functional.interpolate(
            images.float() / 255.0, size, mode="bicubic", antialias=True, align_corners=False
        ).clamp(0.0, 1.0)
        mean, std = (scaled.new_tensor(v)[:, None, None] for v in (self.mean, self.std))
        features = functional.normalize(self._tokens((scaled - mean) / std).float(), dim=-1)
        return features.transpose(1, 2).unflatten(2, (rows, columns))

    @abstractmethod
    def _tokens(self, pixels: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n p c"]:
        """Return a vector for each patch of normalised images of whole patches, row after row."""
