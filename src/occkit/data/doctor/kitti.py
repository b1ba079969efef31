"""SemanticKITTI and SSCBench-KITTI-360 roots: file sizes, packing, ids, calibration, poses, images, alignment."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from occkit.data.doctor.alignment import MAX_FRAMES, Evidence, judge
from occkit.data.doctor.nuscenes import report_verdict
from occkit.data.doctor.report import Progress, Report, choose, relative
from occkit.data.semantickitti import grid_of_size, read_label, read_packed
from occkit.data.views import read_grid
from occkit.errors import DataError
from occkit.files import read_bytes, read_image, read_raw
from occkit.geometry import VoxelGrid
from occkit.taxonomy import SEMANTICKITTI_LEARNING_MAP

_PACKED = (".bin", ".invalid", ".occluded")
_ROW_BYTES = 16


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Where the two data sets, which share their voxel files, differ."""

    name: str
    """For the report."""
    packed: tuple[str, ...]
    """Suffixes of bit-packed files."""
    image_folders: tuple[str, ...]
    """Folders of images in a sequence; the first is needed."""
    is_kitti: bool
    """SemanticKITTI: calib.txt, poses.txt, velodyne/."""


SEMANTICKITTI_LAYOUT = Layout(name="SemanticKITTI", packed=_PACKED, image_folders=("image_2", "image_3"), is_kitti=True)
SSCBENCH_LAYOUT = Layout(
    name="SSCBench-KITTI-360", packed=(".bin",), image_folders=("image_00/data_rect",), is_kitti=False
)


def sequence_folders(root: Path) -> tuple[list[Path], Layout] | None:
    """Return the sequences of a root and its layout, if it is one of the two."""
    for base in (root, root / "dataset", root / "data_2d_raw"):
        kitti = [p for p in sorted((base / "sequences").glob("[0-9][0-9]")) if p.is_dir()]
        if any((p / "voxels").is_dir() or (p / "calib.txt").exists() or (p / "image_2").is_dir() for p in kitti):
            return kitti, SEMANTICKITTI_LAYOUT
        drives = [p for p in sorted(base.glob("*_drive_*_sync")) if p.is_dir()]
        if drives:
            return drives, SSCBENCH_LAYOUT
    return None


def examine_kitti(report: Report, root: Path, *, frames: int | None, progress: Progress) -> None:
    """Examine a SemanticKITTI or SSCBench-KITTI-360 root."""
    found = sequence_folders(root)
    if found is None:
        raise DataError(root, "no sequences", "give the folder above sequences/ or data_2d_raw/")
    sequences, layout = found
    report.kind = layout.name
    report.count("sequences", len(sequences))
    grid = report.attempt(lambda: read_grid(root))
    labels: list[Path] = []
    only_labels = not any((f / name).exists() for f in sequences for name in ("calib.txt", *layout.image_folders))
    if only_labels:
        report.add("warning", root, "voxels only: no images, no calibration", "enough to evaluate, not to train")
    for done, folder in enumerate(sequences):
        progress("checking files", done, len(sequences))
        if layout.is_kitti and not only_labels:
            _check_calibration(report, folder, root)
            _check_poses(report, folder, root)
            _check_scans(report, folder, root)
        labels += _check_voxels(report, folder, root, layout, grid)
        if not only_labels:
            _check_images(report, folder, root, layout, frames)
    if not labels:
        report.add("warning", root, "no readable voxel labels", "needed to train with labels and to evaluate")
    evidence: list[Evidence] = []
    scans: list[Evidence] = []
    chosen = choose(labels, frames)
    compared = set(choose(chosen, MAX_FRAMES))
    for done, path in enumerate(chosen):
        progress("examining labels", done, len(chosen))
        ids = _check_label(report, path, relative(path, root), grid)
        if ids is not None and path in compared:
            # Ids without a class (1, 52, 99 ...) are still things a laser hits.
            _compare_with_scan(path, ids != 0, grid or grid_of_size(path, ids.size), evidence, scans)
    if evidence:
        _check_order(report, root, evidence)
    if scans:
        verdict = judge(scans)
        if verdict.mistake is not None:
            report.add("error", root, f".bin does not hold the voxels of velodyne/: {verdict.mistake}", "release 1.1?")


def _check_voxels(report: Report, folder: Path, root: Path, layout: Layout, grid: VoxelGrid | None) -> list[Path]:
    """Check the sizes of all voxel files of a sequence; return the labels that can be read."""
    sizes: dict[Path, int] = {}
    for path in sorted((folder / "voxels").glob("*.*")):
        if path.suffix in (".label", *_PACKED) and path.is_file():
            sizes[path] = path.stat().st_size
    report.count("voxel files", len(sizes))
    if not sizes:
        report.add("warning", relative(folder / "voxels", root), "no voxel files", "needed for labels and test frames")
        return []
    voxels = grid.num_voxels if grid is not None else _usual_voxels(sizes, layout)
    if voxels is None:
        sample = next(iter(sizes))
        report.add("error", relative(sample, root), f"wrong size {sizes[sample]:,}: fits no grid", "download it again")
        return []
    by_problem: dict[tuple[str, str], list[str]] = {}
    for path, size in sizes.items():
        problem = _size_problem(path.suffix, size, voxels, layout)
        if problem:
            by_problem.setdefault(problem, []).append(relative(path, root))
    for (problem, remedy), names in by_problem.items():
        report.add_many("error", names, problem, remedy)
    labels = [p for p, size in sizes.items() if p.suffix == ".label" and size == 2 * voxels]
    for suffix in (".invalid", ".bin"):
        without = [relative(p, root) for p in labels if p.with_suffix(suffix) not in sizes]
        level = "warning" if suffix == ".bin" else "error"
        report.add_many(level, without, f"label without its {suffix} file", "unpack the rest of the voxel download")
    return labels


def _usual_voxels(sizes: dict[Path, int], layout: Layout) -> int | None:
    """Return the number of voxels that most labels (or, without labels, .bin files) of the sequence have."""
    for suffix, per_voxel in ((".label", 2.0), (".bin", 0.125)):
        counts = Counter(size for path, size in sizes.items() if path.suffix == suffix)
        for size, _ in counts.most_common():
            try:
                return grid_of_size(Path(), round(size / per_voxel)).num_voxels
            except DataError:
                continue
    return None


def _size_problem(suffix: str, size: int, voxels: int, layout: Layout) -> tuple[str, str] | None:
    if suffix == ".label":
        expected, how = 2 * voxels, "uint16 a voxel"
        if size == 4 * voxels:
            return f"wrong size {size:,}: four bytes a voxel", f"labels are uint16: {expected:,} bytes"
        if size == voxels:
            return f"wrong size {size:,}: one byte a voxel", f"labels are uint16: {expected:,} bytes"
    elif suffix in layout.packed:
        expected, how = voxels // 8, "a bit a voxel"
        if size == voxels:
            return f"unpacked mask: {size:,} bytes where {expected:,} packed are expected", "np.packbits it"
    else:
        expected, how = voxels, "a byte a voxel"
        if 8 * size == voxels:
            return (
                f"packed mask: {size:,} bytes where {expected:,} are expected (this format does not pack it)",
                "np.unpackbits it",
            )
    if size != expected:
        return f"wrong size: expected {expected:,} bytes ({how}), got {size:,}", "truncated? download it again"
    return None


def _check_label(report: Report, path: Path, name: str, grid: VoxelGrid | None) -> npt.NDArray[np.uint16] | None:
    """Check the ids of a label; return them if they can be worked with."""
    ids = report.attempt(lambda: read_label(path, grid=grid))
    if ids is None:
        return None
    report.count("labels")
    present = np.flatnonzero(np.bincount(ids.ravel(), minlength=1))
    known = SEMANTICKITTI_LEARNING_MAP
    unknown = [int(i) for i in present if int(i) not in known]
    if unknown:
        train = max(present) < 20 or set(present.tolist()) <= {*range(20), 255}
        what = "these look like train ids 0..19" if train else f"it holds {unknown[:5]}"
        remedy = "a .label holds original ids: apply the inverse map" if train else "another data set's ids?"
        report.add("error", name, f"ids out of range: {what}", remedy)
        return None
    if present.size == 1:
        report.add("warning", name, f"every voxel has id {int(present[0])}", "an empty label teaches nothing")
    return ids


def _compare_with_scan(
    path: Path,
    occupied: npt.NDArray[np.bool_],
    grid: VoxelGrid,
    evidence: list[Evidence],
    scans: list[Evidence],
) -> None:
    try:
        scan = read_packed(path.with_suffix(".bin"), grid=grid)
    except DataError:
        return  # missing or of wrong size: said by the check of sizes
    evidence.append(Evidence(hits=np.argwhere(scan), occupied=occupied))
    points = path.parent.parent / "velodyne" / f"{path.stem}.bin"
    if points.is_file() and points.stat().st_size % _ROW_BYTES == 0:
        rows = read_raw(points, "<f4", columns=4)
        finite = rows[np.isfinite(rows).all(axis=1), :3]
        index, inside = grid.index_of(torch.from_numpy(finite).double())
        scans.append(Evidence(hits=np.unique(index[inside].numpy().reshape(-1, 3), axis=0), occupied=scan))


def _check_order(report: Report, root: Path, evidence: list[Evidence]) -> None:
    """Compare label and scan; a raw file has no shape, so other storage orders are tried as well."""
    verdict = judge(evidence)
    nx, ny, nz = evidence[0].occupied.shape
    total = sum(len(e.hits) for e in evidence)
    for words, shape, axes in (("[z, y, x]", (nz, ny, nx), (2, 1, 0)), ("[z, x, y]", (nz, nx, ny), (1, 2, 0))):
        hit = sum(int(e.occupied.reshape(shape).transpose(axes)[tuple(e.hits.T)].sum()) for e in evidence)
        if total and hit / total > verdict.undone + 0.1:
            report.add(
                "error",
                root,
                f"swapped axes: the labels look stored {words} ({100 * hit / total:.0f} % of the scan's voxels are "
                f"occupied that way, {100 * verdict.agreement:.0f} % as [x, y, z])",
                "write C order of [x, y, z]",
            )
            return
    report_verdict(report, root, verdict, frames=len(evidence))


def _check_calibration(report: Report, folder: Path, root: Path) -> None:
    path = folder / "calib.txt"
    name = relative(path, root)
    if not path.exists():
        report.add("error", name, "missing calibration", "unpack data_odometry_calib.zip over the sequences")
        return
    lines = report.attempt(lambda: read_bytes(path, max_bytes=2**20))
    entries: dict[str, list[float]] = {}
    for line in (lines or b"").decode("utf-8", "replace").splitlines():
        key, _, values = line.partition(":")
        try:
            entries[key.strip()] = [float(v) for v in values.split()]
        except ValueError:
            entries[key.strip()] = []
    for key in ("P2", "Tr"):
        if len(entries.get(key, [])) != 12 or not np.isfinite(entries[key]).all():
            report.add(
                "error", name, f"missing calibration: no line '{key}:' with 12 numbers", "take KITTI's calib.txt"
            )
            return
    p2 = np.array(entries["P2"]).reshape(3, 4)
    if p2[0, 0] <= 0 or p2[1, 1] <= 0:
        report.add("error", name, "P2 has no positive focal lengths", "take KITTI's calib.txt")
    if not p2[:, 3].any():
        report.add(
            "warning",
            name,
            "P2's 4th column is zero: camera 2 would stand where camera 0 does (KITTI has about 45, six centimetres)",
            "take KITTI's calib.txt, not one cut to 3x3",
        )
    rotation = np.array(entries["Tr"]).reshape(3, 4)[:, :3]
    if np.abs(rotation @ rotation.T - np.eye(3)).max() > 1e-2:
        report.add("error", name, "Tr is no rigid motion", "take KITTI's calib.txt")


def _check_poses(report: Report, folder: Path, root: Path) -> None:
    path = folder / "poses.txt"
    name = relative(path, root)
    if not path.exists():
        report.add("warning", name, "no poses", "needed for past frames and for self-supervised training")
        return
    data = report.attempt(lambda: read_bytes(path, max_bytes=64 * 2**20))
    rows = [line.split() for line in (data or b"").decode("utf-8", "replace").splitlines() if line.strip()]
    try:
        poses = np.array([[float(v) for v in row] for row in rows], dtype=np.float64).reshape(-1, 12)
    except ValueError:
        report.add("error", name, "expected 12 numbers a line", "take the poses of SemanticKITTI")
        return
    bad = np.flatnonzero(~np.isfinite(poses).all(axis=1))
    if bad.size:
        report.add("error", name, f"NaN poses: {bad.size} lines, the first is line {bad[0] + 1}", "take the original")
    scans = len(list((folder / "velodyne").glob("*.bin"))) or len(list((folder / "image_2").glob("*.png")))
    if len(poses) < scans:
        report.add("error", name, f"{len(poses)} poses for {scans} scans", "take the poses of SemanticKITTI")


def _check_scans(report: Report, folder: Path, root: Path) -> None:
    odd = [relative(p, root) for p in sorted((folder / "velodyne").glob("*.bin")) if p.stat().st_size % _ROW_BYTES]
    report.add_many("error", odd, "wrong size: a scan is rows of 4 float32 (16 bytes)", "download it again")


def _check_images(report: Report, folder: Path, root: Path, layout: Layout, frames: int | None) -> None:
    wanted = sorted({p.stem for p in (folder / "voxels").glob("*.*") if p.suffix in (".label", ".bin")})
    for number, sub in enumerate(layout.image_folders):
        images = {p.stem: p for p in (folder / sub).glob("*.*") if p.suffix in (".png", ".jpg")}
        missing = [f"{relative(folder / sub, root)}/{stem}.png" for stem in wanted if stem not in images]
        if number == 0 or images:
            report.add_many("error", missing, "missing image of a voxel frame", "unpack the rest of the images")
        sizes: Counter[tuple[int, ...]] = Counter()
        for path in choose([images[s] for s in wanted if s in images], frames):
            image = report.attempt(lambda path=path: read_image(path))
            if image is not None:
                report.count("images")
                sizes[image.shape[1:]] += 1
        if len(sizes) > 1:
            report.add(
                "error",
                relative(folder / sub, root),
                f"images of several sizes: {sorted(sizes)}",
                "one calib.txt fits one size",
            )
