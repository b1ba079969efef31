import math

import pytest
import torch

from occkit.losses import geometric_affinity, semantic_affinity

LOGITS = torch.tensor([[[0.4, 0.7], [0.6, 0.3]]], dtype=torch.float64).log()
TARGET = torch.tensor([[1, 0]], dtype=torch.uint8)
CLASS_1 = -(math.log(0.6 / 0.9) + math.log(0.6) + math.log(0.7))
CLASS_0 = -(math.log(0.7 / 1.1) + math.log(0.7) + math.log(0.6))


def test_semantic_literal():
    assert semantic_affinity(LOGITS, TARGET).item() == pytest.approx((CLASS_0 + CLASS_1) / 2, abs=1e-4)


def test_geometric_literal():
    assert geometric_affinity(LOGITS, TARGET, free_id=0).item() == pytest.approx(CLASS_1, abs=1e-4)


def test_a_scene_of_one_class_has_no_specificity():
    target = torch.ones_like(TARGET)
    expected = -(math.log(0.9 / 0.9) + math.log(0.9 / 2))
    assert semantic_affinity(LOGITS, target).item() == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_finite_when_certain_right_or_wrong(sign, dtype):
    torch.manual_seed(0)
    target = torch.randint(0, 3, (1, 2000), dtype=torch.uint8)
    logits = (sign * 500.0 * torch.nn.functional.one_hot(target[0].long(), 3)).T[None].to(dtype).requires_grad_()
    for value in (semantic_affinity(logits, target), geometric_affinity(logits, target, free_id=0)):
        (gradient,) = torch.autograd.grad(value, logits)
        assert 0 <= value.item() < 45
        assert gradient.isfinite().all()
        if sign > 0:
            assert value.item() == pytest.approx(0.0, abs=1e-5)


def test_nothing_labelled_or_nothing_occupied():
    logits = LOGITS.clone().requires_grad_()
    nothing = torch.full_like(TARGET, 255)
    free = torch.zeros_like(TARGET)
    total = (
        semantic_affinity(logits, nothing)
        + geometric_affinity(logits, nothing, free_id=0)
        + geometric_affinity(logits, free, free_id=0)
    )
    total.backward()
    assert total.item() == 0.0
    assert not logits.grad.any()


def test_mask_and_ignore():
    logits = torch.cat([LOGITS, LOGITS], dim=2)
    ignored = torch.tensor([[1, 0, 255, 255]], dtype=torch.uint8)
    masked = torch.tensor([[1, 0, 0, 0]], dtype=torch.uint8)
    mask = torch.tensor([[True, True, False, False]])
    expected = semantic_affinity(LOGITS, TARGET).item()
    assert semantic_affinity(logits, ignored).item() == pytest.approx(expected)
    assert semantic_affinity(logits, masked, mask=mask).item() == pytest.approx(expected)


def test_gradients():
    torch.manual_seed(0)
    logits = torch.randn(2, 3, 6, dtype=torch.float64, requires_grad=True)
    target = torch.tensor([[0, 1, 2, 0, 1, 255], [2, 1, 0, 0, 0, 1]], dtype=torch.uint8)
    assert torch.autograd.gradcheck(lambda x: semantic_affinity(x, target), (logits,))
    assert torch.autograd.gradcheck(lambda x: geometric_affinity(x, target, free_id=0), (logits,))
