"""OccNeRF's recipes, alone and with EasyOcc's labels plugged in."""

from dataclasses import replace

from occkit.data import DataConfig
from occkit.geometry import VoxelGrid
from occkit.losses import VoxelLossConfig, inverse_power_weights
from occkit.nn.backbones import ResNetConfig, SmallConvNetConfig
from occkit.nn.blocks import BatchNormConfig, GroupNormConfig
from occkit.nn.camera_volume import CameraVolumeConfig
from occkit.nn.heads import HeightInChannelsHeadConfig, HourglassHeadConfig, VolumeHeadConfig
from occkit.nn.necks import ConcatNeckConfig
from occkit.nn.volumes import GroundNetConfig, VolumeNetConfig
from occkit.systems.lift import MIRROR, NANO_GRID
from occkit.systems.occnerf.network import OccNerfConfig, OccNerfLossConfig
from occkit.systems.occnerf.rendering import RenderConfig
from occkit.taxonomy import OCC3D_VOXEL_COUNTS
from occkit.training.optim import OptimConfig, Steps
from occkit.training.recipe import Recipe

NEAR_GRID = VoxelGrid.from_range((-19.2, -19.2, -1), (19.2, 19.2, 5.4), 0.8)
"""The middle of Occ3D's box in 48 x 48 x 8 voxels of 0.8 m: the worlds of `occkit world --radius 19.2`."""
LABELS = "labels/k13"
"""Where the recipes, and those of easyocc, look for pseudo-labels, below the data's folder."""
_GROUPS = GroupNormConfig()
VOXEL_LOSSES = VoxelLossConfig(
    class_weights=inverse_power_weights(OCC3D_VOXEL_COUNTS, power=0.1), mask_camera_in_training=False
)
"""Losses of the small recipes, in every host: weights as in `lift.nano`, all voxels."""
IMAGE_SEMANTICS = f"{LABELS}/images"
"""Where the recipes look for the classes of pixels, below the data's folder."""
# fmt: off
PIXEL_COUNTS = (
    0, 18_164_955_800, 734_218_842, 2_336_187_448, 10_996_756_106, 395_414_611, 638_889_260, 651_023_279, 117_046_208,
    985_341_947, 7_303_776_233, 43_131_984_997, 0, 9_342_674_867, 9_525_824_742, 51_204_832_885, 22_848_065_525,
    31_841_090_018,
)
# fmt: on
"""Pixels of each class that Grounded SAM sees in nuScenes' training images. Source: OccNeRF, released code."""
_IMAGE_WEIGHTS = inverse_power_weights(PIXEL_COUNTS, power=0.5)


def nano_network(num_heights: int) -> CameraVolumeConfig:
    """Return the small network for a volume of so many heights; `easyocc.nano` has it too."""
    return CameraVolumeConfig(
        backbone=SmallConvNetConfig(
            widths=(16, 32, 64, 96), blocks=(0, 1, 1, 1), out_stages=(1, 2, 3), norm=BatchNormConfig()
        ),
        neck=ConcatNeckConfig(channels=48),
        channels=32,
        head=HeightInChannelsHeadConfig(
            net=GroundNetConfig(widths=(64, 96, 128), blocks=(1, 1, 1), strides=(1, 2, 2), channels=64),
            num_heights=num_heights,
            hidden=192,
        ),
    )


def debug_network() -> CameraVolumeConfig:
    """Return the tiny network of `debug`; `easyocc.debug` has it too."""
    return CameraVolumeConfig(
        backbone=SmallConvNetConfig(widths=(8, 16), blocks=(0, 0), out_stages=(1,)),
        neck=ConcatNeckConfig(channels=16, norm=_GROUPS),
        channels=8,
        lift_stride=(2, 2, 1),
        head=VolumeHeadConfig(
            net=VolumeNetConfig(widths=(8, 16), blocks=(1, 1), strides=(2, 2), channels=8, norm=_GROUPS), hidden=16
        ),
    )


def r101_network(*, gain: bool) -> CameraVolumeConfig:
    """Return OccNeRF's network: ResNet-101 up to its third stage, 64 channels at a quarter of the image, hour-glasses.

    With instance normalisation in the neck, which is group normalisation with a channel a group.
    """
    return CameraVolumeConfig(
        backbone=ResNetConfig(depth=101, out_stages=(2, 3)),
        neck=ConcatNeckConfig(channels=512, fine_channels=256, norm=GroupNormConfig(channels_per_group=1)),
        channels=64,
        gain=gain,
        head=HourglassHeadConfig(),
    )


def debug() -> Recipe:
    """Seconds on a CPU: a tiny network on coarse voxels with every loss, to see that everything runs."""
    losses = OccNerfLossConfig(labels=1.0, sharpen_after=2)
    return Recipe(
        name="occnerf.debug",
        system=OccNerfConfig(
            grid=NANO_GRID,
            network=debug_network(),
            render=RenderConfig(size=(8, 22), spacing=2.0, near=0.2, free_bias=2.0),
            auxiliary=(0,),
            losses=losses,
        ),
        data=DataConfig(
            image_size=(32, 88),
            source_steps=(-1, 1),
            source_kind="keyframe",
            load_depth=False,
            labels=LABELS,
            image_semantics=IMAGE_SEMANTICS,
        ),
        optim=OptimConfig(lr=3e-3),
        steps=20,
        batch_size=2,
        evaluate_every=20,
        max_train_frames=8,
        max_val_frames=4,
    )


def nano() -> Recipe:
    """Minutes on two cores: 72 x 72 x 12 contracted voxels around the near ones, rendered into six 32 x 88 images.

    Sources are the camera's images half a keyframe before and after, one or two metres away.
    """
    return Recipe(
        name="occnerf.nano",
        system=OccNerfConfig(
            grid=NEAR_GRID,
            network=nano_network(12),
            render=RenderConfig(size=(32, 88), free_bias=3.0, min_weight=1e-3),
            losses=OccNerfLossConfig(image_class_weights=_IMAGE_WEIGHTS, auto_mask_after=100),
        ),
        data=DataConfig(
            image_size=(64, 176),
            source_steps=(-1, 1),
            load_depth=False,
            image_semantics=IMAGE_SEMANTICS,
            augment=MIRROR,
        ),
        optim=OptimConfig(lr=4e-3, betas=(0.9, 0.99), muon_lr=0.02, warmup_steps=50, clip_norm=10.0),
        steps=224,
        batch_size=2,
        evaluate_every=224,
        protocols=("occ3d", "occ3d-full", "rayiou"),
    )


def _nano(name: str, *, labels: float = 0.0, **render: object) -> Recipe:
    base = nano()
    assert isinstance(base.system, OccNerfConfig)
    system = replace(
        base.system,
        render=replace(base.system.render, **render),
        losses=replace(base.system.losses, labels=labels, voxels=VOXEL_LOSSES),
    )
    data = replace(base.data, labels=LABELS if labels else None)
    return replace(base, name=f"occnerf.{name}", system=system, data=data)


def nano_labels() -> Recipe:
    """`nano` with EasyOcc's labels plugged in: its rendering losses, and theirs on the voxels."""
    return _nano("nano_labels", labels=1.0)


def nano_compositing() -> Recipe:
    """`nano`, rendered by transmittance as in the paper's equation 6, not by the released code's saturating sum."""
    return _nano("nano_compositing", weights="compositing")


def nano_plain() -> Recipe:
    """`nano` without contraction: what lies outside of the box is background."""
    base = nano()
    assert isinstance(base.system, OccNerfConfig)
    system = replace(base.system, alpha=1.0, network=nano_network(8))
    return replace(base, name="occnerf.nano_plain", system=system)


def r101_occ3d() -> Recipe:
    """The published shapes: ResNet-101, 336 x 672, 300 x 300 x 24 contracted voxels, rendered at 180 x 320."""
    return Recipe(
        name="occnerf.r101_occ3d",
        system=OccNerfConfig(
            network=r101_network(gain=True), losses=OccNerfLossConfig(image_class_weights=_IMAGE_WEIGHTS)
        ),
        data=DataConfig(
            image_size=(336, 672),
            keep_aspect=False,
            source_steps=(-1, 1),
            load_depth=False,
            image_semantics=IMAGE_SEMANTICS,
        ),
        optim=OptimConfig(
            lr=1e-3, weight_decay=0.0, schedule=Steps(at=(10 / 12,)), lr_factors=(("network.backbone.", 0.1),)
        ),
        steps=42_195,  # 12 epochs of 28,130 frames, one on each of 8 processes
        precision="fp16",
        evaluate_every=1_000,
        protocols=("occ3d", "occ3d-full", "rayiou"),
        num_workers=4,
    )


def r101_occ3d_labels() -> Recipe:
    """`r101_occ3d` with EasyOcc's labels plugged in."""
    base = r101_occ3d()
    assert isinstance(base.system, OccNerfConfig)
    system = replace(base.system, losses=replace(base.system.losses, labels=1.0))
    return replace(base, name="occnerf.r101_occ3d_labels", system=system, data=replace(base.data, labels=LABELS))
