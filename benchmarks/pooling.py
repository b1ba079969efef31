"""Lift-splat pooling and view gathering for a fixed six-camera rig, against the outer product and scatter."""

import math

import torch

from benchmarks.measure import Row, compare, measure, measure_pair, peak_memory
from occkit.ops.pooling import GatherPlan, PoolPlan, gather_views, pool_voxels

NAME = "pooling"
CAMERAS, BINS = 6, 48
NEAR, FAR = 1.0, 45.0


def _frustum(height: int, width: int) -> torch.Tensor:
    """Points of every pixel and depth bin of six 70-degree cameras on a ring, metres, ego frame."""
    depth = torch.linspace(NEAR, FAR, BINS)
    half = math.tan(math.radians(35))
    side = torch.linspace(half, -half, width)
    up = torch.linspace(half, -half, height) * (height / width)
    forward = torch.stack(torch.broadcast_tensors(torch.ones(1, 1), side[None, :], up[:, None]), dim=-1)  # [h, w, 3]
    points = []
    for camera in range(CAMERAS):
        yaw = camera * math.pi / 3
        turn = torch.tensor([[math.cos(yaw), -math.sin(yaw), 0], [math.sin(yaw), math.cos(yaw), 0], [0, 0, 1]])
        points.append(depth[:, None] * (forward @ turn.T).reshape(-1, 1, 3) + torch.tensor([0, 0, 1.5]))
    return torch.cat(points)  # [pixels, bins, 3]


def _voxels(points: torch.Tensor, shape: tuple[int, int, int]) -> torch.Tensor:
    size = torch.tensor([80 / shape[0], 80 / shape[1], 6.4 / shape[2]])
    index = ((points - torch.tensor([-40.0, -40.0, -1.0])) / size).floor().long()
    inside = ((index >= 0) & (index < torch.tensor(shape))).all(dim=-1)
    return torch.where(inside, (index[..., 0] * shape[1] + index[..., 1]) * shape[2] + index[..., 2], -1)


def _views(height: int, width: int, shape: tuple[int, int, int]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Project the voxel centres into the six cameras: feature-map pixels, visibility, continuous depth bins."""
    size = torch.tensor([80 / shape[0], 80 / shape[1], 6.4 / shape[2]])
    axes = [torch.arange(n) + 0.5 for n in shape]
    centres = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).reshape(-1, 3) * size
    centres = centres + torch.tensor([-40.0, -40.0, -2.5])
    half = math.tan(math.radians(35))
    pixels, bins = [], []
    for camera in range(CAMERAS):
        yaw = -camera * math.pi / 3
        x = centres[:, 0] * math.cos(yaw) - centres[:, 1] * math.sin(yaw)
        y = centres[:, 0] * math.sin(yaw) + centres[:, 1] * math.cos(yaw)
        near = x.clamp(min=1e-3)
        u = (1 - y / near / half) * width / 2
        v = (1 - centres[:, 2] / near / (half * height / width)) * height / 2
        pixels.append(torch.stack([u, v], dim=-1))
        bins.append((x - NEAR) / (FAR - NEAR) * BINS)
    stacked, depth = torch.stack(pixels), torch.stack(bins)
    visible = (depth > 0) & (depth < BINS) & (stacked > 0).all(-1) & (stacked < torch.tensor([width, height])).all(-1)
    return stacked, visible, depth


def _pool_rows(height: int, width: int, shape: tuple[int, int, int], channels: int) -> list[Row]:
    index = _voxels(_frustum(height, width), shape)
    num_voxels = math.prod(shape)
    plan = PoolPlan.build(index, num_voxels=num_voxels)
    features = torch.randn(index.shape[0], channels, requires_grad=True)
    depth = torch.rand(index.shape[0], BINS).softmax(dim=-1).requires_grad_()
    grad = torch.randn(num_voxels, channels)
    flat = index.flatten()
    inside = flat >= 0
    kept = flat[inside]

    def plain() -> torch.Tensor:
        frustum = (depth[:, :, None] * features[:, None, :]).flatten(0, 1)
        return torch.zeros(num_voxels, channels).index_add(0, kept, frustum[inside])

    def ours() -> torch.Tensor:
        return pool_voxels(features, depth, plan)

    def train(form):
        return lambda: torch.autograd.grad(form(), (features, depth), grad)

    sizes = f"6 x {height}x{width} pixels, {BINS} bins -> {'x'.join(map(str, shape))}, {channels} channels"
    shared = {"shapes": sizes, "dtype": "float32"}
    difference = float((ours() - plain()).detach().abs().max())
    time_ours, time_plain = measure_pair(train(ours), train(plain), repeats=9)
    return [
        compare(NAME, "pool, forward + backward", time_ours, time_plain, at_least=3, difference=difference, **shared),
        compare(
            NAME,
            "pool, peak memory",
            peak_memory(train(ours)),
            peak_memory(train(plain)),
            at_least=1,
            unit="B",
            **shared,
        ),
        _limit("making the plan", measure(lambda: PoolPlan.build(index, num_voxels=num_voxels)), 0.030, shared),
    ]


def _gather_rows(height: int, width: int, shape: tuple[int, int, int], channels: int) -> list[Row]:
    pixels, visible, bins = _views(height, width, shape)

    def build() -> GatherPlan:
        return GatherPlan.build(pixels, visible, height=height, width=width, bins=bins, num_bins=BINS)

    plan = build()
    features = torch.randn(plan.num_pixels, channels, requires_grad=True)
    depth = torch.rand(plan.num_pixels, BINS).softmax(dim=-1).requires_grad_()
    grad = torch.randn(plan.num_voxels, channels)

    def train(backend):
        return lambda: torch.autograd.grad(
            gather_views(features, plan, depth, backend=backend), (features, depth), grad
        )

    time_ours, time_plain = measure_pair(train("auto"), train("reference"), repeats=9)
    sizes = f"{int(visible.sum())} views of {'x'.join(map(str, shape))} voxels, {channels} channels"
    shared = {"shapes": sizes, "dtype": "float32"}
    return [
        compare(NAME, "project and gather by depth, forward + backward", time_ours, time_plain, at_least=3, **shared),
        _limit("making the gather plan", measure(build), 0.030, shared),
    ]


def _limit(what: str, seconds: float, limit: float, shared: dict[str, str]) -> Row:
    return Row(
        name=NAME,
        what=what,
        ours=seconds,
        target=f"<= {limit * 1e3:.0f} ms",
        reached=seconds <= limit,
        **shared,
    )


def run() -> list[Row]:
    """Measure the nano rig of the demo and a ResNet-50 rig of the usual size."""
    torch.manual_seed(0)
    return [
        *_pool_rows(16, 44, (100, 100, 8), 32),
        *_pool_rows(16, 44, (200, 200, 16), 64),
        *_gather_rows(16, 44, (100, 100, 8), 32),
    ]
