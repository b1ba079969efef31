"""Metric depth of images: the Protocol, and networks that see every image as if one canonical camera had taken it.

Depth is z along the camera's axis, not distance along the ray, in metres; 0 says that it is not known.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional

from occkit.errors import ConfigError
from occkit.foundation.segmentation import check_request
from occkit.geometry import Cameras

_MEAN, _STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)

Network = Callable[[Tensor], Tensor]
"""Normalised images `[n, 3, h, w]` -> depth `[n, h', w']` or `[n, 1, h', w']` under the canonical camera, metres."""


class DepthEstimator(Protocol):
    """Says how far away the pixels of images are."""

    @property
    def description(self) -> dict[str, Any]:
        """JSON that names the estimator and every setting that changes its depth."""
        ...

    def estimate(
        self, images: UInt8[Tensor, "n 3 h w"], *, cameras: Cameras, token: str, names: Sequence[str]
    ) -> Float[Tensor, "n h w"]:
        """Estimate the depth of the images of one frame.

        Args:
            images: RGB.
            cameras: those of the images, leading dimension `[n]`; neither mirrored nor rotated.
            token: the frame's name.
            names: the name of each image's camera.

        Returns:
            z-depth, metres, on the images' device; 0 where it is not known.

        Raises:
            ValueError: if images, cameras and names do not fit together.
        """
        ...


def check_depth_request(images: Tensor, cameras: Cameras, token: str, names: Sequence[str]) -> None:
    """Check the arguments of `DepthEstimator.estimate`.

    Raises:
        ValueError: if there is not one camera and one name for each image, or a camera is of another image size, or
            mirrored or rotated, so that its horizontal focal length is not positive.
    """
    check_request(images, token, names)
    size = (images.shape[-2], images.shape[-1])
    if cameras.batch_shape != images.shape[:1] or (cameras.height, cameras.width) != size:
        found = f"{tuple(cameras.batch_shape)} of {cameras.height} x {cameras.width}"
        raise ValueError(f"cameras: expected ({len(images)},) of {size[0]} x {size[1]} pixels, got {found}")
    if not bool((cameras.intrinsics[:, 0, 0] > 0).all()):
        raise ValueError("cameras: expected positive focal lengths; give images as they are stored, not mirrored")


def canonical_depth(
    network: Network,
    images: UInt8[Tensor, "n 3 h w"],
    focal: Float[Tensor, " n"],
    *,
    canonical_focal: float,
    canonical_size: tuple[int, int],
    max_depth: float,
) -> Float[Tensor, "n h w"]:
    """Ask a network that knows depth only as one canonical camera would see it.

    Images are scaled by `s = min(H / h, W / w)` to the network's `H x W` and padded evenly with the mean colour. What
    the network says of the padding is cut off, the rest enlarged; then `z = z_canonical s f_x / f_canonical`:
    of two equal pictures, the one taken with twice the focal length shows things twice as far away.

    Args:
        network: see `Network`.
        images: RGB.
        focal: f_x of each image's own camera, pixels of the images. One value for all is a silent error of 1.6 on the
            rear view of nuScenes.
        canonical_focal: of the canonical camera, pixels of the network's input.
        canonical_size: (height, width) of the network's input, pixels.
        max_depth: larger depths become this, metres.

    Returns:
        z-depth, metres; 0 where the network's answer is not positive or not a number.

    Source: Yin et al., "Metric3D: Towards Zero-shot Metric 3D Prediction from A Single Image", ICCV 2023.
    """
    height, width = images.shape[-2:]
    scale = min(canonical_size[0] / height, canonical_size[1] / width)
    rows, columns = (max(1, round(side * scale)) for side in (height, width))
    top, left = (canonical_size[0] - rows) // 2, (canonical_size[1] - columns) // 2
    small = functional.interpolate(
        images.float(), (rows, columns), mode="bilinear", antialias=True, align_corners=False
    )
    mean, std = (small.new_tensor(v)[:, None, None] for v in (_MEAN, _STD))
    # The mean colour is zero once normalised.
    padding = (left, canonical_size[1] - columns - left, top, canonical_size[0] - rows - top)
    answer = network(functional.pad((small - mean) / std, padding)).float()
    answer = answer.reshape(len(images), 1, *answer.shape[-2:])
    answer = functional.interpolate(answer, canonical_size, mode="bilinear", align_corners=False)
    seen = answer[..., top : top + rows, left : left + columns]
    enlarged = functional.interpolate(seen, (height, width), mode="bilinear", align_corners=False)[:, 0]
    factor = scale * focal.to(enlarged) / canonical_focal
    return clean_depth(enlarged * factor[:, None, None], max_depth)


def clean_depth(depth: Float[Tensor, "n h w"], max_depth: float) -> Float[Tensor, "n h w"]:
    """Return depth within 0..`max_depth` metres; 0 where it is not a finite number."""
    return torch.where(depth.isfinite(), depth.clamp(0.0, max_depth), 0.0)


@dataclass(frozen=True, kw_only=True)
class CanonicalDepthConfig:
    """A network of your own that knows one canonical camera; the defaults are those of Metric3D v2."""

    name: str
    """What the network is, its weights included; caches tell networks apart by it."""
    canonical_focal: float = 1000.0
    """Focal length of the canonical camera, pixels of the network's input."""
    canonical_size: tuple[int, int] = (616, 1064)
    """(height, width) of the network's input, pixels."""
    max_depth: float = 300.0
    """Larger depths become this, metres."""
    batch_size: int = 1
    """Images the network sees at once; changes memory and speed, not the result."""

    def __post_init__(self) -> None:
        for name in ("canonical_focal", "max_depth"):
            if not getattr(self, name) > 0.0:
                raise ConfigError(f"CanonicalDepth: {name} {getattr(self, name)} must be above 0")
        if min(self.canonical_size) < 1 or self.batch_size < 1:
            raise ConfigError(
                f"CanonicalDepth: canonical_size {self.canonical_size} and batch_size {self.batch_size} must be at "
                "least 1"
            )

    def build(self, network: Network) -> "CanonicalDepth":
        """Return the estimator."""
        return CanonicalDepth(self, network)


class CanonicalDepth:
    """See `CanonicalDepthConfig` and `canonical_depth`."""

    def __init__(self, config: CanonicalDepthConfig, network: Network) -> None:
        self.config = config
        self.network = network

    @property
    def description(self) -> dict[str, Any]:
        """Name and settings; not the batch, which does not change the result."""
        settings = asdict(self.config)
        settings.pop("batch_size")
        return {"depth": "canonical"} | settings

    @torch.no_grad()
    def estimate(
        self, images: UInt8[Tensor, "n 3 h w"], *, cameras: Cameras, token: str, names: Sequence[str]
    ) -> Float[Tensor, "n h w"]:
        """Estimate depth where the images are; token and names are not looked at. See `DepthEstimator.estimate`."""
        check_depth_request(images, cameras, token, names)
        config = self.config
        some = zip(images.split(config.batch_size), cameras.intrinsics[:, 0, 0].split(config.batch_size), strict=True)
        return torch.cat(
            [
                canonical_depth(
                    self.network,
                    batch,
                    focal,
                    canonical_focal=config.canonical_focal,
                    canonical_size=config.canonical_size,
                    max_depth=config.max_depth,
                )
                for batch, focal in some
            ]
        )
