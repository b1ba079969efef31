"""U-Nets over images and over voxels: shapes, skips, the context prior, the head."""

import pytest
import torch

from occkit.errors import ConfigError
from occkit.nn.backbones import SmallConvNetConfig
from occkit.nn.blocks import GroupNormConfig
from occkit.nn.image_unet import ImageUNetConfig
from occkit.nn.volume_unet import (
    ContextPriorConfig,
    DecomposedBlock,
    DilatedHeadConfig,
    VolumeUNetConfig,
)

NORM = GroupNormConfig(channels_per_group=4)
BACKBONE = SmallConvNetConfig(widths=(4, 8, 12), blocks=(0, 0, 0), out_stages=(0, 1, 2), norm=NORM)


def unet(**choices):
    return ImageUNetConfig(
        **{"backbone": BACKBONE, "widths": (8, 8, 8), "strides": (1, 2, 4), "channels": 5, "norm": NORM} | choices
    )


def test_maps_at_every_stride_also_of_odd_images():
    net = unet().build()
    assert [tuple(m.shape) for m in net(torch.randn(2, 3, 30, 41))] == [(2, 5, 30, 41), (2, 5, 15, 21), (2, 5, 8, 11)]
    few = unet(widths=(8, 8), strides=(2,)).build()
    assert [tuple(m.shape[2:]) for m in few(torch.randn(1, 3, 16, 16))] == [(8, 8)]


def test_a_pixel_reaches_the_finest_map_past_the_bottom():
    """The image itself is the last skip: with a silent bottom a changed pixel still changes its surroundings."""
    net = unet().build().eval()
    torch.nn.init.zeros_(net.backbone.stages[2][0][0].weight)
    image = torch.zeros(1, 3, 32, 32)
    touched = image.clone()
    touched[0, :, 10, 20] = 1.0
    change = (net(touched)[0] - net(image)[0]).abs().sum(1)[0]
    assert change[10, 20] > 0


def test_wrong_widths_and_strides_are_refused():
    with pytest.raises(ConfigError, match="ascending powers of two"):
        unet(strides=(1, 3))
    with pytest.raises(ConfigError, match="a width for each of the strides"):
        unet(widths=(8, 8)).build()
    with pytest.raises(ConfigError, match="strides among these"):
        unet(strides=(1, 8)).build()


def test_a_decomposed_block_is_its_formula():
    block = DecomposedBlock(8, 8, norm=NORM, dilation=2)
    x = torch.randn(1, 8, 5, 6, 7)
    a = block.enter(x)
    y1 = block.norms[0](block.along[0](a))
    y2 = block.norms[1](block.along[1](y1.relu())) + y1
    y3 = block.norms[2](block.along[2](y2.relu())) + y2 + y1
    assert torch.allclose(block(x), (block.leave(y3.relu()) + x).relu(), atol=1e-6)


def test_a_decomposed_block_looks_along_its_axes():
    """Three convolutions of length 3 see a cube; with a dilation, one as much larger."""
    for dilation in (1, 2):
        block = DecomposedBlock(4, 4, norm=NORM, dilation=dilation).double()
        for norm in block.modules():  # without statistics of the whole volume
            if isinstance(norm, torch.nn.GroupNorm):
                norm.forward = lambda x: x
        x = torch.rand(1, 4, 9, 9, 9, dtype=torch.float64, requires_grad=True)
        block(x)[0, :, 4, 4, 4].sum().backward()
        reached = x.grad[0].abs().sum(0) > 0
        corner = 4 - dilation
        assert reached[4, 4, 4]
        assert reached[corner::dilation, corner::dilation, corner::dilation].any()
        outside = reached.clone()
        outside[corner : 4 + dilation + 1, corner : 4 + dilation + 1, corner : 4 + dilation + 1] = False
        assert not outside.any()


@pytest.mark.parametrize("shape", [(8, 8, 4), (7, 5, 3)])
def test_a_stride_halves_and_rounds_up(shape):
    block = DecomposedBlock(8, 12, norm=NORM, stride=2)
    expected = tuple(-(-n // 2) for n in shape)
    assert block(torch.randn(2, 8, *shape)).shape == (2, 12, *expected)


@pytest.mark.parametrize("shape", [(8, 8, 4), (10, 6, 5)])
def test_the_volume_network_keeps_its_shape(shape):
    config = VolumeUNetConfig(widths=(8, 12, 16), dilations=(1, 2), prior=ContextPriorConfig(), norm=NORM)
    net = config.build(6, shape)
    features, scores = net(torch.randn(2, 6, *shape))
    assert features.shape == (2, 8, *shape)
    bottom = config.coarsest(shape)
    voxels, megas = 1, 1
    for side in bottom:
        voxels, megas = voxels * side, megas * -(-side // 2)
    assert scores.shape == (2, 4, voxels, megas)
    without = VolumeUNetConfig(widths=(8, 12), dilations=(1,), prior=None, norm=NORM).build(8, shape)
    assert without(torch.randn(1, 8, 3, 3, 3))[1] is None  # and bound to no grid


def test_a_prior_is_bound_to_its_grid():
    net = VolumeUNetConfig(widths=(8, 12), dilations=(1,), norm=NORM).build(8, (8, 8, 4))
    with pytest.raises(ConfigError, match="made for volumes of"):
        net(torch.randn(1, 8, 8, 8, 8))
    with pytest.raises(ConfigError, match="two widths"):
        VolumeUNetConfig(widths=(8,))


def test_a_prior_collects_what_its_scores_say():
    """With scores of one relation certain and the others impossible, a voxel collects the mean of all mega-voxels."""
    prior = ContextPriorConfig(relations=1, dilations=()).build(4, (4, 2, 2), NORM)
    torch.nn.init.zeros_(prior.relate.weight)
    torch.nn.init.constant_(prior.relate.bias, 50.0)
    seen = {}
    prior.join.register_forward_hook(lambda _, inputs, __: seen.update(joined=inputs[0]))
    volume = torch.randn(1, 4, 4, 2, 2)
    prior(volume)
    context = prior.gather(volume)
    assert context.shape == (1, 8, 2, 1, 1)
    collected = seen["joined"][:, 4:]
    assert torch.allclose(collected, context.mean(dim=(2, 3, 4), keepdim=True).expand_as(collected), atol=1e-5)
    assert torch.equal(seen["joined"][:, :4], volume)


def test_the_head_scores_any_grid():
    head = DilatedHeadConfig(norm=NORM).build(8, 5)
    assert head(torch.randn(1, 8, 4, 4, 2), (8, 8, 4)).shape == (1, 5, 8, 8, 4)
    fine = DilatedHeadConfig(fine=4, norm=NORM).build(8, 5)
    assert fine(torch.randn(1, 8, 4, 4, 2), (8, 8, 4)).shape == (1, 5, 8, 8, 4)
    assert fine.score.in_channels == 4
