"""Tiny but complete data sets: a street of boxes, seen by a LiDAR and one camera, written in the real layouts."""

import numpy as np

from occkit.data.kitti360 import write_invalid
from occkit.data.occ3d import write_labels
from occkit.data.semantickitti import write_label, write_packed
from occkit.files import write_bytes, write_image, write_json
from occkit.geometry import KITTI_GRID, OCC3D_GRID, VoxelGrid
from occkit.taxonomy import OCC3D

OCC3D_SHAPE = (40, 40, 8)
KITTI_SHAPE = (32, 32, 4)
LIDAR_HEIGHT = 1.84
HALF = float(np.sqrt(0.5))


def street(shape, *, seed=0, ground=1):
    """Occupied voxels: a ground layer, a house on one side, scattered posts, nothing symmetric. Returns (ids, ground,
    tall)."""
    rng = np.random.default_rng(seed)
    nx, ny, _ = shape
    tall = np.zeros(shape, dtype=np.bool_)
    tall[nx // 2 : nx - 2, ny - 8 : ny - 6, ground + 1 : ground + 5] = True
    tall[nx // 4, ny // 8 : ny // 2, ground + 1 : ground + 3] = True
    for x, y in zip(rng.integers(1, nx - 1, 12), rng.integers(1, ny - 1, 12), strict=True):
        tall[x, y, ground + 1 : ground + 4] = True
    flat = np.zeros(shape, dtype=np.bool_)
    flat[:, ny // 4 : 3 * ny // 4, ground] = True
    return flat, tall


def centres(occupied, grid):
    """Return a point in the middle of every occupied voxel, metres."""
    return (np.argwhere(occupied) + 0.5) * np.array(grid.voxel_size) + np.array(grid.origin)


def sweep(points):
    """Return LiDAR rows x, y, z, intensity, ring for points in the ego frame: 90 degrees turned, LIDAR_HEIGHT above."""
    rows = np.zeros((len(points), 5), dtype="<f4")
    rows[:, 0], rows[:, 1], rows[:, 2] = -points[:, 1], points[:, 0], points[:, 2] - LIDAR_HEIGHT
    return rows.tobytes()


def picture(height=8, width=12):
    return np.random.default_rng(0).integers(0, 255, (3, height, width), dtype=np.uint8)


def write_nuscenes(root, *, scenes=2, frames=2):
    """Write a nuScenes root with Occ3D labels: tables, one camera, the LiDAR, splits."""
    grid = VoxelGrid.from_shape(OCC3D_GRID.origin, OCC3D_GRID.upper, OCC3D_SHAPE)
    tables = {name: [] for name in ("scene", "sample", "sample_data", "ego_pose")}
    channels = {"LIDAR_TOP": "lidar", "CAM_FRONT": "camera"}
    tables["sensor"] = [{"token": f"s{c}", "channel": c, "modality": m} for c, m in channels.items()]
    lens = [[10.0, 0.0, 6.0], [0.0, 10.0, 4.0], [0, 0, 1]]
    tables["calibrated_sensor"] = [
        {
            "token": f"c{c}",
            "sensor_token": f"s{c}",
            "translation": [0.0, 0.0, LIDAR_HEIGHT] if c == "LIDAR_TOP" else [1.5, 0.0, 1.5],
            "rotation": [HALF, 0.0, 0.0, -HALF] if c == "LIDAR_TOP" else [0.5, -0.5, 0.5, -0.5],
            "camera_intrinsic": [] if c == "LIDAR_TOP" else lens,
        }
        for c in channels
    ]
    for s in range(scenes):
        tokens = [f"t{s}{f}" for f in range(frames)]
        tables["scene"].append(
            {
                "token": f"sc{s}",
                "name": f"scene-000{s}",
                "nbr_samples": frames,
                "first_sample_token": tokens[0],
                "last_sample_token": tokens[-1],
            }
        )
        for f, token in enumerate(tokens):
            around = {"prev": tokens[f - 1] if f else "", "next": tokens[f + 1] if f + 1 < frames else ""}
            tables["sample"].append({"token": token, "timestamp": 10**6 * f + s, "scene_token": f"sc{s}", **around})
            flat, tall = street(OCC3D_SHAPE, seed=10 * s + f)
            semantics = np.full(OCC3D_SHAPE, OCC3D.free_id, dtype=np.uint8)
            semantics[flat], semantics[tall] = OCC3D.id_of("driveable_surface"), OCC3D.id_of("manmade")
            ones = np.ones(OCC3D_SHAPE, dtype=np.bool_)
            path = root / "gts" / f"scene-000{s}" / token / "labels.npz"
            write_labels(path, semantics=semantics, mask_lidar=ones, mask_camera=ones)
            for channel in channels:
                name = f"samples/{channel}/{token}{'.png' if channel == 'CAM_FRONT' else '.pcd.bin'}"
                data = {"sample_token": token, "ego_pose_token": f"d{channel}{token}", "filename": name}
                data |= {"token": f"d{channel}{token}", "calibrated_sensor_token": f"c{channel}", "is_key_frame": True}
                size = {"width": 12, "height": 8} if channel == "CAM_FRONT" else {"width": 0, "height": 0}
                tables["sample_data"].append(data | size | {"timestamp": 10**6 * f + s})
                pose = {"token": f"d{channel}{token}", "translation": [float(f), 0.0, 0.0]}
                tables["ego_pose"].append(pose | {"rotation": [1.0, 0.0, 0.0, 0.0]})
            write_image(root / f"samples/CAM_FRONT/{token}.png", picture())
            write_bytes(root / f"samples/LIDAR_TOP/{token}.pcd.bin", sweep(centres(flat | tall, grid)))
    for name, records in tables.items():
        write_json(root / "v1.0-mini" / f"{name}.json", records)
    write_json(root / "annotations.json", {"train_split": ["scene-0000"], "val_split": ["scene-0001"]})
    return root


def write_semantickitti(root):
    """Write a SemanticKITTI root: sequence 00 with two labelled frames, sequence 11 with one test frame."""
    grid = VoxelGrid.from_shape(KITTI_GRID.origin, KITTI_GRID.upper, KITTI_SHAPE)
    calib = [f"P{k}: 700 0 6 {45.38 if k == 2 else 0} 0 700 4 0 0 0 1 0" for k in range(4)]
    calib += ["Tr: 0 -1 0 0 0 0 -1 -0.08 1 0 0 -0.27"]
    for sequence, frames in (("00", ("000000", "000005")), ("11", ("000000",))):
        folder = root / "sequences" / sequence
        write_bytes(folder / "calib.txt", "\n".join(calib).encode())
        write_bytes(folder / "poses.txt", b"1 0 0 0 0 1 0 0 0 0 1 0\n" * len(frames))
        for number, frame in enumerate(frames):
            flat, tall = street(KITTI_SHAPE, seed=number, ground=0)
            points = centres(flat | tall, grid)
            rows = np.concatenate([points, np.zeros((len(points), 1))], axis=1).astype("<f4")
            write_bytes(folder / "velodyne" / f"{frame}.bin", rows.tobytes())
            write_image(folder / "image_2" / f"{frame}.png", picture())
            write_packed(folder / "voxels" / f"{frame}.bin", flat | tall)
            if sequence == "11":
                continue
            ids = np.where(flat, 40, np.where(tall, 50, 0)).astype(np.uint16)
            write_label(folder / "voxels" / f"{frame}.label", ids)
            for suffix in (".invalid", ".occluded"):
                write_packed(folder / "voxels" / f"{frame}{suffix}", np.zeros(KITTI_SHAPE, dtype=np.bool_))
    return root


def write_sscbench(root):
    """Write an SSCBench-KITTI-360 root: one sequence with two frames."""
    folder = root / "data_2d_raw" / "2013_05_28_drive_0006_sync"
    for number, frame in enumerate(("000000", "000005")):
        flat, tall = street(KITTI_SHAPE, seed=number, ground=0)
        write_image(folder / "image_00" / "data_rect" / f"{frame}.png", picture())
        write_packed(folder / "voxels" / f"{frame}.bin", flat | tall)
        write_label(folder / "voxels" / f"{frame}.label", np.where(flat, 40, np.where(tall, 52, 0)).astype(np.uint16))
        write_invalid(folder / "voxels" / f"{frame}.invalid", np.zeros(KITTI_SHAPE, dtype=np.bool_))
    return root


def write_rig(root):
    """Write a rig.json with one camera and a LiDAR."""
    write_image(root / "front.png", picture())
    write_bytes(root / "points.bin", bytes(20 * 3))
    camera = {"name": "front", "image": "front.png", "width": 12, "height": 8}
    camera |= {"intrinsics": [[10.0, 0.0, 6.0], [0.0, 10.0, 4.0], [0, 0, 1]], "ego_from_camera": np.eye(4).tolist()}
    lidar = {
        "points": "points.bin",
        "columns": ["x", "y", "z", "intensity", "ring"],
        "ego_from_lidar": np.eye(4).tolist(),
    }
    write_json(root / "rig.json", {"cameras": [camera], "lidar": lidar, "global_from_ego": np.eye(4).tolist()})
    return root
