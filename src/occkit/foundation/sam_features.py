"""Segmentation features: what SAM's image encoder makes of an image, and a stand-in on procedural worlds."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional

from occkit.errors import ConfigError
from occkit.foundation.chance import chance
from occkit.foundation.segmentation import SamSegmenterConfig, check_request
from occkit.foundation.simulated_grounding import SimulatedLabellerConfig


@dataclass(frozen=True, kw_only=True)
class SamFeaturesConfig:
    """The image encoder of SAM (transformers, extra `hf`); 256 channels in all published sizes."""

    kinds: ClassVar[tuple[str, ...]] = SamSegmenterConfig.kinds
    """What `model_type` of its weights may be."""
    fetch: ClassVar[str] = SamSegmenterConfig.fetch
    """What to fetch, and how: for who has no weights yet."""

    weights: str
    """Folder or hub id that holds `config.json` and safetensors of a SAM (v1) model."""
    device: str = "cpu"
    """Where the model runs."""

    def build(self) -> "SamFeatures":
        """Load the model.

        Raises:
            ConfigError: if transformers is not installed, or the weights are not those of a SAM.
        """
        return SamFeatures(self)


class SamFeatures:
    """See `SamFeaturesConfig`. A cell is 16 pixels of the image scaled to 1024 (ViT-B, -L and -H); padding is cut off.

    Vectors are given length 1: they are kept in few bits, and what reads them normalises them anyway. No text shares
    their space.

    Source: Kirillov et al., "Segment Anything", ICCV 2023; implementation of transformers.
    """

    def __init__(self, config: SamFeaturesConfig) -> None:
        self.config = config
        self.sam = SamSegmenterConfig(weights=config.weights, device=config.device).build()
        vision = self.sam.model.config.vision_config
        self.side: int = vision.image_size
        self.patch: int = vision.patch_size
        self.channels: int = vision.output_channels

    @property
    def width(self) -> int:
        """Channels."""
        return self.channels

    @property
    def description(self) -> dict[str, Any]:
        """Name and weights; not the device, which does not change the result."""
        return {"features": "sam", "weights": self.config.weights}

    @property
    def reads_names(self) -> bool:
        """Token and cameras do not change the answer."""
        return False

    def map_size(self, image_size: tuple[int, int]) -> tuple[int, int]:
        """Return the patches along the height and the width of an image."""
        scale = self.side / max(image_size) / self.patch
        rows, columns = (max(1, round(edge * scale)) for edge in image_size)
        return rows, columns

    @torch.no_grad()
    def extract(
        self, images: UInt8[Tensor, "n 3 h w"], *, token: str, cameras: Sequence[str]
    ) -> Float[Tensor, "n c hf wf"]:
        """Extract features; token and cameras are not looked at. See `FeatureExtractor.extract`."""
        check_request(images, token, cameras)
        return torch.stack([self._extract(image) for image in images.to(self.config.device)]).to(images.device)

    def _extract(self, image: UInt8[Tensor, "3 h w"]) -> Float[Tensor, "c hf wf"]:
        pixels, resized = self.sam._prepare(image)
        cells = self.sam.model.get_image_embeddings(pixels).float()
        rows, columns = self.map_size((image.shape[1], image.shape[2]))
        # The image fills the upper left of the padded square: its cells need not end where it does.
        down = (torch.arange(rows, device=cells.device) + 0.5) / rows * resized[0] / self.side * 2 - 1
        right = (torch.arange(columns, device=cells.device) + 0.5) / columns * resized[1] / self.side * 2 - 1
        places = torch.stack(torch.meshgrid(down, right, indexing="ij"), dim=-1).flip(-1)
        found = functional.grid_sample(cells, places[None].to(cells), padding_mode="border", align_corners=False)
        return functional.normalize(found[0], dim=0)


@dataclass(frozen=True, kw_only=True)
class SimulatedSamFeaturesConfig:
    """A world's classes, with a labeller's faults, as vectors in which they lie apart but are not named."""

    labeller: SimulatedLabellerConfig
    """Says what the pixels show, faults and all; its root is the world's."""
    channels: int = 24
    """Length of a vector."""
    stride: int = 4
    """Pixels of a cell along each axis (at least 1)."""
    noise: float = 0.3
    """Length of a random vector that each cell has beside it (0..2)."""

    def __post_init__(self) -> None:
        if self.channels < 1 or self.stride < 1 or not 0 <= self.noise <= 2:
            raise ConfigError(
                f"SimulatedSamFeatures: expected channels and stride of at least 1 and noise in 0..2, got {self}"
            )

    @classmethod
    def perfect(cls, root: Path) -> "SimulatedSamFeaturesConfig":
        """Return the setting without faults."""
        return cls(labeller=SimulatedLabellerConfig.perfect(root), noise=0.0)

    @classmethod
    def realistic(cls, root: Path) -> "SimulatedSamFeaturesConfig":
        """Return the defaults."""
        return cls(labeller=SimulatedLabellerConfig.realistic(root))

    @classmethod
    def poor(cls, root: Path) -> "SimulatedSamFeaturesConfig":
        """Return features in which half of a vector says nothing, of classes that are often wrong."""
        return cls(labeller=SimulatedLabellerConfig.poor(root), noise=1.0)

    def build(self) -> "SimulatedSamFeatures":
        """Return the extractor.

        Raises:
            DataError: if the folder is no world with truth layers.
        """
        return SimulatedSamFeatures(self)


class SimulatedSamFeatures:
    """See `SimulatedSamFeaturesConfig`: `f = norm(W s + noise)`, `s` the share of each class in a cell.

    `W` is drawn once from the labeller's seed, a unit vector a class. Source: original.
    """

    def __init__(self, config: SimulatedSamFeaturesConfig) -> None:
        self.config = config
        self._labeller = config.labeller.build()
        seed, count = config.labeller.seed, self._labeller.taxonomy.num_classes
        drawn = chance(seed, "sam", config.channels).normal(size=(config.channels, count + 1))
        self._vectors = torch.from_numpy(drawn / np.linalg.norm(drawn, axis=0)).float()

    @property
    def width(self) -> int:
        """Channels."""
        return self.config.channels

    @property
    def description(self) -> dict[str, Any]:
        """Name and settings; not where the world lies."""
        config = replace(self.config, labeller=replace(self.config.labeller, root=Path()))
        settings = asdict(config)
        settings["labeller"].pop("root")
        return {"features": "simulated_sam"} | settings

    @property
    def reads_names(self) -> bool:
        """Stand-ins heed token and cameras."""
        return True

    def map_size(self, image_size: tuple[int, int]) -> tuple[int, int]:
        """Return the cells along the height and the width of an image."""
        rows, columns = (max(1, round(side / self.config.stride)) for side in image_size)
        return rows, columns

    def extract(
        self, images: UInt8[Tensor, "n 3 h w"], *, token: str, cameras: Sequence[str]
    ) -> Float[Tensor, "n c hf wf"]:
        """Extract features of a frame of the world, images as they are stored. See `FeatureExtractor.extract`.

        Raises:
            DataError: if the world has no truth layers of this frame, camera and image size.
        """
        classes = self._labeller.taxonomy.num_classes
        shown = self._labeller.label(images, token=token, cameras=cameras).long()
        planes = functional.one_hot(shown.clamp(max=classes), classes + 1).movedim(-1, 1).float()
        cells = self.map_size((images.shape[-2], images.shape[-1]))
        found = torch.einsum("ck,nkrl->ncrl", self._vectors, functional.adaptive_avg_pool2d(planes, cells))
        for index, camera in enumerate(cameras):
            rng = chance(self.config.labeller.seed, token, camera, "sam noise")
            noise = functional.normalize(torch.from_numpy(rng.normal(size=(self.width, *cells))).float(), dim=0)
            found[index] += self.config.noise * noise
        return functional.normalize(found, dim=1).to(images.device)
