"""OccScene: generation and perception teach each other in one diffusion model. Text in; images and their occupancy out.

Li et al., "OccScene: Semantic Occupancy-based Cross-task Mutual Learning for 3D Scene Generation", 2024.

    photographs -> noise -> UNet with text -> estimate -> perception -> occupancy -> alignment -> UNet, second pass
    sampling: noise -> UNet -> estimate -> perception -> occupancy -> the next step's UNet -> ... -> images, occupancy

The paper's method section was not read: `network.py` follows its opening and its figures, and every number on which
they are silent is an option with a default of ours. `stages.py` says what learns when, `sampling.py` how a scene is
drawn.
"""

from occkit.systems.occscene.claims import claim, quick, rooms, rooms_quick
from occkit.systems.occscene.network import OccScene, OccSceneConfig
from occkit.systems.occscene.recipes import (
    debug,
    nano,
    nano_room,
    nano_room_align,
    nano_room_apart,
    nano_street,
    nano_street_align,
    nano_street_apart,
    nano_street_clip,
    nano_surround,
    nano_surround_align,
    nano_surround_apart,
    nano_system,
    sd21_room,
    sd21_street,
)
from occkit.systems.occscene.sampling import Drawn, SamplingConfig, check_cameras, generate
from occkit.systems.occscene.stages import (
    AlignConfig,
    ApartConfig,
    ClipConfig,
    MutualConfig,
    Sources,
    StageConfig,
)
from occkit.systems.occscene.variants import (
    nano_room_align_attention,
    nano_room_align_concat,
    nano_room_detached,
    nano_room_flat,
    nano_room_further,
    nano_room_further_3,
    nano_room_noised,
    nano_room_offline_pseudo,
    nano_room_offline_true,
    nano_room_reader,
    nano_room_text,
    nano_street_align_attention,
    nano_street_align_concat,
    nano_street_detached,
    nano_street_flat,
    nano_street_further,
    nano_street_further_3,
    nano_street_noised,
    nano_street_offline_pseudo,
    nano_street_offline_true,
    nano_street_reader,
    nano_street_text,
)

__all__ = [
    "AlignConfig",
    "ApartConfig",
    "ClipConfig",
    "Drawn",
    "MutualConfig",
    "OccScene",
    "OccSceneConfig",
    "SamplingConfig",
    "Sources",
    "StageConfig",
    "check_cameras",
    "claim",
    "debug",
    "generate",
    "nano",
    "nano_room",
    "nano_room_align",
    "nano_room_align_attention",
    "nano_room_align_concat",
    "nano_room_apart",
    "nano_room_detached",
    "nano_room_flat",
    "nano_room_further",
    "nano_room_further_3",
    "nano_room_noised",
    "nano_room_offline_pseudo",
    "nano_room_offline_true",
    "nano_room_reader",
    "nano_room_text",
    "nano_street",
    "nano_street_align",
    "nano_street_align_attention",
    "nano_street_align_concat",
    "nano_street_apart",
    "nano_street_clip",
    "nano_street_detached",
    "nano_street_flat",
    "nano_street_further",
    "nano_street_further_3",
    "nano_street_noised",
    "nano_street_offline_pseudo",
    "nano_street_offline_true",
    "nano_street_reader",
    "nano_street_text",
    "nano_surround",
    "nano_surround_align",
    "nano_surround_apart",
    "nano_system",
    "quick",
    "rooms",
    "rooms_quick",
    "sd21_room",
    "sd21_street",
]
