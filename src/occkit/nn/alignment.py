"""Alignment of an occupancy volume with the features of a denoiser, camera by camera."""

import math
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from occkit.geometry import VoxelGrid, transform_points


@dataclass(frozen=True, kw_only=True)
class Views:
    """Where the images that are drawn together look from; their order is time by time, and camera by camera in it."""

    ego_from_camera: Float[Tensor, "b v 4 4"]
    """Poses in the frame of the occupancy volume that each view looks at, metres."""
    intrinsics: Float[Tensor, "b v 3 3"]
    """Camera matrices in units of the image: x / width, y / height."""
    first_from_ego: Float[Tensor, "b v 4 4"]
    """Pose of each view's ego frame in that of the first."""
    times: tuple[int, ...]
    """Which occupancy volume each view looks at."""


@dataclass(frozen=True, kw_only=True)
class CameraEncodingConfig:
    """Occupancy along the frustums of the cameras."""

    channels: int = 16
    """Width of the embedded occupancy."""
    depths: int = 12
    """Depth bins of the frustum."""
    near: float = 1.0
    """First depth, metres."""
    far: float | None = None
    """Last depth, metres; None is the diagonal of the grid's floor."""


@dataclass(frozen=True, kw_only=True)
class ConcatAlignmentConfig:
    """The occupancy in each camera's frustum, put beside the features and mixed by a convolution that starts at 0."""

    encoding: CameraEncodingConfig = field(default_factory=CameraEncodingConfig)
    """How the occupancy is lifted."""
    hidden: int = 64
    """Channels between the two convolutions."""

    def build(self, *, latent_channels: int, num_classes: int, grid: VoxelGrid) -> "ConcatAlignment":
        """Return the alignment for features of a width and volumes of a grid."""
        return ConcatAlignment(self, latent_channels, num_classes, grid)


AlignmentConfig = ConcatAlignmentConfig
"""The kinds of alignment there are."""


class ConcatAlignment(nn.Module):
    """See `ConcatAlignmentConfig`."""

    def __init__(self, config: ConcatAlignmentConfig, latent_channels: int, num_classes: int, grid: VoxelGrid) -> None:
        super().__init__()
        self.config, self.grid = config, grid
        encoding = config.encoding
        self.embed = nn.Linear(num_classes, encoding.channels, bias=False)
        self.null = nn.Parameter(torch.zeros(encoding.channels, encoding.depths))
        width = encoding.channels * encoding.depths
        self.mix = nn.Sequential(nn.Conv2d(latent_channels + width, config.hidden, 1), nn.SiLU())
        self.out = nn.Conv2d(config.hidden, latent_channels, 1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias if self.out.bias is not None else self.out.weight)

    def forward(
        self,
        latent: Float[Tensor, "b v c h w"],
        occupancy: Float[Tensor, "b t k x y z"],
        views: Views,
        present: Bool[Tensor, "b"] | None = None,
    ) -> Float[Tensor, "b v c h w"]:
        """Return the features with what the occupancy adds to them; exactly the features at initialisation.

        Args:
            latent: features of the images.
            occupancy: class probabilities of each volume.
            views: where the images look from.
            present: false where the occupancy is not known; None is all true.
        """
        batch, count, _, height, width = latent.shape
        embedded = self.embed(occupancy.movedim(2, -1)).movedim(-1, 2)[:, list(views.times)]
        frustum = F.grid_sample(
            embedded.flatten(0, 1),
            self._places(views, height, width).flatten(0, 1),
            align_corners=False,
            padding_mode="zeros",
        ).unflatten(0, (batch, count))
        if present is not None:
            known = present[:, None, None, None, None, None]
            frustum = torch.where(known, frustum, self.null[None, None, :, :, None, None])
        beside = torch.cat([latent, frustum.flatten(2, 3)], dim=2).flatten(0, 1)
        return latent + self.out(self.mix(beside)).unflatten(0, (batch, count))

    def _places(self, views: Views, height: int, width: int) -> Float[Tensor, "b v d h w 3"]:
        """Return where in the volume, -1..1 as grid_sample wants it, the cells of each frustum lie."""
        config, like = self.config.encoding, views.intrinsics
        sides = [size * count for size, count in zip(self.grid.voxel_size, self.grid.shape, strict=True)]
        far = math.hypot(*sides[:2]) if config.far is None else config.far
        depth = torch.linspace(config.near, far, config.depths, device=like.device)
        rows = (torch.arange(height, device=like.device) + 0.5) / height
        columns = (torch.arange(width, device=like.device) + 0.5) / width
        d, v, u = torch.meshgrid(depth, rows, columns, indexing="ij")
        pixels = torch.stack([u, v, torch.ones_like(u)], dim=-1).reshape(-1, 3)
        directions = pixels @ torch.linalg.inv(like).transpose(-1, -2)
        points = transform_points(views.ego_from_camera, directions * d.reshape(-1, 1))
        index = self.grid.continuous_index(points)
        unit = index / index.new_tensor(self.grid.shape) * 2 - 1
        return unit.flip(-1).unflatten(2, (config.depths, height, width))
