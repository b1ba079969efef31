"""What stands for good: trees, lamps, signs, houses, walls; parts in the object's frame (x forward, z up), metres."""

import numpy as np

from occkit.world.painter import BLACK, GLASS, GREY, RED, WHITE, WOOD, YELLOW, Painter
from occkit.world.primitives import (
    BALL,
    BOX,
    BRICK,
    CONE,
    CYLINDER,
    FACADE,
    FENCE_MESH,
    FOLIAGE,
    ROOF,
    SIGN,
    STRIPES,
    Floats,
    Part,
)
from occkit.world.words import word_id


def tree(p: Painter) -> list[Part]:
    """A trunk and a crown of several balls, or a conifer."""
    trunk, leaf = p.typical(WOOD, 0.04), p.typical(np.array([0.16, 0.32, 0.1]), 0.05)
    height, radius = p.size(4.5, 9.0), p.size(1.2, 2.6)
    stem = word_id("tree trunk")
    if p.rng.random() < 0.2:
        crown = Part(CONE, (0, 0, 0.58 * height), (radius, radius, 0.42 * height), leaf, FOLIAGE, leaf * 0.45)
        return [
            crown,
            Part(CYLINDER, (0, 0, 0.1 * height), (0.16, 0.16, 0.1 * height), trunk, BRICK, trunk * 0.5, word=stem),
        ]
    clear = max(1.9, height - 2.1 * radius)
    girth = p.size(0.13, 0.28)
    parts = [
        Part(CYLINDER, (0, 0, clear / 2 + 0.4), (girth, girth, clear / 2 + 0.4), trunk, BRICK, trunk * 0.5, word=stem)
    ]
    for _ in range(3):
        x, y, z = p.rng.uniform(-0.45, 0.45, 3) * radius
        size = radius * p.rng.uniform(0.62, 0.9, 3)
        parts.append(Part(BALL, (x, y, clear + radius + z), tuple(size), leaf, FOLIAGE, leaf * 0.45))
    return parts


def bush(p: Painter) -> list[Part]:
    """A shrub: one or two balls near the ground."""
    leaf, size = p.typical(np.array([0.18, 0.33, 0.12]), 0.05), p.size(0.4, 1.0)
    first = Part(BALL, (0, 0, size * 0.7), (size, size * 0.9, size * 0.8), leaf, FOLIAGE, leaf * 0.45)
    return [
        first,
        Part(BALL, (size * 0.8, 0.3, size * 0.5), (size * 0.7, size * 0.7, size * 0.6), leaf, FOLIAGE, leaf * 0.45),
    ]


def street_lamp(p: Painter) -> list[Part]:
    """A tall pole with an arm over the road (towards +x)."""
    height, paint = p.size(5.5, 8.0), p.typical(GREY * 0.7, 0.03)
    return [
        Part(CYLINDER, (0, 0, height / 2), (0.09, 0.09, height / 2), paint),
        Part(BOX, (0.8, 0, height), (0.8, 0.05, 0.05), paint),
        Part(BOX, (1.6, 0, height - 0.05), (0.35, 0.12, 0.07), WHITE),
    ]


def pole(p: Painter) -> list[Part]:
    """A bare utility pole."""
    height = p.size(4.0, 8.5)
    return [Part(CYLINDER, (0, 0, height / 2), (0.11, 0.11, height / 2), p.typical(WOOD))]


def traffic_sign(p: Painter) -> list[Part]:
    """A plate on a thin pole, facing +x."""
    height, size = p.size(2.1, 2.8), p.size(0.28, 0.45)
    board = p.typical((RED, np.array([0.1, 0.25, 0.7]), YELLOW, np.array([0.05, 0.4, 0.2]))[p.rng.integers(4)])
    plate = Part(BOX, (0.06, 0, height), (0.025, size, size), board, SIGN, WHITE)
    return [
        plate,
        Part(CYLINDER, (0, 0, height / 2), (0.045, 0.045, height / 2), p.typical(GREY), word=word_id("pole")),
    ]


def traffic_light(p: Painter) -> list[Part]:
    """A pole with a lamp box, facing +x."""
    lamp = (RED, YELLOW, np.array([0.1, 0.8, 0.3]))[p.rng.integers(3)]
    return [
        Part(CYLINDER, (0, 0, 1.5), (0.08, 0.08, 1.5), p.typical(GREY * 0.7), word=word_id("pole")),
        Part(BOX, (0.1, 0, 3.2), (0.14, 0.17, 0.5), BLACK),
        Part(BALL, (0.22, 0, 3.2 + p.rng.integers(-1, 2) * 0.3), (0.06, 0.12, 0.12), lamp),
    ]


def building(p: Painter, width: float, depth: float) -> list[Part]:
    """A house whose facade of `width` metres looks along +x; the front is at x = 0, the house reaches to x = -depth."""
    height = p.size(3.2, 6.0) if p.rng.random() < 0.35 else p.size(6.0, 16.0)
    wall = p.typical(np.array([0.62, 0.52, 0.43]), 0.12)
    material = FACADE if p.rng.random() < 0.85 else BRICK
    body = Part(BOX, (-depth / 2, 0, height / 2 - 0.3), (depth / 2, width / 2, height / 2 + 0.3), wall, material, GLASS)
    door = Part(BOX, (0.03, p.rng.uniform(-0.3, 0.3) * width, 1.05), (0.06, 0.55, 1.05), p.anything() * 0.6)
    parts = [body, door]
    if p.rng.random() < 0.5 and height < 10:
        rise = p.size(1.0, 2.0)
        tiles = p.typical(np.array([0.42, 0.2, 0.15]), 0.08)
        parts.append(
            Part(
                ROOF,
                (-depth / 2, 0, height + rise),
                (width / 2, depth / 2 + 0.3, rise),
                tiles,
                BRICK,
                tiles * 0.6,
                yaw=np.pi / 2,
            )
        )
    if p.rng.random() < 0.35:
        parts.append(
            Part(
                BOX,
                (0.6, p.rng.uniform(-0.2, 0.2) * width, 2.9),
                (0.7, p.size(1.2, 2.2), 0.1),
                p.anything(),
                STRIPES,
                WHITE,
            )
        )
    return parts


def shelter(p: Painter) -> list[Part]:
    """A bus shelter: roof, glass back and posts; open towards +x."""
    return [
        Part(BOX, (0, 0, 2.4), (0.8, 1.9, 0.06), p.typical(GREY)),
        Part(BOX, (-0.75, 0, 1.2), (0.04, 1.85, 1.1), GLASS, FACADE, GLASS * 1.5),
        *[Part(BOX, (0.7, s * 1.85, 1.2), (0.05, 0.05, 1.2), GREY) for s in (-1, 1)],
    ]


def fence(p: Painter, length: float, *, colour: Floats) -> list[Part]:
    """A straight run of fence along y."""
    return [Part(BOX, (0, 0, 0.6), (0.05, length / 2 + 0.03, 0.6), colour, FENCE_MESH, colour * 0.45)]


def wall(p: Painter, length: float, *, colour: Floats) -> list[Part]:
    """A straight run of garden wall along y."""
    return [Part(BOX, (0, 0, 0.7), (0.14, length / 2 + 0.03, 0.75), colour, BRICK, colour * 0.6)]
