"""One class for every pixel: geometry alone, for those who have depth and nobody to name what it shows."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor

from occkit.errors import ConfigError
from occkit.foundation.segmentation import check_request
from occkit.taxonomy import OCC3D, TAXONOMIES, Taxonomy


@dataclass(frozen=True, kw_only=True)
class OneClassLabellerConfig:
    """Whatever the images show is one class. No sky: what has no depth is left out where points are made."""

    name: str = "others"
    """The class. One that does not move: what may move is left out of other frames (`labels.fusion.MOVERS`), and here
    nobody knows what does, so joined frames keep the trails of driving cars."""
    taxonomy: str = OCC3D.name
    """Name of the taxonomy, see `taxonomy.TAXONOMIES`."""

    def __post_init__(self) -> None:
        if self.taxonomy not in TAXONOMIES:
            raise ConfigError(f"OneClassLabeller: taxonomy {self.taxonomy!r} is none of {', '.join(TAXONOMIES)}")
        table = TAXONOMIES[self.taxonomy]
        known = [table.classes[i] for i in table.semantic_ids]
        if self.name not in known:
            raise ConfigError(f"OneClassLabeller: class {self.name!r} is none of {self.taxonomy}: {', '.join(known)}")

    def build(self) -> "OneClassLabeller":
        """Return the labeller."""
        return OneClassLabeller(self)


class OneClassLabeller:
    """See `OneClassLabellerConfig`. Source: original."""

    def __init__(self, config: OneClassLabellerConfig) -> None:
        self.config = config

    @property
    def taxonomy(self) -> Taxonomy:
        """That of the config."""
        return TAXONOMIES[self.config.taxonomy]

    @property
    def description(self) -> dict[str, Any]:
        """Name and settings."""
        return {"labeller": "one_class"} | asdict(self.config)

    def label(self, images: UInt8[Tensor, "n 3 h w"], *, token: str, cameras: Sequence[str]) -> UInt8[Tensor, "n h w"]:
        """Give every pixel the class; what the images show is not looked at. See `SemanticLabeller.label`."""
        check_request(images, token, cameras)
        size = (len(images), *images.shape[-2:])
        return torch.full(size, self.taxonomy.id_of(self.config.name), dtype=torch.uint8, device=images.device)
