"""lift: the plain supervised camera baseline. Images -> depth-aware lifting -> voxel network -> class of every voxel.

It follows BEVDet-Occ and FlashOcc (Huang et al., "BEVDet", 2021; Li et al., "BEVDepth", AAAI 2023; Yu et al.,
"FlashOcc", 2023), and every later system of this library starts from it. What differs from the papers: past frames are
lifted straight into the present grid instead of being warped there; the depth network is told every pixel's direction
and has neither deformable convolution nor ASPP; the small recipes gather instead of splat, lift the classes that each
image cell shows, and learn depth and classes in the images first; `nano_volume` carries fine voxels past a coarse 3D
network.
"""

from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from occkit.data import AugmentConfig, DataConfig
from occkit.errors import ConfigError
from occkit.geometry import KITTI_GRID, OCC3D_GRID, Cameras, VoxelGrid
from occkit.losses import (
    VoxelLossConfig,
    classes_of_cells,
    cross_entropy,
    depth_binary_cross_entropy,
    depth_cross_entropy,
    inverse_power_weights,
    nearest_depth_per_cell,
    training_mask,
    voxel_losses,
)
from occkit.nn.backbones import BackboneConfig, ResNetConfig, SmallConvNetConfig, normalise_images
from occkit.nn.blocks import BatchNormConfig, GroupNormConfig
from occkit.nn.depth import DepthBins, DepthNetConfig
from occkit.nn.heads import HeadConfig, HeightInChannelsHeadConfig, SkipVolumeHeadConfig, VolumeHeadConfig
from occkit.nn.lifting import GatherLiftConfig, LiftKindConfig, SplatLiftConfig
from occkit.nn.necks import AddNeckConfig, ConcatNeckConfig, NeckConfig
from occkit.nn.stereo import CostVolume, StereoConfig
from occkit.nn.temporal import ConcatTemporalConfig
from occkit.nn.volumes import GroundNetConfig, VolumeNetConfig
from occkit.samples import Batch, Occupancy, Prediction
from occkit.taxonomy import OCC3D_VOXEL_COUNTS, TAXONOMIES, Taxonomy
from occkit.training.claim import Claim, Difference, Ratio, World
from occkit.training.optim import OptimConfig
from occkit.training.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class LiftLossConfig:
    """Weights of the losses; a loss of weight 0 is not computed."""

    voxels: VoxelLossConfig = field(default_factory=VoxelLossConfig)
    """Losses of the class scores against the label."""
    depth: float = 0.05
    """Depth distribution against LiDAR depth."""
    depth_kind: Literal["binary", "categorical"] = "binary"
    """Binary cross-entropy of each bin (BEVDepth), or cross-entropy over the bins (ours)."""
    image_classes: float = 0.0
    """Cross-entropy of the class that an image cell shows: the label at its LiDAR point."""


@dataclass(frozen=True, kw_only=True)
class LiftConfig:
    """Every choice of the network and its losses."""

    taxonomy: str = "occ3d"
    """Name of the classes to predict."""
    grid: VoxelGrid = OCC3D_GRID
    """Volume that the network is meant for; at run time the batch's own grid counts."""
    lift_stride: tuple[int, int, int] = (1, 1, 1)
    """Voxels of the label in one lifted voxel along x, y, z; the scores are interpolated back."""
    backbone: BackboneConfig = field(default_factory=SmallConvNetConfig)
    """Image network."""
    neck: NeckConfig = field(default_factory=ConcatNeckConfig)
    """Joins the backbone's maps."""
    neck_from: int = 0
    """First of the backbone's maps that the neck joins; finer ones are for stereo alone."""
    depth: DepthNetConfig = field(default_factory=DepthNetConfig)
    """Depth distribution and context."""
    image_classes: bool = False
    """Let the first context channels score the class that each cell shows, and lift their softmax (ours)."""
    image_steps: int = 0
    """First training passes that teach the image network alone, depth and classes; each is cheap (ours)."""
    lift: LiftKindConfig = field(default_factory=GatherLiftConfig)
    """From pixels to voxels."""
    num_past: int = 0
    """Past frames that the network looks at."""
    temporal: ConcatTemporalConfig | None = None
    """Fusion of the present and past volumes; None looks at past frames for stereo only."""
    stereo: StereoConfig | None = None
    """Depth from matching the previous frame; None is monocular."""
    head: HeadConfig = field(default_factory=VolumeHeadConfig)
    """From the lifted volume to class scores."""
    losses: LiftLossConfig = field(default_factory=LiftLossConfig)
    """Loss weights."""

    def __post_init__(self) -> None:
        if self.taxonomy not in TAXONOMIES:
            raise ConfigError(f"LiftConfig.taxonomy: {self.taxonomy!r} is none of {', '.join(TAXONOMIES)}")
        uses_past = self.temporal is not None or self.stereo is not None
        if (self.num_past > 0) != uses_past:
            raise ConfigError(
                f"LiftConfig: past frames (num_past is {self.num_past}) and their use (temporal, stereo) go together"
            )
        if self.losses.image_classes and not self.image_classes:
            raise ConfigError("LiftConfig: losses.image_classes has nothing to learn; set image_classes to True")
        if self.image_steps and not (self.losses.depth or self.losses.image_classes):
            raise ConfigError("LiftConfig: image_steps needs losses.depth or losses.image_classes to learn from")
        if self.image_classes and self.depth.context_channels < TAXONOMIES[self.taxonomy].num_classes:
            raise ConfigError(
                f"LiftConfig: image_classes takes {TAXONOMIES[self.taxonomy].num_classes} of the context channels, "
                f"there are {self.depth.context_channels}; raise depth.context_channels"
            )
        weights = self.losses.voxels.class_weights
        if weights is not None and len(weights) != TAXONOMIES[self.taxonomy].num_classes:
            raise ConfigError(
                f"LiftConfig.losses.voxels.class_weights: {len(weights)} weights for taxonomy {self.taxonomy}"
            )

    def build(self) -> "Lift":
        """Return the network, freshly initialised."""
        return Lift(self)


class Views(NamedTuple):
    """What the images of one time say, at feature resolution."""

    context: Float[Tensor, "b n c h w"]
    """Features to lift; the class probabilities first where the network scores classes in the images."""
    depth_logits: Float[Tensor, "b n d h w"]
    """Scores of the depth bins."""
    class_logits: Float[Tensor, "b n k h w"] | None
    """Scores of the classes, or None."""


class Lift(nn.Module):
    """See `LiftConfig`. Takes any number of cameras, any rig and any grid (the height of a 2D head is fixed)."""

    def __init__(self, config: LiftConfig) -> None:
        super().__init__()
        self.config = config
        self.taxonomy: Taxonomy = TAXONOMIES[config.taxonomy]
        bins = config.depth.bins
        self.backbone = config.backbone.build()
        self.neck = config.neck.build(self.backbone.channels[config.neck_from :])
        self.stereo: CostVolume | None = None
        if config.stereo is not None:
            stage = config.stereo.stage
            shrink = self.backbone.strides[config.neck_from] // self.backbone.strides[stage]
            self.stereo = CostVolume(config.stereo, bins, in_channels=self.backbone.channels[stage], shrink=shrink)
        self.depth = config.depth.build(self.neck.channels, stereo_channels=bins.count if self.stereo else 0)
        self.lift = config.lift.build(bins, config.depth.context_channels)
        channels = self.lifted_channels = config.depth.context_channels + self.lift.extra_channels
        self.temporal = None
        if config.temporal is not None:
            self.temporal = config.temporal.build(channels, 1 + config.num_past)
            channels = self.temporal.out_channels
        self.volume_channels = channels
        if isinstance(config.head, HeightInChannelsHeadConfig):
            channels *= config.grid.coarsen(config.lift_stride).shape[2]
        self.head = config.head.build(channels, self.taxonomy.num_classes)
        self.trained_steps: Tensor
        self.register_buffer("trained_steps", torch.zeros((), dtype=torch.int64))

    @property
    def conditional_parameters(self) -> tuple[str, ...]:
        """Prefixes of what learns nothing in the first `image_steps`, or of a depth that nobody asks for."""
        unused = () if self.lift.uses_depth or self.config.losses.depth else ("depth.",)
        if not self.config.image_steps:
            return unused
        # Each of the two image losses reaches its own half of the depth network.
        half = not (self.config.losses.depth and self.config.losses.image_classes)
        return ("head.", "temporal.", "lift.", *(("depth.",) if half else unused))

    @property
    def images_only(self) -> bool:
        """Whether the next training pass teaches the image network alone."""
        return self.training and int(self.trained_steps) < self.config.image_steps

    def forward(self, batch: Batch) -> Prediction:
        """Predict; labels are not looked at. In the first `image_steps` of training the class scores are all zero.

        Raises:
            ConfigError: if the batch has too few past frames or other classes than the network.
        """
        self._check(batch)
        if self.images_only:
            volume, views = None, self._views(*self._maps(batch), 0, num_cameras=batch.images.shape[2])
            shape = (batch.size, self.taxonomy.num_classes, *batch.grid.shape)
            logits = views.context.new_zeros(()).expand(shape)
        else:
            volume, views = self.encode(batch)
            logits = self.head(volume, batch.grid.shape)
        return Prediction(
            logits=logits,
            grid=batch.grid,
            taxonomy=batch.taxonomy,
            depth_logits=views.depth_logits,
            image_logits=views.class_logits,
            features=volume,
        )

    def encode(self, batch: Batch) -> tuple[Float[Tensor, "b c x y z"], Views]:
        """Return the lifted (and fused) volume, and what the current images say."""
        grid = batch.grid.coarsen(self.config.lift_stride)
        maps, cameras = self._maps(batch)
        volumes: list[Tensor] = []
        current = None
        for time in range(len(maps) if self.temporal is not None else 1):
            # Only the present carries gradients: half the memory, and the weights are shared anyway.
            with torch.set_grad_enabled(torch.is_grad_enabled() and time == 0):
                views = self._views(maps, cameras, time, num_cameras=batch.images.shape[2])
                depth = views.depth_logits.softmax(dim=2)
                volume = self.lift(views.context, depth, batch.cameras[:, time], grid)
                volumes.append(self.enrich(volume, batch) if time == 0 else volume)
            current = views if current is None else current
        assert current is not None
        return volumes[0] if self.temporal is None else self.temporal(volumes), current

    def enrich(self, volume: Float[Tensor, "b c x y z"], batch: Batch) -> Float[Tensor, "b c x y z"]:
        """Return the present volume with what other sensors know; here there are none."""
        del batch
        return volume

    def loss(self, prediction: Prediction, batch: Batch) -> dict[str, Tensor]:
        """Return the weighted losses by name; in the first `image_steps` of training those of the images alone.

        Raises:
            ConfigError: if the batch lacks the labels, the camera mask or the LiDAR depth that the losses need.
        """
        weights, label = self.config.losses, batch.occupancy
        if label is None:
            raise ConfigError(f"Lift: frame {batch.tokens[0]} (or one beside it) has no label to learn from")
        training_mask(weights.voxels, label)  # complains at the first step, not after the `image_steps`
        losses: dict[str, Tensor] = {}
        if not self.images_only:
            losses = voxel_losses(weights.voxels, prediction.logits, label, self.taxonomy)
        if weights.depth:
            losses["depth"] = weights.depth * self._depth_loss(prediction, batch)
        if weights.image_classes:
            losses["image_classes"] = weights.image_classes * self._image_loss(prediction, batch, label)
        if self.training:
            self.trained_steps += 1
        return losses

    def _check(self, batch: Batch) -> None:
        if batch.taxonomy.name != self.taxonomy.name:
            raise ConfigError(f"Lift: made for the classes of {self.taxonomy.name}, the data has {batch.taxonomy.name}")
        if batch.images.shape[1] < 1 + self.config.num_past:
            raise ConfigError(
                f"Lift: needs {self.config.num_past} past frames, the batch has {batch.images.shape[1] - 1}; "
                f"set DataConfig.num_past, or use a recipe without past frames"
            )

    def _maps(self, batch: Batch) -> tuple[list[list[Tensor]], list[Cameras]]:
        """Return the backbone's maps and the flattened cameras of each time, now first."""
        maps, cameras = [], []
        for time in range(1 + self.config.num_past):
            images = normalise_images(batch.images[:, time].flatten(0, 1))
            with torch.set_grad_enabled(torch.is_grad_enabled() and time == 0):
                maps.append(self.backbone(images))
            cameras.append(batch.cameras[:, time].flatten())
        return maps, cameras

    def _views(self, maps: list[list[Tensor]], cameras: list[Cameras], time: int, *, num_cameras: int) -> Views:
        """Return what the images of one time say.

        For stereo each frame is matched with the one before it, the oldest with the one after it.
        """
        features = self.neck(maps[time][self.config.neck_from :])
        cost = None
        if self.stereo is not None and self.config.stereo is not None:
            other = time + 1 if time + 1 < len(maps) else time - 1
            stage = self.config.stereo.stage
            cost = self.stereo(maps[time][stage], maps[other][stage], cameras[time], cameras[other])
        context, depth_logits = (t.unflatten(0, (-1, num_cameras)) for t in self.depth(features, cameras[time], cost))
        if not self.config.image_classes:
            return Views(context, depth_logits, None)
        class_logits, rest = context.tensor_split([self.taxonomy.num_classes], dim=2)
        return Views(torch.cat([class_logits.softmax(dim=2), rest], dim=2), depth_logits, class_logits)

    def _depth_loss(self, prediction: Prediction, batch: Batch) -> Tensor:
        if batch.depth is None or prediction.depth_logits is None:
            raise ConfigError("Lift: the depth loss needs LiDAR depth; set DataConfig.load_depth, or losses.depth to 0")
        height, width = (int(s) for s in prediction.depth_logits.shape[-2:])
        nearest = nearest_depth_per_cell(batch.depth, (height, width))
        kind = depth_cross_entropy if self.config.losses.depth_kind == "categorical" else depth_binary_cross_entropy
        return kind(prediction.depth_logits, self.config.depth.bins.index_of(nearest))

    def _image_loss(self, prediction: Prediction, batch: Batch, label: Occupancy) -> Tensor:
        if batch.depth is None or prediction.image_logits is None:
            raise ConfigError(
                "Lift: the image classes need LiDAR depth; set DataConfig.load_depth, or losses.image_classes to 0"
            )
        height, width = (int(s) for s in prediction.image_logits.shape[-2:])
        shown = classes_of_cells(batch.depth, batch.cameras[:, 0], label, (height, width))
        scores, weights = prediction.image_logits.transpose(1, 2), self.config.losses.voxels.class_weights
        tensor = None if weights is None else scores.new_tensor(weights)
        return cross_entropy(scores, shown, ignore_id=self.taxonomy.ignore_id, weights=tensor)


NANO_GRID = VoxelGrid.from_range((-40, -40, -1), (40, 40, 5.4), 0.8)
"""Occ3D's box in 100 x 100 x 8 voxels of 0.8 m: the nano worlds."""
NANO_KITTI_GRID = VoxelGrid.from_range((0, -25.6, -2), (51.2, 25.6, 4.4), 0.8)
"""SemanticKITTI's box in 64 x 64 x 8 voxels of 0.8 m."""
_GROUPS = GroupNormConfig()
_MIRROR = AugmentConfig(scale=(0.0, 0.0), rotate_degrees=0.0, mirror_image=0.0, flip_x=0.0, flip_y=0.5)
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
        data=DataConfig(image_size=(64, 176), augment=_MIRROR),
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


CLAIM_WORLD = World(scenes=250, options=("--frames", "10"))
"""200 streets to learn from and 50 others; drives long enough for stereo's past frames and for RayIoU's eight origins."""


def claim() -> Claim:
    """What the camera mask, stereo and the kind of head change, on 200 training frames of a nano world."""
    return Claim(
        system="lift",
        sentence=(
            "Six small images are enough to triple the constant prior's mIoU in minutes; the camera mask in training "
            "raises masked mIoU and lowers RayIoU, stereo helps, and height in channels costs little accuracy."
        ),
        arms={"mono": nano, "no_mask": nano_no_mask, "stereo": nano_stereo, "volume": nano_volume},
        lines=(
            Ratio(arm="mono", baseline="prior", metric="occ3d.miou", threshold=3.0),
            Difference(arm="mono", baseline="prior", metric="occ3d.iou", threshold=0.02),
            Difference(arm="mono", baseline="prior", metric="rayiou.rayiou", threshold=0.02),
            Difference(arm="mono", baseline="no_mask", metric="occ3d.miou"),
            Difference(arm="no_mask", baseline="mono", metric="rayiou.rayiou"),
            Difference(arm="stereo", baseline="mono", metric="occ3d.miou"),
            Difference(arm="mono", baseline="volume", metric="occ3d.miou", threshold=-0.03),
        ),
        world=CLAIM_WORLD,
        val_frames=100,
        seeds=3,
    )
