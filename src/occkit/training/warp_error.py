"""Whether the frames of a clip show one scene: each as the one before it would be, if the occupancy is right."""

import math

import torch
from jaxtyping import Bool, UInt8
from torch import Tensor

from occkit.geometry import Cameras, VoxelGrid
from occkit.geometry.rays import camera_rays, pixel_grid
from occkit.losses.photometric import warp_image
from occkit.ops.raycast import first_hit

_FAR = 1e4
"""Depth in metres of a pixel whose ray meets nothing."""


def warp_error(
    images: UInt8[Tensor, "t n 3 h w"], occupied: Bool[Tensor, "x y z"], cameras: Cameras, grid: VoxelGrid
) -> float:
    """Return how far neighbouring frames are apart once each is seen from where the other was.

    `mean |I_a(u) - I_b(project_b(unproject_a(u, d_a(u))))|` over neighbours a, b, all cameras and the pixels u whose
    surface b sees, too; `d` is the z-depth at which rays meet the occupancy. A pixel whose surface is hidden from b by
    more than a voxel's diagonal does not count. Images without contrast have no error: hold it beside `diversity`, and
    beside that of photographs, which voxels bound from below.

    Args:
        images: RGB, time 0 is now.
        occupied: of the present frame; what moves is seen where it is now.
        cameras: `[t, n]`, poses in the present ego frame.
        grid: of the occupancy.

    Returns:
        Mean over pixels and colours, 0..1; nan if no pixel counts, as with a single frame.

    Source: the warping error of Lai et al., "Learning blind video temporal consistency", ECCV 2018, with the
        occupancy's depth in place of optical flow, and absolute differences.
    """
    height, width = int(images.shape[-2]), int(images.shape[-1])
    times, count = cameras.batch_shape
    if times < 2:
        return math.nan
    cameras = cameras.resize(height, width)
    rays = camera_rays(cameras, pixel_grid(height, width).to(cameras.intrinsics).expand(times, count, -1, -1))
    size = rays.origins.new_tensor(grid.voxel_size)
    origins = (rays.origins - rays.origins.new_tensor(grid.origin)) / size
    hits = first_hit(occupied, origins.reshape(-1, 3), (rays.directions / size).reshape(-1, 3))
    depth = hits.entry.to(rays.origins).reshape(times, count, height, width)
    met = hits.hit.reshape(depth.shape) & (depth > 0)
    depth = depth.masked_fill(~met, _FAR)
    colours, near = images.float() / 255, math.dist((0, 0, 0), grid.voxel_size)
    total, pixels = 0.0, 0
    for a, b in ((a, b) for now in range(times - 1) for a, b in ((now, now + 1), (now + 1, now))):
        here, there = cameras[a], cameras[b]
        seen, visible = warp_image(torch.cat([colours[b], depth[b][:, None]], dim=1), depth[a], here, there)
        points = rays.at(depth.reshape(times, count, -1, 1))[a, :, :, 0]
        behind = there.project(points)[1].reshape(depth[a].shape) - seen[:, 3]
        counts = met[a] & visible & (behind < near)
        total += float(((seen[:, :3] - colours[a]).abs().mean(dim=1) * counts).sum())
        pixels += int(counts.sum())
    return total / pixels if pixels else math.nan
