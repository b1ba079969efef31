"""Checks of one label volume: members, types, axis order, ids, masks."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from occkit.data.doctor.report import Report
from occkit.files import npz_keys, read_npz_array
from occkit.taxonomy import OCC3D, OPENOCC, Taxonomy

_FLAT = ("driveable_surface", "other_flat", "sidewalk", "terrain")
_TALL = ("manmade", "vegetation")


def check_npz_label(
    report: Report, path: Path, *, shape: tuple[int, int, int] | None = None, name: str | None = None
) -> npt.NDArray[np.uint8] | None:
    """Check an Occ3D or OpenOcc `labels.npz`; return its ids if they can be worked with.

    Args:
        report: where findings go.
        path: the file.
        shape: what the other labels of the data set have.
        name: how to call the file in findings.
    """
    name = name or str(path)
    keys = report.attempt(lambda: npz_keys(path))
    if keys is None:
        return None
    taxonomy = OPENOCC if "flow" in keys else OCC3D
    report.count("labels")
    if "semantics" not in keys:
        report.add(
            "error", name, f"no array 'semantics', only {', '.join(keys[:6]) or 'nothing'}", "not an Occ3D label"
        )
        return None
    semantics = report.attempt(lambda: read_npz_array(path, "semantics", kinds="ui"))
    if semantics is None or not check_volume(report, name, semantics, taxonomy, shape=shape):
        return None
    if taxonomy is OCC3D:
        for mask in ("mask_lidar", "mask_camera"):
            _check_mask(report, path, name, mask, keys, semantics.shape)
    return semantics.astype(np.uint8)


def check_volume(
    report: Report,
    name: str,
    semantics: npt.NDArray[np.integer],
    taxonomy: Taxonomy,
    *,
    shape: tuple[int, int, int] | None = None,
) -> bool:
    """Check shape, axis order and ids of a volume; return whether it can be worked with."""
    if semantics.ndim != 3 or min(semantics.shape, default=0) < 1:
        report.add("error", name, f"expected a volume [x, y, z], got shape {semantics.shape}", "check what wrote it")
        return False
    if shape is not None and semantics.shape != shape:
        axes = _axes(semantics.shape, shape)
        what = f"expected shape {shape} as the others, got {semantics.shape}"
        report.add("error", name, f"swapped axes: {what}" if axes else what, axes or "convert it to the same grid")
        return False
    if semantics.shape[2] > min(semantics.shape[:2]):
        order = "[z, y, x]" if semantics.shape[0] <= semantics.shape[1] else "[x, z, y]"
        report.add(
            "error",
            name,
            f"swapped axes: shape {semantics.shape} has its short, vertical axis not last: stored {order}?",
            "store volumes [x, y, z]: semantics.transpose(2, 1, 0)",
        )
        return False
    if semantics.dtype != np.uint8:
        report.add("error", name, f"semantics: expected uint8, got {semantics.dtype}", "convert the ids to uint8")
    low, high = int(semantics.min()), int(semantics.max())
    outside = (semantics < 0) | ((semantics >= taxonomy.num_classes) & (semantics != taxonomy.ignore_id))
    if outside.any():
        wrong = sorted({int(i) for i in np.unique(semantics[outside])})[:5]
        report.add(
            "error",
            name,
            f"ids out of range: {int(outside.sum()):,} voxels hold {wrong}; {taxonomy.name} ends at "
            f"{taxonomy.num_classes - 1}",
            "another data set's ids? see `occkit convert`",
        )
        return False
    if low == high:
        report.add("warning", name, f"every voxel has id {low}", "an empty label teaches and measures nothing")
    elif taxonomy is OCC3D:
        _check_upright(report, name, semantics, taxonomy)
    return True


def _axes(got: tuple[int, ...], wanted: tuple[int, int, int]) -> str:
    """Return the remedy when `got` is a permutation of `wanted`, else nothing."""
    if sorted(got) != sorted(wanted):
        return ""
    order = "[z, y, x]: transpose(2, 1, 0)" if got == wanted[::-1] else "another axis order: transpose"
    return f"stored {order}; volumes are [x, y, z]"


def _check_upright(report: Report, name: str, semantics: npt.NDArray[np.integer], taxonomy: Taxonomy) -> None:
    """Warn when the ground lies above buildings and trees."""
    heights = np.arange(semantics.shape[2])
    means = []
    for classes in (_FLAT, _TALL):
        layers = np.isin(semantics, [taxonomy.id_of(c) for c in classes]).sum(axis=(0, 1))
        if layers.sum() < 50:
            return
        means.append(float((layers * heights).sum() / layers.sum()))
    if means[0] > means[1]:
        report.add(
            "error",
            name,
            f"upside down: the ground lies at layer {means[0]:.1f} on average, buildings and trees at {means[1]:.1f}",
            "z points up: reverse the last axis",
        )


def _check_mask(
    report: Report, path: Path, name: str, mask: str, keys: tuple[str, ...], shape: tuple[int, ...]
) -> None:
    if mask not in keys:
        report.add("warning", name, f"no {mask}", "protocols that use it cannot be computed")
        return
    values = report.attempt(lambda: read_npz_array(path, mask, kinds="bui"))
    if values is None:
        return
    if values.shape != shape:
        packed = 8 * values.size == int(np.prod(shape))
        what = "its bits are packed" if packed else f"expected shape {shape}, got {values.shape}"
        report.add(
            "error", name, f"{mask}: {what}", "one byte a voxel: np.unpackbits" if packed else "check the writer"
        )
    elif values.max(initial=0) > 1 or values.min(initial=0) < 0:
        report.add("error", name, f"{mask}: not 0/1, holds {int(values.max())}", "write 1 for observed, 0 for not")
    elif not values.any():
        report.add("warning", name, f"{mask}: nothing is observed", "every voxel of this frame is left out")
