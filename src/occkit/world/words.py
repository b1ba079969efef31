"""The world's own fine vocabulary, and what each word is called in the label sets it is written in.

The world knows more words than any taxonomy: a mailbox is a mailbox in the truth layers, but `others` in Occ3D and
`other-object` in SemanticKITTI. A word's id is its index in `WORDS`.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from occkit.taxonomy import OCC3D


@dataclass(frozen=True)
class Word:
    """One kind of thing in the world."""

    name: str
    """What a person calls it; singular."""
    occ3d: str
    """Class of the Occ3D taxonomy."""
    kitti: int
    """SemanticKITTI original id when it stands still."""
    kitti_moving: int
    """SemanticKITTI original id when it moves (the same where there is no moving id)."""
    category: str
    """nuScenes-lidarseg category."""
    counted: bool = False
    """Whether it is an object with a box, counted in captions, rather than stuff."""


def _thing(name: str, occ3d: str, kitti: int, moving: int, category: str) -> Word:
    return Word(name, occ3d, kitti, moving, category, counted=True)


def _stuff(name: str, occ3d: str, kitti: int, category: str) -> Word:
    return Word(name, occ3d, kitti, kitti, category)


WORDS: tuple[Word, ...] = (
    _stuff("nothing", "free", 0, "noise"),
    _stuff("road", "driveable_surface", 40, "flat.driveable_surface"),
    _stuff("lane marking", "driveable_surface", 60, "flat.driveable_surface"),
    _stuff("parking lot", "driveable_surface", 44, "flat.driveable_surface"),
    _stuff("sidewalk", "sidewalk", 48, "flat.sidewalk"),
    _stuff("traffic island", "other_flat", 49, "flat.other"),
    _stuff("grass", "terrain", 72, "flat.terrain"),
    _stuff("soil", "terrain", 72, "flat.terrain"),
    _stuff("building", "manmade", 50, "static.manmade"),
    _stuff("shelter", "manmade", 52, "static.manmade"),
    _stuff("wall", "manmade", 52, "static.manmade"),
    _stuff("fence", "manmade", 51, "static.manmade"),
    _stuff("pole", "manmade", 80, "static.manmade"),
    _stuff("street lamp", "manmade", 80, "static.manmade"),
    _stuff("traffic light", "manmade", 80, "static.manmade"),
    _stuff("traffic sign", "manmade", 81, "static.manmade"),
    _stuff("tree trunk", "vegetation", 71, "static.vegetation"),
    _stuff("tree", "vegetation", 70, "static.vegetation"),
    _stuff("bush", "vegetation", 70, "static.vegetation"),
    _thing("car", "car", 10, 252, "vehicle.car"),
    _thing("van", "car", 10, 252, "vehicle.car"),
    _thing("taxi", "car", 10, 252, "vehicle.car"),
    _thing("police car", "car", 10, 252, "vehicle.emergency.police"),
    _thing("pickup truck", "truck", 18, 258, "vehicle.truck"),
    _thing("truck", "truck", 18, 258, "vehicle.truck"),
    _thing("trailer", "trailer", 20, 259, "vehicle.trailer"),
    _thing("bus", "bus", 13, 257, "vehicle.bus.rigid"),
    _thing("excavator", "construction_vehicle", 20, 259, "vehicle.construction"),
    _thing("motorcycle", "motorcycle", 15, 15, "vehicle.motorcycle"),
    _thing("motorcyclist", "motorcycle", 32, 255, "vehicle.motorcycle"),
    _thing("bicycle", "bicycle", 11, 11, "vehicle.bicycle"),
    _thing("cyclist", "bicycle", 31, 253, "vehicle.bicycle"),
    _thing("pedestrian", "pedestrian", 30, 254, "human.pedestrian.adult"),
    _thing("child", "pedestrian", 30, 254, "human.pedestrian.child"),
    _thing("construction worker", "pedestrian", 30, 254, "human.pedestrian.construction_worker"),
    _thing("police officer", "pedestrian", 30, 254, "human.pedestrian.police_officer"),
    _thing("traffic cone", "traffic_cone", 99, 99, "movable_object.trafficcone"),
    _thing("barrier", "barrier", 99, 99, "movable_object.barrier"),
    _thing("stroller", "others", 99, 99, "human.pedestrian.stroller"),
    _thing("trash bin", "others", 99, 99, "movable_object.pushable_pullable"),
    _thing("debris", "others", 1, 1, "movable_object.debris"),
    _thing("bicycle rack", "others", 99, 99, "static_object.bicycle_rack"),
    _thing("dog", "others", 99, 99, "animal"),
    Word("mailbox", "others", 99, 99, "static.other", counted=True),
    Word("bench", "others", 99, 99, "static.other", counted=True),
    Word("fire hydrant", "manmade", 99, 99, "static.manmade", counted=True),
    Word("parking meter", "manmade", 80, 80, "static.manmade", counted=True),
    Word("phone booth", "manmade", 52, 52, "static.manmade", counted=True),
)
"""Every word; the id is the index, and 0 is nothing at all (sky, empty space)."""

NOTHING = 0
_IDS = {word.name: index for index, word in enumerate(WORDS)}

CATEGORIES: tuple[str, ...] = (
    "noise",
    "animal",
    "human.pedestrian.adult",
    "human.pedestrian.child",
    "human.pedestrian.construction_worker",
    "human.pedestrian.personal_mobility",
    "human.pedestrian.police_officer",
    "human.pedestrian.stroller",
    "human.pedestrian.wheelchair",
    "movable_object.barrier",
    "movable_object.debris",
    "movable_object.pushable_pullable",
    "movable_object.trafficcone",
    "static_object.bicycle_rack",
    "vehicle.bicycle",
    "vehicle.bus.bendy",
    "vehicle.bus.rigid",
    "vehicle.car",
    "vehicle.construction",
    "vehicle.emergency.ambulance",
    "vehicle.emergency.police",
    "vehicle.motorcycle",
    "vehicle.trailer",
    "vehicle.truck",
    "flat.driveable_surface",
    "flat.other",
    "flat.sidewalk",
    "flat.terrain",
    "static.manmade",
    "static.other",
    "static.vegetation",
    "vehicle.ego",
)
"""The 32 nuScenes-lidarseg categories; the index is the lidarseg id. Boxes are annotated for those before `flat`."""


def word_id(name: str) -> int:
    """Return the id of a word.

    Raises:
        ValueError: if the world has no such word.
    """
    if name not in _IDS:
        raise ValueError(f"word {name!r} is not in the world's vocabulary: {', '.join(_IDS)}")
    return _IDS[name]


def occ3d_table() -> npt.NDArray[np.uint8]:
    """Return the `[words]` table word id -> Occ3D id; nothing is free."""
    return np.array([OCC3D.id_of(word.occ3d) for word in WORDS], dtype=np.uint8)


def kitti_table(*, moving: bool) -> npt.NDArray[np.uint16]:
    """Return the `[words]` table word id -> SemanticKITTI original id of standing or moving things."""
    return np.array([word.kitti_moving if moving else word.kitti for word in WORDS], dtype=np.uint16)


def is_annotated(word: Word) -> bool:
    """Whether nuScenes would draw a box around it."""
    return word.counted and not word.category.startswith(("flat", "static."))


def plural(name: str, count: int) -> str:
    """Say `3 buses`, `1 child`, `2 benches`."""
    if count == 1:
        return f"1 {name}"
    if name in _PLURALS:
        return f"{count} {_PLURALS[name]}"
    return f"{count} {name}{'es' if name.endswith(('s', 'x', 'ch')) else 's'}"


_PLURALS = {"child": "children", "debris": "pieces of debris"}
