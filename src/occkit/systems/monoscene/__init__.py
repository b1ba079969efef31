"""MonoScene: one image -> features lifted along lines of sight -> 3D network -> classes, in rooms and streets.

Source: Cao and de Charette, "MonoScene: Monocular 3D semantic scene completion", CVPR 2022.

What differs from the paper: features are read between pixels (bilinear) instead of at the nearest one; several cameras
may see a voxel, which then reads their mean; the image decoder has no skip at half resolution where EfficientNet is the
backbone, whose maps there are not kept; the way up in 3D interpolates; the context prior averages over mega-voxels
instead of summing, and its voxels are those of the 3D network's bottom; the scene is mirrored with its label, not the
image alone, and there is no colour jitter. The small recipes are ours.
"""

from occkit.systems.monoscene.claims import CLAIM_WORLD, claim
from occkit.systems.monoscene.network import MonoScene, MonoSceneConfig, MonoSceneLossConfig
from occkit.systems.monoscene.recipes import (
    MIRROR,
    NANO_KITTI_GRID,
    NANO_STREET_GRID,
    NYUV2_WEIGHTS,
    b7_kitti,
    b7_nyu,
    debug,
    nano,
    nano_room,
    nano_room_plain,
    nano_street,
)

__all__ = [
    "CLAIM_WORLD",
    "MIRROR",
    "NANO_KITTI_GRID",
    "NANO_STREET_GRID",
    "NYUV2_WEIGHTS",
    "MonoScene",
    "MonoSceneConfig",
    "MonoSceneLossConfig",
    "b7_kitti",
    "b7_nyu",
    "claim",
    "debug",
    "nano",
    "nano_room",
    "nano_room_plain",
    "nano_street",
]
