"""Values of parsed JSON, checked before they are used: a missing field, a NaN or a path that climbs out is named."""

import re
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from occkit.errors import DataError
from occkit.geometry import VoxelGrid

T = TypeVar("T", str, int, "list[Any]", "dict[str, Any]")
Floats = npt.NDArray[np.float64]

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]{0,199}")
_LARGEST = 1e9
_ROTATION_TOLERANCE = 1e-3


def field(record: Any, name: str, kind: type[T], path: Path) -> T:
    """Return a field of a JSON object.

    Raises:
        DataError: if `record` is no object, or the field is missing or of another type.
    """
    value = record.get(name) if isinstance(record, dict) else None
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise DataError(
            path, f"expected a field {name!r} of type {kind.__name__}, got {_short(value)}", "see the format"
        )
    return value


def name_field(record: Any, name: str, path: Path) -> str:
    """Return a field that is a name fit for a file: letters, digits and `._+-`, not starting with a dot.

    Raises:
        DataError: if it is anything else.
    """
    value = field(record, name, str, path)
    if not _NAME.fullmatch(value):
        raise DataError(
            path, f"{name}: expected a plain name (letters, digits, . _ + -), got {_short(value)}", "rename it"
        )
    return value


def path_field(record: Any, name: str, path: Path) -> PurePosixPath:
    """Return a field that is a relative path and stays below the folder it is relative to.

    Raises:
        DataError: if it is absolute, climbs with `..`, or is empty.
    """
    value = field(record, name, str, path)
    relative = PurePosixPath(value)
    if not value or "\0" in value or relative.is_absolute() or ".." in relative.parts or len(value) > 1000:
        raise DataError(path, f"{name}: expected a path below the data folder, got {_short(value)}", "make it relative")
    return relative


def array_of(value: Any, shape: tuple[int, ...], what: str, path: Path) -> Floats:
    """Return nested lists of numbers as a float64 array.

    Raises:
        DataError: if they are not numbers in the given shape (-1 for any length), finite and below a thousand million.
    """
    try:
        array = np.asarray(value, dtype=np.float64) if isinstance(value, list) else None
    except (TypeError, ValueError, OverflowError, RecursionError):
        array = None
    wanted = tuple("any" if n == -1 else n for n in shape)
    if (
        array is None
        or array.ndim != len(shape)
        or any(w not in (-1, n) for w, n in zip(shape, array.shape, strict=True))
    ):
        raise DataError(path, f"{what}: expected numbers of shape {wanted}, got {_short(value)}", "see the format")
    if not (np.abs(array) < _LARGEST).all():
        raise DataError(path, f"{what}: expected finite numbers below 1e9, got {_short(value)}", "calibrate again")
    return array


def intrinsics_of(value: Any, what: str, path: Path) -> Floats:
    """Return a 3x3 camera matrix: upper triangular, positive focal lengths, last row (0, 0, 1).

    Raises:
        DataError: if it is none.
    """
    matrix = array_of(value, (3, 3), what, path)
    lower = (matrix[1, 0], *matrix[2])
    if min(matrix[0, 0], matrix[1, 1]) <= 0 or not np.allclose(lower, (0, 0, 0, 1), atol=1e-6):
        raise DataError(
            path, f"{what}: expected [fx s cx; 0 fy cy; 0 0 1] in pixels, got {_short(value)}", "see the format"
        )
    return matrix


def pose_of(value: Any, what: str, path: Path) -> Floats:
    """Return a 4x4 rigid motion. Digits lost in writing it down are put right: the nearest rotation is taken.

    Raises:
        DataError: if the last row is not (0, 0, 0, 1) or the 3x3 block is off a rotation by more than 0.001.
    """
    matrix = array_of(value, (4, 4), what, path).copy()
    if not np.allclose(matrix[3], (0, 0, 0, 1), atol=1e-6):
        raise DataError(
            path, f"{what}: expected the last row 0 0 0 1, got {_short(matrix[3].tolist())}", "see the format"
        )
    matrix[:3, :3] = nearest_rotation(matrix[:3, :3], what, path)
    matrix[3] = (0, 0, 0, 1)
    return matrix


def nearest_rotation(block: Floats, what: str, path: Path) -> Floats:
    """Return the rotation nearest to a 3x3 block.

    Raises:
        DataError: if the block is off by more than 0.001: scaled, sheared or mirrored.
    """
    left, _, right = np.linalg.svd(block)
    rotation = left @ right
    if np.abs(rotation - block).max() > _ROTATION_TOLERANCE or np.linalg.det(rotation) < 0:
        raise DataError(
            path, f"{what}: expected a rotation, got {_short(block.tolist())}", "rows or axes may be swapped"
        )
    return rotation


def pose_of_quaternion(record: Any, what: str, path: Path) -> Floats:
    """Return `(w, x, y, z, tx, ty, tz)` of a record with the fields `rotation` and `translation`.

    Raises:
        DataError: if they are not a unit quaternion (to 0.01) and three finite metres.
    """
    rotation = array_of(field(record, "rotation", list, path), (4,), f"{what} rotation", path)
    translation = array_of(field(record, "translation", list, path), (3,), f"{what} translation", path)
    length = float(np.linalg.norm(rotation))
    if abs(length - 1) > 0.01:
        raise DataError(path, f"{what} rotation: expected a unit quaternion (w, x, y, z), got length {length:.3g}", "")
    return np.concatenate([rotation / length, translation])


def grid_of(value: Any, path: Path) -> VoxelGrid:
    """Return the grid a `grid.json` describes: `{"origin": [3], "voxel_size": [3], "shape": [3]}`, metres.

    Raises:
        DataError: if it does not, or has more than 2^28 voxels.
    """
    names = ("origin", "voxel_size", "shape")
    origin, size, shape = (array_of(field(value, name, list, path), (3,), name, path).tolist() for name in names)
    if any(n != int(n) or n < 1 for n in shape) or np.prod(shape) > 2**28 or min(size) <= 0:
        raise DataError(
            path, f"expected positive sizes and a whole number of voxels, got {_short(value)}", "see the format"
        )
    nx, ny, nz = (int(n) for n in shape)
    return VoxelGrid(origin=tuple(origin), voxel_size=tuple(size), shape=(nx, ny, nz))


def _short(value: object) -> str:
    try:
        text = repr(value)
    except RecursionError:
        text = "something nested too deeply"
    return text if len(text) <= 120 else text[:117] + "..."
