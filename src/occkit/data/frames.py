"""The base of every data set: how a description of a frame (files, matrices) becomes a `Sample`."""

import copy
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self, get_args

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from occkit.data.cache import ByteCache
from occkit.data.feature_rays import (
    FeatureReader,
    PixelChoice,
    Pixels,
    carry_rays,
    join_rays,
    lidar_pixels,
    ray_chance,
    share_out,
    state_size,
    uniform_pixels,
)
from occkit.data.fingerprint import fingerprint_of
from occkit.data.image_inputs import FeatureMaps, ImageInputsConfig, depth_map_path, read_depth_maps
from occkit.data.image_maps import map_path, read_id_map
from occkit.data.image_reader import ImageReader
from occkit.data.occ3d import label_path, read_labels
from occkit.data.records import Floats
from occkit.data.selection import evenly_spread, half_way_round
from occkit.data.teaching import read_teaching
from occkit.data.transforms import AugmentConfig, flip_volume, hide_label, misjudge
from occkit.data.views import Frame, View
from occkit.errors import ConfigError, DataError
from occkit.geometry import Cameras, VoxelGrid, project_depth
from occkit.samples import FeatureRays, ImageInputs, Occupancy, Sample, Teaching
from occkit.taxonomy import Taxonomy

Split = Literal["train", "val", "test", "all"]


# Here and not in a file of its own: archived recipes name it by this module.
@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """What a system is shown of a data set; the folder it lies in is not part of it."""

    image_size: tuple[int, int] | None = None
    """(height, width) for the network, pixels; None takes the size of the first camera's images."""
    keep_aspect: bool = True
    """With an `image_size`: scale to its width and cut off the top; False scales both axes on their own."""
    num_past: int = 0
    """Past keyframes loaded as further cameras; a scene's first frames repeat the oldest there is."""
    source_steps: tuple[int, ...] = ()
    """Images of the cameras at other times, training only: (-1, 1) are those before and after. Frames that lack one are
    left out."""
    source_kind: Literal["sweep", "keyframe"] = "sweep"
    """What a step leads to: the camera's next image, keyframe or not, or that of the next keyframe."""
    cameras: tuple[str, ...] | None = None
    """Names, in the order wanted; None takes all of the rig (SemanticKITTI: image_2)."""
    load_points: bool = False
    """Load the LiDAR points."""
    load_depth: bool = True
    """Project the LiDAR points into the current images; None in the sample where there is no LiDAR."""
    labels: str | None = None
    """Folder of other labels in Occ3D's layout (`occkit label`), training only; a relative path starts at the data's
    folder. None takes those of the data set."""
    teaching: str | None = None
    """Folder of a teacher's outputs (`occkit teach`), training only; a relative path starts at the data's folder."""
    teacher_features: bool = False
    """Load the teacher's voxel features too."""
    segments: str | None = None
    """Folder of the segments of the images (`occkit teach --segments`), training only; as `teaching`."""
    image_semantics: str | None = None
    """Folder of the classes of pixels (`occkit label --keep-images`), training only; as `teaching`."""
    image_semantics_of_others: bool = False
    """Take the classes of another frame's pixels, half the split away: a control, which must teach nothing."""
    inputs: ImageInputsConfig | None = None
    """What models said of the images, as inputs: loaded in evaluation too."""
    camera_shift: bool = True
    """SemanticKITTI: heed the fourth column of the projection matrices, which puts camera 2 six centimetres beside
    camera 0. False leaves it out, as VoxFormer, MonoScene and Symphonies do; for reproduction."""
    calibration_noise: float = 0.0
    """Put the principal points of a frame's cameras so many pixels off (standard deviation), in evaluation too; depth
    that is projected for training stays where it is."""
    features: str | None = None
    """Folder of the features of the images (`occkit features`), training only; as `teaching`."""
    feature_rays: int = 0
    """Rays of a sample through pixels of the images as they are stored, with the features seen there."""
    feature_horizon: int = 0
    """Keyframes on either side whose rays are drawn, evenly; the current one stands in for those without images."""
    feature_pixels: PixelChoice = "uniform"
    """All alike, or those a LiDAR return within the volume falls onto: LangOcc's, which tell that rays end there."""
    feature_colours: bool = False
    """Load the colours of these pixels too."""
    feature_motion: bool = False
    """nuScenes: load where annotated objects were in these keyframes."""
    point_features: bool = False
    """Look up the features seen at the LiDAR points; needs `load_points`."""
    augment: AugmentConfig | None = None
    """Random changes, in training only."""

    def __post_init__(self) -> None:
        if self.image_size is not None and min(self.image_size) < 1:
            raise ConfigError(f"image_size: expected positive (height, width), got {self.image_size}")
        for name in ("num_past", "calibration_noise"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name}: expected 0 or more, got {getattr(self, name)}")
        if 0 in self.source_steps or len(set(self.source_steps)) != len(self.source_steps):
            raise ConfigError(f"source_steps: expected different steps other than 0, got {self.source_steps}")
        if self.cameras is not None and (not self.cameras or len(set(self.cameras)) != len(self.cameras)):
            raise ConfigError(f"cameras: expected different names, got {self.cameras}")
        self._check_features()

    def _check_features(self) -> None:
        for name in ("feature_rays", "feature_horizon"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name}: expected 0 or more, got {getattr(self, name)}")
        if self.feature_pixels not in get_args(PixelChoice):
            choices = " or ".join(get_args(PixelChoice))
            raise ConfigError(f"feature_pixels: expected {choices}, got {self.feature_pixels!r}")
        for name in ("feature_rays", "point_features"):
            if getattr(self, name) and self.features is None:
                raise ConfigError(f"{name}: needs features; write them with occkit features and name their folder")
        for name in ("feature_horizon", "feature_colours", "feature_motion"):
            if getattr(self, name) and not self.feature_rays:
                raise ConfigError(f"{name}: is about rays, and feature_rays is 0; ask for some")
        if self.point_features and not self.load_points:
            raise ConfigError("point_features: are those of the LiDAR points; set load_points")


class FrameDataset:
    """Keyframes of one split; `dataset[i]` is a `Sample`, read from disk when asked for (and kept, up to a limit).

    Subclasses say which tokens there are and describe, label and range one frame: `scene`, `_frame`, `label`,
    `_points`, `ray_origins`; for feature rays also `_beside`, `_own_views`, `_world_pose`, and they call
    `_open_features` when they know the cameras. Instances are read-only after construction and may be shared between
    threads.
    """

    name: str
    """nuscenes, semantickitti, kitti360, nyuv2 or rig."""
    root: Path
    """The folder that was opened."""
    tokens: tuple[str, ...]
    """Names of the frames, scene by scene in the order of time."""
    grid: VoxelGrid
    """Volume of every frame."""
    taxonomy: Taxonomy
    """Classes of every frame."""
    camera_names: tuple[str, ...]
    """Cameras of every frame."""
    report: tuple[str, ...] = ()
    """What was left out and why, a sentence each."""
    withheld: frozenset[str] = frozenset()
    """Frames whose label a sample does not show: all of it is ignored, and no voxel is marked as seen."""

    def __init__(self, root: Path, *, config: DataConfig, training: bool, cache_bytes: int) -> None:
        self.root = root
        self.config = config
        self.training = training
        self._cache = ByteCache(cache_bytes)
        self._images = ImageReader(
            config.image_size, keep_aspect=config.keep_aspect, cache=self._cache, first=self._first_view
        )
        self._features: FeatureReader | None = None
        self._feature_maps: FeatureMaps | None = None

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, index: int) -> Sample:
        return self.sample(index)

    def scene(self, token: str) -> str:
        """Return the name of a frame's scene."""
        raise NotImplementedError

    def spread(self, limit: int) -> Self:
        """Return a view with at most `limit` of the frames: the middle one of as many equal parts."""
        return self.only(evenly_spread(self.tokens, limit))

    def only(self, tokens: tuple[str, ...]) -> Self:
        """Return a view with some of the frames."""
        chosen = copy.copy(self)
        chosen.tokens = tokens
        return chosen

    def label(self, token: str) -> Occupancy | None:
        """Return the label of a frame; None if it has none.

        Raises:
            DataError: if its file is damaged.
        """
        raise NotImplementedError

    def ray_origins(self, token: str) -> Floats:
        """Return the origins `[k, 3]` from which ray metrics look at a frame, metres, reference frame."""
        raise NotImplementedError

    def _frame(self, token: str) -> Frame:
        raise NotImplementedError

    def _points(self, token: str) -> Float[Tensor, "p 4"] | None:
        raise NotImplementedError

    def _beside(self, token: str, step: int) -> str | None:
        """Return the keyframe of the same scene that lies `step` away; None if there is none, or it lacks an image."""
        raise NotImplementedError

    def _own_views(self, token: str) -> tuple[View, ...]:
        """Return the current images of a keyframe, with poses in its own reference frame."""
        raise NotImplementedError

    def _world_pose(self, token: str) -> Floats:
        """Return `global_from_ego` of a keyframe that `_beside` leads to or from."""
        raise NotImplementedError

    def image_files(self, token: str) -> tuple[Path, ...]:
        """Return the files of a frame's current images, in the order of `camera_names`.

        Raises:
            DataError: if what describes the frame is damaged.
        """
        return tuple(view.path for view in self._frame(token).views[0])

    def global_from_ego(self, token: str) -> Floats | None:
        """Return where a frame's reference frame is in the world, 4x4; None where that is unknown. Reads no image."""
        return self._frame(token).global_from_ego

    def fingerprint(self, token: str) -> str:
        """Return a digest of a frame's current images, their lenses and poses; see `fingerprint_of`."""
        try:
            return fingerprint_of(self._frame(token))
        except DataError:
            return fingerprint_of(None)

    def sample(self, index: int, *, seed: int | None = None) -> Sample:
        """Read one frame.

        Args:
            index: position in `tokens`.
            seed: with it, a data set opened for training is augmented, and feature rays are drawn from it; same seed,
                same sample.

        Raises:
            IndexError: if there is no such frame.
            DataError: if a file of the frame is missing or damaged.
        """
        if not -len(self.tokens) <= index < len(self.tokens):
            raise IndexError(f"frame {index} of {len(self.tokens)}")
        token = self.tokens[index]
        augment = self.config.augment if self.training and seed is not None else None
        rng = None if augment is None else np.random.default_rng(seed)
        frame = self._frame(token)
        num_cameras = len(frame.views[0])
        seeds = [None] * num_cameras if rng is None else rng.integers(2**63, size=num_cameras).tolist()
        images, cameras = self._images.look(frame.views, augment, seeds)
        sources = self._images.look(frame.sources, augment, seeds) if frame.sources else (None, None)
        segments = self._maps(
            self.config.segments, frame, augment, seeds, remedy="make them with occkit teach --segments"
        )
        shown = self._maps(
            self.config.image_semantics,
            frame,
            augment,
            seeds,
            remedy="make them with occkit look --masks, or occkit label --keep-images",
            token=half_way_round(self.tokens, token) if self.config.image_semantics_of_others else token,
        )
        points = None
        if self.config.load_points or self.config.load_depth:
            points = self._cache.get(("points", token), lambda: self._points(token))
        sample = Sample(
            token=token,
            scene=frame.scene,
            timestamp=frame.timestamp,
            images=images,
            cameras=misjudge(cameras, self.config.calibration_noise, token),
            camera_names=self.camera_names,
            grid=self.grid,
            taxonomy=self.taxonomy,
            occupancy=self._cache.get(("label", token in self.withheld or token), lambda: self._shown_label(token)),
            points=points if self.config.load_points else None,
            depth=self._depth(token, cameras, points, augmented=augment is not None),
            global_from_ego=None if frame.global_from_ego is None else torch.from_numpy(frame.global_from_ego),
            caption=frame.caption,
            teaching=self._teaching(token),
            segments=segments,
            image_semantics=self._classes(shown),
            sources=sources[0],
            source_cameras=sources[1],
            feature_rays=self._draw_rays(token, seed),
            point_features=self._point_features(token, points),
            inputs=self._inputs(frame, augment, seeds),
        )
        if augment is None or rng is None:
            return sample
        return flip_volume(sample, x=bool(rng.uniform() < augment.flip_x), y=bool(rng.uniform() < augment.flip_y))

    def _depth(
        self, token: str, cameras: Cameras, points: Float[Tensor, "p 4"] | None, *, augmented: bool
    ) -> Float[Tensor, "n h w"] | None:
        if points is None or not self.config.load_depth:
            return None
        if augmented:
            return project_depth(cameras[0], points)
        return self._cache.get(("depth", token), lambda: project_depth(cameras[0], points))

    def _shown_label(self, token: str) -> Occupancy | None:
        label = self._training_label(token) if self._has_other_labels else self.label(token)
        hidden = token in self.withheld  # of these one is read: what is hidden is the same
        return hide_label(label, ignore_id=self.taxonomy.ignore_id) if hidden and label is not None else label

    @property
    def _has_other_labels(self) -> bool:
        return self.training and self.config.labels is not None

    def _training_label(self, token: str) -> Occupancy | None:
        """Return what `DataConfig.labels` says of a frame; None if nothing."""
        path = self._training_label_path(token)
        return read_labels(path, grid=self.grid, taxonomy=self.taxonomy) if path.is_file() else None

    def _training_label_path(self, token: str) -> Path:
        return label_path(self.root / (self.config.labels or ""), self.scene(token), token)

    def _teaching(self, token: str) -> Teaching | None:
        if self.config.teaching is None or not self.training:
            return None
        folder = self.root / self.config.teaching
        return self._cache.get(
            ("teaching", token),
            lambda: read_teaching(
                folder,
                token,
                num_classes=self.taxonomy.num_classes,
                shape=self.grid.shape,
                features=self.config.teacher_features,
            ),
        )

    def _open_features(self) -> None:
        """Open the stores that the config names; the cameras must be known by now."""
        if self.config.inputs is not None and self.config.inputs.features is not None:
            self._feature_maps = FeatureMaps(self.root / self.config.inputs.features, self.camera_names)
        if self.training and self.config.features is not None:
            self._features = FeatureReader(self.root / self.config.features, self.camera_names)

    def _draw_rays(self, token: str, seed: int | None) -> FeatureRays | None:
        reader, horizon = self._features, self._feature_horizon
        if reader is None or not self.config.feature_rays:
            return None
        rng = ray_chance(token, seed)
        others = {step: self._beside(token, step) for step in range(-horizon, horizon + 1) if step}
        keyframes = [(token, 0) if other is None else (other, step) for step, other in others.items()]
        picture = self._images.picture if self.config.feature_colours else None
        parts = []
        for other, step, count in share_out(self.config.feature_rays, [(token, 0), *keyframes], rng):
            pixels = self._choose_pixels(other, count, rng)
            part = reader.rays(other, self._views_of(other), pixels, step=step, picture=picture)
            parts.append(part if other == token else carry_rays(part, self._pose_of(token), self._pose_of(other)))
        return join_rays(parts)

    def _choose_pixels(self, token: str, count: int, rng: np.random.Generator) -> Pixels:
        if self.config.feature_pixels == "uniform":
            return uniform_pixels(self._views_of(token), count, rng)
        found = self._cache.get(("lidar_pixels", token), lambda: self._lidar_pixels(token))
        if not len(found):
            problem = f"frame {token}: no LiDAR return within the volume falls into an image"
            raise DataError(self.root, problem, 'leave it out, or set feature_pixels to "uniform"')
        return found.take(torch.from_numpy(rng.integers(len(found), size=count)))

    def _lidar_pixels(self, token: str) -> Pixels:
        points = self._cache.get(("points", token), lambda: self._points(token))
        if points is None:
            raise DataError(self.root, f"frame {token} has no LiDAR sweep", 'set feature_pixels to "uniform"')
        return lidar_pixels(self._views_of(token), points, self.grid)

    def _point_features(self, token: str, points: Float[Tensor, "p 4"] | None) -> Float[Tensor, "p k"] | None:
        if self._features is None or points is None or not self.config.point_features:
            return None
        return self._features.at_points(token, self._views_of(token), points)

    def _views_of(self, token: str) -> tuple[View, ...]:
        """The current images of a keyframe in its own reference frame; all state their size."""
        return self._cache.get(("views", token), lambda: tuple(map(state_size, self._own_views(token))))

    def _pose_of(self, token: str) -> Floats:
        return self._cache.get(("pose", token), lambda: self._world_pose(token))

    @property
    def _feature_horizon(self) -> int:
        return self.config.feature_horizon if self.training else 0

    @property
    def _other_times(self) -> str:
        """What must be set so that no images of other times are needed; empty if nothing."""
        asked = {
            "num_past to 0": self.config.num_past,
            "source_steps to ()": self._source_steps,
            "feature_horizon to 0": self._feature_horizon,
        }
        return " and ".join(setting for setting, wanted in asked.items() if wanted)

    def _maps(
        self,
        folder: str | None,
        frame: Frame,
        augment: AugmentConfig | None,
        seeds: Sequence[int | None],
        *,
        remedy: str,
        token: str | None = None,
        training_only: bool = True,
    ) -> Int64[Tensor, "n h w"] | None:
        """Read a map of each current image, or of those of another frame, and put it where the image went."""
        if folder is None or (training_only and not self.training):
            return None
        maps = []
        plans = self._images.plans(frame.views[0], augment, seeds)
        for name, (stored, plan) in zip(self.camera_names, plans, strict=True):
            path = map_path(self.root / folder, token or frame.token, name)
            maps.append(read_id_map(path, plan, stored=stored, remedy=remedy))
        return torch.stack(maps)

    def _inputs(self, frame: Frame, augment: AugmentConfig | None, seeds: Sequence[int | None]) -> ImageInputs | None:
        config = self.config.inputs
        if config is None:
            return None
        plans = self._images.plans(frame.views[0], augment, seeds)
        remedy = "make them with occkit look --masks"
        masks = self._maps(config.masks, frame, augment, seeds, remedy=remedy, training_only=False)
        depth = None
        if config.depth is not None:
            files = [self._depth_files(self.root / config.depth, frame.token, c) for c in self.camera_names]
            depth = read_depth_maps(files, plans)
        features = None
        if self._feature_maps is not None:
            features = self._feature_maps.read(frame.token, [plan for _, plan in plans], stride=config.feature_stride)
        return ImageInputs(depth=depth, masks=self._classes(masks), features=features)

    def _depth_files(self, folder: Path, token: str, camera: str) -> tuple[Path, ...]:
        """Return where the depth map of an image may lie."""
        return (depth_map_path(folder, token, camera),)

    def _classes(self, ids: Int64[Tensor, "n h w"] | None) -> Tensor | None:
        """Return what `_maps` read as ids of the taxonomy, its ignore id for none."""
        return None if ids is None else torch.where(ids < 0, self.taxonomy.ignore_id, ids).byte()

    @property
    def _source_steps(self) -> tuple[int, ...]:
        return self.config.source_steps if self.training else ()

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) of every sample's images, pixels."""
        return self._images.size

    def _first_view(self) -> View:
        return self._frame(self.tokens[0]).views[0][0]

    def _keep(self, tokens: Sequence[str], has: Callable[[str], bool], what: str) -> tuple[str, ...]:
        """Leave out the frames that lack something, and say so.

        Raises:
            DataError: if none is left.
        """
        kept = tuple(token for token in tokens if has(token))
        if tokens and not kept:
            raise DataError(
                self.root, f"none of {len(tokens)} frames has {what}, e.g. {tokens[0]}", "download that part"
            )
        if len(kept) < len(tokens):
            first = next(token for token, other in zip(tokens, (*kept, None), strict=False) if token != other)
            self._say(f"{len(tokens) - len(kept)} of {len(tokens)} frames left out: no {what}, first {first}")
        return kept

    def _keep_labelled(self, tokens: Sequence[str], has: Callable[[str], bool]) -> tuple[str, ...]:
        """In training, leave out frames without a label if others have one; otherwise only say how many lack it.

        Raises:
            DataError: if the labels that `DataConfig.labels` asks for are not there.
        """
        if self._has_other_labels:
            what = f"label in {self.config.labels}"
            return self._keep(tokens, lambda token: self._training_label_path(token).is_file(), what)
        lacking = [token for token in tokens if not has(token)]
        if not lacking or len(lacking) == len(tokens):
            return tuple(tokens)
        if self.training:
            return self._keep(tokens, has, "label")
        self._say(f"{len(lacking)} of {len(tokens)} frames have no label, first {lacking[0]}")
        return tuple(tokens)

    def _say(self, sentence: str) -> None:
        self.report = (*self.report, sentence)
        warnings.warn(f"{self.root}: {sentence}", UserWarning, stacklevel=4)
