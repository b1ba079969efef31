"""The shared sum of voxel losses: each part with its weight, on the voxels that may teach."""

from dataclasses import replace

import pytest
import torch

from occkit.errors import ConfigError
from occkit.geometry import VoxelGrid
from occkit.losses import (
    VoxelLossConfig,
    cross_entropy,
    geometric_affinity,
    lovasz_softmax,
    semantic_affinity,
    voxel_losses,
)
from occkit.samples import Occupancy
from occkit.taxonomy import OCC3D

GRID = VoxelGrid(origin=(0.0, 0.0, 0.0), voxel_size=(1.0, 1.0, 1.0), shape=(4, 3, 2))
ALL = VoxelLossConfig(cross_entropy=0.5, lovasz=2.0, semantic_affinity=3.0, geometric_affinity=0.25)


@pytest.fixture
def scene():
    draw = torch.Generator().manual_seed(0)
    ids = torch.randint(0, 18, (2, *GRID.shape), generator=draw).to(torch.uint8)
    ids[0, 0] = OCC3D.ignore_id
    mask = torch.rand(ids.shape, generator=draw) < 0.7
    label = Occupancy(semantics=ids, grid=GRID, taxonomy=OCC3D, mask_camera=mask, mask_lidar=None)
    return torch.randn(2, 18, *GRID.shape, generator=draw), label


def test_each_part_with_its_weight(scene):
    logits, label = scene
    weights = tuple(float(w) for w in torch.arange(1, 19))
    found = voxel_losses(replace(ALL, class_weights=weights), logits, label, OCC3D)
    where = {"ignore_id": 255, "mask": label.mask_camera}
    expected = {
        "cross_entropy": 0.5 * cross_entropy(logits, label.semantics, weights=torch.tensor(weights), **where),
        "lovasz": 2.0 * lovasz_softmax(logits, label.semantics, **where),
        "semantic_affinity": 3.0 * semantic_affinity(logits, label.semantics, **where),
        "geometric_affinity": 0.25 * geometric_affinity(logits, label.semantics, free_id=17, **where),
    }
    assert list(found) == list(expected)
    for name, value in expected.items():
        assert torch.equal(found[name], value), name


def test_a_loss_of_weight_zero_is_not_there(scene):
    config = VoxelLossConfig(cross_entropy=0.0, geometric_affinity=1.0, lovasz=0.0)
    assert list(voxel_losses(config, *scene, OCC3D)) == ["geometric_affinity"]


@pytest.mark.parametrize("masked", [True, False])
def test_the_camera_mask_decides_where(scene, masked):
    logits, label = scene
    logits.requires_grad_()
    config = replace(ALL, mask_camera_in_training=masked)
    torch.stack(list(voxel_losses(config, logits, label, OCC3D).values())).sum().backward()
    unseen = ~label.mask_camera & (label.semantics != OCC3D.ignore_id)
    touched = logits.grad.abs().sum(dim=1) > 0
    assert bool(touched[unseen].any()) is not masked
    assert bool(touched[label.mask_camera & (label.semantics != OCC3D.ignore_id)].all())


def test_a_missing_mask_is_named(scene):
    logits, label = scene
    with pytest.raises(ConfigError, match=r"no camera mask; set mask_camera_in_training"):
        voxel_losses(ALL, logits, replace(label, mask_camera=None), OCC3D)
