"""What rays see of a labelled volume, and how it is lit: the part shared by every picture."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool, Float, Int, UInt8

from occkit.geometry import Rays, VoxelGrid, intersect_box
from occkit.ops.raycast import first_hit
from occkit.samples import Occupancy

FloatArray = npt.NDArray[np.float32]

SUN = (-0.42, 0.58, 1.0)
"""Direction towards the light, grid frame: from behind, left and above; faces differ and shadows fall to the right."""

_AXES = ((1, 2), (0, 2), (0, 1))
"""For a face normal to axis a: the two axes that span it."""


@dataclass(frozen=True, kw_only=True)
class Surface:
    """The first occupied face on each ray."""

    ray: Int[np.ndarray, "h"]
    """Which ray it lies on; rays that see nothing are left out."""
    index: Int[np.ndarray, "h 3"]
    """The voxel."""
    distance: Float[np.ndarray, "h"]
    """Ray parameter at which the voxel is entered (metres, along the ray or along z, as the rays were made)."""
    axis: Int[np.ndarray, "h"]
    """Axis the face is normal to."""
    sign: Int[np.ndarray, "h"]
    """-1 or +1: the side on which the face looks out along its axis."""
    position: Float[np.ndarray, "h 3"]
    """Where the ray meets the face, voxel units."""

    @cached_property
    def on_face(self) -> tuple[FloatArray, FloatArray]:
        """The position within the face, 0..1 along the two axes that span it, in ascending order of the axes."""
        x, y, z = np.clip(self.position - self.index, 0.0, 1.0).astype(np.float32).T
        return np.where(self.axis == 0, y, x), np.where(self.axis == 2, y, z)


def find_surface(
    occupied: Bool[np.ndarray, "x y z"], grid: VoxelGrid, rays: Rays, *, min_distance: float = 0.0
) -> Surface:
    """Return the first occupied face along each ray.

    Args:
        occupied: where there is something.
        grid: where the volume lies.
        rays: `[n, 3]` origins and directions, frame of the grid, metres.
        min_distance: what lies nearer (ray parameter) is looked through; a camera inside its own car's voxels sees
            more than them.
    """
    near, _, meets = intersect_box(rays, grid)
    # A ray is moved up to the box and a hair inside, so that the marcher begins in the voxel that the ray enters.
    start = (near.clamp(min=min_distance) + 1e-4 * min(grid.voxel_size)).double()
    chosen = torch.nonzero(meets).flatten()
    directions = rays.directions[chosen].double()
    origins = rays.origins[chosen].double() + start[chosen, None] * directions
    size = torch.tensor(grid.voxel_size, dtype=torch.float64)
    begin, steps = grid.continuous_index(origins), directions / size
    hits = first_hit(torch.from_numpy(np.ascontiguousarray(occupied)), begin, steps)
    seen = hits.hit
    return _faces(
        ray=chosen[seen].numpy(),
        index=hits.index[seen].numpy(),
        begin=begin[seen].numpy(),
        steps=steps[seen].numpy(),
        start=start[chosen[seen]].numpy(),
    )


def _faces(
    *,
    ray: npt.NDArray[np.int64],
    index: npt.NDArray[np.int64],
    begin: npt.NDArray[np.float64],
    steps: npt.NDArray[np.float64],
    start: npt.NDArray[np.float64],
) -> Surface:
    """Work out which face of its voxel each ray enters, and where."""
    backwards = steps < 0
    with np.errstate(divide="ignore", invalid="ignore"):
        x, y, z = np.where(steps == 0, -np.inf, (index + backwards - begin) / steps).T
    axis = np.where((x >= y) & (x >= z), 0, np.where(y >= z, 1, 2))  # the last of the three planes to be crossed
    entry = np.maximum(np.maximum(np.maximum(x, y), z), 0.0)
    return Surface(
        ray=ray,
        index=index,
        distance=(start + entry).astype(np.float32),
        axis=axis,
        sign=np.where(np.choose(axis, backwards.T), 1, -1),
        position=begin + entry[:, None] * steps,
    )


def face_light(surface: Surface) -> FloatArray:
    """Return the brightness of each face by the way it looks: top brightest, walls in between, undersides dark."""
    table = np.array([[0.82, 0.78], [0.80, 0.92], [0.55, 1.0]], dtype=np.float32)
    return table[surface.axis, (surface.sign > 0).astype(np.int64)]


def corner_shade(occupied: Bool[np.ndarray, "x y z"], surface: Surface) -> FloatArray:
    """Return how open each point of the surface is, 0.5 (in a niche) .. 1 (free).

    Ambient occlusion: at a corner of a face the neighbours in front of it are counted (two sides and the diagonal; two
    sides close the corner entirely), and the four corners are interpolated over the face.

    Source: the vertex rule of Lysenko, "Ambient occlusion for Minecraft-like worlds", 2013.
    """
    padded = np.pad(occupied, 2)
    front = surface.index + 2
    rows = np.arange(len(surface.ray))
    front[rows, surface.axis] += surface.sign
    strides = np.array([padded.shape[1] * padded.shape[2], padded.shape[2], 1])
    flat = padded.ravel()
    base = front @ strides
    plane = strides[np.asarray(_AXES)][surface.axis]
    step_u, step_v = plane[:, 0], plane[:, 1]
    open_at: dict[tuple[int, int], FloatArray] = {}
    for du in (-1, 1):
        side_u = flat[base + du * step_u]
        for dv in (-1, 1):
            side_v = flat[base + dv * step_v]
            corner = flat[base + du * step_u + dv * step_v]
            blocked = np.where(side_u & side_v, 3, side_u.astype(np.int8) + side_v + corner)
            open_at[du, dv] = (1.0 - blocked / 6.0).astype(np.float32)
    u, v = surface.on_face
    low = open_at[-1, -1] * (1 - v) + open_at[-1, 1] * v
    high = open_at[1, -1] * (1 - v) + open_at[1, 1] * v
    return (low * (1 - u) + high * u).astype(np.float32)


def sun_light(
    occupied: Bool[np.ndarray, "x y z"], grid: VoxelGrid, surface: Surface, sun: npt.NDArray[np.float64]
) -> FloatArray:
    """Return 1 where the sun reaches the surface and 0 where a voxel stands in between or the face looks away.

    Args:
        occupied: where there is something.
        grid: where the volume lies.
        surface: the points to light.
        sun: direction towards the light, metres.
    """
    towards = sun[surface.axis] * surface.sign > 0
    lit = np.zeros(len(surface.ray), dtype=np.float32)
    rows = np.nonzero(towards)[0]
    position = surface.position[rows].copy()
    position[np.arange(len(rows)), surface.axis[rows]] += 1e-3 * surface.sign[rows]
    inside = ((position >= 0) & (position < np.array(grid.shape))).all(axis=1)
    lit[rows[~inside]] = 1.0
    rows, position = rows[inside], position[inside]
    direction = np.tile(sun / np.array(grid.voxel_size), (len(position), 1))
    hits = first_hit(
        torch.from_numpy(np.ascontiguousarray(occupied)),
        torch.from_numpy(position),
        torch.from_numpy(direction),
    )
    lit[rows[~hits.hit.numpy()]] = 1.0
    return lit


def border_line(surface: Surface, footprint: npt.NDArray[np.floating]) -> FloatArray:
    """Return 1 within a face and less along the borders of its voxel, fading where a voxel is only a few pixels large.

    Args:
        surface: the points.
        footprint: size of a pixel at each point, voxel units.
    """
    u, v = surface.on_face
    to_border = np.minimum(np.minimum(u, 1 - u), np.minimum(v, 1 - v))
    width = np.maximum(0.035, 0.6 * footprint)
    strength = 0.30 * np.clip(1.0 - footprint / 0.30, 0.0, 1.0)
    return (1.0 - strength * (to_border < width)).astype(np.float32)


def colours_of(occupancy: Occupancy, surface: Surface) -> FloatArray:
    """Return the colour of the class at each point, 0..1."""
    semantics: UInt8[np.ndarray, "x y z"] = occupancy.semantics.numpy()
    ids = semantics[surface.index[:, 0], surface.index[:, 1], surface.index[:, 2]]
    table = occupancy.taxonomy.palette().astype(np.float32) / 255.0
    # A tenth of grey takes the glare off pure colours without moving them away from the legend's.
    table = 0.9 * table + 0.1 * table.mean(axis=1, keepdims=True)
    return table[ids]
