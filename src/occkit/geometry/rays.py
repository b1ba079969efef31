"""Rays: origins and directions in one frame, and how cameras and scanners make them."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from occkit.geometry.cameras import Cameras
from occkit.geometry.grids import VoxelGrid


@dataclass(frozen=True, kw_only=True)
class Rays:
    """Half-lines `origin + t * direction`, `t >= 0`.

    What `t` means depends on how the rays were made: with unit directions it is the distance along the ray, with unit
    *forward* component in a camera it is the z-depth. The maker says which.
    """

    origins: Float[Tensor, "*n 3"]
    """Metres."""
    directions: Float[Tensor, "*n 3"]
    """Per unit of t."""

    def at(self, t: Float[Tensor, "*n s"]) -> Float[Tensor, "*n s 3"]:
        """Return the points at parameters `t`, metres."""
        return self.origins[..., None, :] + t[..., None] * self.directions[..., None, :]


def camera_rays(cameras: Cameras, pixels: Float[Tensor, "*b n 2"], *, unit: bool = False) -> Rays:
    """Return the rays through the given pixels of each camera, in the ego frame.

    Args:
        cameras: leading dimensions `*b`.
        pixels: `(u, v)`, pixel centres at +0.5.
        unit: scale directions to unit length (t = distance along the ray, metres). By default the forward component
            is 1, so that t is the z-depth.

    Returns:
        Rays with leading dimensions `*b n`, reference ego frame, metres.
    """
    in_camera = cameras.directions(pixels)
    directions = in_camera @ cameras.ego_from_camera[..., :3, :3].transpose(-1, -2)
    if unit:
        directions = torch.nn.functional.normalize(directions, dim=-1)
    origins = cameras.ego_from_camera[..., None, :3, 3].expand_as(directions)
    return Rays(origins=origins, directions=directions)


def pixel_grid(height: int, width: int, *, stride: int = 1) -> Float[Tensor, "n 2"]:
    """Return the centres `(u, v)` of an image's pixels, row by row; with a stride, of each stride x stride block."""
    v, u = torch.meshgrid(
        (torch.arange(height // stride) + 0.5) * stride, (torch.arange(width // stride) + 0.5) * stride, indexing="ij"
    )
    return torch.stack([u, v], dim=-1).reshape(-1, 2)


def fan_rays(pitches: Float[Tensor, "p"], num_azimuths: int) -> Float[Tensor, "rays 3"]:
    """Return unit directions of a scanner: pitch outer, azimuth inner, azimuth `k` at `2 pi k / num_azimuths`.

    `(cos pitch cos azimuth, cos pitch sin azimuth, sin pitch)`, x forward, y left, z up.
    """
    azimuths = torch.arange(num_azimuths, dtype=pitches.dtype) * (2 * math.pi / num_azimuths)
    pitch, azimuth = torch.meshgrid(pitches, azimuths, indexing="ij")
    directions = torch.stack(
        [pitch.cos() * azimuth.cos(), pitch.cos() * azimuth.sin(), pitch.sin()], dim=-1
    )  # [pitches, azimuths, 3]
    return directions.reshape(-1, 3)


def intersect_box(rays: Rays, grid: VoxelGrid) -> tuple[Float[Tensor, "*n"], Float[Tensor, "*n"], Bool[Tensor, "*n"]]:
    """Where rays enter and leave the box of a grid (slab method).

    Returns:
        near: parameter at entry, 0 when the origin is inside.
        far: parameter at exit.
        hit: whether the ray meets the box at a positive parameter; near and far mean nothing where it does not.
    """
    lower = rays.origins.new_tensor(grid.origin)
    upper = rays.origins.new_tensor(grid.upper)
    tiny = torch.finfo(rays.directions.dtype).tiny
    safe = torch.where(rays.directions.abs() < tiny, torch.full_like(rays.directions, tiny), rays.directions)
    to_lower = (lower - rays.origins) / safe
    to_upper = (upper - rays.origins) / safe
    near = torch.minimum(to_lower, to_upper).amax(dim=-1).clamp(min=0)
    far = torch.maximum(to_lower, to_upper).amin(dim=-1)
    return near, far, far > near
