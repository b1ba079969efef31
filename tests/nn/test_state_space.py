"""The Mamba block: who hears whom, both ways alike, how it starts; scan orders: permutations, and the ones they say."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from occkit.errors import ConfigError
from occkit.nn.state_space import SCAN_ORDERS, BidirectionalMambaConfig, SelectiveBranch, scan_permutation

SMALL = BidirectionalMambaConfig(state=3, head=4)


def built(config=SMALL, channels=6):
    torch.manual_seed(0)
    return config.build(channels).double()


def tokens(count=40, channels=6, batch=2, seed=1):
    return torch.randn(batch, count, channels, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_a_branch_is_the_recurrence_written_out():
    torch.manual_seed(0)
    branch = SelectiveBranch(SMALL, 8).double()
    x = tokens(7, 8)
    state, outs = torch.zeros(2, 2, 4, 3, dtype=torch.float64), []
    for t in range(7):
        window = F.pad(x, (0, 0, 3, 0))[:, t : t + 4]
        u = F.silu(torch.einsum("bkd,dk->bd", window, branch.conv.weight[:, 0]) + branch.conv.bias)
        step, write, read = branch.select(u).split([2, 3, 3], dim=-1)
        dt = torch.log1p(torch.exp(step + branch.step_bias))
        heads = u.reshape(2, 2, 4)
        left = torch.exp(-dt * branch.log_rate.exp())
        state = left[..., None, None] * state + torch.einsum("bh,bhp,bn->bhpn", dt, heads, write)
        outs.append((torch.einsum("bhpn,bn->bhp", state, read) + branch.skip[:, None] * heads).flatten(1))
    assert torch.allclose(branch(x), torch.stack(outs, dim=1), atol=1e-12)


def test_branches_of_equal_weights_commute_with_reversal():
    block = built()
    block.branches[1].load_state_dict(block.branches[0].state_dict())
    with torch.no_grad():
        for parameter in (block.project.weight, block.project.bias):
            parameter[12:] = parameter[:12]
    x = tokens()
    assert torch.allclose(block(x.flip(1)), block(x).flip(1), atol=1e-12)
    assert not torch.allclose(built()(x.flip(1)), built()(x).flip(1))


@pytest.mark.parametrize("gate", [False, True])
@pytest.mark.parametrize("backward", [False, True])
def test_a_forward_scan_hears_what_was_and_both_ways_hear_all(backward, gate):
    block = built(BidirectionalMambaConfig(state=3, head=4, backward=backward, gate=gate))
    x = tokens(batch=1).requires_grad_()
    heard = torch.autograd.grad(block(x)[:, 20].sum(), x)[0][0].abs().sum(dim=-1) > 0
    assert heard[:21].all()
    assert bool(heard[21:].all()) == backward
    assert bool(heard[21:].any()) == backward


def test_tokens_start_with_themselves():
    """A block adds to its tokens, and the gate multiplies what it adds."""
    block = built(BidirectionalMambaConfig(state=3, head=4, gate=True))
    with torch.no_grad():
        block.project.weight[24:] = 0
        block.project.bias[24:] = 0
        block.out.bias.zero_()
    assert torch.equal(block(tokens()), tokens())


def test_steps_and_rates_start_in_their_ranges():
    config = BidirectionalMambaConfig(head=1, rates=(2.0, 3.0), steps=(0.01, 0.02))
    torch.manual_seed(0)
    branch = SelectiveBranch(config, 500)
    steps, rates = F.softplus(branch.step_bias).detach(), branch.log_rate.exp().detach()
    assert 0.01 <= steps.min() < 0.0102 < 0.0198 < steps.max() <= 0.0201
    assert 2.0 <= rates.min() < 2.02 < 2.98 < rates.max() <= 3.0
    assert steps.median().item() == pytest.approx(math.sqrt(0.01 * 0.02), rel=0.05)
    assert torch.equal(branch.skip, torch.ones(500))


@pytest.mark.parametrize("gate", [False, True])
def test_forms_agree_and_everything_learns(gate):
    block = built(BidirectionalMambaConfig(state=3, head=4, gate=gate))
    results = []
    for backend in ("reference", "chunked"):
        x = tokens().requires_grad_()
        out = block(x, backend=backend)
        results.append((out, *torch.autograd.grad(out.square().sum(), [x, *block.parameters()])))
    for plain, fast in zip(*results, strict=True):
        assert torch.allclose(plain, fast, rtol=1e-9, atol=1e-10)
        assert plain.abs().max() > 0


def test_impossible_configs_are_refused():
    with pytest.raises(ConfigError, match="heads of 32 do not share out 2 x 6 channels"):
        BidirectionalMambaConfig().build(6)
    with pytest.raises(ConfigError, match="state must be at least 1, got 0"):
        BidirectionalMambaConfig(state=0)
    with pytest.raises(ConfigError, match="steps must be a range above 0"):
        BidirectionalMambaConfig(steps=(0.1, 0.01))


@settings(deadline=None)
@given(
    order=st.sampled_from(SCAN_ORDERS), shape=st.tuples(st.integers(1, 4), *[st.integers(1, 9)] * 2, st.integers(1, 3))
)
def test_every_token_is_scanned_once(order, shape):
    permutation = scan_permutation(order, *shape)
    assert torch.equal(permutation.sort().values, torch.arange(math.prod(shape)))


def test_orders_by_hand():
    """Two frames, two rows, two columns, two depths: token 8 t + 4 i + 2 j + k."""
    first = {
        "frame_raster": [0, 2, 4, 6, 1, 3, 5, 7, 8],
        "time_fast": [0, 8, 2, 10, 4, 12, 6, 14, 1],
        "column": [0, 4, 2, 6, 1, 5, 3, 7, 8],
        "depth": [0, 1, 2, 3, 4, 5, 6, 7, 8],
        "hilbert": [0, 4, 6, 2, 1, 5, 7, 3, 8],
    }
    assert {order: scan_permutation(order, 2, 2, 2, 2)[:9].tolist() for order in SCAN_ORDERS} == first


@pytest.mark.parametrize("side", [2, 4, 8, 16])
def test_the_hilbert_curve_makes_steps_of_one(side):
    cells = scan_permutation("hilbert", 1, side, side)
    row, column = cells // side, cells % side
    assert ((row.diff().abs() + column.diff().abs()) == 1).all()
    assert cells[0] == 0


def test_the_hilbert_curve_keeps_the_image_together_in_any_shape():
    """Mean distance along the curve between cells one above the other, against that of a raster."""
    rows, columns = 12, 40
    place = scan_permutation("hilbert", 1, rows, columns).argsort().reshape(rows, columns)
    assert place.diff(dim=0).abs().float().median() < columns / 4
