"""Segment maps on disk, so that a training does not run the segmenter in every epoch.

One 16-bit greyscale PNG an image, `<folder>/<token>/<camera>.png`, its values the ids; beside them `segmenter.json`,
which says what made them.
"""

import contextlib
import io
import json
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from PIL import Image
from torch import Tensor

from occkit.errors import ConfigError, DataError
from occkit.foundation.segmentation import Segmenter, check_request

MAX_SEGMENTS = 2**16 - 1
"""Most segments an image can have in a file."""
_DESCRIPTION = "segmenter.json"
_MAX_FILE_BYTES = 256 * 2**20
_MAX_DESCRIPTION_BYTES = 2**20
_AGAIN = "delete it, so that it is made again"


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
    buffer = io.BytesIO()
    Image.fromarray(segments.cpu().numpy().astype(np.uint16)).save(buffer, "PNG", compress_level=3)
    _write(path, buffer.getvalue())


def read_segments(path: Path, *, size: tuple[int, int]) -> Int64[Tensor, "h w"]:
    """Read a segment map.

    Args:
        path: the file.
        size: (height, width) it must have.

    Raises:
        DataError: if it is missing, damaged, of another size, or no 16-bit greyscale PNG.
    """
    try:
        if Path(path).stat().st_size > _MAX_FILE_BYTES:
            raise DataError(path, f"expected a PNG of at most {_MAX_FILE_BYTES:,} bytes", _AGAIN)
        with Image.open(path, formats=("PNG",)) as image:
            if (image.height, image.width) != size:
                found = f"{image.height} x {image.width}"
                raise DataError(path, f"expected segments of {size[0]} x {size[1]} pixels, got {found}", _AGAIN)
            if not image.mode.startswith("I;16"):
                raise DataError(path, f"expected a 16-bit greyscale PNG, got mode {image.mode}", _AGAIN)
            ids = np.asarray(image).astype(np.int64)
    except DataError:
        raise
    except FileNotFoundError as error:
        raise DataError(path, "no such segment map", "make the maps with a segmenter first") from error
    except Exception as error:
        # The decoder answers damage with whatever it stumbles over: OSError, SyntaxError, struct.error ...
        raise DataError(path, f"is not a readable segment map ({error})"[:300], _AGAIN) from error
    return torch.from_numpy(ids)


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
            _write(note, (json.dumps(segmenter.description, indent=1, sort_keys=True) + "\n").encode())
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
    try:
        if path.stat().st_size > _MAX_DESCRIPTION_BYTES:
            raise ValueError("too large")
        value = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(value, dict):
            raise ValueError("not an object")
    except FileNotFoundError as error:
        raise DataError(path, "no such file", "make the maps with a segmenter first") from error
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(path, f"does not say what made the maps ({error})"[:300], "delete the folder") from error
    return value


def _write(path: Path, data: bytes) -> None:
    # Two processes may make the same map: each has its own file beside, and the renames replace like by like.
    beside = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_bytes(data)
        beside.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)
        raise DataError(path, f"cannot be written ({error.strerror})", "check the folder and the space left") from error
