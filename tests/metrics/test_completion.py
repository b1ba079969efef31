"""The official SemanticKITTI completion score: its rule in a loop over original ids, and its script if there is one."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from occkit.geometry import VoxelGrid
from occkit.metrics import Evaluator
from occkit.samples import Occupancy
from occkit.taxonomy import (
    SEMANTICKITTI,
    SEMANTICKITTI_INVERSE_MAP,
    SEMANTICKITTI_LEARNING_MAP,
    semantickitti_lookup,
)

SHAPE = (6, 4, 2)
FLOAT32_EPS = 1.1920928955078125e-07


def make_scans(seed, num_scans=2):
    """Scans as `(original label ids, invalid, original predicted ids)`."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(list(SEMANTICKITTI_LEARNING_MAP), rng.integers(1, 8))
    predicted = rng.choice(SEMANTICKITTI_INVERSE_MAP, rng.integers(1, 6))
    scans = []
    for _ in range(num_scans):
        label = np.where(rng.random(SHAPE) < 0.4, 0, rng.choice(labels, SHAPE)).astype(np.uint16)
        right = np.array([SEMANTICKITTI_INVERSE_MAP[SEMANTICKITTI_LEARNING_MAP[int(i)]] for i in label.flat])
        guess = np.where(rng.random(SHAPE) < 0.5, right.reshape(SHAPE), rng.choice(predicted, SHAPE))
        scans.append((label, rng.random(SHAPE) < 0.2, guess.astype(np.uint16)))
    return scans


def official(scans):
    """`evaluate_completion.py` in a loop: `(miou, iou, precision, recall)`."""
    lookup = {raw: 255 if train == 0 else train for raw, train in SEMANTICKITTI_LEARNING_MAP.items()}
    lookup[0] = 0
    confusion = [[0] * 20 for _ in range(20)]
    for label, invalid, prediction in scans:
        for index in np.ndindex(SHAPE):
            true, guess = lookup[int(label[index])], lookup[int(prediction[index])]
            if true != 255 and not invalid[index]:
                confusion[guess][true] += 1
    ious = []
    for c in range(1, 20):
        tp = confusion[c][c]
        fp = sum(confusion[c]) - tp
        fn = sum(row[c] for row in confusion) - tp
        ious.append(tp / (tp + fp + fn + 1e-15))
    both = sum(sum(row[1:]) for row in confusion[1:])
    total = sum(map(sum, confusion))
    predicted = sum(sum(row) for row in confusion[1:])
    labelled = sum(sum(row[1:]) for row in confusion)
    iou = both / (total - confusion[0][0]) if total > confusion[0][0] else None
    return sum(ious) / 19, iou, both / (predicted + FLOAT32_EPS), both / (labelled + FLOAT32_EPS)


def ours(scans):
    evaluator = Evaluator(["semantickitti"])
    lookup = semantickitti_lookup()
    grid = VoxelGrid(origin=(0, -1, -2), voxel_size=(0.2, 0.2, 0.2), shape=SHAPE)
    for i, (label, invalid, prediction) in enumerate(scans):
        semantics = lookup[label]
        semantics[invalid] = 255
        occupancy = Occupancy(semantics=torch.from_numpy(semantics), grid=grid, taxonomy=SEMANTICKITTI)
        evaluator.add(f"08_{i:06d}", lookup[prediction], occupancy)
    return evaluator.report()["semantickitti"]


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_equals_the_official_rule(seed):
    scans = make_scans(seed)
    expected = official(scans)
    found = ours(scans)
    assert [found["miou"], found["precision"], found["recall"]] == pytest.approx(
        [expected[0], expected[2], expected[3]], rel=1e-12
    )
    assert found["iou"] == (None if expected[1] is None else pytest.approx(expected[1], rel=1e-12))


def test_a_class_never_seen_scores_zero_in_both_kitti_protocols_and_eps_separates_them():
    label = np.zeros(SHAPE, np.uint16)
    label[0, 0, 0] = 10
    found = ours([(label, np.zeros(SHAPE, bool), label)])
    assert found["per_class"]["car"] == 1 / (1 + 1e-15)
    assert found["per_class"]["truck"] == 0.0
    assert found["miou"] == pytest.approx(1 / 19, rel=1e-12)
    occupancy = Occupancy(
        semantics=torch.from_numpy(semantickitti_lookup()[label]),
        grid=VoxelGrid(origin=(0, 0, 0), voxel_size=(0.2, 0.2, 0.2), shape=SHAPE),
        taxonomy=SEMANTICKITTI,
    )
    evaluator = Evaluator(["monoscene"])
    evaluator.add("scan", occupancy.semantics.numpy(), occupancy)
    assert evaluator.report()["monoscene"]["miou"] == pytest.approx(1 / 1.00001 / 19, rel=1e-12)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_equals_the_official_script(semantickitti_api, tmp_path, seed):
    scans = make_scans(seed, num_scans=3)
    folder = tmp_path / "sequences" / "08"
    for name in ("voxels", "predictions"):
        (folder / name).mkdir(parents=True)
    for i, (label, invalid, prediction) in enumerate(scans):
        label.tofile(folder / "voxels" / f"{i:06d}.label")
        np.packbits(invalid).tofile(folder / "voxels" / f"{i:06d}.invalid")
        prediction.tofile(folder / "predictions" / f"{i:06d}.label")
    arguments = ["--dataset", tmp_path, "--predictions", tmp_path, "--output", tmp_path]
    command = [sys.executable, "evaluate_completion.py", *map(str, arguments)]
    done = subprocess.run(command, cwd=semantickitti_api, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = (line.split(": ") for line in (tmp_path / "scores.txt").read_text().splitlines())
    scores = {key: float(value) for key, value in lines}
    found = ours(scans)
    assert found["miou"] == pytest.approx(scores.pop("iou_mean"), rel=1e-12)
    assert found["iou"] == pytest.approx(scores.pop("iou_completion"), rel=1e-12)
    assert list(found["per_class"].values()) == pytest.approx(
        [scores[f"iou_{name}"] for name in SEMANTICKITTI.classes[1:]], rel=1e-12
    )
