"""LangOcc: what a scene looks like to words. Density and a vision-language vector for every voxel, without a label.

Boeder et al., "LangOcc: Open vocabulary occupancy estimation via volume rendering", 3DV 2025.

    images -> lifted volume (systems/lift) -> head -> density, vector of each voxel
    rays through pixels of this frame and of those around it -> rendered vectors      rendering.py
    against what an image model that shares a space with words sees there            `occkit features`
    classes: the prompt nearest to a voxel's vector; free where there is no density   text.py

What differs from the paper: rays go through any pixel, not through those that LiDAR hits; those that show the sky are
to see nothing; rays are clipped to the volume; the subspace of the reduced variant is found in closed form. Each is an
option.
docs/langocc.md has the equations.
"""

from occkit.systems.langocc.claims import claim
from occkit.systems.langocc.network import LangOcc, LangOccConfig, LangOccLossConfig
from occkit.systems.langocc.recipes import (
    FEATURES,
    debug,
    full_r50_occ3d,
    nano,
    nano_movers,
    nano_reduced,
    nano_single,
    nano_sky,
    reduced_r50_occ3d,
)
from occkit.systems.langocc.rendering import RayRenderConfig, Seen, render_rays
from occkit.systems.langocc.text import TextConfig, class_logits

__all__ = [
    "FEATURES",
    "LangOcc",
    "LangOccConfig",
    "LangOccLossConfig",
    "RayRenderConfig",
    "Seen",
    "TextConfig",
    "claim",
    "class_logits",
    "debug",
    "full_r50_occ3d",
    "nano",
    "nano_movers",
    "nano_reduced",
    "nano_single",
    "nano_sky",
    "reduced_r50_occ3d",
    "render_rays",
]
