"""The feature store as several frames and several processes share it: what names an object, and what finds damage."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.nn import functional

from occkit.data import feature_store
from occkit.data.feature_bytes import file_digest, file_digests
from occkit.data.feature_layout import FeatureCost, FeatureLayout
from occkit.data.feature_store import DESCRIPTION, FeatureStore, create_store
from occkit.errors import DataError
from occkit.files import create_bytes, remove_partials

LAYOUT = FeatureLayout(
    source={"extractor": {"features": "test"}, "subspace": None},
    cameras=("front", "back"),
    image_size=(40, 60),
    map_size=(5, 6),
    width=16,
    dim=16,
    codec="uint8",
    by_name=False,
)
ONE, TWO, THREE = ("1" * 64, "a" * 64), ("1" * 64, "b" * 64), ("c" * 64, "d" * 64)


def make_maps(seed=0, dim=16):
    draw = torch.Generator().manual_seed(seed)
    return functional.normalize(torch.randn(2, dim, 5, 6, generator=draw) + 3.0, dim=1)


def objects_in(folder):
    return sorted(path.name for path in (folder / "objects").iterdir() if not path.name.startswith("."))


def contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_frames_of_the_same_images_share_an_object(tmp_path):
    store = create_store(tmp_path, LAYOUT)
    store.write("a", make_maps(), ONE)
    assert not store.adopt("b", TWO), "one other image, other features"
    assert not store.has("b")
    assert store.adopt("b", ONE)
    assert store.path("b") == store.path("a")
    assert len(objects_in(tmp_path)) == 1
    assert torch.equal(FeatureStore(tmp_path).read("b"), store.read("a"))
    store.write("c", make_maps(1), TWO)
    assert len(objects_in(tmp_path)) == 2
    assert store.tokens() == ["a", "b", "c"]
    for token in store.tokens():
        store.check(token)


def test_the_order_of_images_and_every_setting_name_the_object(tmp_path):
    """Nor do two stores of other settings ever have a key in common."""
    store = create_store(tmp_path / "s", LAYOUT)
    keys = {store.key("a", ONE), store.key("a", ONE[::-1]), store.key("a", TWO), store.key("a", ONE[:1])}
    for change in ({"codec": "float16"}, {"source": {}}, {"image_size": (41, 60)}, {"cameras": ("back", "front")}):
        keys.add(create_store(tmp_path / str(change), replace(LAYOUT, **change)).key("a", ONE))
    assert len(keys) == 8
    assert store.key("a", ONE) == store.key("b", ONE)
    named = create_store(tmp_path / "named", replace(LAYOUT, by_name=True))
    assert named.key("a", ONE) != named.key("b", ONE), "a stand-in's features depend on the frame's name"


def test_changed_images_are_not_taken_for_the_same(tmp_path):
    store = create_store(tmp_path, LAYOUT)
    store.write("a", make_maps(), ONE)
    assert store.has("a")
    assert store.has("a", ONE)
    assert not store.has("a", TWO)
    assert not store.has("a", ONE[::-1])
    reader = FeatureStore(tmp_path)
    before = reader.read("a")
    store.write("a", make_maps(1), TWO)
    assert store.has("a", TWO)
    assert torch.equal(reader.read("a"), before), "who has begun to read goes on with what there was"
    assert not torch.equal(FeatureStore(tmp_path).read("a"), before)


def test_without_images_the_numbers_name_the_object(tmp_path):
    store = create_store(tmp_path, LAYOUT)
    for token, seed in (("a", 0), ("b", 0), ("c", 1)):
        store.write(token, make_maps(seed))
        store.check(token)
    assert store.path("a") == store.path("b") != store.path("c")
    assert not store.has("a", ONE), "nobody knows what it was made of"


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(place=st.integers(0, 10**6), bit=st.integers(0, 7))
def test_any_flipped_bit_is_found_and_named(tmp_path_factory, place, bit):
    store = create_store(tmp_path_factory.mktemp("s"), LAYOUT)
    store.write("a", make_maps(), ONE)
    store.check("a")
    path = store.path("a")
    data = bytearray(path.read_bytes())
    data[place % len(data)] ^= 1 << bit
    path.write_bytes(data)
    with pytest.raises(DataError, match=rf"{path.name}: (damaged|belongs to another)") as caught:
        store.check("a")
    assert caught.value.remedy == "delete it, and run occkit features again"
    assert store.has("a"), "its size is right: only reading it all finds this"


def test_what_is_cut_misplaced_or_gone_is_found(tmp_path):
    store = create_store(tmp_path, LAYOUT)
    for token, seed, images in (("a", 0, ONE), ("b", 1, TWO)):
        store.write(token, make_maps(seed), images)
    path, other = store.path("a"), store.path("b")
    whole = path.read_bytes()
    for wrong, said in (
        (whole[:-1], "expected .* bytes, got"),
        (b"", "expected .* bytes, got 0"),
        (whole + b"x", "expected"),
        (other.read_bytes(), "damaged"),
    ):
        path.write_bytes(wrong)
        with pytest.raises(DataError, match=rf"{path.name}: {said}"):
            store.check("a")
    path.unlink()
    with pytest.raises(DataError, match=rf"{path.name}: no such file"):
        store.check("a")
    assert not store.has("a")
    with pytest.raises(DataError, match="the features of frame a are gone -- run occkit features"):
        store.read("a")
    store.check("b")
    # A record that was carried over from another frame.
    (tmp_path / "frames/b.json").write_text(json.dumps({"object": store.key("b", ONE), "images": list(TWO)}))
    with pytest.raises(DataError, match=r"b\.json: names an object that was not made of its images -- delete it"):
        FeatureStore(tmp_path).check("b")
    assert not store.has("b", TWO)


def test_what_it_cost_is_kept_and_does_not_name_anything(tmp_path):
    cost = FeatureCost(frames=3, mean=1e-6, p99=2e-6, words=24, changed=0.01)
    store = create_store(tmp_path / "a", LAYOUT, cost=cost)
    assert FeatureStore(tmp_path / "a").cost == cost
    assert "1.000 % of the cells have another best word of 24" in str(cost)
    assert create_store(tmp_path / "b", LAYOUT).key("t", ONE) == store.key("t", ONE)
    assert create_store(tmp_path / "a", LAYOUT).cost == cost, "the folder keeps its own"


def test_the_earlier_format_is_named(tmp_path):
    create_store(tmp_path, LAYOUT)
    said = json.loads((tmp_path / DESCRIPTION).read_text())
    (tmp_path / DESCRIPTION).write_text(json.dumps(said | {"format": 1}))
    with pytest.raises(DataError, match=r"format 1, .* is of an earlier occkit.* -- write the features again"):
        FeatureStore(tmp_path)
    (tmp_path / DESCRIPTION).unlink()
    (tmp_path / "a.features").write_bytes(b"x")
    with pytest.raises(DataError, match=r"no features\.json that says of what"):
        create_store(tmp_path, LAYOUT)


def test_digests_are_of_the_bytes(tmp_path):
    data = os.urandom(3 * 2**20 + 7)
    (tmp_path / "a").write_bytes(data)
    assert file_digest(tmp_path / "a") == hashlib.sha256(data).hexdigest()
    assert file_digests([tmp_path / "a", tmp_path / "a"]) == (file_digest(tmp_path / "a"),) * 2
    with pytest.raises(DataError, match="no such file"):
        file_digest(tmp_path / "b")


def test_a_file_is_created_once(tmp_path):
    assert create_bytes(tmp_path / "new/a", b"one")
    assert not create_bytes(tmp_path / "new/a", b"two")
    assert contents(tmp_path) == {"new/a": b"one"}
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DataError, match="cannot be written"):
        create_bytes(tmp_path / "file/a", b"")


def test_old_leftovers_are_removed_and_young_ones_are_somebodys(tmp_path):
    store = create_store(tmp_path, LAYOUT)
    store.write("a", make_maps(), ONE)
    old, young = (tmp_path / "objects" / f".{name}.features.1-2-3.partial" for name in ("x", "y"))
    for path in (old, young):
        path.write_bytes(b"half")
    os.utime(old, (time.time() - 4000,) * 2)
    assert create_store(tmp_path, LAYOUT).has("a")
    assert not old.exists()
    assert young.exists()
    assert remove_partials(tmp_path / "objects", age=-1) == 1
    assert len(objects_in(tmp_path)) == 1


def fill(folder, number, *, forever):
    """What one writer does: each begins elsewhere, so that they write different frames and, later on, the same."""
    basis = torch.linalg.qr(torch.randn(16, 8, generator=torch.Generator().manual_seed(0)))[0]
    store = create_store(folder, replace(LAYOUT, dim=8), basis)
    while True:
        for turn in range(24):
            frame = (turn + 8 * number) % 24
            images = (f"{frame % 20:064x}", "f" * 64)
            if forever or not store.has(str(frame), images):
                store.write(str(frame), make_maps(frame % 20, dim=8), images)
                print(frame, flush=True)
        if not forever:
            return


def start(folder, number, *, forever=False):
    here = Path(__file__).parent
    program = f"""
import sys, time
sys.path += [{str(here)!r}, {str(here.parent)!r}]
from test_feature_sharing import Path, fill, torch
torch.set_num_threads(1)
print("ready", flush=True)
sys.stdin.readline()
fill(Path({str(folder)!r}), {number}, forever={forever})
"""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    return subprocess.Popen([sys.executable, "-c", program], env=os.environ, text=True, **pipes)


def test_many_writers_one_of_them_killed_end_with_the_bytes_of_one(tmp_path):
    alone, many = tmp_path / "alone", tmp_path / "many"
    fill(alone, 0, forever=False)
    writers = [start(many, 0), start(many, 1), start(many, 2, forever=True)]
    for writer in writers:
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        writer.stdin.write("go\n")
        writer.stdin.flush()
    for _ in range(30):
        assert writers[2].stdout.readline()
    writers[2].send_signal(signal.SIGKILL)
    assert writers[2].wait() == -signal.SIGKILL
    for writer in writers[:2]:
        assert writer.wait(timeout=300) == 0
    for inside in (many, many / "objects", many / "frames"):
        remove_partials(inside, age=-1)
    store = FeatureStore(many)
    assert len(store.tokens()) == 24
    assert len(objects_in(many)) == 20, "four frames have the images of others"
    for token in store.tokens():
        store.check(token)
    assert contents(many) == contents(alone)


def test_who_describes_the_folder_first_decides_on_the_basis(tmp_path):
    """Two machines find bases that differ in the last bits, and neither has seen the other's description."""
    layout = replace(LAYOUT, dim=4)
    basis = torch.linalg.qr(torch.randn(16, 4, generator=torch.Generator().manual_seed(0)))[0]
    first = create_store(tmp_path, layout, basis)
    first.write("a", make_maps(dim=4), ONE)
    feature_store._describe(tmp_path / DESCRIPTION, layout, basis + 1e-6, None)
    second = create_store(tmp_path, layout, basis + 1e-6)
    assert torch.equal(second.basis, basis)
    second.check("a")
