"""Labels of larger voxels: blocks by hand, and a plain loop over random ones."""

import numpy as np
import pytest
import torch

from occkit.losses import coarse_labels
from occkit.taxonomy import OCC3D, SEMANTICKITTI

IDS = {"num_classes": 4, "free_id": 0}


def ids_of(taxonomy):
    return {"num_classes": taxonomy.num_classes, "free_id": taxonomy.free_id, "ignore_id": taxonomy.ignore_id}


def block(*ids):
    return torch.tensor(ids, dtype=torch.uint8).reshape(1, 2, 2, 2)


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        ((0, 0, 0, 0, 0, 0, 0, 9), 9),  # one among eight
        ((0, 0, 0, 0, 255, 255, 255, 255), 255),  # as many as free: not more
        ((0, 0, 0, 0, 0, 255, 255, 255), 0),
        ((9, 9, 9, 1, 1, 0, 0, 0), 9),
        ((9, 9, 1, 1, 0, 0, 0, 0), 1),  # the lowest id of two
        ((255, 255, 255, 255, 255, 255, 255, 3), 3),
    ],
)
def test_blocks_by_hand(ids, expected):
    assert coarse_labels(block(*ids), (1, 1, 1), **ids_of(SEMANTICKITTI)).tolist() == [[[[expected]]]]


def test_random_blocks_equal_a_plain_loop():
    for taxonomy in (SEMANTICKITTI, OCC3D):
        draw, free = np.random.default_rng(0), taxonomy.free_id
        ids = draw.choice([free, 255, 3, 4, 5], p=[0.6, 0.25, 0.05, 0.05, 0.05], size=(2, 4, 6, 4)).astype(np.uint8)
        found = coarse_labels(torch.from_numpy(ids), (2, 2, 2), **ids_of(taxonomy)).numpy()
        assert found.shape == (2, 2, 2, 2)
        for b, i, j, k in np.ndindex(2, 2, 2, 2):
            voxels = ids[b, 2 * i : 2 * i + 2, 3 * j : 3 * j + 3, 2 * k : 2 * k + 2].ravel()
            things = voxels[(voxels != free) & (voxels != 255)]
            empty, unknown = (voxels == free).sum(), (voxels == 255).sum()
            nothing = free if empty > unknown else 255
            wanted = nothing if empty + unknown > 0.95 * 12 else np.bincount(things).argmax()
            assert found[b, i, j, k] == wanted


def test_coarse_labels_by_hand():
    labels = torch.zeros(1, 4, 4, 4, dtype=torch.uint8)
    labels[0, 0, 0, 0] = 2  # 1 of 8: 12 % is more than the 5 % that count as nothing
    labels[0, :2, :2, 2:] = torch.tensor([255, 3], dtype=torch.uint8)
    labels[0, 2:, :2, :2] = 255
    labels[0, 2:, 2:, 2:] = torch.tensor([1, 3], dtype=torch.uint8)  # four of each: the lower
    found = coarse_labels(labels, (2, 2, 2), **IDS)[0]
    assert found[0, 0].tolist() == [2, 3]
    assert found[1, 0].tolist() == [255, 0]
    assert found[1, 1].tolist() == [0, 1]


def test_a_side_that_is_no_multiple_goes_where_it_lies():
    labels = torch.tensor([1, 1, 2, 2, 3], dtype=torch.uint8).reshape(1, 5, 1, 1)
    assert coarse_labels(labels, (2, 1, 1), **IDS)[0, :, 0, 0].tolist() == [1, 2]
    assert coarse_labels(labels, (3, 1, 1), **IDS)[0, :, 0, 0].tolist() == [1, 2, 3]


def test_half_empty_and_half_unknown_is_unknown():
    labels = torch.tensor([0, 255], dtype=torch.uint8).reshape(1, 2, 1, 1)
    assert coarse_labels(labels, (1, 1, 1), **IDS).item() == 255
