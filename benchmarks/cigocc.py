"""Deformable sampling in image, depth and volume beside plain forms; a step with and without masks as teachers.

Sampling of images and volumes by themselves is in `benchmarks/sampling.py`.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch.nn.functional import grid_sample

from benchmarks.lift import make_batch
from benchmarks.measure import Row, compare, measure_pair, overhead, peak_memory
from occkit.nn.volume_attention import NeighbourAttention, VolumeAttentionConfig
from occkit.ops.sampling import depth_aware_sample
from occkit.samples import Batch, ImageInputs, Occupancy
from occkit.systems import cigocc
from occkit.taxonomy import SEMANTICKITTI
from occkit.training.recipe import Recipe
from occkit.training.system import build_system, losses, predict

NAME = "cigocc"
AT_MOST = 1.05
"""The claim: masks as teachers cost a twentieth of a step at most."""


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """What is sampled."""

    cells: tuple[int, int] = (24, 80)
    """Rows and columns of the feature map."""
    bins: int = 112
    """Depth bins."""
    queries: int = 5_000
    """Voxels that ask."""
    shape: tuple[int, int, int] = (64, 64, 8)
    """Voxels of the volume."""
    heads: int = 8
    """Attention heads."""
    channels: int = 16
    """Channels of a head."""
    points: int = 8
    """Places that a head looks at."""


def depth_rows(sizes: Sizes, *, repeats: int = 3) -> list[Row]:
    """Measure sampling at a depth beside `grid_sample` of the outer product with the depth distribution."""
    values = torch.randn(1, *sizes.cells, sizes.heads, sizes.channels, requires_grad=True)
    depth = torch.randn(1, *sizes.cells, sizes.bins).softmax(dim=-1).requires_grad_()
    locations = torch.rand(1, sizes.queries, sizes.heads, sizes.points, 3).requires_grad_()
    weights = torch.rand(1, sizes.queries, sizes.heads, sizes.points).softmax(dim=-1).requires_grad_()
    leaves = (values, depth, locations, weights)
    grad = torch.randn(1, sizes.queries, sizes.heads, sizes.channels)

    def plain() -> torch.Tensor:
        frustum = torch.einsum("rcjk,rcd->jkrcd", values[0], depth[0])  # [heads, c, h, w, d]
        places = (locations[0].transpose(0, 1) * 2 - 1)[:, None, :, :, [2, 0, 1]]  # the last axis comes first
        sampled = grid_sample(frustum, places, align_corners=False)[:, :, 0]  # [heads, c, q, p]
        return (sampled * weights[0].transpose(0, 1)[:, None]).sum(dim=-1).permute(2, 0, 1)[None]

    def train(form: Callable[[], torch.Tensor]) -> Callable[[], object]:
        return lambda: torch.autograd.grad(form(), leaves, grad)

    def ours() -> torch.Tensor:
        return depth_aware_sample(*leaves)

    difference = float((ours() - plain()).detach().abs().max())
    shapes = (
        f"{sizes.queries} queries, {sizes.heads} heads x {sizes.channels} channels, {sizes.points} points, "
        f"{sizes.cells[0]}x{sizes.cells[1]} cells, {sizes.bins} bins"
    )
    seconds = measure_pair(train(ours), train(plain), repeats=repeats)
    memory = float(peak_memory(train(ours))), float(peak_memory(train(plain)))
    shared = {"at_least": 2.0, "shapes": shapes, "dtype": "float32"}
    return [
        compare(NAME, "deformable in image and depth, forward + backward", *seconds, **shared, difference=difference),
        compare(NAME, "peak memory of the same", *memory, unit="B", **shared),
    ]


def volume_rows(sizes: Sizes, *, repeats: int = 3) -> list[Row]:
    """Measure attention among all voxels beside the same with `sampled_sum`'s plain torch form."""
    torch.manual_seed(0)
    count = sizes.shape[0] * sizes.shape[1] * sizes.shape[2]
    width = sizes.heads * sizes.channels
    attention = NeighbourAttention(VolumeAttentionConfig(heads=sizes.heads, points=sizes.points), width)
    x = torch.randn(1, count, width, requires_grad=True)
    grad = torch.randn(1, count, width)

    def form(backend: str) -> Callable[[], object]:
        return lambda: torch.autograd.grad(attention(x, x, sizes.shape, backend=backend), x, grad)

    seconds = measure_pair(form("auto"), form("reference"), repeats=repeats)
    voxels = "x".join(map(str, sizes.shape))
    shapes = f"{voxels} voxels, {sizes.heads} heads x {sizes.channels} channels, {sizes.points} points"
    what = "attention among voxels in 3D, forward + backward"
    return [compare(NAME, what, *seconds, at_least=2.0, shapes=shapes, dtype="float32")]


def taught_batch(recipe: Recipe, step: int) -> Batch:
    """Return a frame with depth, classes and features, drawn at random."""
    assert isinstance(recipe.system, cigocc.CigOccConfig)
    batch, grid, kitti = make_batch(recipe, step=step), recipe.system.grid, SEMANTICKITTI
    draw = torch.Generator().manual_seed(step)
    images = batch.images[:, :, :1]
    size = (1, 1, *images.shape[-2:])
    masks = torch.randint(0, kitti.num_classes, size, generator=draw).byte()
    cells = (images.shape[-2] // 8, images.shape[-1] // 8)
    semantics = torch.zeros(1, *grid.shape, dtype=torch.uint8)
    semantics[..., :2] = torch.randint(1, kitti.num_classes, (1, *grid.shape[:2], 2), generator=draw).byte()
    inputs = ImageInputs(
        depth=2 + 40 * torch.rand(size, generator=draw),
        masks=masks,
        features=torch.randn(1, 1, 24, *cells, generator=draw),
    )
    return replace(
        batch,
        images=images,
        cameras=batch.cameras[:, :, :1],
        depth=None,
        grid=grid,
        taxonomy=kitti,
        occupancy=Occupancy(semantics=semantics, grid=grid, taxonomy=kitti),
        inputs=inputs,
        image_semantics=masks,
    )


def _step_of(recipe: Recipe) -> Callable[[], None]:
    torch.manual_seed(0)
    module = build_system(recipe.system).train()
    optimizer = recipe.optim.build(module)
    steps = iter(range(1000))

    def step() -> None:
        batch = taught_batch(recipe, next(steps))
        loss = torch.stack(list(losses(module, predict(module, batch), batch).values())).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def step_rows(taught: Recipe, plain: Recipe, *, repeats: int = 7) -> list[Row]:
    """Measure a training step with masks as teachers beside the same step without them."""
    assert isinstance(taught.system, cigocc.CigOccConfig)
    shapes = f"1 x {taught.data.image_size} images -> {'x'.join(map(str, taught.system.grid.shape))} voxels"
    what = "{} of a step with masks as teachers; plain: without"
    return overhead(NAME, what, _step_of(taught), _step_of(plain), at_most=AT_MOST, shapes=shapes, repeats=repeats)


def latency_rows(taught: Recipe, plain: Recipe, *, repeats: int = 9) -> list[Row]:
    """Measure the prediction of a frame by a network that masks taught beside one that they did not: the same work."""

    def prediction_of(recipe: Recipe) -> Callable[[], object]:
        torch.manual_seed(0)
        module, batch = build_system(recipe.system).eval(), taught_batch(recipe, 0)

        def one() -> object:
            with torch.inference_mode():
                return predict(module, batch).semantics()

        return one

    assert isinstance(taught.system, cigocc.CigOccConfig)
    shapes = f"1 x {taught.data.image_size} images -> {'x'.join(map(str, taught.system.grid.shape))} voxels"
    what = "{} of a prediction after masks as teachers; plain: without them"
    return overhead(
        NAME, what, prediction_of(taught), prediction_of(plain), at_most=AT_MOST, shapes=shapes, repeats=repeats
    )


def run() -> list[Row]:
    """Measure sampling, attention, a step and a prediction."""
    torch.manual_seed(0)
    sizes, taught, plain = Sizes(), cigocc.nano(), cigocc.nano_gsd()
    return [*depth_rows(sizes), *volume_rows(sizes), *step_rows(taught, plain), *latency_rows(taught, plain)]
