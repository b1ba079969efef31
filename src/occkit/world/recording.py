"""What the sensors record of a scene at a time, and what is true then. Nothing here knows a file format."""

import math
import re
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

from occkit.geometry.cameras import undistort
from occkit.world.labels import Volume, VoxelWords, seen_by_camera, seen_by_scanner, voxelise
from occkit.world.presets import WorldConfig
from occkit.world.primitives import Floats
from occkit.world.render import Exposure, Lens, Picture, render
from occkit.world.scene import Scene
from occkit.world.tracing import GROUND, MISS, Tracer
from occkit.world.words import WORDS, plural

FIRST_FRAME = 1.0
"""Scene time of the first keyframe, seconds: cameras expose, and past sweeps lie, a little before a frame."""


@dataclass(frozen=True, kw_only=True)
class Shot:
    """One image."""

    time: float
    """Of exposure, seconds of scene time."""
    global_from_ego: Floats
    """`[4, 4]` ego pose at exposure."""
    picture: Picture
    """Pixels and truth."""


@dataclass(frozen=True, kw_only=True)
class Scan:
    """One turn of the LiDAR, taken as instantaneous."""

    time: float
    """Seconds of scene time."""
    global_from_ego: Floats
    """`[4, 4]` ego pose."""
    points: npt.NDArray[np.float32]
    """`[n, 5]` x, y, z (metres, LiDAR axes), intensity 0..1, ring."""
    word: npt.NDArray[np.uint8]
    """`[n]` what was hit."""
    instance: npt.NDArray[np.uint16]
    """`[n]` whose it is, 0 for stuff."""
    moving: npt.NDArray[np.bool_]
    """`[n]` whether it moves."""


@dataclass(frozen=True, kw_only=True)
class Truth:
    """Labels of one keyframe."""

    voxels: VoxelWords
    """What every voxel is, at the LiDAR's time in its ego frame."""
    mask_camera: Volume
    """Passed or hit by a pixel's ray."""
    mask_lidar: Volume
    """Passed or hit by a beam."""


def keyframe_time(config: WorldConfig, frame: int) -> float:
    """Return the scene time (seconds) of a keyframe's LiDAR scan."""
    return FIRST_FRAME + frame * config.frame_interval


def sweep_times(config: WorldConfig, frame: int) -> list[float]:
    """Return the times of the sweeps between a keyframe and the next."""
    step = config.frame_interval / (config.sweeps + 1)
    return [keyframe_time(config, frame) + (i + 1) * step for i in range(config.sweeps)]


def _stamp(time: float) -> int:
    return round(time * 1e6)


def shoot(scene: Scene, config: WorldConfig, index: int, time: float) -> Shot:
    """Expose one camera of the rig for the frame or sweep at `time`; its own delay is added."""
    camera = config.rig.cameras[index]
    moment = time + camera.delay
    ego = scene.global_from_ego(moment, config.rig.ground_clearance)
    rng = np.random.default_rng((scene.look.seed, index, _stamp(time)))
    of_scene = np.random.default_rng((scene.look.seed, 7)).normal()
    # Most of an exposure's error is that of the drive, the rest differs from image to image.
    gain = float(np.exp(config.gain_spread * (0.8 * of_scene + 0.3 * rng.normal())))
    exposure = Exposure(
        gain=gain,
        noise=config.sensor_noise * (2.0 if scene.look.weather == "night" else 1.0),
        seed=int(rng.integers(2**31)),
        texture=config.texture,
        shadows=config.shadows,
        supersample=config.supersample,
    )
    lens = Lens(
        intrinsics=camera.intrinsics,
        global_from_camera=ego @ camera.ego_from_camera,
        height=config.rig.height,
        width=config.rig.width,
    )
    tracer = Tracer.build(scene.solids(moment), scene.ground)
    if not camera.distortion:
        picture = render(tracer, lens, scene.look, scene.street, exposure)
    else:
        wide, row, column = unbent(lens, camera.distortion)
        flat = render(tracer, wide, scene.look, scene.street, replace(exposure, supersample=1))
        layers = {name: layer[row, column] for name, layer in vars(flat).items()}
        picture = Picture(**layers)
    return Shot(time=moment, global_from_ego=ego, picture=picture)


def unbent(lens: Lens, distortion: tuple[float, ...]) -> tuple[Lens, npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return a pinhole that sees all that a bent lens sees, and which of its pixels each pixel of that lens shows.

    Both look the same way from the same place, so that a pixel's z-depth is the same in both. The pinhole's pixels are
    half as wide as those in the middle of the bent image, where they are finest.

    Args:
        lens: intrinsics, pose and size of the bent image.
        distortion: its coefficients.

    Returns:
        The pinhole, and row and column in its image, `[h, w]` each.
    """
    u, v = np.meshgrid(np.arange(lens.width) + 0.5, np.arange(lens.height) + 0.5)
    rays = np.stack([u, v, np.ones_like(u)], axis=-1) @ np.linalg.inv(lens.intrinsics).T
    flat = undistort(torch.from_numpy(rays[..., :2].reshape(-1, 2)), torch.tensor(distortion, dtype=torch.float64))
    x, y = flat.numpy().reshape(*u.shape, 2).transpose(2, 0, 1)
    focal = 2 * float(lens.intrinsics[0, 0])
    left, top = math.ceil(-x.min() * focal) + 1, math.ceil(-y.min() * focal) + 1
    column, row = (np.floor(side * focal + shift).astype(np.int64) for side, shift in ((x, left), (y, top)))
    wide = replace(
        lens,
        intrinsics=np.array([[focal, 0.0, left], [0.0, focal, top], [0.0, 0.0, 1.0]]),
        height=int(row.max()) + 1,
        width=int(column.max()) + 1,
    )
    return wide, row, column


def scan(scene: Scene, config: WorldConfig, time: float) -> Scan:
    """Turn the LiDAR once."""
    lidar = config.rig.lidar
    ego = scene.global_from_ego(time, config.rig.ground_clearance)
    pose = ego @ lidar.ego_from_lidar
    tracer = Tracer.build(scene.solids(time), scene.ground)
    local = lidar.directions()
    t, hit = tracer.trace(np.broadcast_to(pose[:3, 3], local.shape), local @ pose[:3, :3].T, lidar.reach)
    rng = np.random.default_rng((scene.look.seed, 1000, _stamp(time)))
    lost = lidar.dropout + (0.25 + 10 * scene.look.haze) * (t / lidar.reach) ** 2
    kept = np.flatnonzero((hit != MISS) & (rng.random(len(t)) >= lost))
    t, hit, local = t[kept], hit[kept], local[kept]
    ground = tracer.ground.index((local @ pose[:3, :3].T * t[:, None] + pose[:3, 3])[:, :2])
    of_ground, solid = hit == GROUND, np.maximum(hit, 0)
    solids = tracer.solids
    word = np.where(of_ground, tracer.ground.words[ground], solids.word[solid]).astype(np.uint8)
    albedo = np.where(of_ground, scene.look.palette[word].mean(1), solids.colour[solid, :3].mean(1))
    intensity = np.clip(albedo * np.exp(-t / 60) * rng.uniform(0.6, 1.1, len(t)), 0.0, 1.0)
    ranges = t + rng.normal(0, lidar.noise, len(t))
    ring = kept // lidar.azimuths
    points = np.concatenate([local * ranges[:, None], intensity[:, None], ring[:, None]], axis=1)
    return Scan(
        time=time,
        global_from_ego=ego,
        points=points.astype(np.float32),
        word=word,
        instance=np.where(of_ground, 0, solids.instance[solid]).astype(np.uint16),
        moving=~of_ground & solids.moving[solid],
    )


def label(scene: Scene, config: WorldConfig, time: float, shots: list[Shot]) -> Truth:
    """Label the volume of a keyframe and find what its sensors saw of it."""
    rig, grid = config.rig, config.grid
    ego = scene.global_from_ego(time, rig.ground_clearance)
    voxels = voxelise(scene.solids(time), scene.ground, grid, ego)
    inverse = np.linalg.inv(ego)
    stride = max(1, rig.width // 400)
    by_camera = np.zeros(grid.shape, np.bool_)
    for camera, shot in zip(rig.cameras, shots, strict=True):
        pose = inverse @ shot.global_from_ego @ camera.ego_from_camera
        by_camera |= seen_by_camera(grid, camera.intrinsics, pose, shot.picture.depth, stride)
    tracer, viewpoint = Tracer.build(scene.solids(time), scene.ground), ego @ rig.lidar.ego_from_lidar
    by_lidar = seen_by_scanner(tracer, grid, ego, viewpoint, rig.lidar.directions())
    return Truth(voxels=voxels, mask_camera=by_camera, mask_lidar=by_lidar)


def counts_in_view(scene: Scene, config: WorldConfig, time: float, shots: list[Shot]) -> dict[str, int]:
    """Count the objects of a keyframe by word: those inside the label volume that have a pixel in an image."""
    visible = set()
    for shot in shots:
        visible.update(np.unique(shot.picture.instance).tolist())
    ego = np.linalg.inv(scene.global_from_ego(time, config.rig.ground_clearance))
    positions, _ = scene.fleet.poses(time)
    local = positions @ ego[:3, :3].T + ego[:3, 3]
    low, high = np.array(config.grid.origin), np.array(config.grid.upper)
    inside = np.all(((local >= low) & (local < high))[:, :2], axis=1)
    counts: dict[str, int] = {}
    for thing in scene.things:
        if inside[thing.instance - 1] and thing.instance in visible:
            name = WORDS[thing.word].name
            counts[name] = counts.get(name, 0) + 1
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


_WEATHER = {"sun": "on a sunny day", "overcast": "under an overcast sky", "night": "at night", "fog": "in fog"}
_COURSE = {
    "straight": "a straight street",
    "left": "a street bending left",
    "right": "a street bending right",
    "cross": "a street with a crossing",
}
_ROADSIDE = {"buildings": "lined with buildings", "trees": "lined with trees", "mixed": "with buildings and trees"}


def caption(scene: Scene, counts: dict[str, int]) -> str:
    """Say a frame in one line: course, roadside, weather, and how many of what are in view."""
    street = f"{_COURSE[scene.street.course]} {_ROADSIDE[scene.street.roadside]} {_WEATHER[scene.look.weather]}"
    if not counts:
        return f"{street}, empty"
    return f"{street}, with {', '.join(plural(name, count) for name, count in counts.items())}"


def caption_words(most: int = 60) -> tuple[str, ...]:
    """Return every word that a caption of this world may have, sorted; of numbers those up to `most`."""
    phrases = [*_WEATHER.values(), *_COURSE.values(), *_ROADSIDE.values(), "empty with"]
    phrases += [plural(word.name, count) for word in WORDS if word.counted for count in (1, 2)]
    numbers = {str(count) for count in range(1, most + 1)}
    return tuple(sorted({word for phrase in phrases for word in re.findall(r"\w+", phrase.lower())} | numbers))
