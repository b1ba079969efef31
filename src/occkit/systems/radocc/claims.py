"""What RadOcc claims, and what changes it."""

from occkit.systems.radocc.recipes import (
    PERFECT_SEGMENTS,
    SEGMENTS,
    TEACHING,
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
from occkit.training.claim import Claim, Difference, Lesson, World

CLAIM_WORLD = World(scenes=250, options=("--frames", "4", "--radius", "19.2"))
"""200 streets to learn from, a frame of each; 50 others to be scored on, two frames of each. The near half of each
street: a quarter of the voxels, so that three dozen trainings are long enough."""


def claim() -> Claim:
    """Rendered distillation against none, dense distillation and depth maps, with all labels and with few."""
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
            "rdc": nano_rdc,
            "rsc": nano_rsc,
            "depth_map": nano_depth_map,
            "logits": nano_logits,
            "features": nano_features,
            "few_labelled": few_labelled,
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
                    ("few_rendered", "few_labelled", "few_logits", "few_features"),
                )
                for line in (
                    Difference(arm=rendered, baseline=alone, metric="occ3d.miou", threshold=0.022),
                    Difference(arm=rendered, baseline=alone, metric="rayiou.rayiou"),
                    Difference(arm=rendered, baseline=logits, metric="occ3d.miou"),
                    Difference(arm=rendered, baseline=features, metric="occ3d.miou"),
                )
            ),
            Difference(arm="rdc", baseline="depth_map", metric="occ3d.miou"),
        ),
        world=CLAIM_WORLD,
        val_frames=100,
        lesson=Lesson(teacher="teacher", folder=TEACHING, features=True, segments={SEGMENTS: "simulated"}),
        seeds=3,
    )


def effects() -> Claim:
    """What rays, segments and the form of the loss change, and whether other students learn too."""
    return Claim(
        system="radocc.effects",
        sentence=(
            "More rays and better segments help, the public code's form of the divergence does nothing, and students "
            "with stereo and with deformable attention learn from the same teacher."
        ),
        arms={
            "teacher": nano_teacher,
            "none": nano_none,
            "rendered": nano,
            "rays_300": nano_rays_300,
            "rays_6000": nano_rays_6000,
            "perfect_segments": nano_perfect_segments,
            "double_softmax": nano_double_softmax,
            "stereo_none": nano_stereo_none,
            "stereo_rendered": nano_stereo,
            "attention_none": nano_attention_none,
            "attention_rendered": nano_attention,
        },
        lines=(
            Difference(arm="rays_6000", baseline="rays_300", metric="occ3d.miou"),
            Difference(arm="perfect_segments", baseline="rendered", metric="occ3d.miou"),
            Difference(arm="none", baseline="double_softmax", metric="occ3d.miou", threshold=-0.005),
            Difference(arm="double_softmax", baseline="none", metric="occ3d.miou", threshold=-0.005),
            Difference(arm="stereo_rendered", baseline="stereo_none", metric="occ3d.miou"),
            Difference(arm="attention_rendered", baseline="attention_none", metric="occ3d.miou"),
        ),
        world=CLAIM_WORLD,
        val_frames=100,
        lesson=Lesson(
            teacher="teacher", folder=TEACHING, segments={SEGMENTS: "simulated", PERFECT_SEGMENTS: "perfect"}
        ),
        seeds=3,
    )
