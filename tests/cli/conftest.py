import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def rig(tmp_path) -> Path:
    """Two cameras that look ahead and back, and a few LiDAR points on the road and on a wall ahead."""
    folder = tmp_path / "rig"
    folder.mkdir()
    rng = np.random.default_rng(0)
    cameras = []
    for name, sign in (("front", 1.0), ("back", -1.0)):
        Image.fromarray(rng.integers(0, 256, (96, 160, 3), dtype=np.uint8)).save(folder / f"{name}.png")
        pose = [[0, 0, sign, 0.5 * sign], [-sign, 0, 0, 0], [0, -1, 0, 1.5], [0, 0, 0, 1]]
        intrinsics = [[100, 0, 80], [0, 100, 48], [0, 0, 1]]
        size = {"width": 160, "height": 96}
        cameras.append(
            {"name": name, "image": f"{name}.png", "intrinsics": intrinsics, "ego_from_camera": pose, **size}
        )
    points = np.array([[12, y, z, 0.5] for y in range(-6, 7) for z in (-1, 0, 1)], dtype="<f4")
    points.tofile(folder / "points.bin")
    mounting = [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 1.8], [0, 0, 0, 1]]
    lidar = {"points": "points.bin", "columns": ["x", "y", "z", "intensity"], "ego_from_lidar": mounting}
    path = folder / "rig.json"
    path.write_text(json.dumps({"token": "one", "cameras": cameras, "lidar": lidar}))
    return path
