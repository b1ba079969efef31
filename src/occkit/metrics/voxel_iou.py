"""Intersection over union of voxels: what a protocol is, how its voxels are counted and how the counts become scores.

Every protocol of the family reads the same integer counts, so one pass over the predictions serves all of them and a
figure can be derived again under another rule without the predictions.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from jaxtyping import Bool, Int64, UInt8
from numba import njit

from occkit.geometry import VoxelGrid
from occkit.samples import Occupancy
from occkit.taxonomy import Taxonomy

Mask = Literal["camera", "lidar", "camera&lidar", "none"]
MASKS: tuple[Mask, ...] = ("camera", "lidar", "camera&lidar", "none")

Scores = dict[str, float | None]
"""Fractions 0..1 by name; None where a score does not exist."""


@dataclass(frozen=True, kw_only=True)
class Trim:
    """The part of a prediction that a protocol sets to free before it counts.

    Published as voxels of the 0.4 m grid; kept in metres so that a coarser grid over the same range loses the same
    space. A voxel is trimmed by its centre.
    """

    border: float
    """Width of the strip along the four vertical sides, metres."""
    height: float
    """Everything this far or farther above the floor of the grid, metres."""

    def region(self, grid: VoxelGrid) -> Bool[np.ndarray, "x y z"]:
        """Return True where a prediction counts as free."""
        centers = [(np.arange(n) + 0.5) * s for n, s in zip(grid.shape, grid.voxel_size, strict=True)]
        sides = [n * s for n, s in zip(grid.shape, grid.voxel_size, strict=True)]
        in_x, in_y = (
            (c < self.border) | (c > side - self.border) for c, side in zip(centers[:2], sides[:2], strict=True)
        )
        return in_x[:, None, None] | in_y[None, :, None] | (centers[2] > self.height)[None, None, :]


@dataclass(frozen=True, kw_only=True)
class VoxelProtocol:
    """One way in which the field computes "mIoU", as data.

    For each class `IoU = TP / (TP + FP + FN + eps)` from one confusion matrix summed over all frames; `mIoU` is their
    mean. Everything in which published scripts differ is a field below.
    """

    name: str
    """As on the command line."""
    source: str
    """Whose script this is."""
    taxonomies: tuple[str, ...]
    """Label sets it is defined for."""
    mask: Mask = "none"
    """Voxels that are evaluated."""
    mask_is_fixed: bool = False
    """Whether the script knows no other mask, so that it must not be overridden."""
    left_out: tuple[str, ...] = ()
    """Classes that are not in the mean; free never is."""
    dropped_labels: tuple[str, ...] = ()
    """Voxels labelled with one of these classes are not evaluated."""
    counted_as_free: tuple[str, ...] = ()
    """Classes that are free space to this protocol, in the label and in the prediction."""
    trim: Trim | None = None
    """Part of the prediction that is set to free."""
    absent_class: Literal["nan", "zero", "one"] = "nan"
    """Score of an absent class; `nan` leaves it out of the mean."""
    absent_when: Literal["union", "label"] = "union"
    """A class is absent if it is neither labelled nor predicted (`union`), or if it is not labelled (`label`)."""
    eps: float = 0.0
    """Added to the union, voxels."""
    decimals: int = 2
    """Digits of the percentages that the script prints; JSON is not rounded."""
    extra_means: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Further means by name, each over the classes listed."""
    notes: str = ""
    """Where we knowingly differ from the published script, and why."""

    def classes(self, taxonomy: Taxonomy) -> tuple[str, ...]:
        """Return the classes in the mean."""
        return tuple(taxonomy.classes[i] for i in taxonomy.semantic_ids if taxonomy.classes[i] not in self.left_out)

    def confusion(self, counts: Int64[np.ndarray, "2 2 c c"], taxonomy: Taxonomy) -> Int64[np.ndarray, "c c"]:
        """Reduce the counts of `count_voxels` to this protocol's confusion matrix, label in rows."""
        camera = slice(1, None) if "camera" in self.mask else slice(None)
        lidar = slice(1, None) if "lidar" in self.mask else slice(None)
        matrix = counts[camera, lidar].sum(axis=(0, 1))
        for index in _ids(self.counted_as_free, taxonomy):
            for axis in (matrix, matrix.T):
                axis[taxonomy.free_id] += axis[index]
                axis[index] = 0
        matrix[_ids(self.dropped_labels, taxonomy)] = 0
        return matrix

    def per_class(self, confusion: Int64[np.ndarray, "c c"], taxonomy: Taxonomy) -> Scores:
        """Return the IoU of every class but free; None for one that does not count."""
        scores: Scores = {}
        for index in taxonomy.semantic_ids:
            name = taxonomy.classes[index]
            true = int(confusion[index, index])
            labelled = int(confusion[index].sum())
            union = labelled + int(confusion[:, index].sum()) - true
            absent = (union if self.absent_when == "union" else labelled) == 0
            if name in self.counted_as_free:
                scores[name] = None
            elif absent:
                scores[name] = {"nan": None, "zero": 0.0, "one": 1.0}[self.absent_class]
            else:
                scores[name] = true / (union + self.eps)
        return scores

    def completion(self, confusion: Int64[np.ndarray, "c c"], taxonomy: Taxonomy) -> Scores:
        """Return the scores of occupied against free, whatever the class: `iou`."""
        both, predicted, labelled = occupied_counts(confusion, taxonomy)
        return {"iou": ratio(both, predicted + labelled - both)}

    def score(self, counts: Int64[np.ndarray, "2 2 c c"], taxonomy: Taxonomy) -> dict[str, object]:
        """Return `miou`, further means, completion scores, `per_class` and the confusion matrix."""
        confusion = self.confusion(counts, taxonomy)
        per_class = self.per_class(confusion, taxonomy)
        classes = self.classes(taxonomy)
        means = {name: mean(per_class[c] for c in chosen) for name, chosen in self.extra_means.items()}
        return {
            "miou": mean(per_class[c] for c in classes),
            **self._mean_of_labelled(confusion, per_class, taxonomy),
            **means,
            **self.completion(confusion, taxonomy),
            "per_class": {name: value if name in classes else None for name, value in per_class.items()},
            "counts": {"confusion": confusion.tolist(), "classes": list(taxonomy.classes)},
        }

    def _mean_of_labelled(
        self, confusion: Int64[np.ndarray, "c c"], per_class: Scores, taxonomy: Taxonomy
    ) -> dict[str, float | None]:
        """Return `miou_labelled`, over the classes that labels have, where `miou` scores absent ones too."""
        if self.absent_class == "nan":
            return {}
        labelled = [c for c in self.classes(taxonomy) if confusion[taxonomy.id_of(c)].any()]
        return {"miou_labelled": mean(per_class[c] for c in labelled)}

    def describe(self, taxonomy: Taxonomy) -> dict[str, object]:
        """Return the rules as JSON."""
        return {
            "mask": self.mask,
            "classes": list(self.classes(taxonomy)),
            "absent_class": self.absent_class,
            "absent_when": self.absent_when,
            "dropped_labels": list(self.dropped_labels),
            "counted_as_free": list(self.counted_as_free),
            "trim": None if self.trim is None else {"border_m": self.trim.border, "height_m": self.trim.height},
            "eps": self.eps,
            "decimals": self.decimals,
            "taxonomy": taxonomy.name,
            "source": self.source,
            "notes": self.notes,
        }


def count_voxels(token: str, prediction: UInt8[np.ndarray, "x y z"], label: Occupancy) -> Int64[np.ndarray, "2 2 c c"]:
    """Count the voxels of one frame by camera mask, LiDAR mask, label and prediction.

    Args:
        token: name of the frame, for the message if something is wrong.
        prediction: ids of the label's taxonomy.
        label: ids that are no class (ignore, 23, 255) count nowhere. A mask that is None counts as seen everywhere.

    Returns:
        `[camera, lidar, label, prediction]`; index 1 of the first two is "seen".

    Raises:
        ValueError: if the prediction holds an id that is no class, wherever it is.
    """
    semantics = np.ascontiguousarray(label.semantics.numpy()).reshape(-1)
    num_classes = label.taxonomy.num_classes
    counts = np.zeros((2, 2, num_classes, num_classes), dtype=np.int64)
    wrong = _tally(
        semantics,
        np.ascontiguousarray(prediction).reshape(-1),
        _seen(label, "mask_camera"),
        _seen(label, "mask_lidar"),
        counts,
    )
    if wrong >= 0:
        raise ValueError(
            f"prediction of {token}: id {wrong} is no class of {label.taxonomy.name}, which has 0..{num_classes - 1}; "
            f"free space is {label.taxonomy.free_id}"
        )
    return counts


def _seen(label: Occupancy, name: str) -> UInt8[np.ndarray, "voxels"]:
    mask = getattr(label, name)
    if mask is None:
        return np.ones(label.grid.num_voxels, dtype=np.uint8)
    return np.ascontiguousarray(mask.numpy()).reshape(-1).view(np.uint8)


@njit(cache=True)
def _tally(
    label: UInt8[np.ndarray, "n"],
    prediction: UInt8[np.ndarray, "n"],
    camera: UInt8[np.ndarray, "n"],
    lidar: UInt8[np.ndarray, "n"],
    counts: Int64[np.ndarray, "2 2 c c"],
) -> int:
    """Add every voxel to `counts`; return the first prediction that is no class, or -1."""
    num_classes = counts.shape[2]
    for i in range(label.size):
        if prediction[i] >= num_classes:
            return int(prediction[i])
        if label[i] < num_classes:
            counts[camera[i], lidar[i], label[i], prediction[i]] += 1
    return -1


def occupied_counts(confusion: Int64[np.ndarray, "c c"], taxonomy: Taxonomy) -> tuple[int, int, int]:
    """Return the voxels that are occupied in both, in the prediction, and in the label."""
    free = taxonomy.free_id
    total, free_free = int(confusion.sum()), int(confusion[free, free])
    labelled_free, predicted_free = int(confusion[free].sum()), int(confusion[:, free].sum())
    return total - labelled_free - predicted_free + free_free, total - predicted_free, total - labelled_free


def ratio(numerator: float, denominator: float) -> float | None:
    """Divide; None where there is nothing to divide by."""
    return numerator / denominator if denominator > 0 else None


def mean(scores: Iterable[float | None]) -> float | None:
    """Return the mean over the scores that exist; None if none does.

    Example:
        >>> mean([0.5, None, 0.25])
        0.375
    """
    present = [score for score in scores if score is not None]
    return sum(present) / len(present) if present else None


def _ids(names: Sequence[str], taxonomy: Taxonomy) -> list[int]:
    return [taxonomy.id_of(name) for name in names]
