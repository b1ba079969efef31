"""What a procedural world knows of its images and its LiDAR's points. Only simulated guests and metrics may read it."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from occkit.errors import DataError
from occkit.files import read_json, read_npz_array
from occkit.taxonomy import NYUV2, OCC3D, SEMANTICKITTI, Taxonomy

_REWRITE = "write the world again, with its truth layers"
_MAX_WORDS_BYTES = 2**20


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


_TYPES = {
    "depth": np.dtype(np.float16),
    "semantics": np.dtype(np.uint8),
    "instances": np.dtype(np.uint16),
    "words": np.dtype(np.uint8),
}


def settings_of(config: Any) -> dict[str, Any]:
    """Return the settings of a stand-in, a dataclass with the world's folder as `root`: all but that folder."""
    return {name: value for name, value in asdict(replace(config, root=Path())).items() if name != "root"}


def find_frame(root: Path, token: str) -> Path:
    """Return the folder of a frame's truth layers in a world of any layout.

    Raises:
        DataError: if the world has no truth layers of the frame.
    """
    truths = truth_folders(root)
    if not truths:
        problem = "no truth layers: this is no procedural world, or it was written without"
        raise DataError(Path(root) / "truth", problem, _REWRITE)
    # SemanticKITTI, NYUv2 and drives number the frames of each scene afresh, so the token names both.
    scene, _, frame = token.rpartition("_")
    for truth in truths:
        if scene and (truth / scene / frame).is_dir():
            return truth / scene / frame
        for folder in sorted(truth.iterdir()):
            if (folder / token).is_dir():
                return folder / token
    raise DataError(truths[0], f"no truth layers of frame {token!r}", _REWRITE)


def truth_folders(root: Path) -> tuple[Path, ...]:
    """Return where the truth layers of a world lie: one folder, or one in each drive of an own car; or nowhere."""
    own = Path(root) / "truth"
    return (own,) if own.is_dir() else tuple(sorted(Path(root).glob("*/truth")))


def world_taxonomy(root: Path) -> Taxonomy:
    """Return the taxonomy that the truth layers of a world are written in.

    Raises:
        DataError: if the world has no truth layers, or its list of words is damaged.
    """
    path, words = _read_words(root)
    first = words[0] if words else None
    for key, taxonomy in (("occ3d", OCC3D), ("standing", SEMANTICKITTI), ("nyuv2", NYUV2)):
        if isinstance(first, dict) and key in first:
            return taxonomy
    raise DataError(path, "does not say what the world's words are called in a known taxonomy", _REWRITE)


def world_words(root: Path) -> tuple[str, ...]:
    """Return the world's own vocabulary; the index is the id in the truth layers, and 0 is nothing (the sky).

    Raises:
        DataError: if the world has no truth layers, or its list of words is damaged.
    """
    path, words = _read_words(root)
    names = tuple(word.get("name") if isinstance(word, dict) else None for word in words)
    if not names or not all(isinstance(name, str) and name.strip() for name in names):
        raise DataError(path, "does not name the world's words", _REWRITE)
    return tuple(str(name) for name in names)


def _read_words(root: Path) -> tuple[Path, list[Any]]:
    path = next(iter(truth_folders(root)), Path(root) / "truth") / "words.json"
    try:
        words = read_json(path, max_bytes=_MAX_WORDS_BYTES)
    except DataError as error:
        raise DataError(path, error.problem, _REWRITE) from error
    return path, words if isinstance(words, list) else []


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
    remedy = "give the images as they are stored, neither scaled nor cropped"
    layers = {name: _read_layer(path, name, dtype, size, "the images", remedy) for name, dtype in _TYPES.items()}
    return ImageTruth(**layers)


def read_point_words(root: Path, token: str, *, count: int) -> npt.NDArray[np.uint8]:
    """Read what the LiDAR hit in a keyframe: ids of the world's own vocabulary, a point of its sweep each.

    Args:
        root: folder of the world.
        token: name of the frame.
        count: points of the sweep.

    Raises:
        DataError: if the file is missing, damaged or of another sweep.
    """
    path = find_frame(root, token) / "points.npz"
    return _read_layer(path, "words", np.dtype(np.uint8), (count,), "the sweep", "give the whole sweep")


def _read_layer(
    path: Path, name: str, dtype: np.dtype[Any], shape: tuple[int, ...], like: str, remedy: str
) -> npt.NDArray[Any]:
    if not path.is_file():
        raise DataError(path, "no such file", _REWRITE)
    try:
        layer = read_npz_array(path, name)
    except DataError as error:
        raise DataError(path, error.problem, _REWRITE) from error
    if layer.shape != shape or layer.dtype != dtype:
        found = f"{layer.dtype} {layer.shape}"
        raise DataError(path, f"{name}: expected {dtype} {shape} like {like}, got {found}", remedy)
    return layer
