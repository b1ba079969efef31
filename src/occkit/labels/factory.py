"""The label factory: frame after frame of a data set, each fused with those before it, interrupted or not."""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64
from rich.console import Console
from rich.progress import track

from occkit.data.frames import FrameDataset
from occkit.data.image_maps import map_path, write_class_map
from occkit.data.occ3d import label_path
from occkit.errors import ConfigError, DataError
from occkit.files import read_json, write_json, write_npz
from occkit.foundation import DepthEstimator, SemanticLabeller
from occkit.labels.fusion import FusedLabels, FusionConfig, fuse
from occkit.labels.points import (
    LabelledPoints,
    OutlierConfig,
    StatisticalOutliers,
    back_project,
    read_points,
    remove_outliers,
    write_points,
)
from occkit.samples import Sample

DESCRIPTION = "labels.json"
"""File of a folder of labels that says how they were made."""
POINTS_DESCRIPTION = "points.json"
"""File of a folder of points that says whose they are."""
SKIPPED = "skipped.json"
"""File that names the frames without a label, and why."""
_POINTS = ".points"


@dataclass(frozen=True, kw_only=True)
class FactoryConfig:
    """From images to labels, but for the models that look at the images."""

    stride: int = 4
    """Take one pixel of each block of so many squared: the middle one, or if that has no depth the nearest to it
    that has. A network's depth is thinned out, that of a LiDAR stays whole."""
    max_depth: float = 52.0
    """Leave out what is farther, metres of z-depth; the corner of Occ3D's volume is 57 m away."""
    outliers: OutlierConfig | None = field(default_factory=StatisticalOutliers)
    """Which points are taken for errors; None keeps all."""
    fusion: FusionConfig = field(default_factory=FusionConfig)
    """How the points of several frames name the voxels of one."""

    def __post_init__(self) -> None:
        if self.stride < 1 or self.max_depth <= 0:
            raise ConfigError(f"FactoryConfig: expected stride >= 1 and max_depth > 0, got {self}")


@dataclass(frozen=True, kw_only=True)
class Made:
    """What a run of the factory did."""

    written: int
    """Labels written now."""
    kept: int
    """Labels that were there."""
    skipped: Mapping[str, str]
    """Frames without a label, and why."""


def make_labels(
    dataset: FrameDataset,
    folder: Path,
    *,
    depth: DepthEstimator,
    labeller: SemanticLabeller,
    config: FactoryConfig,
    keep_images: bool = False,
    points: Path | None = None,
    progress: bool = True,
) -> Made:
    """Write a label for every frame; those that are there already are not made again.

    The points of a frame are kept below the folder as long as later frames need them, so that an interrupted run goes
    on without asking the models again, and ends with the same bytes.

    Args:
        dataset: the frames, opened as they are stored: without an image size and without augmentation.
        folder: where to write: `gts/<scene>/<token>/labels.npz` with `semantics`, `mask_camera` (seen by a ray of the
            frame), `mask_lidar` (has points) and `count`; `labels.json`; `skipped.json` if a frame could not be read.
        depth: says how far each pixel is.
        labeller: says what each pixel shows.
        config: the rest.
        keep_images: also write the classes of the pixels, `images/<token>/<camera>.png` (`DataConfig.image_semantics`).
        points: folder in which the points of every frame are kept, and taken from if they are there: labels that are
            fused in another way need no model again. None keeps them below `folder`, as long as they are needed.
        progress: show a bar on the terminal.

    Returns:
        What was done. A frame whose images cannot be read has no label, and later frames go without its points.

    Raises:
        ConfigError: if the folder holds labels made in another way, or the labeller speaks of other classes, or the
            points are those of other models.
        DataError: if frames are to be joined whose poses are unknown.
    """
    if labeller.taxonomy.name != dataset.taxonomy.name:
        raise ConfigError(
            f"make_labels: the labeller gives classes of {labeller.taxonomy.name}, {dataset.root} has those of "
            f"{dataset.taxonomy.name}; take another vocabulary"
        )
    _describe(folder / DESCRIPTION, _description_of_labels(depth, labeller, config, dataset))
    if points is not None:
        _describe(points / POINTS_DESCRIPTION, _description_of_points(depth, labeller, config, dataset))
    writer = _Writer(dataset, folder, depth, labeller, config, keep_images=keep_images, points=points)
    written, kept = 0, 0
    places = [(scene, tokens, i) for scene, tokens in _scenes(dataset) for i in range(len(tokens))]
    for scene, tokens, position in track(places, "labels", console=Console(stderr=True), disable=not progress):
        token = tokens[position]
        if label_path(folder, scene, token).is_file() and writer.has_images(token):
            kept += 1
        elif writer.write(scene, tokens, position):
            written += 1
        writer.forget(tokens, len(tokens) + config.fusion.history if token == tokens[-1] else position)
    _finish(folder, writer.skipped)
    return Made(written=written, kept=kept, skipped=writer.skipped)


def _finish(folder: Path, skipped: Mapping[str, str]) -> None:
    shutil.rmtree(folder / _POINTS, ignore_errors=True)
    if skipped:
        write_json(folder / SKIPPED, dict(skipped))
    else:
        (folder / SKIPPED).unlink(missing_ok=True)


class _Writer:
    """Makes the label of a frame, and remembers the points of those around it."""

    def __init__(
        self,
        dataset: FrameDataset,
        folder: Path,
        depth: DepthEstimator,
        labeller: SemanticLabeller,
        config: FactoryConfig,
        *,
        keep_images: bool,
        points: Path | None,
    ) -> None:
        self.dataset, self.folder, self.config = dataset, folder, config
        self.keep_images = keep_images
        self.points, self.keep_points = points or folder / _POINTS, points is not None
        self.depth, self.labeller = depth, labeller
        self.index = {token: i for i, token in enumerate(dataset.tokens)}
        self.near: dict[str, tuple[LabelledPoints, Float64[np.ndarray, "4 4"] | None]] = {}
        self.skipped: dict[str, str] = {}

    def write(self, scene: str, tokens: Sequence[str], position: int) -> bool:
        """Write the label of a frame; False if its own images cannot be read."""
        fusion = self.config.fusion
        token = tokens[position]
        if not self._look(token):
            return False
        others = [tokens[i] for i in _window(position, len(tokens), fusion.history, fusion.future)]
        present, pose = self.near[token]
        frames = [(present, np.eye(4))]
        for other in others:
            if self._look(other):
                points, other_pose = self.near[other]
                frames.append((points, self._between(token, pose, other, other_pose)))
        labels = fuse(frames, self.dataset.grid, self.dataset.taxonomy, fusion)
        _write(label_path(self.folder, scene, token), labels)
        return True

    def has_images(self, token: str) -> bool:
        """Whether the classes of a frame's pixels are written, or nobody wants them."""
        paths = (map_path(self.folder / "images", token, name) for name in self.dataset.camera_names)
        return not self.keep_images or all(path.is_file() for path in paths)

    def forget(self, tokens: Sequence[str], position: int) -> None:
        """Drop what no frame after this one needs."""
        last = position - self.config.fusion.history
        for token in tokens[: max(0, last + 1)]:
            if self.near.pop(token, None) is not None and not self.keep_points:
                self._file(token).unlink(missing_ok=True)

    def _file(self, token: str) -> Path:
        return self.points / f"{token}.npz"

    def _look(self, token: str) -> bool:
        """Have the points of a frame at hand; False if its images cannot be read."""
        if token in self.near:
            return True
        if token in self.skipped:
            return False
        try:
            sample = self.dataset.sample(self.index[token])
        except DataError as error:
            self.skipped[token] = str(error)
            return False
        pose = None if sample.global_from_ego is None else sample.global_from_ego.double().numpy()
        if not self._file(token).is_file() or not self.has_images(token):
            write_points(self._file(token), self._points(sample))
        self.near[token] = read_points(self._file(token)), pose
        return True

    def _points(self, sample: Sample) -> LabelledPoints:
        images, cameras = sample.images[0], sample.cameras[0]
        depth = self.depth.estimate(images, cameras=cameras, token=sample.token, names=sample.camera_names)
        ids = self.labeller.label(images, token=sample.token, cameras=sample.camera_names)
        if self.keep_images:
            for name, shown in zip(sample.camera_names, ids.cpu().numpy(), strict=True):
                path = map_path(self.folder / "images", sample.token, name)
                write_class_map(path, shown, ignore_id=sample.taxonomy.ignore_id)
        points = back_project(
            depth.cpu(), ids.cpu(), cameras, sample.taxonomy, stride=self.config.stride, max_depth=self.config.max_depth
        )
        return remove_outliers(points, self.config.outliers, sample.taxonomy)

    def _between(
        self,
        token: str,
        pose: Float64[np.ndarray, "4 4"] | None,
        other: str,
        other_pose: Float64[np.ndarray, "4 4"] | None,
    ) -> Float64[np.ndarray, "4 4"]:
        if pose is None or other_pose is None:
            raise DataError(
                self.dataset.root,
                f"frame {token if pose is None else other} has no pose in the world, so frames cannot be joined",
                "add global_from_ego, or label each frame by itself (history and future 0)",
            )
        return np.linalg.inv(pose) @ other_pose


def _window(position: int, count: int, history: int, future: int) -> Iterator[int]:
    """Yield the places beside a position that lie within a scene."""
    for other in range(max(0, position - history), min(count, position + future + 1)):
        if other != position:
            yield other


def _scenes(dataset: FrameDataset) -> Iterator[tuple[str, list[str]]]:
    """Yield the frames of each scene in the order of time."""
    order: dict[str, list[str]] = {}
    for token in dataset.tokens:
        order.setdefault(dataset.scene(token), []).append(token)
    yield from order.items()


def _write(path: Path, labels: FusedLabels) -> None:
    write_npz(
        path,
        semantics=labels.semantics,
        mask_lidar=(labels.count > 0).astype(np.uint8),
        mask_camera=labels.visible.astype(np.uint8),
        count=labels.count,
    )


def _description_of_points(
    depth: DepthEstimator, labeller: SemanticLabeller, config: FactoryConfig, dataset: FrameDataset
) -> dict[str, Any]:
    outliers = None if config.outliers is None else asdict(config.outliers)
    return {
        "format": 1,
        "depth": dict(depth.description),
        "labeller": dict(labeller.description),
        "stride": config.stride,
        "max_depth": config.max_depth,
        "outliers": {"kind": type(config.outliers).__name__, "config": outliers},
        "taxonomy": dataset.taxonomy.name,
    }


def _description_of_labels(
    depth: DepthEstimator, labeller: SemanticLabeller, config: FactoryConfig, dataset: FrameDataset
) -> dict[str, Any]:
    return {
        "format": 1,
        "depth": dict(depth.description),
        "labeller": dict(labeller.description),
        "config": asdict(config) | {"outliers_kind": type(config.outliers).__name__},
        "grid": {"origin": list(dataset.grid.origin), "voxel_size": list(dataset.grid.voxel_size)},
        "shape": list(dataset.grid.shape),
        "taxonomy": dataset.taxonomy.name,
    }


def _describe(path: Path, wanted: dict[str, Any]) -> None:
    """Say how what lies in a folder is made, or refuse to mix it with what was made in another way."""
    if not path.is_file():
        write_json(path, wanted)
        return
    found = read_json(path)
    if found != wanted:
        keys = [key for key in wanted if not isinstance(found, dict) or found.get(key) != wanted[key]]
        what = path.stem
        raise ConfigError(
            f"{path.parent}: holds {what} made in another way (different: {', '.join(keys)}); take another folder"
        )
