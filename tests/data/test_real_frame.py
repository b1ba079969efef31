"""A real nuScenes key frame, where one is at hand: the LiDAR must fall on what the cameras saw."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from occkit.data import DataConfig, open_dataset

REAL = Path(os.environ.get("OCCKIT_REAL", Path(__file__).parents[3] / "shared" / "real")) / "nuscenes-scene-0061"
pytestmark = pytest.mark.skipif(not REAL.is_dir(), reason=f"no real frame at {REAL} (set OCCKIT_REAL)")


@pytest.fixture(scope="module")
def sample():
    config = DataConfig(image_size=(256, 704), load_points=True)
    return open_dataset(REAL / "rig.json", split="all", config=config)[0]


def test_points_lie_around_the_car(sample):
    assert sample.images.shape == (1, 6, 3, 256, 704)
    assert len(sample.points) == 34_688
    assert 0 <= sample.points[:, 3].min() < 0.05
    assert 0.3 < sample.points[:, 3].max() <= 1
    # Most of a sweep is road: height 0 in the ego frame, metres.
    heights = torch.histc(sample.points[:, 2], bins=40, min=-2, max=2)
    assert abs(-2 + 0.1 * (int(heights.argmax()) + 0.5)) < 0.3


def test_every_camera_sees_points_at_plausible_depths(sample):
    for name, depth in zip(sample.camera_names, sample.depth, strict=True):
        seen = depth[depth > 0]
        assert 2000 < len(seen) < 6000, name
        assert 2 < seen.median() < 25, name
        assert seen.max() < 105, name
        # The upper half of what is left of the image is mostly far away or sky.
        assert depth[:128][depth[:128] > 0].median() > depth[128:][depth[128:] > 0].median(), name


@pytest.fixture(scope="module")
def mounted(sample):
    """The cameras as they are mounted, without the motion between exposure and reference time."""
    document = json.loads((REAL / "rig.json").read_text())
    poses = torch.tensor([camera["ego_from_camera"] for camera in document["cameras"]])
    return replace(sample.cameras[0], ego_from_camera=poses)


def test_exposure_motion_reaches_a_voxel(sample, mounted):
    shifts = (mounted.ego_from_camera - sample.cameras[0].ego_from_camera)[:, :3, 3].norm(dim=1)
    assert 0.38 < shifts.max() < 0.42
    assert shifts.min() < 0.01


def test_depth_edges_fall_on_image_edges_only_with_compensation(sample, mounted):
    """The side cameras in front look across the motion: without it the LiDAR's outlines miss those in the image."""
    for name in ("CAM_FRONT_LEFT", "CAM_FRONT_RIGHT"):
        n = sample.camera_names.index(name)
        compensated, still = (_contrast(sample, cameras[n], n) for cameras in (sample.cameras[0], mounted))
        assert compensated > 2, name
        assert compensated > 1.2 * still, name


def _contrast(sample, camera, n):
    """How much more the image changes across at points that stand before something farther than at other points."""
    # The sweep is stored firing by firing, 32 beams each: rows of the reshaped sweep are neighbours in azimuth.
    ranges = sample.points[:, :3].norm(dim=1).view(-1, 32)
    edge = torch.zeros_like(ranges, dtype=torch.bool)
    edge[:-1] |= ranges[1:] - ranges[:-1] > 3
    edge[1:] |= ranges[:-1] - ranges[1:] > 3
    pixels, _, visible = camera.project(sample.points[:, :3], min_depth=2)
    edge = edge.view(-1) & visible
    image = sample.images[0, n].float().mean(0)
    gradient = torch.nn.functional.pad((image[:, 2:] - image[:, :-2]).abs(), (1, 1))
    column, row = pixels.floor().long().clamp(min=0).unbind(-1)
    assert edge.sum() > 40
    return float(gradient[row[edge], column[edge]].mean() / gradient[row[visible], column[visible]].mean())
