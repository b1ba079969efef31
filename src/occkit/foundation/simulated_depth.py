"""A stand-in for metric depth networks on procedural worlds: true depth, wrong as such networks are.

Source: original. The faults are those that move points which are carried into the scene: a wrong scale, bends, noise,
and depths between an object and what is behind it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional

from occkit.errors import ConfigError
from occkit.foundation.chance import chance
from occkit.foundation.depth import check_depth_request
from occkit.foundation.truth import find_frame, read_truth, settings_of
from occkit.geometry import Cameras

Depths = npt.NDArray[np.float64]

FIELD = (4, 6)
"""Control points of a bend along the height and the width of an image; the outer ones lie on its borders."""


@dataclass(frozen=True, kw_only=True)
class SimulatedDepthConfig:
    """True depth of a world with a network's faults, which multiply. Zero switches a fault off.

    The defaults are `realistic`; `perfect` has no faults and `poor` is far worse.
    """

    root: Path
    """Folder of the world, with its truth layers."""
    seed: int = 0
    """Chance depends on the seed, the frame's token, its scene and the camera, on nothing else."""
    scene_scale: float = 0.03
    """Spread of a camera's scale that stays the same for a whole scene, standard deviation of its logarithm (0..1):
    what averaging over frames cannot remove."""
    image_scale: float = 0.04
    """Spread of an image's scale, standard deviation of its logarithm (0..1)."""
    field: float = 0.05
    """Spread of the control points of a smooth bend, 4 x 6 an image and linear in between, standard deviation of
    their logarithm (0..1)."""
    noise: float = 0.02
    """Noise of each pixel, standard deviation of its logarithm (0..1)."""
    bleed: float = 0.7
    """Share of the pixels at a step of depth that lie between the two sides (0..1), anywhere between."""
    bleed_above: float = 2.0
    """Two neighbouring pixels make a step if their depths differ by more than this, metres (above 0)."""
    sky: float = 100.0
    """How far the sky seems where it borders on a thing, metres: pixels of sky bleed, too. 0 leaves it out."""

    def __post_init__(self) -> None:
        for name in ("scene_scale", "image_scale", "field", "noise", "bleed"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ConfigError(f"SimulatedDepth: {name} {getattr(self, name)} must lie in 0..1")
        if not self.sky >= 0.0:
            raise ConfigError(f"SimulatedDepth: sky {self.sky} must not be negative")
        if not self.bleed_above > 0.0:
            raise ConfigError(f"SimulatedDepth: bleed_above {self.bleed_above} must be above 0")

    @classmethod
    def perfect(cls, root: Path) -> "SimulatedDepthConfig":
        """Return the setting without faults."""
        return cls(root=root, scene_scale=0.0, image_scale=0.0, field=0.0, noise=0.0, bleed=0.0)

    @classmethod
    def realistic(cls, root: Path) -> "SimulatedDepthConfig":
        """Return the defaults: a large network on a data set it has not seen."""
        return cls(root=root)

    @classmethod
    def poor(cls, root: Path) -> "SimulatedDepthConfig":
        """Return a network that is off by a quarter or so."""
        return cls(root=root, scene_scale=0.12, image_scale=0.12, field=0.15, noise=0.05, bleed=1.0, bleed_above=1.0)

    def build(self) -> "SimulatedDepth":
        """Return the estimator."""
        return SimulatedDepth(self)


class SimulatedDepth:
    """See `SimulatedDepthConfig`.

    Steps bleed first, on the true depth; then scales, bend and noise multiply. Where a world has nothing (the sky) the
    depth is 0, but beside a thing, where networks blur the outline: such pixels are anywhere between it and the sky.
    """

    def __init__(self, config: SimulatedDepthConfig) -> None:
        self.config = config

    @property
    def description(self) -> dict[str, Any]:
        """Name and settings; not where the world lies."""
        return {"depth": "simulated"} | settings_of(self.config)

    def estimate(
        self, images: UInt8[Tensor, "n 3 h w"], *, cameras: Cameras, token: str, names: Sequence[str]
    ) -> Float[Tensor, "n h w"]:
        """Estimate depth of a frame of the world, images as they are stored. See `DepthEstimator.estimate`.

        Raises:
            DataError: if the world has no truth layers of this frame, camera and image size.
        """
        check_depth_request(images, cameras, token, names)
        size = (images.shape[-2], images.shape[-1])
        scene = find_frame(self.config.root, token).parent.name
        maps = [self._estimate(scene, token, name, size) for name in names]
        return torch.from_numpy(np.stack(maps).astype(np.float32)).to(images.device)

    def _estimate(self, scene: str, token: str, camera: str, size: tuple[int, int]) -> Depths:
        config = self.config
        depth = read_truth(config.root, token, camera, size=size).depth.astype(np.float64)
        if config.bleed > 0:
            depth = _bleed(depth, config, chance(config.seed, token, camera, "bleed"))
        wrong = config.scene_scale * chance(config.seed, scene, camera, "scene_scale").normal()
        wrong += config.image_scale * chance(config.seed, token, camera, "image_scale").normal()
        wrong = wrong + config.field * _bend(size, chance(config.seed, token, camera, "field"))
        wrong += config.noise * chance(config.seed, token, camera, "noise").normal(size=size)
        return depth * np.exp(wrong)


def _bend(size: tuple[int, int], rng: np.random.Generator) -> Depths:
    points = torch.from_numpy(rng.normal(size=(1, 1, *FIELD)))
    return functional.interpolate(points, size, mode="bilinear", align_corners=True)[0, 0].numpy()


def _bleed(depth: Depths, config: SimulatedDepthConfig, rng: np.random.Generator) -> Depths:
    """Move pixels at a step some of the way to the neighbour across the largest step they touch."""
    if config.sky > 0:
        sky = depth == 0
        filled = _bleed(np.where(sky, config.sky, depth), replace(config, sky=0.0), rng)
        return np.where(sky & (filled == config.sky), 0.0, filled)
    padded = np.pad(depth, 1)
    neighbours = np.stack([padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]])
    steps = np.where((depth > 0) & (neighbours > 0), np.abs(neighbours - depth), 0.0)
    across = np.take_along_axis(neighbours, steps.argmax(0)[None], 0)[0]
    moved = (steps.max(0) > config.bleed_above) & (rng.random(depth.shape) < config.bleed)
    return np.where(moved, depth + rng.random(depth.shape) * (across - depth), depth)
