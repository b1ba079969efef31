"""What stands and moves along the roads: lots, kerbs, parked rows, work zones, traffic and people."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache

import numpy as np

from occkit.world import scenery
from occkit.world.ground import Ground
from occkit.world.layout import LANE, Road
from occkit.world.objects import MAKERS
from occkit.world.painter import Painter
from occkit.world.presets import WorldConfig
from occkit.world.primitives import Part, Primitives, assemble
from occkit.world.scene import Motion, Thing
from occkit.world.words import WORDS, word_id

WILD = ("grass", "soil")
_TOWED = 11.5  # metres from the middle of a truck to that of its trailer
_PARKED = {
    "car": 60,
    "van": 12,
    "pickup truck": 8,
    "truck": 6,
    "trailer": 7,
    "motorcycle": 3,
    "taxi": 2,
    "police car": 3,
}
_DRIVEN = {"car": 56, "van": 10, "pickup truck": 7, "truck": 8, "bus": 9, "motorcyclist": 6, "taxi": 3, "police car": 3}
_WALKERS = {"pedestrian": 80, "child": 12, "police officer": 4, "construction worker": 4}
_KERB = {
    "tree": 24, "traffic sign": 14, "pole": 7, "bicycle": 9, "motorcycle": 4, "parking meter": 8, "bush": 5,
    "barrier": 4, "traffic cone": 3, "shelter": 3,
}  # fmt: skip
_KERB_TAIL = {
    "mailbox": 5, "fire hydrant": 5, "trash bin": 10, "bench": 7, "bicycle rack": 4, "phone booth": 2, "dog": 1,
    "debris": 2, "stroller": 1,
}  # fmt: skip
"""How often each kind of thing is drawn; numbers matter against each other only."""


@dataclass
class Plot:
    """The ground while it is being built on: remembers what is taken."""

    ground: Ground
    rng: np.random.Generator
    config: WorldConfig
    backdrop: list[Primitives] = field(default_factory=list)
    """Placed things without identity, world frame."""
    things: list[Thing] = field(default_factory=list)
    """Placed things with identity."""

    def __post_init__(self) -> None:
        self.taken = np.zeros(self.ground.words.shape, np.bool_)
        self.painter = Painter(self.rng, self.config.colour_overlap)

    def choose(self, weights: Mapping[str, float]) -> str:
        """Draw a name."""
        values = np.array(list(weights.values()), dtype=np.float64)
        return list(weights)[self.rng.choice(len(values), p=values / values.sum())]

    def put(
        self, name: str, xy: np.ndarray, yaw: float, *, on: tuple[str, ...], parts: list[Part] | None = None
    ) -> bool:
        """Place an object if all ground under it is one of the words `on` and free."""
        made = MAKERS[name](self.painter) if parts is None else parts
        thing = WORDS[word_id(name)].counted
        solids = assemble(made, word=word_id(name), instance=len(self.things) + 1 if thing else 0, moving=False)
        low, high = _footprint(made, solids)
        x, y = (np.arange(low[i], high[i] + 0.3, 0.3) for i in (0, 1))
        local = np.stack(np.meshgrid(x, y, indexing="ij"), -1).reshape(-1, 2)
        cos, sin = np.cos(yaw), np.sin(yaw)
        cells = self.ground.index(local @ np.array([[cos, sin], [-sin, cos]]) + xy)
        if self.taken[cells].any() or not _among(on)[self.ground.words[cells]].all():
            return False
        self.taken[cells] = True
        if thing:
            self.things.append(make_thing(solids, place=(float(xy[0]), float(xy[1]), yaw)))
        else:
            self.backdrop.append(solids.posed(np.array([*xy, self.ground.height_at(xy[None])[0]]), yaw))
        return True

    def send(self, name: str, motion: Motion) -> None:
        """Add something that moves, or stands in a lane."""
        parts = MAKERS[name](self.painter)
        instance = len(self.things) + 1
        solids = assemble(parts, word=word_id(name), instance=instance, moving=motion.moves)
        xy, yaw = motion.pose(0.0)
        place = (float(xy[0]), float(xy[1]), yaw)
        self.things.append(make_thing(solids, place=place, motion=motion if motion.moves else None))


@cache
def _among(names: tuple[str, ...]) -> np.ndarray:
    """Return a table that says of every word's id whether it is one of the names."""
    table = np.zeros(256, np.bool_)
    table[[word_id(name) for name in names]] = True
    return table


def make_thing(solids: Primitives, *, place: tuple[float, float, float], motion: Motion | None = None) -> Thing:
    """Wrap an object's parts and measure its box."""
    low, high = (b for b in solids.bounds())
    low, high = low.min(0), high.max(0)
    low[2] = max(low[2], 0.0)
    size, middle = high - low, (high + low) / 2
    return Thing(
        word=int(solids.word[0]),
        instance=int(solids.instance[0]),
        solids=solids,
        size=(float(size[0]), float(size[1]), float(size[2])),
        middle=(float(middle[0]), float(middle[1]), float(middle[2])),
        place=place,
        motion=motion,
    )


def _footprint(parts: list[Part], solids: Primitives) -> tuple[np.ndarray, np.ndarray]:
    """Extent of what comes near the ground: a crown or a lamp's arm may hang over the road."""
    low, high = solids.bounds()
    near = low[:, 2] < 1.5
    near[0 if not near.any() else int(np.argmax(near))] = True
    return low[near, :2].min(0), high[near, :2].max(0)


def build_lots(plot: Plot, road: Road, roadside: str) -> None:
    """Line both sides of a road with buildings, parks and yards."""
    weights = {
        "buildings": {"building": 80, "park": 10, "yard": 10},
        "trees": {"building": 8, "park": 75, "yard": 17},
        "mixed": {"building": 50, "park": 32, "yard": 18},
    }[roadside]
    for side in (0, 1):
        at = road.line.start + 4
        while at < road.line.end - 6:
            width = plot.painter.size(8, 20)
            kind = plot.choose(weights)
            if kind == "building":
                _building_lot(plot, road, side, at + width / 2, width - 0.6)
            else:
                _green_lot(plot, road, side, at, width, fenced=kind == "yard")
            _second_row(plot, road, side, at, width, roadside)
            at += width + (plot.painter.size(0, 3) if plot.rng.random() < 0.5 else 0.0)


def _second_row(plot: Plot, road: Road, side: int, at: float, width: float, roadside: str) -> None:
    """What is seen over the roofs and through the gaps: trees, and here and there a house."""
    p = plot.painter
    if plot.rng.random() < (0.1 if roadside == "trees" else 0.35):
        xy, yaw = _outward(road, side, at + width / 2, p.size(20, 28))
        plot.put("building", xy, yaw, on=WILD, parts=scenery.building(p, width, p.size(8, 12)))
    for _ in range(plot.rng.integers(1, 4)):
        spot, turn = _outward(road, side, at + p.size(0, width), p.size(15, 38))
        plot.put("tree" if plot.rng.random() < 0.7 else "bush", spot, turn, on=WILD)


def _outward(road: Road, side: int, along: float, beyond: float) -> tuple[np.ndarray, float]:
    """Point `beyond` metres behind the sidewalk, and the heading that looks at the road."""
    sign = 1 if side else -1
    s = np.array([along])
    return road.line.at(s, sign * (road.edge(side) + beyond))[0], float(road.line.heading(s)[0]) - sign * np.pi / 2


def _building_lot(plot: Plot, road: Road, side: int, along: float, width: float) -> None:
    p = plot.painter
    setback = p.size(0.4, 1.2) if plot.rng.random() < 0.6 else p.size(2.5, 6.0)
    xy, yaw = _outward(road, side, along, setback)
    plot.put("building", xy, yaw, on=WILD, parts=scenery.building(p, width, p.size(8, 14)))
    if setback > 2:
        _front_of_lot(plot, road, side, along - width / 2, width)
        for _ in range(plot.rng.integers(0, 4)):
            spot, turn = _outward(road, side, along + p.size(-0.4, 0.4) * width, p.size(1.0, setback - 0.8))
            plot.put("bush", spot, turn, on=WILD)


def _green_lot(plot: Plot, road: Road, side: int, at: float, width: float, *, fenced: bool) -> None:
    p = plot.painter
    if fenced:
        _front_of_lot(plot, road, side, at, width)
    for _ in range(int(width * 0.35)):
        spot, turn = _outward(road, side, at + p.size(0, width), p.size(1.2, 14.0))
        plot.put("tree" if plot.rng.random() < 0.6 else "bush", spot, turn + p.size(0, 6.3), on=WILD)


def _front_of_lot(plot: Plot, road: Road, side: int, at: float, width: float) -> None:
    """A fence, wall or hedge along the sidewalk in pieces of two metres, so that it follows a bend."""
    kind = plot.choose({"fence": 55, "wall": 25, "bush": 20})
    colour = plot.painter.typical(np.array([0.42, 0.36, 0.3]), 0.1)
    for piece in np.arange(at + 1, at + width - 0.9, 2.0 if kind != "bush" else 1.6):
        xy, yaw = _outward(road, side, float(piece), 0.35 if kind != "bush" else 0.9)
        if kind == "bush":
            plot.put("bush", xy, yaw, on=WILD)
        else:
            maker = scenery.fence if kind == "fence" else scenery.wall
            plot.put(kind, xy, yaw, on=WILD, parts=maker(plot.painter, 2.0, colour=colour))


def furnish_kerb(plot: Plot, road: Road) -> None:
    """Lamps at regular distances, and all that stands on sidewalks."""
    tail = plot.config.long_tail
    kinds = _KERB | {name: weight * tail for name, weight in _KERB_TAIL.items()}
    for side in (0, 1):
        sign = 1 if side else -1
        lamps = np.arange(road.line.start + plot.painter.size(0, 20), road.line.end, plot.painter.size(22, 32))
        for along in lamps:
            _put_at_kerb(plot, road, side, float(along), 0.45, "street lamp", -sign * np.pi / 2)
        if road.junction is not None:
            _put_at_kerb(
                plot, road, side, road.junction - sign * (road.half_width + 5), 0.6, "traffic light", np.pi * (1 - side)
            )
        along = road.line.start + 3
        while along < road.line.end - 3:
            along += float(plot.rng.exponential(4.0)) + 1.2
            name = plot.choose(kinds)
            turn = -sign * np.pi / 2
            if name in ("traffic sign", "bicycle", "motorcycle"):
                turn = np.pi * (1 - side)  # signs face the traffic of their side
            _put_at_kerb(plot, road, side, along, plot.painter.size(0.6, 1.2), name, turn)


def _put_at_kerb(plot: Plot, road: Road, side: int, along: float, inside: float, name: str, turn: float) -> None:
    sign = 1 if side else -1
    s = np.array([along])
    xy = road.line.at(s, sign * (road.kerb(side) + inside))[0]
    plot.put(name, xy, float(road.line.heading(s)[0]) + turn, on=("sidewalk",))


def park_vehicles(plot: Plot, road: Road) -> None:
    """Fill the parking strips, with gaps."""
    for side in (0, 1):
        if road.parking[side] == 0:
            continue
        sign = 1 if side else -1
        along = road.line.start + 5
        while along < road.line.end - 5:
            along += plot.painter.size(5.6, 8.0)
            if plot.rng.random() < min(0.95, 0.55 * plot.config.traffic):
                s = np.array([along])
                name = plot.choose(_PARKED)
                # Wide vehicles stand a little over the line.
                over = 0.5 if name in ("truck", "trailer") else 0.0
                xy = road.line.at(s, sign * (road.half_width + road.parking[side] / 2 - over))[0]
                heading = float(road.line.heading(s)[0]) + (np.pi if side else 0.0) + plot.rng.normal(0, 0.02)
                plot.put(name, xy, heading, on=("parking lot", "road"))


def dig_up_the_road(plot: Plot, road: Road, around: float) -> None:
    """A work zone at the right-hand edge: cones, barriers, an excavator and workers."""
    heading = float(road.line.heading(np.array([around]))[0])

    def spot(along: float, across: float) -> np.ndarray:
        return road.line.at(np.array([along]), -across)[0]

    # Cones stand where nobody drives: along the parking strip, or on the kerb.
    for step in np.arange(-8, 8.1, 2.0):
        plot.put("traffic cone", spot(around + step, road.half_width + 0.4), heading, on=("parking lot", "sidewalk"))
    for step in (-6.0, -3.5, 3.5, 6.0):
        plot.put("barrier", spot(around + step, road.kerb(0) + 0.45), heading + np.pi / 2, on=("sidewalk",))
    behind = road.edge(0) + 3.0
    if not plot.put("excavator", spot(around, behind), heading + plot.rng.uniform(-0.5, 0.5), on=WILD):
        plot.put("excavator", spot(around, road.kerb(0) + 1.3), heading, on=("sidewalk", "parking lot", *WILD))
    for _ in range(plot.rng.integers(1, 4)):
        xy = spot(around + plot.rng.uniform(-7, 7), road.kerb(0) + plot.rng.uniform(1.2, 2.0))
        plot.put("construction worker", xy, plot.rng.uniform(0, 6.3), on=("sidewalk",))
    plot.put("debris", spot(around + 2, road.half_width + 1.0), 0.4, on=("parking lot", "sidewalk"))


def drive_traffic(plot: Plot, road: Road, ego: Motion) -> None:
    """Fill the lanes; vehicles of one lane share a speed, so that they never meet."""
    for forward in (True, False):
        for lane in range(road.lanes):
            across = (road.median + (lane + 0.5) * LANE) * (-1 if forward else 1)
            with_ego = forward and abs(across - ego.across) < 0.1
            if with_ego:
                flow = ego
            else:
                speed = float(plot.rng.uniform(3.0, 9.0)) if plot.rng.random() < plot.config.moving_share else 0.0
                flow = Motion(line=road.line, across=across, start=0.0, forward=forward, speed=speed)
            along = road.line.start + plot.painter.size(2, 25)
            while along < road.line.end - 6:
                # A standing queue does not block the crossing.
                clear = road.junction is None or flow.moves or abs(along - road.junction) > 14
                if clear and not (with_ego and along - 15 < ego.start < along + 15 + _TOWED):
                    name = plot.choose(_DRIVEN)
                    if name == "truck" and plot.rng.random() < 0.4:
                        plot.send("trailer", _joined(flow, along if forward else along + _TOWED))
                        plot.send("truck", _joined(flow, along + _TOWED if forward else along))
                        along += _TOWED
                    else:
                        plot.send(name, _joined(flow, along))
                along += 15 + float(plot.rng.exponential(32.0)) / max(plot.config.traffic, 0.05)


def _joined(flow: Motion, start: float) -> Motion:
    return Motion(
        line=flow.line, across=flow.across, start=start, forward=flow.forward, speed=flow.speed, swing=flow.swing,
        rate=flow.rate, phase=flow.phase,
    )  # fmt: skip


def send_people(plot: Plot, road: Road) -> None:
    """People on the sidewalks, some with a stroller or a dog, and cyclists at the edge of the carriageway."""
    rng, config = plot.rng, plot.config
    length = road.line.end - road.line.start
    for _ in range(rng.poisson(config.crowd * length / 9.0)):
        side = int(rng.integers(2))
        sign = 1 if side else -1
        across = sign * rng.uniform(road.kerb(side) + 1.3, road.edge(side) - 0.2)
        start = float(rng.uniform(road.line.start + 5, road.line.end - 5))
        speed = float(rng.uniform(0.7, 1.7)) if rng.random() < config.moving_share else 0.0
        walk = Motion(line=road.line, across=across, start=start, forward=bool(rng.random() < 0.5), speed=speed)
        plot.send(plot.choose(_WALKERS), walk)
        ahead = 0.75 if walk.forward else -0.75
        companion = rng.random() / max(config.long_tail, 1e-6)
        if companion < 0.1:
            plot.send("stroller" if companion < 0.06 else "dog", _joined(walk, start + ahead))
    for _ in range(rng.poisson(config.crowd * length / 60.0)):
        forward = bool(rng.random() < 0.5)
        across = (road.half_width - 0.4) * (-1 if forward else 1)
        start = float(rng.uniform(road.line.start + 5, road.line.end - 5))
        plot.send(
            "cyclist", Motion(line=road.line, across=across, start=start, forward=forward, speed=rng.uniform(2.5, 6))
        )
