"""A stand-in for Grounded SAM on procedural worlds: true classes, confused, lost and grown as the real one does.

Source: original.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import UInt8
from scipy import ndimage
from torch import Tensor

from occkit.errors import ConfigError
from occkit.foundation.chance import chance
from occkit.foundation.segmentation import check_request
from occkit.foundation.truth import ImageTruth, read_truth, settings_of, world_taxonomy
from occkit.taxonomy import NYUV2, OCC3D, SEMANTICKITTI, Taxonomy

Labels = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]

CONFUSED_WITH: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        OCC3D.name: {
            "others": "manmade", "barrier": "manmade", "bicycle": "motorcycle", "bus": "truck", "car": "truck",
            "construction_vehicle": "truck", "motorcycle": "bicycle", "pedestrian": "manmade",
            "traffic_cone": "barrier", "trailer": "truck", "truck": "car", "driveable_surface": "sidewalk",
            "other_flat": "sidewalk", "sidewalk": "terrain", "terrain": "sidewalk", "manmade": "vegetation",
            "vegetation": "manmade",
        },
        SEMANTICKITTI.name: {
            "car": "truck", "bicycle": "motorcycle", "motorcycle": "bicycle", "truck": "car", "other-vehicle": "truck",
            "person": "building", "bicyclist": "person", "motorcyclist": "person", "road": "sidewalk",
            "parking": "road", "sidewalk": "terrain", "other-ground": "sidewalk", "building": "vegetation",
            "fence": "vegetation", "vegetation": "building", "trunk": "pole", "terrain": "sidewalk", "pole": "trunk",
            "traffic-sign": "building",
        },
        NYUV2.name: {
            "ceiling": "wall", "floor": "furniture", "wall": "furniture", "window": "wall", "chair": "sofa",
            "bed": "sofa", "sofa": "bed", "table": "furniture", "tvs": "objects", "furniture": "table",
            "objects": "furniture",
        },
    }
)  # fmt: skip
"""Taxonomy -> what each of its classes is taken for."""

SMALL = frozenset(
    {"pedestrian", "barrier", "bicycle", "motorcycle", "traffic_cone"}
    | {"person", "bicyclist", "motorcyclist", "pole", "trunk", "traffic-sign"}
    | {"chair", "tvs", "objects"}
)
"""Small or thin classes of the taxonomies."""

_CARRIAGEWAY, _RAISED = ("driveable_surface", "road", "parking"), ("sidewalk", "other_flat", "other-ground")
_BARRIERS = ("barrier", "fence")


@dataclass(frozen=True, kw_only=True)
class SimulatedLabellerConfig:
    """True classes of a world with a labeller's faults. Zero switches a fault off.

    The defaults are `realistic`; `perfect` has no faults and `poor` is far worse.
    """

    root: Path
    """Folder of the world, with its truth layers."""
    seed: int = 0
    """Chance depends on the seed, the frame's token and the camera, on nothing else."""
    grow: float = 0.3
    """Probability that a small class grows by a pixel all around in an image (0..1), see `SMALL`."""
    kerb: float = 0.0
    """Share of the pixels on either side of a kerb that become a barrier (0..1; a fence in SemanticKITTI). A detector
    asked for barriers gives about 0.08."""
    confuse: float = 0.08
    """Probability that a block of pixels is taken for what its classes look like (0..1), see `CONFUSED_WITH`."""
    block: int = 4
    """Edge of such a block, pixels (at least 1)."""
    lose: float = 0.15
    """Probability that a small class is uncertain in an image, everywhere (0..1)."""
    sky: bool = True
    """Whether it is asked for the sky. Otherwise pixels of sky beside a thing are that thing, and the rest is
    uncertain."""

    def __post_init__(self) -> None:
        for name in ("grow", "kerb", "confuse", "lose"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ConfigError(f"SimulatedLabeller: {name} {getattr(self, name)} must lie in 0..1")
        if self.block < 1:
            raise ConfigError(f"SimulatedLabeller: block {self.block} must be at least 1")

    @classmethod
    def perfect(cls, root: Path) -> "SimulatedLabellerConfig":
        """Return the setting without faults."""
        return cls(root=root, grow=0.0, kerb=0.0, confuse=0.0, lose=0.0)

    @classmethod
    def realistic(cls, root: Path) -> "SimulatedLabellerConfig":
        """Return the defaults: a large model and a well-chosen vocabulary."""
        return cls(root=root)

    @classmethod
    def poor(cls, root: Path) -> "SimulatedLabellerConfig":
        """Return a labeller that is wrong in every fourth block and sees every other small class."""
        return cls(root=root, grow=0.8, kerb=0.25, confuse=0.25, lose=0.5)

    def build(self) -> "SimulatedLabeller":
        """Return the labeller.

        Raises:
            DataError: if the folder is no world with truth layers.
        """
        return SimulatedLabeller(self)


class SimulatedLabeller:
    """See `SimulatedLabellerConfig`.

    Small classes grow, kerbs turn into barriers, blocks are confused, and small classes are lost, in this order. What
    has no class in the world's taxonomy is uncertain; the sky is free, but where something grows into it.
    """

    def __init__(self, config: SimulatedLabellerConfig) -> None:
        self.config = config
        self._taxonomy = world_taxonomy(config.root)

    @property
    def taxonomy(self) -> Taxonomy:
        """That the world is written in: Occ3D's, SemanticKITTI's or NYUv2's."""
        return self._taxonomy

    @property
    def description(self) -> dict[str, Any]:
        """Name, taxonomy and settings; not where the world lies."""
        return {"labeller": "simulated", "taxonomy": self.taxonomy.name} | settings_of(self.config)

    def label(self, images: UInt8[Tensor, "n 3 h w"], *, token: str, cameras: Sequence[str]) -> UInt8[Tensor, "n h w"]:
        """Label the images of a frame of the world, as they are stored. See `SemanticLabeller.label`.

        Raises:
            DataError: if the world has no truth layers of this frame, camera and image size.
        """
        check_request(images, token, cameras)
        size = (images.shape[-2], images.shape[-1])
        maps = [self._label(token, camera, size) for camera in cameras]
        return torch.from_numpy(np.stack(maps)).to(images.device)

    def _label(self, token: str, camera: str, size: tuple[int, int]) -> Labels:
        config, taxonomy = self.config, self.taxonomy

        def stream(fault: str) -> np.random.Generator:
            return chance(config.seed, token, camera, fault)

        true = true_labels(read_truth(config.root, token, camera, size=size), taxonomy)
        labels = _grow(true, taxonomy, config.grow, stream("grow"))
        kerbs = _kerbs(true, taxonomy) & (stream("kerb").random(size) < config.kerb)
        if kerbs.any():  # rooms have neither kerbs nor barriers
            labels[kerbs] = _ids(taxonomy, _BARRIERS)[0]
        labels = _confuse(labels, taxonomy, config, stream("confuse"))
        lost = _chosen(taxonomy, config.lose, stream("lose"))
        labels[np.isin(labels, lost)] = taxonomy.ignore_id
        return labels if config.sky else _without_sky(labels, true == taxonomy.free_id, taxonomy)


def true_labels(truth: ImageTruth, taxonomy: Taxonomy) -> Labels:
    """Return ids of the world's taxonomy: free for the sky, the ignore id for things that have no class in it."""
    return np.where(truth.words == 0, taxonomy.free_id, truth.semantics).astype(np.uint8)


def _ids(taxonomy: Taxonomy, names: Sequence[str] | frozenset[str]) -> list[int]:
    return [index for index, name in enumerate(taxonomy.classes) if name in names]


def _chosen(taxonomy: Taxonomy, probability: float, rng: np.random.Generator) -> list[int]:
    """Return small classes, each chosen with a probability."""
    drawn = rng.random(taxonomy.num_classes) < probability
    return [index for index in _ids(taxonomy, SMALL) if drawn[index]]


def _grow(true: Labels, taxonomy: Taxonomy, probability: float, rng: np.random.Generator) -> Labels:
    labels = true.copy()
    for index in _chosen(taxonomy, probability, rng):
        labels[_with_rim(true == index)] = index
    return labels


def _with_rim(mask: Mask) -> Mask:
    """Add the pixels that share an edge with those of a mask."""
    return np.asarray(ndimage.binary_dilation(mask), dtype=np.bool_)


def _kerbs(true: Labels, taxonomy: Taxonomy) -> Mask:
    """Return the pixels of carriageway that share an edge with a raised surface, and those of the latter."""
    low, high = np.isin(true, _ids(taxonomy, _CARRIAGEWAY)), np.isin(true, _ids(taxonomy, _RAISED))
    return (low & _with_rim(high)) | (high & _with_rim(low))


def _without_sky(labels: Labels, sky: Mask, taxonomy: Taxonomy) -> Labels:
    """Give pixels of sky that share an edge with a thing its class, and take the others for uncertain."""
    still = sky & (labels == taxonomy.free_id)
    nearest = np.asarray(ndimage.distance_transform_edt(still, return_distances=False, return_indices=True))
    taken = labels[nearest[0], nearest[1]]
    return np.where(still, np.where(_with_rim(~sky), taken, taxonomy.ignore_id), labels).astype(np.uint8)


def _confuse(labels: Labels, taxonomy: Taxonomy, config: SimulatedLabellerConfig, rng: np.random.Generator) -> Labels:
    table = np.arange(256, dtype=np.uint8)
    for name, other in CONFUSED_WITH[taxonomy.name].items():
        table[taxonomy.id_of(name)] = taxonomy.id_of(other)
    rows, columns = (-(-side // config.block) for side in labels.shape)
    blocks = rng.random((rows, columns)) < config.confuse
    pixels = blocks.repeat(config.block, 0).repeat(config.block, 1)[: labels.shape[0], : labels.shape[1]]
    return np.where(pixels, table[labels], labels)
