"""Photometric losses: does an image taken elsewhere, seen through the depth of this one, look like this one?

Depth is z-depth of the current image, metres, above 0; images are 0..1. Coordinates follow the package's cameras: pixel
centres at +0.5, also in the sampling.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from occkit.errors import ConfigError
from occkit.geometry import Cameras
from occkit.geometry.rays import pixel_grid

# The constants of SSIM for images in 0..1.
LUMINANCE_FLOOR = 0.01**2
CONTRAST_FLOOR = 0.03**2


@dataclass(frozen=True, kw_only=True)
class PhotometricConfig:
    """How two images are compared, and what competes with the reprojection."""

    structure: float = 0.85
    """Share of the structural error, (1 - SSIM) / 2; the rest is the absolute difference."""
    auto_mask: bool = True
    """Let the source as it is, not warped, compete: where it fits better, nothing is learnt of the depth."""
    noise: float = 1e-5
    """Standard deviation of what is added to the error of the unwarped sources, so that ties fall at random."""

    def __post_init__(self) -> None:
        if not 0 <= self.structure <= 1 or self.noise < 0:
            raise ConfigError(f"PhotometricConfig: structure must be 0..1 and noise not negative, got {self}")


class Reprojection(NamedTuple):
    """What the best source of each pixel says."""

    error: Float[Tensor, "b h w"]
    """Photometric error of the best candidate, 0 where no source sees the pixel."""
    seen: Bool[Tensor, "b h w"]
    """Whether any source sees the pixel at its depth: the pixels that count."""
    warped: Bool[Tensor, "b h w"]
    """Whether the best candidate is a warped source: the pixels that teach depth."""


def structural_similarity(x: Float[Tensor, "b c h w"], y: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """Compare 3x3 windows of two images by mean, variance and covariance (SSIM).

    `(2 m_x m_y + c_1) (2 s_xy + c_2) / ((m_x^2 + m_y^2 + c_1) (s_x^2 + s_y^2 + c_2))`, `c_1 = 0.01^2`, `c_2 = 0.03^2`,
    over windows of equal weights; images are reflected at their borders.

    Args:
        x: image, 0..1, at least 2x2 pixels.
        y: the other one.

    Returns:
        1 where the windows are equal, -1 at worst. Differentiable in both.

    Source: Wang et al., "Image quality assessment", TIP 2004, equation 13; 3x3 windows as in Godard et al., CVPR 2017.
    """
    x, y = (F.pad(image, (1, 1, 1, 1), mode="reflect") for image in (x, y))
    mean_x, mean_y = F.avg_pool2d(x, 3, stride=1), F.avg_pool2d(y, 3, stride=1)
    variance_x = F.avg_pool2d(x * x, 3, stride=1) - mean_x * mean_x
    variance_y = F.avg_pool2d(y * y, 3, stride=1) - mean_y * mean_y
    covariance = F.avg_pool2d(x * y, 3, stride=1) - mean_x * mean_y
    alike = (2 * mean_x * mean_y + LUMINANCE_FLOOR) * (2 * covariance + CONTRAST_FLOOR)
    most = (mean_x * mean_x + mean_y * mean_y + LUMINANCE_FLOOR) * (variance_x + variance_y + CONTRAST_FLOOR)
    return alike / most


def photometric_error(
    image: Float[Tensor, "b c h w"], target: Float[Tensor, "b c h w"], *, structure: float = 0.85
) -> Float[Tensor, "b h w"]:
    """Return how much two images differ: `alpha (1 - SSIM) / 2 + (1 - alpha) |x - y|`, the mean over channels.

    Args:
        image: 0..1.
        target: what it should be.
        structure: alpha.

    Returns:
        0..1. Differentiable in both.

    Source: Godard et al., "Unsupervised monocular depth estimation", CVPR 2017 (appearance matching).
    """
    dissimilarity = ((1 - structural_similarity(image, target)) / 2).clamp(0, 1)
    return (structure * dissimilarity + (1 - structure) * (image - target).abs()).mean(dim=1)


def warp_image(
    source: Float[Tensor, "b c h w"], depth: Float[Tensor, "b y x"], cameras: Cameras, source_cameras: Cameras
) -> tuple[Float[Tensor, "b c y x"], Bool[Tensor, "b y x"]]:
    """Show a source image as the current camera would see it, if depth were right and nothing moved.

    `warped(u) = source(project_source(unproject(u, depth(u))))`, bilinear; beyond its border a source is continued by
    its edge pixels.

    Args:
        source: image taken by `source_cameras`.
        depth: z-depth of the current image, metres; of any resolution, which the result has too.
        cameras: leading dimension `[b]`, of the current images.
        source_cameras: leading dimension `[b]`; poses in the same reference frame.

    Returns:
        warped: the source at the pixels of `depth`. Differentiable in source and depth.
        visible: true where the point lies in front of the source camera and inside its image.

    Source: Zhou et al., "Unsupervised learning of depth and ego-motion from video", CVPR 2017, equation 2.
    """
    batch, height, width = depth.shape
    here, there = cameras.resize(height, width), source_cameras.resize(source.shape[2], source.shape[3])
    pixels = pixel_grid(height, width).to(here.intrinsics).expand(batch, -1, -1)
    seen_at, _, visible = there.project(here.unproject(pixels, depth.flatten(1).to(pixels)))
    places = 2 * seen_at / seen_at.new_tensor([there.width, there.height]) - 1
    places = places.reshape(batch, height, width, 2).to(source.dtype)
    warped = F.grid_sample(source, places, padding_mode="border", align_corners=False)
    return warped, visible.reshape(batch, height, width)


def reproject(
    config: PhotometricConfig,
    target: Float[Tensor, "b c h w"],
    sources: Float[Tensor, "b s c h w"],
    depth: Float[Tensor, "b h w"],
    cameras: Cameras,
    source_cameras: Cameras,
    *,
    generator: torch.Generator | None = None,
) -> Reprojection:
    """Compare an image with every source seen through its depth, and keep the best source of each pixel.

    `e(u) = min over s of the error of (warped_s, target)`, over the sources that see the pixel; with the auto-mask the
    errors of (source_s, target) compete in the minimum.

    Args:
        config: how images are compared, and whether the auto-mask competes.
        target: current images, 0..1.
        sources: other images of the same scene, 0..1.
        depth: z-depth at the target's pixels, metres.
        cameras: leading dimension `[b]`, of the target.
        source_cameras: leading dimensions `[b, s]`; poses in the same reference frame.
        generator: draws the noise that breaks ties; None adds none, and a tie goes to the unwarped source.

    Returns:
        Error and masks. Differentiable in depth where a warped source is best; elsewhere the error is a constant.

    Source: Godard et al., "Digging into self-supervised monocular depth estimation", ICCV 2019 (minimum reprojection,
    auto-masking); that pixels which no source sees do not count is original.
    """
    errors, seen, still = [], [], []
    for index in range(sources.shape[1]):
        warped, visible = warp_image(sources[:, index], depth, cameras, source_cameras[:, index])
        error = photometric_error(warped, target, structure=config.structure)
        errors.append(error.masked_fill(~visible, torch.inf))
        seen.append(visible)
        if config.auto_mask:
            still.append(photometric_error(sources[:, index], target, structure=config.structure).detach())
    best, any_seen = torch.stack(errors).amin(dim=0), torch.stack(seen).any(dim=0)
    warps = any_seen
    if config.auto_mask:
        unwarped = torch.stack(still)
        if generator is not None:
            draws = torch.randn(unwarped.shape, generator=generator, device=generator.device)
            unwarped = unwarped + config.noise * draws.to(unwarped)
        lowest = unwarped.amin(dim=0)
        warps = any_seen & (best < lowest)
        best = torch.where(warps, best, lowest)
    return Reprojection(best.masked_fill(~any_seen, 0.0), any_seen, warps)


def photometric_loss(
    config: PhotometricConfig,
    target: Float[Tensor, "b c h w"],
    sources: Float[Tensor, "b s c h w"],
    depth: Float[Tensor, "b h w"],
    cameras: Cameras,
    source_cameras: Cameras,
    *,
    generator: torch.Generator | None = None,
) -> Float[Tensor, ""]:
    """Return the mean error of `reproject` over the pixels that a source sees; arguments as there.

    Returns:
        A scalar; 0 (with a zero gradient) if no source sees a pixel. Pixels whose unwarped source is best count, with
        a constant error and no gradient.

    Source: as `reproject`.
    """
    result = reproject(config, target, sources, depth, cameras, source_cameras, generator=generator)
    return result.error.sum() / result.seen.sum().clamp(min=1)


def edge_aware_smoothness(depth: Float[Tensor, "b h w"], image: Float[Tensor, "b c h w"]) -> Float[Tensor, ""]:
    """Penalise slopes of inverse depth where the image has none.

    `L = mean |dx d| exp(-|dx I|) + mean |dy d| exp(-|dy I|)`, `d` the inverse depth divided by its mean over the image,
    differences of neighbouring pixels, `|dI|` the mean over channels.

    Args:
        depth: z-depth, metres, above 0.
        image: of the same size, 0..1.

    Returns:
        A scalar >= 0; 0 for a constant depth, and the same for a depth of another scale. Differentiable in depth.

    Source: Godard et al., CVPR 2017 (edge-aware smoothness); mean normalisation of Wang et al., CVPR 2018.
    """
    inverse = 1 / depth
    inverse = inverse / inverse.mean(dim=(1, 2), keepdim=True)
    total = depth.new_zeros(())
    for axis in (-1, -2):
        edges = image.diff(dim=axis).abs().mean(dim=1)
        total = total + (inverse.diff(dim=axis).abs() * torch.exp(-edges)).mean()
    return total
