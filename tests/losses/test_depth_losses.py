import math

import pytest
import torch

from occkit.losses import depth_binary_cross_entropy, depth_cross_entropy, nearest_depth_per_cell


def test_nearest_depth_takes_the_smallest_known():
    depth = torch.tensor([[0.0, 5.0, 0.0, 0.0], [3.0, 9.0, 0.0, 0.0]])
    assert nearest_depth_per_cell(depth, (1, 2)).tolist() == [[3.0, 0.0]]
    batch = depth.expand(2, 3, 2, 4)
    assert nearest_depth_per_cell(batch, (1, 2)).shape == (2, 3, 1, 2)


def test_nearest_depth_refuses_cells_that_do_not_divide():
    with pytest.raises(ValueError, match="2x4 pixels do not divide into 1x3 cells"):
        nearest_depth_per_cell(torch.zeros(2, 4), (1, 3))


def test_literals():
    # One cell with p = (1/4, 3/4) and true bin 1, one cell without depth.
    logits = torch.tensor([[0.0, 7.0], [math.log(3.0), 0.0]])[:, None, :]
    target = torch.tensor([[1, -1]])
    assert depth_cross_entropy(logits, target).item() == pytest.approx(-math.log(0.75), abs=1e-6)
    assert depth_binary_cross_entropy(logits, target).item() == pytest.approx(-2 * math.log(0.75), abs=1e-6)


@pytest.mark.parametrize("loss", [depth_cross_entropy, depth_binary_cross_entropy])
def test_no_depth_at_all(loss):
    logits = torch.zeros(2, 4, 1, 1, requires_grad=True)
    value = loss(logits, torch.full((2, 1, 1), -1))
    value.backward()
    assert value.item() == 0.0
    assert not logits.grad.any()


def test_gradients():
    torch.manual_seed(0)
    logits = torch.randn(2, 5, 1, 3, dtype=torch.float64, requires_grad=True)
    target = torch.tensor([[[0, 4, -1]], [[2, -1, 1]]])
    assert torch.autograd.gradcheck(lambda x: depth_cross_entropy(x, target), (logits,))


def test_leading_dimensions_do_not_matter():
    torch.manual_seed(0)
    logits = torch.randn(2, 3, 5, 4, 6)
    target = torch.randint(-1, 5, (2, 3, 4, 6))
    flat = depth_cross_entropy(logits.flatten(0, 1), target.flatten(0, 1))
    assert depth_cross_entropy(logits, target).item() == pytest.approx(flat.item())
