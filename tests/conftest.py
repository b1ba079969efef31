"""Shared by every test: shapes and types of public signatures are checked while the suite runs."""

import os
from pathlib import Path

# Workers share the cores (`pytest -n`). Set before torch is imported; processes that tests start inherit it.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from jaxtyping import install_import_hook

# Annotations such as Float[Tensor, "rays samples"] are documentation until something reads them; here beartype does.
CHECKED = ("occkit.geometry", "occkit.samples", "occkit.losses", "occkit.nn")
install_import_hook(CHECKED, "shape_checker.check")


@pytest.fixture(scope="session")
def real_frame() -> Path:
    """Folder of one real nuScenes keyframe (rig.json, six images, a LiDAR sweep), kept outside the repository."""
    default = Path(__file__).parents[2] / "shared" / "real"
    folder = Path(os.environ.get("OCCKIT_REAL", default)) / "nuscenes-scene-0061"
    if not (folder / "rig.json").is_file():
        pytest.skip("no real frame: set OCCKIT_REAL to the folder that holds nuscenes-scene-0061/rig.json")
    return folder
