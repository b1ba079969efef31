"""Prediction and evaluation on an engine: the files and the sums of one process."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from occkit.cli import main
from occkit.data import open_dataset
from occkit.engine import LocalEngine, RayEngine
from occkit.errors import DataError
from occkit.systems.lift import debug
from occkit.training.checkpoint import from_pretrained, save_pretrained
from occkit.training.evaluate import evaluate_model, evaluate_predictions, write_predictions
from occkit.training.spread import ModelSource, spread_evaluation, spread_predictions
from occkit.training.system import build_system

PROTOCOLS = ["occ3d", "rayiou"]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    torch.manual_seed(0)
    recipe = debug()
    save_pretrained(build_system(recipe.system), recipe, folder)
    return ModelSource(run=str(folder))


def assert_same_volumes(first: Path, second: Path) -> None:
    """The same files; scores of random weights are near ties, which the last bit of a sum may turn."""
    volumes = [{p.name: np.load(p)["semantics"] for p in sorted(folder.glob("*.npz"))} for folder in (first, second)]
    assert volumes[0].keys() == volumes[1].keys()
    for name, volume in volumes[0].items():
        assert (volume == volumes[1][name]).mean() > 0.999, name


def assert_near(found: dict, expected: dict) -> None:
    for protocol, figure in (("occ3d", "miou"), ("occ3d", "iou"), ("rayiou", "rayiou")):
        assert found[protocol]["frames"] == expected[protocol]["frames"]
        assert found[protocol][figure] == pytest.approx(expected[protocol][figure], abs=1e-3)


@pytest.fixture(params=["local", "one", "two"])
def engine(request):
    if request.param == "local":
        return LocalEngine()
    request.getfixturevalue("cluster")
    return RayEngine(workers=1 if request.param == "one" else 2)


@pytest.fixture
def one_thread():
    """As a worker of Ray has it: sums of several threads differ in the last bit, and near-ties with them."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_files_and_sums_are_those_of_one_process(street, source, engine, one_thread, tmp_path):
    model, recipe = from_pretrained(source.run)
    frames = open_dataset(street, split="all", config=recipe.data)
    assert write_predictions(model, frames, tmp_path / "here", progress=False) == 4
    assert spread_predictions(source, frames, tmp_path / "there", engine, progress=False) == 4
    assert_same_volumes(tmp_path / "here", tmp_path / "there")
    (tmp_path / "there" / f"{frames.tokens[1]}.npz").unlink()
    assert spread_predictions(source, frames, tmp_path / "there", LocalEngine(), progress=False) == 1
    expected = evaluate_model(model, frames, PROTOCOLS).report()
    assert expected["occ3d"]["frames"] == 4
    assert_near(spread_evaluation(source, frames, PROTOCOLS, engine).report(), expected)
    # Of files there is nothing to round: the sums are equal.
    of_files = evaluate_predictions(tmp_path / "here", frames, PROTOCOLS).report()
    assert_near(of_files, expected)
    assert spread_evaluation(tmp_path / "here", frames, PROTOCOLS, engine).report() == of_files


def test_an_unreadable_image_is_named_and_the_others_are_predicted(street, source, tmp_path):
    root = tmp_path / "world"
    shutil.copytree(street, root)
    _, recipe = from_pretrained(source.run)
    frames = open_dataset(root, split="all", config=recipe.data)
    broken = frames.tokens[1]
    frames._frame(broken).views[0][0].path.write_bytes(b"no image")
    with pytest.raises(DataError, match=f"{broken}: 1 of 4 frames have no prediction, the others are written"):
        spread_predictions(source, frames, tmp_path / "out", LocalEngine(), progress=False)
    assert len(list((tmp_path / "out").glob("*.npz"))) == 3
    with pytest.raises(DataError, match=r"\.(jpg|png)"):
        spread_evaluation(source, frames, PROTOCOLS, LocalEngine())
    other = from_pretrained(source.run)[0]
    torch.nn.init.zeros_(next(other.parameters()))
    with pytest.raises(DataError, match="another model"):
        write_predictions(other, frames, tmp_path / "out", progress=False)


def test_the_command_line_has_them_all(cluster, street, source, tmp_path, capsys):
    ray = ["--engine", "ray", "--workers", "1"]
    predict = ["predict", source.run, "--data", str(street), "--out", str(tmp_path / "p"), "--no-pictures"]
    assert main([*predict, *ray]) == 0
    assert main(predict) == 0
    assert "predicted 2 frames (2 were there)" in capsys.readouterr().out
    evaluate = ["evaluate", "--predictions", str(tmp_path / "p"), "--data", str(street)]
    assert main([*evaluate, "--json", str(tmp_path / "here.json")]) == 0
    assert main([*evaluate, "--json", str(tmp_path / "there.json"), *ray]) == 0
    assert (tmp_path / "here.json").read_text() == (tmp_path / "there.json").read_text()
    assert main([*evaluate, "--workers", "1"]) == 1
    assert main(["evaluate", source.run, "--data", str(street), "--depth", *ray]) == 2
    label = ["label", "--data", str(street), "--out", str(tmp_path / "l"), "--max-pictures", "0", "--split", "val"]
    assert main([*label, *ray]) == 0
    assert main(label) == 0
    assert "0 labels, 2 were there" in capsys.readouterr().out
    assert main([*predict, "--workers", "1"]) == 1
    assert "go with --engine ray" in capsys.readouterr().err
