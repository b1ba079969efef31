"""CIGOcc's own recipes: tiny, small and of published sizes. Its hosts and its ablations have files of their own."""

from dataclasses import replace

from occkit.data import DataConfig
from occkit.data.image_inputs import ImageInputsConfig
from occkit.geometry import VoxelGrid
from occkit.losses import VoxelLossConfig, inverse_log_weights
from occkit.nn.backbones import ResNetConfig, SmallConvNetConfig
from occkit.nn.blocks import GroupNormConfig
from occkit.nn.completion import RawVolumeConfig
from occkit.nn.depth import DepthBins
from occkit.nn.heads import ConvHeadConfig
from occkit.nn.necks import AddNeckConfig, ConcatNeckConfig
from occkit.nn.proposals import DepthProposalsConfig, OccupancyProposalsConfig
from occkit.nn.volume_attention import VolumeAttentionConfig
from occkit.nn.volumes import VolumeNetConfig
from occkit.nn.voxel_queries import CrossAttentionConfig
from occkit.systems.cigocc.first import FirstStageConfig, HighConfig
from occkit.systems.cigocc.images import CigOccImagesConfig
from occkit.systems.cigocc.network import CigOccConfig, CigOccLossConfig, TwoStageConfig
from occkit.systems.cigocc.views import GivenDepthConfig, ViewsConfig
from occkit.systems.lift import MIRROR
from occkit.taxonomy import SEMANTICKITTI_VOXEL_COUNTS
from occkit.training.optim import Cosine, OneCycle, OptimConfig, Twice
from occkit.training.recipe import Recipe

NANO_GRID = VoxelGrid.from_range((0, -25.6, -2), (51.2, 25.6, 4.4), 0.8)
"""SemanticKITTI's box in 64 x 64 x 8 voxels of 0.8 m."""
NANO_BINS = DepthBins(start=2.0, stop=58.0, step=1.0)
"""Depth bins of the small recipes."""
NANO_LOOK = CrossAttentionConfig(layers=2, heads=4, points=4, hidden=64, spacing=208 / 1216)
"""Attention of the small recipes. Places start as far apart, as an angle, as at published size: the cells of 64 x 208
images are six times as wide."""
FIRST_STEPS = 200
"""Steps of a first stage that learns alone in the small recipes, a third of a training."""
LOOK = "look"
"""Where the recipes look for what `occkit look` wrote, below the data's folder."""
MASKS = f"{LOOK}/masks"
"""Classes of pixels there."""
KITTI360_FREQUENCIES = (
    *(2264087502, 20098728, 104972, 96297, 1149426, 4051087, 125103, 105540713, 16292249, 45297267, 14454132),
    *(110397082, 6766219, 295883213, 50037503, 1561069, 406330, 30516166, 1950115),
)
"""The same of SSCBench-KITTI-360. Source: SSCBench."""
_GROUPS = GroupNormConfig()
_CHANGES = replace(MIRROR, brightness=0.4, contrast=0.4)
"""What changes by chance in the small trainings; CGFormer's and VoxFormer's colours change as much."""


def log_weights(counts: tuple[int, ...]) -> tuple[float, ...]:
    """Return `1 / ln(n)` of each class, as MonoScene, VoxFormer and CGFormer weigh their cross-entropy, with mean 1."""
    return inverse_log_weights(counts)


def inputs_of(system: CigOccConfig, *, stride: int = 8, cameras: tuple[str, ...] | None = None) -> DataConfig:
    """Return a data config that loads what a network reads, and what its losses learn from, below `LOOK`."""
    high = None if system.first is None else system.first.high
    depth, loads = system.views.depth, high is not None and high.present
    given = isinstance(depth, GivenDepthConfig) or getattr(depth, "refine", None) is not None
    features = (loads and high is not None and high.features > 0) or system.losses.features > 0
    inputs = ImageInputsConfig(
        depth=f"{LOOK}/depth" if given else None,
        masks=MASKS if loads and high is not None and high.masks else None,
        features=f"{LOOK}/features" if features else None,
        feature_stride=stride,
    )
    return DataConfig(
        cameras=cameras,
        load_depth=system.losses.depth > 0,
        image_semantics=MASKS if system.losses.masks else None,
        inputs=inputs if inputs != ImageInputsConfig(feature_stride=stride) else None,
    )


def _debug_system() -> CigOccConfig:
    return CigOccConfig(
        grid=NANO_GRID,
        lift_stride=(4, 4, 2),
        channels=16,
        views=ViewsConfig(
            backbone=SmallConvNetConfig(widths=(8, 16), blocks=(0, 0), out_stages=(1,)),
            neck=ConcatNeckConfig(channels=16, norm=_GROUPS),
            depth=GivenDepthConfig(bins=DepthBins(start=2.0, stop=58.0, step=4.0)),
        ),
        first=FirstStageConfig(
            high=HighConfig(features=24, masks=True, channels=8),
            net=VolumeNetConfig(widths=(8, 16), blocks=(1, 1), strides=(1, 2), channels=16, norm=_GROUPS),
        ),
        proposals=DepthProposalsConfig(grow=1),
        fusion=CrossAttentionConfig(layers=1, heads=2, points=2, hidden=16, dropout=0.0),
        mixing=VolumeAttentionConfig(layers=1, heads=2, points=2, hidden=16, dropout=0.0),
        head=ConvHeadConfig(hidden=16, norm=_GROUPS),
        norm=_GROUPS,
        losses=CigOccLossConfig(frustum=1.0, masks=1.0, features=0.5, feature_channels=24),
    )


def debug() -> Recipe:
    """Seconds on a CPU: a tiny network on coarse voxels with every loss of the method, to see that everything runs."""
    system = _debug_system()
    return Recipe(
        name="cigocc.debug",
        system=system,
        data=replace(inputs_of(system), image_size=(32, 88)),
        optim=OptimConfig(lr=5e-3),
        steps=20,
        batch_size=2,
        evaluate_every=20,
        protocols=("semantickitti",),
        max_train_frames=8,
        max_val_frames=4,
    )


def nano_system() -> CigOccConfig:
    """Return the small network: 64 x 208 images, 32 x 32 x 4 voxels of 1.6 m, scores at 0.8 m."""
    weights = log_weights(SEMANTICKITTI_VOXEL_COUNTS)
    voxels = VoxelLossConfig(
        lovasz=0.0,
        semantic_affinity=1.0,
        geometric_affinity=1.0,
        class_weights=weights,
        mask_camera_in_training=False,
    )
    return CigOccConfig(
        grid=NANO_GRID,
        channels=32,
        views=ViewsConfig(
            backbone=SmallConvNetConfig(widths=(16, 24, 32, 48), blocks=(0, 1, 1, 1), out_stages=(2, 3), norm=_GROUPS),
            neck=ConcatNeckConfig(channels=32, norm=_GROUPS),
            depth=GivenDepthConfig(bins=NANO_BINS),
            patches=True,
        ),
        first=FirstStageConfig(
            high=HighConfig(features=24, masks=True, channels=24),
            net=VolumeNetConfig(widths=(24, 48, 48), blocks=(1, 1, 1), channels=32, norm=_GROUPS),
        ),
        proposals=OccupancyProposalsConfig(share=0.25),
        fusion=NANO_LOOK,
        completion=RawVolumeConfig(),
        mixing=VolumeAttentionConfig(layers=1, heads=4, points=4, hidden=64),
        head=ConvHeadConfig(hidden=32, layers=2, norm=_GROUPS),
        norm=_GROUPS,
        losses=CigOccLossConfig(
            voxels=voxels,
            first=VoxelLossConfig(lovasz=0.0, class_weights=weights, mask_camera_in_training=False),
            masks=1.0,
            feature_channels=24,
        ),
    )


def nano_of(name: str, system: CigOccConfig, **data: object) -> Recipe:
    """Return the small training of a network under a name: 600 steps of two frames, some mirrored, colours changed.

    It needs many frames: with 200, what depth and segmentation show of each is learnt by heart, and images are ignored.
    """
    return Recipe(
        name=f"cigocc.{name}",
        system=system,
        data=replace(inputs_of(system), image_size=(64, 208), augment=_CHANGES, **data),
        # Muon needs far fewer steps here than AdamW alone.
        optim=OptimConfig(lr=2e-3, muon_lr=0.02, schedule=OneCycle(), clip_norm=10.0),
        steps=600,
        batch_size=2,
        evaluate_every=600,
        protocols=("semantickitti",),
        max_val_frames=60,
    )


def in_two_stages(recipe: Recipe, *, first: int) -> Recipe:
    """Return a recipe whose first stage learns alone for the first so many steps and is frozen then.

    Each stage follows the recipe's schedule from beginning to end, as if they were two runs.
    """
    optim, warmup = recipe.optim, recipe.optim.warmup_steps
    assert isinstance(recipe.system, CigOccConfig)
    assert isinstance(optim.schedule, OneCycle | Cosine)
    twice = Twice(at=(first - warmup) / (recipe.steps - warmup), schedule=optim.schedule)
    system = replace(recipe.system, two_stage=TwoStageConfig(steps=first * recipe.accumulate))
    return replace(recipe, system=system, optim=replace(optim, schedule=twice))


def nano() -> Recipe:
    """Minutes on two cores: segmentation, appearance and depth, deformable fusion, masks as teachers."""
    return nano_of("nano", nano_system())


def nano_images() -> Recipe:
    """The images' branch of `nano` alone, eight frames a step, for the other small trainings to start from."""
    system = nano_system()
    alone = CigOccImagesConfig(
        grid=system.grid,
        channels=system.channels,
        views=system.views,
        class_weights=system.losses.voxels.class_weights,
    )
    base = nano()
    inputs = ImageInputsConfig(depth=f"{LOOK}/depth")
    return replace(
        base,
        name="cigocc.nano_images",
        system=alone,
        data=replace(
            base.data,
            inputs=inputs,
            image_semantics=None,
            load_depth=True,
            augment=replace(_CHANGES, mirror_image=0.5),
        ),
        steps=1200,
        batch_size=8,
        evaluate_every=None,
    )


def r50_system() -> CigOccConfig:
    """Return the network of published size: ResNet-50, 128 channels, 128 x 128 x 16 voxels of 0.4 m."""
    weights = log_weights(SEMANTICKITTI_VOXEL_COUNTS)
    nano_losses = nano_system().losses
    return CigOccConfig(
        views=ViewsConfig(backbone=ResNetConfig(depth=50, out_stages=(2, 3, 4)), neck=AddNeckConfig(channels=128)),
        losses=replace(
            nano_losses,
            voxels=replace(nano_losses.voxels, class_weights=weights),
            feature_channels=256,
        ),
    )


def kitti_of(name: str, system: CigOccConfig, *, size: tuple[int, int], stride: int = 8) -> Recipe:
    """Return the training of a network of published size under a name: 25 epochs of 3,834 frames, four a step."""
    return Recipe(
        name=f"cigocc.{name}",
        system=system,
        data=replace(inputs_of(system, stride=stride), image_size=size),
        optim=OptimConfig(
            lr=3e-4,
            schedule=OneCycle(peak=0.05),
            lr_factors=(("views.backbone.", 0.1),),
        ),
        steps=24_000,
        accumulate=4,
        evaluate_every=3_000,
        protocols=("semantickitti",),
        precision="bf16",
        num_workers=4,
    )


def r50_kitti() -> Recipe:
    """ResNet-50 on 368 x 1216 images, SAM's features and masks lifted along stereo depth, masks as teachers."""
    return kitti_of("r50_kitti", r50_system(), size=(368, 1216))


def r50_kitti360() -> Recipe:
    """`r50_kitti` on SSCBench-KITTI-360: 368 x 1408 images, 25 epochs of 8,487 frames."""
    base = r50_system()
    weights = log_weights(KITTI360_FREQUENCIES)
    assert base.losses.first is not None
    losses = replace(
        base.losses,
        voxels=replace(base.losses.voxels, class_weights=weights),
        first=replace(base.losses.first, class_weights=weights),
    )
    system = replace(base, taxonomy="kitti360", losses=losses)
    recipe = kitti_of("r50_kitti360", system, size=(368, 1408))
    return replace(recipe, steps=53_000, protocols=("sscbench-kitti360",))
