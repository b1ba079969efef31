"""Voxels that ask images: where they look, what depth changes, and a plain loop beside it."""

import pytest
import torch
import torch.nn.functional as F

from occkit.errors import ConfigError
from occkit.geometry import Cameras
from occkit.nn.depth import DepthBins
from occkit.nn.voxel_queries import CrossAttentionConfig, ImageLook, PlainLookConfig, Shown

FORWARD = torch.tensor([[0.0, 0.0, 1.0, 0.0], [-1.0, 0.0, 0.0, 0.0], [0.0, -1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]])
BINS = DepthBins(start=1.0, stop=9.0, step=1.0)


def rig():
    """One camera looks forward, the other back; 40 x 60 pixels."""
    poses = FORWARD.expand(2, 4, 4).clone()
    poses[1, :3, :3] = torch.diag(torch.tensor([-1.0, -1.0, 1.0])) @ FORWARD[:3, :3]
    intrinsics = torch.tensor([[30.0, 0.0, 30.0], [0.0, 30.0, 20.0], [0.0, 0.0, 1.0]])
    return Cameras(intrinsics=intrinsics.expand(2, 3, 3), ego_from_camera=poses, height=40, width=60)


def shown(seed=1):
    draw = torch.Generator().manual_seed(seed)
    depth = torch.randn(2, BINS.count, 5, 7, generator=draw).mul(2).softmax(dim=1)
    return Shown(torch.randn(2, 8, 5, 7, generator=draw), depth, rig(), BINS)


CENTRES = torch.tensor([[5.0, 1.0, 0.5], [3.0, -1.0, -0.4], [-4.0, 0.5, 0.0], [0.0, 5.0, 0.0]])
QUERIES = torch.randn(4, 8, generator=torch.Generator().manual_seed(3))


def looked(depth_aware, **options):
    torch.manual_seed(0)
    look = ImageLook(CrossAttentionConfig(heads=2, points=3, depth_aware=depth_aware, **options), 8)
    for parameter in look.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return look


def test_looking_into_the_plane_equals_a_plain_loop():
    look, seen = looked(False), shown()
    found = look(QUERIES, CENTRES, seen)
    values = look.value(seen.context.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    for q, camera in ((0, 0), (1, 0), (2, 1)):
        pixel = rig()[camera].project(CENTRES[q : q + 1])[0][0] / torch.tensor([60.0, 40.0])
        offsets = look.offset(QUERIES[q]).reshape(2, 3, 2) / torch.tensor([7.0, 5.0])
        weights = look.weight(QUERIES[q]).reshape(2, 3).softmax(dim=-1)
        heads = []
        for h in range(2):
            places = ((pixel + offsets[h]) * 2 - 1)[None, None]
            sampled = F.grid_sample(values[camera : camera + 1, 4 * h : 4 * h + 4], places, align_corners=False)
            heads.append((sampled[0, :, 0] * weights[h]).sum(dim=-1))
        assert torch.allclose(found[q], look.out(torch.cat(heads)), atol=1e-5)
    assert torch.allclose(found[3], look.out.bias), "no camera sees the voxel on the left"


def test_depth_weighs_what_is_seen():
    """All heads look at the projection itself: what is seen is worth the probability at the voxel's depth."""
    look, seen = looked(True), shown()
    with torch.no_grad():
        for layer in (look.offset, look.depth_offset):
            layer.weight.zero_()
            layer.bias.zero_()
        look.out.weight.copy_(torch.eye(8))
        look.out.bias.zero_()
    flat = seen._replace(depth=torch.zeros_like(seen.depth))
    flat.depth[:, 3:5] = torch.tensor([0.25, 0.75])[:, None, None]  # bins 3 and 4: 4.5 m and 5.5 m are their middles
    plain = looked(False)
    plain.load_state_dict({k: v for k, v in look.state_dict().items() if not k.startswith("depth_offset")})
    ratio = look(QUERIES, CENTRES, flat)[0] / plain(QUERIES, CENTRES, flat)[0]
    assert torch.allclose(ratio, torch.full((8,), 0.5), atol=1e-4), "5 m lies between them"
    beyond = look(QUERIES, CENTRES * torch.tensor([1.7, 1.7, 1.7]), flat)
    assert not beyond[0].any(), "8.5 m is in no bin that has any"


@pytest.mark.parametrize("depth_aware", [False, True])
def test_fast_forms_give_the_same_values_and_gradients(depth_aware):
    torch.manual_seed(0)
    config = CrossAttentionConfig(layers=2, heads=2, points=2, hidden=12, dropout=0.0, depth_aware=depth_aware)
    module = config.build(8)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    results = []
    for backend in ("reference", "numba", "torch"):
        x = QUERIES.clone().requires_grad_()
        out = module(x, CENTRES, shown(), backend=backend)
        results.append((out, *torch.autograd.grad(out.pow(3).sum(), [x, *module.parameters()])))
    for other in results[1:]:
        for fast, plain in zip(other, results[0], strict=True):
            assert torch.allclose(fast, plain, atol=2e-3 * plain.detach().abs().max().clamp(min=1).item())


def test_every_parameter_learns_and_so_do_the_maps():
    for config in (CrossAttentionConfig(layers=2, heads=2, points=2, depth_aware=True), PlainLookConfig(hidden=8)):
        torch.manual_seed(0)
        module, seen = config.build(8), shown()
        seen.context.requires_grad_()
        module(QUERIES, CENTRES, seen).pow(3).sum().backward()
        assert seen.context.grad.abs().sum() > 0
        assert all(p.grad is not None for p in module.parameters())


@pytest.mark.parametrize("spacing", [1.0, 0.25])
def test_places_start_as_far_apart_as_they_should(spacing):
    look = CrossAttentionConfig(layers=1, heads=4, points=3, spacing=spacing).build(8).layers[0].look
    far = look.offset.bias.detach().reshape(4, 3, 2).abs().amax(dim=-1)
    assert torch.allclose(far, spacing * torch.tensor([1.0, 2.0, 3.0]).expand(4, 3))
    with pytest.raises(ConfigError, match="spacing must be at least 0"):
        CrossAttentionConfig(spacing=-1.0)


def test_a_plain_look_reads_the_projection():
    module, seen = PlainLookConfig(hidden=8).build(8).eval(), shown()
    other = seen._replace(context=seen.context + torch.tensor([0.0, 1.0])[:, None, None, None])
    change = (module(QUERIES, CENTRES, seen) - module(QUERIES, CENTRES, other)).abs().amax(dim=1)
    assert change[2] > 1e-4, "only the second camera sees the voxel behind"
    assert change[[0, 1, 3]].max() < 1e-6


def test_heads_must_share_the_channels_out():
    with pytest.raises(ConfigError, match="3 heads do not share out 8 channels"):
        CrossAttentionConfig(heads=3).build(8)
    with pytest.raises(ConfigError, match="hidden must be at least 1"):
        CrossAttentionConfig(hidden=0)


def test_both_rivals_leave_numbers_out_in_training_alone():
    for config in (CrossAttentionConfig(layers=1, heads=2, points=2), PlainLookConfig(hidden=8)):
        module = config.build(8)
        assert {layer.p for layer in module.modules() if isinstance(layer, torch.nn.Dropout)} == {0.1}
        assert not torch.equal(module(QUERIES, CENTRES, shown()), module(QUERIES, CENTRES, shown()))
        module.eval()
        assert torch.equal(module(QUERIES, CENTRES, shown()), module(QUERIES, CENTRES, shown()))
