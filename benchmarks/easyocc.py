"""A training step of EasyOcc beside one of OccNeRF on the same labels; OccNeRF's rendering beside its dense form."""

from collections.abc import Callable
from dataclasses import replace

import torch
import torch.nn.functional as F

from benchmarks.lift import make_batch
from benchmarks.measure import Row, compare, measure_pair, peak_memory
from occkit.geometry import ContractedGrid, camera_rays
from occkit.geometry.rays import pixel_grid
from occkit.ops.rendering import end_in_last_sample, render_depth, render_weights_saturating
from occkit.samples import Batch, Occupancy
from occkit.systems import easyocc, occnerf
from occkit.systems.occnerf import RenderConfig, render_views, sample_depths
from occkit.taxonomy import OCC3D
from occkit.training.recipe import Recipe
from occkit.training.system import build_system, losses, predict

NAME = "easyocc"
AT_LEAST = 3.0
SHAPES = "6 x 64x176 images -> 48x48x8 voxels; OccNeRF: 72x72x12, 6 x 32x88 rays of 102 samples"


def _batch(step: int) -> Batch:
    batch = make_batch(occnerf.nano_labels(), step=step)
    draw = torch.Generator().manual_seed(step)
    moved = batch.cameras.map(lambda tensor: tensor.expand(-1, 2, *tensor.shape[2:]).clone())
    moved.ego_from_camera[:, 0, :, 0, 3] -= 1.0
    moved.ego_from_camera[:, 1, :, 0, 3] += 1.0
    assert batch.occupancy is not None
    # The middle of the volume: 48 of its 100 voxels along x and y.
    label = batch.occupancy.semantics[:, 26:74, 26:74]
    return replace(
        batch,
        grid=occnerf.NEAR_GRID,
        occupancy=Occupancy(semantics=label, grid=occnerf.NEAR_GRID, taxonomy=OCC3D),
        image_semantics=torch.randint(0, 18, (1, 6, 64, 176), generator=draw, dtype=torch.uint8),
        sources=torch.randint(0, 256, (1, 2, 6, 3, 64, 176), generator=draw, dtype=torch.uint8),
        source_cameras=moved,
    )


def _step_of(recipe: Recipe) -> Callable[[], None]:
    torch.manual_seed(0)
    module = build_system(recipe.system).train()
    optimizer = recipe.optim.build(module)
    batches = iter(range(1000))

    def step() -> None:
        batch = _batch(next(batches))
        loss = torch.stack(list(losses(module, predict(module, batch), batch).values())).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def _dense(config: RenderConfig, scores: torch.Tensor, space: ContractedGrid, batch: Batch) -> torch.Tensor:
    """Every channel at every sample by `grid_sample`: the plain form of `render_views`, for depth and classes."""
    rows, columns = config.size
    depths = sample_depths(config, space)
    total = scores.new_zeros(())
    values = torch.cat([torch.sigmoid(-scores[:, -1:]), scores], dim=1)
    for camera in range(6):
        small = batch.cameras[0, 0, camera].resize(rows, columns)
        rays = camera_rays(small, pixel_grid(rows, columns))
        points = space.continuous_index(rays.at(depths.expand(rows * columns, -1)))
        places = (points / torch.tensor(space.shape) * 2 - 1).flip(-1)[None, :, None]
        sampled = F.grid_sample(values, places, align_corners=False, padding_mode="border")[0, :, :, 0]
        weights = end_in_last_sample(render_weights_saturating(sampled[0]))
        total = total + render_depth(weights, depths).clamp(config.near, config.far).sum()
        total = total + (weights * sampled[1:]).sum(dim=-1).sum()
    return total


def _rendering_rows() -> list[Row]:
    batch = _batch(0)
    config = RenderConfig(size=(32, 88), semantic_ratio=1)
    space = ContractedGrid.around(batch.grid)
    scores = torch.randn(1, 18, *space.shape, generator=torch.Generator().manual_seed(0), requires_grad=True)

    def ours() -> torch.Tensor:
        cameras = batch.cameras[:, 0]
        views = render_views(config, scores, space, cameras, free_id=OCC3D.free_id, semantics=True)
        assert views.depth is not None
        assert views.features is not None
        return views.depth.sum() + views.features.sum()

    def plain() -> torch.Tensor:
        return _dense(config, scores, space, batch)

    def train(form: Callable[[], torch.Tensor]) -> Callable[[], object]:
        return lambda: torch.autograd.grad(form(), scores)

    difference = float(((ours() - plain()) / plain()).detach().abs())
    seconds = measure_pair(train(ours), train(plain), repeats=3)
    memory = peak_memory(train(ours)), peak_memory(train(plain))
    shared = {"at_least": 1.0, "shapes": SHAPES, "dtype": "float32"}
    return [
        compare(NAME, "rendering of OccNeRF's field and its gradient", *seconds, **shared, difference=difference),
        compare(NAME, "peak memory of the same", *map(float, memory), unit="B", **shared),
    ]


def run() -> list[Row]:
    """Time a step of EasyOcc against one of OccNeRF with the same labels, and rendering against its dense form."""
    ours, other = _step_of(easyocc.nano()), _step_of(occnerf.nano_labels())
    seconds = measure_pair(ours, other, repeats=5, warmup=2)
    memory = peak_memory(ours), peak_memory(other)
    shared = {"at_least": AT_LEAST, "shapes": SHAPES, "dtype": "float32"}
    return [
        compare(NAME, "a training step of EasyOcc; plain: of OccNeRF with the same labels", *seconds, **shared),
        compare(NAME, "peak memory of the same steps", *map(float, memory), unit="B", **shared),
        *_rendering_rows(),
    ]
