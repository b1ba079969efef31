"""Trainings that start from the weights of others, alone and as arms of a claim."""

from dataclasses import replace

import pytest
import tiny_recipes
import torch

from occkit.data.rig_files import read_rigs
from occkit.errors import ConfigError, DataError
from occkit.training import claim_run
from occkit.training.checkpoint import LAST_FILE, RIGS_FOLDER, WEIGHTS_FILE, read_tensors, write_tensors
from occkit.training.claim import AtLeast, Claim
from occkit.training.claim_results import arm_identity, refreshed
from occkit.training.loop import train
from occkit.training.start import load_fitting, newest_weights, start_from


def short(**changes):
    return replace(tiny_recipes.plain(), steps=1, evaluate_every=None, **changes)


def test_a_run_starts_from_the_last_weights_of_another(tiny_kitti, tmp_path):
    train(short(), tiny_kitti, tmp_path / "first")
    still = short(start=(str(tmp_path / "first"),), seed=5)
    still = replace(still, optim=replace(still.optim, lr=1e-12, weight_decay=0.0))
    train(still, tiny_kitti, tmp_path / "second")
    first, second = (read_tensors(tmp_path / name / LAST_FILE) for name in ("first", "second"))
    assert all(torch.allclose(first[name], second[name], atol=1e-6) for name in first)
    cameras, names = read_rigs(tmp_path / "first" / RIGS_FOLDER)
    assert names == ("image_2",)
    assert (cameras.height, cameras.width) == (24, 40)
    # What a run started from must not matter any more when it goes on.
    (tmp_path / "first").rename(tmp_path / "gone")
    assert train(still, tiny_kitti, tmp_path / "second", resume=True).finished


def test_what_does_not_fit_is_named(tmp_path):
    module = torch.nn.Linear(3, 2)
    write_tensors(tmp_path / WEIGHTS_FILE, {"weight": torch.ones(2, 3), "other": torch.ones(1)})
    assert start_from(module, tmp_path) == ("weight",)
    assert module.weight.min() == 1
    assert newest_weights(tmp_path).name == WEIGHTS_FILE
    write_tensors(tmp_path / LAST_FILE, {"weight": torch.ones(2, 4)})
    assert newest_weights(tmp_path).name == LAST_FILE
    with pytest.raises(DataError, match=r"weight: expected \(2, 3\), got \(2, 4\)"):
        start_from(module, tmp_path)
    with pytest.raises(DataError, match="has no tensor of this model"):
        load_fitting(module, {"weight": torch.ones(2, 3)}, tmp_path, prefix="part.")
    with pytest.raises(DataError, match="no such folder to start from"):
        start_from(module, tmp_path / "nowhere")


def claim(**changes):
    arms = {"last": short, "middle": short, "first": short}
    lines = (AtLeast(arm="last", metric="semantickitti.iou", threshold=0.0),)
    return Claim(**{"system": "tiny", "sentence": "s", "arms": arms, "lines": lines, "starts": STARTS} | changes)


STARTS = {"last": ("middle",), "middle": ("first",)}


def test_arms_that_others_start_from_come_first():
    found = claim()
    assert [found.start_depth(arm) for arm in ("first", "middle", "last")] == [0, 1, 2]
    assert sorted(found.arms, key=lambda arm: claim_run._turn(found, arm)) == ["first", "middle", "last"]
    with pytest.raises(ConfigError, match="last -> middle -> first -> last start from each other"):
        claim(starts=STARTS | {"first": ("last",)})
    with pytest.raises(ConfigError, match="arms start from arms"):
        claim(starts={"last": ("nobody",)})


def test_a_result_counts_as_long_as_what_it_started_from_does():
    before = arm_identity(claim(), "last", 0, 0)
    assert refreshed(before) == before
    assert before["starts"]["middle"]["starts"]["first"]["recipe"]["recipe"]["steps"] == 1
    longer = claim(arms={"last": short, "middle": short, "first": lambda: short(batch_size=1)})
    assert arm_identity(longer, "last", 0, 0) != before
    assert "starts" not in arm_identity(claim(), "first", 0, 0)
