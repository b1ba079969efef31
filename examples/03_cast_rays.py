"""Cast rays: what a camera sees of a voxel scene, which voxels are seen at all, and what a LiDAR sweep says is free.

What you learn: voxel units, the three ray casters of `occkit.ops.raycast`, and how masks such as those of Occ3D come
about.

    python examples/03_cast_rays.py --out rays

What comes out, in the folder of --out (by default a new temporary one):

    world/        one street, one frame
    depth.png     z-depth of the label seen from a point behind the car, and the same view in the colours of the classes
    observed.png  from above: which occupied voxels the cameras see, and in which a LiDAR beam ends
"""

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from occkit.data import DataConfig, open_dataset
from occkit.geometry import Cameras, Rays, VoxelGrid, camera_rays
from occkit.geometry.rays import pixel_grid
from occkit.ops.raycast import carve, first_hit, visible_voxels
from occkit.samples import Occupancy, Sample
from occkit.viewer import draw_perspective, draw_top, look_at, observed_volume, save_picture, tile
from occkit.viewer.canvas import Picture, add_colour_bar, turbo
from occkit.world import PRESETS, generate

MAX_DEPTH = 50.0
"""Red end of the depth picture, metres."""


def main() -> None:
    """Cast rays from a free camera, from the cameras of the car and from its LiDAR."""
    parser = argparse.ArgumentParser(description="Cast rays through a voxel scene.")
    parser.add_argument("--out", type=Path, help="folder to write; default: a new temporary one")
    out: Path = parser.parse_args().out or Path(tempfile.mkdtemp(prefix="occkit_"))
    generate(replace(PRESETS["nano"], frames=1), out / "world", num_scenes=1)
    frames = open_dataset(out / "world", split="all", config=DataConfig(load_points=True))
    sample = frames[0]
    label = sample.occupancy
    assert label is not None

    # A camera that no car has: 10 m behind the rear axle, 5 m up, looking forward.
    camera = look_at((-10.0, -3.0, 5.0), (12.0, 0.0, 0.5), height=360, width=640, field_of_view=70.0)
    views = (depth_picture(label, camera), draw_perspective(label, size=(360, 640), camera=camera, ego=None))
    save_picture(out / "depth.png", tile(views, columns=2, captions=("z-depth", "class")))

    seen = seen_by_cameras(sample)
    ended = ends_of_beams(sample, torch.from_numpy(frames.ray_origins(sample.token)[0]))
    # The viewer shows who observed what for any pair of masks; these are ours instead of the label's own.
    save_picture(out / "observed.png", draw_top(observed_volume(replace(label, mask_camera=seen, mask_lidar=ended))))
    print(f"pictures: {out / 'depth.png'} and {out / 'observed.png'}")


def in_voxels(rays: Rays, grid: VoxelGrid) -> tuple[Tensor, Tensor]:
    """Return origins and directions in voxel units.

    The casters know no metres: voxel i fills [i, i + 1). Dividing the direction by the voxel size leaves the meaning of
    the ray parameter as it was, so what comes back is still z-depth (or distance) in metres.
    """
    directions = rays.directions.double() / torch.tensor(grid.voxel_size, dtype=torch.float64)
    return grid.continuous_index(rays.origins.double()), directions


def depth_picture(label: Occupancy, camera: Cameras) -> Picture:
    """Return the z-depth of the first occupied voxel in each pixel as a picture; black where a ray meets nothing."""
    # By default the rays of a camera have a forward component of 1: their parameter is z-depth, not distance.
    rays = camera_rays(camera, pixel_grid(camera.height, camera.width).double())
    hits = first_hit(label.occupied, *in_voxels(rays, label.grid))
    # `entry` is where the ray comes into the voxel, `exit` where it leaves it; a surface is at the entry.
    depth = hits.entry.reshape(camera.height, camera.width)
    hit = hits.hit.reshape(camera.height, camera.width).numpy()
    print(f"depth: {hit.mean():.0%} of the pixels hit something, {float(hits.entry[hits.hit].min()):.1f} m at least")
    picture = np.where(hit[..., None], turbo(depth.numpy() / MAX_DEPTH), np.uint8(0))
    return add_colour_bar(picture, low=0, high=MAX_DEPTH, unit="m")


def seen_by_cameras(sample: Sample) -> Tensor:
    """Return the voxels that a pixel of the six cameras looks through or at: a camera mask made from scratch."""
    label = sample.occupancy
    assert label is not None
    assert label.mask_camera is not None
    cameras = sample.cameras[0]
    pixels = pixel_grid(cameras.height, cameras.width).expand(len(sample.camera_names), -1, -1)
    rays = camera_rays(cameras, pixels)
    flat = Rays(origins=rays.origins.reshape(-1, 3), directions=rays.directions.reshape(-1, 3))
    seen = visible_voxels(label.occupied, *in_voxels(flat, label.grid))
    print(f"cameras: {len(flat.origins):,} rays see {int(seen.sum()):,} of {seen.numel():,} voxels")
    # The label's own mask has more: its rays ended on the surfaces of the street before that became voxels. A voxel is
    # opaque as a whole, though the road fills a third of it; so rays that graze the road end too early here.
    share = label.mask_camera[seen].float().mean()
    print(f"  the label's own camera mask has {int(label.mask_camera.sum()):,}, {float(share):.1%} of ours among them")
    return seen


def ends_of_beams(sample: Sample, origin: Tensor) -> Tensor:
    """Return the voxels in which LiDAR beams end; say how often free and occupied, as measured, are so in the label."""
    label, points = sample.occupancy, sample.points
    assert label is not None
    assert points is not None
    # `carve` needs no volume: a return says that the space before it is free and that something is at its end. An end
    # lies on a surface, so that noise may put it into the voxel in front: it goes five centimetres deeper here.
    ends = points[:, :3].double()
    ends = ends + 0.05 * torch.nn.functional.normalize(ends - origin, dim=1)
    starts = label.grid.continuous_index(origin.expand_as(ends))
    passed, hit = carve(label.grid.shape, starts, label.grid.continuous_index(ends))
    free, there = (hit == 0) & (passed > 0), hit > 0
    # Beams also cross voxels that are occupied: 80 centimetres are large, and the road fills a part of its voxels only.
    print(f"LiDAR: {len(points):,} beams cross {int(free.sum()):,} voxels and end in {int(there.sum()):,}")
    print(f"  of those crossed only {float((~label.occupied[free]).float().mean()):.1%} are free in the label")
    print(f"  of those with an end {float(label.occupied[there].float().mean()):.1%} are occupied in the label")
    return there


if __name__ == "__main__":
    main()
