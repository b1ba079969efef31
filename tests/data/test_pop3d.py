"""The files of POP-3D's retrieval benchmark: sound ones, and every way in which they are not."""

import numpy as np
import pytest

from fuzz import check_reader
from occkit.data.pop3d import LISTING, read_pop3d
from occkit.errors import DataError

LINES = (
    "t1;train;data/retrieval_benchmark/annotations/t1__retrieval.npy;matching_points/t1__points.npy;white sedan",
    "t2;val;annotations/t2__retrieval.npy;matching_points/t2__points.npy;mailbox",
    "t3;test;annotations/t3__retrieval.npy;matching_points/t3__points.npy;ice cream van",
)


def write_benchmark(folder, lines=LINES):
    for name in ("annotations", "matching_points"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / LISTING).write_text("\n".join(lines) + "\n", encoding="utf-8")
    for number, token in enumerate(("t1", "t2", "t3"), start=1):
        labels = np.zeros(10 * number, np.int64)
        labels[2 : 2 + number] = 1
        np.save(folder / "annotations" / f"{token}__retrieval.npy", labels)
        np.save(folder / "matching_points" / f"{token}__points.npy", np.arange(3, 10))
    return folder


def test_the_queries_of_the_published_splits(tmp_path):
    queries = read_pop3d(write_benchmark(tmp_path))
    assert [(q.token, q.query) for q in queries] == [("t2", "mailbox"), ("t3", "ice cream van")]
    assert queries[1].relevant.nonzero()[:, 0].tolist() == [2, 3, 4]
    assert queries[1].visible.nonzero()[:, 0].tolist() == list(range(3, 10))
    assert queries[1].relevant.shape == queries[1].visible.shape == (30,)
    assert [q.query for q in read_pop3d(tmp_path, splits=("train",))] == ["white sedan"]


def test_a_line_of_names_a_mark_and_empty_lines_are_no_queries(tmp_path):
    write_benchmark(tmp_path, ("\ufefftoken;split;annotation_path;points_path;query", "", *LINES))
    assert len(read_pop3d(tmp_path, splits=("train", "val", "test"))) == 3
    write_benchmark(tmp_path, ("\ufeff" + LINES[1], LINES[2]))
    assert [q.token for q in read_pop3d(tmp_path)] == ["t2", "t3"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("t2;val;annotations/t2__retrieval.npy;mailbox", r"line 2: expected token;split;.*got 't2;val"),
        ("t2;val;annotations/t2__retrieval.npy;matching_points/t2__points.npy; ", "line 2: expected token;split"),
        ("t2;val;annotations/t2.txt;matching_points/t2__points.npy;mailbox", "line 2: expected the path of a .npy"),
        ("t2;val;annotations/t9.npy;matching_points/t2__points.npy;mailbox", r"t9\.npy"),
        ("t3;test;annotations/t3__retrieval.npy;matching_points/t3__points.npy;ice cream van", "second time"),
    ],
)
def test_a_listing_that_is_wrong_is_named_with_its_line(tmp_path, line, message):
    write_benchmark(tmp_path, (LINES[0], line, LINES[2]))
    with pytest.raises(DataError, match=message):
        read_pop3d(tmp_path)


def test_paths_lead_nowhere_else(tmp_path):
    (tmp_path / "secret.npy").write_bytes(b"")
    write_benchmark(tmp_path / "b", (LINES[1].replace("annotations/t2__retrieval.npy", "../secret.npy"),))
    with pytest.raises(DataError, match=r"b/annotations/secret\.npy"):
        read_pop3d(tmp_path / "b")


def test_missing_parts_are_named(tmp_path):
    with pytest.raises(DataError, match=r"retrieval_anns_all\.csv.*no such file"):
        read_pop3d(tmp_path)
    write_benchmark(tmp_path)
    with pytest.raises(DataError, match="no query of minival, got test, train, val"):
        read_pop3d(tmp_path, splits=("minival",))
    (tmp_path / LISTING).write_text("")
    with pytest.raises(DataError, match="got no query at all"):
        read_pop3d(tmp_path)


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("annotations/t2__retrieval.npy", np.full(20, 2), "expected 0 or 1"),
        ("annotations/t2__retrieval.npy", np.full(20, np.nan), "expected 0 or 1"),
        ("annotations/t2__retrieval.npy", np.zeros((20, 1)), "expected shape"),
        ("annotations/t2__retrieval.npy", np.zeros(5), r"numbers of points 0\.\.4 as annotated, got 3\.\.9"),
        ("matching_points/t2__points.npy", np.array([-1, 3]), r"0\.\.19 as annotated, got -1\.\.3"),
        ("matching_points/t2__points.npy", np.zeros(20), "kind"),
        ("matching_points/t2__points.npy", np.array(["a"], object), "pickled"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(tmp_path, name, array, message):
    write_benchmark(tmp_path)
    np.save(tmp_path / name, array, allow_pickle=True)
    with pytest.raises(DataError, match=message):
        read_pop3d(tmp_path)


@pytest.mark.parametrize("name", [LISTING, "annotations/t2__retrieval.npy", "matching_points/t2__points.npy"])
def test_damage_ends_in_an_error_with_a_name(tmp_path, name):
    path = write_benchmark(tmp_path) / name
    check_reader(lambda _: read_pop3d(tmp_path), path.read_bytes(), path)
