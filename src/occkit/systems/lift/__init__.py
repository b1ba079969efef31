"""lift: the plain supervised camera baseline. Images -> depth-aware lifting -> voxel network -> class of every voxel.

It follows BEVDet-Occ and FlashOcc (Huang et al., "BEVDet", 2021; Li et al., "BEVDepth", AAAI 2023; Yu et al.,
"FlashOcc", 2023), and every later system of this library starts from it. What differs from the papers: past frames are
lifted straight into the present grid instead of being warped there; the depth network is told every pixel's direction
and has neither deformable convolution nor ASPP; the small recipes gather instead of splat, lift the classes that each
image cell shows, and learn depth and classes in the images first; `nano_volume` carries fine voxels past a coarse 3D
network.
"""

from occkit.systems.lift.claims import CLAIM_WORLD, claim
from occkit.systems.lift.encoder import LiftEncoder, LiftEncoderConfig, Views
from occkit.systems.lift.network import Lift, LiftConfig, LiftLossConfig
from occkit.systems.lift.recipes import (
    MIRROR,
    NANO_GRID,
    NANO_KITTI_GRID,
    debug,
    nano,
    nano_kitti,
    nano_no_mask,
    nano_stereo,
    nano_volume,
    r50_kitti,
    r50_occ3d,
    r50_occ3d_stereo,
)

__all__ = [
    "CLAIM_WORLD",
    "MIRROR",
    "NANO_GRID",
    "NANO_KITTI_GRID",
    "Lift",
    "LiftConfig",
    "LiftEncoder",
    "LiftEncoderConfig",
    "LiftLossConfig",
    "Views",
    "claim",
    "debug",
    "nano",
    "nano_kitti",
    "nano_no_mask",
    "nano_stereo",
    "nano_volume",
    "r50_kitti",
    "r50_occ3d",
    "r50_occ3d_stereo",
]
