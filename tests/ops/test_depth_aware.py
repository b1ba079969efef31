"""Sampling images at a depth: by hand, against the outer product, and only what lies around."""

import pytest
import torch
from agreement import assert_agrees, value_and_grads

from occkit.ops.sampling import depth_aware_sample

BACKENDS = ("torch", "numba")


def inputs(dtype=torch.float64, seed=0):
    """Two images of 4 x 5 cells, 6 bins, 2 heads of 3 channels, 7 queries of 3 points, some outside."""
    draw = torch.Generator().manual_seed(seed)
    values = torch.randn(2, 4, 5, 2, 3, generator=draw, dtype=torch.float64)
    depth = torch.randn(2, 4, 5, 6, generator=draw, dtype=torch.float64).softmax(dim=-1)
    locations = torch.rand(2, 7, 2, 3, 3, generator=draw, dtype=torch.float64) * 1.6 - 0.3
    weights = torch.rand(2, 7, 2, 3, generator=draw, dtype=torch.float64)
    return tuple(x.to(dtype) for x in (values, depth, locations, weights))


@pytest.mark.parametrize("backend", ["reference", *BACKENDS])
def test_by_hand(backend):
    values = torch.tensor([10.0, 20.0]).reshape(1, 1, 2, 1, 1)
    depth = torch.tensor([[1.0, 0.0], [0.25, 0.75]]).reshape(1, 1, 2, 2)

    def at(u, k):
        place = torch.tensor([u, 0.5, k]).reshape(1, 1, 1, 1, 3)
        return depth_aware_sample(values, depth, place, torch.ones(1, 1, 1, 1), backend=backend).item()

    assert at(0.25, 0.25) == pytest.approx(10.0)  # the middle of the first cell and of the first bin
    assert at(0.75, 0.75) == pytest.approx(15.0)
    assert at(0.5, 0.5) == pytest.approx(0.5 * 10 * 0.5 + 0.5 * 20 * 0.5)  # between cells and between bins
    assert at(0.75, 1.0) == pytest.approx(7.5)  # half of the last bin is outside
    assert at(0.75, 1.25) == pytest.approx(0.0)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_without_the_outer_product_values_and_gradients_are_the_same(backend, dtype):
    expected = value_and_grads(lambda *x: depth_aware_sample(*x, backend="reference"), *inputs())
    found = value_and_grads(lambda *x: depth_aware_sample(*x, backend=backend), *inputs(dtype))
    for fast, plain in zip(found, expected, strict=True):
        assert_agrees(fast, plain, tolerance=1e-10 if dtype == torch.float64 else 1e-5)


def test_gradients_are_those_of_the_value():
    leaves = tuple(x.requires_grad_() for x in inputs(seed=3))
    assert torch.autograd.gradcheck(lambda *x: depth_aware_sample(*x, backend="torch"), leaves)


def test_a_point_asks_four_cells_and_two_bins():
    values, depth, _, _ = inputs()
    values.requires_grad_()
    depth.requires_grad_()
    place = torch.tensor([0.5, 0.5, 0.5], dtype=torch.float64).reshape(1, 1, 1, 1, 3).expand(2, 1, 2, 1, 3)
    depth_aware_sample(values, depth, place + 0.01, torch.ones(2, 1, 2, 1).double()).sum().backward()
    assert (values.grad[0] != 0).any(-1).any(-1).nonzero().tolist() == [[1, 2], [1, 3], [2, 2], [2, 3]]
    assert (depth.grad[0] != 0).any(0).any(0).nonzero().flatten().tolist() == [2, 3]


def test_shapes_must_agree():
    values, depth, locations, weights = inputs()
    with pytest.raises(ValueError, match=r"values, depth: expected"):
        depth_aware_sample(values, depth[:, :3], locations, weights)
    with pytest.raises(ValueError, match=r"locations: expected \[2, queries, 2, points, 3\]"):
        depth_aware_sample(values, depth, locations[..., :2], weights)
    with pytest.raises(ValueError, match="weights: expected"):
        depth_aware_sample(values, depth, locations, weights[..., :2])
