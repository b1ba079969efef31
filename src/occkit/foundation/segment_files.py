"""Segment maps on disk, so that a training does not run the segmenter in every epoch.

One 16-bit greyscale PNG an image, `<folder>/<token>/<camera>.png`, its values the ids; beside them `segmenter.json`,
which says what made them.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from occkit.errors import ConfigError, DataError
from occkit.files import read_grey16, read_json, write_image, write_json
from occkit.foundation.segmentation import Segmenter, check_request

MAX_SEGMENTS = 2**16 - 1
"""Most segments an image can have in a file."""
_DESCRIPTION = "segmenter.json"
_MAX_DESCRIPTION_BYTES = 2**20
_NEW_FOLDER = "delete the folder: nobody knows what made its maps"
_AGAIN = "delete it if it is there, and let a segmenter make it"


def write_segments(path: Path, segments: Int64[Tensor, "h w"]) -> None:
    """Write a segment map as a 16-bit PNG; a reader sees a whole file or none.

    Raises:
        ValueError: if it is no map of ids in 0..65535.
        DataError: if the folder cannot be written.
    """
    if segments.ndim != 2 or segments.dtype.is_floating_point or not segments.numel():
        raise ValueError(f"segments: expected integers [h, w], got {segments.dtype} {tuple(segments.shape)}")
    low, high = int(segments.min()), int(segments.max())
    if low < 0 or high > MAX_SEGMENTS:
        raise ValueError(f"segments: expected ids in 0..{MAX_SEGMENTS}, got {low}..{high}")
    write_image(path, segments.cpu().numpy().astype(np.uint16))


def read_segments(path: Path, *, size: tuple[int, int]) -> Int64[Tensor, "h w"]:
    """Read a segment map.

    Args:
        path: the file.
        size: (height, width) it must have.

    Raises:
        DataError: if it is missing, damaged, of another size, or no 16-bit greyscale PNG.
    """
    try:
        ids = read_grey16(path)
    except DataError as error:
        raise DataError(path, error.problem, _AGAIN) from error
    if ids.shape != size:
        found = f"{ids.shape[0]} x {ids.shape[1]}"
        raise DataError(path, f"expected segments of {size[0]} x {size[1]} pixels, got {found}", _AGAIN)
    return torch.from_numpy(ids.astype(np.int64))


class CachedSegmenter:
    """Keeps the maps of another segmenter in a folder and reads them from there the next time.

    The key is the token and the camera, not the pixels: give every frame's images in the same way, before any random
    change.

    Args:
        segmenter: makes what is not there yet; None reads only.
        folder: where the maps are, made if need be.

    Raises:
        ConfigError: if the folder holds maps of another segmenter or of other settings.
        DataError: if `segmenter.json` is damaged, or there is none and nothing to make maps with.
    """

    def __init__(self, segmenter: Segmenter | None, folder: Path) -> None:
        self.segmenter = segmenter
        self.folder = Path(folder)
        note = self.folder / _DESCRIPTION
        if segmenter is not None and not note.is_file():
            write_json(note, segmenter.description)
        self._description = _read_description(note)
        # By way of JSON, which knows no tuples.
        if segmenter is not None and self._description != json.loads(json.dumps(segmenter.description)):
            raise ConfigError(
                f"CachedSegmenter: {self.folder} holds maps of {self._description}, not of {segmenter.description} "
                "-- give another folder, or delete this one"
            )

    @property
    def description(self) -> dict[str, Any]:
        """What made the maps."""
        return self._description

    def path(self, token: str, camera: str) -> Path:
        """Return the file of an image's map."""
        return self.folder / token / f"{camera}.png"

    def segment(
        self, images: UInt8[Tensor, "n 3 h w"], *, token: str, cameras: Sequence[str]
    ) -> Int64[Tensor, "n h w"]:
        """Read the maps of a frame, after making those that are missing. See `Segmenter.segment`.

        Raises:
            DataError: if a file is damaged or of another size, or is missing and there is no segmenter.
        """
        check_request(images, token, cameras)
        paths = [self.path(token, camera) for camera in cameras]
        new = [i for i, path in enumerate(paths) if not path.exists()]
        if new and self.segmenter is not None:
            made = self.segmenter.segment(images[new], token=token, cameras=[cameras[i] for i in new])
            for i, segments in zip(new, made, strict=True):
                write_segments(paths[i], segments)
        size = (images.shape[-2], images.shape[-1])
        return torch.stack([read_segments(path, size=size) for path in paths]).to(images.device)


def _read_description(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise DataError(path, "no such file", "make the maps with a segmenter first")
    try:
        value = read_json(path, max_bytes=_MAX_DESCRIPTION_BYTES)
    except DataError as error:
        raise DataError(path, error.problem, _NEW_FOLDER) from error
    if not isinstance(value, dict):
        raise DataError(path, "does not say what made the maps", _NEW_FOLDER)
    return value
