"""What RadOcc claims, and what changes it."""

from occkit.systems.radocc.recipes import (
    SEGMENTS,
    TEACHING,
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
from occkit.training.claim import Claim, Difference, Lesson, World

CLAIM_WORLD = World(scenes=250, options=("--frames", "4", "--radius", "19.2"))
"""200 streets to learn from, a frame of each; 50 others to be scored on, two frames of each. The near half of each
street: a quarter of the voxels, so that three dozen trainings are long enough."""
LESSON = Lesson(
    teacher="teacher",
    folder=TEACHING,
    features=True,
    segments={SEGMENTS: "simulated", PERFECT_SEGMENTS: "perfect"},
)
"""What the teacher of either claim writes for its students."""


def claim() -> Claim:
    """Rendered distillation against none and dense distillation, with all labels and with few."""
    return Claim(
        system="radocc",
        sentence=(
            "Distillation along rendered rays lifts a camera student by at least 2.2 mIoU, and beats feature and logit "
            "alignment."
        ),
        arms={
            "teacher": nano_teacher,
            "none": nano_none,
            "rendered": nano,
            "logits": nano_logits,
            "features": nano_features,
            "few_none": few_none,
            "few_rendered": few,
            "few_logits": few_logits,
            "few_features": few_features,
        },
        lines=(
            Difference(arm="teacher", baseline="none", metric="occ3d.miou", threshold=0.1),
            *(
                line
                for rendered, alone, logits, features in (
                    ("rendered", "none", "logits", "features"),
                    ("few_rendered", "few_none", "few_logits", "few_features"),
                )
                for line in (
                    Difference(arm=rendered, baseline=alone, metric="occ3d.miou", threshold=0.022),
                    Difference(arm=rendered, baseline=alone, metric="rayiou.rayiou"),
                    Difference(arm=rendered, baseline=logits, metric="occ3d.miou"),
                    Difference(arm=rendered, baseline=features, metric="occ3d.miou"),
                )
            ),
        ),
        world=CLAIM_WORLD,
        val_frames=100,
        lesson=LESSON,
        seeds=3,
    )


def effects() -> Claim:
    """What the parts of the loss, rays and segments change, and whether other students learn from the teacher too.

    With the same `--out` as `claim`'s, worlds, teachers and the arms both have are made once.
    """
    return Claim(
        system="radocc.effects",
        sentence=(
            "Where rays end teaches more than rendered depth maps; more rays and better segments help; rays beat the "
            "logit alignment of the public code; students with stereo and with deformable attention learn from the "
            "same teacher."
        ),
        arms={
            "teacher": nano_teacher,
            "none": nano_none,
            "rendered": nano,
            "rdc": nano_rdc,
            "rsc": nano_rsc,
            "depth_map": nano_depth_map,
            "few_none": few_none,
            "few_rendered": few,
            "few_logits_x": few_logits_x,
            "few_rays_300": few_rays_300,
            "few_perfect_segments": few_perfect_segments,
            "few_stereo_none": few_stereo_none,
            "few_stereo_rendered": few_stereo,
            "few_attention_none": few_attention_none,
            "few_attention_rendered": few_attention,
        },
        lines=(
            Difference(arm="rdc", baseline="depth_map", metric="occ3d.miou"),
            Difference(arm="rendered", baseline="rdc", metric="occ3d.miou"),
            Difference(arm="rendered", baseline="rsc", metric="occ3d.miou"),
            Difference(arm="few_rendered", baseline="few_logits_x", metric="occ3d.miou"),
            Difference(arm="few_rendered", baseline="few_rays_300", metric="occ3d.miou"),
            Difference(arm="few_perfect_segments", baseline="few_rendered", metric="occ3d.miou"),
            Difference(arm="few_stereo_rendered", baseline="few_stereo_none", metric="occ3d.miou"),
            Difference(arm="few_attention_rendered", baseline="few_attention_none", metric="occ3d.miou"),
        ),
        world=CLAIM_WORLD,
        val_frames=100,
        lesson=LESSON,
        seeds=3,
    )


def choices() -> Claim:
    """What our own choices and the regime change; with the same `--out` worlds and teachers are made once."""
    return Claim(
        system="radocc.choices",
        sentence=(
            "The public code's divergence of rays does nothing; probabilities teach more along rays than scores do, "
            "and voxels beside them help; rays help with 60 labelled frames, too."
        ),
        arms={
            "teacher": nano_teacher,
            "none": nano_none,
            "double_softmax": nano_double_softmax,
            "few_none": few_none,
            "few_labelled": few_labelled,
            "few_rendered": few,
            "few_scores": few_scores,
            "few_both": few_both,
            "few_60_none": few_60_none,
            "few_60_rendered": few_60,
        },
        lines=(
            Difference(arm="none", baseline="double_softmax", metric="occ3d.miou", threshold=-0.005),
            Difference(arm="double_softmax", baseline="none", metric="occ3d.miou", threshold=-0.005),
            Difference(arm="few_rendered", baseline="few_scores", metric="occ3d.miou"),
            Difference(arm="few_both", baseline="few_rendered", metric="occ3d.miou"),
            Difference(arm="few_60_rendered", baseline="few_60_none", metric="occ3d.miou"),
        ),
        world=CLAIM_WORLD,
        val_frames=100,
        lesson=LESSON,
        seeds=3,
    )
