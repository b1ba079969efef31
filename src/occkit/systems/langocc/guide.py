"""What pixels show, told to the image network itself: the features of the present images, without a ray in between."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from occkit.errors import ConfigError
from occkit.geometry import Cameras
from occkit.losses.language import FeatureLossKind
from occkit.ops.sampling import sample_bilinear


@dataclass(frozen=True, kw_only=True)
class ImageGuideConfig:
    """A linear layer reads the features of pixels from what is lifted into the volume (ours).

    It stands for the pretrained image network that the paper starts from: along a ray an image network that knows
    nothing yet is told what it shows only as far as the density is right.
    """

    weight: float = 15.0
    """Of the comparison."""
    kind: FeatureLossKind = "mse"
    """How features are compared."""

    def __post_init__(self) -> None:
        if not self.weight > 0:
            raise ConfigError(f"ImageGuideConfig: weight must be positive, got {self.weight}")


def read_pixels(
    maps: Float[Tensor, "n c h w"],
    cameras: Cameras,
    origins: Float[Tensor, "r 3"],
    directions: Float[Tensor, "r 3"],
) -> tuple[Float[Tensor, "r c"], Bool[Tensor, " r"]]:
    """Return what maps of images hold at the pixels that rays of the same moment go through.

    Args:
        maps: of the whole image of each camera.
        cameras: `[n]`.
        origins: of rays through pixels of these cameras, metres, reference frame.
        directions: unit length.

    Returns:
        A row a ray, and whether it goes through an image. Differentiable in `maps`.
    """
    scaled = cameras.resize(maps.shape[2], maps.shape[3])
    ahead = (origins + directions).expand(len(maps), -1, -1)
    pixels, _, visible = scaled.project(ahead)
    away = torch.cdist(scaled.ego_from_camera[:, :3, 3], origins)
    own = torch.where(visible, away, away + 1e3).argmin(dim=0)  # two cameras may stand at one place
    rays = torch.arange(len(origins), device=origins.device)
    return sample_bilinear(maps, pixels, padding="border")[own, rays], visible[own, rays]
