"""Lifting: from feature maps with depth distributions to a feature volume, for any rig and any grid.

Two ways here: scatter every pixel along its ray into the voxels (lift-splat), or project every voxel into the cameras
and gather. Attention is in `nn/attention.py`, gathering without depth in `nn/point_lifting.py`. Where pixels meet
voxels depends only on cameras and grid; the last few such plans are kept.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from occkit.geometry import Cameras, VoxelGrid
from occkit.geometry.rays import pixel_grid
from occkit.nn.attention import AttentionLiftConfig
from occkit.nn.depth import DepthBins
from occkit.nn.point_lifting import MeanLiftConfig
from occkit.ops.pooling import GatherPlan, PoolPlan, gather_views, pool_voxels

MAX_CACHED_PLANS = 8
"""Plans kept by a lifter; a plan of a 640,000-voxel grid takes a few hundred megabytes."""

GATHER_GAIN = 8.0
"""How early the weight of a gathered feature saturates; see `GatherLiftConfig`."""

P = TypeVar("P", PoolPlan, GatherPlan)


class PlanCache(Generic[P]):
    """The plans of the rigs used last. The key is every number that a plan depends on, so it can never be stale."""

    def __init__(self) -> None:
        self._plans: OrderedDict[tuple[object, ...], P] = OrderedDict()

    def get(self, cameras: Cameras, grid: VoxelGrid, size: tuple[int, int], make: Callable[[], P]) -> P:
        """Return the plan for these cameras, grid and feature map, made if it is not there."""
        # A traced graph works its plans out from the cameras that it is given.
        if cameras.intrinsics.is_meta or torch.compiler.is_compiling():
            return make()
        tensors = (cameras.intrinsics, cameras.ego_from_camera, cameras.distortion)
        numbers = tuple(None if t is None else t.detach().cpu().numpy().tobytes() for t in tensors)
        shapes = tuple(None if t is None else (tuple(t.shape), t.dtype, t.device) for t in tensors)
        key = (numbers, shapes, cameras.height, cameras.width, grid, size)
        if key in self._plans:
            self._plans.move_to_end(key)
            return self._plans[key]
        # A plan made in inference mode could not be used in training afterwards.
        with torch.inference_mode(False), torch.no_grad():
            plan = make()
        self._plans[key] = plan
        if len(self._plans) > MAX_CACHED_PLANS:
            self._plans.popitem(last=False)
        return plan

    def __len__(self) -> int:
        return len(self._plans)

    def __deepcopy__(self, memo: dict[int, object]) -> "PlanCache[P]":
        """Return an empty cache: copies of a network fill their own."""
        return PlanCache()


@dataclass(frozen=True, kw_only=True)
class SplatLiftConfig:
    """Lift-splat: `V[v] = sum over pixels p and bins d in voxel v of P[p, d] F[p]`."""

    def build(self, bins: DepthBins, channels: int) -> "SplatLift":
        """Return the lift for these depth bins; it takes any number of channels."""
        del channels
        return SplatLift(bins)


class SplatLift(nn.Module):
    """See `SplatLiftConfig`. Source: Philion and Fidler, "Lift, Splat, Shoot", ECCV 2020."""

    uses_depth = True

    def __init__(self, bins: DepthBins) -> None:
        super().__init__()
        self.bins = bins
        self.extra_channels = 0
        self.plans: PlanCache[PoolPlan] = PlanCache()

    def forward(
        self,
        context: Float[Tensor, "b n c h w"],
        depth: Float[Tensor, "b n d h w"],
        cameras: Cameras,
        grid: VoxelGrid,
    ) -> Float[Tensor, "b c x y z"]:
        """Lift.

        Args:
            context: features of each cell.
            depth: distribution over the bins of each cell.
            cameras: leading dimensions `[b, n]`, of the images that the maps come from.
            grid: volume to fill; a coarse axis (a single voxel, say) sums over all that falls into it.

        Returns:
            The volume; zero where no pixel reaches.
        """
        size = (int(context.shape[3]), int(context.shape[4]))
        volumes = []
        for index in range(context.shape[0]):
            rig = cameras[index]
            plan = self.plans.get(rig, grid, size, lambda rig=rig: splat_plan(rig, grid, self.bins, size))
            volumes.append(pool_voxels(_rows(context[index]), _rows(depth[index]), plan))
        return _volume(torch.stack(volumes), grid)


@dataclass(frozen=True, kw_only=True)
class GatherLiftConfig:
    """Project and gather: a voxel reads the pixels it projects to, weighted by their probability at its depth.

    The weight of bin `k` is `8 P_k / (1 + 8 P_k)`. It still tells a sharp peak from its neighbours, but does not shrink
    the features of an untrained network, whose distribution is flat, as much as `P_k` itself would.
    """

    interpolation: Literal["bilinear", "nearest"] = "bilinear"
    """Read four neighbouring cells, or the one that the voxel's centre falls in (a quarter of the work)."""
    surface_channels: bool = True
    """Add two channels: the weight above, and the probability of a surface in front of the voxel (occlusion)."""

    def build(self, bins: DepthBins, channels: int) -> "GatherLift":
        """Return the lift for these depth bins; it takes any number of channels."""
        del channels
        return GatherLift(self, bins)


class GatherLift(nn.Module):
    """See `GatherLiftConfig`. The mean over the cameras that see a voxel.

    Source: Harley et al., "Simple-BEV", ICRA 2023 (gathering); depth weighting and surface channels original.
    """

    uses_depth = True

    def __init__(self, config: GatherLiftConfig, bins: DepthBins) -> None:
        super().__init__()
        self.config = config
        self.bins = bins
        self.extra_channels = 2 if config.surface_channels else 0
        self.plans: PlanCache[GatherPlan] = PlanCache()

    def forward(
        self,
        context: Float[Tensor, "b n c h w"],
        depth: Float[Tensor, "b n d h w"],
        cameras: Cameras,
        grid: VoxelGrid,
    ) -> Float[Tensor, "b e x y z"]:
        """Lift; arguments as in `SplatLift.forward`.

        Returns:
            The volume, `extra_channels` wider than the context; zero where no camera sees.
        """
        size = (int(context.shape[3]), int(context.shape[4]))
        volumes = []
        for index in range(context.shape[0]):
            rig = cameras[index]
            plan = self.plans.get(
                rig, grid, size, lambda rig=rig: gather_plan(rig, grid, self.bins, size, self.config.interpolation)
            )
            features, probability = _rows(context[index]), _rows(depth[index])
            weights = GATHER_GAIN * probability / (1 + GATHER_GAIN * probability)
            if not self.config.surface_channels:
                volumes.append(gather_views(features, plan, weights))
                continue
            ones = torch.ones_like(features[:, :1])
            here = gather_views(torch.cat([features, ones], dim=1), plan, weights)
            in_front = gather_views(ones, plan, probability.cumsum(dim=1) - probability)
            volumes.append(torch.cat([here, in_front], dim=1))
        return _volume(torch.stack(volumes), grid)


LiftKindConfig = SplatLiftConfig | GatherLiftConfig | AttentionLiftConfig | MeanLiftConfig


def splat_plan(cameras: Cameras, grid: VoxelGrid, bins: DepthBins, size: tuple[int, int]) -> PoolPlan:
    """Return which voxel each (camera, cell, bin) falls into: bin middle on the ray of the cell middle.

    Args:
        cameras: leading dimension `[n]`.
        grid: volume to fill.
        bins: depth bins.
        size: rows and columns of the feature map.
    """
    small = _exactly(cameras).resize(*size)
    pixels = pixel_grid(*size).to(small.intrinsics)
    num_cameras, num_cells = small.intrinsics.shape[0], pixels.shape[0]
    depth = bins.centers(device=pixels.device).to(pixels)
    points = small.unproject(
        pixels.repeat_interleave(bins.count, dim=0).expand(num_cameras, -1, -1),
        depth.repeat(num_cells).expand(num_cameras, -1),
    )
    index, inside = grid.index_of(points)
    flat = torch.where(inside, grid.flat_index(index), torch.full_like(index[..., 0], -1))
    return PoolPlan.build(flat.reshape(num_cameras * num_cells, bins.count), num_voxels=grid.num_voxels)


def gather_plan(
    cameras: Cameras,
    grid: VoxelGrid,
    bins: DepthBins,
    size: tuple[int, int],
    interpolation: Literal["bilinear", "nearest"] = "bilinear",
) -> GatherPlan:
    """Return which cells and bins each voxel's centre is seen in.

    Args:
        cameras: leading dimension `[n]`.
        grid: volume to fill.
        bins: depth bins; nearer or farther voxels read the first or last.
        size: rows and columns of the feature map.
        interpolation: see `GatherLiftConfig`.
    """
    small = _exactly(cameras).resize(*size)
    centers = grid.centers(dtype=small.intrinsics.dtype, device=small.intrinsics.device).reshape(-1, 3)
    pixels, depth, visible = small.project(centers.expand(small.intrinsics.shape[0], -1, -1))
    return GatherPlan.build(
        pixels,
        visible,
        height=size[0],
        width=size[1],
        bins=bins.continuous_index(depth),
        num_bins=bins.count,
        interpolation=interpolation,
    ).to(cameras.intrinsics.dtype)


def _exactly(cameras: Cameras) -> Cameras:
    """Return the cameras in float64: which cell or voxel a point falls into must not hang on how sums are rounded."""
    return cameras.map(lambda tensor: tensor.double())


def _rows(maps: Float[Tensor, "n c h w"]) -> Float[Tensor, "p c"]:
    return maps.permute(0, 2, 3, 1).flatten(0, 2)


def _volume(rows: Float[Tensor, "b v c"], grid: VoxelGrid) -> Float[Tensor, "b c x y z"]:
    return rows.reshape(rows.shape[0], *grid.shape, rows.shape[2]).permute(0, 4, 1, 2, 3)
