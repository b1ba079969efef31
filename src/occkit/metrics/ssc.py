"""Semantic scene completion on KITTI: the voxel rules of `voxel_iou`, with precision and recall of completion.

Labels arrive in train ids with 255 for everything that is not evaluated: `.invalid` voxels, and the original ids 1, 52
and 99, which map to no class. Predictions are train ids too; the reader of a submission undoes the inverse map.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

from occkit.metrics.voxel_iou import Scores, VoxelProtocol, occupied_counts, ratio
from occkit.taxonomy import Taxonomy


@dataclass(frozen=True, kw_only=True)
class CompletionProtocol(VoxelProtocol):
    """A voxel protocol that also reports `precision` and `recall` of completion."""

    rate_eps: float = 0.0
    """Added to the denominators of precision and recall, voxels."""
    zero_if_nothing_found: bool = False
    """Whether all three completion scores are 0 when no occupied voxel was found, even if there was none to find."""

    def completion(self, confusion: Int64[np.ndarray, "c c"], taxonomy: Taxonomy) -> Scores:
        """Return `iou`, `precision` and `recall` of occupied against empty."""
        both, predicted, labelled = occupied_counts(confusion, taxonomy)
        if self.zero_if_nothing_found and both == 0:
            return {"iou": 0.0, "precision": 0.0, "recall": 0.0}
        return {
            "iou": ratio(both, predicted + labelled - both),
            "precision": ratio(both, predicted + self.rate_eps),
            "recall": ratio(both, labelled + self.rate_eps),
        }
