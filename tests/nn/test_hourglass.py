import math

import pytest
import torch
import torch.nn.functional as F

from occkit.errors import ConfigError
from occkit.nn.blocks import GroupNormConfig
from occkit.nn.heads import HourglassHeadConfig
from occkit.nn.volumes import HourglassNetConfig

SMALL = HourglassNetConfig(channels=4, norm=GroupNormConfig(channels_per_group=4))


def count(module):
    return sum(p.numel() for p in module.parameters())


def test_published_size():
    with torch.device("meta"):
        head = HourglassHeadConfig().build(64, 18)
        assert head(torch.empty(1, 64, 300, 300, 24), (300, 300, 24)).shape == (1, 18, 300, 300, 24)
    one_hourglass = 27 * (32 * 64 + 4 * 64 * 64 + 64 * 32) + 2 * (5 * 64 + 32)
    trunk = 27 * (64 * 32 + 3 * 32 * 32) + 2 * 4 * 32 + 3 * one_hourglass
    scores = 27 * (4 * 32 * 32 + 32 * 18) + 2 * (4 * 32 + 18)
    assert count(head.net) == trunk
    assert count(head) == trunk + scores == 1_925_924
    # Published: about 2.1 million, with a second head that is for depth alone and scores one channel.
    depth_head = 27 * (4 * 32 * 32 + 32) + 2 * (4 * 32 + 1)
    assert count(head) + depth_head == pytest.approx(2.1e6, rel=0.05)


@pytest.mark.parametrize("size", [(8, 8, 4), (10, 7, 3), (5, 6, 1)])
def test_size_of_the_volume_is_kept(size):
    assert SMALL.build(3)(torch.randn(2, 3, *size)).shape == (2, 4, *size)


def test_wiring_of_three_hourglasses():
    """The network written out again, layer by layer, as published."""
    torch.manual_seed(0)
    net = SMALL.build(3).double().eval()
    volume = torch.randn(1, 3, 8, 4, 4, dtype=torch.float64)

    def hourglass(index, x, presqu=None, postsqu=None):
        h = net.hourglasses[index]
        down = h.down(x)
        pre = F.relu(down + postsqu) if postsqu is not None else F.relu(down)
        deep = h.bottom(pre)
        weight = h.up.weight
        post = h.up_norm(F.conv_transpose3d(deep, weight, stride=2, padding=1, output_padding=1))
        post = F.relu(post + (presqu if presqu is not None else pre))
        out = F.conv_transpose3d(post, h.out.weight, stride=2, padding=1, output_padding=1)
        return h.out_norm(out), pre, post

    cost0 = net.stem(volume)
    cost0 = net.refine(cost0) + cost0
    out1, pre1, post1 = hourglass(0, cost0)
    out1 = out1 + cost0
    out2, _, post2 = hourglass(1, out1, pre1, post1)
    out2 = out2 + cost0
    out3, _, _ = hourglass(2, out2, pre1, post2)
    torch.testing.assert_close(net(volume), out3 + cost0)


def test_kernels_start_spread_by_their_outputs():
    torch.manual_seed(0)
    net = HourglassNetConfig().build(64)
    first = net.hourglasses[0]
    for layer, outputs in ((net.stem[0][0], 32), (first.up, 64), (first.out, 32)):
        assert layer.weight.std().item() == pytest.approx(math.sqrt(2 / (27 * outputs)), rel=0.03)
        assert layer.bias is None


@pytest.mark.parametrize("norm_scores", [True, False])
def test_head_scores_on_the_grid_and_every_parameter_learns(norm_scores):
    head = HourglassHeadConfig(net=SMALL, layers=2, norm_scores=norm_scores).build(3, 5)
    scores = head(torch.randn(2, 3, 6, 4, 4), (12, 8, 8))
    assert scores.shape == (2, 5, 12, 8, 8)
    assert (head.score.bias is None) == norm_scores
    scores.square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in head.parameters())
    if norm_scores:  # the bias is the last norm's
        assert torch.allclose(scores.detach().mean(dim=(1, 2, 3, 4)), torch.zeros(2), atol=0.1)


def test_no_hourglass_is_refused():
    with pytest.raises(ConfigError, match="at least 1"):
        HourglassNetConfig(hourglasses=0)
