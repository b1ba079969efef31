"""occkit label, from the command line."""

import json
from dataclasses import replace

import pytest

from occkit.cli import main
from occkit.world.generate import generate
from occkit.world.presets import PRESETS


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    root = tmp_path_factory.mktemp("world")
    generate(replace(PRESETS["nano"], frames=2), root, num_scenes=2, seed=5)
    return root


def test_labels_scores_and_pictures(world, tmp_path, capsys):
    command = ["label", "--data", str(world), "--out", str(tmp_path / "out"), "--stride", "2", "--outliers", "lonely"]
    command += ["--split", "val", "--max-pictures", "1", "--json", str(tmp_path / "scores.json"), "--keep-images"]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "2 labels: " in said
    assert "occ3d-full" in said
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert 0 < scores["occ3d"]["miou"] < 1
    assert len(list((tmp_path / "out" / "pictures").iterdir())) >= 3
    assert len(list((tmp_path / "out" / "images").glob("*/*.png"))) == 12
    assert main(command) == 0
    assert "0 labels, 2 were there" in capsys.readouterr().out
    assert main([*command, "--history", "3"]) == 1
    assert "made in another way" in capsys.readouterr().err


def test_what_is_missing_is_named(world, tmp_path, capsys):
    assert main(["label", "--out", str(tmp_path)]) == 2
    assert "--data ROOT or --rig RIG.json" in capsys.readouterr().err
    assert main(["label", "--data", str(world), "--out", str(tmp_path), "--teacher", "hf"]) == 1
    assert "--depth-weights" in capsys.readouterr().err
    hf = ["--teacher", "hf", "--depth", "lidar"]
    assert main(["label", "--data", str(world), "--out", str(tmp_path), *hf]) == 1
    assert "--detector and --sam" in capsys.readouterr().err


def test_lidar_gives_the_depth(world, tmp_path):
    command = ["label", "--data", str(world), "--out", str(tmp_path), "--stride", "1", "--depth", "lidar"]
    assert main([*command, "--max-pictures", "0", "--split", "val"]) == 0
    assert len(list(tmp_path.glob("gts/*/*/labels.npz"))) == 2
