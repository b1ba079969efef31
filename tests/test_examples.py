"""Every example runs as its page says, and leaves behind what the page promises."""

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from occkit.data import DataConfig, open_dataset
from occkit.data.predictions import list_predictions, prediction_path, read_prediction
from occkit.viewer.canvas import turbo

EXAMPLES = Path(__file__).parents[1] / "examples"


def run(name: str, out: Path, *arguments: str) -> str:
    """Run an example as a reader would, from another folder, and return what it printed."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "NO_COLOR": "1"}
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name), "--out", str(out), *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=out.parent,
        env=environment,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Warning" not in done.stderr
    # Next to what is asked for, nothing is written.
    assert [p.name for p in out.parent.iterdir()] == [out.name]
    return done.stdout


def picture(path: Path) -> np.ndarray:
    """Read a picture and see that there is something on it."""
    pixels = np.asarray(Image.open(path).convert("RGB")).astype(float)
    assert pixels.std() > 10, f"{path.name} is blank"
    return pixels


def numbers(pattern: str, text: str) -> list[float]:
    """Return the numbers that the groups of a pattern match in a text."""
    found = re.search(pattern, text)
    assert found is not None, f"{pattern!r} is not in:\n{text}"
    return [float(group.replace(",", "")) for group in found.groups()]


def test_read_a_frame(tmp_path):
    out = tmp_path / "out"
    text = run("01_read_a_frame.py", out)
    assert "(2, 6, 3, 128, 352)" in text
    # The point 8 m ahead is 8 - 1.7 m in front of the front camera, a little more because the car drove on between its
    # exposure and the reference time; half a second ago it was metres further away.
    (now,) = numbers(r"now +CAM_FRONT +at pixel .* z-depth ([\d.]+) m", text)
    (before,) = numbers(r"before +CAM_FRONT +at pixel .* z-depth ([\d.]+) m", text)
    assert now == pytest.approx(6.5, abs=0.25)
    assert before > now + 1
    assert picture(out / "lidar.png").shape[1] == 1600
    picture(out / "label.png")


def test_score_predictions(tmp_path):
    out = tmp_path / "out"
    text = run("02_score_predictions.py", out)
    scores = json.loads((out / "scores.json").read_text())
    occ3d, sparse = scores["occ3d"]["miou"], scores["occ3d-sparseocc"]["miou"]
    # The class that no label has costs under one rule and is left out under the other.
    assert 0.5 < occ3d < sparse < 1
    assert scores["rayiou"]["rayiou"] < occ3d
    (unmasked,) = numbers(r"occ3d, no mask +([\d.]+)", text)
    assert unmasked < 100 * occ3d
    assert "From occ3d to selfocc" in text
    frames = open_dataset(out / "world", split="val", config=DataConfig())
    assert list_predictions(out / "predictions") == tuple(sorted(frames.tokens))
    picture(out / "errors.png")


def test_cast_rays(tmp_path):
    out = tmp_path / "out"
    text = run("03_cast_rays.py", out)
    # Voxels hide more than the surfaces in them, so ours are fewer than the label's, and nearly all are among these.
    (ours,) = numbers(r"rays see ([\d,]+) of 80,000", text)
    theirs, share = numbers(r"camera mask has ([\d,]+), ([\d.]+)% of ours", text)
    assert 10_000 < ours < theirs
    assert share > 95
    free, occupied = numbers(r"crossed only ([\d.]+)% are free[^%]*with an end ([\d.]+)%", text)
    assert free > 70
    assert occupied > 98
    depth = picture(out / "depth.png")
    assert depth.shape == (360, 2 * 640 + 8, 3)
    # Sky above is black, the road below is near and therefore blue.
    assert depth[5, 320].max() == 0
    assert depth[300, 200].argmax() == 2
    picture(out / "observed.png")


def test_render_a_volume(tmp_path):
    out = tmp_path / "out"
    text = run("04_render_a_volume.py", out)
    distance, slope = numbers(r"found a wall at ([\d.]+) m with slope ([+-][\d.]+)", text)
    assert distance == pytest.approx(24.0, abs=0.2)
    assert slope == pytest.approx(0.4, abs=0.03)
    picture(out / "rendering.png")


def test_train_and_predict(tmp_path):
    out = tmp_path / "out"
    text = run("05_train_and_predict.py", out)
    first, last = numbers(r"loss ([\d.]+) -> ([\d.]+)", text)
    assert last < 0.7 * first
    assert (out / "run" / "model.safetensors").is_file()
    frames = open_dataset(out / "world", split="val", config=DataConfig())
    for token in frames.tokens:
        semantics = read_prediction(prediction_path(out / "predictions", token), shape=frames.grid.shape)
        assert semantics.max() < frames.taxonomy.num_classes
    assert len(numbers(r"iou +([\d.]+) +([\d.]+)", text)) == 2
    picture(out / "scene.png")
    picture(out / "overlay.png")
    page = (out / "report.html").read_text()
    assert page.count("<img") == 2
    assert "<svg" in page


def test_your_own_rig(tmp_path):
    out = tmp_path / "out"
    text = run("06_your_own_rig.py", out)
    # The lens is what its page says: 62 degrees at the edge.
    assert numbers(r"the middle of the front image is ([\d.]+)", text)[0] == pytest.approx(0, abs=0.01)
    assert numbers(r"the left edge of the front image is ([\d.]+)", text)[0] == pytest.approx(62, abs=0.02)
    rig = open_dataset(out / "rig", split="all", config=DataConfig())
    frame = rig[0]
    assert frame.token == "my_frame"
    assert frame.camera_names == ("front", "left", "back", "right")
    assert frame.cameras.distortion is not None
    assert rig.grid.shape == (100, 100, 8)
    # Where each camera looks, in the frame of the car: forward, left, back, right.
    looks = frame.cameras.ego_from_camera[0, :, :3, 2]
    expected = torch.tensor([[1.0, 0, 0], [0, 1, 0], [-1, 0, 0], [0, -1, 0]])
    torch.testing.assert_close(looks, expected, atol=1e-5, rtol=0)
    for image in frame.images[0]:
        # The sky is in the upper half and the road in the lower one, so the image is the right way up.
        assert image[2, :40].float().mean() > image[2, -60:].float().mean() + 20
    picture(out / "rig.png")
    picture(out / "covered.png")


def test_teach_along_rays(tmp_path):
    out = tmp_path / "out"
    text = run("07_teach_along_rays.py", out)
    assert numbers(r"([\d]+) frames taught", text)[0] == 9
    assert (out / "world/teaching/radocc/teaching.json").is_file()
    shown = picture(out / "rays.png")
    # Three rows of three: the label, the teacher, the student.
    height, width = (shown.shape[0] - 16) // 3, (shown.shape[1] - 16) // 3
    label = shown[:height, width + 8 : 2 * width + 8]
    for row in (1, 2):
        depth = shown[row * (height + 8) : row * (height + 8) + height, width + 8 : 2 * width + 8]
        # Both have found the ground: the lower edge of the image is as near as in the label.
        assert np.abs(depth[-10:] - label[-10:]).mean() < 60


def test_pages_and_lengths():
    """The docstring is the page of an example: it says how to run it, what is learnt and what comes out."""
    files = sorted(EXAMPLES.glob("*.py"))
    assert [f.name[:2] for f in files] == [f"{number:02d}" for number in range(1, 12)]
    for file in files:
        source = file.read_text()
        page = ast.get_docstring(ast.parse(source)) or ""
        assert f"python examples/{file.name} --out" in page, file.name
        assert "What you learn" in page, file.name
        assert "What comes out" in page, file.name
        assert 60 <= len(source.splitlines()) <= 150, file.name
        for name in re.findall(r"^    (\S+\.(?:png|json|html|npz))  ", page, flags=re.MULTILINE):
            assert name in source.replace(page, ""), f"{file.name} promises {name}"


def test_learn_without_labels(tmp_path):
    out = tmp_path / "out"
    text = run("08_learn_without_labels.py", out)
    made, agreement = numbers(r"(\d+) pseudo-labels, ([\d.]+) % IoU", text)
    assert made == 12
    assert agreement > 30
    picture(out / "volumes.png")
    depth = picture(out / "depth.png")
    # What lies above is farther than the road before the car: the colours are read back.
    rendered = depth[depth.shape[0] // 2 :]
    scale = turbo(np.linspace(0, 1, 256)[None])[0].astype(float)
    far, near = (
        np.linalg.norm(scale - rows.mean(axis=(0, 1)), axis=1).argmin() / 255
        for rows in (rendered[40:60], rendered[-20:])
    )
    assert far > near + 0.05
    recipe = json.loads((out / "run" / "recipe.json").read_text())["recipe"]
    assert recipe["data"]["labels"] is None


def test_infer_without_torch_and_serve(tmp_path):
    for name in ("made", "asking"):
        (tmp_path / name).mkdir()
    out, asked = tmp_path / "made" / "out", tmp_path / "asking" / "out"
    text = run("09_infer_without_torch.py", out)
    assert "lift.nano on 6 cameras, without torch" in text
    with np.load(out / "semantics.npz", allow_pickle=False) as archive:
        labels = archive["semantics"]
    assert (labels.shape, labels.dtype) == ((100, 100, 8), np.uint8)
    # The street: the commonest thing that is not free is the road, and it is drawn.
    assert re.search(r"voxels of free\n +[\d,]+ voxels of (driveable_surface|manmade|vegetation|terrain)", text)
    picture(out / "top.png")
    assert json.loads((out / "model.parity.json").read_text())["variants"]["fp32"]["within_limits"]
    # The same frame over HTTP is the same volume, and what is not meant for a server is refused.
    files = ["--model", str(out / "model.onnx"), "--rig", str(out / "rig" / "000" / "rig.json")]
    run("11_ask_over_http.py", asked, *files)
    answers = json.loads((asked / "answers.json").read_text())
    assert {name: status for name, (status, _) in answers.items()} == {
        "good": 200,
        "path": 404,
        "bytes": 413,
        "pixels": 400,
    }
    with np.load(asked / "answer.npz", allow_pickle=False) as archive:
        assert np.array_equal(archive["semantics"], labels)
    log = (asked / "requests.log").read_text()
    assert re.findall(r'"POST (\S+) HTTP/1.1" (\d+)', log) == [
        ("/predict", "200"),
        ("/../../etc/passwd", "404"),
        ("/predict", "413"),
        ("/predict", "400"),
    ]
