import pytest
import torch

from occkit.nn.blocks import BatchNormConfig, ConvBlock, GroupNormConfig, ResidualBlock, build_norm, resize_to


@pytest.mark.parametrize("dims", [2, 3])
def test_residual_block_keeps_or_halves_the_size(dims):
    x = torch.randn(2, 8, *[6] * dims)
    same = ResidualBlock(8, 8, norm=GroupNormConfig(), dims=dims)
    half = ResidualBlock(8, 16, norm=GroupNormConfig(), dims=dims, stride=2)
    assert same(x).shape == x.shape
    assert isinstance(same.shortcut, torch.nn.Identity)
    assert half(x).shape == (2, 16, *[3] * dims)


def test_residual_block_with_zero_weights_is_the_rectified_input():
    block = ResidualBlock(4, 4, norm=BatchNormConfig(), dims=2)
    for parameter in block.parameters():
        torch.nn.init.zeros_(parameter)
    x = torch.randn(1, 4, 3, 3)
    assert torch.equal(block(x), x.relu())


def test_group_norm_falls_back_to_one_group():
    assert build_norm(GroupNormConfig(channels_per_group=8), 24, dims=2).num_groups == 3
    assert build_norm(GroupNormConfig(channels_per_group=8), 20, dims=3).num_groups == 1


def test_anisotropic_stride_and_dilation():
    block = ConvBlock(2, 4, norm=GroupNormConfig(), dims=3, stride=(2, 2, 1), dilation=2)
    assert block(torch.randn(1, 2, 8, 8, 4)).shape == (1, 4, 4, 4, 4)


def test_resize_to():
    x = torch.arange(4.0).reshape(1, 1, 2, 2)
    assert resize_to(x, (2, 2)) is x
    assert resize_to(x, (4, 4))[0, 0, 0].tolist() == [0.0, 0.25, 0.75, 1.0]
    assert resize_to(x[..., None], (4, 2, 3)).shape == (1, 1, 4, 2, 3)
