"""RadOcc: what a LiDAR + camera teacher knows, taught to a camera student along rendered rays.

Zhang et al., "RadOcc: Learning Cross-Modality Occupancy Knowledge through Rendering Assisted Distillation", AAAI 2024.

    teacher: images, LiDAR -> lifted volume + LiDAR plane -> head -> scores          `occkit train radocc.nano_teacher`
    its scores on disk, quantised; segments of the images                           `occkit teach`
    student: images -> scores; along the same rays both are rendered and compared   `occkit train radocc.nano`

What differs from the paper: the teacher's outputs are read from disk, made from frames as they are; the divergence of
where rays end is a true one, with a bin for hitting nothing (the public code takes a softmax of probabilities); the
density is that of the odds of being occupied, which a constant added to all scores does not change; the small recipes
draw rays through any pixel. Each is an option of `RayDistillConfig`. docs/radocc.md has the equations.
"""

from occkit.systems.radocc.claims import claim, effects
from occkit.systems.radocc.network import RadOcc, RadOccConfig, Teacher, TeacherConfig, mirror
from occkit.systems.radocc.recipes import (
    PERFECT_SEGMENTS,
    SEGMENTS,
    TEACHING,
    bevdet_r50,
    bevdet_swinb,
    bevdet_swinb_teacher,
    bevformer_r101,
    debug,
    debug_teacher,
    few,
    few_features,
    few_labelled,
    few_logits,
    nano,
    nano_attention,
    nano_attention_none,
    nano_depth_map,
    nano_double_softmax,
    nano_features,
    nano_logits,
    nano_none,
    nano_perfect_segments,
    nano_rays_300,
    nano_rays_6000,
    nano_rdc,
    nano_rsc,
    nano_stereo,
    nano_stereo_none,
    nano_teacher,
)

__all__ = [
    "PERFECT_SEGMENTS",
    "SEGMENTS",
    "TEACHING",
    "RadOcc",
    "RadOccConfig",
    "Teacher",
    "TeacherConfig",
    "bevdet_r50",
    "bevdet_swinb",
    "bevdet_swinb_teacher",
    "bevformer_r101",
    "claim",
    "debug",
    "debug_teacher",
    "effects",
    "few",
    "few_features",
    "few_labelled",
    "few_logits",
    "mirror",
    "nano",
    "nano_attention",
    "nano_attention_none",
    "nano_depth_map",
    "nano_double_softmax",
    "nano_features",
    "nano_logits",
    "nano_none",
    "nano_perfect_segments",
    "nano_rays_300",
    "nano_rays_6000",
    "nano_rdc",
    "nano_rsc",
    "nano_stereo",
    "nano_stereo_none",
    "nano_teacher",
]
