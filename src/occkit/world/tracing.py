"""Where rays meet the world: exact intersection with primitives and ground, in a uniform grid of cells (numba).

The street is flat compared with its extent, so the grid has two dimensions; each cell lists the primitives that stand
in it and the height of the tallest, and carries one bilinear patch of the ground. A ray walks from cell to cell.
"""

from dataclasses import dataclass
from math import floor, inf, sqrt

import numpy as np
import numpy.typing as npt
from numba import njit

from occkit.world.ground import Ground
from occkit.world.primitives import BALL, BOX, CONE, CYLINDER, Bytes, Floats, Ints, Primitives

TracerArrays = tuple[Floats, float, Floats, Ints, Ints, Floats, Floats, Floats, Bytes]

MISS, GROUND = -1, -2
"""What a ray hit, if not a primitive (whose index is >= 0)."""

_CONE_MEAN, _CONE_FALL = 0.575, 0.425  # radius 1 at the foot, 0.15 at the top
_FAR = 1e30


@dataclass(frozen=True, kw_only=True)
class Tracer:
    """The world at one instant, arranged for ray tracing."""

    solids: Primitives
    """All primitives, world frame."""
    ground: Ground
    """What they stand on."""
    affine: Floats
    """`[n, 13]` unit-from-world rotation and scale (9, row by row), centre (3), and square of the radius around it."""
    first: npt.NDArray[np.int32]
    """`[cells + 1]` where each cell's list begins in `members`."""
    members: npt.NDArray[np.int32]
    """Primitives of each cell, one cell after the other."""
    top: Floats
    """`[cells]` height of the tallest primitive in each cell, metres."""
    crest: Floats
    """`[cells]` height of the highest ground in each cell, metres."""

    @classmethod
    def build(cls, solids: Primitives, ground: Ground) -> "Tracer":
        """Sort the primitives into the cells of the ground's patches."""
        affine = _into_units(solids.rotation, solids.half, solids.center, solids.kind)
        lower, upper = solids.bounds()
        shape = ground.heights.shape[0] - 1, ground.heights.shape[1] - 1
        first, members, top = _sort_into_cells(lower, upper, np.array(ground.origin), ground.patch, *shape)
        crest = np.maximum(ground.heights[:-1], ground.heights[1:])
        crest = np.maximum(crest[:, :-1], crest[:, 1:]).ravel()
        return cls(solids=solids, ground=ground, affine=affine, first=first, members=members, top=top, crest=crest)

    def trace(self, origins: Floats, directions: Floats, reach: float) -> tuple[Floats, npt.NDArray[np.int32]]:
        """Return what each ray meets first.

        Args:
            origins: `[r, 3]` world frame, metres, above the ground.
            directions: `[r, 3]`; the parameter is in units of their length.
            reach: rays end at this parameter.

        Returns:
            t: `[r]` parameter of the hit, `reach` where there is none.
            hit: `[r]` index of the primitive, GROUND or MISS.
        """
        return _trace_all(np.ascontiguousarray(origins), np.ascontiguousarray(directions), reach, *self.arrays())

    def arrays(self) -> TracerArrays:
        """Return the arrays the compiled tracer takes, in its order."""
        g = self.ground
        return (
            np.array(g.origin), g.patch, g.heights, self.first, self.members, self.top, self.crest, self.affine,
            self.solids.kind,
        )  # fmt: skip


@njit(cache=True)
def _into_units(rotation: Floats, half: Floats, center: Floats, kind: Bytes) -> Floats:
    """The rows of `Tracer.affine`; the sphere is a millimetre wider than it need be."""
    affine = np.empty((len(kind), 13))
    for i in range(len(kind)):
        for r in range(3):
            for c in range(3):
                affine[i, 3 * r + c] = rotation[i, c, r] / half[i, r]
            affine[i, 9 + r] = center[i, r]
        x, y, z = half[i]
        if kind[i] == BALL:
            radius = max(x, y, z)
        elif kind[i] in (CYLINDER, CONE):
            radius = sqrt(max(x, y) ** 2 + z**2)
        else:
            radius = sqrt(x**2 + y**2 + z**2)
        affine[i, 12] = (radius + 1e-3) ** 2
    return affine


@njit(cache=True)
def _sort_into_cells(
    lower: Floats, upper: Floats, origin: Floats, cell: float, nx: int, ny: int
) -> tuple[Ints, Ints, Floats]:
    """Counting sort of axis-aligned boxes into the cells they overlap."""
    n = len(lower)
    box = np.empty((n, 4), np.int32)
    count = np.zeros(nx * ny + 1, np.int32)
    top = np.full(nx * ny, -_FAR)
    for i in range(n):
        box[i, 0] = max(0, floor((lower[i, 0] - origin[0]) / cell))
        box[i, 1] = min(nx - 1, floor((upper[i, 0] - origin[0]) / cell))
        box[i, 2] = max(0, floor((lower[i, 1] - origin[1]) / cell))
        box[i, 3] = min(ny - 1, floor((upper[i, 1] - origin[1]) / cell))
        for x in range(box[i, 0], box[i, 1] + 1):
            for y in range(box[i, 2], box[i, 3] + 1):
                count[x * ny + y + 1] += 1
                top[x * ny + y] = max(top[x * ny + y], upper[i, 2])
    first = np.cumsum(count).astype(np.int32)
    fill = first[:-1].copy()
    members = np.empty(first[-1], np.int32)
    for i in range(n):
        for x in range(box[i, 0], box[i, 1] + 1):
            for y in range(box[i, 2], box[i, 3] + 1):
                members[fill[x * ny + y]] = i
                fill[x * ny + y] += 1
    return first, members, top


@njit(cache=True, error_model="numpy")
def hit_unit_solid(kind: int, ox: float, oy: float, oz: float, dx: float, dy: float, dz: float, best: float) -> float:
    """Parameter at which a ray given in unit coordinates enters a solid, or inf; hits beyond `best` do not count."""
    near, far = -_FAR, _FAR
    for o, d in ((ox, dx), (oy, dy), (oz, dz)):
        if abs(d) < 1e-12:
            if abs(o) > 1.0:
                return inf
            continue
        a, b = (-1.0 - o) / d, (1.0 - o) / d
        near, far = max(near, min(a, b)), min(far, max(a, b))
    if near > far or far <= 0.0 or near >= best:
        return inf
    if kind == BOX:
        return near if near > 0.0 else inf
    if kind == BALL:
        a = dx * dx + dy * dy + dz * dz
        b = ox * dx + oy * dy + oz * dz
        root = b * b - a * (ox * ox + oy * oy + oz * oz - 1.0)
        if root <= 0.0:
            return inf
        t = (-b - sqrt(root)) / a
        return t if t > 0.0 else inf
    if kind in (CYLINDER, CONE):
        return _hit_round(kind, ox, oy, oz, dx, dy, dz)
    # ROOF: the box cut by the two slopes z + 2 |y| <= 1
    for side in (-2.0, 2.0):
        d = dz + side * dy
        gap = 1.0 - oz - side * oy
        if abs(d) < 1e-12:
            if gap < 0.0:
                return inf
        elif d > 0.0:
            far = min(far, gap / d)
        else:
            near = max(near, gap / d)
    return near if 0.0 < near < far else inf


@njit(cache=True, error_model="numpy")
def _hit_round(kind: int, ox: float, oy: float, oz: float, dx: float, dy: float, dz: float) -> float:
    mean, fall = (1.0, 0.0) if kind == CYLINDER else (_CONE_MEAN, _CONE_FALL)
    found = inf
    radius, slope = mean - fall * oz, -fall * dz
    a = dx * dx + dy * dy - slope * slope
    b = ox * dx + oy * dy - radius * slope
    c = ox * ox + oy * oy - radius * radius
    root = b * b - a * c
    if root > 0.0 and abs(a) > 1e-14:
        s = sqrt(root)
        for t in ((-b - s) / a, (-b + s) / a):
            if 0.0 < t < found and abs(oz + t * dz) <= 1.0:
                found = t
    if abs(dz) > 1e-12:
        for z in (-1.0, 1.0):
            t = (z - oz) / dz
            r = mean - fall * z
            x, y = ox + t * dx, oy + t * dy
            if 0.0 < t < found and x * x + y * y <= r * r:
                found = t
    return found


@njit(cache=True, error_model="numpy")
def _hit_patch(
    heights: Floats,
    ix: int,
    iy: int,
    u0: float,
    v0: float,
    ut: float,
    vt: float,
    oz: float,
    dz: float,
    begin: float,
    end: float,
) -> float:
    """First parameter in [begin, end] at which the ray meets `h = a + b u + c v + e u v` of one cell."""
    a = heights[ix, iy]
    b = heights[ix + 1, iy] - a
    c = heights[ix, iy + 1] - a
    e = heights[ix + 1, iy + 1] - a - b - c
    q2 = -e * ut * vt
    q1 = dz - b * ut - c * vt - e * (u0 * vt + v0 * ut)
    q0 = oz - a - b * u0 - c * v0 - e * u0 * v0
    if abs(q2) < 1e-12:
        if q1 == 0.0:
            return inf
        t = -q0 / q1
        return t if begin - 1e-9 <= t <= end + 1e-9 else inf
    root = q1 * q1 - 4.0 * q2 * q0
    if root < 0.0:
        return inf
    s = sqrt(root)
    w = -0.5 * (q1 + s if q1 >= 0.0 else q1 - s)
    found = inf
    if abs(w) > 0.0:
        t = q0 / w
        if begin - 1e-9 <= t <= end + 1e-9:
            found = t
    t = w / q2
    if begin - 1e-9 <= t <= end + 1e-9 and t < found:
        found = t
    return found


@njit(cache=True, error_model="numpy")
def trace_one(
    ox: float,
    oy: float,
    oz: float,
    dx: float,
    dy: float,
    dz: float,
    reach: float,
    origin: Floats,
    cell: float,
    heights: Floats,
    first: Ints,
    members: Ints,
    top: Floats,
    crest: Floats,
    affine: Floats,
    kind: Bytes,
) -> tuple[float, int]:
    """Walk one ray through the cells; returns (parameter, hit)."""
    nx, ny = heights.shape[0] - 1, heights.shape[1] - 1
    best, hit = reach, MISS
    u, v = (ox - origin[0]) / cell, (oy - origin[1]) / cell
    ix, iy = floor(u), floor(v)
    ut, vt = dx / cell, dy / cell
    step_x, step_y = (1 if ut > 0 else -1), (1 if vt > 0 else -1)
    delta_x = abs(1.0 / ut) if ut != 0.0 else _FAR
    delta_y = abs(1.0 / vt) if vt != 0.0 else _FAR
    next_x = ((ix + (ut > 0)) - u) / ut if ut != 0.0 else _FAR
    next_y = ((iy + (vt > 0)) - v) / vt if vt != 0.0 else _FAR
    square = dx * dx + dy * dy + dz * dz
    begin = 0.0
    while 0 <= ix < nx and 0 <= iy < ny and begin < best:
        end = min(next_x, next_y)
        low = oz + dz * (min(end, best) if dz < 0.0 else begin)
        at = ix * ny + iy
        if low <= top[at]:
            for k in range(first[at], first[at + 1]):
                i = members[k]
                px, py, pz = ox - affine[i, 9], oy - affine[i, 10], oz - affine[i, 11]
                # A sphere around the solid turns nearly all rays away before the exact test.
                away = px * dx + py * dy + pz * dz
                if (px * px + py * py + pz * pz - affine[i, 12]) * square > away * away:
                    continue
                t = hit_unit_solid(
                    kind[i],
                    affine[i, 0] * px + affine[i, 1] * py + affine[i, 2] * pz,
                    affine[i, 3] * px + affine[i, 4] * py + affine[i, 5] * pz,
                    affine[i, 6] * px + affine[i, 7] * py + affine[i, 8] * pz,
                    affine[i, 0] * dx + affine[i, 1] * dy + affine[i, 2] * dz,
                    affine[i, 3] * dx + affine[i, 4] * dy + affine[i, 5] * dz,
                    affine[i, 6] * dx + affine[i, 7] * dy + affine[i, 8] * dz,
                    best,
                )
                if t < best:
                    best, hit = t, i
        if low <= crest[at] + 1e-6:
            t = _hit_patch(heights, ix, iy, u - ix, v - iy, ut, vt, oz, dz, begin, min(end, best))
            if t < best:
                best, hit = t, GROUND
        begin = end
        if next_x < next_y:
            ix += step_x
            next_x += delta_x
        else:
            iy += step_y
            next_y += delta_y
    return best, hit


@njit(cache=True, error_model="numpy")
def _trace_all(
    origins: Floats,
    directions: Floats,
    reach: float,
    origin: Floats,
    cell: float,
    heights: Floats,
    first: Ints,
    members: Ints,
    top: Floats,
    crest: Floats,
    affine: Floats,
    kind: Bytes,
) -> tuple[Floats, Ints]:
    n = len(origins)
    t, hit = np.empty(n), np.empty(n, np.int32)
    for r in range(n):
        t[r], hit[r] = trace_one(
            origins[r, 0], origins[r, 1], origins[r, 2], directions[r, 0], directions[r, 1], directions[r, 2],
            reach, origin, cell, heights, first, members, top, crest, affine, kind,
        )  # fmt: skip
    return t, hit
