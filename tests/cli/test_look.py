"""`occkit look`: what is written on a world is what a recipe reads; what is there is kept; errors name the remedy."""

import json
from dataclasses import replace

import pytest
import torch

from occkit.cli import main
from occkit.data import DataConfig, open_dataset
from occkit.data.image_inputs import ImageInputsConfig, depth_map_path
from occkit.geometry import Cameras
from occkit.nn.depth import DepthBins
from occkit.systems import cigocc
from occkit.training.checkpoint import save_pretrained
from occkit.training.look import metres_of
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
        (["--teacher", "hf", "--depth", "stereo"], "no trained stereo network comes with occkit"),
        (["--depth", "run"], "needs --depth-run"),
        (["--depth", "run", "--depth-run", "x", "--cameras", "image_2"], "the run knows its own"),
        (["--teacher", "hf", "--depth", "mono"], "needs --depth-weights"),
        (["--teacher", "hf", "--masks"], "needs --detector and --sam"),
        (["--teacher", "hf", "--features"], "needs --sam or --encoder"),
    ):
        assert main([*start, *arguments]) == 1
        assert message in capsys.readouterr().err
    assert not torch.tensor(len(list(tmp_path.iterdir())))


def stereo_run(folder, seed=0):
    """A network of random weights that scores depth by comparing the two images of a pair, and reads nothing else."""
    recipe = cigocc.nano_stereo()
    first = replace(recipe.system.first, high=replace(recipe.system.first.high, present=False))
    system = replace(recipe.system, first=first, losses=replace(recipe.system.losses, masks=0.0))
    data = replace(recipe.data, inputs=None, image_semantics=None)
    torch.manual_seed(seed)
    save_pretrained(system.build(), replace(recipe, system=system, data=data), folder)


def test_a_run_that_compares_two_images_writes_depth_for_others(world, tmp_path, capsys):
    stereo_run(tmp_path / "stereo")
    command = ["look", "--data", str(world), "--out", str(tmp_path / "look"), "--depth", "run"]
    assert main([*command, "--depth-run", str(tmp_path / "stereo")]) == 0
    assert "depth: 4 of 4 frames now" in capsys.readouterr().out
    token = open_dataset(world, split="val", config=DataConfig()).tokens[0]
    assert not depth_map_path(tmp_path / "look/depth", token, "image_3").exists(), "the second image only helps"
    inputs = ImageInputsConfig(depth=str(tmp_path / "look/depth"))
    sample = open_dataset(world, split="val", config=DataConfig(inputs=inputs, load_depth=False))[0]
    known = sample.inputs.depth[sample.inputs.depth > 0]
    assert known.numel() == sample.inputs.depth.numel()
    assert known.min() >= 2.0
    assert known.max() <= 58.0
    assert main([*command, "--depth-run", str(tmp_path / "stereo")]) == 0
    assert "depth: 0 of 4 frames now" in capsys.readouterr().out
    stereo_run(tmp_path / "other", seed=1)
    assert main([*command, "--depth-run", str(tmp_path / "other")]) == 1
    assert "holds maps made in another way" in capsys.readouterr().err
    recipe = cigocc.nano_d()
    torch.manual_seed(0)
    save_pretrained(recipe.system.build(), recipe, tmp_path / "given")
    wanted = [*command[:3], "--out", str(world / "look"), "--depth", "stereo", "--strength", "perfect"]
    assert main(wanted) == 0
    assert main([*command[:4], str(tmp_path / "x"), "--depth", "run", "--depth-run", str(tmp_path / "given")]) == 1
    assert "is given its depth" in capsys.readouterr().err


def test_scores_of_cells_become_metres_of_stored_pixels():
    bins, size = DepthBins(start=2.0, stop=12.0, step=1.0), (8, 24)
    scores = torch.full((10, *size), -20.0)
    scores[3, :, :12], scores[8, :, 12:] = 20.0, 20.0
    matrix = torch.tensor([[30.0, 0, 24], [0, 30, 8], [0, 0, 1]])
    camera = Cameras(intrinsics=matrix, ego_from_camera=torch.eye(4), height=16, width=48)
    same = metres_of(scores, bins, camera, camera)
    assert torch.allclose(same[:, :23], torch.tensor(5.5))
    assert torch.allclose(same[:, 25:], torch.tensor(10.5))
    assert set(same.unique().round(decimals=3).tolist()) == {5.5, 10.5}, "nothing lies between the two sides of a step"
    larger = metres_of(scores, bins, camera, camera.resize(32, 96))
    assert larger.shape == (32, 96)
    assert torch.allclose(larger[:, :46], torch.tensor(5.5))
    # The network saw the lower half of the stored image only.
    cropped = metres_of(scores, bins, camera, camera.crop(top=-16, left=0, height=32, width=48))
    assert not cropped[:15].any()
    assert torch.allclose(cropped[17:, :23], torch.tensor(5.5))
