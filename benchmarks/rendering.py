"""Rendering 64 channels along 6,000 rays of 96 samples, against `grid_sample` of every channel at every sample."""

import math

import torch
from torch.nn.functional import grid_sample

from benchmarks.measure import Row, compare, measure, measure_pair, peak_memory
from occkit.ops.rendering import render_features, render_weights_from_density
from occkit.ops.sampling import sample_trilinear

NAME = "rendering"
RAYS, SAMPLES, CHANNELS = 6_000, 96, 64


def _samples(shape: tuple[int, int, int]) -> torch.Tensor:
    """Samples every half voxel-diagonal from near the middle of the volume outwards, voxel units."""
    azimuth = torch.rand(RAYS) * (2 * math.pi)
    pitch = (torch.rand(RAYS) - 0.6) * 0.4
    directions = torch.stack([pitch.cos() * azimuth.cos(), pitch.cos() * azimuth.sin(), pitch.sin()], dim=-1)
    origin = torch.tensor([shape[0] / 2, shape[1] / 2, shape[2] / 2.5])
    t = torch.linspace(0.5, 0.6 * shape[0], SAMPLES)
    return origin + t[:, None] * directions[:, None, :]


def _rows(shape: tuple[int, int, int], repeats: int) -> list[Row]:
    points = _samples(shape)
    channels_first = torch.randn(1, CHANNELS, *shape, requires_grad=True)
    table = channels_first.detach()[0].flatten(1).t().contiguous().requires_grad_()
    density = torch.rand(RAYS, SAMPLES) * 0.2
    weights = render_weights_from_density(density, torch.ones(SAMPLES)).requires_grad_()
    places = (points / torch.tensor(shape) * 2 - 1).flip(-1)[None, None]
    grad = torch.randn(RAYS, CHANNELS)

    def plain(volume: torch.Tensor = channels_first) -> torch.Tensor:
        sampled = grid_sample(volume, places, align_corners=False)[0, :, 0]  # [c, rays, samples]
        return (sampled * weights).sum(dim=-1).t()

    def plain_channels_last() -> torch.Tensor:
        return plain(table.reshape(1, *shape, CHANNELS).permute(0, 4, 1, 2, 3))

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
    sizes = f"{RAYS} rays x {SAMPLES} samples, {CHANNELS} channels, {'x'.join(map(str, shape))} voxels"
    shared = {"shapes": sizes, "dtype": "float32"}
    return [
        compare(NAME, "features, forward + backward", time_ours, time_plain, at_least=5, **shared, **others),
        compare(NAME, "features, forward", forward_ours, forward_plain, at_least=5, **shared),
        compare(NAME, "features, peak memory", bytes_ours, bytes_plain, at_least=5, unit="B", **shared),
        compare(
            NAME,
            "features, peak memory beside the volume's gradient",
            bytes_ours - volume_bytes,
            bytes_plain - volume_bytes,
            at_least=5,
            unit="B",
            **shared,
        ),
    ]


def _density_row(shape: tuple[int, int, int], repeats: int) -> Row:
    points = _samples(shape)
    table = torch.rand(math.prod(shape), 1, requires_grad=True)
    places = (points / torch.tensor(shape) * 2 - 1).flip(-1)[None, None]

    def ours() -> torch.Tensor:
        return sample_trilinear(table, shape, points)[..., 0]

    def plain() -> torch.Tensor:
        return grid_sample(table.reshape(1, 1, *shape), places, align_corners=False)[0, 0, 0]

    grad = torch.randn(RAYS, SAMPLES)
    time_ours, time_plain = measure_pair(
        lambda: torch.autograd.grad(ours(), table, grad),
        lambda: torch.autograd.grad(plain(), table, grad),
        repeats=repeats,
    )
    sizes = f"{RAYS} rays x {SAMPLES} samples, {'x'.join(map(str, shape))} voxels"
    return compare(
        NAME, "density, forward + backward", time_ours, time_plain, at_least=1, shapes=sizes, dtype="float32"
    )


def run() -> list[Row]:
    """Measure the nano grid and the Occ3D grid."""
    torch.manual_seed(0)
    return [*_rows((100, 100, 8), 5), *_rows((200, 200, 16), 3), _density_row((200, 200, 16), 5)]
