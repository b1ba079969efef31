"""Labels of the world: which voxels something touches, and which of them the sensors saw."""

from dataclasses import dataclass
from math import floor, inf

import numpy as np
import numpy.typing as npt
import torch
from numba import njit

from occkit.geometry import VoxelGrid
from occkit.ops.raycast import seen_voxels
from occkit.world.ground import Ground
from occkit.world.primitives import BALL, BOX, CONE, ROOF, Bytes, Floats, Primitives, Singles
from occkit.world.tracing import Tracer
from occkit.world.words import WORDS

Volume = npt.NDArray[np.bool_]

_SCAN_REACH = 80.0
_SKY = 200.0
"""Where rays that meet nothing end, metres: beyond any grid."""

SAMPLE = 0.2
"""Edge of the cells into which a voxel is divided, metres (at least two, at most four along each edge)."""

WALL = 1.0
"""Thickness of a building's walls, metres: like the real labels, which nobody scans from within, houses are hollow."""

STREET_HOLLOW = np.array([word.name == "building" for word in WORDS])
STREET_WEIGHTS = np.array(
    [
        4.0 if word.counted else 2.0 if word.occ3d == "manmade" and word.name not in ("building", "wall") else 1.0
        for word in WORDS
    ]
)
"""How much a touched cell counts when several words share a voxel: small things keep theirs, as in aggregated scans."""


@dataclass(frozen=True, kw_only=True)
class VoxelWords:
    """A volume of words."""

    word: npt.NDArray[np.uint8]
    """`[x, y, z]` word id, 0 where there is nothing."""
    moving: Volume
    """`[x, y, z]` whether it belongs to something that moves."""

    @property
    def occupied(self) -> Volume:
        """Where there is something."""
        return self.word > 0


def voxelise(
    solids: Primitives,
    ground: Ground,
    grid: VoxelGrid,
    global_from_ego: Floats,
    *,
    weights: Floats = STREET_WEIGHTS,
    hollow: Volume = STREET_HOLLOW,
) -> VoxelWords:
    """Label every voxel that the surface of the ground or the volume of a solid touches.

    A voxel is divided into cells of about `SAMPLE` metres. A solid touches a cell when the centre of the cell lies in
    the solid grown by half a cell, so that nothing is too thin to be seen; cells below the ground are not counted. The
    word with the most touched cells (small things weigh more) names the voxel. Houses are empty behind their walls.

    Args:
        solids: world frame, at the time of the label.
        ground: world frame.
        grid: in the ego frame.
        global_from_ego: `[4, 4]`.
        weights: how much a touched cell counts, for each word.
        hollow: whether a word is empty behind its walls, for each word.
    """
    divide = int(np.clip(round(grid.voxel_size[0] / SAMPLE), 2, 4))
    rotation, origin = global_from_ego[:3, :3], global_from_ego[:3, 3]
    size = np.array(grid.voxel_size)
    cells = grid.shape[0] * divide, grid.shape[1] * divide
    x, y = (grid.origin[i] + (np.arange(cells[i]) + 0.5) * size[i] / divide for i in (0, 1))
    local = np.empty((*cells, 2))
    local[..., 0], local[..., 1] = x[:, None], y
    # Row by row: one product of all cells is large enough for BLAS to start threads, which wait longer than they work.
    flat = (local @ rotation[:2, :2].T + origin[:2]).reshape(-1, 2)
    heights = (ground.height_at(flat) - origin[2]).reshape(cells)
    floor_words = ground.words[ground.index(flat)].reshape(cells)
    word, moving, score = _label_ground(heights, floor_words, np.array(grid.origin), size, np.array(grid.shape), divide)
    low, high = _bounds_in(solids, rotation, origin)
    upper = np.array(grid.upper)
    near = np.flatnonzero(np.all((low < upper) & (high > np.array(grid.origin)), axis=1))
    into_ego = rotation.T @ solids.rotation[near]
    affine = np.swapaxes(into_ego, 1, 2) / solids.half[near, :, None]
    centers = (solids.center[near] - origin) @ rotation
    _label_solids(
        word, moving, score, heights, np.array(grid.origin), size, divide, solids.kind[near], affine, centers,
        low[near], high[near], solids.word[near], solids.moving[near], weights, hollow,
    )  # fmt: skip
    return VoxelWords(word=word, moving=moving)


def _bounds_in(solids: Primitives, rotation: Floats, origin: Floats) -> tuple[Floats, Floats]:
    reach = np.einsum("nij,nj->ni", np.abs(rotation.T @ solids.rotation), solids.half)
    center = (solids.center - origin) @ rotation
    return center - reach, center + reach


@njit(cache=True)
def _label_ground(
    heights: Floats, floor_words: Bytes, origin: Floats, size: Floats, shape: npt.NDArray[np.int64], divide: int
) -> tuple[Bytes, Volume, Singles]:
    """The word with the most columns of a voxel's footprint among those whose ground lies in the voxel."""
    word = np.zeros((shape[0], shape[1], shape[2]), np.uint8)
    moving = np.zeros((shape[0], shape[1], shape[2]), np.bool_)
    score = np.zeros((shape[0], shape[1], shape[2]), np.float32)
    for x in range(shape[0]):
        for y in range(shape[1]):
            # Nearly everywhere one word and one layer fill the whole footprint.
            first_word = floor_words[x * divide, y * divide]
            layer = floor((heights[x * divide, y * divide] - origin[2]) / size[2])
            uniform = True
            for a in range(x * divide, (x + 1) * divide):
                for b in range(y * divide, (y + 1) * divide):
                    uniform &= floor_words[a, b] == first_word
                    uniform &= floor((heights[a, b] - origin[2]) / size[2]) == layer
            if uniform:
                if 0 <= layer < shape[2]:
                    score[x, y, layer], word[x, y, layer] = divide * divide, first_word
                continue
            for a in range(x * divide, (x + 1) * divide):
                for b in range(y * divide, (y + 1) * divide):
                    z = floor((heights[a, b] - origin[2]) / size[2])
                    if z < 0 or z >= shape[2]:
                        continue
                    same = 0
                    for c in range(x * divide, (x + 1) * divide):
                        for d in range(y * divide, (y + 1) * divide):
                            if (
                                floor_words[c, d] == floor_words[a, b]
                                and floor((heights[c, d] - origin[2]) / size[2]) == z
                            ):
                                same += 1
                    if same > score[x, y, z]:
                        score[x, y, z], word[x, y, z] = same, floor_words[a, b]
    return word, moving, score


@njit(cache=True)
def _inside(kind: int, x: float, y: float, z: float) -> bool:
    """Whether a point in unit coordinates lies in the solid; x and y, and z but for a cone or roof, without sign."""
    if x > 1.0 or y > 1.0 or abs(z) > 1.0:
        return False
    if kind == BOX:
        return True
    if kind == BALL:
        return x * x + y * y + z * z <= 1.0
    if kind == ROOF:
        return 2.0 * y + z <= 1.0
    radius = 0.575 - 0.425 * z if kind == CONE else 1.0
    return x * x + y * y <= radius * radius


@njit(cache=True)
def _whole_voxel(
    kind: int,
    m: Floats,
    center: Floats,
    grow: Floats,
    wall: Floats,
    origin: Floats,
    size: Floats,
    x: int,
    y: int,
    z: int,
) -> int:
    """1 if a solid holds the whole voxel, -1 if it touches none of it, 0 if the cells have to be asked."""
    full, within = kind == BOX, True
    for r in range(3):
        q, reach = 0.0, 0.0
        for a, index in enumerate((x, y, z)):
            q += m[r, a] * (origin[a] + (index + 0.5) * size[a] - center[a])
            reach += 0.5 * abs(m[r, a]) * size[a]
        if abs(q) - reach > 1.0 + grow[r]:
            return -1
        full &= abs(q) + reach <= 1.0
        within &= abs(q) + reach <= 1.0 - wall[r]
    return -1 if within else 1 if full else 0


@njit(cache=True)
def _touched_cells(
    kind: int, m: Floats, center: Floats, grow: Floats, heights: Floats, origin: Floats, cell: Floats, divide: int,
    tops: Floats, rise: Floats, x: int, y: int, z: int,
) -> int:  # fmt: skip
    """How many of a voxel's cells a solid touches above the ground.

    Growing the solid by half a cell is the same as moving the point towards the middle by as much.
    """
    upright = kind in (CONE, ROOF)
    touched = 0
    for a in range(x * divide, (x + 1) * divide):
        px = origin[0] + (a + 0.5) * cell[0] - center[0]
        for b in range(y * divide, (y + 1) * divide):
            py = origin[1] + (b + 0.5) * cell[1] - center[1]
            flat_x, flat_y, flat_z = (
                m[0, 0] * px + m[0, 1] * py,
                m[1, 0] * px + m[1, 1] * py,
                m[2, 0] * px + m[2, 1] * py,
            )
            floor_height = heights[a, b]
            for c in range(z * divide, (z + 1) * divide):
                if tops[c] < floor_height:
                    continue
                qx = max(abs(flat_x + rise[c, 0]) - grow[0], 0.0)
                qy = max(abs(flat_y + rise[c, 1]) - grow[1], 0.0)
                qz = flat_z + rise[c, 2]
                qz = max(qz - grow[2], min(qz, -1.0)) if upright else max(abs(qz) - grow[2], 0.0)
                touched += _inside(kind, qx, qy, qz)
    return touched


@njit(cache=True)
def _label_solids(
    word: Bytes, moving: Volume, score: Singles, heights: Floats, origin: Floats, size: Floats, divide: int,
    kinds: Bytes, affine: Floats, centers: Floats, low: Floats, high: Floats, words: Bytes, moves: Volume,
    weight: Floats, hollow: Volume,
) -> None:  # fmt: skip
    cell = size / divide
    grow, wall = np.empty(3), np.empty(3)
    first, last = np.empty(3, np.int64), np.empty(3, np.int64)
    tops, rise = np.empty(word.shape[2] * divide), np.empty((word.shape[2] * divide, 3))
    for i in range(len(kinds)):
        for a in range(3):
            grow[a] = 0.5 * (np.abs(affine[i, a]) * cell).sum()
            first[a] = max(0, floor((low[i, a] - 0.5 * cell[a] - origin[a]) / size[a]))
            last[a] = min(word.shape[a] - 1, floor((high[i, a] + 0.5 * cell[a] - origin[a]) / size[a]))
            wall[a] = inf
            if hollow[words[i]]:
                wall[a] = WALL * np.sqrt(affine[i, a, 0] ** 2 + affine[i, a, 1] ** 2 + affine[i, a, 2] ** 2)
        for c in range(first[2] * divide, (last[2] + 1) * divide):
            height = origin[2] + (c + 0.5) * cell[2]
            tops[c] = height + 0.5 * cell[2]
            for a in range(3):
                rise[c, a] = affine[i, a, 2] * (height - centers[i, 2])
        for x in range(first[0], last[0] + 1):
            for y in range(first[1], last[1] + 1):
                for z in range(first[2], last[2] + 1):
                    if divide**3 * weight[words[i]] <= score[x, y, z]:
                        continue
                    place = _whole_voxel(kinds[i], affine[i], centers[i], grow, wall, origin, size, x, y, z)
                    if place < 0:
                        continue
                    touched = divide**3
                    if place == 0 or origin[2] + (z - 1) * size[2] < heights[x * divide, y * divide]:
                        touched = _touched_cells(
                            kinds[i], affine[i], centers[i], grow, heights, origin, cell, divide, tops, rise, x, y, z
                        )
                    if touched * weight[words[i]] > score[x, y, z]:
                        score[x, y, z] = touched * weight[words[i]]
                        word[x, y, z], moving[x, y, z] = words[i], moves[i]


def seen_along(grid: VoxelGrid, origins: Floats, ends: Floats) -> Volume:
    """Return the voxels that measured rays pass or end in.

    The rays end on true surfaces, not at the first labelled voxel: a voxel that is filled in part does not hide what a
    ray finds behind its filled part. (The ground fills a third of a 0.8 m voxel; walking through the labels instead,
    a ray that meets the road at 30 m would stop at 18 m.)

    Args:
        grid: of the label.
        origins: `[r, 3]` or `[3]`, frame of the grid, metres.
        ends: `[r, 3]`, likewise.
    """
    size, origin = np.array(grid.voxel_size), np.array(grid.origin)
    start = torch.from_numpy((origins - origin) / size).expand(ends.shape)
    return seen_voxels(grid.shape, start, torch.from_numpy((ends - origin) / size)).numpy()


def seen_by_scanner(tracer: Tracer, grid: VoxelGrid, pose: Floats, viewpoint: Floats, directions: Floats) -> Volume:
    """Return the voxels that the beams of a scanner pass or end in.

    Args:
        tracer: the world.
        grid: in the frame `pose` carries to the world.
        pose: `[4, 4]` world from the grid's frame.
        viewpoint: `[4, 4]` world from the scanner.
        directions: `[r, 3]` unit, in the scanner's frame.
    """
    rays = directions @ viewpoint[:3, :3].T
    t, _ = tracer.trace(np.broadcast_to(viewpoint[:3, 3], rays.shape), rays, _SCAN_REACH)
    ends = viewpoint[:3, 3] + t[:, None] * rays
    return seen_along(grid, (viewpoint[:3, 3] - pose[:3, 3]) @ pose[:3, :3], (ends - pose[:3, 3]) @ pose[:3, :3])


def seen_by_camera(grid: VoxelGrid, intrinsics: Floats, pose: Floats, depth: Singles, stride: int) -> Volume:
    """Return the voxels that the rays of an image's pixels pass or end in.

    Args:
        grid: of the label.
        intrinsics: `[3, 3]`.
        pose: `[4, 4]` frame of the grid from the camera.
        depth: `[h, w]` z-depth of the pixel centres, metres; 0 where a ray meets nothing.
        stride: one pixel is taken of each block of stride x stride.
    """
    rows, columns = (np.arange(stride // 2, n, stride) for n in depth.shape)
    pixels = np.ones((len(rows), len(columns), 3))
    pixels[..., 0], pixels[..., 1] = columns + 0.5, rows[:, None] + 0.5
    rays = pixels.reshape(-1, 3) @ np.linalg.inv(intrinsics).T
    z = depth[np.ix_(rows, columns)].reshape(-1, 1)
    ends = rays * np.where(z > 0, z, _SKY)
    return seen_along(grid, pose[:3, 3], ends @ pose[:3, :3].T + pose[:3, 3])
