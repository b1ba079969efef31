"""What a procedural world knows of its images. Only simulated guests may read it."""

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from occkit.errors import DataError

_REWRITE = "write the world again, with its truth layers"


@dataclass(frozen=True, kw_only=True)
class ImageTruth:
    """The truth layers of one image, all `[h, w]`."""

    depth: npt.NDArray[np.float16]
    """z-depth, metres; 0 where there is nothing."""
    semantics: npt.NDArray[np.uint8]
    """Ids of the layout's taxonomy; 255 for sky."""
    instances: npt.NDArray[np.uint16]
    """Which thing; 0 for stuff. Local to the scene."""
    words: npt.NDArray[np.uint8]
    """Ids of the world's own vocabulary; 0 for sky."""


_TYPES = {"depth": np.float16, "semantics": np.uint8, "instances": np.uint16, "words": np.uint8}


def find_frame(root: Path, token: str) -> Path:
    """Return the folder of a frame's truth layers in a world of any layout.

    Raises:
        DataError: if the world has no truth layers of the frame.
    """
    truth = Path(root) / "truth"
    if not truth.is_dir():
        raise DataError(truth, "no truth layers: this is no procedural world, or it was written without", _REWRITE)
    # SemanticKITTI numbers the frames of each sequence afresh, so the token names both.
    scene, _, frame = token.rpartition("_")
    if scene and (truth / scene / frame).is_dir():
        return truth / scene / frame
    for folder in sorted(truth.iterdir()):
        if (folder / token).is_dir():
            return folder / token
    raise DataError(truth, f"no truth layers of frame {token!r}", _REWRITE)


def read_truth(root: Path, token: str, camera: str, *, size: tuple[int, int]) -> ImageTruth:
    """Read the truth layers of an image.

    Args:
        root: folder of the world.
        token: name of the frame.
        camera: name of the camera.
        size: (height, width) the layers must have.

    Raises:
        DataError: if the file is missing, damaged or of another size.
    """
    path = find_frame(root, token) / f"{camera}.npz"
    try:
        with zipfile.ZipFile(path) as archive:
            layers: dict[str, Any] = {}
            for name, dtype in _TYPES.items():
                with archive.open(f"{name}.npy") as stream:
                    layers[name] = _read_layer(stream, path, name, np.dtype(dtype), size)
    except DataError:
        raise
    except FileNotFoundError as error:
        raise DataError(path, "no such file", _REWRITE) from error
    except Exception as error:
        # zipfile, zlib and numpy answer damage with a dozen unrelated exceptions.
        raise DataError(path, f"does not hold sound truth layers ({error})"[:300], _REWRITE) from error
    return ImageTruth(**layers)


def _read_layer(
    stream: IO[bytes], path: Path, name: str, dtype: np.dtype[Any], size: tuple[int, int]
) -> npt.NDArray[Any]:
    np.lib.format.read_magic(stream)
    shape, fortran, found = np.lib.format.read_array_header_1_0(stream)
    if shape != size or found != dtype or fortran:
        remedy = "give the images as they are stored, neither scaled nor cropped"
        raise DataError(path, f"{name}: expected {dtype} {size} like the images, got {found} {shape}", remedy)
    # Bounded by the images at hand, whatever the archive claims; frombuffer refuses fewer bytes.
    count = size[0] * size[1]
    return np.frombuffer(stream.read(count * dtype.itemsize), dtype=dtype, count=count).reshape(size)
