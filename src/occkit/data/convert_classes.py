"""What a class of one data set is called in another.

By name where the name exists; by the table below where two data sets draw the line elsewhere; otherwise a class has no
counterpart and its voxels lose their label.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from occkit.taxonomy import KITTI360, OCC3D, OPENOCC, SEMANTICKITTI, SURROUNDOCC, Taxonomy, name_map

NUSCENES_TO_KITTI: Mapping[str, str] = MappingProxyType(
    {
        "barrier": "fence",  # SemanticKITTI's fence includes crash barriers and small walls
        "bus": "other-vehicle",
        "construction_vehicle": "other-vehicle",
        "trailer": "other-vehicle",
        "pedestrian": "person",
        "driveable_surface": "road",
        "other_flat": "other-ground",
        "manmade": "building",
        "traffic_cone": "other-object",
        "others": "other-object",
    }
)
"""nuScenes class -> KITTI class where the names differ; used where the target has it."""

KITTI_TO_NUSCENES: Mapping[str, str] = MappingProxyType(
    {
        "person": "pedestrian",
        "bicyclist": "bicycle",  # nuScenes labels a ridden cycle, rider included, as the cycle
        "motorcyclist": "motorcycle",
        "road": "driveable_surface",
        "parking": "driveable_surface",
        "other-ground": "other_flat",
        "building": "manmade",
        "fence": "manmade",
        "pole": "manmade",
        "traffic-sign": "manmade",
        "other-structure": "manmade",
        "trunk": "vegetation",
        "other-object": "others",
    }
)
"""KITTI class -> nuScenes class where the names differ; 'other-vehicle' (bus, trailer, caravan ...) has no single
one."""

_NUSCENES = (OCC3D, OPENOCC, SURROUNDOCC)
_KITTI = (SEMANTICKITTI, KITTI360)


@dataclass(frozen=True, kw_only=True)
class ClassMap:
    """How ids are carried from one taxonomy to another."""

    table: npt.NDArray[np.uint8]
    """`[256]` source id -> target id; the target's ignore id where there is no counterpart."""
    merged: Mapping[str, str]
    """Source class -> target class, for those that the way back would take for another class."""
    lost: tuple[str, ...]
    """Source classes without a counterpart."""


def class_map(source: Taxonomy, target: Taxonomy) -> ClassMap:
    """Return how the classes of `source` are carried to `target`.

    Raises:
        ValueError: if one of the two is no street data set.
    """
    for taxonomy in (source, target):
        if taxonomy not in (*_NUSCENES, *_KITTI):
            raise ValueError(f"taxonomy {taxonomy.name}: no class map; there are maps between street data sets only")
    table, back = _table(source, target), _table(target, source)
    lost = [i for i in source.semantic_ids if table[i] == target.ignore_id]
    folded = [i for i in source.semantic_ids if i not in lost and back[table[i]] != i]
    return ClassMap(
        table=table,
        merged={source.classes[i]: target.classes[table[i]] for i in folded},
        lost=tuple(source.classes[i] for i in lost),
    )


def _table(source: Taxonomy, target: Taxonomy) -> npt.NDArray[np.uint8]:
    table, unnamed = name_map(source, target)
    bridge: Mapping[str, str] = {}
    if source in _NUSCENES and target in _KITTI:
        bridge = NUSCENES_TO_KITTI
    elif source in _KITTI and target in _NUSCENES:
        bridge = KITTI_TO_NUSCENES
    for name in unnamed:
        if bridge.get(name) in target.classes:
            table[source.id_of(name)] = target.id_of(bridge[name])
    return table
