"""Pinhole cameras with optional lens distortion. OpenCV axes: x right, y down, z forward; pixel centres at +0.5."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from occkit.geometry.poses import invert_pose, transform_points

MIN_DEPTH = 1.0
"""LiDAR points nearer to a camera than this (metres, z) are on the car itself."""


def _distortion_terms(coefficients: Float[Tensor, "*b k"]) -> list[Tensor]:
    count = coefficients.shape[-1]
    if count not in (4, 5, 8):
        raise ValueError(f"distortion: expected 4, 5 or 8 coefficients (k1 k2 p1 p2 [k3 [k4 k5 k6]]), got {count}")
    padded = torch.nn.functional.pad(coefficients, (0, 8 - count))
    return [padded[..., i, None] for i in range(8)]


def distort(points: Float[Tensor, "*b n 2"], coefficients: Float[Tensor, "*b k"]) -> Float[Tensor, "*b n 2"]:
    """Apply the Brown-Conrady (OpenCV) lens model to normalised image coordinates.

    `x' = x (1 + k1 r^2 + k2 r^4 + k3 r^6) / (1 + k4 r^2 + k5 r^4 + k6 r^6) + 2 p1 x y + p2 (r^2 + 2 x^2)`, y alike.

    Args:
        points: `(X / Z, Y / Z)`.
        coefficients: 4, 5 or 8 values `k1 k2 p1 p2 [k3 [k4 k5 k6]]`.

    Returns:
        Distorted normalised coordinates.

    Source: Brown 1966; the order of coefficients is OpenCV's.
    """
    k1, k2, p1, p2, k3, k4, k5, k6 = _distortion_terms(coefficients)
    x, y = points.unbind(-1)
    r2 = x * x + y * y
    radial = (1 + r2 * (k1 + r2 * (k2 + r2 * k3))) / (1 + r2 * (k4 + r2 * (k5 + r2 * k6)))
    return torch.stack(
        [
            x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x),
            y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y,
        ],
        dim=-1,
    )


def undistort(
    points: Float[Tensor, "*b n 2"], coefficients: Float[Tensor, "*b k"], *, iterations: int = 20
) -> Float[Tensor, "*b n 2"]:
    """Invert `distort` by Newton's method on normalised image coordinates.

    Args:
        points: distorted normalised coordinates.
        coefficients: as in `distort`.
        iterations: Newton steps; 20 reach float precision wherever the lens model is one-to-one.

    Returns:
        Undistorted normalised coordinates. Not differentiable: the result is detached.
    """
    target = points.detach().double()
    terms = _distortion_terms(coefficients.detach().double())
    guess = target
    for _ in range(iterations):
        value, (xx, xy, yx, yy) = _distort_with_slopes(guess, terms)
        error_x, error_y = (value - target).unbind(-1)
        determinant = xx * yy - xy * yx
        determinant = torch.where(determinant.abs() < 1e-12, torch.full_like(determinant, 1e-12), determinant)
        step_x = (yy * error_x - xy * error_y) / determinant
        step_y = (xx * error_y - yx * error_x) / determinant
        guess = guess - torch.stack([step_x, step_y], dim=-1).clamp(-0.5, 0.5)
    return guess.to(points.dtype)


def _distort_with_slopes(
    points: Float[Tensor, "*b n 2"], terms: list[Tensor]
) -> tuple[Float[Tensor, "*b n 2"], tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Return distorted coordinates and their derivatives: dx'/dx, dx'/dy, dy'/dx, dy'/dy."""
    k1, k2, p1, p2, k3, k4, k5, k6 = terms
    x, y = points.unbind(-1)
    r2 = x * x + y * y
    top, bottom = 1 + r2 * (k1 + r2 * (k2 + r2 * k3)), 1 + r2 * (k4 + r2 * (k5 + r2 * k6))
    radial = top / bottom
    d_top, d_bottom = k1 + r2 * (2 * k2 + r2 * 3 * k3), k4 + r2 * (2 * k5 + r2 * 3 * k6)
    slope = 2 * (d_top - radial * d_bottom) / bottom  # of `radial`, by r^2 / 2
    value = torch.stack(
        [x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x), y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y],
        dim=-1,
    )
    mixed = x * y * slope + 2 * (p1 * x + p2 * y)
    along_x = radial + x * x * slope + 2 * p1 * y + 6 * p2 * x
    along_y = radial + y * y * slope + 6 * p1 * y + 2 * p2 * x
    return value, (along_x, mixed, mixed, along_y)


def project(
    points: Float[Tensor, "*b n 3"],
    intrinsics: Float[Tensor, "*b 3 3"],
    distortion: Float[Tensor, "*b k"] | None = None,
    *,
    min_depth: float = 1e-3,
) -> tuple[Float[Tensor, "*b n 2"], Float[Tensor, "*b n"]]:
    """Project points of the camera frame into the image.

    `u = fx X / Z + s Y / Z + cx`, `v = fy Y / Z + cy`, with the lens model applied to `(X / Z, Y / Z)` first.

    Args:
        points: metres, camera frame (x right, y down, z forward).
        intrinsics: upper-triangular camera matrix, pixels.
        distortion: lens coefficients, see `distort`.
        min_depth: depths below this (metres) are raised to it before the division, so that nothing is infinite;
            callers test the returned depth.

    Returns:
        pixels: `(u, v)`; the centre of the top-left pixel is (0.5, 0.5).
        depth: z, metres; negative behind the camera.
    """
    depth = points[..., 2]
    normalised = points[..., :2] / depth.clamp(min=min_depth)[..., None]
    if distortion is not None:
        normalised = distort(normalised, distortion)
    homogeneous = torch.cat([normalised, torch.ones_like(normalised[..., :1])], dim=-1)
    pixels = homogeneous @ intrinsics.transpose(-1, -2)
    return pixels[..., :2], depth


@dataclass(frozen=True, kw_only=True)
class Cameras:
    """A stack of cameras of one image size, with any leading dimensions (`[N]`, `[T, N]`, `[B, T, N]`).

    `ego_from_camera` maps the camera frame into the *reference* ego frame of the sample, the motion between exposure
    and reference time included (`geometry.compensate_motion`); past frames are cameras like any other.
    """

    intrinsics: Float[Tensor, "*b 3 3"]
    """Camera matrices, pixels of the images they belong to."""
    ego_from_camera: Float[Tensor, "*b 4 4"]
    """Poses in the reference ego frame, metres."""
    height: int
    """Image height, pixels."""
    width: int
    """Image width, pixels."""
    distortion: Float[Tensor, "*b k"] | None = None
    """Lens coefficients `k1 k2 p1 p2 [k3 [k4 k5 k6]]`; None is a pinhole."""

    @property
    def batch_shape(self) -> torch.Size:
        """The leading dimensions."""
        return self.intrinsics.shape[:-2]

    def __getitem__(self, index: int | slice | Tensor | tuple[int | slice, ...]) -> "Cameras":
        """Index the leading dimensions."""
        return self.map(lambda tensor: tensor[index])

    def map(self, function: Callable[[Tensor], Tensor]) -> "Cameras":
        """Return cameras whose tensors went through `function` (indexing, moving to a device, reshaping in front)."""
        return replace(
            self,
            intrinsics=function(self.intrinsics),
            ego_from_camera=function(self.ego_from_camera),
            distortion=None if self.distortion is None else function(self.distortion),
        )

    def flatten(self) -> "Cameras":
        """Return the same cameras with one leading dimension."""
        return self.map(lambda tensor: tensor.reshape(-1, *tensor.shape[len(self.batch_shape) :]))

    def resize(self, height: int, width: int) -> "Cameras":
        """Return the cameras of the same images resized to `height` x `width` pixels.

        With pixel centres at +0.5 a resize is a plain scaling of the pixel coordinates.
        """
        scale = self.intrinsics.new_tensor([width / self.width, height / self.height, 1.0])
        return replace(self, intrinsics=self.intrinsics * scale[:, None], height=height, width=width)

    def crop(self, *, top: int, left: int, height: int, width: int) -> "Cameras":
        """Return the cameras of the images cut to the given window; `top` and `left` may be negative (padding)."""
        intrinsics = self.intrinsics.clone()
        intrinsics[..., 0, 2] -= left
        intrinsics[..., 1, 2] -= top
        return replace(self, intrinsics=intrinsics, height=height, width=width)

    def project(
        self, points: Float[Tensor, "*b n 3"], *, min_depth: float = 0.1
    ) -> tuple[Float[Tensor, "*b n 2"], Float[Tensor, "*b n"], Bool[Tensor, "*b n"]]:
        """Project points of the ego frame into every camera.

        Args:
            points: metres, reference ego frame; leading dimensions those of the cameras (use `expand` to share points).
            min_depth: nearer points (metres) are not visible.

        Returns:
            pixels: `(u, v)`, pixel centres at +0.5.
            depth: z in the camera frame, metres.
            visible: in front of the camera and inside the image, `0 <= u < width`, `0 <= v < height`. For a distorted
                camera the undistorted ray must also lie where the lens model is one-to-one.
        """
        in_camera = transform_points(invert_pose(self.ego_from_camera), points)
        pixels, depth = project(in_camera, self.intrinsics, self.distortion)
        visible = (
            (depth > min_depth)
            & (pixels[..., 0] >= 0)
            & (pixels[..., 0] < self.width)
            & (pixels[..., 1] >= 0)
            & (pixels[..., 1] < self.height)
        )
        if self.distortion is not None:
            visible &= _one_to_one(in_camera[..., :2] / depth.clamp(min=min_depth)[..., None], self.distortion)
        return pixels, depth, visible

    def unproject(self, pixels: Float[Tensor, "*b n 2"], depth: Float[Tensor, "*b n"]) -> Float[Tensor, "*b n 3"]:
        """Return the ego-frame points (metres) seen at `pixels` at z-depth `depth` (metres); inverse of `project`."""
        directions = self.directions(pixels)
        in_camera = directions * depth[..., None]
        return transform_points(self.ego_from_camera, in_camera)

    def directions(self, pixels: Float[Tensor, "*b n 2"]) -> Float[Tensor, "*b n 3"]:
        """Return the camera-frame direction of each pixel with unit *forward* component, so `point = direction * z`."""
        # The inverse of a 2x2 block, written out: exact, fast, and nothing that an exported graph lacks.
        k = self.intrinsics[..., None, :2, :]
        u, v = (pixels - k[..., 2]).unbind(-1)
        determinant = k[..., 0, 0] * k[..., 1, 1] - k[..., 0, 1] * k[..., 1, 0]
        x = (k[..., 1, 1] * u - k[..., 0, 1] * v) / determinant
        y = (k[..., 0, 0] * v - k[..., 1, 0] * u) / determinant
        xy = torch.stack([x, y], dim=-1)
        if self.distortion is not None:
            xy = undistort(xy, self.distortion)
        return torch.cat([xy, torch.ones_like(xy[..., :1])], dim=-1)


def project_depth(cameras: Cameras, points: Float[Tensor, "p k"]) -> Float[Tensor, "n h w"]:
    """Project LiDAR points into images.

    Args:
        cameras: `n` cameras with poses at their own exposures, in the frame of the points.
        points: metres; columns x, y, z, and any others.

    Returns:
        z-depth of the nearest point that falls into each pixel, metres; 0 where none does. The LiDAR sits higher than
        the cameras and sees over things: some of the depths belong to surfaces the camera does not see.
    """
    height, width = cameras.height, cameras.width
    count = cameras.batch_shape[0]
    pixels, depth, visible = cameras.project(points[None, :, :3].expand(count, -1, -1), min_depth=MIN_DEPTH)
    camera, point = visible.nonzero(as_tuple=True)
    column, row = pixels[camera, point].floor().long().unbind(-1)
    flat = (camera * height + row) * width + column
    image = points.new_full((count * height * width,), math.inf)
    image = image.scatter_reduce(0, flat, depth[camera, point], "amin")
    return torch.where(image.isinf(), 0.0, image).reshape(count, height, width)


def _one_to_one(points: Float[Tensor, "*b n 2"], coefficients: Float[Tensor, "*b k"]) -> Bool[Tensor, "*b n"]:
    """Where the radius still grows under the lens model: beyond that, far-off points fold back into the image."""
    k1, k2, _, _, k3, k4, k5, k6 = _distortion_terms(coefficients)
    r2 = points.square().sum(-1)
    top = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
    bottom = 1 + r2 * (k4 + r2 * (k5 + r2 * k6))
    # d/dr of r * top / bottom, times bottom^2
    d_top = 1 + r2 * (3 * k1 + r2 * (5 * k2 + r2 * 7 * k3))
    d_bottom = r2 * (2 * k4 + r2 * (4 * k5 + r2 * 6 * k6))
    return (d_top * bottom - top * d_bottom > 0) & (bottom > 0)
