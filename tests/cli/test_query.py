"""`occkit query` and `occkit evaluate --retrieval` through their door, and classes that a run was not trained for."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from occkit import cli
from occkit.data import DataConfig, open_dataset
from occkit.data.answers import read_answers
from occkit.data.predictions import read_prediction
from occkit.files import write_bytes
from occkit.foundation import ClipTextConfig
from occkit.systems import langocc, lift
from occkit.taxonomy import SEMANTICKITTI
from occkit.training.checkpoint import save_pretrained
from occkit.training.recipe import Recipe
from occkit.training.system import build_system
from occkit.training.world_queries import world_queries
from occkit.world.generate import generate
from occkit.world.presets import PRESETS

SWEEPS = DataConfig(load_points=True, load_depth=False)


def saved(recipe: Recipe, folder: Path, *, like: Path | None = None) -> Path:
    """Keep an untrained model, its prompts encoded, or the weights of another one under this recipe."""
    torch.manual_seed(0)
    model = build_system(recipe.system)
    if like is None and isinstance(model, langocc.LangOcc):
        model.encode_words(model.vocabulary)
    save_pretrained(model, recipe, folder)
    if like is not None:
        write_bytes(folder / "model.safetensors", (like / "model.safetensors").read_bytes())
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return saved(langocc.debug(), tmp_path_factory.mktemp("runs") / "run")


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """One street to be scored on with many of the things that no taxonomy names, and one to learn from."""
    root = tmp_path_factory.mktemp("worlds") / "world"
    generate(replace(PRESETS["nano"], frames=1, long_tail=4.0), root, num_scenes=2, seed=2)
    return root


@pytest.fixture(scope="module")
def kitti(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("worlds") / "kitti"
    generate(replace(PRESETS["kitti-nano"], frames=1), root, format="semantickitti", num_scenes=2, seed=3)
    return root


def test_answers_pictures_and_a_table(run, world, tmp_path, capsys):
    out = tmp_path / "out"
    command = ["query", str(run), "red mailbox", "zebra", "--data", str(world), "--share", "0.02"]
    assert cli.main([*command, "--out", str(out), "--json", str(tmp_path / "found.json")]) == 0
    said = capsys.readouterr().out
    assert "red mailbox" in said
    assert "1 of 1 frames" in said
    (token,) = open_dataset(world, split="val", config=SWEEPS).tokens
    answers = read_answers(out / f"{token}.npz", queries=2)
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["zebra"]["voxels"] == found["zebra"]["per_frame"][token]["voxels"] == answers.counts[1] > 0
    assert found["zebra"]["per_frame"][token]["centre"] == pytest.approx(answers.centres[1].tolist(), abs=1e-3)
    pictures = sorted(path.name for path in (out / "pictures").iterdir())
    assert pictures == [f"{token}_1_red-mailbox.png", f"{token}_2_zebra.png"]
    kept = {path: path.stat().st_mtime_ns for path in out.rglob("*.*") if path.name != "queries.json"}
    assert cli.main([*command, "--out", str(out)]) == 0
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    # Without a folder the same is said, and nothing is written.
    capsys.readouterr()
    assert cli.main(command) == 0
    assert capsys.readouterr().out == said.partition("pictures:")[0]
    # The same folder cannot take other answers.
    assert cli.main(["query", str(run), "tree", "--data", str(world), "--out", str(out)]) == 1
    assert "other questions" in capsys.readouterr().err


def test_frames_are_chosen_by_name_or_number(run, world, tmp_path, capsys):
    data = ["--data", str(world), "--split", "all", "--max-pictures", "0", "--out", str(tmp_path)]
    tokens = open_dataset(world, split="all", config=SWEEPS).tokens
    assert cli.main(["query", str(run), "tree", *data, "--frames", tokens[1]]) == 0
    assert [path.stem for path in tmp_path.glob("*.npz")] == [tokens[1]]
    assert cli.main(["query", str(run), "tree", *data, "--frames", "9"]) == 0
    assert {path.stem for path in tmp_path.glob("*.npz")} == set(tokens)
    assert cli.main(["query", str(run), "tree", *data, "--frames", "nobody", tokens[0]]) == 1
    assert "there is no frame 'nobody'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("query", "problem"),
    [("", "is empty"), ("?!", "no letter or digit"), ("mail\nbox", "control characters"), ("x" * 300, "at most 200")],
)
def test_what_cannot_be_asked_is_one_line(run, world, query, problem, capsys):
    assert cli.main(["query", str(run), query, "--data", str(world)]) == 1
    said = capsys.readouterr().err
    assert problem in said
    assert said.count("\n") == 1


def test_runs_that_cannot_answer(run, world, tmp_path, capsys):
    def reason(recipe: Recipe, name: str, *words: str, like: Path | None = None) -> str:
        folder = saved(recipe, tmp_path / name, like=like)
        assert cli.main(["query", str(folder), *(words or ("mailbox",)), "--data", str(world)]) == 1
        return capsys.readouterr().err

    def reading(encoder: ClipTextConfig | None) -> Recipe:
        recipe = langocc.debug()
        assert isinstance(recipe.system, langocc.LangOccConfig)
        return replace(recipe, system=replace(recipe.system, text=replace(recipe.system.text, encoder=encoder)))

    assert "knows its classes and no other words; ask a run of LangOcc" in reason(lift.debug(), "lift")
    assert "TextConfig.encoder: None cannot read words" in reason(reading(None), "silent", like=run)
    clip = reading(ClipTextConfig(weights="/no/such/folder/of/clip"))
    assert "/no/such/folder/of/clip" in reason(clip, "lost", like=run)
    # What it was trained with can be asked without an encoder.
    assert cli.main(["query", str(tmp_path / "silent"), "car", "--data", str(world)]) == 0
    assert cli.main(["evaluate", str(tmp_path / "lift"), "--data", str(world), "--retrieval"]) == 1
    assert "knows its classes and no other words" in capsys.readouterr().err


def test_data_that_does_not_fit(run, tmp_path, capsys):
    assert cli.main(["query", str(run), "tree", "--data", str(tmp_path)]) == 1
    assert "is no data set" in capsys.readouterr().err
    assert cli.main(["query", str(run), "tree", "--data", str(tmp_path / "nothing")]) == 1
    assert "no such file or folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["query", "run", "--data", "d"],
        ["query", "run", "tree", "--data", "d", "--share", "0.1", "--margin", "0.1"],
        ["query", "run", "tree", "--data", "d", "--share", "0.1", "--against", "house"],
        ["evaluate", "--predictions", "p", "--data", "d", "--retrieval"],
        ["evaluate", "run", "--data", "d", "--retrieval", "a", "b"],
        ["evaluate", "run", "--data", "d", "--retrieval-trilinear"],
    ],
)
def test_wrong_usage_is_status_2(arguments, capsys):
    assert cli.main(arguments) == 2
    assert f"occkit {arguments[0]}: " in capsys.readouterr().err


def test_a_rig_is_asked_in_the_volume_that_the_run_was_made_for(run, rig, tmp_path):
    assert cli.main(["query", str(run), "tree", "--data", str(rig), "--out", str(tmp_path / "out")]) == 0
    assert read_answers(tmp_path / "out" / "one.npz", queries=1).grid == langocc.debug().system.grid
    assert [path.name for path in (tmp_path / "out" / "pictures").iterdir()] == ["one_1_tree.png"]


def test_retrieval_of_a_run_stands_beside_image_features_and_chance(run, world, tmp_path, capsys):
    file = tmp_path / "scores.json"
    command = ["evaluate", str(run), "--data", str(world), "--retrieval", "--json", str(file)]
    assert cli.main(command) == 0
    assert "no image features" in capsys.readouterr().out
    assert json.loads(file.read_text())["retrieval"]["image_features"] is None
    assert cli.main(["features", "--data", str(world), "--out", str(world / "features"), "--split", "all"]) == 0
    assert cli.main([*command, "--retrieval-trilinear"]) == 0
    said = capsys.readouterr().out
    for text in ("pop3d: all points", "langocc: points inside", "run", "features", "chance"):
        assert text in said
    report = json.loads(file.read_text())["retrieval"]
    queries = world_queries(open_dataset(world, split="val", config=SWEEPS))
    assert report["queries"] == len(queries) > 0
    assert set(report["pop3d"]["per_query"]) == {query.query for query in queries}
    assert report["point_score"] == "trilinear"
    assert report["image_features"]["langocc"]["map"] > 5 * report["langocc"]["prevalence"]
    assert 0 < report["langocc"]["map"] <= 1


def test_annotations_of_pop3d_are_read(run, world, tmp_path, capsys):
    sample = open_dataset(world, split="val", config=SWEEPS)[0]
    relevant = np.arange(len(sample.points)) % 7 == 0
    folder = tmp_path / "benchmark"
    for name, values in (("annotations", relevant.astype(np.uint8)), ("matching_points", np.flatnonzero(relevant))):
        (folder / name).mkdir(parents=True)
        np.save(folder / name / "one.npy", values)
    row = f"{sample.token};val;annotations/one.npy;matching_points/one.npy;a black hat"
    (folder / "retrieval_anns_all.csv").write_text(row + "\n")
    file = tmp_path / "scores.json"
    command = ["evaluate", str(run), "--data", str(world), "--json", str(file), "--retrieval"]
    assert cli.main([*command, str(folder)]) == 0
    report = json.loads(file.read_text())["retrieval"]
    assert report["pop3d"]["prevalence"] == pytest.approx(relevant.mean())
    assert report["pop3d"]["prevalence_visible"] == 1.0
    assert list(report["pop3d"]["per_query"]) == ["a black hat"]
    capsys.readouterr()
    assert cli.main([*command, str(folder), "--split", "train"]) == 1
    assert "--split all" in capsys.readouterr().err


def test_classes_of_another_taxonomy_are_asked_for_by_their_words(run, kitti, tmp_path, capsys):
    out = tmp_path / "out"
    assert cli.main(["predict", str(run), "--data", str(kitti), "--out", str(out), "--no-pictures"]) == 0
    frames = open_dataset(kitti, split="val", config=langocc.debug().data)
    volume = read_prediction(out / f"{frames.tokens[0]}.npz", shape=frames.grid.shape)
    named = [i for i in SEMANTICKITTI.semantic_ids if SEMANTICKITTI.prompts[i]]
    assert set(np.unique(volume)) <= {SEMANTICKITTI.free_id, *named}
    assert (volume != SEMANTICKITTI.free_id).any()
    data = ["--data", str(kitti), "--protocol", "semantickitti", "--json"]
    assert cli.main(["evaluate", str(run), *data, str(tmp_path / "run.json")]) == 0
    assert cli.main(["evaluate", "--predictions", str(out), *data, str(tmp_path / "dump.json")]) == 0
    direct, dumped = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("run", "dump"))
    assert direct == dumped
    assert direct["semantickitti"]["iou"] > 0
    capsys.readouterr()
    # Words of one taxonomy, labels of another: a protocol says which it is for.
    assert cli.main(["evaluate", str(run), "--data", str(kitti), "--protocol", "occ3d"]) == 1
    assert "semantickitti" in capsys.readouterr().err
    text = langocc.debug().system.text
    silent = replace(langocc.debug(), system=replace(langocc.debug().system, text=replace(text, encoder=None)))
    folder = saved(silent, tmp_path / "silent", like=run)
    assert cli.main(["predict", str(folder), "--data", str(kitti), "--out", str(tmp_path / "p"), "--no-pictures"]) == 1
    assert "TextConfig.encoder: None cannot read words" in capsys.readouterr().err
