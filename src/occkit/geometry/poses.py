"""Rigid motions as 4x4 matrices named `dst_from_src`, so that products read: `a_from_c = a_from_b @ b_from_c`."""

import torch
from jaxtyping import Float
from torch import Tensor


def invert_pose(pose: Float[Tensor, "*b 4 4"]) -> Float[Tensor, "*b 4 4"]:
    """Invert a rigid motion: `[R t; 0 1] -> [R^T  -R^T t; 0 1]`.

    Args:
        pose: `dst_from_src`. Its upper 3x3 block must be a rotation; a scaled or sheared matrix gives a wrong inverse.

    Returns:
        `src_from_dst`.
    """
    rotation = pose[..., :3, :3].transpose(-1, -2)
    translation = -rotation @ pose[..., :3, 3:]
    return pose_from_rotation_translation(rotation, translation[..., 0])


def pose_from_rotation_translation(
    rotation: Float[Tensor, "*b 3 3"], translation: Float[Tensor, "*b 3"]
) -> Float[Tensor, "*b 4 4"]:
    """Assemble `[R t; 0 1]`; translation in metres."""
    upper = torch.cat([rotation, translation[..., None]], dim=-1)
    last = upper.new_tensor([0.0, 0.0, 0.0, 1.0]).expand(*upper.shape[:-2], 1, 4)
    return torch.cat([upper, last], dim=-2)


def rotation_from_quaternion(quaternion: Float[Tensor, "*b 4"]) -> Float[Tensor, "*b 3 3"]:
    """Rotation matrix of a quaternion `(w, x, y, z)`; it is normalised first.

    Raises:
        ValueError: if a quaternion has (almost) no length.
    """
    norm = quaternion.norm(dim=-1, keepdim=True)
    if bool((norm < 1e-8).any()):
        raise ValueError("quaternion: expected a rotation (w, x, y, z), got one of length zero")
    w, x, y, z = (quaternion / norm).unbind(-1)
    rows = [
        torch.stack([1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)], dim=-1),
        torch.stack([2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)], dim=-1),
        torch.stack([2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)], dim=-1),
    ]
    return torch.stack(rows, dim=-2)


def quaternion_from_rotation(rotation: Float[Tensor, "*b 3 3"]) -> Float[Tensor, "*b 4"]:
    """Quaternion `(w, x, y, z)` with `w >= 0` of a rotation matrix.

    Of the four equivalent expressions the one with the largest divisor is taken, so no angle loses digits.
    Source: Shepperd, "Quaternion from rotation matrix", 1978.
    """
    m = rotation
    trace = m[..., 0, 0] + m[..., 1, 1] + m[..., 2, 2]
    squares = torch.stack(
        [1 + trace] + [1 + 2 * m[..., i, i] - trace for i in range(3)], dim=-1
    )  # four times the squared components
    a, b, c = m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]
    d, e, f = m[..., 0, 1] + m[..., 1, 0], m[..., 0, 2] + m[..., 2, 0], m[..., 1, 2] + m[..., 2, 1]
    rows = torch.stack(
        [
            torch.stack([squares[..., 0], a, b, c], dim=-1),
            torch.stack([a, squares[..., 1], d, e], dim=-1),
            torch.stack([b, d, squares[..., 2], f], dim=-1),
            torch.stack([c, e, f, squares[..., 3]], dim=-1),
        ],
        dim=-2,
    )
    best = squares.argmax(dim=-1)[..., None, None].expand(*squares.shape[:-1], 1, 4)
    quaternion = rows.gather(-2, best).squeeze(-2)
    quaternion = quaternion / quaternion.norm(dim=-1, keepdim=True)
    return torch.where(quaternion[..., :1] < 0, -quaternion, quaternion)


def pose_from_quaternion(
    quaternion: Float[Tensor, "*b 4"], translation: Float[Tensor, "*b 3"]
) -> Float[Tensor, "*b 4 4"]:
    """Pose of a quaternion `(w, x, y, z)` and a translation in metres, as the nuScenes tables store them."""
    return pose_from_rotation_translation(rotation_from_quaternion(quaternion), translation)


def rotation_from_yaw(yaw: Float[Tensor, "*b"]) -> Float[Tensor, "*b 3 3"]:
    """Rotation about z by `yaw` radians, counter-clockwise seen from above."""
    cos, sin = yaw.cos(), yaw.sin()
    zero, one = torch.zeros_like(yaw), torch.ones_like(yaw)
    rows = [
        torch.stack([cos, -sin, zero], dim=-1),
        torch.stack([sin, cos, zero], dim=-1),
        torch.stack([zero, zero, one], dim=-1),
    ]
    return torch.stack(rows, dim=-2)


def transform_points(pose: Float[Tensor, "*b 4 4"], points: Float[Tensor, "*b n 3"]) -> Float[Tensor, "*b n 3"]:
    """Apply `dst_from_src` to points given in src: `R p + t`.

    Args:
        pose: one matrix for each leading index of `points`.
        points: metres, src frame.

    Returns:
        The points in dst, metres.
    """
    return points @ pose[..., :3, :3].transpose(-1, -2) + pose[..., None, :3, 3]


def compensate_motion(
    ego_from_sensor: Float[Tensor, "*b 4 4"],
    global_from_ego_at_exposure: Float[Tensor, "*b 4 4"],
    global_from_ego: Float[Tensor, "4 4"],
) -> Float[Tensor, "*b 4 4"]:
    """Where a sensor was, in the *reference* ego frame, when it took its measurement.

    `ego(ref)_from_sensor = ego(ref)_from_global @ global_from_ego(exposure) @ ego_from_sensor`

    The car moves up to a few decimetres between the exposure of a camera and the reference time (the LiDAR sweep):
    about a voxel. Past frames are the same case with a longer delay.

    Args:
        ego_from_sensor: the mounting.
        global_from_ego_at_exposure: ego pose when the measurement was taken.
        global_from_ego: ego pose at the reference time.

    Returns:
        The sensor's pose in the reference ego frame. Computed in float64: global coordinates reach kilometres.
    """
    ego_from_global = invert_pose(global_from_ego.double())
    moved = ego_from_global @ global_from_ego_at_exposure.double() @ ego_from_sensor.double()
    return moved.to(ego_from_sensor.dtype)


def ego_motion(ego_from_camera: Float[Tensor, "*b t n 4 4"]) -> Float[Tensor, "*b t 4 4"]:
    """Return the pose of the ego frame at each time in the present one, of cameras that are mounted for good.

    The first camera is taken to sit where it sits now, and to be as late after the reference time as it is now.

    Args:
        ego_from_camera: poses of `n` cameras at `t` times in the present ego frame; time 0 is now.
    """
    first = ego_from_camera[..., 0, :, :].double()
    return (first @ invert_pose(first[..., :1, :, :])).to(ego_from_camera.dtype)
