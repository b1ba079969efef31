"""The score of knowing nothing about the frame: the baseline that stands beside every result on procedural data."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numba import njit
from torch import Tensor

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


@dataclass(frozen=True)
class DepthPrior:
    """Predicts the same depth for every frame: for each row of each camera's image the median measured there.

    Source: original. Rows, because roads are level: one number for all pixels would be beaten by any horizon.
    """

    rows: Float[Tensor, "n h"]
    """z-depth, metres."""
    width: int
    """Columns of an image."""

    @classmethod
    def fit(cls, measured: Iterable[Float[Tensor, "n h w"]]) -> "DepthPrior":
        """Take the median over the depths of the training split.

        Args:
            measured: z-depth of the cameras of each frame, metres; 0 where unknown.

        Returns:
            The prior. A row without any measurement gets the camera's median, a camera without any that of all.

        Raises:
            ValueError: if nothing was measured at all, or two frames differ in shape.
        """
        depths = list(measured)
        if len({tuple(depth.shape) for depth in depths}) != 1:
            raise ValueError("measured: expected at least one frame, all of one shape")
        stacked = torch.stack(depths, dim=2).flatten(2)
        if not bool((stacked > 0).any()):
            raise ValueError("measured: expected depths above 0, got none")
        known = torch.where(stacked > 0, stacked, torch.nan)
        rows, cameras = known.nanmedian(dim=2).values, known.flatten(1).nanmedian(dim=1).values
        cameras = torch.where(cameras.isnan(), known.nanmedian(), cameras)
        return cls(torch.where(rows.isnan(), cameras[:, None], rows), depths[0].shape[2])

    def predict(self) -> Float[Tensor, "n h w"]:
        """Return the z-depth of every camera's image, metres, for any frame."""
        return self.rows[:, :, None].expand(-1, -1, self.width)
