"""Files to look at, whatever their format: the volumes of a folder, and frames made of several of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch

from occkit.data.convert_files import FORMATS, FormatName, LabelFile, LabelFormat, find_labels, read_label
from occkit.data.convert_files import recognise_format as recognise_labels
from occkit.data.frames import FrameDataset
from occkit.data.nyuv2 import NYUV2_GRID
from occkit.data.occ3d import read_labels
from occkit.data.predictions import list_predictions, prediction_path, read_prediction
from occkit.data.views import read_grid
from occkit.errors import ConfigError, DataError
from occkit.files import npz_keys
from occkit.geometry import VoxelGrid
from occkit.samples import Occupancy
from occkit.taxonomy import NYUV2, Taxonomy
from occkit.viewer.figures import recording_car
from occkit.viewer.show import FrameToShow

PUBLISHED = (
    *((FORMATS[name].grid, FORMATS[name].taxonomy) for name in ("occ3d", "semantickitti", "openoccupancy")),
    (NYUV2_GRID, NYUV2),
)
"""Grids and classes by which a volume that comes with nothing else is recognised: by its shape alone."""


@dataclass(frozen=True, kw_only=True)
class Volumes:
    """Volumes of one origin."""

    name: str
    """What they are: label, prediction, the name of a folder."""
    read: Callable[[str], Occupancy | None]
    """Returns that of a token, or None."""
    tokens: tuple[str, ...] | None = None
    """Frames it knows, in order; None for any."""
    scenes: Mapping[str, str] = field(default_factory=dict[str, str])
    """Scene of a token, where known."""


def labels_of(dataset: FrameDataset) -> Volumes:
    """Return the labels of a data set."""
    return Volumes(name="label", read=dataset.label)


def volumes_of(path: Path, *, dataset: FrameDataset | None = None, kind: FormatName | None = None) -> Volumes:
    """Return the volumes of a folder or file: labels in any layout of docs/files.md, or `<token>.npz`.

    Args:
        path: the folder, or a file of one volume.
        dataset: the frames they belong to, whose grid and classes they then have.
        kind: the labels' format, where the folder does not show it.

    Raises:
        DataError: if nothing can be read there.
    """
    if path.is_file():
        return _one_file(path, dataset, kind)
    if not path.is_dir():
        raise DataError(path, "no such file or folder", "give a data set, a run, a folder of volumes, or one volume")
    try:
        form = FORMATS[kind or recognise_labels(path)]
    except DataError:
        return _predictions(path, dataset)
    files = {file.token: file for file in find_labels(path, form)}
    return Volumes(
        name=path.resolve().name,
        read=lambda token: _label(files[token], form, dataset, read_grid(path)) if token in files else None,
        tokens=tuple(files),
        scenes={token: file.scene for token, file in files.items()},
    )


def frames_of(volumes: Sequence[Volumes], dataset: FrameDataset | None = None) -> tuple[FrameToShow, ...]:
    """Return the frames that all the volumes know, in the order of the data set, or of the first folder.

    Args:
        volumes: at least one; the last is what the others are measured by.
        dataset: gives images, cameras and points.

    Raises:
        ConfigError: if they have no frame in common.
    """
    lists = [list(source.tokens) for source in volumes if source.tokens is not None]
    order = list(dataset.tokens) if dataset is not None else lists[0]
    chosen = [token for token in order if all(token in tokens for tokens in map(set, lists))]
    if not chosen:
        others = f", and {lists[0][0]!r} such as a volume's" if lists else ""
        raise ConfigError(f"no frame in common: {order[0]!r} is a frame{others}; give the data they are of")
    ego = recording_car(dataset.name) if dataset is not None else None
    position = {token: i for i, token in enumerate(dataset.tokens)} if dataset is not None else {}
    scenes = {token: name for source in volumes for token, name in source.scenes.items()}
    return tuple(
        FrameToShow(
            token=token,
            scene=dataset.scene(token) if dataset is not None else scenes.get(token, ""),
            volumes={source.name: partial(source.read, token) for source in volumes},
            sample=None if dataset is None else partial(dataset.sample, position[token]),
            ego=ego,
        )
        for token in chosen
    )


def _one_file(path: Path, dataset: FrameDataset | None, kind: FormatName | None) -> Volumes:
    form = next((f for f in FORMATS.values() if path.match(f.pattern) and kind in (None, f.name)), None)
    if form is None and path.suffix != ".npz":
        raise DataError(path, "is no volume in a known layout", "give a .npz, or one that lies as docs/files.md says")
    if form is None:
        token, read = path.stem, lambda: _prediction(path, dataset)
    else:
        file = LabelFile(scene="", token=path.parent.name if path.name == "labels.npz" else path.stem, path=path)
        token, read = file.token, lambda: _label(file, form, dataset, None)
    return Volumes(name=path.name, read=lambda wanted: read() if wanted == token else None, tokens=(token,))


def _predictions(folder: Path, dataset: FrameDataset | None) -> Volumes:
    def read(token: str) -> Occupancy | None:
        path = prediction_path(folder, token)
        return _prediction(path, dataset) if path.is_file() else None

    return Volumes(name=folder.resolve().name, read=read, tokens=list_predictions(folder))


def _prediction(path: Path, dataset: FrameDataset | None) -> Occupancy:
    """Read one `<token>.npz`, on the data set's grid; without a data set its shape says which published one it has."""
    if dataset is not None:
        semantics = read_prediction(path, shape=dataset.grid.shape)
        return Occupancy(semantics=torch.from_numpy(semantics), grid=dataset.grid, taxonomy=dataset.taxonomy)
    semantics = read_prediction(path)
    grid, taxonomy = _published(path, semantics.shape)
    return Occupancy(semantics=torch.from_numpy(semantics), grid=grid, taxonomy=taxonomy)


def _published(path: Path, shape: tuple[int, ...]) -> tuple[VoxelGrid, Taxonomy]:
    for grid, taxonomy in PUBLISHED:
        if grid.shape == shape:
            return grid, taxonomy
    raise DataError(path, f"a volume of {shape} voxels could lie anywhere", "say whose it is: --data ROOT")


def _label(file: LabelFile, form: LabelFormat, dataset: FrameDataset | None, grid: VoxelGrid | None) -> Occupancy:
    if form.name == "occ3d" and dataset is not None:
        # Pseudo-labels: Occ3D's layout, the data's own grid and classes.
        return read_labels(file.path, grid=dataset.grid, taxonomy=dataset.taxonomy)
    if form.name == "occ3d" and grid is None and "semantics" not in npz_keys(file.path):
        raise DataError(file.path, "has no array `semantics`", "expected a label in Occ3D's layout")
    return read_label(file, form, grid).occupancy
