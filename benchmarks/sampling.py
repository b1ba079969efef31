"""Trilinear, planned and deformable sampling, against `grid_sample`."""

import math

import torch
from torch.nn.functional import grid_sample

from benchmarks.measure import Row, compare, measure_pair
from occkit.ops.sampling import (
    SamplePlan,
    deformable_sample_2d,
    deformable_sample_3d,
    sample_planned,
    sample_trilinear,
)

NAME = "sampling"


def _trilinear_rows(shape: tuple[int, int, int], count: int, channels: int) -> list[Row]:
    points = torch.rand(count, 3) * torch.tensor(shape)
    volume = torch.randn(1, channels, *shape, requires_grad=True)
    table = volume.detach()[0].flatten(1).t().contiguous().requires_grad_()
    places = (points / torch.tensor(shape) * 2 - 1).flip(-1)[None, None, None]
    plan = SamplePlan.build(points, shape)
    grad = torch.randn(count, channels)

    def plain():
        return torch.autograd.grad(grid_sample(volume, places, align_corners=False)[0, :, 0, 0].t(), volume, grad)

    shared = {"shapes": f"{count} points, {channels} channels, {'x'.join(map(str, shape))} voxels", "dtype": "float32"}
    rows = []
    for what, ours in (
        ("trilinear, forward + backward", lambda: sample_trilinear(table, shape, points)),
        ("trilinear by plan, forward + backward", lambda: sample_planned(table, plan)),
    ):
        times = measure_pair(lambda ours=ours: torch.autograd.grad(ours(), table, grad), plain, repeats=3)
        rows.append(compare(NAME, what, *times, at_least=3, **shared))
    return rows


def _deformable_row(
    axes: int, sizes: list[tuple[int, ...]], queries: int, heads: int, points: int, channels: int
) -> Row:
    values = [torch.randn(1, *size, heads, channels, requires_grad=True) for size in sizes]
    locations = torch.rand(1, queries, heads, len(sizes), points, axes).requires_grad_()
    weights = torch.rand(1, queries, heads, len(sizes) * points).softmax(dim=-1)
    weights = weights.reshape(1, queries, heads, len(sizes), points).requires_grad_()
    leaves = (*values, locations, weights)
    grad = torch.randn(1, queries, heads, channels)
    sample = deformable_sample_2d if axes == 2 else deformable_sample_3d

    def plain() -> torch.Tensor:
        total = torch.zeros(())
        for level, value in enumerate(values):
            maps = value[0].movedim((-2, -1), (0, 1))  # [heads, c, *size]
            places = locations[0, :, :, level].transpose(0, 1) * 2 - 1  # [heads, queries, points, axes]
            places = places if axes == 2 else places.flip(-1)[:, None]
            sampled = grid_sample(maps, places, align_corners=False).reshape(heads, channels, queries, points)
            total = total + (sampled * weights[0, :, :, level].transpose(0, 1)[:, None]).sum(dim=-1)
        return total.permute(2, 0, 1)[None]

    times = measure_pair(
        lambda: torch.autograd.grad(sample(values, locations, weights), leaves, grad),
        lambda: torch.autograd.grad(plain(), leaves, grad),
        repeats=3,
    )
    difference = float((plain() - sample(values, locations, weights)).detach().abs().max())
    levels = " + ".join("x".join(map(str, size)) for size in sizes)
    return compare(
        NAME,
        f"deformable {axes}D, forward + backward",
        *times,
        at_least=2,
        shapes=f"{queries} queries, {heads} heads x {channels} channels, {points} points a level, {levels}",
        dtype="float32",
        difference=difference,
    )


def run() -> list[Row]:
    """Measure one size of each."""
    torch.manual_seed(0)
    return [
        *_trilinear_rows((200, 200, 16), 100_000, 32),
        _deformable_row(2, [(48, 160), (24, 80)], 20_000, 8, 8, 16),
        _deformable_row(3, [(32, 32, 4)], math.prod((32, 32, 4)), 8, 8, 16),
    ]
