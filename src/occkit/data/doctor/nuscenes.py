"""A nuScenes root: tables, sensor files, Occ3D labels, splits, and whether labels lie where the LiDAR saw things."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from occkit.data.doctor.alignment import MAX_FRAMES, POOR_AGREEMENT, Evidence, Verdict, judge
from occkit.data.doctor.labels import check_npz_label
from occkit.data.doctor.nuscenes_tables import MAX_MOUNTING, Record, Tables, is_pose, read_tables
from occkit.data.doctor.report import Progress, Report, choose, relative
from occkit.data.occ3d import read_splits
from occkit.data.views import read_grid
from occkit.errors import DataError
from occkit.files import read_image, read_raw
from occkit.geometry import OCC3D_GRID, VoxelGrid, pose_from_quaternion, transform_points
from occkit.taxonomy import OCC3D

_LIDAR = "LIDAR_TOP"
_ROW_BYTES = 20
_OWN_CAR = 3.0
"""LiDAR returns nearer than this, metres, may be the car itself, which no label holds."""


def version_folder(root: Path) -> Path | None:
    """Return the folder of the tables, if this is a nuScenes root: the fullest one where there are several."""
    if (root / "sample.json").exists() and (root / "scene.json").exists():
        return root
    found = [p for p in sorted(root.glob("v1.0-*")) if p.is_dir() and any(p.glob("*.json"))]
    order = ("v1.0-trainval", "v1.0-mini", "v1.0-test")
    found.sort(key=lambda p: order.index(p.name) if p.name in order else len(order))
    return found[0] if found else None


def examine_nuscenes(report: Report, root: Path, *, frames: int | None, progress: Progress) -> None:
    """Examine a nuScenes root (full, mini, or generated)."""
    folder = version_folder(root)
    if folder is None:
        raise DataError(root, "no tables", "give the folder that holds v1.0-trainval or v1.0-mini")
    root = folder.parent if folder == root else root
    report.kind = f"nuScenes, {folder.name}"
    progress("reading tables", 0, 1)
    tables = read_tables(report, folder)
    if tables is None:
        return
    _check_files(report, root, tables)
    scene_of = {
        t: str(tables.scenes[s["scene_token"]]["name"])
        for t, s in tables.samples.items()
        if s["scene_token"] in tables.scenes
    }
    labels = _find_labels(report, root, scene_of)
    _check_splits(report, root, set(scene_of.values()), labels=bool(labels))
    grid = report.attempt(lambda: read_grid(root))
    tokens = choose(sorted(tables.keyframes), frames)
    evidence: list[Evidence] = []
    compared = set(choose(tokens, MAX_FRAMES))
    shape = None if grid is None else grid.shape
    for done, token in enumerate(tokens):
        progress("examining frames", done, len(tokens))
        points = _check_sensors(report, root, tables.keyframes[token], tables)
        semantics = None
        if token in labels:
            name = relative(labels[token], root)
            semantics = check_npz_label(report, labels[token], shape=shape, name=name)
        if semantics is not None:
            shape = (semantics.shape[0], semantics.shape[1], semantics.shape[2])
            if points is not None and token in compared:
                evidence.append(
                    _evidence(
                        points, semantics, grid or VoxelGrid.from_shape(OCC3D_GRID.origin, OCC3D_GRID.upper, shape)
                    )
                )
    if evidence:
        _check_alignment(report, root / "gts", tables, evidence, grid)


def _check_files(report: Report, root: Path, tables: Tables) -> None:
    missing: dict[str, list[str]] = {}
    empty: list[str] = []
    odd: list[str] = []
    for frame in tables.keyframes.values():
        for channel, record in frame.items():
            try:
                size = (root / record["filename"]).stat().st_size
            except (OSError, ValueError):
                missing.setdefault(channel, []).append(record["filename"])
                continue
            report.count("files")
            if size == 0:
                empty.append(record["filename"])
            elif channel == _LIDAR and size % _ROW_BYTES:
                odd.append(record["filename"])
    for channel, names in sorted(missing.items()):
        level = "error" if channel.startswith(("CAM", "LIDAR")) else "info"
        report.add_many(level, names, f"missing file of {channel}", "unpack the rest of the download beside the tables")
    report.add_many("error", empty, "empty file", "download it again")
    report.add_many("error", odd, "wrong size: a sweep is rows of 5 float32 (20 bytes)", "download it again")
    if tables.num_sweeps and not (root / "sweeps").is_dir():
        report.add("info", root / "sweeps", f"{tables.num_sweeps:,} sweeps are in the tables, the folder is not there")


def _find_labels(report: Report, root: Path, scene_of: dict[str, str]) -> dict[str, Path]:
    base = root / "gts"
    if not base.is_dir():
        report.add("warning", base, "no Occ3D labels", "needed to train with labels and to evaluate, not to predict")
        return {}
    found = {path.parent.name: path for path in base.glob("*/*/labels.npz")}
    missing = sorted(f"gts/{scene}/{token}" for token, scene in scene_of.items() if token not in found)
    if found and missing:
        hint = "Occ3D has no labels for the test split; any other frame needs its file"
        labelled = {path.parent.parent.name for path in found.values()}
        holes = [m for m in missing if m.split("/")[1] in labelled]
        report.add_many("error", holes, "missing labels.npz in a labelled scene", hint)
        report.add_many("warning", [m for m in missing if m not in set(holes)], "frame of a scene without labels", hint)
    elif not found:
        report.add("error", base, "holds no <scene>/<token>/labels.npz", "unpack gts.tar.gz of Occ3D here")
    report.add_many(
        "warning",
        sorted(f"gts/{p.parent.parent.name}/{t}" for t, p in found.items() if t not in scene_of),
        "label of a frame that is not in the tables",
        "labels of the full set beside mini tables are harmless",
    )
    moved = sorted(relative(p, root) for t, p in found.items() if t in scene_of and p.parent.parent.name != scene_of[t])
    report.add_many("error", moved, "label lies under another scene than its frame", "unpack gts.tar.gz again")
    return {token: path for token, path in found.items() if token in scene_of}


def _check_splits(report: Report, root: Path, scenes: set[str], *, labels: bool) -> None:
    path = next((p for p in (root / "annotations.json", root / "gts" / "annotations.json") if p.is_file()), None)
    if path is None:
        report.add(
            "warning" if labels else "info",
            root / "annotations.json",
            "missing split list: which scenes are for training, which for validation",
            "take annotations.json of Occ3D (or occkit world's)",
        )
        return
    splits = report.attempt(lambda: read_splits(path))
    if splits is None:
        return
    both = sorted(splits["train"] & splits["val"])
    report.add_many("error", both, "scene in the training and the validation split", "results would be too good")
    if not scenes & (splits["train"] | splits["val"] | splits["test"]):
        report.add("error", path, "names no scene of these tables", "take the annotations.json of this data set")


def _check_sensors(
    report: Report, root: Path, frame: dict[str, Record], tables: Tables
) -> npt.NDArray[np.float32] | None:
    """Decode the images of a frame and read its LiDAR; return the points in the ego frame, metres."""
    report.count("frames")
    points = None
    for channel, record in frame.items():
        path = root / record["filename"]
        if not path.is_file() or path.stat().st_size == 0:
            continue
        if channel.startswith("CAM"):
            image = report.attempt(lambda path=path: read_image(path))
            if image is None:
                continue
            report.count("images")
            stated = (record.get("height"), record.get("width"))
            if None not in stated and stated != image.shape[1:]:
                what = f"image is {image.shape[2]} x {image.shape[1]}, the tables say {stated[1]} x {stated[0]}"
                report.add("error", record["filename"], what, "intrinsics belong to the stated size: scale both")
        elif channel == _LIDAR and path.stat().st_size % _ROW_BYTES == 0:
            rows = report.attempt(lambda path=path: read_raw(path, "<f4", columns=5))
            if rows is not None and not np.isfinite(rows[:, :3]).all():
                report.add("error", record["filename"], "LiDAR points hold NaN or infinity", "download it again")
            elif rows is not None:
                points = _to_ego(rows[:, :3], tables.calibrations[record["calibrated_sensor_token"]])
    return points


def _to_ego(points: npt.NDArray[np.float32], calibration: Record) -> npt.NDArray[np.float32] | None:
    if not is_pose(calibration, reach=MAX_MOUNTING):
        return None  # the check of the tables has said so
    ego_from_lidar = pose_from_quaternion(
        torch.tensor(calibration["rotation"], dtype=torch.float64),
        torch.tensor(calibration["translation"], dtype=torch.float64),
    )
    far = np.hypot(points[:, 0], points[:, 1]) > _OWN_CAR
    return transform_points(ego_from_lidar, torch.from_numpy(points[far]).double()).float().numpy()


def _evidence(points: npt.NDArray[np.float32], semantics: npt.NDArray[np.uint8], grid: VoxelGrid) -> Evidence:
    index, inside = grid.index_of(torch.from_numpy(points))
    hits = np.unique(index[inside].numpy().reshape(-1, 3), axis=0)
    return Evidence(hits=hits, occupied=(semantics != OCC3D.free_id) & (semantics != OCC3D.ignore_id))


def _check_alignment(
    report: Report, path: Path, tables: Tables, evidence: list[Evidence], grid: VoxelGrid | None
) -> None:
    mountings = [
        tables.calibrations[frame[_LIDAR]["calibrated_sensor_token"]]
        for frame in tables.keyframes.values()
        if _LIDAR in frame
    ]
    heights = [float(m["translation"][2]) for m in mountings if is_pose(m, reach=MAX_MOUNTING)]
    nx, ny, nz = evidence[0].occupied.shape
    grid = grid or VoxelGrid.from_shape(OCC3D_GRID.origin, OCC3D_GRID.upper, (nx, ny, nz))
    verdict = judge(evidence, lidar_height=round(heights[0] / grid.voxel_size[2]) if heights else 0)
    report_verdict(report, path, verdict, frames=len(evidence))


def report_verdict(report: Report, path: Path, verdict: Verdict, *, frames: int, sensor: str = "LiDAR") -> None:
    """Note what the comparison with the LiDAR, or with depth maps, says about the labels."""
    report.count(f"frames compared with {sensor}", frames)
    share = f"{100 * verdict.agreement:.0f} % of the voxels the {sensor} hits are occupied"
    if verdict.mistake is not None:
        report.add(
            "error",
            path,
            f"labels do not lie where the {sensor} saw things: {verdict.mistake} "
            f"({share}; {100 * verdict.undone:.0f} % with that undone)",
            "convert them to [x, y, z] in the frame and grid of this data set",
        )
    elif verdict.agreement < POOR_AGREEMENT:
        report.add("warning", path, f"labels and {sensor} agree badly: {share}", "another frame, grid or data set?")
    elif frames:
        report.add("info", path, f"labels agree with the {sensor}: {share}")
