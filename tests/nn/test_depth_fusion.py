"""A scored and a given depth joined: attention to the cells around by a plain loop, and who can change what."""

import pytest
import torch

from occkit.errors import ConfigError
from occkit.nn.blocks import GroupNormConfig
from occkit.nn.depth import AtrousPyramid
from occkit.nn.depth_fusion import DepthFusionConfig, NeighbourCells
from occkit.nn.volumes import VolumeNetConfig

NORM = GroupNormConfig()
NET = VolumeNetConfig(widths=(4, 6), blocks=(1, 1), strides=(1, 2), channels=4, norm=NORM)
SMALL = DepthFusionConfig(widths=(6, 8), window=3, net=NET, norm=NORM)


def test_attention_to_the_cells_around_equals_a_plain_loop():
    torch.manual_seed(0)
    look = NeighbourCells(4, 3).double()
    x, seen = torch.randn(2, 2, 4, 3, 5, dtype=torch.float64)
    assert torch.equal(look(x, seen), seen), "nothing at first"
    look.gamma.data.fill_(0.7)
    found, query, key, value = look(x, seen), look.query(x), look.key(seen), look.value(seen)
    for b, row, column in ((0, 1, 2), (0, 0, 0), (1, 2, 4)):
        cells = [(r, c) for r in range(row - 1, row + 2) for c in range(column - 1, column + 2)]
        cells = [(r, c) for r, c in cells if 0 <= r < 3 and 0 <= c < 5]
        scores = torch.stack([query[b, :, row, column] @ key[b, :, r, c] / 2 for r, c in cells]).softmax(dim=0)
        sum_of = sum(score * value[b, :, r, c] for score, (r, c) in zip(scores, cells, strict=True))
        assert torch.allclose(found[b, :, row, column], seen[b, :, row, column] + 0.7 * sum_of)


def test_both_depths_count_and_everything_learns():
    torch.manual_seed(0)
    fusion = SMALL.build(7)
    scores, given = torch.randn(1, 7, 5, 6), torch.rand(1, 7, 5, 6)
    out = fusion(scores, given)
    assert out.shape == scores.shape
    assert not torch.allclose(fusion(scores + torch.randn(1, 7, 1, 1), given), out)
    assert not torch.allclose(fusion(scores, given.flip(1)), out)
    out.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in fusion.parameters())


def test_an_atrous_pyramid_sees_as_far_as_its_dilations_and_the_mean_of_all():
    torch.manual_seed(0)
    pyramid = AtrousPyramid(4, (1, 3), GroupNormConfig()).eval()
    for layer in (pyramid.branches[1][1], pyramid.mix[1]):  # group norm mixes all cells: leave it out
        layer.forward = lambda x: x
    pyramid.branches[0][1].forward = lambda x: x
    image = torch.randn(1, 4, 1, 9, requires_grad=True)
    pyramid(image)[0, :, 0, 4].sum().backward()
    reached = image.grad.abs().sum(dim=(0, 1, 2)) > 0
    assert reached.all(), "through the mean"
    pyramid.mix[0].weight.data[:, -4:] = 0
    image.grad = None
    pyramid(image)[0, :, 0, 4].square().sum().backward()
    reached = (image.grad.abs().sum(dim=(0, 1, 2)) > 0).nonzero().flatten().tolist()
    assert set(reached) <= {1, 4, 7}
    assert {1, 7} & set(reached)


def test_impossible_configs_are_refused():
    for changes in ({"window": 4}, {"widths": ()}):
        with pytest.raises(ConfigError, match="an odd window and at least one width"):
            DepthFusionConfig(**changes)
