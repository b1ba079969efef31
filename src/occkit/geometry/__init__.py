"""WHERE: voxel grids and contracted space, poses, cameras and rays.

Tensors and small frozen dataclasses; nothing here knows a file or a network.
"""

from occkit.geometry.cameras import Cameras, distort, project, project_depth, undistort
from occkit.geometry.contraction import ContractedGrid, contract, uncontract
from occkit.geometry.depths import contracted_depths, jitter_depths, linear_depths
from occkit.geometry.grids import (
    KITTI_GRID,
    OCC3D_GRID,
    VoxelGrid,
)
from occkit.geometry.poses import (
    compensate_motion,
    ego_motion,
    invert_pose,
    pose_from_quaternion,
    pose_from_rotation_translation,
    quaternion_from_rotation,
    rotation_from_quaternion,
    rotation_from_yaw,
    transform_points,
)
from occkit.geometry.rays import Rays, camera_rays, fan_rays, intersect_box

__all__ = [
    "KITTI_GRID",
    "OCC3D_GRID",
    "Cameras",
    "ContractedGrid",
    "Rays",
    "VoxelGrid",
    "camera_rays",
    "compensate_motion",
    "contract",
    "contracted_depths",
    "distort",
    "ego_motion",
    "fan_rays",
    "intersect_box",
    "invert_pose",
    "jitter_depths",
    "linear_depths",
    "pose_from_quaternion",
    "pose_from_rotation_translation",
    "project",
    "project_depth",
    "quaternion_from_rotation",
    "rotation_from_quaternion",
    "rotation_from_yaw",
    "transform_points",
    "uncontract",
    "undistort",
]
