"""The two stages of the label factory: looking at a frame, and fusing a window of frames. Files in, files out.

Both are made where they work (see `occkit.engine.Stage`) and speak with others through files that are there whole or
not at all, so any of them may be killed and asked again.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from jaxtyping import Float64

from occkit.data.frames import FrameDataset
from occkit.data.image_maps import map_path, write_class_map
from occkit.data.occ3d import label_path
from occkit.errors import DataError
from occkit.files import remove_partials, write_npz
from occkit.foundation import DepthEstimator, SemanticLabeller
from occkit.geometry import VoxelGrid
from occkit.labels.fusion import FusedLabels, FusionConfig, fuse
from occkit.labels.origins import is_made_of, origin_array
from occkit.labels.points import (
    LabelledPoints,
    OutlierConfig,
    back_project,
    read_points,
    remove_outliers,
    write_points,
)
from occkit.samples import Sample
from occkit.taxonomy import Taxonomy

Pose = Float64[np.ndarray, "4 4"]


def points_path(folder: Path, token: str) -> Path:
    """Return where the points of a frame lie."""
    return folder / f"{token}.npz"


def has_images(folder: Path, token: str, cameras: Sequence[str]) -> bool:
    """Say whether the classes of a frame's pixels are written."""
    return all(map_path(folder, token, name).is_file() for name in cameras)


@dataclass(frozen=True, kw_only=True)
class Looked:
    """What looking at a frame came to; its points are in their file."""

    pose: Pose | None = None
    """`global_from_ego`; None where it is unknown."""
    unreadable: str | None = None
    """Why the frame cannot be read; None if it could be."""
    fingerprint: str
    """`FrameDataset.fingerprint` when it was looked at."""


@dataclass(frozen=True, kw_only=True)
class Described:
    """What the models say about themselves."""

    depth: dict[str, Any]
    """`DepthEstimator.description`."""
    labeller: dict[str, Any]
    """`SemanticLabeller.description`."""
    taxonomy: str
    """Whose ids the labeller speaks."""


@dataclass(frozen=True, kw_only=True)
class LookConfig:
    """Looking at frames; picklable if data set and models are, or the models are given as functions that make them."""

    dataset: FrameDataset
    """The frames."""
    depth: DepthEstimator | Callable[[], DepthEstimator]
    """Says how far each pixel is, or makes who does."""
    labeller: SemanticLabeller | Callable[[], SemanticLabeller]
    """Says what each pixel shows, or makes who does."""
    points: Path
    """Folder of the points."""
    images: Path | None
    """Folder of the classes of the pixels; None writes none."""
    stride: int
    """As in `FactoryConfig`."""
    max_depth: float
    """As in `FactoryConfig`."""
    uncertain: Literal["ignored", "free"]
    """As in `FactoryConfig`."""
    outliers: OutlierConfig | None
    """As in `FactoryConfig`."""

    def build(self) -> "Look":
        """Make the models."""
        return Look(self)


class Look:
    """See `LookConfig`. The task is a token, or None to be told what the models are."""

    def __init__(self, config: LookConfig) -> None:
        self.config = config
        self.depth = cast(DepthEstimator, config.depth if hasattr(config.depth, "estimate") else _made(config.depth))
        named = config.labeller
        self.labeller = cast(SemanticLabeller, named if hasattr(named, "label") else _made(named))
        self._places = {token: i for i, token in enumerate(config.dataset.tokens)}

    def __call__(self, token: str | None) -> Looked | Described:
        """Write the points of a frame, unless they are there and of the same images."""
        if token is None:
            return Described(
                depth=dict(self.depth.description),
                labeller=dict(self.labeller.description),
                taxonomy=self.labeller.taxonomy.name,
            )
        dataset, images = self.config.dataset, self.config.images
        found, path = dataset.fingerprint(token), points_path(self.config.points, token)
        is_there = is_made_of(path, found) and (images is None or has_images(images, token, dataset.camera_names))
        try:
            # Points of the same images need no image again.
            sample = None if is_there else dataset.sample(self._places[token])
            pose = dataset.global_from_ego(token)
        except DataError as error:
            return Looked(unreadable=str(error), fingerprint=found)
        if sample is not None:
            write_points(path, self._points(sample), made_of=found)
        return Looked(pose=pose, fingerprint=found)

    def _points(self, sample: Sample) -> LabelledPoints:
        config, images, cameras = self.config, sample.images[0], sample.cameras[0]
        depth = self.depth.estimate(images, cameras=cameras, token=sample.token, names=sample.camera_names)
        ids = self.labeller.label(images, token=sample.token, cameras=sample.camera_names)
        if config.images is not None:
            paths = [map_path(config.images, sample.token, name) for name in sample.camera_names]
            remove_partials(paths[0].parent, age=0)  # a frame's own folder, and the frame is ours
            for path, shown in zip(paths, ids.cpu().numpy(), strict=True):
                write_class_map(path, shown, ignore_id=sample.taxonomy.ignore_id)
        if config.uncertain == "free":
            ids = torch.where(ids == sample.taxonomy.ignore_id, sample.taxonomy.free_id, ids)
        points = back_project(
            depth.cpu(), ids.cpu(), cameras, sample.taxonomy, stride=config.stride, max_depth=config.max_depth
        )
        return remove_outliers(points, config.outliers, sample.taxonomy)


def _made(make: object) -> object:
    return cast(Callable[[], object], make)()


@dataclass(frozen=True, kw_only=True)
class Window:
    """The task of fusing: a frame and those beside it, whose points are there."""

    scene: str
    """Of the frame."""
    token: str
    """The frame."""
    others: tuple[tuple[str, Pose], ...]
    """Token of each other frame, and the pose that carries its points into the frame."""
    made_of: str
    """Digest of what all of them were made of."""


@dataclass(frozen=True, kw_only=True)
class FuseConfig:
    """Fusing windows of frames; picklable."""

    folder: Path
    """Where labels go."""
    points: Path
    """Folder of the points."""
    grid: VoxelGrid
    """The volume."""
    taxonomy: Taxonomy
    """Of the points."""
    fusion: FusionConfig
    """How."""

    def build(self) -> "Fuse":
        """Return the worker."""
        return Fuse(self)


class Fuse:
    """See `FuseConfig`. The task is a `Window`; the points of as many frames as a window has are remembered."""

    def __init__(self, config: FuseConfig) -> None:
        self.config = config
        self._near: OrderedDict[str, LabelledPoints] = OrderedDict()

    def __call__(self, window: Window) -> None:
        """Write the label of a frame."""
        config = self.config
        frames = [(self._read(window.token), np.eye(4))]
        frames += [(self._read(other), pose) for other, pose in window.others]
        labels = fuse(frames, config.grid, config.taxonomy, config.fusion)
        path = label_path(config.folder, window.scene, window.token)
        remove_partials(path.parent, age=0)  # a frame's own folder, and the frame is ours
        write_label(path, labels, made_of=window.made_of)

    def _read(self, token: str) -> LabelledPoints:
        if token in self._near:
            self._near.move_to_end(token)
            return self._near[token]
        self._near[token] = points = read_points(points_path(self.config.points, token))
        if len(self._near) > self.config.fusion.history + self.config.fusion.future + 1:
            self._near.popitem(last=False)
        return points


def write_label(path: Path, labels: FusedLabels, *, made_of: str | None = None) -> None:
    """Write a label in Occ3D's layout, with the number of points of each voxel, whole or not at all.

    Args:
        path: the file.
        labels: what it shall hold.
        made_of: digest of what they were made of, hexadecimal; the file states it, if it is known.
    """
    write_npz(
        path,
        semantics=labels.semantics,
        mask_lidar=(labels.count > 0).astype(np.uint8),
        mask_camera=labels.visible.astype(np.uint8),
        count=labels.count,
        **origin_array(made_of),
    )
