"""Where the roads run: courses, junctions, cross-sections, and the ground they are painted on."""

from dataclasses import dataclass

import numpy as np
from numba import njit

from occkit.world.ground import PATCH, RASTER, Ground, Line, distance_to_line
from occkit.world.presets import WorldConfig
from occkit.world.primitives import Bytes, Floats, Singles
from occkit.world.words import word_id

VIEW = 85.0
"""The street goes on for this long before the first and after the last position of the ego vehicle, metres."""
MARGIN = 60.0
"""The land goes on for this long beside the roads: further than label volumes reach, metres."""
LANE = 3.4
"""Width of a lane, metres."""
_SIDE_ROAD = 75.0


@dataclass(frozen=True, kw_only=True)
class Road:
    """A line and its cross-section; widths in metres, `(right, left)` of the line."""

    line: Line
    """Centre of the carriageway."""
    lanes: int
    """In each direction."""
    median: float
    """Half width of the traffic island in the middle, 0 for none."""
    parking: tuple[float, float]
    """Width of the parking strips."""
    sidewalk: tuple[float, float]
    """Width of the sidewalks."""
    junction: float | None = None
    """Arc length at which another road crosses."""

    @property
    def half_width(self) -> float:
        """From the line to the edge of the carriageway."""
        return self.median + self.lanes * LANE

    def kerb(self, side: int) -> float:
        """From the line to the sidewalk; side 0 is right, 1 left."""
        return self.half_width + self.parking[side]

    def edge(self, side: int) -> float:
        """From the line to the end of the sidewalk."""
        return self.kerb(side) + self.sidewalk[side]


def lay_roads(rng: np.random.Generator, config: WorldConfig, drive: float) -> tuple[str, list[Road]]:
    """Draw the course of the street and its junction.

    Args:
        rng: source of choices.
        config: knobs.
        drive: how far the ego vehicle will go, metres.

    Returns:
        course: straight, left, right or cross.
        roads: the main road, on which the ego vehicle drives from arc length 0, and perhaps one that crosses it.
    """
    course = config.street
    if course == "mixed":
        course = ("straight", "left", "right", "cross")[rng.choice(4, p=[0.3, 0.25, 0.25, 0.2])]
    start = -VIEW
    knots = start + np.arange(round(drive + 2 * VIEW) + 1)
    headings = 0.04 * np.sin(knots / rng.uniform(25, 45) + rng.uniform(0, 6.3))
    bend = None
    if course in ("left", "right"):
        bend, radius, angle = drive * rng.uniform(0.3, 0.8) + 10, rng.uniform(28, 55), np.radians(rng.uniform(35, 80))
        turned = np.clip((knots - bend) / (radius * angle) + 0.5, 0, 1)
        headings = headings + (1 if course == "left" else -1) * angle * turned**2 * (3 - 2 * turned)
    line = Line.from_headings(headings, start)
    crossing = None
    if course == "cross" or rng.random() < 0.35:
        crossing = float(rng.uniform(18, max(30.0, drive * 0.8)))
        if bend is not None and abs(crossing - bend) < 45:
            crossing = bend + 55
    main = _cross_section(rng, line, lanes=int(rng.choice([1, 2], p=[0.6, 0.4])), junction=crossing)
    return course, [main] if crossing is None else [main, _side_road(rng, main, crossing)]


def _cross_section(rng: np.random.Generator, line: Line, *, lanes: int, junction: float | None) -> Road:
    return Road(
        line=line,
        lanes=lanes,
        median=0.7 if lanes == 2 and rng.random() < 0.5 else 0.0,
        parking=(2.4 if rng.random() < 0.65 else 0.0, 2.4 if rng.random() < 0.65 else 0.0),
        sidewalk=(rng.uniform(2.2, 4.2), rng.uniform(2.2, 4.2)),
        junction=junction,
    )


def _side_road(rng: np.random.Generator, main: Road, crossing: float) -> Road:
    heading = float(main.line.heading(np.array([crossing]))[0]) + np.pi / 2 + rng.uniform(-0.15, 0.15)
    reach = int(_SIDE_ROAD)
    behind = 0 if rng.random() < 0.35 else reach
    line = Line.from_headings(np.full(behind + reach + 1, heading), -behind)
    center = main.line.at(np.array([crossing]))[0]
    line = Line(line.points + center, line.headings, line.start)
    return _cross_section(rng, line, lanes=1, junction=0.0)


def make_ground(rng: np.random.Generator, config: WorldConfig, roads: list[Road]) -> Ground:
    """Paint the roads on soil and grass, and raise the land."""
    points = np.concatenate([road.line.points for road in roads])
    lower = np.floor((points.min(0) - MARGIN) / PATCH) * PATCH
    patches = np.ceil((points.max(0) + MARGIN - lower) / PATCH).astype(int)
    raster = RASTER if config.grid.voxel_size[0] > 0.5 else RASTER / 2
    shape = round(patches[0] * PATCH / raster), round(patches[1] * PATCH / raster)
    words = _wild_ground(rng, lower, shape, raster)
    rank = np.zeros(shape, np.uint8)
    along, across = np.zeros(shape, np.float32), np.full(shape, 1e6, np.float32)
    names = ("road", "parking lot", "sidewalk", "traffic island")
    ids = np.array([word_id(name) for name in names], dtype=np.uint8)
    for road in roads:
        reach = max(road.edge(0), road.edge(1)) + 0.5
        s, d = distance_to_line(road.line.points, road.line.start, lower, raster, shape, reach)
        _paint(words, rank, along, across, s, d, road.median, road.half_width, road.parking, road.sidewalk, ids)
    return Ground(
        origin=(float(lower[0]), float(lower[1])),
        patch=PATCH,
        heights=_heights(rng, config.relief, lower, patches, roads[0]),
        raster=raster,
        words=words,
        along=along,
        across=across,
    )


def _wild_ground(rng: np.random.Generator, lower: Floats, shape: tuple[int, int], raster: float) -> Bytes:
    """Grass with patches of soil."""
    x = (lower[0] + (np.arange(shape[0]) + 0.5) * raster)[:, None]
    y = (lower[1] + (np.arange(shape[1]) + 0.5) * raster)[None]
    phase = rng.uniform(0, 6.3, 4)
    wave = np.sin(x / 6.1 + phase[0]) * np.sin(y / 7.3 + phase[1]) + np.sin(x / 17 + phase[2]) * np.sin(
        y / 13 + phase[3]
    )
    return np.where(wave > 0.75, word_id("soil"), word_id("grass")).astype(np.uint8)


def _heights(rng: np.random.Generator, relief: float, lower: Floats, patches: np.ndarray, main: Road) -> Floats:
    x = lower[0] + np.arange(patches[0] + 1)[:, None] * PATCH
    y = lower[1] + np.arange(patches[1] + 1)[None] * PATCH
    phase = rng.uniform(0, 6.3, 4)
    waves = 0.09 * np.sin(x / 23 + phase[0]) * np.sin(y / 29 + phase[1]) + 0.05 * np.sin((x + y) / 17 + phase[2])
    # Land on each side may rise to a bank or fall away, beginning behind the sidewalk.
    nodes = np.stack(np.broadcast_arrays(x, y), axis=-1).reshape(-1, 1, 2)
    offset = nodes - main.line.points[None, ::4]
    nearest = np.argmin((offset**2).sum(-1), axis=1)
    towards = offset[np.arange(len(nodes)), nearest]
    heading = main.line.headings[::4][nearest]
    across = (-np.sin(heading) * towards[:, 0] + np.cos(heading) * towards[:, 1]).reshape(waves.shape)
    ramp = np.clip((np.abs(across) - max(main.edge(0), main.edge(1)) - 3) / 25, 0, 1)
    bank = np.where(across > 0, rng.uniform(-0.3, 1.3), rng.uniform(-0.3, 1.3)) * ramp**2 * (3 - 2 * ramp)
    return relief * (waves + bank)


@njit(cache=True)
def _paint(
    words: Bytes,
    rank: Bytes,
    along: Singles,
    across: Singles,
    s: Singles,
    d: Singles,
    median: float,
    half_width: float,
    parking: tuple[float, float],
    sidewalk: tuple[float, float],
    ids: Bytes,
) -> None:
    """Lay one road over the ground; where several meet, the carriageway wins and carries no marks."""
    road, lot, walk, island = ids
    for x in range(words.shape[0]):
        for y in range(words.shape[1]):
            gap = abs(d[x, y])
            if gap > 1e5:
                continue
            side = 1 if d[x, y] > 0 else 0
            kerb = half_width + parking[side]
            level, word = 0, words[x, y]
            if gap < median:
                level, word = 4, island
            elif gap < half_width:
                level, word = 4, road
            elif gap < kerb:
                level, word = 3, lot
            elif gap < kerb + sidewalk[side]:
                level, word = 2, walk
            else:
                level = 1
            if level == 4 and rank[x, y] == 4:
                words[x, y], across[x, y] = road, 1e5
            elif level > rank[x, y]:
                rank[x, y], words[x, y] = level, word
                along[x, y], across[x, y] = s[x, y], d[x, y]
