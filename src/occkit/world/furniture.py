"""What rooms are furnished with: beds, seats, tables, storage; parts in the piece's frame, metres.

The frame: x forward, the way the piece faces (out of a wall it stands at); y left; z up from the floor. Every call
draws its own size and colours. A piece's back is where its parts end in -x.
"""

import numpy as np

from occkit.world.painter import BLACK, GREY, WHITE, WOOD, Painter
from occkit.world.primitives import BALL, BOOKS, BOX, CLOTH, CYLINDER, DRAPES, Floats, Part
from occkit.world.room_words import room_word_id

LINEN = np.array([0.86, 0.84, 0.8])
FABRIC = np.array([0.45, 0.42, 0.4])
PALE_WOOD = np.array([0.62, 0.47, 0.31])
STEEL = np.array([0.62, 0.63, 0.64])


def board(x: float, y: float, z: float, size: tuple[float, float, float], colour: Floats, **options: object) -> Part:
    """A box whose lower face is at height z, of full (x, y, z) size."""
    half = (size[0] / 2, size[1] / 2, size[2] / 2)
    return Part(BOX, (x, y, z + half[2]), half, colour, **options)  # pyright: ignore[reportArgumentType]


def legs(x: float, y: float, height: float, colour: Floats, *, thick: float = 0.05, at: float = 0.0) -> list[Part]:
    """Four legs at (+-x, +-y) around `at` on the x axis."""
    return [
        board(at + i * (x - thick / 2), j * (y - thick / 2), 0.0, (thick, thick, height), colour)
        for i in (-1, 1)
        for j in (-1, 1)
    ]


def _wood(p: Painter) -> Floats:
    return p.typical((WOOD, PALE_WOOD, WHITE * 0.95, WOOD * 0.6)[p.rng.integers(4)], 0.03)


def bed(p: Painter) -> list[Part]:
    """A single or double bed: head board at its back, mattress, blanket and pillows."""
    length, width = p.size(1.95, 2.1), (0.95, 1.45, 1.7)[p.rng.integers(3)] + p.size(-0.05, 0.05)
    wood, blanket = _wood(p), p.anything()
    base, mattress = p.size(0.22, 0.32), p.size(0.16, 0.24)
    top = base + mattress
    sleepers = 1 if width < 1.2 else 2
    return [
        board(0.0, 0.0, 0.05, (length, width, base - 0.05), wood),
        board(-length / 2 - 0.03, 0.0, 0.0, (0.06, width + 0.08, p.size(0.75, 1.15)), wood * 0.9),
        board(0.0, 0.0, base, (length - 0.04, width - 0.04, mattress), p.typical(LINEN, 0.02), material=CLOTH),
        board(0.2 * length, 0.0, top, (0.58 * length, width, 0.06), blanket, material=CLOTH, second=blanket * 0.7),
        *[
            Part(
                BALL, (-0.38 * length, y, top + 0.07), (0.2, 0.36 * width / sleepers + 0.04, 0.09), p.typical(LINEN),
                CLOTH, word=room_word_id("pillow"),
            )
            for y in ((0.0,) if sleepers == 1 else (-width / 4, width / 4))
        ],
        *legs(length / 2, width / 2, 0.05, wood * 0.6),
    ]  # fmt: skip


def sofa(p: Painter) -> list[Part]:
    """A sofa for two or three with arms and cushions."""
    width, depth, cloth = p.size(1.5, 2.2), p.size(0.82, 0.95), p.anything()
    seats = 2 if width < 1.8 else 3
    inner = width - 0.36
    cushions = [
        board(
            0.06, (i + 0.5 - seats / 2) * inner / seats, 0.26, (depth - 0.24, inner / seats - 0.015, 0.18), cloth,
            material=CLOTH, second=cloth * 0.8,
        )
        for i in range(seats)
    ]  # fmt: skip
    loose = [
        Part(
            BOX, (-0.02, side * (inner / 2 - 0.22), 0.62), (0.06, 0.2, 0.18), p.anything(), CLOTH, pitch=0.25,
            word=room_word_id("pillow"),
        )
        for side in (-1, 1)
        if p.rng.random() < 0.6
    ]  # fmt: skip
    return [
        board(0.0, 0.0, 0.06, (depth, width, 0.2), cloth * 0.85),
        board(-depth / 2 + 0.11, 0.0, 0.26, (0.22, inner, p.size(0.5, 0.62)), cloth, material=CLOTH),
        *[board(0.0, s * (width - 0.18) / 2, 0.26, (depth, 0.18, 0.34), cloth * 0.95, material=CLOTH) for s in (-1, 1)],
        *cushions,
        *loose,
        *legs(depth / 2 - 0.03, width / 2 - 0.03, 0.06, BLACK),
    ]


def armchair(p: Painter) -> list[Part]:
    """An upholstered chair with arms."""
    width, depth, cloth = p.size(0.72, 0.86), p.size(0.75, 0.85), p.anything()
    return [
        board(0.0, 0.0, 0.08, (depth, width, 0.18), cloth * 0.85),
        board(-depth / 2 + 0.1, 0.0, 0.26, (0.2, width, 0.6), cloth, material=CLOTH),
        board(0.07, 0.0, 0.26, (depth - 0.22, width - 0.32, 0.17), cloth * 1.05, material=CLOTH),
        *[board(0.09, s * (width - 0.14) / 2, 0.26, (depth - 0.2, 0.14, 0.3), cloth, material=CLOTH) for s in (-1, 1)],
        *legs(depth / 2 - 0.02, width / 2 - 0.02, 0.08, BLACK),
    ]


def chair(p: Painter) -> list[Part]:
    """A dining chair: four legs, seat, back."""
    size, wood = p.size(0.4, 0.46), _wood(p)
    seat = wood if p.rng.random() < 0.5 else p.anything()
    height = p.size(0.43, 0.47)
    back = p.size(0.4, 0.52)
    return [
        board(0.0, 0.0, height - 0.04, (size, size, 0.04), seat),
        *legs(size / 2, size / 2, height - 0.04, wood, thick=0.04),
        *[board(-size / 2 + 0.02, s * (size / 2 - 0.02), height, (0.035, 0.035, back), wood) for s in (-1, 1)],
        board(-size / 2 + 0.02, 0.0, height + 0.45 * back, (0.025, size - 0.07, 0.55 * back), seat),
    ]


def office_chair(p: Painter) -> list[Part]:
    """A swivel chair on five castors, drawn as a disc."""
    cloth = p.typical(GREY * 0.4, 0.08)
    return [
        Part(CYLINDER, (0, 0, 0.05), (0.29, 0.29, 0.03), BLACK),
        Part(CYLINDER, (0, 0, 0.24), (0.03, 0.03, 0.17), STEEL * 0.7),
        board(0.0, 0.0, 0.42, (0.47, 0.48, 0.07), cloth, material=CLOTH),
        board(-0.24, 0.0, 0.5, (0.06, 0.42, 0.52), cloth, material=CLOTH),
        *[board(0.02, s * 0.27, 0.62, (0.26, 0.05, 0.03), BLACK) for s in (-1, 1)],
        *[board(0.02, s * 0.27, 0.45, (0.04, 0.03, 0.17), BLACK) for s in (-1, 1)],
    ]


def stool(p: Painter) -> list[Part]:
    """A round stool."""
    height, wood = p.size(0.42, 0.5), _wood(p)
    return [
        Part(CYLINDER, (0, 0, height - 0.02), (0.17, 0.17, 0.02), p.anything()),
        *legs(0.12, 0.12, height - 0.04, wood, thick=0.035),
    ]


def table(p: Painter, length: float = 1.6, width: float = 0.85, height: float = 0.74) -> list[Part]:
    """A table: `length` along y, `width` along x, four legs."""
    wood = _wood(p)
    return [
        board(0.0, 0.0, height - 0.04, (width, length, 0.04), wood),
        *legs(width / 2 - 0.04, length / 2 - 0.04, height - 0.04, wood * 0.85, thick=0.06),
    ]


def round_table(p: Painter, radius: float = 0.5, height: float = 0.74) -> list[Part]:
    """A round table on one foot."""
    wood = _wood(p)
    return [
        Part(CYLINDER, (0, 0, height - 0.02), (radius, radius, 0.02), wood),
        Part(CYLINDER, (0, 0, height / 2), (0.05, 0.05, height / 2 - 0.04), wood * 0.8),
        Part(CYLINDER, (0, 0, 0.02), (0.5 * radius, 0.5 * radius, 0.02), wood * 0.8),
    ]


def coffee_table(p: Painter) -> list[Part]:
    """A low table with a shelf under its top."""
    length, width, height, wood = p.size(0.8, 1.2), p.size(0.45, 0.6), p.size(0.36, 0.46), _wood(p)
    return [
        board(0.0, 0.0, height - 0.04, (width, length, 0.04), wood),
        board(0.0, 0.0, 0.12, (width - 0.14, length - 0.14, 0.02), wood * 0.9),
        *legs(width / 2, length / 2, height - 0.04, wood * 0.85),
    ]


def desk(p: Painter) -> list[Part]:
    """A desk with a block of drawers on one side; its user sits at +x."""
    length, width, wood = p.size(1.2, 1.7), p.size(0.65, 0.8), _wood(p)
    side = 1 if p.rng.random() < 0.5 else -1
    return [
        board(0.0, 0.0, 0.7, (width, length, 0.035), wood),
        board(-0.02, side * (length / 2 - 0.22), 0.04, (width - 0.12, 0.4, 0.65), wood * 0.9),
        *[
            board(width / 2 - 0.075, side * (length / 2 - 0.22), 0.08 + 0.21 * i, (0.02, 0.36, 0.18), wood * 0.75)
            for i in range(3)
        ],
        board(0.0, -side * (length / 2 - 0.03), 0.0, (width - 0.06, 0.04, 0.7), wood * 0.95),
        board(-width / 2 + 0.04, -side * 0.2, 0.3, (0.02, length - 0.5, 0.38), wood * 0.9),
    ]


def wardrobe(p: Painter) -> list[Part]:
    """A tall cupboard with two or three doors and their handles."""
    doors = int(p.rng.integers(2, 4))
    width, depth, height, wood = doors * p.size(0.45, 0.55), p.size(0.52, 0.62), p.size(1.85, 2.15), _wood(p)
    front, leaf = depth / 2, width / doors
    return [
        board(-0.01, 0.0, 0.0, (depth - 0.02, width, height), wood),
        *[
            board(front - 0.005, (i + 0.5 - doors / 2) * leaf, 0.08, (0.02, leaf - 0.02, height - 0.12), wood * 1.06)
            for i in range(doors)
        ],
        *[board(front + 0.02, (i + 0.85 - doors / 2) * leaf, 1.0, (0.03, 0.02, 0.16), BLACK) for i in range(doors)],
    ]


def _drawers(p: Painter, width: float, depth: float, height: float, rows: int, columns: int) -> list[Part]:
    """A box on short legs whose front is divided into drawers with knobs."""
    wood, foot = _wood(p), 0.07
    tall, wide = (height - foot - 0.03) / rows, width / columns
    parts = [board(-0.01, 0.0, foot, (depth - 0.02, width, height - foot), wood)]
    for row in range(rows):
        for column in range(columns):
            y, z = (column + 0.5 - columns / 2) * wide, foot + row * tall
            parts.append(board(depth / 2 - 0.005, y, z + 0.015, (0.02, wide - 0.03, tall - 0.03), wood * 1.08))
            parts.append(board(depth / 2 + 0.015, y, z + tall / 2, (0.02, 0.08, 0.02), BLACK))
    return [*parts, *legs(depth / 2 - 0.02, width / 2 - 0.02, foot, wood * 0.7)]


def dresser(p: Painter) -> list[Part]:
    """A chest of drawers."""
    return _drawers(p, p.size(0.8, 1.3), p.size(0.42, 0.5), p.size(0.75, 1.0), 3, 2)


def night_stand(p: Painter) -> list[Part]:
    """A bedside table with two drawers."""
    return _drawers(p, p.size(0.4, 0.5), p.size(0.36, 0.42), p.size(0.45, 0.56), 2, 1)


def sideboard(p: Painter, width: float | None = None) -> list[Part]:
    """A low cupboard: a television or plates stand on it."""
    return _drawers(p, width or p.size(1.2, 1.8), p.size(0.38, 0.46), p.size(0.45, 0.7), 1, 3)


def filing_cabinet(p: Painter) -> list[Part]:
    """A steel cabinet of four drawers."""
    steel = p.typical(STEEL, 0.04)
    return [
        board(-0.01, 0.0, 0.0, (0.58, 0.46, 1.32), steel),
        *[board(0.285, 0.0, 0.05 + 0.32 * i, (0.02, 0.42, 0.28), steel * 1.1) for i in range(4)],
        *[board(0.305, 0.0, 0.24 + 0.32 * i, (0.02, 0.14, 0.03), BLACK) for i in range(4)],
    ]


def bookshelf(p: Painter) -> list[Part]:
    """Open shelves, each partly filled with books, a vase here and there."""
    width, depth, height, wood = p.size(0.7, 1.1), p.size(0.26, 0.32), p.size(1.6, 2.05), _wood(p)
    shelves = round(height / 0.36)
    parts = [board(-depth / 2 + 0.01, 0.0, 0.0, (0.02, width, height), wood * 0.8)]
    parts += [board(0.01, s * (width - 0.03) / 2, 0.0, (depth - 0.02, 0.03, height), wood) for s in (-1, 1)]
    for i in range(shelves + 1):
        z = i * (height - 0.03) / shelves
        parts.append(board(0.01, 0.0, z, (depth - 0.02, width - 0.06, 0.03), wood))
        if i < shelves and p.rng.random() < 0.9:
            filled = p.size(0.45, 0.95) * (width - 0.08)
            y = p.rng.choice([-1, 1]) * (width - 0.08 - filled) / 2
            tall = p.size(0.2, 0.28)
            parts.append(
                board(
                    0.0, y, z + 0.03, (depth - 0.08, filled, tall), p.anything(), material=BOOKS, second=p.anything(),
                    word=room_word_id("book"),
                )
            )  # fmt: skip
    return parts


def curtain(p: Painter, width: float, height: float, *, colour: Floats) -> list[Part]:
    """A hanging cloth in folds, `width` along y; its frame's origin is in the middle of its foot."""
    del p
    return [board(0.0, 0.0, 0.0, (0.06, width, height), colour, material=DRAPES, second=colour * 0.6)]
