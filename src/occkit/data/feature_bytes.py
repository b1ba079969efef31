"""The bytes of a frame's features: a tag, a digest of all that follows, the limits of the channels, the vectors."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from occkit.data.feature_layout import DIGEST_BYTES, DTYPES, TAG_BYTES, Codec, FeatureLayout
from occkit.data.teaching import dequantise, quantise
from occkit.errors import DataError
from occkit.files import open_file

MAX_VALUE = 1.01
"""Of a number of a vector of length 1, rounding included."""
_CHUNK = 2**20


def encode_maps(layout: FeatureLayout, maps: Float[Tensor, "n k rows columns"]) -> bytes:
    """Return the limits and the vectors of a frame as a store keeps them.

    Raises:
        ValueError: if the maps are of another shape, not finite, or their vectors longer than 1.
    """
    count, rows, columns, dim = layout.shape
    if tuple(maps.shape) != (count, dim, rows, columns):
        raise ValueError(f"maps: expected {(count, dim, rows, columns)}, got {tuple(maps.shape)}")
    if not bool((maps.abs() <= MAX_VALUE).all()):
        raise ValueError("maps: expected vectors of length 1, got NaN or numbers beyond -1..1")
    codes, limits = _quantise(maps.detach().cpu().float().transpose(0, 1), layout.codec)
    return limits.astype("<f4").tobytes() + np.ascontiguousarray(np.moveaxis(codes, 0, -1)).tobytes()


def decode_vectors(codes: npt.NDArray[Any], limits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return the numbers that codes `[m, k]` stand for; limits `[k, 2]`, or none with float16."""
    return dequantise(codes.T, limits).numpy().T if len(limits) else codes.astype(np.float32)


def read_back(vectors: Float[Tensor, "n m k"], codec: Codec) -> Float[Tensor, "n m k"]:
    """Return what a store gives back of the vectors of a frame: rounded, and given length 1 again."""
    codes, limits = _quantise(vectors.detach().cpu().float().movedim(-1, 0), codec)
    rows = decode_vectors(codes.reshape(codes.shape[0], -1).T, limits)
    return unit(rows).reshape(vectors.shape)


def _quantise(channels: Float[Tensor, "k *s"], codec: Codec) -> tuple[npt.NDArray[Any], npt.NDArray[np.float32]]:
    if codec == "uint8":
        return quantise(channels, 8)
    return channels.numpy().astype(DTYPES[codec]), np.zeros((0, 2), np.float32)


def unit(vectors: npt.NDArray[np.float32]) -> Float[Tensor, "r k"]:
    """Return vectors with length 1; those of length 0 stay as they are."""
    length = np.sqrt(np.einsum("rk,rk->r", vectors, vectors))
    return torch.from_numpy(vectors / np.where(length > 0, length, 1)[:, None])


def neighbours(
    place: npt.NDArray[np.float64], count: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Return the cells on both sides of places along an axis, and the weight of the second."""
    centred = np.clip(place - 0.5, 0, count - 1)
    low = np.floor(centred).astype(np.int64)
    return low, np.minimum(low + 1, count - 1), centred - low


def source_key(tag: bytes, parts: Mapping[str, Any]) -> str:
    """Return the name of what is made of some parts in the way a tag stands for."""
    digest = hashlib.sha256(tag)
    for name, value in sorted(parts.items()):
        # Each part is preceded by its length, so that no two lists of parts are the same bytes.
        data = value if isinstance(value, bytes) else "\n".join(value).encode()
        digest.update(f"{name} {len(data)}\n".encode() + data)
    return digest.hexdigest()


def seal(tag: bytes, key: str, payload: bytes) -> bytes:
    """Return a whole file: the digest covers the tag, the file's own name and all numbers."""
    return tag + _digest(tag, key, payload).digest() + payload


def check_seal(path: Path, tag: bytes, key: str, *, size: int, again: str) -> None:
    """Read a whole file and compare it with the digest it carries.

    Args:
        path: the file.
        tag: of its store.
        key: its name.
        size: bytes it must have.
        again: the remedy to name.

    Raises:
        DataError: if a byte is not what was written.
    """
    stream, found = open_file(path, max_bytes=2 * size)
    with stream:
        if found != size:
            raise DataError(path, f"expected {size:,} bytes, got {found:,}", again)
        try:
            if stream.read(TAG_BYTES) != tag:
                raise DataError(path, "belongs to another store", again)
            stated, digest = stream.read(DIGEST_BYTES), _digest(tag, key, b"")
            while chunk := stream.read(_CHUNK):
                digest.update(chunk)
        except OSError as error:
            raise DataError(path, f"cannot be read ({error.strerror})", again) from error
    if digest.digest() != stated:
        raise DataError(path, "damaged: its bytes are not those that were written", again)


def _digest(tag: bytes, key: str, payload: bytes) -> "hashlib._Hash":
    digest = hashlib.sha256(tag + bytes.fromhex(key))
    digest.update(payload)
    return digest


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal.

    Raises:
        DataError: if it cannot be read.
    """
    stream, _ = open_file(path, max_bytes=2**40)
    digest = hashlib.sha256()
    with stream:
        try:
            while chunk := stream.read(_CHUNK):
                digest.update(chunk)
        except OSError as error:
            raise DataError(path, f"cannot be read ({error.strerror})", "copy or download the file again") from error
    return digest.hexdigest()


def file_digests(paths: Sequence[Path]) -> tuple[str, ...]:
    """Return the SHA-256 of each of some files."""
    return tuple(map(file_digest, paths))
