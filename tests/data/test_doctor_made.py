"""The doctor on what occkit wrote itself: faults of a store, of a teacher's outputs and of pseudo-labels are named."""

import json
import os
from dataclasses import replace

import numpy as np
import pytest
import torch
from test_feature_sharing import LAYOUT, ONE, TWO, make_maps

from fuzz import check_reader
from occkit.cli import main
from occkit.data.doctor import examine
from occkit.data.feature_layout import FeatureCost
from occkit.data.feature_store import DESCRIPTION, create_store
from occkit.data.teaching import describe_teaching, write_teaching
from occkit.files import write_json, write_npz
from occkit.samples import Teaching


def say(path, level="error", **options):
    return [f"{f.path}: {f.problem} | {f.remedy}" for f in examine(path, **options).findings if f.level == level]


@pytest.fixture
def store(tmp_path):
    basis = torch.linalg.qr(torch.randn(16, 4, generator=torch.Generator().manual_seed(0)))[0]
    cost = FeatureCost(frames=2, mean=1e-6, p99=2e-6, words=24, changed=0.5)
    store = create_store(tmp_path / "features", replace(LAYOUT, dim=4), basis, cost=cost)
    store.write("a", make_maps(0, dim=4), ONE)
    store.write("b", make_maps(1, dim=4), TWO)
    store.adopt("c", ONE)
    return store


def test_a_sound_store_is_healthy(store):
    report = examine(store.folder)
    assert report.kind == "features of images"
    assert report.checked == {"frames": 3, "objects": 2, "objects read": 2}
    assert report.healthy
    (cost,) = say(store.folder, "info")
    assert "what writing cost, measured on 2 frames: 1 - cosine 1.0e-06" in cost
    assert say(store.folder, "warning") == []


def flip(path):
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


FAULTS = {
    "bit": (lambda s: flip(s.path("a")), "error", "damaged: its bytes are not those that were written | delete it"),
    "cut": (lambda s: s.path("a").write_bytes(b"x"), "error", "cut short or of another store"),
    "gone": (lambda s: s.path("b").unlink(), "error", "an object that a frame names is gone | run occkit features"),
    "exchanged": (lambda s: s.path("a").write_bytes(s.path("b").read_bytes()), "error", "damaged"),
    "record": (lambda s: (s.folder / "frames/a.json").write_text("{}"), "error", "frames/a.json: expected the SHA-256"),
    "record cut": (lambda s: (s.folder / "frames/a.json").write_text("{"), "error", "is not a JSON document"),
    "basis": (lambda s: next(s.folder.glob("basis-*")).unlink(), "error", "no such file"),
    "description": (lambda s: (s.folder / DESCRIPTION).unlink(), "error", "features.json: no such file"),
    "stranger": (lambda s: (s.folder / "objects/notes.txt").touch(), "warning", "objects/notes.txt: not part of"),
    "stray": (lambda s: (s.folder / "a.features").touch(), "warning", "a.features: not part of the store"),
    "leftover": (lambda s: (s.folder / "objects/.x.1.partial").touch(), "info", "left by a killed writer"),
    "spare": (lambda s: s.write("a", make_maps(5, dim=4), TWO[::-1]) or s.adopt("c", TWO), "info", "no frame names"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_of_a_store_is_named(store, fault):
    damage, level, words = FAULTS[fault]
    assert not any(words in said for said in say(store.folder, level))
    damage(store)
    assert any(words in said for said in say(store.folder, level)), examine(store.folder)
    assert examine(store.folder).healthy == (level != "error")


def test_a_few_objects_are_read_or_all(store):
    assert examine(store.folder, frames=1).checked["objects read"] == 1
    for path in (store.path("a"), store.path("b")):
        flip(path)
    assert len(say(store.folder, frames=None)) == 1, "the same fault of two files is one finding"
    assert main(["doctor", str(store.folder), "--all"]) == 1


def test_damaged_stores_end_in_a_report(store):
    for path in (store.folder / DESCRIPTION, store.folder / "frames/a.json", store.path("a")):
        sound = path.read_bytes()
        check_reader(lambda _: examine(store.folder), sound, path, max_examples=12)
        path.write_bytes(sound)
    assert examine(store.folder).healthy


def test_outputs_of_a_teacher(tmp_path):
    describe_teaching(tmp_path, {"bits": 8})
    for token in ("a", "b"):
        logits = torch.randn(3, 4, 4, 2, generator=torch.Generator().manual_seed(0))
        teaching = Teaching(logits=logits, visible=torch.ones(4, 4, 2, dtype=torch.bool), features=None)
        write_teaching(tmp_path, token, teaching, bits=8)
    report = examine(tmp_path)
    assert (report.kind, report.checked, report.healthy) == ("outputs of a teacher", {"frames": 2}, True)
    whole = (tmp_path / "a.npz").read_bytes()
    place = whole.index(b"logits.npy") + 60
    (tmp_path / "a.npz").write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    assert any("a.npz: logits" in said for said in say(tmp_path)), say(tmp_path)
    write_npz(tmp_path / "a.npz", logits=np.zeros((3, 4, 4, 3), np.uint8))
    assert any("scores of shape" in said or "expected an array named" in said for said in say(tmp_path))


def flip_inside(path):
    """Change a byte of what an archive holds, not of its table."""
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 0x10
    path.write_bytes(data)


@pytest.fixture
def labels(tmp_path):
    write_json(tmp_path / "labels.json", {"format": 1, "taxonomy": "occ3d", "shape": [4, 4, 2]})
    for token in ("a", "b"):
        write_label(tmp_path, token)
    return tmp_path


def write_label(root, token, **changes):
    ids = np.random.default_rng(0).integers(0, 18, (4, 4, 2)).astype(np.uint8)
    mask = np.ones((4, 4, 2), np.uint8)
    arrays = {"semantics": ids, "mask_lidar": mask, "mask_camera": mask, "count": mask.astype(np.uint16)}
    write_npz(root / "gts/scene" / token / "labels.npz", **arrays | changes)


def test_pseudo_labels(labels):
    report = examine(labels)
    assert (report.kind, report.checked, report.healthy) == ("pseudo-labels of occkit label", {"labels": 2}, True)
    assert say(labels, "warning") == []
    write_json(labels / "skipped.json", {"c": "no image"})
    assert any("c: frame without a label | skipped.json says why" in said for said in say(labels, "warning"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"semantics": np.full((4, 4, 2), 19, np.uint8)}, "expected ids 0..17"),
        ({"mask_camera": np.full((4, 4, 2), 2, np.uint8)}, "mask_camera: expected 0 or 1"),
        ({"count": np.zeros((4, 4, 3), np.uint16)}, "count: expected shape (4, 4, 2)"),
        ({n: np.ones((4, 2, 4), np.uint8) for n in ("semantics", "mask_lidar", "mask_camera")}, "expected shape [4, 4"),
    ],
)
def test_each_fault_of_a_pseudo_label_is_named(labels, changes, words):
    write_label(labels, "a", **changes)
    assert any(words in said for said in say(labels)), say(labels)


def test_damaged_pseudo_labels_are_named(labels):
    flip_inside(labels / "gts/scene/a/labels.npz")
    assert len(say(labels)) == 1
    for said in ({"taxonomy": "mine", "shape": [4, 4, 2]}, {"taxonomy": "occ3d", "shape": [4, "4", 2]}, [], {}):
        (labels / "labels.json").write_text(json.dumps(said))
        assert any("expected the name of a taxonomy" in finding for finding in say(labels))
    os.truncate(labels / "labels.json", 3)
    assert not examine(labels).healthy
