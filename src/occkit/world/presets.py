"""The knobs of the world, and the settings they come in."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Literal

from occkit.geometry import KITTI_GRID, OCC3D_GRID, VoxelGrid
from occkit.world.room_scene import RoomConfig
from occkit.world.sensors import Rig, kitti_rig, own_car_rig, surround_rig

Street = Literal["mixed", "straight", "left", "right", "cross"]
Weather = Literal["mixed", "sun", "overcast", "night", "fog"]
Roadside = Literal["mixed", "buildings", "trees"]


@dataclass(frozen=True, kw_only=True)
class WorldConfig:
    """Everything that decides what a scene contains and how it is recorded."""

    grid: VoxelGrid
    """Label volume, in the ego frame at the LiDAR's time."""
    rig: Rig = field(default_factory=lambda: surround_rig(64, 176, beams=24, azimuths=360))
    """Cameras and LiDAR."""
    frames: int = 20
    """Keyframes a scene."""
    frame_interval: float = 0.5
    """Time between keyframes, seconds."""
    sweeps: int = 0
    """Camera and LiDAR recordings between two keyframes, evenly spaced; labels belong to keyframes only."""
    street: Street = "mixed"
    """Course of the road; a cross has a junction in view, the others sometimes have one elsewhere."""
    weather: Weather = "mixed"
    """Light and air."""
    roadside: Roadside = "mixed"
    """What lines the road."""
    traffic: float = 1.0
    """How many vehicles, against the usual number; 0 is an empty street."""
    crowd: float = 1.0
    """How many people, against the usual number."""
    long_tail: float = 1.0
    """How many objects that taxonomies do not name, against the usual number."""
    moving_share: float = 0.5
    """Share of people and of vehicles on the lanes that move; parked vehicles always stand."""
    speed: tuple[float, float] = (4.0, 9.0)
    """Range of the ego vehicle's mean speed, metres per second."""
    relief: float = 1.0
    """Height of the ground's waves, against the usual decimetres; 0 is a plane."""
    colour_overlap: float = 0.35
    """How little colour says about class: 0 typical colours only, 1 any object has any colour."""
    texture: float = 1.0
    """Strength of surface textures; 0 leaves flat colours."""
    sensor_noise: float = 0.02
    """Standard deviation of pixel noise, of full scale, at daylight gain."""
    gain_spread: float = 0.25
    """Spread (log-normal) of the exposure gain from image to image."""
    shadows: bool = False
    """Trace shadows of the sun: a second ray a pixel."""
    supersample: int = 1
    """Rays a pixel along each axis, averaged into the colour; truth layers always take the pixel centre."""
    truth: bool = True
    """Write depth, word and instance layers of every keyframe image into `truth/`."""
    outliers: float = 0.0
    """Share of occupied voxels relabelled as outliers (SemanticKITTI id 1; ignored in evaluation)."""

    def __post_init__(self) -> None:
        if self.frames < 1 or self.sweeps < 0 or self.supersample < 1:
            raise ValueError("WorldConfig: frames and supersample must be at least 1 and sweeps at least 0")
        for name in ("traffic", "crowd", "long_tail", "relief", "texture", "sensor_noise", "gain_spread"):
            if not 0 <= getattr(self, name) <= 10:
                raise ValueError(f"WorldConfig: {name} must lie in 0..10, got {getattr(self, name)}")
        for name in ("colour_overlap", "moving_share", "outliers"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"WorldConfig: {name} must lie in 0..1, got {getattr(self, name)}")
        if not 0 <= self.speed[0] <= self.speed[1] <= 30:
            raise ValueError(f"WorldConfig: speed must be a range within 0..30 m/s, got {self.speed}")


def nano() -> WorldConfig:
    """Occ3D's volume at 0.8 m and six 64 x 176 images: what two cores can learn from in minutes."""
    return WorldConfig(grid=VoxelGrid.from_range((-40, -40, -1), (40, 40, 5.4), 0.8))


def front_nano() -> WorldConfig:
    """One 64 x 176 camera and the 32 m ahead of it at 0.8 m, in nuScenes' layout: hundreds of streets in minutes."""
    rig = surround_rig(64, 176, beams=24, azimuths=360)
    ahead = tuple(camera for camera in rig.cameras if camera.name == "CAM_FRONT")
    return WorldConfig(
        grid=VoxelGrid.from_range((0, -16, -1), (32, 16, 5.4), 0.8), rig=replace(rig, cameras=ahead), frames=2
    )


def own_car() -> WorldConfig:
    """Four 96 x 160 fisheye cameras on a van and the near 38 m around it at 0.8 m: a rig unlike any data set's."""
    return WorldConfig(
        grid=VoxelGrid.from_range((-19.2, -19.2, -1), (19.2, 19.2, 5.4), 0.8), rig=own_car_rig(96, 160), frames=30
    )


def occ3d() -> WorldConfig:
    """Occ3D as it is: 0.4 m voxels, six 1600 x 900 images, 32 beams."""
    return WorldConfig(
        grid=OCC3D_GRID, rig=surround_rig(900, 1600, beams=32, azimuths=1086), frames=40, sweeps=5, shadows=True
    )


def kitti() -> WorldConfig:
    """SemanticKITTI as it is: 0.2 m voxels, a stereo pair of 1241 x 376, 64 beams, a scan every 0.1 s."""
    rig = kitti_rig(376, 1241, beams=64, azimuths=1800)
    return WorldConfig(grid=KITTI_GRID, rig=rig, frames=40, sweeps=4, shadows=True, outliers=0.0005)


def kitti_nano() -> WorldConfig:
    """SemanticKITTI's volume at 0.8 m and a 64 x 208 stereo pair, voxel frames only."""
    return WorldConfig(
        grid=VoxelGrid.from_range((0, -25.6, -2), (51.2, 25.6, 4.4), 0.8),
        rig=kitti_rig(64, 208, beams=32, azimuths=450),
        outliers=0.0005,
    )


PRESETS: Mapping[str, WorldConfig] = MappingProxyType(
    {
        "nano": nano(),
        "front-nano": front_nano(),
        "own-car": own_car(),
        "occ3d": occ3d(),
        "kitti": kitti(),
        "kitti-nano": kitti_nano(),
    }
)
"""Preset name on the command line -> its settings; vary them with `dataclasses.replace`."""


def room() -> RoomConfig:
    """NYUv2 as it is: one 640 x 480 image a room."""
    return RoomConfig()


def room_nano() -> RoomConfig:
    """NYUv2's rooms in images of 80 x 60; labels as large as ever."""
    return RoomConfig(height=60, supersample=2)


ROOM_PRESETS: Mapping[str, RoomConfig] = MappingProxyType({"room": room(), "room-nano": room_nano()})
"""Preset name -> its settings, for the layout of NYUv2."""
