"""One scene: ground, things that stand, things that move, the ego vehicle's drive, and the look of the day."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from occkit.world.ground import Ground, Line
from occkit.world.primitives import Floats, Primitives, concatenate, yaw_matrices


@dataclass(frozen=True, kw_only=True)
class Motion:
    """A drive along a line, `s(t) = start + sign * (v t + a (sin(w t + p) - sin p))`, `a w < v`: it never turns back.

    Vehicles that share a lane share `v a w p` and differ in `start`, so they keep their distance.
    """

    line: Line
    """What is followed."""
    across: float
    """Offset to the left of the line, metres."""
    start: float
    """Arc length at time 0, metres."""
    forward: bool = True
    """Whether it travels in the direction of the line."""
    speed: float = 0.0
    """Mean speed v, metres per second."""
    swing: float = 0.0
    """Amplitude a, metres."""
    rate: float = 0.0
    """Angular rate w, radians per second."""
    phase: float = 0.0
    """Phase p, radians."""

    def along(self, time: float) -> float:
        """Return the arc length at a time (seconds), metres."""
        travelled = self.speed * time + self.swing * (np.sin(self.rate * time + self.phase) - np.sin(self.phase))
        return self.start + (travelled if self.forward else -travelled)

    def pose(self, time: float) -> tuple[Floats, float]:
        """Return position `[2]` and heading (radians) at a time (seconds)."""
        s = np.array([self.along(time)])
        heading = float(self.line.heading(s)[0]) + (0.0 if self.forward else np.pi)
        return self.line.at(s, self.across)[0], heading

    @property
    def moves(self) -> bool:
        """Whether it ever leaves its place."""
        return self.speed > 0.0


@dataclass(frozen=True, kw_only=True)
class Thing:
    """One object with an identity."""

    word: int
    """What it is."""
    instance: int
    """1, 2, ... within the scene."""
    solids: Primitives
    """Its parts in its own frame."""
    size: tuple[float, float, float]
    """Length, width, height of its box, metres."""
    middle: tuple[float, float, float]
    """Centre of the box in its own frame, metres."""
    place: tuple[float, float, float]
    """x, y and heading where it stands; those at time 0 if it moves."""
    motion: Motion | None = None
    """Its drive, if it moves."""


class Fleet:
    """Where all things are at a time, computed for all at once: an image needs it, and there are many images."""

    def __init__(self, things: Sequence[Thing], ground: Ground) -> None:
        self._ground = ground
        places = np.array([thing.place for thing in things]).reshape(-1, 3)
        self._xy, self._heading = places[:, :2], places[:, 2]
        self._rows = np.array([i for i, thing in enumerate(things) if thing.motion is not None], dtype=np.int64)
        motions = [thing.motion for thing in things if thing.motion is not None]
        self._lines = {id(m.line): m.line for m in motions}
        self._line = np.array([list(self._lines).index(id(m.line)) for m in motions], dtype=np.int64)
        numbers = [(m.start, m.speed, m.swing, m.rate, m.phase, m.across, 1.0 if m.forward else -1.0) for m in motions]
        self._numbers = np.array(numbers).reshape(-1, 7).T
        moving = [things[row].solids for row in self._rows]
        self._parts = concatenate(moving) if moving else None
        self._owner = np.repeat(self._rows, [len(solids) for solids in moving])

    def poses(self, time: float) -> tuple[Floats, Floats]:
        """Return foot positions `[things, 3]` and headings `[things]` (radians) at a time (seconds)."""
        xy, heading = self._xy.copy(), self._heading.copy()
        start, speed, swing, rate, phase, across, sign = self._numbers
        along = start + sign * (speed * time + swing * (np.sin(rate * time + phase) - np.sin(phase)))
        for number, line in enumerate(self._lines.values()):
            on = self._line == number
            rows = self._rows[on]
            xy[rows] = line.at(along[on], across[on])
            heading[rows] = line.heading(along[on]) + np.where(sign[on] > 0, 0.0, np.pi)
        return np.concatenate([xy, self._ground.height_at(xy)[:, None]], axis=1), heading

    def moving_solids(self, time: float) -> Primitives | None:
        """Return the parts of everything that moves, in the world frame; None if nothing does."""
        if self._parts is None:
            return None
        positions, headings = self.poses(time)
        turns = yaw_matrices(headings)[self._owner]
        return replace(
            self._parts,
            center=(turns @ self._parts.center[:, :, None])[:, :, 0] + positions[self._owner],
            rotation=turns @ self._parts.rotation,
        )


@dataclass(frozen=True, kw_only=True)
class Look:
    """Light and air of a scene."""

    weather: str
    """sun, overcast, night or fog."""
    sun: Floats
    """`[3]` unit direction towards the sun (or moon)."""
    direct: float
    """Strength of its light."""
    ambient: float
    """Strength of the sky's light."""
    tint: Floats
    """`[3]` colour of all light."""
    zenith: Floats
    """`[3]` colour of the sky overhead."""
    horizon: Floats
    """`[3]` colour of the sky at the horizon, and of haze."""
    haze: float
    """Extinction of the air, per metre."""
    headlights: float
    """Strength of the light that falls off with distance from the vehicle, at night."""
    palette: Floats
    """`[words, 3]` base colours of the ground."""
    seed: int
    """Of the textures."""
    lamps: Floats = field(default_factory=lambda: np.zeros((0, 4)))
    """`[k, 4]` x, y, z (metres, world frame) and strength of lights that shine to all sides."""


@dataclass(frozen=True, kw_only=True)
class Street:
    """What the road is like, for captions and for painting its marks."""

    course: str
    """straight, left, right or cross."""
    roadside: str
    """buildings, trees or mixed."""
    half_width: float
    """Of the carriageway, metres."""
    lanes: int
    """Lanes in each direction."""


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Everything about one drive; positions are exact functions of time."""

    name: str
    """scene-0001 and so on."""
    street: Street
    look: Look
    ground: Ground
    things: tuple[Thing, ...]
    """Things with identity, standing and moving; instance `i` is at place `i - 1`."""
    fleet: Fleet
    """Where they are."""
    ego: Motion
    """The vehicle that carries the sensors."""
    still: Primitives
    """Everything that stands, world frame: buildings, trees, poles, fences, and the things that do not move."""

    def solids(self, time: float) -> Primitives:
        """Return all primitives at a time (seconds), world frame."""
        moving = self.fleet.moving_solids(time)
        return self.still if moving is None else concatenate([self.still, moving])

    def global_from_ego(self, time: float, clearance: float) -> Floats:
        """Return the ego pose `[4, 4]` at a time: upright, its origin `clearance` metres above the road."""
        xy, heading = self.ego.pose(time)
        matrix = np.eye(4)
        cos, sin = np.cos(heading), np.sin(heading)
        matrix[:2, :2] = [[cos, -sin], [sin, cos]]
        matrix[:3, 3] = [*xy, self.ground.height_at(xy[None])[0] + clearance]
        return matrix
