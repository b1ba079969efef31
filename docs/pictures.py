"""Draws the pictures of docs/concepts.md on a generated world, and prints the table that stands beside them.

occkit world --preset nano --scenes 5 --frames 1 --seed 3 --out worlds/concepts
python docs/pictures.py --data worlds/concepts --out docs/images
"""

import argparse
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from occkit.data.datasets import FrameDataset, open_dataset
from occkit.data.frames import DataConfig
from occkit.metrics import Evaluator
from occkit.samples import Occupancy
from occkit.viewer import OBSERVED, EgoCar, draw_overlay, draw_top, legend, observed_volume, save_picture, stack, tile
from occkit.viewer.canvas import present_classes
from occkit.viewer.figures import scaled_view
from occkit.viewer.grid import GridRow, GridStyle, draw_grid

PROTOCOLS = ("occ3d", "occ3d-full", "rayiou")


def main() -> None:
    """Write three pictures, print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--frame", type=int, default=0)
    args = parser.parse_args()
    frames = open_dataset(args.data, split="all", config=DataConfig(load_depth=False))
    token = frames.tokens[args.frame]
    label = frames.label(token)
    assert label is not None
    draw_frames(frames, args.frame, label, args.out / "concept_frames.jpg")
    draw_masks(label, args.out / "concept_masks.jpg")
    dumps = {"the label": label, "one voxel too far": shifted(label), "solid": filled(label)}
    row = GridRow(images=(), label=label, predictions=(dumps["one voxel too far"], dumps["solid"]))
    figure = draw_grid([row], ["one voxel too far", "solid"], GridStyle(errors=True, width=1500))
    save_picture(args.out / "concept_errors.jpg", figure)
    print_table(frames, token, label, dumps)


def draw_frames(frames: FrameDataset, index: int, label: Occupancy, path: Path) -> None:
    """Draw three images, the voxels of the label over them, and the scene."""
    sample = frames.sample(index)
    views = [scaled_view(sample, i, 380) for i in range(3)]
    photos = tile([image for image, _ in views], columns=3, gap=6)
    voxels = tile([draw_overlay(image, camera, label) for image, camera in views], columns=3, gap=6)
    names = legend(present_classes([label]), width=photos.shape[1], size=15)
    save_picture(path, stack([photos, voxels, names], gap=8))


def draw_masks(label: Occupancy, path: Path) -> None:
    """Draw the label from above: all of it, what observed it, and what a camera observed."""
    seen = label.semantics.clone()
    assert label.mask_camera is not None
    seen[~label.mask_camera] = label.taxonomy.free_id
    camera = Occupancy(semantics=seen, grid=label.grid, taxonomy=label.taxonomy)
    car = EgoCar()
    volumes = (label, observed_volume(label), camera)
    pictures = [draw_top(v, size=330, ego=car, rings=(10, 20, 30), with_legend=False) for v in volumes]
    captions = ("label", "which sensor observed it", "what a camera observed")
    sheet = tile(pictures, columns=3, captions=captions, gap=6)
    kinds = [(name, OBSERVED.colours[i]) for i, name in enumerate(OBSERVED.classes[:4])]
    save_picture(path, stack([sheet, legend(kinds, width=sheet.shape[1], size=15)], gap=8))


def shifted(label: Occupancy) -> Occupancy:
    """Return everything one voxel further ahead."""
    moved = torch.full_like(label.semantics, label.taxonomy.free_id)
    moved[1:] = label.semantics[:-1]
    return Occupancy(semantics=moved, grid=label.grid, taxonomy=label.taxonomy)


def filled(label: Occupancy) -> Occupancy:
    """Return the label with everything that no camera observed filled with what is most common."""
    assert label.mask_camera is not None
    solid = label.semantics.clone()
    solid[~label.mask_camera] = label.taxonomy.id_of("manmade")
    return Occupancy(semantics=solid, grid=label.grid, taxonomy=label.taxonomy)


def print_table(frames: FrameDataset, token: str, label: Occupancy, dumps: Mapping[str, Occupancy]) -> None:
    """Print what each protocol says of each dump, per cent."""
    print("| prediction | " + " | ".join(PROTOCOLS) + " |\n" + "|---" * (len(PROTOCOLS) + 1) + "|")
    origins = frames.ray_origins(token)
    for name, volume in dumps.items():
        evaluator = Evaluator(PROTOCOLS)
        evaluator.add(token, volume.semantics.numpy().astype(np.uint8), label, origins)
        report = evaluator.report()
        scores = [entry.get("rayiou", entry.get("miou")) for entry in report.values()]
        print(f"| {name} | " + " | ".join(f"{100 * float(str(score)):.1f}" for score in scores) + " |")


if __name__ == "__main__":
    main()
