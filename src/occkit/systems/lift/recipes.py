"""The trainings of lift, from seconds on a laptop to the published shapes."""

from dataclasses import replace

from occkit.data import AugmentConfig, DataConfig
from occkit.geometry import KITTI_GRID, VoxelGrid
from occkit.losses import (
    VoxelLossConfig,
    inverse_power_weights,
)
from occkit.nn.backbones import ResNetConfig, SmallConvNetConfig
from occkit.nn.blocks import BatchNormConfig, GroupNormConfig
from occkit.nn.depth import DepthBins, DepthNetConfig
from occkit.nn.heads import HeightInChannelsHeadConfig, SkipVolumeHeadConfig, VolumeHeadConfig
from occkit.nn.lifting import GatherLiftConfig, SplatLiftConfig
from occkit.nn.necks import AddNeckConfig, ConcatNeckConfig
from occkit.nn.stereo import StereoConfig
from occkit.nn.temporal import ConcatTemporalConfig
from occkit.nn.volumes import GroundNetConfig, VolumeNetConfig
from occkit.systems.lift.network import LiftConfig, LiftLossConfig
from occkit.taxonomy import OCC3D_VOXEL_COUNTS
from occkit.training.optim import OptimConfig
from occkit.training.recipe import Recipe

NANO_GRID = VoxelGrid.from_range((-40, -40, -1), (40, 40, 5.4), 0.8)
"""Occ3D's box in 100 x 100 x 8 voxels of 0.8 m: the nano worlds."""
NANO_KITTI_GRID = VoxelGrid.from_range((0, -25.6, -2), (51.2, 25.6, 4.4), 0.8)
"""SemanticKITTI's box in 64 x 64 x 8 voxels of 0.8 m."""
_GROUPS = GroupNormConfig()
MIRROR = AugmentConfig(scale=(0.0, 0.0), rotate_degrees=0.0, mirror_image=0.0, flip_x=0.0, flip_y=0.5)
"""Left and right of the world swapped in half of the steps; forwards and backwards are not alike on a street."""


def debug() -> Recipe:
    """Seconds on a CPU: a tiny network on coarse voxels, to see that everything runs."""
    system = LiftConfig(
        grid=NANO_GRID,
        lift_stride=(4, 4, 2),
        backbone=SmallConvNetConfig(widths=(8, 16), blocks=(0, 0), out_stages=(1,)),
        neck=ConcatNeckConfig(channels=16, norm=_GROUPS),
        depth=DepthNetConfig(
            bins=DepthBins(start=1.0, stop=57.0, step=4.0), context_channels=8, hidden=16, depth_blocks=1, norm=_GROUPS
        ),
        head=VolumeHeadConfig(
            net=VolumeNetConfig(widths=(8, 16), blocks=(1, 1), strides=(1, 2), channels=8, norm=_GROUPS), hidden=16
        ),
        losses=LiftLossConfig(voxels=VoxelLossConfig(semantic_affinity=0.1, geometric_affinity=0.1)),
    )
    return Recipe(
        name="lift.debug",
        system=system,
        data=DataConfig(image_size=(32, 88)),
        optim=OptimConfig(lr=3e-3),
        steps=20,
        batch_size=2,
        evaluate_every=20,
        max_train_frames=8,
        max_val_frames=4,
    )


def nano() -> Recipe:
    """Minutes on two cores: six 64 x 176 images, 100 x 100 x 8 voxels, two frames a step.

    Lifted into columns of 1.6 m, whose heights become channels of a 2D network; it writes four columns of 0.8 m each.

    Batch normalisation: twelve images are batch enough, and with group normalisation the depth network starves.
    """
    system = LiftConfig(
        grid=NANO_GRID,
        lift_stride=(2, 2, 1),
        backbone=SmallConvNetConfig(
            widths=(16, 32, 64, 96), blocks=(0, 1, 1, 1), out_stages=(1, 2, 3), norm=BatchNormConfig()
        ),
        neck=ConcatNeckConfig(channels=48),
        depth=DepthNetConfig(
            bins=DepthBins(start=1.0, stop=57.0, step=1.0), context_channels=28, hidden=48, depth_blocks=1
        ),
        image_classes=True,
        image_steps=450,
        lift=GatherLiftConfig(interpolation="nearest"),
        head=HeightInChannelsHeadConfig(
            net=GroundNetConfig(widths=(64, 96), blocks=(1, 1), strides=(1, 2), channels=48),
            num_heights=8,
            hidden=192,
            upsample=2,
        ),
        losses=LiftLossConfig(
            voxels=VoxelLossConfig(class_weights=inverse_power_weights(OCC3D_VOXEL_COUNTS, power=0.1)),
            depth=0.5,
            depth_kind="categorical",
            image_classes=0.5,
        ),
    )
    return Recipe(
        name="lift.nano",
        system=system,
        data=DataConfig(image_size=(64, 176), augment=MIRROR),
        # Betas: a short memory, as the head's first gradients come after many steps without one.
        optim=OptimConfig(lr=4e-3, betas=(0.9, 0.99), muon_lr=0.02, warmup_steps=50, clip_norm=10.0),
        steps=1200,
        batch_size=2,
        evaluate_every=1200,
        protocols=("occ3d", "rayiou"),
        max_train_frames=200,
    )


def _change(recipe: Recipe, name: str, system: LiftConfig, **data: int) -> Recipe:
    return replace(recipe, name=f"lift.{name}", system=system, data=replace(recipe.data, **data))


def _nano_system() -> LiftConfig:
    system = nano().system
    assert isinstance(system, LiftConfig)
    return system


def nano_no_mask() -> Recipe:
    """`nano`, learning from all voxels: unseen space is taught too."""
    system = _nano_system()
    losses = replace(system.losses, voxels=replace(system.losses.voxels, mask_camera_in_training=False))
    return _change(nano(), "nano_no_mask", replace(system, losses=losses))


def nano_stereo() -> Recipe:
    """`nano`, its depth matched with the frame before."""
    system = replace(_nano_system(), num_past=1, stereo=StereoConfig(stage=0, channels=16))
    return _change(nano(), "nano_stereo", system, num_past=1)


def nano_volume() -> Recipe:
    """`nano` with a 3D head: lifted at 0.8 m, a 3D network at 1.6 m, fine voxels carried past it."""
    head = SkipVolumeHeadConfig(
        net=VolumeNetConfig(widths=(32, 64, 96), blocks=(1, 1, 1), strides=(1, 2, 2), channels=32)
    )
    return _change(nano(), "nano_volume", replace(_nano_system(), lift_stride=(1, 1, 1), head=head))


def nano_kitti() -> Recipe:
    """`nano` for SemanticKITTI's layout: the left colour camera, 64 x 64 x 8 voxels of 0.8 m, no camera mask."""
    system = _nano_system()
    system = replace(
        system,
        taxonomy="semantickitti",
        grid=NANO_KITTI_GRID,
        depth=replace(system.depth, context_channels=30),
        losses=replace(system.losses, voxels=VoxelLossConfig(mask_camera_in_training=False)),
    )
    recipe = _change(nano(), "nano_kitti", system)
    return replace(recipe, data=replace(recipe.data, image_size=(64, 208)), protocols=("semantickitti",))


def r50_occ3d() -> Recipe:
    """FlashOcc's shapes: ResNet-50, 256 x 704, height summed while lifting, 2D network, height from channels."""
    system = LiftConfig(
        lift_stride=(1, 1, 16),
        backbone=ResNetConfig(depth=50, out_stages=(3, 4)),
        neck=AddNeckConfig(channels=256),
        depth=DepthNetConfig(context_channels=64, hidden=256),
        lift=SplatLiftConfig(),
        head=HeightInChannelsHeadConfig(),
        losses=LiftLossConfig(voxels=VoxelLossConfig(lovasz=0.0)),
    )
    return Recipe(
        name="lift.r50_occ3d",
        system=system,
        data=DataConfig(image_size=(256, 704)),
        optim=OptimConfig(lr=1e-4, warmup_steps=200, clip_norm=5.0),
        steps=21_100,  # 24 epochs of 28,130 frames, 32 frames a step: 8 processes of 4
        batch_size=4,
        ema_decay=0.999,
        precision="bf16",
        evaluate_every=5_275,
        protocols=("occ3d", "rayiou"),
        num_workers=4,
    )


def r50_occ3d_stereo() -> Recipe:
    """BEVDet-Occ's shapes: ResNet-50, 256 x 704, two frames with stereo depth, 3D encoder at 200 x 200 x 16."""
    system = LiftConfig(
        backbone=ResNetConfig(depth=50, out_stages=(1, 3, 4)),
        neck=AddNeckConfig(channels=256),
        neck_from=1,
        depth=DepthNetConfig(context_channels=32, hidden=256),
        lift=SplatLiftConfig(),
        num_past=1,
        temporal=ConcatTemporalConfig(),
        stereo=StereoConfig(stage=0),
        head=VolumeHeadConfig(),
        losses=LiftLossConfig(voxels=VoxelLossConfig(lovasz=0.0)),
    )
    return _change(r50_occ3d(), "r50_occ3d_stereo", system, num_past=1)


def r50_kitti() -> Recipe:
    """ResNet-50 on SemanticKITTI: the left colour camera, lifted at 0.4 m, scores at 0.2 m, affinity losses."""
    system = LiftConfig(
        taxonomy="semantickitti",
        grid=KITTI_GRID,
        lift_stride=(2, 2, 2),
        backbone=ResNetConfig(depth=50, out_stages=(2, 3, 4)),
        neck=ConcatNeckConfig(channels=256),
        depth=DepthNetConfig(bins=DepthBins(start=2.0, stop=58.0, step=0.5), context_channels=64, hidden=256),
        lift=GatherLiftConfig(),
        head=VolumeHeadConfig(net=VolumeNetConfig(widths=(64, 128, 256), blocks=(2, 2, 2), channels=64)),
        losses=LiftLossConfig(
            voxels=VoxelLossConfig(
                lovasz=0.0, semantic_affinity=1.0, geometric_affinity=1.0, mask_camera_in_training=False
            )
        ),
    )
    return Recipe(
        name="lift.r50_kitti",
        system=system,
        data=DataConfig(image_size=(368, 1216)),
        optim=OptimConfig(lr=2e-4, warmup_steps=500, clip_norm=35.0),
        steps=23_000,  # 24 epochs of 3,834 frames, 4 frames a step
        batch_size=1,
        evaluate_every=2_875,
        protocols=("semantickitti",),
        precision="bf16",
        num_workers=4,
    )
