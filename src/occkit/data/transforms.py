"""What is done to a sample before the network sees it, with the cameras, points and labels kept in step.

Images: resize, crop, mirror, rotate, all followed exactly by the camera matrix; colours. Volumes: mirroring along x or
y, applied to labels, masks, points and camera poses together. Chance comes from the generator handed in; `misjudge`,
which spoils cameras on purpose, has it from the frame's name.
"""

import hashlib
import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from PIL import Image, ImageEnhance
from torch import Tensor

from occkit.geometry import Cameras, VoxelGrid, transform_points
from occkit.samples import FeatureRays, Occupancy, Sample


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """Random changes of a training sample; the defaults are those of BEVDet."""

    scale: tuple[float, float] = (-0.06, 0.11)
    """Range added to the base scale of an image (network width / stored width)."""
    rotate_degrees: float = 5.4
    """Images are rotated by up to so many degrees either way."""
    mirror_image: float = 0.5
    """Probability that an image is mirrored left to right."""
    flip_x: float = 0.5
    """Probability that the volume is mirrored along x."""
    flip_y: float = 0.5
    """Probability that the volume is mirrored along y."""
    brightness: float = 0.0
    """Colours are multiplied by up to so much more or less than 1."""
    contrast: float = 0.0
    """Their distance to the image's mean grey is multiplied by up to so much more or less than 1."""


@dataclass(frozen=True, kw_only=True)
class ImagePlan:
    """What happens to one image: resize, cut a window, mirror the window, rotate it about its centre."""

    resized: tuple[int, int]
    """(height, width) after the resize, pixels."""
    top: int
    """First row of the window; negative rows are black."""
    left: int
    """First column of the window; negative columns are black."""
    height: int
    """Rows of the window and of the result."""
    width: int
    """Columns of the window and of the result."""
    mirror: bool = False
    """Left to right."""
    rotate_degrees: float = 0.0
    """From the image's x axis (right) towards its y axis (down)."""
    brightness: float = 1.0
    """Factor of the colours."""
    contrast: float = 1.0
    """Factor of their distance to the image's mean grey, after that."""

    def window_matrix(self) -> npt.NDArray[np.float64]:
        """Return the 3x3 map of pixel coordinates inside the window, homogeneous (u, v, 1): mirror, then rotate."""
        matrix = np.diag([-1.0, 1.0, 1.0]) if self.mirror else np.eye(3)
        matrix[0, 2] = self.width if self.mirror else 0.0
        angle = math.radians(self.rotate_degrees)
        cos, sin = math.cos(angle), math.sin(angle)
        u, v = self.width / 2, self.height / 2
        rotation = np.array([[cos, -sin, u - cos * u + sin * v], [sin, cos, v - sin * u - cos * v], [0, 0, 1]])
        return rotation @ matrix


def plan_image(
    stored: tuple[int, int],
    target: tuple[int, int],
    *,
    keep_aspect: bool,
    augment: AugmentConfig | None = None,
    rng: np.random.Generator | None = None,
) -> ImagePlan:
    """Decide how an image comes to the network's size.

    With `keep_aspect` the image is scaled to the target's width and its bottom rows are kept: the top, mostly sky, is
    cut off (or padded black, if the image is too flat). Otherwise both axes are scaled on their own.

    Args:
        stored: (height, width) of the file, pixels.
        target: (height, width) for the network, pixels.
        keep_aspect: see above.
        augment: random changes; needs `rng`.
        rng: where chance comes from.
    """
    height, width = target
    if augment is None or rng is None:
        if not keep_aspect:
            return ImagePlan(resized=target, top=0, left=0, height=height, width=width)
        rows = max(1, round(stored[0] * width / stored[1]))
        return ImagePlan(resized=(rows, width), top=rows - height, left=0, height=height, width=width)
    # The order of the draws is fixed, so that switching one change off does not shift the others.
    grow, turn, shift, coin = rng.uniform(*augment.scale), rng.uniform(-1, 1), rng.uniform(), rng.uniform()
    brighter, stronger = rng.uniform(-1, 1, 2)
    scale_x = width / stored[1] + grow
    scale_y = scale_x if keep_aspect else height / stored[0] * scale_x / (width / stored[1])
    rows, columns = max(1, round(stored[0] * scale_y)), max(1, round(stored[1] * scale_x))
    return ImagePlan(
        resized=(rows, columns),
        top=rows - height,
        left=int(shift * (max(0, columns - width) + 1)),
        height=height,
        width=width,
        mirror=bool(coin < augment.mirror_image),
        rotate_degrees=float(turn * augment.rotate_degrees),
        brightness=float(1 + brighter * augment.brightness),
        contrast=float(1 + stronger * augment.contrast),
    )


def carry_out(image: Image.Image, plan: ImagePlan, resampling: Image.Resampling) -> Image.Image:
    """Return an image of any mode at the network's size; 0 where there was none."""
    rows, columns = plan.resized
    if image.size != (columns, rows):
        image = image.resize((columns, rows), resampling)
    window = (plan.left, plan.top, plan.left + plan.width, plan.top + plan.height)
    if window != (0, 0, columns, rows):
        image = image.crop(window)
    if plan.mirror or plan.rotate_degrees:
        # Pillow wants the map from the result to the source, in pixel coordinates with centres at +0.5, as ours.
        inverse = np.linalg.inv(plan.window_matrix())
        image = image.transform(image.size, Image.Transform.AFFINE, tuple(inverse[:2].ravel()), resampling)
    return image


def apply_to_image(image: Image.Image, plan: ImagePlan) -> npt.NDArray[np.uint8]:
    """Carry out a plan on an RGB image; returns uint8 `[3, height, width]`, black where there was no image."""
    placed = carry_out(image, plan, Image.Resampling.BILINEAR)
    if plan.brightness != 1.0:
        placed = ImageEnhance.Brightness(placed).enhance(plan.brightness)
    if plan.contrast != 1.0:
        placed = ImageEnhance.Contrast(placed).enhance(plan.contrast)
    return np.ascontiguousarray(np.asarray(placed).transpose(2, 0, 1))


def apply_to_cameras(cameras: Cameras, plan: ImagePlan) -> Cameras:
    """Return the cameras of images that went through a plan.

    Mirroring makes the horizontal focal length negative: `u' = width - u`. Lens coefficients act before the matrix and
    stay as they are.
    """
    moved = cameras.resize(*plan.resized).crop(top=plan.top, left=plan.left, height=plan.height, width=plan.width)
    if not plan.mirror and not plan.rotate_degrees:
        return moved
    matrix = torch.from_numpy(plan.window_matrix()).to(moved.intrinsics)
    return replace(moved, intrinsics=matrix @ moved.intrinsics)


def misjudge(cameras: Cameras, pixels: float, token: str) -> Cameras:
    """Return cameras whose principal points are wrong by chance, as a calibration that has drifted.

    Args:
        cameras: leading dimensions `[rows, n]`; a camera is wrong in the same way in all its rows.
        pixels: standard deviation of the error, horizontally and vertically.
        token: name of the frame; the same name, the same error.
    """
    if not pixels:
        return cameras
    seed = int.from_bytes(hashlib.sha256(token.encode()).digest()[:8], "big")
    error = np.random.default_rng(seed).normal(0.0, pixels, (cameras.batch_shape[-1], 2))
    intrinsics = cameras.intrinsics.clone()
    intrinsics[..., :2, 2] += torch.from_numpy(error).to(intrinsics)
    return replace(cameras, intrinsics=intrinsics)


def reflection(grid: VoxelGrid, *, x: bool, y: bool) -> Float[Tensor, "4 4"]:
    """Return the 4x4 mirroring about the middle of a grid along x and/or y, float64; it is its own inverse."""
    matrix = torch.eye(4, dtype=torch.float64)
    for axis, flip in enumerate((x, y)):
        if flip:
            matrix[axis, axis] = -1.0
            matrix[axis, 3] = grid.origin[axis] + grid.upper[axis]
    return matrix


def mirror_cameras(cameras: Cameras, grid: VoxelGrid, *, x: bool, y: bool) -> Cameras:
    """Return cameras of any leading dimensions with their poses mirrored: `F @ ego_from_camera`, see `reflection`."""
    poses = cameras.ego_from_camera
    matrix = reflection(grid, x=x, y=y).to(poses.device)
    return replace(cameras, ego_from_camera=(matrix @ poses.double()).to(poses))


def hide_label(label: Occupancy, *, ignore_id: int) -> Occupancy:
    """Return a label of the same grid that says nothing: all of it is ignored, and no voxel is marked as seen."""
    nowhere = torch.zeros_like(label.semantics, dtype=torch.bool)
    return replace(
        label,
        semantics=torch.full_like(label.semantics, ignore_id),
        mask_camera=None if label.mask_camera is None else nowhere,
        mask_lidar=None if label.mask_lidar is None else nowhere,
    )


def flip_volume(sample: Sample, *, x: bool = False, y: bool = False) -> Sample:
    """Mirror the reference frame of a sample about the middle of its grid; images and depth maps stay as they are.

    With `F` the mirroring, labels, masks and a teacher's volumes are reversed along their axes, points become `F p` and
    camera poses `F @ ego_from_camera`. Such a pose is a reflection (determinant -1), yet its block is still orthogonal,
    so its transpose still inverts it, and a voxel is still seen in the pixel in which it was seen. `global_from_ego`
    becomes `global_from_ego @ F`. Rays start at `F o` and keep the features that were seen along them.
    """
    if not x and not y:
        return sample
    matrix = reflection(sample.grid, x=x, y=y)
    axes = [axis - 3 for axis, flip in enumerate((x, y)) if flip]
    points = sample.points
    if points is not None:
        points = torch.cat([transform_points(matrix.to(points), points[:, :3]), points[:, 3:]], dim=-1)
    return replace(
        sample,
        cameras=mirror_cameras(sample.cameras, sample.grid, x=x, y=y),
        source_cameras=(
            None if sample.source_cameras is None else mirror_cameras(sample.source_cameras, sample.grid, x=x, y=y)
        ),
        points=points,
        occupancy=None if sample.occupancy is None else sample.occupancy.map(lambda volume: volume.flip(axes)),
        global_from_ego=None if sample.global_from_ego is None else sample.global_from_ego @ matrix,
        teaching=None if sample.teaching is None else sample.teaching.map(lambda volume: volume.flip(axes)),
        feature_rays=None if sample.feature_rays is None else _mirror_rays(sample.feature_rays, matrix),
    )


def _mirror_rays(rays: FeatureRays, matrix: Float[Tensor, "4 4"]) -> FeatureRays:
    mirror, motion = matrix.to(rays.origins), rays.motion
    if motion is not None:
        motion = replace(motion, box_from_ego=motion.box_from_ego @ mirror, ego_from_box=mirror @ motion.ego_from_box)
    return replace(
        rays,
        origins=transform_points(mirror, rays.origins),
        directions=rays.directions @ mirror[:3, :3].mT,
        motion=motion,
    )
