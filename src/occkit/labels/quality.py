"""How good pseudo-labels are, where there is a truth to compare them with."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from occkit.data.frames import FrameDataset
from occkit.data.occ3d import label_path, read_labels
from occkit.metrics import PROTOCOLS, Evaluator, RayProtocol


def score_labels(
    dataset: FrameDataset, folder: Path, *, protocols: Sequence[str] = ("occ3d", "occ3d-full")
) -> dict[str, Any] | None:
    """Score labels as if they were predictions; voxels without a label count as free.

    Do not choose by these scores: a network trained on labels can be far better than they are (ShelfOcc: 22.9 mIoU
    from labels of 9.6), because it learns what they have in common and not their errors.

    Args:
        dataset: the frames with their true labels.
        folder: labels of `make_labels`.
        protocols: names of evaluation protocols.

    Returns:
        The evaluation report; None if no frame has both labels.
    """
    evaluator, count = Evaluator(list(protocols)), 0
    casts_rays = any(isinstance(PROTOCOLS[name], RayProtocol) for name in protocols)
    for token in dataset.tokens:
        path, truth = label_path(folder, dataset.scene(token), token), dataset.label(token)
        if truth is None or not path.is_file():
            continue
        made = read_labels(path, grid=dataset.grid, taxonomy=dataset.taxonomy).semantics.numpy()
        made = np.where(made == dataset.taxonomy.ignore_id, dataset.taxonomy.free_id, made).astype(np.uint8)
        evaluator.add(token, made, truth, origins=dataset.ray_origins(token) if casts_rays else None)
        count += 1
    return evaluator.report() if count else None
