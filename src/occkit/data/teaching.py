"""What a teacher says, on disk: its scores as small integers, one npz a frame.

A folder of teachings holds `<token>.npz` with `logits` (uint8 or uint16 `[k, x, y, z]`), `logits_range` (float32
`[k, 2]`: the values of the lowest and the highest integer of each channel), `visible` (packed bits) and, if the teacher
shares them, `features` and `features_range`. `teaching.json` beside them says what made them.
"""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from occkit.errors import DataError
from occkit.files import read_json, read_npz_array, write_json, write_npz
from occkit.samples import Teaching

Bits = Literal[8, 16]
DESCRIPTION = "teaching.json"
"""File of a folder of teachings that says what made them."""
COST = "cost"
"""What of it says what quantisation took from them."""
_AGAIN = "write it again with occkit teach"
_TYPES: dict[int, type[np.unsignedinteger[Any]]] = {8: np.uint8, 16: np.uint16}


def teaching_path(folder: Path, token: str) -> Path:
    """Return where the teaching of a frame lies."""
    return folder / f"{token}.npz"


def quantise(values: Float[Tensor, "c *s"], bits: Bits) -> tuple[npt.NDArray[Any], npt.NDArray[np.float32]]:
    """Write each channel as integers between its smallest and its largest value.

    Returns:
        codes: uint8 or uint16, the shape of `values`.
        limits: `[c, 2]`, the smallest and the largest value; a value is off by at most half a step,
            `(high - low) / (2^bits - 1) / 2`.

    Raises:
        ValueError: if a value is not finite.
    """
    array = values.detach().cpu().double().numpy()
    if not np.isfinite(array).all():
        raise ValueError("values: expected finite numbers, got NaN or infinity")
    rows = array.reshape(array.shape[0], -1)
    limits = np.stack([rows.min(axis=1), rows.max(axis=1)], axis=1).astype(np.float32)
    low, high = limits.astype(np.float64)[:, :1], limits.astype(np.float64)[:, 1:]
    steps = 2**bits - 1
    scaled = (rows - low) * (steps / np.where(high > low, high - low, 1.0))
    return np.rint(scaled.clip(0, steps)).astype(_TYPES[bits]).reshape(array.shape), limits


def dequantise(codes: npt.NDArray[Any], limits: npt.NDArray[np.float32]) -> Float[Tensor, "c *s"]:
    """Return the values that `quantise` wrote, float32."""
    steps = float(np.iinfo(codes.dtype).max)
    low, high = limits[:, :1], limits[:, 1:]
    rows = codes.reshape(codes.shape[0], -1).astype(np.float32)
    return torch.from_numpy((rows * ((high - low) / np.float32(steps)) + low).reshape(codes.shape))


def write_teaching(folder: Path, token: str, teaching: Teaching, *, bits: Bits) -> None:
    """Write the teaching of one frame (no batch dimension).

    Raises:
        ValueError: if it holds a number that is not finite.
        DataError: if the folder cannot be written.
    """
    arrays: dict[str, npt.NDArray[Any]] = {}
    for name, values in (("logits", teaching.logits), ("features", teaching.features)):
        if values is not None:
            arrays[name], arrays[f"{name}_range"] = quantise(values, bits)
    arrays["visible"] = np.packbits(teaching.visible.cpu().numpy())
    write_npz(teaching_path(folder, token), **arrays)


def read_teaching(
    folder: Path, token: str, *, num_classes: int, shape: tuple[int, int, int], features: bool = False
) -> Teaching:
    """Read the teaching of a frame.

    Args:
        folder: where `occkit teach` wrote.
        token: the frame.
        num_classes: channels that the scores must have.
        shape: voxels that they must have.
        features: read the features too; they must then be there (`occkit teach --features`).

    Raises:
        DataError: if there is no such file, or it is damaged or of another size.
    """
    path = teaching_path(folder, token)
    if not path.is_file():
        raise DataError(path, "the teacher has not spoken about this frame", "run occkit teach on this data set")
    packed = read_npz_array(path, "visible", shape=((int(np.prod(shape)) + 7) // 8,), kinds="u")
    visible = np.unpackbits(packed, count=int(np.prod(shape))).reshape(shape).astype(bool)
    return Teaching(
        logits=_read(path, "logits", (num_classes, *shape)),
        visible=torch.from_numpy(visible),
        features=_read(path, "features", (-1, -1, -1, -1)) if features else None,
    )


def _read(path: Path, name: str, shape: tuple[int, ...]) -> Float[Tensor, "c x y z"]:
    codes = read_npz_array(path, name, shape=shape, kinds="u")
    limits = read_npz_array(path, f"{name}_range", shape=(codes.shape[0], 2), kinds="f")
    if codes.dtype.name not in ("uint8", "uint16") or not np.isfinite(limits).all():
        raise DataError(path, f"{name}: expected 8 or 16 bits and finite limits, got {codes.dtype}", _AGAIN)
    return dequantise(codes, limits.astype(np.float32))


def describe_teaching(folder: Path, description: dict[str, Any]) -> None:
    """Write what makes the teachings of a folder, or check that it still is the same.

    Raises:
        DataError: if the folder holds teachings of something else.
    """
    path = folder / DESCRIPTION
    if path.is_file():
        found = read_json(path)
        made = {key: value for key, value in found.items() if key != COST} if isinstance(found, dict) else found
        if made != description:
            raise DataError(folder, f"holds teachings of {made}, not of {description}", "give a new folder")
        return
    if folder.is_dir() and any(folder.rglob("*.npz")):
        raise DataError(folder, "holds files that are no teachings of this model", "give a new folder")
    write_json(path, description)


def note_cost(folder: Path, cost: dict[str, Any]) -> None:
    """Keep in the description what quantisation took from the teachings of a folder.

    Raises:
        DataError: if there is no description.
    """
    write_json(folder / DESCRIPTION, read_json(folder / DESCRIPTION) | {COST: cost})
