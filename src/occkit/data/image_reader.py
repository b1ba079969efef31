"""The images of a frame at the network's size, and what was done to each, so that maps of the images can follow."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from occkit.data.cache import ByteCache
from occkit.data.transforms import AugmentConfig, ImagePlan, apply_to_cameras, apply_to_image, plan_image
from occkit.data.views import View, decode_view
from occkit.files import image_size
from occkit.geometry import Cameras


class ImageReader:
    """Reads images, keeping them up to the cache's limit.

    Args:
        size: (height, width) for the network, pixels; None takes that of the first view.
        keep_aspect: with a size, scale to its width and cut off the top; False scales both axes on their own.
        cache: may be shared.
        first: the first view of the data set, asked for its size at most once.
    """

    def __init__(
        self, size: tuple[int, int] | None, *, keep_aspect: bool, cache: ByteCache, first: Callable[[], View]
    ) -> None:
        self._size = size
        self._keep_aspect = keep_aspect and size is not None
        self._cache = cache
        self._first = first

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of every image, pixels."""
        if self._size is None:
            self._size = _stored_size(self._first())
        return self._size

    def look(
        self, views: Sequence[Sequence[View]], augment: AugmentConfig | None, seeds: Sequence[int | None]
    ) -> tuple[Tensor, Cameras]:
        """Read rows of images; one draw of the augmentation serves a camera in all its rows.

        Args:
            views: rows of one view a camera.
            augment: random changes.
            seeds: of these, one a camera; None for an image as it is.

        Returns:
            Images `[rows, n, 3, h, w]` uint8 and their cameras, leading dimensions `[rows, n]`.

        Raises:
            DataError: if an image is missing or damaged.
        """
        num_lens = max(len(view.distortion) for row in views for view in row)
        images, cameras = [], []
        for row in views:
            for view, seed in zip(row, seeds, strict=True):
                image, camera = self._see(view, augment, seed)
                images.append(image)
                lens = torch.zeros(8)
                lens[: len(view.distortion)] = torch.tensor(view.distortion)
                cameras.append(replace(camera, distortion=lens if num_lens else None))
        shape = (len(views), len(views[0]))
        stacked = replace(
            cameras[0],
            intrinsics=torch.stack([c.intrinsics for c in cameras]).float(),
            ego_from_camera=torch.stack([c.ego_from_camera for c in cameras]).float(),
            distortion=torch.stack([cast(Tensor, c.distortion) for c in cameras]) if num_lens else None,
        )
        return torch.stack(images).unflatten(0, shape), stacked.map(lambda tensor: tensor.unflatten(0, shape))

    def plans(
        self, views: Sequence[View], augment: AugmentConfig | None, seeds: Sequence[int | None]
    ) -> list[tuple[tuple[int, int], ImagePlan]]:
        """Return the stored size of each image, and what `look` does to it with these seeds."""
        sizes = [_stored_size(view) for view in views]
        return [(size, self._plan(size, augment, seed)) for size, seed in zip(sizes, seeds, strict=True)]

    def picture(self, view: View) -> Image.Image:
        """Return an image as it is stored."""
        return self._decoded(view)[0]

    def _see(self, view: View, augment: AugmentConfig | None, seed: int | None) -> tuple[Tensor, Cameras]:
        """Return one image at the network's size, uint8 `[3, h, w]`, and its camera."""
        if seed is None:
            pixels, stored = self._cache.get(("pixels", view.path), lambda: self._pixels(view))
            plan = self._plan(stored, None, None)
        else:
            picture, stored = self._decoded(view)
            plan = self._plan(stored, augment, seed)
            pixels = torch.from_numpy(apply_to_image(picture, plan))
        camera = Cameras(
            intrinsics=torch.from_numpy(view.intrinsics),
            ego_from_camera=torch.from_numpy(view.ego_from_camera),
            height=stored[0],
            width=stored[1],
        )
        return pixels, apply_to_cameras(camera, plan)

    def _plan(self, stored: tuple[int, int], augment: AugmentConfig | None, seed: int | None) -> ImagePlan:
        """Return what happens to an image of a stored size; the same seed, the same plan."""
        rng = None if seed is None else np.random.default_rng(seed)
        return plan_image(stored, self.size, keep_aspect=self._keep_aspect, augment=augment, rng=rng)

    def _pixels(self, view: View) -> tuple[Tensor, tuple[int, int]]:
        picture, stored = decode_view(view, self.size)
        return torch.from_numpy(apply_to_image(picture, self._plan(stored, None, None))), stored

    def _decoded(self, view: View) -> tuple[Image.Image, tuple[int, int]]:
        return self._cache.get(("picture", view.path), lambda: decode_view(view))


def _stored_size(view: View) -> tuple[int, int]:
    return view.size or image_size(view.path)
