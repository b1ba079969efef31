"""Proposals, completion, local and global context: what is chosen, what the rest holds, who hears whom."""

import pytest
import torch

from occkit.errors import ConfigError
from occkit.geometry import Cameras, VoxelGrid
from occkit.nn.backbones import EfficientNetConfig
from occkit.nn.blocks import GroupNormConfig
from occkit.nn.completion import MaskTokenConfig, MlpPriorConfig, RawVolumeConfig
from occkit.nn.planes import LocalGlobalConfig, SwinPlaneConfig
from occkit.nn.proposals import AllVoxelsConfig, DepthProposalsConfig, OccupancyProposalsConfig, depth_hits
from occkit.nn.volumes import GroundNetConfig, VolumeNetConfig

GRID = VoxelGrid(origin=(0.0, -1.5, -1.5), voxel_size=(1.0, 1.0, 1.0), shape=(6, 3, 3))
FORWARD = torch.tensor([[0.0, 0.0, 1.0, 0.0], [-1.0, 0.0, 0.0, 0.0], [0.0, -1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]])


def camera(height=2, width=2):
    intrinsics = torch.tensor([[20.0, 0.0, width / 2], [0.0, 20.0, height / 2], [0.0, 0.0, 1.0]])
    return Cameras(intrinsics=intrinsics[None], ego_from_camera=FORWARD[None], height=height, width=width)


def test_depth_hits_are_where_pixels_lie():
    depth = torch.tensor([[[3.5, 0.0], [5.2, 99.0]]])
    hits = depth_hits(depth, camera(), GRID)
    assert hits.nonzero().tolist() == [[3, 1, 1], [5, 1, 1]], "none for no depth, none outside"


def test_who_asks():
    hits = torch.zeros(GRID.shape, dtype=torch.bool)
    hits[3, 1, 1] = hits[5, 2, 2] = True
    occupied = torch.linspace(0, 1, GRID.num_voxels).reshape(GRID.shape)
    assert DepthProposalsConfig().choose(hits, None).tolist() == [3 * 9 + 4, 5 * 9 + 8]
    assert len(DepthProposalsConfig(grow=1).choose(hits, None)) == 27 + 8 - 4
    one = torch.zeros_like(hits)
    one[0, 0, 0] = True
    assert len(DepthProposalsConfig().choose(one, None)) == GRID.num_voxels, "with fewer than two hits all ask"
    assert OccupancyProposalsConfig(share=0.1).choose(None, occupied).tolist() == [49, 50, 51, 52, 53]
    assert OccupancyProposalsConfig(share=0.5, threshold=0.97).choose(None, occupied).tolist() == [52, 53]
    assert len(OccupancyProposalsConfig(share=0.5, threshold=0.5).choose(None, occupied * 0)) == 2
    assert len(AllVoxelsConfig().choose(hits, None)) == GRID.num_voxels


def test_what_a_choice_needs_must_be_there():
    occupied = torch.zeros(GRID.shape)
    with pytest.raises(ConfigError, match="need a depth; give the network one"):
        DepthProposalsConfig().choose(None, occupied)
    with pytest.raises(ConfigError, match="need a first stage"):
        OccupancyProposalsConfig().choose(occupied > 1, None)
    with pytest.raises(ConfigError, match="to know the volume"):
        AllVoxelsConfig().choose(None, None)
    with pytest.raises(ConfigError, match="0 < share <= 1"):
        OccupancyProposalsConfig(share=0.0)
    with pytest.raises(ConfigError, match="grow must be at least 0"):
        DepthProposalsConfig(grow=-1)


VOLUME = torch.arange(12.0).reshape(6, 2)
ROWS, ANSWERS = torch.tensor([1, 4]), torch.tensor([[100.0, 200.0], [300.0, 400.0]])


def test_the_others_hold_a_token_or_what_was_there():
    token = MaskTokenConfig().build(2)
    found = token(VOLUME, ROWS, ANSWERS)
    assert torch.equal(found[ROWS], ANSWERS)
    assert torch.equal(found[[0, 2, 3, 5]], token.token.detach().expand(4, 2))
    prior = MlpPriorConfig(hidden=3).build(2)
    found = prior(VOLUME, ROWS, ANSWERS)
    assert torch.equal(found[ROWS], ANSWERS)
    assert torch.allclose(found[3], prior.net(VOLUME[3]))
    added = RawVolumeConfig().build(2)(VOLUME, ROWS, ANSWERS)
    assert added[1].tolist() == [102.0, 203.0]
    assert torch.equal(added[[0, 2, 3, 5]], VOLUME[[0, 2, 3, 5]])
    replaced = RawVolumeConfig(join="replace").build(2)(VOLUME, ROWS, ANSWERS)
    assert torch.equal(replaced[ROWS], ANSWERS)
    mixed = RawVolumeConfig(join="concat").build(2)
    assert torch.allclose(mixed(VOLUME, ROWS, ANSWERS)[4], mixed.mix(torch.cat([VOLUME[4], ANSWERS[1]])))


def local_global(slabs=2):
    torch.manual_seed(0)
    norm = GroupNormConfig()
    local = VolumeNetConfig(widths=(6, 6), blocks=(1, 1), strides=(1, 2), channels=6, norm=norm)
    plane = GroundNetConfig(widths=(6, 6), blocks=(1, 1), strides=(1, 2), channels=6, norm=norm)
    return LocalGlobalConfig(local=local, plane=plane, slabs=slabs).build(5)


def test_every_voxel_hears_the_whole_of_its_planes():
    net = local_global()
    volume = torch.randn(1, 5, 8, 6, 4, requires_grad=True)
    out = net(volume)
    assert out.shape == (1, 6, 8, 6, 4)
    out.square().sum().backward()
    assert all(p.grad is not None for p in net.parameters())
    with torch.no_grad():
        net.share.weight.zero_()
        net.share.bias.copy_(torch.tensor([0.0, 100.0, 0.0, 0.0]))  # the xy plane alone
        flat = net(volume)
    assert torch.allclose(flat, flat[..., :1].expand_as(flat), atol=1e-6), "it is the same at all heights"
    assert not torch.allclose(flat, flat[:, :, :1].expand_as(flat), atol=1e-3)


def test_slabs_keep_the_largest_value_of_their_own_axis():
    net = local_global()
    net.squeeze = torch.nn.Identity()
    volume = torch.randn(1, 5, 8, 6, 4)
    plane = net._flatten(volume, 2)  # looks along x: the plane yz
    assert plane.shape == (1, 10, 6, 4)
    expected = torch.stack([volume[:, :, :4].amax(dim=2), volume[:, :, 4:].amax(dim=2)], dim=2)  # [b, c, slab, y, z]
    assert torch.equal(plane, expected.flatten(1, 2))


def test_planes_and_volume_must_be_equally_wide():
    with pytest.raises(ConfigError, match="a plane as wide as the 3D network"):
        LocalGlobalConfig(plane=GroundNetConfig(channels=64))


def test_published_sizes_on_the_meta_device():
    """EfficientNet-B7 has 63.79 M parameters without its classifier, Swin-T over 128 channels 27.71 M."""
    pytest.importorskip("transformers")
    with torch.device("meta"):
        image, plane = EfficientNetConfig().build().eval(), SwinPlaneConfig().build(128).eval()
        maps = image(torch.zeros(1, 3, 384, 1280))
        flat = plane(torch.zeros(1, 128, 128, 16))
    assert sum(p.numel() for p in image.parameters()) == 63_786_960
    assert [tuple(m.shape[1:]) for m in maps] == [
        (48, 96, 320), (80, 48, 160), (224, 24, 80), (640, 12, 40), (2560, 12, 40),
    ]  # fmt: skip
    assert image.channels == (48, 80, 224, 640, 2560)
    assert sum(p.numel() for p in plane.body.parameters()) == 27_714_042
    assert flat.shape == (1, 128, 128, 16)


def test_a_small_efficientnet_learns_everywhere():
    pytest.importorskip("transformers")
    torch.manual_seed(0)
    for top in (True, False):
        net = EfficientNetConfig(width=0.25, depth=0.2, top=top).build().train()
        maps = net(torch.randn(2, 3, 64, 96))
        assert [m.shape[1] for m in maps] == list(net.channels)
        assert [64 // m.shape[2] for m in maps] == list(net.strides)
        sum(m.square().mean() for m in maps).backward()
        assert [n for n, p in net.named_parameters() if p.requires_grad and p.grad is None] == []
