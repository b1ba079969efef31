"""The score of knowing nothing about the frame: the baseline that stands beside every result on procedural data."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8
from numba import njit

from occkit.samples import Occupancy


@dataclass(frozen=True)
class ConstantPrior:
    """Predicts the same volume for every frame: in each voxel the label that is most frequent there in training.

    Source: original; the constant prediction that maximises voxel accuracy.
    """

    semantics: UInt8[np.ndarray, "x y z"]
    """Ids of the taxonomy of the labels."""

    @classmethod
    def fit(cls, labels: Iterable[Occupancy]) -> "ConstantPrior":
        """Take the majority over the labels that observe a voxel.

        Args:
            labels: of the training split. Where a label has a camera mask only the voxels the camera sees are counted,
                else, where it has a LiDAR mask, those the LiDAR sees. Ids that are no class never count.

        Returns:
            The prior. The lower id wins a tie; a voxel that no label observes is free.

        Raises:
            ValueError: if there is no label, or two differ in grid or taxonomy.
        """
        first: Occupancy | None = None
        votes = np.zeros((0, 0), dtype=np.int32)
        for label in labels:
            if first is None:
                first = label
                votes = np.zeros((label.grid.num_voxels, label.taxonomy.num_classes), dtype=np.int32)
            if label.grid != first.grid or label.taxonomy != first.taxonomy:
                raise ValueError("labels: expected one grid and one taxonomy, got several")
            mask = label.mask_camera if label.mask_camera is not None else label.mask_lidar
            observed = np.ones(label.grid.num_voxels, dtype=np.bool_) if mask is None else mask.numpy().reshape(-1)
            _vote(label.semantics.numpy().reshape(-1), observed, votes)
        if first is None:
            raise ValueError("labels: expected at least one label to take the majority of, got none")
        majority = votes.argmax(axis=1).astype(np.uint8)
        majority[votes.sum(axis=1) == 0] = first.taxonomy.free_id
        return cls(majority.reshape(first.grid.shape))

    def predict(self) -> UInt8[np.ndarray, "x y z"]:
        """Return the volume, for any frame."""
        return self.semantics.copy()


@njit(cache=True)
def _vote(label: np.ndarray, observed: np.ndarray, votes: np.ndarray) -> None:
    for i in range(label.size):
        if observed[i] and label[i] < votes.shape[1]:
            votes[i, label[i]] += 1
