"""RadOcc's recipes: teachers, students and baselines, tiny, small and of the published sizes.

What shows the method's parts one by one is in `variants.py`.
"""

from dataclasses import replace

from occkit.losses import VoxelLossConfig
from occkit.losses.ray_distillation import RayDistillConfig
from occkit.nn.attention import AttentionLiftConfig
from occkit.nn.backbones import ResNetConfig, SwinConfig
from occkit.nn.depth import DepthNetConfig
from occkit.nn.heads import HeightInChannelsHeadConfig
from occkit.nn.lidar import NANO_HEIGHTS, FuseLidarConfig, VoxelOccupancyConfig
from occkit.nn.necks import AddNeckConfig, ConcatNeckConfig
from occkit.systems import lift
from occkit.systems.lift import LiftConfig
from occkit.systems.radocc.network import RadOccConfig, TeacherConfig
from occkit.training.optim import OptimConfig
from occkit.training.recipe import Recipe

TEACHING = "teaching/radocc"
"""Where the recipes look for the teacher's outputs, below the data's folder."""
SEGMENTS = "segments/simulated"
"""Where the small recipes look for segments."""
NANO_CHANNELS = 30
"""Channels of the volume that `lift.nano` lifts, and its teacher too."""
NANO_RAYS = RayDistillConfig(num_rays=6000, far=29.0, shows="probabilities")
"""Rays of the small recipes, without any weight: through as many of a hundred pixels as the paper's."""


def _student(recipe: Recipe) -> LiftConfig:
    assert isinstance(recipe.system, LiftConfig)
    return recipe.system


def debug() -> Recipe:
    """Seconds on a CPU: a tiny student on coarse voxels with every loss of the method, to see that everything runs."""
    base = lift.debug()
    rays = RayDistillConfig(termination=0.1, semantics=0.1, affinity=1.0, num_rays=64, step=2.0, far=40.0)
    return replace(
        base,
        name="radocc.debug",
        system=RadOccConfig(student=_student(base), rays=rays),
        data=replace(base.data, teaching=TEACHING, segments=SEGMENTS),
    )


def debug_teacher() -> Recipe:
    """The teacher of `debug`: the same camera branch with LiDAR, seconds on a CPU."""
    base = lift.debug()
    heights = base.system.grid.shape[2] // 2 if isinstance(base.system, LiftConfig) else 4
    system = TeacherConfig(
        camera=_student(base), lidar=VoxelOccupancyConfig(num_heights=heights), fuse=FuseLidarConfig(kernel=1)
    )
    return replace(base, name="radocc.debug_teacher", system=system, data=replace(base.data, load_points=True))


def _shorter(recipe: Recipe) -> Recipe:
    """`lift.nano`, shorter: the claim trains it three dozen times."""
    system = replace(_student(recipe), image_steps=150)
    return replace(recipe, system=system, steps=600, evaluate_every=None)


def nano_teacher() -> Recipe:
    """`lift.nano` with LiDAR: the occupancy of each voxel through a small 2D network, fused into the lifted volume.

    It is trained longer than a student, as a teacher is: once for all of them.
    """
    base = replace(_shorter(lift.nano()), steps=1000)
    system = TeacherConfig(camera=_student(base), lidar=NANO_HEIGHTS, fuse=FuseLidarConfig(kernel=1))
    return replace(base, name="radocc.nano_teacher", system=system, data=replace(base.data, load_points=True))


def nano_none() -> Recipe:
    """The student alone: `lift.nano` with fewer steps."""
    base = _shorter(lift.nano())
    return replace(base, name="radocc.nano_none", system=RadOccConfig(student=_student(base)))


def _taught(name: str, rays: RayDistillConfig | None = None, *, logits: float = 0.0, features: float = 0.0) -> Recipe:
    base = nano_none()
    assert isinstance(base.system, RadOccConfig)
    system = replace(
        base.system,
        rays=rays or NANO_RAYS,
        logits=logits,
        features=features,
        teacher_channels=NANO_CHANNELS if features else 0,
        warmup_steps=100,
    )
    data = replace(
        base.data,
        teaching=TEACHING,
        teacher_features=bool(features),
        segments=SEGMENTS if rays is not None and rays.affinity else None,
    )
    return replace(base, name=f"radocc.{name}", system=system, data=data)


def nano() -> Recipe:
    """A student taught by `nano_teacher` along rays: where they end, what they show, how segments hang together."""
    return _taught("nano", replace(NANO_RAYS, termination=0.1, semantics=0.1, affinity=1.0))


def with_rays(recipe: Recipe, name: str, **changes: object) -> Recipe:
    """Return a recipe of RadOcc under another name, its rays changed."""
    assert isinstance(recipe.system, RadOccConfig)
    rays = replace(recipe.system.rays, **changes)
    return replace(recipe, name=f"radocc.{name}", system=replace(recipe.system, rays=rays))


def nano_rdc() -> Recipe:
    """`nano` with nothing but where rays end."""
    return _taught("nano_rdc", replace(NANO_RAYS, termination=0.1))


def nano_rsc() -> Recipe:
    """`nano` with nothing but what rays show."""
    return _taught("nano_rsc", replace(NANO_RAYS, semantics=0.1, affinity=1.0))


def nano_depth_map() -> Recipe:
    """Rendered depth maps instead of distributions: what the paper advises against."""
    return _taught("nano_depth_map", replace(NANO_RAYS, depth=0.1))


def nano_logits() -> Recipe:
    """Scores voxel by voxel, correctly written: the strong baseline."""
    return _taught("nano_logits", logits=1.0)


def nano_features() -> Recipe:
    """Voxel features: the baseline of which the paper says that it hurts."""
    return _taught("nano_features", features=0.5)


FEW = 24
"""Labelled frames of the recipes with few labels: 12 of 100."""


def _few(recipe: Recipe, frames: int = FEW) -> Recipe:
    """The labels of few of the 200 frames, one frame of each step; the teacher, who saw all, speaks on the others.

    Longer than `nano`: what few labels teach is soon learnt.
    """
    name = recipe.name.replace("nano", "few", 1)
    return replace(recipe, name=name, max_labelled_frames=frames, labelled_share=0.5, steps=1000)


def few() -> Recipe:
    """`nano` with few labelled frames, and three times its weights."""
    return _few(with_rays(nano(), "nano", termination=0.3, semantics=0.3, affinity=3.0))


def few_none() -> Recipe:
    """`nano_none` with few labelled frames; of the others it learns the LiDAR's depth, as all these students do."""
    return _few(nano_none())


def few_logits() -> Recipe:
    """`nano_logits` with few labelled frames, and ten times its weight."""
    return _few(_taught("nano_logits", logits=10.0))


def few_features() -> Recipe:
    """`nano_features` with few labelled frames."""
    return _few(nano_features())


PAPER_RAYS = RayDistillConfig(
    termination=0.1,
    semantics=0.05,
    affinity=0.5,
    num_rays=20_000,
    pixels="lidar",
    step=0.2,
    far=57.4,
    density="neg_free_logit",
)
"""The paper's rays: LiDAR pixels, 287 samples, 80,000 rays a step of four frames. The weights are ours: the public
code's belong to a divergence a million times smaller."""


def bevdet_r50() -> Recipe:
    """The student of the paper's ablations: BEVDet-Occ with ResNet-50, 256 x 704, two frames with stereo depth."""
    base = lift.r50_occ3d_stereo()
    system = RadOccConfig(student=_student(base), rays=PAPER_RAYS, warmup_steps=7_000)
    data = replace(base.data, teaching=TEACHING, segments="segments/sam")
    return replace(base, name="radocc.bevdet_r50", system=system, data=data)


def _swinb() -> LiftConfig:
    return replace(
        _student(lift.r50_occ3d_stereo()),
        backbone=SwinConfig(out_stages=(1, 3, 4)),
        neck=ConcatNeckConfig(channels=512),
        depth=DepthNetConfig(context_channels=32, hidden=512),
        losses=lift.LiftLossConfig(),
    )


def bevdet_swinb() -> Recipe:
    """The student of the paper's main table: Swin-B, 512 x 1408. The head is `bevdet_r50`'s, not the wider one."""
    base = bevdet_r50()
    return replace(
        base,
        name="radocc.bevdet_swinb",
        system=RadOccConfig(student=_swinb(), rays=replace(PAPER_RAYS, num_rays=40_000), warmup_steps=7_000),
        data=replace(base.data, image_size=(512, 1408)),
        optim=OptimConfig(lr=2e-4, warmup_steps=500, clip_norm=35.0),
        batch_size=2,
    )


def bevdet_swinb_teacher() -> Recipe:
    """Its teacher: the same camera branch with the pillars of one sweep."""
    base = bevdet_swinb()
    data = replace(base.data, teaching=None, segments=None, load_points=True)
    return replace(base, name="radocc.bevdet_swinb_teacher", system=TeacherConfig(camera=_swinb()), data=data)


def bevformer_r101() -> Recipe:
    """A BEVFormer-type student: ResNet-101, 928 x 1600, attention from 200 x 200 cells, heights from channels."""
    student = LiftConfig(
        lift_stride=(1, 1, 16),
        backbone=ResNetConfig(depth=101, out_stages=(3, 4)),
        neck=AddNeckConfig(channels=256),
        depth=DepthNetConfig(context_channels=256, hidden=256, depth_blocks=0),
        lift=AttentionLiftConfig(),
        head=HeightInChannelsHeadConfig(),
        losses=lift.LiftLossConfig(voxels=VoxelLossConfig(lovasz=0.0), depth=0.0),
    )
    base = bevdet_r50()
    return replace(
        base,
        name="radocc.bevformer_r101",
        system=RadOccConfig(student=student, rays=replace(PAPER_RAYS, num_rays=80_000), warmup_steps=7_000),
        data=replace(base.data, image_size=(928, 1600), num_past=0),
        optim=OptimConfig(lr=2e-4, warmup_steps=500, clip_norm=35.0, lr_factors=(("student.backbone.", 0.1),)),
        batch_size=1,
    )
