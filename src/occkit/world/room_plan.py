"""A room while it is being furnished: its walls, what stands where, and that nothing intersects.

The room is a box [0, width] x [0, depth] x [0, height], metres, z up. Walls are named as seen from the near one: far
(y = depth), left (x = 0), right (x = width), near (y = 0).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import pi

import numpy as np

from occkit.world.painter import Painter
from occkit.world.primitives import Floats, Part, Primitives, assemble
from occkit.world.room_words import ROOM_WORDS, room_word_id

WALLS = ("far", "left", "right", "near")
_YAWS = {"far": -pi / 2, "left": 0.0, "right": pi, "near": pi / 2}
_TOUCH = 0.004
"""Parts of different pieces may share this much, metres: things stand on each other."""
_TRIES = 12
_BEFORE, _NARROWER = 0.06, 0.2
"""Nothing may be put so close before a window or a door, but at its outermost parts, metres."""


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Something that was placed."""

    name: str
    """Its word."""
    solids: Primitives
    """Its parts, in the frame of the room."""
    xy: tuple[float, float]
    """Where its own frame's origin is."""
    yaw: float
    """Its heading, radians."""
    low: Floats
    """`[3]` lower corner of its box."""
    high: Floats
    """`[3]` upper corner."""
    half: tuple[float, float]
    """Half its extent along its own x and y, metres."""
    middle: float
    """Middle of its extent along its own x."""


@dataclass
class RoomPlan:
    """See the module."""

    width: float
    """Extent along x, metres."""
    depth: float
    """Along y."""
    height: float
    """Along z."""
    painter: Painter
    """Source of choices, sizes and colours."""
    pieces: list[Piece] = field(default_factory=list)
    """What was placed."""
    kept_free: list[tuple[Floats, Floats]] = field(default_factory=list)
    """Boxes in which nothing may be put: before doors."""
    lamps: list[tuple[float, float, float, float]] = field(default_factory=list)
    """x, y, z and strength of the lights."""

    def __post_init__(self) -> None:
        self._low, self._high = np.zeros((0, 3)), np.zeros((0, 3))

    @property
    def rng(self) -> np.random.Generator:
        """Source of every choice."""
        return self.painter.rng

    def chance(self, probability: float) -> bool:
        """Toss a coin."""
        return bool(self.rng.random() < probability)

    def length(self, wall: str) -> float:
        """Return the length of a wall, metres."""
        return self.width if wall in ("far", "near") else self.depth

    def put(
        self, name: str, parts: Sequence[Part], x: float, y: float, *, z: float = 0.0, yaw: float = 0.0,
        in_wall: bool = False,
    ) -> Piece | None:  # fmt: skip
        """Place a piece if it fits: in the room (but for what is let into a wall), and through no other piece."""
        counted = ROOM_WORDS[room_word_id(name)].counted
        instance = 1 + sum(ROOM_WORDS[room_word_id(p.name)].counted for p in self.pieces) if counted else 0
        own = assemble(parts, word=room_word_id(name), instance=instance, moving=False)
        solids = own.posed(np.array([x, y, z]), yaw)
        low, high = solids.bounds()
        if not in_wall:
            size = np.array([self.width, self.depth, self.height])
            if (low.min(0) < -_TOUCH).any() or (high.max(0) > size + _TOUCH).any():
                return None
        if self._taken(low, high, keep_clear=not in_wall):
            return None
        if in_wall:
            # Nothing hangs before a pane, whichever came first; curtains reach a little over its sides.
            before = self._before_wall(low.min(0), high.max(0), yaw)
            if self._taken(before[0][None], before[1][None], keep_clear=False):
                return None
            self.kept_free.append(before)
        self._low, self._high = np.concatenate([self._low, low]), np.concatenate([self._high, high])
        own_low, own_high = (b for b in own.bounds())
        front, back = own_high[:, 0].max(), own_low[:, 0].min()
        piece = Piece(
            name=name,
            solids=solids,
            xy=(x, y),
            yaw=yaw,
            low=low.min(0),
            high=high.max(0),
            half=(float(front - back) / 2, float(own_high[:, 1].max() - own_low[:, 1].min()) / 2),
            middle=float(front + back) / 2,
        )
        self.pieces.append(piece)
        return piece

    def _before_wall(self, low: Floats, high: Floats, yaw: float) -> tuple[Floats, Floats]:
        """Return the box right before what is let into a wall, a little narrower than that."""
        across = abs(np.cos(yaw)) > 0.5
        margin = np.array([-_BEFORE, _NARROWER, 0.0]) if across else np.array([_NARROWER, -_BEFORE, 0.0])
        return low + margin, high - margin

    def _taken(self, low: Floats, high: Floats, *, keep_clear: bool) -> bool:
        others, tops = self._low, self._high
        if keep_clear and self.kept_free:
            others = np.concatenate([others, [box[0] for box in self.kept_free]])
            tops = np.concatenate([tops, [box[1] for box in self.kept_free]])
        shared = np.minimum(high[:, None], tops[None]) - np.maximum(low[:, None], others[None])
        return bool((shared > _TOUCH).all(axis=2).any())

    def at_wall(
        self, name: str, parts: Sequence[Part], wall: str, along: float, *, z: float = 0.0, gap: float = 0.015,
        in_wall: bool = False,
    ) -> Piece | None:  # fmt: skip
        """Place a piece with its back to a wall (`gap` metres before it), its middle at `along` metres of the wall.

        What is let into a wall has its own x = 0 at the wall's face instead.
        """
        back = 0.0 if in_wall else min(_back_of(part) for part in parts)
        away = gap - back
        x, y = {
            "far": (along, self.depth - away),
            "near": (along, away),
            "left": (away, along),
            "right": (self.width - away, along),
        }[wall]
        return self.put(name, parts, x, y, z=z, yaw=_YAWS[wall], in_wall=in_wall)

    def somewhere_at(
        self, name: str, parts: Sequence[Part], walls: Sequence[str], *, z: float = 0.0, gap: float = 0.015,
        in_wall: bool = False, corner: bool = False,
    ) -> Piece | None:  # fmt: skip
        """Place a piece at the first of several walls where there is room: at a random place, or next to a corner."""
        half = max(abs(side * part.center[1] + _reach(part)[1]) for part in parts for side in (-1, 1))
        for wall in walls:
            first, last = half + 0.02, self.length(wall) - half - 0.02
            if first > last:
                continue
            places = [first, last] if corner else self.rng.uniform(first, last, _TRIES).tolist()
            if corner:
                self.rng.shuffle(places)
            for along in places:
                piece = self.at_wall(name, parts, wall, along, z=z, gap=gap, in_wall=in_wall)
                if piece is not None:
                    return piece
        return None

    def somewhere(self, name: str, parts: Sequence[Part], *, far_part: float = 0.3) -> Piece | None:
        """Place a small piece anywhere on the floor, turned any way; not in the nearest part of the room."""
        for _ in range(_TRIES):
            x, y = self.rng.uniform(0, self.width), self.rng.uniform(far_part * self.depth, self.depth)
            piece = self.put(name, parts, x, y, yaw=float(self.rng.uniform(0, 2 * pi)))
            if piece is not None:
                return piece
        return None

    def upon(
        self, base: Piece | None, name: str, parts: Sequence[Part], *, forward: float = 0.0, left: float = 0.0,
        turn: float = 0.0, top: float | None = None,
    ) -> Piece | None:  # fmt: skip
        """Put something on a piece.

        Args:
            base: what it stands on; None puts nothing.
            name: its word.
            parts: its parts.
            forward: where along the base's own x, -1 (back) to 1 (front).
            left: where along its own y, -1 to 1.
            turn: heading against the base's, radians.
            top: height of the surface, metres; the base's highest point by default.
        """
        if base is None:
            return None
        reach_x, reach_y = (max(_reach(part)[axis] + abs(part.center[axis]) for part in parts) for axis in (0, 1))
        if reach_x > base.half[0] or reach_y > base.half[1]:
            reach_x, reach_y = min(reach_x, base.half[0]), min(reach_y, base.half[1])
        x = base.middle + forward * (base.half[0] - reach_x)
        y = left * (base.half[1] - reach_y)
        cos, sin = np.cos(base.yaw), np.sin(base.yaw)
        place = base.xy[0] + cos * x - sin * y, base.xy[1] + sin * x + cos * y
        height = float(base.high[2]) if top is None else top
        return self.put(name, parts, *place, z=height, yaw=base.yaw + turn)

    def before(
        self, base: Piece, name: str, parts: Sequence[Part], *, distance: float, left: float = 0.0, turn: float = 0.0
    ) -> Piece | None:
        """Put something on the floor before a piece: its middle `distance` metres before the front, `left` of it."""
        x = base.middle + base.half[0] + distance
        cos, sin = np.cos(base.yaw), np.sin(base.yaw)
        place = base.xy[0] + cos * x - sin * left, base.xy[1] + sin * x + cos * left
        return self.put(name, parts, *place, yaw=base.yaw + turn)

    def beside(self, base: Piece, name: str, parts: Sequence[Part], *, side: int, gap: float = 0.04) -> Piece | None:
        """Put something left (side 1) or right (-1) of a piece that stands at a wall, backs in line."""
        back, half = min(_back_of(part) for part in parts), max(_reach(part)[1] + abs(part.center[1]) for part in parts)
        x = base.middle - base.half[0] - back
        y = side * (base.half[1] + gap + half)
        cos, sin = np.cos(base.yaw), np.sin(base.yaw)
        place = base.xy[0] + cos * x - sin * y, base.xy[1] + sin * x + cos * y
        return self.put(name, parts, *place, yaw=base.yaw)

    def keep_free(self, wall: str, along: float, *, half: float, reach: float) -> None:
        """Keep the floor before a stretch of wall free up to `reach` metres."""
        low = {"far": (along - half, self.depth - reach), "near": (along - half, 0.0), "left": (0.0, along - half)}
        low["right"] = (self.width - reach, along - half)
        size = (2 * half, reach) if wall in ("far", "near") else (reach, 2 * half)
        first = np.array([*low[wall], 0.01])
        self.kept_free.append((first, first + np.array([*size, 1.9])))

    def light(self, x: float, y: float, z: float, strength: float) -> None:
        """Add a light."""
        self.lamps.append((x, y, z, strength))

    def moved_by(self, shift: Floats) -> "list[Piece]":
        """Return the pieces moved by `[3]` metres."""
        return [
            replace(p, solids=replace(p.solids, center=p.solids.center + shift), low=p.low + shift, high=p.high + shift)
            for p in self.pieces
        ]


def _reach(part: Part) -> tuple[float, float]:
    """Half the extent of a part along its piece's x and y."""
    cos, sin = abs(np.cos(part.yaw)), abs(np.sin(part.yaw))
    x = part.half[0] * abs(np.cos(part.pitch)) + part.half[2] * abs(np.sin(part.pitch))
    return float(cos * x + sin * part.half[1]), float(sin * x + cos * part.half[1])


def _back_of(part: Part) -> float:
    return part.center[0] - _reach(part)[0]
