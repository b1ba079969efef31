"""Rays through stored images, and what a feature store knows of the pixels they go through.

Pixels are those of the image files, neither scaled nor cropped nor mirrored: what is done to the images that a network
sees does not touch them.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int64
from PIL import Image
from torch import Tensor

from occkit.data.feature_store import FeatureStore
from occkit.data.records import Floats
from occkit.data.views import View
from occkit.errors import ConfigError
from occkit.files import image_size
from occkit.geometry import Cameras, VoxelGrid, camera_rays, invert_pose, transform_points
from occkit.geometry.cameras import MIN_DEPTH
from occkit.samples import FeatureRays

PixelChoice = Literal["uniform", "lidar"]
"""Any pixel of any camera; or those onto which a LiDAR return within the volume falls."""

_STREAM = 0x72617973
"""Keeps the chance of rays apart from that of augmentation, which is drawn from the same seed."""


@dataclass(frozen=True, kw_only=True)
class Pixels:
    """Places in the images of one frame."""

    cameras: Int64[Tensor, "r"]
    """Which of the frame's cameras."""
    places: Float[Tensor, "r 2"]
    """(u, v) in the image as it is stored, pixel centres at +0.5."""

    def __len__(self) -> int:
        return len(self.cameras)

    def take(self, index: Int64[Tensor, "n"]) -> "Pixels":
        """Return some of them."""
        return Pixels(cameras=self.cameras[index], places=self.places[index])


class FeatureReader:
    """Looks up the features of pixels and of points in the images of a data set.

    Args:
        folder: where `occkit features` wrote.
        cameras: names of the data set's cameras, in the order of a frame's views.

    Raises:
        DataError: if the folder is no store, or damaged.
        ConfigError: if it knows nothing of one of the cameras.
    """

    def __init__(self, folder: Path, cameras: Sequence[str]) -> None:
        self.store = FeatureStore(folder)
        known = self.store.layout.cameras
        absent = [name for name in cameras if name not in known]
        if absent:
            there = f"{folder} has no features of {', '.join(absent)}, only of {', '.join(known)}"
            raise ConfigError(f"features: {there}; choose among these cameras, or write the features of all")
        self._index = torch.tensor([known.index(name) for name in cameras])

    def at_pixels(self, token: str, views: Sequence[View], pixels: Pixels) -> Float[Tensor, "r k"]:
        """Return the features of pixels, unit vectors.

        A store holds features of images of one size; of a camera with other images they were scaled to it as a whole.

        Raises:
            DataError: if the store has none of this frame.
        """
        height, width = self.store.layout.image_size
        size = torch.tensor([width, height], dtype=torch.float64)
        stored = torch.tensor([(w, h) for h, w in map(size_of, views)], dtype=torch.float64)
        places = (pixels.places.double() * (size / stored)[pixels.cameras]).clamp(min=size.new_zeros(2), max=size)
        return self.store.sample(token, self._index[pixels.cameras], places)

    def at_points(self, token: str, views: Sequence[View], points: Float[Tensor, "p c"]) -> Float[Tensor, "p k"]:
        """Return the features seen where points fall into the images: of several cameras the mean, length 1 again.

        Nothing is hidden behind anything: a point that only the LiDAR sees has the feature of what is before it.

        Args:
            token: the frame.
            views: its images, in the frame of the points.
            points: x, y, z, metres; further columns are not looked at.

        Returns:
            One row a point; zeros where no camera sees it.

        Raises:
            DataError: if the store has none of this frame.
        """
        pixels, rows = pixels_of_points(views, points)
        features = torch.zeros(len(points), self.store.layout.dim)
        features.index_add_(0, rows, self.at_pixels(token, views, pixels))
        return torch.nn.functional.normalize(features, dim=-1)

    def rays(
        self,
        token: str,
        views: Sequence[View],
        pixels: Pixels,
        *,
        step: int = 0,
        picture: Callable[[View], Image.Image] | None = None,
    ) -> FeatureRays:
        """Return the rays through pixels of a frame, and what was seen along them.

        Args:
            token: the frame.
            views: its images; rays are in the frame of their poses.
            pixels: where the rays go through.
            step: how many keyframes the frame lies after the one that is shown.
            picture: decodes an image; with it the rays have colours.

        Raises:
            DataError: if the store has none of this frame, or an image cannot be read.
        """
        rays = camera_rays(stack_views(views)[pixels.cameras], pixels.places[:, None].double(), unit=True)
        return FeatureRays(
            origins=rays.origins[:, 0].float(),
            directions=rays.directions[:, 0].float(),
            features=self.at_pixels(token, views, pixels),
            steps=torch.full((len(pixels),), step),
            basis=self.store.basis,
            colours=None if picture is None else _colours(views, pixels, picture),
        )


def ray_chance(token: str, seed: int | None) -> np.random.Generator:
    """Return where the rays of a sample are drawn from: its seed, or without one the frame's name."""
    if seed is None:
        seed = int.from_bytes(hashlib.sha256(token.encode()).digest()[:8], "little")
    return np.random.default_rng((_STREAM, seed))


def share_out(count: int, keyframes: Sequence[tuple[str, int]], rng: np.random.Generator) -> list[tuple[str, int, int]]:
    """Divide rays evenly among keyframes; chance decides which of them get the rays that are left over.

    Args:
        count: rays in all.
        keyframes: (token, step); one that comes several times gets several shares.
        rng: where chance comes from.

    Returns:
        (token, step, rays), each keyframe once; those without a ray are left out.
    """
    each, rest = divmod(count, len(keyframes))
    lucky = set(rng.permutation(len(keyframes))[:rest].tolist())
    shares: Counter[tuple[str, int]] = Counter()
    for place, keyframe in enumerate(keyframes):
        shares[keyframe] += each + (place in lucky)
    return [(token, step, share) for (token, step), share in shares.items() if share]


def uniform_pixels(views: Sequence[View], count: int, rng: np.random.Generator) -> Pixels:
    """Draw centres of pixels, every pixel of every image alike."""
    heights, widths = np.array([size_of(view) for view in views]).T
    ends = np.cumsum(heights * widths)
    drawn = rng.integers(ends[-1], size=count)
    cameras = np.searchsorted(ends, drawn, side="right")
    rows, columns = np.divmod(drawn - (ends - heights * widths)[cameras], widths[cameras])
    places = np.stack([columns, rows], axis=1) + 0.5
    return Pixels(cameras=torch.from_numpy(cameras), places=torch.from_numpy(places))


def pixels_of_points(views: Sequence[View], points: Float[Tensor, "p c"]) -> tuple[Pixels, Int64[Tensor, "r"]]:
    """Return where points fall into the images, a metre or more before the camera, and which point it is.

    Args:
        views: images with poses in the frame of the points.
        points: x, y, z, metres; further columns are not looked at.
    """
    cameras, places, rows = [], [], []
    xyz = points[:, :3].double()
    # One by one: cameras of a rig may differ in size.
    for index, view in enumerate(views):
        found, _, visible = stack_views([view])[0].project(xyz, min_depth=MIN_DEPTH)
        row = visible.nonzero()[:, 0]
        cameras.append(torch.full_like(row, index))
        places.append(found[row])
        rows.append(row)
    return Pixels(cameras=torch.cat(cameras), places=torch.cat(places)), torch.cat(rows)


def lidar_pixels(views: Sequence[View], points: Float[Tensor, "p c"], grid: VoxelGrid) -> Pixels:
    """Return the places in the images onto which those points fall that lie in a grid.

    Source: Boeder et al., "LangOcc", 2024: the pixels it trains on. No ray then ends in the sky or beyond the volume,
    so that the choice alone says something about depth.
    """
    _, inside = grid.index_of(points[:, :3].double())
    return pixels_of_points(views, points[inside])[0]


def carry_rays(rays: FeatureRays, global_from_ego: Floats, global_from_other: Floats) -> FeatureRays:
    """Return rays of another frame in the reference frame of the current one.

    Args:
        rays: in the other frame.
        global_from_ego: 4x4 pose of the current reference frame.
        global_from_other: that of the other.
    """
    # In float64: coordinates of the world reach kilometres.
    ego_from_other = invert_pose(torch.from_numpy(global_from_ego)) @ torch.from_numpy(global_from_other)
    return replace(
        rays,
        origins=transform_points(ego_from_other, rays.origins.double()).float(),
        directions=(rays.directions.double() @ ego_from_other[:3, :3].mT).float(),
    )


def join_rays(parts: Sequence[FeatureRays]) -> FeatureRays:
    """Return the rays of several keyframes, from one store, as those of one sample."""
    colours = [part.colours for part in parts if part.colours is not None]
    return FeatureRays(
        origins=torch.cat([part.origins for part in parts]),
        directions=torch.cat([part.directions for part in parts]),
        features=torch.cat([part.features for part in parts]),
        steps=torch.cat([part.steps for part in parts]),
        basis=parts[0].basis,
        colours=torch.cat(colours) if colours else None,
    )


def state_size(view: View) -> View:
    """Return a view that states the size of its image; where the data set does not, the file is asked.

    Raises:
        DataError: if it is no image.
    """
    return view if view.size else replace(view, size=image_size(view.path))


def size_of(view: View) -> tuple[int, int]:
    """Return the (height, width) of a view that states it.

    Raises:
        ValueError: if it does not.
    """
    if view.size is None:
        raise ValueError(f"{view.path}: expected a view that states the size of its image")
    return view.size


def stack_views(views: Sequence[View]) -> Cameras:
    """Return the cameras `[n]` of views in float64; height and width are those of the first."""
    height, width = size_of(views[0])
    num_lens = max(len(view.distortion) for view in views)
    lenses = np.zeros((len(views), 8))
    for lens, view in zip(lenses, views, strict=True):
        lens[: len(view.distortion)] = view.distortion
    return Cameras(
        intrinsics=torch.from_numpy(np.stack([view.intrinsics for view in views])),
        ego_from_camera=torch.from_numpy(np.stack([view.ego_from_camera for view in views])),
        height=height,
        width=width,
        distortion=torch.from_numpy(lenses) if num_lens else None,
    )


def _colours(views: Sequence[View], pixels: Pixels, picture: Callable[[View], Image.Image]) -> Float[Tensor, "r 3"]:
    colours = np.zeros((len(pixels), 3), np.float32)
    cameras, (columns, rows) = pixels.cameras.numpy(), pixels.places.floor().long().numpy().T
    for index in np.unique(cameras):
        here = cameras == index
        height, width = size_of(views[index])
        image = np.asarray(picture(views[index]))
        colours[here] = image[rows[here].clip(0, height - 1), columns[here].clip(0, width - 1)] / np.float32(255)
    return torch.from_numpy(colours)
