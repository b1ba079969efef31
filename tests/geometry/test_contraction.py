import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from occkit.geometry import OCC3D_GRID, ContractedGrid, VoxelGrid, contract, uncontract

ALPHAS = (0.3, 0.5, 2 / 3, 0.9)
OCCNERF_GRID = ContractedGrid.around(OCC3D_GRID)


def double(*values):
    return torch.tensor(values, dtype=torch.float64)


def test_contraction_by_hand():
    found = contract(double(0.0, 0.5, 1.0, 2.0, -2.0, torch.inf, -torch.inf))
    # alpha = 2/3: a = 1/6, b = -1/2, f(2) = 1 - (1/6) / 1.5
    torch.testing.assert_close(found, double(0, 1 / 3, 2 / 3, 8 / 9, -8 / 9, 1, -1))
    torch.testing.assert_close(uncontract(double(1 / 3, -2 / 3, 8 / 9)), double(0.5, -1.0, 2.0))


@pytest.mark.parametrize("alpha", ALPHAS)
def test_value_and_slope_are_continuous_at_the_boundary(alpha):
    r = double(1 - 1e-9, 1 + 1e-9, -1 + 1e-9, -1 - 1e-9).requires_grad_()
    c = contract(r, alpha=alpha)
    torch.testing.assert_close(c.detach(), double(alpha, alpha, -alpha, -alpha), atol=1e-8, rtol=0)
    (slope,) = torch.autograd.grad(c.sum(), r)
    torch.testing.assert_close(slope, torch.full_like(slope, alpha), atol=1e-6, rtol=0)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_contraction_gradients(alpha):
    r = double(-7.0, -1.5, -0.5, 0.0, 0.2, 0.5, 0.99, 1.01, 40.0).requires_grad_()
    # At 0.5 the denominator of the other branch vanishes for alpha = 2/3: no NaN may leak from there.
    assert torch.autograd.gradcheck(lambda x: contract(x, alpha=alpha), (r,))
    c = contract(r, alpha=alpha).detach().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: uncontract(x, alpha=alpha), (c,))


@settings(max_examples=60, deadline=None)
@given(
    points=st.lists(st.tuples(*[st.floats(-300, 300)] * 3), min_size=1, max_size=8),
    alpha=st.sampled_from(ALPHAS),
)
def test_metres_to_voxels_and_back(points, alpha):
    grid = ContractedGrid(inner=OCC3D_GRID, shape=(300, 300, 24), alpha=alpha)
    metres = torch.tensor(points, dtype=torch.float64)
    index = grid.continuous_index(metres)
    assert (index > 0).all()
    assert (index < double(300, 300, 24)).all()
    torch.testing.assert_close(grid.points_at(index), metres, atol=1e-5, rtol=0)


@settings(max_examples=60, deadline=None)
@given(st.floats(-1e4, 1e4), st.floats(-1e4, 1e4), st.sampled_from(ALPHAS))
def test_contraction_is_odd_and_monotone(first, second, alpha):
    low, high = sorted((first, second))
    c = contract(double(low, high, -low), alpha=alpha)
    assert (c.abs() < 1).all()
    assert c[2] == -c[0]
    assert c[0] <= c[1]
    if high - low > 1e-3:
        assert c[0] < c[1]


def test_the_inner_voxels_are_the_middle_of_the_volume():
    grid = OCCNERF_GRID
    assert (grid.shape, grid.num_voxels) == ((300, 300, 24), 2_160_000)
    assert grid.inner_slices == (slice(50, 250), slice(50, 250), slice(4, 20))
    torch.testing.assert_close(grid.centers()[grid.inner_slices], OCC3D_GRID.centers(), atol=2e-5, rtol=0)
    points = OCC3D_GRID.centers(dtype=torch.float64)[::19, ::23, ::3]
    shift = double(50, 50, 4)
    torch.testing.assert_close(grid.continuous_index(points), OCC3D_GRID.continuous_index(points) + shift)


def test_the_rim_is_finite_and_ascends():
    grid = ContractedGrid.around(VoxelGrid.from_range((0, -4, -1), (8, 4, 1), 1.0), alpha=0.5)
    centers = grid.centers(dtype=torch.float64)
    assert centers.isfinite().all()
    for axis in range(3):
        assert (centers.movedim(axis, 0).diff(dim=0)[..., axis] > 0).all()
    index = torch.stack(torch.meshgrid(*(torch.arange(n).double() + 0.5 for n in grid.shape), indexing="ij"), dim=-1)
    torch.testing.assert_close(grid.continuous_index(centers), index)
    # alpha = 1/2: a = 1/2, b = 0. The last centre along x has c = 15/16: r = 8, and half the box is 4 m.
    assert centers[-1, 0, 0, 0].item() == pytest.approx(4 + 4 * 8)


def test_boxes_that_do_not_fit_are_refused():
    grid = ContractedGrid(inner=OCC3D_GRID, shape=(301, 300, 24))
    with pytest.raises(ValueError, match="begins inside a voxel"):
        _ = grid.inner_slices
    for alpha in (0.61, 0.64):  # 327.9 voxels; 312.5
        with pytest.raises(ValueError, match=r"no volume has \(200, 200, 16\) voxels as its middle"):
            ContractedGrid.around(OCC3D_GRID, alpha=alpha)
    odd = VoxelGrid.from_range((0, 0, 0), (2, 2, 2), 1.0)
    with pytest.raises(ValueError, match="no volume has"):
        ContractedGrid.around(odd, alpha=2 / 3)  # three voxels, of which two cannot be the middle
    for alpha in (0.0, 1.0):
        with pytest.raises(ValueError, match="a share between 0 and 1"):
            ContractedGrid(inner=OCC3D_GRID, shape=(3, 3, 3), alpha=alpha)
    with pytest.raises(ValueError, match="three positive values"):
        ContractedGrid(inner=OCC3D_GRID, shape=(3, 0, 3))
