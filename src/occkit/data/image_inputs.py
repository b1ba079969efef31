"""What models said of the images before: depth maps, classes and features as inputs of a network, in evaluation too.

Depth maps lie in `<folder>/<token>/<camera>.png`, 16-bit greyscale of 256 times the metres, 0 where unknown (KITTI's
own form). SemanticKITTI's may also be those of VoxFormer, `<folder>/sequences/<sequence>/<frame>.npy`, float metres.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from occkit.data.feature_store import FeatureStore
from occkit.data.image_maps import map_path
from occkit.data.transforms import ImagePlan, carry_out
from occkit.errors import ConfigError, DataError
from occkit.files import read_grey16, read_npy, write_image
from occkit.geometry.rays import pixel_grid

DEPTH_STEPS = 256.0
"""Numbers of a depth map's file in a metre."""
_MAKE = "write them with occkit look, or name another folder"


@dataclass(frozen=True, kw_only=True)
class ImageInputsConfig:
    """What to load beside the images; folders, a relative path starts at the data's folder."""

    depth: str | None = None
    """Depth maps (`occkit look --depth`)."""
    masks: str | None = None
    """Classes of pixels (`occkit look --masks`), 16-bit PNG of `id + 1` with 0 for uncertain."""
    features: str | None = None
    """Features of the images (`occkit look --features`, `occkit features`)."""
    feature_stride: int = 8
    """Pixels of the network's image in a cell of the features, along each axis."""

    def __post_init__(self) -> None:
        if self.feature_stride < 1:
            raise ConfigError(f"ImageInputs: feature_stride must be at least 1, got {self.feature_stride}")


def write_depth_map(path: Path, depth: Float[Tensor, "h w"]) -> None:
    """Write a depth map, metres; what is farther than 255.99 m, not a number or negative becomes 0, unknown.

    Raises:
        ValueError: if it is no map.
    """
    if depth.ndim != 2 or not depth.numel():
        raise ValueError(f"depth: expected [h, w], got {tuple(depth.shape)}")
    steps = (depth.double() * DEPTH_STEPS).round()
    known = steps.isfinite() & (steps > 0) & (steps < 2**16)
    write_image(path, torch.where(known, steps, 0.0).cpu().numpy().astype(np.uint16))


def read_depth_map(files: Sequence[Path], plan: ImagePlan, *, stored: tuple[int, int]) -> Float[Tensor, "h w"]:
    """Read a depth map as its image is stored, and carry out what happened to the image.

    Args:
        files: where it may lie; the first that is there is taken.
        plan: what happened to the image.
        stored: (height, width) of the image file.

    Returns:
        z-depth at the network's size by nearest pixel, metres; 0 where it is unknown, or no image.

    Raises:
        DataError: if there is no such file, or it is damaged or of another size.
    """
    path = next((file for file in files if file.is_file()), None)
    if path is None:
        raise DataError(files[0], "no depth map of this image", _MAKE)
    if path.suffix == ".npy":
        depth = read_npy(path, kinds="f").astype(np.float32)
    else:
        depth = read_grey16(path).astype(np.float32) / np.float32(DEPTH_STEPS)
    if depth.shape != stored:
        raise DataError(path, f"expected {stored} pixels like its image, got {depth.shape}", "make it again")
    picture = Image.fromarray(np.where(np.isfinite(depth) & (depth > 0), depth, 0).astype(np.float32))
    return torch.from_numpy(np.array(carry_out(picture, plan, Image.Resampling.NEAREST)))


def read_depth_maps(
    files: Sequence[Sequence[Path]], plans: Sequence[tuple[tuple[int, int], ImagePlan]]
) -> Float[Tensor, "n h w"]:
    """Read the depth maps of a frame's images; see `read_depth_map`.

    Args:
        files: where that of each image may lie.
        plans: stored (height, width) of each image, and what happened to it.
    """
    pairs = zip(files, plans, strict=True)
    return torch.stack([read_depth_map(places, plan, stored=size) for places, (size, plan) in pairs])


def depth_map_path(folder: Path, token: str, camera: str) -> Path:
    """Return where the depth map of an image lies."""
    return map_path(folder, token, camera)


def follow_features(maps: Float[Tensor, "k r c"], plan: ImagePlan, *, stride: int) -> Float[Tensor, "k rows columns"]:
    """Sample features of a stored image where the cells of the network's image lie; at the border the nearest.

    Args:
        maps: cells that divide the stored image evenly.
        plan: what happened to the image.
        stride: pixels of the network's image in a cell.

    Raises:
        ConfigError: if the stride does not divide the network's image.
    """
    if plan.height % stride or plan.width % stride:
        raise ConfigError(
            f"ImageInputs: feature_stride {stride} does not divide images of {plan.height} x {plan.width} pixels"
        )
    pixels = pixel_grid(plan.height, plan.width, stride=stride).double()
    ones = torch.ones_like(pixels[:, :1])
    inverse = torch.from_numpy(np.linalg.inv(plan.window_matrix()))
    places = (torch.cat([pixels, ones], dim=1) @ inverse.T)[:, :2] + torch.tensor([plan.left, plan.top])
    fractions = places / torch.tensor([plan.resized[1], plan.resized[0]]) * 2 - 1
    grid = fractions.reshape(1, plan.height // stride, plan.width // stride, 2).to(maps)
    return F.grid_sample(maps[None], grid, padding_mode="border", align_corners=False)[0]


class FeatureMaps:
    """Whole feature maps of a data set's cameras, from a folder that `occkit features` or `occkit look` wrote.

    Args:
        folder: where they are.
        cameras: names of the data set's cameras, in its order.

    Raises:
        DataError: if it is no such folder, or lacks a camera.
    """

    def __init__(self, folder: Path, cameras: Sequence[str]) -> None:
        self.store = FeatureStore(folder)
        lacking = [name for name in cameras if name not in self.store.layout.cameras]
        if lacking:
            found = ", ".join(self.store.layout.cameras)
            raise DataError(folder, f"has no features of the camera {lacking[0]}, only of {found}", _MAKE)
        self._rows = [self.store.layout.cameras.index(name) for name in cameras]

    def read(self, token: str, plans: Sequence[ImagePlan], *, stride: int) -> Float[Tensor, "n k rows columns"]:
        """Return the features of a frame, each map where its image went.

        Raises:
            DataError: if the frame has none, or they are damaged.
        """
        maps = self.store.read(token)[self._rows]
        followed = (follow_features(one, plan, stride=stride) for one, plan in zip(maps, plans, strict=True))
        return torch.stack(list(followed))
