"""The retrieval benchmark of POP-3D: a query in words and the LiDAR points it is about, one a nuScenes key frame.

A folder holds `retrieval_anns_all.csv`, a line `token;split;annotation;points;query` each; `annotations/<file>.npy`,
whether each point of the LIDAR_TOP sweep is meant, in the order of its file; and `matching_points/<file>.npy`, the
numbers of the points that fall into at least one image.

Source: Vobecky et al., "POP-3D: Open-Vocabulary 3D Occupancy Prediction from Images", NeurIPS 2023.
"""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from occkit.errors import DataError
from occkit.files import read_bytes, read_npy

LISTING = "retrieval_anns_all.csv"
"""File of the benchmark that lists its queries."""
_COLUMNS = ("token", "split", "annotation", "points", "query")
_MAX_LISTING_BYTES = 16 * 2**20
_AGAIN = "unpack the benchmark again"


@dataclass(frozen=True, kw_only=True)
class RetrievalQuery:
    """One query of one frame."""

    token: str
    """The frame."""
    query: str
    """What is looked for, in words."""
    relevant: Bool[Tensor, "p"]
    """The points of the frame's sweep that are meant, in the order of its file."""
    visible: Bool[Tensor, "p"]
    """Those that fall into at least one image."""


def read_pop3d(folder: Path, *, splits: Sequence[str] = ("val", "test")) -> tuple[RetrievalQuery, ...]:
    """Read the benchmark.

    Args:
        folder: where it was unpacked. Of the paths in its listing only the names count.
        splits: which queries; published figures are those of `val` and `test` together, 63 queries.

    Raises:
        DataError: naming the file that is missing or not what it should be, or if there is no query of these splits.
    """
    path = Path(folder) / LISTING
    rows = _read_listing(path)
    chosen = [(line, row) for line, row in rows if row[1] in splits]
    if not chosen:
        there = ", ".join(sorted({row[1] for _, row in rows})) or "no query at all"
        raise DataError(path, f"has no query of {', '.join(splits)}, got {there}", "choose other splits")
    found: dict[tuple[str, str], RetrievalQuery] = {}
    for line, (token, _, annotation, points, query) in chosen:
        if (token, query) in found:
            raise DataError(path, f"line {line}: asks {query!r} of {token} for the second time", _AGAIN)
        annotated = Path(folder) / "annotations" / _file_name(annotation, path, line)
        matched = Path(folder) / "matching_points" / _file_name(points, path, line)
        relevant = _read_annotation(annotated)
        visible = _read_indices(matched, len(relevant))
        found[token, query] = RetrievalQuery(token=token, query=query, relevant=relevant, visible=visible)
    return tuple(found.values())


def _read_listing(path: Path) -> list[tuple[int, list[str]]]:
    """Return the rows with their numbers; a first line that names the columns is left out."""
    if not path.is_file():
        raise DataError(path, "no such file: this is no retrieval benchmark of POP-3D", "give the folder it lies in")
    try:
        text = read_bytes(path, max_bytes=_MAX_LISTING_BYTES).decode("utf-8-sig")
        lines = list(enumerate(csv.reader(io.StringIO(text, newline=""), delimiter=";"), start=1))
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(path, f"expected lines of text ({error})", _AGAIN) from error
    rows = [(line, [value.strip() for value in row]) for line, row in lines if row]
    if rows and rows[0][1][:1] == ["token"]:
        rows = rows[1:]
    for line, row in rows:
        if len(row) != len(_COLUMNS) or not all(row):
            wanted = ";".join(_COLUMNS)
            raise DataError(path, f"line {line}: expected {wanted}, got {';'.join(row)[:120]!r}", _AGAIN)
    return rows


def _file_name(value: str, path: Path, line: int) -> str:
    name = PurePosixPath(value).name
    if not name.endswith(".npy") or "\0" in name or len(name) > 200:
        raise DataError(path, f"line {line}: expected the path of a .npy file, got {value[:120]!r}", _AGAIN)
    return name


def _read_annotation(path: Path) -> Bool[Tensor, "p"]:
    values = read_npy(path, shape=(-1,))
    if not np.isin(values, (0, 1)).all():
        raise DataError(path, "expected 0 or 1 for every point of the sweep, got other values", _AGAIN)
    return torch.from_numpy(values.astype(np.bool_))


def _read_indices(path: Path, count: int) -> Bool[Tensor, "p"]:
    indices = read_npy(path, shape=(-1,), kinds="ui")
    if indices.size and not (indices.min() >= 0 and indices.max() < count):
        limits = f"{indices.min()}..{indices.max()}"
        raise DataError(path, f"expected numbers of points 0..{count - 1} as annotated, got {limits}", _AGAIN)
    visible = np.zeros(count, np.bool_)
    visible[indices] = True
    return torch.from_numpy(visible)
