"""What a frame is made of, in one digest: whether something that was derived from it still fits."""

import hashlib

import numpy as np
import numpy.typing as npt

from occkit.data.feature_bytes import file_digest
from occkit.data.views import Frame
from occkit.errors import DataError


def fingerprint_of(frame: Frame | None) -> str:
    """Return the SHA-256 of the current images of a frame, their lenses and poses, and the frame's pose; hexadecimal.

    Neither the name of a frame nor where its files lie is part of it. An image that cannot be read has a place of its
    own, so that what was made without it is known when it is there; so has a frame that cannot be described (None).
    Poses and lenses count to a millionth: of a metre, a pixel, a coefficient.
    """
    digest = hashlib.sha256()
    if frame is None:
        return digest.hexdigest()
    for view in frame.views[0]:
        try:
            digest.update(file_digest(view.path).encode())
        except DataError:
            digest.update(b"unreadable")
        for numbers in (view.intrinsics, view.ego_from_camera, np.array(view.distortion)):
            digest.update(_rounded(numbers))
    digest.update(b"no pose" if frame.global_from_ego is None else _rounded(frame.global_from_ego))
    return digest.hexdigest()


def _rounded(numbers: npt.NDArray[np.float64]) -> bytes:
    """Bytes that the last digits of a linear algebra library do not change; a zero has no sign."""
    return str(numbers.shape).encode() + (np.round(numbers, 6) + 0.0).astype("<f8").tobytes()
