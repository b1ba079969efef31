"""The label formats `convert` knows: how to find the frames of each, read one, and write one."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from occkit.data import kitti360, occ3d, openocc, openoccupancy, semantickitti, surroundocc
from occkit.errors import DataError
from occkit.files import npz_keys
from occkit.geometry import KITTI_GRID, OCC3D_GRID, VoxelGrid
from occkit.samples import Occupancy
from occkit.taxonomy import (
    KITTI360,
    OCC3D,
    OPENOCC,
    SEMANTICKITTI,
    SEMANTICKITTI_INVERSE_MAP,
    SURROUNDOCC,
    Taxonomy,
    semantickitti_lookup,
)

FormatName = Literal["occ3d", "openocc", "surroundocc", "openoccupancy", "semantickitti", "sscbench"]
Frame = Literal["ego", "lidar", "velodyne"]
_OUTLIER = 1
"""Original id that SemanticKITTI's evaluation ignores: how "something, without a label" is written in a `.label`."""


@dataclass(frozen=True, kw_only=True)
class LabelFormat:
    """What must be known of a format to carry labels into it or out of it."""

    name: FormatName
    """As on the command line."""
    frame: Frame
    """ego: x forward, ground level; lidar: nuScenes' LIDAR_TOP (y forward); velodyne: x forward, at the sensor."""
    grid: VoxelGrid
    """The published grid."""
    taxonomy: Taxonomy
    """The classes."""
    pattern: str
    """Files of the labels, below the root."""
    masks: tuple[str, ...]
    """Which of the masks of an `Occupancy` it can hold."""


FORMATS: Mapping[FormatName, LabelFormat] = MappingProxyType(
    {
        f.name: f
        for f in (
            LabelFormat(
                name="occ3d",
                frame="ego",
                grid=OCC3D_GRID,
                taxonomy=OCC3D,
                pattern="labels.npz",
                masks=("mask_lidar", "mask_camera"),
            ),
            LabelFormat(name="openocc", frame="ego", grid=OCC3D_GRID, taxonomy=OPENOCC, pattern="labels.npz", masks=()),
            LabelFormat(
                name="surroundocc",
                frame="lidar",
                grid=surroundocc.SURROUNDOCC_GRID,
                taxonomy=SURROUNDOCC,
                pattern="samples/*.npy",
                masks=(),
            ),
            LabelFormat(
                name="openoccupancy",
                frame="lidar",
                grid=openoccupancy.OPENOCCUPANCY_GRID,
                taxonomy=SURROUNDOCC,
                pattern="occupancy/*.npy",
                masks=(),
            ),
            LabelFormat(
                name="semantickitti",
                frame="velodyne",
                grid=KITTI_GRID,
                taxonomy=SEMANTICKITTI,
                pattern="voxels/*.label",
                masks=("mask_lidar", "mask_camera"),
            ),
            LabelFormat(
                name="sscbench",
                frame="velodyne",
                grid=KITTI_GRID,
                taxonomy=KITTI360,
                pattern="voxels/*.label",
                masks=("mask_lidar",),
            ),
        )
    }
)
"""Formats by name."""


@dataclass(frozen=True, kw_only=True)
class LabelFile:
    """One label of a data set."""

    scene: str
    """Scene or sequence."""
    token: str
    """Name of the frame, unique within the data set."""
    path: Path
    """Its file."""


def recognise_format(root: Path) -> FormatName:
    """Say which label format a folder holds.

    Raises:
        DataError: if none, or more than one, is found.
    """
    if not root.is_dir():
        raise DataError(root, "expected a folder of labels", "check the path")
    found: set[FormatName] = set()
    for path in root.rglob("labels.npz"):
        found.add("openocc" if "flow" in npz_keys(path) else "occ3d")
        break
    for path in root.rglob("*.npy"):
        if path.parent.name in ("samples", "occupancy"):
            found.add("surroundocc" if path.parent.name == "samples" else "openoccupancy")
            break
    for path in root.rglob("voxels/*.label"):
        found.add("sscbench" if path.parent.parent.name.endswith("_sync") else "semantickitti")
        break
    if len(found) != 1:
        what = " and ".join(sorted(found)) if found else "no label format"
        raise DataError(root, f"expected one label format, found {what}", "name it: --from occ3d, surroundocc ...")
    return found.pop()


def find_labels(root: Path, label_format: LabelFormat) -> tuple[LabelFile, ...]:
    """Return the labels of a folder, sorted by scene and token.

    Raises:
        DataError: if there are none, or two have one token.
    """
    files = [_label_file(path, label_format.name) for path in root.rglob(label_format.pattern)]
    if not files:
        raise DataError(root, f"no {label_format.name} labels", f"expected files {label_format.pattern} below it")
    files.sort(key=lambda f: (f.scene, f.token))
    seen: dict[str, Path] = {}
    for file in files:
        if file.token in seen:
            raise DataError(file.path, f"token {file.token} is also that of {seen[file.token]}", "give one root only")
        seen[file.token] = file.path
    return tuple(files)


def _label_file(path: Path, name: FormatName) -> LabelFile:
    folder = path.parent.parent.name
    if name in ("occ3d", "openocc"):
        return LabelFile(scene=folder, token=path.parent.name, path=path)
    if name == "surroundocc":
        return LabelFile(scene="", token=path.name.removesuffix(".npy"), path=path)
    if name == "openoccupancy":
        return LabelFile(scene=folder.removeprefix("scene_"), token=path.stem, path=path)
    match = re.fullmatch(r".*_drive_00(\d{2,3})_sync", folder)
    sequence = match[1] if match else folder
    return LabelFile(scene=sequence, token=f"{sequence}_{path.stem}", path=path)


@dataclass(frozen=True, kw_only=True)
class SourceLabel:
    """A label as read."""

    occupancy: Occupancy
    """Classes and masks; ids under a mask are kept as stored."""
    unsaid: Mapping[str, int]
    """What the file holds beyond that -> voxels concerned."""


def read_label(file: LabelFile, label_format: LabelFormat, grid: VoxelGrid | None) -> SourceLabel:
    """Read one label.

    Args:
        file: which.
        label_format: how it is written.
        grid: where it lies, if the data root says so itself (`grid.json`); else the format's rule.

    Raises:
        DataError: if the file is not what its format says.
    """
    name = label_format.name
    if name == "occ3d":
        return SourceLabel(occupancy=occ3d.read_labels(file.path, grid=grid), unsaid={})
    if name == "openocc":
        occupancy = openocc.read_labels(file.path, grid=grid)
        flow = openocc.read_flow(file.path, shape=occupancy.grid.shape)
        moving = 0 if flow is None else int((flow != 0).any(axis=-1).sum())
        return SourceLabel(occupancy=occupancy, unsaid={"flow is not carried over": moving})
    if name == "surroundocc":
        occupancy = surroundocc.read_voxels(file.path, grid=grid or label_format.grid)
        return SourceLabel(occupancy=occupancy, unsaid={})
    if name == "openoccupancy":
        grid = grid or label_format.grid
        rows = openoccupancy.read_rows(file.path, grid=grid)
        moving = 0 if rows.velocity is None else int((rows.velocity != 0).any(axis=-1).sum())
        return SourceLabel(occupancy=rows.occupancy(grid), unsaid={"velocity is not carried over": moving})
    return _read_voxels(file.path, label_format, grid)


def _read_voxels(path: Path, label_format: LabelFormat, grid: VoxelGrid | None) -> SourceLabel:
    is_kitti = label_format.name == "semantickitti"
    ids = semantickitti.read_label(path, grid=grid)
    grid = grid or semantickitti.grid_of_size(path, ids.size)
    table = semantickitti_lookup() if is_kitti else kitti360.kitti360_lookup()
    masks: dict[str, torch.Tensor] = {}
    for name, suffix in (("mask_lidar", ".invalid"), ("mask_camera", ".occluded")):
        beside = path.with_suffix(suffix)
        if name in label_format.masks and beside.exists():
            read = semantickitti.read_packed if is_kitti else kitti360.read_invalid
            masks[name] = torch.from_numpy(~read(beside, grid=grid))
    occupancy = Occupancy(semantics=torch.from_numpy(table[ids]), grid=grid, taxonomy=label_format.taxonomy, **masks)
    folded = int((_original_ids(label_format)[table[ids]] != ids).sum())
    return SourceLabel(
        occupancy=occupancy, unsaid={"original ids folded (moving ..., bus, lane-marking, 52, 99)": folded}
    )


def _original_ids(label_format: LabelFormat) -> npt.NDArray[np.uint16]:
    """Return the `[256]` table train id -> original id; voxels without a label get one that evaluation ignores."""
    inverse = np.full(256, _OUTLIER, dtype=np.uint16)
    known = SEMANTICKITTI_INVERSE_MAP if label_format.name == "semantickitti" else kitti360.KITTI360_INVERSE_MAP
    inverse[: len(known)] = known
    return inverse


def target_path(
    label_format: LabelFormat, file: LabelFile, *, sequence: str, frame: str, names: tuple[str, str]
) -> Path:
    """Return where a label belongs below the target root.

    Args:
        label_format: the target.
        file: the source's frame.
        sequence: two digits, for the KITTI layouts.
        frame: six digits, for the KITTI layouts.
        names: LiDAR file name and LiDAR token, for the layouts that are named by the LiDAR sweep.
    """
    scene = file.scene or "unknown"
    if label_format.name == "occ3d":
        return Path("gts") / scene / file.token / "labels.npz"
    if label_format.name == "openocc":
        return Path("openocc_v2") / scene / file.token / "labels.npz"
    if label_format.name == "surroundocc":
        return Path("samples") / f"{names[0]}.npy"
    if label_format.name == "openoccupancy":
        return Path(f"scene_{scene}") / "occupancy" / f"{names[1]}.npy"
    if label_format.name == "semantickitti":
        return Path("sequences") / sequence / "voxels" / f"{frame}.label"
    return Path("data_2d_raw") / kitti360.sequence_folder(sequence) / "voxels" / f"{frame}.label"


def write_label(path: Path, label_format: LabelFormat, occupancy: Occupancy) -> None:
    """Write one label; voxels without a label are written as the format can say it.

    Occ3D: free, with both masks 0. SemanticKITTI, SSCBench: original id 1 (ignored). OpenOcc: 255. SurroundOcc,
    OpenOccupancy: class 0 (noise).
    """
    name = label_format.name
    if name == "openocc":
        openocc.write_labels(path, occupancy)
    elif name == "surroundocc":
        surroundocc.write_voxels(path, occupancy)
    elif name == "openoccupancy":
        openoccupancy.write_voxels(path, occupancy)
    elif name == "occ3d":
        _write_occ3d(path, occupancy)
    else:
        _write_voxels(path, label_format, occupancy)


def observed(occupancy: Occupancy, name: str) -> npt.NDArray[np.bool_]:
    """Return a mask of the label; all true where it has none."""
    mask = occupancy.mask_lidar if name == "mask_lidar" else occupancy.mask_camera
    return np.ones(occupancy.grid.shape, dtype=np.bool_) if mask is None else mask.numpy()


def _write_occ3d(path: Path, occupancy: Occupancy) -> None:
    semantics = occupancy.semantics.numpy()
    known = semantics != OCC3D.ignore_id
    masks = {name: observed(occupancy, name) & known for name in ("mask_lidar", "mask_camera")}
    occ3d.write_labels(path, semantics=np.where(known, semantics, OCC3D.free_id).astype(np.uint8), **masks)


def _write_voxels(path: Path, label_format: LabelFormat, occupancy: Occupancy) -> None:
    is_kitti = label_format.name == "semantickitti"
    semantickitti.write_label(path, _original_ids(label_format)[occupancy.semantics.numpy()])
    invalid = ~observed(occupancy, "mask_lidar")
    if is_kitti:
        semantickitti.write_packed(path.with_suffix(".invalid"), invalid)
        semantickitti.write_packed(path.with_suffix(".occluded"), ~observed(occupancy, "mask_camera"))
    else:
        kitti360.write_invalid(path.with_suffix(".invalid"), invalid)


def relabel(occupancy: Occupancy, table: npt.NDArray[np.uint8], taxonomy: Taxonomy) -> Occupancy:
    """Return the label in another taxonomy."""
    return replace(occupancy, semantics=torch.from_numpy(table[occupancy.semantics.numpy()]), taxonomy=taxonomy)
