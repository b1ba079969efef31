"""Labels of larger voxels: blocks by hand, and a plain loop over random ones."""

import numpy as np
import pytest
import torch

from occkit.losses import coarsen_labels
from occkit.taxonomy import OCC3D, SEMANTICKITTI


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
    assert coarsen_labels(block(*ids), SEMANTICKITTI, (2, 2, 2)).tolist() == [[[[expected]]]]


def test_random_blocks_equal_a_plain_loop():
    for taxonomy in (SEMANTICKITTI, OCC3D):
        draw, free = np.random.default_rng(0), taxonomy.free_id
        ids = draw.choice([free, 255, 3, 4, 5], p=[0.6, 0.25, 0.05, 0.05, 0.05], size=(2, 4, 6, 4)).astype(np.uint8)
        found = coarsen_labels(torch.from_numpy(ids), taxonomy, (2, 3, 2)).numpy()
        assert found.shape == (2, 2, 2, 2)
        for b, i, j, k in np.ndindex(2, 2, 2, 2):
            voxels = ids[b, 2 * i : 2 * i + 2, 3 * j : 3 * j + 3, 2 * k : 2 * k + 2].ravel()
            things = voxels[(voxels != free) & (voxels != 255)]
            empty, unknown = (voxels == free).sum(), (voxels == 255).sum()
            nothing = free if empty > unknown else 255
            wanted = nothing if empty + unknown > 0.95 * 12 else np.bincount(things).argmax()
            assert found[b, i, j, k] == wanted


def test_blocks_must_fill_the_volume():
    with pytest.raises(ValueError, match=r"\(2, 2, 2\) voxels do not divide into blocks of \(2, 2, 3\)"):
        coarsen_labels(block(*range(8)), SEMANTICKITTI, (2, 2, 3))
