"""How images go into Depth Pro of transformers, and how metres come out of it."""

from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional


class DepthProSteps:
    """Asks a `DepthProForDepthEstimation`.

    Images are normalised by mean and deviation 0.5 and stretched without antialiasing to the square that the network's
    pyramid wants, 1536 x 1536 of the published one. It answers with canonical inverse depth `C`, that of a camera whose
    focal length is its image's width: `1 / z = C w / f_x`. The focal length is the camera's own, or the one that the
    network sees in the image: `w / f_x = 2 tan(v / 2)`, `v` its horizontal field of view. Inverse depth is enlarged
    bilinearly, and lies in 1e-4..1e4 1 / m.

    Source: Bochkovskii et al., "Depth Pro: Sharp Monocular Metric Depth in Less Than a Second", ICLR 2025;
    implementation of transformers.
    """

    def __init__(self, model: Any, *, camera_focal: bool) -> None:
        self.model = model
        self.camera_focal = camera_focal
        self.side = round(model.config.patch_size / min(model.config.scaled_images_ratios))

    def estimate(self, images: UInt8[Tensor, "n 3 h w"], focal: Float[Tensor, " n"]) -> Float[Tensor, "n h w"]:
        """Return z-depth, metres.

        Args:
            images: RGB, where the network is.
            focal: f_x of each image's camera, pixels; looked at with `camera_focal` only.
        """
        normal = (images.float() / 255.0 - 0.5) / 0.5
        side = (self.side, self.side)
        answer = self.model(pixel_values=functional.interpolate(normal, side, mode="bilinear", align_corners=False))
        if self.camera_focal:
            widths = images.shape[-1] / focal
        else:
            widths = 2.0 * torch.tan(0.5 * torch.deg2rad(answer.field_of_view.float()))
        inverse = answer.predicted_depth.float() * widths[:, None, None]
        size = (images.shape[-2], images.shape[-1])
        enlarged = functional.interpolate(inverse[:, None], size, mode="bilinear", align_corners=False)[:, 0]
        return 1.0 / enlarged.clamp(1e-4, 1e4)
