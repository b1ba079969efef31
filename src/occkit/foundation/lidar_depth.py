"""Depth from LiDAR, for those who have one: the yardstick of what an image network could do at best."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from scipy import ndimage
from torch import Tensor

from occkit.errors import ConfigError, DataError
from occkit.foundation.depth import check_depth_request
from occkit.geometry import Cameras, project_depth

Points = Callable[[str], Tensor | None] | Mapping[str, Tensor]
"""Token -> points `[p, 3 or more]`: x, y, z (metres, reference ego frame) and any other columns; None without LiDAR."""


@dataclass(frozen=True, kw_only=True)
class LidarDepthConfig:
    """LiDAR points seen by the cameras."""

    fill_radius: float = 0.0
    """Pixels without a point take the depth of the nearest pixel with one, up to so far away, pixels; 0 fills nothing.
    Filling knows no borders: around every object a rim of up to this width takes the depth of the wrong side, and so
    becomes points in the air between object and background. Keep it at half the distance between points, or less."""

    def __post_init__(self) -> None:
        if not self.fill_radius >= 0.0:
            raise ConfigError(f"LidarDepth: fill_radius {self.fill_radius} must be at least 0")

    def build(self, points: Points) -> "LidarDepth":
        """Return the estimator."""
        return LidarDepth(self, points)


class LidarDepth:
    """See `LidarDepthConfig`.

    Args:
        config: settings.
        points: see `Points`.
    """

    def __init__(self, config: LidarDepthConfig, points: Points) -> None:
        self.config = config
        self.points = points

    @property
    def description(self) -> dict[str, Any]:
        """Name and settings; not where points come from."""
        return {"depth": "lidar"} | asdict(self.config)

    def estimate(
        self, images: UInt8[Tensor, "n 3 h w"], *, cameras: Cameras, token: str, names: Sequence[str]
    ) -> Float[Tensor, "n h w"]:
        """Project the points of a frame; images are not looked at. See `geometry.project_depth` for what it cannot see.

        Args:
            images: RGB.
            cameras: see `DepthEstimator.estimate`; poses in the frame of the points.
            token: asks for the points.
            names: the name of each image's camera.

        Raises:
            ValueError: if images, cameras and names do not fit together, or the points are no `[p, 3 or more]`.
            DataError: if the frame has no points.
        """
        check_depth_request(images, cameras, token, names)
        points = self.points.get(token) if isinstance(self.points, Mapping) else self.points(token)
        if points is None:
            raise DataError(f"frame {token}", "has no LiDAR points", "leave it out, or give its sweep")
        if points.ndim != 2 or points.shape[1] < 3:
            raise ValueError(f"points of {token}: expected [p, 3 or more], got {tuple(points.shape)}")
        depth = project_depth(cameras, points.to(cameras.intrinsics))
        return fill_depth(depth, self.config.fill_radius).to(images.device)


def fill_depth(depth: Float[Tensor, "n h w"], radius: float) -> Float[Tensor, "n h w"]:
    """Give pixels of depth 0 that of the nearest other pixel, if it is at most `radius` pixels away."""
    if radius == 0.0:
        return depth
    filled = depth.cpu().numpy().copy()
    for image in filled:
        if image.any():
            distance, (rows, columns) = ndimage.distance_transform_edt(  # pyright: ignore[reportGeneralTypeIssues]
                image == 0, return_indices=True
            )
            image[...] = np.where(distance <= radius, image[rows, columns], 0.0)
    return torch.from_numpy(filled).to(depth)
