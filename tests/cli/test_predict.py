import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from occkit import cli
from occkit.data.datasets import DataConfig, open_dataset
from occkit.data.predictions import read_prediction
from occkit.systems.lift import debug
from occkit.training.checkpoint import save_pretrained
from occkit.training.system import build_system
from occkit.world.generate import generate
from occkit.world.presets import PRESETS

REAL = Path(os.environ.get("OCCKIT_REAL", "../shared/real")) / "nuscenes-scene-0061" / "rig.json"


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    torch.manual_seed(0)
    recipe = debug()
    save_pretrained(build_system(recipe.system), recipe, folder)
    return folder


def test_rig_gives_volume_pictures_and_agreement(run, rig, tmp_path, capsys):
    out, numbers = tmp_path / "out", tmp_path / "numbers.json"
    assert cli.main(["predict", str(run), "--rig", str(rig), "--out", str(out), "--json", str(numbers)]) == 0
    volume = read_prediction(out / "one.npz")
    assert volume.shape == (100, 100, 8)  # the grid that the model was made for: a rig has none
    with np.load(out / "one.npz") as archive:
        assert archive.files == ["semantics"]
        assert archive["semantics"].dtype == np.uint8
    found = json.loads(numbers.read_text())
    assert found == json.loads((out / "lidar_agreement.json").read_text())
    assert set(found["one"]) == {"points_in_occupied", "hit_voxels_occupied", "passed_voxels_free", "balanced"}
    assert all(0 <= value <= 1 for value in found["one"].values())
    page = (out / "report.html").read_text()
    assert page.count("<img") == 6  # LiDAR and voxels over two images, two scenes
    assert "http" not in page
    assert {p.name for p in (out / "pictures").iterdir()} == {
        f"one_{name}" for name in ("cameras.jpg", "lidar.jpg", "overlay.jpg", "perspective.png", "top.png")
    }
    assert "a constant prediction has 50 %" in capsys.readouterr().out


def test_second_call_keeps_what_is_there(run, rig, tmp_path, capsys):
    arguments = ["predict", str(run), "--rig", str(rig), "--out", str(tmp_path / "out"), "--no-pictures"]
    assert cli.main(arguments) == 0
    before = (tmp_path / "out" / "one.npz").stat().st_mtime_ns
    assert cli.main(arguments) == 0
    assert (tmp_path / "out" / "one.npz").stat().st_mtime_ns == before
    assert "(1 were there)" in capsys.readouterr().out
    assert not (tmp_path / "out" / "report.html").exists()


def test_grid_of_the_rig_counts_if_it_has_one(run, rig, tmp_path):
    grid = {"origin": [-8, -8, -1], "voxel_size": [0.8, 0.8, 0.8], "shape": [20, 20, 8]}
    (rig.parent / "grid.json").write_text(json.dumps(grid))
    assert cli.main(["predict", str(run), "--rig", str(rig), "--out", str(tmp_path / "out"), "--no-pictures"]) == 0
    assert read_prediction(tmp_path / "out" / "one.npz").shape == (20, 20, 8)


def test_rig_without_lidar_needs_images_and_calibration_only(run, rig, tmp_path):
    document = json.loads(rig.read_text())
    del document["lidar"]
    rig.write_text(json.dumps(document))
    assert cli.main(["predict", str(run), "--rig", str(rig), "--out", str(tmp_path / "out"), "--no-pictures"]) == 0
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["one.npz", "predictions.json"]


def test_data_set_gives_every_frame_and_pictures_of_some(run, tmp_path):
    world, out = tmp_path / "world", tmp_path / "out"
    generate(replace(PRESETS["nano"], frames=2, truth=False), world, num_scenes=2)
    arguments = ["predict", str(run), "--data", str(world), "--out", str(out), "--max-pictures", "1"]
    assert cli.main(arguments) == 0
    tokens = open_dataset(world, split="val", config=DataConfig()).tokens
    assert {p.stem for p in out.glob("*.npz")} == set(tokens)
    assert len(tokens) == 2
    page = (out / "report.html").read_text()
    assert page.count("<section>") == 1
    assert "Label." in page
    assert not (out / "lidar_agreement.json").exists()


def test_one_source_of_frames_is_needed(run, rig, tmp_path, capsys):
    assert cli.main(["predict", str(run), "--out", str(tmp_path)]) == 2
    assert cli.main(["predict", str(run), "--out", str(tmp_path), "--rig", str(rig), "--data", str(tmp_path)]) == 2
    assert "either --data ROOT or --rig" in capsys.readouterr().err


def test_missing_run_or_rig_is_one_line(run, tmp_path, capsys):
    assert cli.main(["predict", str(run), "--rig", str(tmp_path / "no.json"), "--out", str(tmp_path / "o")]) == 1
    error = capsys.readouterr().err
    assert "no.json" in error
    assert error.count("\n") == 1


@pytest.mark.skipif(not REAL.is_file(), reason="the real frame is not here (set OCCKIT_REAL to its folder)")
def test_real_frame(run, tmp_path):
    out = tmp_path / "out"
    assert cli.main(["predict", str(run), "--rig", str(REAL), "--out", str(out), "--no-pictures"]) == 0
    (token,) = json.loads((out / "lidar_agreement.json").read_text())
    assert read_prediction(out / f"{token}.npz").shape == (100, 100, 8)
