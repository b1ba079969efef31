"""Which voxels ask the images: those that a depth map hits, those that look occupied, or all."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from occkit.errors import ConfigError
from occkit.geometry import Cameras, VoxelGrid
from occkit.geometry.rays import pixel_grid
from occkit.nn.attention import rows_of


def depth_hits(depth: Float[Tensor, "n h w"], cameras: Cameras, grid: VoxelGrid) -> Bool[Tensor, "x y z"]:
    """Return the voxels in which a pixel of a depth map lies: the pseudo-LiDAR's occupancy.

    Args:
        depth: z-depth at the pixels' centres, metres; 0 where unknown.
        cameras: leading dimension `[n]`, of images of this size or any other.
        grid: the volume.

    Source: Wang et al., "Pseudo-LiDAR", CVPR 2019.
    """
    count, height, width = depth.shape
    small = cameras.resize(height, width)
    pixels = pixel_grid(height, width).to(small.intrinsics).expand(count, -1, -1)
    points = small.unproject(pixels, depth.flatten(1).to(small.intrinsics))
    index, inside = grid.index_of(points)
    hit = inside & (depth.flatten(1) > 0)
    flat = torch.where(hit, grid.flat_index(index), grid.num_voxels)
    counts = torch.zeros(grid.num_voxels + 1, dtype=torch.int32, device=depth.device)
    counts = counts.scatter_add(0, flat.reshape(-1), torch.ones_like(flat, dtype=torch.int32).reshape(-1))
    return (counts[:-1] > 0).reshape(grid.shape)


@dataclass(frozen=True, kw_only=True)
class DepthProposalsConfig:
    """Voxels hit by the depth map (VoxFormer before its network, CGFormer); with fewer than two hits all voxels."""

    grow: int = 0
    """Voxels all around a hit that ask too."""

    uses_depth = True

    def __post_init__(self) -> None:
        if self.grow < 0:
            raise ConfigError(f"DepthProposals: grow must be at least 0, got {self.grow}")

    def choose(
        self, hits: Bool[Tensor, "x y z"] | None, occupied: Float[Tensor, "x y z"] | None
    ) -> Int64[Tensor, " q"]:
        """Return the voxels that ask, ascending rows in C order.

        Args:
            hits: see `depth_hits`.
            occupied: probability that there is something; not looked at.

        Raises:
            ConfigError: if there are no hits to choose by.
        """
        del occupied
        if hits is None:
            raise ConfigError("DepthProposals: need a depth; give the network one, or choose by occupancy")
        if self.grow:
            side = 2 * self.grow + 1
            hits = F.max_pool3d(hits[None, None].float(), side, stride=1, padding=self.grow)[0, 0] > 0
        flat = hits.reshape(-1)
        return rows_of(flat | (flat.sum() < 2))


@dataclass(frozen=True, kw_only=True)
class OccupancyProposalsConfig:
    """Voxels that the first stage takes for occupied: at most so many, the likeliest."""

    share: float = 0.1
    """So many of all voxels at most (0..1)."""
    threshold: float = 0.0
    """Of these, only where the probability of being occupied is above (0..1); with fewer than two the likeliest two. At
    0 the number is the same in every frame, and so is the time."""

    uses_depth = False

    def __post_init__(self) -> None:
        if not (0 < self.share <= 1 and 0 <= self.threshold < 1):
            raise ConfigError(f"OccupancyProposals: expected 0 < share <= 1 and 0 <= threshold < 1, got {self}")

    def choose(
        self, hits: Bool[Tensor, "x y z"] | None, occupied: Float[Tensor, "x y z"] | None
    ) -> Int64[Tensor, " q"]:
        """Return the voxels that ask; arguments as in `DepthProposalsConfig.choose`. The choice has no gradient."""
        del hits
        if occupied is None:
            raise ConfigError("OccupancyProposals: need a first stage that says what is occupied; set first")
        flat = occupied.detach().reshape(-1)
        count = min(len(flat), max(2, round(self.share * len(flat))))
        found = flat.topk(count)
        if self.threshold and not flat.is_meta:
            sure = (found.values > self.threshold) | (torch.arange(count, device=flat.device) < 2)
            return found.indices[sure].sort().values
        return found.indices.sort().values


@dataclass(frozen=True, kw_only=True)
class AllVoxelsConfig:
    """Every voxel asks."""

    uses_depth = False

    def choose(
        self, hits: Bool[Tensor, "x y z"] | None, occupied: Float[Tensor, "x y z"] | None
    ) -> Int64[Tensor, " q"]:
        """Return all voxels; arguments as in `DepthProposalsConfig.choose`.

        Raises:
            ConfigError: if it is not known how many there are.
        """
        known = hits if hits is not None else occupied
        if known is None:
            raise ConfigError("AllVoxels: need a depth map or a first stage to know the volume")
        return torch.arange(known.numel(), device=known.device)


ProposalConfig = DepthProposalsConfig | OccupancyProposalsConfig | AllVoxelsConfig
"""Which voxels ask."""
