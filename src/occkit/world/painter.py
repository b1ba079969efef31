"""Colours, and how typical of their class they are drawn."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from occkit.world.primitives import Floats, Part

BLACK = np.array([0.06, 0.06, 0.07])
GLASS = np.array([0.16, 0.21, 0.26])
GREY = np.array([0.45, 0.45, 0.46])
WHITE = np.array([0.88, 0.88, 0.86])
RED = np.array([0.75, 0.1, 0.08])
YELLOW = np.array([0.85, 0.68, 0.08])
ORANGE = np.array([0.92, 0.4, 0.06])
WOOD = np.array([0.36, 0.25, 0.16])
SKIN = np.array([0.72, 0.52, 0.4])


@dataclass(frozen=True)
class Painter:
    """Draws colours; how typical they are for their class is a knob of the world."""

    rng: np.random.Generator
    """Source of every random choice of the object."""
    overlap: float
    """0: an object has the colours of its class; 1: any object has any colour."""

    def typical(self, base: Floats, spread: float = 0.06) -> Floats:
        """Return a colour near `base`, pulled towards a random one by the overlap knob."""
        own = base * self.rng.uniform(0.8, 1.15) + self.rng.normal(0.0, spread, 3)
        return np.clip((1 - self.overlap) * own + self.overlap * self.anything(), 0.02, 0.98)

    def anything(self) -> Floats:
        """Return a colour that says nothing about the class: mostly greys, some strong paints."""
        if self.rng.random() < 0.5:
            return np.clip(self.rng.uniform(0.06, 0.9) + self.rng.normal(0.0, 0.03, 3), 0.02, 0.98)
        return self.rng.uniform(0.05, 0.85, 3)

    def size(self, low: float, high: float) -> float:
        """Return a length in metres."""
        return float(self.rng.uniform(low, high))


Maker = Callable[[Painter], list[Part]]
