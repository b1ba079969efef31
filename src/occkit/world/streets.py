"""From a seed to a scene: roads, ground, things, ego drive and the look of the day."""

import numpy as np

from occkit.world.layout import LANE, Road, lay_roads, make_ground
from occkit.world.placement import (
    Plot,
    build_lots,
    dig_up_the_road,
    drive_traffic,
    furnish_kerb,
    park_vehicles,
    send_people,
)
from occkit.world.presets import WorldConfig
from occkit.world.primitives import concatenate
from occkit.world.scene import Fleet, Look, Motion, Scene, Street
from occkit.world.words import WORDS, word_id


def make_scene(config: WorldConfig, name: str, seed: tuple[int, ...]) -> Scene:
    """Build one scene; equal configuration and seed give equal scenes.

    Args:
        config: knobs.
        name: scene name.
        seed: entropy; scenes of different splits must differ in it.
    """
    rng = np.random.default_rng(seed)
    duration = config.frames * config.frame_interval
    speed = float(rng.uniform(*config.speed))
    course, roads = lay_roads(rng, config, speed * duration)
    main = roads[0]
    ground = make_ground(rng, config, roads)
    roadside = config.roadside
    if roadside == "mixed":
        roadside = ("buildings", "trees", "mixed")[rng.integers(3)]
    ego = _ego_drive(rng, main, speed)
    plot = Plot(ground, rng, config)
    if rng.random() < min(1.0, 0.4 * config.long_tail):
        dig_up_the_road(plot, main, float(rng.uniform(8, speed * duration + 15)))
    for road in roads:
        build_lots(plot, road, roadside)
        furnish_kerb(plot, road)
        park_vehicles(plot, road)
    drive_traffic(plot, main, ego)
    send_people(plot, main)
    fleet = Fleet(plot.things, ground)
    positions, headings = fleet.poses(0.0)
    standing = [
        thing.solids.posed(positions[i], float(headings[i])) for i, thing in enumerate(plot.things) if not thing.motion
    ]
    return Scene(
        name=name,
        street=Street(course=course, roadside=roadside, half_width=main.half_width, lanes=main.lanes),
        look=_look(rng, config),
        ground=ground,
        things=tuple(plot.things),
        fleet=fleet,
        ego=ego,
        still=concatenate([*plot.backdrop, *standing]),
    )


def _ego_drive(rng: np.random.Generator, road: Road, speed: float) -> Motion:
    lane = int(rng.integers(road.lanes))
    rate = rng.uniform(0.3, 0.7)
    return Motion(
        line=road.line,
        across=-(road.median + (lane + 0.5) * LANE),
        start=0.0,
        speed=speed,
        swing=0.4 * speed / rate,
        rate=rate,
        phase=float(rng.uniform(0, 6.3)),
    )


_GROUND_COLOURS = {
    "road": (0.27, 0.27, 0.28),
    "lane marking": (0.85, 0.84, 0.8),
    "parking lot": (0.31, 0.31, 0.32),
    "sidewalk": (0.48, 0.46, 0.43),
    "traffic island": (0.5, 0.46, 0.4),
    "grass": (0.26, 0.36, 0.14),
    "soil": (0.38, 0.3, 0.2),
}


def _look(rng: np.random.Generator, config: WorldConfig) -> Look:
    weather = config.weather
    if weather == "mixed":
        weather = ("sun", "overcast", "night", "fog")[rng.choice(4, p=[0.45, 0.3, 0.12, 0.13])]
    elevation, turn = np.radians(rng.uniform(20, 65)), rng.uniform(0, 2 * np.pi)
    sun = np.array([np.cos(elevation) * np.cos(turn), np.cos(elevation) * np.sin(turn), np.sin(elevation)])
    # direct, ambient, tint, zenith, horizon, haze, headlights
    direct, ambient, tint, zenith, horizon, haze, lights = {
        "sun": (0.95, 0.6, (1.0, 0.97, 0.9), (0.3, 0.5, 0.85), (0.72, 0.8, 0.88), 0.0015, 0.0),
        "overcast": (0.2, 0.95, (0.95, 0.97, 1.0), (0.62, 0.66, 0.7), (0.75, 0.77, 0.78), 0.004, 0.0),
        "night": (0.08, 0.24, (0.8, 0.85, 1.0), (0.02, 0.02, 0.05), (0.07, 0.06, 0.07), 0.002, 1.3),
        "fog": (0.1, 0.95, (0.97, 0.98, 1.0), (0.7, 0.72, 0.74), (0.75, 0.76, 0.77), 0.028, 0.0),
    }[weather]
    palette = np.full((len(WORDS), 3), 0.4)
    shared = rng.uniform(0.2, 0.5) * np.ones(3) + rng.normal(0, 0.02, 3)
    for name, colour in _GROUND_COLOURS.items():
        own = np.array(colour) * rng.uniform(0.75, 1.25) + rng.normal(0, 0.015, 3)
        pull = config.colour_overlap if name != "lane marking" else 0.0
        palette[word_id(name)] = np.clip((1 - pull) * own + pull * shared, 0.03, 0.97)
    return Look(
        weather=weather,
        sun=sun,
        direct=direct * rng.uniform(0.85, 1.1),
        ambient=ambient * rng.uniform(0.9, 1.1),
        tint=np.array(tint) + rng.normal(0, 0.02, 3),
        zenith=np.array(zenith) + rng.normal(0, 0.02, 3),
        horizon=np.array(horizon) + rng.normal(0, 0.015, 3),
        haze=haze * rng.uniform(0.6, 1.5),
        headlights=lights,
        palette=palette,
        seed=int(rng.integers(2**31)),
    )
