import pytest
import torch
from agreement import assert_agrees, value_and_grads
from hypothesis import given, settings
from hypothesis import strategies as st

from occkit.ops.pooling import GatherPlan, PoolPlan, gather_views, pool_voxels

BACKENDS = ("reference", "torch", "numba")


def random_rig(seed=0, cameras=2, height=3, width=4, num_voxels=30, num_bins=5):
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.rand(cameras, num_voxels, 2, generator=generator, dtype=torch.float64) * torch.tensor(
        [width, height]
    )
    visible = torch.rand(cameras, num_voxels, generator=generator) < 0.6
    bins = torch.rand(cameras, num_voxels, generator=generator, dtype=torch.float64) * num_bins
    return pixels, visible, bins


@pytest.mark.parametrize("backend", BACKENDS)
def test_pooling_by_hand(backend):
    # Two pixels, two bins: pixel 0 falls into voxels 0 and 2, pixel 1 into 0 and out of the grid.
    plan = PoolPlan.build(torch.tensor([[0, 2], [0, -1]]), num_voxels=3)
    features = torch.tensor([[1.0, 2.0], [10.0, 20.0]])
    depth = torch.tensor([[0.25, 0.75], [0.5, 0.5]])
    out = pool_voxels(features, depth, plan, backend=backend)
    assert out.tolist() == [[5.25, 10.5], [0.0, 0.0], [0.75, 1.5]]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_rig_that_sees_nothing_pools_nothing(backend):
    plan = PoolPlan.build(torch.full((2, 3), -1), num_voxels=4)
    out, grad_features, grad_depth = value_and_grads(
        lambda f, d: pool_voxels(f, d, plan, backend=backend), torch.ones(2, 5), torch.ones(2, 3)
    )
    assert out.shape == (4, 5)
    for tensor in (out, grad_features, grad_depth):
        assert not tensor.any()


@pytest.mark.parametrize("backend", ["torch", "numba"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("pixels", "bins", "voxels", "channels"), [(1, 1, 1, 1), (12, 5, 7, 3), (60, 8, 900, 32)])
def test_fast_pooling_agrees_with_outer_product_and_scatter(backend, dtype, pixels, bins, voxels, channels):
    torch.manual_seed(2)
    index = torch.randint(-voxels // 3 - 1, voxels, (pixels, bins)).clamp(min=-1)
    plan = PoolPlan.build(index, num_voxels=voxels)
    features, depth = torch.randn(pixels, channels, dtype=torch.float64), torch.rand(pixels, bins, dtype=torch.float64)

    def plain(f, d):
        frustum = (d[:, :, None] * f[:, None, :]).flatten(0, 1)
        with_outside = torch.zeros(voxels + 1, channels, dtype=f.dtype).index_add(
            0, index.flatten() % (voxels + 1), frustum
        )
        return with_outside[:voxels]

    want = value_and_grads(plain, features, depth)
    for form in (backend, "reference"):
        got = value_and_grads(
            lambda f, d, b=form: pool_voxels(f, d, plan, backend=b), features.to(dtype), depth.to(dtype)
        )
        for fast, reference in zip(got, want, strict=True):
            assert fast.dtype == dtype
            assert_agrees(fast, reference)


def test_gradcheck():
    plan = PoolPlan.build(torch.tensor([[0, 2, 1], [0, -1, 2]]), num_voxels=3)
    leaves = [
        torch.randn(2, 2, dtype=torch.float64).requires_grad_(),
        torch.rand(2, 3, dtype=torch.float64).requires_grad_(),
    ]
    assert torch.autograd.gradcheck(lambda f, d: pool_voxels(f, d, plan, backend="reference"), leaves)
    pixels, visible, bins = random_rig(height=1, width=2, num_voxels=4, num_bins=3)
    seen = GatherPlan.build(pixels, visible, height=1, width=2, bins=bins, num_bins=3)
    leaves = [
        torch.randn(4, 2, dtype=torch.float64).requires_grad_(),
        torch.rand(4, 3, dtype=torch.float64).requires_grad_(),
    ]
    assert torch.autograd.gradcheck(lambda f, d: gather_views(f, seen, d, backend="reference"), leaves)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6))
def test_pooling_keeps_the_mass_that_falls_into_the_grid(seed):
    generator = torch.Generator().manual_seed(seed)
    index = torch.randint(-5, 10, (6, 4), generator=generator)
    depth = torch.rand(6, 4, generator=generator, dtype=torch.float64)
    out = pool_voxels(torch.ones(6, 1, dtype=torch.float64), depth, PoolPlan.build(index, num_voxels=10))
    torch.testing.assert_close(out.sum(), depth[index >= 0].sum())


def test_two_samples_in_one_plan_are_two_plans():
    torch.manual_seed(0)
    index = torch.randint(-1, 6, (2, 5, 3))
    features, depth = torch.randn(2, 5, 4), torch.rand(2, 5, 3)
    shifted = torch.where(index >= 0, index + torch.arange(2)[:, None, None] * 6, -1)
    together = PoolPlan.build(shifted.flatten(0, 1), num_voxels=12)
    out = pool_voxels(features.flatten(0, 1), depth.flatten(0, 1), together).reshape(2, 6, 4)
    for b in range(2):
        torch.testing.assert_close(out[b], pool_voxels(features[b], depth[b], PoolPlan.build(index[b], num_voxels=6)))


@pytest.mark.parametrize("backend", BACKENDS)
def test_gathering_by_hand(backend):
    # One row of two pixels, two cameras; voxel 0 seen by both, 1 by the second between its pixels, 2 by none.
    pixels = torch.tensor([[[0.5, 0.5], [0.0, 0.0], [0.0, 0.0]], [[1.5, 0.5], [1.25, 0.5], [0.0, 0.0]]])
    visible = torch.tensor([[True, False, False], [True, True, False]])
    features = torch.tensor([[1.0], [2.0], [10.0], [20.0]])
    build = {"height": 1, "width": 2}
    mean = GatherPlan.build(pixels, visible, **build)
    assert gather_views(features, mean, backend=backend).flatten().tolist() == [10.5, 17.5, 0.0]
    total = GatherPlan.build(pixels, visible, **build, reduce="sum")
    assert gather_views(features, total, backend=backend).flatten().tolist() == [21.0, 17.5, 0.0]
    nearest = GatherPlan.build(pixels, visible, **build, interpolation="nearest")
    assert gather_views(features, nearest, backend=backend).flatten().tolist() == [10.5, 20.0, 0.0]


@pytest.mark.parametrize("backend", BACKENDS)
def test_gathering_by_depth_by_hand(backend):
    # One camera of one pixel; the voxels lie at the centre of bin 1, between bins 0 and 1, before and beyond the bins.
    pixels, visible = torch.full((1, 4, 2), 0.5), torch.ones(1, 4, dtype=torch.bool)
    bins = torch.tensor([[1.5, 1.0, 0.0, 9.0]])
    plan = GatherPlan.build(pixels, visible, height=1, width=1, bins=bins, num_bins=2)
    out = gather_views(torch.tensor([[8.0]]), plan, torch.tensor([[0.25, 0.75]]), backend=backend)
    assert out.flatten().tolist() == [6.0, 4.0, 2.0, 6.0]


def test_gathering_is_trilinear_reading_of_the_frustum():
    cameras, height, width, num_bins = 2, 3, 4, 5
    pixels, visible, bins = random_rig()
    plan = GatherPlan.build(pixels, visible, height=height, width=width, bins=bins, num_bins=num_bins)
    features = torch.randn(cameras * height * width, 6, dtype=torch.float64)
    depth = torch.rand(cameras * height * width, num_bins, dtype=torch.float64)
    frustum = (depth[:, :, None] * features[:, None, :]).reshape(cameras, height, width, num_bins, 6)
    size = torch.tensor([num_bins, width, height])
    places = torch.cat([bins[..., None], pixels], dim=-1) / size * 2 - 1
    sampled = torch.nn.functional.grid_sample(
        frustum.permute(0, 4, 1, 2, 3), places[:, :, None, None], align_corners=False, padding_mode="border"
    )[..., 0, 0]
    mean = (sampled * visible[:, None]).sum(dim=0) / visible.sum(dim=0).clamp(min=1)
    torch.testing.assert_close(gather_views(features, plan, depth), mean.t())


@pytest.mark.parametrize("backend", ["torch", "numba"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("with_depth", [False, True])
def test_fast_gathering_agrees_with_the_reference(backend, dtype, with_depth):
    pixels, visible, bins = random_rig(seed=3)
    plan = GatherPlan.build(pixels, visible, height=3, width=4, bins=bins, num_bins=5)
    features, depth = torch.randn(24, 7, dtype=torch.float64), torch.rand(24, 5, dtype=torch.float64)
    leaves = (features, depth) if with_depth else (features,)

    def run(form, *inputs):
        return gather_views(inputs[0], plan, *inputs[1:], backend=form)

    want = value_and_grads(lambda *x: run("reference", *x), *leaves)
    got = value_and_grads(lambda *x: run(backend, *x), *(leaf.to(dtype) for leaf in leaves))
    for fast, reference in zip(got, want, strict=True):
        assert_agrees(fast, reference)


def test_gathering_of_a_constant_is_that_constant_where_seen():
    pixels, visible, _ = random_rig(seed=4)
    plan = GatherPlan.build(pixels, visible, height=3, width=4)
    out = gather_views(torch.full((24, 1), 7.0), plan).flatten()
    torch.testing.assert_close(out, torch.where(visible.any(dim=0), 7.0, 0.0))


def test_wrong_input_is_named():
    plan = PoolPlan.build(torch.tensor([[0, 1]]), num_voxels=2)
    with pytest.raises(ValueError, match="features: expected"):
        pool_voxels(torch.zeros(2, 1), torch.zeros(1, 2), plan)
    with pytest.raises(ValueError, match="depth_weights: expected"):
        pool_voxels(torch.zeros(1, 1), torch.zeros(1, 3), plan)
    with pytest.raises(ValueError, match="voxel_index: expected"):
        PoolPlan.build(torch.tensor([0]), num_voxels=2)
    with pytest.raises(ValueError, match=r"owner: expected values in 0\.\.1"):
        PoolPlan.build(torch.tensor([[2]]), num_voxels=2)
    pixels, visible, bins = random_rig()
    with pytest.raises(ValueError, match="bins: expected"):
        GatherPlan.build(pixels, visible, height=3, width=4, bins=bins)
    with pytest.raises(ValueError, match="pixels, visible: expected"):
        GatherPlan.build(pixels, visible[:1], height=3, width=4)
    with pytest.raises(ValueError, match="interpolation: expected"):
        GatherPlan.build(pixels, visible, height=3, width=4, interpolation="cubic")  # type: ignore[arg-type]
    plain = GatherPlan.build(pixels, visible, height=3, width=4)
    with pytest.raises(ValueError, match="this plan has no depth"):
        gather_views(torch.zeros(24, 1), plain, torch.zeros(24, 5))


def test_shapes_are_known_on_the_meta_device():
    plan = PoolPlan.build(torch.zeros(6, 4, dtype=torch.int64, device="meta"), num_voxels=9)
    assert pool_voxels(torch.zeros(6, 3, device="meta"), torch.zeros(6, 4, device="meta"), plan).shape == (9, 3)
    pixels, visible, bins = (tensor.to("meta") for tensor in random_rig())
    seen = GatherPlan.build(pixels, visible, height=3, width=4, bins=bins, num_bins=5)
    out = gather_views(torch.zeros(24, 2, device="meta"), seen, torch.zeros(24, 5, device="meta"))
    assert out.shape == (30, 2)


def test_a_traced_graph_holds_plain_operators():
    plan = PoolPlan.build(torch.tensor([[0, 2], [0, -1]]), num_voxels=3)

    class Pool(torch.nn.Module):
        def forward(self, features, depth):
            return pool_voxels(features, depth, plan)

    inputs = torch.randn(2, 4), torch.rand(2, 2)
    exported = torch.export.export(Pool(), inputs)
    torch.testing.assert_close(exported.module()(*inputs), pool_voxels(*inputs, plan))
