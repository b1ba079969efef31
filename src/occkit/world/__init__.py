"""The procedural world: seeded streets and rooms written to disk in the real formats."""

from occkit.world.generate import generate
from occkit.world.presets import PRESETS, ROOM_PRESETS, WorldConfig
from occkit.world.room_scene import RoomConfig

__all__ = ["PRESETS", "ROOM_PRESETS", "RoomConfig", "WorldConfig", "generate"]
