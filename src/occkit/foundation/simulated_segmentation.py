"""A stand-in for SAM on procedural worlds: true segments, divided, joined, frayed and lost as a real segmenter would.

Source: original. The four faults are those by which segmentations are judged: over-segmentation, under-segmentation,
boundary error and missed regions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Int64, UInt8
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from occkit.errors import ConfigError
from occkit.foundation.chance import chance
from occkit.foundation.segmentation import check_request
from occkit.foundation.truth import ImageTruth, read_truth, settings_of

Ids = npt.NDArray[np.int64]
Colours = npt.NDArray[np.float64]

_SKY_DISTANCE = 1000.0
"""Depth given to what has none, metres: far from everything else on a logarithmic scale."""


@dataclass(frozen=True, kw_only=True)
class SimulatedSegmenterConfig:
    """True segments of a world with a segmenter's faults; `perfect` has none. Zero switches a fault off."""

    root: Path
    """Folder of the world, with its truth layers."""
    seed: int = 0
    """Chance depends on the seed, the frame's token and the camera, on nothing else."""
    split: float = 0.3
    """Over-segmentation: probability that a large segment falls into parts (0..1)."""
    split_above: float = 0.02
    """A segment is large from this share of the image's pixels (0..1)."""
    max_parts: int = 4
    """Most parts a segment falls into (2 or more); they follow colour and place."""
    merge: float = 0.3
    """Under-segmentation: probability (0..1) that two neighbours that look alike and are equally far become one; falls
    by `exp(-d_colour / merge_colour - d_depth / merge_depth)` with their differences along the common border."""
    merge_colour: float = 0.08
    """Scale of the colour difference, root mean square over RGB in 0..1 (above 0)."""
    merge_depth: float = 0.2
    """Scale of the depth difference, natural logarithm of z (above 0)."""
    ragged: float = 0.7
    """Boundary error: root mean square by which borders are displaced, pixels along each axis (0..8, at most three
    times as far anywhere)."""
    ragged_length: float = 2.0
    """Length over which the displacement changes, pixels (above 0)."""
    missing: float = 0.5
    """Missed regions: probability that a vanishingly small segment is lost (0..1); falls by `exp(-area / a)`."""
    missing_below: float = 1 / 1024
    """`a` above, share of the image's pixels (0..1): one point of a 32 x 32 grid falls into such an area."""

    def __post_init__(self) -> None:
        limits = {"split": 1, "split_above": 1, "merge": 1, "ragged": 8, "missing": 1, "missing_below": 1}
        for name, high in limits.items():
            if not 0.0 <= getattr(self, name) <= high:
                raise ConfigError(f"SimulatedSegmenter: {name} {getattr(self, name)} must lie in 0..{high}")
        for name in ("merge_colour", "merge_depth", "ragged_length", "missing_below"):
            if not getattr(self, name) > 0.0:
                raise ConfigError(f"SimulatedSegmenter: {name} {getattr(self, name)} must be above 0")
        if self.max_parts < 2:
            raise ConfigError(f"SimulatedSegmenter: max_parts {self.max_parts} must be at least 2")

    @classmethod
    def perfect(cls, root: Path) -> "SimulatedSegmenterConfig":
        """Return the setting without faults."""
        return cls(root=root, split=0.0, merge=0.0, ragged=0.0, missing=0.0)

    def build(self) -> "SimulatedSegmenter":
        """Return the segmenter."""
        return SimulatedSegmenter(self)


class SimulatedSegmenter:
    """See `SimulatedSegmenterConfig`.

    A true segment is everything that shows of one thing, or a connected region (sharing pixel edges) of stuff of one
    word: road and lane marking are two, and the sky is a segment, too. Large segments are divided first, then alike
    neighbours are joined, borders displaced, and small segments lost, which leaves 0.
    """

    def __init__(self, config: SimulatedSegmenterConfig) -> None:
        self.config = config

    @property
    def description(self) -> dict[str, Any]:
        """Name and settings; not where the world lies."""
        return {"segmenter": "simulated"} | settings_of(self.config)

    def segment(
        self, images: UInt8[Tensor, "n 3 h w"], *, token: str, cameras: Sequence[str]
    ) -> Int64[Tensor, "n h w"]:
        """Segment the images of a frame of the world, as they are stored. See `Segmenter.segment`.

        Raises:
            DataError: if the world has no truth layers of this frame, camera and image size.
        """
        check_request(images, token, cameras)
        maps = [
            self._segment(image.permute(1, 2, 0).cpu().numpy() / 255.0, token, camera)
            for image, camera in zip(images, cameras, strict=True)
        ]
        return torch.from_numpy(np.stack(maps)).to(images.device)

    def _segment(self, colours: Colours, token: str, camera: str) -> Ids:
        config = self.config
        truth = read_truth(config.root, token, camera, size=(colours.shape[0], colours.shape[1]))
        ids = true_segments(truth)
        if config.split > 0:
            ids = _split(ids, colours, config, chance(config.seed, token, camera, "split"))
        if config.merge > 0:
            ids = _merge(ids, colours, truth.depth, config, chance(config.seed, token, camera, "merge"))
        if config.ragged > 0:
            ids = _displace(ids, config, chance(config.seed, token, camera, "ragged"))
        if config.missing > 0:
            ids = _lose(ids, config, chance(config.seed, token, camera, "missing"))
        return _renumber(ids)


def true_segments(truth: ImageTruth) -> Ids:
    """Return the segments without faults, ids from 1 without gaps."""
    ids = np.zeros(truth.words.shape, np.int64)
    stuff = truth.instances == 0
    for word in np.unique(truth.words[stuff]):
        regions, _ = ndimage.label(stuff & (truth.words == word))  # pyright: ignore[reportGeneralTypeIssues]
        ids += np.where(regions > 0, regions + ids.max(), 0)
    ids += np.where(stuff, 0, truth.instances + ids.max())
    return _renumber(ids)


def _split(ids: Ids, colours: Colours, config: SimulatedSegmenterConfig, rng: np.random.Generator) -> Ids:
    """Divide large segments: pixels go to the nearest of a few of their own, by place and colour."""
    made, last = ids.copy(), int(ids.max())
    for index, window in enumerate(ndimage.find_objects(ids), start=1):
        rows, columns = np.nonzero(ids[window] == index)
        falls, parts = rng.random() < config.split, int(rng.integers(2, config.max_parts + 1))
        if not falls or len(rows) < max(config.split_above * ids.size, parts):
            continue
        place = np.stack([rows, columns], axis=1) / np.sqrt(len(rows))
        looks = np.concatenate([place, colours[window][rows, columns]], axis=1)
        seeds = looks[rng.choice(len(rows), parts, replace=False)]
        nearest = ((looks[:, None] - seeds) ** 2).sum(-1).argmin(1)
        view = made[window]
        view[rows, columns] = np.where(nearest > 0, last + nearest, index)
        last += parts - 1
    return _renumber(made)


def _merge(
    ids: Ids,
    colours: Colours,
    depth: npt.NDArray[np.float16],
    config: SimulatedSegmenterConfig,
    rng: np.random.Generator,
) -> Ids:
    """Join neighbours by chance, the likelier the more alike they are on both sides of their common border."""
    count = int(ids.max()) + 1
    distance = np.log(np.where(depth > 0, depth, _SKY_DISTANCE).astype(np.float64))
    places = np.arange(ids.size).reshape(ids.shape)
    first = np.concatenate([places[:, :-1].ravel(), places[:-1].ravel()])
    second = np.concatenate([places[:, 1:].ravel(), places[1:].ravel()])
    swapped = ids.ravel()[first] > ids.ravel()[second]
    first, second = np.where(swapped, second, first), np.where(swapped, first, second)
    low, high = ids.ravel()[first], ids.ravel()[second]
    first, second, low, high = (v[low != high] for v in (first, second, low, high))
    pairs, pair_of, length = np.unique(low * count + high, return_inverse=True, return_counts=True)
    # Colours are averaged before they are compared, so that noise and texture do not pass for a difference.
    steps = colours.reshape(-1, 3)[first] - colours.reshape(-1, 3)[second]
    colour = np.stack([np.bincount(pair_of, steps[:, i], len(pairs)) / length for i in range(3)])
    drop = np.bincount(pair_of, np.abs(distance.ravel()[first] - distance.ravel()[second]), len(pairs)) / length
    unlike = np.sqrt((colour**2).mean(0)) / config.merge_colour + drop / config.merge_depth
    joined = pairs[rng.random(len(pairs)) < config.merge * np.exp(-unlike)]
    graph = coo_array((np.ones(len(joined)), (joined // count, joined % count)), shape=(count, count))
    _, group = connected_components(graph, directed=False)
    return _renumber(group[ids] + 1)


def _displace(ids: Ids, config: SimulatedSegmenterConfig, rng: np.random.Generator) -> Ids:
    """Take each pixel's id from a place nearby; the way there changes smoothly, so borders fray and insides stay."""
    rough = [ndimage.gaussian_filter(noise, config.ragged_length) for noise in rng.normal(size=(2, *ids.shape))]
    shift = np.stack([config.ragged * field / max(float(field.std()), 1e-12) for field in rough])
    shift = np.rint(shift.clip(-3 * config.ragged, 3 * config.ragged)).astype(np.int64)
    rows, columns = np.indices(ids.shape) + shift
    return ids[rows.clip(0, ids.shape[0] - 1), columns.clip(0, ids.shape[1] - 1)]


def _lose(ids: Ids, config: SimulatedSegmenterConfig, rng: np.random.Generator) -> Ids:
    areas = np.bincount(ids.ravel())
    lost = rng.random(len(areas)) < config.missing * np.exp(-areas / (config.missing_below * ids.size))
    return np.where(lost[ids], 0, ids)


def _renumber(ids: Ids) -> Ids:
    """Give the ids that occur the numbers from 1 without gaps, in their order; 0 stays."""
    present = np.unique(ids)
    present = present[present > 0]
    table = np.zeros(int(ids.max()) + 1, np.int64)
    table[present] = np.arange(1, len(present) + 1)
    return table[ids]
