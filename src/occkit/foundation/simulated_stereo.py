"""A stand-in for stereo networks on procedural worlds: true depth, wrong as disparity is.

Source: original. The faults are those of stereo matching: an error of the disparity, which grows with the square of the
distance, pixels that are matched with nothing like them, and holes beside a near thing's border.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from occkit.errors import ConfigError
from occkit.foundation.chance import chance
from occkit.foundation.depth import check_depth_request
from occkit.foundation.truth import read_truth, settings_of
from occkit.geometry import Cameras

Depths = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class SimulatedStereoConfig:
    """True depth of a world with a stereo network's faults. Zero switches a fault off.

    The defaults are `realistic`; `perfect` has no faults and `poor` is far worse.
    """

    root: Path
    """Folder of the world, with its truth layers."""
    seed: int = 0
    """Chance depends on the seed, the frame's token and the camera, on nothing else."""
    baseline: float = 0.54
    """Distance between the two cameras, metres (KITTI's; above 0)."""
    noise: float = 0.5
    """Standard deviation of the disparity, pixels of an image that is `matched_width` wide (0..10)."""
    matched_width: int = 1241
    """Width of the images that are matched, pixels (KITTI's; at least 1): a smaller image is a smaller copy of one, and
    its disparity as much more exact in its own pixels."""
    speckle: float = 0.05
    """Share of the pixels that are matched anywhere between the nearest and the farthest of the image (0..1)."""
    holes: float = 1.0
    """Probability that a pixel beside a step in depth has none (0..1)."""
    step: float = 0.1
    """A step is so much of the smaller depth between neighbours (above 0)."""

    def __post_init__(self) -> None:
        for name, high in {"noise": 10, "speckle": 1, "holes": 1}.items():
            if not 0.0 <= getattr(self, name) <= high:
                raise ConfigError(f"SimulatedStereo: {name} {getattr(self, name)} must lie in 0..{high}")
        for name in ("baseline", "step", "matched_width"):
            if not getattr(self, name) > 0.0:
                raise ConfigError(f"SimulatedStereo: {name} {getattr(self, name)} must be above 0")

    @classmethod
    def perfect(cls, root: Path) -> "SimulatedStereoConfig":
        """Return the setting without faults."""
        return cls(root=root, noise=0.0, speckle=0.0, holes=0.0)

    @classmethod
    def realistic(cls, root: Path) -> "SimulatedStereoConfig":
        """Return the defaults."""
        return cls(root=root)

    @classmethod
    def poor(cls, root: Path) -> "SimulatedStereoConfig":
        """Return a matcher that is off by three pixels, and anywhere in a fifth of the image."""
        return cls(root=root, noise=3.0, speckle=0.2)

    def build(self) -> "SimulatedStereo":
        """Return the estimator."""
        return SimulatedStereo(self)


class SimulatedStereo:
    """See `SimulatedStereoConfig`: `z' = f B / (f B / z + noise)`; what has no depth (the sky) has none."""

    def __init__(self, config: SimulatedStereoConfig) -> None:
        self.config = config

    @property
    def description(self) -> dict[str, Any]:
        """Name and settings; not where the world lies."""
        return {"depth": "simulated_stereo"} | settings_of(self.config)

    def estimate(
        self, images: UInt8[Tensor, "n 3 h w"], *, cameras: Cameras, token: str, names: Sequence[str]
    ) -> Float[Tensor, "n h w"]:
        """Estimate depth of a frame of the world, images as they are stored. See `DepthEstimator.estimate`.

        Raises:
            DataError: if the world has no truth layers of this frame, camera and image size.
        """
        check_depth_request(images, cameras, token, names)
        size = (images.shape[-2], images.shape[-1])
        focal = cameras.intrinsics[:, 0, 0].tolist()
        maps = [self._estimate(token, name, size, f) for name, f in zip(names, focal, strict=True)]
        return torch.from_numpy(np.stack(maps).astype(np.float32)).to(images.device)

    def _estimate(self, token: str, camera: str, size: tuple[int, int], focal: float) -> Depths:
        config = self.config
        true = read_truth(config.root, token, camera, size=size).depth.astype(np.float64)
        known = true > 0
        if not known.any():
            return true
        disparity = focal * config.baseline / np.where(known, true, 1.0)
        low, high = float(disparity[known].min()), float(disparity[known].max())
        noise = config.noise * size[1] / config.matched_width
        disparity = disparity + noise * chance(config.seed, token, camera, "disparity").normal(size=size)
        rng = chance(config.seed, token, camera, "speckle")
        wrong = rng.random(size) < config.speckle
        disparity = np.where(wrong, rng.uniform(low, high, size), disparity)
        # Nothing is farther than half of the smallest disparity says.
        depth = focal * config.baseline / np.maximum(disparity, 0.5 * low)
        rng = chance(config.seed, token, camera, "holes")
        lost = _at_steps(true, config.step) & (rng.random(size) < config.holes)
        return np.where(known & ~lost, depth, 0.0)


def _at_steps(depth: Depths, step: float) -> npt.NDArray[np.bool_]:
    """Return the farther pixels of neighbours whose depths differ by more than a share of the smaller."""
    padded = np.pad(depth, 1)
    around = np.stack([padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]])
    return np.asarray(((around > 0) & (depth > around * (1 + step))).any(axis=0), dtype=np.bool_)
