import pytest
import torch

from occkit.errors import ConfigError
from occkit.nn.blocks import GroupNormConfig, resize_to, run_stages
from occkit.nn.heads import HeightInChannelsHeadConfig, VolumeHeadConfig
from occkit.nn.temporal import ConcatTemporalConfig
from occkit.nn.volumes import GroundNetConfig, VolumeNetConfig, fold_height, unfold_height

SMALL_VOLUME = VolumeNetConfig(widths=(4, 8), blocks=(1, 2), strides=(1, (2, 2, 1)), channels=6, norm=GroupNormConfig())
SMALL_GROUND = GroundNetConfig(widths=(8, 16), blocks=(1, 1), strides=(1, 2), channels=8, norm=GroupNormConfig())


def test_fold_and_unfold_are_inverse_and_keep_heights_apart():
    volume = torch.arange(2 * 3 * 4 * 5 * 6).reshape(2, 3, 4, 5, 6).float()
    plane = fold_height(volume)
    assert plane.shape == (2, 18, 4, 5)
    assert torch.equal(plane[:, 1 * 6 + 2], volume[:, 1, :, :, 2])
    assert torch.equal(unfold_height(plane, 6), volume)


def test_networks_keep_the_size_of_their_first_stage():
    assert SMALL_VOLUME.build(3)(torch.randn(1, 3, 10, 6, 4)).shape == (1, 6, 10, 6, 4)
    assert SMALL_GROUND.build(3)(torch.randn(1, 3, 10, 7)).shape == (1, 8, 10, 7)


def test_mixing_before_enlarging_is_mixing_after():
    torch.manual_seed(0)
    net = VolumeNetConfig(widths=(4, 6, 8), blocks=(1, 1, 1), channels=5).build(3).eval()
    volume = torch.randn(2, 3, 8, 6, 4)
    scales = run_stages(net.stages, volume)
    side_by_side = torch.cat([resize_to(scale, (8, 6, 4)) for scale in scales], dim=1)
    assert torch.allclose(net(volume), net.mix(side_by_side), atol=1e-6)


@pytest.mark.parametrize("hidden", [0, 5])
def test_volume_head_interpolates_to_the_grid(hidden):
    head = VolumeHeadConfig(net=SMALL_VOLUME, hidden=hidden).build(3, 7)
    assert head(torch.randn(2, 3, 6, 4, 4), (12, 8, 8)).shape == (2, 7, 12, 8, 8)
    assert head(torch.randn(2, 3, 4, 4, 2), (4, 4, 2)).shape == (2, 7, 4, 4, 2)


def test_height_head_writes_every_height():
    head = HeightInChannelsHeadConfig(net=SMALL_GROUND, num_heights=4, hidden=9).build(3 * 2, 5)
    assert head(torch.randn(2, 3, 6, 8, 2), (6, 8, 4)).shape == (2, 5, 6, 8, 4)
    with pytest.raises(ConfigError, match="made for 4 heights and 6 channels, got 5 and 6"):
        head(torch.randn(2, 3, 6, 8, 2), (6, 8, 5))


def test_unequal_stages_are_refused():
    with pytest.raises(ConfigError, match="differ in length"):
        VolumeNetConfig(widths=(4, 8), blocks=(1,), strides=(1, 2))
    with pytest.raises(ConfigError, match="one length"):
        GroundNetConfig(widths=(4,), blocks=(1,), strides=(1,))


def test_past_volumes_are_fused_without_gradient():
    fusion = ConcatTemporalConfig(norm=GroupNormConfig()).build(4, 2)
    now, past = (torch.randn(1, 4, 3, 3, 3, requires_grad=True) for _ in range(2))
    fused = fusion([now, past])
    assert fused.shape == (1, fusion.out_channels, 3, 3, 3)
    fused.sum().backward()
    assert now.grad is not None
    assert past.grad is None


def test_parameter_counts_of_the_published_networks():
    """The counts that the RadOcc specification derives for BEVDet-Occ's parts, two frames, head A."""
    with torch.device("meta"):
        head = VolumeHeadConfig().build(64, 18)
        prepare = ConcatTemporalConfig().build(32, 2)
    encoder = sum(p.numel() for p in head.net.stages.parameters())
    mix = sum(p.numel() for p in head.net.mix.parameters())
    conv = sum(p.numel() for p in head.conv.parameters())
    classify = sum(p.numel() for p in head.classify.parameters())
    assert (encoder, mix, conv, classify) == (4_122_688, 7_232, 27_680, 3_282)
    assert sum(p.numel() for p in prepare.parameters()) == 83_136
