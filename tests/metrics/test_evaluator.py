"""The evaluator: shards, duplicates, its archive, its explanation; and the constant prior."""

import json

import numpy as np
import plain_scripts as plain
import pytest
import torch

from occkit.geometry import VoxelGrid
from occkit.metrics import ConstantPrior, Evaluator, main_score
from occkit.samples import Occupancy
from occkit.taxonomy import OCC3D, SEMANTICKITTI

NAMES = ["occ3d", "selfocc", "rayiou"]
ORIGINS = np.array([[0.1, 0.0, 0.2]])


def evaluate(frames, tokens, names=NAMES):
    evaluator = Evaluator(names)
    for token in tokens:
        frame = frames[token]
        evaluator.add(token, frame.prediction, frame.occupancy(OCC3D), ORIGINS)
    return evaluator


def frames_by_token(count=5, seed=0):
    return {
        f"f{i}": frame for i, frame in enumerate(plain.make_frames(seed, num_classes=18, free=17, num_frames=count))
    }


def test_shards_merge_to_the_whole_and_padded_frames_count_once():
    frames = frames_by_token()
    whole = evaluate(frames, frames).report()
    first = evaluate(frames, ["f0", "f2", "f4"])
    second = evaluate(frames, ["f1", "f3", "f0"])  # padded with a frame of the other
    first.merge(json.loads(json.dumps(second.state())))
    assert len(first) == 5
    assert first.report() == whole
    assert whole["occ3d"]["frames"] == 5


def test_a_frame_added_twice_counts_once():
    frames = frames_by_token()
    assert evaluate(frames, ["f0", "f1", "f0"]).report() == evaluate(frames, ["f0", "f1"]).report()


def test_states_of_several_processes_can_start_an_empty_evaluator():
    frames = frames_by_token()
    gathered = Evaluator(NAMES)
    for state in (Evaluator(NAMES).state(), evaluate(frames, ["f0"]).state(), evaluate(frames, ["f1"]).state()):
        gathered.merge(state)
    assert gathered.report() == evaluate(frames, ["f0", "f1"]).report()


def test_pooled_counts_are_not_the_average_of_two_processes():
    """One process sees 1 of 1 car, the other 1 of 9: pooled 2 of 10, averaged 56 %."""
    volume = np.full((10, 1, 1), 17, np.uint8)
    small, large = volume.copy(), volume.copy()
    small[0], large[:9] = 4, 4
    found = volume.copy()
    found[0] = 4
    everywhere = np.ones(volume.shape, bool)
    frames = {"a": plain.Frame(small, found, everywhere, everywhere)}
    frames["b"] = plain.Frame(large, found, everywhere, everywhere)
    alone = [evaluate(frames, [t], ["occ3d"]).report()["occ3d"]["miou"] for t in frames]
    assert alone == pytest.approx([1, 1 / 9])
    assert evaluate(frames, frames, ["occ3d"]).report()["occ3d"]["miou"] == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"protocols": ["occ3d"]}, "protocols is"),
        ({"mask": "none"}, "mask is"),
        ({"taxonomy": "openocc"}, "labels are occ3d here"),
        ({"taxonomy": "mine"}, "unknown taxonomy"),
        ({"frames": [1]}, "map tokens"),
    ],
)
def test_a_foreign_state_is_refused(change, words):
    evaluator = evaluate(frames_by_token(), ["f0"])
    with pytest.raises(ValueError, match=words):
        evaluator.merge(evaluator.state() | change)


def test_scores_can_be_derived_again_from_the_counts():
    entry = evaluate(frames_by_token(), ["f0", "f1"]).report()["occ3d"]
    matrix = np.array(entry["counts"]["confusion"])
    assert entry["counts"]["classes"] == list(OCC3D.classes)
    for index, name in enumerate(OCC3D.classes[:17]):
        union = matrix[index].sum() + matrix[:, index].sum() - matrix[index, index]
        assert entry["per_class"][name] == (matrix[index, index] / union if union else None)


def test_explanation_names_the_rule_that_makes_the_difference():
    label = np.full((4, 3, 1), 17, np.uint8)
    label.reshape(-1)[:10] = 4
    prediction = label.copy()
    prediction[3, 2, 0] = 3
    everywhere = np.ones(label.shape, bool)
    frames = {"a": plain.Frame(label, prediction, everywhere, everywhere)}
    text = evaluate(frames, ["a"], ["occ3d", "occ3d-sparseocc", "langocc", "rayiou"]).explain()
    step = next(line for line in text.splitlines() if "absent class scores nan if not labelled" in line)
    assert "+50.00" in step
    assert "leave the mean: bus (0.0)" in step
    assert "From occ3d to langocc\n  no rule differs" in text
    assert "rayiou is not comparable" in text


def test_every_path_of_an_explanation_ends_at_the_reported_score():
    frames = frames_by_token(seed=7)
    names = ["occ3d", "occ3d-sparseocc", "selfocc", "occnerf15", "occnerf13", "gaussianflowocc"]
    evaluator = evaluate(frames, frames, names)
    report, text = evaluator.report(), evaluator.explain()
    for name in names[1:]:
        path = text.split(f"From occ3d to {name}\n")[1].split("\n\n")[0].splitlines()
        assert path[-1].split() == [name, f"{100 * report[name]['miou']:.2f}"]
        steps = [float(line.split()[0]) for line in path[1:-1]]
        assert sum(steps) == pytest.approx(100 * (report[name]["miou"] - report["occ3d"]["miou"]), abs=0.05)


def label_of(ids, camera=None, taxonomy=OCC3D):
    grid = VoxelGrid(origin=(0, 0, 0), voxel_size=(1, 1, 1), shape=(len(ids), 1, 1))
    mask = None if camera is None else torch.tensor(camera, dtype=torch.bool).reshape(-1, 1, 1)
    semantics = torch.tensor(ids, dtype=torch.uint8).reshape(-1, 1, 1)
    return Occupancy(semantics=semantics, grid=grid, taxonomy=taxonomy, mask_camera=mask)


def test_the_prior_is_the_majority_of_what_was_observed():
    prior = ConstantPrior.fit(
        [
            label_of([4, 4, 17, 255, 11], camera=[1, 0, 1, 1, 0]),
            label_of([4, 3, 17, 255, 11], camera=[1, 1, 1, 1, 0]),
            label_of([17, 4, 11, 4, 11], camera=[1, 0, 0, 1, 0]),
            label_of([17, 4, 11, 255, 11], camera=[1, 0, 0, 1, 0]),
        ]
    )
    # A tie goes to the lower id, masked and ignored voxels do not vote, and a voxel never observed is free.
    assert prior.predict().reshape(-1).tolist() == [4, 3, 17, 4, 17]


def test_the_prior_without_masks_takes_every_label():
    labels = [label_of([0, 9, 255], taxonomy=SEMANTICKITTI)] * 2 + [label_of([1, 1, 1], taxonomy=SEMANTICKITTI)]
    assert ConstantPrior.fit(labels).predict().reshape(-1).tolist() == [0, 9, 1]


def test_a_prior_needs_labels_of_one_kind():
    with pytest.raises(ValueError, match="at least one"):
        ConstantPrior.fit([])
    with pytest.raises(ValueError, match="one grid"):
        ConstantPrior.fit([label_of([1]), label_of([1, 1])])


def test_the_main_score_of_an_entry():
    assert main_score({"miou": 0.25, "iou": 0.5}) == 0.25
    assert main_score({"rayiou": 0.125, "miou": 0.25}) == 0.125
    assert main_score({"miou": None}) is None
    assert main_score({}) is None
