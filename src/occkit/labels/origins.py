"""What points and labels were made of, stated in their own files: the SHA-256 of fingerprints of frames."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from occkit.errors import DataError
from occkit.files import read_npz_array


def joined_origin(fingerprints: Iterable[str]) -> str:
    """Return the digest, hexadecimal, of the fingerprints of several frames, in their order."""
    return hashlib.sha256("\n".join(fingerprints).encode()).hexdigest()


def origin_array(made_of: str | None) -> dict[str, npt.NDArray[np.uint8]]:
    """Return the array, uint8 `[32]`, by which a file states its origin, by name; none if that is not known."""
    return {} if made_of is None else {"made_of": np.frombuffer(bytes.fromhex(made_of), np.uint8)}


def is_made_of(path: Path, made_of: str) -> bool:
    """Say whether a file of points or of labels is there and states an origin."""
    if not path.is_file():
        return False
    try:
        return bytes(read_npz_array(path, "made_of", shape=(32,), kinds="u").astype(np.uint8)).hex() == made_of
    except DataError:
        return False
