import pytest
import torch

from occkit.geometry import OCC3D_GRID, ContractedGrid, contracted_depths, jitter_depths, linear_depths

GRID = ContractedGrid.around(OCC3D_GRID)


def test_contracted_depths_are_those_of_the_paper():
    z = contracted_depths(GRID, near=0.0, dtype=torch.float64)
    assert len(z) == 424
    assert z[0] == 0
    assert z[1].item() == pytest.approx(0.4012, abs=5e-5)
    assert int((z <= 113.3).sum()) == 283
    assert z[-1].item() == pytest.approx(1.1e4, rel=0.05)
    torch.testing.assert_close(z[:283].diff(), z[1].expand(282))
    assert (z[283:].diff().diff() > 0).all()
    torch.testing.assert_close(contracted_depths(GRID), (z + 0.1).float())


def test_spacing_sets_the_number_of_samples():
    assert len(contracted_depths(GRID, spacing=0.8)) == 212
    with pytest.raises(ValueError, match="two samples"):
        contracted_depths(GRID, spacing=200.0)
    with pytest.raises(ValueError, match="spacing > 0"):
        contracted_depths(GRID, spacing=0.0)


def test_linear_depths_are_middles():
    assert linear_depths(near=1.0, far=5.0, count=4).tolist() == [1.5, 2.5, 3.5, 4.5]
    for near, far, count in ((-1.0, 2.0, 3), (2.0, 2.0, 3), (0.0, 1.0, 0)):
        with pytest.raises(ValueError, match="0 <= near < far"):
            linear_depths(near=near, far=far, count=count)


def test_jitter_moves_each_ray_as_a_whole_by_its_own_amount():
    depths = linear_depths(near=1.0, far=3.0, count=5, dtype=torch.float64)
    moved = jitter_depths(depths, 200, amount=0.1, generator=torch.Generator().manual_seed(0))
    offsets = moved - depths
    torch.testing.assert_close(offsets, offsets[:, :1].expand(200, 5))
    assert offsets.abs().max() <= 0.1
    assert offsets[:, 0].unique().numel() == 200
    assert offsets.min() < -0.09
    assert offsets.max() > 0.09
    again = jitter_depths(depths, 200, amount=0.1, generator=torch.Generator().manual_seed(0))
    assert torch.equal(moved, again)
