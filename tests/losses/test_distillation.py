import math

import pytest
import torch

from occkit.losses import (
    distill_affinity,
    distill_channels,
    distill_depth,
    distill_features,
    distill_logits,
    distill_semantics,
    distill_termination,
    fields_from_logits,
    ray_subset,
)
from occkit.ops.rendering import (
    render_depth,
    render_features,
    render_weights_from_density,
    termination_distribution,
)
from occkit.ops.sampling import sample_trilinear

EPSILON = 1e-6
SEGMENTS = torch.tensor([4, 4, 9, 4, 9, -1])
MASK = torch.tensor([[True, True, False, True, True, False]])

# Every criterion as a function of six rays (or voxels) with five numbers each.
CRITERIA = {
    "termination": lambda s, t: distill_termination(s.abs() / 16, t.abs() / 16),
    "double softmax": lambda s, t: distill_termination(s.abs() / 16, t.abs() / 16, double_softmax=True),
    "depth": lambda s, t: distill_depth(s[:, 0], t[:, 0]),
    "semantics": distill_semantics,
    "affinity": lambda s, t: distill_affinity(s, t, SEGMENTS),
    "affinity, centred": lambda s, t: distill_affinity(s, t, SEGMENTS, center=True, weigh_by="rays"),
    "logits": lambda s, t: distill_logits(s.T[None], t.T[None], mask=MASK, temperature=2.0),
    "features, l1": lambda s, t: distill_features(s.T[None], t.T[None], mask=MASK, norm="l1"),
    "features, l2": lambda s, t: distill_features(s.T[None], t.T[None], mask=MASK),
    "channels": lambda s, t: distill_channels(s.T[None], t.T[None], mask=MASK),
}
every_criterion = pytest.mark.parametrize("criterion", CRITERIA.values(), ids=CRITERIA.keys())


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def delta(place, num_samples=8, opacity=1.0):
    """Weights of one ray that meets a plane of this opacity in one sample."""
    optical = torch.zeros(1, num_samples, dtype=torch.float64)
    optical[0, place] = 1e9 if opacity == 1 else -math.log1p(-opacity)
    return render_weights_from_density(optical, torch.ones_like(optical))


@every_criterion
def test_nothing_to_learn_from_an_equal_teacher(criterion):
    same = normal(6, 5)
    assert criterion(same, same.clone()).item() == 0.0
    assert criterion(same, normal(6, 5, seed=1)).item() > 1e-5


@every_criterion
def test_only_the_student_gets_a_gradient(criterion):
    student, teacher = normal(6, 5).requires_grad_(), normal(6, 5, seed=1).requires_grad_()
    criterion(student, teacher).backward()
    assert teacher.grad is None
    assert student.grad is not None
    assert student.grad.any()


@every_criterion
def test_gradients(criterion):
    teacher = normal(6, 5, seed=1)
    assert torch.autograd.gradcheck(lambda x: criterion(x, teacher), (normal(6, 5).requires_grad_(),))


@every_criterion
def test_half_precision_is_widened(criterion):
    student, teacher = normal(6, 5).bfloat16(), normal(6, 5, seed=1).bfloat16()
    expected = criterion(student.double(), teacher.double()).item()
    value = criterion(student, teacher)
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(expected, rel=1e-3, abs=1e-5)


def test_no_rays_and_empty_masks():
    nobody = torch.zeros(0, 5, requires_grad=True)
    volume = torch.ones(2, 3, 4, requires_grad=True)
    nowhere = torch.zeros(2, 4, dtype=torch.bool)
    total = (
        distill_termination(nobody, nobody)
        + distill_depth(nobody[:, 0], nobody[:, 0])
        + distill_semantics(nobody, nobody)
        + distill_affinity(nobody, nobody, torch.zeros(0, dtype=torch.int64))
        + distill_affinity(volume, 2 * volume, torch.full((2, 3), -1))
        + distill_logits(volume, 2 * volume, mask=nowhere)
        + distill_features(volume, 2 * volume, mask=nowhere)
        + distill_channels(volume, 2 * volume, mask=nowhere)
    )
    total.backward()
    assert total.item() == 0.0
    assert volume.grad is not None
    assert not volume.grad.any()


def test_fields_by_hand():
    logits = torch.tensor([[1.0, 2.0, -3.0], [0.0, 0.0, 40.0]], dtype=torch.float64)
    density, semantics = fields_from_logits(logits, free_id=2)
    assert density.tolist() == pytest.approx([math.log1p(math.exp(3.0)), math.exp(-40.0)])
    assert semantics.tolist() == [[1.0, 2.0], [0.0, 0.0]]
    _, semantics = fields_from_logits(logits, free_id=0)
    assert semantics.tolist() == [[2.0, -3.0], [0.0, 40.0]]
    density, _ = fields_from_logits(logits, free_id=2, density="logodds")
    odds = math.log(math.exp(1.0) + math.exp(2.0)) + 3.0
    assert density[0].item() == pytest.approx(math.log1p(math.exp(odds)))
    for wrong in (3, -1):
        with pytest.raises(ValueError, match=f"expected one of 3 channels, got {wrong}"):
            fields_from_logits(logits, free_id=wrong)


def test_log_odds_have_the_opacity_of_the_probability():
    logits = 3 * normal(20, 6)
    density, _ = fields_from_logits(logits, free_id=4, density="logodds")
    torch.testing.assert_close(1 - torch.exp(-density), 1 - logits.softmax(-1)[:, 4])
    shifted, _ = fields_from_logits(logits + 5.0, free_id=4, density="logodds")
    torch.testing.assert_close(shifted, density)
    paper, _ = fields_from_logits(logits, free_id=4)
    moved, _ = fields_from_logits(logits + 5.0, free_id=4)
    assert (moved < paper).all()


def test_ray_subset_is_reproducible_and_without_repetition():
    first = ray_subset(1000, 100, generator=torch.Generator().manual_seed(3))
    again = ray_subset(1000, 100, generator=torch.Generator().manual_seed(3))
    other = ray_subset(1000, 100, generator=torch.Generator().manual_seed(4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert (first.diff() > 0).all()
    assert first.numel() == 100
    assert first[-1] < 1000
    generator = torch.Generator()
    assert ray_subset(4, 4, generator=generator).tolist() == ray_subset(4, 9, generator=generator).tolist()
    assert ray_subset(0, 9, generator=generator).shape == (0,)
    with pytest.raises(ValueError, match="expected 1 or more, got 0"):
        ray_subset(4, 0, generator=generator)


def test_the_mean_over_subsets_is_the_mean_over_all_rays():
    student, teacher = ((2 * normal(12, 6, seed=s)).softmax(-1) for s in (0, 1))
    generator = torch.Generator().manual_seed(0)
    subsets = [ray_subset(12, 5, generator=generator) for _ in range(2000)]
    losses = torch.stack([distill_termination(student[s], teacher[s]) for s in subsets])
    error = losses.std().item() / math.sqrt(len(subsets))
    assert losses.mean().item() == pytest.approx(distill_termination(student, teacher).item(), abs=4 * error)
    often = torch.cat(subsets).bincount(minlength=12) / len(subsets)
    assert often.tolist() == pytest.approx([5 / 12] * 12, abs=4 * math.sqrt(5 / 12 * 7 / 12 / len(subsets)))


@pytest.mark.parametrize("density", ["neg_free_logit", "logodds"])
@pytest.mark.parametrize("wall", [5, 12])
@pytest.mark.parametrize("first", [0.0, 0.25])
def test_a_wall_is_rendered_where_it_stands(density, wall, first):
    """One ray meets a wall, one passes beside it; samples half a voxel apart."""
    logits = torch.zeros(16, 4, 2, 3, dtype=torch.float64)
    logits[..., 2] = 60.0
    logits[wall:, :2, :, 2] = -1e4
    sigma, _ = fields_from_logits(logits.reshape(-1, 3), free_id=2, density=density)
    t = first + 0.5 * torch.arange(30, dtype=torch.float64)
    points = torch.stack([t.expand(2, 30), torch.tensor([[1.0], [3.0]]).expand(2, 30), torch.ones(2, 30)], dim=-1)
    along = sample_trilinear(sigma[:, None], (16, 4, 2), points.double())[..., 0]
    weights = render_weights_from_density(along, torch.full((30,), 0.5, dtype=torch.float64))
    rays = termination_distribution(weights)
    assert render_depth(weights, t)[0].item() == pytest.approx(wall, abs=0.25 + 1e-9)
    assert rays.sum(-1).tolist() == pytest.approx([1.0, 1.0], abs=1e-5)
    assert rays[:, -1].tolist() == pytest.approx([0.0, 1.0], abs=1e-5)


def test_gradients_reach_the_logits_of_a_volume():
    """From a student's logits through fields, sampling and compositing to every rendered criterion."""
    shape, step = (3, 2, 2), torch.full((5,), 0.4, dtype=torch.float64)
    points = normal(4, 5, 3, seed=2).sigmoid() * torch.tensor(shape)
    segments = torch.tensor([0, 0, 1, 1])

    def render(logits):
        sigma, semantics = fields_from_logits(logits, free_id=3, density="logodds")
        weights = render_weights_from_density(sample_trilinear(sigma[:, None], shape, points)[..., 0], step)
        return weights, render_features(semantics, shape, points, weights)

    teacher_weights, teacher_semantics = render(normal(12, 4, seed=1))

    def loss(logits):
        weights, semantics = render(logits)
        return (
            distill_termination(weights, teacher_weights)
            + distill_depth(render_depth(weights, step), render_depth(teacher_weights, step))
            + distill_semantics(semantics, teacher_semantics)
            + distill_affinity(semantics, teacher_semantics, segments)
        )

    assert torch.autograd.gradcheck(loss, (normal(12, 4).requires_grad_(),))


@pytest.mark.parametrize("shift", [1, 4])
@pytest.mark.parametrize("opacity", [1.0, 0.6])
def test_a_plane_moved_by_some_bins(shift, opacity):
    """Of the teacher's bins only the plane's differs: a log((a + eps) / eps), however far the plane moved."""
    value = distill_termination(delta(2 + shift, opacity=opacity), delta(2, opacity=opacity))
    assert value.item() == pytest.approx(opacity * math.log((opacity + EPSILON) / EPSILON), rel=1e-6)


def test_missing_everything_is_a_bin():
    nothing = torch.zeros(1, 8, dtype=torch.float64)
    worst = math.log((1 + EPSILON) / EPSILON)
    assert distill_termination(nothing, nothing).item() == 0.0
    assert distill_termination(nothing, delta(3)).item() == pytest.approx(worst)
    assert distill_termination(delta(3), nothing).item() == pytest.approx(worst)
    half = delta(3, opacity=0.5)
    expected = 0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75)
    assert distill_termination(delta(3, opacity=0.25), half).item() == pytest.approx(expected, abs=1e-5)


def test_the_divergence_is_normalised_by_rays():
    student, teacher = (normal(7, 9, seed=s).softmax(-1) for s in (0, 1))
    each = [distill_termination(student[i], teacher[i]).item() for i in range(7)]
    assert min(each) > 0
    assert distill_termination(student, teacher).item() == pytest.approx(sum(each) / 7)
    weights = torch.tensor([0.0, 1.0, 3.0, 0.0, 0.0, 0.0, 0.0], dtype=torch.float64, requires_grad=True)
    weighted = distill_termination(student, teacher, ray_weights=weights)
    assert weighted.item() == pytest.approx((each[1] + 3 * each[2]) / 4)
    assert not weighted.requires_grad
    assert distill_termination(student, teacher, ray_weights=torch.zeros(7)).item() == 0.0


def test_the_gradient_moves_mass_to_the_teachers_bin():
    weights = delta(2).requires_grad_()
    (gradient,) = torch.autograd.grad(distill_termination(weights, delta(5)), weights)
    assert gradient[0, 5].item() == pytest.approx(-1 / EPSILON)
    assert gradient.count_nonzero() == 1

    optical = torch.tensor([[0.1, 0.1, 3.0, 0.1, 0.1, 0.5, 0.1, 0.1]], dtype=torch.float64, requires_grad=True)
    before = render_weights_from_density(optical, torch.ones(8, dtype=torch.float64))
    (gradient,) = torch.autograd.grad(distill_termination(before, delta(5)), optical)
    assert (gradient[0, :5] > 0).all()  # what hides the bin gets thinner
    assert gradient[0, 5] < 0
    after = render_weights_from_density(optical - 0.01 * gradient, torch.ones(8, dtype=torch.float64))
    assert after[0, 5] > before[0, 5]
    assert after[0, :5].sum() < before[0, :5].sum()


def test_double_softmax_by_hand():
    student, teacher = torch.tensor([[0.2, 0.3]]).double(), torch.tensor([[1.0, 0.0]]).double()
    p = [math.exp(x / 10) / (math.exp(0.1) + 1.0) for x in (1.0, 0.0)]
    q = [math.exp(x / 10) / (math.exp(0.02) + math.exp(0.03)) for x in (0.2, 0.3)]
    expected = 100 / 2 * sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    assert distill_termination(student, teacher, double_softmax=True).item() == pytest.approx(expected)


def test_double_softmax_is_a_millionth_of_the_divergence():
    bins = torch.arange(287, dtype=torch.float64)
    sharp, blurred = ((-((bins - 150) ** 2) / width).softmax(0)[None] for width in (0.3, 8.0))
    value = distill_termination(blurred, sharp, double_softmax=True).item()
    # To first order in weights over temperature, that is within a tenth.
    assert value == pytest.approx((sharp - blurred).square().sum().item() / (2 * 287**2), rel=0.1)
    assert value < 1e-5
    assert distill_termination(blurred, sharp).item() > 0.5


def test_depth_by_hand():
    student, teacher = torch.tensor([1.0, 7.0]), torch.tensor([1.5, 4.0])
    assert distill_depth(student, teacher).item() == pytest.approx((0.125 + 2.5) / 2)
    assert distill_depth(student, teacher, beta=4.0).item() == pytest.approx((0.25 / 8 + 9 / 8) / 2)
    assert distill_depth(student, teacher, ray_weights=torch.tensor([1.0, 0.0])).item() == pytest.approx(0.125)


def test_semantics_by_hand():
    student, teacher = torch.zeros(2, 2), torch.tensor([[math.log(3.0), 0.0], [0.0, 0.0]])
    first = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    assert distill_semantics(student, teacher).item() == pytest.approx(first / 2)
    assert distill_semantics(student, teacher, ray_weights=torch.tensor([2.0, 0.0])).item() == pytest.approx(first)
    assert distill_semantics(student, 4 * teacher, temperature=4.0).item() == pytest.approx(16 * first / 2)


# Two segments: in one the student's two rays are orthogonal and the teacher's parallel, in the other both agree.
APART = torch.tensor([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0], [1.0, 1.0], [1.0, 1.0]])
ALIKE = torch.tensor([[3.0, 0.0], [1.0, 0.0], [1.0, 1.0], [1.0, 1.0], [1.0, 1.0]])
PAIR_AND_THREE = torch.tensor([7, 7, 0, 0, 0])


def test_affinity_by_hand():
    assert distill_affinity(APART, ALIKE, PAIR_AND_THREE).item() == pytest.approx((2 / 4 + 0) / 2)
    assert distill_affinity(APART, ALIKE, PAIR_AND_THREE, weigh_by="rays").item() == pytest.approx(2 / 4 * 2 / 5)
    opposite = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    assert distill_affinity(opposite, ALIKE[:2], torch.zeros(2, dtype=torch.int64)).item() == pytest.approx(2.0)


def test_affinity_within_segments_of_two_or_more_only():
    student, teacher = normal(6, 3), normal(6, 3, seed=1)
    alone = torch.tensor([0, 1, 2, 3, -1, -1])
    assert distill_affinity(student, teacher, alone).item() == 0.0
    one_pair = torch.tensor([0, 1, 2, 2, -1, -1])
    expected = distill_affinity(student[2:4], teacher[2:4], torch.zeros(2, dtype=torch.int64)).item()
    assert expected > 0
    assert distill_affinity(student, teacher, one_pair).item() == pytest.approx(expected)


def test_affinity_keeps_views_apart():
    student, teacher = normal(2, 3, 4), normal(2, 3, 4, seed=1)
    segments = torch.tensor([[5, 5, 5], [5, 2, 5]])
    each = [distill_affinity(student[v], teacher[v], segments[v]).item() for v in range(2)]
    assert distill_affinity(student, teacher, segments).item() == pytest.approx(sum(each) / 2)
    merged = distill_affinity(student.reshape(6, 4), teacher.reshape(6, 4), segments.reshape(6)).item()
    assert merged != pytest.approx(sum(each) / 2, rel=1e-3)


@pytest.mark.parametrize("center", [False, True])
def test_affinity_invariances(center):
    student, teacher = normal(9, 4), normal(9, 4, seed=1)
    segments = torch.tensor([0, 0, 1, 0, 1, 1, 0, 1, 1])

    def loss(s, ids=segments, t=teacher):
        return distill_affinity(s, t, ids, center=center).item()

    expected = loss(student)
    rotation, _ = torch.linalg.qr(normal(4, 4, seed=3))
    assert loss(student @ rotation) == pytest.approx(expected)
    order = torch.tensor([8, 3, 5, 0, 1, 7, 2, 6, 4])
    assert loss(student[order], segments[order], teacher[order]) == pytest.approx(expected)
    assert loss(student, 10 - segments) == pytest.approx(expected)

    lengths = normal(9, 1, seed=4).exp()
    offset = 3 * normal(2, 4, seed=5)[segments]
    scaled, moved = loss(lengths * student), loss(student + offset)
    assert (scaled == pytest.approx(expected)) is not center
    assert (moved == pytest.approx(expected)) is center


def test_affinity_draws_evenly_or_at_random():
    student, teacher, ids = normal(10, 3), normal(10, 3, seed=1), torch.zeros(10, dtype=torch.int64)
    evenly = torch.tensor([4, 9])
    expected = distill_affinity(student[evenly], teacher[evenly], ids[:2]).item()
    assert distill_affinity(student, teacher, ids, max_rays=2).item() == pytest.approx(expected)
    with pytest.raises(ValueError, match="expected 2 or more, got 1"):
        distill_affinity(student, teacher, ids, max_rays=1)

    generator = torch.Generator().manual_seed(0)
    drawn = torch.stack([distill_affinity(student, teacher, ids, max_rays=4, generator=generator) for _ in range(1500)])
    again = distill_affinity(student, teacher, ids, max_rays=4, generator=generator.manual_seed(0))
    assert drawn[0].item() == again.item()
    # The diagonal adds nothing: it is the mean over pairs of different rays that a draw estimates without bias.
    full = distill_affinity(student, teacher, ids).item() * (10 * 10) / (10 * 9)
    pairs = drawn * (4 * 4) / (4 * 3)
    assert pairs.mean().item() == pytest.approx(full, abs=4 * pairs.std().item() / math.sqrt(1500))


def test_affinity_of_rays_that_show_nothing():
    student = torch.cat([normal(2, 3), torch.zeros(1, 3), torch.full((1, 3), 1e-5)]).requires_grad_()
    teacher = normal(4, 3, seed=1)
    loss = distill_affinity(student, teacher, torch.zeros(4, dtype=torch.int64))
    (gradient,) = torch.autograd.grad(loss, student)
    assert gradient[:2].any()
    assert not gradient[2:].any()


def test_affinity_of_a_segment_without_pattern_is_not_that_of_rounding():
    flat = torch.tensor([[7.3, -1.1, 0.7]]).expand(3, 3)
    nearly = flat + 1e-6 * normal(3, 3).float()
    assert distill_affinity(nearly, flat, torch.zeros(3, dtype=torch.int64), center=True).item() == 0.0
