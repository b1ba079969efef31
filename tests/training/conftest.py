from pathlib import Path

import numpy as np
import pytest

from occkit.data.semantickitti import write_label, write_packed
from occkit.files import write_bytes, write_image


@pytest.fixture(scope="session")
def recipes() -> Path:
    """A user's own recipe file."""
    return Path(__file__).with_name("tiny_recipes.py")


@pytest.fixture(scope="session")
def tiny_kitti(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SemanticKITTI folder: ten training and five validation frames of 24 x 40 pixels and 16 x 16 x 2 voxels."""
    root = tmp_path_factory.mktemp("kitti")
    rng = np.random.default_rng(0)
    for sequence, frames in (("00", 10), ("08", 5)):
        write_tiny_sequence(root / "sequences" / sequence, frames, rng)
    return root


def write_tiny_sequence(folder: Path, frames: int, rng: np.random.Generator) -> None:
    camera = "40 0 20 {} 0 40 12 0 0 0 1 0"
    rows = [f"P{i}: {camera.format(-20 * i)}" for i in range(4)] + ["Tr: 0 -1 0 0 0 0 -1 0 1 0 0 0"]
    write_bytes(folder / "calib.txt", "\n".join(rows).encode())
    poses = [f"1 0 0 0 0 1 0 0 0 0 1 {i}" for i in range(frames)]
    write_bytes(folder / "poses.txt", "\n".join(poses).encode())
    write_bytes(folder / "times.txt", "\n".join(str(i / 10) for i in range(frames)).encode())
    for frame in range(frames):
        name = f"{frame:06d}"
        shade = int(rng.integers(0, 2))
        image = rng.integers(100 * shade, 100 * shade + 60, size=(3, 24, 40)).astype(np.uint8)
        for camera_name in ("image_2", "image_3"):
            write_image(folder / camera_name / f"{name}.png", image)
        ids = np.zeros((16, 16, 2), dtype=np.uint16)
        ids[:, :, 0] = 40 if shade else 72
        ids[4:8, 4 : 5 + frame % 4, 1] = 10
        write_label(folder / "voxels" / f"{name}.label", ids)
        write_packed(folder / "voxels" / f"{name}.invalid", rng.random((16, 16, 2)) < 0.1)
        write_packed(folder / "voxels" / f"{name}.bin", ids > 0)
