"""Pictures of the world: colour, z-depth, word and instance a pixel (numba), with texture, light, air and noise.

Every random number is a hash of place or pixel, so an image does not depend on what was rendered before it.
"""

from dataclasses import dataclass
from math import exp, floor, sqrt

import numpy as np
import numpy.typing as npt
from numba import njit

from occkit.world.primitives import (
    BALL,
    BOOKS,
    BOX,
    BRICK,
    CANVAS,
    CLOTH,
    CYLINDER,
    DRAPES,
    FACADE,
    FENCE_MESH,
    FOLIAGE,
    PAINT,
    PLANKS,
    PLASTER,
    ROOF,
    SIGN,
    STRIPES,
    TILES,
    Bytes,
    Floats,
    Singles,
)
from occkit.world.scene import Look, Street
from occkit.world.tracing import GROUND, MISS, Tracer, TracerArrays, trace_one
from occkit.world.words import NOTHING, word_id

REACH = 110.0
"""Depth beyond which nothing is drawn, metres."""

_MARKING, _ROAD, _GRASS = word_id("lane marking"), word_id("road"), word_id("grass")


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One rendered image and its truth."""

    colour: npt.NDArray[np.uint8]
    """`[h, w, 3]` RGB."""
    depth: npt.NDArray[np.float32]
    """`[h, w]` z-depth of the pixel centre, metres; 0 where there is nothing."""
    word: npt.NDArray[np.uint8]
    """`[h, w]` word id."""
    instance: npt.NDArray[np.uint16]
    """`[h, w]` instance id, 0 for stuff."""


@dataclass(frozen=True, kw_only=True)
class Lens:
    """A camera at the moment of exposure."""

    intrinsics: Floats
    """`[3, 3]` pixels."""
    global_from_camera: Floats
    """`[4, 4]`."""
    height: int
    """Pixels."""
    width: int
    """Pixels."""


@dataclass(frozen=True, kw_only=True)
class Exposure:
    """How the sensor turns light into numbers."""

    gain: float
    """Factor on all light."""
    noise: float
    """Standard deviation of a pixel, of full scale."""
    seed: int
    """Of the noise."""
    texture: float
    """Strength of surface textures."""
    shadows: bool
    """Whether the sun's shadows are traced."""
    supersample: int
    """Rays a pixel along each axis."""


def render(tracer: Tracer, lens: Lens, look: Look, street: Street | None, exposure: Exposure) -> Picture:
    """Render one image.

    Args:
        tracer: the world at the time of exposure.
        lens: camera.
        look: light and air.
        street: whose lane marks are painted; None paints none.
        exposure: sensor.
    """
    ground = tracer.ground
    rotation = lens.global_from_camera[:3, :3] @ np.linalg.inv(lens.intrinsics)
    light = np.array([look.direct, look.ambient, look.haze, look.headlights, exposure.gain, exposure.noise])
    marks = np.zeros(2) if street is None else np.array([street.half_width, float(street.lanes)])
    skies = np.stack([look.sun, look.tint, look.zenith, look.horizon])
    solids = tracer.solids
    colour, depth, word, instance = _render(
        lens.height, lens.width, np.ascontiguousarray(rotation), lens.global_from_camera[:3, 3].copy(),
        exposure.supersample, exposure.shadows, exposure.texture, exposure.seed, look.seed, light, skies, look.lamps,
        marks, look.palette, solids.half, solids.word, solids.instance, solids.material, solids.colour, solids.rotation,
        ground.words, ground.along, ground.across, ground.raster, tracer.arrays(),
    )  # fmt: skip
    return Picture(colour=colour, depth=depth, word=word, instance=instance)


@njit(cache=True, inline="always")
def _mix(value: np.uint64) -> np.uint64:
    """Scramble 64 bits (the finaliser of splitmix64)."""
    value = np.uint64(value)
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


@njit(cache=True, inline="always")
def _along_x(x: float) -> np.uint64:
    """What the first coordinate of a lattice point adds to its hash."""
    return np.uint64(np.int64(x) * 73856093)


@njit(cache=True, inline="always")
def _along_y(y: float) -> np.uint64:
    return np.uint64(np.int64(y) * 19349663)


@njit(cache=True, inline="always")
def _along_z(z: float) -> np.uint64:
    return np.uint64(np.int64(z) * 83492791)


@njit(cache=True, inline="always")
def _uniform(h: np.uint64, seed: int) -> float:
    """Uniform 0..1 number of a hash."""
    return float(_mix(h + np.uint64(seed)) >> np.uint64(40)) / 16777216.0


@njit(cache=True, inline="always")
def _lattice(x: float, y: float, z: float, seed: int) -> float:
    """Uniform 0..1 number of a lattice point."""
    return _uniform(_along_x(x) ^ _along_y(y) ^ _along_z(z), seed)


@njit(cache=True)
def _value_noise(x: float, y: float, z: float, seed: int) -> float:
    """Smooth noise 0..1: cubic blend of the eight lattice numbers around a point."""
    fx, fy, fz = floor(x), floor(y), floor(z)
    u, v, w = x - fx, y - fy, z - fz
    u, v, w = u * u * (3 - 2 * u), v * v * (3 - 2 * v), w * w * (3 - 2 * w)
    near, far = _along_z(fz), _along_z(fz + 1)
    total = 0.0
    for i in range(2):
        a = u if i else 1 - u
        along_x = _along_x(fx + i)
        for j in range(2):
            b = v if j else 1 - v
            edge = along_x ^ _along_y(fy + j)
            total += a * b * (_uniform(edge ^ near, seed) * (1 - w) + _uniform(edge ^ far, seed) * w)
    return total


@njit(cache=True, error_model="numpy")
def _unit_normal(kind: int, x: float, y: float, z: float) -> tuple[float, float, float]:
    """Outward normal, in unit coordinates, at a point on a solid (not yet scaled by its extents)."""
    if kind == BALL:
        return x, y, z
    if kind == BOX:
        ax, ay, az = abs(x), abs(y), abs(z)
        if ax >= ay and ax >= az:
            return (1.0 if x > 0 else -1.0), 0.0, 0.0
        if ay >= az:
            return 0.0, (1.0 if y > 0 else -1.0), 0.0
        return 0.0, 0.0, (1.0 if z > 0 else -1.0)
    if kind == ROOF:
        if abs(x) > 0.999:
            return (1.0 if x > 0 else -1.0), 0.0, 0.0
        if z < -0.999:
            return 0.0, 0.0, -1.0
        return 0.0, (2.0 if y > 0 else -2.0), 1.0
    if abs(z) > 0.9999:
        return 0.0, 0.0, (1.0 if z > 0 else -1.0)
    return x, y, (0.0 if kind == CYLINDER else 0.425 * sqrt(x * x + y * y))


@njit(cache=True, error_model="numpy")
def _surface_blend(
    material: int, side: float, x: float, y: float, z: float, seed: int, ident: int
) -> tuple[float, float]:
    """Share of a surface's second colour (0..1) and a factor on its brightness.

    Args:
        material: kind of surface.
        side: whether the surface is upright.
        x: metres, along the first axis of the primitive.
        y: along the second.
        z: along the third.
        seed: of the textures.
        ident: number of the primitive, so that equal things differ.
    """
    if material == FACADE:
        across = y if abs(side) > 0.5 else x
        u, v = across / 2.4 + 0.13 * (ident % 7), z / 2.9 + 0.15
        fu, fv = u - floor(u), v - floor(v)
        window = 0.22 < fu < 0.78 and 0.3 < fv < 0.8
        lit = 0.7 + 0.6 * _lattice(floor(u), floor(v), ident, seed)
        return (0.85, lit) if window and abs(side) > 0.01 else (0.0, 0.85 + 0.3 * _value_noise(x, y, z, seed))
    if material == FOLIAGE:
        rough = _value_noise(2.6 * x, 2.6 * y, 2.6 * z, seed + ident)
        return rough, 0.6 + 0.8 * _value_noise(7 * x, 7 * y, 7 * z, seed + ident)
    if material == BRICK:
        u, v = (x + y) / 0.5, z / 0.25
        joint = (u - floor(u) < 0.12) or (v - floor(v) < 0.2)
        return (0.6 if joint else 0.25 * _lattice(floor(u), floor(v), ident, seed)), 0.9 + 0.2 * _value_noise(
            x, y, z, seed
        )
    if material == STRIPES:
        u = (x + y + z) / 0.36
        return (1.0 if u - floor(u) < 0.5 else 0.0), 1.0
    if material == SIGN:
        return (1.0 if (abs(y) < 0.14 and abs(z - 0.02) < 0.07) or abs(y) > 0.3 else 0.0), 1.0
    if material == FENCE_MESH:
        u = (x + y) / 0.22
        return (0.9 if u - floor(u) < 0.35 else 0.0), 0.9 + 0.2 * _value_noise(2 * x, 2 * y, 2 * z, seed)
    if material == CLOTH:
        return 0.6 * _value_noise(9 * x, 9 * y, 9 * z, seed + ident), 0.9
    if material == PLANKS:
        u, v = x / 0.14, (y + 0.37 * floor(x / 0.14)) / 1.1
        joint = u - floor(u) < 0.06 or v - floor(v) < 0.01
        grain = _value_noise(30 * x, 2.0 * y, 30 * z, seed)
        return (1.0 if joint else 0.45 * _lattice(floor(u), floor(v), ident, seed)), 0.85 + 0.3 * grain
    if material == TILES:
        u, v = (x if abs(side) < 0.5 else y) / 0.2, (z if side != 0.0 else y) / 0.2
        joint = u - floor(u) < 0.06 or v - floor(v) < 0.06
        return (1.0 if joint else 0.15 * _lattice(floor(u), floor(v), ident, seed)), 1.0
    if material == BOOKS:
        u = y / 0.035
        return _lattice(floor(u), floor(z / 0.36), ident, seed), 0.7 + 0.6 * _lattice(floor(u), 7.0, ident, seed + 1)
    if material == CANVAS:
        spots = _value_noise(4 * y, 4 * z, 0.5, seed + 31 * ident)
        return (1.0 if spots > 0.55 else 0.0), 0.7 + 0.6 * _value_noise(9 * y, 9 * z, 1.5, seed + ident)
    if material == DRAPES:
        u = y / 0.09
        return 0.5 * abs(2.0 * (u - floor(u)) - 1.0), 1.0
    if material == PLASTER:
        return 0.0, 0.95 + 0.1 * _value_noise(1.3 * x, 1.3 * y, 1.3 * z, seed)
    if material == PAINT:
        return (1.0 if abs(z) < 0.08 else 0.0), 0.92 + 0.16 * _value_noise(1.5 * x, 1.5 * y, 1.5 * z, seed + ident)
    return 0.0, 0.85 + 0.3 * _value_noise(3 * x, 3 * y, 3 * z, seed + ident)


@njit(cache=True, error_model="numpy")
def _place_on_road(
    x: float, y: float, origin: Floats, raster: float, ground_along: Singles, ground_across: Singles
) -> tuple[float, float]:
    """Arc length and offset between raster cells, so that marks have straight edges; the nearest cell's at a seam."""
    u, v = (x - origin[0]) / raster - 0.5, (y - origin[1]) / raster - 0.5
    i = min(max(floor(u), 0), ground_across.shape[0] - 2)
    j = min(max(floor(v), 0), ground_across.shape[1] - 2)
    u, v = u - i, v - j
    a, b = ground_across[i, j], ground_across[i + 1, j + 1]
    c, d = ground_across[i + 1, j], ground_across[i, j + 1]
    if max(max(a, b), max(c, d)) - min(min(a, b), min(c, d)) > 2 * raster:
        i, j = i + (u > 0.5), j + (v > 0.5)
        return float(ground_along[i, j]), float(ground_across[i, j])
    across = (a * (1 - v) + d * v) * (1 - u) + (c * (1 - v) + b * v) * u
    near = ground_along[i, j] * (1 - v) + ground_along[i, j + 1] * v
    far = ground_along[i + 1, j] * (1 - v) + ground_along[i + 1, j + 1] * v
    return near * (1 - u) + far * u, across


@njit(cache=True, error_model="numpy")
def _ground_word(word: int, s: float, d: float, marks: Floats) -> int:
    """Turn road into lane marking where the paint is: edge lines, dashed lane lines and the centre line."""
    half_width, lanes = marks
    gap = abs(d)
    if word != _ROAD or gap > 1e4:
        return word
    dashed = s / 6.0 - floor(s / 6.0) < 0.5
    if abs(gap - (half_width - 0.18)) < 0.07 or (gap < 0.08 and (dashed or lanes > 1)):
        return _MARKING
    if lanes > 1 and dashed and abs(gap - 3.4) < 0.07:
        return _MARKING
    return word


@njit(cache=True, error_model="numpy")
def _ground_shade(word: int, x: float, y: float, seed: int) -> float:
    """Brightness of the ground at a point."""
    coarse = _value_noise(0.6 * x, 0.6 * y, 0.5, seed)
    fine = _value_noise(5.0 * x, 5.0 * y, 1.5, seed)
    if word == _GRASS or word == _GRASS + 1:
        return 0.6 + 0.4 * coarse + 0.4 * fine
    return 0.8 + 0.25 * coarse + 0.15 * fine


@njit(cache=True, error_model="numpy")
def _render(
    height: int,
    width: int,
    rotation: Floats,
    eye: Floats,
    samples: int,
    shadows: bool,
    texture: float,
    noise_seed: int,
    seed: int,
    light: Floats,
    skies: Floats,
    lamps: Floats,
    marks: Floats,
    palette: Floats,
    half: Floats,
    words: Bytes,
    instances: npt.NDArray[np.uint16],
    material: Bytes,
    colours: Floats,
    axes: Floats,
    ground_words: Bytes,
    ground_along: Singles,
    ground_across: Singles,
    raster: float,
    scene: TracerArrays,
) -> tuple[Bytes, Singles, Bytes, npt.NDArray[np.uint16]]:
    direct, ambient, haze, headlights, gain, noise = light
    origin, cell, heights, first, members, top, crest, affine, kind = scene
    sun, tint, zenith, horizon = skies[0], skies[1], skies[2], skies[3]
    colour = np.empty((height, width, 3), np.uint8)
    depth = np.zeros((height, width), np.float32)
    word_map = np.zeros((height, width), np.uint8)
    instance_map = np.zeros((height, width), np.uint16)
    total, base = np.zeros(3), np.zeros(3)
    centre_apart = samples % 2 == 0
    rays = samples * samples + (1 if centre_apart else 0)
    within = np.full((rays, 2), 0.5)
    for ray in range(samples * samples):
        within[ray, 0] = (ray % samples + 0.5) / samples
        within[ray, 1] = (ray // samples + 0.5) / samples
    for row in range(height):
        for column in range(width):
            total[:] = 0.0
            for ray in range(rays):
                counted = ray < samples * samples
                centre = (not counted) if centre_apart else ray == (samples * samples) // 2
                px, py = column + within[ray, 0], row + within[ray, 1]
                dx = rotation[0, 0] * px + rotation[0, 1] * py + rotation[0, 2]
                dy = rotation[1, 0] * px + rotation[1, 1] * py + rotation[1, 2]
                dz = rotation[2, 0] * px + rotation[2, 1] * py + rotation[2, 2]
                length = sqrt(dx * dx + dy * dy + dz * dz)
                t, hit = trace_one(
                    eye[0],
                    eye[1],
                    eye[2],
                    dx,
                    dy,
                    dz,
                    REACH,
                    origin,
                    cell,
                    heights,
                    first,
                    members,
                    top,
                    crest,
                    affine,
                    kind,
                )
                x, y, z = eye[0] + t * dx, eye[1] + t * dy, eye[2] + t * dz
                word, instance, shade, lit, glow = NOTHING, 0, 1.0, direct * sun[2], 0.0
                if hit == GROUND:
                    gx = min(max(int((x - origin[0]) / raster), 0), ground_words.shape[0] - 1)
                    gy = min(max(int((y - origin[1]) / raster), 0), ground_words.shape[1] - 1)
                    along, across = _place_on_road(x, y, origin, raster, ground_along, ground_across)
                    word = _ground_word(ground_words[gx, gy], along, across, marks)
                    for c in range(3):
                        base[c] = palette[word, c]
                    shade = _ground_shade(word, x, y, seed)
                elif hit != MISS:
                    i = hit
                    word, instance = words[i], instances[i]
                    ax, ay, az = x - affine[i, 9], y - affine[i, 10], z - affine[i, 11]
                    qx = affine[i, 0] * ax + affine[i, 1] * ay + affine[i, 2] * az
                    qy = affine[i, 3] * ax + affine[i, 4] * ay + affine[i, 5] * az
                    qz = affine[i, 6] * ax + affine[i, 7] * ay + affine[i, 8] * az
                    nx, ny, nz = _unit_normal(kind[i], qx, qy, qz)
                    nx, ny, nz = nx / half[i, 0], ny / half[i, 1], nz / half[i, 2]
                    size = sqrt(nx * nx + ny * ny + nz * nz)
                    side = nx / size if abs(nz / size) < 0.7 else 0.0
                    if abs(side) < 1e-6 and abs(ny / size) > 0.5:
                        side = 0.1
                    blend, shade = _surface_blend(
                        material[i], side, qx * half[i, 0], qy * half[i, 1], qz * half[i, 2], seed, i
                    )
                    for c in range(3):
                        base[c] = colours[i, c] * (1 - texture * blend) + colours[i, c + 3] * texture * blend
                    facing = 0.0
                    up = 0.0
                    for c in range(3):
                        w = (axes[i, c, 0] * nx + axes[i, c, 1] * ny + axes[i, c, 2] * nz) / size
                        facing += w * sun[c]
                        up = w
                    lit = direct * max(facing, 0.0) - 0.25 * ambient * (1 - up) * 0.5
                    for k in range(len(lamps)):
                        lx, ly, lz = lamps[k, 0] - x, lamps[k, 1] - y, lamps[k, 2] - z
                        square = lx * lx + ly * ly + lz * lz
                        facing = 0.0
                        for c, towards in enumerate((lx, ly, lz)):
                            facing += (axes[i, c, 0] * nx + axes[i, c, 1] * ny + axes[i, c, 2] * nz) / size * towards
                        if facing <= 0.0:
                            continue
                        if shadows:
                            _, blocker = trace_one(
                                x - 2e-3 * dx, y - 2e-3 * dy, z - 2e-3 * dz, lx, ly, lz, 0.97,
                                origin, cell, heights, first, members, top, crest, affine, kind,
                            )  # fmt: skip
                            if blocker != MISS:
                                continue
                        glow += lamps[k, 3] * facing / (sqrt(square) * (1.0 + square / 3.0))
                else:
                    climb = min(max(dz / length, 0.0), 1.0) ** 0.6
                    cloud = 0.9 + 0.2 * _value_noise(6 * dx / length, 6 * dy / length, 12 * dz / length, seed)
                    for c in range(3):
                        base[c] = (horizon[c] * (1 - climb) + zenith[c] * climb) * (1 + texture * (cloud - 1))
                if hit != MISS:
                    if shadows and lit > 0.0 and direct > 0.3:
                        _, blocker = trace_one(
                            x + 0.01 * sun[0] - 1e-3 * dx, y + 0.01 * sun[1] - 1e-3 * dy, z + 0.02,
                            sun[0], sun[1], sun[2], 40.0,
                            origin, cell, heights, first, members, top, crest, affine, kind,
                        )  # fmt: skip
                        if blocker >= 0:
                            lit = 0.0
                    distance = t * length
                    lamp = headlights * exp(-distance / 16.0) if headlights > 0.0 else 0.0
                    clear = exp(-haze * distance)
                    strength = (ambient + lit + lamp + glow) * (1 + texture * (shade - 1))
                    for c in range(3):
                        base[c] = base[c] * tint[c] * strength * clear + horizon[c] * (1 - clear)
                if counted:
                    for c in range(3):
                        total[c] += base[c]
                if centre and hit != MISS:
                    depth[row, column] = t
                    word_map[row, column] = word
                    instance_map[row, column] = instance
            bits = _mix(np.uint64(row * width + column + 1) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(noise_seed))
            for c in range(3):
                bits = _mix(bits + np.uint64(c + 1))
                # The sum of four uniform numbers is close to normal: mean 2, standard deviation 1/sqrt(3).
                four = 0.0
                for k in range(4):
                    four += float((bits >> np.uint64(16 * k)) & np.uint64(0xFFFF)) / 65536.0
                value = gain * total[c] / (samples * samples) + noise * (four - 2.0) * 1.7320508
                colour[row, column, c] = np.uint8(min(max(value, 0.0), 1.0) * 255.0 + 0.5)
    return colour, depth, word_map, instance_map
