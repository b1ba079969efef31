import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from occkit.losses import (
    cross_entropy,
    inverse_log_weights,
    inverse_power_weights,
    lovasz_softmax,
    select_labelled,
)
from occkit.losses.classification import _falling_order

# Two voxels: the first is of class 1 with p(1) = 0.6, the second of class 0 with p(1) = 0.3.
LOGITS = torch.tensor([[[0.4, 0.7], [0.6, 0.3]]], dtype=torch.float64).log()
TARGET = torch.tensor([[1, 0]], dtype=torch.uint8)


def test_cross_entropy_literal():
    expected = -(math.log(0.6) + math.log(0.7)) / 2
    assert cross_entropy(LOGITS, TARGET).item() == pytest.approx(expected)


def test_cross_entropy_weights_are_normalised_by_their_sum():
    weights = torch.tensor([1.0, 3.0], dtype=torch.float64)
    expected = -(3 * math.log(0.6) + math.log(0.7)) / 4
    assert cross_entropy(LOGITS, TARGET, weights=weights).item() == pytest.approx(expected)
    assert cross_entropy(LOGITS, TARGET, weights=10 * weights).item() == pytest.approx(expected)


def test_ignored_and_masked_voxels_do_not_count():
    logits = torch.cat([LOGITS, torch.tensor([[[5.0], [-5.0]]], dtype=torch.float64)], dim=2)
    ignored = torch.tensor([[1, 0, 255]], dtype=torch.uint8)
    masked = torch.tensor([[1, 0, 1]], dtype=torch.uint8)
    mask = torch.tensor([[True, True, False]])
    for loss in (cross_entropy, lovasz_softmax):
        assert loss(logits, ignored).item() == pytest.approx(loss(LOGITS, TARGET).item())
        assert loss(logits, masked, mask=mask).item() == pytest.approx(loss(LOGITS, TARGET).item())


@pytest.mark.parametrize("loss", [cross_entropy, lovasz_softmax])
def test_nothing_to_learn_from_is_zero_and_differentiable(loss):
    logits = LOGITS.clone().requires_grad_()
    value = loss(logits, torch.full_like(TARGET, 255))
    value.backward()
    assert value.item() == 0.0
    assert logits.grad is not None
    assert not logits.grad.any()


def test_an_id_without_a_channel_is_named():
    with pytest.raises(ValueError, match=r"expected ids 0\.\.1 or 255 for 2 channels, got 2"):
        select_labelled(LOGITS, torch.tensor([[1, 2]], dtype=torch.uint8))


def test_lovasz_literal():
    # Class 1: errors 0.4 (true), 0.3 (false); the Jaccard loss is 1 after the first, 1 after the second: 0.4 * 1.
    # Class 0: errors 0.4 (false), 0.3 (true); 1/2 after the first, 1 after the second: 0.4 / 2 + 0.3 / 2.
    assert lovasz_softmax(LOGITS, TARGET).item() == pytest.approx((0.4 + 0.35) / 2)
    assert lovasz_softmax(LOGITS, TARGET, exclude=(0,)).item() == pytest.approx(0.4)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=30))
def test_lovasz_of_a_hard_prediction_is_one_minus_iou(pairs):
    truth = torch.tensor([p[0] for p in pairs], dtype=torch.uint8)
    guess = torch.tensor([p[1] for p in pairs])
    logits = 200.0 * torch.nn.functional.one_hot(guess, 4).double().T[None]
    losses = []
    for c in truth.unique().tolist():
        intersection = ((truth == c) & (guess == c)).sum()
        union = ((truth == c) | (guess == c)).sum()
        losses.append(1 - intersection / union)
    assert lovasz_softmax(logits, truth[None]).item() == pytest.approx(float(sum(losses) / len(losses)), abs=1e-6)


@pytest.mark.parametrize("loss", [cross_entropy, lovasz_softmax])
def test_gradients(loss):
    torch.manual_seed(0)
    logits = torch.randn(2, 3, 2, 2, 1, dtype=torch.float64, requires_grad=True)
    target = torch.tensor([0, 1, 2, 0, 1, 255, 2, 1], dtype=torch.uint8).reshape(2, 2, 2, 1)
    assert torch.autograd.gradcheck(lambda x: loss(x, target), (logits,))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_errors_are_put_into_falling_order(dtype):
    """Zeros, subnormal numbers and ties among them."""
    draw = torch.Generator().manual_seed(0)
    values = torch.rand(3, 500, generator=draw, dtype=dtype).pow(20)
    values[:, ::7] = 0.25
    values[:, ::11] = 0.0
    values[1] *= 1e-40
    order = _falling_order(values)
    assert torch.equal(values.gather(1, order), values.sort(dim=1, descending=True).values)
    assert torch.equal(order.sort(dim=1).values, torch.arange(500).expand(3, -1))


def test_volume_axes_are_kept_apart():
    logits = torch.zeros(1, 2, 2, 3, 4)
    logits[0, 1, 1, 2, 3] = 9.0
    target = torch.zeros(1, 2, 3, 4, dtype=torch.uint8)
    target[0, 1, 2, 3] = 1
    rows, ids = select_labelled(logits, target)
    assert rows[ids == 1].tolist() == [[0.0, 9.0]]
    assert not rows[ids == 0].any()


def test_log_weights():
    weights = inverse_log_weights([10, 1_000_000, 0])
    raw = [1 / math.log(11.001), 1 / math.log(1_000_001.001), 1 / math.log(2.001)]
    assert weights == pytest.approx([w / (sum(raw) / 3) for w in raw])


def test_power_weights():
    assert inverse_power_weights([4, 16, 0]) == pytest.approx([4 / 3, 2 / 3, 0])
    assert inverse_power_weights([4, 16], power=0.0) == pytest.approx([1, 1])
    with pytest.raises(ValueError, match="at least one class"):
        inverse_power_weights([0, 0])
