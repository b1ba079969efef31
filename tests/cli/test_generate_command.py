"""`occkit generate`: from a run and a text to a folder that other commands read; what is wrong is said in a line."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from occkit import cli
from occkit.data.predictions import read_prediction
from occkit.data.rig_files import read_rigs, write_rigs
from occkit.files import read_image
from occkit.geometry import Cameras
from occkit.systems import lift, occscene
from occkit.training.checkpoint import RIGS_FOLDER, save_pretrained

pytest.importorskip("diffusers")
PROMPT = "a street with two cars at night"


def cameras(times=2, size=(32, 88)):
    pose = torch.tensor([[0.0, 0, 1, 0.3], [-1, 0, 0, 0], [0, -1, 0, -0.1], [0, 0, 0, 1]])
    poses = pose.expand(times, 2, 4, 4).clone()
    poses[:, 1, 1, 3] = -0.5
    poses[:, :, 0, 3] -= 1.5 * torch.arange(times)[:, None]
    matrix = torch.tensor([[60.0, 0, 44], [0, 60, 16], [0, 0, 1]]).expand(times, 2, 3, 3).clone()
    return Cameras(intrinsics=matrix, ego_from_camera=poses, height=size[0], width=size[1])


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of random weights that remembers a rig."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    recipe = occscene.debug()
    torch.manual_seed(0)
    save_pretrained(recipe.system.build(), recipe, folder)
    write_rigs(folder / RIGS_FOLDER, cameras(), ("left", "right"))
    return folder


def generate(run, out, *options, prompt=PROMPT):
    return cli.main(["generate", str(run), "--out", str(out), "--prompt", prompt, "--steps", "1", *options])


def test_text_becomes_a_folder_that_predict_reads(run, tmp_path, capsys):
    out = tmp_path / "out"
    assert generate(run, out, "--prompt", "a rainy street") == 0
    said = capsys.readouterr()
    assert "scenes drawn: 2" in said.out
    assert "left out: rainy" in said.err
    assert "--prompt" not in (out / "index.html").read_text()
    assert PROMPT in (out / "index.html").read_text()
    samples = sorted(path.parent for path in out.glob("*/sample.json"))
    assert len(samples) == 2
    sample = next(path for path in samples if path.name.startswith("a-street"))
    stated = json.loads((sample / "sample.json").read_text())
    assert (stated["prompt"], stated["seed"]) == (PROMPT, 0)
    assert stated["occupancy"] == stated["frames"] == [f"{sample.name}_000", f"{sample.name}_001"]
    kept, names = read_rigs(sample)
    assert names == ("left", "right")
    assert torch.allclose(kept.ego_from_camera, cameras().ego_from_camera, atol=1e-5)
    for place in ("000", "001"):
        assert read_image(sample / place / "left.png").shape == (3, 32, 88)
    assert (sample / "sheet.png").stat().st_size > 1000
    settings = json.loads((out / "generated.json").read_text())
    assert settings["sampling"]["steps"] == 1
    assert cli.main(["predict", str(run), "--rig", str(sample), "--out", str(tmp_path / "p"), "--no-pictures"]) == 0
    for token in stated["frames"]:
        ours = read_prediction(sample / "occupancy" / f"{token}.npz", shape=occscene.debug().system.grid.shape)
        again = read_prediction(tmp_path / "p" / f"{token}.npz")
        assert (ours == again).mean() > 0.999, "the occupancy is what perception says of the images as written"


def test_what_is_there_is_kept_and_what_was_cut_off_is_drawn_again(run, tmp_path, capsys):
    out = tmp_path / "out"
    assert generate(run, out) == 0
    (sample,) = (path.parent for path in out.glob("*/sample.json"))
    image = (sample / "000" / "left.png").read_bytes()
    (sample / "sample.json").unlink()
    (out / f".{sample.name}.partial").mkdir()
    assert generate(run, out) == 0
    assert "scenes drawn: 1:" in capsys.readouterr().out
    assert (sample / "000" / "left.png").read_bytes() == image, "one seed, the same bytes"
    assert generate(run, out, "--samples", "2") == 0
    assert "scenes drawn: 1, there already: 1" in capsys.readouterr().out
    assert not list(out.glob(".*.partial"))
    assert generate(run, out, "--guidance", "5") == 1
    assert "drawn otherwise (sampling differ)" in capsys.readouterr().err
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    assert generate(run, tmp_path / "full") == 1
    assert "is not empty" in capsys.readouterr().err


def test_cameras_of_another_rig_and_of_more_frames(run, tmp_path):
    write_rigs(tmp_path / "rig", cameras(1, size=(64, 176)), ("front", "back"))
    file = tmp_path / "rig" / "000" / "rig.json"
    assert generate(run, tmp_path / "out", "--rig", str(file), "--frames", "3", "--advance", "2") == 0
    (sample,) = (path.parent for path in (tmp_path / "out").glob("*/sample.json"))
    kept, names = read_rigs(sample)
    assert names == ("front", "back")
    assert (kept.height, kept.width) == (32, 88), "as the model was trained"
    assert kept.ego_from_camera[:, 0, 0, 3].tolist() == pytest.approx([0.3, -1.7, -3.7], abs=1e-4)
    assert np.allclose(kept.intrinsics[0, 0, 0, 0], 30.0)


@pytest.mark.parametrize(
    ("options", "prompt", "status", "message"),
    [
        ((), "", 1, "prompt: is empty"),
        ((), "a street " * 400, 1, "at most 2,000 characters"),
        ((), "street " * 90, 1, "has 90 words, this model reads 77"),
        ((), "eine regnerische Straße", 1, "no word of"),
        (("--scheduler", "dimm"), PROMPT, 1, "scheduler 'dimm': there is ddim, ddpm"),
        (("--steps", "2000"), PROMPT, 1, "steps: expected 1 to 1000"),
        (("--frames", "100"), PROMPT, 1, "draws 1 to 64 together, got 100"),
        (("--frames", "0"), PROMPT, 2, "at least 1"),
        (("--frame", "x"), PROMPT, 2, "--frame is the name of a frame of --data"),
        (("--rig", "a", "--data", "b"), PROMPT, 2, "give one of them"),
        (("--rig", "nowhere.json"), PROMPT, 1, "nowhere.json: no such file"),
        (("--data", "nowhere"), PROMPT, 1, "nowhere: no such file"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_drawn(run, tmp_path, capsys, options, prompt, status, message):
    assert generate(run, tmp_path / "out", *options, prompt=prompt) == status
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert not (tmp_path / "out").exists()


def test_runs_that_cannot_draw(run, tmp_path, capsys):
    recipe = lift.debug()
    save_pretrained(recipe.system.build(), recipe, tmp_path / "lift")
    assert generate(tmp_path / "lift", tmp_path / "out") == 1
    assert "lift.debug does not draw" in capsys.readouterr().err
    plain = replace(occscene.debug(), name="x")
    save_pretrained(plain.system.build(), plain, tmp_path / "plain")
    assert generate(tmp_path / "plain", tmp_path / "out") == 1
    assert "the run keeps no cameras; give --rig RIG.json or --data ROOT" in capsys.readouterr().err
    assert cli.main(["generate", str(run), "--out", str(tmp_path / "out")]) == 2
    assert "say what to draw" in capsys.readouterr().err
