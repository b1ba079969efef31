"""RayIoU: is the first thing a ray meets of the right class and at the right distance?

Source: Liu et al., "Fully sparse 3D occupancy prediction" (SparseOcc), ECCV 2024, and the constants of its evaluation.
"""

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int64, UInt8

from occkit.geometry import VoxelGrid
from occkit.metrics.voxel_iou import Scores, mean, ratio
from occkit.ops.raycast import first_hit
from occkit.samples import Occupancy
from occkit.taxonomy import Taxonomy

MAX_PITCH = 0.21
"""The fan ends with the first pitch at or above this, radians."""

ORIGIN_RANGE = 39.0
"""Origins must lie closer than this along x and along y, metres."""

MAX_ORIGINS = 8
"""Origins a frame is looked at from."""


@dataclass(frozen=True, kw_only=True)
class RayProtocol:
    """A protocol that looks along rays instead of counting voxels; it knows no mask.

    `IoU[class, threshold] = TP / (labelled + predicted - TP)` over the rays whose label is not free; a ray is a true
    positive if both classes agree and the distances differ by less than the threshold. A prediction that stops a ray
    where the label lets it through is never counted against it.
    """

    name: str
    """As on the command line."""
    source: str
    """Whose script this is."""
    taxonomies: tuple[str, ...]
    """Label sets it is defined for."""
    thresholds: tuple[float, ...] = (1.0, 2.0, 4.0)
    """Distances, metres; strict."""
    left_out: tuple[str, ...] = ()
    """Classes that are not in the mean; free never is."""
    decimals: int = 2
    """Digits of the percentages that the script prints; JSON is not rounded."""
    notes: str = ""
    """Where we knowingly differ from the published script, and why."""

    def classes(self, taxonomy: Taxonomy) -> tuple[str, ...]:
        """Return the classes in the mean."""
        return tuple(taxonomy.classes[i] for i in taxonomy.semantic_ids if taxonomy.classes[i] not in self.left_out)

    def score(self, counts: Int64[np.ndarray, "c columns"], taxonomy: Taxonomy) -> dict[str, object]:
        """Return `rayiou`, `rayiou@<threshold>`, the same without 'others' and 'other_flat', and the counts.

        `rayiou` is the mean over the whole table of classes and thresholds, absent classes left out.
        """
        tables = [self._per_class(counts, column, taxonomy) for column in range(len(self.thresholds))]
        classes = self.classes(taxonomy)
        scores: dict[str, object] = {}
        for suffix, left_out in (("", ()), ("_15", ("others", "other_flat"))):
            chosen = [name for name in classes if name not in left_out]
            scores[f"rayiou{suffix}"] = mean(table[name] for table in tables for name in chosen)
            for threshold, table in zip(self.thresholds, tables, strict=True):
                scores[f"rayiou{suffix}@{threshold:g}"] = mean(table[name] for name in chosen)
        per_class = {name: mean(table[name] for table in tables) for name in classes}
        matches = {f"matches@{t:g}": counts[:, 2 + i].tolist() for i, t in enumerate(self.thresholds)}
        return scores | {
            "per_class": {taxonomy.classes[i]: per_class.get(taxonomy.classes[i]) for i in taxonomy.semantic_ids},
            "counts": {"labelled": counts[:, 0].tolist(), "predicted": counts[:, 1].tolist(), **matches}
            | {"classes": list(taxonomy.classes)},
        }

    def _per_class(self, counts: Int64[np.ndarray, "c columns"], column: int, taxonomy: Taxonomy) -> Scores:
        scores: Scores = {}
        for index in taxonomy.semantic_ids:
            labelled, predicted, true = (int(n) for n in counts[index, [0, 1, 2 + column]])
            scores[taxonomy.classes[index]] = ratio(true, labelled + predicted - true)
        return scores

    def describe(self, taxonomy: Taxonomy) -> dict[str, object]:
        """Return the rules as JSON."""
        return {
            "mask": "none",
            "classes": list(self.classes(taxonomy)),
            "absent_class": "nan",
            "absent_when": "union",
            "thresholds_m": list(self.thresholds),
            "rays_per_origin": len(ray_directions()),
            "max_origins": MAX_ORIGINS,
            "decimals": self.decimals,
            "taxonomy": taxonomy.name,
            "source": self.source,
            "notes": self.notes,
        }


def pitches() -> Float64[np.ndarray, "39"]:
    """Return the elevation angles of the fan, radians, ascending.

    The first ten meet flat ground 1, 2, ..., 10 sensor heights away, `-(pi/2 - atan(k + 1))`; then the last step is
    repeated while the last angle is below `MAX_PITCH`.
    """
    angles = [-(math.pi / 2 - math.atan(k + 1)) for k in range(10)]
    while angles[-1] < MAX_PITCH:
        angles.append(angles[-1] + (angles[-1] - angles[-2]))
    return np.array(angles)


@cache
def ray_directions() -> Float32[np.ndarray, "14040 3"]:
    """Return the fan: 39 pitches (outer) by 360 azimuths of whole degrees, unit vectors, ego frame."""
    pitch, azimuth = np.meshgrid(pitches(), np.deg2rad(np.arange(360)), indexing="ij")
    fan = np.stack([np.cos(pitch) * np.cos(azimuth), np.cos(pitch) * np.sin(azimuth), np.sin(pitch)], axis=-1)
    directions = fan.reshape(-1, 3).astype(np.float32)
    directions.flags.writeable = False
    return directions


def select_origins(origins: Float64[np.ndarray, "k 3"]) -> Float64[np.ndarray, "m 3"]:
    """Thin the LiDAR positions of a scene to those a frame is looked at from.

    Kept are those with `|x| < 39` and `|y| < 39`; of more than eight, those at `round(linspace(0, n - 1, 8))`, halves
    rounded to even.

    Args:
        origins: of all keyframes of the scene, time-ordered, metres, reference ego frame of the frame.

    Returns:
        At most eight of them, in order.
    """
    near = origins[(np.abs(origins[:, 0]) < ORIGIN_RANGE) & (np.abs(origins[:, 1]) < ORIGIN_RANGE)]
    if len(near) <= MAX_ORIGINS:
        return near
    return near[np.round(np.linspace(0, len(near) - 1, MAX_ORIGINS)).astype(np.int64)]


def cast(
    semantics: UInt8[np.ndarray, "x y z"], grid: VoxelGrid, free_id: int, origins: Float64[np.ndarray, "k 3"]
) -> tuple[UInt8[np.ndarray, "r"], Float32[np.ndarray, "r"]]:
    """Send the fan out from every origin.

    Everything but `free_id` stops a ray, also an id that is no class. The distance is that at which the ray *leaves*
    the voxel that stops it. A ray that nothing stops reports the last voxel inside the grid, whose id is free; one that
    never is inside reports voxel (0, 0, 0) and minus one voxel.

    Args:
        semantics: ids.
        grid: where they lie; the voxels must be cubes.
        free_id: id of empty space.
        origins: metres, frame of the grid.

    Returns:
        classes: id of each voxel reported, origin after origin.
        distances: metres; in single precision, like the published script.

    Raises:
        ValueError: if the voxels are not cubes.
    """
    size = grid.voxel_size[0]
    if grid.voxel_size != (size, size, size):
        raise ValueError(f"RayIoU: expected cubic voxels, got {grid.voxel_size} m")
    start, direction = fan_in_voxels(grid, origins)
    occupied = torch.from_numpy(semantics != free_id)
    hits = first_hit(occupied, torch.from_numpy(start), torch.from_numpy(direction), start="truncate")
    distances = hits.exit.numpy().astype(np.float32) * np.float32(size)
    x, y, z = hits.index.numpy().T
    return semantics[x, y, z], distances


def fan_in_voxels(
    grid: VoxelGrid, origins: Float64[np.ndarray, "k 3"]
) -> tuple[Float64[np.ndarray, "r 3"], Float64[np.ndarray, "r 3"]]:
    """Return start and unit direction of every ray; both went through single precision, as published."""
    lower, size = np.array(grid.origin), np.array(grid.voxel_size)
    fan = ray_directions()
    start = ((origins[:, None] - lower) / size).astype(np.float32).astype(np.float64)
    end = ((origins[:, None] + fan - lower) / size).astype(np.float32).astype(np.float64)
    toward = end - start
    squares = toward * toward
    length = np.sqrt(squares[..., :1] + squares[..., 1:2] + squares[..., 2:])
    return np.repeat(start[:, 0], len(fan), axis=0), (toward / length).reshape(-1, 3)


def count_rays(
    token: str,
    prediction: UInt8[np.ndarray, "x y z"],
    label: Occupancy,
    origins: Float64[np.ndarray, "k 3"],
    thresholds: tuple[float, ...],
) -> Int64[np.ndarray, "c columns"]:
    """Count the rays of one frame, for each class: labelled, predicted, and matched at each threshold.

    Args:
        token: name of the frame, for the message if something is wrong.
        prediction: ids of the label's taxonomy.
        label: every id but free stops a ray.
        origins: LiDAR positions of the scene, metres, frame of the label; `select_origins` is applied here.
        thresholds: metres.

    Raises:
        ValueError: if no origin is near the frame, or the prediction holds an id that is no class.
    """
    num_classes, free_id = label.taxonomy.num_classes, label.taxonomy.free_id
    if prediction.max() >= num_classes:
        raise ValueError(f"prediction of {token}: id {prediction.max()} is no class of {label.taxonomy.name}")
    chosen = select_origins(origins)
    if not len(chosen):
        raise ValueError(f"origins of {token}: none of {len(origins)} lies within {ORIGIN_RANGE} m along x and y")
    true, true_distance = cast(label.semantics.numpy(), label.grid, free_id, chosen)
    seen, seen_distance = cast(prediction, label.grid, free_id, chosen)
    kept = true != free_id
    true, seen = true[kept], seen[kept]
    error = np.abs(seen_distance[kept] - true_distance[kept])
    columns = [true, seen, *(true[(true == seen) & (error < t)] for t in thresholds)]
    return np.stack([np.bincount(ids, minlength=256)[:num_classes] for ids in columns], axis=1).astype(np.int64)
