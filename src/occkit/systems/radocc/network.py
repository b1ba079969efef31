"""RadOcc's two networks: the LiDAR + camera teacher, and the camera student with what it learns from the teacher."""

from dataclasses import dataclass, field, replace
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from occkit.data.transforms import mirror_cameras
from occkit.errors import ConfigError
from occkit.geometry import VoxelGrid
from occkit.losses import distill_features, distill_logits
from occkit.losses.ray_distillation import RayDistillConfig, distill_along_rays
from occkit.nn.lidar import FuseLidarConfig, LidarEncoderConfig, PillarEncoderConfig
from occkit.samples import Batch, Prediction, Teaching
from occkit.systems.lift import Lift, LiftConfig


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
        inherited = super().conditional_parameters
        return (*inherited, "lidar.", "fusion.") if self.config.image_steps else inherited

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
    logits_over: Literal["classes", "x"] = "classes"
    """What that divergence compares: each voxel's classes; or, as the public code's baseline does, each row of voxels
    along x, class by class and everywhere, for reproduction."""
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
        return (*prefixes, "adapter.") if self.config.student.image_steps else prefixes

    def forward(self, batch: Batch) -> Prediction:
        """Predict from the images; neither labels nor the teacher are looked at."""
        prediction: Prediction = self.student(batch)
        if self.training or not self.config.test_flips:
            return prediction
        probability = prediction.logits.softmax(dim=1)
        for x, y in self.config.test_flips:
            axes = [axis for axis, flip in ((2, x), (3, y)) if flip]
            probability = probability + self.student(mirror(batch, x=x, y=y)).logits.softmax(dim=1).flip(axes)
        mean = probability / (1 + len(self.config.test_flips))
        # A class that every view rules out keeps a finite score.
        return replace(prediction, logits=mean.clamp(min=torch.finfo(mean.dtype).tiny).log())

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
            if self.config.logits_over == "x":
                value = distill_logits(prediction.logits.transpose(1, 2), teaching.logits.transpose(1, 2))
            else:
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

    What `occkit.data.transforms.flip_volume` does to one sample, for what a camera model looks at: labels, points and a
    teacher's outputs are left out.
    """
    cameras = mirror_cameras(batch.cameras, batch.grid, x=x, y=y)
    return replace(batch, cameras=cameras, occupancy=None, points=None, teaching=None)
