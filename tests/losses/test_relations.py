"""Relations between voxels and mega-voxels: literals by hand, and the loss they teach."""

import math

import pytest
import torch

from occkit.losses import relation_loss, voxel_relations

IDS = {"num_classes": 4, "free_id": 0}


def test_relations_by_hand():
    """A row of three voxels: the second mega-voxel is cut off."""
    labels = torch.tensor([0, 2, 3], dtype=torch.uint8).reshape(1, 3, 1, 1)
    related, known = voxel_relations(labels, **IDS)
    assert related.shape == (1, 4, 3, 2)
    assert known.all()
    both_free, one_free, same, other = related[0].int().tolist()
    assert both_free == [[1, 0], [0, 0], [0, 0]]
    assert one_free == [[1, 1], [1, 0], [1, 0]]
    assert same == [[0, 0], [1, 0], [0, 1]]
    assert other == [[0, 0], [0, 1], [1, 0]]


def test_what_has_no_label_is_not_known():
    labels = torch.tensor([255, 2, 255, 255], dtype=torch.uint8).reshape(1, 4, 1, 1)
    related, known = voxel_relations(labels, **IDS)
    assert known[0].tolist() == [[False, False], [True, False], [False, False], [False, False]]
    assert related.sum() == 1
    assert related[0, 2, 1, 0]


def test_relations_are_those_of_a_loop():
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 4, (2, 3, 4, 5), generator=generator, dtype=torch.uint8)
    labels[torch.rand(labels.shape, generator=generator) < 0.2] = 255
    related, _ = voxel_relations(labels, **IDS)
    for b in range(2):
        for n, i in enumerate(torch.cartesian_prod(*(torch.arange(s) for s in (3, 4, 5))).tolist()):
            for m, j in enumerate(torch.cartesian_prod(*(torch.arange(s) for s in (2, 2, 3))).tolist()):
                here = int(labels[b][tuple(i)])
                block = labels[b, 2 * j[0] : 2 * j[0] + 2, 2 * j[1] : 2 * j[1] + 2, 2 * j[2] : 2 * j[2] + 2]
                there = set(block.flatten().tolist()) - {255}
                expected = [False] * 4
                if here != 255:
                    expected[0] = here == 0 and 0 in there
                    expected[1] = any((here == 0) != (c == 0) for c in there)
                    expected[2] = here != 0 and here in there
                    expected[3] = here != 0 and bool(there - {0, here})
                assert related[b, :, n, m].tolist() == expected


def test_the_loss_by_hand():
    """One positive of three: it weighs 2; scores of 0 cost log 2 each."""
    related = torch.tensor([1, 0, 0, 1], dtype=torch.bool).reshape(1, 1, 2, 2)
    known = torch.tensor([1, 1, 1, 0], dtype=torch.bool).reshape(1, 2, 2)
    scores = torch.zeros(1, 1, 2, 2, requires_grad=True)
    loss = relation_loss(scores, related, known)
    assert loss.item() == pytest.approx((2 + 1 + 1) * math.log(2) / 3)
    loss.backward()
    assert scores.grad[0, 0, 1, 1] == 0  # not known
    assert scores.grad[0, 0, 0, 0] < 0 < scores.grad[0, 0, 0, 1]


def test_a_relation_that_never_occurs_does_not_count():
    related = torch.zeros(1, 2, 2, 2, dtype=torch.bool)
    known = torch.ones(1, 2, 2, dtype=torch.bool)
    scores = torch.randn(1, 2, 2, 2, requires_grad=True)
    nothing = relation_loss(scores, related, known)
    assert nothing.item() == 0
    nothing.backward()
    assert (scores.grad == 0).all()
    related[0, 0, 0, 0] = True
    assert torch.equal(relation_loss(scores, related, known), relation_loss(scores[:, :1], related[:, :1], known))


def test_gradients_of_the_loss():
    related = torch.rand(1, 4, 6, 3, generator=torch.Generator().manual_seed(1)) < 0.4
    known = torch.rand(1, 6, 3, generator=torch.Generator().manual_seed(2)) < 0.8
    scores = torch.randn(1, 4, 6, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda s: relation_loss(s, related, known), (scores,))
