"""`occkit view`: every kind of thing it opens, and the files it writes."""

import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from occkit import cli
from occkit.cli import view
from occkit.data import DataConfig, open_dataset
from occkit.data.predictions import write_prediction
from occkit.errors import ConfigError, DataError
from occkit.systems import langocc, lift
from occkit.taxonomy import OCC3D
from occkit.training.checkpoint import save_pretrained
from occkit.viewer.heat import HEAT, STEPS
from occkit.world.generate import generate
from occkit.world.presets import PRESETS


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("worlds") / "world"
    generate(replace(PRESETS["nano"], frames=2), root, num_scenes=2, seed=4)
    return root


def saved(recipe, folder):
    torch.manual_seed(0)
    model = recipe.system.build()
    if isinstance(model, langocc.LangOcc):
        model.encode_words(model.vocabulary)
    save_pretrained(model, recipe, folder)
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return saved(lift.debug(), tmp_path_factory.mktemp("runs") / "lift")


def frames(world):
    return open_dataset(world, split="all", config=DataConfig())


def opened(path, **options):
    return view._open(view.Args(path=Path(path), **options))


def test_a_world_shows_labels_masks_cameras_and_lidar(world):
    show, ask, draw = opened(world)
    assert (len(show.frames), ask, draw) == (4, None, None)
    assert [frame.scene for frame in show.frames] == ["scene-0001"] * 2 + ["scene-0002"] * 2
    first = show.frames[0].read()
    assert list(first.volumes) == ["label", "observed"]
    assert first.sample is not None
    assert first.sample.points is not None
    assert first.ego is not None
    assert first.remark == first.sample.caption


def test_a_run_shows_what_it_says_and_where_it_errs(world, run):
    show, _, _ = opened(run, data=world, frames=("2",))
    assert len(show.frames) == 2
    shown = show.frames[1].read()
    assert list(shown.volumes) == ["prediction", "label", "errors of prediction", "observed"]
    assert shown.volumes["prediction"].grid == frames(world).grid
    with pytest.raises(ConfigError, match="give --data"):
        opened(run)


def test_folders_of_volumes_beside_the_labels(world, run, tmp_path):
    dataset = frames(world)
    for token in dataset.tokens[1:]:
        write_prediction(tmp_path / "said", token, np.full(dataset.grid.shape, OCC3D.id_of("car"), np.uint8))
    show, _, _ = opened(tmp_path / "said", data=world, against=run)
    assert len(show.frames) == 3, "one frame has no prediction"
    shown = show.frames[0].read()
    assert list(shown.volumes)[:3] == ["said", "lift", "label"]
    assert {"errors of said", "errors of lift"} <= set(shown.volumes)
    world_first, _, _ = opened(world, against=run)
    assert {"lift", "label"} <= set(world_first.frames[0].read().volumes)
    labels, _, _ = opened(world / "gts", data=world)
    assert list(labels.frames[0].read().volumes)[:2] == ["gts", "label"]
    alone, _, _ = opened(world / "gts")
    assert alone.frames[0].scene == "scene-0001"
    assert alone.frames[0].read().sample is None


def test_one_volume_alone_is_known_by_its_shape(world, tmp_path):
    write_prediction(tmp_path, "one", np.zeros((200, 200, 16), np.uint8))
    shown = opened(tmp_path / "one.npz")[0].frames[0].read()
    assert list(shown.volumes) == ["one.npz"]
    assert shown.volumes["one.npz"].taxonomy is OCC3D
    write_prediction(tmp_path, "odd", np.zeros((3, 4, 5), np.uint8))
    with pytest.raises(DataError, match=r"\(3, 4, 5\) voxels could lie anywhere"):
        opened(tmp_path / "odd.npz")[0].frames[0].read()
    token = frames(world).tokens[0]
    label = next((world / "gts").rglob(f"{token}/labels.npz"))
    shown = opened(label, data=world)[0].frames[0].read()
    assert shown.token == token
    assert (shown.volumes["labels.npz"].semantics == shown.volumes["label"].semantics).all()


def test_kitti_labels_and_data(tmp_path):
    root = tmp_path / "kitti"
    generate(replace(PRESETS["kitti-nano"], frames=1), root, format="semantickitti", num_scenes=1, seed=3)
    data = opened(root)[0].frames[0].read()
    folder = root / "dataset" / "sequences"
    labels = opened(folder, format="semantickitti")[0].frames[0].read()
    assert labels.volumes["sequences"].taxonomy == data.volumes["label"].taxonomy


def test_words_are_answered_in_the_frame_that_is_shown(world, tmp_path):
    run = saved(langocc.debug(), tmp_path / "langocc")
    show, ask, _ = opened(run, data=world, split="val")
    assert ask is not None
    answer = ask("red mailbox", 0, False)
    assert answer.volume.taxonomy is HEAT
    assert answer.low <= 0 <= answer.high
    assert answer.remark.startswith("red mailbox: ")
    best = ask("red mailbox", 0, True)
    count = int((best.volume.semantics >= STEPS).logical_and(best.volume.occupied).sum())
    assert 0.01 * int(best.volume.occupied.sum()) <= count, "something is always best"
    assert best.remark.endswith("are best")
    occupied = show.frames[0].read().volumes["prediction"].occupied
    assert (answer.volume.occupied == occupied).all()
    with pytest.raises(ConfigError, match="no letter"):
        ask("?!", 0, False)


def test_drawn_scenes_and_a_line_to_draw_from(world, tmp_path):
    pytest.importorskip("diffusers")
    from occkit.systems import occscene

    run = saved(occscene.debug(), tmp_path / "occscene")
    command = ["generate", str(run), "--prompt", "a street", "--steps", "1", "--data", str(world)]
    assert cli.main([*command, "--out", str(tmp_path / "drawn")]) == 0
    (frame,) = (frame for frame in opened(tmp_path / "drawn")[0].frames[-1:])
    shown = frame.read()
    assert list(shown.volumes) == ["drawn"]
    assert shown.remark == "a street (seed 0)"
    assert shown.sample is not None
    shutil.rmtree(next((tmp_path / "drawn").glob("a-street*")))
    with pytest.raises(DataError, match="no drawn scene yet"):
        opened(tmp_path / "drawn")


def test_files_are_written_without_a_display(world, run, tmp_path, capsys):
    common = ["view", str(run), "--data", str(world), "--frames", "1"]
    assert cli.main([*common, "--png", str(tmp_path / "a.png"), "--show", "errors of prediction"]) == 0
    assert Image.open(tmp_path / "a.png").width == 1800
    label = ["--show", "label"]
    assert cli.main([*common, *label, "--html", str(tmp_path / "a.html"), "--mesh", str(tmp_path / "a.glb")]) == 0
    assert "driveable surface" in (tmp_path / "a.html").read_text()
    assert (tmp_path / "a.glb").read_bytes()[:4] == b"glTF"
    assert "triangles" in capsys.readouterr().out
    assert cli.main([*common, "--show", "labels", "--mesh", str(tmp_path / "b.glb")]) == 1
    said = capsys.readouterr().err
    assert "frame" in said
    assert "prediction, label" in said


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["nowhere"], "no such file or folder"),
        (["{world}", "--frames", "noon"], "no frame 'noon'"),
        (["{world}", "--frames", "0"], "name at least one frame"),
        (["{world}", "--mesh", "a.obj"], ".glb or .ply"),
        (["{world}/truth"], "expected shape"),
        (["{world}", "--host", "203.0.113.7", "--port", "0"], "cannot listen on 203.0.113.7"),
    ],
)
def test_what_cannot_be_shown_is_said_in_a_line(options, problem, world, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["view", *(option.format(world=world) for option in options)]) == 1
    said = capsys.readouterr().err
    assert problem in said
    assert said.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_the_server_says_where_it_is_and_ends_on_ctrl_c(world):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "occkit.cli", "view", str(world), "--port", str(port)]
    # A shell that runs the tests in the background has them ignore Ctrl-C, and what they start.
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert f"http://127.0.0.1:{port}" in line
        assert "this machine only" in process.stdout.readline()
        with urllib.request.urlopen(f"http://127.0.0.1:{port}", timeout=20) as page:
            assert b"<html" in page.read(2000).lower()
        with socket.socket() as outside:
            outside.settimeout(2)
            assert outside.connect_ex((_own_address(), port)) != 0
        process.send_signal(signal.SIGINT)
        said, errors = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 0, said + errors
    assert said.strip().endswith("ended")
    assert "Traceback" not in errors


def _own_address() -> str:
    """Return an address of this machine that is not the loopback's; the loopback's second one if it has no other."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
            return str(probe.getsockname()[0])
        except OSError:
            return "127.0.0.2"
