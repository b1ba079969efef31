"""Drawings over a camera image: the voxels as this camera would see them, and the LiDAR points it should agree with."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool, Float
from PIL import Image, ImageDraw
from torch import Tensor

from occkit.geometry import Cameras, Rays, camera_rays
from occkit.geometry.rays import pixel_grid
from occkit.samples import Occupancy
from occkit.viewer import canvas
from occkit.viewer.canvas import Picture
from occkit.viewer.surface import border_line, colours_of, corner_shade, face_light, find_surface


def _check(image: Picture, camera: Cameras) -> None:
    if tuple(camera.batch_shape):
        raise ValueError(f"camera: expected one camera, got leading dimensions {tuple(camera.batch_shape)}; index it")
    if image.shape != (camera.height, camera.width, 3):
        raise ValueError(
            f"image: expected [{camera.height}, {camera.width}, 3] as its camera says, got {list(image.shape)}; "
            "use Cameras.resize or crop together with the image"
        )


def draw_overlay(
    image: Picture,
    camera: Cameras,
    occupancy: Occupancy,
    *,
    alpha: float = 0.55,
    strength: Sequence[float] | None = None,
    stride: int = 1,
    min_depth: float = 1.0,
) -> Picture:
    """Draw occupied voxels over the image of a camera, through its own intrinsics, pose and lens.

    Each pixel casts a ray (through the lens model backwards, where there is one) and takes the colour of the first
    occupied voxel, fainter with the depth. A pixel whose ray meets nothing keeps the image's value exactly.

    Args:
        image: `[h, w, 3]`.
        camera: the one that took the image, pose in the frame of the volume; no leading dimensions.
        occupancy: `[x, y, z]`.
        alpha: weight of the voxel colour near the camera; it falls to half of that at 40 m.
        strength: factor of this weight for each id of the taxonomy, 0..1: some classes may be painted thinner, and
            still hide what is behind them. Default: all alike.
        stride: cast one ray for each `stride` x `stride` block of pixels.
        min_depth: voxels nearer than this (z, metres) are looked through: the camera's own car.

    Returns:
        A new picture of the same size.

    Raises:
        ValueError: if image and camera do not fit.
    """
    _check(image, camera)
    height, width = camera.height // stride, camera.width // stride
    pixels = pixel_grid(camera.height, camera.width, stride=stride).double()
    double = camera.map(lambda tensor: tensor.double())
    rays = camera_rays(double, pixels)
    valid = _through_lens(double, pixels)
    kept = torch.nonzero(valid).flatten()
    occupied = occupancy.occupied.numpy()
    surface = find_surface(
        occupied,
        occupancy.grid,
        Rays(origins=rays.origins[kept], directions=rays.directions[kept]),
        min_distance=min_depth,
    )
    light = face_light(surface) * (0.5 + 0.5 * corner_shade(occupied, surface))
    footprint = stride * surface.distance / float(camera.intrinsics[0, 0]) / float(np.mean(occupancy.grid.voxel_size))
    colour = colours_of(occupancy, surface) * (light * border_line(surface, footprint) ** 1.6)[:, None]
    weight = np.zeros(height * width, dtype=np.float32)
    paint = np.zeros((height * width, 3), dtype=np.float32)
    where = kept.numpy()[surface.ray]
    weight[where] = alpha * (1.0 - 0.5 * np.minimum(surface.distance / 40.0, 1.0))
    if strength is not None:
        weight[where] *= np.asarray(strength, np.float32)[occupancy.semantics.numpy()[tuple(surface.index.T)]]
    paint[where] = 255.0 * colour
    return _blend(image, paint.reshape(height, width, 3), weight.reshape(height, width), stride)


def _blend(image: Picture, paint: Float[np.ndarray, "h w 3"], weight: Float[np.ndarray, "h w"], stride: int) -> Picture:
    """Mix a coarser painting into the image; rows and columns beyond the last whole block stay as they are."""
    large, heavy = (np.repeat(np.repeat(part, stride, axis=0), stride, axis=1) for part in (paint, weight))
    result = image.copy()
    rows, columns = heavy.shape
    under = image[:rows, :columns].astype(np.float32)
    mixed = under + (large - under) * heavy[..., None]
    result[:rows, :columns] = np.where(heavy[..., None] > 0, mixed.round(), under).astype(np.uint8)
    return result


def _through_lens(camera: Cameras, pixels: Float[Tensor, "n 2"]) -> Bool[Tensor, "n"]:
    """Where the way back through the lens leads to a ray that the lens maps to this very pixel.

    Outside of what a lens model was fitted on there may be none.
    """
    if camera.distortion is None:
        return torch.ones(len(pixels), dtype=torch.bool)
    points = camera.unproject(pixels, torch.full_like(pixels[:, 0], 10.0))
    again, _, visible = camera.project(points)
    return visible & ((again - pixels).abs() < 0.5).all(dim=-1)


def draw_points(
    image: Picture,
    camera: Cameras,
    points: Float[Tensor, "p c"],
    *,
    max_depth: float = 50.0,
    radius: float | None = None,
    colour_bar: bool = True,
) -> Picture:
    """Draw LiDAR points over the image of a camera, coloured by depth, the near ones on top.

    The motion between the LiDAR's and the camera's exposure is compensated as far as the pose of the camera is
    (`Sample.cameras` is).

    Args:
        image: `[h, w, 3]`.
        camera: the one that took the image, pose in the frame of the points; no leading dimensions.
        points: `x, y, z` in metres, and columns that are not looked at.
        max_depth: z-depth at the red end of the colours, metres.
        radius: of a dot, pixels; default: a five-hundredth of the width.
        colour_bar: say in a corner what the colours mean.

    Returns:
        A new picture of the same size.

    Raises:
        ValueError: if image and camera do not fit.
    """
    _check(image, camera)
    pixels, depth, visible = camera.map(lambda tensor: tensor.double()).project(points[:, :3].double())
    order = torch.argsort(depth[visible], descending=True)
    at = pixels[visible][order].numpy()
    colours = canvas.turbo(depth[visible][order].numpy() / max_depth)
    result = Image.fromarray(
        _dots(image, at, colours, radius if radius is not None else max(1.0, image.shape[1] / 500))
    )
    picture = np.asarray(result)
    return canvas.add_colour_bar(picture, low=0, high=max_depth, unit="m") if colour_bar else picture


def _dots(image: Picture, at: npt.NDArray[np.float64], colours: npt.NDArray[np.uint8], radius: float) -> Picture:
    """Draw round dots in order; centres are pixel coordinates with pixel centres at +0.5."""
    sheet = Image.fromarray(image)
    draw = ImageDraw.Draw(sheet)
    for (u, v), colour in zip(at - 0.5, colours, strict=True):  # Pillow's pixel centres are at whole numbers
        draw.ellipse(
            (u - radius, v - radius, u + radius, v + radius), fill=(int(colour[0]), int(colour[1]), int(colour[2]))
        )
    return np.asarray(sheet)
