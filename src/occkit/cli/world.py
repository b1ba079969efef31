"""Write a procedural data set in a real data set's layout."""

import os
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

from occkit.errors import ConfigError

if TYPE_CHECKING:
    from occkit.world.presets import WorldConfig
    from occkit.world.room_scene import RoomConfig


@dataclass(frozen=True, kw_only=True)
class Knobs:
    """What the world is like; each replaces the preset's value. Streets and rooms have some of them in common."""

    frames: int | None = None
    """Keyframes a scene."""
    sweeps: int | None = None
    """Camera and LiDAR recordings between two keyframes."""
    street: Literal["mixed", "straight", "left", "right", "cross"] | None = None
    """Course of the road."""
    weather: Literal["mixed", "sun", "overcast", "night", "fog"] | None = None
    """Light and air."""
    roadside: Literal["mixed", "buildings", "trees"] | None = None
    """What lines the road."""
    traffic: float | None = None
    """How many vehicles, 1 is usual."""
    crowd: float | None = None
    """How many people, 1 is usual."""
    long_tail: float | None = None
    """How many objects that taxonomies do not name, 1 is usual."""
    moving_share: float | None = None
    """Share of people and of traffic that moves."""
    relief: float | None = None
    """Height of the ground's waves, 1 is usual, 0 a plane."""
    room: (
        Literal["mixed", "bedroom", "living room", "dining room", "kitchen", "office", "bathroom", "meeting room"]
        | None
    ) = None
    """Kind of room."""
    light: Literal["mixed", "day", "evening"] | None = None
    """Light in a room."""
    clutter: float | None = None
    """How many things lie about in a room, 1 is usual."""
    colour_overlap: float | None = None
    """0: colours are typical of their class; 1: they say nothing."""
    texture: float | None = None
    """Strength of textures."""
    sensor_noise: float | None = None
    """Pixel noise, of full scale."""
    gain_spread: float | None = None
    """Spread of the exposure gain."""
    shadows: bool | None = None
    """Trace the shadows of the sun, or of a room's lights."""
    supersample: int | None = None
    """Rays a pixel along each axis."""
    truth: bool | None = None
    """Write per-image depth, class and instance layers for simulated teachers."""
    outliers: float | None = None
    """Share of occupied voxels relabelled as outliers."""


@dataclass(frozen=True, kw_only=True)
class Args:
    """Write a procedural data set in a real data set's layout."""

    out: Path
    """Data root to write; an interrupted one is continued."""
    format: Literal["nuscenes", "semantickitti", "nyuv2", "rig"] = "nuscenes"
    """Layout: nuScenes tables with Occ3D labels, SemanticKITTI sequences, rooms as SSCNet laid NYUv2 out, or drives of
    an own car, each a folder of rig.json without labels."""
    preset: Literal["nano", "front-nano", "occ3d", "own-car", "kitti", "kitti-nano", "room", "room-nano"] | None = None
    """Size of volume and images; by default nano, kitti-nano for SemanticKITTI, room-nano for NYUv2, own-car."""
    scenes: int = 12
    """Training and validation scenes together; in NYUv2's layout a scene is a room with one frame."""
    test_scenes: int = 0
    """Further scenes for testing; NYUv2 has none."""
    val_fraction: float = 0.2
    """Share of validation scenes; SemanticKITTI has at most one."""
    seed: int = 0
    """Of the whole data set."""
    workers: int = 0
    """Processes; 0 takes one a core."""
    image_scale: float = 1.0
    """Factor on the preset's image size."""
    radius: float | None = None
    """The label volume reaches so far to each side, metres, in whole voxels; the preset's by default (nuScenes)."""
    knobs: tyro.conf.OmitArgPrefixes[Knobs] = Knobs()


_PRESETS = {
    "nuscenes": ("nano", "front-nano", "occ3d"),
    "semantickitti": ("kitti-nano", "kitti"),
    "nyuv2": ("room-nano", "room"),
    "rig": ("own-car",),
}
"""Format -> its presets, the default first."""


def main(argv: list[str]) -> int:
    """Run the command."""
    args = tyro.cli(Args, args=argv, prog="occkit world", description=__doc__)
    preset = args.preset or _PRESETS[args.format][0]
    if preset not in _PRESETS[args.format]:
        raise ConfigError(f"preset {preset} does not fit format {args.format}; leave one of them out")
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from occkit.world.generate import generate

    config = configure(preset, args)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns) as bar:
        task = bar.add_task("scenes", total=args.scenes + args.test_scenes)
        generate(
            config,
            args.out,
            format=args.format,
            num_scenes=args.scenes,
            num_test=args.test_scenes,
            seed=args.seed,
            workers=args.workers or os.cpu_count() or 1,
            val_fraction=args.val_fraction,
            progress=lambda name, done, total: bar.update(task, completed=done, total=total, description=name),
        )
    frames = (args.scenes + args.test_scenes) * getattr(config, "frames", 1)
    print(f"{frames} frames of {args.scenes + args.test_scenes} scenes, {args.format} layout, in {args.out}")
    return 0


def configure(preset: str, args: Args) -> "WorldConfig | RoomConfig":
    """Return the preset with the knobs given on the command line.

    Raises:
        ConfigError: if the image scale is not positive, the radius is not one, or a knob belongs to another world.
    """
    from occkit.world.presets import PRESETS, ROOM_PRESETS
    from occkit.world.room_scene import RoomConfig
    from occkit.world.sensors import scaled

    if args.image_scale <= 0:
        raise ConfigError(f"--image-scale: expected a positive factor, got {args.image_scale}")
    base = ROOM_PRESETS[preset] if preset in ROOM_PRESETS else PRESETS[preset]
    given = {f.name: getattr(args.knobs, f.name) for f in fields(Knobs) if getattr(args.knobs, f.name) is not None}
    strange = [name for name in given if not hasattr(base, name)]
    if strange:
        option = strange[0].replace("_", "-")
        raise ConfigError(f"--{option}: preset {preset} has no such knob; leave it out")
    config = replace(base, **given)
    if args.radius is not None:
        config = _with_radius(config, args)
    if args.image_scale == 1.0:
        return config
    if isinstance(config, RoomConfig):
        return replace(config, height=max(3, 3 * round(config.height * args.image_scale / 3)))
    return replace(config, rig=scaled(config.rig, args.image_scale))


def _with_radius(config: "WorldConfig | RoomConfig", args: Args) -> "WorldConfig":
    from occkit.geometry import VoxelGrid
    from occkit.world.presets import WorldConfig

    reach = args.radius or 0.0
    if not isinstance(config, WorldConfig) or args.format != "nuscenes":
        raise ConfigError(f"--radius: only the nuScenes layout has volumes of any size, got {args.format}")
    size, low, high = config.grid.voxel_size[0], config.grid.origin[2], config.grid.upper[2]
    voxels = round(reach / size)
    if voxels < 1 or abs(voxels * size - reach) > 1e-6:
        raise ConfigError(f"--radius: expected whole voxels of {size:g} m, in the nuScenes layout, got {reach:g} m")
    return replace(config, grid=VoxelGrid.from_range((-reach, -reach, low), (reach, reach, high), size))
