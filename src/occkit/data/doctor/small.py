"""Small things: rigs of own cameras, folders of predictions, runs, single files."""

import json
import struct
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from occkit.data.doctor.labels import check_npz_label
from occkit.data.doctor.nuscenes_tables import is_intrinsics, is_numbers
from occkit.data.doctor.report import Progress, Report, choose, relative
from occkit.data.occ3d import read_splits
from occkit.data.predictions import read_prediction
from occkit.data.semantickitti import grid_of_size
from occkit.data.submission import validate_submission
from occkit.errors import DataError
from occkit.files import IMAGE_FORMATS, open_file, read_bytes, read_image, read_json, read_npy
from occkit.taxonomy import SEMANTICKITTI, SEMANTICKITTI_LEARNING_MAP

_PICKLE = "a pickle: opening it runs whatever code its maker put in, so occkit never does"
_PICKLE_REMEDY = "not needed: occkit reads the nuScenes tables and the label files themselves"
_MAX_HEADER = 100 * 2**20


def examine_rig(report: Report, path: Path) -> None:
    """Examine a `rig.json`: each camera's image, intrinsics, pose, and the LiDAR if there is one."""
    report.kind = "rig of own cameras"
    document = report.attempt(lambda: read_json(path))
    if document is None:
        return
    cameras = document.get("cameras") if isinstance(document, dict) else None
    if not isinstance(cameras, list) or not cameras:
        report.add("error", path, "expected a list 'cameras' with at least one", "see docs: the format of rig.json")
        return
    names = Counter(str(c.get("name")) if isinstance(c, dict) else "?" for c in cameras)
    for number, camera in enumerate(cameras):
        if not isinstance(camera, dict):
            report.add("error", path, f"camera {number} is no object", "see docs: the format of rig.json")
            continue
        _check_camera(report, path, f"camera {camera.get('name', number)}", camera)
    report.add_many("error", [n for n, count in names.items() if count > 1], "camera name used twice", "rename it")
    if "global_from_ego" in document:
        _check_rigid(report, path, "global_from_ego", document["global_from_ego"])
    elif any(isinstance(c, dict) and "global_from_ego" in c for c in cameras):
        report.add("warning", path, "cameras have global_from_ego, the rig has none", "motion cannot be compensated")
    if document.get("lidar") is not None:
        _check_rig_lidar(report, path, document["lidar"])


def _check_camera(report: Report, path: Path, who: str, camera: dict[str, Any]) -> None:
    report.count("cameras")
    missing = [k for k in ("name", "image", "width", "height", "intrinsics", "ego_from_camera") if k not in camera]
    if missing:
        report.add("error", path, f"{who}: missing {', '.join(missing)}", "calibration is needed for every camera")
        return
    if not is_intrinsics(camera["intrinsics"]):
        report.add(
            "error", path, f"{who}: intrinsics are no pinhole matrix", "[[fx, 0, cx], [0, fy, cy], [0, 0, 1]], pixels"
        )
    elif not (0 < camera["intrinsics"][0][2] < _number(camera["width"])) or not (
        0 < camera["intrinsics"][1][2] < _number(camera["height"])
    ):
        report.add("warning", path, f"{who}: the principal point lies outside the image", "intrinsics of another size?")
    _check_rigid(report, path, f"{who}: ego_from_camera", camera["ego_from_camera"])
    if "global_from_ego" in camera:
        _check_rigid(report, path, f"{who}: global_from_ego", camera["global_from_ego"])
    lens = camera.get("distortion")
    if lens is not None and not (isinstance(lens, list) and is_numbers(lens, len(lens))):
        report.add(
            "error", path, f"{who}: distortion is no list of numbers", "k1, k2, p1, p2, ... as OpenCV gives them"
        )
    if not isinstance(camera["image"], str) or "\0" in camera["image"]:
        report.add("error", path, f"{who}: image is no path", "a path relative to rig.json")
        return
    image = report.attempt(lambda: read_image(path.parent / camera["image"]))
    if image is not None and image.shape[1:] != (camera["height"], camera["width"]):
        stated = f"{camera['width']} x {camera['height']}"
        what = f"{who}: the image is {image.shape[2]} x {image.shape[1]}, the rig says {stated}"
        report.add("error", path, what, "intrinsics belong to the stated size: scale both")


def _number(value: object) -> float:
    return float(value) if isinstance(value, (int, float)) and abs(value) < 1e6 else 0.0


def _check_rigid(report: Report, path: Path, who: str, value: object) -> None:
    rows = value if isinstance(value, list) and len(value) == 4 and all(is_numbers(r, 4) for r in value) else None
    if rows is None:
        report.add("error", path, f"{who} is no 4x4 matrix of finite numbers", "rows of a rigid motion, metres")
        return
    pose = np.array(rows, dtype=np.float64)
    rotation = pose[:3, :3]
    if np.abs(rotation @ rotation.T - np.eye(3)).max() > 1e-2 or np.linalg.det(rotation) < 0:
        report.add("error", path, f"{who} is no rigid motion", "its upper left 3x3 block must be a rotation")
    elif np.abs(pose[3] - (0, 0, 0, 1)).max() > 1e-6:
        report.add("error", path, f"{who}: last row is not 0 0 0 1", "was it stored transposed?")


def _check_rig_lidar(report: Report, path: Path, lidar: object) -> None:
    if (
        not isinstance(lidar, dict)
        or not isinstance(lidar.get("points"), str)
        or not isinstance(lidar.get("columns"), list)
    ):
        report.add("error", path, "lidar: expected points (a file), columns (names) and ego_from_lidar")
        return
    _check_rigid(report, path, "lidar: ego_from_lidar", lidar.get("ego_from_lidar"))
    data = report.attempt(lambda: open_file(path.parent / lidar["points"], max_bytes=2**30))
    if data is not None:
        data[0].close()
        row = 4 * max(len(lidar["columns"]), 1)
        if data[1] % row:
            report.add("error", lidar["points"], f"wrong size: not a multiple of {row} bytes (float32 columns)")


def examine_predictions(report: Report, root: Path, *, frames: int | None, progress: Progress) -> None:
    """Examine a folder of predictions: shapes that agree, ids that a byte can hold."""
    report.kind = "predictions"
    paths = sorted([*root.glob("*.npz"), *root.glob("*/*.npz")])
    report.count("predictions", len(paths))
    shapes: Counter[tuple[int, ...]] = Counter()
    top = 0
    for done, path in enumerate(chosen := choose(paths, frames)):
        progress("examining predictions", done, len(chosen))
        volume = report.attempt(lambda path=path: read_prediction(path))
        if volume is not None:
            shapes[volume.shape] += 1
            top = max(top, int(volume.max(initial=0)))
            if volume.size and volume.min() == volume.max():
                report.add("warning", relative(path, root), f"every voxel has id {int(volume.max())}", "untrained?")
    if len(shapes) > 1:
        report.add("error", root, f"volumes of several shapes: {sorted(shapes)}", "one folder, one grid")
    if shapes and top >= SEMANTICKITTI.num_classes:
        report.add(
            "error", root, f"ids out of range: up to {top}; no taxonomy has more than 0..19", "train ids, no 255"
        )


def examine_run(report: Report, root: Path) -> None:
    """Examine a run: recipe, weights, log."""
    report.kind = "run"
    for name in ("recipe.json", "environment.json"):
        if (root / name).exists():
            report.attempt(lambda name=name: read_json(root / name))
        else:
            report.add("warning", name, "is missing", "the run cannot say what made it")
    weights = root / "model.safetensors"
    if weights.exists():
        examine_weights(report, weights)
    else:
        report.add(
            "error", weights, "no weights: the training did not get to its first checkpoint", "occkit train --resume"
        )
    log = root / "metrics.jsonl"
    if not log.exists():
        report.add("warning", log.name, "is missing", "")
        return
    lines = (report.attempt(lambda: read_bytes(log)) or b"").decode("utf-8", "replace").splitlines()
    report.count("log lines", len(lines))
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            level = "warning" if number == len(lines) else "error"
            report.add(
                level, log.name, f"line {number} is no JSON", "cut off by a kill; --resume goes on from the checkpoint"
            )
            continue
        odd = (
            [k for k, v in record.items() if isinstance(v, float) and not np.isfinite(v)]
            if isinstance(record, dict)
            else []
        )
        if odd:
            report.add("error", log.name, f"{odd[0]} is not finite from line {number} on", "lower the learning rate")
            return


def examine_weights(report: Report, path: Path) -> None:
    """Check that a safetensors file is as long as its header says."""
    data = report.attempt(lambda: open_file(path, max_bytes=2**40))
    if data is None:
        return
    stream, size = data
    with stream:
        length = struct.unpack("<Q", head)[0] if len(head := stream.read(8)) == 8 else 0
        if not 0 < length <= min(size - 8, _MAX_HEADER):
            report.add("error", path, "is no safetensors file", "written by another program, or cut off")
            return
        try:
            header = json.loads(stream.read(length))
            ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
            end = max(ends, default=0)
            sound = isinstance(end, int) and 8 + length + end == size
        except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
            sound, ends = False, []
    report.count("tensors", len(ends))
    if not sound:
        report.add("error", path, "truncated or damaged: its header tells another size", "copy it again")


def examine_file(report: Report, path: Path) -> None:
    """Examine a single file by its name."""
    suffix = path.suffix.lower()
    if path.name == "rig.json":
        examine_rig(report, path)
    elif suffix in (".pkl", ".pickle", ".pth", ".pt", ".ckpt"):
        report.kind = "pickle"
        report.add("error", path, _PICKLE, _PICKLE_REMEDY)
    elif suffix == ".npz":
        report.kind = "label or prediction"
        check_npz_label(report, path)
    elif suffix == ".npy":
        report.kind = "numpy array"
        array = report.attempt(lambda: read_npy(path))
        if array is not None:
            report.add("info", path, f"{array.dtype} {array.shape}" + _describe(array.shape))
    elif suffix == ".json":
        report.kind = "JSON"
        document = report.attempt(lambda: read_json(path))
        if isinstance(document, dict) and "train_split" in document:
            report.kind = "Occ3D annotations.json"
            splits = report.attempt(lambda: read_splits(path))
            for split, scenes in (splits or {}).items():
                report.count(f"{split} scenes", len(scenes))
    elif suffix in (".label", ".bin", ".invalid", ".occluded") and path.parent.name == "voxels":
        _examine_voxel_file(report, path)
    elif suffix == ".zip":
        report.kind = "SemanticKITTI submission"
        report.add_many("error", report.attempt(lambda: validate_submission(path)) or [], "rule of the server broken")
    elif suffix == ".safetensors":
        report.kind = "weights"
        examine_weights(report, path)
    elif suffix.lstrip(".").upper().replace("JPG", "JPEG") in IMAGE_FORMATS:
        report.kind = "image"
        report.attempt(lambda: read_image(path))
    else:
        report.add(
            "error", path, f"a {suffix or 'nameless'} file is nothing occkit reads", "give the folder it is part of"
        )


def _describe(shape: tuple[int, ...]) -> str:
    if len(shape) == 2 and shape[1] in (4, 7):
        order = (
            "[x, y, z, class] (SurroundOcc) or [z, y, x, class] (OpenOccupancy)" if shape[1] == 4 else "OpenOccupancy"
        )
        return f": sparse labels, rows {order}; see `occkit convert`"
    return ": a volume, preprocessed labels?" if len(shape) == 3 else ""


def _examine_voxel_file(report: Report, path: Path) -> None:
    report.kind = "KITTI voxel file"
    data = report.attempt(lambda: read_bytes(path))
    if data is None:
        return
    readings = {"uint16 a voxel": len(data) / 2, "a bit a voxel": len(data) * 8, "a byte a voxel": len(data)}
    usual = "uint16 a voxel" if path.suffix == ".label" else "a bit a voxel"
    fits = []
    for how, voxels in readings.items():
        try:
            grid_of_size(path, int(voxels))
            fits.append(how)
        except DataError:
            continue
    if usual not in fits:
        report.add("error", path, f"wrong size {len(data):,}: not {usual} of any grid", "truncated? download it again")
    elif path.suffix == ".label":
        unknown = sorted(
            {int(i) for i in np.unique(np.frombuffer(data, "<u2")) if int(i) not in SEMANTICKITTI_LEARNING_MAP}
        )
        if unknown:
            report.add("error", path, f"ids out of range: {unknown[:5]}", "a .label holds original ids")


def note_pickles(report: Report, root: Path) -> None:
    """Say, where there are info pickles, that they are not opened."""
    found = [p.name for p in sorted(root.glob("*.pkl"))]
    report.add_many("info", found, _PICKLE, _PICKLE_REMEDY)
