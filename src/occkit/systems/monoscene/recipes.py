"""The trainings of MonoScene: rooms and streets, from seconds on a laptop to the published shapes."""

from dataclasses import replace

from occkit.data import AugmentConfig, DataConfig
from occkit.data.nyuv2 import NYUV2_GRID
from occkit.geometry import KITTI_GRID, VoxelGrid
from occkit.losses import VoxelLossConfig, inverse_log_weights
from occkit.nn.backbones import EfficientNetConfig, SmallConvNetConfig
from occkit.nn.blocks import GroupNormConfig
from occkit.nn.image_unet import ImageUNetConfig
from occkit.nn.volume_unet import ContextPriorConfig, DilatedHeadConfig, VolumeUNetConfig
from occkit.systems.monoscene.network import MonoSceneConfig, MonoSceneLossConfig
from occkit.taxonomy import SEMANTICKITTI_VOXEL_COUNTS
from occkit.training.optim import OptimConfig, Steps
from occkit.training.recipe import Recipe

NANO_KITTI_GRID = VoxelGrid.from_range((0, -25.6, -2), (51.2, 25.6, 4.4), 0.8)
"""SemanticKITTI's box in 64 x 64 x 8 voxels of 0.8 m: the world's kitti-nano preset."""
NANO_STREET_GRID = VoxelGrid.from_range((-40, -40, -1), (40, 40, 5.4), 0.8)
"""Occ3D's box in 100 x 100 x 8 voxels of 0.8 m: the world's nano preset."""
NYUV2_WEIGHTS = (0.05, *(1.0,) * 11)
"""MonoScene's weights of NYUv2's classes: empty space weighs little."""
MIRROR = AugmentConfig(scale=(0.0, 0.0), rotate_degrees=0.0, mirror_image=0.0, flip_x=0.0, flip_y=0.5)
"""Left and right of the scene swapped in half of the steps."""
_GROUPS = GroupNormConfig()
_VOXELS = VoxelLossConfig(
    lovasz=0.0, semantic_affinity=1.0, geometric_affinity=1.0, mask_camera_in_training=False
)  # fmt: skip


def debug() -> Recipe:
    """Seconds on a CPU, on rooms: a tiny network on coarse voxels with every loss, to see that everything runs."""
    system = MonoSceneConfig(
        taxonomy="nyuv2",
        grid=NYUV2_GRID,
        lift_stride=(4, 4, 4),
        image=ImageUNetConfig(
            backbone=SmallConvNetConfig(widths=(8, 16), blocks=(0, 0), out_stages=(0, 1), norm=_GROUPS),
            widths=(8, 8),
            strides=(1, 2),
            channels=8,
            norm=_GROUPS,
        ),
        volume=VolumeUNetConfig(widths=(8, 16), dilations=(1,), prior=ContextPriorConfig(dilations=(1,)), norm=_GROUPS),
        head=DilatedHeadConfig(dilations=(1, 2), norm=_GROUPS),
    )
    return Recipe(
        name="monoscene.debug",
        system=system,
        data=DataConfig(image_size=(30, 40), load_depth=False),
        optim=OptimConfig(lr=5e-3),
        steps=20,
        batch_size=2,
        evaluate_every=20,
        protocols=("monoscene",),
        max_train_frames=8,
        max_val_frames=4,
    )


def _nano_system() -> MonoSceneConfig:
    return MonoSceneConfig(
        taxonomy="nyuv2",
        grid=NYUV2_GRID,
        lift_stride=(2, 2, 2),
        image=ImageUNetConfig(
            backbone=SmallConvNetConfig(
                widths=(16, 24, 32, 48), blocks=(0, 1, 1, 1), out_stages=(0, 1, 2, 3), norm=_GROUPS
            ),
            widths=(16, 24, 32, 32),
            strides=(1, 2, 4, 8),
            channels=32,
            norm=_GROUPS,
        ),
        volume=VolumeUNetConfig(widths=(32, 64, 96), norm=_GROUPS),
        head=DilatedHeadConfig(norm=_GROUPS),
        losses=MonoSceneLossConfig(voxels=replace(_VOXELS, class_weights=NYUV2_WEIGHTS)),
    )


def nano_room() -> Recipe:
    """Minutes on two cores: rooms in 60 x 80 pixels, 30 x 30 x 18 voxels of 0.16 m, scores at 0.08 m."""
    return Recipe(
        name="monoscene.nano_room",
        system=_nano_system(),
        data=DataConfig(image_size=(60, 80), load_depth=False, augment=MIRROR),
        optim=OptimConfig(lr=2e-3, warmup_steps=20, clip_norm=10.0),
        steps=600,
        batch_size=4,
        evaluate_every=600,
        protocols=("monoscene",),
    )


def nano_room_plain() -> Recipe:
    """`nano_room` without what MonoScene adds: cross-entropy alone, no context prior."""
    recipe, system = nano_room(), _nano_system()
    losses = MonoSceneLossConfig(
        voxels=replace(system.losses.voxels, semantic_affinity=0.0, geometric_affinity=0.0), frustum=0.0, relations=0.0
    )
    system = replace(system, volume=replace(system.volume, prior=None), losses=losses)
    return replace(recipe, name="monoscene.nano_room_plain", system=system)


def nano() -> Recipe:
    """Minutes on two cores: SemanticKITTI's street, one 64 x 208 image, voxels of 1.6 m, scores at 0.8 m."""
    system = replace(
        _nano_system(),
        taxonomy="semantickitti",
        grid=NANO_KITTI_GRID,
        losses=MonoSceneLossConfig(
            voxels=replace(_VOXELS, class_weights=inverse_log_weights(SEMANTICKITTI_VOXEL_COUNTS))
        ),
    )
    return replace(
        nano_room(),
        name="monoscene.nano",
        system=system,
        data=DataConfig(image_size=(64, 208), load_depth=False, augment=MIRROR),
        protocols=("semantickitti",),
    )


def nano_street() -> Recipe:
    """Minutes on two cores: the street of `lift.nano`, six 64 x 176 images, voxels of 1.6 m, scores at 0.8 m.

    MonoScene has one camera; here a voxel reads the mean of those that see it. It learns where cameras see.
    """
    system = replace(
        _nano_system(),
        taxonomy="occ3d",
        grid=NANO_STREET_GRID,
        losses=MonoSceneLossConfig(voxels=replace(_VOXELS, mask_camera_in_training=True)),
    )
    return replace(
        nano_room(),
        name="monoscene.nano_street",
        system=system,
        data=DataConfig(image_size=(64, 176), load_depth=False, augment=MIRROR),
        batch_size=2,
        protocols=("occ3d", "rayiou"),
        max_train_frames=200,
    )


def _b7(channels: int) -> ImageUNetConfig:
    """EfficientNet-B7, halving widths on the way up."""
    return ImageUNetConfig(
        backbone=EfficientNetConfig(), widths=(80, 160, 320, 640, 1280), strides=(1, 2, 4, 8), channels=channels
    )


def b7_nyu() -> Recipe:
    """The published shapes on NYUv2: EfficientNet-B7, 480 x 640, 200 channels, 60 x 60 x 36 voxels of 0.08 m."""
    system = MonoSceneConfig(
        taxonomy="nyuv2",
        grid=NYUV2_GRID,
        image=_b7(200),
        volume=VolumeUNetConfig(widths=(200, 400, 800)),
        losses=MonoSceneLossConfig(voxels=replace(_VOXELS, class_weights=NYUV2_WEIGHTS)),
    )
    return Recipe(
        name="monoscene.b7_nyu",
        system=system,
        data=DataConfig(image_size=(480, 640), load_depth=False, augment=MIRROR),
        optim=OptimConfig(lr=1e-4, weight_decay=1e-4, schedule=Steps(at=(2 / 3,))),
        steps=5_970,  # 30 epochs of 795 frames, 4 frames a step
        batch_size=1,
        evaluate_every=995,
        protocols=("monoscene",),
        num_workers=4,
    )


def b7_kitti() -> Recipe:
    """The published shapes on SemanticKITTI: EfficientNet-B7, 370 x 1220, 64 channels at 0.4 m, scores at 0.2 m."""
    system = MonoSceneConfig(
        taxonomy="semantickitti",
        grid=KITTI_GRID,
        lift_stride=(2, 2, 2),
        image=_b7(64),
        volume=VolumeUNetConfig(widths=(64, 128, 256)),
        head=DilatedHeadConfig(fine=32),
        losses=MonoSceneLossConfig(
            voxels=replace(_VOXELS, class_weights=inverse_log_weights(SEMANTICKITTI_VOXEL_COUNTS))
        ),
    )
    return Recipe(
        name="monoscene.b7_kitti",
        system=system,
        data=DataConfig(image_size=(370, 1220), load_depth=False, augment=MIRROR, camera_shift=False),
        optim=OptimConfig(lr=1e-4, weight_decay=1e-4, schedule=Steps(at=(2 / 3,))),
        steps=28_755,  # 30 epochs of 3,834 frames, 4 frames a step
        batch_size=1,
        evaluate_every=4_793,
        protocols=("monoscene",),
        num_workers=4,
    )
