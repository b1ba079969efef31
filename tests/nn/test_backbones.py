import importlib
from dataclasses import replace

import pytest
import torch

from occkit.errors import ConfigError
from occkit.nn.backbones import ResNetConfig, SmallConvNetConfig, SwinConfig, normalise_images
from occkit.nn.necks import AddNeckConfig, ConcatNeckConfig


def test_normalise_images():
    images = torch.tensor([0, 255], dtype=torch.uint8)[:, None, None, None].expand(2, 3, 1, 1)
    normal = normalise_images(images)[..., 0, 0]
    assert normal[0].tolist() == pytest.approx([-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225])
    assert normal[1, 0].item() == pytest.approx((1 - 0.485) / 0.229)


TINY_SWIN = SwinConfig(width=8, depths=(1, 1, 2, 1), heads=(1, 2, 2, 4), window=4, out_stages=(1, 3, 4))


@pytest.mark.parametrize(
    "config", [SmallConvNetConfig(out_stages=(1, 3)), ResNetConfig(depth=18, out_stages=(1, 3, 4)), TINY_SWIN]
)
def test_maps_have_the_stated_channels_and_strides(config):
    network = config.build()
    maps = network(torch.randn(2, 3, 64, 96))
    assert [m.shape[1] for m in maps] == list(network.channels)
    assert [(m.shape[2], m.shape[3]) for m in maps] == [(64 // s, 96 // s) for s in network.strides]


def test_impossible_stages_are_refused():
    with pytest.raises(ConfigError, match="must end with the last"):
        SmallConvNetConfig(out_stages=(0, 1))
    with pytest.raises(ConfigError, match="differ in length"):
        SmallConvNetConfig(widths=(8, 8), blocks=(1,), out_stages=(1,))
    for stages in ((3, 2), (0, 1), (4, 5), (2, 2), ()):
        with pytest.raises(ConfigError, match="must be ascending numbers"):
            ResNetConfig(out_stages=stages)


def test_stages_behind_the_last_map_are_not_built(tmp_path):
    with torch.device("meta"):
        whole, part = (ResNetConfig(depth=50, out_stages=stages).build() for stages in ((3, 4), (2, 3)))
    assert part.channels == (512, 1024)
    counts = [sum(p.numel() for p in network.parameters()) for network in (whole, part)]
    assert counts == [23_508_032, 8_543_296]
    images = torch.randn(1, 3, 64, 96)
    trained = ResNetConfig(depth=18).build().eval()
    trained.body.save_pretrained(tmp_path)
    short = ResNetConfig(depth=18, out_stages=(2, 3), weights=str(tmp_path)).build().eval()
    with torch.no_grad():
        assert torch.equal(short(images)[1], trained(images)[0])


def test_pretrained_weights_load_from_a_folder(tmp_path):
    network = ResNetConfig(depth=18).build()
    network.body.save_pretrained(tmp_path)
    again = ResNetConfig(depth=18, weights=str(tmp_path)).build()
    x = torch.randn(1, 3, 32, 64)
    network.eval(), again.eval()
    assert all(torch.equal(a, b) for a, b in zip(network(x), again(x), strict=True))


def test_a_swin_loads_a_classifiers_checkpoint(tmp_path):
    """It has all but the norms of the maps, and a classifier that is of no use here."""
    library = importlib.import_module("transformers")
    network = TINY_SWIN.build()
    classifier = library.SwinForImageClassification(network.body.config)
    classifier.save_pretrained(tmp_path)
    again = replace(TINY_SWIN, weights=str(tmp_path)).build()
    theirs = classifier.swin.state_dict()
    mine = again.body.swin.state_dict()
    assert all(torch.equal(theirs[name], mine[name]) for name in mine if not name.startswith("layernorm"))
    with pytest.raises(ConfigError, match=r"Swin: weights .* (lack|cannot be loaded)"):
        replace(TINY_SWIN, width=16, weights=str(tmp_path)).build()


def test_every_parameter_of_a_swin_that_trains_gets_a_gradient():
    network = TINY_SWIN.build()
    sum(m.square().mean() for m in network(torch.randn(1, 3, 64, 64))).backward()
    assert [n for n, p in network.named_parameters() if p.requires_grad and p.grad is None] == []


def test_weights_of_another_network_are_refused(tmp_path):
    ResNetConfig(depth=18).build().body.save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match=r"ResNet: weights .* (lack|cannot be loaded)"):
        ResNetConfig(depth=50, weights=str(tmp_path)).build()


def test_missing_weights_are_named(tmp_path):
    with pytest.raises(ConfigError, match="cannot be loaded"):
        ResNetConfig(depth=18, weights=str(tmp_path)).build()


def test_missing_transformers_names_the_extra(monkeypatch):
    def refuse(name):
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", refuse)
    with pytest.raises(ConfigError, match=r"occkit\[hf\]"):
        ResNetConfig(depth=18).build()


@pytest.mark.parametrize("config", [ConcatNeckConfig(channels=10), AddNeckConfig(channels=10)])
def test_necks_join_at_the_finest_resolution(config):
    maps = [torch.randn(2, 4, 8, 6, requires_grad=True), torch.randn(2, 7, 4, 3, requires_grad=True)]
    joined = config.build([4, 7])(maps)
    assert joined.shape == (2, 10, 8, 6)
    joined.square().sum().backward()
    assert all(m.grad is not None and m.grad.any() for m in maps)


def test_a_neck_may_enlarge_what_it_joins():
    maps = [torch.randn(2, 4, 8, 6), torch.randn(2, 7, 4, 3)]
    neck = ConcatNeckConfig(channels=10, fine_channels=6).build([4, 7])
    assert neck.channels == 6
    assert neck(maps).shape == (2, 6, 16, 12)


def test_parameter_counts_of_the_published_networks():
    """The counts that the RadOcc specification derives for BEVDet's parts."""
    with torch.device("meta"):
        counts = [
            ResNetConfig(depth=50).build(),
            AddNeckConfig(channels=256).build([1024, 2048]),
            ConcatNeckConfig(channels=512).build([512, 1024]),
        ]
    assert [sum(p.numel() for p in m.parameters()) for m in counts] == [23_508_032, 1_377_024, 9_439_232]
