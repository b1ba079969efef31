import pytest
import torch
from agreement import assert_agrees, value_and_grads
from hypothesis import given, settings
from hypothesis import strategies as st

from occkit.ops.gather import Bags, choose_backend, gather_sum

FAST = ("torch", "numba")


def pairs(num_taps, num_bags, num_rows, seed=0):
    generator = torch.Generator().manual_seed(seed)
    owner = torch.randint(0, num_bags, (num_taps,), generator=generator)
    return owner, torch.randint(0, num_rows, (num_taps,), generator=generator)


@pytest.mark.parametrize("backend", ["reference", *FAST])
def test_literal_sums(backend):
    # Bag 0 reads rows 0 and 1, bag 1 nothing, bag 2 reads row 1 twice.
    bags, order = Bags.from_pairs(torch.tensor([2, 0, 2, 0]), torch.tensor([1, 0, 1, 1]), num_bags=3, num_rows=2)
    weights = torch.tensor([3.0, 0.5, 4.0, 2.0])[order]
    out = gather_sum(torch.tensor([[1.0, -1.0], [10.0, 0.0]]), bags, weights, backend=backend)
    assert out.tolist() == [[20.5, -0.5], [0.0, 0.0], [70.0, 0.0]]


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("taps", "num_bags", "rows", "channels"), [(1, 1, 1, 1), (40, 7, 5, 3), (999, 64, 200, 17)])
def test_fast_forms_agree_with_the_reference(backend, dtype, taps, num_bags, rows, channels):
    torch.manual_seed(1)
    bags, _ = Bags.from_pairs(*pairs(taps, num_bags, rows), num_bags=num_bags, num_rows=rows)
    table, weights = torch.randn(rows, channels, dtype=torch.float64), torch.randn(taps, dtype=torch.float64)
    want = value_and_grads(lambda t, w: gather_sum(t, bags, w, backend="reference"), table, weights)
    got = value_and_grads(lambda t, w: gather_sum(t, bags, w, backend=backend), table.to(dtype), weights.to(dtype))
    for fast, reference in zip(got, want, strict=True):
        assert fast.dtype == dtype
        assert_agrees(fast, reference)


@pytest.mark.parametrize("backend", FAST)
def test_half_precision_is_computed_in_float32(backend):
    bags, _ = Bags.from_pairs(
        torch.zeros(4096, dtype=torch.int64), torch.zeros(4096, dtype=torch.int64), num_bags=1, num_rows=1
    )
    table = torch.ones(1, 1, dtype=torch.bfloat16)
    # Summed in bfloat16, 256 + 1 is 256 and the total would stay there.
    assert gather_sum(table, bags, backend=backend).tolist() == [[4096.0]]
    assert gather_sum(table, bags, backend=backend).dtype == torch.bfloat16


def test_gradients_of_the_reference_and_of_numba():
    bags, _ = Bags.from_pairs(*pairs(12, 4, 3), num_bags=4, num_rows=3)
    leaves = (
        torch.randn(3, 2, dtype=torch.float64).requires_grad_(),
        torch.randn(12, dtype=torch.float64).requires_grad_(),
    )
    for backend in ("reference", "numba"):
        assert torch.autograd.gradcheck(lambda t, w, b=backend: gather_sum(t, bags, w, backend=b), leaves)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 50), st.integers(1, 9), st.integers(1, 9), st.integers(0, 10**6))
def test_bags_hold_every_pair_once_from_both_sides(taps, num_bags, rows, seed):
    owner, index = pairs(taps, num_bags, rows, seed)
    bags, order = Bags.from_pairs(owner, index, num_bags=num_bags, num_rows=rows)
    assert torch.equal(bags.owner, owner[order])
    assert torch.equal(bags.index, index[order])
    assert torch.equal(bags.offsets.diff(), torch.bincount(owner, minlength=num_bags))
    assert torch.equal(bags.index[bags.row_order], bags.index.sort().values)
    assert torch.equal(bags.owner[bags.row_order], bags.row_owner)
    assert torch.equal(bags.row_offsets.diff(), torch.bincount(index, minlength=rows))


def test_promised_orders_give_the_same_bags():
    owner, index = pairs(60, 8, 9)
    by_owner, by_index = owner.sort(stable=True).indices, index.sort(stable=True).indices
    for order, promise in ((by_owner, "owner_is_sorted"), (by_index, "index_is_sorted")):
        plain, plain_order = Bags.from_pairs(owner[order], index[order], num_bags=8, num_rows=9)
        quick, quick_order = Bags.from_pairs(owner[order], index[order], num_bags=8, num_rows=9, **{promise: True})
        assert torch.equal(plain_order, quick_order)
        table = torch.randn(9, 2, dtype=torch.float64)
        weights = torch.randn(60, dtype=torch.float64)
        results = [
            value_and_grads(lambda t, w, b=bags: gather_sum(t, b, w, backend="numba"), table, weights)
            for bags in (plain, quick)
        ]
        for first, second in zip(*results, strict=True):
            assert_agrees(first, second)


def test_wrong_input_is_named():
    owner = index = torch.tensor([0, 1])
    with pytest.raises(ValueError, match=r"owner: expected values in 0\.\.0, got 0\.\.1"):
        Bags.from_pairs(owner, index, num_bags=1, num_rows=2)
    with pytest.raises(ValueError, match="index: expected"):
        Bags.from_pairs(owner, index - 1, num_bags=2, num_rows=2)
    bags, _ = Bags.from_pairs(owner, index, num_bags=2, num_rows=2)
    with pytest.raises(ValueError, match="table: expected"):
        gather_sum(torch.zeros(3, 1), bags)
    with pytest.raises(ValueError, match="weights: expected"):
        gather_sum(torch.zeros(2, 1), bags, torch.zeros(3))
    with pytest.raises(ValueError, match="backend: expected"):
        choose_backend("fast", torch.zeros(1))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="runs on the CPU"):
        choose_backend("numba", torch.zeros(1, device="meta"))


def test_shapes_are_known_on_the_meta_device():
    bags, _ = Bags.from_pairs(
        torch.zeros(5, dtype=torch.int64, device="meta"),
        torch.zeros(5, dtype=torch.int64, device="meta"),
        num_bags=4,
        num_rows=3,
    )
    assert gather_sum(torch.zeros(3, 6, device="meta"), bags).shape == (4, 6)
