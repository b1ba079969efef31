"""The doctor: says what a data set folder is, and names each fault it finds, with its file and its remedy."""

import warnings
from pathlib import Path

from occkit.data.convert_files import FORMATS, find_labels, read_label, recognise_format
from occkit.data.datasets import DataConfig, open_dataset
from occkit.data.doctor.kitti import examine_kitti, sequence_folders
from occkit.data.doctor.labels import check_npz_label
from occkit.data.doctor.made import examiner_of
from occkit.data.doctor.nuscenes import examine_nuscenes, version_folder
from occkit.data.doctor.nyuv2 import examine_nyuv2
from occkit.data.doctor.report import Finding, Progress, Report, choose, relative
from occkit.data.doctor.small import (
    examine_file,
    examine_predictions,
    examine_rig,
    examine_run,
    note_pickles,
)
from occkit.data.nyuv2 import find_splits
from occkit.data.rig import find_drives
from occkit.data.views import read_grid
from occkit.errors import DataError, OcckitError
from occkit.files import npz_keys

__all__ = ["Finding", "Report", "examine"]

_ARCHIVES = ("*.tar.gz", "*.tgz", "*.tar", "*.zip", "*.sqfs*")


def examine(path: Path, *, frames: int | None = 20, progress: Progress = lambda what, done, total: None) -> Report:
    """Examine a data set folder, a run, a folder of predictions, or a single file.

    Args:
        path: what to examine.
        frames: how many frames are opened and compared with the LiDAR, spread evenly; None opens all. Names and sizes
            of files are always checked for all frames.
        progress: called with (what is being done, done, in all).

    Returns:
        What it is and what was found. Faults of the data are findings, never exceptions.
    """
    report = Report(path=str(path))
    try:
        _examine(report, Path(path), frames, progress)
    except DataError as error:
        report.add("error", error.path, error.problem, error.remedy)
    return report


def _examine(report: Report, path: Path, frames: int | None, progress: Progress) -> None:
    if path.is_file():
        examine_file(report, path)
        return
    if not path.is_dir():
        raise DataError(path, "no such file or folder", "check the path")
    if (path / "recipe.json").exists() or (path / "model.safetensors").exists():
        examine_run(report, path)  # first: it keeps the rigs of its training
    elif version_folder(path) is not None:
        examine_nuscenes(report, path, frames=frames, progress=progress)
        _open_with_reader(report, path if any(path.glob("v1.0-*")) else path.parent, progress)
    elif (found := sequence_folders(path)) is not None:
        examine_kitti(report, path, frames=frames, progress=progress)
        if found[1].is_kitti and report.checked.get("images"):
            _open_with_reader(report, path, progress)
    elif find_splits(path) is not None:
        examine_nyuv2(report, path, frames=frames, progress=progress)
        _open_with_reader(report, path, progress)
    elif drives := find_drives(path):
        for rig in choose([rig for files in drives.values() for rig in files], frames):
            examine_rig(report, rig)
        _open_with_reader(report, path, progress)
    elif (examine_made := examiner_of(path)) is not None:
        examine_made(report, path, frames, progress)
    elif _any(path, "labels.npz", "*/labels.npz", "*/*/labels.npz", "*/*/*/labels.npz"):
        _examine_labels(report, path, frames, progress)
    elif _any(path, "samples/*.npy", "*/occupancy/*.npy", "voxels/*.label", "*/voxels/*.label"):
        _examine_sparse(report, path, frames, progress)
    elif _any(path, "*.npz", "[0-9]*/*.npz", "sequences/*/predictions/*.label"):
        examine_predictions(report, path, frames=frames, progress=progress)
    else:
        _not_recognised(report, path)
    note_pickles(report, path)


def _open_with_reader(report: Report, path: Path, progress: Progress) -> None:
    """Where nothing is wrong so far, ask the reader itself: what it refuses is a fault as well."""
    if not report.healthy:
        return
    progress("opening with the reader", 0, 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # frames left out: the checks above have named them
            dataset = open_dataset(path, split="all", config=DataConfig(), cache_bytes=0)
        report.count("frames that can be loaded", len(dataset))
        dataset.sample(0)
    except OcckitError as error:
        report.add("error", path, str(error), "this is what training and prediction would stop at")


def _any(root: Path, *patterns: str) -> bool:
    """Whether a file matches: a bounded depth, so that a home folder is not searched through."""
    return any(next(root.glob(pattern), None) is not None for pattern in patterns)


def _examine_labels(report: Report, root: Path, frames: int | None, progress: Progress) -> None:
    """Examine a tree of labels.npz without tables: no LiDAR to compare with."""
    paths = sorted(root.rglob("labels.npz"))
    keys = report.attempt(lambda: npz_keys(paths[0])) or ()
    report.kind = f"{'OpenOcc' if 'flow' in keys else 'Occ3D'} labels (no tables beside them)"
    report.count("label files", len(paths))
    empty = [relative(p, root) for p in paths if p.stat().st_size == 0]
    report.add_many("error", empty, "empty file", "download it again")
    shape = None
    for done, path in enumerate(chosen := choose(paths, frames)):
        progress("examining labels", done, len(chosen))
        semantics = check_npz_label(report, path, shape=shape, name=relative(path, root))
        if semantics is not None:
            shape = (semantics.shape[0], semantics.shape[1], semantics.shape[2])
    report.add("info", root, "frame and position were not checked: that needs the tables and the LiDAR beside gts/")


def _examine_sparse(report: Report, root: Path, frames: int | None, progress: Progress) -> None:
    """Examine SurroundOcc or OpenOccupancy labels, or voxel labels outside their data set."""
    name = recognise_format(root)
    report.kind = f"{name} labels"
    files = list(find_labels(root, FORMATS[name]))
    report.count("label files", len(files))
    grid = report.attempt(lambda: read_grid(root))
    for done, file in enumerate(chosen := choose(files, frames)):
        progress("examining labels", done, len(chosen))
        report.attempt(lambda file=file: read_label(file, FORMATS[name], grid))


def _not_recognised(report: Report, path: Path) -> None:
    packed = [p.name for pattern in _ARCHIVES for p in sorted(path.glob(pattern))]
    if packed:
        report.add_many("error", packed, "archive that is not unpacked", "unpack it here")
        return
    inside = ", ".join(sorted(p.name for p in path.iterdir())[:6]) or "nothing"
    report.add(
        "error",
        path,
        f"not recognised as a data set: holds {inside}",
        "expected v1.0-*/ (nuScenes), sequences/ (SemanticKITTI), *_sync/ (SSCBench), NYUtrain/ (NYUv2), gts/, "
        "rig.json, a run, or what occkit features, teach or label wrote",
    )
