"""The trainings of OccScene: a small street on two cores, and Stable Diffusion's sizes."""

from dataclasses import replace

from occkit.data import DataConfig
from occkit.geometry import VoxelGrid
from occkit.losses import VoxelLossConfig
from occkit.nn.alignment import CameraEncodingConfig, DualAlignmentConfig
from occkit.nn.backbones import SmallConvNetConfig
from occkit.nn.blocks import GroupNormConfig
from occkit.nn.depth import DepthBins, DepthNetConfig
from occkit.nn.diffusion import DenoiserConfig
from occkit.nn.heads import VolumeHeadConfig
from occkit.nn.image_codecs import PixelCodecConfig, VaeCodecConfig
from occkit.nn.necks import ConcatNeckConfig
from occkit.nn.noise_schedules import LinearNoiseConfig
from occkit.nn.prompt_encoders import ClipPromptConfig, WordPromptConfig
from occkit.nn.volumes import VolumeNetConfig
from occkit.systems.lift import NANO_KITTI_GRID, LiftConfig, LiftLossConfig, r50_kitti
from occkit.systems.lift import nano as nano_lift
from occkit.systems.occscene.network import OccSceneConfig
from occkit.systems.occscene.stages import AlignConfig, ApartConfig, ClipConfig, MutualConfig, StageConfig
from occkit.training.optim import Constant, OptimConfig
from occkit.training.recipe import Recipe
from occkit.world.recording import caption_words

NYU_GRID = VoxelGrid(origin=(0.0, -2.4, -1.44), voxel_size=(0.08, 0.08, 0.08), shape=(60, 60, 36))
"""NYUv2's box, 4.8 x 4.8 x 2.88 m, in 60 x 60 x 36 voxels of 8 cm, before the camera."""
_GROUPS = GroupNormConfig()
_CAPTION_WORDS = caption_words()
_ROOM_WORDS = (
    *("a", "room", "with", "bed", "bedroom", "chair", "kitchen", "living", "office", "picture", "sofa", "table", "tv"),
    *("bath", "bathroom", "bookshelf", "cabinet", "ceiling", "desk", "door", "floor", "furniture", "lamp", "objects"),
    *("wall", "window", "scene", "small", "large", "nothing", "bright", "dark", "dining", "and", "of", "in", "the"),
    *map(str, range(1, 13)),
)


def _perception(grid: VoxelGrid, taxonomy: str, *, bins: DepthBins) -> LiftConfig:
    """Return the small network in the loop: depth-aware lifting of 48 channels at two voxels a cell."""
    return LiftConfig(
        taxonomy=taxonomy,
        grid=grid,
        lift_stride=(2, 2, 2),
        backbone=SmallConvNetConfig(widths=(16, 32, 48), blocks=(0, 1, 1), out_stages=(1, 2), norm=_GROUPS),
        neck=ConcatNeckConfig(channels=48, norm=_GROUPS),
        depth=DepthNetConfig(bins=bins, context_channels=24, hidden=32, depth_blocks=1, norm=_GROUPS),
        head=VolumeHeadConfig(
            net=VolumeNetConfig(widths=(24, 48), blocks=(1, 1), strides=(1, 2), channels=24, norm=_GROUPS), hidden=24
        ),
        losses=LiftLossConfig(
            voxels=VoxelLossConfig(
                lovasz=0.0, semantic_affinity=1.0, geometric_affinity=1.0, mask_camera_in_training=False
            ),
            depth=0.5,
            depth_kind="categorical",
        ),
    )


def _surround() -> LiftConfig:
    """Return `lift.nano`'s network: six cameras all around, its image network learning alone at first."""
    system = nano_lift().system
    assert isinstance(system, LiftConfig)
    return replace(system, image_steps=300)


_ROOM = _perception(NYU_GRID, "nyuv2", bins=DepthBins(start=0.4, stop=5.2, step=0.2))


def _debug_system() -> OccSceneConfig:
    street = _perception(NANO_KITTI_GRID, "semantickitti", bins=DepthBins(start=2.0, stop=50.0, step=2.0))
    perception = replace(
        street,
        lift_stride=(4, 4, 4),
        backbone=SmallConvNetConfig(widths=(8, 16), blocks=(0, 0), out_stages=(1,), norm=_GROUPS),
        neck=ConcatNeckConfig(channels=16, norm=_GROUPS),
        depth=DepthNetConfig(
            bins=DepthBins(start=2.0, stop=50.0, step=8.0), context_channels=8, hidden=16, depth_blocks=1, norm=_GROUPS
        ),
        head=VolumeHeadConfig(
            net=VolumeNetConfig(widths=(8, 16), blocks=(1, 1), strides=(1, 2), channels=8, norm=_GROUPS), hidden=16
        ),
    )
    return OccSceneConfig(
        perception=perception,
        prompts=WordPromptConfig(words=_CAPTION_WORDS, width=16, layers=1, heads=2),
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


def street_system(stage: StageConfig) -> OccSceneConfig:
    """Return the small street in a stage: six images of 32 x 88 pixels, 100 x 100 x 8 voxels of 0.8 m."""
    return OccSceneConfig(
        perception=_surround(),
        prompts=WordPromptConfig(words=_CAPTION_WORDS),
        codec=PixelCodecConfig(square=2),
        denoiser=DenoiserConfig(
            channels=(48, 64, 96),
            attention=(False, True, True),
            heads=(2, 2, 3),
            layers=1,
            text_width=64,
            norm_groups=16,
            across_cameras=True,
        ),
        alignment=DualAlignmentConfig(encoding=CameraEncodingConfig(near=1.0, far=50.0)),
        stage=stage,
    )


def room_system(stage: StageConfig) -> OccSceneConfig:
    """Return the small room in a stage: 48 x 64 pixels of one camera, 60 x 60 x 36 voxels of 8 cm."""
    street = street_system(stage)
    return replace(
        street,
        perception=_ROOM,
        prompts=WordPromptConfig(words=_ROOM_WORDS),
        denoiser=replace(street.denoiser, across_cameras=False),
        alignment=DualAlignmentConfig(encoding=CameraEncodingConfig(near=0.4, far=5.2)),
    )


def nano_of(name: str, system: OccSceneConfig, *, steps: int, lr: float) -> Recipe:
    """Return the small training of a system under a name: two streets or eight rooms a step."""
    rooms = system.taxonomy == "nyuv2"
    return Recipe(
        name=f"occscene.{name}",
        system=system,
        data=DataConfig(image_size=(48, 64) if rooms else (32, 88), num_past=system.clip.num_past),
        optim=OptimConfig(lr=lr, warmup_steps=50, clip_norm=1.0),
        steps=steps,
        batch_size=8 if rooms else 2,
        ema_decay=0.995,
        evaluate_every=steps,
        protocols=("semantickitti",) if rooms else ("occ3d",),
        max_val_frames=100,
    )


def nano_street_apart() -> Recipe:
    """Stage 0 of the small street: perception on photographs, the denoiser on text, side by side."""
    return nano_of("nano_street_apart", street_system(ApartConfig()), steps=2400, lr=1e-3)


def nano_street_align() -> Recipe:
    """Stage 1: the denoiser learns to use an occupancy; `--start` with a run of stage 0."""
    return nano_of("nano_street_align", street_system(AlignConfig()), steps=600, lr=3e-4)


def nano_street() -> Recipe:
    """Stage 2: both learn from each other; `--start` with a run of stage 1."""
    return nano_of("nano_street", street_system(MutualConfig()), steps=1200, lr=3e-4)


def nano() -> Recipe:
    """`nano_street`, by the name that every system has."""
    return replace(nano_street(), name="occscene.nano")


def nano_street_clip() -> Recipe:
    """`nano_street` over four frames that share one occupancy; `--start` with a run of stage 1 of single frames."""
    system = street_system(MutualConfig())
    system = replace(system, denoiser=replace(system.denoiser, temporal=True), clip=ClipConfig(num_past=3))
    return replace(nano_of("nano_street_clip", system, steps=1200, lr=3e-4), batch_size=1)


def nano_room_apart() -> Recipe:
    """Stage 0 of the small room."""
    return nano_of("nano_room_apart", room_system(ApartConfig()), steps=2400, lr=1e-3)


def nano_room_align() -> Recipe:
    """Stage 1 of the small room; `--start` with a run of stage 0."""
    return nano_of("nano_room_align", room_system(AlignConfig()), steps=600, lr=3e-4)


def nano_room() -> Recipe:
    """Stage 2 of the small room; `--start` with a run of stage 1."""
    return nano_of("nano_room", room_system(MutualConfig()), steps=1200, lr=3e-4)


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
        grid=NYU_GRID,
        lift_stride=(1, 1, 1),
        depth=replace(perception.depth, bins=bins),
    )
    return _full("sd21_room", stable_diffusion(room, near=0.4, far=5.2, clip=ClipConfig()), size=(480, 640))


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
