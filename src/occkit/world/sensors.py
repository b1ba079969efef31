"""What the vehicle carries: camera rigs with their exposure delays, and scanning LiDARs."""

from dataclasses import dataclass, replace
from math import radians, tan

import numpy as np

from occkit.world.primitives import Floats, yaw_matrix

CAMERA_AXES = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])
"""ego-from-camera rotation of a camera that looks forward (x right, y down, z forward)."""


def pose(rotation: Floats, translation: Floats) -> Floats:
    """Assemble `[R t; 0 1]`."""
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = rotation, translation
    return matrix


@dataclass(frozen=True, kw_only=True)
class CameraSpec:
    """One camera of a rig."""

    name: str
    """Channel, for example CAM_FRONT."""
    intrinsics: Floats
    """`[3, 3]` pixels, of the stored image."""
    ego_from_camera: Floats
    """`[4, 4]` mounting."""
    delay: float = 0.0
    """Exposure time minus the frame's reference time, seconds."""
    distortion: tuple[float, ...] = ()
    """Lens coefficients in OpenCV's order, see `geometry.cameras.distort`; empty is a pinhole."""


@dataclass(frozen=True, kw_only=True)
class LidarSpec:
    """A rotating scanner."""

    pitches: tuple[float, ...]
    """Elevation of each beam, degrees, lowest first; the index is the ring."""
    azimuths: int
    """Firings a turn."""
    ego_from_lidar: Floats
    """`[4, 4]` mounting."""
    reach: float = 70.0
    """Longest range, metres."""
    dropout: float = 0.05
    """Share of returns lost at random; dark and distant surfaces lose more."""
    noise: float = 0.015
    """Standard deviation of a range, metres."""

    def directions(self) -> Floats:
        """Return unit directions `[rings * azimuths, 3]` in the LiDAR's own axes, ring by ring."""
        pitch, turn = np.meshgrid(
            np.radians(self.pitches), np.arange(self.azimuths) * (2 * np.pi / self.azimuths), indexing="ij"
        )
        return np.stack([np.cos(pitch) * np.cos(turn), np.cos(pitch) * np.sin(turn), np.sin(pitch)], -1).reshape(-1, 3)


@dataclass(frozen=True, kw_only=True)
class Rig:
    """Everything mounted on the vehicle."""

    cameras: tuple[CameraSpec, ...]
    """Any number, all with the same image size."""
    height: int
    """Image height, pixels."""
    width: int
    """Image width, pixels."""
    lidar: LidarSpec
    """The scanner; its time is the reference time of a frame."""
    ground_clearance: float = 0.0
    """Height of the ego frame's origin above the road, metres: 0 for nuScenes, 1.73 for a KITTI Velodyne frame."""


_SURROUND = (
    # name, forward, left, up (metres), heading (degrees), field of view (degrees), delay (seconds)
    ("CAM_FRONT", 1.70, 0.02, 1.51, 0.0, 70.0, -0.036),
    ("CAM_FRONT_RIGHT", 1.55, -0.49, 1.50, -55.0, 70.0, -0.028),
    ("CAM_BACK_RIGHT", 1.02, -0.48, 1.56, -110.0, 70.0, -0.020),
    ("CAM_BACK", 0.03, 0.0, 1.58, 180.0, 110.0, -0.011),
    ("CAM_BACK_LEFT", 1.04, 0.48, 1.59, 110.0, 70.0, -0.003),
    ("CAM_FRONT_LEFT", 1.52, 0.49, 1.51, 55.0, 70.0, -0.044),
)


def surround_rig(height: int, width: int, *, beams: int, azimuths: int) -> Rig:
    """Six cameras and a roof LiDAR like those of nuScenes.

    The 1600 x 900 image is scaled to `width` and, where `height` is less than that leaves, loses rows at its top, as
    networks on nuScenes usually crop it (where it is more, gains some there).
    """
    scale = width / 1600
    cut = 900 * scale - height
    cameras = []
    for name, x, y, z, heading, field, delay in _SURROUND:
        focal = width / 2 / tan(radians(field / 2))
        camera = np.array([[focal, 0.0, width / 2], [0.0, focal, 450 * scale - cut], [0.0, 0.0, 1.0]])
        mounting = pose(yaw_matrix(radians(heading)) @ CAMERA_AXES, np.array([x, y, z]))
        cameras.append(CameraSpec(name=name, intrinsics=camera, ego_from_camera=mounting, delay=delay))
    # nuScenes LiDAR axes: x right, y forward.
    mounting = pose(yaw_matrix(radians(-90.0)), np.array([0.943713, 0.0, 1.84023]))
    lidar = LidarSpec(pitches=tuple(np.linspace(-30.0, 10.0, beams)), azimuths=azimuths, ego_from_lidar=mounting)
    return Rig(cameras=tuple(cameras), height=height, width=width, lidar=lidar)


def kitti_rig(height: int, width: int, *, beams: int, azimuths: int) -> Rig:
    """The colour stereo pair and the Velodyne of KITTI; the ego frame is the Velodyne frame.

    Images are those of 1241 x 376 cameras scaled to `width`, with rows cut or added at the top. The left camera sits
    6 cm left of the calibration's origin camera 0, the right one 54 cm right of the left one, so that P2 and P3 have
    fourth columns.
    """
    scale = width / 1241
    cut = 376 * scale - height
    focal = 718.856 * scale
    camera = np.array([[focal, 0.0, 607.1928 * scale], [0.0, focal, 185.2157 * scale - cut], [0.0, 0.0, 1.0]])
    left, right = np.array([-0.0600, 0.0003, -0.0027]), np.array([0.4800, 0.0003, -0.0027])
    cameras = tuple(
        CameraSpec(name=name, intrinsics=camera, ego_from_camera=KITTI_EGO_FROM_CAM0 @ pose(np.eye(3), offset))
        for name, offset in (("image_2", left), ("image_3", right))
    )
    lidar = LidarSpec(
        pitches=tuple(np.linspace(-24.8, 2.0, beams)), azimuths=azimuths, ego_from_lidar=np.eye(4), reach=80.0
    )
    return Rig(cameras=cameras, height=height, width=width, lidar=lidar, ground_clearance=1.73)


_OWN_CAR = (
    # name, forward, left, up (metres), heading, downwards (degrees), delay (seconds)
    ("front", 2.10, 0.00, 1.95, 0.0, 4.0, 0.000),
    ("left", 1.20, 0.95, 2.05, 90.0, 12.0, 0.013),
    ("rear", -1.40, 0.10, 2.20, 180.0, 8.0, 0.021),
    ("right", 1.20, -0.95, 2.05, -90.0, 12.0, 0.034),
)
FISHEYE = (4 / 15, 0.0, 0.0008, -0.0012, 0.0, 0.6, 0.0, 0.0)
"""Coefficients of a fisheye lens: `r (15 + 4 r^2) / (15 + 9 r^2)` is close to the angle `atan r`, and the lens sits a
little askew."""
_FISHEYE_FIELD = 118.0


def own_car_rig(height: int, width: int) -> Rig:
    """Four fisheye cameras on the roof of a van, unlike any data set's; they look down a little, one after the other.

    The images have `_FISHEYE_FIELD` degrees across their width. The scanner is there for the truth alone.
    """
    edge = np.tan(np.radians(_FISHEYE_FIELD / 2))
    focal = width / 2 / (edge * (1 + FISHEYE[0] * edge**2) / (1 + FISHEYE[5] * edge**2))
    camera = np.array([[focal, 0.0, 0.51 * width], [0.0, focal, 0.47 * height], [0.0, 0.0, 1.0]])
    cameras = []
    for name, x, y, z, heading, down, delay in _OWN_CAR:
        turn = np.radians(down)
        nod = np.array([[1, 0, 0], [0, np.cos(turn), np.sin(turn)], [0, -np.sin(turn), np.cos(turn)]])
        mounting = pose(yaw_matrix(radians(heading)) @ CAMERA_AXES @ nod, np.array([x, y, z]))
        cameras.append(
            CameraSpec(name=name, intrinsics=camera, ego_from_camera=mounting, delay=delay, distortion=FISHEYE)
        )
    lidar = LidarSpec(
        pitches=tuple(np.linspace(-30.0, 10.0, 24)), azimuths=360, ego_from_lidar=pose(np.eye(3), np.array([0, 0, 2.4]))
    )
    return Rig(cameras=tuple(cameras), height=height, width=width, lidar=lidar)


KITTI_EGO_FROM_CAM0 = pose(CAMERA_AXES, np.array([0.27, 0.0, -0.08]))
"""Velodyne-from-camera-0: the inverse of the calibration's `Tr`."""


def scaled(rig: Rig, factor: float) -> Rig:
    """Return the rig with images of `factor` times the size."""
    height, width = round(rig.height * factor), round(rig.width * factor)
    stretch = np.array([width / rig.width, height / rig.height, 1.0])[:, None]
    cameras = tuple(replace(c, intrinsics=c.intrinsics * stretch) for c in rig.cameras)
    return replace(rig, cameras=cameras, height=height, width=width)
