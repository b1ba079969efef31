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

from occkit.systems.radocc.claims import choices, claim, effects
from occkit.systems.radocc.network import RadOcc, RadOccConfig, Teacher, TeacherConfig, mirror
from occkit.systems.radocc.recipes import (
    NANO_RAYS,
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
    few_logits,
    few_none,
    nano,
    nano_depth_map,
    nano_features,
    nano_logits,
    nano_none,
    nano_rdc,
    nano_rsc,
    nano_teacher,
)
from occkit.systems.radocc.variants import (
    PERFECT_SEGMENTS,
    few_60,
    few_60_none,
    few_attention,
    few_attention_none,
    few_both,
    few_labelled,
    few_logits_x,
    few_perfect_segments,
    few_rays_300,
    few_scores,
    few_stereo,
    few_stereo_none,
    nano_double_softmax,
)

__all__ = [
    "NANO_RAYS",
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
    "choices",
    "claim",
    "debug",
    "debug_teacher",
    "effects",
    "few",
    "few_60",
    "few_60_none",
    "few_attention",
    "few_attention_none",
    "few_both",
    "few_features",
    "few_labelled",
    "few_logits",
    "few_logits_x",
    "few_none",
    "few_perfect_segments",
    "few_rays_300",
    "few_scores",
    "few_stereo",
    "few_stereo_none",
    "mirror",
    "nano",
    "nano_depth_map",
    "nano_double_softmax",
    "nano_features",
    "nano_logits",
    "nano_none",
    "nano_rdc",
    "nano_rsc",
    "nano_teacher",
]
