"""Ids of pixels beside the images of a data set: segments, or classes, `<folder>/<token>/<camera>.png`."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Int64
from PIL import Image
from torch import Tensor

from occkit.data.transforms import ImagePlan, carry_out
from occkit.errors import DataError
from occkit.files import read_grey16, write_image


def map_path(folder: Path, token: str, camera: str) -> Path:
    """Return where the map of an image lies."""
    return folder / token / f"{camera}.png"


def write_class_map(path: Path, ids: npt.NDArray[np.uint8], *, ignore_id: int) -> None:
    """Write the classes of an image's pixels, ids of a taxonomy with `ignore_id` for none."""
    write_image(path, np.where(ids == ignore_id, 0, ids.astype(np.uint16) + 1).astype(np.uint16))


def read_id_map(path: Path, plan: ImagePlan, *, stored: tuple[int, int], remedy: str) -> Int64[Tensor, "h w"]:
    """Read a map of ids as its image is stored, and carry out what happened to the image.

    Args:
        path: 16-bit PNG of `id + 1`; 0 is none.
        plan: what happened to the image.
        stored: (height, width) of the image file.
        remedy: what to do if the file is not there.

    Returns:
        Ids at the network's size, by nearest pixel; -1 where there is none, or no image.

    Raises:
        DataError: if the file is missing, damaged or of another size.
    """
    if not path.is_file():
        raise DataError(path, "no such map of an image", remedy)
    ids = read_grey16(path)
    if ids.shape != stored:
        raise DataError(path, f"expected {stored} pixels like its image, got {ids.shape}", "make it again")
    picture = carry_out(Image.fromarray(ids.astype(np.int32)), plan, Image.Resampling.NEAREST)
    return torch.from_numpy(np.array(picture, dtype=np.int64)) - 1
