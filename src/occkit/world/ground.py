"""The ground: what lies where (a fine raster of words) and how high it is (bilinear patches)."""

from dataclasses import dataclass
from functools import cached_property
from math import floor

import numpy as np
import numpy.typing as npt
from numba import njit

from occkit.world.primitives import Floats

RASTER = 0.2
"""Edge of a raster cell of the ground, metres, where voxels are coarse; half of it where they are fine."""
PATCH = 4.0
"""Edge of a height patch and of a cell of the ray tracer, metres."""


@dataclass(frozen=True)
class Line:
    """A smooth curve on the ground, sampled every metre."""

    points: Floats
    """`[n, 2]` world frame, metres."""
    headings: Floats
    """`[n]` direction of travel, radians, unwrapped."""
    start: float
    """Arc length of the first point, metres."""

    @classmethod
    def from_headings(cls, headings: Floats, start: float) -> "Line":
        """Integrate headings (one a metre) into a curve whose point at arc length 0 is the world's origin."""
        steps = np.stack([np.cos(headings), np.sin(headings)], axis=1)
        points = np.concatenate([np.zeros((1, 2)), np.cumsum(steps[:-1], axis=0)])
        origin = Line(points, headings, start).at(np.zeros(1))[0]
        return cls(points - origin, headings, start)

    @cached_property
    def knots(self) -> Floats:
        """Arc length of each point, metres."""
        return np.arange(len(self.points), dtype=np.float64) + self.start

    @property
    def end(self) -> float:
        """Arc length of the last point, metres."""
        return self.start + len(self.points) - 1

    def at(self, along: Floats, across: Floats | float = 0.0) -> Floats:
        """Return the points `[n, 2]` at an arc length and an offset to the left, metres."""
        x, y = (np.interp(along, self.knots, self.points[:, i]) for i in (0, 1))
        heading = self.heading(along)
        return np.stack([x - across * np.sin(heading), y + across * np.cos(heading)], axis=-1)

    def heading(self, along: Floats) -> Floats:
        """Return the direction of travel at an arc length, radians."""
        return np.interp(along, self.knots, self.headings)


@dataclass(frozen=True, kw_only=True)
class Ground:
    """Words and heights of the ground of one scene."""

    origin: tuple[float, float]
    """Lower corner, metres, world frame."""
    patch: float
    """Edge of a height patch, metres."""
    heights: Floats
    """`[nx + 1, ny + 1]` heights at the corners of the patches, metres."""
    raster: float
    """Edge of a raster cell, metres."""
    words: npt.NDArray[np.uint8]
    """`[rx, ry]` word of each raster cell."""
    along: npt.NDArray[np.float32]
    """`[rx, ry]` arc length along the nearest road, metres."""
    across: npt.NDArray[np.float32]
    """`[rx, ry]` signed distance from its centre line (left is positive); large where there is no road near."""

    def index(self, points: Floats) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return the raster cell of points `[n, 2]`, clamped to the raster."""
        return _raster_cells(np.ascontiguousarray(points), np.array(self.origin), self.raster, self.words.shape)

    def height_at(self, points: Floats) -> Floats:
        """Return the height under points `[n, 2]`, metres."""
        return _bilinear(self.heights, np.array(self.origin), self.patch, np.ascontiguousarray(points))


@njit(cache=True)
def _bilinear(heights: Floats, origin: Floats, patch: float, points: Floats) -> Floats:
    found = np.empty(len(points))
    for i in range(len(points)):
        u, v = (points[i, 0] - origin[0]) / patch, (points[i, 1] - origin[1]) / patch
        x = min(max(floor(u), 0), heights.shape[0] - 2)
        y = min(max(floor(v), 0), heights.shape[1] - 2)
        u, v = u - x, v - y
        near = heights[x, y] * (1 - v) + heights[x, y + 1] * v
        far = heights[x + 1, y] * (1 - v) + heights[x + 1, y + 1] * v
        found[i] = near * (1 - u) + far * u
    return found


@njit(cache=True)
def _raster_cells(
    points: Floats, origin: Floats, raster: float, shape: tuple[int, int]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    x, y = np.empty(len(points), np.int64), np.empty(len(points), np.int64)
    for i in range(len(points)):
        x[i] = min(max(floor((points[i, 0] - origin[0]) / raster), 0), shape[0] - 1)
        y[i] = min(max(floor((points[i, 1] - origin[1]) / raster), 0), shape[1] - 1)
    return x, y


@njit(cache=True)
def distance_to_line(
    points: Floats, start: float, origin: Floats, raster: float, shape: tuple[int, int], reach: float
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Raster the arc length and the signed distance of a line, for cells within `reach` metres of it.

    Returns:
        along: `[rx, ry]` float32 metres.
        across: `[rx, ry]` float32 metres, left positive; 1e6 beyond reach.
    """
    along = np.zeros(shape, np.float32)
    across = np.full(shape, 1e6, np.float32)
    for s in range(len(points) - 1):
        ax, ay = points[s]
        dx, dy = points[s + 1, 0] - ax, points[s + 1, 1] - ay
        x0 = max(0, int((min(ax, ax + dx) - reach - origin[0]) / raster))
        x1 = min(shape[0], int((max(ax, ax + dx) + reach - origin[0]) / raster) + 1)
        y0 = max(0, int((min(ay, ay + dy) - reach - origin[1]) / raster))
        y1 = min(shape[1], int((max(ay, ay + dy) + reach - origin[1]) / raster) + 1)
        length = dx * dx + dy * dy
        for ix in range(x0, x1):
            px = origin[0] + (ix + 0.5) * raster - ax
            for iy in range(y0, y1):
                py = origin[1] + (iy + 0.5) * raster - ay
                foot = (px * dx + py * dy) / length
                # Beyond the ends of the whole line nothing is painted: roads end square.
                if (s == 0 and foot < 0.0) or (s == len(points) - 2 and foot > 1.0):
                    continue
                foot = min(1.0, max(0.0, foot))
                ex, ey = px - foot * dx, py - foot * dy
                gap = np.sqrt(ex * ex + ey * ey)
                if gap < reach and gap < abs(across[ix, iy]):
                    across[ix, iy] = gap if dx * py - dy * px >= 0.0 else -gap
                    along[ix, iy] = start + s + foot
    return along, across
