"""Annotated boxes of nuScenes, and where what is in them was in other keyframes."""

import json
import shutil
from dataclasses import replace

import layouts
import numpy as np
import pytest
import torch
from test_feature_rays import write_store

from occkit.data import AugmentConfig, DataConfig, open_dataset
from occkit.data.nuscenes_boxes import motion_of, read_boxes
from occkit.data.transforms import reflection
from occkit.errors import ConfigError, DataError
from occkit.geometry import transform_points
from occkit.samples import collate

MOTION = DataConfig(features="features", feature_rays=30, feature_horizon=1, feature_motion=True)


def annotation(sample, instance, place, heading=0.0):
    turned = [float(np.cos(heading / 2)), 0.0, 0.0, float(np.sin(heading / 2))]
    return {
        "token": f"{sample}-{instance}",
        "sample_token": sample,
        "instance_token": instance,
        "translation": list(place),
        "rotation": turned,
        "size": [2.0, 4.0, 1.5],
    }


@pytest.fixture(scope="module")
def drive(tmp_path_factory):
    """Three frames: a car that turns while it drives, one that is parked, one that is there in the first only."""
    root = layouts.write_nuscenes(tmp_path_factory.mktemp("n"), scenes=("scene-0001",), frames=3, val=())
    data = open_dataset(root, split="all", config=DataConfig())
    write_store(data)
    rows = []
    for frame, token in enumerate(data.tokens):
        rows.append(annotation(token, "drives", (1510.0 + 3 * frame, 902.0, 0.8), heading=0.2 * frame))
        rows.append(annotation(token, "parked", (1505.0, 896.0, 0.8)))
    rows.append(annotation(data.tokens[0], "leaves", (1492.0, 901.0, 0.8)))
    (version,) = root.glob("v1.0-*")
    (version / "sample_annotation.json").write_text(json.dumps(rows))
    return root


def opened(root, config=MOTION):
    return open_dataset(root, split="all", config=config, training=True)


def test_what_has_moved_is_told_in_the_frame_of_the_sample(drive):
    data = opened(drive)
    motion = data.sample(1, seed=3).feature_rays.motion
    assert sorted(zip(motion.steps.tolist(), motion.remains.tolist(), strict=True)) == [
        (-1, False),
        (-1, True),
        (1, True),
    ], "who is parked has not moved"
    assert torch.equal(motion.half_sizes, torch.tensor([2.0, 1.0, 0.75]).expand(3, 3)), "length, width, height"
    ego_from_global = np.linalg.inv(data.global_from_ego(data.tokens[1]))
    corner = np.array([2.0, 1.0, 0.0])

    def at(frame):
        cos, sin = np.cos(0.2 * frame), np.sin(0.2 * frame)
        place = np.array([1510.0 + 3 * frame, 902.0, 0.8]) + np.array([cos * 2 - sin, sin * 2 + cos, 0.0])
        return torch.from_numpy(ego_from_global @ np.array([*place, 1.0]))[:3].float()

    for step in (-1, 1):
        (row,) = ((motion.steps == step) & motion.remains).nonzero()[:, 0]
        local = transform_points(motion.box_from_ego[row], at(1 + step)[None])
        torch.testing.assert_close(local[0], torch.from_numpy(corner).float(), atol=1e-3, rtol=0)
        torch.testing.assert_close(transform_points(motion.ego_from_box[row], local)[0], at(1), atol=1e-3, rtol=0)


def test_a_mirrored_volume_takes_the_boxes_along(drive):
    plain = opened(drive).sample(1, seed=3)
    flips = AugmentConfig(scale=(0.0, 0.0), rotate_degrees=0.0, mirror_image=0.0, flip_x=0.0, flip_y=1.0)
    mirrored = opened(drive, replace(MOTION, augment=flips)).sample(1, seed=3).feature_rays.motion
    mirror = reflection(plain.grid, x=False, y=True).float()
    motion, points = plain.feature_rays.motion, torch.randn(3, 5, 3)
    for row in range(3):
        there = transform_points(mirror, points[row])
        now = transform_points(motion.ego_from_box[row] @ motion.box_from_ego[row], points[row])
        found = transform_points(mirrored.ego_from_box[row] @ mirrored.box_from_ego[row], there)
        torch.testing.assert_close(found, transform_points(mirror, now), atol=1e-4, rtol=1e-4)


def test_frames_with_unlike_many_rows_make_a_batch(drive):
    data = opened(drive)
    samples = [data.sample(index, seed=3) for index in range(3)]
    rows = [len(sample.feature_rays.motion.steps) for sample in samples]
    assert rows == [1, 3, 1], "of the last frame the one that has left stood two keyframes before"
    motion = collate(samples).feature_rays.motion
    assert motion.box_from_ego.shape == (3, 3, 4, 4)
    assert motion.steps[0].tolist()[1:] == [0, 0]
    assert not motion.remains[0, 1:].any()
    plain = [replace(s, feature_rays=replace(s.feature_rays, motion=None)) for s in samples]
    assert collate(plain).feature_rays.motion is None


def test_nothing_is_read_unless_asked_for(drive, tmp_path):
    root = tmp_path / "copy"
    shutil.copytree(drive, root)
    (path,) = root.glob("v1.0-*/sample_annotation.json")
    path.unlink()
    assert opened(root, replace(MOTION, feature_motion=False)).sample(1).feature_rays.motion is None
    with pytest.raises(DataError, match="sample_annotation"):
        opened(root)
    with pytest.raises(ConfigError, match="feature_motion: is about rays"):
        DataConfig(feature_motion=True)


@pytest.mark.parametrize(
    ("damage", "message"),
    [({"size": [1.0, 2.0]}, "size"), ({"size": [1.0, -2.0, 1.0]}, "positive"), ({"rotation": [0, 0, 0, 0]}, "unit")],
)
def test_damaged_boxes_are_named(tmp_path, damage, message):
    (tmp_path / "sample_annotation.json").write_text(json.dumps([annotation("s", "i", (0, 0, 0)) | damage]))
    assert read_boxes(tmp_path, ()) == {}, "only wanted frames are looked at"
    with pytest.raises(DataError, match=message):
        read_boxes(tmp_path, ("s",))


def test_the_boxes_of_a_generated_street_hold_what_its_labels_say(street):
    data = open_dataset(street, split="all", config=DataConfig())
    boxes = read_boxes(data.tables.folder, data.tokens)
    found = 0
    for token in data.tokens:
        label = data.label(token)
        # As if all objects had been far away before: a row for each.
        far = {name: np.concatenate([box[:4], box[4:7] + 100, box[7:]]) for name, box in boxes[token].items()}
        motion = motion_of(boxes[token], [(-1, far)], data.global_from_ego(token))
        wide = motion.half_sizes.amin(dim=1) > 0.8
        index, inside = data.grid.index_of(motion.ego_from_box[wide, :3, 3])
        ids = label.semantics[tuple(index[inside].T)]
        assert (ids != label.taxonomy.free_id).float().mean() > 0.9
        found += len(ids)
    assert found >= 4
