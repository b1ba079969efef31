"""Boxes that nuScenes annotates, key frame by key frame, and where what is in them was at other times.

Source: Caesar et al., "nuScenes", 2020; the published schema of `sample_annotation.json`.
"""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from occkit.data.json_records import iterate_json_records
from occkit.data.nuscenes_tables import matrix_of
from occkit.data.records import Floats, array_of, field, pose_of_quaternion
from occkit.errors import DataError
from occkit.geometry import invert_pose
from occkit.samples import ObjectMotion

TABLE = "sample_annotation.json"
_STANDS = 0.2
"""Metres; whose middle is no farther from where it was has not moved."""


def read_boxes(folder: Path, samples: Collection[str]) -> dict[str, dict[str, Floats]]:
    """Return the boxes of key frames: sample token -> instance token -> (w, x, y, z, tx, ty, tz, half length, width,
    height), global frame, metres; the pose is that of the middle, x forward.

    Args:
        folder: `<root>/v1.0-*`.
        samples: the key frames wanted.

    Raises:
        DataError: if the table is missing or damaged.
    """
    path, boxes = folder / TABLE, dict[str, dict[str, Floats]]()
    for record in iterate_json_records(path):
        sample = field(record, "sample_token", str, path)
        if sample not in samples:
            continue
        instance = field(record, "instance_token", str, path)
        width, length, height = array_of(field(record, "size", list, path), (3,), f"{instance} size", path)
        if min(width, length, height) <= 0:
            raise DataError(path, f"{instance} size: expected positive metres", "download again")
        pose = pose_of_quaternion(record, instance, path)
        boxes.setdefault(sample, {})[instance] = np.concatenate([pose, np.array([length, width, height]) / 2])
    return boxes


def motion_of(
    now: Mapping[str, Floats], others: Sequence[tuple[int, Mapping[str, Floats]]], global_from_ego: Floats
) -> ObjectMotion:
    """Return where the objects around a frame were in others; those that have not moved are left out.

    Args:
        now: boxes of the frame, as of `read_boxes`.
        others: (step, boxes) of other key frames.
        global_from_ego: 4x4 pose of the frame's reference frame.
    """
    rows: list[tuple[int, Floats, Floats | None]] = []
    for step, then in others:
        for instance, box in then.items():
            present = now.get(instance)
            if present is None or np.linalg.norm(present[4:7] - box[4:7]) > _STANDS:
                rows.append((step, box, present))
    boxes = np.array([box for _, box, _ in rows]).reshape(-1, 10)
    places = np.array([box if present is None else present for _, box, present in rows]).reshape(-1, 10)
    # In float64: coordinates of the world reach kilometres.
    ego = torch.from_numpy(global_from_ego)
    then, now_at = (torch.from_numpy(matrix_of(found[:, :7])) for found in (boxes, places))
    return ObjectMotion(
        box_from_ego=(invert_pose(then) @ ego).float(),
        ego_from_box=(invert_pose(ego) @ now_at).float(),
        half_sizes=torch.from_numpy(boxes[:, 7:]).float(),
        steps=torch.tensor([step for step, _, _ in rows], dtype=torch.int64),
        remains=torch.tensor([present is not None for _, _, present in rows], dtype=torch.bool),
    )
