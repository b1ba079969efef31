"""What labels of 1,000 hours of six cameras cost: `python benchmarks/engine_cost.py` prints the model.

Measured here: processor seconds and bytes of a frame of six images of 1600x900 (the street of `benchmarks/labels.py`; a
real one compresses less well). Assumed, with their sources: what networks need on an A100.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.labels import FRAMES, STRIDE, drive, rig, street
from occkit.data.image_maps import write_class_map
from occkit.files import read_image, write_image
from occkit.foundation import OCCNERF_VOCABULARY, WORD_VOCABULARY
from occkit.geometry import OCC3D_GRID
from occkit.labels import (
    FusionConfig,
    LonelyPoints,
    StatisticalOutliers,
    back_project,
    fuse,
    read_points,
    write_points,
)
from occkit.labels.points import remove_outliers
from occkit.labels.stages import write_label
from occkit.taxonomy import OCC3D

HOURS, RATE, CAMERAS = 1000, 2.0, 6
"""Hours of driving, keyframes a second, images a keyframe."""
SAM_SECONDS = 0.15
"""An image in SAM's ViT-H encoder on an A100; segment-anything.com, questions and answers."""
DETECTOR_SECONDS = 1 / 8.37
"""An image and a question in Grounding DINO with a Swin-T; Liu et al., appendix I (the Swin-B of OccNeRF is slower)."""
DEPTH_SECONDS = 0.06
"""An image in a metric depth network with a ViT-L, A100, half precision; what MoGe's authors state of theirs."""


def cpu(function: Callable[[], object]) -> float:
    """Return the processor seconds of all threads, median of three."""
    found = []
    for _ in range(3):
        started = time.process_time()
        function()
        found.append(time.process_time() - started)
    return sorted(found)[1]


def measured() -> tuple[dict[str, float], dict[str, int]]:
    """Return processor seconds and bytes of a frame."""
    cameras = rig()
    depth, ids = street(cameras)
    points = back_project(depth, ids, cameras, OCC3D, stride=STRIDE)
    frames, config = drive(points), FusionConfig(history=FRAMES - 1)
    labels = fuse(frames, OCC3D_GRID, OCC3D, config)
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (3, 113, 200), np.uint8).repeat(8, 1).repeat(8, 2)[:, :900, :1600]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_image(folder / "image.jpg", picture)
        seconds = {
            "read 6 images": CAMERAS * cpu(lambda: read_image(folder / "image.jpg")),
            "points": cpu(lambda: back_project(depth, ids, cameras, OCC3D, stride=STRIDE)),
            "outliers, statistical": cpu(lambda: remove_outliers(points, StatisticalOutliers(), OCC3D)),
            "outliers, lonely": cpu(lambda: remove_outliers(points, LonelyPoints(), OCC3D)),
            "write points": cpu(lambda: write_points(folder / "points.npz", points)),
            "read points of 14 frames": FRAMES * cpu(lambda: read_points(folder / "points.npz")),
            "fuse 14 frames": cpu(lambda: fuse(frames, OCC3D_GRID, OCC3D, config)),
            "write a label": cpu(lambda: write_label(folder / "label.npz", labels)),
        }
        for number, image in enumerate(ids.numpy()):
            write_class_map(folder / f"{number}.png", image, ignore_id=OCC3D.ignore_id)
        sizes = {
            "label": (folder / "label.npz").stat().st_size,
            "points": (folder / "points.npz").stat().st_size,
            "classes of 6 images": sum(path.stat().st_size for path in folder.glob("*.png")),
        }
    return seconds, sizes


def main() -> None:
    """Print the tables."""
    seconds, sizes = measured()
    frames = HOURS * 3600 * RATE
    images = CAMERAS * frames
    print(f"{HOURS} hours at {RATE:g} keyframes a second: {frames / 1e6:.1f} M frames, {images / 1e6:.1f} M images\n")
    print("| measured | a frame | all frames |\n|---|---|---|")
    for what, one in seconds.items():
        print(f"| {what} | {one:.2f} core-s | {one * frames / 3600:,.0f} core-h |")
    for what, size in sizes.items():
        print(f"| {what} | {size / 1e6:.2f} MB | {size * frames / 1e12:.1f} TB |")
    core = sum(one for what, one in seconds.items() if what != "outliers, lonely")
    quick = core - seconds["outliers, statistical"] + seconds["outliers, lonely"]
    heads = ("assumed networks", "GPU-s a frame", "GPU-h", "core-h, statistical / lonely", "cores a GPU keeps busy")
    print(f"\n| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    looks = {
        f"depth, SAM, detector asked {len(WORD_VOCABULARY.calls)} questions (words)": len(WORD_VOCABULARY.calls),
        f"depth, SAM, detector asked {len(OCCNERF_VOCABULARY.calls)} questions (occnerf)": len(
            OCCNERF_VOCABULARY.calls
        ),
        "depth alone (`--one-class`)": None,
    }
    for what, questions in looks.items():
        image = DEPTH_SECONDS + (0.0 if questions is None else SAM_SECONDS + questions * DETECTOR_SECONDS)
        gpu = CAMERAS * image
        hours = f"{core * frames / 3600:,.0f} / {quick * frames / 3600:,.0f}"
        print(f"| {what} | {gpu:.1f} | {gpu * frames / 3600:,.0f} | {hours} | {core / gpu:.1f} / {quick / gpu:.1f} |")


if __name__ == "__main__":
    main()
