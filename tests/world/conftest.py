"""Two small worlds, generated once for all tests of this folder."""

from dataclasses import replace
from pathlib import Path

import pytest

from occkit.world import PRESETS, WorldConfig, generate

SMALL = replace(PRESETS["nano"], frames=3, sweeps=1)
SMALL_KITTI = replace(PRESETS["kitti-nano"], frames=3, sweeps=1)


@pytest.fixture(scope="session")
def nuscenes_config() -> WorldConfig:
    return SMALL


@pytest.fixture(scope="session")
def nuscenes_world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("worlds") / "nuscenes"
    generate(SMALL, root, num_scenes=3, seed=3)
    return root


@pytest.fixture(scope="session")
def kitti_config() -> WorldConfig:
    return SMALL_KITTI


@pytest.fixture(scope="session")
def kitti_world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("worlds") / "kitti"
    generate(SMALL_KITTI, root, format="semantickitti", num_scenes=2, num_test=1, seed=3)
    return root
