"""Your own rig: four wide-angle cameras that no data set has, from a calibration to voxels on their images.

What you learn: what a `rig.json` says, how a lens is described, which of your numbers go where, and how to see whether
they are right: draw voxels over the images, and look whether they lie on what the images show.

    python examples/06_your_own_rig.py --out rig

What comes out, in the folder of --out (by default a new temporary one):

    world/       one frame of a street, seen by four pinhole cameras
    rig/         the same frame as your own: four fisheye images, rig.json and grid.json
    rig.png      the fisheye images, and the voxels of the street over them, through each lens
    covered.png  from above: into how many of the four images each voxel falls

The world has pinhole cameras only, so the fisheye images are made from its images here. With your own cameras you would
start at `write_rig`. A trained network looks at such a rig with `occkit predict RUN --rig rig/rig.json --out DIR`.
"""

import argparse
import math
import tempfile
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from occkit.data import DataConfig, FrameDataset, open_dataset
from occkit.files import write_image, write_json
from occkit.geometry import Cameras
from occkit.geometry.rays import pixel_grid
from occkit.ops.sampling import sample_bilinear
from occkit.samples import Occupancy, Sample
from occkit.taxonomy import Taxonomy
from occkit.viewer import draw_overlay, draw_top, save_picture, tile
from occkit.viewer.canvas import to_array
from occkit.world import PRESETS, generate
from occkit.world.presets import WorldConfig
from occkit.world.primitives import yaw_matrix
from occkit.world.sensors import CAMERA_AXES, CameraSpec, pose

LENS = (0.60689, 0.052689, 0.0, 0.0, 0.00033211, 0.93913, 0.17016, 0.0042780)
"""k1 k2 p1 p2 k3 k4 k5 k6 of a fisheye whose image radius is the angle off the axis: fitted so that
`r (1 + k1 r^2 + k2 r^4 + k3 r^6) / (1 + k4 r^2 + k5 r^4 + k6 r^6)` is atan(r) within 0.02 degrees up to 80 degrees."""
COVER = Taxonomy(
    name="cover",
    classes=("no image", "one image", "two images", "three images", "four images", "free"),
    free_id=5,
    colours=((205, 210, 216), (90, 150, 220), (60, 170, 110), (240, 170, 50), (220, 60, 60), (255, 255, 255)),
    prompts=((),) * 6,
)
"""The viewer draws a volume of any classes; these count images."""
HEIGHT, WIDTH, FOCAL = 240, 320, 160 / math.radians(62)
"""Of the fisheye images: pixels, and pixels a radian, which makes 124 degrees across the width."""
MOUNTING = (
    # name, forward, left, up (metres), heading (degrees, counter-clockwise)
    ("front", 2.6, 0.0, 0.9, 0.0),
    ("left", 1.3, 0.95, 1.1, 90.0),
    ("back", -0.8, 0.0, 1.0, 180.0),
    ("right", 1.3, -0.95, 1.1, -90.0),
)
"""Four cameras around the car, as they are used for parking."""


def main() -> None:
    """Make images, write the rig down, open it, look."""
    parser = argparse.ArgumentParser(description="Write, open and check a rig of four fisheye cameras.")
    parser.add_argument("--out", type=Path, help="folder to write; default: a new temporary one")
    out: Path = parser.parse_args().out or Path(tempfile.mkdtemp(prefix="occkit_"))
    generate(pinhole_world(), out / "world", num_scenes=1)
    sample = open_dataset(out / "world", split="all", config=DataConfig())[0]
    assert sample.occupancy is not None
    write_rig(out / "rig", sample)

    # From here on everything is as with any other data set, but for the label: a rig has none.
    rig = open_dataset(out / "rig" / "rig.json", split="all", config=DataConfig())
    frame = rig[0]
    print(f"{rig.name}: {', '.join(frame.camera_names)}; images {tuple(frame.images.shape)}, label {frame.occupancy}")
    for name, u in (("the middle", WIDTH / 2), ("the left edge", 0.0)):
        x, _, z = frame.cameras[0, 0].directions(torch.tensor([[u, HEIGHT / 2]]))[0].tolist()
        print(f"  {name} of the front image is {math.degrees(math.atan2(abs(x), z)):.2f} degrees off the axis")
    save_pictures(out, rig, frame, sample.occupancy)


def pinhole_world() -> WorldConfig:
    """Return the nano world with four cameras of 150 degrees instead of its own six."""
    focal = 450 / math.tan(math.radians(75))
    intrinsics = np.array([[focal, 0, 450], [0, focal, 300], [0, 0, 1]])
    cameras = tuple(
        CameraSpec(
            name=name,
            intrinsics=intrinsics,
            # Its axes (x right, y down, z forward) to those of the car (x forward, y left, z up), then turned.
            ego_from_camera=pose(yaw_matrix(math.radians(heading)) @ CAMERA_AXES, np.array([forward, left, up])),
        )
        for name, forward, left, up, heading in MOUNTING
    )
    rig = replace(PRESETS["nano"].rig, cameras=cameras, height=600, width=900)
    return replace(PRESETS["nano"], frames=1, rig=rig, weather="sun", sensor_noise=0.0)


def write_rig(folder: Path, sample: Sample) -> None:
    """Write four fisheye images and the two files that say what they are."""
    entries = []
    for i, name in enumerate(sample.camera_names):
        intrinsics = [[FOCAL, 0, WIDTH / 2], [0, FOCAL, HEIGHT / 2], [0, 0, 1]]
        pinhole = sample.cameras[0, i]
        lens = {"intrinsics": torch.tensor(intrinsics), "distortion": torch.tensor(LENS)}
        fisheye = replace(pinhole, height=HEIGHT, width=WIDTH, **lens)
        write_image(folder / f"{name}.png", bend(sample.images[0, i], pinhole, fisheye).numpy())
        # Names and files are yours; matrices are lists of rows; lengths are metres; `intrinsics` are those of the image
        # as stored. Without "distortion" the camera is a pinhole.
        entry = {"name": name, "image": f"{name}.png", "width": WIDTH, "height": HEIGHT, "intrinsics": intrinsics}
        entries.append(entry | {"distortion": LENS, "ego_from_camera": pinhole.ego_from_camera.tolist()})
    write_json(folder / "rig.json", {"token": "my_frame", "cameras": entries})
    # Which volume to predict. Without this file it is that of Occ3D, 200 x 200 x 16 voxels of 0.4 m.
    write_json(folder / "grid.json", asdict(sample.grid))


def bend(image: Tensor, pinhole: Cameras, fisheye: Cameras) -> Tensor:
    """Return what `fisheye` would have seen from the place of `pinhole`; black where the pinhole saw nothing."""
    # The lens is inverted: each fisheye pixel has a ray of forward component 1. Where is it in the pinhole's image?
    there = fisheye.directions(pixel_grid(fisheye.height, fisheye.width)) @ pinhole.intrinsics.T
    colours = sample_bilinear(image[None].float(), there[None, :, :2])[0]
    return colours.T.reshape(3, fisheye.height, fisheye.width).round().to(torch.uint8)


def save_pictures(out: Path, rig: FrameDataset, frame: Sample, street: Occupancy) -> None:
    """Draw the check that every new rig deserves, and which voxels it covers."""
    images = [to_array(image.numpy()) for image in frame.images[0]]
    overlays = [draw_overlay(image, frame.cameras[0, i], street) for i, image in enumerate(images)]
    # Calibration, axes or frame are wrong if the voxels do not lie on what the image shows. Those of the road stand out
    # near the car: they reach 0.6 m up, and the cameras are not much higher.
    save_picture(out / "rig.png", tile([*images, *overlays], columns=4, captions=[*frame.camera_names] * 2))

    # `visible` says whether a point falls into an image. For a lens it is also false where the lens model is no longer
    # one-to-one: there it may fold what lies beside or behind the camera back into the image.
    centres = rig.grid.centers().reshape(1, -1, 3).expand(len(frame.camera_names), -1, -1)
    _, _, visible = frame.cameras[0].project(centres)
    count = visible.sum(dim=0).reshape(rig.grid.shape)
    for number in range(int(count.max()) + 1):
        print(f"  {float((count == number).float().mean()):6.1%} of the voxels: {COVER.classes[number]}")
    semantics = torch.where(street.occupied, count, COVER.free_id).to(torch.uint8)
    save_picture(out / "covered.png", draw_top(Occupancy(semantics=semantics, grid=rig.grid, taxonomy=COVER)))
    print(f"pictures: {out / 'rig.png'} and {out / 'covered.png'}")


if __name__ == "__main__":
    main()
