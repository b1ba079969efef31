"""What the files say of one frame, `View` and `Frame`, and what the readers of every format do with it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image

from occkit.data.records import Floats, grid_of
from occkit.errors import ConfigError, DataError
from occkit.files import decode_image, read_json, write_json
from occkit.geometry import VoxelGrid

T = TypeVar("T")

_CAPTION_BYTES = 64 * 2**20


@dataclass(frozen=True, kw_only=True)
class View:
    """One image: its file, and where and through which lens it was taken."""

    path: Path
    """The image file."""
    intrinsics: Floats
    """3x3, pixels of the file."""
    ego_from_camera: Floats
    """4x4, in the reference frame of the sample that shows it."""
    distortion: tuple[float, ...] = ()
    """Lens coefficients; empty for a pinhole."""
    size: tuple[int, int] | None = None
    """(height, width) that the intrinsics belong to; None where the data set does not state it."""


@dataclass(frozen=True, kw_only=True)
class Frame:
    """One keyframe as the files describe it."""

    token: str
    """Unique name, fit to be a file name."""
    scene: str
    """Scene or sequence."""
    timestamp: int
    """Microseconds."""
    views: tuple[tuple[View, ...], ...]
    """`[t][n]`: current images first, then ever older ones."""
    global_from_ego: Floats | None
    """Pose of the reference frame, where known."""
    caption: str | None = None
    """One line of text."""
    sources: tuple[tuple[View, ...], ...] = ()
    """`[s][n]`: the images that `DataConfig.source_steps` asks for."""


def choose_cameras(root: Path, wanted: tuple[str, ...] | None, present: Sequence[str]) -> tuple[str, ...]:
    """Return the wanted cameras, or all.

    Raises:
        ConfigError: if a wanted camera is not there.
        DataError: if there is no camera at all.
    """
    if not present:
        raise DataError(root, "has no camera", "a frame needs at least one; occkit doctor says what is wrong")
    for name in wanted or ():
        if name not in present:
            raise ConfigError(f"cameras: {root} has no {name!r}; it has {', '.join(present)}")
    return tuple(wanted or present)


def read_grid(root: Path) -> VoxelGrid | None:
    """Return the grid that `grid.json` at a data root states; None where there is no such file.

    Raises:
        DataError: if it does not describe a grid.
    """
    path = root / "grid.json"
    return grid_of(read_json(path, max_bytes=2**16), path) if path.is_file() else None


def write_grid(root: Path, grid: VoxelGrid) -> None:
    """Write the `grid.json` of a data root, which `read_grid` reads."""
    write_json(root / "grid.json", {"origin": grid.origin, "voxel_size": grid.voxel_size, "shape": grid.shape})


def read_captions(root: Path) -> dict[str, str]:
    """Return what `captions.json` at a data root says, `{token: one line of text}`; nothing where there is none.

    Raises:
        DataError: if it is anything else.
    """
    path = root / "captions.json"
    if not path.is_file():
        return {}
    document = read_json(path, max_bytes=_CAPTION_BYTES)
    if not isinstance(document, dict) or not all(isinstance(text, str) for text in document.values()):
        raise DataError(path, "expected an object {token: text}", "write it again")
    return document


def beside(order: Sequence[T], position: int, steps: Sequence[int]) -> list[T] | None:
    """Return the items that lie `steps` away from the one at `position`; None if the order ends before."""
    places = [position + step for step in steps]
    return [order[place] for place in places] if all(0 <= place < len(order) for place in places) else None


def history(order: Sequence[T], position: int, num_past: int) -> list[T]:
    """Return the item at `position` and `num_past` earlier ones, newest first; the oldest there is fills the rest."""
    return [order[max(0, position - k)] for k in range(num_past + 1)]


def origins_along(
    lidars_in_global: Floats, ego_from_global: Floats, lower: Sequence[float], upper: Sequence[float]
) -> Floats:
    """Return where ray metrics look from: LiDAR positions of a scene that lie in the volume, at most 8.

    Kept are those more than 1 m inside the box in x and y (|x|, |y| < 39 for Occ3D); of more than 8, those at
    `round(linspace(0, n - 1, 8))`, halves to even.

    Args:
        lidars_in_global: `[n, 3]` in the order of time, metres.
        ego_from_global: 4x4, of the frame that is evaluated.
        lower: lower corner of the volume, metres.
        upper: its upper corner.

    Returns:
        `[k, 3]`, metres, reference ego frame.

    Source: Liu et al., "SparseOcc" (RayIoU), 2024.
    """
    origins = lidars_in_global @ ego_from_global[:3, :3].T + ego_from_global[:3, 3]
    x, y = origins[:, 0], origins[:, 1]
    inside = (x > lower[0] + 1) & (x < upper[0] - 1) & (y > lower[1] + 1) & (y < upper[1] - 1)
    origins = origins[inside]
    if len(origins) > 8:
        origins = origins[np.round(np.linspace(0, len(origins) - 1, 8)).astype(np.int64)]
    return origins


def decode_view(view: View, at_least: tuple[int, int] | None = None) -> tuple[Image.Image, tuple[int, int]]:
    """Return the picture of a view and the (height, width) of its file, pixels.

    Args:
        view: which.
        at_least: a size below which the picture need not be decoded; None decodes all of it.

    Raises:
        DataError: if the image is missing, damaged or of another size than its calibration.
    """
    picture, stored = decode_image(view.path, at_least=at_least)
    if view.size is not None and stored != view.size:
        raise DataError(
            view.path,
            f"expected {view.size[1]} x {view.size[0]} pixels as its calibration says, got {stored[1]} x {stored[0]}",
            "calibrate for this size, or take the images the calibration was made for",
        )
    return picture, stored
