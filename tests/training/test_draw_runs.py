"""`occkit draw grid` of runs: the model path, with labels, errors and a score."""

from pathlib import Path

import pytest
from PIL import Image

from occkit.cli import main
from occkit.training.checkpoint import save_pretrained
from occkit.training.recipe import load_recipe
from occkit.training.system import build_system


def test_runs_are_drawn_beside_the_truth(
    recipes: Path, tiny_kitti: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = load_recipe(f"{recipes}:tiny")
    save_pretrained(build_system(recipe.system), recipe, tmp_path / "run")
    common = ["draw", "grid", "--data", str(tiny_kitti), "--code", str(recipes), "--width", "600", "--frames", "2"]
    options = ["--errors", "--score", "semantickitti", "--view", "top", "--out", str(tmp_path / "grid.jpg")]
    assert main([*common, "--runs", f"first={tmp_path / 'run'}", *options]) == 0
    with Image.open(tmp_path / "grid.jpg") as picture:
        assert picture.format == "JPEG"
        assert picture.height > 200
    assert main([*common, "--seen-only", "--out", str(tmp_path / "truth.png")]) == 0
    assert main([*common, "--score", "miou", "--runs", str(tmp_path / "run"), "--out", str(tmp_path / "x.png")]) == 1
    assert "miou" in capsys.readouterr().err
