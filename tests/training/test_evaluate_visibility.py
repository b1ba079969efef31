"""Scores by visibility: the parts are a partition, seen by hand, and a model is right in one part alone."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from occkit.cli import main
from occkit.data import DataConfig, open_dataset
from occkit.data.semantickitti import write_packed
from occkit.errors import ConfigError, DataError
from occkit.geometry import Cameras, VoxelGrid
from occkit.samples import Prediction
from occkit.training.evaluate_visibility import PARTS, evaluate_visibility, split_by_visibility
from occkit.training.loop import train
from occkit.training.recipe import load_recipe

FORWARD = torch.tensor([[0.0, 0.0, 1.0, 0.0], [-1.0, 0.0, 0.0, 0.0], [0.0, -1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]])


def test_parts_by_hand():
    """Four voxels side by side three metres ahead, the one farthest to the right beyond the image's edge."""
    grid = VoxelGrid(origin=(2.0, -4.0, -1.0), voxel_size=(2.0, 2.0, 2.0), shape=(1, 4, 1))
    intrinsics = torch.tensor([[8.0, 0.0, 8.0], [0.0, 8.0, 8.0], [0.0, 0.0, 1.0]])
    camera = Cameras(intrinsics=intrinsics[None], ego_from_camera=FORWARD[None], height=16, width=14)
    occluded = np.array([False, True, False, True]).reshape(1, 4, 1)
    parts = {name: part.ravel().tolist() for name, part in split_by_visibility(occluded, camera, grid).items()}
    # Centres at y = -3, -1, 1, 3 and x = 3 fall on u = 16, 10.7, 5.3, 0; the image is 14 wide, 0 is in it.
    assert parts == {
        "visible": [False, False, True, False],
        "occluded": [False, True, False, True],
        "outside": [True, False, False, False],
    }


class RightInOnePart(nn.Module):
    """Says what the label says where a function of the batch allows it, else nothing."""

    def __init__(self, part: str, hidden: dict[str, np.ndarray]) -> None:
        super().__init__()
        self.part, self.hidden, self.unused = part, hidden, nn.Parameter(torch.zeros(()))

    def forward(self, batch):
        parts = split_by_visibility(self.hidden[batch.tokens[0]], batch.cameras[0, 0], batch.grid)
        ids = torch.where(torch.from_numpy(parts[self.part]), batch.occupancy.semantics, 0).long().clamp(max=19)
        logits = torch.nn.functional.one_hot(ids, 20).movedim(-1, 1).float()
        return Prediction(logits=logits, grid=batch.grid, taxonomy=batch.taxonomy)


@pytest.fixture(scope="module")
def hidden_kitti(tiny_kitti: Path, tmp_path_factory):
    """The tiny folder, every second voxel occluded."""
    root = tmp_path_factory.mktemp("hidden") / "kitti"
    shutil.copytree(tiny_kitti, root)
    occluded = (np.indices((16, 16, 2)).sum(axis=0) % 2).astype(np.bool_)
    for label in root.glob("sequences/*/voxels/*.label"):
        write_packed(label.with_suffix(".occluded"), occluded)
    return root


def test_each_part_is_scored_by_itself_and_together_they_are_all(hidden_kitti):
    dataset = open_dataset(hidden_kitti, split="val", config=DataConfig())
    hidden = {token: dataset.occluded(token) for token in dataset.tokens}
    counted = 0
    for right in PARTS:
        report = evaluate_visibility(RightInOnePart(right, hidden), dataset)
        assert tuple(report) == PARTS
        for part, entry in report.items():
            assert entry["iou"] == (1.0 if part == right else 0.0), (right, part)
        counted = sum(np.array(entry["counts"]["confusion"]).sum() for entry in report.values())
    labels = [dataset.label(token).semantics for token in dataset.tokens]
    assert counted == sum(int((ids != 255).sum()) for ids in labels)


def test_the_command_says_it(hidden_kitti, recipes, tmp_path, capsys):
    recipe = replace(load_recipe(f"{recipes}:tiny"), steps=1, evaluate_every=None)
    assert train(recipe, hidden_kitti, tmp_path / "run").finished
    command = ["evaluate", str(tmp_path / "run"), "--data", str(hidden_kitti), "--protocol", "semantickitti"]
    command += ["--visibility", "--code", str(recipes), "--json", str(tmp_path / "report.json")]
    assert main(command) == 0
    assert "occluded" in capsys.readouterr().out
    parts = json.loads((tmp_path / "report.json").read_text())["visibility"]
    assert tuple(parts) == PARTS
    assert main(["evaluate", "--predictions", "x", "--data", "y", "--visibility"]) == 2


def test_what_is_missing_is_named(hidden_kitti, tiny_kitti):
    dataset, nothing = open_dataset(tiny_kitti, split="val", config=DataConfig()), np.zeros((16, 16, 2), np.bool_)
    with pytest.raises(DataError, match=r"\.occluded"):
        evaluate_visibility(RightInOnePart("visible", dict.fromkeys(dataset.tokens, nothing)), dataset)

    class Other:
        root = hidden_kitti

    with pytest.raises(ConfigError, match="which alone says what is occluded"):
        evaluate_visibility(nn.Identity(), Other())
