"""Lifting without parameters and without depth: a point is the mean of the features it projects to.

Nothing is planned ahead, for the points may be anywhere (a contracted volume reaches kilometres) and the cameras move
from frame to frame. Each camera in turn reads what it sees: no array holds the points of several cameras at once.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from occkit.geometry import Cameras, ContractedGrid, VoxelGrid
from occkit.nn.attention import rows_of
from occkit.ops.sampling import sample_bilinear


@dataclass(frozen=True, kw_only=True)
class MeanLiftConfig:
    """The mean over the cameras that see a voxel's centre of what they show there; depth is not used."""

    def build(self, bins: object, channels: int) -> "MeanLift":
        """Return the lift; neither depth bins nor channels matter."""
        del bins, channels
        return MeanLift()


class MeanLift(nn.Module):
    """See `MeanLiftConfig`; it has no parameters. Serves contracted volumes as well.

    Source: Harley et al., "Simple-BEV", ICRA 2023; Zhang et al. 2023 (OccNeRF), section III-B.
    """

    uses_depth = False
    extra_channels = 0

    def forward(
        self,
        context: Float[Tensor, "b n c h w"],
        depth: Float[Tensor, "b n d h w"] | None,
        cameras: Cameras,
        grid: VoxelGrid | ContractedGrid,
    ) -> Float[Tensor, "b c x y z"]:
        """Lift.

        Args:
            context: features of each cell.
            depth: not looked at.
            cameras: leading dimensions `[b, n]`, of the images that the maps come from.
            grid: volume to fill.

        Returns:
            The volume; zero where no camera sees.
        """
        del depth
        centers = grid.centers(dtype=cameras.intrinsics.dtype, device=cameras.intrinsics.device).reshape(-1, 3)
        rows = torch.stack([lift_points(maps, cameras[b], centers)[0] for b, maps in enumerate(context)])
        return rows.reshape(len(rows), *grid.shape, rows.shape[2]).permute(0, 4, 1, 2, 3)


def lift_points(
    maps: Float[Tensor, "n c h w"], cameras: Cameras, points: Float[Tensor, "p 3"]
) -> tuple[Float[Tensor, "p c"], Int64[Tensor, "p"]]:
    """Read the feature maps at the projections of points: `F(x) = 1 / |N_x| sum_{n in N_x} map_n(project_n(x))`.

    `N_x` are the cameras that see x. Sampling is bilinear; within half a cell of its border a map is continued.

    Args:
        maps: one map a camera.
        cameras: leading dimension `[n]`, of the images that the maps come from.
        points: metres, reference frame.

    Returns:
        features: one row a point, zero where no camera sees it. Differentiable in maps and points.
        views: number of cameras that see it.

    Source: Harley et al., "Simple-BEV", ICRA 2023, section 3; camera by camera original.
    """
    small = cameras.resize(maps.shape[2], maps.shape[3])
    total = maps.new_zeros(points.shape[0], maps.shape[1])
    views = torch.zeros(points.shape[0], dtype=torch.int64, device=points.device)
    for n in range(maps.shape[0]):
        pixels, _, visible = small[n].project(points)
        rows = rows_of(visible)
        found = sample_bilinear(maps[n : n + 1], pixels[rows][None], padding="border")[0]
        total.index_add_(0, rows, found)
        views += visible
    return total.div_(views.clamp(min=1)[:, None]), views
