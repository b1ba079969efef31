import math

import numpy as np
import pytest
import torch

from occkit.geometry import Cameras, VoxelGrid
from occkit.samples import Sample
from occkit.taxonomy import OCC3D
from occkit.viewer.heat import HEAT, STEPS, draw_answer, heat_volume

GRID = VoxelGrid.from_range((-8, -8, -1), (8, 8, 3), 1.0)
NOWHERE = (math.nan,) * 3


def test_levels_follow_the_margin_and_nothing_lies_between():
    voxels = np.array([[0, 0, 0], [1, 0, 0], [2, 0, 0], [3, 0, 0], [4, 0, 0]])
    volume = heat_volume(voxels, np.array([0.4, 0.0, -1e-9, -0.2, 0.2]), GRID)
    assert volume.semantics[:5, 0, 0].tolist() == [2 * STEPS - 1, STEPS, STEPS - 1, 0, STEPS + STEPS // 2]
    assert int(volume.occupied.sum()) == 5
    assert volume.taxonomy.classes[STEPS] == "found 0"


def test_all_or_nothing_found_and_an_empty_volume():
    voxels = np.array([[0, 0, 0], [1, 0, 0]])
    assert (heat_volume(voxels, np.array([-0.1, -0.3]), GRID).semantics[:2, 0, 0] < STEPS).all()
    assert (heat_volume(voxels, np.array([0.0, 0.0]), GRID).semantics[:2, 0, 0] == STEPS).all()
    empty = heat_volume(np.zeros((0, 3), np.int64), np.zeros(0), GRID)
    assert not empty.occupied.any()


def test_from_above_a_column_shows_its_best():
    voxels = np.array([[5, 5, 0], [5, 5, 3], [5, 6, 0]])
    semantics = heat_volume(voxels, np.array([0.3, -0.3, -0.1]), GRID, columns=True).semantics
    assert semantics[5, 5, 0] == semantics[5, 5, 3] == 2 * STEPS - 1
    assert semantics[5, 6, 0] < STEPS


@pytest.fixture
def sample() -> Sample:
    """One camera at (0, 0, 1) that looks along x."""
    pose = torch.eye(4)
    pose[:3, :3] = torch.tensor([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])
    pose[2, 3] = 1.0
    cameras = Cameras(
        intrinsics=torch.tensor([[100.0, 0, 80], [0, 100, 45], [0, 0, 1]])[None, None],
        ego_from_camera=pose[None, None],
        height=90,
        width=160,
    )
    return Sample(
        token="frame",
        scene="s",
        timestamp=0,
        images=torch.full((1, 1, 3, 90, 160), 128, dtype=torch.uint8),
        cameras=cameras,
        camera_names=("CAM_FRONT",),
        grid=GRID,
        taxonomy=OCC3D,
    )


def red_pixels(picture, columns=slice(None)):
    part = picture[44:-40, columns].astype(int)
    return int(((part[..., 0] - part[..., 1:].max(axis=-1)) > 60).sum())


def test_what_is_found_is_red_from_above_and_in_the_image(sample):
    voxels = np.array([[14, 8, 2], [14, 3, 2]])
    drawn = {"grid": GRID, "title": "mailbox", "ego": None}
    picture = draw_answer(sample, voxels, np.array([0.5, -0.5]), centre=(6.5, 0.5, 1.5), **drawn)
    top, cameras = slice(0, 600), slice(616, None)
    assert red_pixels(picture, top) > 500
    assert red_pixels(picture, cameras) > 500
    missed = draw_answer(sample, voxels, np.array([-0.5, -0.5]), centre=NOWHERE, **drawn)
    assert red_pixels(missed) == 0
    assert picture.shape == missed.shape


def test_a_ring_marks_the_best_cluster(sample):
    voxels, margins = np.array([[14, 8, 2]]), np.array([0.5])
    drawn = {"grid": GRID, "title": "mailbox", "ego": None}
    ring = draw_answer(sample, voxels, margins, centre=(-4.0, 4.0, 0.0), **drawn)
    plain = draw_answer(sample, voxels, margins, centre=NOWHERE, **drawn)
    v, u = np.nonzero((ring != plain).any(axis=-1))
    # 600 pixels for 16 m, forward up and left to the left, below a title of 40 pixels and a gap of 12.
    assert u.mean() == pytest.approx(150, abs=1)
    assert v.mean() == pytest.approx(52 + 450, abs=1)


def test_the_levels_are_a_taxonomy_that_every_drawing_takes():
    assert HEAT.num_classes == 2 * STEPS + 1
    assert len(set(HEAT.colours)) == HEAT.num_classes
