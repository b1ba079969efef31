"""Read a frame: from a folder on disk to tensors, and from a 3D point to a pixel.

What you learn: how a data set is opened, what is in a `Sample`, which frame its coordinates are in, and how a point of
that frame is projected into a camera image.

    python examples/01_read_a_frame.py --out first_frame

What comes out, in the folder of --out (by default a new temporary one):

    world/       a street of three frames in the layout of nuScenes, with labels in the layout of Occ3D
    lidar.png    the six camera images with the LiDAR points on them, coloured by depth
    label.png    the label of the same frame from above

Everything after `open_dataset` works the same on a real nuScenes or SemanticKITTI folder: give its path there instead.
"""

import argparse
import tempfile
import textwrap
from dataclasses import replace
from pathlib import Path

import torch

from occkit.data import DataConfig, open_dataset
from occkit.samples import Sample
from occkit.viewer import draw_points, draw_top, save_picture, tile
from occkit.viewer.canvas import to_array
from occkit.world import PRESETS, generate
from occkit.world.sensors import scaled


def main() -> None:
    """Make a world, open it, read a frame, look at it."""
    parser = argparse.ArgumentParser(description="Read a frame and project its LiDAR points into its images.")
    parser.add_argument("--out", type=Path, help="folder to write; default: a new temporary one")
    out: Path = parser.parse_args().out or Path(tempfile.mkdtemp(prefix="occkit_"))

    # A data set to read. The preset's images are 64 x 176; twice that is nicer to look at. Calling this again with the
    # same settings costs nothing: scenes that are complete are not written again.
    nano = PRESETS["nano"]
    generate(replace(nano, frames=3, rig=scaled(nano.rig, 2)), out / "world", num_scenes=1)

    # The format is recognised by what the folder holds. The config says what is loaded: here also the LiDAR points,
    # and for each frame the images of the one before it.
    config = DataConfig(load_points=True, num_past=1)
    frames = open_dataset(out / "world", split="all", config=config)
    print(f"{frames.name}: {len(frames)} frames, cameras {', '.join(frames.camera_names)}")

    sample = frames[1]
    describe(sample)
    pixels_of_a_point(sample)

    # Index 0 of time is the current frame; `cameras[0, i]` is one camera, and it belongs to `images[0, i]`.
    assert sample.points is not None
    assert sample.occupancy is not None
    views = [
        draw_points(to_array(sample.images[0, i].numpy()), sample.cameras[0, i], sample.points, colour_bar=i == 0)
        for i in range(len(sample.camera_names))
    ]
    save_picture(out / "lidar.png", tile(views, columns=3, captions=sample.camera_names, width=1600))
    save_picture(out / "label.png", draw_top(sample.occupancy))
    print(f"pictures: {out / 'lidar.png'} and {out / 'label.png'}")


def describe(sample: Sample) -> None:
    """Print what a sample holds. A field that a data set does not have is None, never an empty tensor."""
    occupancy, points, depth = sample.occupancy, sample.points, sample.depth
    assert occupancy is not None
    assert points is not None
    assert depth is not None
    print(f"\nframe {sample.token} of {sample.scene}")
    print(textwrap.fill(sample.caption or "no caption", 110, initial_indent="  ", subsequent_indent="  "))
    print(f"  images     {tuple(sample.images.shape)} {sample.images.dtype}: time, camera, RGB, height, width")
    print(f"  intrinsics {tuple(sample.cameras.intrinsics.shape)}, poses {tuple(sample.cameras.ego_from_camera.shape)}")
    print(f"  points     {tuple(points.shape)}: x forward, y left, z up (metres, ego frame), intensity")
    print(f"  depth      {tuple(depth.shape)}: the points as sparse z-depth, {int((depth > 0).sum())} pixels have one")
    grid = sample.grid
    print(f"  grid       {grid.shape} voxels of {grid.voxel_size[0]} m from {grid.origin} to {grid.upper}")
    print(f"  label      {tuple(occupancy.semantics.shape)} {occupancy.semantics.dtype}, ids of {sample.taxonomy.name}")
    # The id of a class is its place in the taxonomy, so counting ids counts classes.
    counts = torch.bincount(occupancy.semantics.flatten().long(), minlength=sample.taxonomy.num_classes)
    for index in sample.taxonomy.semantic_ids:
        if counts[index] > 0:
            print(f"    {sample.taxonomy.classes[index]:<22}{int(counts[index]):>6} voxels")


def pixels_of_a_point(sample: Sample) -> None:
    """Say where one point of the ego frame appears, in each camera, now and half a second ago."""
    point = torch.tensor([[8.0, 2.0, 1.0]])  # 8 m ahead of the rear axle, 2 m to the left, 1 m above the road
    index, _ = sample.grid.index_of(point)
    print(f"\nthe point {point[0].tolist()} lies in voxel {index[0].tolist()}; it falls into the images of")
    # `project` wants one set of points for each camera; `expand` shares ours without copying. Poses of past cameras
    # are given in the frame of *this* sample, so the same point can be looked up in old images. `visible` is true where
    # a pixel of the image lies on the line of sight; whether something stands in between is a question for example 03.
    for time, when in enumerate(("now", "before")):
        cameras = sample.cameras[time]
        pixels, depth, visible = cameras.project(point.expand(len(sample.camera_names), 1, 3))
        for i, name in enumerate(sample.camera_names):
            if visible[i, 0]:
                u, v = pixels[i, 0].tolist()
                print(f"  {when:<7}{name:<18}at pixel u {u:6.1f}, v {v:5.1f}, z-depth {float(depth[i, 0]):.2f} m")


if __name__ == "__main__":
    main()
