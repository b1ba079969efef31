"""RayIoU of one frame: 8 origins, 14,040 rays each, through prediction and label."""

import numpy as np
import torch

from benchmarks.measure import Row, measure_pair
from benchmarks.raycast import street
from occkit.geometry import OCC3D_GRID
from occkit.metrics.ray_iou import count_rays, fan_in_voxels
from occkit.ops.raycast import first_hit
from occkit.samples import Occupancy
from occkit.taxonomy import OCC3D

NAME = "ray_iou"
TARGET = 0.1


def run() -> list[Row]:
    """Time the whole metric against the two casts alone in vectorised torch."""
    label, prediction = street(0), street(1)
    occupancy = Occupancy(semantics=torch.from_numpy(label), grid=OCC3D_GRID, taxonomy=OCC3D)
    origins = np.stack([np.linspace(-3.5, 3.5, 8), np.zeros(8), np.full(8, 1.84)], axis=1)
    start, direction = (torch.from_numpy(array) for array in fan_in_voxels(OCC3D_GRID, origins))

    def plain() -> None:
        for semantics in (label, prediction):
            occupied = torch.from_numpy(semantics != OCC3D.free_id)
            first_hit(occupied, start, direction, start="truncate", backend="torch")

    ours, torch_form = measure_pair(
        lambda: count_rays("frame", prediction, occupancy, origins, (1.0, 2.0, 4.0)), plain, repeats=3
    )
    return [
        Row(
            name=NAME,
            what="RayIoU counts of a frame",
            shapes=f"2 x {len(start)} rays, 200x200x16 voxels",
            dtype="float64",
            ours=ours,
            plain=torch_form,
            ratio=torch_form / ours,
            target="<= 100 ms",
            reached=ours <= TARGET,
        )
    ]
