"""Frames of the nano world written to disk a second, and its tracing against every ray trying every solid in torch."""

import os
import resource
import shutil
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from benchmarks.measure import Row, compare, measure_pair
from occkit.world import PRESETS, generate
from occkit.world.primitives import BALL, BOX, CONE, ROOF, Primitives
from occkit.world.streets import make_scene
from occkit.world.tracing import Tracer

NAME = "world"
FRAMES, SCENES, WORKERS = 20, 10, 2
RAYS = 4000


def run() -> list[Row]:
    """Write a data set with two processes, then trace camera rays in both forms."""
    return [*_written(), *_traced()]


def _cpu_seconds() -> float:
    return sum(
        usage.ru_utime + usage.ru_stime
        for usage in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


def _written() -> list[Row]:
    config = replace(PRESETS["nano"], frames=FRAMES)
    folder = Path(tempfile.mkdtemp())
    try:
        generate(replace(config, frames=1), folder / "warm", num_scenes=2, workers=WORKERS)
        # The start of two processes, which import torch, is measured with a single frame each and left out.
        start, cpu = time.perf_counter(), _cpu_seconds()
        generate(replace(config, frames=1), folder / "start", num_scenes=2, workers=WORKERS)
        start, cpu = time.perf_counter() - start, _cpu_seconds() - cpu
        wall, work = time.perf_counter(), _cpu_seconds()
        generate(config, folder / "world", num_scenes=SCENES, workers=WORKERS)
        wall, work = time.perf_counter() - wall, _cpu_seconds() - work
        size = sum(path.stat().st_size for path in (folder / "world").rglob("*") if path.is_file())
    finally:
        shutil.rmtree(folder)
    frames = FRAMES * SCENES
    speed = (frames - 2) / (wall - start)
    return [
        Row(
            name=NAME,
            what="nano frames written to disk",
            shapes=f"100x100x8 voxels, 6 images of 64x176, LiDAR, {WORKERS} processes",
            dtype="float64",
            ours=speed,
            unit="frames/s",
            target=">= 20 frames/s",
            reached=speed >= 20,
            extra={
                "with_start_of_processes": frames / wall,
                "frames_per_cpu_second": (frames - 2) / (work - cpu),
                "load_average": os.getloadavg()[0],
                "kilobytes_per_frame": size / frames / 1024,
            },
        )
    ]


def _traced() -> list[Row]:
    config = PRESETS["nano"]
    scene = make_scene(config, "scene-0001", (0, 0, 0))
    solids = scene.solids(1.0)
    tracer = Tracer.build(solids, scene.ground)
    pose = scene.global_from_ego(1.0, 0.0) @ config.rig.cameras[0].ego_from_camera
    rng = np.random.default_rng(0)
    local = np.concatenate(
        [rng.uniform(-0.7, 0.7, (RAYS, 1)), rng.uniform(-0.3, 0.15, (RAYS, 1)), np.ones((RAYS, 1))], 1
    )
    origins, directions = np.tile(pose[:3, 3], (RAYS, 1)), local @ pose[:3, :3].T
    t, hit = tracer.trace(origins, directions, 60.0)
    plain_t, plain_hit = _every_solid(solids, origins, directions)
    on_solid = hit >= 0
    if not (np.allclose(t[on_solid], plain_t[on_solid]) and np.mean(hit[on_solid] == plain_hit[on_solid]) > 0.999):
        raise AssertionError("world: the cells and the loop over all solids disagree")
    ours, plain = measure_pair(
        lambda: tracer.trace(origins, directions, 60.0),
        lambda: _every_solid(solids, origins, directions),
        repeats=3,
    )
    shapes = f"{RAYS} rays, {len(solids)} solids"
    facts = {"million_rays_a_second": RAYS / ours / 1e6, "share_on_solids": float(on_solid.mean())}
    return [compare(NAME, "rays traced", ours, plain, at_least=10, shapes=shapes, dtype="float64", **facts)]


def _every_solid(solids: Primitives, origins: np.ndarray, directions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The plain form: intersect every ray with every solid, a few hundred rays at a time."""
    inverse = torch.from_numpy(np.swapaxes(solids.rotation, 1, 2) / solids.half[:, :, None])
    center, kind = torch.from_numpy(solids.center), torch.from_numpy(solids.kind)
    best, which = [], []
    for o, d in zip(torch.from_numpy(origins).split(250), torch.from_numpy(directions).split(250), strict=True):
        local_o = torch.einsum("nij,rnj->rni", inverse, o[:, None] - center)
        local_d = torch.einsum("nij,rj->rni", inverse, d)
        t, index = _unit_hits(kind, local_o, local_d).min(dim=1)
        best.append(t)
        which.append(index)
    return torch.cat(best).numpy(), torch.cat(which).numpy()


def _unit_hits(kind: torch.Tensor, o: torch.Tensor, d: torch.Tensor) -> torch.Tensor:
    """Entry parameters `[r, n]` into unit solids, infinite where a ray misses."""
    never = torch.full_like(o[..., 0], torch.inf)
    ends = torch.stack([(-1 - o) / d, (1 - o) / d])
    near, far = ends.amin(0).amax(-1), ends.amax(0).amin(-1)
    box = torch.where((near <= far) & (near > 0), near, never)
    a, b, c = (d * d).sum(-1), (o * d).sum(-1), (o * o).sum(-1) - 1
    root = b * b - a * c
    ball = torch.where(root > 0, (-b - root.clamp(min=0).sqrt()) / a, never)
    ball = torch.where(ball > 0, ball, never)
    return torch.where(
        kind == BOX,
        box,
        torch.where(kind == BALL, ball, torch.where(kind == ROOF, _roof(o, d, near, far), _round(kind, o, d))),
    )


def _round(kind: torch.Tensor, o: torch.Tensor, d: torch.Tensor) -> torch.Tensor:
    cone = (kind == CONE).to(o.dtype)
    mean, fall = 1 - 0.425 * cone, 0.425 * cone
    radius, slope = mean - fall * o[..., 2], -fall * d[..., 2]
    a = d[..., 0] ** 2 + d[..., 1] ** 2 - slope**2
    b = o[..., 0] * d[..., 0] + o[..., 1] * d[..., 1] - radius * slope
    root = b * b - a * (o[..., 0] ** 2 + o[..., 1] ** 2 - radius**2)
    found = torch.full_like(a, torch.inf)
    for sign in (-1, 1):
        t = (-b + sign * root.clamp(min=0).sqrt()) / a
        found = torch.where(
            (root > 0) & (t > 0) & ((o[..., 2] + t * d[..., 2]).abs() <= 1), torch.minimum(t, found), found
        )
    for z in (-1.0, 1.0):
        t = (z - o[..., 2]) / d[..., 2]
        within = ((o[..., :2] + t[..., None] * d[..., :2]) ** 2).sum(-1) <= (mean - fall * z) ** 2
        found = torch.where(within & (t > 0), torch.minimum(t, found), found)
    return found


def _roof(o: torch.Tensor, d: torch.Tensor, near: torch.Tensor, far: torch.Tensor) -> torch.Tensor:
    for side in (-2.0, 2.0):
        speed = d[..., 2] + side * d[..., 1]
        t = (1 - o[..., 2] - side * o[..., 1]) / speed
        near = torch.where(speed < 0, torch.maximum(near, t), near)
        far = torch.where(speed > 0, torch.minimum(far, t), far)
    return torch.where((near < far) & (near > 0), near, torch.inf)
