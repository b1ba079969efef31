"""Every kind of alignment: identity at first, then everything learns; null occupancy; sizes that can be compared."""

from dataclasses import replace

import pytest
import torch
from test_camera_encoding import GRID, views

from occkit.errors import ConfigError
from occkit.geometry import VoxelGrid
from occkit.nn.alignment import (
    CameraEncodingConfig,
    ConcatAlignmentConfig,
    ControlAlignmentConfig,
    ConvAlignmentConfig,
    CrossAttentionAlignmentConfig,
    DualAlignmentConfig,
    ScanMixer,
    TokensConfig,
)
from occkit.nn.state_space import SCAN_ORDERS, BidirectionalMambaConfig, scan_permutation
from occkit.nn.token_alignment import TokenAlignment

LENS = CameraEncodingConfig(channels=4, depths=4)
TOKENS = TokensConfig(width=8, depths=2)
MAMBA = BidirectionalMambaConfig(head=8, state=4)
DUAL = DualAlignmentConfig(encoding=LENS, tokens=TOKENS, mamba=MAMBA)
KINDS = {
    "dual": DUAL,
    "depth": replace(DUAL, order="depth", blocks=2),
    "hilbert": replace(DUAL, order="hilbert"),
    "time_fast": replace(DUAL, order="time_fast", tokens=TokensConfig(width=8, patch=2)),
    "column": replace(DUAL, order="column", tokens=TokensConfig(width=8, sees_latent=True)),
    "no camera": replace(DUAL, encoding=replace(LENS, camera=False, lift="resize")),
    "forward": replace(DUAL, mamba=replace(MAMBA, backward=False)),
    "gate": replace(DUAL, mamba=replace(MAMBA, gate=True)),
    "concat": ConcatAlignmentConfig(encoding=LENS, hidden=12),
    "attention": CrossAttentionAlignmentConfig(encoding=LENS, width=8, heads=2, hidden=8),
    "own view": CrossAttentionAlignmentConfig(encoding=LENS, width=8, heads=2, patch=2, across_views=False),
    "conv": ConvAlignmentConfig(encoding=LENS, tokens=TOKENS, hidden=8),
    "control": ControlAlignmentConfig(encoding=LENS, width=8),
}
SIZES = {"latent_channels": 6, "num_classes": 3, "grid": GRID}
VIEWS = views((0.0, 0.5, 0.0, 0.5), batch=2, times=(0, 0, 1, 1))
"""Two times, two cameras."""


def inputs(seed=0):
    generator = torch.Generator().manual_seed(seed)
    latent = torch.randn(2, 4, 6, 4, 6, generator=generator)
    return latent, torch.rand(2, 2, 3, *GRID.shape, generator=generator)


def built(name, *, stirred=False):
    torch.manual_seed(0)
    module = KINDS[name].build(**SIZES)
    if stirred:  # away from zero
        for parameter in module.parameters():
            parameter.data += 0.2 * torch.randn_like(parameter)
    return module


@pytest.mark.parametrize("name", KINDS)
def test_a_latent_survives_untouched_at_first(name):
    latent, occupancy = inputs()
    out = built(name)(latent, occupancy, VIEWS)
    assert float((out - latent).detach().abs().max()) == 0.0


@pytest.mark.parametrize("name", KINDS)
def test_everything_learns_once_a_step_was_made(name):
    module = built(name)
    latent, occupancy = (tensor.requires_grad_() for tensor in inputs())
    present = torch.tensor([True, False])
    target = latent.detach() + torch.linspace(-1, 1, 6)[:, None, None]
    optimiser = torch.optim.AdamW(module.parameters(), lr=0.01)
    losses = []
    for _ in range(3):
        optimiser.zero_grad()
        latent.grad = occupancy.grad = None
        loss = (module(latent, occupancy, VIEWS, present) - target).square().mean()
        loss.backward()
        losses.append(loss.item())
        optimiser.step()
    assert losses[2] < losses[0]
    assert latent.grad.abs().sum() > 0
    assert occupancy.grad[0].abs().sum() > 0
    assert not occupancy.grad[1].any(), "an absent occupancy is not read"
    assert [n for n, p in module.named_parameters() if p.grad is None or not p.grad.any()] == []


@pytest.mark.parametrize("name", KINDS)
def test_samples_of_a_batch_do_not_hear_each_other(name):
    module = built(name, stirred=True).eval()
    latent, occupancy = inputs()
    both = module(latent, occupancy, VIEWS)
    alone = module(latent[1:], occupancy[1:], views((0.0, 0.5, 0.0, 0.5), times=(0, 0, 1, 1)))
    assert torch.allclose(both[1:], alone, atol=1e-5)
    twice = module(latent[:1].expand(2, -1, -1, -1, -1), occupancy[:1].expand(2, -1, -1, -1, -1, -1), VIEWS)
    assert torch.allclose(twice[0], twice[1], atol=1e-6)
    assert not torch.allclose(both[0], both[1], atol=1e-2)


@pytest.mark.parametrize("name", KINDS)
def test_an_absent_occupancy_says_nothing_and_a_present_one_does(name):
    module = built(name, stirred=True)
    latent, occupancy = inputs()
    other = inputs(seed=1)[1]
    absent = torch.tensor([False, True])
    first, second = (module(latent, x, VIEWS, absent) for x in (occupancy, torch.cat([other[:1], occupancy[1:]])))
    assert torch.allclose(first, second, atol=1e-6)
    assert torch.equal(
        module(latent, occupancy, VIEWS, torch.ones(2, dtype=torch.bool)), module(latent, occupancy, VIEWS)
    )
    assert not torch.allclose(module(latent, occupancy, VIEWS)[0], module(latent, other, VIEWS)[0], atol=1e-4)


@pytest.mark.parametrize("order", SCAN_ORDERS)
def test_tokens_are_scanned_in_their_order_and_come_back_to_their_places(order):
    torch.manual_seed(0)
    mixer = ScanMixer(replace(MAMBA, backward=False), 8, blocks=1, order=order)
    tokens = torch.randn(1, 2, 3, 4, 2, 8, requires_grad=True)
    permutation = scan_permutation(order, 2, 3, 4, 2)
    out = mixer(tokens).flatten(1, 4)
    heard = torch.autograd.grad(out[0, permutation[20]].sum(), tokens)[0].flatten(1, 4)[0].abs().sum(dim=-1) > 0
    assert set(heard.nonzero().flatten().tolist()) == set(permutation[:21].tolist())
    torch.nn.init.zeros_(mixer.blocks[0].out.weight)
    torch.nn.init.zeros_(mixer.blocks[0].out.bias)
    assert torch.equal(mixer(tokens), tokens)


@pytest.mark.parametrize("patch", [1, 2])
def test_a_place_of_the_latent_gets_the_tokens_of_its_own_ray(patch):
    """Unmixed, what a place hears lies in its view, its patch, and at any depth."""

    class Given(torch.nn.Module):
        def forward(self, occupancy, views, size, present):
            return encoded

    tokens = TokensConfig(width=8, depths=2, patch=patch, zero=False)
    module = TokenAlignment(tokens, LENS, torch.nn.Identity(), **SIZES)
    module.encoding = Given()
    latent, occupancy = inputs()
    encoded = torch.randn(2, 4, 4, 4, 4, 6, requires_grad=True)
    module(latent, occupancy, VIEWS)[1, 2, :, 3, 1].sum().backward()
    heard = encoded.grad.abs().sum(dim=2).nonzero()
    assert set(heard[:, 0].tolist()) == {1}
    assert set(heard[:, 1].tolist()) == {2}
    assert set(heard[:, 2].tolist()) == {0, 1, 2, 3}
    assert set(heard[:, 3].tolist()) == ({3} if patch == 1 else {2, 3})
    assert set(heard[:, 4].tolist()) == ({1} if patch == 1 else {0, 1})


@pytest.mark.parametrize(("name", "hears"), [("dual", True), ("attention", True), ("conv", True), ("own view", False)])
def test_who_hears_the_other_views(name, hears):
    """The volume of time 1 speaks to the images of time 0 through tokens of other views alone."""
    module = built(name, stirred=True)
    latent, occupancy = inputs()
    changed = torch.stack([occupancy[:, 0], inputs(seed=1)[1][:, 1]], dim=1)
    before, after = module(latent, occupancy, VIEWS), module(latent, changed, VIEWS)
    assert not torch.allclose(before[:, 2:], after[:, 2:], atol=1e-4)
    assert bool((before[:, :2] != after[:, :2]).any()) == hears


def test_a_forward_scan_does_not_hear_later_views():
    module = built("forward", stirred=True)
    latent, occupancy = inputs()
    changed = torch.stack([occupancy[:, 0], inputs(seed=1)[1][:, 1]], dim=1)
    assert torch.equal(module(latent, occupancy, VIEWS)[:, :2], module(latent, changed, VIEWS)[:, :2])


def test_without_zeros_at_the_end_the_latent_is_changed_at_once():
    config = replace(DUAL, tokens=replace(TOKENS, zero=False))
    latent, occupancy = inputs()
    assert not torch.allclose(config.build(**SIZES)(latent, occupancy, VIEWS), latent, atol=1e-4)


def test_a_latent_in_half_precision_stays_so():
    latent, occupancy = inputs()
    out = built("dual")(latent.bfloat16(), occupancy, VIEWS)
    assert out.dtype == torch.bfloat16


def test_rivals_have_as_many_parameters():
    """At 64 latent channels and 7 classes, within 5 %; a forward scan needs a wider block for it."""
    grid = VoxelGrid(origin=(0.0, -16.0, -1.0), voxel_size=(1.0, 1.0, 1.0), shape=(32, 32, 8))
    uni = DualAlignmentConfig(mamba=BidirectionalMambaConfig(backward=False, expand=3))
    with torch.device("meta"):
        counts = {
            name: sum(p.numel() for p in config.build(latent_channels=64, num_classes=7, grid=grid).parameters())
            for name, config in {
                "dual": DualAlignmentConfig(),
                "forward": uni,
                "resize": DualAlignmentConfig(encoding=CameraEncodingConfig(lift="resize")),
                "concat": ConcatAlignmentConfig(),
                "attention": CrossAttentionAlignmentConfig(),
                "conv": ConvAlignmentConfig(),
                "control": ControlAlignmentConfig(),
            }.items()
        }
    assert counts["dual"] == 65_051
    assert {name: count for name, count in counts.items() if abs(count / counts["dual"] - 1) > 0.05} == {}


def test_impossible_configs_and_inputs_are_refused():
    with pytest.raises(ConfigError, match=r"order 'depth' needs tokens.depths of 2 or more"):
        DualAlignmentConfig(order="depth")
    with pytest.raises(ConfigError, match="3 do not share out 4 depth bins evenly"):
        replace(DUAL, tokens=TokensConfig(width=8, depths=3)).build(**SIZES)
    with pytest.raises(ConfigError, match="heads of 32 do not share out 2 x 8 channels"):
        DualAlignmentConfig(encoding=LENS, tokens=TOKENS).build(**SIZES)
    with pytest.raises(ConfigError, match="3 heads do not share out 64 channels"):
        CrossAttentionAlignmentConfig(heads=3)
    with pytest.raises(ConfigError, match="an odd kernel"):
        ConvAlignmentConfig(kernel=4)
    latent, occupancy = inputs()
    with pytest.raises(ValueError, match=r"patches of 2 x 2 do not divide 3 x 6"):
        built("time_fast")(latent[..., :3, :], occupancy, VIEWS)
    with pytest.raises(ValueError, match="latent: expected 4 images, one a view"):
        built("dual")(latent[:, :2], occupancy, VIEWS)
