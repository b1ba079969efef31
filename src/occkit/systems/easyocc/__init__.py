"""EasyOcc: a camera network taught by 3D pseudo-labels alone. No label, no LiDAR, no rendering.

Hayes et al., "EasyOcc: 3D pseudo-label supervision for fully self-supervised semantic occupancy prediction models",
arXiv 2509.26087.

    images, poses -> labels of foundation models, made once    `occkit label` (occkit.labels)
    images -> mean lift -> 3D head -> scores                    `occkit train easyocc.nano`
    scores against these labels                                 cross-entropy and Lovász

What differs from the paper: it says neither grid, weights of the losses, nor schedule; ours are options of the configs.
docs/easyocc.md says which part of it is whose.
"""

from occkit.systems.easyocc.claims import claim, effects
from occkit.systems.easyocc.network import EasyOcc, EasyOccConfig
from occkit.systems.easyocc.recipes import (
    debug,
    nano,
    nano_k0,
    nano_k3,
    nano_lift,
    nano_majority,
    nano_movers,
    nano_no_sky,
    nano_pass,
    nano_rare,
    nano_visible,
    r101_occ3d,
)

__all__ = [
    "EasyOcc",
    "EasyOccConfig",
    "claim",
    "debug",
    "effects",
    "nano",
    "nano_k0",
    "nano_k3",
    "nano_lift",
    "nano_majority",
    "nano_movers",
    "nano_no_sky",
    "nano_pass",
    "nano_rare",
    "nano_visible",
    "r101_occ3d",
]
