"""Rendering 64 channels along 6,000 rays of 96 samples, against `grid_sample` of every channel at every sample."""

import math
from dataclasses import dataclass

import torch
from torch.nn.functional import grid_sample

from benchmarks.measure import Row, compare, measure, measure_pair, peak_memory
from occkit.ops.rendering import render_features, render_weights_from_density
from occkit.ops.sampling import sample_trilinear

NAME = "rendering"


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How much is rendered."""

    rays: int = 6_000
    samples: int = 96
    channels: int = 64
    shape: tuple[int, int, int] = (100, 100, 8)

    def __str__(self) -> str:
        voxels = "x".join(map(str, self.shape))
        return f"{self.rays} rays x {self.samples} samples, {self.channels} channels, {voxels} voxels"


def _samples(sizes: Sizes) -> torch.Tensor:
    """Samples every half voxel-diagonal from near the middle of the volume outwards, voxel units."""
    shape = sizes.shape
    azimuth = torch.rand(sizes.rays) * (2 * math.pi)
    pitch = (torch.rand(sizes.rays) - 0.6) * 0.4
    directions = torch.stack([pitch.cos() * azimuth.cos(), pitch.cos() * azimuth.sin(), pitch.sin()], dim=-1)
    origin = torch.tensor([shape[0] / 2, shape[1] / 2, shape[2] / 2.5])
    t = torch.linspace(0.5, 0.6 * shape[0], sizes.samples)
    return origin + t[:, None] * directions[:, None, :]


def feature_rows(sizes: Sizes, *, repeats: int, name: str = NAME, memory: float = 5) -> list[Row]:
    """Measure rendering of features; the plain form samples every channel at every sample.

    Args:
        sizes: how much is rendered.
        repeats: turns of the two forms.
        name: benchmark that the rows belong to.
        memory: how many times less memory is to be reached.
    """
    shape = sizes.shape
    points = _samples(sizes)
    channels_first = torch.randn(1, sizes.channels, *shape, requires_grad=True)
    table = channels_first.detach()[0].flatten(1).t().contiguous().requires_grad_()
    density = torch.rand(sizes.rays, sizes.samples) * 0.2
    weights = render_weights_from_density(density, torch.ones(sizes.samples)).requires_grad_()
    places = (points / torch.tensor(shape) * 2 - 1).flip(-1)[None, None]
    grad = torch.randn(sizes.rays, sizes.channels)

    def plain(volume: torch.Tensor = channels_first) -> torch.Tensor:
        sampled = grid_sample(volume, places, align_corners=False)[0, :, 0]  # [c, rays, samples]
        return (sampled * weights).sum(dim=-1).t()

    def plain_channels_last() -> torch.Tensor:
        return plain(table.reshape(1, *shape, sizes.channels).permute(0, 4, 1, 2, 3))

    def ours() -> torch.Tensor:
        return render_features(table, shape, points, weights)

    def ours_from_channels_first() -> torch.Tensor:
        return render_features(channels_first[0].flatten(1).t(), shape, points, weights)

    def train(form, volume):
        return lambda: torch.autograd.grad(form(), (volume, weights), grad)

    difference = float((ours() - plain()).detach().abs().max())
    time_ours, time_plain = measure_pair(train(ours, table), train(plain, channels_first), repeats=repeats)
    others = {
        "difference": difference,
        "ours_from_channels_first_s": measure(train(ours_from_channels_first, channels_first), repeats=repeats),
        "plain_channels_last_s": measure(train(plain_channels_last, table), repeats=repeats),
        "ours_without_light_samples_s": measure(
            train(lambda: render_features(table, shape, points, weights, min_weight=1e-3), table), repeats=repeats
        ),
    }
    forward_ours, forward_plain = measure_pair(lambda: ours().detach(), lambda: plain().detach(), repeats=repeats)
    bytes_ours, bytes_plain = peak_memory(train(ours, table)), peak_memory(train(plain, channels_first))
    volume_bytes = table.numel() * table.element_size()
    shared = {"shapes": str(sizes), "dtype": "float32"}
    return [
        compare(name, "features, forward + backward", time_ours, time_plain, at_least=5, **shared, **others),
        compare(name, "features, forward", forward_ours, forward_plain, at_least=5, **shared),
        compare(name, "features, peak memory", bytes_ours, bytes_plain, at_least=memory, unit="B", **shared),
        compare(
            name,
            "features, peak memory beside the volume's gradient",
            bytes_ours - volume_bytes,
            bytes_plain - volume_bytes,
            at_least=memory,
            unit="B",
            **shared,
        ),
    ]


def _density_row(sizes: Sizes, repeats: int) -> Row:
    shape = sizes.shape
    points = _samples(sizes)
    table = torch.rand(math.prod(shape), 1, requires_grad=True)
    places = (points / torch.tensor(shape) * 2 - 1).flip(-1)[None, None]

    def ours() -> torch.Tensor:
        return sample_trilinear(table, shape, points)[..., 0]

    def plain() -> torch.Tensor:
        return grid_sample(table.reshape(1, 1, *shape), places, align_corners=False)[0, 0, 0]

    grad = torch.randn(sizes.rays, sizes.samples)
    time_ours, time_plain = measure_pair(
        lambda: torch.autograd.grad(ours(), table, grad),
        lambda: torch.autograd.grad(plain(), table, grad),
        repeats=repeats,
    )
    return compare(
        NAME, "density, forward + backward", time_ours, time_plain, at_least=1, shapes=str(sizes), dtype="float32"
    )


def run() -> list[Row]:
    """Measure the nano grid and the Occ3D grid."""
    torch.manual_seed(0)
    fine = (200, 200, 16)
    rows = [*feature_rows(Sizes(), repeats=5), *feature_rows(Sizes(shape=fine), repeats=3)]
    return [*rows, _density_row(Sizes(channels=1, shape=fine), 5)]
