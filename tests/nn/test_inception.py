"""Inception-v3: its size, its levels, and what the network of the Fréchet distance does otherwise."""

import pytest
import torch
import torch.nn.functional as F

from occkit.nn.inception import InceptionV3


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return InceptionV3().eval()


def test_the_parameters_are_those_of_the_published_network(network):
    # 23,834,568 with a classifier of 1000 classes over 2048 features.
    assert sum(p.numel() for p in network.parameters()) == 23_834_568 - (2048 + 1) * 1000
    assert network.Mixed_6b.branch7x7dbl_2.conv.weight.shape == (128, 128, 7, 1)
    assert network.Mixed_6b.branch7x7_2.conv.weight.shape == (128, 128, 1, 7)
    assert {name.rsplit(".", 1)[1] for name in network.state_dict()} == {
        "weight",
        "bias",
        "running_mean",
        "running_var",
        "num_batches_tracked",
    }


def test_levels_are_as_wide_as_published(network):
    shapes = {}
    for name in ("Conv2d_2b_3x3", "Conv2d_4a_3x3", "Mixed_5b", "Mixed_5d", "Mixed_6a", "Mixed_6e", "Mixed_7a"):
        module = network.get_submodule(name)
        module.register_forward_hook(lambda _, __, out, name=name: shapes.update({name: tuple(out.shape[1:])}))
    with torch.no_grad():
        found = network(torch.zeros(1, 3, 40, 60, dtype=torch.uint8))
    assert shapes == {
        "Conv2d_2b_3x3": (64, 147, 147),
        "Conv2d_4a_3x3": (192, 71, 71),
        "Mixed_5b": (256, 35, 35),
        "Mixed_5d": (288, 35, 35),
        "Mixed_6a": (768, 17, 17),
        "Mixed_6e": (768, 17, 17),
        "Mixed_7a": (1280, 8, 8),
    }
    assert found.shape == (1, 2048)


def test_images_are_scaled_to_one_each_way(network):
    seen = []
    hook = network.Conv2d_1a_3x3.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    images = torch.tensor([0, 255, 51], dtype=torch.uint8).reshape(1, 3, 1, 1).expand(1, 3, 4, 4)
    with torch.no_grad():
        network(images)
    hook.remove()
    assert seen[0].shape == (1, 3, 299, 299)
    assert seen[0][0, :, 0, 0].tolist() == pytest.approx([-1.0, 1.0, -0.6])


@torch.no_grad()
def test_the_first_blocks_leave_the_border_out_of_means_and_the_last_takes_the_largest(network):
    x = torch.rand(1, 192, 5, 5)
    ones = F.conv2d(torch.ones(1, 1, 5, 5), torch.ones(1, 1, 3, 3), padding=1)
    means = F.conv2d(x.flatten(0, 1)[:, None], torch.ones(1, 1, 3, 3), padding=1).reshape(1, 192, 5, 5) / ones
    torch.testing.assert_close(network.Mixed_5b(x)[:, -32:], network.Mixed_5b.branch_pool(means))
    x = torch.rand(1, 2048, 3, 3)
    largest = x.amax(dim=(2, 3), keepdim=True)
    torch.testing.assert_close(network.Mixed_7c(x)[:, -192:, 1:2, 1:2], network.Mixed_7c.branch_pool(largest))


@torch.no_grad()
def test_chains_follow_each_other_and_the_halving_block_keeps_what_it_pools(network):
    x = torch.rand(1, 288, 7, 7)
    found = network.Mixed_6a(x)
    torch.testing.assert_close(found[:, -288:], F.max_pool2d(x, 3, stride=2))
    torch.testing.assert_close(found[:, :384], network.Mixed_6a.branch3x3(x))
    last = network.Mixed_6a.branch3x3dbl_2(network.Mixed_6a.branch3x3dbl_1(x))
    torch.testing.assert_close(found[:, 384:480], network.Mixed_6a.branch3x3dbl_3(last))
