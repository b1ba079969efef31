"""Labelled points of one frame: every pixel with a depth and a class, where it lies in the frame of the rig."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, Float32, Int16, Int64, UInt8
from numba import njit
from scipy.spatial import KDTree
from torch import Tensor

from occkit.errors import ConfigError, DataError
from occkit.files import read_npz_array, write_npz
from occkit.geometry import Cameras
from occkit.labels.origins import origin_array
from occkit.taxonomy import Taxonomy

UNIT = 0.01
"""Points are kept in whole centimetres, so that a frame read back from disk is the frame that was written."""
SKY_DISTANCE = 300.0
"""How far from the camera the ray of a sky pixel is made to end, metres: outside every volume."""


@dataclass(frozen=True, kw_only=True)
class LabelledPoints:
    """What the images of one frame show, in the frame's own reference frame."""

    position: Int16[np.ndarray, "p 3"]
    """Centimetres."""
    ids: UInt8[np.ndarray, " p"]
    """Class; the free id where the pixel shows sky, the ignore id where the class is uncertain. Both only carve."""
    camera: UInt8[np.ndarray, " p"]
    """Which camera saw it."""
    origins: Float32[np.ndarray, "n 3"]
    """Where the cameras were, metres."""

    def __len__(self) -> int:
        return len(self.ids)

    def keep(self, chosen: npt.NDArray[np.bool_]) -> "LabelledPoints":
        """Return the points where `chosen` is true."""
        return replace(self, position=self.position[chosen], ids=self.ids[chosen], camera=self.camera[chosen])


@dataclass(frozen=True, kw_only=True)
class StatisticalOutliers:
    """A point goes if its mean distance to its neighbours exceeds `mean + deviations * std` of all points of the frame.

    What Open3D calls statistical outlier removal. EasyOcc does not say which kind or which numbers it takes.
    """

    neighbours: int = 20
    """How many neighbours."""
    deviations: float = 2.0
    """Standard deviations."""

    def __post_init__(self) -> None:
        if self.neighbours < 1 or self.deviations <= 0:
            raise ConfigError(f"StatisticalOutliers: expected neighbours >= 1 and deviations > 0, got {self}")

    def inliers(self, xyz: Float32[np.ndarray, "p 3"]) -> npt.NDArray[np.bool_]:
        """Return which points stay."""
        if len(xyz) <= self.neighbours:
            return np.ones(len(xyz), np.bool_)
        distances, _ = KDTree(xyz).query(xyz, k=self.neighbours + 1, workers=-1)
        mean = distances[:, 1:].mean(1)
        return mean <= mean.mean() + self.deviations * mean.std()


@dataclass(frozen=True, kw_only=True)
class LonelyPoints:
    """A point goes if fewer than `least` points, itself included, lie in its cell and the 26 around it.

    One pass over the points, without a search for neighbours.
    """

    cell: float = 0.4
    """Edge of a cell, metres."""
    least: int = 4
    """Points."""

    def __post_init__(self) -> None:
        if self.cell <= 0 or self.least < 1:
            raise ConfigError(f"LonelyPoints: expected cell > 0 and least >= 1, got {self}")

    def inliers(self, xyz: Float32[np.ndarray, "p 3"]) -> npt.NDArray[np.bool_]:
        """Return which points stay."""
        if len(xyz) == 0:
            return np.ones(0, np.bool_)
        cells = np.floor(xyz / self.cell).astype(np.int64)
        cells -= cells.min(0) - 1
        shape = tuple(int(n) + 2 for n in cells.max(0))
        if np.prod(shape, dtype=np.float64) > 2**31:
            raise ConfigError(f"LonelyPoints: a cell of {self.cell} m is too small for points this far apart")
        return _crowd(cells, shape) >= self.least


@njit(cache=True)
def _crowd(cells: npt.NDArray[np.int64], shape: tuple[int, ...]) -> npt.NDArray[np.int64]:
    """Return for every point how many lie in the 27 cells around it."""
    counts = np.zeros(shape, np.uint16)
    for p in range(len(cells)):
        x, y, z = cells[p]
        if counts[x, y, z] < 65535:
            counts[x, y, z] += 1
    around = np.empty(len(cells), np.int64)
    for p in range(len(cells)):
        x, y, z = cells[p]
        around[p] = counts[x - 1 : x + 2, y - 1 : y + 2, z - 1 : z + 2].sum()
    return around


OutlierConfig = StatisticalOutliers | LonelyPoints
"""The kinds of outlier removal there are."""


def back_project(
    depth: Float[Tensor, "n h w"],
    ids: UInt8[Tensor, "n h w"],
    cameras: Cameras,
    taxonomy: Taxonomy,
    *,
    stride: int = 1,
    max_depth: float = 52.0,
) -> LabelledPoints:
    """Return a point for every pixel whose depth is known, and one far away for every pixel that shows the sky.

    Of each block of pixels the middle one counts. If nothing is known of it, as in most blocks under a LiDAR, the pixel
    with a depth counts that is nearest to the middle: a stride thins dense depth out and leaves sparse depth as it is.

    Args:
        depth: z-depth, metres; 0 where unknown (as is anything else that is no positive, finite number).
        ids: class of each pixel; the free id is sky, the ignore id is uncertain.
        cameras: leading dimension `[n]`, each posed where it was at its own exposure, in the reference frame.
        taxonomy: what the ids mean.
        stride: take one pixel of each block of so many squared.
        max_depth: farther points are left out, metres of z-depth; EasyOcc's limit is unknown.

    Raises:
        ValueError: if the sizes differ.

    Source: Hayes et al., "EasyOcc", section 3 (back-projection); limits and blocks are ours.
    """
    if depth.shape != ids.shape or tuple(depth.shape) != (*cameras.batch_shape, cameras.height, cameras.width):
        wanted = (*cameras.batch_shape, cameras.height, cameras.width)
        raise ValueError(f"back_project: depth {tuple(depth.shape)} and ids {tuple(ids.shape)} must be {wanted}")
    chosen = _choose_pixels(depth, ids, taxonomy, stride, max_depth).flatten(1)  # [n, blocks]
    z, words = depth.flatten(1).gather(1, chosen), ids.flatten(1).gather(1, chosen)
    sky = words == taxonomy.free_id
    z = torch.where(sky, torch.full_like(z, SKY_DISTANCE), z).double()
    known = sky | ((z > 0) & (z <= max_depth))
    lenses = cameras.map(torch.Tensor.double)
    pixels = torch.stack([chosen % cameras.width, chosen // cameras.width], dim=-1).to(z) + 0.5
    points = lenses.unproject(pixels, z)
    # At one z, rays at the edge of a wide image would end beyond what `UNIT` can count.
    start = lenses.ego_from_camera[:, None, :3, 3]
    ray = points - start
    points = torch.where(sky[..., None], start + ray * (SKY_DISTANCE / ray.norm(dim=-1, keepdim=True)), points)
    position = (points / UNIT).round().clamp(-32768, 32767)[known]
    number = torch.arange(len(z), dtype=torch.uint8)[:, None].expand_as(words)
    return LabelledPoints(
        position=position.to(torch.int16).numpy(),
        ids=words[known].numpy(),
        camera=number[known].numpy(),
        origins=cameras.ego_from_camera[:, :3, 3].float().numpy(),
    )


def _choose_pixels(
    depth: Float[Tensor, "n h w"], ids: UInt8[Tensor, "n h w"], taxonomy: Taxonomy, stride: int, max_depth: float
) -> Int64[Tensor, "n i j"]:
    """Return `row * w + column` of the pixel that stands for each block; see `back_project`.

    What is left over at the right and below belongs to the last blocks.
    """
    count, height, width = depth.shape
    rows, columns = torch.arange(stride // 2, height, stride), torch.arange(stride // 2, width, stride)
    chosen = (rows[:, None] * width + columns).expand(count, -1, -1)
    middle = (slice(None), slice(stride // 2, None, stride), slice(stride // 2, None, stride))
    lacking = ~((depth[middle] > 0) & depth[middle].isfinite()) & (ids[middle] != taxonomy.free_id)
    if stride == 1 or not bool(lacking.any()):
        return chosen
    i, j = ((torch.arange(side) // stride).clamp(max=len(at) - 1) for side, at in ((height, rows), (width, columns)))
    usable = (depth > 0) & (depth <= max_depth) & (ids != taxonomy.free_id)
    camera, row, column = (usable & lacking[:, i[:, None], j]).nonzero(as_tuple=True)
    away = (row - rows[i[row]]).square() + (column - columns[j[column]]).square()
    # One number to compare by: nearest to the middle, then upper, then left.
    rank = away * (height * width) + row * width + column
    block = (camera * len(rows) + i[row]) * len(columns) + j[column]
    best = torch.full((chosen.numel(),), torch.iinfo(torch.int64).max).scatter_reduce(0, block, rank, "amin")
    found = (best < torch.iinfo(torch.int64).max).view_as(chosen)
    return torch.where(found, best.view_as(chosen) % (height * width), chosen)


def remove_outliers(points: LabelledPoints, outliers: OutlierConfig | None, taxonomy: Taxonomy) -> LabelledPoints:
    """Return the points without those that stand alone; sky is left as it is."""
    if outliers is None or len(points) == 0:
        return points
    solid = points.ids != taxonomy.free_id
    stays = np.ones(len(points), np.bool_)
    stays[solid] = outliers.inliers(points.position[solid].astype(np.float32) * np.float32(UNIT))
    return points.keep(stays)


def write_points(path: Path, points: LabelledPoints, *, made_of: str | None = None) -> None:
    """Write the points of a frame, whole or not at all, and, if it is known, the digest of what they were made of."""
    arrays = {"position": points.position, "ids": points.ids, "camera": points.camera, "origins": points.origins}
    write_npz(path, **arrays, **origin_array(made_of))


def read_points(path: Path) -> LabelledPoints:
    """Read what `write_points` wrote.

    Raises:
        DataError: if the file is missing or damaged.
    """
    position = read_npz_array(path, "position", shape=(-1, 3), kinds="i")
    count = (len(position),)
    points = LabelledPoints(
        position=position.astype(np.int16),
        ids=read_npz_array(path, "ids", shape=count, kinds="u").astype(np.uint8),
        camera=read_npz_array(path, "camera", shape=count, kinds="u").astype(np.uint8),
        origins=read_npz_array(path, "origins", shape=(-1, 3), kinds="f").astype(np.float32),
    )
    if int(points.camera.max(initial=0)) >= max(1, len(points.origins)):
        raise DataError(path, "a point names a camera that is not there", "delete the file; it is made again")
    return points
