"""Queries for things of a procedural world that few taxonomies name, of the same kind as those of POP-3D."""

from collections.abc import Sequence

import numpy as np
import torch

from occkit.data.frames import FrameDataset
from occkit.data.pop3d import RetrievalQuery
from occkit.errors import DataError
from occkit.foundation.truth import read_point_words, world_words
from occkit.geometry.cameras import MIN_DEPTH

LONG_TAIL = ("mailbox", "excavator", "fire hydrant", "trash bin", "stroller", "police car")
"""Words that are in the world and not among `STREET_PROMPTS`."""


def world_queries(
    dataset: FrameDataset, *, words: Sequence[str] = LONG_TAIL, min_points: int = 5
) -> tuple[RetrievalQuery, ...]:
    """Ask each frame for each word of which its LiDAR has hit enough.

    Args:
        dataset: frames of a world with truth layers, opened with `DataConfig.load_points` and without an image size;
            the validation split, if a system shall be scored.
        words: of the world's own vocabulary.
        min_points: LiDAR points of the word that a frame must have.

    Returns:
        Queries frame by frame, those of a frame in the order of `words`; points are in the order of `Sample.points`.

    Raises:
        ValueError: if the world does not know a word, or min_points is below 1.
        DataError: if a frame has no LiDAR points or no truth layers.
    """
    known = world_words(dataset.root)
    unknown = [word for word in words if word not in known]
    if unknown or min_points < 1:
        raise ValueError(
            f"words: expected some of {', '.join(known[1:])}, got also {', '.join(unknown)}"
            if unknown
            else f"min_points: expected 1 or more, got {min_points}"
        )
    queries: list[RetrievalQuery] = []
    for sample in dataset:
        if sample.points is None:
            raise DataError(sample.token, "this frame has no LiDAR points", "open the data with DataConfig.load_points")
        hit = read_point_words(dataset.root, sample.token, count=len(sample.points))
        wanted = [word for word in words if np.count_nonzero(hit == known.index(word)) >= min_points]
        cameras = sample.cameras[0]
        points = sample.points[None, :, :3].expand(len(sample.camera_names), -1, -1)
        visible = cameras.project(points, min_depth=MIN_DEPTH)[2].any(dim=0)
        queries += [
            RetrievalQuery(
                token=sample.token,
                query=word,
                relevant=torch.from_numpy(hit == known.index(word)),
                visible=visible,
            )
            for word in wanted
        ]
    return tuple(queries)
