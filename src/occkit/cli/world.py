"""Write a procedural data set in a real data set's layout."""

import os
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

from occkit.errors import ConfigError

if TYPE_CHECKING:
    from occkit.world.presets import WorldConfig


@dataclass(frozen=True, kw_only=True)
class Knobs:
    """What the world is like; each replaces the preset's value."""

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
    colour_overlap: float | None = None
    """0: colours are typical of their class; 1: they say nothing."""
    texture: float | None = None
    """Strength of textures."""
    sensor_noise: float | None = None
    """Pixel noise, of full scale."""
    gain_spread: float | None = None
    """Spread of the exposure gain."""
    shadows: bool | None = None
    """Trace the sun's shadows."""
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
    format: Literal["nuscenes", "semantickitti"] = "nuscenes"
    """Layout: nuScenes tables with Occ3D labels, or SemanticKITTI sequences."""
    preset: Literal["nano", "occ3d", "kitti", "kitti-nano"] | None = None
    """Size of volume and images; by default nano, or kitti-nano for SemanticKITTI."""
    scenes: int = 12
    """Training and validation scenes together."""
    test_scenes: int = 0
    """Further scenes for testing."""
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


def main(argv: list[str]) -> int:
    """Run the command."""
    args = tyro.cli(Args, args=argv, prog="occkit world", description=__doc__)
    preset = args.preset or ("nano" if args.format == "nuscenes" else "kitti-nano")
    if preset.startswith("kitti") != (args.format == "semantickitti"):
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
    frames = (args.scenes + args.test_scenes) * config.frames
    print(f"{frames} frames of {args.scenes + args.test_scenes} scenes, {args.format} layout, in {args.out}")
    return 0


def configure(preset: str, args: Args) -> "WorldConfig":
    """Return the preset with the knobs given on the command line.

    Raises:
        ConfigError: if the image scale is not positive, or the radius is not one.
    """
    from occkit.geometry import VoxelGrid
    from occkit.world.presets import PRESETS
    from occkit.world.sensors import scaled

    if args.image_scale <= 0:
        raise ConfigError(f"--image-scale: expected a positive factor, got {args.image_scale}")
    given = {f.name: getattr(args.knobs, f.name) for f in fields(Knobs)}
    config = replace(PRESETS[preset], **{name: value for name, value in given.items() if value is not None})
    if args.radius is not None:
        size, low, high = config.grid.voxel_size[0], config.grid.origin[2], config.grid.upper[2]
        voxels = round(args.radius / size)
        if args.format != "nuscenes" or voxels < 1 or abs(voxels * size - args.radius) > 1e-6:
            raise ConfigError(
                f"--radius: expected whole voxels of {size:g} m, in the nuScenes layout, got {args.radius:g} m"
            )
        reach = args.radius
        grid = VoxelGrid.from_range((-reach, -reach, low), (reach, reach, high), size)
        config = replace(config, grid=grid)
    return config if args.image_scale == 1.0 else replace(config, rig=scaled(config.rig, args.image_scale))
