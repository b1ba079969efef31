"""The kinds of rooms: what each is furnished with, and where it stands."""

from collections.abc import Callable, Mapping
from math import pi
from types import MappingProxyType

import numpy as np

from occkit.world import fittings as fit
from occkit.world import furniture as f
from occkit.world.painter import Maker
from occkit.world.primitives import CLOTH, Floats, Part
from occkit.world.room_plan import Piece, RoomPlan

Furnish = Callable[[RoomPlan], None]

SIZES: Mapping[str, tuple[tuple[float, float], tuple[float, float]]] = MappingProxyType(
    {
        "bedroom": ((3.2, 4.4), (3.8, 4.8)),
        "living room": ((3.8, 5.0), (4.4, 5.6)),
        "dining room": ((3.4, 4.4), (4.0, 5.0)),
        "kitchen": ((2.8, 3.8), (3.6, 4.6)),
        "office": ((3.0, 4.2), (3.8, 4.8)),
        "bathroom": ((2.3, 3.0), (3.0, 3.6)),
        "meeting room": ((3.8, 4.8), (4.8, 5.8)),
    }
)
"""Kind -> range of width and of depth, metres."""


def _shuffled(plan: RoomPlan, *walls: str) -> list[str]:
    order = list(walls)
    plan.rng.shuffle(order)
    return order


def add_window(plan: RoomPlan, walls: list[str], *, sky: Floats, sill: float = 0.9, drapes: bool = True) -> str | None:
    """Let a window into one of the walls, perhaps with curtains; return the wall, None if there was no room."""
    p = plan.painter
    width, height = p.size(0.9, 1.6), p.size(0.95, 1.25)
    height = min(height, plan.height - sill - 0.25)
    parts = fit.window(p, width, height, sky=sky)
    piece = plan.somewhere_at("window", parts, walls, z=sill, gap=0.0, in_wall=True)
    if piece is None:
        return None
    wall = next(w for w in walls if abs(piece.yaw - _yaw_of(w)) < 1e-6)
    x, y = piece.xy
    plan.light(x + 0.45 * np.cos(piece.yaw), y + 0.45 * np.sin(piece.yaw), sill + 0.7 * height, 1.5 * float(sky.mean()))
    if drapes and plan.chance(0.7):
        cloth, foot = p.anything(), sill - 0.15 if plan.chance(0.4) else 0.05
        along = x if wall in ("far", "near") else y
        for side in (-1, 1):
            hanging = f.curtain(p, 0.36, sill + height + 0.1 - foot, colour=cloth)
            plan.at_wall("curtain", hanging, wall, along + side * (width / 2 + 0.1), z=foot, gap=0.04)
    return wall


def _yaw_of(wall: str) -> float:
    return {"far": -pi / 2, "left": 0.0, "right": pi, "near": pi / 2}[wall]


def add_door(plan: RoomPlan, walls: list[str]) -> None:
    """Let a door into one of the walls and keep the floor before it free."""
    piece = plan.somewhere_at("door", fit.door(plan.painter), walls, gap=0.0, in_wall=True)
    if piece is not None:
        wall = next(w for w in walls if abs(piece.yaw - _yaw_of(w)) < 1e-6)
        along = piece.xy[0] if wall in ("far", "near") else piece.xy[1]
        plan.keep_free(wall, along, half=0.45, reach=0.7)


def hang_pictures(plan: RoomPlan, most: int) -> None:
    """Hang up to so many pictures where walls are free."""
    for _ in range(int(plan.rng.integers(0, most + 1))):
        picture = fit.picture(plan.painter)
        plan.somewhere_at("picture", picture, _shuffled(plan, "far", "left", "right"), z=plan.painter.size(1.4, 1.7))


def hang_lamp(plan: RoomPlan, x: float, y: float, *, drop: float) -> None:
    """Hang a lamp from the ceiling."""
    if plan.put("lamp", fit.ceiling_lamp(plan.painter, drop), x, y, z=plan.height) is not None:
        plan.light(x, y, plan.height - max(drop, 0.1) - 0.2, 1.1)


def lay_rug(plan: RoomPlan, x: float, y: float, size: tuple[float, float]) -> None:
    """Lay a rug under what stands there: thinner than what collides."""
    p = plan.painter
    colour = p.anything()
    plan.put("rug", [f.board(0, 0, -0.002, (*size, 0.0055), colour, material=CLOTH, second=p.anything())], x, y)


def scatter(plan: RoomPlan, base: Piece | None, choices: Mapping[str, Maker], count: int) -> None:
    """Put small things on a piece."""
    for _ in range(count):
        name = list(choices)[plan.rng.integers(len(choices))]
        forward, left = plan.rng.uniform(-0.9, 0.9, 2)
        plan.upon(base, name, choices[name](plan.painter), forward=forward, left=left)


def _clutter(plan: RoomPlan, choices: Mapping[str, Maker], expected: float) -> None:
    """Drop things on the floor."""
    for _ in range(int(plan.rng.poisson(expected))):
        name = list(choices)[plan.rng.integers(len(choices))]
        plan.somewhere(name, choices[name](plan.painter))


_SMALL: Mapping[str, Maker] = MappingProxyType({"book": fit.book, "vase": fit.vase, "cup": fit.cup, "plant": fit.plant})
_FOOD: Mapping[str, Maker] = MappingProxyType(
    {"bowl": fit.bowl, "bottle": fit.bottle, "cup": fit.cup, "kettle": fit.kettle, "vase": fit.vase}
)
_FLOOR: Mapping[str, Maker] = MappingProxyType({"box": fit.box, "bag": fit.bag, "trash bin": fit.trash_bin})


def _lit(plan: RoomPlan, base: Piece | None, *, left: float = 0.0) -> None:
    """Put a lamp that is on upon a piece."""
    lamp = plan.upon(base, "lamp", fit.table_lamp(plan.painter), forward=-0.3, left=left)
    if lamp is not None:
        plan.light(*lamp.xy, float(lamp.high[2]) + 0.12, 0.25)


def bedroom(plan: RoomPlan) -> None:
    """A bed with its head at a wall, night stands with lamps, a wardrobe, a chest of drawers."""
    p = plan.painter
    wall = _shuffled(plan, "far", "left", "right")[0]
    parts = f.bed(p)
    half = max(part.half[1] for part in parts) + 0.05
    room = plan.length(wall)
    along = float(np.clip(room * (0.5 if wall == "far" else 0.62) + p.size(-0.35, 0.35), half + 0.5, room - half - 0.5))
    bed = plan.at_wall("bed", parts, wall, along)
    if bed is not None:
        for side in (-1, 1):
            stand = plan.beside(bed, "night stand", f.night_stand(p), side=side)
            _lit(plan, stand)
        plan.at_wall("picture", fit.picture(p), wall, along, z=p.size(1.55, 1.75))
        x, y = bed.xy
        lay_rug(plan, x + 0.5 * np.cos(bed.yaw), y + 0.5 * np.sin(bed.yaw), (1.8, 2.2))
    others = [w for w in _shuffled(plan, "far", "left", "right") if w != wall]
    plan.somewhere_at("wardrobe", f.wardrobe(p), others, corner=True)
    chest = plan.somewhere_at("dresser", f.dresser(p), [*others[::-1], wall])
    if chest is not None and plan.chance(0.35):
        plan.upon(chest, "television", fit.television(p, 0.75), forward=-0.2)
    elif chest is not None:
        _over(plan, chest, "mirror", fit.mirror(p), 1.5)
        scatter(plan, chest, _SMALL, 2)
    if plan.chance(0.35):
        _workplace(plan, others, "chair")
    if plan.chance(0.4):
        plan.somewhere_at("bookshelf", f.bookshelf(p), others)
    if plan.chance(0.5):
        plan.somewhere("laundry basket", fit.laundry_basket(p))


def _over(plan: RoomPlan, piece: Piece, name: str, parts: list[Part], z: float) -> Piece | None:
    """Hang something on the wall above a piece that stands at it."""
    for wall in ("far", "left", "right", "near"):
        if abs(piece.yaw - _yaw_of(wall)) < 1e-6:
            return plan.at_wall(name, parts, wall, piece.xy[0] if wall in ("far", "near") else piece.xy[1], z=z)
    return None


def _workplace(plan: RoomPlan, walls: list[str], seat: str) -> Piece | None:
    """A desk at a wall, its user's screen, keyboard, lamp and chair."""
    p = plan.painter
    table = plan.somewhere_at("desk", f.desk(p), walls)
    if table is None:
        return None
    plan.upon(table, "monitor", fit.monitor(p), forward=-0.55, left=p.size(-0.25, 0.25))
    plan.upon(table, "keyboard", fit.keyboard(p), forward=0.6)
    scatter(plan, table, {"book": fit.book, "cup": fit.cup}, int(plan.rng.integers(1, 4)))
    if plan.chance(0.5):
        _lit(plan, table, left=p.size(0.75, 0.9) * float(plan.rng.choice([-1, 1])))
    parts = f.office_chair(p) if seat == "office chair" else f.chair(p)
    plan.before(table, seat, parts, distance=p.size(0.1, 0.35), turn=pi + p.size(-0.4, 0.4))
    return table


def living_room(plan: RoomPlan) -> None:
    """A sofa, a table before it, a television opposite on its bench, shelves, armchair, plants."""
    p = plan.painter
    wall, opposite = (("left", "right"), ("right", "left"), ("far", "near"))[plan.rng.choice(3, p=[0.33, 0.33, 0.34])]
    room = plan.length(wall)
    along = room * (0.5 if wall == "far" else 0.6) + p.size(-0.3, 0.3)
    sofa = plan.at_wall("sofa", f.sofa(p), wall, along, gap=p.size(0.03, 0.12))
    if sofa is not None:
        low_table = plan.before(sofa, "coffee table", f.coffee_table(p), distance=p.size(0.6, 0.75))
        scatter(plan, low_table, _SMALL, int(plan.rng.integers(1, 4)))
        x, y = sofa.xy
        lay_rug(plan, x + 0.9 * np.cos(sofa.yaw), y + 0.9 * np.sin(sofa.yaw), (1.7, 2.4))
        _over(plan, sofa, "picture", fit.picture(p), 1.5)
        if plan.chance(0.5):
            lamp = plan.beside(sofa, "lamp", fit.floor_lamp(p), side=1 if plan.chance(0.5) else -1, gap=0.08)
            if lamp is not None:
                plan.light(*lamp.xy, float(lamp.high[2]) + 0.1, 0.4)
        else:
            _lit(plan, plan.beside(sofa, "coffee table", fit.side_table(p), side=1 if plan.chance(0.5) else -1))
    # A television behind the camera would never be seen: then it stands beside what one looks at.
    tv_walls = [opposite] if opposite != "near" else _shuffled(plan, "left", "right")
    bench = None
    for tv_wall in tv_walls:
        at = float(np.clip(along + p.size(-0.2, 0.2), 1.0, plan.length(tv_wall) - 1.0))
        bench = bench or plan.at_wall("sideboard", f.sideboard(p), tv_wall, at)
    plan.upon(bench, "television", fit.television(p))
    if plan.chance(0.6):
        chair = f.armchair(p)
        plan.somewhere_at("armchair", chair, _shuffled(plan, "far", "left", "right"), gap=p.size(0.1, 0.3))
    plan.somewhere_at("bookshelf", f.bookshelf(p), _shuffled(plan, "far", "left", "right"))
    for _ in range(int(plan.rng.integers(1, 3))):
        plan.somewhere_at("plant", _tall_plant(plan), _shuffled(plan, "far", "left", "right"), corner=True, gap=0.05)


def _tall_plant(plan: RoomPlan) -> list[Part]:
    parts = fit.plant(plan.painter)
    factor = plan.painter.size(1.4, 2.2)
    return [
        Part(
            part.kind, tuple(factor * c for c in part.center), tuple(factor * h for h in part.half), part.colour,  # pyright: ignore[reportArgumentType]
            part.material, part.second,
        )
        for part in parts
    ]  # fmt: skip


def _seats(plan: RoomPlan, table: Piece, name: str, maker: Maker, *, along: int, ends: bool) -> None:
    """Set chairs along both long sides of a table, and at its ends."""
    p = plan.painter
    look = p.rng.integers(2**31)
    places: list[tuple[float, float, float]] = []
    for side in (-1, 1):
        for i in range(along):
            places.append((side, (i + 0.5) / along * 2 - 1, pi if side > 0 else 0.0))
    if ends:
        places += [(0.0, 1.35, -pi / 2), (0.0, -1.35, pi / 2)]
    cos, sin = np.cos(table.yaw), np.sin(table.yaw)
    for across, y, turn in places:
        # All chairs of a table are of one make: each is drawn from the same numbers.
        alike = type(p)(np.random.default_rng(look), p.overlap)
        out = p.size(0.02, 0.22)
        local = (
            (across * (table.half[0] + out), y * table.half[1]) if across else (0.0, np.sign(y) * (table.half[1] + out))
        )
        x = table.xy[0] + cos * local[0] - sin * local[1]
        yy = table.xy[1] + sin * local[0] + cos * local[1]
        plan.put(name, maker(alike), x, yy, yaw=table.yaw + turn + p.size(-0.12, 0.12))


def dining_room(plan: RoomPlan) -> None:
    """A table with its chairs under a lamp, a sideboard, plants and pictures."""
    p = plan.painter
    x, y = plan.width / 2 + p.size(-0.2, 0.2), 0.62 * plan.depth + p.size(-0.2, 0.2)
    lay_rug(plan, x, y, (2.2, 2.6))
    if plan.chance(0.25):
        table = plan.put("table", f.round_table(p, p.size(0.5, 0.6)), x, y)
        seats, ends = 1, True
    else:
        seats, ends = int(plan.rng.integers(2, 4)), plan.chance(0.6)
        length = 0.62 * seats + p.size(0.1, 0.25)
        table = plan.put("table", f.table(p, length, p.size(0.8, 0.95)), x, y, yaw=float(plan.rng.integers(2)) * pi / 2)
    if table is not None:
        _seats(plan, table, "chair", f.chair, along=seats, ends=ends)
        scatter(plan, table, _FOOD, int(plan.rng.integers(1, 4)))
        hang_lamp(plan, x, y, drop=p.size(0.5, 0.8))
    board = plan.somewhere_at("sideboard", f.sideboard(p), _shuffled(plan, "far", "left", "right"))
    scatter(plan, board, _SMALL, 3)
    if plan.chance(0.5):
        plan.somewhere_at("bookshelf", f.bookshelf(p), _shuffled(plan, "far", "left", "right"))
    if plan.chance(0.6):
        plan.somewhere_at("plant", _tall_plant(plan), _shuffled(plan, "far", "left", "right"), corner=True, gap=0.05)


def kitchen(plan: RoomPlan) -> None:
    """A run of cabinets with sink, stove, hood and fridge at the far wall, perhaps along a side wall too; a table."""
    p = plan.painter
    front = p.typical((f.LINEN, f.PALE_WOOD, f.STEEL * 0.8, f.WOOD)[p.rng.integers(4)], 0.06)
    top = p.typical((f.PALE_WOOD, f.STEEL * 0.5, f.LINEN)[p.rng.integers(3)], 0.04)
    left_first = plan.chance(0.5)
    wide, place = plan.width, 0.0
    run = [("fridge", 0.62), ("base", 0.0), ("stove", 0.62), ("base", 0.0)]
    free = wide - 1.24 - 0.04
    split = p.size(0.35, 0.65)
    sizes = {1: free * split, 3: free * (1 - split)}
    pieces: dict[int, Piece | None] = {}
    for index, (kind, size) in enumerate(run):
        size = size or sizes[index]
        along = place + size / 2 + 0.01
        along = along if left_first else wide - along
        place += size
        if kind == "fridge":
            pieces[index] = plan.at_wall("fridge", fit.fridge(p), "far", along)
        elif kind == "stove":
            pieces[index] = plan.at_wall("stove", fit.stove(p), "far", along, gap=0.005)
            plan.at_wall("extractor hood", fit.extractor_hood(p), "far", along, z=1.55)
        else:
            cabinet = fit.base_cabinet(p, size - 0.01, front=front, top=top)
            pieces[index] = plan.at_wall("kitchen cabinet", cabinet, "far", along)
            if index == 1 and plan.chance(0.5):
                continue  # the window comes here
            plan.at_wall("wall cabinet", fit.wall_cabinet(p, size - 0.03, front=front), "far", along, z=1.5)
    wide_one = pieces[1] if sizes[1] > sizes[3] else pieces[3]
    plan.upon(wide_one, "sink", fit.kitchen_sink(p), forward=0.0, left=p.size(-0.3, 0.3), top=0.9)
    for index in (1, 3):
        _on_counter(plan, pieces[index])
    if plan.chance(0.6):
        wall = "left" if plan.chance(0.5) else "right"
        length = min(p.size(1.2, 2.0), plan.depth - 2.0)
        cabinet = fit.base_cabinet(p, length, front=front, top=top)
        side = plan.at_wall("kitchen cabinet", cabinet, wall, plan.depth - 0.66 - length / 2)
        _on_counter(plan, side)
        if side is not None and plan.chance(0.6):
            hanging = fit.wall_cabinet(p, length - 0.02, front=front)
            plan.at_wall("wall cabinet", hanging, wall, plan.depth - 0.66 - length / 2, z=1.5)
    x, y = plan.width / 2 + p.size(-0.3, 0.3), 0.42 * plan.depth
    table = plan.put("table", f.table(p, p.size(0.9, 1.2), p.size(0.65, 0.8)), x, y, yaw=pi / 2)
    if table is not None:
        _seats(plan, table, "chair", f.chair, along=1, ends=plan.chance(0.5))
        scatter(plan, table, _FOOD, 2)


def _on_counter(plan: RoomPlan, counter: Piece | None) -> None:
    if counter is None:
        return
    p = plan.painter
    if plan.chance(0.4):
        plan.upon(counter, "microwave", fit.microwave(p), forward=-0.7, left=p.size(-0.9, 0.9), top=0.9)
    for _ in range(int(plan.rng.integers(1, 4))):
        name = list(_FOOD)[plan.rng.integers(len(_FOOD))]
        plan.upon(counter, name, _FOOD[name](p), forward=p.size(-0.9, 0.4), left=p.size(-0.95, 0.95), top=0.9)


def office(plan: RoomPlan) -> None:
    """One or two desks with screens and swivel chairs, shelves, a filing cabinet, a whiteboard."""
    p = plan.painter
    walls = _shuffled(plan, "far", "left", "right")
    _workplace(plan, walls, "office chair")
    if plan.chance(0.6):
        _workplace(plan, walls[1:], "office chair")
    plan.somewhere_at("bookshelf", f.bookshelf(p), _shuffled(plan, "far", "left", "right"))
    if plan.chance(0.7):
        plan.somewhere_at("filing cabinet", f.filing_cabinet(p), _shuffled(plan, "far", "left", "right"), corner=True)
    if plan.chance(0.6):
        plan.somewhere_at("whiteboard", fit.whiteboard(p), _shuffled(plan, "far", "left", "right"), z=1.45)
    if plan.chance(0.5):
        plan.somewhere_at("book", fit.shelf(p), _shuffled(plan, "far", "left", "right"), z=p.size(1.4, 1.7))
    plan.somewhere("trash bin", fit.trash_bin(p))
    if plan.chance(0.5):
        plan.somewhere_at("plant", _tall_plant(plan), _shuffled(plan, "far", "left", "right"), corner=True, gap=0.05)


def bathroom(plan: RoomPlan) -> None:
    """A tub or a shower, a toilet, a washstand under its mirror; towels, basket, perhaps a washing machine."""
    p = plan.painter
    if plan.chance(0.65):
        plan.somewhere_at("bathtub", fit.bathtub(p), _shuffled(plan, "far", "left", "right"), corner=True)
    else:
        plan.somewhere_at("shower", fit.shower(p), _shuffled(plan, "far", "left", "right"), corner=True)
    plan.somewhere_at("toilet", fit.toilet(p), _shuffled(plan, "far", "left", "right"))
    basin = plan.somewhere_at("sink", fit.washstand(p), _shuffled(plan, "far", "left", "right"))
    if basin is not None:
        _over(plan, basin, "mirror", fit.mirror(p), 1.55)
    if plan.chance(0.4):
        plan.somewhere_at("washing machine", fit.washing_machine(p), _shuffled(plan, "far", "left", "right"))
    for _ in range(int(plan.rng.integers(1, 3))):
        plan.somewhere_at("towel", fit.towel(p), _shuffled(plan, "far", "left", "right"), z=1.25)
    if plan.chance(0.6):
        plan.somewhere("laundry basket", fit.laundry_basket(p))
    plan.somewhere("trash bin", fit.trash_bin(p))


def meeting_room(plan: RoomPlan) -> None:
    """A long table with many chairs, a screen or a whiteboard at the end."""
    p = plan.painter
    seats = int(plan.rng.integers(3, 5))
    x, y = plan.width / 2 + p.size(-0.15, 0.15), 0.58 * plan.depth
    table = plan.put("table", f.table(p, 0.66 * seats + 0.2, p.size(0.95, 1.15)), x, y)
    if table is not None:
        maker = f.office_chair if plan.chance(0.5) else f.chair
        name = "office chair" if maker is f.office_chair else "chair"
        _seats(plan, table, name, maker, along=seats, ends=True)
        scatter(plan, table, {"book": fit.book, "cup": fit.cup, "bottle": fit.bottle}, 4)
    if plan.chance(0.6):
        bench = plan.at_wall("sideboard", f.sideboard(p), "far", plan.width / 2)
        plan.upon(bench, "television", fit.television(p, p.size(1.0, 1.3)))
    else:
        plan.at_wall("whiteboard", fit.whiteboard(p), "far", plan.width / 2, z=1.45)
    if plan.chance(0.5):
        plan.somewhere_at("plant", _tall_plant(plan), _shuffled(plan, "far", "left", "right"), corner=True, gap=0.05)


KINDS: Mapping[str, Furnish] = MappingProxyType(
    {
        "bedroom": bedroom,
        "living room": living_room,
        "dining room": dining_room,
        "kitchen": kitchen,
        "office": office,
        "bathroom": bathroom,
        "meeting room": meeting_room,
    }
)
"""Kind of room -> how it is furnished."""


def finish(plan: RoomPlan, kind: str, *, sky: Floats, clutter: float) -> None:
    """Add what any room has: doors, windows, heating, pictures, light, and things left lying about."""
    p = plan.painter
    small = kind == "bathroom"
    walls = _shuffled(plan, "far", "left", "right")
    sill = p.size(1.25, 1.4) if small else p.size(0.85, 1.05)
    if kind == "kitchen":
        if add_window(plan, ["far"], sky=sky, sill=1.1, drapes=False) is None:
            add_window(plan, walls, sky=sky)
    else:
        add_window(plan, walls, sky=sky, sill=sill, drapes=not small)
    if plan.chance(0.35) and not small:
        add_window(plan, walls[::-1], sky=sky, sill=sill)
    add_door(plan, [*walls[1:], walls[0]] if plan.chance(0.55) else ["near"])
    if plan.chance(0.6):
        plan.somewhere_at("radiator", fit.radiator(p), walls)
    if not small:
        hang_pictures(plan, 3)
    if kind != "dining room":
        hang_lamp(plan, plan.width / 2, 0.55 * plan.depth, drop=0.0 if plan.chance(0.6) else p.size(0.3, 0.45))
    _clutter(plan, _FLOOR, (0.4 if small else 1.3) * clutter)
