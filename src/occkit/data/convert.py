"""Carry labels from one data set's format to another's, and say what was lost on the way.

A label goes through three steps: its classes are renamed (`convert_classes`), its volume is moved to the target's frame
and grid (`resample`) or kept (`keep_grid`, with a `grid.json` that says where it lies), and it is written
(`convert_files`). Each step counts what it cannot carry; the counts are printed and kept in `conversion.json`.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import get_args

import numpy as np
from jaxtyping import Float64

from occkit.data.convert_classes import ClassMap, class_map
from occkit.data.convert_files import (
    Frame,
    LabelFile,
    LabelFormat,
    SourceLabel,
    find_labels,
    read_label,
    relabel,
    target_path,
    write_label,
)
from occkit.data.resample import resample
from occkit.data.views import read_grid, write_grid
from occkit.errors import ConfigError, DataError
from occkit.files import read_json, write_json
from occkit.geometry import VoxelGrid
from occkit.samples import Occupancy

NUSCENES_EGO_FROM_LIDAR = np.array(
    [
        [0.0020332719, 0.9997040630, 0.0242417213, 0.943713],
        [-0.9999805093, 0.0021756571, -0.0058486392, 0.0],
        [-0.0058996500, -0.0242293589, 0.9996890426, 1.84023],
        [0.0, 0.0, 0.0, 1.0],
    ]
)
"""Mounting of LIDAR_TOP on one nuScenes car (scene-0061), taken where no tables are given; others differ by
millimetres."""

EGO_FROM_VELODYNE = np.array([[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 1.73], [0, 0, 0, 1]])
"""KITTI's Velodyne stands 1.73 m above the road; our ego frame for it lies on the road right below."""


@dataclass(frozen=True, kw_only=True)
class FrameName:
    """What the nuScenes tables say about a frame, for the layouts that are named by the LiDAR sweep."""

    token: str
    """Sample token."""
    scene: str
    """Scene name."""
    scene_token: str
    """Scene token."""
    lidar_file: str
    """File name of the sweep, without folder."""
    lidar_token: str
    """sample_data token of the sweep."""
    ego_from_lidar: Float64[np.ndarray, "4 4"]
    """Mounting of the LiDAR, metres."""
    timestamp: int
    """Microseconds."""


@dataclass(kw_only=True)
class LossReport:
    """What the conversion could not carry, in voxels summed over the frames."""

    frames: int = 0
    """Labels converted."""
    occupied: int = 0
    """Occupied source voxels."""
    lost: Counter[str] = field(default_factory=Counter)
    """Source class without counterpart -> voxels that lost their label."""
    merged: Counter[str] = field(default_factory=Counter)
    """`source -> target` for classes that the way back would take for another one -> voxels."""
    uncovered: int = 0
    """Target voxels outside the source volume: written as unlabelled."""
    dropped: int = 0
    """Occupied source voxels that no target voxel took."""
    unsaid: Counter[str] = field(default_factory=Counter)
    """Things the target format has no place for -> voxels concerned."""

    resampled: bool = False
    """Whether any label was moved to another grid."""
    notes: list[str] = field(default_factory=list)
    """What a reader of the result should know beyond the counts."""

    @property
    def lossless(self) -> bool:
        """Whether converting back gives the source again."""
        return not (
            self.uncovered or self.dropped or any(c for k in (self.lost, self.merged, self.unsaid) for c in k.values())
        )

    def to_json(self) -> dict[str, object]:
        """Return the report for `conversion.json`."""
        return {
            "lossless": self.lossless,
            "frames": self.frames,
            "occupied_source_voxels": self.occupied,
            "classes_without_counterpart": dict(self.lost),
            "classes_merged": dict(self.merged),
            "target_voxels_outside_source": self.uncovered,
            "occupied_source_voxels_not_taken": self.dropped,
            "not_expressible": dict(self.unsaid),
        }

    def lines(self) -> list[str]:
        """Return the report in words, one line a finding."""
        if self.lossless:
            return [f"{self.frames} frames, nothing lost", *self.notes]
        per_cent = 100 / max(self.occupied, 1)
        lines = [f"{self.frames} frames, {self.occupied:,} occupied voxels read"]
        lines += [
            f"class {c} has no counterpart: {n:,} voxels lost their label" for c, n in self.lost.most_common() if n
        ]
        lines += [f"class merged: {c}: {n:,} voxels" for c, n in self.merged.most_common() if n]
        if self.dropped:
            lines.append(
                f"{self.dropped:,} occupied voxels ({self.dropped * per_cent:.1f} %) are in no target voxel: outside "
                "the target volume or between its voxel centres"
            )
        if self.uncovered:
            lines.append(f"{self.uncovered:,} target voxels lie outside the source volume: written as unlabelled")
        return lines + [f"{what}: {n:,} voxels" for what, n in self.unsaid.items() if n] + self.notes


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """How labels are to be converted."""

    source: LabelFormat
    """Format read."""
    target: LabelFormat
    """Format written."""
    keep_grid: bool = False
    """Keep the source's grid and frame, which `grid.json` then states, instead of resampling to the target's."""
    ego_from_lidar: Float64[np.ndarray, "4 4"] | None = None
    """Mounting of the LiDAR where no tables are given; None = `NUSCENES_EGO_FROM_LIDAR`."""
    names: Mapping[str, FrameName] = field(default_factory=dict)
    """What the nuScenes tables say, by sample token, LiDAR file name and LiDAR token."""

    def __post_init__(self) -> None:
        if self.source.name == self.target.name:
            raise ConfigError(f"--from and --to are both {self.source.name}: there is nothing to convert")

    def ego_from(self, frame: Frame, name: FrameName | None) -> Float64[np.ndarray, "4 4"]:
        """Return the pose of a label frame in the ego frame."""
        if frame == "ego":
            return np.eye(4)
        if frame == "velodyne":
            return EGO_FROM_VELODYNE
        if name is not None:
            return name.ego_from_lidar
        return NUSCENES_EGO_FROM_LIDAR if self.ego_from_lidar is None else self.ego_from_lidar

    @property
    def written_frame(self) -> Frame:
        """Frame in which the written labels lie."""
        return self.source.frame if self.keep_grid else self.target.frame

    def notes(self, *, resampled: bool) -> list[str]:
        """Return what a reader of the result should know beyond the counts."""
        notes = []
        if resampled:
            notes.append(
                f"resampled: nearest voxel at the centres of the target grid, {self.source.frame} frame to "
                f"{self.target.frame} frame"
            )
            if "lidar" in (self.source.frame, self.target.frame):
                origin = "the tables" if self.names else "--ego-from-lidar" if self.ego_from_lidar is not None else ""
                notes.append(f"mounting of the LiDAR from {origin or 'scene-0061 of nuScenes (no tables given)'}")
            if "velodyne" in (self.source.frame, self.target.frame):
                notes.append("the Velodyne is taken to stand 1.73 m above the origin of the ego frame, axes parallel")
        if self.keep_grid:
            notes.append(f"grid and frame ({self.source.frame}) of the source kept; grid.json says where they lie")
        if self.target.frame == "lidar" and not self.names:
            notes.append("files are named by the frame's token: give --tables for the names of the LiDAR sweeps")
        if self.target.name == "openocc":
            notes.append("flow is not in the source: written as zeros, which means 'unknown' here")
        if self.target.name == "semantickitti":
            notes.append("mask_lidar became .invalid, mask_camera .occluded; no .bin (the scan's voxels) is written")
        return notes


def stated_frame(root: Path) -> Frame | None:
    """Return the frame that an earlier conversion wrote the labels of this folder in, from its `conversion.json`.

    Raises:
        DataError: if the file is there and names no frame.
    """
    path = root / "conversion.json"
    if not path.exists():
        return None
    document = read_json(path)
    target = document.get("target") if isinstance(document, dict) else None
    frame = target.get("frame") if isinstance(target, dict) else None
    for known in get_args(Frame):
        if frame == known:
            return known
    raise DataError(path, f"names no frame of its labels, got {str(frame)[:40]!r}", "expected ego, lidar or velodyne")


def convert_label(
    label: SourceLabel, conversion: Conversion, classes: ClassMap, name: FrameName | None, loss: LossReport
) -> Occupancy:
    """Carry one label to the target's classes, frame and grid, counting what is lost in `loss`."""
    occupancy = label.occupancy
    loss.unsaid.update(label.unsaid)
    source, target = conversion.source, conversion.target
    counts = np.bincount(occupancy.semantics.numpy().ravel(), minlength=256)
    loss.frames += 1
    loss.occupied += int(occupancy.occupied.sum())
    loss.lost.update({c: int(counts[source.taxonomy.id_of(c)]) for c in classes.lost})
    loss.merged.update({f"{c} -> {t}": int(counts[source.taxonomy.id_of(c)]) for c, t in classes.merged.items()})
    for mask in ("mask_lidar", "mask_camera"):
        present = getattr(occupancy, mask)
        if present is not None and mask not in target.masks:
            loss.unsaid[f"{mask} has no place in {target.name}, unobserved"] += int((~present).sum())
    if target.name == "occ3d":
        unlabelled = int(counts[source.taxonomy.ignore_id])
        loss.unsaid["unlabelled, written as free and unobserved in occ3d"] += unlabelled
    occupancy = relabel(occupancy, classes.table, target.taxonomy)
    if conversion.keep_grid:
        return occupancy
    source_from_target = np.linalg.inv(conversion.ego_from(source.frame, name)) @ conversion.ego_from(
        target.frame, name
    )
    same_box = (occupancy.grid.origin, occupancy.grid.upper) == (target.grid.origin, target.grid.upper)
    if same_box and source.frame == target.frame:
        # These formats derive the voxel size from the file: a coarser generated label stays what it is.
        return occupancy
    loss.resampled = True
    moved = resample(occupancy, grid=target.grid, source_from_target=source_from_target)
    loss.uncovered += moved.uncovered
    loss.dropped += moved.dropped
    return moved.occupancy


def convert_folder(
    root: Path,
    out: Path,
    conversion: Conversion,
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> LossReport:
    """Convert every label of a folder and write `conversion.json` beside the result.

    Args:
        root: folder of the source labels; its `grid.json`, if any, says where they lie.
        out: folder to write; created if need be.
        conversion: from what to what, and how.
        progress: called with (frames done, frames in all).

    Raises:
        DataError: naming the first file that is not what its format says.
    """
    files = find_labels(root, conversion.source)
    grid = read_grid(root)
    conversion = replace(
        conversion, source=replace(conversion.source, frame=stated_frame(root) or conversion.source.frame)
    )
    classes = class_map(conversion.source.taxonomy, conversion.target.taxonomy)
    loss = LossReport()
    written: dict[str, str] = {}
    kept: VoxelGrid | None = None
    for done, (file, name, place) in enumerate(_places(files, conversion)):
        label = read_label(file, conversion.source, grid)
        occupancy = convert_label(label, conversion, classes, name, loss)
        if kept is not None and occupancy.grid != kept:
            raise DataError(file.path, f"lies on grid {occupancy.grid.shape}, the others on {kept.shape}", "split them")
        kept = occupancy.grid
        write_label(out / place, conversion.target, occupancy)
        written[file.token] = place.as_posix()
        progress(done + 1, len(files))
    if kept is not None and (conversion.keep_grid or grid is not None):
        write_grid(out, kept)
    loss.notes = conversion.notes(resampled=loss.resampled)
    write_json(
        out / "conversion.json",
        {
            "source": {"format": conversion.source.name, "frame": conversion.source.frame},
            "target": {"format": conversion.target.name, "frame": conversion.written_frame},
            "loss": loss.to_json(),
            "notes": loss.notes,
            "files": written,
        },
    )
    return loss


def _places(files: tuple[LabelFile, ...], conversion: Conversion) -> Iterator[tuple[LabelFile, FrameName | None, Path]]:
    """Yield each label with what the tables say about it and its place in the target layout.

    The KITTI layouts want numbers: a token `SS_FFFFFF` keeps its own; otherwise scenes are numbered in order and their
    frames, in time order where the tables tell it, by fives, as KITTI's own voxel frames are.
    """
    named: list[tuple[LabelFile, FrameName | None]] = []
    for file in files:
        name = conversion.names.get(file.token)
        if conversion.names and name is None:
            raise DataError(file.path, f"frame {file.token} is not in the tables", "give the tables of this data set")
        if name is not None:
            scene = name.scene_token if conversion.target.name == "openoccupancy" else name.scene
            file = replace(file, scene=scene, token=name.token)
        named.append((file, name))
    named.sort(key=lambda item: (item[0].scene, item[1].timestamp if item[1] else 0, item[0].token))
    scenes = sorted({file.scene for file, _ in named})
    seen: Counter[str] = Counter()
    for file, name in named:
        own = re.fullmatch(r"(\d{2,3})_(\d{6})", file.token)
        sequence = own[1] if own else f"{scenes.index(file.scene):02d}"
        frame = own[2] if own else f"{5 * seen[file.scene]:06d}"
        seen[file.scene] += 1
        sweep = (name.lidar_file, name.lidar_token) if name else (file.token, file.token)
        place = target_path(conversion.target, file, sequence=sequence, frame=frame, names=sweep)
        yield file, name, place
