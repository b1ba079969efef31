"""Writing down what models say of images, as inputs and teachers of systems: depth maps, classes, features.

Below a folder: `depth/<token>/<camera>.png`, `masks/<token>/<camera>.png`, `features/`, each with what made it.
"""

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from rich.console import Console
from rich.progress import track
from torch import Tensor, nn

from occkit.data.frames import FrameDataset
from occkit.data.image_inputs import depth_map_path, write_depth_map
from occkit.data.image_maps import map_path, write_class_map
from occkit.errors import ConfigError
from occkit.files import read_json, write_json
from occkit.foundation import DepthEstimator, FeatureExtractor, SemanticLabeller
from occkit.geometry import Cameras
from occkit.geometry.rays import pixel_grid
from occkit.nn.depth import DepthBins
from occkit.samples import Sample, collate
from occkit.training.evaluate import share
from occkit.training.feature_plan import open_for_writing
from occkit.training.features import fill_store
from occkit.training.system import ScoresDepth, predict

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


def write_depth_of_run(
    model: nn.Module, seen: FrameDataset, stored: FrameDataset, folder: Path, *, name: str, progress: bool = True
) -> Looked:
    """Write the depth that a run's own network scores in the images; maps that are there are not made again.

    Args:
        model: a system that is also `ScoresDepth`, and does.
        seen: the frames as the run looks at them.
        stored: the same as they are stored, whose pixels the maps have.
        folder: where to write.
        name: of the run's recipe; kept beside the maps, with a hash of the weights.
        progress: show a bar on the terminal.

    Raises:
        ConfigError: if the model scores no depth, or the folder holds maps of another estimator.
    """
    if not isinstance(model, ScoresDepth):
        raise ConfigError(f"{type(model).__name__} scores no depth; take a run of lift, or of cigocc.nano_stereo")
    bins, device = model.depth_bins, next(model.parameters()).device
    places = {token: index for index, token in enumerate(seen.tokens)}
    first = _scores(model, seen.sample(0), device)

    def write(sample: Sample) -> None:
        shown = seen.sample(places[sample.token])
        scores = _scores(model, shown, device)
        for number, score in enumerate(scores):
            depth = metres_of(score, bins, shown.cameras[0, number], sample.cameras[0, number])
            write_depth_map(depth_map_path(folder, sample.token, sample.camera_names[number]), depth)

    digest = hashlib.sha256()
    for tensor in model.state_dict().values():
        digest.update(tensor.cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    made_by = {"depth": "run", "recipe": name, "weights": digest.hexdigest()[:16]}
    cameras = stored.camera_names[: len(first)]  # a stereo pair scores its first image alone
    return _write("depth", made_by, stored, folder, write, cameras=cameras, progress=progress)


def metres_of(scores: Float[Tensor, "d h w"], bins: DepthBins, seen: Cameras, stored: Cameras) -> Float[Tensor, "u v"]:
    """Return scores of depth bins as a depth map of the stored image.

    Probabilities are interpolated between cells; a pixel's depth is the mean of the likeliest bin and its neighbours,
    which lies on one side of a step in depth and not between.

    Args:
        scores: of the cells of the whole image that the network saw.
        bins: the bins.
        seen: the camera, no leading dimensions, of that image.
        stored: the same of the image as it is stored.

    Returns:
        z-depth, metres; 0 where the network did not look.
    """
    pixels = pixel_grid(stored.height, stored.width).to(scores)
    # Scaling and cropping move pixels along each axis: K_seen K_stored^-1, the lens being the same.
    moved = (seen.intrinsics @ torch.linalg.inv(stored.intrinsics)).to(scores)
    places = pixels * torch.stack([moved[0, 0], moved[1, 1]]) + moved[:2, 2]
    size = places.new_tensor([seen.width, seen.height])
    where = (places / size * 2 - 1).reshape(1, stored.height, stored.width, 2)
    probability = scores.softmax(dim=0)[None]
    shares = F.grid_sample(probability, where, padding_mode="border", align_corners=False)[0]
    near = (torch.arange(bins.count, device=scores.device)[:, None, None] - shares.argmax(dim=0)).abs() <= 1
    weights = shares * near
    depth = (weights * bins.centers(device=scores.device)[:, None, None]).sum(dim=0) / weights.sum(dim=0)
    return torch.where((where[0].abs() <= 1).all(dim=-1), depth, 0.0).cpu()


@torch.no_grad()
def _scores(model: nn.Module, sample: Sample, device: torch.device) -> Float[Tensor, "n d h w"]:
    found = predict(model, collate([sample]).to(device)).depth_logits
    if found is None:
        raise ConfigError(f"{type(model).__name__}: this run is given its depth; take one that scores it from images")
    return found[0].float()


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
    cameras: Sequence[str] | None = None,
    progress: bool,
) -> Looked:
    """Write the maps of the frames that have none, of all cameras or of some."""
    _describe(folder, {"what": what, "made by": dict(description)})
    cameras = dataset.camera_names if cameras is None else cameras
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
