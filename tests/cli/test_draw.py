"""`occkit draw`: each form writes its file, and says what is wrong with what it is given."""

import json

import numpy as np
import pytest
from PIL import Image

from occkit.cli import main
from occkit.data.predictions import write_prediction
from occkit.taxonomy import OCC3D


@pytest.fixture
def predictions(tmp_path):
    volume = np.full((200, 200, 16), OCC3D.free_id, dtype=np.uint8)
    volume[:, :, 0] = OCC3D.id_of("driveable_surface")
    write_prediction(tmp_path / "predictions", "one", volume)
    return tmp_path / "predictions"


def test_grid_of_a_folder_of_predictions(rig, predictions, tmp_path, capsys):
    out = tmp_path / "grid.png"
    options = ("--view", "top", "--width", "500", "--caption", "", "--out", str(out))
    assert main(["draw", "grid", "--data", str(rig), "--runs", f"mine={predictions}", *options]) == 0
    assert capsys.readouterr().out.strip().endswith("grid.png")
    with Image.open(out) as picture:
        assert abs(picture.width - 500) < 20
        assert picture.info["dpi"][0] == pytest.approx(picture.width / 7.2, rel=0.01)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--out", "grid.svg"], "ends in .png, .jpg, .jpeg"),
        (["--out", "grid.png", "--runs", "{p}", "--errors"], "has no labels"),
        (["--out", "grid.png"], "has no labels"),
        (["--out", "grid.png", "--runs", "{p}", "--frames", "two"], "no frame 'two'"),
        (["--out", "grid.png", "--runs", "a={p}", "a={p}"], "two runs are called 'a'"),
        (["--out", "grid.png", "--runs", "a=/nowhere"], "no such folder"),
    ],
)
def test_grid_says_what_is_wrong(rig, predictions, capsys, options, problem):
    filled = [option.format(p=predictions) for option in options]
    assert main(["draw", "grid", "--data", str(rig), *filled]) == 1
    error = capsys.readouterr().err
    assert problem in error
    assert error.count("\n") == 1


def test_curves_and_card(tmp_path):
    line = {"step": 1, "loss": 1.0, "losses": {"depth": 1.0}}
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    out = tmp_path / "curves.svg"
    assert main(["draw", "curves", str(tmp_path / "a"), f"other={tmp_path / 'b'}", "--out", str(out)]) == 0
    assert "other" in out.read_text()
    card = {"claim": "It holds.", "seeds": [0], "scores": {"prior": {"occ3d.miou": [0.1]}}, "pass_lines": []}
    (tmp_path / "card.json").write_text(json.dumps(card))
    assert main(["draw", "card", str(tmp_path / "card.json"), "--out", str(tmp_path / "card.svg")]) == 0
    assert "It holds." in (tmp_path / "card.svg").read_text()
