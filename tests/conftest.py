"""Shared by every test: shapes and types of public signatures are checked while the suite runs."""

import os
import sys
from dataclasses import replace
from pathlib import Path

# Workers share the cores (`pytest -n`). Set before torch is imported; processes that tests start inherit it.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from jaxtyping import install_import_hook

# Annotations such as Float[Tensor, "rays samples"] are documentation until something reads them; here beartype does.
CHECKED = ("occkit.geometry", "occkit.samples", "occkit.losses", "occkit.nn")
install_import_hook(CHECKED, "shape_checker.check")

_LONGEST = (
    "test_examples.py",
    "export/test_systems.py",
    "labels/test_factory_on_ray.py",
    "training/test_evaluate_generation.py",
    "training/test_spread.py",
    "cli/test_label.py",
    "test_own_car.py",
    "cli/test_demo.py",
    "systems/test_contract.py",
    "cli/test_generate_command.py",
)
"""Files that take a minute or more. They come first, so that no worker is left with one of them at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first; each stays in one piece."""
    tests = Path(__file__).parent
    ranks = {tests / name: rank for rank, name in enumerate(_LONGEST)}
    items.sort(key=lambda item: ranks.get(item.path, len(ranks)))


@pytest.fixture(scope="session")
def real_frame() -> Path:
    """Folder of one real nuScenes keyframe (rig.json, six images, a LiDAR sweep), kept outside the repository."""
    default = Path(__file__).parents[2] / "shared" / "real"
    folder = Path(os.environ.get("OCCKIT_REAL", default)) / "nuscenes-scene-0061"
    if not (folder / "rig.json").is_file():
        pytest.skip("no real frame: set OCCKIT_REAL to the folder that holds nuscenes-scene-0061/rig.json")
    return folder


@pytest.fixture(scope="session")
def semantickitti_api() -> Path:
    """A checkout of semantic-kitti-api, the official evaluator and validator, which is not part of this project."""
    folder = os.environ.get("OCCKIT_SEMANTICKITTI_API")
    if not folder:
        pytest.skip("set OCCKIT_SEMANTICKITTI_API to a checkout of semantic-kitti-api to run its own scripts")
    for script in ("evaluate_completion.py", "validate_submission.py"):
        assert (Path(folder) / script).is_file(), f"{folder} has no {script}"
    return Path(folder)


@pytest.fixture(scope="session")
def cluster():
    """One Ray cluster of two cores on this machine, for all tests that want one; without Ray they are skipped."""
    pytest.importorskip("ray")
    from occkit.engine import ray_cluster

    # Workers import the modules of the tests.
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    with ray_cluster(cores=2) as ray:
        yield ray


@pytest.fixture(scope="session")
def street(tmp_path_factory) -> Path:
    """Two nano scenes of two frames in the layout of nuScenes; not to be written into."""
    from occkit.world import PRESETS, generate

    root = tmp_path_factory.mktemp("street")
    generate(replace(PRESETS["nano"], frames=2), root, num_scenes=2, seed=5)
    return root
