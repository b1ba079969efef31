"""The label factory without its models: six images of 1600x900, every 4th pixel of every 4th row, 14 frames fused.

The plain forms are those one writes first, in numpy: all points in one array and one histogram of voxel and class; all
pixels of all images in space, of which some are then taken; cells sorted and looked up.
"""

import math
import os
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from benchmarks.measure import Row, measure, measure_pair, peak_resident
from occkit.geometry import OCC3D_GRID, Cameras
from occkit.geometry.rays import pixel_grid
from occkit.labels import (
    FusionConfig,
    LabelledPoints,
    LonelyPoints,
    StatisticalOutliers,
    back_project,
    fuse,
    read_points,
    write_points,
)
from occkit.labels.fusion import MOVERS
from occkit.labels.points import SKY_DISTANCE, UNIT
from occkit.ops.raycast import seen_voxels
from occkit.taxonomy import OCC3D

NAME = "labels"
HEIGHT, WIDTH, STRIDE = 900, 1600, 4
FRAMES, STEP = 14, 3.0
MOUNTED, NEAR_WALL, ROOF, KERB = 1.5, 12.0, 9.0, 5.0
"""Height of the cameras; how far aside the houses stand, how high they are, and where the sidewalk begins; metres."""

Posed = list[tuple[LabelledPoints, np.ndarray]]


def rig() -> Cameras:
    """Six cameras all around, with the focal lengths of nuScenes, 1.5 m above the road."""
    forward = torch.tensor([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])
    poses, lenses = [], []
    for degrees, focal in ((55, 1266), (0, 1266), (-55, 1266), (110, 1266), (180, 809), (-110, 1266)):
        c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
        pose = torch.eye(4)
        pose[:3, :3] = torch.tensor([[c, -s, 0], [s, c, 0], [0, 0, 1.0]]) @ forward
        pose[:3, 3] = torch.tensor([1.0, 0.0, MOUNTED])
        poses.append(pose)
        lenses.append(torch.tensor([[focal, 0, WIDTH / 2], [0, focal, HEIGHT / 2], [0, 0, 1.0]]))
    return Cameras(intrinsics=torch.stack(lenses), ego_from_camera=torch.stack(poses), height=HEIGHT, width=WIDTH)


def street(cameras: Cameras) -> tuple[torch.Tensor, torch.Tensor]:
    """Return depth and class of every pixel: a road with cars beside it, sidewalks, houses on both sides, the sky."""
    pixels = pixel_grid(HEIGHT, WIDTH).reshape(-1, 2).expand(6, -1, -1)
    origins = cameras.ego_from_camera[:, None, :3, 3]
    rays = cameras.unproject(pixels, torch.ones(pixels.shape[:2])) - origins
    never = torch.tensor(math.inf)
    ground = torch.where(rays[..., 2] < -1e-3, -MOUNTED / rays[..., 2], never)
    house = torch.where(rays[..., 1].abs() > 1e-3, NEAR_WALL / rays[..., 1].abs(), never)
    house = torch.where(MOUNTED + house * rays[..., 2] < ROOF, house, never)
    depth = torch.minimum(ground, house)
    x, y = ((origins + depth[..., None] * rays)[..., axis] for axis in (0, 1))
    ids = torch.full_like(depth, OCC3D.id_of("driveable_surface"), dtype=torch.uint8)
    ids[y.abs() > KERB] = OCC3D.id_of("sidewalk")
    ids[((y.abs() - KERB).abs() < 1) & (x % 8 < 5)] = OCC3D.id_of("car")
    ids[house < ground] = OCC3D.id_of("manmade")
    ids[depth.isinf()] = OCC3D.free_id
    noise = 1 + 0.02 * torch.randn(depth.shape, generator=torch.Generator().manual_seed(0))
    depth = torch.where(depth.isinf(), 0.0, depth * noise)
    return depth.reshape(6, HEIGHT, WIDTH), ids.reshape(6, HEIGHT, WIDTH)


def drive(points: LabelledPoints) -> Posed:
    """Return 14 frames of a car that drives straight on: the same street, a little elsewhere in each."""
    rng = np.random.default_rng(0)
    frames = []
    for number in range(FRAMES):
        pose = np.eye(4)
        pose[0, 3] = -STEP * number
        shaken = points.position + rng.integers(-5, 6, points.position.shape, dtype=np.int16)
        shaken[points.ids == OCC3D.free_id] = points.position[points.ids == OCC3D.free_id]
        frames.append((replace(points, position=shaken), pose))
    return frames


def plain_fuse(frames: Posed) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The plain form of `fuse`: all points in one array, a histogram of all frames and one of the present."""
    movers = [OCC3D.id_of(name) for name in MOVERS["occ3d"]]
    size, shape, classes = np.array(OCC3D_GRID.voxel_size)[:, None], OCC3D_GRID.shape, OCC3D.num_classes
    places, words = [], []
    for order, (points, pose) in enumerate(frames):
        kept = (points.ids < classes) & (points.ids != OCC3D.free_id)
        if order > 0:
            kept &= ~np.isin(points.ids, movers)
        offset = pose[:3, 3:] - np.array(OCC3D_GRID.origin)[:, None]
        # Axis by axis, in the order of `fuse`: a matrix product rounds otherwise, and points lie on faces of voxels.
        a, b, c = points.position[kept].T.astype(np.float64)
        turn, offset = pose[:3, :3] * UNIT / size, (offset / size)[:, 0]
        places.append(np.stack([t[0] * a + t[1] * b + t[2] * c + o for t, o in zip(turn, offset, strict=True)], axis=1))
        words.append(points.ids[kept])
    index = np.floor(np.concatenate(places)).astype(np.int64)
    inside = ((index >= 0) & (index < shape)).all(1)
    cell = np.ravel_multi_index(tuple(index[inside].T), shape) * classes + np.concatenate(words)[inside]
    now = np.count_nonzero(inside[: len(words[0])])
    own, votes = (
        np.bincount(some, minlength=math.prod(shape) * classes).reshape(-1, classes) for some in (cell[:now], cell)
    )
    count = votes.sum(1)
    # The present frame names what moves.
    winner = np.where(np.isin(own.argmax(1), movers), own.argmax(1), votes.argmax(1))
    semantics = np.where(count > 0, winner, OCC3D.free_id).astype(np.uint8)
    present, _ = frames[0]
    matrix, origin = UNIT / size.T, np.array(OCC3D_GRID.origin)
    ends = present.position * matrix - origin / size.T
    starts = ((present.origins - origin) / size.T)[present.camera]
    visible = seen_voxels(shape, torch.from_numpy(starts), torch.from_numpy(ends)).numpy()
    return semantics.reshape(shape), count.reshape(shape), visible


def plain_back_project(depth: torch.Tensor, ids: torch.Tensor, cameras: Cameras) -> np.ndarray:
    """The plain form of `back_project`: every pixel, camera by camera; then every 4th of every 4th row. Metres."""
    v, u = np.meshgrid(np.arange(HEIGHT) + 0.5, np.arange(WIDTH) + 0.5, indexing="ij")
    pixels = np.stack([u, v, np.ones_like(u)], axis=-1)
    found = []
    for n in range(6):
        z, words = depth[n].numpy(), ids[n].numpy()
        z = np.where(words == OCC3D.free_id, SKY_DISTANCE, z)
        pose = cameras.ego_from_camera[n].double().numpy()
        local = (pixels @ np.linalg.inv(cameras.intrinsics[n].double().numpy()).T) * z[..., None]
        points = local @ pose[:3, :3].T + pose[:3, 3]
        known = (words == OCC3D.free_id) | ((z > 0) & (z <= 52))
        some = (slice(STRIDE // 2, None, STRIDE),) * 2
        found.append(points[some][known[some]])
    return np.concatenate(found)


def plain_lonely(xyz: np.ndarray, outliers: LonelyPoints) -> np.ndarray:
    """The plain form of `LonelyPoints`: cells by their numbers, sorted; each of the 27 around looked up."""
    cells = np.floor(xyz / outliers.cell).astype(np.int64)
    cells -= cells.min(0) - 1
    shape = cells.max(0) + 2
    keys, place, counts = np.unique(
        np.ravel_multi_index(tuple(cells.T), shape), return_inverse=True, return_counts=True
    )
    around = np.zeros(len(keys), np.int64)
    for step in np.ndindex(3, 3, 3):
        wanted = keys + ((step[0] - 1) * shape[1] + step[1] - 1) * shape[2] + step[2] - 1
        at = np.searchsorted(keys, wanted).clip(max=len(keys) - 1)
        around += np.where(keys[at] == wanted, counts[at], 0)
    return around[place] >= outliers.least


def run() -> list[Row]:
    """Measure the stages of a frame, and the fusion of fourteen."""
    cameras = rig()
    depth, ids = street(cameras)
    points = back_project(depth, ids, cameras, OCC3D, stride=STRIDE)
    shapes = f"6 x {HEIGHT}x{WIDTH} pixels, every 4th of every 4th row"
    return [
        *fusion_rows(points),
        *_projected(depth, ids, cameras, points, shapes),
        *_cleaned(points, shapes),
        *_stored(points, shapes),
    ]


def fusion_rows(points: LabelledPoints, *, repeats: int = 5) -> list[Row]:
    """Measure the fusion of fourteen frames like the one given.

    Raises:
        AssertionError: if the two forms disagree.
    """
    frames = drive(points)
    config = FusionConfig(history=FRAMES - 1)

    def ours() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        labels = fuse(frames, OCC3D_GRID, OCC3D, config)
        return labels.semantics, labels.count, labels.visible

    def plain() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return plain_fuse(frames)

    found = ours()
    if not all(map(np.array_equal, found, plain())):
        raise AssertionError("labels: the two forms of the fusion disagree")
    fast, slow = measure_pair(ours, plain, repeats=repeats)
    total = sum(len(frame) for frame, _ in frames)
    grid = "x".join(map(str, OCC3D_GRID.shape))
    shapes = f"{FRAMES} frames, {total / 1e6:.1f} million points -> {grid} voxels"
    what = "points of 14 frames and rays of one fused"
    row = _timed(what, fast, slow, shapes=shapes, dtype="int16", occupied=float((found[1] > 0).sum()))
    row = replace(row, target="<= 2 s", reached=fast <= 2)
    return [row, *_memory(what, ours, plain, shapes=shapes, dtype="int16")]


def _projected(
    depth: torch.Tensor, ids: torch.Tensor, cameras: Cameras, points: LabelledPoints, shapes: str
) -> list[Row]:
    def ours() -> LabelledPoints:
        return back_project(depth, ids, cameras, OCC3D, stride=STRIDE)

    def plain() -> np.ndarray:
        return plain_back_project(depth, ids, cameras)

    # Sky far aside is clamped to what 16 bits hold.
    solid = points.ids != OCC3D.free_id
    apart = float(np.abs(points.position * UNIT - plain())[solid].max())
    if apart > 0.51 * UNIT:
        raise AssertionError(f"labels: the two forms of back-projection are {apart} m apart")
    times = measure_pair(ours, plain, repeats=9)
    what, shared = "points of a frame", {"shapes": shapes, "dtype": "float64"}
    return [_timed(what, *times, apart=apart, **shared), *_memory(what, ours, plain, **shared)]


def _cleaned(points: LabelledPoints, shapes: str) -> list[Row]:
    xyz = points.position[points.ids != OCC3D.free_id].astype(np.float32) * np.float32(UNIT)
    statistical, lonely = StatisticalOutliers(), LonelyPoints()

    def by_neighbours() -> np.ndarray:
        return statistical.inliers(xyz)

    def by_cells() -> np.ndarray:
        return lonely.inliers(xyz)

    def plain() -> np.ndarray:
        return plain_lonely(xyz, lonely)

    if not np.array_equal(by_cells(), plain()):
        raise AssertionError("labels: the two forms of LonelyPoints disagree")
    shared = {"shapes": f"{shapes}: {len(xyz)} points", "dtype": "float32"}
    first, second = "outliers of a frame by neighbours, scipy's tree", "outliers of a frame by cells"
    return [
        _timed(first, measure(by_neighbours, repeats=3), None, **shared),
        *_memory(first, by_neighbours, None, **shared),
        _timed(second, *measure_pair(by_cells, plain, repeats=9), **shared),
        *_memory(second, by_cells, plain, **shared),
    ]


def _stored(points: LabelledPoints, shapes: str) -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "points.npz"

        def store() -> LabelledPoints:
            write_points(path, points)
            return read_points(path)

        seconds = measure(store, repeats=3)
        size = float(path.stat().st_size)
    what = "points of a frame to disk and back"
    return [_timed(what, seconds, None, shapes=shapes, dtype="int16", bytes=size)]


def _timed(what: str, ours: float, plain: float | None, *, shapes: str, dtype: str, **extra: float) -> Row:
    """Return the row of a stage; a time to be reached is stated for the fusion only."""
    return Row(
        name=NAME,
        what=what,
        shapes=shapes,
        dtype=dtype,
        ours=ours,
        plain=plain,
        ratio=None if plain is None else plain / ours,
        extra=extra | {"load_average": os.getloadavg()[0]},
    )


def _memory(
    what: str, ours: Callable[[], object], plain: Callable[[], object] | None, *, shapes: str, dtype: str
) -> list[Row]:
    """Return the row of two forms' peaks; none where the system does not say."""
    mine, theirs = peak_resident(ours), None if plain is None else peak_resident(plain)
    if mine is None:
        return []
    ratio = None if theirs is None else theirs / max(mine, 1)
    shared = {"shapes": shapes, "dtype": dtype, "unit": "B", "ours": float(mine), "plain": theirs, "ratio": ratio}
    return [Row(name=NAME, what=f"{what}, peak memory", **shared)]
