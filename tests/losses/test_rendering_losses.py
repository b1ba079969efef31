import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from occkit.losses import colour_loss, distortion_loss, occupancy_sparsity, opacity_entropy
from occkit.ops.rendering import end_in_last_sample, render_weights_saturating


def random(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def all_pairs(weights, t, deltas):
    """The distortion as it is defined, samples x samples."""
    apart = (t[..., :, None] - t[..., None, :]).abs()
    pairs = (weights[..., :, None] * weights[..., None, :] * apart).sum(dim=(-2, -1))
    return (pairs + (weights**2 * deltas).sum(dim=-1) / 3).mean()


def test_entropy_by_hand():
    quarter = -0.25 * math.log(0.25) - 0.75 * math.log(0.75)
    opacity = torch.tensor([0.5, 0.25], dtype=torch.float64)
    assert opacity_entropy(opacity).item() == pytest.approx((math.log(2) + quarter) / 2)
    assert opacity_entropy(1 - opacity).item() == pytest.approx((math.log(2) + quarter) / 2)
    decided = torch.tensor([0.0, 1.0], requires_grad=True)
    loss = opacity_entropy(decided)
    loss.backward()
    assert loss.item() < 2e-5
    assert decided.grad is not None
    assert decided.grad.tolist() == [0.0, 0.0]


def test_entropy_of_the_last_weight_is_that_of_the_opacity():
    weights = render_weights_saturating(random(7, 4) / 5)
    background = end_in_last_sample(weights)[:, -1]
    torch.testing.assert_close(opacity_entropy(background), opacity_entropy(weights[:, :-1].sum(-1)))


def test_distortion_by_hand():
    t, deltas = torch.tensor([1.0, 2.0, 4.0]), torch.tensor([1.0, 1.0, 3.0])
    # One place: only the length of its own interval.
    assert distortion_loss(torch.tensor([0.0, 0.5, 0.0]), t, deltas).item() == pytest.approx(0.25 / 3)
    # Two places, both orders: 2 * 0.5 * 0.25 * 3, and their intervals.
    found = distortion_loss(torch.tensor([[0.5, 0.0, 0.25]]), t, deltas).item()
    assert found == pytest.approx(0.75 + (0.25 + 3 * 0.0625) / 3)
    assert distortion_loss(torch.tensor([[0.7]]), torch.tensor([9.0]), torch.tensor([3.0])).item() == pytest.approx(
        0.49
    )


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 4), st.integers(1, 30), st.booleans())
def test_distortion_in_one_pass_is_that_of_all_pairs(seed, rays, samples, shared):
    weights, deltas = random(rays, samples, seed=seed) / samples, random(rays, samples, seed=seed + 1)
    if shared:
        deltas = deltas[0]
    t = deltas.cumsum(dim=-1)
    leaves = [x.requires_grad_() for x in (weights, t.detach(), deltas)]
    found, expected = distortion_loss(*leaves), all_pairs(*leaves)
    torch.testing.assert_close(found, expected)
    for ours, plain in zip(torch.autograd.grad(found, leaves), torch.autograd.grad(expected, leaves), strict=True):
        torch.testing.assert_close(ours, plain)


def test_distortion_keeps_its_digits_far_out():
    """Two surfaces 1 mm apart at 10 km in single precision, where a difference of sums has no digits left."""
    t = torch.linspace(9999.9, 9999.9 + 100 * 2**-10, 101)
    weights = torch.zeros(1, 101)
    weights[0, [40, 41]] = 0.5
    found = distortion_loss(weights, t, torch.zeros(1)).item()
    assert found == pytest.approx(0.5 * (t[41] - t[40]).item(), rel=1e-4)


def test_sparsity_is_cross_entropy_against_empty():
    logits = torch.tensor([-2.0, 0.0, 3.0, 60.0], dtype=torch.float64, requires_grad=True)
    loss = occupancy_sparsity(logits)
    expected = F.binary_cross_entropy_with_logits(logits.detach(), torch.zeros(4, dtype=torch.float64))
    assert loss.item() == pytest.approx(expected.item())
    (slope,) = torch.autograd.grad(loss, logits)
    torch.testing.assert_close(slope, logits.detach().sigmoid() / 4)


def test_gradients_of_rendering_losses():
    weights, t = (random(2, 6) / 6).requires_grad_(), random(6, seed=1).sort().values.requires_grad_()
    deltas = random(2, 6, seed=2).requires_grad_()
    assert torch.autograd.gradcheck(distortion_loss, (weights, t, deltas))
    assert torch.autograd.gradcheck(opacity_entropy, (random(3, 4).requires_grad_(),))
    assert torch.autograd.gradcheck(occupancy_sparsity, (random(3, 4).requires_grad_(),))


def test_no_rays_and_half_precision():
    nobody = torch.zeros(0, 3, requires_grad=True)
    total = opacity_entropy(nobody[:, 0]) + distortion_loss(nobody, torch.arange(3.0), torch.ones(3))
    (total + occupancy_sparsity(nobody)).backward()
    assert total.item() == 0
    weights, t = (random(2, 50) / 50).bfloat16(), torch.arange(50.0)
    deltas = torch.ones(50)
    found = distortion_loss(weights, t, deltas)
    assert found.item() == pytest.approx(distortion_loss(weights.double(), t.double(), deltas).item(), rel=1e-5)
    assert opacity_entropy(weights[:, 0]).dtype == torch.float32


def test_colours_by_hand():
    rendered = torch.tensor([[0.5, 0.0, 1.0], [0.2, 0.2, 0.2]], dtype=torch.float64, requires_grad=True)
    target = torch.tensor([[1.0, 0.0, 0.0], [0.9, 0.9, 0.9]], dtype=torch.float64)
    loss = colour_loss(rendered, target, mask=torch.tensor([True, False]))
    assert loss.item() == pytest.approx(1.5 / 6)
    loss.backward()
    assert rendered.grad is not None
    # The slope of |c - g|, a sixth of each sign; the ray that does not count teaches nothing.
    assert rendered.grad.flatten().tolist() == pytest.approx([-1 / 6, 0.0, 1 / 6, 0.0, 0.0, 0.0])
    none = colour_loss(rendered[:0], target[:0], mask=torch.zeros(0, dtype=torch.bool))
    none.backward()
    assert none.item() == 0.0


def test_the_gradient_of_colours_in_double_precision():
    rendered, target = random(5, 3).requires_grad_(), random(5, 3, seed=1)
    mask = torch.tensor([True, False, True, True, False])
    assert torch.autograd.gradcheck(lambda c: colour_loss(c, target, mask=mask), (rendered,))
