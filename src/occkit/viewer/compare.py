"""Volumes that show a difference: errors of a prediction, and what the sensors observed. Every drawing takes them."""

from dataclasses import replace

import numpy as np
import torch

from occkit.samples import Occupancy
from occkit.taxonomy import Taxonomy

ERRORS = Taxonomy(
    name="errors",
    classes=("right", "false", "missed", "wrong class", "free"),
    free_id=4,
    colours=((196, 202, 209), (226, 44, 52), (40, 110, 220), (250, 165, 35), (255, 255, 255)),
    prompts=((),) * 5,
)
"""right: occupied in both with one class; false: occupied only in the prediction; missed: only in the label."""

OBSERVED = Taxonomy(
    name="observed",
    classes=("camera and LiDAR", "camera only", "LiDAR only", "not observed", "free"),
    free_id=4,
    colours=((60, 160, 110), (70, 130, 215), (235, 160, 50), (200, 205, 211), (255, 255, 255)),
    prompts=((),) * 5,
)
"""Which sensor observed an occupied voxel."""


def error_volume(prediction: Occupancy, label: Occupancy, *, masked: bool = True) -> Occupancy:
    """Return where a prediction is right, false, misses something or names it wrongly.

    Args:
        prediction: `[x, y, z]`.
        label: on the same grid with the same taxonomy. Voxels with its ignore id are left out (drawn as free).
        masked: also leave out what the cameras did not observe, where the label has a camera mask.

    Returns:
        A volume of the taxonomy `ERRORS`.

    Raises:
        ValueError: if grid or taxonomy differ.
    """
    if prediction.grid != label.grid or prediction.taxonomy != label.taxonomy:
        raise ValueError(
            f"prediction is {prediction.taxonomy.name} on {prediction.grid.shape}, label {label.taxonomy.name} on "
            f"{label.grid.shape}; convert one of them"
        )
    there, truly = prediction.occupied, label.occupied
    result = torch.full_like(label.semantics, ERRORS.free_id)
    result[there & ~truly] = ERRORS.id_of("false")
    result[truly & ~there] = ERRORS.id_of("missed")
    result[truly & there] = ERRORS.id_of("wrong class")
    result[truly & there & (prediction.semantics == label.semantics)] = ERRORS.id_of("right")
    result[label.semantics == label.taxonomy.ignore_id] = ERRORS.free_id
    if masked and label.mask_camera is not None:
        result[~label.mask_camera] = ERRORS.free_id
    return Occupancy(semantics=result, grid=label.grid, taxonomy=ERRORS)


def seen_by_cameras(volume: Occupancy, *labels: Occupancy | None) -> Occupancy:
    """Return a volume without what no camera observed, by the first camera mask that fits, if there is one.

    Args:
        volume: `[x, y, z]`.
        labels: whose masks may say what was observed.
    """
    for label in labels:
        if label is not None and label.mask_camera is not None and label.grid == volume.grid:
            free = torch.full_like(volume.semantics, volume.taxonomy.free_id)
            return replace(volume, semantics=torch.where(label.mask_camera, volume.semantics, free))
    return volume


def observed_volume(label: Occupancy) -> Occupancy:
    """Return which sensor observed each occupied voxel of a label, as a volume of the taxonomy `OBSERVED`.

    A label without a mask counts as not observed by that sensor.
    """
    nothing = torch.zeros_like(label.semantics, dtype=torch.bool)
    camera = nothing if label.mask_camera is None else label.mask_camera
    lidar = nothing if label.mask_lidar is None else label.mask_lidar
    result = torch.full_like(label.semantics, OBSERVED.id_of("not observed"))
    result[camera & lidar] = OBSERVED.id_of("camera and LiDAR")
    result[camera & ~lidar] = OBSERVED.id_of("camera only")
    result[lidar & ~camera] = OBSERVED.id_of("LiDAR only")
    result[~label.occupied] = OBSERVED.free_id
    return Occupancy(semantics=result, grid=label.grid, taxonomy=OBSERVED)


def error_counts(errors: Occupancy) -> dict[str, int]:
    """Return the number of voxels of each kind in a volume of `ERRORS`."""
    counts = np.bincount(errors.semantics.numpy().ravel(), minlength=ERRORS.num_classes)
    return {name: int(counts[i]) for i, name in enumerate(ERRORS.classes) if i != ERRORS.free_id}
