"""The walk of `reference.py`, compiled; rays are spread over as many threads as torch may use.

The arithmetic is that of the reference, operation by operation, and no fast-math is allowed: the two agree to the last
bit. A step can leave the grid only along the axis it was made, so inside the grid one comparison a step is enough; the
rest of the speed is that nothing is stored on the way. Which axis comes next cannot be foreseen, so most of the time of
a ray walked alone goes into branches guessed wrongly: the first hits, where speed matters most, are found for many rays
side by side without a branch. The walks are written out because a shared one would have to ask at every voxel what it
is for.

The threads are Python's: the kernels hold no lock of the interpreter. Numba's own parallel loops would kill a forked
process or, on some platforms, one that calls them from two threads.
"""

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch
from numba import njit

_NEVER = np.finfo(np.float64).max

_MIN_RAYS_A_THREAD = 2048
"""A smaller share is over before its thread has started."""

_LANES = 32
"""Rays that walk side by side; the compiler puts as many as fit into one vector register."""

_STEPS = 4
"""Steps that all of them make before each is asked whether it has arrived."""

# A walking ray is a column in two tables of `7 + _STEPS` rows, which are flat because the compiler must see that no two
# rows overlap. The one holds float64: parameter at the next face along x, y and z; the same between faces; the trail of
# parameters at which the last voxels were entered. The other int64: voxels left before the border along x, y and z; how
# far the next voxel is in memory; the trail of voxels.
_Y, _Z = _LANES, 2 * _LANES
_BETWEEN = 3 * _LANES
_TRAIL = 6 * _LANES
_TRAIL_END = _TRAIL + _STEPS * _LANES
_TABLE = _TRAIL_END + _LANES

_Face = tuple[int, int, float, float]


def _spread(walk: Callable[[slice], None], num_rays: int) -> None:
    """Call `walk` on slices that together are all rays; four a thread, because some rays are longer than others."""
    num_threads = min(torch.get_num_threads(), num_rays // _MIN_RAYS_A_THREAD)
    if num_threads < 2:
        walk(slice(0, num_rays))
        return
    edges = np.linspace(0, num_rays, 4 * num_threads + 1).astype(int).tolist()
    with ThreadPoolExecutor(num_threads) as pool:
        list(pool.map(walk, (slice(a, b) for a, b in pairwise(edges))))


@njit(cache=True, error_model="numpy")
def _axis(origin: float, direction: float, truncate: bool) -> _Face:
    """Return voxel, step, parameter at the next face, and parameter between faces along one axis."""
    start = np.trunc(origin) if truncate else np.floor(origin)
    forward = direction >= 0
    level = direction == 0
    divisor = 1.0 if level else direction
    step = 1 if forward else -1
    next_face = ((start + 1.0 if forward else start) - origin) / divisor
    between_faces = step / divisor
    return int(start), step, _NEVER if level else next_face, _NEVER if level else between_faces


@njit(cache=True)
def _leaving(voxel: int, step: int, size: int) -> bool:
    """Whether a ray is beyond the grid along one axis and moves away from it."""
    return (voxel < 0 and step < 0) or (voxel >= size and step > 0)


@njit(cache=True)
def _nearest(t_x: float, t_y: float, t_z: float) -> int:
    """Return the axis whose face comes next; of equal ones the later axis."""
    if t_x < t_y:
        return 0 if t_x < t_z else 2
    return 1 if t_y < t_z else 2


@njit(cache=True)
def _enter(
    shape: tuple[int, int, int],
    origin: npt.NDArray[np.float64],
    direction: npt.NDArray[np.float64],
    truncate: bool,
    max_steps: int,
) -> tuple[bool, float, _Face, _Face, _Face]:
    """Walk to the first voxel inside the grid; return whether there is one, the parameter there, and each axis."""
    nx, ny, nz = shape
    x, step_x, t_x, delta_x = _axis(origin[0], direction[0], truncate)
    y, step_y, t_y, delta_y = _axis(origin[1], direction[1], truncate)
    z, step_z, t_z, delta_z = _axis(origin[2], direction[2], truncate)
    t = 0.0
    arrived = False
    for _ in range(max_steps):
        arrived = 0 <= x < nx and 0 <= y < ny and 0 <= z < nz
        if arrived or _leaving(x, step_x, nx) or _leaving(y, step_y, ny) or _leaving(z, step_z, nz):
            break
        axis = _nearest(t_x, t_y, t_z)
        if axis == 0:
            t = t_x
            x += step_x
            t_x += delta_x
        elif axis == 1:
            t = t_y
            y += step_y
            t_y += delta_y
        else:
            t = t_z
            z += step_z
            t_z += delta_z
    return arrived, t, (x, step_x, t_x, delta_x), (y, step_y, t_y, delta_y), (z, step_z, t_z, delta_z)


def first_hit(
    occupied: npt.NDArray[np.uint8],
    origins: npt.NDArray[np.float64],
    directions: npt.NDArray[np.float64],
    truncate: bool,
    max_steps_outside: int,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Return `index, entry, exit, hit` as `reference.first_hit`."""
    num_rays = len(origins)
    index = np.zeros((num_rays, 3), dtype=np.int64)
    entry = np.full(num_rays, -1.0)
    exit_ = np.full(num_rays, -1.0)
    hit = np.zeros(num_rays, dtype=np.bool_)

    def walk(part: slice) -> None:
        out = (index[part], entry[part], exit_[part], hit[part])
        _first_hit(occupied, origins[part], directions[part], truncate, max_steps_outside, *out)

    _spread(walk, num_rays)
    return index, entry, exit_, hit


@njit(cache=True, nogil=True)
def _first_hit(
    occupied: npt.NDArray[np.uint8],
    origins: npt.NDArray[np.float64],
    directions: npt.NDArray[np.float64],
    truncate: bool,
    max_steps_outside: int,
    index: npt.NDArray[np.int64],
    entry: npt.NDArray[np.float64],
    exit_: npt.NDArray[np.float64],
    hit: npt.NDArray[np.bool_],
) -> None:
    _, ny, nz = occupied.shape
    full = occupied.reshape(-1)
    times = np.zeros(_TABLE, dtype=np.float64)
    places = np.zeros(_TABLE, dtype=np.int64)
    next_times = np.zeros(_TRAIL + _LANES, dtype=np.float64)
    next_places = np.zeros(_TRAIL + _LANES, dtype=np.int64)
    ray = np.full(_LANES, -1)
    num_rays = origins.shape[0]
    num_walking = 0
    r = 0
    while r < num_rays or num_walking > 0:
        for lane in range(_LANES):
            if ray[lane] >= 0:
                if not _has_arrived(full, places, lane):
                    times[_TRAIL + lane] = times[_TRAIL_END + lane]
                    places[_TRAIL + lane] = places[_TRAIL_END + lane]
                    continue
                last = _last(full, places, lane)
                voxel = np.uint64(places[last])
                pencil = voxel // np.uint64(nz)
                done = ray[lane]
                index[done, 0] = pencil // np.uint64(ny)
                index[done, 1] = pencil % np.uint64(ny)
                index[done, 2] = voxel % np.uint64(nz)
                entry[done] = times[last]
                exit_[done] = times[last + _LANES]
                hit[done] = full[voxel] != 0
                ray[lane] = -1
                num_walking -= 1
            while ray[lane] < 0 and r < num_rays:
                seat = r % _LANES
                if seat == 0:
                    some = slice(r, r + _LANES)
                    _set_out(occupied.shape, origins[some], directions[some], truncate, next_times, next_places)
                if next_places[_TRAIL + seat] < 0:
                    inside, t, along_x, along_y, along_z = _enter(
                        occupied.shape, origins[r], directions[r], truncate, max_steps_outside
                    )
                    if inside:
                        _seat(occupied.shape, t, along_x, along_y, along_z, next_times, next_places, seat)
                if next_places[_TRAIL + seat] >= 0:
                    for row in range(0, _TRAIL + _LANES, _LANES):
                        times[row + lane] = next_times[row + seat]
                        places[row + lane] = next_places[row + seat]
                    ray[lane] = r
                    num_walking += 1
                r += 1
        _advance(times, places)


@njit(cache=True)
def _advance(times: npt.NDArray[np.float64], places: npt.NDArray[np.int64]) -> None:
    """Let every lane make `_STEPS` steps and leave its trail, whatever is in its way.

    One that would leave the grid stays in its last voxel from there on, which is how `_has_arrived` knows. The volume
    is not read here: the compiler could not rule out that a store changes it, and would walk one lane at a time.
    """
    for lane in range(_LANES):
        t_x, t_y, t_z = times[lane], times[_Y + lane], times[_Z + lane]
        delta_x, delta_y, delta_z = times[_BETWEEN + lane], times[_BETWEEN + _Y + lane], times[_BETWEEN + _Z + lane]
        left_x, left_y, left_z = places[lane], places[_Y + lane], places[_Z + lane]
        jump_x, jump_y, jump_z = places[_BETWEEN + lane], places[_BETWEEN + _Y + lane], places[_BETWEEN + _Z + lane]
        voxel = places[_TRAIL + lane]
        for step in range(1, _STEPS + 1):
            x_before_y = t_x < t_y
            sooner = t_x if x_before_y else t_y
            not_z = sooner < t_z
            take_x = not_z & x_before_y
            take_y = not_z & (not x_before_y)
            times[_TRAIL + step * _LANES + lane] = sooner if not_z else t_z
            t_x = t_x + delta_x if take_x else t_x
            t_y = t_y + delta_y if take_y else t_y
            t_z = t_z if not_z else t_z + delta_z
            left_x = left_x - 1 if take_x else left_x
            left_y = left_y - 1 if take_y else left_y
            left_z = left_z if not_z else left_z - 1
            beyond = voxel + (jump_x if take_x else (jump_y if take_y else jump_z))
            voxel = beyond if (left_x | left_y | left_z) >= 0 else voxel
            places[_TRAIL + step * _LANES + lane] = voxel
        times[lane], times[_Y + lane], times[_Z + lane] = t_x, t_y, t_z
        places[lane], places[_Y + lane], places[_Z + lane] = left_x, left_y, left_z


@njit(cache=True)
def _set_out(
    shape: tuple[int, int, int],
    origins: npt.NDArray[np.float64],
    directions: npt.NDArray[np.float64],
    truncate: bool,
    times: npt.NDArray[np.float64],
    places: npt.NDArray[np.int64],
) -> None:
    """Give each of at most `_LANES` rays its column; one that starts outside the grid is in voxel -1."""
    nx, ny, nz = shape
    for lane in range(len(origins)):
        along_x = _axis(origins[lane, 0], directions[lane, 0], truncate)
        along_y = _axis(origins[lane, 1], directions[lane, 1], truncate)
        along_z = _axis(origins[lane, 2], directions[lane, 2], truncate)
        _seat(shape, 0.0, along_x, along_y, along_z, times, places, lane)
        x, y, z = along_x[0], along_y[0], along_z[0]
        inside = (x >= 0) & (x < nx) & (y >= 0) & (y < ny) & (z >= 0) & (z < nz)
        places[_TRAIL + lane] = places[_TRAIL + lane] if inside else -1


@njit(cache=True)
def _seat(
    shape: tuple[int, int, int],
    t: float,
    along_x: _Face,
    along_y: _Face,
    along_z: _Face,
    times: npt.NDArray[np.float64],
    places: npt.NDArray[np.int64],
    lane: int,
) -> None:
    """Write the column of a ray that enters its voxel at `t`."""
    nx, ny, nz = shape
    x, step_x, t_x, delta_x = along_x
    y, step_y, t_y, delta_y = along_y
    z, step_z, t_z, delta_z = along_z
    times[lane], times[_Y + lane], times[_Z + lane] = t_x, t_y, t_z
    times[_BETWEEN + lane], times[_BETWEEN + _Y + lane], times[_BETWEEN + _Z + lane] = delta_x, delta_y, delta_z
    times[_TRAIL + lane] = t
    places[lane] = nx - 1 - x if step_x > 0 else x
    places[_Y + lane] = ny - 1 - y if step_y > 0 else y
    places[_Z + lane] = nz - 1 - z if step_z > 0 else z
    places[_BETWEEN + lane] = step_x * ny * nz
    places[_BETWEEN + _Y + lane] = step_y * nz
    places[_BETWEEN + _Z + lane] = step_z
    places[_TRAIL + lane] = (x * ny + y) * nz + z


@njit(cache=True)
def _has_arrived(full: npt.NDArray[np.uint8], places: npt.NDArray[np.int64], lane: int) -> bool:
    """Whether a ray has met something or the border within its trail."""
    met = np.uint8(0)
    for at in range(_TRAIL, _TRAIL_END, _LANES):
        met |= full[np.uint64(places[at + lane])]
    return (met != 0) | (places[_TRAIL_END + lane] == places[_TRAIL_END - _LANES + lane])


@njit(cache=True)
def _last(full: npt.NDArray[np.uint8], places: npt.NDArray[np.int64], lane: int) -> int:
    """Return where in its trail a ray that has arrived did so."""
    last = _TRAIL + lane
    walking = True
    for at in range(_TRAIL, _TRAIL_END - _LANES, _LANES):
        voxel = places[at + lane]
        walking &= (full[np.uint64(voxel)] == 0) & (places[at + _LANES + lane] != voxel)
        last += _LANES * walking
    return last


def visible_voxels(
    occupied: npt.NDArray[np.uint8],
    origins: npt.NDArray[np.float64],
    directions: npt.NDArray[np.float64],
    max_distance: float,
    max_steps_outside: int,
) -> npt.NDArray[np.bool_]:
    """Return the volume of `reference.visible_voxels`.

    The threads share it without a lock: all of them only ever write True, so their order does not matter.
    """
    seen = np.zeros(occupied.shape, dtype=np.bool_)

    def walk(part: slice) -> None:
        _visible_voxels(occupied, origins[part], directions[part], max_distance, max_steps_outside, seen)

    _spread(walk, len(origins))
    return seen


@njit(cache=True, nogil=True)
def _visible_voxels(
    occupied: npt.NDArray[np.uint8],
    origins: npt.NDArray[np.float64],
    directions: npt.NDArray[np.float64],
    max_distance: float,
    max_steps_outside: int,
    seen: npt.NDArray[np.bool_],
) -> None:
    nx, ny, nz = occupied.shape
    for r in range(origins.shape[0]):
        inside, t, along_x, along_y, along_z = _enter(
            occupied.shape, origins[r], directions[r], False, max_steps_outside
        )
        x, step_x, t_x, delta_x = along_x
        y, step_y, t_y, delta_y = along_y
        z, step_z, t_z, delta_z = along_z
        while inside and t < max_distance:
            seen[x, y, z] = True
            if occupied[x, y, z] != 0:
                break
            axis = _nearest(t_x, t_y, t_z)
            if axis == 0:
                t = t_x
                x += step_x
                t_x += delta_x
                inside = 0 <= x < nx
            elif axis == 1:
                t = t_y
                y += step_y
                t_y += delta_y
                inside = 0 <= y < ny
            else:
                t = t_z
                z += step_z
                t_z += delta_z
                inside = 0 <= z < nz


@njit(cache=True, nogil=True)
def carve(
    shape: tuple[int, int, int],
    origins: npt.NDArray[np.float64],
    ends: npt.NDArray[np.float64],
    max_steps_outside: int,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return `passed, hit` as `reference.carve`; on one core, because the rays of a scan add to the same voxels."""
    nx, ny, nz = shape
    passed = np.zeros(shape, dtype=np.int64)
    hit = np.zeros(shape, dtype=np.int64)
    for r in range(origins.shape[0]):
        end_x = math.floor(ends[r, 0])
        end_y = math.floor(ends[r, 1])
        end_z = math.floor(ends[r, 2])
        if 0 <= end_x < nx and 0 <= end_y < ny and 0 <= end_z < nz:
            hit[end_x, end_y, end_z] += 1
        inside, t, along_x, along_y, along_z = _enter(shape, origins[r], ends[r] - origins[r], False, max_steps_outside)
        x, step_x, t_x, delta_x = along_x
        y, step_y, t_y, delta_y = along_y
        z, step_z, t_z, delta_z = along_z
        while inside and t < 1.0 and not (x == end_x and y == end_y and z == end_z):
            passed[x, y, z] += 1
            axis = _nearest(t_x, t_y, t_z)
            if axis == 0:
                t = t_x
                x += step_x
                t_x += delta_x
                inside = 0 <= x < nx
            elif axis == 1:
                t = t_y
                y += step_y
                t_y += delta_y
                inside = 0 <= y < ny
            else:
                t = t_z
                z += step_z
                t_z += delta_z
                inside = 0 <= z < nz
    return passed, hit


def seen_voxels(
    shape: tuple[int, int, int],
    origins: npt.NDArray[np.float64],
    ends: npt.NDArray[np.float64],
    max_steps_outside: int,
) -> npt.NDArray[np.bool_]:
    """Return the volume of `reference.seen_voxels`; the threads share it as in `visible_voxels`."""
    seen = np.zeros(shape, dtype=np.bool_)
    directions = ends - origins

    def walk(part: slice) -> None:
        _seen_voxels(shape, origins[part], directions[part], ends[part], max_steps_outside, seen.reshape(-1))

    _spread(walk, len(origins))
    return seen


@njit(cache=True, nogil=True)
def _seen_voxels(
    shape: tuple[int, int, int],
    origins: npt.NDArray[np.float64],
    directions: npt.NDArray[np.float64],
    ends: npt.NDArray[np.float64],
    max_steps_outside: int,
    seen: npt.NDArray[np.bool_],
) -> None:
    """The walk of `carve` on places in memory: a step adds a stride, and what is left of the grid is counted down."""
    nx, ny, nz = shape
    for r in range(origins.shape[0]):
        end_x, end_y, end_z = math.floor(ends[r, 0]), math.floor(ends[r, 1]), math.floor(ends[r, 2])
        end = -1
        if 0 <= end_x < nx and 0 <= end_y < ny and 0 <= end_z < nz:
            end = (end_x * ny + end_y) * nz + end_z
            seen[end] = True
        inside, t, along_x, along_y, along_z = _enter(shape, origins[r], directions[r], False, max_steps_outside)
        if not inside:
            continue
        x, step_x, t_x, delta_x = along_x
        y, step_y, t_y, delta_y = along_y
        z, step_z, t_z, delta_z = along_z
        at = np.uint64((x * ny + y) * nz + z)
        end_at = np.uint64(end)
        stride_x, stride_y, stride_z = np.uint64(step_x * ny * nz), np.uint64(step_y * nz), np.uint64(step_z)
        left_x = nx - x if step_x > 0 else x + 1
        left_y = ny - y if step_y > 0 else y + 1
        left_z = nz - z if step_z > 0 else z + 1
        while t < 1.0 and at != end_at:
            seen[at] = True
            axis = _nearest(t_x, t_y, t_z)
            if axis == 0:
                t = t_x
                t_x += delta_x
                at += stride_x
                left_x -= 1
                if left_x == 0:
                    break
            elif axis == 1:
                t = t_y
                t_y += delta_y
                at += stride_y
                left_y -= 1
                if left_y == 0:
                    break
            else:
                t = t_z
                t_z += delta_z
                at += stride_z
                left_z -= 1
                if left_z == 0:
                    break
