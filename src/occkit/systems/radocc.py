"""RadOcc: what a LiDAR + camera teacher knows, taught to a camera student along rendered rays.

Zhang et al., "RadOcc: Learning Cross-Modality Occupancy Knowledge through Rendering Assisted Distillation", AAAI 2024.

    teacher: images, LiDAR -> lifted volume + LiDAR plane -> head -> scores          `occkit train radocc.nano_teacher`
    its scores on disk, quantised; segments of the images                           `occkit teach`
    student: images -> scores; along the same rays both are rendered and compared   `occkit train radocc.nano`

What differs from the paper: the teacher's outputs are read from disk, made from frames as they are; the divergence of
where rays end is a true one, with a bin for hitting nothing (the public code takes a softmax of probabilities); the
density is that of the odds of being occupied, which a constant added to all scores does not change; the small recipes
draw rays through any pixel. Each is an option of `RayDistillConfig`. docs/radocc.md has the equations.
"""

from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from occkit.data.transforms import reflection
from occkit.errors import ConfigError
from occkit.geometry import VoxelGrid
from occkit.losses import VoxelLossConfig, distill_features, distill_logits
from occkit.losses.ray_distillation import RayDistillConfig, distill_along_rays
from occkit.nn.attention import AttentionLiftConfig
from occkit.nn.backbones import ResNetConfig, SwinConfig
from occkit.nn.depth import DepthNetConfig
from occkit.nn.heads import HeightInChannelsHeadConfig
from occkit.nn.lidar import NANO_HEIGHTS, FuseLidarConfig, LidarEncoderConfig, PillarEncoderConfig, VoxelOccupancyConfig
from occkit.nn.necks import AddNeckConfig, ConcatNeckConfig
from occkit.samples import Batch, Prediction, Teaching
from occkit.systems import lift
from occkit.systems.lift import Lift, LiftConfig
from occkit.training.claim import Claim, Difference, Lesson, World
from occkit.training.optim import OptimConfig
from occkit.training.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class TeacherConfig:
    """A camera model with LiDAR fused into its volume; it needs `DataConfig.load_points`."""

    camera: LiftConfig = field(default_factory=LiftConfig)
    """The camera branch, the head and the losses: those of a student."""
    lidar: LidarEncoderConfig = field(default_factory=PillarEncoderConfig)
    """Points to a plane of features, a cell for each column of the lifted volume."""
    fuse: FuseLidarConfig = field(default_factory=FuseLidarConfig)
    """The plane into the volume."""

    @property
    def grid(self) -> VoxelGrid:
        """Volume that the network is meant for."""
        return self.camera.grid

    @property
    def taxonomy(self) -> str:
        """Name of the classes to predict."""
        return self.camera.taxonomy

    def build(self) -> "Teacher":
        """Return the network, freshly initialised."""
        return Teacher(self)


class Teacher(Lift):
    """See `TeacherConfig`. Source: Zhang et al., "RadOcc", AAAI 2024, section 3 (teacher)."""

    def __init__(self, config: TeacherConfig) -> None:
        super().__init__(config.camera)
        heights = config.camera.grid.coarsen(config.camera.lift_stride).shape[2]
        self.lidar = config.lidar.build()
        self.fusion = config.fuse.build(self.lifted_channels, heights, self.lidar.channels)

    @property
    def conditional_parameters(self) -> tuple[str, ...]:
        """Prefixes of what learns nothing in the first `image_steps`."""
        return (*super().conditional_parameters, "lidar.", "fusion.") if self.config.image_steps else ()

    def enrich(self, volume: Float[Tensor, "b c x y z"], batch: Batch) -> Float[Tensor, "b c x y z"]:
        """Return the present volume with the LiDAR fused in.

        Raises:
            ConfigError: if the batch has no LiDAR points. A sweep without points is none to complain about.
        """
        if batch.points is None:
            raise ConfigError(
                f"Teacher: frame {batch.tokens[0]} (or one beside it) has no LiDAR points; set DataConfig.load_points, "
                "and see occkit doctor if the data set should have them"
            )
        return self.fusion(volume, self.lidar(batch.points, batch.grid.coarsen(self.config.lift_stride)))


@dataclass(frozen=True, kw_only=True)
class RadOccConfig:
    """A camera student, and what it learns from its teacher beside the labels."""

    student: LiftConfig = field(default_factory=LiftConfig)
    """The network that is left in the end, with its own losses."""
    rays: RayDistillConfig = field(default_factory=RayDistillConfig)
    """Rendered distillation: the paper's."""
    logits: float = 0.0
    """Weight of the divergence of class scores, voxel by voxel where the teacher's scene is visible (a baseline)."""
    features: float = 0.0
    """Weight of the squared difference of voxel features there, after a 1x1x1 convolution (a baseline)."""
    teacher_channels: int = 0
    """Channels of the teacher's features, for that convolution."""
    warmup_steps: int = 0
    """Steps over which what comes from the teacher rises to its weight, counted from the student's first whole step."""
    test_flips: tuple[tuple[bool, bool], ...] = ()
    """Also predict with the world mirrored along (x, y) so, and average the probabilities; the leaderboard entry."""

    def __post_init__(self) -> None:
        if self.features and self.teacher_channels < 1:
            raise ConfigError("RadOccConfig: features needs teacher_channels, as wide as the teacher's volume")

    @property
    def grid(self) -> VoxelGrid:
        """Volume that the network is meant for."""
        return self.student.grid

    @property
    def taxonomy(self) -> str:
        """Name of the classes to predict."""
        return self.student.taxonomy

    @property
    def learns_from_teacher(self) -> bool:
        """Whether any weight is set."""
        return bool(self.rays.is_used or self.logits or self.features)

    def build(self) -> "RadOcc":
        """Return the network, freshly initialised."""
        return RadOcc(self)


class RadOcc(nn.Module):
    """See `RadOccConfig`. Without a teacher's weight it is its student, to the bit."""

    def __init__(self, config: RadOccConfig) -> None:
        super().__init__()
        self.config = config
        self.student = config.student.build()
        self.adapter: nn.Conv3d | None = None
        if config.features:
            self.adapter = nn.Conv3d(self.student.volume_channels, config.teacher_channels, 1)

    @property
    def conditional_parameters(self) -> tuple[str, ...]:
        """Prefixes of what learns nothing in the student's first `image_steps`."""
        prefixes = tuple(f"student.{name}" for name in self.student.conditional_parameters)
        return (*prefixes, "adapter.") if prefixes else ()

    def forward(self, batch: Batch) -> Prediction:
        """Predict from the images; neither labels nor the teacher are looked at."""
        prediction: Prediction = self.student(batch)
        if self.training or not self.config.test_flips:
            return prediction
        probability = prediction.logits.softmax(dim=1)
        for x, y in self.config.test_flips:
            axes = [axis for axis, flip in ((2, x), (3, y)) if flip]
            probability = probability + self.student(mirror(batch, x=x, y=y)).logits.softmax(dim=1).flip(axes)
        return replace(prediction, logits=(probability / (1 + len(self.config.test_flips))).log())

    def loss(self, prediction: Prediction, batch: Batch) -> dict[str, Tensor]:
        """Return the student's losses, and what the teacher adds to them.

        Raises:
            ConfigError: if the batch lacks the teacher's outputs, the features or the segments that a weight needs.
        """
        config, images_only = self.config, self.student.images_only
        losses = self.student.loss(prediction, batch)
        if not config.learns_from_teacher:
            return losses
        if batch.teaching is None:
            raise ConfigError(
                f"RadOcc: frame {batch.tokens[0]} (or one beside it) has no teacher's output; write them with "
                "occkit teach, and set DataConfig.teaching to their folder"
            )
        if images_only:
            return losses
        share = self._share()
        taught = self._dense_losses(prediction, batch.teaching)
        if config.rays.is_used:
            # Torch's random state is that of the step (training/loop.py), so that a resumed run draws the same rays.
            seed = int(torch.randint(2**62, ()))
            generator = torch.Generator().manual_seed(seed)
            taught |= distill_along_rays(config.rays, prediction.logits, batch.teaching, batch, generator=generator)
        return losses | {name: share * value for name, value in taught.items()}

    def _share(self) -> float:
        """Return how much of the teacher's weight applies now."""
        if not self.config.warmup_steps:
            return 1.0
        done = int(self.student.trained_steps) - self.config.student.image_steps
        return min(1.0, max(0, done) / self.config.warmup_steps)

    def _dense_losses(self, prediction: Prediction, teaching: Teaching) -> dict[str, Tensor]:
        losses: dict[str, Tensor] = {}
        if self.config.logits:
            value = distill_logits(prediction.logits, teaching.logits, mask=teaching.visible)
            losses["logits"] = self.config.logits * value
        if self.adapter is not None:
            if teaching.features is None or prediction.features is None:
                raise ConfigError(
                    "RadOcc: feature alignment needs the teacher's features; write them with occkit teach --features "
                    "and set DataConfig.teacher_features"
                )
            mine = self.adapter(prediction.features)
            # A larger voxel counts if anything in it is seen.
            size = tuple(mine.shape[2:])
            mask = F.adaptive_max_pool3d(teaching.visible[:, None].float(), size)[:, 0] > 0
            losses["features"] = self.config.features * distill_features(mine, teaching.features, mask=mask)
        return losses


def mirror(batch: Batch, *, x: bool, y: bool) -> Batch:
    """Return the inputs of a batch with the reference frame mirrored about the middle of its grid.

    What `occkit.data.transforms.flip_volume` does to one sample, without labels: camera poses become `F @ pose`.
    """
    matrix = reflection(batch.grid, x=x, y=y)
    poses = batch.cameras.ego_from_camera
    moved = (matrix.to(poses.device) @ poses.double()).to(poses)
    return replace(
        batch,
        cameras=replace(batch.cameras, ego_from_camera=moved),
        occupancy=None,
        points=None,
        teaching=None,
    )


TEACHING = "teaching/radocc"
"""Where the recipes look for the teacher's outputs, below the data's folder."""
SEGMENTS = "segments/simulated"
"""Where the small recipes look for segments."""
PERFECT_SEGMENTS = "segments/perfect"
"""Where the recipe that shows what better segments would give looks for them."""
NANO_CHANNELS = 30
"""Channels of the volume that `lift.nano` lifts, and its teacher too."""


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
    system = replace(_student(recipe), image_steps=200)
    return replace(recipe, system=system, steps=500, evaluate_every=None)


def nano_teacher() -> Recipe:
    """`lift.nano` with LiDAR: the occupancy of each voxel through a small 2D network, fused into the lifted volume."""
    base = _shorter(lift.nano())
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
        rays=rays or RayDistillConfig(),
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
    return _taught("nano", RayDistillConfig(termination=0.1, semantics=0.1, affinity=1.0))


def _nano_rays(num_rays: int) -> Recipe:
    base = nano()
    assert isinstance(base.system, RadOccConfig)
    system = replace(base.system, rays=replace(base.system.rays, num_rays=num_rays))
    return replace(base, name=f"radocc.nano_rays_{num_rays}", system=system)


def nano_rays_300() -> Recipe:
    """`nano` with a fifth of the rays."""
    return _nano_rays(300)


def nano_rays_6000() -> Recipe:
    """`nano` with four times the rays."""
    return _nano_rays(6000)


def nano_perfect_segments() -> Recipe:
    """`nano` with the true segments of the world: what a better segmenter could give."""
    base = nano()
    return replace(base, name="radocc.nano_perfect_segments", data=replace(base.data, segments=PERFECT_SEGMENTS))


def nano_rdc() -> Recipe:
    """`nano` with nothing but where rays end."""
    return _taught("nano_rdc", RayDistillConfig(termination=0.1))


def nano_rsc() -> Recipe:
    """`nano` with nothing but what rays show."""
    return _taught("nano_rsc", RayDistillConfig(semantics=0.1, affinity=1.0))


def nano_depth_map() -> Recipe:
    """Rendered depth maps instead of distributions: what the paper advises against."""
    return _taught("nano_depth_map", RayDistillConfig(depth=0.1))


def nano_double_softmax() -> Recipe:
    """`nano_rdc` with the termination loss of the public code, for reproduction."""
    return _taught("nano_double_softmax", RayDistillConfig(termination=100.0, double_softmax=True))


def nano_logits() -> Recipe:
    """Scores voxel by voxel, correctly written: the strong baseline."""
    return _taught("nano_logits", logits=1.0)


def nano_features() -> Recipe:
    """Voxel features: the baseline of which the paper says that it hurts."""
    return _taught("nano_features", features=0.5)


def _few(recipe: Recipe) -> Recipe:
    """The labels of 60 of the 200 frames; the teacher, who saw all of them, speaks on the rest."""
    return replace(recipe, name=recipe.name.replace("nano", "few", 1), max_labelled_frames=60)


def few() -> Recipe:
    """`nano` with few labelled frames."""
    return _few(nano())


def few_none() -> Recipe:
    """`nano_none` with few labelled frames."""
    return _few(nano_none())


def few_logits() -> Recipe:
    """`nano_logits` with few labelled frames."""
    return _few(nano_logits())


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
            "double_softmax": nano_double_softmax,
            "logits": nano_logits,
            "features": nano_features,
            "rays_300": nano_rays_300,
            "rays_6000": nano_rays_6000,
            "perfect_segments": nano_perfect_segments,
            "few_none": few_none,
            "few_rendered": few,
            "few_logits": few_logits,
            "few_features": few_features,
        },
        lines=(
            Difference(arm="teacher", baseline="none", metric="occ3d.miou", threshold=0.1),
            *(
                line
                for regime in ("", "few_")
                for line in (
                    Difference(arm=f"{regime}rendered", baseline=f"{regime}none", metric="occ3d.miou", threshold=0.022),
                    Difference(arm=f"{regime}rendered", baseline=f"{regime}none", metric="rayiou.rayiou"),
                    Difference(arm=f"{regime}rendered", baseline=f"{regime}logits", metric="occ3d.miou"),
                    Difference(arm=f"{regime}rendered", baseline=f"{regime}features", metric="occ3d.miou"),
                )
            ),
            Difference(arm="rdc", baseline="depth_map", metric="occ3d.miou"),
        ),
        world=World(scenes=250, options=("--frames", "2")),
        lesson=Lesson(
            teacher="teacher",
            folder=TEACHING,
            features=True,
            segments={SEGMENTS: "simulated", PERFECT_SEGMENTS: "perfect"},
        ),
        seeds=3,
    )
