from dataclasses import replace

import pytest

from occkit.world import PRESETS, generate
from tiny_models import save_sam


@pytest.fixture(scope="session")
def kitti_street(tmp_path_factory):
    """Two nano sequences of one frame in the layout of SemanticKITTI."""
    root = tmp_path_factory.mktemp("kitti_street")
    generate(replace(PRESETS["kitti-nano"], frames=1), root, format="semantickitti", num_scenes=2, seed=5)
    return root


@pytest.fixture(scope="session")
def sam_folder(tmp_path_factory):
    """A SAM of random weights."""
    folder = tmp_path_factory.mktemp("sam")
    save_sam(folder)
    return folder
