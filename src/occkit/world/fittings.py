"""Kitchens, bathrooms, screens, lamps and small things; parts as in `furniture.py`."""

import numpy as np

from occkit.world.furniture import PALE_WOOD, STEEL, board, legs
from occkit.world.painter import BLACK, GLASS, GREY, WHITE, WOOD, Painter
from occkit.world.primitives import (
    BALL,
    BOX,
    CANVAS,
    CLOTH,
    CONE,
    CYLINDER,
    DRAPES,
    FOLIAGE,
    PAINT,
    STRIPES,
    TILES,
    Floats,
    Part,
)
from occkit.world.room_words import room_word_id

CERAMIC = np.array([0.9, 0.9, 0.89])
_LIGHT = np.array([1.7, 1.55, 1.25])


def base_cabinet(p: Painter, width: float, *, front: Floats, top: Floats) -> list[Part]:
    """A kitchen cabinet of 0.6 m depth with its counter top, doors and handles."""
    doors = max(1, round(width / 0.5))
    leaf = width / doors
    return [
        board(-0.02, 0.0, 0.08, (0.56, width, 0.78), front),
        board(-0.05, 0.0, 0.0, (0.5, width, 0.08), BLACK),
        board(0.0, 0.0, 0.86, (0.62, width, 0.04), top),
        *[
            board(0.268, (i + 0.5 - doors / 2) * leaf, 0.12, (0.02, leaf - 0.02, 0.7), front * 1.06)
            for i in range(doors)
        ],
        *[board(0.29, (i + 0.5 - doors / 2) * leaf, 0.74, (0.025, 0.14, 0.02), STEEL) for i in range(doors)],
    ]


def wall_cabinet(p: Painter, width: float, *, front: Floats) -> list[Part]:
    """A hanging cabinet; its foot is at z = 0."""
    doors = max(1, round(width / 0.5))
    leaf = width / doors
    return [
        board(-0.01, 0.0, 0.0, (0.33, width, 0.66), front),
        *[
            board(0.16, (i + 0.5 - doors / 2) * leaf, 0.02, (0.02, leaf - 0.02, 0.62), front * 1.06)
            for i in range(doors)
        ],
        *[board(0.18, (i + 0.5 - doors / 2) * leaf, 0.05, (0.02, 0.12, 0.02), STEEL) for i in range(doors)],
    ]


def kitchen_sink(p: Painter) -> list[Part]:
    """A steel basin let into a counter, with its tap; z = 0 is the counter top."""
    return [
        board(0.02, 0.0, 0.0, (0.4, 0.5, 0.012), p.typical(STEEL, 0.02)),
        board(0.02, 0.0, 0.012, (0.32, 0.4, 0.004), BLACK * 2.5),
        Part(CYLINDER, (-0.22, 0, 0.13), (0.018, 0.018, 0.13), STEEL),
        board(-0.14, 0.0, 0.24, (0.18, 0.03, 0.03), STEEL),
    ]


def stove(p: Painter) -> list[Part]:
    """An oven with four rings on its top."""
    body = p.typical((WHITE, STEEL, BLACK * 2)[p.rng.integers(3)], 0.03)
    return [
        board(0.0, 0.0, 0.0, (0.6, 0.6, 0.88), body),
        board(0.302, 0.0, 0.16, (0.02, 0.48, 0.42), BLACK),
        board(0.32, 0.0, 0.64, (0.03, 0.46, 0.025), STEEL),
        board(0.302, 0.0, 0.74, (0.02, 0.56, 0.1), body * 0.75),
        *[
            Part(CYLINDER, (x, y, 0.886), (0.09, 0.09, 0.006), BLACK)
            for x in (-0.14, 0.14)
            for y in (-0.14, 0.14)
        ],
    ]  # fmt: skip


def extractor_hood(p: Painter) -> list[Part]:
    """A hood and its chimney; z = 0 is its lower edge."""
    steel = p.typical(STEEL, 0.03)
    return [board(0.0, 0.0, 0.0, (0.48, 0.6, 0.08), steel), board(-0.11, 0.0, 0.08, (0.26, 0.28, 0.55), steel * 0.95)]


def fridge(p: Painter) -> list[Part]:
    """A fridge with a freezer below."""
    height, body = p.size(1.65, 1.9), p.typical((WHITE, STEEL)[p.rng.integers(2)], 0.03)
    return [
        board(-0.02, 0.0, 0.0, (0.58, 0.6, height), body),
        board(0.28, 0.0, 0.06, (0.03, 0.58, 0.56), body * 1.05),
        board(0.28, 0.0, 0.65, (0.03, 0.58, height - 0.68), body * 1.05),
        board(0.31, 0.24, 0.75, (0.03, 0.03, 0.4), GREY * 0.7),
    ]


def microwave(p: Painter) -> list[Part]:
    """A microwave oven."""
    body = p.typical(WHITE, 0.05)
    return [board(0.0, 0.0, 0.0, (0.34, 0.48, 0.28), body), board(0.172, 0.06, 0.04, (0.01, 0.32, 0.2), BLACK)]


def kettle(p: Painter) -> list[Part]:
    """A kettle."""
    return [
        Part(CONE, (0, 0, 0.11), (0.09, 0.09, 0.11), p.anything()),
        board(-0.09, 0.0, 0.08, (0.03, 0.02, 0.12), BLACK),
    ]


def washing_machine(p: Painter) -> list[Part]:
    """A front loader."""
    body = p.typical(WHITE, 0.03)
    return [
        board(0.0, 0.0, 0.0, (0.56, 0.6, 0.85), body),
        Part(BALL, (0.28, 0, 0.42), (0.03, 0.19, 0.19), GLASS),
        board(0.285, 0.0, 0.72, (0.02, 0.54, 0.09), body * 0.7),
    ]


def bathtub(p: Painter) -> list[Part]:
    """A tub along y: four sides and a floor; one can look into it."""
    length, ceramic = p.size(1.55, 1.75), p.typical(CERAMIC, 0.02)
    return [
        board(0.0, 0.0, 0.0, (0.7, length, 0.18), ceramic),
        *[board(s * 0.32, 0.0, 0.18, (0.06, length, 0.38), ceramic) for s in (-1, 1)],
        *[board(0.0, s * (length / 2 - 0.05), 0.18, (0.58, 0.1, 0.38), ceramic) for s in (-1, 1)],
        Part(CYLINDER, (-0.2, 0.1, 0.62), (0.02, 0.02, 0.06), STEEL),
        board(-0.13, 0.1, 0.66, (0.16, 0.03, 0.03), STEEL),
    ]


def toilet(p: Painter) -> list[Part]:
    """A toilet with its cistern at the back."""
    ceramic = p.typical(CERAMIC, 0.02)
    return [
        board(-0.25, 0.0, 0.38, (0.18, 0.38, 0.38), ceramic),
        Part(CYLINDER, (0.05, 0, 0.2), (0.2, 0.15, 0.2), ceramic),
        Part(CYLINDER, (0.06, 0, 0.42), (0.24, 0.18, 0.02), ceramic * 0.95),
        board(-0.2, 0.0, 0.0, (0.24, 0.26, 0.38), ceramic),
    ]


def washstand(p: Painter) -> list[Part]:
    """A basin on a small cabinet, with a tap; the cabinet is furniture."""
    ceramic, front = p.typical(CERAMIC, 0.02), p.typical((WHITE, PALE_WOOD, WOOD)[p.rng.integers(3)], 0.04)
    return [
        board(-0.02, 0.0, 0.06, (0.4, 0.6, 0.68), front, word=room_word_id("dresser")),
        board(0.182, -0.15, 0.1, (0.01, 0.28, 0.6), front * 1.08, word=room_word_id("dresser")),
        board(0.182, 0.15, 0.1, (0.01, 0.28, 0.6), front * 1.08, word=room_word_id("dresser")),
        board(0.0, 0.0, 0.74, (0.46, 0.64, 0.08), ceramic),
        Part(CYLINDER, (0.03, 0, 0.825), (0.15, 0.22, 0.005), GREY),
        Part(CYLINDER, (-0.17, 0, 0.9), (0.02, 0.02, 0.08), STEEL),
        board(-0.1, 0.0, 0.96, (0.14, 0.03, 0.02), STEEL),
    ]


def shower(p: Painter) -> list[Part]:
    """A glazed shower cubicle with its tray; glass counts as solid."""
    glass = np.array([0.6, 0.7, 0.72])
    return [
        board(0.0, 0.0, 0.0, (0.86, 0.86, 0.12), p.typical(CERAMIC, 0.02)),
        board(0.42, 0.0, 0.12, (0.02, 0.86, 1.8), glass, material=TILES, second=glass * 0.8),
        board(0.0, 0.42, 0.12, (0.82, 0.02, 1.8), glass, material=TILES, second=glass * 0.8),
        Part(CYLINDER, (-0.4, -0.2, 1.1), (0.015, 0.015, 0.9), STEEL),
        Part(CYLINDER, (-0.32, -0.2, 1.98), (0.1, 0.1, 0.015), STEEL),
    ]


def radiator(p: Painter) -> list[Part]:
    """A ribbed radiator, hung a little above the floor."""
    paint = p.typical(WHITE, 0.02)
    return [board(0.0, 0.0, 0.14, (0.08, p.size(0.7, 1.2), 0.5), paint, material=DRAPES, second=paint * 0.6)]


def television(p: Painter, width: float | None = None) -> list[Part]:
    """A flat screen on its foot, facing +x."""
    wide = width or p.size(0.8, 1.25)
    tall = 0.57 * wide
    return [
        board(0.0, 0.0, 0.07, (0.05, wide, tall), BLACK * 0.6),
        board(0.028, 0.0, 0.09, (0.008, wide - 0.05, tall - 0.05), np.array([0.03, 0.035, 0.05]), material=PAINT),
        board(0.0, 0.0, 0.02, (0.04, 0.1, 0.05), BLACK),
        board(0.0, 0.0, 0.0, (0.2, 0.34, 0.02), BLACK),
    ]


def monitor(p: Painter) -> list[Part]:
    """A screen for a desk, switched on."""
    wide = p.size(0.46, 0.62)
    return [
        board(0.0, 0.0, 0.12, (0.04, wide, 0.6 * wide), BLACK),
        board(0.022, 0.0, 0.14, (0.008, wide - 0.04, 0.6 * wide - 0.05), np.array([0.45, 0.6, 0.85])),
        board(-0.01, 0.0, 0.02, (0.04, 0.06, 0.1), GREY * 0.6),
        board(0.0, 0.0, 0.0, (0.16, 0.24, 0.02), GREY * 0.6),
    ]


def keyboard(p: Painter) -> list[Part]:
    """A keyboard."""
    return [board(0.0, 0.0, 0.0, (0.15, 0.42, 0.02), p.typical(GREY * 0.4))]


def table_lamp(p: Painter) -> list[Part]:
    """A lamp with a cloth shade."""
    height = p.size(0.36, 0.5)
    return [
        Part(CYLINDER, (0, 0, 0.015), (0.08, 0.08, 0.015), BLACK),
        Part(CYLINDER, (0, 0, height / 2), (0.02, 0.02, height / 2 - 0.03), p.anything()),
        Part(CONE, (0, 0, height - 0.08), (0.14, 0.14, 0.1), _LIGHT * p.size(0.75, 1.0)),
    ]


def floor_lamp(p: Painter) -> list[Part]:
    """A tall lamp."""
    height = p.size(1.45, 1.75)
    return [
        Part(CYLINDER, (0, 0, 0.015), (0.14, 0.14, 0.015), BLACK),
        Part(CYLINDER, (0, 0, height / 2), (0.018, 0.018, height / 2 - 0.03), BLACK),
        Part(CONE, (0, 0, height - 0.12), (0.2, 0.2, 0.14), _LIGHT * p.size(0.7, 0.95)),
    ]


def ceiling_lamp(p: Painter, drop: float) -> list[Part]:
    """A lamp that hangs `drop` metres below z = 0."""
    if drop < 0.2:
        return [Part(CYLINDER, (0, 0, -0.05), (0.2, 0.2, 0.05), _LIGHT)]
    return [
        Part(CYLINDER, (0, 0, -drop / 2), (0.012, 0.012, drop / 2), BLACK),
        Part(CONE, (0, 0, -drop), (0.2, 0.2, 0.11), p.anything()),
        Part(BALL, (0, 0, -drop - 0.1), (0.08, 0.08, 0.05), _LIGHT),
    ]


def plant(p: Painter) -> list[Part]:
    """A pot with leaves."""
    size, leaf = p.size(0.14, 0.26), p.typical(np.array([0.14, 0.34, 0.12]), 0.05)
    pot = Part(CYLINDER, (0, 0, 0.7 * size), (0.62 * size, 0.62 * size, 0.7 * size), p.anything())
    crown = []
    for _ in range(4):
        x, y, z = p.rng.uniform(-0.5, 0.5, 3) * size
        radii = (0.7 * size, 0.7 * size, size)
        crown.append(Part(BALL, (x, y, 2.4 * size + z), radii, leaf, FOLIAGE, leaf * 0.45))
    return [pot, *crown]


def vase(p: Painter) -> list[Part]:
    """A vase."""
    height = p.size(0.18, 0.32)
    return [Part(BALL, (0, 0, 0.4 * height), (0.08, 0.08, 0.4 * height), p.anything()),
            Part(CYLINDER, (0, 0, 0.85 * height), (0.035, 0.035, 0.15 * height), p.anything())]  # fmt: skip


def bowl(p: Painter) -> list[Part]:
    """A bowl of fruit."""
    return [
        Part(CYLINDER, (0, 0, 0.04), (0.14, 0.14, 0.04), p.anything()),
        *[
            Part(BALL, (0.06 * np.cos(a), 0.06 * np.sin(a), 0.1), (0.045, 0.045, 0.045), p.anything())
            for a in (0.0, 2.1, 4.2)
        ],
    ]


def bottle(p: Painter) -> list[Part]:
    """A bottle."""
    glass = p.anything()
    return [
        Part(CYLINDER, (0, 0, 0.1), (0.04, 0.04, 0.1), glass),
        Part(CYLINDER, (0, 0, 0.25), (0.015, 0.015, 0.05), glass),
    ]


def cup(p: Painter) -> list[Part]:
    """A cup."""
    return [Part(CYLINDER, (0, 0, 0.05), (0.045, 0.045, 0.05), p.anything())]


def book(p: Painter) -> list[Part]:
    """A small pile of books."""
    parts, z = [], 0.0
    for _ in range(int(p.rng.integers(1, 4))):
        thick = p.size(0.02, 0.05)
        parts.append(board(0.0, 0.0, z, (p.size(0.15, 0.2), p.size(0.2, 0.27), thick), p.anything()))
        z += thick
    return parts


def box(p: Painter) -> list[Part]:
    """A cardboard box."""
    size = (p.size(0.25, 0.45), p.size(0.25, 0.5), p.size(0.2, 0.4))
    return [board(0.0, 0.0, 0.0, size, p.typical(np.array([0.6, 0.45, 0.28])), material=PAINT, second=PALE_WOOD)]


def bag(p: Painter) -> list[Part]:
    """A rucksack on the floor."""
    cloth = p.anything()
    return [
        Part(BALL, (0, 0, 0.22), (0.14, 0.18, 0.22), cloth, CLOTH, cloth * 0.6),
        Part(BALL, (0.12, 0, 0.15), (0.06, 0.13, 0.11), cloth * 0.8, CLOTH),
    ]


def trash_bin(p: Painter) -> list[Part]:
    """A waste-paper basket."""
    return [Part(CYLINDER, (0, 0, 0.16), (0.14, 0.14, 0.16), p.anything(), STRIPES, BLACK)]


def laundry_basket(p: Painter) -> list[Part]:
    """A basket of clothes."""
    return [
        Part(CYLINDER, (0, 0, 0.25), (0.21, 0.21, 0.25), p.typical(PALE_WOOD), STRIPES, WOOD),
        Part(BALL, (0, 0, 0.5), (0.18, 0.18, 0.08), p.anything(), CLOTH),
    ]


def picture(p: Painter) -> list[Part]:
    """A framed picture on a wall; z = 0 is its middle."""
    wide, tall = p.size(0.35, 0.9), p.size(0.35, 0.65)
    frame = (BLACK, WHITE, WOOD)[p.rng.integers(3)]
    canvas = Part(BOX, (0.012, 0, 0), (0.008, wide / 2 - 0.04, tall / 2 - 0.04), p.anything(), CANVAS, p.anything())
    return [Part(BOX, (0, 0, 0), (0.015, wide / 2, tall / 2), frame), canvas]


def mirror(p: Painter) -> list[Part]:
    """A mirror on a wall, drawn as a bright pane; z = 0 is its middle."""
    wide, tall = p.size(0.5, 0.7), p.size(0.6, 0.9)
    pane = Part(BOX, (0.012, 0, 0), (0.008, wide / 2 - 0.03, tall / 2 - 0.03), np.array([0.72, 0.78, 0.8]))
    return [Part(BOX, (0, 0, 0), (0.015, wide / 2, tall / 2), STEEL), pane]


def whiteboard(p: Painter) -> list[Part]:
    """A board with traces of writing; z = 0 is its middle."""
    wide = p.size(1.2, 2.0)
    pane = Part(BOX, (0.012, 0, 0), (0.008, wide / 2 - 0.03, 0.47), WHITE * 1.05)
    lines = [
        board(0.022, p.size(-0.35, 0.0) * wide, 0.3 - 0.14 * i, (0.006, p.size(0.2, 0.5), 0.02), p.anything() * 0.5)
        for i in range(4)
    ]
    return [Part(BOX, (0, 0, 0), (0.015, wide / 2, 0.5), STEEL), pane, *lines]


def towel(p: Painter) -> list[Part]:
    """A towel on a rail on the wall; z = 0 is its middle."""
    cloth = p.anything()
    return [
        Part(BOX, (0.03, 0, 0), (0.02, 0.2, 0.3), cloth, STRIPES if p.rng.random() < 0.4 else CLOTH, cloth * 0.7),
        Part(BOX, (0.03, 0, 0.32), (0.012, 0.28, 0.012), STEEL),
    ]


def window(p: Painter, width: float, height: float, *, sky: Floats) -> list[Part]:
    """A window in a wall: sky, land, bars and a frame; z = 0 is its lower edge, x = 0 the wall's face."""
    frame, outside = p.typical(WHITE, 0.02), sky * p.size(0.85, 1.05)
    land = 0.4 * float(sky.mean()) * np.array([0.9, 1.2, 0.7]) * p.size(0.8, 1.2)
    skyline = p.size(0.2, 0.45) * height
    bars = [board(0.012, 0.0, 0.0, (0.03, 0.04, height), frame)]
    if p.rng.random() < 0.5:
        bars.append(board(0.012, 0.0, 0.62 * height, (0.03, width, 0.03), frame))
    return [
        board(-0.048, 0.0, skyline, (0.104, width, height - skyline), outside),
        board(-0.048, 0.0, 0.0, (0.104, width, skyline), land),
        *bars,
        *[board(-0.03, s * (width / 2 + 0.03), -0.06, (0.12, 0.06, height + 0.12), frame) for s in (-1, 1)],
        *[board(-0.03, 0.0, z, (0.12, width, 0.06), frame) for z in (-0.06, height)],
    ]


def door(p: Painter, height: float = 2.02) -> list[Part]:
    """A door in its frame, closed; x = 0 is the wall's face."""
    width, paint = p.size(0.8, 0.92), p.typical((WHITE, PALE_WOOD, WOOD)[p.rng.integers(3)], 0.04)
    return [
        board(-0.03, 0.0, 0.0, (0.08, width, height), paint),
        *[board(0.012, 0.0, z, (0.01, width - 0.26, h), paint * 0.88) for z, h in ((0.2, 0.7), (1.08, 0.75))],
        board(0.03, 0.38 * width, 1.0, (0.06, 0.1, 0.03), STEEL),
        *[board(-0.02, s * (width / 2 + 0.04), 0.0, (0.1, 0.08, height + 0.08), WHITE * 0.9) for s in (-1, 1)],
        board(-0.02, 0.0, height, (0.1, width, 0.08), WHITE * 0.9),
    ]


def shelf(p: Painter) -> list[Part]:
    """A board on the wall with a few books; z = 0 is its foot."""
    width, wood, books = p.size(0.6, 1.1), p.typical(PALE_WOOD), room_word_id("book")
    row = (0.16, 0.45 * width, 0.22)
    return [
        board(0.0, 0.0, 0.0, (0.24, width, 0.03), wood),
        board(0.0, p.size(-0.15, 0.15), 0.03, row, p.anything(), word=books),
    ]


def side_table(p: Painter) -> list[Part]:
    """A small table for a lamp or a plant."""
    wood, size, height = p.typical(PALE_WOOD), p.size(0.4, 0.5), p.size(0.5, 0.62)
    return [board(0.0, 0.0, height - 0.03, (size, size, 0.03), wood), *legs(size / 2, size / 2, height - 0.03, wood)]
