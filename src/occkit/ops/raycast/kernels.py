"""The walk of `reference.py` one ray at a time, compiled; rays are spread over as many threads as torch may use.

The arithmetic is that of the reference, operation by operation, and no fast-math is allowed: the two agree to the last
bit. A step can leave the grid only along the axis it was made, so inside the grid one comparison a step is enough; the
rest of the speed is that nothing is stored on the way. The three walks are written out because a shared one would have
to ask at every voxel what it is for.

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


@njit(cache=True)
def _axis(origin: float, direction: float, truncate: bool) -> _Face:
    """Return voxel, step, parameter at the next face, and parameter between faces along one axis."""
    voxel = int(origin) if truncate else math.floor(origin)
    step = 1 if direction >= 0 else -1
    if direction == 0:
        return voxel, step, _NEVER, _NEVER
    face = voxel + 1 if step > 0 else voxel
    return voxel, step, (face - origin) / direction, step / direction


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
    nx, ny, nz = occupied.shape
    for r in range(origins.shape[0]):
        inside, leave, along_x, along_y, along_z = _enter(
            occupied.shape, origins[r], directions[r], truncate, max_steps_outside
        )
        if not inside:
            continue
        x, step_x, t_x, delta_x = along_x
        y, step_y, t_y, delta_y = along_y
        z, step_z, t_z, delta_z = along_z
        found = False
        enter = leave
        last_x, last_y, last_z = x, y, z
        while inside and not found:
            last_x, last_y, last_z = x, y, z
            enter = leave
            found = occupied[x, y, z] != 0
            axis = _nearest(t_x, t_y, t_z)
            if axis == 0:
                leave = t_x
                x += step_x
                t_x += delta_x
                inside = 0 <= x < nx
            elif axis == 1:
                leave = t_y
                y += step_y
                t_y += delta_y
                inside = 0 <= y < ny
            else:
                leave = t_z
                z += step_z
                t_z += delta_z
                inside = 0 <= z < nz
        index[r, 0] = last_x
        index[r, 1] = last_y
        index[r, 2] = last_z
        entry[r] = enter
        exit_[r] = leave
        hit[r] = found


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
