"""The vocabulary of rooms, and the classes of NYUv2 it is written in. A word's id is its index in `ROOM_WORDS`."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from occkit.taxonomy import NYUV2_CLASS_MAP, NYUV2_RAW_CLASSES


@dataclass(frozen=True)
class RoomWord:
    """One kind of thing in a room."""

    name: str
    """What a person calls it; singular."""
    nyuv2: str
    """Class that SSCNet's volumes store, see `taxonomy.NYUV2_RAW_CLASSES`."""
    counted: bool = True
    """Whether captions count it."""


def _shell(name: str, nyuv2: str) -> RoomWord:
    return RoomWord(name, nyuv2, counted=False)


ROOM_WORDS: tuple[RoomWord, ...] = (
    _shell("nothing", "empty"),
    _shell("floor", "floor"),
    _shell("rug", "floor"),
    _shell("wall", "wall"),
    _shell("ceiling", "ceiling"),
    RoomWord("window", "window"),
    _shell("curtain", "window"),
    RoomWord("door", "door"),
    RoomWord("bed", "bed"),
    _shell("pillow", "pillow"),
    RoomWord("chair", "chair"),
    RoomWord("armchair", "chair"),
    RoomWord("office chair", "chair"),
    RoomWord("stool", "chair"),
    RoomWord("sofa", "sofa"),
    RoomWord("table", "table"),
    RoomWord("coffee table", "side_table"),
    RoomWord("desk", "desk"),
    RoomWord("television", "tvs"),
    RoomWord("monitor", "computer"),
    RoomWord("wardrobe", "closets_wardrobes_cabinets"),
    RoomWord("dresser", "closets_wardrobes_cabinets"),
    RoomWord("sideboard", "closets_wardrobes_cabinets"),
    RoomWord("filing cabinet", "closets_wardrobes_cabinets"),
    RoomWord("bookshelf", "bookshelf"),
    RoomWord("night stand", "night_stand"),
    RoomWord("kitchen cabinet", "kitchen_cabinet"),
    RoomWord("wall cabinet", "kitchen_cabinet"),
    RoomWord("bathtub", "bathtub"),
    RoomWord("toilet", "toilet"),
    RoomWord("shower", "shower"),
    RoomWord("sink", "sink"),
    RoomWord("stove", "kitchen_appliance"),
    RoomWord("extractor hood", "kitchen_appliance"),
    RoomWord("fridge", "kitchen_appliance"),
    RoomWord("kettle", "kitchen_appliance"),
    RoomWord("microwave", "kitchen_appliance"),
    RoomWord("washing machine", "household_appliance"),
    RoomWord("radiator", "dont_care"),
    RoomWord("lamp", "lamp"),
    RoomWord("plant", "plants"),
    RoomWord("mirror", "mirror"),
    RoomWord("picture", "dont_care"),
    RoomWord("whiteboard", "dont_care"),
    RoomWord("book", "dont_care"),
    RoomWord("box", "dont_care"),
    RoomWord("bag", "dont_care"),
    RoomWord("vase", "dont_care"),
    RoomWord("bowl", "dont_care"),
    RoomWord("bottle", "dont_care"),
    RoomWord("cup", "dont_care"),
    RoomWord("keyboard", "dont_care"),
    RoomWord("towel", "dont_care"),
    RoomWord("laundry basket", "dont_care"),
    RoomWord("trash bin", "trash_can"),
)
"""Every word; the id is the index, and 0 is nothing at all."""

_IDS = {word.name: index for index, word in enumerate(ROOM_WORDS)}


def room_word_id(name: str) -> int:
    """Return the id of a word of rooms.

    Raises:
        ValueError: if rooms have no such word.
    """
    if name not in _IDS:
        raise ValueError(f"word {name!r} is not in the vocabulary of rooms: {', '.join(_IDS)}")
    return _IDS[name]


def raw_table() -> npt.NDArray[np.uint8]:
    """Return the `[words]` table word id -> id that NYUv2's volumes store."""
    return np.array([NYUV2_RAW_CLASSES.index(word.nyuv2) for word in ROOM_WORDS], dtype=np.uint8)


def nyuv2_table() -> npt.NDArray[np.uint8]:
    """Return the `[words]` table word id -> id of `taxonomy.NYUV2`."""
    return np.array(NYUV2_CLASS_MAP, dtype=np.uint8)[raw_table()]


def label_weights() -> npt.NDArray[np.float64]:
    """Return how much a touched cell of each word counts: what hangs in or on a wall keeps its voxels."""
    behind = [room_word_id(name) for name in ("floor", "wall", "ceiling", "rug")]
    weights = np.full(len(ROOM_WORDS), 2.0)
    weights[behind] = 1.0
    return weights
