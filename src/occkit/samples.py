"""NOUNS: what flows through the library. Frozen dataclasses; a missing field is None; nothing later writes into one.

`files -> Sample -> Batch -> System -> Prediction -> {losses, metrics, viewer, export}`
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import TypeVar

import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

from occkit.geometry import Cameras, VoxelGrid
from occkit.taxonomy import Taxonomy

T = TypeVar("T", "Occupancy", "Teaching", "ObjectMotion", "FeatureRays", "ImageInputs", "Batch", "Prediction")


def _map_tensors(item: T, function: Callable[[Tensor], Tensor]) -> T:
    changed = {}
    for field in fields(item):
        value = getattr(item, field.name)
        if isinstance(value, Tensor):
            changed[field.name] = function(value)
        elif isinstance(value, (Cameras, Occupancy, Teaching, ObjectMotion, FeatureRays, ImageInputs)):
            changed[field.name] = value.map(function)
        elif isinstance(value, tuple) and value and isinstance(value[0], Tensor):
            changed[field.name] = tuple(function(v) for v in value)
    return replace(item, **changed)


@dataclass(frozen=True, kw_only=True)
class Occupancy:
    """A labelled voxel volume, whoever made it: a label file, a network, a generator."""

    semantics: UInt8[Tensor, "*b x y z"]
    """Ids of `taxonomy`; `taxonomy.free_id` is empty, `taxonomy.ignore_id` has no label."""
    grid: VoxelGrid
    """Where the volume lies in the reference frame."""
    taxonomy: Taxonomy
    """What the ids mean."""
    mask_camera: Bool[Tensor, "*b x y z"] | None = None
    """Observed by a camera; None where the data set has no such mask."""
    mask_lidar: Bool[Tensor, "*b x y z"] | None = None
    """Observed by the LiDAR; None where the data set has no such mask."""

    def __post_init__(self) -> None:
        if tuple(self.semantics.shape[-3:]) != self.grid.shape:
            raise ValueError(
                f"semantics: expected [..., {self.grid.shape}] for its grid, got {tuple(self.semantics.shape)}"
            )
        for name in ("mask_camera", "mask_lidar"):
            mask = getattr(self, name)
            if mask is not None and mask.shape != self.semantics.shape:
                raise ValueError(
                    f"{name}: expected {tuple(self.semantics.shape)} like semantics, got {tuple(mask.shape)}"
                )

    @property
    def occupied(self) -> Bool[Tensor, "*b x y z"]:
        """True where there is something: neither free nor ignored."""
        return (self.semantics != self.taxonomy.free_id) & (self.semantics != self.taxonomy.ignore_id)

    def map(self, function: Callable[[Tensor], Tensor]) -> "Occupancy":
        """Return a copy whose tensors went through `function`."""
        return _map_tensors(self, function)


@dataclass(frozen=True, kw_only=True)
class Teaching:
    """What a teacher says about a frame, for a student to learn from."""

    logits: Float[Tensor, "*b k x y z"]
    """Class scores before softmax; channel = id of the taxonomy, free included."""
    visible: Bool[Tensor, "*b x y z"]
    """Passed or hit by a pixel's ray in what the teacher takes for the scene."""
    features: Float[Tensor, "*b f _ _ _"] | None = None
    """Voxel features, on the teacher's own grid; None if it keeps them to itself."""

    def map(self, function: Callable[[Tensor], Tensor]) -> "Teaching":
        """Return a copy whose tensors went through `function`."""
        return _map_tensors(self, function)


@dataclass(frozen=True, kw_only=True)
class ObjectMotion:
    """Annotated objects around a frame that were elsewhere in other keyframes: a row an object and keyframe."""

    box_from_ego: Float[Tensor, "*b m 4 4"]
    """From the reference frame into the object's box as it stood then: its middle is the origin, x is forward."""
    ego_from_box: Float[Tensor, "*b m 4 4"]
    """From the box to where it stands now, reference frame; where it stood then, if it is gone."""
    half_sizes: Float[Tensor, "*b m 3"]
    """Of the box along its x, y and z, metres."""
    steps: Int64[Tensor, "*b m"]
    """How many keyframes later than the current one; 0 is a row that fills up a batch."""
    remains: Bool[Tensor, "*b m"]
    """Whether the object is annotated in the current keyframe."""

    def map(self, function: Callable[[Tensor], Tensor]) -> "ObjectMotion":
        """Return a copy whose tensors went through `function`."""
        return _map_tensors(self, function)


@dataclass(frozen=True, kw_only=True)
class FeatureRays:
    """Rays through pixels of a frame's images and of those around it, and the features that were seen there."""

    origins: Float[Tensor, "*b r 3"]
    """Where the camera was at its exposure, metres, reference frame of the sample."""
    directions: Float[Tensor, "*b r 3"]
    """Unit length."""
    features: Float[Tensor, "*b r k"]
    """Unit vectors in the channels of the store they come from."""
    steps: Int64[Tensor, "*b r"]
    """How many keyframes later than the current one they were seen; 0 is the current one."""
    basis: Float[Tensor, "*b c k"] | None = None
    """Brings vectors of the extractor into the store's channels; None if those are the same."""
    colours: Float[Tensor, "*b r 3"] | None = None
    """RGB of the pixels, 0..1; None unless asked for."""
    motion: ObjectMotion | None = None
    """What has moved between the rays' keyframes and the current one; None unless asked for."""

    def map(self, function: Callable[[Tensor], Tensor]) -> "FeatureRays":
        """Return a copy whose tensors went through `function`."""
        return _map_tensors(self, function)


@dataclass(frozen=True, kw_only=True)
class ImageInputs:
    """What models said of the current images before, for a network to read beside them."""

    depth: Float[Tensor, "*b n h w"] | None = None
    """z-depth of each pixel, metres; 0 where unknown. None unless asked for."""
    masks: UInt8[Tensor, "*b n h w"] | None = None
    """Class of each pixel: the free id is sky, the ignore id uncertain. None unless asked for."""
    features: Float[Tensor, "*b n k _ _"] | None = None
    """Feature maps, a cell for a square of pixels. None unless asked for."""

    def map(self, function: Callable[[Tensor], Tensor]) -> "ImageInputs":
        """Return a copy whose tensors went through `function`."""
        return _map_tensors(self, function)


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One keyframe: what the sensors saw, where they were, and the label if there is one.

    The reference frame is the frame of `grid`: the ego frame at the LiDAR's exposure for nuScenes, the Velodyne frame
    for KITTI, the rig's ego frame for own cameras. Past images are further cameras: time 0 is now.
    """

    token: str
    """Unique name of the frame; also the file name of its prediction."""
    scene: str
    """Scene or sequence it belongs to."""
    timestamp: int
    """Microseconds; of the reference time."""
    images: UInt8[Tensor, "t n 3 h w"]
    """RGB, `t` frames (0 = current, then ever older) of `n` cameras."""
    cameras: Cameras
    """Leading dimensions `[t, n]`; poses in the reference frame, motion compensated."""
    camera_names: tuple[str, ...]
    """One name for each of the `n` cameras."""
    grid: VoxelGrid
    """Volume to predict."""
    taxonomy: Taxonomy
    """Classes to predict."""
    occupancy: Occupancy | None = None
    """The label."""
    points: Float[Tensor, "p 4"] | None = None
    """LiDAR points of the frame: x, y, z (metres, reference frame), intensity 0..1."""
    depth: Float[Tensor, "n h w"] | None = None
    """z-depth of LiDAR points projected into the current images, metres; 0 where no point falls."""
    global_from_ego: Float[Tensor, "4 4"] | None = None
    """Pose of the reference frame in the world, float64."""
    caption: str | None = None
    """One line of text about the frame."""
    teaching: Teaching | None = None
    """What a teacher says about the frame."""
    segments: Int64[Tensor, "n h w"] | None = None
    """Segment of each pixel of the current images, ids of one image; -1 for none."""
    image_semantics: UInt8[Tensor, "n h w"] | None = None
    """Class of each pixel of the current images, from a model: the free id is sky, the ignore id uncertain."""
    sources: UInt8[Tensor, "s n 3 h w"] | None = None
    """Images of the same cameras at other times, past or future, for losses that compare views."""
    source_cameras: Cameras | None = None
    """Leading dimensions `[s, n]`; poses in the reference frame."""
    feature_rays: FeatureRays | None = None
    """Rays and the features seen along them, from this frame's images and those around it."""
    point_features: Float[Tensor, "p k"] | None = None
    """Features seen at each of `points`, unit vectors; zeros where no camera sees one."""
    inputs: ImageInputs | None = None
    """What models said of the current images, as inputs."""

    def __post_init__(self) -> None:
        expected = (self.images.shape[0], self.images.shape[1])
        if tuple(self.cameras.batch_shape) != expected:
            raise ValueError(
                f"cameras: expected leading dimensions {expected} like images, got {tuple(self.cameras.batch_shape)}"
            )
        if (self.cameras.height, self.cameras.width) != tuple(self.images.shape[-2:]):
            raise ValueError(
                f"cameras: made for images of {self.cameras.height}x{self.cameras.width}, "
                f"got {tuple(self.images.shape[-2:])}"
            )


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Samples stacked; every sample has the same grid, taxonomy, cameras per frame and image size."""

    tokens: tuple[str, ...]
    """Frame names, one a sample."""
    images: UInt8[Tensor, "b t n 3 h w"] | Float[Tensor, "b t n 3 h w"]
    """RGB 0..255; time index 0 is the current frame. Those that a generator draws are not rounded to bytes."""
    cameras: Cameras
    """Leading dimensions `[b, t, n]`; poses in each sample's reference frame."""
    grid: VoxelGrid
    """Volume to predict."""
    taxonomy: Taxonomy
    """Classes to predict."""
    occupancy: Occupancy | None = None
    """Labels `[b, x, y, z]`; None if any sample lacks one."""
    points: tuple[Float[Tensor, "_ 4"], ...] | None = None
    """LiDAR points of each sample; None if any sample lacks them."""
    depth: Float[Tensor, "b n h w"] | None = None
    """Sparse z-depth of the current images, metres; 0 where unknown."""
    captions: tuple[str, ...] | None = None
    """One line of text a sample."""
    teaching: Teaching | None = None
    """What a teacher says; None if any sample lacks it."""
    segments: Int64[Tensor, "b n h w"] | None = None
    """Segments of the current images, -1 for none; None if any sample lacks them."""
    image_semantics: UInt8[Tensor, "b n h w"] | None = None
    """Classes of the pixels of the current images; None if any sample lacks them."""
    sources: UInt8[Tensor, "b s n 3 h w"] | None = None
    """Images of the same cameras at other times; None if any sample lacks them."""
    source_cameras: Cameras | None = None
    """Leading dimensions `[b, s, n]`; poses in each sample's reference frame."""
    feature_rays: FeatureRays | None = None
    """Rays and their features, `[b, r, ...]`; None if any sample lacks them."""
    point_features: tuple[Float[Tensor, "_ _"], ...] | None = None
    """Features seen at the LiDAR points of each sample; None if any sample lacks them."""
    inputs: ImageInputs | None = None
    """What models said of the current images, as inputs; None if any sample lacks them."""
    noise_level: Float[Tensor, "b"] | None = None
    """How noisy the images were before a generator estimated them, 0..1; None is photographs."""

    @property
    def size(self) -> int:
        """Number of samples."""
        return len(self.tokens)

    def take(self, rows: Sequence[int]) -> "Batch":
        """Return some of the samples, in the order asked for."""
        lists = {name: getattr(self, name) for name in ("tokens", "captions", "points", "point_features")}
        chosen = {name: None if value is None else tuple(value[row] for row in rows) for name, value in lists.items()}
        index = torch.tensor(list(rows), dtype=torch.int64, device=self.images.device)
        stacked = replace(self, points=None, point_features=None).map(lambda tensor: tensor[index])
        return replace(stacked, **chosen)

    def map(self, function: Callable[[Tensor], Tensor]) -> "Batch":
        """Return a copy whose tensors went through `function`."""
        return _map_tensors(self, function)

    def to(self, device: torch.device | str) -> "Batch":
        """Return the batch on a device."""
        return self.map(lambda tensor: tensor.to(device, non_blocking=True))


@dataclass(frozen=True, kw_only=True)
class Rendering:
    """What rays see of a volume."""

    depth: Float[Tensor, "*r"] | None = None
    """Expected ray parameter at termination (z-depth or distance, as the rays were made), metres."""
    opacity: Float[Tensor, "*r"] | None = None
    """Sum of the weights, 0..1."""
    weights: Float[Tensor, "*r s"] | None = None
    """Termination distribution over the samples of each ray."""
    features: Float[Tensor, "*r c"] | None = None
    """Features (colours, class scores, language vectors) carried along the rays."""


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What a system says about a batch."""

    logits: Float[Tensor, "b c x y z"]
    """Class scores before softmax; channel = id of `taxonomy`, free included."""
    grid: VoxelGrid
    """Where the volume lies."""
    taxonomy: Taxonomy
    """What the channels mean."""
    depth_logits: Float[Tensor, "b n d h w"] | None = None
    """Depth-bin scores of the current images at feature resolution."""
    image_logits: Float[Tensor, "b n s h w"] | None = None
    """Class scores of the current images at feature resolution; channel = id of `taxonomy`."""
    image_features: Float[Tensor, "b n k h w"] | None = None
    """Features of the current images, for losses that compare them with others."""
    features: Float[Tensor, "b f _ _ _"] | None = None
    """Voxel features over the same box, maybe in larger voxels, for losses that need them."""
    first_logits: Float[Tensor, "b c _ _ _"] | None = None
    """Class scores of a system's first stage over the same box, maybe in larger voxels."""
    space_logits: Float[Tensor, "b c _ _ _"] | None = None
    """Class scores of a system whose own volume reaches beyond the grid, all of it; `logits` are its middle."""
    relation_scores: Float[Tensor, "b r n m"] | None = None
    """Scores of the relations between the voxels and the mega-voxels of a coarse volume over the same box."""
    density: Float[Tensor, "b x y z"] | None = None
    """How much is there, per metre, of a system that renders densities."""
    rendering: Rendering | None = None
    """What the losses of a rendering system rendered."""

    def semantics(self) -> UInt8[Tensor, "b x y z"]:
        """Return the most likely id of each voxel; the lower id wins a tie."""
        return self.logits.argmax(dim=1).to(torch.uint8)

    def take(self, rows: Sequence[int]) -> "Prediction":
        """Return what is said about some of the samples, without a rendering, whose rays belong to all."""
        index = torch.tensor(list(rows), dtype=torch.int64, device=self.logits.device)
        return replace(self, rendering=None).map(lambda tensor: tensor[index])

    def unbind(self) -> tuple["Prediction", ...]:
        """Return what `take` does of each sample alone; the gradients of all become one tensor only once."""
        pieces: dict[int, tuple[Tensor, ...]] = {}

        def piece(tensor: Tensor, row: int) -> Tensor:
            if id(tensor) not in pieces:
                pieces[id(tensor)] = tensor.split(1)
            return pieces[id(tensor)][row]

        alone = replace(self, rendering=None)
        return tuple(alone.map(partial(piece, row=row)) for row in range(len(self.logits)))

    def map(self, function: Callable[[Tensor], Tensor]) -> "Prediction":
        """Return a copy whose tensors went through `function`."""
        return _map_tensors(self, function)


def collate(samples: Sequence[Sample]) -> Batch:
    """Stack samples into a batch.

    Raises:
        ValueError: naming the token whose grid, taxonomy, number of cameras or image size differs from the first.
    """
    if not samples:
        raise ValueError("collate: expected at least one sample, got none")
    first = samples[0]
    for sample in samples[1:]:
        for name in ("grid", "taxonomy", "camera_names"):
            if getattr(sample, name) != getattr(first, name):
                raise ValueError(
                    f"collate: {name} of {sample.token} differs from that of {first.token}; batch them apart"
                )
        if sample.images.shape != first.images.shape:
            raise ValueError(
                f"collate: images of {sample.token} are {tuple(sample.images.shape)}, those of {first.token} "
                f"{tuple(first.images.shape)}; use one image size and one number of frames"
            )
    return Batch(
        tokens=tuple(s.token for s in samples),
        images=torch.stack([s.images for s in samples]),
        cameras=_stack_cameras([s.cameras for s in samples]),
        grid=first.grid,
        taxonomy=first.taxonomy,
        occupancy=_stack_occupancy([s.occupancy for s in samples]),
        points=_all_or_none([s.points for s in samples]),
        depth=_stack([s.depth for s in samples]),
        captions=_all_or_none([s.caption for s in samples]),
        teaching=_stack_teaching([s.teaching for s in samples]),
        segments=_stack([s.segments for s in samples]),
        image_semantics=_stack([s.image_semantics for s in samples]),
        sources=_stack([s.sources for s in samples]),
        source_cameras=_stack_sources([s.source_cameras for s in samples]),
        feature_rays=_stack_rays([s.feature_rays for s in samples]),
        point_features=_all_or_none([s.point_features for s in samples]),
        inputs=_stack_inputs([s.inputs for s in samples]),
    )


V = TypeVar("V")


def _all_or_none(values: Sequence[V | None]) -> tuple[V, ...] | None:
    present = tuple(v for v in values if v is not None)
    return present if len(present) == len(values) else None


def _stack(values: Sequence[Tensor | None]) -> Tensor | None:
    present = _all_or_none(values)
    return None if present is None else torch.stack(present)


def _stack_teaching(values: Sequence[Teaching | None]) -> Teaching | None:
    present = _all_or_none(values)
    if present is None:
        return None
    return Teaching(
        logits=torch.stack([t.logits for t in present]),
        visible=torch.stack([t.visible for t in present]),
        features=_stack([t.features for t in present]),
    )


def _stack_inputs(values: Sequence[ImageInputs | None]) -> ImageInputs | None:
    present = _all_or_none(values)
    if present is None:
        return None
    return ImageInputs(
        depth=_stack([inputs.depth for inputs in present]),
        masks=_stack([inputs.masks for inputs in present]),
        features=_stack([inputs.features for inputs in present]),
    )


def _stack_rays(values: Sequence[FeatureRays | None]) -> FeatureRays | None:
    present = _all_or_none(values)
    if present is None:
        return None
    return FeatureRays(
        origins=torch.stack([rays.origins for rays in present]),
        directions=torch.stack([rays.directions for rays in present]),
        features=torch.stack([rays.features for rays in present]),
        steps=torch.stack([rays.steps for rays in present]),
        basis=_stack([rays.basis for rays in present]),
        colours=_stack([rays.colours for rays in present]),
        motion=_stack_motion([rays.motion for rays in present]),
    )


def _stack_motion(values: Sequence[ObjectMotion | None]) -> ObjectMotion | None:
    present = _all_or_none(values)
    if present is None:
        return None
    most = max(len(motion.steps) for motion in present)
    whole = [motion.map(lambda t: torch.cat([t, t.new_zeros((most - len(t), *t.shape[1:]))])) for motion in present]
    return ObjectMotion(
        box_from_ego=torch.stack([motion.box_from_ego for motion in whole]),
        ego_from_box=torch.stack([motion.ego_from_box for motion in whole]),
        half_sizes=torch.stack([motion.half_sizes for motion in whole]),
        steps=torch.stack([motion.steps for motion in whole]),
        remains=torch.stack([motion.remains for motion in whole]),
    )


def _stack_cameras(cameras: Sequence[Cameras]) -> Cameras:
    first = cameras[0]
    lenses = _all_or_none([c.distortion for c in cameras])
    if lenses is None and any(c.distortion is not None for c in cameras):
        raise ValueError("collate: some samples have lens distortion and some have none; give the latter zeros")
    return replace(
        first,
        intrinsics=torch.stack([c.intrinsics for c in cameras]),
        ego_from_camera=torch.stack([c.ego_from_camera for c in cameras]),
        distortion=None if lenses is None else torch.stack(lenses),
    )


def _stack_sources(cameras: Sequence[Cameras | None]) -> Cameras | None:
    present = _all_or_none(cameras)
    return None if present is None else _stack_cameras(present)


def _stack_occupancy(labels: Sequence[Occupancy | None]) -> Occupancy | None:
    present = _all_or_none(labels)
    if present is None:
        return None
    masks = {name: _all_or_none([getattr(o, name) for o in present]) for name in ("mask_camera", "mask_lidar")}
    return replace(
        present[0],
        semantics=torch.stack([o.semantics for o in present]),
        **{name: None if mask is None else torch.stack(mask) for name, mask in masks.items()},
    )
