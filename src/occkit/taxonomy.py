"""WORDS: class tables with their free and ignore ids, colours and prompts.

A label volume holds ids of one taxonomy. The id *is* the index into `classes` and the channel of a network's logits.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, kw_only=True)
class Taxonomy:
    """The classes of a label set.

    Example:
        >>> OCC3D.classes[OCC3D.free_id], OCC3D.id_of("car")
        ('free', 4)
    """

    name: str
    """Short name, as used on the command line and in JSON."""
    classes: tuple[str, ...]
    """Names; the index is the id."""
    free_id: int
    """Id of empty space."""
    colours: tuple[tuple[int, int, int], ...]
    """RGB 0..255 for each id; that of free is not drawn."""
    prompts: tuple[tuple[str, ...], ...]
    """For each id the words that name it to a language model; empty for free and for classes without a name."""
    ignore_id: int = 255
    """Id of voxels without a label: neither trained nor evaluated."""

    def __post_init__(self) -> None:
        if not len(self.classes) == len(self.colours) == len(self.prompts):
            raise ValueError(f"taxonomy {self.name}: classes, colours and prompts differ in length")
        if not 0 <= self.free_id < len(self.classes) or self.ignore_id < len(self.classes):
            raise ValueError(f"taxonomy {self.name}: free_id or ignore_id is not a possible id")

    @property
    def num_classes(self) -> int:
        """Number of ids, free included: the channels of a classifier."""
        return len(self.classes)

    @property
    def semantic_ids(self) -> tuple[int, ...]:
        """All ids but free, ascending."""
        return tuple(i for i in range(len(self.classes)) if i != self.free_id)

    def id_of(self, name: str) -> int:
        """Return the id of a class.

        Raises:
            ValueError: naming the classes there are.
        """
        if name not in self.classes:
            raise ValueError(f"class {name!r} is not in taxonomy {self.name}; it has {', '.join(self.classes)}")
        return self.classes.index(name)

    def palette(self) -> npt.NDArray[np.uint8]:
        """Return a `[256, 3]` RGB table for any uint8 id; ids without a class are magenta."""
        table = np.full((256, 3), (255, 0, 255), dtype=np.uint8)
        table[: len(self.colours)] = self.colours
        return table


def _taxonomy(name: str, free: str, rows: list[tuple[str, tuple[int, int, int], tuple[str, ...]]]) -> Taxonomy:
    classes = tuple(row[0] for row in rows)
    return Taxonomy(
        name=name,
        classes=classes,
        free_id=classes.index(free),
        colours=tuple(row[1] for row in rows),
        prompts=tuple(row[2] for row in rows),
    )


OCC3D = _taxonomy(
    "occ3d",
    "free",
    [
        ("others", (90, 90, 90), ()),
        ("barrier", (255, 120, 50), ("traffic barrier", "jersey barrier", "guard rail")),
        ("bicycle", (255, 192, 203), ("bicycle", "bike")),
        ("bus", (255, 230, 40), ("bus", "coach")),
        ("car", (0, 130, 245), ("car", "sedan", "van", "suv")),
        ("construction_vehicle", (0, 225, 225), ("construction vehicle", "excavator", "crane")),
        ("motorcycle", (200, 180, 0), ("motorcycle", "scooter")),
        ("pedestrian", (240, 20, 40), ("pedestrian", "person", "people")),
        ("traffic_cone", (255, 220, 140), ("traffic cone", "cone")),
        ("trailer", (135, 60, 0), ("trailer", "semi trailer")),
        ("truck", (150, 40, 230), ("truck", "lorry", "pickup truck")),
        ("driveable_surface", (215, 90, 215), ("road", "street", "asphalt")),
        ("other_flat", (150, 115, 120), ("traffic island", "water", "rail track")),
        ("sidewalk", (85, 20, 85), ("sidewalk", "pavement", "footpath")),
        ("terrain", (150, 220, 75), ("grass", "terrain", "soil")),
        ("manmade", (210, 200, 180), ("building", "wall", "fence", "pole", "traffic sign")),
        ("vegetation", (20, 150, 40), ("tree", "vegetation", "bush")),
        ("free", (255, 255, 255), ()),
    ],
)
"""Occ3D-nuScenes: 17 classes and free = 17. Ids 1..16 are those of nuScenes-lidarseg."""

_OPENOCC_ORDER = (
    *("car", "truck", "trailer", "bus", "construction_vehicle", "bicycle", "motorcycle", "pedestrian", "traffic_cone"),
    *("barrier", "driveable_surface", "other_flat", "sidewalk", "terrain", "manmade", "vegetation", "free"),
)

OPENOCC = _taxonomy(
    "openocc",
    "free",
    [(name, OCC3D.colours[OCC3D.id_of(name)], OCC3D.prompts[OCC3D.id_of(name)]) for name in _OPENOCC_ORDER],
)
"""OpenOcc v2.1 (OccNet, CVPR 2024 challenge): 16 classes and free = 16, no 'others'."""

SURROUNDOCC = _taxonomy(
    "surroundocc",
    "empty",
    [("empty", (255, 255, 255), ())] + [(OCC3D.classes[i], OCC3D.colours[i], OCC3D.prompts[i]) for i in range(1, 17)],
)
"""SurroundOcc and OpenOccupancy: lidarseg ids 1..16, empty = 0, noise ignored."""

SEMANTICKITTI = _taxonomy(
    "semantickitti",
    "empty",
    [
        ("empty", (255, 255, 255), ()),
        ("car", (100, 150, 245), ("car", "sedan", "van")),
        ("bicycle", (100, 230, 245), ("bicycle", "bike")),
        ("motorcycle", (30, 60, 150), ("motorcycle", "scooter")),
        ("truck", (80, 30, 180), ("truck", "lorry")),
        ("other-vehicle", (0, 0, 255), ("bus", "trailer", "excavator")),
        ("person", (255, 30, 30), ("person", "pedestrian")),
        ("bicyclist", (255, 40, 200), ("bicyclist", "cyclist")),
        ("motorcyclist", (150, 30, 90), ("motorcyclist",)),
        ("road", (220, 80, 220), ("road", "street")),
        ("parking", (255, 150, 255), ("parking lot", "parking space")),
        ("sidewalk", (75, 0, 75), ("sidewalk", "pavement")),
        ("other-ground", (175, 0, 75), ("traffic island", "square")),
        ("building", (255, 200, 0), ("building", "house")),
        ("fence", (255, 120, 50), ("fence", "railing", "wall")),
        ("vegetation", (0, 175, 0), ("vegetation", "bush", "tree crown")),
        ("trunk", (135, 60, 0), ("tree trunk",)),
        ("terrain", (150, 240, 80), ("grass", "terrain", "soil")),
        ("pole", (255, 240, 150), ("pole", "lamp post")),
        ("traffic-sign", (255, 0, 0), ("traffic sign",)),
    ],
)
"""SemanticKITTI scene completion, train ids: 19 classes and empty = 0."""

_KITTI360_ORDER = (
    *("empty", "car", "bicycle", "motorcycle", "truck", "other-vehicle", "person", "road", "parking", "sidewalk"),
    *("other-ground", "building", "fence", "vegetation", "terrain", "pole", "traffic-sign"),
)

KITTI360 = _taxonomy(
    "kitti360",
    "empty",
    [
        (name, SEMANTICKITTI.colours[SEMANTICKITTI.id_of(name)], SEMANTICKITTI.prompts[SEMANTICKITTI.id_of(name)])
        for name in _KITTI360_ORDER
    ]
    + [
        ("other-structure", (255, 150, 0), ("bridge", "tunnel", "wall")),
        ("other-object", (50, 255, 255), ("bench", "trash bin", "box")),
    ],
)
"""SSCBench-KITTI-360: 18 classes and empty = 0."""

NYUV2 = _taxonomy(
    "nyuv2",
    "empty",
    [
        ("empty", (255, 255, 255), ()),
        ("ceiling", (214, 38, 40), ("ceiling",)),
        ("floor", (43, 160, 43), ("floor",)),
        ("wall", (158, 216, 229), ("wall",)),
        ("window", (114, 158, 206), ("window",)),
        ("chair", (204, 204, 91), ("chair",)),
        ("bed", (255, 186, 119), ("bed",)),
        ("sofa", (147, 102, 188), ("sofa", "couch")),
        ("table", (30, 119, 181), ("table", "desk")),
        ("tvs", (188, 188, 33), ("television", "monitor")),
        ("furniture", (255, 127, 12), ("cabinet", "bookshelf", "wardrobe")),
        ("objects", (196, 175, 214), ("lamp", "box", "plant", "bag")),
    ],
)
"""NYUv2 scene completion: 11 classes and empty = 0; 255 is empty space outside of the room."""

TAXONOMIES: Mapping[str, Taxonomy] = MappingProxyType(
    {t.name: t for t in (OCC3D, OPENOCC, SURROUNDOCC, SEMANTICKITTI, KITTI360, NYUV2)}
)
"""All tables by name."""

SEMANTICKITTI_LEARNING_MAP: Mapping[int, int] = MappingProxyType(
    {0: 0, 1: 0, 10: 1, 11: 2, 13: 5, 15: 3, 16: 5, 18: 4, 20: 5, 30: 6, 31: 7, 32: 8, 40: 9, 44: 10, 48: 11, 49: 12}
    | {50: 13, 51: 14, 52: 0, 60: 9, 70: 15, 71: 16, 72: 17, 80: 18, 81: 19, 99: 0}
    | {252: 1, 253: 7, 254: 6, 255: 8, 256: 5, 257: 5, 258: 4, 259: 5}
)
"""SemanticKITTI original id -> train id. 1, 52 and 99 map to 0 but are *ignored* in scene completion.

Source: the label map of SemanticKITTI and the rule of its scene-completion evaluator.
"""

SEMANTICKITTI_INVERSE_MAP: tuple[int, ...] = (
    *(0, 10, 11, 15, 18, 20, 30, 31, 32, 40),
    *(44, 48, 49, 50, 51, 70, 71, 72, 80, 81),
)
"""SemanticKITTI train id -> the original id that a submission must hold."""


def semantickitti_lookup() -> npt.NDArray[np.uint8]:
    """Return the `[65536]` table original id -> train id; 255 for ids scene completion ignores or does not know."""
    table = np.full(65536, 255, dtype=np.uint8)
    for raw, train in SEMANTICKITTI_LEARNING_MAP.items():
        if train != 0 or raw == 0:
            table[raw] = train
    return table


NYUV2_RAW_CLASSES: tuple[str, ...] = (
    *("empty", "ceiling", "floor", "wall", "window", "door", "chair", "bed", "sofa", "table", "side_table"),
    *("bookshelf", "kitchen_cabinet", "closets_wardrobes_cabinets", "lamp", "car", "computer", "desk", "music", "gym"),
    *("household_appliance", "kitchen_appliance", "pillow", "pets", "plants", "pool", "recreation", "night_stand"),
    *("bathtub", "shower", "table_and_chair", "toilet", "trash_can", "tvs", "sink", "mirror", "dont_care"),
)
"""The 36 classes (and empty) in which SSCNet's volumes of NYUv2 are stored; the index is the id. Source: SSCNet."""

NYUV2_CLASS_MAP: tuple[int, ...] = (
    *(0, 1, 2, 3, 4, 11, 5, 6, 7, 8, 8, 10, 10, 10, 11, 11, 9, 8, 11, 11),
    *(11, 11, 11, 11, 11, 11, 11, 10, 10, 11, 8, 10, 11, 9, 11, 11, 11),
)
"""Stored id of NYUv2 -> id of `NYUV2`; 255 stays 255. Source: the table of SSCNet's readers, as MonoScene uses it."""

NYUV2_INVERSE_MAP: tuple[int, ...] = (0, 1, 2, 3, 4, 6, 7, 8, 9, 33, 13, 36)
"""Id of `NYUV2` -> a stored id that stands for it."""

NYUV2_VOXEL_COUNTS = (
    43_744_234, 80_205, 1_070_052, 905_632, 116_952, 180_994, 436_852, 279_714, 254_611, 28_247, 1_805_949, 850_724,
)  # fmt: skip
"""Voxels of each id in NYUv2's training labels at 0.08 m, empty first. Source: counts published with MonoScene."""


def nyuv2_lookup() -> npt.NDArray[np.uint8]:
    """Return the `[256]` table stored id of NYUv2 -> id of `NYUV2`; 255 where there is none."""
    table = np.full(256, NYUV2.ignore_id, dtype=np.uint8)
    table[: len(NYUV2_CLASS_MAP)] = NYUV2_CLASS_MAP
    return table


def name_map(source: Taxonomy, target: Taxonomy) -> tuple[npt.NDArray[np.uint8], tuple[str, ...]]:
    """Return the `[256]` table that carries ids of `source` to ids of `target` by class name.

    Returns:
        table: free goes to free, a class to the one of the same name, everything else (and ids without a class) to
            the target's ignore id.
        lost: names of the source classes that have no counterpart.
    """
    table = np.full(256, target.ignore_id, dtype=np.uint8)
    table[source.free_id] = target.free_id
    lost: list[str] = []
    for index in source.semantic_ids:
        if source.classes[index] in target.classes:
            table[index] = target.id_of(source.classes[index])
        else:
            lost.append(source.classes[index])
    return table, tuple(lost)


OCC3D_VOXEL_COUNTS = (
    1_163_161, 2_309_034, 188_743, 2_997_643, 20_317_180, 852_476, 243_808, 2_457_947, 497_017, 2_731_022,
    7_224_789, 214_411_435, 5_565_043, 63_191_967, 76_098_082, 128_860_031, 141_625_221, 2_307_405_309,
)  # fmt: skip
"""Voxels of each id in Occ3D-nuScenes' training labels, from which class weights are made.

Source: counts published with RenderOcc.
"""

SEMANTICKITTI_VOXEL_COUNTS = (
    5_417_730_330, 15_783_539, 125_136, 118_809, 646_799, 821_951, 262_978, 283_696, 204_750, 61_688_703,
    4_502_961, 44_883_650, 2_269_923, 56_840_218, 15_719_652, 158_442_623, 2_061_623, 36_970_522, 1_151_988, 334_146,
)  # fmt: skip
"""Voxels of each id in SemanticKITTI's training labels, empty first. Source: counts published with MonoScene."""
