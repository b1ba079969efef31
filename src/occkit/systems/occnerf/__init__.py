"""OccNeRF: occupancy from images alone, by rendering what a volume says into images nobody labelled.

Zhang et al., "OccNeRF: Advancing 3D occupancy prediction in LiDAR-free environments", 2023.

    images -> mean lift -> contracted volume -> head -> scores; the middle is the prediction
    scores -> depth and classes of every pixel of every camera                     rendering.py
    depth: the images of other times, seen through it, look like these             losses/photometric.py
    classes: those that an open-vocabulary model sees in the images                `occkit label --keep-images`

Rendering sums occupancies until they reach 1, as the released code does, or composites as the paper's equation 6 says.
What differs from the code: voxel centres (geometry/contraction.py), samples that hardly move are not skipped, and
uncertain pixels are ignored, not taken for sky. docs/occnerf.md has the equations.
"""

from occkit.systems.occnerf.claims import CLAIM_WORLD, claim, label_command
from occkit.systems.occnerf.network import OccNerf, OccNerfConfig, OccNerfLossConfig
from occkit.systems.occnerf.recipes import (
    IMAGE_SEMANTICS,
    LABELS,
    NEAR_GRID,
    PIXEL_COUNTS,
    VOXEL_LOSSES,
    debug,
    debug_network,
    nano,
    nano_compositing,
    nano_labels,
    nano_network,
    nano_plain,
    r101_network,
    r101_occ3d,
    r101_occ3d_labels,
)
from occkit.systems.occnerf.rendering import RenderConfig, render_views, sample_depths

__all__ = [
    "CLAIM_WORLD",
    "IMAGE_SEMANTICS",
    "LABELS",
    "NEAR_GRID",
    "PIXEL_COUNTS",
    "VOXEL_LOSSES",
    "OccNerf",
    "OccNerfConfig",
    "OccNerfLossConfig",
    "RenderConfig",
    "claim",
    "debug",
    "debug_network",
    "label_command",
    "nano",
    "nano_compositing",
    "nano_labels",
    "nano_network",
    "nano_plain",
    "r101_network",
    "r101_occ3d",
    "r101_occ3d_labels",
    "render_views",
    "sample_depths",
]
