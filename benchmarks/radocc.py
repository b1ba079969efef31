"""A training step taught along rays beside the same step without a teacher; rendered losses beside their dense form."""

from collections.abc import Callable
from dataclasses import replace

import torch
import torch.nn.functional as F

from benchmarks.lift import make_batch
from benchmarks.measure import Row, compare, measure_pair, overhead, peak_memory
from occkit.losses.distillation import distill_affinity, distill_semantics, distill_termination
from occkit.losses.ray_distillation import RayDistillConfig, _segments_of, distill_along_rays, draw_rays
from occkit.ops.rendering import render_weights_from_density
from occkit.samples import Batch, Teaching
from occkit.systems import radocc
from occkit.taxonomy import OCC3D
from occkit.training.system import build_system, losses, predict

NAME = "radocc"
AT_MOST = 1.5
FEW_RAYS = 300
"""They teach as much as the recipe's (docs/radocc.md); a step with them is what the target is for."""


def _shapes(rays: RayDistillConfig) -> str:
    return f"6 x 64x176 images -> 100x100x8 voxels, {rays.num_rays:,} rays of {round(rays.far / rays.step)} samples"


def _taught_batch(step: int) -> Batch:
    batch = make_batch(radocc.nano(), step=step)
    draw = torch.Generator().manual_seed(step)
    shape = (1, OCC3D.num_classes, *batch.grid.shape)
    teaching = Teaching(
        logits=3 * torch.randn(shape, generator=draw), visible=torch.rand(1, *batch.grid.shape, generator=draw) < 0.4
    )
    blocks = torch.randint(0, 40, (1, 6, 8, 11), generator=draw)
    segments = blocks.repeat_interleave(8, dim=2).repeat_interleave(16, dim=3)
    return replace(batch, teaching=teaching, segments=segments)


def _step_of(recipe_system: radocc.RadOccConfig) -> Callable[[], None]:
    torch.manual_seed(0)
    system = replace(recipe_system, student=replace(recipe_system.student, image_steps=0), warmup_steps=0)
    module = build_system(system).train()
    optimizer = radocc.nano().optim.build(module)
    batches = iter(range(1000))

    def step() -> None:
        batch = _taught_batch(next(batches))
        loss = torch.stack(list(losses(module, predict(module, batch), batch).values())).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def _dense(config: RayDistillConfig, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Every channel at every sample by `grid_sample`: the plain form of `distill_along_rays`."""
    assert batch.teaching is not None
    rays = draw_rays(config, batch, 0, generator=torch.Generator().manual_seed(0))
    places = (rays.points / torch.tensor(batch.grid.shape) * 2 - 1).flip(-1)[None, :, None]
    shown, ends = [], []
    for scores in (logits[0], batch.teaching.logits[0]):
        density = F.softplus(scores[:17].logsumexp(dim=0) - scores[17])
        sampled = F.grid_sample(torch.cat([density[None], scores[:17]])[None], places, align_corners=False)[0, :, :, 0]
        weights = render_weights_from_density(sampled[0], torch.full_like(rays.t, config.step))
        ends.append(weights)
        shown.append((weights * sampled[1:]).sum(dim=-1).T)
    segments = _segments_of(batch, 0, rays)
    assert segments is not None
    return (
        config.termination * distill_termination(ends[0], ends[1])
        + config.semantics * distill_semantics(shown[0], shown[1])
        + config.affinity * distill_affinity(shown[0], shown[1], segments)
    )


def _rendering_rows() -> list[Row]:
    batch, config = _taught_batch(0), replace(radocc.nano().system.rays, min_weight=0.0)
    logits = torch.randn(1, 18, *batch.grid.shape, requires_grad=True)

    def ours() -> torch.Tensor:
        draw = torch.Generator().manual_seed(0)
        assert batch.teaching is not None
        return torch.stack(
            list(distill_along_rays(config, logits, batch.teaching, batch, generator=draw).values())
        ).sum()

    def train(form: Callable[[], torch.Tensor]) -> Callable[[], object]:
        return lambda: torch.autograd.grad(form(), logits)

    def plain() -> torch.Tensor:
        return _dense(config, logits, batch)

    difference = float((ours() - plain()).detach().abs())
    seconds = measure_pair(train(ours), train(plain))
    memory = peak_memory(train(ours)), peak_memory(train(plain))
    shared = {"at_least": 1.0, "shapes": _shapes(config), "dtype": "float32"}
    return [
        compare(NAME, "rendered losses and their gradient", *seconds, **shared, difference=difference),
        compare(NAME, "peak memory of the same", *map(float, memory), unit="B", **shared),
    ]


def run() -> list[Row]:
    """Time a distilled step against a plain one, and the rendered losses against their dense form."""
    system = radocc.nano().system
    assert isinstance(system, radocc.RadOccConfig)
    plain = _step_of(replace(system, rays=RayDistillConfig()))
    what = "{} of a step taught along rays, the teacher's outputs at hand; plain: without a teacher"
    rows = []
    for count in (FEW_RAYS, system.rays.num_rays):
        rays = replace(system.rays, num_rays=count)
        taught = _step_of(replace(system, rays=rays))
        rows += overhead(NAME, what, taught, plain, at_most=AT_MOST, shapes=_shapes(rays))
    return [*rows, *_rendering_rows()]
