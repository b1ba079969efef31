"""What class an image cell shows: the label voxel that its LiDAR point lies in."""

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from occkit.geometry import Cameras
from occkit.samples import Occupancy


def classes_of_cells(
    depth: Float[Tensor, "b n h w"], cameras: Cameras, label: Occupancy, size: tuple[int, int]
) -> UInt8[Tensor, "b n y x"]:
    """Look up the class of each image cell's nearest LiDAR point in the labelled volume.

    Args:
        depth: z-depth of the projected points, metres; 0 where unknown.
        cameras: leading dimensions `[b, n]`, of the images that `depth` belongs to.
        label: labelled volumes, one a sample.
        size: `(y, x)` cells; must divide `(h, w)`.

    Returns:
        Ids of the label's taxonomy; `ignore_id` for a cell without a point, and where the point lies outside the
        volume or in a voxel that is free or without a label.

    Raises:
        ValueError: if the cells do not divide the image.

    Source: original; the points are those of the depth loss (BEVDepth).
    """
    batch, num_cameras, height, width = depth.shape
    if height % size[0] or width % size[1]:
        raise ValueError(f"depth: {height}x{width} pixels do not divide into {size[0]}x{size[1]} cells")
    tall, wide = height // size[0], width // size[1]
    cells = depth.reshape(batch, num_cameras, size[0], tall, size[1], wide).transpose(3, 4).flatten(-2).flatten(2, 3)
    nearest, place = torch.where(cells > 0, cells, torch.full_like(cells, torch.inf)).min(dim=-1)
    known = nearest < torch.inf
    cell = torch.arange(size[0] * size[1], device=depth.device)
    u = (cell % size[1]) * wide + place % wide
    v = (cell // size[1]) * tall + place // wide
    pixels = torch.stack([u, v], dim=-1).to(depth) + 0.5
    points = cameras.unproject(pixels, torch.where(known, nearest, torch.ones_like(nearest)))
    index, inside = label.grid.index_of(points)
    voxel = label.grid.flat_index(torch.where(inside[..., None], index, torch.zeros_like(index)))
    ids = label.semantics.flatten(1).gather(1, voxel.flatten(1).long()).reshape(voxel.shape)
    shown = known & inside & (ids != label.taxonomy.free_id)
    ids = torch.where(shown, ids, torch.full_like(ids, label.taxonomy.ignore_id))
    return ids.reshape(batch, num_cameras, *size)
