"""Beams: what a sweep says about voxels, and the loss that learns it."""

import math

import pytest
import torch

from occkit.geometry import VoxelGrid
from occkit.losses import beam_occupancy, beam_targets

GRID = VoxelGrid.from_range((-2, -2, 0), (6, 2, 2), 1.0)


def test_a_beam_empties_what_it_crosses_and_fills_where_it_ends():
    points = torch.tensor([[3.5, 0.5, 0.5]])
    hit, passed = beam_targets(points, (-0.5, 0.5, 0.5), GRID)
    assert hit.nonzero().tolist() == [[5, 2, 0]]
    # From the voxel of the origin to the one before the end; nothing is said of what lies behind.
    assert passed.nonzero().tolist() == [[1, 2, 0], [2, 2, 0], [3, 2, 0], [4, 2, 0]]


def test_a_voxel_that_one_beam_hits_and_another_crosses_is_occupied():
    points = torch.tensor([[3.5, 0.5, 0.5], [5.5, 0.5, 0.5]])
    hit, passed = beam_targets(points, (-0.5, 0.5, 0.5), GRID)
    assert hit[5, 2, 0]
    assert not (hit & passed).any()
    assert passed[6, 2, 0]


def test_a_beam_that_ends_beyond_the_grid_still_empties_it():
    hit, passed = beam_targets(torch.tensor([[50.0, 0.5, 0.5]]), (-0.5, 0.5, 0.5), GRID)
    assert not hit.any()
    assert passed.sum() == 7


def test_occupancy_by_hand():
    probability = torch.tensor([0.9, 0.2, 0.5], dtype=torch.float64).reshape(3, 1, 1).requires_grad_()
    hit, passed = (torch.tensor(row).reshape(3, 1, 1) for row in ([True, False, False], [False, True, False]))
    loss = beam_occupancy(probability, hit, passed)
    assert loss.item() == pytest.approx(-(math.log(0.9) + math.log(0.8)) / 2)
    loss.backward()
    assert probability.grad is not None
    assert probability.grad.flatten().tolist() == pytest.approx([-0.5 / 0.9, 0.5 / 0.8, 0.0])
    nothing = beam_occupancy(probability, hit & passed, hit & passed)
    nothing.backward()
    assert nothing.item() == 0.0


def test_what_is_certain_and_wrong_costs_a_finite_sum():
    probability = torch.tensor([0.0, 1.0]).reshape(2, 1, 1).requires_grad_()
    hit = torch.tensor([True, False]).reshape(2, 1, 1)
    loss = beam_occupancy(probability, hit, ~hit)
    loss.backward()
    assert loss.item() == pytest.approx(-math.log(1e-6), rel=0.05)
    assert probability.grad is not None
    assert probability.grad.isfinite().all()


def test_the_gradient_in_double_precision():
    generator = torch.Generator().manual_seed(0)
    probability = (0.1 + 0.8 * torch.rand(4, 3, 2, generator=generator, dtype=torch.float64)).requires_grad_()
    hit = torch.rand(4, 3, 2, generator=generator) < 0.3
    passed = ~hit & (torch.rand(4, 3, 2, generator=generator) < 0.6)
    assert torch.autograd.gradcheck(lambda p: beam_occupancy(p, hit, passed), (probability,))
