"""Bytes on disk: atomic writers, and readers that check a size before they believe it and never unpickle.

Every reader raises `DataError` and nothing else, whatever the file holds; arrays are numpy copies one can write to.
"""

import contextlib
import io
import json
import os
import secrets
import threading
import time
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from occkit.errors import DataError

T = TypeVar("T")

MAX_ARRAY_BYTES = 256 * 2**20
"""Largest array a reader accepts unless told otherwise: a 1600 x 1600 x 64 volume of uint8 fits."""
MAX_JSON_BYTES = 512 * 2**20
"""Largest JSON document read at once; the tables of nuScenes, which are larger, are streamed."""
MAX_IMAGE_PIXELS = 64 * 10**6
"""Largest image decoded."""
PARTIAL = ".partial"
"""End of the name of a file on its way."""
IMAGE_FORMATS = ("JPEG", "PNG", "WEBP", "BMP")
"""Decoders offered to an image file; fewer decoders, fewer surprises in a damaged one."""
_MAX_NPZ_FILE_BYTES = 2**30
_DAMAGED = "copy or download the file again"
_HEADERS = threading.Lock()
"""Held while numpy parses a header: older Pythons (3.11.7 among them) count the recursion of `ast` over all threads."""


def write_bytes(path: Path, data: bytes | memoryview) -> None:
    """Write a file so that a reader sees the old bytes or the new, never half; parent folders are made.

    The bytes go to a file beside it, which is then renamed. This protects against a killed process, not a power cut.

    Raises:
        DataError: if the folder cannot be written.
    """
    path = Path(path)
    beside = _beside(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_bytes(data)
        beside.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)
        raise DataError(path, f"cannot be written ({error.strerror})", "check the folder and the space left") from error


def create_bytes(path: Path, data: bytes | memoryview) -> bool:
    """Write a file unless it is there: of several writers one wins, and nobody ever sees half a file.

    On a file system without hard links the last of several writers at the same instant wins.

    Returns:
        Whether it was written now.

    Raises:
        DataError: if the folder cannot be written.
    """
    path = Path(path)
    beside = _beside(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            return False
        beside.write_bytes(data)
        try:
            os.link(beside, path)
        except FileExistsError:
            return False
        except OSError:
            beside.replace(path)
        return True
    except OSError as error:
        raise DataError(path, f"cannot be written ({error.strerror})", "check the folder and the space left") from error
    finally:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)


def remove_partials(folder: Path, *, age: float = 3600.0) -> int:
    """Remove what killed writers left in a folder: files on their way that nobody has touched for so many seconds.

    Args:
        folder: looked through once, not what lies below it.
        age: seconds; 0 where nobody else may be writing.

    Returns:
        How many.
    """
    removed = 0
    for path in folder.glob(f".*{PARTIAL}"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime >= age:
                path.unlink()
                removed += 1
    return removed


def _beside(path: Path) -> Path:
    # Random as well: processes of several machines may have the same number.
    return path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}-{secrets.token_hex(4)}{PARTIAL}")


def write_json(path: Path, value: object, *, indent: int | None = 1) -> None:
    """Write a JSON document (UTF-8, no NaN or infinity; key order as given).

    Raises:
        ValueError: if `value` holds something JSON cannot say.
    """
    try:
        text = json.dumps(value, indent=indent, allow_nan=False, ensure_ascii=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: cannot be said in JSON: {error}") from error
    write_bytes(path, (text + "\n").encode())


def write_npz(path: Path, **arrays: npt.NDArray[Any]) -> None:
    """Write arrays as a deflated npz, members in the order given; same arrays, same bytes.

    Raises:
        TypeError: if an array holds Python objects.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            array = np.asarray(array)
            if array.dtype.hasobject:
                raise TypeError(f"{name}: expected numbers, got an array of Python objects")
            # A ZipInfo made by hand carries the date 1980-01-01 instead of now.
            member = zipfile.ZipInfo(f"{name}.npy")
            member.compress_type = zipfile.ZIP_DEFLATED
            plain = io.BytesIO()
            np.lib.format.write_array(plain, np.ascontiguousarray(array), allow_pickle=False)
            archive.writestr(member, plain.getbuffer())
    write_bytes(path, buffer.getvalue())


def write_image(path: Path, image: npt.NDArray[np.uint8 | np.uint16], *, quality: int = 92) -> None:
    """Write an image `[3, h, w]` or `[h, w]` (uint8) as PNG or JPEG, or `[h, w]` (uint16) as PNG, by the path's suffix.

    Raises:
        ValueError: if the array is no image or the suffix is neither `.png`, `.jpg` nor `.jpeg`.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in (".png", ".jpg", ".jpeg"):
        raise ValueError(f"{path}: expected a name that ends in .png, .jpg or .jpeg")
    colour = image.ndim == 3 and image.shape[0] == 3 and image.dtype == np.uint8
    grey = image.ndim == 2 and (image.dtype == np.uint8 or (image.dtype == np.uint16 and suffix == ".png"))
    if not (colour or grey):
        raise ValueError(
            f"image: expected uint8 [3, h, w] or [h, w], or uint16 [h, w] for a PNG, got {image.dtype} {image.shape}"
        )
    picture = Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0) if image.ndim == 3 else image))
    buffer = io.BytesIO()
    if suffix == ".png":
        picture.save(buffer, "PNG", compress_level=3)
    else:
        picture.save(buffer, "JPEG", quality=quality, subsampling=0)
    write_bytes(path, buffer.getvalue())


def open_file(path: Path, *, max_bytes: int) -> tuple[BinaryIO, int]:
    """Open a regular file for reading and return it with its size.

    Raises:
        DataError: if it is missing, not a regular file, or larger than `max_bytes`.
    """
    path = Path(path)
    try:
        # A named pipe would block on open, a device would never end.
        if path.exists() and not path.is_file():
            raise DataError(path, "expected a file, got a folder or a device", "give the path of the file itself")
        stream = path.open("rb")
        size = os.fstat(stream.fileno()).st_size
    except FileNotFoundError as error:
        raise DataError(path, "no such file", "check the path, or download the missing part") from error
    except (OSError, ValueError) as error:
        raise DataError(path, f"cannot be opened ({error})", "check the path and its permissions") from error
    if size > max_bytes:
        stream.close()
        raise DataError(
            path, f"expected at most {max_bytes:,} bytes, got {size:,}", "this is not the file its name says"
        )
    return stream, size


def read_bytes(path: Path, *, max_bytes: int = MAX_ARRAY_BYTES, expected: int | None = None) -> bytes:
    """Read a whole file.

    Args:
        path: the file.
        max_bytes: larger files are refused unread.
        expected: the exact size it must have, bytes.

    Raises:
        DataError: if it is missing, unreadable or of another size.
    """
    stream, size = open_file(path, max_bytes=max_bytes)
    with stream:
        if expected is not None and size != expected:
            raise DataError(path, f"expected {expected:,} bytes, got {size:,}", _DAMAGED)
        try:
            return stream.read(max_bytes)
        except OSError as error:
            raise DataError(path, f"cannot be read ({error.strerror})", _DAMAGED) from error


def read_raw(
    path: Path, dtype: npt.DTypeLike, *, columns: int = 1, max_bytes: int = MAX_ARRAY_BYTES
) -> npt.NDArray[Any]:
    """Read a headerless array: `[n]`, or `[n, columns]` when there are several.

    Args:
        path: the file.
        dtype: element type, byte order included (`"<f4"`).
        columns: values a row.
        max_bytes: larger files are refused unread.

    Raises:
        DataError: if the size is not a whole number of rows.
    """
    data = read_bytes(path, max_bytes=max_bytes)
    row = np.dtype(dtype).itemsize * columns
    if len(data) % row:
        raise DataError(path, f"expected a multiple of {row} bytes (a row), got {len(data):,}", _DAMAGED)
    flat = np.frombuffer(data, dtype=dtype).copy()
    return flat.reshape(-1, columns) if columns > 1 else flat


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number")


JSON_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)
"""Takes no NaN and no infinity."""


def read_json(path: Path, *, max_bytes: int = MAX_JSON_BYTES) -> Any:
    """Read a JSON document; NaN and Infinity, which JSON does not have, are refused.

    Raises:
        DataError: if it is missing, too large, or not JSON.
    """
    data = read_bytes(path, max_bytes=max_bytes)
    try:
        return JSON_DECODER.decode(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise DataError(path, f"is not a JSON document ({reason_of(error)})", _DAMAGED) from error


def reason_of(error: BaseException) -> str:
    """Return what went wrong in a few words, for the message of a `DataError`."""
    text = (
        "nested too deeply" if isinstance(error, RecursionError) else str(error).splitlines()[0] if str(error) else ""
    )
    return text[:200] or type(error).__name__


def npz_keys(path: Path) -> tuple[str, ...]:
    """Return the names of the arrays in an npz file.

    Raises:
        DataError: if it is not a zip archive.
    """
    return _with_archive(
        path, lambda archive: tuple(n.removesuffix(".npy") for n in archive.namelist() if n.endswith(".npy"))
    )


def read_npz_array(
    path: Path,
    keys: str | Sequence[str],
    *,
    shape: tuple[int, ...] | None = None,
    kinds: str = "buif",
    max_bytes: int = MAX_ARRAY_BYTES,
) -> npt.NDArray[Any]:
    """Read one array of an npz file.

    Args:
        path: the file.
        keys: the name of the array, or several of which the first present one is taken.
        shape: what it must have; -1 stands for any length.
        kinds: numpy kinds it may have (`b`ool, `u`nsigned, `i`nteger, `f`loat).
        max_bytes: a larger array is refused before memory is set aside for it.

    Raises:
        DataError: naming the array, what was expected and what is there.
    """
    names = (keys,) if isinstance(keys, str) else tuple(keys)

    def read(archive: zipfile.ZipFile) -> npt.NDArray[Any]:
        present = archive.namelist()
        for name in names:
            if f"{name}.npy" in present:
                member = archive.getinfo(f"{name}.npy")
                # Other methods decompress without a bound.
                if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    raise DataError(path, f"{name} is compressed by a method other than deflate", "save it with numpy")
                with archive.open(member) as stream:
                    return _read_npy(stream, path, name=name, shape=shape, kinds=kinds, max_bytes=max_bytes)
        found = ", ".join(p.removesuffix(".npy") for p in present[:8]) or "nothing"
        raise DataError(path, f"expected an array named {' or '.join(names)}, got {found[:200]}", "check what wrote it")

    return _with_archive(path, read)


def _with_archive(path: Path, read: Callable[[zipfile.ZipFile], T]) -> T:
    stream, _ = open_file(path, max_bytes=_MAX_NPZ_FILE_BYTES)
    with stream:
        try:
            with zipfile.ZipFile(stream) as archive:
                return read(archive)
        except DataError:
            raise
        except Exception as error:
            # zipfile and zlib answer damage with a dozen unrelated exceptions.
            raise DataError(path, f"is not a sound npz file ({reason_of(error)})", _DAMAGED) from error


def read_npy(
    path: Path, *, shape: tuple[int, ...] | None = None, kinds: str = "buif", max_bytes: int = MAX_ARRAY_BYTES
) -> npt.NDArray[Any]:
    """Read an npy file; arguments and errors as in `read_npz_array`."""
    stream, _ = open_file(path, max_bytes=max_bytes + 65536)
    with stream:
        return _read_npy(stream, path, name="the array", shape=shape, kinds=kinds, max_bytes=max_bytes)


def _read_npy(
    stream: Any, path: Path, *, name: str, shape: tuple[int, ...] | None, kinds: str, max_bytes: int
) -> npt.NDArray[Any]:
    try:
        version = np.lib.format.read_magic(stream)
        header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        if version not in header:
            raise ValueError(f"unknown npy version {version}")
        with _HEADERS:
            actual, fortran, dtype = header[version](stream)
    except Exception as error:
        # The header is a Python literal: parsing a damaged one fails in many ways.
        raise DataError(path, f"{name} has no sound npy header ({reason_of(error)})", _DAMAGED) from error
    if dtype.hasobject:
        raise DataError(path, f"{name} holds pickled Python objects, which are never loaded", "save plain numbers")
    if dtype.kind not in kinds:
        raise DataError(path, f"{name}: expected a type of kind {kinds!r}, got {dtype}", "check what wrote it")
    if shape is not None and not _fits(actual, shape):
        wanted = tuple("any" if w == -1 else w for w in shape)
        raise DataError(path, f"{name}: expected shape {wanted}, got {actual}", "check what wrote it")
    # Python integers: a product of int64 could wrap around and look small.
    size = dtype.itemsize
    for length in actual:
        size *= int(length)
    if size < 0 or size > max_bytes or min(actual, default=0) < 0 or any(length > max_bytes for length in actual):
        raise DataError(path, f"{name}: shape {actual} of {dtype} is over the limit of {max_bytes:,} bytes", _DAMAGED)
    try:
        data = stream.read(size)
        surplus = stream.read(1)
    except Exception as error:
        raise DataError(path, f"{name} cannot be decompressed ({reason_of(error)})", _DAMAGED) from error
    if len(data) != size or surplus:
        got = "more" if surplus else f"{len(data):,}"
        raise DataError(path, f"{name}: expected {size:,} bytes for {actual} of {dtype}, got {got}", _DAMAGED)
    flat = np.frombuffer(data, dtype=dtype)
    array = flat.reshape(actual[::-1]).T if fortran else flat.reshape(actual)
    return np.array(array, dtype=dtype.newbyteorder("="), order="C")


def _fits(actual: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    return len(actual) == len(wanted) and all(w in (-1, a) for a, w in zip(actual, wanted, strict=True))


def image_size(path: Path) -> tuple[int, int]:
    """Return (height, width) of an image file without decoding it.

    Raises:
        DataError: if it is no image.
    """
    return _with_image(path, lambda image: (image.height, image.width))


def read_image(path: Path) -> npt.NDArray[np.uint8]:
    """Read an image as RGB, uint8 `[3, h, w]`, pixels as stored: no EXIF rotation, which calibrations ignore.

    Raises:
        DataError: if it is missing, damaged, cut off, or has more than 64 million pixels.
    """
    image, _ = decode_image(path)
    return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))


def read_grey16(path: Path) -> npt.NDArray[np.uint16]:
    """Read a 16-bit greyscale PNG, uint16 `[h, w]`: a map of ids or of depth.

    Raises:
        DataError: as `read_image`, and if it is an image of another kind.
    """

    def read(image: Image.Image) -> npt.NDArray[np.uint16]:
        if not image.mode.startswith("I;16"):
            raise DataError(path, f"expected a 16-bit greyscale PNG, got mode {image.mode}", "check what wrote it")
        return np.asarray(image).astype(np.uint16)

    return _with_image(path, read)


def decode_image(path: Path, *, at_least: tuple[int, int] | None = None) -> tuple[Image.Image, tuple[int, int]]:
    """Decode an image to RGB.

    Args:
        path: the file.
        at_least: (height, width) needed. A JPEG is then decoded at a half, a quarter or an eighth where that is enough
            and divides its size exactly; this is several times faster.

    Returns:
        image: the pixels.
        stored: (height, width) of the file.

    Raises:
        DataError: as `read_image`.
    """

    def read(image: Image.Image) -> tuple[Image.Image, tuple[int, int]]:
        width, height = image.size
        if at_least is not None and image.format == "JPEG":
            for factor in (8, 4, 2):
                rows, columns = height // factor, width // factor
                exact = (rows * factor, columns * factor) == (height, width)
                if exact and rows >= at_least[0] and columns >= at_least[1]:
                    image.draft("RGB", (columns, rows))
                    break
        return image.convert("RGB"), (height, width)

    return _with_image(path, read)


def _with_image(path: Path, read: Callable[[Image.Image], T]) -> T:
    stream, _ = open_file(path, max_bytes=MAX_ARRAY_BYTES)
    with stream:
        try:
            with Image.open(stream, formats=IMAGE_FORMATS) as image:
                if image.width * image.height > MAX_IMAGE_PIXELS:
                    size = f"{image.width} x {image.height}"
                    raise DataError(path, f"expected at most {MAX_IMAGE_PIXELS:,} pixels, got {size}", "scale it down")
                return read(image)
        except DataError:
            raise
        except Exception as error:
            # Decoders answer damage with whatever they stumble over: OSError, SyntaxError, struct.error, KeyError ...
            raise DataError(path, f"is not a readable image ({reason_of(error)})", _DAMAGED) from error
