import pytest
import torch

from occkit.errors import ConfigError
from occkit.nn.blocks import GroupNormConfig
from occkit.nn.heads import ConvHeadConfig, HeightInChannelsHeadConfig, SkipVolumeHeadConfig, VolumeHeadConfig
from occkit.nn.volumes import GroundNetConfig, VolumeNetConfig

NET = VolumeNetConfig(widths=(8, 12), blocks=(1, 1), strides=(1, 2), channels=8)


def skip_head(**options):
    return SkipVolumeHeadConfig(net=NET, stem_channels=8, fine_channels=4, hidden=8, **options).build(5, 3).eval()


def test_a_volume_head_may_end_with_its_convolution():
    head = VolumeHeadConfig(net=NET, hidden=None).build(5, 7).eval()
    volume = torch.randn(2, 5, 4, 4, 2)
    assert head(volume, (8, 8, 4)).shape == (2, 7, 8, 8, 4)
    torch.testing.assert_close(head(volume, (4, 4, 2)), head.conv(head.net(volume)))
    after = sum(p.numel() for p in head.parameters()) - sum(p.numel() for p in head.net.parameters())
    assert after == 8 * 7 * 27 + 7


@pytest.mark.parametrize("shape", [(8, 6, 4), (4, 4, 2)])
@pytest.mark.parametrize("stride", [(2, 2, 2), (2, 2, 1)])
def test_skip_head_scores_every_fine_voxel(shape, stride):
    head = skip_head(stride=stride)
    volume = torch.randn(2, 5, *shape)
    assert head(volume, shape).shape == (2, 3, *shape)
    assert head(volume, tuple(2 * n for n in shape)).shape == (2, 3, *(2 * n for n in shape))


def test_skip_head_knows_what_was_lifted_into_the_voxel_itself():
    head = skip_head()
    torch.nn.init.zeros_(head.refine.weight)  # nothing comes from the coarse network
    volume = torch.randn(1, 5, 4, 4, 4)
    other = volume.clone()
    other[:, :, 1, 2, 3] += 1.0
    changed = (head(volume, (4, 4, 4)) != head(other, (4, 4, 4))).any(dim=1)[0]
    assert changed.nonzero().tolist() == [[1, 2, 3]]


def test_skip_head_gives_each_fine_voxel_its_part_of_the_coarse_one():
    head = skip_head(stride=(2, 2, 1))
    torch.nn.init.zeros_(head.refine.weight)
    torch.nn.init.zeros_(head.refine.bias)
    volume = torch.zeros(1, 5, 4, 4, 2)
    before = head(volume, (4, 4, 2))
    with torch.no_grad():
        head.refine.bias.view(2, 2, 1, 4)[1, 0] = 1.0  # the part at odd x and even y
    changed = (head(volume, (4, 4, 2)) != before).any(dim=1)[0]
    expected = torch.zeros(4, 4, 2, dtype=torch.bool)
    expected[1::2, 0::2] = True
    assert torch.equal(changed, expected)


def test_skip_head_refuses_a_volume_that_its_stride_does_not_divide():
    with pytest.raises(ConfigError, match=r"stride \(2, 2, 2\) does not divide \(4, 5, 4\) voxels"):
        skip_head()(torch.zeros(1, 5, 4, 5, 4), (4, 5, 4))


def test_height_head_writes_the_columns_of_a_cell_beside_each_other():
    net = GroundNetConfig(widths=(8, 8), blocks=(1, 1), strides=(1, 2), channels=8)
    head = HeightInChannelsHeadConfig(net=net, num_heights=2, hidden=8, upsample=2).build(6, 3).eval()
    volume = torch.randn(1, 3, 4, 4, 2)
    before = head(volume, (8, 8, 2))
    assert before.shape == (1, 3, 8, 8, 2)
    with torch.no_grad():
        head.classify[-1].bias.view(3, 2, 2, 2)[:, 1, 1, 0] += 1.0  # all classes, upper height, odd x, even y
    rise = (head(volume, (8, 8, 2)) - before)[0]
    expected = torch.zeros(8, 8, 2)
    expected[1::2, 0::2, 1] = 1.0
    assert torch.allclose(rise, expected.expand(3, -1, -1, -1), atol=1e-5)


def test_layers_of_a_coarse_voxel_are_scored_one_above_the_other():
    torch.manual_seed(0)
    head = ConvHeadConfig(hidden=4, layers=2, norm=GroupNormConfig(channels_per_group=2)).build(4, 3)
    volume = torch.randn(1, 4, 2, 2, 3)
    scores = head(volume, (2, 2, 6))  # as coarse as the volume but for the height, so that nothing is interpolated
    each = head.score(head.mix(volume)).unflatten(1, (3, 2))
    assert torch.equal(scores[..., 0::2], each[:, :, 0])
    assert torch.equal(scores[..., 1::2], each[:, :, 1])
    assert head(volume, (4, 4, 6)).shape == (1, 3, 4, 4, 6)
