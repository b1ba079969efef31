"""docs/own_car.md, followed to the letter: every command of the page, with fewer frames and steps."""

import json
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from occkit import cli
from occkit.data import DataConfig, open_dataset
from occkit.geometry.rays import pixel_grid

PAGE = Path(__file__).parents[1] / "docs" / "own_car.md"
if not PAGE.is_file():
    pytest.skip("docs/ belongs to the checkout, not to the package", allow_module_level=True)
SHORTER = {
    "--frames 30": "--frames 3 --image-scale 0.5",
    "--keep-images": "--keep-images --max-pictures 1",
    "--steps 400": "--steps 2",
    "--out predictions": "--out predictions --max-pictures 1",
}


def commands():
    found = re.findall(r"^occkit (.+)$", "\n".join(re.findall(r"```sh\n(.*?)```", PAGE.read_text(), re.S)), re.M)
    assert len(found) == 7, "the page has another number of commands"
    return found


def test_the_page_works_as_it_is_written(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for command in commands():
        for long, short in SHORTER.items():
            command = command.replace(long, short)
        arguments = shlex.split(command)
        if arguments[0] == "view":
            arguments += ["--png", "mine.png"]  # a server would wait for a visitor
        if arguments[0] == "train":
            # From here on nothing may look at the truth: only what a user has is left of the drive that is learnt from.
            shutil.rmtree("car/drive-0001/truth")
        assert cli.main(arguments) == 0, (command, capsys.readouterr().err)
    assert len(list((tmp_path / "predictions").glob("*.npz"))) == 3
    assert (tmp_path / "mine.png").stat().st_size > 10_000
    assert "occ3d-full" in capsys.readouterr().out


def test_the_generated_drive_is_a_rig_like_no_data_set(tmp_path):
    out = tmp_path / "car"
    command = ["world", "--format", "rig", "--scenes", "1", "--frames", "2", "--image-scale", "0.5", "--out", str(out)]
    assert cli.main(command) == 0
    drive = open_dataset(out / "drive-0001", split="all", config=DataConfig())
    assert drive.camera_names == ("front", "left", "rear", "right")
    assert drive.label(drive.tokens[0]) is None
    sample = drive.sample(1)
    assert sample.cameras.distortion is not None
    rig = json.loads((out / "drive-0001" / "001" / "rig.json").read_text())
    poses = [np.array(camera["global_from_ego"]) for camera in rig["cameras"]]
    assert not np.allclose(poses[0], poses[-1], atol=1e-6), "the cameras expose one after the other while the car moves"


def test_several_drives_are_labelled_and_learnt_from_together(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for command in (
        "world --format rig --scenes 2 --frames 2 --image-scale 0.5 --out car",
        "doctor car",
        "label --rig car --out car/labels/k13 --stride 1 --keep-images --max-pictures 0",
        "train easyocc.nano --data car --out run --steps 2",
    ):
        assert cli.main(command.split()) == 0, (command, capsys.readouterr().err)
    made = sorted(path.parent.relative_to("car/labels/k13/gts") for path in Path("car/labels/k13").rglob("labels.npz"))
    drives = {path.parts[0] for path in made}
    assert drives == {"drive-0001", "drive-0002"}
    assert [path.parts[1] for path in made] == [f"{drive}_{k:03d}" for drive in sorted(drives) for k in range(2)]
    assert (tmp_path / "run" / "model.safetensors").is_file()


def test_pixels_of_a_bent_image_show_what_lies_there(tmp_path):
    """A pixel's truth depth along its own bent ray ends in a voxel of the truth's labels."""
    out = tmp_path / "car"
    assert (
        cli.main(["world", "--format", "rig", "--scenes", "1", "--frames", "1", "--out", str(out), "--seed", "3"]) == 0
    )
    drive = out / "drive-0001"
    sample = open_dataset(drive, split="all", config=DataConfig()).sample(0)
    label = np.load(drive / "truth" / "labels" / "gts" / "drive-0001" / "000" / "labels.npz")["semantics"]
    agreed = total = 0
    for index, name in enumerate(sample.camera_names):
        layer = np.load(drive / "truth" / "drive-0001" / "000" / f"{name}.npz")
        depth = torch.from_numpy(layer["depth"].astype(np.float32)).flatten()
        camera = sample.cameras[0, index]
        points = camera.unproject(pixel_grid(camera.height, camera.width), depth)
        cells, inside = sample.grid.index_of(points)
        chosen = inside & (depth > 1.0) & (depth < 12.0)
        near = torch.from_numpy(label)[tuple(cells[chosen].T)] != 17
        agreed, total = agreed + int(near.sum()), total + int(chosen.sum())
    assert total > 10_000
    assert agreed / total > 0.97
