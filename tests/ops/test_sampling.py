import pytest
import torch
from agreement import assert_agrees, value_and_grads
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import grid_sample

from occkit.ops.sampling import (
    SamplePlan,
    deformable_sample_2d,
    deformable_sample_3d,
    sample_bilinear,
    sample_planned,
    sample_trilinear,
    sampled_sum,
)

BACKENDS = ("reference", "torch", "numba")


def points_around(shape, *lead, seed=0):
    """Points inside, in the last half voxel, and well outside."""
    generator = torch.Generator().manual_seed(seed)
    size = torch.tensor(shape, dtype=torch.float64)
    return torch.rand(*lead, len(shape), generator=generator, dtype=torch.float64) * (size + 4) - 2


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("x", "zeros", "border"),
    [
        (0.5, 2.0, 2.0),  # a centre
        (1.0, 3.0, 3.0),  # half-way
        (1.25, 3.5, 3.5),
        (0.0, 1.0, 2.0),  # the outer face: half of it is outside
        (2.25, 1.0, 4.0),
        (-0.5, 0.0, 2.0),  # one voxel out: nothing left
        (7.0, 0.0, 4.0),
    ],
)
def test_trilinear_by_hand(backend, x, zeros, border):
    volume, point = torch.tensor([[2.0], [4.0]]), torch.tensor([[x, 0.5, 0.5]])
    assert sample_trilinear(volume, (2, 1, 1), point, backend=backend).item() == pytest.approx(zeros)
    assert sample_trilinear(volume, (2, 1, 1), point, padding="border", backend=backend).item() == pytest.approx(border)


@pytest.mark.parametrize("backend", BACKENDS)
def test_axes_are_x_y_z(backend):
    volume = torch.arange(24.0).reshape(24, 1)
    centres = torch.stack(torch.meshgrid(*[torch.arange(n) + 0.5 for n in (2, 3, 4)], indexing="ij"), dim=-1)
    out = sample_trilinear(volume, (2, 3, 4), centres, backend=backend)
    assert torch.equal(out.flatten(), volume.flatten())


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("padding", ["zeros", "border"])
def test_trilinear_is_grid_sample(backend, padding):
    shape = (4, 3, 5)
    volume, points = torch.randn(60, 6, dtype=torch.float64), points_around(shape, 40)

    def plain(table, places):
        grid = (places / torch.tensor(shape) * 2 - 1).flip(-1)
        image = table.t().reshape(1, 6, *shape)
        return grid_sample(image, grid[None, None, None], padding_mode=padding, align_corners=False)[0, :, 0, 0].t()

    def ours(table, places):
        return sample_trilinear(table, shape, places, padding=padding, backend=backend)

    for got, want in zip(value_and_grads(ours, volume, points), value_and_grads(plain, volume, points), strict=True):
        assert_agrees(got, want)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("padding", ["zeros", "border"])
def test_bilinear_is_grid_sample(backend, padding):
    images, points = torch.randn(3, 5, 6, 7, dtype=torch.float64), points_around((7, 6), 3, 4, 2)

    def plain(maps, places):
        grid = places / torch.tensor([7, 6]) * 2 - 1
        return grid_sample(maps, grid, padding_mode=padding, align_corners=False).permute(0, 2, 3, 1)

    def ours(maps, places):
        return sample_bilinear(maps, places, padding=padding, backend=backend)

    for got, want in zip(value_and_grads(ours, images, points), value_and_grads(plain, images, points), strict=True):
        assert_agrees(got, want)


@pytest.mark.parametrize("backend", ["torch", "numba"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("padding", ["zeros", "border"])
@pytest.mark.parametrize(
    ("shape", "queries", "heads", "points", "channels"),
    [((1, 1, 1), 1, 1, 1, 1), ((3, 2, 4), 5, 2, 3, 7), ((9, 8, 2), 70, 1, 12, 33)],
)
def test_fast_sums_agree_with_the_reference(backend, dtype, padding, shape, queries, heads, points, channels):
    torch.manual_seed(3)
    num_voxels = shape[0] * shape[1] * shape[2]
    leaves = (
        torch.randn(num_voxels, heads, channels, dtype=torch.float64),
        # Rounded so that float32 and float64 read the same points, and never exactly at a kink.
        points_around(shape, queries, heads, points).float().double(),
        torch.randn(queries, heads, points, dtype=torch.float64),
    )
    want = value_and_grads(lambda v, p, w: sampled_sum(v, shape, p, w, padding=padding, backend="reference"), *leaves)
    got = value_and_grads(
        lambda v, p, w: sampled_sum(v, shape, p, w, padding=padding, backend=backend),
        *(leaf.to(dtype) for leaf in leaves),
    )
    for fast, reference in zip(got, want, strict=True):
        assert fast.dtype == dtype
        assert_agrees(fast, reference, tolerance=5e-6 if dtype == torch.float32 else None)


def test_chunks_do_not_change_the_sum(monkeypatch):
    from occkit.ops.sampling import torch_taps

    leaves = torch.randn(24, 2, 3), points_around((2, 3, 4), 10, 2, 4).float(), torch.randn(10, 2, 4)

    def run(volume, points, weights):
        return sampled_sum(volume, (2, 3, 4), points, weights, backend="torch")

    whole = value_and_grads(run, *leaves)
    monkeypatch.setattr(torch_taps, "CHUNK_TAPS", 150)
    for part, all_at_once in zip(value_and_grads(run, *leaves), whole, strict=True):
        assert_agrees(part, all_at_once)


@pytest.mark.parametrize("num_threads", [1, 2])
def test_the_number_of_threads_changes_no_bit(num_threads):
    leaves = torch.randn(24, 1, 3), points_around((2, 3, 4), 50, 1, 4).float(), torch.randn(50, 1, 4)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, num_threads):
            torch.set_num_threads(threads)
            results.append(value_and_grads(lambda v, p, w: sampled_sum(v, (2, 3, 4), p, w, backend="numba"), *leaves))
    finally:
        torch.set_num_threads(before)
    for first, second in zip(*results, strict=True):
        assert torch.equal(first, second)


def test_gradcheck():
    shape = (3, 2, 2)
    leaves = (
        torch.randn(12, 2, 2, dtype=torch.float64).requires_grad_(),
        points_around(shape, 3, 2, 2, seed=1).requires_grad_(),
        torch.randn(3, 2, 2, dtype=torch.float64).requires_grad_(),
    )
    for padding in ("zeros", "border"):
        assert torch.autograd.gradcheck(
            lambda v, p, w, pad=padding: sampled_sum(v, shape, p, w, padding=pad, backend="reference"), leaves
        )


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(BACKENDS))
def test_a_linear_field_is_read_exactly(seed, backend):
    generator = torch.Generator().manual_seed(seed)
    shape = (4, 5, 3)
    centres = torch.stack(torch.meshgrid(*[torch.arange(n) + 0.5 for n in shape], indexing="ij"), dim=-1).reshape(-1, 3)
    slope = torch.randn(3, 1, generator=generator, dtype=torch.float64)
    points = torch.rand(6, 3, generator=generator, dtype=torch.float64) * (torch.tensor(shape) - 1) + 0.5
    out = sample_trilinear(centres.double() @ slope, shape, points, backend=backend)
    torch.testing.assert_close(out, points @ slope)


def test_a_plan_reads_what_sampling_reads():
    shape, points = (3, 4, 5), points_around((3, 4, 5), 30).float()
    volume = torch.randn(60, 4)
    for padding in ("zeros", "border"):
        plan = SamplePlan.build(points, shape, padding=padding)
        got = value_and_grads(lambda v, p=plan: sample_planned(v, p), volume)
        want = value_and_grads(lambda v, pad=padding: sample_trilinear(v, shape, points, padding=pad), volume)
        for planned, sampled in zip(got, want, strict=True):
            assert_agrees(planned, sampled)


def plain_deformable(values, locations, weights):
    """Every head and level through grid_sample."""
    batch, queries, heads, _, points, axes = locations.shape
    total = 0
    for level, value in enumerate(values):
        maps = value.movedim((-2, -1), (1, 2)).flatten(0, 1)  # [b heads, c, *size]
        places = locations[:, :, :, level].transpose(1, 2).flatten(0, 1) * 2 - 1  # [b heads, q, p, axes]
        places = places if axes == 2 else places.flip(-1)[:, None]
        sampled = grid_sample(maps, places, align_corners=False).reshape(batch, heads, -1, queries, points)
        total = total + (sampled * weights[:, :, :, level].transpose(1, 2)[:, :, None]).sum(dim=-1)
    return total.permute(0, 3, 1, 2)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("sample", "sizes"), [(deformable_sample_2d, [(4, 5), (2, 3)]), (deformable_sample_3d, [(4, 5, 3), (2, 3, 2)])]
)
def test_deformable_sampling_is_grid_sample_head_by_head(backend, sample, sizes):
    torch.manual_seed(5)
    heads, channels, axes = 3, 4, len(sizes[0])
    values = [torch.randn(2, *size, heads, channels, dtype=torch.float64) for size in sizes]
    locations = torch.rand(2, 6, heads, 2, 3, axes, dtype=torch.float64) * 1.4 - 0.2
    weights = torch.randn(2, 6, heads, 2, 3, dtype=torch.float64)
    leaves = (*values, locations, weights)
    got = value_and_grads(lambda *x: sample(x[:2], x[2], x[3], backend=backend), *leaves)
    want = value_and_grads(lambda *x: plain_deformable(x[:2], x[2], x[3]), *leaves)
    for ours, plain in zip(got, want, strict=True):
        assert_agrees(ours, plain)


def test_deformable_corners_are_the_outer_corners():
    # Location 0.25 of a two-pixel row is the centre of its first pixel; u is the column.
    value = torch.tensor([3.0, 5.0]).reshape(1, 1, 2, 1, 1)
    locations = torch.tensor([[0.25, 0.5], [0.75, 0.5], [0.5, 0.5]]).reshape(1, 3, 1, 1, 1, 2)
    assert deformable_sample_2d([value], locations, torch.ones(1, 3, 1, 1, 1)).flatten().tolist() == [3.0, 5.0, 4.0]


def test_skipped_zeros_get_no_gradient():
    volume, points = torch.ones(1, 1, 1), torch.full((1, 1, 2, 3), 0.5)
    for backend in BACKENDS:
        for skip, expected in ((False, [1.0, 1.0]), (True, [1.0, 0.0])):
            weights = torch.tensor([[[2.0, 0.0]]], requires_grad=True)
            sampled_sum(volume, (1, 1, 1), points, weights, skip_zeros=skip, backend=backend).sum().backward()
            assert weights.grad is not None
            assert weights.grad.flatten().tolist() == expected


def test_a_point_that_is_not_a_number_reads_nothing_outside_memory():
    out = sample_trilinear(
        torch.ones(8, 1), (2, 2, 2), torch.full((1, 3), float("nan")), padding="border", backend="numba"
    )
    assert out.shape == (1, 1)
    out = sample_trilinear(torch.ones(8, 1), (2, 2, 2), torch.full((1, 3), float("nan")), backend="numba")
    assert out.item() == 0


def test_wrong_input_is_named():
    volume, points, weights = torch.zeros(8, 1, 2), torch.zeros(3, 1, 4, 3), torch.zeros(3, 1, 4)
    with pytest.raises(ValueError, match="volume: expected 12 rows"):
        sampled_sum(volume, (2, 2, 3), points, weights)
    with pytest.raises(ValueError, match="points: expected"):
        sampled_sum(volume, (2, 2, 2), points[..., :2], weights)
    with pytest.raises(ValueError, match="weights: expected"):
        sampled_sum(volume, (2, 2, 2), points, weights[:2])
    with pytest.raises(ValueError, match="padding: expected"):
        sampled_sum(volume, (2, 2, 2), points, weights, padding="reflect")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="images, points: expected"):
        sample_bilinear(torch.zeros(2, 1, 3, 3), torch.zeros(1, 4, 2))
    value = torch.zeros(1, 2, 2, 1, 1)
    with pytest.raises(ValueError, match="values: expected"):
        deformable_sample_2d([], torch.zeros(1, 1, 1, 1, 1, 2), torch.zeros(1, 1, 1, 1, 1))
    with pytest.raises(ValueError, match="locations: expected"):
        deformable_sample_2d([value], torch.zeros(1, 1, 2, 1, 1, 2), torch.zeros(1, 1, 2, 1, 1))
    with pytest.raises(ValueError, match="weights: expected"):
        deformable_sample_2d([value], torch.zeros(1, 1, 1, 1, 1, 2), torch.zeros(1, 1, 1, 1, 2))
