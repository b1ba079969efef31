"""LangOcc: what a scene looks like to words. Density and a vision-language vector for every voxel, without a label.

Boeder et al., "LangOcc: Open vocabulary occupancy estimation via volume rendering", 3DV 2025.

    images -> lifted volume (systems/lift) -> head -> density, vector of each voxel
    rays through pixels of this frame and of those around it -> rendered vectors      rendering.py
    against what an image model that shares a space with words sees there            `occkit features`
    classes: the prompt nearest to a voxel's vector; free where there is no density   text.py

Its rivals are here too, on the same field and data: colours in place of language (colours.py), one LiDAR sweep in place
of rays (`LidarSweepConfig`).

What differs from the paper: rays go through any pixel, not through those that LiDAR hits; those that show the sky are
to see nothing; rays are clipped to the volume; the subspace of the reduced variant is found in closed form. Each is an
option.
docs/langocc.md has the equations.
"""

from occkit.systems.langocc.claims import choices, claim, effects, losses
from occkit.systems.langocc.colours import (
    ColourField,
    ColourFieldConfig,
    FreeColourConfig,
    HarmonicColourConfig,
    spherical_harmonics,
)
from occkit.systems.langocc.field import Field, FieldConfig
from occkit.systems.langocc.guide import ImageGuideConfig
from occkit.systems.langocc.network import LangOcc, LangOccConfig, LanguageRaysConfig, LidarSweepConfig
from occkit.systems.langocc.rays import RayRulesConfig
from occkit.systems.langocc.recipes import (
    FEATURES,
    debug,
    full_r50_occ3d,
    nano,
    nano_horizon_0,
    nano_horizon_1,
    nano_horizon_4,
    nano_pop3d,
    nano_rgb,
    nano_rgb_harmonic,
    nano_untrained,
    reduced_r50_occ3d,
)
from occkit.systems.langocc.rendering import RayRenderConfig, Seen, render_rays
from occkit.systems.langocc.text import TextConfig, class_logits, occupancy_logits
from occkit.systems.langocc.variants import (
    nano_arccos,
    nano_flow,
    nano_guided,
    nano_lidar_pixels,
    nano_movers,
    nano_mse,
    nano_reduced,
    nano_reduced_4,
    nano_reduced_8,
    nano_reduced_16,
    nano_reduced_32,
    nano_sigma_3,
    nano_sigma_10,
    nano_sigma_half,
    nano_sky_drop,
    nano_sky_keep,
)

__all__ = [
    "FEATURES",
    "ColourField",
    "ColourFieldConfig",
    "Field",
    "FieldConfig",
    "FreeColourConfig",
    "HarmonicColourConfig",
    "ImageGuideConfig",
    "LangOcc",
    "LangOccConfig",
    "LanguageRaysConfig",
    "LidarSweepConfig",
    "RayRenderConfig",
    "RayRulesConfig",
    "Seen",
    "TextConfig",
    "choices",
    "claim",
    "class_logits",
    "debug",
    "effects",
    "full_r50_occ3d",
    "losses",
    "nano",
    "nano_arccos",
    "nano_flow",
    "nano_guided",
    "nano_horizon_0",
    "nano_horizon_1",
    "nano_horizon_4",
    "nano_lidar_pixels",
    "nano_movers",
    "nano_mse",
    "nano_pop3d",
    "nano_reduced",
    "nano_reduced_4",
    "nano_reduced_8",
    "nano_reduced_16",
    "nano_reduced_32",
    "nano_rgb",
    "nano_rgb_harmonic",
    "nano_sigma_3",
    "nano_sigma_10",
    "nano_sigma_half",
    "nano_sky_drop",
    "nano_sky_keep",
    "nano_untrained",
    "occupancy_logits",
    "reduced_r50_occ3d",
    "render_rays",
    "spherical_harmonics",
]
