"""A stand-in for vision-language features on procedural worlds: what text says of the true words, and its faults.

Source: original.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional

from occkit.errors import ConfigError, DataError
from occkit.foundation.chance import chance
from occkit.foundation.lexicon import meaning_of_prompt
from occkit.foundation.segmentation import check_request
from occkit.foundation.simulated_language import SimulatedTextConfig
from occkit.foundation.truth import find_frame, read_truth, settings_of, world_words

Ids = npt.NDArray[np.int64]

_SKY = "sky"


@dataclass(frozen=True, kw_only=True)
class SimulatedFeaturesConfig:
    """Text vectors of a world's true words with the faults of dense CLIP features. Zero switches a fault off.

    The defaults are `realistic`; `perfect` has no faults and `poor` is far worse.
    """

    root: Path
    """Folder of the world, with its truth layers."""
    text: SimulatedTextConfig = field(default_factory=SimulatedTextConfig)
    """Whose space the features live in."""
    seed: int = 0
    """Chance depends on the seed, the frame's token, its scene, the camera and the thing, on nothing else."""
    stride: int = 4
    """Pixels of a cell along each axis (at least 1)."""
    window: int = 8
    """Edge of the square of pixels a cell is the mean of (at least `stride`); more than a cell bleeds over borders."""
    gap: float = 0.5
    """Length of a vector that all features have and no text has, the modality gap (0..2)."""
    instance: float = 0.15
    """Length of a vector of its own that each thing has throughout its scene (0..2)."""
    view: float = 0.1
    """Length of a vector that each thing, or all stuff of a word, has in one image only (0..2)."""
    confuse: float = 0.05
    """Probability that a cell's pixels are taken for a word of the same kind but another class (0..1)."""

    def __post_init__(self) -> None:
        for name, high in {"gap": 2, "instance": 2, "view": 2, "confuse": 1}.items():
            if not 0.0 <= getattr(self, name) <= high:
                raise ConfigError(f"SimulatedFeatures: {name} {getattr(self, name)} must lie in 0..{high}")
        if self.stride < 1 or self.window < self.stride or (self.window - self.stride) % 2:
            raise ConfigError(
                f"SimulatedFeatures: expected stride >= 1 and window >= stride with an even difference, got "
                f"{self.stride} and {self.window}"
            )

    @classmethod
    def perfect(cls, root: Path) -> "SimulatedFeaturesConfig":
        """Return the setting without faults; a cell of several words is still their mean."""
        return cls(root=root, window=4, gap=0.0, instance=0.0, view=0.0, confuse=0.0)

    @classmethod
    def realistic(cls, root: Path) -> "SimulatedFeaturesConfig":
        """Return the defaults."""
        return cls(root=root)

    @classmethod
    def poor(cls, root: Path) -> "SimulatedFeaturesConfig":
        """Return features that are blurred, far from text, and wrong in every seventh cell."""
        return cls(root=root, window=16, gap=1.0, instance=0.3, view=0.3, confuse=0.15)

    def build(self) -> "SimulatedFeatures":
        """Return the extractor.

        Raises:
            DataError: if the folder is no world with truth layers.
        """
        return SimulatedFeatures(self)


class SimulatedFeatures:
    """See `SimulatedFeaturesConfig`.

    `f = norm(mean over the window of (t(word) + gap + thing + thing in this view))`, the word of some cells confused
    first. Nothing at all is the word "sky". An image that is no whole number of cells is stretched to one.
    """

    def __init__(self, config: SimulatedFeaturesConfig) -> None:
        self.config = config
        names = world_words(config.root)
        self.words: tuple[str, ...] = (_SKY, *names[1:])
        """The world's words; the index is the id, and 0 the sky."""
        self._text = config.text.build().encode(self.words).double().numpy()
        self._siblings = _siblings(self.words)

    @property
    def width(self) -> int:
        """Channels."""
        return self.config.text.width

    @property
    def description(self) -> dict[str, Any]:
        """Name and settings; not where the world lies."""
        return {"features": "simulated"} | settings_of(self.config)

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
        check_request(images, token, cameras)
        size = (images.shape[-2], images.shape[-1])
        scene = find_frame(self.config.root, token).parent.name
        return torch.stack([self._extract(scene, token, camera, size) for camera in cameras]).to(images.device)

    def _extract(self, scene: str, token: str, camera: str, size: tuple[int, int]) -> Float[Tensor, "c hf wf"]:
        truth = read_truth(self.config.root, token, camera, size=size)
        if int(truth.words.max()) >= len(self.words):
            path = self.config.root / "truth" / "words.json"
            raise DataError(path, f"does not name word {truth.words.max()} of frame {token}", "write the world again")
        cells = self.map_size(size)
        words, instances = (self._stretch(layer.astype(np.int64), cells) for layer in (truth.words, truth.instances))
        words = self._confuse(words, cells, chance(self.config.seed, token, camera, "confuse"))
        # Few pairs of word and thing show in an image: the share of each in a cell, times its vector.
        pairs, pair_of = np.unique(instances * len(self.words) + words, return_inverse=True)
        pair_of = torch.from_numpy(pair_of.reshape(words.shape))
        features = torch.zeros((self.width, *cells), dtype=torch.float64)
        for index, pair in enumerate(pairs.tolist()):
            instance, word = divmod(pair, len(self.words))
            vector = torch.from_numpy(self._vector(scene, token, camera, instance, word))
            features += vector[:, None, None] * self._pool((pair_of == index).double())
        return functional.normalize(features, dim=0).float()

    def _vector(self, scene: str, token: str, camera: str, instance: int, word: int) -> npt.NDArray[np.float64]:
        config = self.config
        # What a thing looks like does not change when it is taken for something else, so its vectors go by instance.
        thing = f"thing {instance}" if instance else f"stuff {word}"
        vector = self._text[word] + config.gap * self._unit("gap")
        if instance:
            vector = vector + config.instance * self._unit(scene, thing, "instance")
        return vector + config.view * self._unit(token, camera, thing, "view")

    def _unit(self, *names: str) -> npt.NDArray[np.float64]:
        drawn = chance(self.config.seed, *names).normal(size=self.width)
        return drawn / np.linalg.norm(drawn)

    def _pool(self, pixels: Float[Tensor, "h w"]) -> Float[Tensor, "hf wf"]:
        """Return the share of the window around each cell; what lies beyond the image has none of it."""
        config = self.config
        padding = (config.window - config.stride) // 2
        return functional.avg_pool2d(pixels[None, None], config.window, config.stride, padding=padding)[0, 0]

    def _stretch(self, layer: Ids, cells: tuple[int, int]) -> Ids:
        """Return a layer at a whole number of cells, by nearest pixel."""
        rows, columns = (
            ((np.arange(count * self.config.stride) + 0.5) * side / (count * self.config.stride)).astype(np.int64)
            for count, side in zip(cells, layer.shape, strict=True)
        )
        return layer[np.ix_(rows, columns)]

    def _confuse(self, words: Ids, cells: tuple[int, int], rng: np.random.Generator) -> Ids:
        """Take the pixels of some cells for words of the same kind, the same one for a word throughout an image."""
        table = np.arange(len(self.words))
        for word, others in self._siblings.items():
            table[word] = others[int(rng.random() * len(others))]
        wrong = rng.random(cells) < self.config.confuse
        wrong = wrong.repeat(self.config.stride, 0).repeat(self.config.stride, 1)
        return np.where(wrong, table[words], words)


def _siblings(words: Sequence[str]) -> Mapping[int, tuple[int, ...]]:
    """Return for each word those of the same kind but another class; words without any are left out."""
    meanings = [meaning_of_prompt(word) for word in words]
    found = {
        index: tuple(
            other
            for other, that in enumerate(meanings)
            if other and this.kind is not None and that.kind == this.kind and that.name != this.name
        )
        for index, this in enumerate(meanings)
        if index
    }
    return {index: others for index, others in found.items() if others}
