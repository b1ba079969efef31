"""Features on disk: what quantising loses, single rays, interruption, damage."""

import json
import mmap
import os
import resource
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from fuzz import check_reader
from occkit.data.feature_store import DESCRIPTION, FeatureLayout, FeatureStore, create_store
from occkit.errors import DataError
from occkit.files import write_json

LAYOUT = FeatureLayout(
    source={"extractor": {"features": "test", "size": [1, 2]}, "subspace": None},
    cameras=("front", "back", "left"),
    image_size=(40, 60),
    map_size=(5, 6),
    width=16,
    dim=16,
    codec="float16",
)
ERROR = {"float16": 1e-6, "uint8": 1e-4}
"""Bounds on 1 - cosine."""


def make_maps(seed=0, layout=LAYOUT):
    count, rows, columns, dim = layout.shape
    draw = torch.Generator().manual_seed(seed)
    # As features are: all have much in common.
    return functional.normalize(torch.randn(count, dim, rows, columns, generator=draw) + 3.0, dim=1)


def basis_in(folder):
    (path,) = folder.glob("basis-*.npz")
    return path


def make_basis(width=16, dim=4):
    return torch.linalg.qr(torch.randn(width, dim, generator=torch.Generator().manual_seed(0)))[0]


@pytest.fixture(params=["float16", "uint8"])
def store(tmp_path, request):
    store = create_store(tmp_path / "s", replace(LAYOUT, codec=request.param))
    store.write("a", make_maps())
    return store


def test_round_trip(store):
    back = FeatureStore(store.folder)
    assert back.layout == store.layout
    assert back.basis is None
    found, true = back.read("a"), make_maps()
    assert found.shape == true.shape
    assert torch.allclose(found.norm(dim=1), torch.ones(3, 5, 6), atol=1e-5)
    assert (1 - (found * true).sum(1)).max() < ERROR[store.layout.codec]
    assert not torch.allclose(found, make_maps(1), atol=0.01)


def test_a_file_is_as_large_as_the_layout_says(store):
    numbers = 3 * 5 * 6 * 16
    expected = {"float16": 48 + 2 * numbers, "uint8": 48 + 8 * 16 + numbers}[store.layout.codec]
    assert store.path("a").stat().st_size == store.layout.frame_bytes == expected


def test_the_same_features_are_the_same_bytes(store, tmp_path):
    other = create_store(tmp_path / "other", store.layout)
    other.write("a", make_maps())
    assert other.path("a").read_bytes() == store.path("a").read_bytes()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 999), st.floats(1e-3, 1.0))
def test_a_number_is_off_by_half_a_step_of_its_channel(tmp_path_factory, seed, spread):
    maps = functional.normalize(make_maps(seed) * torch.linspace(spread, 1, 16)[:, None, None], dim=1)
    store = create_store(tmp_path_factory.mktemp("s"), replace(LAYOUT, codec="uint8"))
    store.write("a", maps)
    codes, limits = store._open("a", scattered=False)
    vectors = torch.from_numpy(store._decode("a", codes.reshape(-1, 16), limits))
    vectors = vectors.reshape(store.layout.shape).permute(0, 3, 1, 2)
    step = (maps.amax((0, 2, 3)) - maps.amin((0, 2, 3))) / 255
    assert ((vectors - maps).abs().amax((0, 2, 3)) <= 0.51 * step + 1e-6).all()


def test_rays_see_what_bilinear_sampling_of_the_whole_map_gives(store):
    draw = torch.Generator().manual_seed(3)
    cameras = torch.randint(0, 3, (200,), generator=draw)
    pixels = torch.rand(200, 2, generator=draw) * torch.tensor([60.0, 40.0])
    pixels[:4] = torch.tensor([[0.0, 0.0], [60.0, 40.0], [0.0, 40.0], [60.0, 20.0]])
    found = store.sample("a", cameras, pixels)
    grid = (pixels / torch.tensor([60.0, 40.0]) * 2 - 1)[:, None, None]
    maps = store.read("a")[cameras]
    expected = functional.grid_sample(maps, grid, align_corners=False, padding_mode="border")[..., 0, 0]
    assert torch.allclose(found, functional.normalize(expected, dim=-1), atol=1e-4)


def test_a_ray_by_hand(tmp_path):
    """Of 10 x 10 pixels a cell: pixel centre (5, 5) is the centre of the first, (10, 5) lies between two."""
    layout = replace(LAYOUT, cameras=("front",), image_size=(20, 20), map_size=(2, 2), width=4, dim=4)
    store = create_store(tmp_path, layout)
    store.write("a", torch.eye(4).reshape(2, 2, 4).permute(2, 0, 1)[None])
    pixels = torch.tensor([[5.0, 5.0], [15.0, 5.0], [5.0, 15.0], [10.0, 5.0], [10.0, 10.0], [1.0, 19.0], [7.5, 5.0]])
    half = 0.5**0.5
    left = functional.normalize(torch.tensor([3.0, 1.0, 0.0, 0.0]), dim=0).tolist()
    expected = torch.tensor(
        [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [half, half, 0, 0], [0.5, 0.5, 0.5, 0.5], [0, 0, 1, 0], left]
    )
    assert torch.allclose(store.sample("a", torch.zeros(7).long(), pixels), expected, atol=1e-3)
    assert store.sample("a", torch.zeros(0).long(), torch.zeros(0, 2)).shape == (0, 4)


def test_rays_are_read_without_the_file(tmp_path):
    """Of a file of eight gigabytes, most of it a hole, a thousand rays take hardly any memory."""
    layout = replace(LAYOUT, cameras=("front",), image_size=(4000, 4000), map_size=(4000, 4000), width=256, dim=256)
    store, key = create_store(tmp_path, layout), "0" * 64
    write_json(tmp_path / "frames/a.json", {"object": key, "images": []})
    store.object_path(key).parent.mkdir()
    with store.object_path(key).open("wb") as stream:
        stream.write(store._tag)
        stream.truncate(layout.frame_bytes)
    assert layout.frame_bytes > 8e9
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    pixels = 4000 * torch.rand(1000, 2, generator=torch.Generator().manual_seed(0))
    assert store.sample("a", torch.zeros(1000).long(), pixels).abs().max() == 0, "zeros stay zeros"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000


def test_the_system_does_not_read_ahead_of_rays(store, monkeypatch):
    advice = []

    class Pages(mmap.mmap):
        def madvise(self, option):
            advice.append(option)

    monkeypatch.setattr(mmap, "mmap", Pages)
    store.read("a")
    assert advice == []
    store.sample("a", torch.zeros(1).long(), torch.zeros(1, 2))
    assert advice == [mmap.MADV_RANDOM]


def test_pixels_and_cameras_that_are_none_are_refused(store):
    one = torch.zeros(1).long()
    for wrong in ([-0.1, 0.0], [60.1, 0.0], [0.0, 40.1], [float("nan"), 0.0]):
        with pytest.raises(ValueError, match="pixels: expected"):
            store.sample("a", one, torch.tensor([wrong]))
    with pytest.raises(ValueError, match="pixels: expected one a camera"):
        store.sample("a", torch.zeros(2).long(), torch.zeros(1, 2))
    for camera in (-1, 3):
        with pytest.raises(ValueError, match=r"cameras: expected 0\.\.2"):
            store.sample("a", one + camera, torch.zeros(1, 2))


def test_what_is_no_feature_is_not_written(store):
    for wrong in (make_maps()[:2], make_maps().permute(0, 2, 3, 1)):
        with pytest.raises(ValueError, match=r"maps: expected \(3, 16, 5, 6\)"):
            store.write("b", wrong)
    for number in (float("nan"), float("inf"), 1.5):
        maps = make_maps()
        maps[1, 2, 3, 4] = number
        with pytest.raises(ValueError, match="maps: expected vectors of length 1"):
            store.write("b", maps)
    assert not store.has("b")


def test_the_basis_travels_with_the_features(tmp_path):
    layout, basis = replace(LAYOUT, dim=4), make_basis()
    store = create_store(tmp_path, layout, basis)
    store.write("a", make_maps(layout=layout))
    assert torch.equal(FeatureStore(tmp_path).basis, basis)
    # The same vocabulary on another machine: the folder keeps its own.
    assert torch.equal(create_store(tmp_path, layout, basis + 1e-7).basis, basis)
    for wrong in (None, make_basis(16, 5), make_basis(15, 4)):
        with pytest.raises(ValueError, match=r"basis: expected \(16, 4\)"):
            create_store(tmp_path, layout, wrong)
    full = tmp_path / "full"
    create_store(full, LAYOUT, make_basis(16, 16))
    with pytest.raises(DataError, match="different: basis"):
        create_store(full, LAYOUT)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("source", {"extractor": {"features": "other"}}),
        ("codec", "uint8"),
        ("cameras", ("front", "left", "back")),
        ("image_size", (20, 60)),
        ("map_size", (6, 5)),
    ],
)
def test_kinds_are_not_mixed(tmp_path, key, value):
    create_store(tmp_path, LAYOUT).write("a", make_maps())
    other = replace(LAYOUT, **{key: value})
    with pytest.raises(DataError, match=rf"holds other features \(different: {key}\) -- give a new folder"):
        create_store(tmp_path, other)
    # Nor by carrying a file over.
    create_store(tmp_path / "other", other)
    for name in ("frames", "objects"):
        shutil.copytree(tmp_path / name, tmp_path / "other" / name)
    for ask in (FeatureStore(tmp_path / "other").read, FeatureStore(tmp_path / "other").check):
        with pytest.raises(DataError, match=r"\.features: (expected .* bytes, got|does not belong|belongs to another)"):
            ask("a")


def test_files_without_a_description_are_left_alone(tmp_path):
    create_store(tmp_path, LAYOUT).write("a", make_maps())
    (tmp_path / DESCRIPTION).unlink()
    with pytest.raises(DataError, match=r"no features\.json that says of what -- give a new folder"):
        create_store(tmp_path, LAYOUT)
    with pytest.raises(DataError, match=r"no store of features -- write one with occkit features"):
        FeatureStore(tmp_path)


def test_what_is_cut_short_is_named_and_not_taken_for_there(store):
    path = store.path("a")
    whole = path.read_bytes()
    assert store.has("a")
    for damaged in (whole[:-1], whole + b"x", whole[:10], b""):
        path.write_bytes(damaged)
        assert not store.has("a")
        for read in (store.read, lambda token: store.sample(token, torch.zeros(1).long(), torch.zeros(1, 2))):
            expected = rf"{path.name}: expected {len(whole):,} bytes, got {len(damaged):,} -- write it again"
            with pytest.raises(DataError, match=expected):
                read("a")
    with pytest.raises(DataError, match=r"b\.json: no features of this frame -- run occkit features"):
        store.read("b")
    assert not store.has("b")


def test_numbers_that_are_no_features_are_named(store):
    path = store.path("a")
    whole = bytearray(path.read_bytes())
    whole[48:56] = np.array([np.nan, 9.0], "<f4").tobytes() if store.layout.codec == "uint8" else b"\xff" * 8
    path.write_bytes(whole)
    with pytest.raises(DataError, match=r"\.features: holds numbers beyond -1\.\.1 -- delete it"):
        store.read("a")


def test_damaged_frames_end_in_a_data_error(store):
    path, pixels = store.path("a"), torch.tensor([[1.0, 2.0], [59.0, 3.0]])

    def read(_):
        store.sample("a", torch.tensor([0, 2]), pixels)
        store.read("a")

    check_reader(read, path.read_bytes(), path)


def test_damaged_descriptions_end_in_a_data_error(tmp_path):
    create_store(tmp_path, replace(LAYOUT, dim=4), make_basis()).write("a", make_maps(layout=replace(LAYOUT, dim=4)))
    for path in (tmp_path / DESCRIPTION, basis_in(tmp_path), tmp_path / "frames/a.json"):
        sound = path.read_bytes()
        check_reader(lambda _: FeatureStore(tmp_path).read("a"), sound, path)
        path.write_bytes(sound)
    assert FeatureStore(tmp_path).has("a")


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(["format", "source", "cameras", "image_size", "map_size", "width", "dim", "codec", "basis_sha256",
                     "by_name", "cost"]),
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.just(10**400), st.floats(allow_nan=False, allow_infinity=False),
        st.text(max_size=5), st.lists(st.one_of(st.integers(-3, 2**40), st.text(max_size=3), st.none()), max_size=3),
        st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
    ),
)  # fmt: skip
def test_any_other_description_ends_in_a_data_error(tmp_path_factory, key, value):
    folder = tmp_path_factory.mktemp("s")
    create_store(folder, LAYOUT).write("a", make_maps())
    path = folder / DESCRIPTION
    before = json.loads(path.read_text())
    path.write_text(json.dumps(before | {key: value}))
    if json.dumps(before[key]) == json.dumps(value) or (key == "cost" and value is None):
        FeatureStore(folder).read("a")
        return
    with pytest.raises(DataError) as caught:
        FeatureStore(folder).read("a")
    assert str(folder) in str(caught.value)
    assert caught.value.remedy


def test_a_basis_of_another_store_is_named(tmp_path):
    create_store(tmp_path, replace(LAYOUT, dim=4), make_basis())
    path = basis_in(tmp_path)
    np.savez(path, basis=-make_basis().numpy())
    with pytest.raises(DataError, match=r"basis-\w+\.npz: is not the basis that features\.json names"):
        FeatureStore(tmp_path)
    path.unlink()
    with pytest.raises(DataError, match=r"basis-\w+\.npz: no such file"):
        FeatureStore(tmp_path)


def test_layouts_are_checked():
    for wrong in ({"dim": 17}, {"dim": 0}, {"map_size": (0, 2)}, {"cameras": ()}, {"cameras": ("a", "a")}):
        with pytest.raises(ValueError, match="FeatureLayout: expected"):
            replace(LAYOUT, **wrong)
    with pytest.raises(ValueError, match=r"sizes in 1\.\."):
        replace(LAYOUT, image_size=(10**400, 60))
    with pytest.raises(ValueError, match="float16 or uint8"):
        replace(LAYOUT, codec="int4")
    with pytest.raises(ValueError, match="64 GiB"):
        replace(LAYOUT, map_size=(2**20, 2**20))


def test_a_killed_writer_leaves_nothing_half_written(tmp_path):
    """Killed while the bytes go to disk: no frame is there, and the next attempt gives what one attempt gives."""
    program = f"""
import os, torch
from pathlib import Path
from occkit.data.feature_store import FeatureStore
real = Path.replace
Path.replace = lambda self, target: os._exit(9)
store = FeatureStore(Path({str(tmp_path)!r}))
store.write("a", torch.ones(3, 16, 5, 6) / 4)
"""
    store = create_store(tmp_path, LAYOUT)
    assert subprocess.run([sys.executable, "-c", program], env=os.environ, check=False).returncode == 9
    assert len(list(tmp_path.glob("objects/.*.features.*.partial"))) == 1
    assert not store.has("a")
    store.write("a", torch.ones(3, 16, 5, 6) / 4)
    assert torch.allclose(store.read("a"), torch.full((3, 16, 5, 6), 0.25))
