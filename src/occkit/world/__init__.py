"""The procedural world: seeded streets written to disk in the real formats."""

from occkit.world.generate import generate
from occkit.world.presets import PRESETS, WorldConfig

__all__ = ["PRESETS", "WorldConfig", "generate"]
