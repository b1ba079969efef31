"""Frustum proportion, masks as teachers, depth around a known value: by hand, and the published doubling."""

import math

import pytest
import torch

from occkit.geometry import Cameras, VoxelGrid
from occkit.losses import (
    depth_gaussian_divergence,
    frustum_proportion,
    mask_binary_cross_entropy,
    mask_shares,
    positive_weights,
)
from occkit.taxonomy import SEMANTICKITTI

GRID = VoxelGrid(origin=(2.0, -2.0, -0.5), voxel_size=(1.0, 1.0, 1.0), shape=(2, 4, 1))
FORWARD = torch.tensor([[0.0, 0.0, 1.0, 0.0], [-1.0, 0.0, 0.0, 0.0], [0.0, -1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]])
WIDE = Cameras(
    intrinsics=torch.tensor([[8.0, 0.0, 8.0], [0.0, 8.0, 8.0], [0.0, 0.0, 1.0]])[None, None],
    ego_from_camera=FORWARD[None, None],
    height=16,
    width=16,
)


def target():
    """The left half of the view is class 1 and 2, half each; the right half is class 0."""
    ids = torch.zeros(1, *GRID.shape, dtype=torch.uint8)
    ids[0, 0, 2:], ids[0, 1, 2:] = 1, 2
    return ids


def scores(probability):
    return probability.log().requires_grad_()


def test_the_right_shares_cost_nothing_wherever_the_voxels_are():
    shares = torch.zeros(1, 3, *GRID.shape) + 1e-9
    shares[:, 1:, :, 2:] = 0.5  # each voxel is half of both: the histogram of the frustum is right all the same
    shares[:, 0, :, :2] = 1.0
    assert frustum_proportion(scores(shares), target(), WIDE, GRID, parts=2).item() == pytest.approx(0, abs=1e-6)


def test_wrong_shares_by_hand():
    shares = torch.full((1, 3, *GRID.shape), 1 / 3)
    value = frustum_proportion(scores(shares), target(), WIDE, GRID, parts=2)
    # All four voxels of a side are in one piece; the camera is as high as they are, so two rows of pieces have none.
    left = 0.5 * math.log(0.5 * 3) * 2
    assert value.item() == pytest.approx((left + math.log(3)) / 2, rel=1e-5)


def test_what_is_not_labelled_or_not_in_view_does_not_count():
    ids, shares = target(), torch.full((1, 3, *GRID.shape), 1 / 3)
    ids[0, :, :2] = 255
    value = frustum_proportion(scores(shares), ids, WIDE, GRID, parts=2)
    assert value.item() == pytest.approx(math.log(1.5), rel=1e-5)
    back = Cameras(
        intrinsics=WIDE.intrinsics,
        ego_from_camera=WIDE.ego_from_camera * torch.tensor([-1.0, -1.0, 1.0, 1.0])[:, None],
        height=16,
        width=16,
    )
    logits = scores(shares)
    nothing = frustum_proportion(logits, ids, back, GRID, parts=2)
    nothing.backward()
    assert nothing.item() == 0
    assert not logits.grad.any()


def test_frustum_gradient():
    logits = torch.randn(1, 3, *GRID.shape, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: frustum_proportion(x, target(), WIDE, GRID, parts=2), logits)


def test_shares_of_cells_count_certain_pixels():
    shown = torch.full((1, 4, 4), 9, dtype=torch.uint8)
    shown[0, :2, :2] = torch.tensor([[1, 1], [1, 255]], dtype=torch.uint8)
    shown[0, 2:, 2:] = 255
    shares, known = mask_shares(shown, SEMANTICKITTI, (2, 2))
    assert shares[0, 1].tolist() == [[1.0, 0.0], [0.0, 0.0]]
    assert shares[0, 9].tolist() == [[0.0, 1.0], [1.0, 0.0]]
    assert known.tolist() == [[[0.75, 1.0], [1.0, 0.0]]]
    with pytest.raises(ValueError, match="do not divide into 3x2 cells"):
        mask_shares(shown, SEMANTICKITTI, (3, 2))


def test_masks_by_hand():
    shown = torch.full((1, 2, 4), 9, dtype=torch.uint8)
    shown[0, :, 2:] = 255
    logits = torch.zeros(1, 20, 1, 2)
    assert mask_binary_cross_entropy(logits, shown, SEMANTICKITTI).item() == pytest.approx(19 * math.log(2))
    weights = torch.ones(20)
    weights[9] = 10.0
    value = mask_binary_cross_entropy(logits, shown, SEMANTICKITTI, positive_weights=weights)
    assert value.item() == pytest.approx(math.log(2) * (18 + 10))
    logits = logits.requires_grad_()
    mask_binary_cross_entropy(logits, shown, SEMANTICKITTI).backward()
    assert not logits.grad[0, 0].any(), "free space has no mask"
    assert not logits.grad[0, :, 0, 1].any(), "uncertain pixels do not teach"
    assert logits.grad[0, 9, 0, 0] < 0 < logits.grad[0, 1, 0, 0]
    nothing = mask_binary_cross_entropy(logits, torch.full_like(shown, 255), SEMANTICKITTI)
    assert nothing.item() == 0


def test_positive_weights_are_bounded():
    assert positive_weights((0, 90, 10, 100)) == (10.0, pytest.approx(110 / 90), 10.0, 1.0)
    with pytest.raises(ValueError, match="at least one pixel"):
        positive_weights((0, 0))


def test_depth_targets_peak_at_the_depth_or_at_twice_that():
    """CGFormer's bins: 2 m to 58 m in steps of half a metre."""
    edges = 2 + 0.5 * torch.arange(113)
    for doubled, peak in ((False, 10.25), (True, 20.25)):
        best, least = 0.0, math.inf
        for centre in (10.25, 20.25, 30.25):
            logits = -((2.25 + 0.5 * torch.arange(112) - centre) ** 2).reshape(1, 112, 1, 1) / (2 * 0.5**2)
            value = depth_gaussian_divergence(logits, torch.full((1, 1, 1), 10.25), edges, doubled=doubled).item()
            best, least = (centre, value) if value < least else (best, least)
        assert best == pytest.approx(peak)
        assert least < 1.0


def test_cells_without_a_depth_do_not_teach():
    edges, logits = torch.arange(5.0), torch.randn(1, 4, 1, 2, requires_grad=True)
    value = depth_gaussian_divergence(logits, torch.tensor([[[0.0, 2.5]]]), edges)
    value.backward()
    assert not logits.grad[..., 0].any()
    assert logits.grad[..., 1].any()
    assert depth_gaussian_divergence(logits, torch.zeros(1, 1, 2), edges).item() == 0
    assert depth_gaussian_divergence(logits, torch.full((1, 1, 2), 90.0), edges).item() == 0
