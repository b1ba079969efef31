"""Tiny data sets in the real layouts, written independently of `occkit.world`.

The nuScenes-like car drives along a curve; its sensors expose at different times, as real ones do.
"""

import json
import math
from pathlib import Path

import numpy as np
from PIL import Image

SIZE = (48, 64)
"""(height, width) of the images."""
SHAPE = (20, 20, 4)
"""Labels over Occ3D's box."""
INTRINSICS = np.array([[30.0, 0, 33], [0, 30, 20], [0, 0, 1]])
FORWARD = np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])
"""ego_from_camera rotation of a camera that looks along the car's x axis."""
CAMERAS = ("CAM_FRONT", "CAM_BACK")
EXPOSURE = {"CAM_FRONT": -0.04, "CAM_BACK": 0.03, "LIDAR_TOP": 0.0}
"""Seconds after the reference time."""


def pose(rotation, translation):
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = rotation, translation
    return matrix


def yaw(angle):
    c, s = math.cos(angle), math.sin(angle)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])


def ego_at(seconds):
    """global_from_ego of a car that does 10 m/s in a left curve, far from the origin of the world."""
    return pose(yaw(0.2 * seconds), (1500 + 10 * seconds, 900 + seconds**2, 0.1))


def mountings():
    turned = yaw(math.pi)
    return {
        "CAM_FRONT": pose(FORWARD, (1.7, 0.0, 1.5)),
        "CAM_BACK": pose(turned @ FORWARD, (-0.5, 0.1, 1.5)),
        "LIDAR_TOP": pose(yaw(-math.pi / 2), (0.94, 0, 1.84)),
    }


def quaternion(rotation):
    """Rotations about z, and the two camera mountings: by the eigenvector of the symmetric matrix of Bar-Itzhack."""
    m = rotation
    k = np.array(
        [
            [m[0, 0] - m[1, 1] - m[2, 2], 0, 0, 0],
            [m[0, 1] + m[1, 0], m[1, 1] - m[0, 0] - m[2, 2], 0, 0],
            [m[0, 2] + m[2, 0], m[1, 2] + m[2, 1], m[2, 2] - m[0, 0] - m[1, 1], 0],
            [m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1], m.trace()],
        ]
    )
    x, y, z, w = np.linalg.eigh(k)[1][:, -1]
    return [float(v) for v in (w, x, y, z)]


def pose_fields(matrix):
    return {"rotation": quaternion(matrix[:3, :3]), "translation": matrix[:3, 3].tolist()}


def save(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def picture(path, size=SIZE, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 255, (size[0] // 8 + 1, size[1] // 8 + 1, 3), dtype=np.uint8)
    Image.fromarray(noise).resize((size[1], size[0])).save(path)


def world_points():
    """Static points of the world in front of, behind and beside the car, global frame."""
    rng = np.random.default_rng(7)
    local = rng.uniform((-35, -35, -0.5), (35, 35, 3), (400, 3))
    return local @ ego_at(0.5)[:3, :3].T + ego_at(0.5)[:3, 3]


def write_nuscenes(
    root, *, version="v1.0-trainval", scenes=("scene-0001", "scene-0002"), frames=3, val=("scene-0002",), labels=True
) -> Path:
    """Write the layout; scene k is the same drive with other tokens. Returns the root."""
    tables = {name: [] for name in ("scene", "sample", "sample_data", "calibrated_sensor", "ego_pose", "sensor", "log")}
    for channel, mounting in mountings().items():
        lidar = channel == "LIDAR_TOP"
        tables["sensor"].append(
            {"token": f"s-{channel}", "channel": channel, "modality": "lidar" if lidar else "camera"}
        )
        tables["calibrated_sensor"].append(
            {
                "token": f"c-{channel}",
                "sensor_token": f"s-{channel}",
                "camera_intrinsic": [] if lidar else INTRINSICS.tolist(),
                **pose_fields(mounting),
            }
        )
    for number, scene in enumerate(scenes):
        tables["scene"].append({"token": f"t-{scene}", "name": scene, "nbr_samples": frames})
        for frame in range(frames):
            _write_sample(root, tables, scene, frame, number, labels=labels)
    for name, records in tables.items():
        # Tables are lists in no particular order; poses come reversed to show that nothing relies on it.
        save(root / version / f"{name}.json", records[::-1])
    if val is not None:
        save(root / "annotations.json", {"train_split": [s for s in scenes if s not in val], "val_split": list(val)})
    return root


def _write_sample(root, tables, scene, frame, number, *, labels):
    token, seconds = f"{scene[-4:]}f{frame}", 0.5 * frame
    stamp = 1_600_000_000_000_000 + number * 10**8 + round(seconds * 1e6)
    tables["sample"].append({"token": token, "scene_token": f"t-{scene}", "timestamp": stamp})
    for channel in mountings():
        ego = ego_at(seconds + EXPOSURE[channel])
        name = f"{token}-{channel}" + (".pcd.bin" if channel == "LIDAR_TOP" else ".png")
        for key in (True, False):
            tables["ego_pose"].append({"token": f"p-{token}-{channel}-{key}", "timestamp": stamp, **pose_fields(ego)})
            tables["sample_data"].append(
                {
                    "token": f"d-{token}-{channel}-{key}",
                    "sample_token": token,
                    "ego_pose_token": f"p-{token}-{channel}-{key}",
                    "calibrated_sensor_token": f"c-{channel}",
                    "filename": f"samples/{channel}/{name}" if key else f"sweeps/{channel}/{name}",
                    "timestamp": stamp + round(EXPOSURE[channel] * 1e6),
                    "is_key_frame": key,
                    "height": 0 if channel == "LIDAR_TOP" else SIZE[0],
                    "width": 0 if channel == "LIDAR_TOP" else SIZE[1],
                }
            )
        path = root / "samples" / channel / name
        if channel == "LIDAR_TOP":
            write_sweep(path, ego)
        else:
            picture(path, seed=frame)
    if labels:
        folder = root / "gts" / scene / token
        folder.mkdir(parents=True)
        semantics = np.random.default_rng(frame).choice([17, 17, 4, 11], SHAPE).astype(np.uint8)
        np.savez_compressed(
            folder / "labels.npz",
            semantics=semantics,
            mask_lidar=(semantics != 17).astype(np.uint8),
            mask_camera=np.ones(SHAPE, np.uint8),
        )


def write_sweep(path, ego):
    path.parent.mkdir(parents=True, exist_ok=True)
    sensor_from_global = np.linalg.inv(ego @ mountings()["LIDAR_TOP"])
    points = world_points() @ sensor_from_global[:3, :3].T + sensor_from_global[:3, 3]
    columns = np.concatenate([points, np.full((len(points), 1), 51.0), np.zeros((len(points), 1))], axis=1)
    columns.astype("<f4").tofile(path)


P2_SHIFT = np.array([0.06, -0.0002, 0.003])
"""Camera 2 beside camera 0, metres, camera frame: what the fourth column of P2 says."""
TR = pose(np.array([[0.0, -1, 0], [0, 0, -1], [1, 0, 0]]), (0.01, -0.08, -0.27))
"""camera0_from_velodyne."""


def kitti_pose(scan):
    """camera0(0)_from_camera0(scan): forward along z, turning left."""
    c, s = math.cos(0.02 * scan), math.sin(0.02 * scan)
    return pose(np.array([[c, 0, -s], [0, 1, 0], [s, 0, c]]), (-0.01 * scan**2, 0, 0.8 * scan))


def write_kitti(root, *, sequences=("00", "08", "11"), level="dataset", scans=11, size=(32, 96)) -> Path:
    """Write sequences with voxel frames 0, 5, 10 on a 32 x 32 x 4 grid; 11 and later without labels."""
    matrix = np.array([[50.0, 0, 47], [0, 50, 14], [0, 0, 1]])
    rng = np.random.default_rng(3)
    for sequence in sequences:
        folder = root / level / "sequences" / sequence
        for name in ("voxels", "velodyne", "image_2", "image_3"):
            (folder / name).mkdir(parents=True)
        shifts = {"P0": np.zeros(3), "P1": (-0.54, 0, 0), "P2": P2_SHIFT, "P3": P2_SHIFT - (0.54, 0, 0)}
        lines = {name: matrix @ np.column_stack([np.eye(3), shift]) for name, shift in shifts.items()} | {"Tr": TR[:3]}
        text = "".join(f"{k}: {' '.join(f'{v:.12e}' for v in m.ravel())}\n" for k, m in lines.items())
        (folder / "calib.txt").write_text(text)
        rows = [" ".join(f"{v:.9e}" for v in kitti_pose(k)[:3].ravel()) for k in range(scans)]
        (folder / "poses.txt").write_text("\n".join(rows) + "\n")
        (folder / "times.txt").write_text("".join(f"{0.1 * k:.6e}\n" for k in range(scans)))
        for scan in range(0, scans, 5):
            stem = f"{scan:06d}"
            picture(folder / "image_2" / f"{stem}.png", size, seed=scan)
            picture(folder / "image_3" / f"{stem}.png", size, seed=scan)
            points = rng.uniform((2, -20, -2), (50, 20, 2), (200, 3))
            np.column_stack([points, rng.uniform(0, 1, 200)]).astype("<f4").tofile(folder / "velodyne" / f"{stem}.bin")
            ids = rng.choice([0, 0, 0, 10, 40, 52, 99, 252], (32, 32, 4)).astype("<u2")
            np.packbits(ids.ravel() > 0).tofile(folder / "voxels" / f"{stem}.bin")
            if sequence < "11":
                ids.tofile(folder / "voxels" / f"{stem}.label")
                np.packbits(rng.random(ids.size) < 0.2).tofile(folder / "voxels" / f"{stem}.invalid")
    return root


def rig_document():
    """A rig of two unlike cameras and a LiDAR, whose front camera exposed before the reference time."""
    ego, late = ego_at(0.0), ego_at(-0.04)
    cameras = [
        {
            "name": "front",
            "image": "images/front.png",
            "width": SIZE[1],
            "height": SIZE[0],
            "intrinsics": INTRINSICS.tolist(),
            "ego_from_camera": mountings()["CAM_FRONT"].tolist(),
            "global_from_ego": late.tolist(),
            "distortion": [-0.1, 0.01, 0.001, 0.0],
        },
        {
            "name": "back",
            "image": "images/back.png",
            "width": 32,
            "height": 20,
            "intrinsics": [[15.0, 0, 16], [0, 15, 10], [0, 0, 1]],
            "ego_from_camera": mountings()["CAM_BACK"].tolist(),
        },
    ]
    lidar = {
        "points": "sweep.bin",
        "columns": ["x", "y", "z", "intensity", "ring"],
        "ego_from_lidar": mountings()["LIDAR_TOP"].tolist(),
    }
    return {"token": "one", "timestamp": 12.5, "global_from_ego": ego.tolist(), "cameras": cameras, "lidar": lidar}


def write_rig(folder, document=None) -> Path:
    """Write the rig and its files; returns the path of `rig.json`."""
    save(folder / "rig.json", rig_document() if document is None else document)
    picture(folder / "images" / "front.png", SIZE)
    picture(folder / "images" / "back.png", (20, 32))
    write_sweep(folder / "sweep.bin", ego_at(0.0))
    return folder / "rig.json"
