"""Which pixels meet which voxels, worked out once for a rig and reused: plans for `pool_voxels` and `gather_views`."""

from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from occkit.ops.gather import Bags


@dataclass(frozen=True, kw_only=True)
class PoolPlan:
    """Which voxel each frustum point (pixel, depth bin) falls into; see `PoolPlan.build`."""

    bags: Bags
    """Bags = voxels, table rows = pixels, taps = frustum points inside the grid."""
    source: Int[Tensor, "k"]
    """Position of each tap's weight in the flattened depth weights, `pixel * num_bins + bin`."""
    num_bins: int
    """Depth bins a pixel."""

    @property
    def num_voxels(self) -> int:
        """Rows of the pooled volume."""
        return self.bags.num_bags

    @property
    def num_pixels(self) -> int:
        """Rows of the feature table."""
        return self.bags.num_rows

    @classmethod
    def build(cls, voxel_index: Int[Tensor, "p d"], *, num_voxels: int) -> "PoolPlan":
        """Sort the frustum points by voxel.

        Several samples, of one rig or of several, are one plan: add `b * num_voxels` to the indices of sample b, stack
        the pixels and pass the total number of voxels.

        Args:
            voxel_index: flat voxel of the frustum point of each pixel (all cameras, row by row) and depth bin;
                negative = outside the grid. On the meta device every point counts as inside.
            num_voxels: rows of the volume.

        Raises:
            ValueError: if the shape is not [pixels, bins] or an index is `num_voxels` or more.
        """
        if voxel_index.ndim != 2:
            raise ValueError(f"voxel_index: expected [pixels, depth bins], got {tuple(voxel_index.shape)}")
        num_pixels, num_bins = voxel_index.shape
        flat = voxel_index.reshape(-1)
        source = _where(flat >= 0)
        bags, order = Bags.from_pairs(
            flat[source], source // num_bins, num_bags=num_voxels, num_rows=num_pixels, index_is_sorted=True
        )
        return cls(bags=bags, source=source[order], num_bins=num_bins)


@dataclass(frozen=True, kw_only=True)
class GatherPlan:
    """Where each voxel is seen: the inverse of pooling; see `GatherPlan.build`."""

    bags: Bags
    """Bags = voxels, table rows = pixels, taps = (visible view, neighbouring pixel)."""
    factors: Float[Tensor, "k"]
    """Bilinear factor of each tap, divided by the number of views of the voxel when averaging."""
    depth_source: Int[Tensor, "k 2"] | None
    """Positions in the flattened depth weights of the two bins around the voxel's depth."""
    depth_factors: Float[Tensor, "k 2"] | None
    """Linear factors of those two bins."""
    num_bins: int | None
    """Depth bins a pixel; None for a plan without depth."""

    @property
    def num_voxels(self) -> int:
        """Rows of the gathered volume."""
        return self.bags.num_bags

    def to(self, dtype: torch.dtype) -> "GatherPlan":
        """Return the plan with its factors as another type, worked out in the type of the pixels it was built from."""
        depth = None if self.depth_factors is None else self.depth_factors.to(dtype)
        return replace(self, factors=self.factors.to(dtype), depth_factors=depth)

    @property
    def num_pixels(self) -> int:
        """Rows of the feature table."""
        return self.bags.num_rows

    @classmethod
    def build(
        cls,
        pixels: Float[Tensor, "n v 2"],
        visible: Bool[Tensor, "n v"],
        *,
        height: int,
        width: int,
        bins: Float[Tensor, "n v"] | None = None,
        num_bins: int | None = None,
        interpolation: Literal["bilinear", "nearest"] = "bilinear",
        reduce: Literal["mean", "sum"] = "mean",
    ) -> "GatherPlan":
        """Keep the visible (camera, voxel) pairs and their pixel neighbours.

        Args:
            pixels: `(u, v)` of each voxel centre in each camera, in pixels of the *feature map*, centres at +0.5.
            visible: true where the voxel is in the camera's view; its pixel then lies in the map. On the meta device
                every pair counts as visible.
            height: rows of the feature map.
            width: columns of the feature map.
            bins: depth of each voxel in each camera in units of depth bins, centre of bin i at i + 0.5; beyond the
                first and last centre the end bin counts. None for a plan that ignores depth.
            num_bins: depth bins a pixel; needed with `bins`.
            interpolation: four neighbours or the pixel the point lies in.
            reduce: average over the views of a voxel, or sum.

        Raises:
            ValueError: for shapes that do not agree, or bins without `num_bins`.
        """
        _check_views(pixels, visible, bins, num_bins)
        pair = _where(visible.t().reshape(-1))  # voxel-major, so that the taps of a voxel come out together
        num_cameras, num_voxels = visible.shape
        voxel, camera = pair // num_cameras, pair % num_cameras
        points = pixels[camera, voxel].detach()
        tap_pixels, factors = _pixel_taps(points, height, width, interpolation)
        index = (camera[:, None] * (height * width) + tap_pixels).reshape(-1)
        taps = tap_pixels.shape[1]
        if reduce == "mean":
            views = visible.sum(dim=0).to(points.dtype)
            factors = factors / views[voxel][:, None]
        bags, _ = Bags.from_pairs(
            voxel.repeat_interleave(taps),
            index,
            num_bags=num_voxels,
            num_rows=num_cameras * height * width,
            owner_is_sorted=True,
        )
        depth_source = depth_factors = None
        if bins is not None and num_bins is not None:
            low, fraction = _bin_taps(bins[camera, voxel].detach(), num_bins)
            low, fraction = low.repeat_interleave(taps), fraction.repeat_interleave(taps)
            high = (low + 1).clamp(max=num_bins - 1)
            depth_source = torch.stack([index * num_bins + low, index * num_bins + high], dim=-1)
            depth_factors = torch.stack([1 - fraction, fraction], dim=-1)
        return cls(
            bags=bags,
            factors=factors.reshape(-1),
            depth_source=depth_source,
            depth_factors=depth_factors,
            num_bins=num_bins,
        )


def _where(flags: Bool[Tensor, "k"]) -> Int[Tensor, "n"]:
    if flags.is_meta:  # shapes only: the count is data, so take the largest
        return torch.empty(flags.shape, dtype=torch.int64, device=flags.device)
    return flags.nonzero()[:, 0]


def _check_views(pixels: Tensor, visible: Tensor, bins: Tensor | None, num_bins: int | None) -> None:
    if pixels.ndim != 3 or pixels.shape[-1] != 2 or visible.shape != pixels.shape[:2]:
        raise ValueError(
            f"pixels, visible: expected [cameras, voxels, 2] and [cameras, voxels], got {tuple(pixels.shape)} and "
            f"{tuple(visible.shape)}"
        )
    if bins is not None and (num_bins is None or bins.shape != visible.shape):
        raise ValueError(
            f"bins: expected {tuple(visible.shape)} like visible and num_bins with it, got {tuple(bins.shape)} and "
            f"num_bins={num_bins}"
        )


def _pixel_taps(
    points: Float[Tensor, "k 2"], height: int, width: int, interpolation: str
) -> tuple[Int[Tensor, "k t"], Float[Tensor, "k t"]]:
    """Return the flat pixels around each point and their factors; at the border the edge pixel counts twice."""
    if interpolation == "nearest":
        column = points[:, 0].floor().long().clamp(0, width - 1)
        row = points[:, 1].floor().long().clamp(0, height - 1)
        return (row * width + column)[:, None], torch.ones_like(points[:, :1])
    if interpolation != "bilinear":
        raise ValueError(f"interpolation: expected 'bilinear' or 'nearest', got {interpolation!r}")
    low = (points - 0.5).floor()
    fraction = points - 0.5 - low
    column, row = low.long().unbind(-1)
    columns = torch.stack([column, column + 1], dim=-1).clamp(0, width - 1)
    rows = torch.stack([row, row + 1], dim=-1).clamp(0, height - 1)
    along_u = torch.stack([1 - fraction[:, 0], fraction[:, 0]], dim=-1)
    along_v = torch.stack([1 - fraction[:, 1], fraction[:, 1]], dim=-1)
    taps = rows[:, :, None] * width + columns[:, None, :]
    return taps.flatten(1), (along_v[:, :, None] * along_u[:, None, :]).flatten(1)


def _bin_taps(bins: Float[Tensor, "k"], num_bins: int) -> tuple[Int[Tensor, "k"], Float[Tensor, "k"]]:
    centred = (bins - 0.5).clamp(0, num_bins - 1)
    low = centred.floor()
    return low.long(), centred - low
