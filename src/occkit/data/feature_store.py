"""Vision-language features of images on disk: one file a frame, of which single rays are read without the rest.

A folder holds `features.json`, which says what made the features and how they are written, `basis.npz` if they are
reduced to a subspace, and `<token>.features` a frame, in this order, little-endian:

- 16 bytes that belong to the folder's `features.json`;
- with 8 bits the smallest and the largest value of each channel, float32 `[k, 2]`;
- the vectors, float16 or uint8 `[n, rows, columns, k]`, cameras in the order of `features.json`.

A vector lies in one piece, and the place of every byte is known before the file is opened.
"""

import hashlib
import json
import mmap
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from occkit.data.teaching import dequantise, quantise
from occkit.errors import DataError
from occkit.files import open_file, read_json, read_npz_array, write_bytes, write_json, write_npz

Codec = Literal["float16", "uint8"]

DESCRIPTION = "features.json"
"""File of a store that says what it holds."""
_BASIS, _SUFFIX, _FORMAT = "basis.npz", ".features", 1
_TAG_BYTES = 16
_MAX_DESCRIPTION_BYTES = 2**20
_MAX_FRAME_BYTES = 2**36
_MAX_SIDE = 2**24
_MAX_VALUE = 1.01
"""Of a number of a vector of length 1, rounding included."""
_AGAIN = "write it again with occkit features"
_DTYPES: Mapping[Codec, np.dtype[Any]] = {"float16": np.dtype("<f2"), "uint8": np.dtype("u1")}


@dataclass(frozen=True, kw_only=True)
class FeatureLayout:
    """What a store holds, and how it is written."""

    source: Mapping[str, Any]
    """JSON of what made the features: extractor, and the subspace they are reduced to."""
    cameras: tuple[str, ...]
    """Names, in the order of the files."""
    image_size: tuple[int, int]
    """(height, width) of the images as they are stored, pixels."""
    map_size: tuple[int, int]
    """(rows, columns) of cells that divide an image."""
    width: int
    """Channels of the extractor, `c`."""
    dim: int
    """Channels that are kept, `k`; less than `width` only with a basis."""
    codec: Codec
    """Two bytes a number, or one."""

    def __post_init__(self) -> None:
        sizes = (*self.image_size, *self.map_size, self.width, self.dim)
        if min(sizes) < 1 or max(sizes) > _MAX_SIDE or self.codec not in _DTYPES:
            raise ValueError(f"FeatureLayout: expected sizes in 1..{_MAX_SIDE} and float16 or uint8, got {self}")
        if not self.cameras or len(set(self.cameras)) != len(self.cameras):
            raise ValueError(f"FeatureLayout: expected different cameras, got {self.cameras}")
        if self.dim > self.width or self.frame_bytes > _MAX_FRAME_BYTES:
            raise ValueError(f"FeatureLayout: expected dim <= width and a frame of at most 64 GiB, got {self}")

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Of the numbers of a frame: cameras, rows, columns, channels."""
        return (len(self.cameras), *self.map_size, self.dim)

    @property
    def header_bytes(self) -> int:
        """What stands before the numbers of a frame."""
        return _TAG_BYTES + (8 * self.dim if self.codec == "uint8" else 0)

    @property
    def frame_bytes(self) -> int:
        """Size of a frame's file."""
        count, rows, columns, dim = self.shape
        return self.header_bytes + count * rows * columns * dim * _DTYPES[self.codec].itemsize


class FeatureStore:
    """A folder of features, opened for reading; see `create_store` for writing.

    Args:
        folder: where `occkit features` wrote.

    Raises:
        DataError: if it is no such folder, or damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        path = self.folder / DESCRIPTION
        if not path.is_file():
            raise DataError(path, "no such file: this is no store of features", "write one with occkit features")
        self.layout, digest = _parse(path, read_json(path, max_bytes=_MAX_DESCRIPTION_BYTES))
        self.basis: Float[Tensor, "c k"] | None = None
        """Brings text into the store's channels; None if they are those of the extractor."""
        if digest is not None:
            self.basis = _read_basis(self.folder / _BASIS, self.layout, digest)
        self._tag = _tag(self.layout, digest)

    def path(self, token: str) -> Path:
        """Return where the features of a frame lie."""
        return self.folder / f"{token}{_SUFFIX}"

    def has(self, token: str) -> bool:
        """Whether the file of a frame is there and whole."""
        path = self.path(token)
        return path.is_file() and path.stat().st_size == self.layout.frame_bytes

    def write(self, token: str, maps: Float[Tensor, "n k rows columns"]) -> None:
        """Write the features of a frame; a reader sees a whole file or none.

        Args:
            token: name of the frame.
            maps: in the store's channels, vectors of length 1.

        Raises:
            ValueError: if they are of another shape, not finite, or longer.
            DataError: if the folder cannot be written.
        """
        count, rows, columns, dim = self.layout.shape
        if tuple(maps.shape) != (count, dim, rows, columns):
            raise ValueError(f"maps: expected {(count, dim, rows, columns)}, got {tuple(maps.shape)}")
        if not bool((maps.abs() <= _MAX_VALUE).all()):
            raise ValueError("maps: expected vectors of length 1, got NaN or numbers beyond -1..1")
        channels = maps.detach().cpu().float().transpose(0, 1)  # [k, n, rows, columns]
        codes, limits = channels.numpy().astype(_DTYPES["float16"]), b""
        if self.layout.codec == "uint8":
            codes, ranges = quantise(channels, 8)
            limits = ranges.astype("<f4").tobytes()
        write_bytes(self.path(token), self._tag + limits + np.ascontiguousarray(np.moveaxis(codes, 0, -1)).tobytes())

    def read(self, token: str) -> Float[Tensor, "n k rows columns"]:
        """Read all features of a frame, vectors of length 1.

        Raises:
            DataError: if there is no such file, or it is damaged or belongs to another store.
        """
        codes, limits = self._open(token, scattered=False)
        vectors = _unit(self._decode(token, codes.reshape(-1, self.layout.dim), limits))
        return vectors.reshape(self.layout.shape).permute(0, 3, 1, 2)

    def sample(self, token: str, cameras: Int64[Tensor, "r"], pixels: Float[Tensor, "r 2"]) -> Float[Tensor, "r k"]:
        """Read the features that rays of a frame see, and no other part of its file.

        The four cells around a pixel are weighed linearly (`align_corners=False`; at the border the nearest), and the
        mean is given length 1 again.

        Args:
            token: name of the frame.
            cameras: index of each ray's camera in `layout.cameras`.
            pixels: (u, v) of each ray in the image as it is stored, pixel centres at +0.5.

        Raises:
            ValueError: if there is no such camera, or a pixel lies outside the image.
            DataError: as `read`.
        """
        layout = self.layout
        height, width = layout.image_size
        u, v = pixels.detach().cpu().double().numpy().reshape(-1, 2).T
        inside = (u >= 0) & (u <= width) & (v >= 0) & (v <= height)
        which = cameras.detach().cpu().numpy()
        if not inside.all() or len(which) != len(u):
            raise ValueError(f"pixels: expected one a camera, (u, v) within {width} x {height}")
        if len(which) and not (which.min() >= 0 and which.max() < len(layout.cameras)):
            raise ValueError(f"cameras: expected 0..{len(layout.cameras) - 1}, got {which.min()}..{which.max()}")
        codes, limits = self._open(token, scattered=True)
        rows, columns = layout.map_size
        low_row, high_row, down = _neighbours(v * (rows / height), rows)
        low_column, high_column, right = _neighbours(u * (columns / width), columns)
        # In numpy, as loader threads call this: torch's own threads would wait for each other at every small step.
        total = np.zeros((len(u), layout.dim), np.float32)
        for row, vertical in ((low_row, 1 - down), (high_row, down)):
            for column, horizontal in ((low_column, 1 - right), (high_column, right)):
                weight = (vertical * horizontal).astype(np.float32)
                total += weight[:, None] * self._decode(token, codes[which, row, column], limits)
        return _unit(total)

    def _open(self, token: str, *, scattered: bool) -> tuple[npt.NDArray[Any], npt.NDArray[np.float32]]:
        """Map the numbers of a frame's file into memory, and read the limits of its channels (none with float16)."""
        path, layout = self.path(token), self.layout
        if not path.is_file():
            raise DataError(path, "no features of this frame", "run occkit features on this data set")
        stream, size = open_file(path, max_bytes=_MAX_FRAME_BYTES)
        try:
            with stream:
                if size != layout.frame_bytes:
                    raise DataError(path, f"expected {layout.frame_bytes:,} bytes, got {size:,}", _AGAIN)
                if stream.read(_TAG_BYTES) != self._tag:
                    raise DataError(path, f"does not belong to the {DESCRIPTION} beside it", _AGAIN)
                limits = np.frombuffer(stream.read(layout.header_bytes - _TAG_BYTES), "<f4").reshape(-1, 2)
                pages = mmap.mmap(stream.fileno(), size, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise DataError(path, f"cannot be read ({error})", _AGAIN) from error
        # Else the system reads the neighbourhood of every vector ahead, which is most of the file.
        if scattered and hasattr(mmap, "MADV_RANDOM"):
            pages.madvise(mmap.MADV_RANDOM)
        codes = np.frombuffer(pages, _DTYPES[layout.codec], offset=layout.header_bytes).reshape(layout.shape)
        return codes, limits.astype(np.float32)

    def _decode(self, token: str, codes: npt.NDArray[Any], limits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        vectors = dequantise(codes.T, limits).numpy().T if len(limits) else codes.astype(np.float32)
        if not (np.abs(vectors) <= _MAX_VALUE).all():
            raise DataError(self.path(token), "holds numbers beyond -1..1", _AGAIN)
        return vectors


def create_store(folder: Path, layout: FeatureLayout, basis: Float[Tensor, "c k"] | None = None) -> FeatureStore:
    """Make a folder for features, or open one that is made already for the same.

    Args:
        folder: where to write.
        layout: what shall be written, and how.
        basis: `[width, dim]`, if they are reduced. A folder that is there keeps the one it has: the same vocabulary may
            give another machine a basis that differs in the last bits.

    Raises:
        ValueError: if the basis does not fit the layout.
        DataError: if the folder holds something else.
    """
    shape = (layout.width, layout.width) if basis is None else tuple(basis.shape)
    if shape != (layout.width, layout.dim):
        raise ValueError(f"basis: expected {(layout.width, layout.dim)}, got {None if basis is None else shape}")
    path = Path(folder) / DESCRIPTION
    if path.is_file():
        store = FeatureStore(folder)
        wanted, found = _as_json(layout), _as_json(store.layout)
        different = [key for key in wanted if wanted[key] != found[key]]
        if different or (store.basis is None) != (basis is None):
            raise DataError(
                folder, f"holds other features (different: {', '.join(different) or 'basis'})", "give a new folder"
            )
        return store
    if path.parent.is_dir() and any(path.parent.glob(f"*{_SUFFIX}")):
        raise DataError(folder, f"holds features, but no {DESCRIPTION} that says of what", "give a new folder")
    digest = None
    if basis is not None:
        array = basis.detach().cpu().numpy().astype("<f4")
        digest = hashlib.sha256(array.tobytes()).hexdigest()
        write_npz(path.parent / _BASIS, basis=array)
    write_json(path, _as_json(layout) | {"basis_sha256": digest})
    return FeatureStore(folder)


def _neighbours(
    place: npt.NDArray[np.float64], count: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Return the cells on both sides of places along an axis, and the weight of the second."""
    centred = np.clip(place - 0.5, 0, count - 1)
    low = np.floor(centred).astype(np.int64)
    return low, np.minimum(low + 1, count - 1), centred - low


def _unit(vectors: npt.NDArray[np.float32]) -> Float[Tensor, "r k"]:
    """Return vectors with length 1; those of length 0 stay as they are."""
    length = np.sqrt(np.einsum("rk,rk->r", vectors, vectors))
    return torch.from_numpy(vectors / np.where(length > 0, length, 1)[:, None])


def _as_json(layout: FeatureLayout) -> dict[str, Any]:
    # By way of JSON, which knows no tuples.
    return json.loads(json.dumps({"format": _FORMAT} | asdict(layout)))


def _tag(layout: FeatureLayout, digest: str | None) -> bytes:
    text = json.dumps(_as_json(layout) | {"basis_sha256": digest}, sort_keys=True)
    return hashlib.sha256(text.encode()).digest()[:_TAG_BYTES]


def _parse(path: Path, value: Any) -> tuple[FeatureLayout, str | None]:
    """Return what `features.json` says, and the digest of the basis."""
    wanted = {"format": int, "source": dict, "cameras": list, "image_size": list, "map_size": list, "width": int,
              "dim": int, "codec": str}  # fmt: skip
    remedy = "give a folder that occkit features wrote, or write it again"
    if not isinstance(value, dict) or value.get("format") != _FORMAT:
        raise DataError(path, f"expected a description of features, format {_FORMAT}", remedy)
    wrong = [key for key, kind in wanted.items() if type(value.get(key)) is not kind]
    digest = value.get("basis_sha256")
    if wrong or not isinstance(digest, str | None) or not all(isinstance(name, str) for name in value["cameras"]):
        raise DataError(path, f"{', '.join(wrong) or 'cameras or basis_sha256'}: not what it should be", remedy)
    for key in ("image_size", "map_size"):
        if len(value[key]) != 2 or not all(type(side) is int for side in value[key]):
            raise DataError(path, f"{key}: expected two integers, got {str(value[key])[:80]}", remedy)
    try:
        layout = FeatureLayout(
            source=value["source"],
            cameras=tuple(value["cameras"]),
            image_size=_pair(value["image_size"]),
            map_size=_pair(value["map_size"]),
            width=value["width"],
            dim=value["dim"],
            codec=cast(Codec, value["codec"]),
        )
    except ValueError as error:
        raise DataError(path, str(error)[:300], remedy) from error
    if digest is None and layout.dim != layout.width:
        raise DataError(path, "names no basis although channels are left out", remedy)
    return layout, digest


def _pair(values: Sequence[int]) -> tuple[int, int]:
    return values[0], values[1]


def _read_basis(path: Path, layout: FeatureLayout, digest: str) -> Float[Tensor, "c k"]:
    basis = read_npz_array(path, "basis", shape=(layout.width, layout.dim), kinds="f").astype("<f4")
    if hashlib.sha256(basis.tobytes()).hexdigest() != digest:
        raise DataError(path, f"is not the basis that {DESCRIPTION} names", "write the folder again")
    return torch.from_numpy(basis.astype(np.float32))
