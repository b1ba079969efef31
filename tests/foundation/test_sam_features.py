"""Segmentation features and stereo depth: the real encoder on random weights, the stand-ins with and without faults."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from truth_layers import SIZE, write_layers, write_words

from occkit.errors import ConfigError, DataError
from occkit.foundation import (
    SamFeaturesConfig,
    SimulatedSamFeaturesConfig,
    SimulatedStereoConfig,
)
from occkit.geometry import Cameras


def blank(count=1, size=SIZE):
    return torch.zeros((count, 3, *size), dtype=torch.uint8)


def test_the_encoder_of_sam_sees_the_image_and_not_its_padding(sam_folder):
    extractor = SamFeaturesConfig(weights=str(sam_folder)).build()
    assert (extractor.width, extractor.map_size((32, 64)), extractor.map_size((40, 64))) == (32, (4, 8), (5, 8))
    images = torch.randint(0, 256, (2, 3, 32, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    maps = extractor.extract(images, token="t", cameras=("a", "b"))
    assert maps.shape == (2, 32, 4, 8)
    assert torch.allclose(maps.norm(dim=1), torch.ones(2, 4, 8), atol=1e-5)
    with torch.no_grad():
        pixels, _ = extractor.sam._prepare(images[0])
        cells = extractor.sam.model.get_image_embeddings(pixels)[0, :, :4]  # the upper half is the image
    assert torch.allclose(maps[0], torch.nn.functional.normalize(cells, dim=0), atol=1e-4)
    assert not torch.allclose(maps[0], maps[1], atol=1e-2)


@pytest.fixture
def halves(tmp_path):
    """Left road at 5 m, right car at 40 m, the sky above."""
    semantics, depth = np.zeros(SIZE, np.uint8), np.zeros(SIZE)
    semantics[:, :24], semantics[:, 24:], semantics[:8] = 9, 1, 255
    depth[8:, :24], depth[8:, 24:] = 5.0, 40.0
    write_words(tmp_path, "semantickitti")
    write_layers(tmp_path, semantics=semantics, depth=depth, words=(semantics != 255).astype(np.uint8))
    return tmp_path


def test_vectors_of_a_class_are_the_same_and_of_two_differ(halves):
    maps = SimulatedSamFeaturesConfig.perfect(halves).build().extract(blank(), token="t", cameras=("front",))[0]
    assert maps.shape == (24, 8, 12)
    road, car, sky = maps[:, 3:, :6], maps[:, 3:, 6:], maps[:, :2]
    for block in (road, car, sky):
        assert torch.allclose(block, block[:, :1, :1].expand_as(block), atol=1e-5)
    assert (road[:, 0, 0] @ car[:, 0, 0]).abs() < 0.8
    assert (road[:, 0, 0] @ sky[:, 0, 0]).abs() < 0.8


def test_noise_is_of_the_frame_and_comes_again(halves):
    noisy = replace(SimulatedSamFeaturesConfig.perfect(halves), noise=0.5)
    one, again = (noisy.build().extract(blank(), token="t", cameras=("front",)) for _ in range(2))
    assert torch.equal(one, again)
    perfect = SimulatedSamFeaturesConfig.perfect(halves).build().extract(blank(), token="t", cameras=("front",))
    angles = (one * perfect).sum(dim=1)
    assert 0.8 < angles.mean() < 0.99
    assert "root" not in str(noisy.build().description)
    with pytest.raises(ConfigError, match=r"noise in 0\.\.2"):
        replace(noisy, noise=3.0)


def stereo(root, focal=100.0, **faults):
    config = replace(SimulatedStereoConfig.perfect(root), **faults)
    intrinsics = torch.tensor([[focal, 0.0, 24.0], [0.0, focal, 16.0], [0.0, 0.0, 1.0]])[None]
    cameras = Cameras(intrinsics=intrinsics, ego_from_camera=torch.eye(4)[None], height=SIZE[0], width=SIZE[1])
    return config.build().estimate(blank(), cameras=cameras, token="t", names=("front",))[0]


def test_stereo_errs_with_the_square_of_the_distance(halves):
    assert torch.equal(stereo(halves)[8:, :24], torch.full((24, 24), 5.0))
    found = stereo(halves, noise=0.1, matched_width=SIZE[1])
    near, far = (found[8:, :24] - 5).std(), (found[8:, 24:] - 40).std()
    # dz = z^2 / (f B) noise: 64 times farther off at eight times the distance.
    assert near.item() == pytest.approx(25 / 54 * 0.1, rel=0.15)
    assert far.item() == pytest.approx(1600 / 54 * 0.1, rel=0.3)
    assert not found[:8].any(), "the sky has no depth"
    assert (stereo(halves, focal=200.0, noise=0.1, matched_width=SIZE[1])[8:, :24] - 5).std() < 0.7 * near
    assert torch.equal(stereo(halves, noise=0.2, matched_width=2 * SIZE[1]), found), "as good on a smaller copy"


def test_stereo_speckles_and_leaves_holes_behind_borders(halves):
    wrong = (stereo(halves, speckle=0.2)[8:] - stereo(halves)[8:]).abs() > 0.01
    assert wrong.float().mean().item() == pytest.approx(0.2, abs=0.05)
    holes = (stereo(halves, holes=1.0) == 0) & (stereo(halves) > 0)
    assert holes[8:, 24].all(), "the farther side of the border"
    assert holes.sum() == 24
    with pytest.raises(ConfigError, match="baseline"):
        replace(SimulatedStereoConfig.perfect(halves), baseline=0.0)
    with pytest.raises(DataError, match="no truth layers"):
        stereo(halves / "nowhere")
