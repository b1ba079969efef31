"""Does a label lie where the LiDAR saw things? If not, which simple mistake would explain it?

A LiDAR return is a surface, so the voxel it falls in should be occupied. For each suspected mistake (axes swapped,
mirrored, turned into the LiDAR frame, shifted by a voxel) the label is looked up as if the mistake had been made, and
the voxels on which "as stored" and "mistake undone" disagree decide (McNemar's comparison of paired proportions): a
sound label is almost never empty where an undone mistake would be occupied, a faulty one often is.

Source: McNemar, "Note on the sampling error of the difference between correlated proportions", 1947, for the
comparison.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt
from jaxtyping import Bool, Int64

Lookup = Callable[[npt.NDArray[np.int64], tuple[int, int, int]], npt.NDArray[np.int64]]
"""Voxel index [n, 3] of the truth and the label's shape -> index at which a faulty label stores it."""

MAX_FRAMES = 64
"""Frames that are compared with the LiDAR at most, spread evenly: all their volumes are in memory at once."""
MIN_GAIN = 0.02
"""Share of the LiDAR voxels that undoing a mistake must win, net, before it is reported."""
MIN_SIGMA = 4.0
"""How many standard deviations of a fair coin, `sqrt(won + lost)`, that net gain must be."""
POOR_AGREEMENT = 0.3
"""Share of LiDAR voxels that must be occupied in the label; sound data sets reach 0.6 and more."""


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """One frame: where the LiDAR hit, and what the label says is there."""

    hits: Int64[np.ndarray, "n 3"]
    """Distinct voxels with a LiDAR return, index x, y, z, inside the grid."""
    occupied: Bool[np.ndarray, "x y z"]
    """Voxels the label calls occupied."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """How label and LiDAR agree, and the mistake that would explain it better, if there is one."""

    agreement: float
    """Share of the LiDAR voxels that the label calls occupied, 0..1; NaN without any."""
    mistake: str | None
    """In words; None where the label is best as it is."""
    undone: float
    """Agreement with the mistake undone; that of the label itself where there is none."""


def _planar(matrix: Sequence[Sequence[int]]) -> Lookup:
    """Return the look-up of a label whose horizontal axes went through a signed permutation about the grid's centre."""
    turn = np.array(matrix)

    def lookup(index: npt.NDArray[np.int64], shape: tuple[int, int, int]) -> npt.NDArray[np.int64]:
        # Twice the offset from the centre keeps half voxels whole.
        centred = 2 * index[:, :2] + 1 - np.array(shape[:2])
        moved = (centred @ turn.T + np.array(shape[:2]) - 1) // 2
        return np.concatenate([moved, index[:, 2:]], axis=1)

    return lookup


def _shifted(offset: tuple[int, int, int], after: Lookup | None = None) -> Lookup:
    def lookup(index: npt.NDArray[np.int64], shape: tuple[int, int, int]) -> npt.NDArray[np.int64]:
        return (index if after is None else after(index, shape)) + np.array(offset)

    return lookup


_TURNS: dict[str, Lookup] = {
    "x and y are swapped: stored [y, x, z]": _planar([[0, 1], [1, 0]]),
    # LiDAR frame: first axis right (= -y of the ego frame), second forward (= x).
    "turned by 90 degrees into the LiDAR frame (x right, y forward) instead of the ego frame": _planar(
        [[0, -1], [1, 0]]
    ),
    "turned by 90 degrees (first axis left, second backward)": _planar([[0, 1], [-1, 0]]),
    "turned by 180 degrees: x points backward and y right": _planar([[-1, 0], [0, -1]]),
    "mirrored: x points backward": _planar([[-1, 0], [0, 1]]),
    "mirrored: y points right": _planar([[1, 0], [0, -1]]),
    "x and y are swapped and reversed": _planar([[0, -1], [-1, 0]]),
}


def mistakes(shape: tuple[int, int, int], *, lidar_height: int = 0) -> dict[str, Lookup]:
    """Return the suspected mistakes, in words, for a label of a shape.

    Args:
        shape: of the label.
        lidar_height: height of the LiDAR above the frame's origin, voxels: a label in the LiDAR frame is lower by so
            much.
    """
    suspects: dict[str, Lookup] = {}
    for offset in product((-1, 0, 1), (-1, 0, 1), (-1, 0, 1)):
        moved = [f"{abs(d)} in {'+' if d > 0 else '-'}{axis}" for d, axis in zip(offset, "xyz", strict=True) if d]
        if moved:
            suspects[f"shifted by a voxel: {', '.join(moved)}"] = _shifted(offset)
    for words, turn in _TURNS.items():
        if shape[0] != shape[1] and "mirrored" not in words and "180" not in words:
            continue
        suspects[words] = turn
        if lidar_height:
            suspects[f"{words}, and {lidar_height} voxels too low"] = _shifted((0, 0, -lidar_height), turn)
    if lidar_height:
        words = f"{lidar_height} voxels too low: heights count from the LiDAR instead of the ground"
        suspects[words] = _shifted((0, 0, -lidar_height))
    return suspects


def judge(frames: Sequence[Evidence], *, lidar_height: int = 0) -> Verdict:
    """Compare the label as stored with each mistake undone, over all frames together."""
    total = sum(len(frame.hits) for frame in frames)
    if not total:
        return Verdict(agreement=float("nan"), mistake=None, undone=float("nan"))
    stored = [frame.occupied[tuple(frame.hits.T)] for frame in frames]
    agreement = sum(int(s.sum()) for s in stored) / total
    best: tuple[int, str | None] = (0, None)
    nx, ny, nz = frames[0].occupied.shape
    for words, lookup in mistakes((nx, ny, nz), lidar_height=lidar_height).items():
        won = lost = 0
        for frame, here in zip(frames, stored, strict=True):
            there, inside = _look(frame, lookup)
            won += int((there & ~here & inside).sum())
            lost += int((here & ~there & inside).sum())
        net = won - lost
        if net > max(best[0], MIN_GAIN * total, MIN_SIGMA * (won + lost) ** 0.5):
            best = (net, words)
    return Verdict(agreement=agreement, mistake=best[1], undone=agreement + best[0] / total)


def _look(frame: Evidence, lookup: Lookup) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Return what the label says at the looked-up voxels, and which of them it has; a missing one decides nothing."""
    nx, ny, nz = frame.occupied.shape
    index = lookup(frame.hits, (nx, ny, nz))
    inside = np.all((index >= 0) & (index < np.array(frame.occupied.shape)), axis=1)
    there = np.zeros(len(index), dtype=np.bool_)
    there[inside] = frame.occupied[tuple(index[inside].T)]
    return there, inside
