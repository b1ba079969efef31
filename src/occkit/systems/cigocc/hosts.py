"""VoxFormer and CGFormer on the same bricks, and CIGOcc's distillation on the latter."""

from dataclasses import replace

from occkit.nn.backbones import EfficientNetConfig, ResNetConfig, SmallConvNetConfig
from occkit.nn.blocks import GroupNormConfig
from occkit.nn.completion import MaskTokenConfig, MlpPriorConfig
from occkit.nn.depth import DepthNetConfig
from occkit.nn.depth_fusion import DepthFusionConfig
from occkit.nn.heads import ConvHeadConfig, LinearHeadConfig
from occkit.nn.necks import AddNeckConfig, ConcatNeckConfig, ScaleNeckConfig
from occkit.nn.planes import LocalGlobalConfig
from occkit.nn.proposals import DepthProposalsConfig, OccupancyProposalsConfig
from occkit.nn.volume_attention import VolumeAttentionConfig
from occkit.nn.volumes import ColumnNetConfig, GroundNetConfig, VolumeNetConfig
from occkit.nn.voxel_queries import CrossAttentionConfig
from occkit.systems.cigocc.first import FirstStageConfig, HighConfig
from occkit.systems.cigocc.images import CigOccImagesConfig
from occkit.systems.cigocc.network import CigOccConfig
from occkit.systems.cigocc.queries import ContextQueriesConfig, TableQueriesConfig
from occkit.systems.cigocc.recipes import (
    FIRST_STEPS,
    NANO_BINS,
    NANO_LOOK,
    in_two_stages,
    kitti_of,
    nano_of,
    nano_system,
    r50_system,
)
from occkit.systems.cigocc.views import KITTI_BINS, GivenDepthConfig, MonoDepthConfig, ViewsConfig
from occkit.training.optim import Cosine, OneCycle, OptimConfig
from occkit.training.recipe import Recipe

_GROUPS = GroupNormConfig()


def _changed(recipe: Recipe, name: str, **changes: object) -> Recipe:
    """Return a recipe under another name, its network changed."""
    assert isinstance(recipe.system, CigOccConfig)
    return replace(recipe, name=f"cigocc.{name}", system=replace(recipe.system, **changes))


def nano_voxformer() -> Recipe:
    """VoxFormer, small: where depth hits, through a 2D network over columns, decides who asks; others hold a token.

    Its first stage has `FIRST_STEPS` of its own, so that the second has as many as the other recipes. The head is
    theirs, too.
    """
    base = nano_system()
    assert base.first is not None
    columns = ColumnNetConfig(
        net=GroundNetConfig(widths=(32, 48, 64), blocks=(1, 1, 1), strides=(1, 2, 2), channels=32, norm=_GROUPS),
        heights=4,
        channels=16,
    )
    system = replace(
        base,
        first=replace(base.first, high=HighConfig(present=False, channels=1), net=columns),
        queries=TableQueriesConfig(),
        proposals=OccupancyProposalsConfig(share=0.25),
        completion=MaskTokenConfig(),
        losses=replace(base.losses, masks=0.0, first_coarse=True),
    )
    recipe = nano_of("nano_voxformer", system)
    steps = FIRST_STEPS + recipe.steps
    return in_two_stages(replace(recipe, steps=steps, evaluate_every=steps), first=FIRST_STEPS)


def nano_cgformer() -> Recipe:
    """CGFormer, small: lifted queries, attention in image and depth, local and global context.

    Given depth is a cell's histogram, not its nearest pixel as in CGFormer: the small stand-in has a wild pixel in
    nearly every cell. LiDAR does not teach depth, as it teaches no other arm.
    """
    base = nano_system()
    local = VolumeNetConfig(widths=(32, 32, 32), blocks=(1, 1, 1), channels=32, norm=_GROUPS)
    plane = GroundNetConfig(widths=(32, 48), blocks=(1, 1), strides=(1, 2), channels=32, norm=_GROUPS)
    measure = DepthNetConfig(
        bins=NANO_BINS, context_channels=32, hidden=48, depth_blocks=1, dilations=(1, 2, 3), norm=_GROUPS
    )
    weigh = VolumeNetConfig(widths=(8, 16), blocks=(1, 1), strides=(1, 2), channels=8, norm=_GROUPS)
    fuse = DepthFusionConfig(widths=(48, 64), window=3, net=weigh, norm=_GROUPS)
    system = replace(
        base,
        views=replace(
            base.views,
            backbone=SmallConvNetConfig(widths=(16, 24, 32, 48), blocks=(0, 1, 1, 1), out_stages=(2, 3), norm=_GROUPS),
            neck=ConcatNeckConfig(channels=48, norm=_GROUPS),
            depth=MonoDepthConfig(net=measure, refine=GivenDepthConfig(bins=NANO_BINS), fuse=fuse),
        ),
        first=None,
        queries=ContextQueriesConfig(),
        proposals=DepthProposalsConfig(),
        fusion=replace(NANO_LOOK, depth_aware=True),
        completion=MlpPriorConfig(hidden=16),
        encoder=LocalGlobalConfig(local=local, plane=plane, slabs=4),
        losses=replace(base.losses, first=None, masks=0.0),
    )
    return nano_of("nano_cgformer", system)


def nano_cgformer_sam() -> Recipe:
    """The same with masks as teachers: CIGOcc's distillation on CGFormer, as `cigocc_effb7_kitti`."""
    base = nano_cgformer()
    assert isinstance(base.system, CigOccConfig)
    losses = replace(base.system.losses, masks=1.0)
    return nano_of("nano_cgformer_sam", replace(base.system, losses=losses))


def voxformer_r50_kitti() -> Recipe:
    """VoxFormer's sizes: ResNet-50 up to its third stage, 368 x 1216, a learned query for each of 262,144 voxels.

    The published one has an unused fourth stage (15.0 million parameters) and keeps the first stages fixed.
    """
    base = r50_system()
    columns = ColumnNetConfig(
        net=GroundNetConfig(widths=(48, 64, 80), blocks=(1, 1, 1), strides=(1, 2, 2), channels=64),
        heights=16,
        channels=16,
    )
    system = replace(
        base,
        views=ViewsConfig(backbone=ResNetConfig(depth=50, out_stages=(3,)), neck=AddNeckConfig(channels=128)),
        first=FirstStageConfig(high=HighConfig(present=False, channels=1), net=columns),
        queries=TableQueriesConfig(),
        proposals=OccupancyProposalsConfig(share=0.15, threshold=0.5),
        completion=MaskTokenConfig(),
        head=LinearHeadConfig(),
        losses=replace(base.losses, masks=0.0, first_coarse=True),
    )
    recipe = kitti_of("voxformer_r50_kitti", system, size=(368, 1216), stride=16)
    optim = OptimConfig(lr=2e-4, schedule=Cosine(final=1e-3), warmup_steps=500, clip_norm=35.0)
    # 24 epochs of 3,834 frames for the first stage, 20 for the second, four frames a step.
    first, second = 24 * 3_834 // 4, 20 * 3_834 // 4
    return in_two_stages(replace(recipe, optim=optim, steps=first + second), first=first)


def voxformer_r50_kitti_fold() -> Recipe:
    """The same as released: attention among voxels in a 512 x 512 fold, camera 2 where camera 0 stands."""
    base = voxformer_r50_kitti()
    recipe = _changed(base, "voxformer_r50_kitti_fold", mixing=VolumeAttentionConfig(fold=(512, 512)))
    return replace(recipe, data=replace(recipe.data, camera_shift=False))


def _cgformer_system() -> CigOccConfig:
    base = r50_system()
    measure = DepthNetConfig(
        bins=KITTI_BINS,
        context_channels=128,
        hidden=256,
        depth_blocks=3,
        ray_directions=False,
        dilations=(1, 6, 12, 18),
    )
    return replace(
        base,
        views=ViewsConfig(
            backbone=EfficientNetConfig(),
            neck=ScaleNeckConfig(),
            depth=MonoDepthConfig(net=measure, refine=GivenDepthConfig(spread="nearest"), fuse=DepthFusionConfig()),
        ),
        first=None,
        queries=ContextQueriesConfig(),
        proposals=DepthProposalsConfig(),
        fusion=CrossAttentionConfig(depth_aware=True),
        completion=MlpPriorConfig(),
        encoder=LocalGlobalConfig(),
        head=ConvHeadConfig(),
        losses=replace(base.losses, first=None, masks=0.0, depth=1e-4),
    )


def _cgformer_of(name: str, system: CigOccConfig) -> Recipe:
    """Return CGFormer's training: 25,000 steps of four frames, no clipping, the whole network at one rate."""
    recipe = kitti_of(name, system, size=(384, 1280))
    return replace(recipe, steps=25_000, optim=OptimConfig(lr=3e-4, schedule=OneCycle(peak=0.05), clip_norm=None))


def cgformer_effb7_kitti() -> Recipe:
    """CGFormer's sizes: EfficientNet-B7, 384 x 1280, stereo depth refined, three planes through Swin-T."""
    return _cgformer_of("cgformer_effb7_kitti", _cgformer_system())


def cgformer_effb7_kitti_images() -> Recipe:
    """What CGFormer's image network learns before all else: depth and classes, in 50,000 steps of sixteen images.

    It sees the frames that have a label, the published one all, and the classes of LiDAR points. The rate is not known:
    here it is that of the main training.
    """
    base = _cgformer_system()
    alone = CigOccImagesConfig(grid=base.grid, channels=base.channels, views=base.views, depth=1.0)
    recipe = _cgformer_of("cgformer_effb7_kitti_images", base)
    return replace(recipe, system=alone, steps=50_000, accumulate=16, evaluate_every=None)


def cgformer_effb7_kitti_released() -> Recipe:
    """The same as released: the fold, a table beside the lifted queries, no depth loss, given depth a bin too near."""
    base = _cgformer_system()
    assert isinstance(base.views.depth, MonoDepthConfig)
    near = GivenDepthConfig(spread="nearest", near_by_a_bin=True)
    system = replace(
        base,
        views=replace(base.views, depth=replace(base.views.depth, refine=near)),
        queries=ContextQueriesConfig(table=True),
        mixing=VolumeAttentionConfig(fold=(512, 512)),
        losses=replace(base.losses, depth=0.0),
    )
    return _cgformer_of("cgformer_effb7_kitti_released", system)


def cgformer_effb7_kitti_doubled() -> Recipe:
    """CGFormer taught depth as its code's pre-training is: the target at twice the depth."""
    base = _cgformer_system()
    system = replace(base, losses=replace(base.losses, depth=1.0, doubled_depth=True))
    return _cgformer_of("cgformer_effb7_kitti_doubled", system)


def cigocc_effb7_kitti() -> Recipe:
    """CIGOcc's idea on CGFormer: masks teach the middle features, nothing else changes."""
    base = _cgformer_system()
    system = replace(base, losses=replace(base.losses, masks=1.0))
    return _cgformer_of("cigocc_effb7_kitti", system)
