"""What vehicles, people and street furniture are made of: parts in the object's frame (x forward, z up).

Proportions are those of everyday things, in metres; every call draws its own size and colours.
"""

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from occkit.world.painter import BLACK, GLASS, GREY, ORANGE, RED, SKIN, WHITE, WOOD, YELLOW, Maker, Painter
from occkit.world.primitives import (
    BALL,
    BOX,
    BRICK,
    CLOTH,
    CONE,
    CYLINDER,
    FACADE,
    FENCE_MESH,
    PAINT,
    STRIPES,
    Floats,
    Part,
)
from occkit.world.scenery import bush, pole, shelter, street_lamp, traffic_light, traffic_sign, tree


def _wheels(length: float, width: float, radius: float, axles: tuple[float, ...] = (-0.3, 0.3)) -> list[Part]:
    return [
        Part(BALL, (x * length, side * (width / 2 - 0.1), radius), (radius, 0.16, radius), BLACK)
        for x in axles
        for side in (-1, 1)
    ]


def _saloon(p: Painter, paint: Floats, second: Floats | None = None) -> list[Part]:
    length, width, height = p.size(3.9, 4.9), p.size(1.7, 1.95), p.size(1.4, 1.7)
    waist = 0.55 * height
    body = Part(BOX, (0, 0, 0.2 + waist / 2), (length / 2, width / 2, (waist - 0.05) / 2), paint, PAINT, second)
    cabin_at, cabin = -0.05 * length, p.size(0.5, 0.62) * length
    glass_height = height - waist - 0.1
    glass = Part(
        BOX, (cabin_at, 0, waist + 0.15 + glass_height / 2), (cabin / 2, width * 0.44, glass_height / 2), GLASS
    )
    roof = Part(BOX, (cabin_at, 0, height), (cabin * 0.44, width * 0.42, 0.05), paint, PAINT, second)
    tail = [Part(BOX, (-length / 2, s * width * 0.38, 0.62 * height), (0.03, 0.12, 0.07), RED) for s in (-1, 1)]
    front = [Part(BOX, (length / 2, s * width * 0.36, 0.45 * height), (0.03, 0.16, 0.07), WHITE) for s in (-1, 1)]
    return [body, glass, roof, *tail, *front, *_wheels(length, width, 0.33)]


def car(p: Painter) -> list[Part]:
    """A saloon in any paint."""
    return _saloon(p, p.anything())


def taxi(p: Painter) -> list[Part]:
    """A yellow saloon with a sign on its roof."""
    return [*_saloon(p, p.typical(YELLOW)), Part(BOX, (0, 0, 1.72), (0.14, 0.3, 0.1), WHITE)]


def police_car(p: Painter) -> list[Part]:
    """A white saloon with a dark band and a blue and red light bar."""
    lights = [
        Part(BOX, (0, s * 0.35, 1.72), (0.13, 0.32, 0.1), c) for s, c in ((-1, RED), (1, np.array([0.1, 0.2, 0.9])))
    ]
    return [*_saloon(p, p.typical(WHITE), np.array([0.08, 0.14, 0.45])), *lights]


def van(p: Painter) -> list[Part]:
    """A delivery van or people carrier."""
    length, width, height, paint = p.size(4.6, 5.9), p.size(1.9, 2.1), p.size(1.9, 2.5), p.anything()
    return [
        Part(
            BOX,
            (-0.08 * length, 0, 0.25 + (height - 0.25) / 2),
            (0.42 * length, width / 2, (height - 0.25) / 2),
            paint,
            PAINT,
        ),
        Part(BOX, (0.42 * length, 0, 0.65), (0.08 * length, width / 2, 0.4), paint, PAINT),
        Part(BOX, (0.345 * length, 0, height * 0.72), (0.012 * length, width * 0.45, 0.3), GLASS),
        *_wheels(length, width, 0.36),
    ]


def pickup_truck(p: Painter) -> list[Part]:
    """A pickup: cab in front, open bed behind."""
    length, width, paint = p.size(5.2, 5.9), p.size(1.9, 2.05), p.anything()
    return [
        Part(BOX, (0, 0, 0.75), (length / 2, width / 2, 0.3), paint, PAINT),
        Part(BOX, (0.08 * length, 0, 1.35), (0.17 * length, width * 0.46, 0.32), GLASS),
        Part(BOX, (0.08 * length, 0, 1.72), (0.15 * length, width * 0.44, 0.05), paint, PAINT),
        *[
            Part(BOX, (-0.3 * length, s * width * 0.47, 1.15), (0.2 * length, 0.06, 0.12), paint, PAINT)
            for s in (-1, 1)
        ],
        *_wheels(length, width, 0.4),
    ]


def truck(p: Painter) -> list[Part]:
    """A lorry: cab, chassis and box."""
    length, width, height = p.size(6.5, 10.0), p.size(2.3, 2.6), p.size(2.9, 3.8)
    cab_paint, box_paint = p.anything(), p.anything()
    return [
        Part(BOX, (length / 2 - 0.95, 0, 0.5 + 1.05), (0.95, width / 2, 1.05), cab_paint, PAINT),
        Part(BOX, (length / 2 - 0.05, 0, 1.95), (0.07, width * 0.44, 0.4), GLASS),
        Part(
            BOX,
            (-1.1, 0, 0.9 + (height - 0.9) / 2),
            (length / 2 - 1.15, width / 2, (height - 0.9) / 2),
            box_paint,
            PAINT,
        ),
        Part(BOX, (0, 0, 0.7), (length / 2 - 0.1, width * 0.35, 0.2), BLACK),
        *_wheels(length, width, 0.48, (-0.38, -0.24, 0.38)),
    ]


def trailer(p: Painter) -> list[Part]:
    """A box trailer on two axles with a drawbar."""
    length, width, height, paint = p.size(5.0, 11.0), p.size(2.2, 2.55), p.size(2.4, 3.6), p.anything()
    return [
        Part(
            BOX,
            (0, 0, 0.95 + (height - 0.95) / 2),
            (length / 2, width / 2, (height - 0.95) / 2),
            paint,
            STRIPES,
            p.anything(),
        ),
        Part(BOX, (length / 2 + 0.5, 0, 0.6), (0.6, 0.08, 0.07), BLACK),
        Part(BOX, (0, 0, 0.8), (length / 2, width * 0.35, 0.12), BLACK),
        *_wheels(length, width, 0.45, (-0.35, -0.22)),
    ]


def bus(p: Painter) -> list[Part]:
    """A city bus with a band of windows."""
    length, width, height = p.size(10.5, 12.5), 2.55, p.size(2.9, 3.3)
    paint = p.typical(YELLOW if p.rng.random() < 0.4 else np.array([0.7, 0.15, 0.15]), 0.15)
    return [
        Part(BOX, (0, 0, 0.35 + 0.6), (length / 2, width / 2, 0.6), paint, PAINT),
        Part(BOX, (0, 0, 1.55 + 0.45), (length / 2 - 0.02, width / 2 - 0.02, 0.45), GLASS),
        Part(BOX, (0, 0, (2.45 + height) / 2), (length / 2, width / 2, (height - 2.45) / 2), paint, PAINT),
        *_wheels(length, width, 0.48, (-0.28, 0.32)),
    ]


def excavator(p: Painter) -> list[Part]:
    """Tracks, a turning body with cab, and a bent arm with a bucket."""
    paint, reach = p.typical(YELLOW), p.size(1.7, 2.4)
    return [
        *[Part(BOX, (0, s * 1.0, 0.4), (1.7, 0.28, 0.4), BLACK) for s in (-1, 1)],
        Part(BOX, (-0.3, 0, 1.3), (1.5, 1.15, 0.45), paint, PAINT),
        Part(BOX, (0.5, 0.55, 2.2), (0.65, 0.5, 0.75), GLASS),
        Part(BOX, (-1.2, -0.2, 1.95), (0.6, 0.9, 0.3), paint, PAINT),
        Part(BOX, (1.2 + 0.6 * reach, -0.3, 2.6), (reach, 0.17, 0.22), paint, PAINT, pitch=0.6),
        Part(BOX, (1.6 + 1.7 * reach, -0.3, 2.5), (1.35, 0.14, 0.17), paint, PAINT, pitch=-1.1),
        Part(BOX, (1.3 + 2.1 * reach, -0.3, 1.05), (0.4, 0.45, 0.35), GREY, pitch=-0.5),
    ]


def _two_wheeler(length: float, radius: float, frame: Floats, heavy: bool) -> list[Part]:
    thick = 0.09 if heavy else 0.045
    wheels = [Part(BALL, (s * (length / 2 - radius), 0, radius), (radius, thick, radius), BLACK) for s in (-1, 1)]
    tank = Part(BOX, (0, 0, 0.62), (length * 0.26, 0.17, 0.2), frame, PAINT) if heavy else None
    bar = Part(BOX, (length * 0.27, 0, 1.0), (0.05, 0.3, 0.04), BLACK)
    tube = Part(BOX, (0, 0, 0.72), (length * 0.28, 0.05, 0.06), frame)
    post = Part(BOX, (length * 0.27, 0, 0.75), (0.05, 0.05, 0.28), frame)
    saddle = Part(BOX, (-length * 0.15, 0, 0.92), (0.18, 0.1, 0.05), BLACK)
    return [*wheels, bar, tube, post, saddle, *([tank] if tank else [])]


def bicycle(p: Painter) -> list[Part]:
    """A bicycle without a rider."""
    return _two_wheeler(1.75, 0.34, p.anything(), heavy=False)


def motorcycle(p: Painter) -> list[Part]:
    """A motorcycle without a rider."""
    return _two_wheeler(p.size(1.9, 2.2), 0.32, p.anything(), heavy=True)


def _person(p: Painter, height: float, top: Floats, trousers: Floats, material: int = CLOTH) -> list[Part]:
    stride = p.size(0.02, 0.16)
    legs = [
        Part(BALL, (s * stride, s * 0.1, 0.24 * height), (0.1, 0.09, 0.27 * height), trousers, CLOTH) for s in (-1, 1)
    ]
    body = Part(BALL, (0, 0, 0.64 * height), (0.16, 0.23, 0.22 * height), top, material, top * 0.5)
    arms = [
        Part(BALL, (-s * stride, s * 0.25, 0.62 * height), (0.07, 0.06, 0.19 * height), top, CLOTH) for s in (-1, 1)
    ]
    head = Part(BALL, (0.01, 0, 0.93 * height), (0.11, 0.09, 0.075 * height), p.typical(SKIN), CLOTH, BLACK)
    return [*legs, body, *arms, head]


def pedestrian(p: Painter) -> list[Part]:
    """A grown person in any clothes."""
    return _person(p, p.size(1.58, 1.92), p.anything(), p.anything() * 0.7)


def child(p: Painter) -> list[Part]:
    """A child."""
    return _person(p, p.size(1.0, 1.35), p.anything(), p.anything())


def construction_worker(p: Painter) -> list[Part]:
    """A person with a bright vest and a helmet."""
    helmet = Part(BALL, (0, 0, 1.74), (0.15, 0.13, 0.11), p.typical(YELLOW))
    return [*_person(p, 1.78, p.typical(ORANGE), p.typical(ORANGE * 0.6), STRIPES), helmet]


def police_officer(p: Painter) -> list[Part]:
    """A person in dark blue with a cap."""
    blue = np.array([0.07, 0.1, 0.28])
    return [
        *_person(p, 1.8, p.typical(blue, 0.02), p.typical(blue, 0.02)),
        Part(CYLINDER, (0, 0, 1.8), (0.13, 0.13, 0.05), blue),
    ]


def _rider(p: Painter) -> list[Part]:
    top, trousers = p.anything(), p.anything()
    legs = [Part(BALL, (0.08, s * 0.14, 0.75), (0.14, 0.08, 0.34), trousers, CLOTH, pitch=0.2) for s in (-1, 1)]
    back = Part(BALL, (0.02, 0, 1.28), (0.19, 0.2, 0.36), top, CLOTH, pitch=-0.35)
    head = Part(BALL, (0.18, 0, 1.72), (0.13, 0.11, 0.14), p.anything())
    return [*legs, back, head]


def cyclist(p: Painter) -> list[Part]:
    """A bicycle with its rider."""
    return [*bicycle(p), *_rider(p)]


def motorcyclist(p: Painter) -> list[Part]:
    """A motorcycle with its rider."""
    return [*motorcycle(p), *_rider(p)]


def traffic_cone(p: Painter) -> list[Part]:
    """A cone on a square foot."""
    height, paint = p.size(0.55, 0.95), p.typical(ORANGE)
    return [
        Part(CONE, (0, 0, height / 2), (0.2, 0.2, height / 2), paint, STRIPES, WHITE),
        Part(BOX, (0, 0, 0.03), (0.24, 0.24, 0.03), BLACK),
    ]


def barrier(p: Painter) -> list[Part]:
    """A concrete jersey barrier or a striped board on feet."""
    if p.rng.random() < 0.5:
        paint = p.typical(np.array([0.62, 0.6, 0.57]))
        return [Part(BOX, (0, 0, 0.2), (0.3, 1.0, 0.2), paint), Part(BOX, (0, 0, 0.6), (0.13, 1.0, 0.25), paint)]
    feet = [Part(BOX, (0, s * 0.75, 0.3), (0.22, 0.06, 0.3), BLACK) for s in (-1, 1)]
    return [Part(BOX, (0, 0, 0.8), (0.08, 1.0, 0.26), p.typical(RED), STRIPES, WHITE), *feet]


def stroller(p: Painter) -> list[Part]:
    """A pram on four wheels."""
    cloth = p.anything()
    return [
        Part(BOX, (0, 0, 0.55), (0.38, 0.22, 0.15), cloth, CLOTH),
        Part(BALL, (-0.2, 0, 0.8), (0.25, 0.23, 0.25), cloth, CLOTH),
        Part(BOX, (-0.55, 0, 0.95), (0.14, 0.2, 0.03), BLACK, pitch=-0.7),
        *[Part(BALL, (x, s * 0.22, 0.13), (0.13, 0.05, 0.13), BLACK) for x in (-0.3, 0.3) for s in (-1, 1)],
    ]


def trash_bin(p: Painter) -> list[Part]:
    """A wheeled bin."""
    paint = p.typical(np.array([0.12, 0.3, 0.16]))
    return [
        Part(BOX, (0, 0, 0.52), (0.3, 0.27, 0.48), paint),
        Part(BOX, (0.02, 0, 1.04), (0.34, 0.3, 0.05), paint * 0.7),
    ]


def debris(p: Painter) -> list[Part]:
    """Something that fell off a lorry."""
    size = p.size(0.15, 0.35)
    return [Part(BOX, (0, 0, size * 0.6), (size, size * 0.8, size * 0.6), p.anything(), BRICK, BLACK, pitch=0.3)]


def bicycle_rack(p: Painter) -> list[Part]:
    """Hoops along the kerb."""
    return [
        Part(BOX, (x, 0, 0.42), (0.04, 0.42, 0.42), p.typical(GREY), FENCE_MESH, GREY * 0.4)
        for x in (-1.2, -0.4, 0.4, 1.2)
    ]


def dog(p: Painter) -> list[Part]:
    """A dog on four legs."""
    coat = p.typical(WOOD, 0.12)
    legs = [Part(CYLINDER, (x, y, 0.17), (0.05, 0.05, 0.17), coat) for x in (-0.22, 0.22) for y in (-0.09, 0.09)]
    return [
        Part(BALL, (0, 0, 0.42), (0.38, 0.14, 0.16), coat),
        Part(BALL, (0.42, 0, 0.6), (0.16, 0.1, 0.11), coat),
        *legs,
    ]


def mailbox(p: Painter) -> list[Part]:
    """A box with a rounded top on a foot."""
    paint = p.typical(np.array([0.1, 0.2, 0.62]))
    return [
        Part(BOX, (0, 0, 0.7), (0.26, 0.28, 0.42), paint),
        Part(BALL, (0, 0, 1.12), (0.26, 0.28, 0.2), paint),
        Part(BOX, (0, 0, 0.14), (0.2, 0.2, 0.14), BLACK),
        Part(BOX, (0.26, 0, 0.95), (0.02, 0.18, 0.04), WHITE),
    ]


def bench(p: Painter) -> list[Part]:
    """A seat with a back."""
    wood = p.typical(WOOD)
    feet = [Part(BOX, (0, s * 0.7, 0.21), (0.2, 0.05, 0.21), BLACK) for s in (-1, 1)]
    return [
        Part(BOX, (0, 0, 0.45), (0.25, 0.85, 0.05), wood),
        Part(BOX, (-0.24, 0, 0.72), (0.04, 0.85, 0.2), wood),
        *feet,
    ]


def fire_hydrant(p: Painter) -> list[Part]:
    """A short post with two outlets and a dome."""
    paint = p.typical(RED)
    return [
        Part(CYLINDER, (0, 0, 0.32), (0.13, 0.13, 0.32), paint),
        Part(BALL, (0, 0, 0.66), (0.15, 0.15, 0.14), paint),
        Part(BOX, (0, 0, 0.45), (0.08, 0.24, 0.08), paint * 0.8),
    ]


def parking_meter(p: Painter) -> list[Part]:
    """A box on a short pole."""
    return [
        Part(CYLINDER, (0, 0, 0.55), (0.05, 0.05, 0.55), GREY),
        Part(BOX, (0, 0, 1.25), (0.12, 0.14, 0.22), p.typical(GREY * 0.6)),
    ]


def phone_booth(p: Painter) -> list[Part]:
    """A glazed booth with a roof."""
    paint = p.typical(RED)
    return [
        Part(BOX, (0, 0, 1.1), (0.44, 0.44, 1.1), paint, FACADE, GLASS),
        Part(BOX, (0, 0, 2.28), (0.48, 0.48, 0.1), paint),
    ]


MAKERS: Mapping[str, Maker] = MappingProxyType(
    {
        maker.__name__.replace("_", " "): maker
        for maker in (
            car, taxi, police_car, van, pickup_truck, truck, trailer, bus, excavator, bicycle, motorcycle, cyclist,
            motorcyclist, pedestrian, child, construction_worker, police_officer, traffic_cone, barrier, stroller,
            trash_bin, debris, bicycle_rack, dog, mailbox, bench, fire_hydrant, parking_meter, phone_booth, tree, bush,
            street_lamp, pole, traffic_sign, traffic_light, shelter,
        )
    }
)  # fmt: skip
"""Maker of every word that needs no measures of its own."""
