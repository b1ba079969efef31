"""Writing down what models say of images, as inputs and teachers of systems: depth maps, classes, features.

Below a folder: `depth/<token>/<camera>.png`, `masks/<token>/<camera>.png`, `features/`, each with what made it.
"""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track

from occkit.data.frames import FrameDataset
from occkit.data.image_inputs import depth_map_path, write_depth_map
from occkit.data.image_maps import map_path, write_class_map
from occkit.errors import ConfigError
from occkit.files import read_json, write_json
from occkit.foundation import DepthEstimator, FeatureExtractor, SemanticLabeller
from occkit.samples import Sample
from occkit.training.evaluate import share
from occkit.training.feature_plan import open_for_writing
from occkit.training.features import fill_store

DESCRIPTION = "look.json"
"""File of a folder of maps that says what made them."""


@dataclass(frozen=True, kw_only=True)
class Looked:
    """What writing cost."""

    frames: int
    """Frames looked at now, by this process."""
    seconds: float
    """Wall time of that, reading of images included."""
    bytes: int
    """Size of all files of the folder."""

    @property
    def milliseconds_per_frame(self) -> float:
        """Mean over the frames looked at now; 0 if there was none."""
        return 1000 * self.seconds / self.frames if self.frames else 0.0


def write_depth(estimator: DepthEstimator, dataset: FrameDataset, folder: Path, *, progress: bool = True) -> Looked:
    """Write the depth maps of every frame's current images; those that are there are not made again.

    Args:
        estimator: any of `occkit.foundation`.
        dataset: the frames, opened as they are stored: without an image size and without augmentation.
        folder: where to write.
        progress: show a bar on the terminal.

    Raises:
        ConfigError: if the folder holds maps of another estimator.
    """

    def write(sample: Sample) -> None:
        found = estimator.estimate(
            sample.images[0], cameras=sample.cameras[0], token=sample.token, names=sample.camera_names
        )
        for name, depth in zip(sample.camera_names, found, strict=True):
            write_depth_map(depth_map_path(folder, sample.token, name), depth)

    return _write("depth", estimator.description, dataset, folder, write, progress=progress)


def write_masks(labeller: SemanticLabeller, dataset: FrameDataset, folder: Path, *, progress: bool = True) -> Looked:
    """Write the classes of the pixels of every frame's current images; arguments as in `write_depth`.

    Raises:
        ConfigError: if the folder holds maps of another labeller, or it speaks of other classes than the data.
    """
    if labeller.taxonomy.name != dataset.taxonomy.name:
        raise ConfigError(
            f"write_masks: the labeller gives classes of {labeller.taxonomy.name}, {dataset.root} has those of "
            f"{dataset.taxonomy.name}; take another vocabulary"
        )

    def write(sample: Sample) -> None:
        found = labeller.label(sample.images[0], token=sample.token, cameras=sample.camera_names)
        for name, ids in zip(sample.camera_names, found.cpu().numpy(), strict=True):
            write_class_map(map_path(folder, sample.token, name), ids, ignore_id=sample.taxonomy.ignore_id)

    return _write("masks", labeller.description, dataset, folder, write, progress=progress)


def write_segmentation_features(
    extractor: FeatureExtractor, dataset: FrameDataset, folder: Path, *, progress: bool = True
) -> Looked:
    """Write the features of every frame's current images, 8 bits a number; arguments as in `write_depth`.

    Raises:
        DataError: if the folder holds other features.
    """
    started = time.perf_counter()
    store = open_for_writing(extractor, dataset, folder, progress=progress).store
    filled = fill_store(extractor, dataset, store, progress=progress)
    return Looked(frames=filled.written, seconds=time.perf_counter() - started, bytes=_size(folder))


def _write(
    what: str,
    description: Mapping[str, Any],
    dataset: FrameDataset,
    folder: Path,
    write: Callable[[Sample], None],
    *,
    progress: bool,
) -> Looked:
    """Write the maps of the frames that have none."""
    _describe(folder, {"what": what, "made by": dict(description)})
    cameras = dataset.camera_names
    places = {token: index for index, token in enumerate(dataset.tokens)}
    missing = [
        token
        for token in share(dataset.tokens)
        if not all(map_path(folder, token, camera).is_file() for camera in cameras)
    ]
    started = time.perf_counter()
    for token in track(missing, what, console=Console(stderr=True), disable=not progress):
        write(dataset.sample(places[token]))
    return Looked(frames=len(missing), seconds=time.perf_counter() - started, bytes=_size(folder))


def _describe(folder: Path, wanted: dict[str, Any]) -> None:
    """Say what makes the maps of a folder, or refuse to mix them with others."""
    path, wanted = folder / DESCRIPTION, json.loads(json.dumps(wanted))
    if not path.is_file():
        write_json(path, wanted)
        return
    found = read_json(path, max_bytes=2**20)
    if found != wanted:
        raise ConfigError(f"{folder}: holds maps made in another way: {str(found)[:200]}; take another folder")


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
