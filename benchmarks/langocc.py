"""LangOcc at its published size: 512 channels along 8,192 rays of 100 samples, and the memory of a whole step.

The memory of a step is an estimate. On the meta device every tensor has its shape and no bytes: what the forward pass
keeps for the backward pass is added up, weights count four times (gradients, two averages of Adam). The backward pass
begins with the gradients of the voxels' features before and after they are normalised; then these and the features are
gone and the hidden layers of their network are there again. The worse of the two moments counts.
"""

from dataclasses import replace

import torch
import torch.nn.functional as F

from benchmarks.measure import Row
from benchmarks.rendering import Sizes, feature_rows
from occkit.geometry import Cameras
from occkit.samples import Batch
from occkit.systems import langocc
from occkit.systems.langocc import LangOcc, LangOccConfig
from occkit.taxonomy import OCC3D
from occkit.training.recipe import Recipe

NAME = "langocc"
LIMIT = 12e9
"""Bytes that a step with one frame is to fit into."""
RENDERING = Sizes(rays=8_192, samples=100, channels=512)
"""On 100 x 100 x 8 voxels; of Occ3D's the features and their gradient alone take 2.6 GB."""


def run() -> list[Row]:
    """Measure the rendering and estimate the steps."""
    torch.manual_seed(0)
    recipes = (langocc.full_r50_occ3d(), langocc.reduced_r50_occ3d())
    return [*feature_rows(RENDERING, repeats=3, name=NAME, memory=8), *map(_step_row, recipes)]


def step_bytes(recipe: Recipe) -> dict[str, float]:
    """Return what a training step with one frame takes, by part; see the head of this file."""
    system = recipe.system
    assert isinstance(system, LangOccConfig)
    with torch.device("meta"):
        module = system.build().train()
    weights = {p.untyped_storage()._cdata for p in module.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in weights:
            kept[storage._cdata] = storage  # held, so that no other storage gets its number
        return tensor

    with torch.device("meta"), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        features = _carried(module, _frame(recipe))
    size = features.numel() * features.element_size()
    hidden = system.layers * system.hidden * (size // features.shape[-1]) if system.recompute else 0
    parts = {
        "kept": float(sum(storage.nbytes() for storage in kept.values())),
        "weights": 4.0 * sum(p.numel() * p.element_size() for p in module.parameters()),
        "backward": float(max(2 * size, hidden - size)),
        # Of a sample: eight voxels and their weights for density and features, and some numbers of its own.
        "samples": recipe.data.feature_rays * (system.render.proposals + system.render.samples) * 256.0,
    }
    return parts | {"total": sum(parts.values())}


def _carried(module: LangOcc, batch: Batch) -> torch.Tensor:
    """Run the network as far as its rays."""
    rows, _ = module.voxel_rows(batch)
    module.densities(rows)
    # Multiplying keeps the result, as rendering does.
    features = F.normalize(module.of_voxels(module.language, rows), dim=-1)
    return features * features.detach()


def _frame(recipe: Recipe) -> Batch:
    height, width = recipe.data.image_size or (256, 704)
    times = 1 + recipe.data.num_past
    grid = recipe.system.grid if isinstance(recipe.system, LangOccConfig) else langocc.nano().system.grid
    with torch.device("meta"):
        cameras = Cameras(
            intrinsics=torch.empty(1, times, 6, 3, 3),
            ego_from_camera=torch.empty(1, times, 6, 4, 4),
            height=height,
            width=width,
        )
        images = torch.empty(1, times, 6, 3, height, width, dtype=torch.uint8)
    return Batch(tokens=("frame",), images=images, cameras=cameras, grid=grid, taxonomy=OCC3D)


def _step_row(recipe: Recipe) -> Row:
    parts = step_bytes(replace(recipe, batch_size=1))
    height, width = recipe.data.image_size or (256, 704)
    return Row(
        name=NAME,
        what=f"{recipe.name}: memory of a training step of one frame, estimated",
        shapes=f"6 x {height}x{width} images, {recipe.data.feature_rays} rays",
        dtype="float32",
        ours=parts["total"],
        unit="B",
        target=f"<= {LIMIT / 1e9:g} GB",
        reached=parts["total"] <= LIMIT,
        extra=parts,
    )
