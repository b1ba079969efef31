"""Writers that never leave half a file, readers that answer damage and malice with DataError only."""

import gc
import io
import json
import os
import struct
import sys
import tracemalloc
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fuzz import check_reader
from occkit import files
from occkit.data import json_records
from occkit.errors import DataError

quick = settings(max_examples=20, deadline=None, database=None)


@pytest.fixture
def little_memory():
    """Fail if a reader sets aside more than 8 MiB for what a hostile file claims to hold."""
    tracemalloc.start()
    yield
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * 2**20


def npy(array=None, *, header=None, data=b""):
    stream = io.BytesIO()
    if header is None:
        np.lib.format.write_array(stream, array)
        return stream.getvalue()
    text = repr(header).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + data


def npz(members, method=zipfile.ZIP_DEFLATED):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(f"{name}.npy", data)
    return stream.getvalue()


def header_of(shape, descr="|u1"):
    return {"descr": descr, "fortran_order": False, "shape": shape}


def test_writing_replaces_whole_files_and_leaves_nothing_beside(tmp_path):
    path = tmp_path / "deep/er/a.bin"
    files.write_bytes(path, b"old")
    files.write_bytes(path, b"new")
    assert path.read_bytes() == b"new"
    assert [p.name for p in path.parent.iterdir()] == ["a.bin"]


def test_a_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.bin"
    files.write_bytes(path, b"old")

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.replace", fail)
    with pytest.raises(DataError, match="No space left"):
        files.write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.bin"]


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DataError, match="cannot be written"):
        files.write_bytes(tmp_path / "file/below/a", b"")


def test_json_round_trip_and_what_json_cannot_say(tmp_path):
    value = {"b": [1, 2.5, None, "ä"], "a": {}}
    files.write_json(tmp_path / "a.json", value)
    assert files.read_json(tmp_path / "a.json") == value
    for wrong in (float("nan"), float("inf"), {1, 2}, object()):
        with pytest.raises(ValueError, match=r"a\.json"):
            files.write_json(tmp_path / "a.json", wrong)
    assert files.read_json(tmp_path / "a.json") == value


@pytest.mark.parametrize(
    "text", ["", "{", "NaN", "[1, Infinity]", "[" * 100_000, '{"a":' * 100_000, "1" * 10_000, '"\\ud800', "\x00"]
)
def test_what_is_not_json(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(DataError, match="JSON"):
        files.read_json(tmp_path / "a.json")
    with pytest.raises(DataError, match="JSON"):
        list(json_records.iterate_json_records(tmp_path / "a.json"))


@quick
@given(st.lists(st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=9) | st.lists(st.integers()))))
def test_streamed_records_are_those_of_the_document(tmp_path_factory, records):
    path = tmp_path_factory.mktemp("json") / "a.json"
    for indent in (None, 2):
        path.write_text(json.dumps(records, indent=indent))
        for chunk in (1, 2, 7, 2**20):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(json_records, "_CHUNK_CHARS", chunk)
                assert list(json_records.iterate_json_records(path)) == records


@pytest.mark.parametrize(
    "text",
    ["{}", "[1]", "[{}", "[{},", "[{} {}]", "[{}]x", "[{}] {}", "[,{}]", "[{},]x", '[{"a": NaN}]', "[[]]", "null"],
)
def test_what_is_not_a_list_of_records(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(DataError, match="list of records"):
        list(json_records.iterate_json_records(tmp_path / "a.json"))


@pytest.mark.usefixtures("little_memory")
def test_a_record_without_end_is_given_up(tmp_path):
    with (tmp_path / "a.json").open("w") as stream:
        stream.write('[{"a": "')
        for _ in range(100):
            stream.write("x" * 2**20)
    with pytest.raises(DataError, match="longer than a million"):
        list(json_records.iterate_json_records(tmp_path / "a.json"))


@quick
@given(
    hnp.arrays(
        st.sampled_from([np.uint8, np.bool_, np.dtype("<i4"), np.dtype(">f4"), np.float64]),
        hnp.array_shapes(min_dims=0, max_dims=4, max_side=4),
    )
)
def test_arrays_come_back(tmp_path_factory, array):
    path = tmp_path_factory.mktemp("npz") / "a.npz"
    files.write_npz(path, one=array, two=np.asfortranarray(array))
    for key in ("one", "two"):
        back = files.read_npz_array(path, key)
        assert back.flags.c_contiguous
        assert back.flags.writeable
        assert back.dtype == array.dtype.newbyteorder("=")
        np.testing.assert_array_equal(back, array)
        with np.load(path) as loaded:
            np.testing.assert_array_equal(loaded[key], array)
    assert files.npz_keys(path) == ("one", "two")
    np.save(path.with_suffix(".npy"), np.asfortranarray(array))
    np.testing.assert_array_equal(files.read_npy(path.with_suffix(".npy")), array)


def test_threads_read_headers_at_the_same_time(tmp_path):
    """Python 3.11.7 fails within a few reads without a lock, as soon as something runs amid its parser."""
    path = tmp_path / "a.npz"
    files.write_npz(path, a=np.zeros((2, 3, 4), np.uint8))
    before, pause = gc.get_threshold(), sys.getswitchinterval()
    gc.callbacks.append(aside := lambda phase, info: None)
    gc.set_threshold(5)
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as pool:
            read = list(pool.map(lambda _: files.read_npz_array(path, "a").shape, range(400)))
    finally:
        sys.setswitchinterval(pause)
        gc.set_threshold(*before)
        gc.callbacks.remove(aside)
    assert read == [(2, 3, 4)] * 400


def test_same_arrays_same_bytes(tmp_path, monkeypatch):
    arrays = {"a": np.arange(5), "b": np.zeros((2, 3))}
    files.write_npz(tmp_path / "1.npz", **arrays)
    monkeypatch.setattr("time.time", lambda: 2e9)
    files.write_npz(tmp_path / "2.npz", **arrays)
    assert (tmp_path / "1.npz").read_bytes() == (tmp_path / "2.npz").read_bytes()
    with pytest.raises(TypeError, match="objects"):
        files.write_npz(tmp_path / "3.npz", a=np.array([{}]))


def test_the_first_key_present_is_taken(tmp_path):
    files.write_npz(tmp_path / "a.npz", pred=np.arange(3), arr_0=np.arange(4))
    assert files.read_npz_array(tmp_path / "a.npz", ("semantics", "pred", "arr_0")).size == 3
    with pytest.raises(DataError, match="expected an array named semantics, got pred, arr_0"):
        files.read_npz_array(tmp_path / "a.npz", "semantics")


def test_shape_and_kind_are_checked(tmp_path):
    files.write_npz(tmp_path / "a.npz", a=np.zeros((2, 3), dtype=np.float32))
    assert files.read_npz_array(tmp_path / "a.npz", "a", shape=(-1, 3)).shape == (2, 3)
    with pytest.raises(DataError, match=r"a: expected shape \(2, 'any', 1\), got \(2, 3\)"):
        files.read_npz_array(tmp_path / "a.npz", "a", shape=(2, -1, 1))
    with pytest.raises(DataError, match="kind 'u', got float32"):
        files.read_npz_array(tmp_path / "a.npz", "a", kinds="u")
    with pytest.raises(DataError, match="over the limit of 10 bytes"):
        files.read_npz_array(tmp_path / "a.npz", "a", max_bytes=10)


HOSTILE = {
    "claims a terabyte": npz({"a": npy(header=header_of((10**6, 10**6)))}),
    "claims more than 64 bits": npz({"a": npy(header=header_of((2**40, 2**40, 2**40)))}),
    "wraps around 64 bits": npz({"a": npy(header=header_of((2**32, 2**32)), data=b"")}),
    "negative": npz({"a": npy(header=header_of((-1, -5)), data=b"12345")}),
    "zero times much": npz({"a": npy(header=header_of((0, 10**15)))}),
    "too short": npz({"a": npy(header=header_of((10,)), data=b"123")}),
    "too long": npz({"a": npy(header=header_of((2,)), data=b"12345")}),
    "bomb behind a small header": npz({"a": npy(header=header_of((4,)), data=bytes(64 * 2**20))}),
    "bomb": npz({"a": npy(header=header_of((2**29,)), data=bytes(64 * 2**20))}),
    "lzma": npz({"a": npy(np.zeros(4))}, zipfile.ZIP_LZMA),
    "bzip2": npz({"a": npy(np.zeros(4))}, zipfile.ZIP_BZIP2),
    "objects": npz({"a": npy(header=header_of((1,), "|O"), data=b"\x80\x04]\x94.")}),
    "records": npz({"a": npy(header=header_of((1,), [("x", "<f4")]), data=bytes(4))}),
    "text": npz({"a": npy(np.array(["abc"]))}),
    "code for a header": npz({"a": b"\x93NUMPY\x01\x00\x1a\x00__import__('os').abort()  \n"}),
    "nested header": npz({"a": b"\x93NUMPY\x01\x00\x10\x27" + b"(" * 10_000}),
    "no magic": npz({"a": b"hello"}),
    "empty member": npz({"a": b""}),
    "no members": npz({}),
    "a member that is no array": b"".join([npz({"b": b""})]),
    "no zip": b"PK\x03\x04 or so",
    "empty": b"",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_archives(tmp_path, name):
    (tmp_path / "a.npz").write_bytes(HOSTILE[name])
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=r"a\.npz"):
            files.read_npz_array(tmp_path / "a.npz", "a")
        assert tracemalloc.get_traced_memory()[1] < 8 * 2**20
    finally:
        tracemalloc.stop()


def test_objects_are_not_unpickled(tmp_path):
    class Trap:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "sprung"),))

    np.save(tmp_path / "a.npy", np.array([Trap()], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="never loaded"):
        files.read_npy(tmp_path / "a.npy")
    assert not (tmp_path / "sprung").exists()


def test_raw_rows(tmp_path):
    np.arange(6, dtype="<f4").tofile(tmp_path / "a.bin")
    assert files.read_raw(tmp_path / "a.bin", "<f4", columns=3).tolist() == [[0, 1, 2], [3, 4, 5]]
    assert files.read_raw(tmp_path / "a.bin", "<f4").shape == (6,)
    with pytest.raises(DataError, match="multiple of 16 bytes"):
        files.read_raw(tmp_path / "a.bin", "<f4", columns=4)
    with pytest.raises(DataError, match="at most 10 bytes"):
        files.read_bytes(tmp_path / "a.bin", max_bytes=10)
    with pytest.raises(DataError, match="expected 25 bytes, got 24"):
        files.read_bytes(tmp_path / "a.bin", expected=25)


READERS = [
    files.read_bytes,
    files.read_json,
    files.read_image,
    files.image_size,
    files.npz_keys,
    files.read_npy,
    lambda path: files.read_npz_array(path, "a"),
    lambda path: list(json_records.iterate_json_records(path)),
]


@pytest.mark.parametrize("read", READERS)
def test_what_is_no_file(tmp_path, read):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "missing", tmp_path, tmp_path / "pipe", tmp_path / ("x" * 300), tmp_path / "a\0b"):
        with pytest.raises(DataError):
            read(path)


def test_images_come_back(tmp_path):
    image = np.random.default_rng(0).integers(0, 255, (3, 20, 30), dtype=np.uint8)
    files.write_image(tmp_path / "a.png", image)
    assert np.array_equal(files.read_image(tmp_path / "a.png"), image)
    assert files.image_size(tmp_path / "a.png") == (20, 30)
    smooth = np.broadcast_to(np.linspace(0, 255, 30, dtype=np.uint8), (3, 20, 30))
    files.write_image(tmp_path / "a.jpg", smooth)
    assert np.abs(files.read_image(tmp_path / "a.jpg").astype(int) - smooth).max() < 8
    files.write_image(tmp_path / "grey.png", image[0])
    assert np.array_equal(files.read_image(tmp_path / "grey.png"), image[[0, 0, 0]])
    for path, wrong in (("a.gif", image), ("a.png", image[:2]), ("a.png", image.astype(float))):
        with pytest.raises(ValueError, match="expected"):
            files.write_image(tmp_path / path, wrong)


def test_a_jpeg_is_decoded_small_where_that_is_enough_and_exact(tmp_path):
    files.write_image(tmp_path / "a.jpg", np.zeros((3, 64, 96), dtype=np.uint8))
    small, stored = files.decode_image(tmp_path / "a.jpg", at_least=(16, 20))
    assert (small.size, stored) == ((24, 16), (64, 96))
    assert files.decode_image(tmp_path / "a.jpg", at_least=(40, 20))[0].size == (96, 64)
    files.write_image(tmp_path / "b.jpg", np.zeros((3, 63, 96), dtype=np.uint8))
    assert files.decode_image(tmp_path / "b.jpg", at_least=(8, 8))[0].size == (96, 63)


@pytest.mark.usefixtures("little_memory")
def test_an_image_that_claims_to_be_huge(tmp_path):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    size = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    bomb = (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", zlib.compress(bytes(10**6))) + chunk(b"IEND", b"")
    )
    (tmp_path / "a.png").write_bytes(bomb)
    for read in (files.read_image, files.image_size):
        with pytest.raises(DataError, match=r"a\.png"):
            read(tmp_path / "a.png")


def sound_file(kind, folder):
    image = np.random.default_rng(0).integers(0, 255, (3, 9, 13), dtype=np.uint8)
    if kind == "npz":
        files.write_npz(folder / "sound.npz", a=np.arange(20, dtype=np.uint8))
    elif kind == "npy":
        np.save(folder / "sound.npy", np.arange(20, dtype=np.uint8))
    elif kind == "json":
        files.write_json(folder / "sound.json", [{"a": [1, 2]}, {"b": "c"}])
    else:
        files.write_image(folder / f"sound.{kind}", image)
    return (folder / f"sound.{kind}").read_bytes()


@pytest.mark.parametrize(
    ("kind", "read"),
    [
        ("npz", lambda path: files.read_npz_array(path, "a")),
        ("npz", files.npz_keys),
        ("npy", files.read_npy),
        ("json", files.read_json),
        ("json", lambda path: list(json_records.iterate_json_records(path))),
        ("png", files.read_image),
        ("jpg", files.read_image),
        ("jpg", lambda path: files.decode_image(path, at_least=(2, 2))),
    ],
)
def test_fuzzed_files_end_in_a_data_error(tmp_path, kind, read):
    check_reader(read, sound_file(kind, tmp_path), tmp_path / f"fuzzed.{kind}", max_examples=40)
