"""One training step of `lift.nano` and of the variants of its claim."""

import math
from dataclasses import replace

import torch

from benchmarks.measure import Row, measure
from occkit.geometry import Cameras, pose_from_rotation_translation, rotation_from_yaw
from occkit.samples import Batch, Occupancy
from occkit.systems import lift
from occkit.taxonomy import OCC3D
from occkit.training.recipe import Recipe
from occkit.training.system import build_system, losses, predict

NAME = "lift"
FRAMES_PER_SECOND = 2.0


def make_batch(recipe: Recipe, *, step: int) -> Batch:
    """Six cameras on a ring that drives on with every step, noise images and random boxes: the cost of a real frame."""
    generator = torch.Generator().manual_seed(step)
    height, width = recipe.data.image_size or (64, 176)
    frames, grid = 1 + recipe.data.num_past, lift.NANO_GRID
    intrinsics = torch.tensor([[0.8 * width, 0.0, width / 2], [0.0, 0.8 * width, height / 2], [0.0, 0.0, 1.0]])
    yaws = torch.arange(6) * (math.pi / 3)
    rotation = rotation_from_yaw(yaws) @ torch.tensor([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])
    mounting = torch.stack([yaws.cos(), yaws.sin(), torch.full_like(yaws, 1.6)], dim=-1)
    # Motion compensation makes every frame's poses a little different, so that no plan is ever reused.
    driven = torch.tensor([2.0, 0.0, 0.0]) * torch.arange(frames)[:, None, None] + 0.01 * step
    poses = pose_from_rotation_translation(rotation.expand(frames, 6, 3, 3), mounting.expand(frames, 6, 3) - driven)
    semantics = torch.full((1, *grid.shape), OCC3D.free_id, dtype=torch.uint8)
    semantics[:, :, :, :2] = OCC3D.id_of("driveable_surface")
    for name in OCC3D.classes[:-1]:
        x, y = (int(torch.randint(0, 90, (), generator=generator)) for _ in range(2))
        semantics[0, x : x + 10, y : y + 10, 2:6] = OCC3D.id_of(name)
    depth = 50 * torch.rand(1, 6, height, width, generator=generator)
    return Batch(
        tokens=(str(step),),
        images=torch.randint(0, 256, (1, frames, 6, 3, height, width), generator=generator, dtype=torch.uint8),
        cameras=Cameras(
            intrinsics=intrinsics.expand(1, frames, 6, 3, 3).clone(),
            ego_from_camera=poses[None],
            height=height,
            width=width,
        ),
        grid=grid,
        taxonomy=OCC3D,
        occupancy=Occupancy(
            semantics=semantics,
            grid=grid,
            taxonomy=OCC3D,
            mask_camera=torch.rand(semantics.shape, generator=generator) < 0.25,
        ),
        depth=torch.where(depth < 5, depth * 10, torch.zeros_like(depth)),
    )


def _step_row(recipe: Recipe, *, images_only: bool = False) -> Row:
    torch.manual_seed(0)
    assert isinstance(recipe.system, lift.LiftConfig)
    module = build_system(replace(recipe.system, image_steps=1000 if images_only else 0)).train()
    optimizer = recipe.optim.build(module)
    batches = iter(range(1000))

    def step() -> None:
        batch = make_batch(recipe, step=next(batches))
        loss = torch.stack(list(losses(module, predict(module, batch), batch).values())).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    seconds = measure(step, repeats=5, warmup=2)
    return Row(
        name=NAME,
        what=f"{recipe.name}: training step{' of the image network alone' if images_only else ''}, new poses each",
        shapes="6 x 64x176 images -> 100x100x8 voxels",
        dtype="float32",
        ours=seconds,
        target=f">= {FRAMES_PER_SECOND:g} frames/s",
        reached=1 / seconds >= FRAMES_PER_SECOND,
        extra={"frames_per_second": 1 / seconds, "parameters": float(sum(p.numel() for p in module.parameters()))},
    )


def run() -> list[Row]:
    """Time a step of each variant of the claim."""
    whole = [_step_row(recipe()) for recipe in (lift.nano, lift.nano_stereo, lift.nano_volume)]
    return [*whole, _step_row(lift.nano(), images_only=True)]
