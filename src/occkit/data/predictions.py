"""Predictions on disk: one `<token>.npz` a frame, with a uint8 volume `semantics` in the label's own grid and ids."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from occkit.errors import DataError
from occkit.files import read_npz_array, write_npz

KEYS = ("semantics", "pred", "arr_0")
"""Names under which the volume is looked for, in this order; the first is the one we write."""


def prediction_path(folder: Path, token: str) -> Path:
    """Return where the prediction of a frame lies; a token with a slash lies in a folder of its own."""
    return folder / f"{token}.npz"


def write_prediction(folder: Path, token: str, semantics: npt.NDArray[np.uint8]) -> Path:
    """Write the volume `[x, y, z]` of a frame and return the file's path.

    Raises:
        ValueError: if it is not a uint8 volume.
    """
    if semantics.dtype != np.uint8 or semantics.ndim != 3:
        raise ValueError(f"semantics: expected uint8 [x, y, z], got {semantics.dtype} {semantics.shape}")
    path = prediction_path(folder, token)
    write_npz(path, semantics=semantics)
    return path


def read_prediction(path: Path, *, shape: tuple[int, int, int] = (-1, -1, -1)) -> npt.NDArray[np.uint8]:
    """Read a prediction, ours or another program's: any integer volume under one of `KEYS`.

    Args:
        path: the file.
        shape: what the volume must have; -1 stands for any length.

    Raises:
        DataError: if there is no such volume, its shape differs, or an id does not fit a byte.
    """
    volume = read_npz_array(path, KEYS, shape=shape, kinds="ui")
    if volume.size and (volume.min() < 0 or volume.max() > 255):
        raise DataError(path, f"expected ids 0..255, got {volume.min()}..{volume.max()}", "write them as uint8")
    return volume.astype(np.uint8)


def list_predictions(folder: Path) -> tuple[str, ...]:
    """Return the tokens of the predictions in a folder, sorted.

    Raises:
        DataError: if there is no such folder or no prediction in it.
    """
    if not folder.is_dir():
        raise DataError(folder, "no such folder", "expected a folder of <token>.npz, as `occkit predict` writes")
    tokens = tuple(sorted(p.relative_to(folder).with_suffix("").as_posix() for p in folder.rglob("*.npz")))
    if not tokens:
        raise DataError(folder, "holds no .npz file", "expected one <token>.npz a frame")
    return tokens
