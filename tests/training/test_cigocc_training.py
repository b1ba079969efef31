"""CIGOcc from files to scores: its debug recipe on a tiny SemanticKITTI folder and on a generated world."""

import json
import shutil
import signal
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch

from occkit.cli import main
from occkit.data import DataConfig, open_dataset
from occkit.data.feature_store import FeatureLayout, create_store
from occkit.data.image_inputs import depth_map_path, write_depth_map
from occkit.data.image_maps import map_path, write_class_map
from occkit.data.predictions import read_prediction
from occkit.data.sscbench import IMAGE_SIZE
from occkit.data.submission import validate_submission
from occkit.errors import DataError
from occkit.systems import cigocc
from occkit.taxonomy import semantickitti_lookup
from occkit.training import Constant, loop
from occkit.training.checkpoint import LAST_FILE, load_run, read_tensors
from occkit.training.evaluate import evaluate_model
from occkit.training.loop import train
from occkit.world import PRESETS, generate
from sscbench_tree import write_drive


def look_at(root, camera, size):
    """Write depth, one class and random features of every image."""
    layout = FeatureLayout(
        source={}, cameras=(camera,), image_size=size, map_size=(6, 10), width=24, dim=24, codec="uint8"
    )
    store, draw = create_store(root / "look/features", layout), torch.Generator().manual_seed(0)
    for token in open_dataset(root, split="all", config=DataConfig()).tokens:
        write_depth_map(depth_map_path(root / "look/depth", token, camera), 5 + 20 * torch.rand(size))
        ids = np.full(size, 9, dtype=np.uint8)
        write_class_map(map_path(root / "look/masks", token, camera), ids, ignore_id=255)
        features = torch.randn(1, 24, 6, 10, generator=draw)
        store.write(token, torch.nn.functional.normalize(features, dim=1))


@pytest.fixture(scope="module")
def looked_at(tiny_kitti, tmp_path_factory):
    """The tiny folder with depth, classes and features of every image, LiDAR, and a test sequence without labels."""
    root = tmp_path_factory.mktemp("looked") / "kitti"
    shutil.copytree(tiny_kitti, root)
    shutil.copytree(root / "sequences/08", root / "sequences/11")
    for path in (root / "sequences/11/voxels").glob("*"):
        if path.suffix != ".bin":
            path.unlink()
    look_at(root, "image_2", (24, 40))
    spread = np.random.default_rng(0)
    for frame in (root / "sequences").glob("*/voxels/*.bin"):
        points = spread.uniform((2, -20, -2, 0), (50, 20, 2, 1), size=(500, 4)).astype(np.float32)
        path = frame.parent.parent / "velodyne" / frame.name
        path.parent.mkdir(exist_ok=True)
        points.tofile(path)
    return root


def test_debug_trains_on_a_tiny_folder(looked_at, tmp_path):
    assert train(replace(cigocc.debug(), num_workers=0), looked_at, tmp_path / "run").finished
    model, recipe = load_run(tmp_path / "run", weights="last", device=torch.device("cpu"))
    report = evaluate_model(model, open_dataset(looked_at, split="val", config=recipe.data), ("semantickitti",))
    assert 0 <= report.report()["semantickitti"]["iou"] <= 1
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    found = [line["loss"] for line in lines if "loss" in line]
    assert len(found) == 20
    assert sum(found[-5:]) < 0.95 * sum(found[:5])


def test_a_training_starts_from_what_the_images_learnt_alone(looked_at, tmp_path):
    debug = cigocc.debug()
    alone = cigocc.CigOccImagesConfig(grid=debug.system.grid, channels=16, views=debug.system.views)
    data = replace(debug.data, load_depth=True, image_semantics=None)
    short = replace(debug, steps=2, num_workers=0, evaluate_every=None)
    assert train(replace(short, name="images", system=alone, data=data), looked_at, tmp_path / "images").finished
    still = replace(debug.optim, lr=1e-12, weight_decay=0.0)
    from_there = replace(short, steps=1, optim=still, start=(str(tmp_path / "images"),))
    assert train(from_there, looked_at, tmp_path / "run").finished
    first, second = (read_tensors(tmp_path / name / LAST_FILE) for name in ("images", "run"))
    branch = [name for name in first if name.startswith("views.") and first[name].is_floating_point()]
    assert branch
    assert all(torch.allclose(first[name], second[name], atol=1e-6) for name in branch if "running" not in name)


def test_from_training_to_a_zip_that_the_server_takes(looked_at, tmp_path):
    assert train(replace(cigocc.debug(), num_workers=0, steps=2), looked_at, tmp_path / "run").finished
    dump, archive = tmp_path / "dump", tmp_path / "answers.zip"
    assert (
        main(["predict", str(tmp_path / "run"), "--data", str(looked_at), "--split", "test", "--out", str(dump)]) == 0
    )
    submit = ["convert", str(dump), "--to", "semantickitti-submission", "--out", str(archive)]
    assert main([*submit, "--data", str(looked_at)]) == 0
    assert validate_submission(archive, data_root=looked_at) == []
    with zipfile.ZipFile(archive) as bundle:
        labels = [name for name in bundle.namelist() if name.endswith(".label")]
        assert labels == [f"sequences/11/predictions/{frame:06d}.label" for frame in range(5)]
        ids = np.frombuffer(bundle.read(labels[0]), dtype="<u2")
    found = read_prediction(dump / "11_000000.npz", shape=(16, 16, 2))
    assert (semantickitti_lookup()[ids] == found.ravel()).all()


def test_kitti_360_from_files_to_scores(tmp_path):
    root = tmp_path / "kitti360"
    for drive, frames in (("00", 2), ("06", 1), ("09", 1)):
        write_drive(root, drive, frames)
    look_at(root, "image_00", IMAGE_SIZE)
    debug = cigocc.debug()
    recipe = replace(
        debug,
        system=replace(debug.system, taxonomy="kitti360"),
        data=replace(debug.data, image_size=(48, 176)),
        protocols=("sscbench-kitti360",),
        steps=3,
        evaluate_every=3,
        num_workers=0,
    )
    assert train(recipe, root, tmp_path / "run").finished
    report = tmp_path / "report.json"
    evaluate = ["evaluate", str(tmp_path / "run"), "--data", str(root), "--split", "test"]
    assert main([*evaluate, "--protocol", "sscbench-kitti360", "--json", str(report)]) == 0
    entry = json.loads(report.read_text())["sscbench-kitti360"]
    assert entry["frames"] == 1
    # 512 voxels less one that is invalid and one bicyclist.
    assert np.array(entry["counts"]["confusion"]).sum() == 510


def in_two_stages(steps):
    recipe = replace(cigocc.debug(), num_workers=0, evaluate_every=None, steps=steps, save_every=1)
    recipe = replace(recipe, optim=replace(recipe.optim, schedule=Constant()))
    return replace(recipe, system=replace(recipe.system, two_stage=cigocc.TwoStageConfig(steps=2)))


def test_what_a_stage_does_not_teach_stays_as_it_is_to_the_bit(looked_at, tmp_path):
    """Momentum and weight decay would move what has a gradient of zero."""
    for steps in (1, 2, 4):
        assert train(in_two_stages(steps), looked_at, tmp_path / str(steps)).finished
    one, two, four = (read_tensors(tmp_path / str(steps) / "last.safetensors") for steps in (1, 2, 4))
    first = [name for name in two if name.startswith("first.")]
    later = [name for name in two if not name.startswith("first.") and not name.endswith(("running_mean", "steps"))]
    assert any(not torch.equal(one[name], two[name]) for name in first)
    assert all(torch.equal(two[name], four[name]) for name in first), "frozen"
    assert all(torch.equal(one[name], two[name]) for name in later), "waits"
    assert sum(not torch.equal(two[name], four[name]) for name in later) > 0.9 * len(later)


def test_two_stages_stopped_between_them_go_on_to_the_same_bits(looked_at, tmp_path, monkeypatch):
    assert train(in_two_stages(4), looked_at, tmp_path / "whole").finished
    plain_step = loop._Trainer.train_step

    def interrupted(self, batches):
        if self.step == 1:
            signal.raise_signal(signal.SIGINT)
        return plain_step(self, batches)

    monkeypatch.setattr(loop._Trainer, "train_step", interrupted)
    stopped = train(in_two_stages(4), looked_at, tmp_path / "run")
    assert (stopped.finished, stopped.step) == (False, 2)
    monkeypatch.undo()
    assert train(in_two_stages(4), looked_at, tmp_path / "run", resume=True).finished
    files = [tmp_path / name / "last.safetensors" for name in ("whole", "run")]
    assert files[0].read_bytes() == files[1].read_bytes()


@pytest.mark.parametrize(
    ("part", "problem"),
    [
        ("depth", "no depth map of this image -- write them with occkit look"),
        ("masks", "no such map of an image -- make them with occkit look --masks"),
        ("features", "no features of this frame"),
    ],
)
def test_a_frame_without_an_input_stops_the_training(looked_at, tmp_path, part, problem):
    root = tmp_path / "kitti"
    shutil.copytree(looked_at, root)
    for path in sorted((root / "look" / part).rglob("00_000003*")):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(DataError, match=rf"00_000003.*{problem}"):
        train(replace(cigocc.debug(), num_workers=0, max_train_frames=None), root, tmp_path / "run")


def test_debug_and_nano_train_on_a_world(tmp_path):
    root = tmp_path / "world"
    generate(replace(PRESETS["kitti-nano"], frames=2), root, format="semantickitti", num_scenes=2, seed=5)
    look = ["look", "--data", str(root), "--out", str(root / cigocc.LOOK), "--depth", "stereo", "--masks", "--features"]
    assert main(look) == 0
    debug = replace(cigocc.debug(), steps=4, evaluate_every=4, num_workers=0)
    assert train(debug, root, tmp_path / "debug").finished
    nano = replace(cigocc.nano(), steps=1, batch_size=1, evaluate_every=None, num_workers=0)
    assert train(nano, root, tmp_path / "nano").finished
    control = replace(cigocc.nano_gsd_control(), steps=1, batch_size=1, evaluate_every=None, num_workers=0)
    assert train(control, root, tmp_path / "control").finished
