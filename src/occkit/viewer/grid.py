"""Figures for a paper: a row a frame; its images, the label, every prediction and its errors side by side."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch

from occkit.geometry import Cameras, VoxelGrid
from occkit.samples import Occupancy
from occkit.viewer import canvas
from occkit.viewer.canvas import INK, PAPER, Picture
from occkit.viewer.compare import ERRORS, error_volume, seen_by_cameras
from occkit.viewer.scene import EgoCar, chase_camera, draw_perspective, draw_top

View = Literal["perspective", "top"]
"""From behind and above, or from straight above."""


@dataclass(frozen=True, kw_only=True)
class GridRow:
    """What is shown of one frame."""

    images: tuple[Picture, ...]
    """Of its cameras, in reading order; empty leaves the column out."""
    label: Occupancy | None
    """The truth; None leaves the column out."""
    predictions: tuple[Occupancy, ...]
    """One a method."""
    notes: tuple[str, ...] = ()
    """A few words written into each prediction's picture, such as its score; empty for none."""


@dataclass(frozen=True, kw_only=True)
class GridStyle:
    """How a grid is drawn."""

    view: View = "perspective"
    """Where the scenes are seen from."""
    errors: bool = False
    """Add a column of errors to each prediction."""
    seen_only: bool = False
    """Leave out the voxels that no camera observed, in all columns, where the label says which these are."""
    width: int = 2400
    """Of the figure, pixels; type is a fixed part of it, so that it reads well at the width of a page."""
    ego: EgoCar | None = field(default_factory=EgoCar)
    """The recording car; None leaves it out."""
    caption: str = ""
    """A line below the figure."""


def framed_camera(grid: VoxelGrid, *, width: int) -> Cameras:
    """Return the view of `chase_camera` with a picture just large enough for the box of the volume.

    Args:
        grid: where the volume lies.
        width: of the picture, pixels; the height follows.
    """
    camera = chase_camera(grid, height=100, width=100)
    lower, upper = torch.tensor(grid.origin).double(), torch.tensor(grid.upper).double()
    corners = torch.cartesian_prod(*(torch.stack([low, high]) for low, high in zip(lower, upper, strict=True)))
    pose = camera.ego_from_camera.double()
    seen = (corners - pose[:3, 3]) @ pose[:3, :3]  # the transpose of a rotation is its inverse
    flat = seen[:, :2] / seen[:, 2:]
    low, high = flat.amin(dim=0), flat.amax(dim=0)
    margin = 0.01 * float(high[0] - low[0])
    low, high = low - margin, high + margin
    focal = width / float(high[0] - low[0])
    u, v = (-focal * low).tolist()
    intrinsics = torch.tensor([[focal, 0.0, u], [0.0, focal, v], [0.0, 0.0, 1.0]], dtype=torch.float64)
    height = math.ceil(focal * float(high[1] - low[1]))
    return Cameras(intrinsics=intrinsics, ego_from_camera=camera.ego_from_camera, height=height, width=width)


def draw_grid(rows: Sequence[GridRow], names: Sequence[str], style: GridStyle | None = None) -> Picture:
    """Draw frames below each other, what is known and what each method says of them side by side.

    Args:
        rows: at least one frame; all have images or none, a label or none, on one grid with one taxonomy.
        names: one a method, the headings of the predictions.
        style: how; as `GridStyle()` by default.

    Returns:
        `[h, w, 3]` uint8: headings, rows, a legend of the classes (and errors) that occur, and the caption.

    Raises:
        ValueError: if there is nothing to draw, the rows differ in what they have, or errors are wanted without labels.
    """
    style = style or GridStyle()
    _check(rows, names, style)
    heads = _headings(rows[0], names, style)
    size = max(12, style.width // 62)
    gap = max(4, size // 4)
    scene, photo = _cell_widths(rows[0], len(heads), gap, style)
    lines: list[Picture] = [_heading_line(heads, scene, photo, size=size, gap=gap)]
    shown: list[Occupancy] = []
    for row in rows:
        volumes = _volumes(row, style)
        shown += [volume for volume, _ in volumes if volume.taxonomy != ERRORS]
        cells = [_draw_scene(volume, note, scene, size, style) for volume, note in volumes]
        if row.images:
            cells.insert(0, _mosaic(row.images, cells[0].shape[0], photo, gap))
        lines.append(_side_by_side(cells, gap))
    figure = canvas.stack([lines[0], canvas.stack(lines[1:], gap=3 * gap)], gap=gap)
    parts = [figure, _centred(canvas.legend(canvas.present_classes(shown), width=figure.shape[1], size=size), figure)]
    if style.errors:
        kinds = [(f"errors: {ERRORS.classes[0]}", ERRORS.colours[0])]
        kinds += [(name, ERRORS.colours[i]) for i, name in enumerate(ERRORS.classes[:4]) if i > 0]
        parts.append(_centred(canvas.legend(kinds, width=figure.shape[1], size=size), figure))
    if style.caption:
        parts.append(_text_line(style.caption, figure.shape[1], size))
    return _framed(canvas.stack(parts, gap=size // 2), margin=size // 2)


def _check(rows: Sequence[GridRow], names: Sequence[str], style: GridStyle) -> None:
    if not rows:
        raise ValueError("draw_grid: no frame to draw")
    if len({(len(r.images), r.label is None, len(r.predictions)) for r in rows}) > 1:
        raise ValueError("draw_grid: the frames differ in the number of images or predictions, or in having a label")
    first = rows[0]
    if len(names) != len(first.predictions) or any(r.notes and len(r.notes) != len(names) for r in rows):
        raise ValueError(f"draw_grid: {len(names)} names for {len(first.predictions)} predictions and their notes")
    if not names and first.label is None:
        raise ValueError("draw_grid: neither a label nor a prediction to draw")
    if style.errors and first.label is None:
        raise ValueError("draw_grid: errors are differences from a label, and these frames have none")
    volumes = [v for r in rows for v in (*r.predictions, *(() if r.label is None else (r.label,)))]
    if any(v.grid != volumes[0].grid or v.taxonomy != volumes[0].taxonomy for v in volumes):
        raise ValueError("draw_grid: the volumes have different grids or classes; convert them to one")


def _headings(row: GridRow, names: Sequence[str], style: GridStyle) -> list[str]:
    """Return a heading a column."""
    heads = [] if not row.images else ["camera" if len(row.images) == 1 else "cameras"]
    heads += [] if row.label is None else ["ground truth"]
    for name in names:
        heads += [name, f"{name}: errors"] if style.errors else [name]
    return heads


def _cell_widths(row: GridRow, columns: int, gap: int, style: GridStyle) -> tuple[int, int]:
    """Return the widths of a scene and of the images of a row, which are as high as a scene, to fill the figure."""
    volume = row.predictions[0] if row.label is None else row.label
    aspect = _scene_aspect(volume.grid, style.view)
    room = style.width - gap * (columns - 1)
    if not row.images:
        return room // columns, 0
    across, down = _arrangement(row.images, aspect)
    height, width = row.images[0].shape[:2]
    photo_by_scene = aspect * (across * width) / (down * height)
    scene = int(room / (columns - 1 + photo_by_scene))
    return scene, room - (columns - 1) * scene


def _scene_aspect(grid: VoxelGrid, view: View) -> float:
    """Return height by width of a scene's picture."""
    if view == "top":
        extent = np.array(grid.upper) - np.array(grid.origin)
        return float(extent[0] / extent[1])
    camera = framed_camera(grid, width=1000)
    return camera.height / camera.width


def _arrangement(images: Sequence[Picture], aspect: float) -> tuple[int, int]:
    """Return in how many columns and rows images fill a cell of an aspect best, none of the places empty."""
    height, width = images[0].shape[:2]
    count = len(images)
    ways = [(across, count // across) for across in range(1, count + 1) if count % across == 0]
    return min(ways, key=lambda way: abs(math.log(way[1] * height / (way[0] * width * aspect))))


def _mosaic(images: Sequence[Picture], height: int, width: int, gap: int) -> Picture:
    across, down = _arrangement(images, height / width)
    thin = max(2, gap // 2)
    cell = (height - thin * (down - 1)) // down, (width - thin * (across - 1)) // across
    sheet = canvas.tile([canvas.resize(image, *cell) for image in images], columns=across, gap=thin)
    return canvas.resize(sheet, height, width)


def _volumes(row: GridRow, style: GridStyle) -> list[tuple[Occupancy, str]]:
    """Return the volumes of a row in order, each with what is written into its picture."""
    masks = (row.label,) if style.seen_only else ()
    volumes = [] if row.label is None else [(seen_by_cameras(row.label, *masks), "")]
    for i, prediction in enumerate(row.predictions):
        volumes.append((seen_by_cameras(prediction, *masks), row.notes[i] if row.notes else ""))
        if style.errors and row.label is not None:
            volumes.append((error_volume(prediction, row.label), ""))
    return volumes


def _draw_scene(volume: Occupancy, note: str, width: int, size: int, style: GridStyle) -> Picture:
    if style.view == "top":
        extent = np.array(volume.grid.upper) - np.array(volume.grid.origin)
        longer = max(width, round(width * float(extent[0] / extent[1])))
        picture = draw_top(volume, size=longer, ego=style.ego, rings=(), with_legend=False)
    else:
        camera = framed_camera(volume.grid, width=width)
        shape = (camera.height, camera.width)
        picture = draw_perspective(volume, size=shape, camera=camera, ego=style.ego, sky=False)
    if not note:
        return picture
    at = (0.4 * size, picture.shape[0] - 0.4 * size)
    return canvas.write_text(picture, note, at=at, size=round(0.8 * size), anchor="ld", halo=PAPER)


def _side_by_side(cells: Sequence[Picture], gap: int) -> Picture:
    height = max(cell.shape[0] for cell in cells)
    line: list[Picture] = []
    for cell in cells:
        if line:
            line.append(_paper(height, gap))
        line.append(np.concatenate([cell, _paper(height - cell.shape[0], cell.shape[1])], axis=0))
    return np.concatenate(line, axis=1)


def _heading_line(heads: Sequence[str], scene: int, photo: int, *, size: int, gap: int) -> Picture:
    """Return the headings, each centred over its column and made smaller where it would not fit."""
    cells: list[Picture] = []
    for i, head in enumerate(heads):
        width = photo if i == 0 and photo else scene
        fitting = min(size, math.floor(size * 0.96 * width / max(1.0, canvas.font(size).getlength(head))))
        cell = _paper(round(1.4 * size), width)
        cells.append(canvas.write_text(cell, head, at=(width / 2, 0.7 * size), size=max(8, fitting), anchor="mm"))
    return _side_by_side(cells, gap)


def _text_line(text: str, width: int, size: int) -> Picture:
    """Return a centred paragraph, wrapped within the width."""
    face, lines = canvas.font(size), [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        lines = [*lines[:-1], longer] if face.getlength(longer) <= width or not lines[-1] else [*lines, word]
    sheet = _paper(round(1.4 * size * len(lines)), width)
    for i, line in enumerate(lines):
        at = (width / 2, (0.7 + 1.4 * i) * size)
        sheet = canvas.write_text(sheet, line, at=at, size=size, colour=INK, anchor="mm")
    return sheet


def _centred(strip: Picture, figure: Picture) -> Picture:
    """Return a strip of the figure's width with what is on it moved to the middle."""
    used = np.nonzero((strip != 255).any(axis=(0, 2)))[0]
    if len(used) == 0:
        return strip
    content = strip[:, : used[-1] + 1]
    left = (figure.shape[1] - content.shape[1]) // 2
    result = _paper(strip.shape[0], figure.shape[1])
    result[:, left : left + content.shape[1]] = content
    return result


def _framed(picture: Picture, *, margin: int) -> Picture:
    height, width = picture.shape[:2]
    result = _paper(height + 2 * margin, width + 2 * margin)
    result[margin : margin + height, margin : margin + width] = picture
    return result


def _paper(height: int, width: int) -> Picture:
    return np.full((height, width, 3), PAPER, dtype=np.uint8)
