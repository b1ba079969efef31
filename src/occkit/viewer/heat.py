"""How well voxels fit a query: levels as the classes of a volume, which every drawing takes, and a sheet of them."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from PIL import Image, ImageDraw

from occkit.geometry import VoxelGrid
from occkit.samples import Occupancy, Sample
from occkit.taxonomy import Taxonomy
from occkit.viewer import canvas
from occkit.viewer.canvas import Picture
from occkit.viewer.figures import scaled_view
from occkit.viewer.overlay import draw_overlay
from occkit.viewer.scene import EgoCar, draw_top

STEPS = 8
"""Levels of what is found, and as many of what is not."""
_MISSED = ((222, 226, 231), (150, 166, 188))
_FOUND = ((255, 205, 70), (205, 15, 45))
_TOP, _CAMERAS, _GAP = 600, 1080, 16


def _ramp(ends: tuple[tuple[int, int, int], tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    low, high = np.array(ends)
    colours = (low + (high - low) * share for share in np.linspace(0, 1, STEPS))
    return [(round(float(r)), round(float(g)), round(float(b))) for r, g, b in colours]


HEAT = Taxonomy(
    name="heat",
    classes=(*(f"not found {i}" for i in range(STEPS)), *(f"found {i}" for i in range(STEPS)), "free"),
    free_id=2 * STEPS,
    colours=(*_ramp(_MISSED), *_ramp(_FOUND), (255, 255, 255)),
    prompts=((),) * (2 * STEPS + 1),
)
"""Levels of the margin by which a voxel is found: grey to blue where it is not, yellow to red where it is."""


def heat_volume(
    voxels: Int[np.ndarray, "v 3"], margins: Float[np.ndarray, "v"], grid: VoxelGrid, *, columns: bool = False
) -> Occupancy:
    """Return margins as a volume of the taxonomy `HEAT`.

    The best margin has the highest level of what is found, the worst the lowest of what is not, 0 lies between; all
    other voxels are free.

    Args:
        voxels: index of each occupied voxel.
        margins: how far each lies above what is needed to be found; below 0 it is not.
        grid: where the volume lies.
        columns: give every voxel the largest margin of its column, for a look from above.
    """
    values = np.asarray(margins, np.float64)
    if columns and len(voxels):
        flat = voxels[:, 0].astype(np.int64) * grid.shape[1] + voxels[:, 1]
        best = np.full(grid.shape[0] * grid.shape[1], -np.inf)
        np.maximum.at(best, flat, values)
        values = best[flat]
    found = values >= 0
    highest, lowest = max(values.max(initial=0), 1e-12), max(-values.min(initial=0), 1e-12)
    share = np.where(found, values / highest, 1 + values / lowest)
    levels = np.minimum((share * STEPS).astype(np.int64), STEPS - 1) + STEPS * found
    semantics = torch.full(grid.shape, HEAT.free_id, dtype=torch.uint8)
    semantics[tuple(torch.from_numpy(voxels.astype(np.int64)).T)] = torch.from_numpy(levels).byte()
    return Occupancy(semantics=semantics, grid=grid, taxonomy=HEAT)


def draw_answer(
    sample: Sample,
    voxels: Int[np.ndarray, "v 3"],
    margins: Float[np.ndarray, "v"],
    grid: VoxelGrid,
    *,
    title: str,
    centre: Sequence[float],
    ego: EgoCar | None,
) -> Picture:
    """Draw what the voxels of a frame answer to one query: over the images and from above.

    From above a column shows the best of its voxels; over the images a pixel shows the first voxel it meets, faintly
    where that is not found. A ring marks the best cluster.

    Args:
        sample: current images (index 0 in time) and cameras.
        voxels: as `heat_volume`.
        margins: as `heat_volume`.
        grid: where the volume lies, in the sample's reference frame.
        title: a line above the pictures.
        centre: middle of the best cluster (x, y, z), metres; NaN if nothing is found.
        ego: the recording car, see `scene.EgoCar`; None leaves it out.
    """
    volume = heat_volume(voxels, margins, grid)
    strength = (0.15,) * STEPS + (1.0,) * STEPS + (0.0,)
    views = [scaled_view(sample, i, 800) for i in range(len(sample.camera_names))]
    painted = [draw_overlay(image, camera, volume, alpha=0.8, strength=strength) for image, camera in views]
    columns = 1 if len(painted) == 1 else 2
    cameras = canvas.tile(painted, columns=columns, captions=_names(sample), width=_CAMERAS)
    top = draw_top(heat_volume(voxels, margins, grid, columns=True), size=_TOP, ego=ego, with_legend=False)
    top = _mark(top, grid, centre)
    key = canvas.legend(
        [
            ("found, best", HEAT.colours[-2]),
            ("found, barely", HEAT.colours[STEPS]),
            ("not found, close", HEAT.colours[STEPS - 1]),
            ("not found, far from it", HEAT.colours[0]),
        ],
        width=_TOP + _GAP + _CAMERAS,
    )
    line = np.full((40, _TOP + _GAP + _CAMERAS, 3), canvas.PAPER, dtype=np.uint8)
    line = canvas.write_text(line, title, at=(4, 22), size=24, anchor="lm")
    return canvas.stack([line, _beside(top, cameras), key])


def _names(sample: Sample) -> list[str]:
    return [name.replace("_", " ") for name in sample.camera_names]


def _beside(left: Picture, right: Picture) -> Picture:
    """Return two pictures on paper, their tops at one height."""
    height, start = max(left.shape[0], right.shape[0]), left.shape[1] + _GAP
    sheet = np.full((height, start + right.shape[1], 3), canvas.PAPER, dtype=np.uint8)
    sheet[: left.shape[0], : left.shape[1]] = left
    sheet[: right.shape[0], start:] = right
    return sheet


def _mark(picture: Picture, grid: VoxelGrid, centre: Sequence[float]) -> Picture:
    """Draw a ring around a place in a picture from above."""
    if any(math.isnan(value) for value in centre):
        return picture
    scale = picture.shape[0] / (grid.upper[0] - grid.origin[0])
    u, v = (grid.upper[1] - centre[1]) * scale, (grid.upper[0] - centre[0]) * scale
    sheet = Image.fromarray(picture)
    for radius, width, colour in ((17, 5, canvas.PAPER), (16, 3, canvas.INK)):
        ImageDraw.Draw(sheet).ellipse((u - radius, v - radius, u + radius, v + radius), outline=colour, width=width)
    return np.asarray(sheet)
