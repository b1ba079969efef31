"""Scores of a model apart for what can be seen now, what is hidden, and what lies outside of the image.

Three parts of SemanticKITTI's labelled voxels: **visible**, the scanner sees the voxel from where it stands and its
centre projects into an image; **occluded**, it does not (`.occluded`), but the centre does; **outside**, the centre
projects into no image. Together they are the voxels that a protocol counts.
"""

from dataclasses import replace
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from accelerate.utils import gather_object
from torch import nn

from occkit.data.frames import FrameDataset
from occkit.data.semantickitti import SemanticKittiDataset
from occkit.errors import ConfigError, DataError
from occkit.geometry import Cameras, VoxelGrid
from occkit.metrics import Evaluator
from occkit.training.evaluate import iterate_predictions, share
from occkit.training.processes import process_state

Volume = npt.NDArray[np.bool_]
PARTS = ("visible", "occluded", "outside")
"""The parts, in the order of reports."""


def split_by_visibility(occluded: Volume, cameras: Cameras, grid: VoxelGrid) -> dict[str, Volume]:
    """Return the voxels of each part, a partition of all.

    Args:
        occluded: not seen from where the scanner stands.
        cameras: leading dimension `[n]`, of the current images.
        grid: where the voxels lie.
    """
    centres = grid.centers(device=cameras.intrinsics.device).reshape(-1, 3).to(cameras.intrinsics)
    _, _, seen = cameras.project(centres.expand(cameras.batch_shape[0], -1, -1))
    in_view = seen.any(dim=0).reshape(grid.shape).cpu().numpy()
    return {"visible": in_view & ~occluded, "occluded": in_view & occluded, "outside": ~in_view}


def evaluate_visibility(
    model: nn.Module, dataset: FrameDataset, *, protocol: str = "semantickitti", progress: bool = False
) -> dict[str, dict[str, Any]]:
    """Score a model part by part; every process returns the result of all.

    Args:
        model: a `System`, the same on each process.
        dataset: labelled frames of SemanticKITTI.
        protocol: name in `occkit.metrics.PROTOCOLS`.
        progress: show a bar on the terminal, on the first process.

    Returns:
        An evaluation report for each of `PARTS`. A class that a part does not hold counts as the protocol says.

    Raises:
        ConfigError: if the data set is no SemanticKITTI.
        DataError: if a frame has no label, or does not say what is occluded.
    """
    if not isinstance(dataset, SemanticKittiDataset):
        raise ConfigError(f"visibility: {dataset.root} is no SemanticKITTI, which alone says what is occluded")
    evaluators = {part: Evaluator([protocol]) for part in PARTS}
    state = process_state()
    show = progress and state.is_main_process
    frames = iterate_predictions(model, dataset, tokens=share(dataset.tokens), progress=show, doing="by visibility")
    for batch, prediction in frames:
        token = batch.tokens[0]
        label = dataset.label(token)
        if label is None:
            raise DataError(token, "this frame has no label", "choose a split that has labels, such as val")
        parts = split_by_visibility(dataset.occluded(token), batch.cameras[0, 0], label.grid)
        found = prediction.semantics()[0].cpu().numpy()
        for part, inside in parts.items():
            ids = torch.where(torch.from_numpy(inside), label.semantics, label.taxonomy.ignore_id).byte()
            evaluators[part].add(token, found, replace(label, semantics=ids))
    reports: dict[str, dict[str, Any]] = {}
    for part, evaluator in evaluators.items():
        if state.num_processes > 1:
            for other in cast(list[dict[str, Any]], gather_object([evaluator.state()])):
                evaluator.merge(other)
        reports[part] = evaluator.report()[protocol]
    return reports
