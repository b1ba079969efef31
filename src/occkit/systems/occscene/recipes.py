"""The trainings of OccScene: a small street on two cores, and Stable Diffusion's sizes."""

from dataclasses import replace
from typing import Literal

from occkit.data import DataConfig
from occkit.data.nyuv2 import NYUV2_GRID
from occkit.geometry import VoxelGrid
from occkit.losses import VoxelLossConfig, inverse_power_weights
from occkit.nn.alignment import CameraEncodingConfig, DualAlignmentConfig
from occkit.nn.backbones import SmallConvNetConfig
from occkit.nn.blocks import GroupNormConfig
from occkit.nn.depth import DepthBins, DepthNetConfig
from occkit.nn.diffusion import DenoiserConfig
from occkit.nn.heads import VolumeHeadConfig
from occkit.nn.image_codecs import PixelCodecConfig, VaeCodecConfig
from occkit.nn.necks import ConcatNeckConfig
from occkit.nn.noise_schedules import CosineNoiseConfig, LinearNoiseConfig
from occkit.nn.prompt_encoders import ClipPromptConfig, WordPromptConfig
from occkit.nn.volumes import VolumeNetConfig
from occkit.systems.lift import NANO_KITTI_GRID, LiftConfig, LiftLossConfig, r50_kitti
from occkit.systems.lift import nano as nano_lift
from occkit.systems.monoscene import NYUV2_WEIGHTS
from occkit.systems.occscene.network import OccSceneConfig
from occkit.systems.occscene.stages import AlignConfig, ApartConfig, ClipConfig, MutualConfig, StageConfig
from occkit.taxonomy import OCC3D_VOXEL_COUNTS
from occkit.training.optim import Constant, OptimConfig
from occkit.training.recipe import Recipe
from occkit.world.nyuv2 import room_caption_words
from occkit.world.recording import caption_words

Place = Literal["street", "room"]
"""Where the small trainings take place: a street seen by one camera (preset front-nano), or NYUv2's rooms."""
FRONT_GRID = VoxelGrid.from_range((0, -16, -1), (32, 16, 5.4), 0.8)
"""What lies ahead in 40 x 40 x 8 voxels of 0.8 m: the world's front-nano preset."""
PIXEL_MEAN, PIXEL_SCALE = -0.2, 2.5
"""Of the world's pixels, streets and rooms alike, whose values of -1..1 have deviations of 0.37 and 0.46."""
MIDDLE_LEVELS, LAYOUT_LEVELS = (2.0, 2.0), (3.0, 1.5)
"""Noise levels that are learnt from: those of the middle, and higher ones for who learns to follow a layout."""
_GROUPS = GroupNormConfig()
_VOXELS = VoxelLossConfig(lovasz=0.0, semantic_affinity=1.0, geometric_affinity=1.0, mask_camera_in_training=False)
_STREET_WORDS, _ROOM_WORDS = caption_words(), room_caption_words()
_DEPTHS = {"street": (1.0, 37.0, 1.5), "room": (0.4, 5.2, 0.2)}
"""First and last depth of the bins, and their width, metres."""


def _perception(place: Place, *, channels: int, stride: tuple[int, int, int]) -> LiftConfig:
    """Return the small network in the loop: depth-aware lifting into `stride` voxels a cell."""
    street = place == "street"
    start, stop, step = _DEPTHS[place]
    return LiftConfig(
        taxonomy="occ3d" if street else "nyuv2",
        grid=FRONT_GRID if street else NYUV2_GRID,
        lift_stride=stride,
        backbone=SmallConvNetConfig(widths=(16, 32, 48), blocks=(0, 1, 1), out_stages=(1, 2), norm=_GROUPS),
        neck=ConcatNeckConfig(channels=48, norm=_GROUPS),
        depth=DepthNetConfig(
            bins=DepthBins(start=start, stop=stop, step=step),
            context_channels=channels,
            hidden=32,
            depth_blocks=1,
            norm=_GROUPS,
        ),
        head=VolumeHeadConfig(
            net=VolumeNetConfig(
                widths=(channels, 2 * channels), blocks=(1, 1), strides=(1, 2), channels=channels, norm=_GROUPS
            ),
            hidden=channels,
        ),
        losses=LiftLossConfig(
            voxels=replace(
                _VOXELS,
                class_weights=inverse_power_weights(OCC3D_VOXEL_COUNTS, power=0.1) if street else NYUV2_WEIGHTS,
            ),
            depth=0.5,
            depth_kind="categorical",
        ),
    )


def _debug_system() -> OccSceneConfig:
    perception = replace(
        _perception("street", channels=8, stride=(4, 4, 4)),
        taxonomy="semantickitti",
        grid=NANO_KITTI_GRID,
        losses=LiftLossConfig(voxels=replace(_VOXELS, class_weights=None), depth=0.5, depth_kind="categorical"),
        backbone=SmallConvNetConfig(widths=(8, 16), blocks=(0, 0), out_stages=(1,), norm=_GROUPS),
        neck=ConcatNeckConfig(channels=16, norm=_GROUPS),
        depth=DepthNetConfig(
            bins=DepthBins(start=2.0, stop=50.0, step=8.0), context_channels=8, hidden=16, depth_blocks=1, norm=_GROUPS
        ),
    )
    return OccSceneConfig(
        perception=perception,
        prompts=WordPromptConfig(words=_STREET_WORDS, width=16, layers=1, heads=2),
        codec=PixelCodecConfig(square=4),
        denoiser=DenoiserConfig(
            channels=(16, 32),
            attention=(False, True),
            heads=(2, 4),
            layers=1,
            text_width=16,
            norm_groups=8,
            temporal=True,
            across_cameras=True,
        ),
        alignment=DualAlignmentConfig(encoding=CameraEncodingConfig(channels=4, depths=4)),
        clip=ClipConfig(num_past=1, volumes="each"),
    )


def debug() -> Recipe:
    """Seconds on a CPU: two frames of a tiny network with both gradient routes, to see that everything runs."""
    return Recipe(
        name="occscene.debug",
        system=_debug_system(),
        data=DataConfig(image_size=(32, 88), num_past=1),
        optim=OptimConfig(lr=5e-3, clip_norm=1.0, schedule=Constant()),
        steps=20,
        batch_size=2,
        evaluate_every=20,
        protocols=("semantickitti",),
        max_train_frames=8,
        max_val_frames=4,
    )


def nano_system(place: Place, stage: StageConfig, *, channels: int = 16) -> OccSceneConfig:
    """Return the small system in a stage: one image of 32 x 88 (street) or 48 x 64 pixels (room), drawn as pixels.

    Args:
        place: where.
        stage: what learns.
        channels: of perception's volume.
    """
    street = place == "street"
    near, far, _ = _DEPTHS[place]
    return OccSceneConfig(
        perception=_perception(place, channels=channels, stride=(2, 2, 2) if street else (4, 4, 4)),
        prompts=WordPromptConfig(words=_STREET_WORDS if street else _ROOM_WORDS),
        codec=PixelCodecConfig(square=2, mean=PIXEL_MEAN, scale=PIXEL_SCALE),
        noise=CosineNoiseConfig(focus=LAYOUT_LEVELS if isinstance(stage, AlignConfig) else MIDDLE_LEVELS),
        denoiser=DenoiserConfig(
            channels=(32, 48, 64),
            attention=(False, True, True),
            heads=(2, 2, 2),
            layers=1,
            text_width=64,
            norm_groups=16,
            sites=(1, 2),
        ),
        alignment=DualAlignmentConfig(encoding=CameraEncodingConfig(near=near, far=far)),
        stage=stage,
    )


def nano_of(place: Place, name: str, system: OccSceneConfig, *, steps: int, lr: float, batch_size: int = 4) -> Recipe:
    """Return the small training of a system, named `nano_<place>` and, after that, `name`."""
    return Recipe(
        name="occscene." + "_".join(filter(None, ("nano", place, name))),
        system=system,
        data=DataConfig(image_size=(32, 88) if place == "street" else (48, 64), num_past=system.clip.num_past),
        optim=OptimConfig(lr=lr, muon_lr=10 * lr, warmup_steps=50, clip_norm=1.0),
        steps=steps,
        batch_size=batch_size,
        ema_decay=0.995,
        evaluate_every=steps,
        protocols=("occ3d",) if place == "street" else ("monoscene",),
        max_val_frames=100,
    )


def nano_perception(place: Place) -> Recipe:
    """Stage 0, first half: perception on photographs; in rooms half as many a step, for ten times the voxels each."""
    system = nano_system(place, ApartConfig(generation=False))
    return nano_of(place, "perception", system, steps=1200, lr=2e-3, batch_size=8 if place == "street" else 4)


def nano_denoiser(place: Place) -> Recipe:
    """Stage 0, second half: the denoiser on photographs and their text; `--start` with a run of the first."""
    system = nano_system(place, ApartConfig(perception=False))
    return nano_of(place, "denoiser", system, steps=4000, lr=2e-3, batch_size=8)


def nano_align(place: Place) -> Recipe:
    """Stage 1: the denoiser learns to use an occupancy; `--start` with a run of `nano_denoiser`."""
    return nano_of(place, "align", nano_system(place, AlignConfig()), steps=1500, lr=2e-3, batch_size=8)


def nano_mutual(place: Place) -> Recipe:
    """Stage 2: both learn from each other; `--start` with a run of stage 1."""
    return nano_of(place, "", nano_system(place, MutualConfig()), steps=600, lr=5e-4)


def nano_street_perception() -> Recipe:
    """Stage 0 of the small street, first half."""
    return nano_perception("street")


def nano_street_denoiser() -> Recipe:
    """Stage 0 of the small street, second half; `--start` with a run of the first."""
    return nano_denoiser("street")


def nano_street_align() -> Recipe:
    """Stage 1 of the small street; `--start` with a run of stage 0, its second half."""
    return nano_align("street")


def nano_street() -> Recipe:
    """Stage 2 of the small street; `--start` with a run of stage 1."""
    return nano_mutual("street")


def nano() -> Recipe:
    """`nano_street`, by the name that every system has."""
    return replace(nano_street(), name="occscene.nano")


def nano_street_clip() -> Recipe:
    """`nano_street` over four frames that share one occupancy; `--start` with a run of stage 1 of single frames."""
    system = nano_system("street", MutualConfig())
    system = replace(system, denoiser=replace(system.denoiser, temporal=True), clip=ClipConfig(num_past=3))
    return nano_of("street", "clip", system, steps=600, lr=5e-4, batch_size=2)


def nano_room_perception() -> Recipe:
    """Stage 0 of the small room, first half."""
    return nano_perception("room")


def nano_room_denoiser() -> Recipe:
    """Stage 0 of the small room, second half; `--start` with a run of the first."""
    return nano_denoiser("room")


def nano_room_align() -> Recipe:
    """Stage 1 of the small room; `--start` with a run of stage 0, its second half."""
    return nano_align("room")


def nano_room() -> Recipe:
    """Stage 2 of the small room; `--start` with a run of stage 1."""
    return nano_mutual("room")


def _surround(name: str, stage: StageConfig, *, steps: int, lr: float) -> Recipe:
    """Return the small street with six cameras all around: `lift.nano`'s network in the loop, 100 x 100 x 8 voxels."""
    perception = nano_lift().system
    assert isinstance(perception, LiftConfig)
    street = nano_system("street", stage)
    system = replace(
        street,
        perception=replace(perception, image_steps=300),
        denoiser=replace(street.denoiser, channels=(48, 64, 96), heads=(2, 2, 3), across_cameras=True),
        alignment=DualAlignmentConfig(encoding=CameraEncodingConfig(near=1.0, far=50.0)),
    )
    recipe = nano_of("street", name, system, steps=steps, lr=lr, batch_size=2)
    return replace(recipe, name=f"occscene.{name}")


def nano_surround_perception() -> Recipe:
    """Stage 0 of the small street with six cameras, first half."""
    return _surround("nano_surround_perception", ApartConfig(generation=False), steps=2400, lr=2e-3)


def nano_surround_denoiser() -> Recipe:
    """Stage 0 of it, second half: hours on two cores; `--start` with a run of the first."""
    return _surround("nano_surround_denoiser", ApartConfig(perception=False), steps=4000, lr=2e-3)


def nano_surround_align() -> Recipe:
    """Stage 1 of it; `--start` with a run of stage 0."""
    return _surround("nano_surround_align", AlignConfig(), steps=1500, lr=2e-3)


def nano_surround() -> Recipe:
    """Stage 2 of it; `--start` with a run of stage 1."""
    return _surround("nano_surround", MutualConfig(), steps=1200, lr=5e-4)


def stable_diffusion(perception: LiftConfig, *, near: float, far: float, clip: ClipConfig) -> OccSceneConfig:
    """Return a system of Stable Diffusion 2.1-base's sizes; its tokenizer is looked for in `sd21/tokenizer`."""
    return OccSceneConfig(
        perception=perception,
        prompts=ClipPromptConfig(tokenizer="sd21/tokenizer"),
        codec=VaeCodecConfig(),
        noise=LinearNoiseConfig(),
        denoiser=DenoiserConfig(temporal=clip.num_past > 0, checkpointing=True),
        alignment=DualAlignmentConfig(encoding=CameraEncodingConfig(channels=32, depths=32, near=near, far=far)),
        clip=clip,
    )


def sd21_street() -> Recipe:
    """Stage 2 at the paper's scale on SemanticKITTI: 256 x 896, clips of eight frames.

    `--start` with a Stable Diffusion 2.1-base folder and runs of the stages before. Untested at scale.
    """
    perception = r50_kitti().system
    assert isinstance(perception, LiftConfig)
    clip = ClipConfig(num_past=7, volumes="each")
    return _full("sd21_street", stable_diffusion(perception, near=2.0, far=52.0, clip=clip), size=(256, 896))


def sd21_room() -> Recipe:
    """Stage 2 at the paper's scale on NYUv2: 480 x 640, single images; as `sd21_street`. Untested at scale."""
    perception = r50_kitti().system
    assert isinstance(perception, LiftConfig)
    bins = DepthBins(start=0.4, stop=5.2, step=0.05)
    room = replace(
        perception,
        taxonomy="nyuv2",
        grid=NYUV2_GRID,
        lift_stride=(1, 1, 1),
        depth=replace(perception.depth, bins=bins),
    )
    recipe = _full("sd21_room", stable_diffusion(room, near=0.4, far=5.2, clip=ClipConfig()), size=(480, 640))
    return replace(recipe, protocols=("monoscene",))


def _full(name: str, system: OccSceneConfig, *, size: tuple[int, int]) -> Recipe:
    return Recipe(
        name=f"occscene.{name}",
        system=system,
        data=DataConfig(image_size=size, num_past=system.clip.num_past),
        optim=OptimConfig(
            lr=1e-4, warmup_steps=500, clip_norm=1.0, lr_factors=(("denoiser.unet.", 0.1), ("perception.", 0.2))
        ),
        steps=20_000,
        batch_size=1,
        ema_decay=0.9999,
        precision="bf16",
        evaluate_every=5_000,
        protocols=("semantickitti",),
        num_workers=4,
    )
