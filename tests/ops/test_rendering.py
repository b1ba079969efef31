import math

import pytest
import torch
from agreement import assert_agrees, value_and_grads
from hypothesis import given, settings
from hypothesis import strategies as st

from occkit.ops.rendering import (
    composite,
    end_in_last_sample,
    render_depth,
    render_features,
    render_weights_from_density,
    render_weights_from_occupancy,
    render_weights_saturating,
    resample,
    resample_intervals,
    termination_distribution,
)
from occkit.ops.sampling import sample_trilinear

BACKENDS = ("reference", "torch", "numba")


def test_density_weights_by_hand():
    log2 = math.log(2)
    cases = {
        (0.0, 0.0, 0.0): (0.0, 0.0, 0.0),  # empty
        (log2, log2, log2): (0.5, 0.25, 0.125),
        (1e4, 1.0, 1.0): (1.0, 0.0, 0.0),  # opaque at once
        (0.0, log2, 1e4): (0.0, 0.5, 0.5),
    }
    for optical, expected in cases.items():
        weights = render_weights_from_density(torch.tensor(optical), torch.ones(3))
        torch.testing.assert_close(weights, torch.tensor(expected))
    # One sample, and half the density over twice the length.
    torch.testing.assert_close(
        render_weights_from_density(torch.tensor([log2 / 2]), torch.tensor([2.0])), torch.tensor([0.5])
    )
    assert render_weights_from_density(torch.zeros(4, 0), torch.zeros(4, 0)).shape == (4, 0)


def test_density_weights_of_thin_media_keep_their_precision():
    optical = torch.full((1,), 1e-9)
    assert render_weights_from_density(optical, torch.ones(1)).item() == pytest.approx(1e-9, rel=1e-6)


def test_occupancy_weights_by_hand():
    cases = {(0.0, 0.0): (0.0, 0.0), (1.0, 1.0): (1.0, 0.0), (0.5, 0.5): (0.5, 0.25), (0.0, 0.25): (0.0, 0.25)}
    for probability, expected in cases.items():
        assert render_weights_from_occupancy(torch.tensor(probability)).tolist() == list(expected)


def test_occupancy_gradient_at_exactly_zero_and_one():
    probability = torch.tensor([0.0, 1.0, 0.5], requires_grad=True)
    (render_weights_from_occupancy(probability) * torch.tensor([1.0, 10.0, 100.0])).sum().backward()
    # L = p0 + 10 (1 - p0) p1 + 100 (1 - p0) (1 - p1) p2
    assert probability.grad is not None
    assert probability.grad.tolist() == [1.0 - 10.0, 10.0 - 50.0, 0.0]


def test_saturating_weights_by_hand():
    weights = render_weights_saturating(torch.tensor([0.3, 0.5, 0.4, 0.9]))
    torch.testing.assert_close(weights, torch.tensor([0.3, 0.5, 0.2, 0.0]))
    assert render_weights_saturating(torch.zeros(3)).tolist() == [0.0, 0.0, 0.0]
    assert render_weights_saturating(torch.ones(1)).tolist() == [1.0]


def test_nothing_behind_saturation_gets_a_gradient():
    occupancy = torch.tensor([0.5, 0.75, 0.5], requires_grad=True)
    (render_weights_saturating(occupancy) * torch.tensor([1.0, 2.0, 4.0])).sum().backward()
    assert occupancy.grad is not None
    assert occupancy.grad.tolist() == [-1.0, 0.0, 0.0]


def test_the_last_sample_takes_what_is_left():
    occupancy = torch.tensor([[0.3, 0.5, 0.4, 0.9], [0.3, 0.25, 0.25, 0.05], [0.0, 0.0, 0.0, 0.0]], dtype=torch.float64)
    occupancy.requires_grad_()
    weights = end_in_last_sample(render_weights_saturating(occupancy))
    expected = torch.tensor([[0.3, 0.5, 0.2, 0.0], [0.3, 0.25, 0.25, 0.2], [0.0, 0.0, 0.0, 1.0]], dtype=torch.float64)
    torch.testing.assert_close(weights, expected)
    depth = render_depth(weights, torch.tensor([1.0, 2.0, 4.0, 8.0], dtype=torch.float64))
    torch.testing.assert_close(depth.detach(), torch.tensor([2.1, 3.4, 8.0], dtype=torch.float64))
    (gradient,) = torch.autograd.grad(depth.sum(), occupancy)
    # Below saturation each sample draws from the last one: t_i - t_S. The first ray is full at its third sample.
    torch.testing.assert_close(
        gradient,
        torch.tensor([[-3.0, -2.0, 0.0, 0.0], [-7.0, -6.0, -4.0, 0.0], [-7.0, -6.0, -4.0, 0.0]], dtype=torch.float64),
    )


@pytest.mark.parametrize("render", [render_weights_from_occupancy, render_weights_saturating])
def test_ending_in_the_last_sample_is_a_last_sample_that_is_occupied(render):
    occupancy = torch.rand(6, 5, dtype=torch.float64) / 3
    closed = end_in_last_sample(render(occupancy))
    certain = torch.cat([occupancy[:, :-1], torch.ones(6, 1, dtype=torch.float64)], dim=1)
    torch.testing.assert_close(closed, render(certain))
    torch.testing.assert_close(closed.sum(-1), torch.ones(6, dtype=torch.float64))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 20))
def test_weights_are_a_distribution_with_its_missing_mass(seed, num_samples):
    generator = torch.Generator().manual_seed(seed)
    random = torch.rand(5, num_samples, generator=generator, dtype=torch.float64)
    deltas = torch.rand(num_samples, generator=generator, dtype=torch.float64)
    for weights, missing in (
        (render_weights_from_density(random * 3, deltas), torch.exp(-(random * 3 * deltas).sum(-1))),
        (render_weights_from_occupancy(random), (1 - random).prod(-1)),
        (render_weights_saturating(random / 4), (1 - (random / 4).sum(-1)).clamp(min=0)),
    ):
        assert (weights >= 0).all()
        distribution = termination_distribution(weights)
        torch.testing.assert_close(distribution.sum(-1), torch.ones(5, dtype=torch.float64))
        torch.testing.assert_close(distribution[:, -1], missing)


def test_density_and_occupancy_agree():
    density, deltas = torch.rand(4, 9, dtype=torch.float64), torch.rand(9, dtype=torch.float64)
    by_occupancy = render_weights_from_occupancy(1 - torch.exp(-density * deltas))
    torch.testing.assert_close(render_weights_from_density(density, deltas), by_occupancy)


def test_splitting_an_interval_changes_nothing():
    density, deltas = torch.rand(3, 4, dtype=torch.float64), torch.rand(3, 4, dtype=torch.float64)
    halves = render_weights_from_density(density.repeat_interleave(2, -1), deltas.repeat_interleave(2, -1) / 2)
    torch.testing.assert_close(halves.reshape(3, 4, 2).sum(-1), render_weights_from_density(density, deltas))


def test_gradcheck():
    inputs = (
        torch.rand(2, 5, dtype=torch.float64).requires_grad_(),
        torch.rand(2, 5, dtype=torch.float64).requires_grad_(),
    )
    assert torch.autograd.gradcheck(render_weights_from_density, inputs)
    assert torch.autograd.gradcheck(render_weights_from_occupancy, inputs[:1])
    assert torch.autograd.gradcheck(lambda w, t: render_depth(w, t, normalize=True), inputs)
    assert torch.autograd.gradcheck(termination_distribution, ((inputs[0].detach() / 9).requires_grad_(),))
    values = torch.randn(2, 5, 3, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(composite, (inputs[0], values))


def test_compositing_and_depth_by_hand():
    weights = torch.tensor([[0.5, 0.25], [0.0, 0.0]])
    t = torch.tensor([2.0, 4.0])
    assert render_depth(weights, t).tolist() == [2.0, 0.0]
    torch.testing.assert_close(render_depth(weights, t, normalize=True), torch.tensor([2.0 / 0.75, 0.0]))
    values = torch.tensor([[[1.0, 0.0], [0.0, 4.0]]]).expand(2, 2, 2)
    assert composite(weights, values).tolist() == [[0.5, 1.0], [0.0, 0.0]]


def some_rays(shape, rays, samples, seed=0):
    generator = torch.Generator().manual_seed(seed)
    size = torch.tensor(shape, dtype=torch.float64)
    points = torch.rand(rays, samples, 3, generator=generator, dtype=torch.float64) * (size + 3) - 1.5
    density = torch.rand(rays, samples, generator=generator, dtype=torch.float64)
    return points.float().double(), render_weights_from_density(density, torch.ones(samples, dtype=torch.float64))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("shape", "rays", "samples", "channels"), [((1, 1, 1), 1, 1, 1), ((5, 4, 3), 7, 9, 5), ((12, 10, 4), 40, 24, 64)]
)
def test_fused_features_are_sampling_then_compositing(backend, dtype, shape, rays, samples, channels):
    points, weights = some_rays(shape, rays, samples)
    volume = torch.randn(shape[0] * shape[1] * shape[2], channels, dtype=torch.float64)

    def plain(table, factors):
        return composite(factors, sample_trilinear(table, shape, points, backend="reference"))

    def ours(table, factors):
        return render_features(table, shape, points.to(dtype), factors, backend=backend)

    want = value_and_grads(plain, volume, weights)
    for fast, reference in zip(value_and_grads(ours, volume.to(dtype), weights.to(dtype)), want, strict=True):
        assert fast.dtype == dtype
        assert_agrees(fast, reference, tolerance=5e-6 if dtype == torch.float32 else None)


@pytest.mark.parametrize("backend", BACKENDS)
def test_light_samples_can_be_left_out(backend):
    shape = (3, 3, 3)
    points, weights = some_rays(shape, 6, 8)
    volume = torch.randn(27, 4, dtype=torch.float64)
    heavy = torch.where(weights >= 0.05, weights, 0)
    assert 0 < (heavy == 0).sum() < heavy.numel()
    out, grad_volume, grad_weights = value_and_grads(
        lambda v, w: render_features(v, shape, points, w, min_weight=0.05, backend=backend), volume, weights
    )
    want = value_and_grads(lambda v, w: render_features(v, shape, points, w, backend="reference"), volume, heavy)
    assert_agrees(out, want[0])
    assert_agrees(grad_volume, want[1])
    assert_agrees(grad_weights, torch.where(heavy > 0, want[2], 0))


def test_an_empty_ray_renders_nothing_and_an_opaque_one_its_first_sample():
    volume, shape = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), (2, 1, 1)
    points = torch.tensor([[0.5, 0.5, 0.5], [1.5, 0.5, 0.5]]).expand(2, 2, 3)
    weights = render_weights_from_density(torch.tensor([[0.0, 0.0], [1e5, 1.0]]), torch.ones(2))
    assert render_features(volume, shape, points, weights).tolist() == [[0.0, 0.0], [1.0, 2.0]]
    with pytest.raises(ValueError, match="points: expected"):
        render_features(volume, shape, points[:1], weights)


def test_resampling_by_hand():
    edges = torch.tensor([0.0, 1.0, 3.0])
    # All mass in the second bin: every sample there, evenly.
    assert resample(torch.tensor([0.0, 0.7]), edges, 4).tolist() == pytest.approx([1.25, 1.75, 2.25, 2.75])
    assert resample(torch.tensor([0.5, 0.0]), edges, 2).tolist() == pytest.approx([0.25, 0.75])
    # A quarter and three quarters.
    assert resample(torch.tensor([1.0, 3.0]), edges, 4).tolist() == pytest.approx([0.5, 1 + 1 / 3, 2.0, 1 + 5 / 3])
    # No mass at all: evenly over the whole length.
    assert resample(torch.zeros(2), edges, 3).tolist() == pytest.approx([0.5, 1.5, 2.5])


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 12), st.integers(1, 40), st.booleans())
def test_samples_are_ordered_counted_and_only_where_there_is_mass(seed, num_bins, num_samples, stratified):
    generator = torch.Generator().manual_seed(seed)
    weights = torch.rand(7, num_bins, generator=generator) * (torch.rand(7, num_bins, generator=generator) < 0.6)
    weights[0] = 0
    edges = torch.cat([torch.zeros(1), torch.rand(num_bins, generator=generator).cumsum(0)]) + 0.05
    out = resample(weights, edges, num_samples, generator=generator if stratified else None)
    assert out.shape == (7, num_samples)
    assert (out.diff(dim=-1) >= 0).all()
    bins = (torch.searchsorted(edges, out, right=True) - 1).clamp(0, num_bins - 1)
    counted = torch.zeros(7, num_bins).scatter_add_(1, bins, torch.ones_like(out))
    touching = torch.isin(out, edges)  # a sample on an edge belongs to either side
    for ray in range(1, 7):
        if weights[ray].any() and not touching[ray].any():
            assert not counted[ray][weights[ray] == 0].any()
            expected = weights[ray] / weights[ray].sum() * num_samples
            slack = 2 if stratified else 1  # at each end of a bin a sample of its own stratum may fall to either side
            assert ((counted[ray] - expected).abs() <= slack + 1e-3).all()


def test_a_ray_of_no_length_is_sampled_where_it_is():
    assert resample(torch.zeros(1, 4), torch.full((1, 5), 0.25), 3).tolist() == [[0.25, 0.25, 0.25]]
    assert resample(torch.ones(1, 4), torch.full((1, 5), 0.25), 3).tolist() == [[0.25, 0.25, 0.25]]


def test_resampling_is_repeatable_and_detached():
    weights = torch.rand(3, 5, requires_grad=True)
    edges = torch.linspace(0, 1, 6)
    first, second = (resample(weights, edges, 8, generator=torch.Generator().manual_seed(4)) for _ in range(2))
    assert torch.equal(first, second)
    assert not first.requires_grad
    assert not torch.equal(first, resample(weights, edges, 8))
    with pytest.raises(ValueError, match="edges: expected 6"):
        resample(weights, edges[:-1], 8)
    with pytest.raises(ValueError, match="num_samples"):
        resample(weights, edges, 0)


def test_intervals_cover_a_ray_and_hold_equal_mass():
    edges = torch.tensor([0.0, 1.0, 2.0, 4.0])
    assert resample_intervals(torch.tensor([0.0, 3.0, 1.0]), edges, 4).tolist() == pytest.approx(
        [0.0, 1 + 1 / 3, 1 + 2 / 3, 2.0, 4.0]
    )
    even = resample_intervals(torch.zeros(3), edges, 4)
    assert even.tolist() == resample_intervals(torch.rand(3), edges, 4, even=1.0).tolist() == [0.0, 1.0, 2.0, 3.0, 4.0]
    some = resample_intervals(torch.tensor([1.0, 0.0, 0.0]), edges, 100, even=0.1)
    assert (some > 1).sum().item() == pytest.approx(100 * 0.1 * 3 / 4, abs=1), "its share of what is even"
    nowhere = resample_intervals(torch.rand(2, 3), torch.full((2, 4), 0.5), 5)
    assert torch.equal(nowhere, torch.full((2, 6), 0.5))
    for wrong in ({"num_intervals": 0}, {"num_intervals": 2, "even": 1.5}):
        with pytest.raises(ValueError, match="at least 1 interval"):
            resample_intervals(torch.ones(3), edges, **wrong)
    with pytest.raises(ValueError, match="expected 4 for 3 bins"):
        resample_intervals(torch.ones(3), edges[:3], 2)
