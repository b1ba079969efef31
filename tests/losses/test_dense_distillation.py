"""What holds for every criterion of distillation (equal inputs, gradients, precision) is in test_distillation.py."""

import math

import pytest
import torch

from occkit.losses import distill_channels, distill_features, distill_logits


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_logits_are_compared_class_by_class_in_each_voxel():
    student, teacher = normal(2, 3, 4, 2, 2), normal(2, 3, 4, 2, 2, seed=1)
    mask = normal(2, 4, 2, 2, seed=2) > 0
    each = []
    for b, x, y, z in mask.nonzero().tolist():
        p, q = teacher[b, :, x, y, z].softmax(0), student[b, :, x, y, z].softmax(0)
        each.append((p * (p / q).log()).sum().item())
    assert distill_logits(student, teacher, mask=mask).item() == pytest.approx(sum(each) / len(each))
    assert distill_logits(2 * student, 2 * teacher, mask=mask, temperature=2.0).item() == pytest.approx(
        4 * sum(each) / len(each)
    )
    noise = torch.where(mask[:, None], 0.0, 100 * normal(2, 3, 4, 2, 2, seed=3))
    assert distill_logits(student + noise, teacher, mask=mask).item() == pytest.approx(sum(each) / len(each))


def test_features_by_hand():
    student = torch.tensor([[[1.0, 5.0], [2.0, 5.0]]])
    teacher = torch.tensor([[[4.0, 0.0], [1.0, 0.0]]])
    mask = torch.tensor([[True, False]])
    assert distill_features(student, teacher, mask=mask).item() == pytest.approx((9 + 1) / 2)
    assert distill_features(student, teacher, mask=mask, norm="l1").item() == pytest.approx((3 + 1) / 2)
    assert distill_features(student, teacher, norm="l1").item() == pytest.approx((3 + 1 + 5 + 5) / 4)


def test_channels_by_hand():
    """Two samples of one channel: of the first the third voxel is masked, of the second every voxel."""
    student = torch.zeros(2, 1, 3)
    teacher = torch.tensor([[[math.log(3.0), 0.0, 50.0]], [[9.0, 0.0, 0.0]]])
    mask = torch.tensor([[True, True, False], [False, False, False]])
    first = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    assert distill_channels(student, teacher, mask=mask).item() == pytest.approx(first / 2)
    warm = distill_channels(student, 4 * teacher, mask=mask, temperature=4.0)
    assert warm.item() == pytest.approx(16 * first / 2)
    unmasked = distill_channels(student[:1, :, :2], teacher[:1, :, :2])
    assert unmasked.item() == pytest.approx(first)
