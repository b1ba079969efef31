"""Deformable attention in a volume: against explicit trilinear sampling, who hears whom, and the published fold."""

import pytest
import torch

from occkit.errors import ConfigError
from occkit.nn.volume_attention import NeighbourAttention, VolumeAttentionConfig

SHAPE = (5, 4, 3)
SMALL = VolumeAttentionConfig(layers=1, heads=2, points=2, hidden=12, dropout=0.0)


def built(config=SMALL, channels=6, *, spread=0.0):
    torch.manual_seed(0)
    module = config.build(channels).double()
    if spread:
        for parameter in module.parameters():
            torch.nn.init.normal_(parameter, std=spread)
    return module


def rows(count=60, channels=6, seed=1):
    return torch.randn(2, count, channels, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def trilinear(volume, place):
    """Weigh every voxel by the product of three hats: `sum_i prod_axis max(0, 1 - |x - 0.5 - i|) volume[i]`."""
    hats = [(1 - (place[a] - 0.5 - torch.arange(volume.shape[a])).abs()).clamp(min=0) for a in range(3)]
    return torch.einsum("i,j,k,ijkc->c", *hats, volume)


def test_attention_is_explicit_trilinear_sampling():
    torch.manual_seed(0)
    attention = NeighbourAttention(SMALL, 6).double()
    for parameter in attention.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    x, queries = rows(), rows(seed=2)
    found = attention(x, queries, SHAPE)
    index = torch.stack(torch.meshgrid(*[torch.arange(n) for n in SHAPE], indexing="ij"), dim=-1).reshape(-1, 3)
    values = attention.value(x).reshape(2, *SHAPE, 2, 3)
    for b, q in ((0, 0), (0, 31), (1, 59), (1, 17)):
        offsets = attention.offset(queries[b, q]).reshape(2, 2, 3)
        weights = attention.weight(queries[b, q]).reshape(2, 2).softmax(dim=-1)
        heads = [
            sum(weights[h, p] * trilinear(values[b, ..., h, :], index[q] + 0.5 + offsets[h, p]) for p in range(2))
            for h in range(2)
        ]
        assert torch.allclose(found[b, q], attention.out(torch.cat(heads)), atol=1e-10)


@pytest.mark.parametrize("backend", ["torch", "numba"])
def test_fast_forms_give_the_same_values_and_gradients(backend):
    module, results = built(spread=0.3), []
    for chosen in ("reference", backend):
        x = rows().requires_grad_()
        out = module(x, SHAPE, backend=chosen)
        results.append((out, *torch.autograd.grad(out.square().sum(), [x, *module.parameters()])))
    for fast, plain in zip(*results, strict=True):
        assert torch.allclose(fast, plain, atol=1e-9)


def test_a_voxel_hears_its_neighbours_in_three_dimensions_alone():
    """At first a head looks one voxel away in its own direction: nothing farther than that is heard."""
    attention = NeighbourAttention(VolumeAttentionConfig(heads=6, points=1, dropout=0.0), 6).double()
    shape, here = (7, 7, 7), (3, 3, 3)
    x = rows(343).requires_grad_()
    attention(x, x, shape)[0, 3 * 49 + 3 * 7 + 3].sum().backward()
    heard = x.grad[0].abs().sum(dim=-1).reshape(shape).nonzero()
    assert (heard - torch.tensor(here)).abs().max() == 1
    assert len(heard) > 1
    assert not x.grad[1].any()


def test_the_fold_jumps_to_the_left_where_three_dimensions_go_down():
    """256 x 256 x 32 halved is 128 x 128 x 16; here 8 x 8 x 4 in 16 x 16: rows of the fold are four y of one x."""
    shape, centre = (8, 8, 4), 3 * 32 + 4 * 4 + 1
    heard = {}
    for fold in (None, (16, 16)):
        config = VolumeAttentionConfig(heads=2, points=1, dropout=0.0, fold=fold)
        attention = NeighbourAttention(config, 4).double()
        torch.nn.init.zeros_(attention.offset.bias)
        with torch.no_grad():
            attention.offset.bias.reshape(2, -1)[:, 1] = 1.0  # one row down, or one voxel along y
        x = rows(256, 4).requires_grad_()
        attention(x, x, shape)[0, centre].sum().backward()
        found = x.grad[0].abs().sum(dim=-1).nonzero().flatten().tolist()
        heard[fold] = [(i // 32, i // 4 % 8, i % 4) for i in found]
    assert heard[None] == [(3, 5, 1)]
    assert heard[16, 16] == [(4, 0, 1)]


def test_dropout_is_for_training_and_everything_learns():
    module = built(VolumeAttentionConfig(layers=2, heads=2, points=2, hidden=12, dropout=0.5), spread=0.2)
    x = rows()
    assert not torch.equal(module(x, SHAPE), module(x, SHAPE))
    module.eval()
    assert torch.equal(module(x, SHAPE), module(x, SHAPE))
    module(x, SHAPE).square().sum().backward()
    assert all(p.grad is not None for p in module.parameters())


def test_impossible_configs_are_refused():
    with pytest.raises(ConfigError, match="4 heads do not share out 6 channels"):
        VolumeAttentionConfig(heads=4).build(6)
    with pytest.raises(ConfigError, match="points must be at least 1"):
        VolumeAttentionConfig(points=0)
    with pytest.raises(ConfigError, match="dropout must lie in"):
        VolumeAttentionConfig(dropout=1.0)
    with pytest.raises(ConfigError, match=r"do not fill a fold of \(4, 4\); set fold to None"):
        built(VolumeAttentionConfig(heads=2, fold=(4, 4)))(rows(), SHAPE)
