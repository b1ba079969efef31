"""`occkit look`: what is written on a world is what a recipe reads; what is there is kept; errors name the remedy."""

import json
from dataclasses import replace

import pytest
import torch

from occkit.cli import main
from occkit.data import DataConfig, open_dataset
from occkit.data.image_inputs import ImageInputsConfig
from occkit.world import PRESETS, generate
from tiny_models import save_dino

LOOK = ImageInputsConfig(depth="look/depth", masks="look/masks", features="look/features")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    root = tmp_path_factory.mktemp("world")
    generate(replace(PRESETS["kitti-nano"], frames=2), root, format="semantickitti", num_scenes=2, seed=5)
    return root


def test_what_is_written_is_what_a_recipe_reads(world, capsys):
    arguments = ["look", "--data", str(world), "--out", str(world / "look"), "--strength", "perfect"]
    arguments += ["--depth", "stereo", "--masks", "--features", "--json", str(world / "cost.json")]
    assert main(arguments) == 0
    cost = json.loads((world / "cost.json").read_text())
    assert {what: entry["frames"] for what, entry in cost.items()} == {"depth": 4, "masks": 4, "features": 4}
    assert all(entry["bytes"] > 0 for entry in cost.values())
    for split in ("train", "val"):
        sample = open_dataset(world, split=split, config=DataConfig(inputs=LOOK))[0]
        assert sample.inputs.features.shape == (1, 24, 8, 26)
        hit = sample.depth[0] > 0
        error = (sample.inputs.depth[0] - sample.depth[0])[hit].abs() / sample.depth[0][hit]
        assert error.median() < 0.02, "perfect depth is the LiDAR's"
        assert len(sample.inputs.masks.unique()) > 3
    before = {path: path.stat().st_mtime_ns for path in (world / "look").rglob("*.png")}
    assert main(arguments) == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert "depth: 0 of 4 frames now" in capsys.readouterr().out
    assert main([*arguments, "--strength", "poor"]) == 1
    assert "holds maps made in another way" in capsys.readouterr().err


def test_the_encoder_is_what_its_folder_says(world, tmp_path, capsys):
    (tmp_path / "dino").mkdir()
    save_dino(tmp_path / "dino", "DINOv3ViT", num_register_tokens=4)
    command = ["look", "--data", str(world), "--out", str(tmp_path / "look"), "--split", "val", "--features"]
    command += ["--teacher", "hf", "--encoder", str(tmp_path / "dino")]
    assert main(command) == 0
    assert "features: 2 of 2 frames now" in capsys.readouterr().out
    (tmp_path / "dino" / "config.json").write_text('{"model_type": "gpt2"}')
    assert main([*command[:-1], str(tmp_path / "dino")]) == 1
    assert "of type sam or sam2 or sam2_video or dinov2" in capsys.readouterr().err


def test_errors_name_the_remedy(world, tmp_path, capsys):
    start = ["look", "--data", str(world), "--out", str(tmp_path)]
    for arguments, message in (
        ([], "nothing to write"),
        (["--teacher", "hf", "--depth", "stereo"], "no stereo network comes with occkit"),
        (["--teacher", "hf", "--depth", "mono"], "needs --depth-weights"),
        (["--teacher", "hf", "--masks"], "needs --detector and --sam"),
        (["--teacher", "hf", "--features"], "needs --sam or --encoder"),
    ):
        assert main([*start, *arguments]) == 1
        assert message in capsys.readouterr().err
    assert not torch.tensor(len(list(tmp_path.iterdir())))
