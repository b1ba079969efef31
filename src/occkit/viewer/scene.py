"""The voxel scene from above and in perspective, by casting rays: no GPU, no display, no window system.

Every pixel is four rays. A face shows the colour of its class, darker by the way it looks, by how closed in it is, by
the shadow of what stands in the sun, and along the borders of its voxel.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from occkit.geometry import Cameras, Rays, VoxelGrid, camera_rays
from occkit.geometry.rays import pixel_grid
from occkit.samples import Occupancy
from occkit.viewer import canvas
from occkit.viewer.canvas import Picture
from occkit.viewer.surface import (
    SUN,
    FloatArray,
    border_line,
    colours_of,
    corner_shade,
    face_light,
    find_surface,
    sun_light,
)

_SUB_PIXELS = ((-0.25, -0.25), (0.25, -0.25), (-0.25, 0.25), (0.25, 0.25))
"""Four rays a pixel: smooth edges, and (each with its own sun) soft shadows."""
_SUN_WIDTH = 0.07
"""How far the four suns stand apart, as a share of the distance to them."""
_PLATE = np.array([0.925, 0.932, 0.942], dtype=np.float32)
"""Colour of the plate below the volume."""
_SKY_TOP, _SKY_BOTTOM = np.array([0.885, 0.912, 0.948]), np.array([0.985, 0.988, 0.992])


@dataclass(frozen=True, kw_only=True)
class EgoCar:
    """The car that carries the sensors, drawn as two boxes where the reference frame has its origin."""

    ground: float = 0.0
    """Height of the road in the frame of the grid, metres: 0 for nuScenes (ego), -1.73 for KITTI (Velodyne)."""
    rear: float = -1.0
    """Rear end, metres along x: the nuScenes ego origin is the rear axle."""
    length: float = 4.1
    """Metres."""
    width: float = 1.8
    """Metres."""

    def boxes(self) -> tuple[tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]], ...]:
        """Return lower and upper corners of body and cabin, metres."""
        half, ground, rear, front = self.width / 2, self.ground, self.rear, self.rear + self.length
        body = np.array([rear, -half, ground + 0.3]), np.array([front, half, ground + 0.95])
        cabin_ends = rear + 0.12 * self.length, rear + 0.66 * self.length
        cabin = (
            np.array([cabin_ends[0], -half * 0.9, ground + 0.95]),
            np.array([cabin_ends[1], half * 0.9, ground + 1.55]),
        )
        return body, cabin


def look_at(
    position: tuple[float, float, float],
    target: tuple[float, float, float],
    *,
    height: int,
    width: int,
    field_of_view: float = 50.0,
) -> Cameras:
    """Return one camera that looks from `position` at `target` with the sky upwards.

    Args:
        position: metres, frame of the grid.
        target: metres; it is seen in the middle of the picture, and must not lie straight above or below.
        height: of the picture, pixels.
        width: of the picture, pixels.
        field_of_view: angle across the width, degrees.

    Returns:
        A pinhole camera without leading dimensions.

    Raises:
        ValueError: if the line of sight is vertical or has no length.
    """
    eye = torch.tensor(position, dtype=torch.float64)
    forward = torch.tensor(target, dtype=torch.float64) - eye
    right = torch.linalg.cross(forward, torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64))
    if float(right.norm()) < 1e-6:
        raise ValueError(
            f"look_at: the line from {position} to {target} is vertical or empty; move one of them sideways"
        )
    forward, right = forward / forward.norm(), right / right.norm()
    pose = torch.eye(4, dtype=torch.float64)
    pose[:3, :3] = torch.stack([right, torch.linalg.cross(forward, right), forward], dim=1)
    pose[:3, 3] = eye
    focal = width / 2 / math.tan(math.radians(field_of_view) / 2)
    intrinsics = torch.tensor([[focal, 0.0, width / 2], [0.0, focal, height / 2], [0.0, 0.0, 1.0]], dtype=torch.float64)
    return Cameras(intrinsics=intrinsics, ego_from_camera=pose, height=height, width=width)


def chase_camera(grid: VoxelGrid, *, height: int, width: int) -> Cameras:
    """Return a camera high behind the volume, a little to the right, that looks forward over all of it."""
    lower, upper = np.array(grid.origin), np.array(grid.upper)
    side = float(max(upper[:2] - lower[:2]))
    middle = (lower + upper) / 2
    position = (lower[0] - 0.62 * side, middle[1] - 0.40 * side, lower[2] + 0.80 * side)
    target = (middle[0] - 0.10 * side, middle[1], lower[2])
    return look_at(position, target, height=height, width=width, field_of_view=46.0)


def draw_perspective(
    occupancy: Occupancy,
    *,
    size: tuple[int, int] = (720, 1280),
    camera: Cameras | None = None,
    ego: EgoCar | None = EgoCar(),
    sky: bool = True,
) -> Picture:
    """Draw a volume as it looks from a camera anywhere.

    Args:
        occupancy: `[x, y, z]`, one volume.
        size: height and width of the picture, pixels; a given camera must be made for it.
        camera: without leading dimensions, in the frame of the grid; see `look_at`. Default: `chase_camera`.
        ego: the car to draw into it; None leaves it out.
        sky: put a pale sky behind the volume; else it stands on white paper.

    Returns:
        `[h, w, 3]` uint8. Not differentiable.

    Raises:
        ValueError: if the volume or the camera has leading dimensions or the sizes differ.
    """
    height, width = size
    if camera is None:
        camera = chase_camera(occupancy.grid, height=height, width=width)
    if tuple(camera.batch_shape) or (camera.height, camera.width) != size:
        raise ValueError(
            f"camera: expected one camera of {height}x{width} without leading dimensions, got "
            f"{tuple(camera.batch_shape)} of {camera.height}x{camera.width}"
        )
    pixels = pixel_grid(height, width).double()
    focal = float(camera.intrinsics[0, 0])
    double = camera.map(lambda tensor: tensor.double())
    views = [camera_rays(double, pixels + torch.tensor(shift, dtype=torch.float64), unit=True) for shift in _SUB_PIXELS]
    rise = np.linspace(0, 1, height, dtype=np.float32)[:, None, None] ** 0.8
    behind = _SKY_TOP * (1 - rise) + _SKY_BOTTOM * rise if sky else np.ones(3)
    behind = np.broadcast_to(behind, (height, width, 3)).reshape(-1, 3).astype(np.float32)
    return _shoot(occupancy, views, behind, pixel_angle=1 / focal, ego=ego).reshape(height, width, 3)


def draw_top(
    occupancy: Occupancy,
    *,
    size: int = 800,
    ego: EgoCar | None = EgoCar(),
    rings: Sequence[float] = (10.0, 20.0, 30.0, 40.0, 50.0),
    with_legend: bool = True,
) -> Picture:
    """Draw a volume from straight above: x (forward) is up, y (left) is left.

    Args:
        occupancy: `[x, y, z]`, one volume.
        size: pixels along the longer side of the volume.
        ego: the car to draw at the origin; None leaves it out.
        rings: distances from the origin at which a circle is drawn, metres.
        with_legend: add names and colours of the classes that occur below the scene.

    Returns:
        `[h, w, 3]` uint8. Not differentiable.
    """
    grid = occupancy.grid
    lower, upper = np.array(grid.origin), np.array(grid.upper)
    extent = upper - lower
    scale = size / float(extent[:2].max())
    height, width = round(float(extent[0]) * scale), round(float(extent[1]) * scale)
    pixels = pixel_grid(height, width).double()
    views: list[Rays] = []
    for shift in _SUB_PIXELS:
        moved = pixels + torch.tensor(shift, dtype=torch.float64)
        x, y = upper[0] - moved[:, 1] / scale, upper[1] - moved[:, 0] / scale
        origins = torch.stack([x, y, torch.full_like(x, upper[2] + 1.0)], dim=1)
        views.append(Rays(origins=origins, directions=torch.tensor([0.0, 0.0, -1.0]).double().expand_as(origins)))
    ground = np.broadcast_to(_PLATE, (height * width, 3))
    picture = _shoot(occupancy, views, ground, pixel_size=1 / scale, ego=ego, by_height=True)
    picture = _draw_rings(picture.reshape(height, width, 3), grid, scale, rings)
    if not with_legend:
        return picture
    entries = canvas.present_classes([occupancy])
    return (
        canvas.stack([picture, canvas.legend(entries, width=width, size=max(11, size // 45))]) if entries else picture
    )


def _shoot(
    occupancy: Occupancy,
    views: Sequence[Rays],
    background: FloatArray,
    *,
    pixel_angle: float = 0.0,
    pixel_size: float = 0.0,
    ego: EgoCar | None,
    by_height: bool = False,
) -> Picture:
    """Return the mean picture of several sets of rays, `[pixels, 3]` uint8.

    A pixel covers `pixel_size + pixel_angle * distance` metres. `background` is what rays see that meet nothing.
    """
    if occupancy.semantics.ndim != 3:
        raise ValueError(f"occupancy: expected one volume [x, y, z], got {tuple(occupancy.semantics.shape)}")
    total = np.zeros_like(background)
    occupied = occupancy.occupied.numpy()
    for i, rays in enumerate(views):
        sun = np.array(SUN) + _SUN_WIDTH * np.array([_SUB_PIXELS[i][0], _SUB_PIXELS[i][1], 0.0]) * 4
        picture = background.copy()
        depth = _draw_plate(picture, occupancy.grid, rays) if not by_height else np.full(len(picture), np.inf)
        surface = find_surface(occupied, occupancy.grid, rays)
        light = face_light(surface) * (0.60 + 0.40 * sun_light(occupied, occupancy.grid, surface, sun))
        light *= 0.35 + 0.65 * corner_shade(occupied, surface)
        footprint = (pixel_size + pixel_angle * surface.distance) / float(np.mean(occupancy.grid.voxel_size))
        light *= border_line(surface, footprint)
        if by_height:
            light *= 0.80 + 0.28 * (surface.index[:, 2] + 1) / occupancy.grid.shape[2]
        picture[surface.ray] = colours_of(occupancy, surface) * np.minimum(1.12 * light, 1.08)[:, None]
        depth[surface.ray] = surface.distance
        if ego is not None:
            _draw_car(picture, depth, rays, ego)
        total += np.clip(picture, 0, 1)
    return (total * (255.0 / len(views))).round().astype(np.uint8)


def _draw_plate(picture: FloatArray, grid: VoxelGrid, rays: Rays) -> FloatArray:
    """Draw the plate below the volume with a line each ten metres; return the distance of what was drawn."""
    origin, direction = rays.origins.numpy(), rays.directions.numpy()
    with np.errstate(divide="ignore", invalid="ignore"):
        reach = (grid.origin[2] - origin[:, 2]) / direction[:, 2]
    x, y = (origin[:, :2] + reach[:, None] * direction[:, :2]).T
    on = (reach > 0) & (x > grid.origin[0]) & (x < grid.upper[0]) & (y > grid.origin[1]) & (y < grid.upper[1])
    line = np.zeros(len(x), dtype=bool)
    for value in (x, y):
        line |= np.abs(value / 10 - np.round(value / 10)) < 0.008
    picture[on] = np.where(line[on, None], _PLATE * 0.9, _PLATE)
    return np.where(on, reach, np.inf)


def _draw_car(picture: FloatArray, depth: FloatArray, rays: Rays, ego: EgoCar) -> None:
    """Draw the boxes of the car where they are nearer than what `depth` says."""
    origin, direction = rays.origins.T.numpy(), rays.directions.T.numpy()
    slope = 1 / np.where(direction == 0, 1e-12, direction)
    for (lower, upper), colour in zip(ego.boxes(), ((0.97, 0.97, 0.97), (0.16, 0.19, 0.24)), strict=True):
        first, second = (lower[:, None] - origin) * slope, (upper[:, None] - origin) * slope
        x, y, z = np.minimum(first, second)
        near = np.maximum(np.maximum(x, y), z)
        seen = np.nonzero((np.maximum(first, second).min(axis=0) > near) & (near > 0) & (near < depth))[0]
        axis = np.stack([x[seen], y[seen], z[seen]]).argmax(axis=0)
        rising = direction[axis, seen] < 0
        light = np.array([[0.72, 0.60], [0.55, 0.85], [0.5, 1.0]])[axis, rising.astype(int)]
        picture[seen] = np.array(colour) * light[:, None]
        depth[seen] = near[seen]


def _draw_rings(picture: Picture, grid: VoxelGrid, scale: float, rings: Sequence[float]) -> Picture:
    """Blend circles around the origin into a picture from above and name their radius."""
    height, width = picture.shape[:2]
    v0, u0 = grid.upper[0] * scale, grid.upper[1] * scale
    v, u = np.mgrid[:height, :width].astype(np.float32) + 0.5
    radius = np.hypot(v - v0, u - u0)
    alpha = np.zeros((height, width), dtype=np.float32)
    for ring in rings:
        alpha = np.maximum(alpha, np.clip(1.2 - np.abs(radius - ring * scale), 0, 1))
    result = (picture * (1 - 0.55 * alpha[..., None]) + 255 * 0.55 * alpha[..., None]).round().astype(np.uint8)
    size = max(10, round(width * 0.026))
    for ring in rings:
        at = (u0, v0 - ring * scale)
        if at[1] > size and ring * scale < max(height, width):
            result = canvas.write_text(
                result, f"{ring:.0f} m", at=at, size=size, colour=canvas.PAPER, anchor="mm", halo=canvas.INK
            )
    return result
