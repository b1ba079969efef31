"""Depth Pro without its processor: what it is shown, and how its answer becomes metres."""

import math
from types import SimpleNamespace

import pytest
import torch

from occkit.errors import ConfigError
from occkit.foundation import TransformersDepthConfig
from occkit.geometry import Cameras
from tiny_models import save_depth_anything, save_depth_pro


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("depth_pro")
    save_depth_pro(folder)
    return folder


def estimate(estimator, images, focal=(100.0, 50.0)):
    count, _, height, width = images.shape
    intrinsics = torch.tensor([[[f, 0.0, width / 2], [0.0, f, height / 2], [0.0, 0.0, 1.0]] for f in focal[:count]])
    cameras = Cameras(
        intrinsics=intrinsics, ego_from_camera=torch.eye(4).repeat(count, 1, 1), height=height, width=width
    )
    return estimator.estimate(images, cameras=cameras, token="t", names=[f"cam{i}" for i in range(count)])


def pictures(count=2, size=(40, 56)):
    return torch.randint(0, 256, (count, 3, *size), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


def open_network(folder, **options):
    return TransformersDepthConfig(weights=str(folder), **options).build()


class Answering:
    """Answers with canonical inverse depth that grows to the right, and a field of view."""

    def __init__(self, degrees):
        self.degrees = degrees
        self.shown = []

    def __call__(self, *, pixel_values):
        self.shown.append(pixel_values)
        inverse = torch.linspace(0.05, 0.5, 64).expand(len(pixel_values), 64, 64)
        fields = None if self.degrees is None else torch.tensor([self.degrees] * len(pixel_values))
        return SimpleNamespace(predicted_depth=inverse, field_of_view=fields)


@pytest.mark.parametrize("size", [(40, 56), (3, 5), (2, 200)])
def test_a_network_from_a_folder_without_a_processor_is_asked(folder, size):
    images, estimator = pictures(2, size), open_network(folder)
    assert not (folder / "preprocessor_config.json").exists()
    depth = estimate(estimator, images)
    assert depth.shape == (2, *size)
    assert 0 < depth.min() <= depth.max() <= 300
    assert torch.allclose(depth, estimate(open_network(folder, batch_size=2), images), rtol=1e-3)
    assert torch.allclose(depth[1:], estimate(estimator, images[1:]), rtol=1e-3)
    assert torch.equal(depth, estimate(estimator, images, (70.0, 20.0))), "it guesses the focal length"


def test_the_field_of_view_makes_metres(folder):
    """90 degrees: the image is twice as wide as the focal length is long, 1 / z = 2 C."""
    estimator = open_network(folder)
    assert estimator._depth_pro.side == 64
    estimator._depth_pro.model = network = Answering(90.0)
    depth = estimate(estimator, torch.full((2, 3, 32, 64), 255, dtype=torch.uint8))
    assert torch.allclose(1 / depth, 2 * torch.linspace(0.05, 0.5, 64).expand(2, 32, 64), atol=1e-5)
    assert [shown.shape for shown in network.shown] == [(1, 3, 64, 64)] * 2
    assert torch.allclose(network.shown[0], torch.ones(1)), "white is 1"
    estimator._depth_pro.model = Answering(60.0)
    narrower = estimate(estimator, torch.zeros((1, 3, 32, 64), dtype=torch.uint8))
    assert torch.allclose(narrower, depth[:1] * math.tan(math.pi / 4) / math.tan(math.pi / 6), rtol=1e-4)
    clipped = open_network(folder, max_depth=5.0)
    clipped._depth_pro.model = Answering(90.0)
    assert estimate(clipped, torch.zeros((1, 3, 32, 64), dtype=torch.uint8)).max() == 5.0


def test_a_camera_can_give_its_focal_length(folder):
    estimator = open_network(folder, camera_focal=True)
    estimator._depth_pro.model = Answering(None)
    depth = estimate(estimator, torch.zeros((2, 3, 32, 64), dtype=torch.uint8), (64.0, 128.0))
    assert torch.allclose(1 / depth[0], torch.linspace(0.05, 0.5, 64).expand(32, 64), atol=1e-5)
    assert torch.allclose(depth[1], 2 * depth[0], rtol=1e-5)
    assert estimator.description["camera_focal"]


def test_what_does_not_fit_is_named(tmp_path):
    for name in ("blind", "other"):
        (tmp_path / name).mkdir()
    save_depth_pro(tmp_path / "blind", use_fov_model=False)
    with pytest.raises(ConfigError, match=r"no head for the field of view; set camera_focal"):
        open_network(tmp_path / "blind")
    assert estimate(open_network(tmp_path / "blind", camera_focal=True), pictures()).shape == (2, 40, 56)
    save_depth_anything(tmp_path / "other")
    with pytest.raises(ConfigError, match="camera_focal is for Depth Pro"):
        open_network(tmp_path / "other", camera_focal=True)
