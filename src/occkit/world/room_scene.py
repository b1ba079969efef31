"""From a seed to a room with a camera in it: shell, furniture, light, and where the picture is taken from."""

from dataclasses import dataclass, replace
from math import atan2, radians
from typing import Literal

import numpy as np

from occkit.data.nyuv2 import CENTRE, FOCAL
from occkit.world.ground import Ground
from occkit.world.painter import GREY, WHITE, WOOD, Painter
from occkit.world.primitives import BOX, PLAIN, PLANKS, PLASTER, TILES, Floats, Part, Primitives, assemble, concatenate
from occkit.world.room_plan import Piece, RoomPlan
from occkit.world.room_words import ROOM_WORDS, room_word_id
from occkit.world.rooms import KINDS, SIZES, finish
from occkit.world.scene import Look
from occkit.world.sensors import CAMERA_AXES, pose
from occkit.world.tracing import Tracer

RoomKind = Literal[
    "mixed", "bedroom", "living room", "dining room", "kitchen", "office", "bathroom", "meeting room"
]  # fmt: skip
Light = Literal["mixed", "day", "evening"]

_WALL = 0.1
"""Thickness of walls, floor and ceiling, metres."""
_VIEWPOINTS = 10
"""Places that a photographer tries."""
_AHEAD = 3.4
"""Along the optical axis to the middle of the volume, metres: so SSCNet placed it."""
_BELOW_FLOOR = -0.05
"""Lower face of the volume, metres."""
_PALETTES = (
    ((0.82, 0.8, 0.75), (0.7, 0.76, 0.78), (0.83, 0.76, 0.62), (0.72, 0.78, 0.68), (0.78, 0.7, 0.7), (0.86, 0.86, 0.85))
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class RoomConfig:
    """Everything that decides what a room contains and how it is recorded, in NYUv2's layout."""

    height: int = 480
    """Image height, pixels; the width is 4/3 of it. The view is always NYUv2's."""
    room: RoomKind = "mixed"
    """Kind of room."""
    light: Light = "mixed"
    """Daylight through the windows, or lamps in the evening."""
    clutter: float = 1.0
    """How many things lie about, against the usual number."""
    colour_overlap: float = 0.35
    """How little colour says about class: 0 typical colours only, 1 any object has any colour."""
    texture: float = 1.0
    """Strength of surface textures; 0 leaves flat colours."""
    sensor_noise: float = 0.02
    """Standard deviation of pixel noise, of full scale."""
    gain_spread: float = 0.15
    """Spread (log-normal) of the exposure gain from image to image."""
    shadows: bool = True
    """Trace the shadows of the lights: a ray for each."""
    supersample: int = 1
    """Rays a pixel along each axis, averaged into the colour; truth layers always take the pixel centre."""
    truth: bool = True
    """Write depth, word and instance layers of every image into `truth/`."""

    def __post_init__(self) -> None:
        if self.height < 3 or self.height % 3 or self.supersample < 1:
            raise ValueError(
                f"RoomConfig: expected a height divisible by 3 and supersample from 1, got {self.height}, "
                f"{self.supersample}"
            )
        for name in ("clutter", "texture", "sensor_noise", "gain_spread"):
            if not 0 <= getattr(self, name) <= 10:
                raise ValueError(f"RoomConfig: {name} must lie in 0..10, got {getattr(self, name)}")
        if not 0 <= self.colour_overlap <= 1:
            raise ValueError(f"RoomConfig: colour_overlap must lie in 0..1, got {self.colour_overlap}")

    @property
    def width(self) -> int:
        """Image width, pixels."""
        return self.height * 4 // 3


@dataclass(frozen=True, kw_only=True)
class Room:
    """One room and the camera in it. The world's origin is on the floor below the camera, its axes are the walls'."""

    name: str
    """Of its only frame."""
    kind: str
    """Kind of room."""
    light: str
    """day or evening."""
    size: tuple[float, float, float]
    """Width (x), depth (y) and height, metres."""
    corner: tuple[float, float]
    """x and y of the corner from which the size is measured, metres."""
    pieces: tuple[Piece, ...]
    """What was placed; counted ones have an identity in their solids."""
    solids: Primitives
    """All primitives, shell included."""
    look: Look
    """Light."""
    world_from_camera: Floats
    """`[4, 4]`."""

    @property
    def origin(self) -> Floats:
        """Lower corner `[3]` of the label volume, metres."""
        middle = self.world_from_camera[:3, 3] + _AHEAD * self.world_from_camera[:3, 2]
        return np.array([middle[0] - 2.4, middle[1] - 2.4, _BELOW_FLOOR])

    def tracer(self) -> Tracer:
        """Arrange the room for ray tracing."""
        return Tracer.build(self.solids, _cellar(self.corner, self.size))


def make_room(config: RoomConfig, name: str, seed: tuple[int, ...]) -> Room:
    """Build one room; equal configuration and seed give equal rooms.

    Args:
        config: knobs.
        name: of the frame.
        seed: entropy; rooms of different splits must differ in it.
    """
    rng = np.random.default_rng(seed)
    kind = tuple(KINDS)[rng.integers(len(KINDS))] if config.room == "mixed" else config.room
    light = ("day", "evening")[int(rng.random() < 0.3)] if config.light == "mixed" else config.light
    (narrow, wide), (short, long) = SIZES[kind]
    painter = Painter(rng, config.colour_overlap)
    plan = RoomPlan(painter.size(narrow, wide), painter.size(short, long), painter.size(2.35, 2.75), painter)
    sky = np.array([1.15, 1.35, 1.6]) if light == "day" else np.array([0.05, 0.06, 0.11])
    KINDS[kind](plan)
    finish(plan, kind, sky=sky, clutter=config.clutter)
    shell = _shell(plan, kind)
    inside = concatenate([shell, *(piece.solids for piece in plan.pieces)])
    camera = _viewpoint(plan, inside)
    shift = np.array([-camera[0, 3], -camera[1, 3], 0.0])
    camera[:3, 3] += shift
    look = _look(plan, light, shift)
    return Room(
        name=name,
        kind=kind,
        light=light,
        size=(plan.width, plan.depth, plan.height),
        corner=(float(shift[0]), float(shift[1])),
        pieces=tuple(plan.moved_by(shift)),
        solids=replace(inside, center=inside.center + shift),
        look=look,
        world_from_camera=camera,
    )


def _shell(plan: RoomPlan, kind: str) -> Primitives:
    """Return floor, ceiling, walls and skirting."""
    p, (w, d, h), t = plan.painter, (plan.width, plan.depth, plan.height), _WALL / 2
    paint = p.typical(np.array(_PALETTES[p.rng.integers(len(_PALETTES))]), 0.03)
    tiled = kind == "bathroom" or (kind == "kitchen" and p.rng.random() < 0.5)
    boards = p.typical(WOOD * (1.0 + 0.9 * p.rng.random()), 0.03)
    stone = p.typical(GREY * p.size(0.9, 1.7), 0.03)
    ground, material = (stone, TILES) if tiled else (boards, PLANKS) if p.rng.random() < 0.7 else (stone * 0.8, PLAIN)
    wall_material = TILES if kind == "bathroom" else PLASTER
    parts = [
        ("floor", (w / 2, d / 2, -t), (w / 2 + 2 * t, d / 2 + 2 * t, t), ground, material, ground * 0.62),
        ("ceiling", (w / 2, d / 2, h + t), (w / 2 + 2 * t, d / 2 + 2 * t, t), p.typical(WHITE, 0.02), PLASTER, WHITE),
    ]
    upright = (
        (-t, d / 2, t, d / 2),
        (w + t, d / 2, t, d / 2),
        (w / 2, -t, w / 2 + 2 * t, t),
        (w / 2, d + t, w / 2 + 2 * t, t),
    )
    for x, y, half_x, half_y in upright:
        parts.append(("wall", (x, y, h / 2), (half_x, half_y, h / 2), paint, wall_material, paint * 0.8))
    made = [
        Part(BOX, at, half, colour, kind_of, second, word=room_word_id(name))
        for name, at, half, colour, kind_of, second in parts
    ]
    return assemble(made, word=room_word_id("wall"), instance=0, moving=False)


def _cellar(corner: tuple[float, float], size: tuple[float, float, float]) -> Ground:
    """Return ground far below the floor: rays never reach it, but it carries the tracer's cells."""
    cell = 0.5
    cells = [int(np.ceil((extent + 1.0) / cell)) for extent in size[:2]]
    return Ground(
        origin=(corner[0] - 0.5, corner[1] - 0.5),
        patch=cell,
        heights=np.full((cells[0] + 1, cells[1] + 1), -10.0),
        raster=100.0,
        words=np.zeros((2, 2), np.uint8),
        along=np.zeros((2, 2), np.float32),
        across=np.full((2, 2), 1e6, np.float32),
    )


def _viewpoint(plan: RoomPlan, solids: Primitives) -> Floats:
    """Return the camera `[4, 4]` that sees most pieces, of some at the near wall that look into the room."""
    rng = plan.rng
    tracer = Tracer.build(solids, _cellar((0.0, 0.0), (plan.width, plan.depth, plan.height)))
    best, found = -np.inf, np.eye(4)
    for _ in range(_VIEWPOINTS):
        eye = np.array([rng.uniform(0.3, plan.width - 0.3), rng.uniform(0.15, 0.5), rng.uniform(1.05, 1.6)])
        target = np.array([plan.width * rng.uniform(0.35, 0.65), plan.depth * rng.uniform(0.7, 0.9)])
        yaw = atan2(target[0] - eye[0], target[1] - eye[1])
        camera = pose(_towards(yaw, radians(rng.uniform(4, 20)), radians(rng.normal(0, 1.2))), eye)
        score = _worth(tracer, camera)
        if score > best:
            best, found = score, camera
    return found


def _towards(yaw: float, down: float, roll: float) -> Floats:
    """Return the world-from-camera rotation of a camera turned `yaw` to the right of +y and `down` below level."""
    c, s = np.cos(-yaw + np.pi / 2), np.sin(-yaw + np.pi / 2)
    heading = np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
    dip = np.array([[np.cos(down), 0.0, np.sin(down)], [0.0, 1.0, 0.0], [-np.sin(down), 0.0, np.cos(down)]])
    turn = np.array([[np.cos(roll), -np.sin(roll), 0.0], [np.sin(roll), np.cos(roll), 0.0], [0.0, 0.0, 1.0]])
    return heading @ dip @ CAMERA_AXES @ turn


def _worth(tracer: Tracer, camera: Floats) -> float:
    """Return how much a camera sees: pieces, less what stands right before it."""
    columns, rows = np.meshgrid(np.arange(20, 640, 24), np.arange(20, 480, 24))
    rays = np.stack([(columns - CENTRE[0]) / FOCAL, (rows - CENTRE[1]) / FOCAL, np.ones(columns.shape)], -1).reshape(
        -1, 3
    )
    rays = rays @ camera[:3, :3].T
    depth, hit = tracer.trace(np.broadcast_to(camera[:3, 3], rays.shape).copy(), rays, 20.0)
    instances, seen = np.unique(tracer.solids.instance[np.maximum(hit, 0)], return_counts=True)
    pieces = int((seen[instances > 0] >= 3).sum())
    return pieces - 60.0 * float((depth < 0.7).mean()) - 6.0 * float((depth < 1.2).mean())


def _look(plan: RoomPlan, light: str, shift: Floats) -> Look:
    """Return the light of a room: what falls in and what is switched on."""
    rng = plan.rng
    lamps = np.array(plan.lamps).reshape(-1, 4)
    bright = lamps[:, 3] > 1.3
    lamps[:, 3] *= np.where(bright, 0.55, 0.35 if light == "day" else 0.9) * rng.uniform(0.85, 1.15, len(lamps))
    lamps[:, :3] += shift
    warm = np.array([1.0, 0.97, 0.92]) if light == "day" else np.array([1.06, 0.95, 0.78])
    return Look(
        weather=light,
        sun=np.array([0.25, -0.35, 0.9]),
        direct=0.12,
        ambient=0.5 if light == "day" else 0.32,
        tint=warm + rng.normal(0, 0.015, 3),
        zenith=np.full(3, 0.3),
        horizon=np.full(3, 0.3),
        haze=0.0,
        headlights=0.0,
        palette=np.full((len(ROOM_WORDS), 3), 0.3),
        seed=int(rng.integers(2**31)),
        lamps=lamps[lamps[:, 3] > 0.02],
    )
