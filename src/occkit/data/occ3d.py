"""Occ3D-nuScenes label files: `gts/<scene>/<token>/labels.npz`, and the split file `annotations.json`.

Source: Tian et al., "Occ3D", 2023; byte layout as published with the labels.
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool

from occkit.errors import DataError
from occkit.files import npz_keys, read_json, read_npz_array, write_npz
from occkit.geometry import OCC3D_GRID, VoxelGrid
from occkit.samples import Occupancy
from occkit.taxonomy import OCC3D, Taxonomy

PSEUDO_LABELS = "labels.json"
"""File beside `gts` that says how pseudo-labels were made, with their taxonomy and shape."""
SKIPPED = "skipped.json"
"""File beside it that names the frames without a pseudo-label, and why."""


def label_path(root: Path, scene: str, token: str) -> Path:
    """Return where the label of a frame lies below a folder of Occ3D's layout."""
    return root / "gts" / scene / token / "labels.npz"


def write_labels(
    path: Path,
    *,
    semantics: npt.NDArray[np.uint8],
    mask_lidar: npt.NDArray[np.bool_] | npt.NDArray[np.uint8],
    mask_camera: npt.NDArray[np.bool_] | npt.NDArray[np.uint8],
) -> None:
    """Write a `labels.npz`: three uint8 arrays `[x, y, z]` in the order of Occ3D, deflated; same arrays, same bytes.

    Args:
        path: the file.
        semantics: ids of the taxonomy, `[x, y, z]`.
        mask_lidar: observed by the LiDAR, 0 or 1.
        mask_camera: observed by a camera, 0 or 1.

    Raises:
        ValueError: if types, shapes or mask values differ from that.
    """
    semantics = np.asarray(semantics)
    if semantics.dtype != np.uint8 or semantics.ndim != 3:
        raise ValueError(f"semantics: expected uint8 [x, y, z], got {semantics.dtype} {semantics.shape}")
    masks = {"mask_lidar": np.asarray(mask_lidar), "mask_camera": np.asarray(mask_camera)}
    for name, mask in masks.items():
        if mask.dtype.name not in ("bool", "uint8") or mask.shape != semantics.shape or mask.max(initial=0) > 1:
            raise ValueError(f"{name}: expected 0/1 of shape {semantics.shape}, got {mask.dtype} {mask.shape}")
    write_npz(path, semantics=semantics, **{name: mask.astype(np.uint8) for name, mask in masks.items()})


def read_labels(path: Path, *, grid: VoxelGrid | None = None, taxonomy: Taxonomy = OCC3D) -> Occupancy:
    """Read a `labels.npz`.

    Args:
        path: the file.
        grid: where the volume lies; by default Occ3D's box (-40, -40, -1) to (40, 40, 5.4) divided by the file's shape.
        taxonomy: what the ids mean.

    Returns:
        The label; a mask the file does not have is None.

    Raises:
        DataError: if the arrays are not volumes of one shape, hold ids outside the taxonomy, or masks other than 0/1.
    """
    wanted = (-1, -1, -1) if grid is None else grid.shape
    semantics = read_npz_array(path, "semantics", shape=wanted, kinds="u")
    if semantics.dtype != np.uint8:
        raise DataError(path, f"semantics: expected uint8, got {semantics.dtype}", "convert the ids to uint8")
    if min(semantics.shape) < 1:
        raise DataError(path, f"semantics: expected a volume, got shape {semantics.shape}", "check what wrote it")
    check_ids(path, semantics, taxonomy)
    present = npz_keys(path)
    masks = {name: _read_mask(path, name, semantics.shape) for name in ("mask_lidar", "mask_camera") if name in present}
    if grid is None:
        grid = VoxelGrid.from_shape(OCC3D_GRID.origin, OCC3D_GRID.upper, semantics.shape)
    return Occupancy(semantics=torch.from_numpy(semantics), grid=grid, taxonomy=taxonomy, **masks)


def check_ids(path: Path, semantics: npt.NDArray[np.uint8], taxonomy: Taxonomy) -> None:
    """Refuse a volume with ids that are neither classes of the taxonomy nor its ignore id.

    Raises:
        DataError: naming the file and the first such id.
    """
    wrong = (semantics >= taxonomy.num_classes) & (semantics != taxonomy.ignore_id)
    if wrong.any():
        first = int(semantics[wrong].min())
        raise DataError(
            path,
            f"expected ids 0..{taxonomy.num_classes - 1} (or {taxonomy.ignore_id} for no label), got {first}",
            f"these are not labels of taxonomy {taxonomy.name}; see `occkit convert`",
        )


def _read_mask(path: Path, name: str, shape: tuple[int, ...]) -> Bool[torch.Tensor, "x y z"]:
    mask = read_npz_array(path, name, shape=shape, kinds="bu")
    if mask.max(initial=0) > 1:
        raise DataError(path, f"{name}: expected 0 or 1, got {int(mask.max())}", "one byte a voxel, not packed bits")
    return torch.from_numpy(mask.astype(np.bool_))


def read_splits(path: Path) -> dict[str, frozenset[str]]:
    """Read the scene names of each split from Occ3D's `annotations.json`.

    Returns:
        `{"train": names, "val": names, "test": names}`; a split the file does not list is empty.

    Raises:
        DataError: if `train_split` or `val_split` is missing or not a list of names.
    """
    document = read_json(path)
    splits = {}
    for name in ("train", "val", "test"):
        value = document.get(f"{name}_split", [] if name == "test" else None) if isinstance(document, dict) else None
        if not isinstance(value, list) or not all(isinstance(scene, str) for scene in value):
            raise DataError(path, f"expected a list of scene names as {name}_split", "take the file Occ3D publishes")
        splits[name] = frozenset(value)
    return splits
