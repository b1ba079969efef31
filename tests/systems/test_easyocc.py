"""EasyOcc: one loss on whatever labels there are, in its own network and in other hosts."""

from dataclasses import replace

import pytest
import torch

from occkit.errors import ConfigError
from occkit.losses import VoxelLossConfig, voxel_losses
from occkit.nn.camera_volume import CameraVolumeConfig
from occkit.samples import collate
from occkit.systems import easyocc, lift, occnerf
from occkit.taxonomy import OCC3D


@pytest.fixture
def batch(make_sample):
    grid = easyocc.debug().system.grid
    return collate([make_sample(grid=grid, taxonomy=OCC3D, size=(32, 88), seed=s) for s in (0, 1)])


def test_its_loss_is_the_one_of_every_host(batch):
    system = easyocc.debug().system
    model = system.build()
    prediction = model(batch)
    expected = voxel_losses(system.loss, prediction.logits, batch.occupancy, OCC3D)
    assert model.loss(prediction, batch) == expected
    assert set(expected) == {"cross_entropy", "lovasz"}
    host = occnerf.nano_labels().system.losses
    assert host.voxels == easyocc.nano().system.loss == easyocc.nano_lift().system.losses.voxels
    assert host.labels == 1.0


def test_learning_from_seen_voxels_alone_is_another_loss(batch):
    system = easyocc.debug().system
    model = system.build()
    prediction = model(batch)
    masked = replace(system, loss=VoxelLossConfig(mask_camera_in_training=True))
    everywhere = model.loss(prediction, batch)["cross_entropy"]
    seen = masked.build().loss(prediction, batch)["cross_entropy"]
    assert everywhere.item() != seen.item()


def test_a_frame_without_a_label_is_named(batch):
    model = easyocc.debug().system.build()
    with pytest.raises(ConfigError, match=r"frame0.*occkit label"):
        model.loss(model(batch), replace(batch, occupancy=None))


def test_no_small_recipe_reads_labels_or_lidar_of_the_data_set():
    for make in (easyocc.nano, easyocc.nano_lift, easyocc.nano_visible, easyocc.nano_k0, occnerf.nano_labels):
        data = make().data
        assert data.labels is not None, make
        assert not data.load_depth, make
        assert not data.load_points, make
    assert occnerf.nano().data.labels is None
    assert not occnerf.nano().data.load_depth


def test_its_network_is_that_of_occnerf_without_the_rim():
    assert easyocc.nano().system.network.backbone == occnerf.nano().system.network.backbone
    assert easyocc.nano().steps == occnerf.nano().steps == easyocc.nano_lift().steps
    assert easyocc.nano().optim == occnerf.nano().optim


def test_lift_learns_from_these_labels_without_lidar(make_sample):
    """A training pass of the nano lift network with nothing but images and pseudo-labels."""
    recipe = easyocc.nano_lift()
    sample = make_sample(grid=lift.NANO_GRID, taxonomy=OCC3D, size=(64, 176))
    bare = replace(collate([sample]), depth=None, points=None)
    torch.manual_seed(0)
    model = recipe.system.build()
    losses = model.loss(model(bare), bare)
    assert set(losses) == {"cross_entropy", "lovasz"}
    sum(losses.values()).backward()
    without = [n for n, p in model.named_parameters() if p.grad is None]
    assert [n for n in without if not n.startswith(model.conditional_parameters)] == []


def test_a_gain_of_ones_changes_nothing_and_learns(batch):
    base = easyocc.debug().system.network
    grid = easyocc.debug().system.grid
    outputs = []
    for config in (base, replace(base, gain=True)):
        torch.manual_seed(0)
        network = config.build(grid.shape, 18).eval()
        outputs.append(network(batch.images[:, 0], batch.cameras[:, 0], grid))
    assert torch.equal(*outputs)
    outputs[1].sum().backward()
    assert network.gain.grad.abs().sum() > 0


def test_a_stride_that_does_not_fit_is_refused():
    with pytest.raises(ConfigError, match=r"lift_stride \(3, 1, 1\) does not divide"):
        CameraVolumeConfig(lift_stride=(3, 1, 1)).build((100, 100, 8), 18)


def test_paper_scale_shapes():
    """On the meta device: no memory, no arithmetic; lifting looks at its data and is left out."""
    system = easyocc.r101_occ3d().system
    with torch.device("meta"):
        network = system.build().network.eval()
        volume = torch.empty(1, 64, *system.grid.shape)
        assert network.head(volume, system.grid.shape).shape == (1, 18, 200, 200, 16)
    assert network.gain is None
    assert sum(p.numel() for p in network.parameters()) == 27_535_424 + 11_209_728 + 16_448 + 1_925_924
