"""A teacher's outputs written down: budget, resumption, what the cameras see of them, and the command."""

import json
import shutil
from dataclasses import replace

import pytest
import torch

from occkit.cli import main
from occkit.cli.teach import parse_bytes
from occkit.data import DataConfig, open_dataset
from occkit.data.doctor import examine
from occkit.data.teaching import read_teaching
from occkit.errors import ConfigError, DataError
from occkit.foundation import SimulatedSegmenterConfig, read_segments
from occkit.samples import collate
from occkit.systems import radocc
from occkit.training.checkpoint import save_pretrained
from occkit.training.loop import _frames, _turns
from occkit.training.system import build_system, predict
from occkit.training.teach import (
    choose_bits,
    loss_of_quantisation,
    visible_to_cameras,
    write_segment_maps,
    write_teachings,
)
from occkit.world import PRESETS, generate


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    root = tmp_path_factory.mktemp("teach") / "world"
    generate(replace(PRESETS["nano"], frames=2), root, num_scenes=2, seed=1)
    return root


@pytest.fixture(scope="module")
def teacher():
    torch.manual_seed(0)
    recipe = radocc.debug_teacher()
    return build_system(recipe.system), recipe


def test_the_budget_decides_the_bits():
    assert choose_bits(10, 1000, None) == 8
    assert choose_bits(10, 1000, 20_000) == 16
    assert choose_bits(10, 1000, 19_999) == 8
    with pytest.raises(ConfigError, match=r"need 10,000 bytes at 8 bits, 9,999 are allowed"):
        choose_bits(10, 1000, 9_999)


@pytest.mark.parametrize(("text", "number"), [("500", 500), ("1.5kB", 1500), ("20 GB", 20 * 10**9), ("3T", 3 * 10**12)])
def test_sizes(text, number):
    assert parse_bytes(text) == number


@pytest.mark.parametrize("text", ["", "GB", "-3MB", "1e9", "4 apples"])
def test_what_is_no_size(text):
    with pytest.raises(ConfigError, match="expected a size such as 500MB"):
        parse_bytes(text)


def test_outputs_are_what_the_teacher_says(world, teacher, tmp_path):
    model, recipe = teacher
    frames = open_dataset(world, split="train", config=recipe.data)
    assert write_teachings(model, frames, tmp_path / "t", features=True, budget_bytes=10**8, progress=False) == 2
    assert write_teachings(model, frames, tmp_path / "t", features=True, budget_bytes=10**8, progress=False) == 0
    batch = collate([frames[0]])
    with torch.no_grad():
        said = predict(model.eval(), batch)
    back = read_teaching(tmp_path / "t", frames.tokens[0], num_classes=18, shape=frames.grid.shape, features=True)
    assert (back.logits - said.logits[0]).abs().max() < 1e-3
    assert (back.features - said.features[0]).abs().max() < 1e-3
    assert 0 < back.visible.float().mean() < 1


def test_what_quantisation_costs_is_measured(world, teacher, tmp_path):
    model, recipe = teacher
    frames = open_dataset(world, split="train", config=recipe.data)
    lost = []
    for bits, budget in ((8, None), (16, 10**9)):
        write_teachings(model, frames, tmp_path / str(bits), budget_bytes=budget, progress=False)
        lost.append(loss_of_quantisation(model, frames, tmp_path / str(bits)))
    assert lost[0].frames == len(frames)
    assert 0 < lost[1].divergence < 1e-3 * lost[0].divergence
    assert lost[1].changed <= lost[0].changed < 0.2
    # What another teacher wrote differs by more than any rounding.
    torch.manual_seed(1)
    other = loss_of_quantisation(build_system(recipe.system), frames, tmp_path / "8")
    assert other.divergence > 10 * lost[0].divergence


def test_another_teacher_needs_another_folder(world, teacher, tmp_path):
    model, recipe = teacher
    frames = open_dataset(world, split="train", config=recipe.data)
    write_teachings(model, frames, tmp_path / "t", progress=False)
    torch.manual_seed(1)
    with pytest.raises(DataError, match="give a new folder"):
        write_teachings(build_system(recipe.system), frames, tmp_path / "t", progress=False)


def test_a_system_without_features_is_named(world, teacher, tmp_path, monkeypatch):
    model, recipe = teacher
    frames = open_dataset(world, split="train", config=recipe.data)
    forward = type(model).forward
    monkeypatch.setattr(type(model), "forward", lambda self, batch: replace(forward(self, batch), features=None))
    with pytest.raises(ConfigError, match="shares no voxel features"):
        write_teachings(model, frames, tmp_path / "t", features=True, progress=False)


def test_cameras_see_up_to_the_first_surface_and_not_behind(world):
    frame = open_dataset(world, split="train", config=DataConfig())[0]
    empty = torch.zeros(frame.grid.shape, dtype=torch.bool)
    everything = visible_to_cameras(empty, frame.cameras[0], frame.grid)
    label = frame.occupancy
    seen = visible_to_cameras(label.occupied, frame.cameras[0], frame.grid)
    assert bool((everything | ~seen).all())
    assert seen.sum() < everything.sum()
    # The mask of the label comes from finer rays through finer geometry.
    agreement = (seen == label.mask_camera).float().mean()
    assert agreement > 0.85


def test_segments_are_written_once(world, tmp_path):
    images = open_dataset(world, split="train", config=DataConfig(load_depth=False))
    write_segment_maps(SimulatedSegmenterConfig(root=world).build(), images, tmp_path, progress=False)
    size = tuple(images[0].images.shape[-2:])
    first = tmp_path / images.tokens[0] / f"{images.camera_names[0]}.png"
    assert read_segments(first, size=size).max() > 1
    before = first.stat().st_mtime_ns
    write_segment_maps(SimulatedSegmenterConfig(root=world).build(), images, tmp_path, progress=False)
    assert first.stat().st_mtime_ns == before


def test_the_command_writes_what_a_student_reads(world, teacher, tmp_path, capsys):
    model, recipe = teacher
    root = tmp_path / "data"
    shutil.copytree(world, root)
    save_pretrained(model, recipe, tmp_path / "model")
    command = ["teach", str(tmp_path / "model"), "--data", str(root), "--segments", "simulated"]
    assert main(command) == 0
    assert main([*command, "--json", str(tmp_path / "t.json")]) == 0
    said = capsys.readouterr().out
    assert "2 frames, 2 were there" in said
    told = json.loads((tmp_path / "t.json").read_text())
    assert told["frames"] == told["cost"]["frames"] == 2
    assert f"{100 * told['cost']['changed']:.3f} % of the visible voxels" in said
    assert json.loads((root / "teaching/radocc/teaching.json").read_text())["cost"] == told["cost"]
    assert examine(root / "teaching/radocc").healthy
    student = radocc.debug()
    sample = _frames(root, replace(student, max_train_frames=None), "train")[0]
    assert sample.teaching is not None
    assert sample.segments is not None
    assert main([*command[:-1], "sam"]) == 1
    assert "--segments sam and --sam WEIGHTS go together" in capsys.readouterr().err


def test_few_labels_are_spread_evenly(world):
    recipe = replace(radocc.debug(), max_train_frames=2, max_labelled_frames=1)
    recipe = replace(recipe, data=replace(recipe.data, teaching=None, segments=None))
    frames = _frames(world, recipe, "train")
    assert len(frames.withheld) == 1
    assert _turns(frames, recipe) is None
    turns = _turns(frames, replace(recipe, labelled_share=0.5))
    assert turns is not None
    assert frames.tokens[turns.second[0]] in frames.withheld
    assert frames.tokens[turns.first[0]] not in frames.withheld
    assert _frames(world, recipe, "val").withheld == frozenset()
