"""Where an evaluation takes its labels from: a data set, or a plain tree of label files without images."""

from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from occkit.data import nyuv2, occ3d, semantickitti
from occkit.errors import DataError
from occkit.files import read_json
from occkit.samples import Occupancy
from occkit.taxonomy import NYUV2, SEMANTICKITTI, semantickitti_lookup


class LabelSource(Protocol):
    """What an evaluation needs to know of a data set: its frames, their labels, and where rays start."""

    @property
    def tokens(self) -> tuple[str, ...]:
        """Names of the frames."""
        ...

    def label(self, token: str) -> Occupancy | None:
        """Return the label of a frame; None if it has none."""
        ...

    def ray_origins(self, token: str) -> npt.NDArray[np.float64]:
        """Return the origins `[k, 3]` of a frame's evaluation rays, metres, reference frame."""
        ...


class LabelsFolder:
    """A tree of label files: Occ3D's `<token>/labels.npz`, SemanticKITTI's `<sequence>/voxels/<frame>.label`, or
    NYUv2's `<token>.bin`.

    The token of an Occ3D label is the name of its folder, that of a SemanticKITTI label `<sequence>_<frame>`.

    Args:
        root: the tree.
        origins: JSON file `{"<token>": [[x, y, z], ...]}`, metres, reference frame; for protocols that cast rays.

    Raises:
        DataError: if there are no labels, a token occurs twice, or `origins` is not such a file.
    """

    def __init__(self, root: Path, *, origins: Path | None = None) -> None:
        if not root.is_dir():
            raise DataError(root, "no such folder", "expected a tree of labels.npz, voxels/*.label or NYU*.bin")
        self.root = root
        self._paths: dict[str, Path] = {}
        found = [(p.parent.name, p) for p in sorted(root.rglob("labels.npz"))]
        found += [(f"{p.parent.parent.name}_{p.stem}", p) for p in sorted(root.rglob("voxels/*.label"))]
        found += [(p.stem, p) for p in sorted(root.rglob("NYU*.bin")) if nyuv2.NAME.fullmatch(p.stem)]
        for token, path in found:
            if token in self._paths:
                raise DataError(path, f"token {token} is here twice, also as {self._paths[token]}", "keep one of them")
            self._paths[token] = path
        if not found:
            raise DataError(root, "holds no labels.npz, voxels/*.label or NYU*.bin", "give the folder above the labels")
        self._origins = {} if origins is None else _read_origins(origins)

    @property
    def tokens(self) -> tuple[str, ...]:
        """Names of the frames, in the order of their paths."""
        return tuple(self._paths)

    def label(self, token: str) -> Occupancy:
        """Return the label of a frame."""
        path = self._paths[token]
        if path.suffix == ".bin":
            semantics = nyuv2.read_semantics(path)
            return Occupancy(semantics=semantics, grid=nyuv2.NYUV2_GRID, taxonomy=NYUV2)
        return occ3d.read_labels(path) if path.suffix == ".npz" else _kitti_label(path)

    def ray_origins(self, token: str) -> npt.NDArray[np.float64]:
        """Return the origins `[k, 3]` of a frame's evaluation rays, metres, reference frame.

        Raises:
            DataError: if the origins file does not have the frame, or there is no such file.
        """
        if token not in self._origins:
            raise DataError(
                self.root,
                f"no ray origins for {token}: a tree of labels has no poses",
                "pass --origins FILE with all tokens, or --data ROOT, or leave out the ray protocols",
            )
        return self._origins[token]


def _kitti_label(path: Path) -> Occupancy:
    raw = semantickitti.read_label(path)
    grid = semantickitti.grid_of_size(path, raw.size)
    semantics = semantickitti_lookup()[raw]
    invalid = path.with_suffix(".invalid")
    if invalid.is_file():
        semantics[semantickitti.read_packed(invalid, grid=grid)] = SEMANTICKITTI.ignore_id
    return Occupancy(semantics=torch.from_numpy(semantics), grid=grid, taxonomy=SEMANTICKITTI)


def _read_origins(path: Path) -> dict[str, npt.NDArray[np.float64]]:
    document: Any = read_json(path)
    if not isinstance(document, dict):
        raise DataError(path, "expected an object {token: [[x, y, z], ...]}", "see docs/files.md")
    origins: dict[str, npt.NDArray[np.float64]] = {}
    for token, rows in document.items():
        try:
            array = np.asarray(rows, dtype=np.float64)
        except (TypeError, ValueError):
            array = np.empty(0)
        if array.ndim != 2 or array.shape[0] < 1 or array.shape[-1] != 3 or not np.isfinite(array).all():
            raise DataError(path, f"{token}: expected a list of [x, y, z] in metres", "one triple an origin")
        origins[str(token)] = array
    return origins
