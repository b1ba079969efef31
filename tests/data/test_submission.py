"""SemanticKITTI submissions: the zip, and the server's rules."""

import subprocess
import sys
import zipfile

import numpy as np
import pytest

from fuzz import check_reader
from occkit.data.semantickitti import write_label, write_packed
from occkit.data.submission import TEST_SEQUENCES, find_predictions, validate_submission, write_submission
from occkit.errors import DataError
from occkit.files import write_npz
from occkit.taxonomy import SEMANTICKITTI_INVERSE_MAP

SHAPE = (16, 16, 2)


@pytest.fixture
def root(tmp_path):
    """A data root with every test sequence, two frames in 11 and one in each other."""
    for sequence in TEST_SEQUENCES:
        for frame in ("000000", "000005") if sequence == "11" else ("000000",):
            path = tmp_path / "root" / "sequences" / sequence / "voxels" / f"{frame}.bin"
            write_packed(path, np.zeros(SHAPE, dtype=np.bool_))
    return tmp_path / "root"


@pytest.fixture
def predictions(tmp_path, root):
    """Random train ids for every frame the server asks for."""
    rng = np.random.default_rng(0)
    for path in root.rglob("*.bin"):
        token = f"{path.parent.parent.name}_{path.stem}"
        semantics = rng.integers(0, 20, SHAPE).astype(np.uint8)
        write_npz(tmp_path / "predictions" / f"{token}.npz", semantics=semantics)
    return tmp_path / "predictions"


def test_archive_is_what_the_server_wants(tmp_path, root, predictions):
    archive = tmp_path / "out" / "submission.zip"
    assert write_submission(predictions, archive, data_root=root, description="ours") == 12
    with zipfile.ZipFile(archive) as bundle:
        names = bundle.namelist()
        labels = [n for n in names if n.endswith(".label")]
        assert len(names) == 1 + 2 * 11 + 12 + 1
        assert {"sequences/", "sequences/11/", "sequences/21/predictions/", "description.txt"} <= set(names)
        assert all(n.startswith("sequences/") for n in labels)
        ids = np.frombuffer(bundle.read("sequences/11/predictions/000005.label"), "<u2").reshape(SHAPE)
    train = np.load(predictions / "11_000005.npz")["semantics"]
    np.testing.assert_array_equal(ids, np.array(SEMANTICKITTI_INVERSE_MAP)[train])
    assert not np.isin(ids, (1, 52, 99)).any()
    assert validate_submission(archive, data_root=root) == []
    assert list(archive.parent.iterdir()) == [archive]  # nothing half-written is left behind


def test_the_official_validator_agrees(tmp_path, root, predictions, semantickitti_api):
    def accepts(archive):
        command = [sys.executable, "validate_submission.py", "--task", "completion", str(archive), str(root)]
        done = subprocess.run(command, cwd=semantickitti_api, capture_output=True, text=True, check=False)
        return done.returncode == 0 and "ready for submission" in done.stdout

    write_submission(predictions, tmp_path / "sound.zip", data_root=root, description="ours")
    assert validate_submission(tmp_path / "sound.zip", data_root=root) == []
    assert accepts(tmp_path / "sound.zip")
    for broken in ("sequences/14/predictions/000000.label", "sequences/17/predictions/"):
        with zipfile.ZipFile(tmp_path / "sound.zip") as sound, zipfile.ZipFile(tmp_path / "bad.zip", "w") as bad:
            for name in sound.namelist():
                if name != broken:
                    bad.writestr(name, sound.read(name))
        assert validate_submission(tmp_path / "bad.zip", data_root=root)
        assert not accepts(tmp_path / "bad.zip")


def test_same_predictions_same_bytes(tmp_path, root, predictions):
    write_submission(predictions, tmp_path / "a.zip", data_root=root)
    write_submission(predictions, tmp_path / "b.zip", data_root=root)
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


def test_tokens_with_a_folder_and_label_files_are_found(tmp_path):
    write_npz(tmp_path / "11" / "000000.npz", semantics=np.zeros(SHAPE, np.uint8))
    write_label(tmp_path / "sequences" / "12" / "predictions" / "000005.label", np.zeros(SHAPE, np.uint16))
    assert set(find_predictions(tmp_path)) == {("11", "000000"), ("12", "000005")}
    write_npz(tmp_path / "11_000000.npz", semantics=np.zeros(SHAPE, np.uint8))
    with pytest.raises(DataError, match="twice"):
        find_predictions(tmp_path)


def test_missing_and_surplus_frames_are_named(tmp_path, root, predictions):
    (predictions / "14_000000.npz").rename(tmp_path / "kept.npz")
    with pytest.raises(DataError, match="missing: 14/000000"):
        write_submission(predictions, tmp_path / "a.zip", data_root=root)
    (tmp_path / "kept.npz").rename(predictions / "14_000000.npz")
    write_npz(predictions / "14_000005.npz", semantics=np.zeros(SHAPE, np.uint8))
    with pytest.raises(DataError, match="not asked for by the server: 14/000005"):
        write_submission(predictions, tmp_path / "a.zip", data_root=root)
    write_npz(predictions / "08_000000.npz", semantics=np.zeros(SHAPE, np.uint8))
    with pytest.raises(DataError, match="08/000000 is not of the test sequences"):
        write_submission(predictions, tmp_path / "a.zip", data_root=root)
    assert not (tmp_path / "a.zip").exists()


@pytest.mark.parametrize("wrong", [20, 255])
def test_ids_the_server_cannot_count_are_refused(tmp_path, root, predictions, wrong):
    write_npz(predictions / "11_000000.npz", semantics=np.full(SHAPE, wrong, np.uint8))
    with pytest.raises(DataError, match=f"train ids 0..19, got {wrong}"):
        write_submission(predictions, tmp_path / "a.zip", data_root=root)


@pytest.mark.parametrize(("wrong", "words"), [(52, "id 52"), (99, "id 99"), (1, "train ids")])
def test_label_predictions_hold_original_ids(tmp_path, root, predictions, wrong, words):
    (predictions / "11_000000.npz").unlink()
    path = predictions / "sequences" / "11" / "predictions" / "000000.label"
    write_label(path, np.full(SHAPE, wrong, np.uint16))
    with pytest.raises(DataError, match=words):
        write_submission(predictions, tmp_path / "a.zip", data_root=root)


def repacked(archive, target, *, drop=(), add=None, replace=None):
    with zipfile.ZipFile(archive) as source, zipfile.ZipFile(target, "w") as out:
        for info in source.infolist():
            if info.filename not in drop:
                out.writestr(info.filename, (replace or {}).get(info.filename, source.read(info)))
        for name, data in (add or {}).items():
            out.writestr(name, data)
    return target


FIRST = "sequences/11/predictions/000000.label"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"drop": ("sequences/13/",)}, "directory entry sequences/13/ is missing"),
        ({"drop": ("sequences/13/predictions/",)}, "sequences/13/predictions/ is missing"),
        ({"drop": (FIRST,)}, f"{FIRST} is missing"),
        ({"add": {"sequences/11/predictions/000010.label": b""}}, "000010.label must not be in the archive"),
        ({"add": {"readme.md": b""}}, "readme.md must not be in the archive"),
        ({"replace": {FIRST: bytes(2 * 512 - 2)}}, "got 1,022 bytes"),
        ({"replace": {FIRST: bytes(2 * 512 + 2)}}, "more than 1,024"),
        ({"replace": {FIRST: np.full(512, 99, "<u2").tobytes()}}, "id 99"),
    ],
)
def test_validator_names_each_broken_rule(tmp_path, root, predictions, change, words):
    write_submission(predictions, tmp_path / "sound.zip", data_root=root)
    problems = validate_submission(repacked(tmp_path / "sound.zip", tmp_path / "bad.zip", **change), data_root=root)
    assert len(problems) == 1
    assert words in problems[0]


def test_without_a_root_the_real_size_is_wanted(tmp_path, predictions):
    with pytest.raises(DataError, match=r"\(256, 256, 32\)"):
        write_submission(predictions, tmp_path / "a.zip")


def test_name_must_end_in_zip(tmp_path, root, predictions):
    with pytest.raises(DataError, match=r"\.zip"):
        write_submission(predictions, tmp_path / "a.tar", data_root=root)
    write_submission(predictions, tmp_path / "a.zip", data_root=root)
    (tmp_path / "a.zip").rename(tmp_path / "a.dat")
    assert "end in .zip" in validate_submission(tmp_path / "a.dat", data_root=root)[0]


def test_fuzz(tmp_path, root, predictions):
    write_submission(predictions, tmp_path / "sound.zip", data_root=root)

    def validate(path):
        assert all(isinstance(p, str) for p in validate_submission(path, data_root=root))

    check_reader(validate, (tmp_path / "sound.zip").read_bytes(), tmp_path / "fuzzed.zip", max_examples=25)
