"""SemanticKITTI scene-completion submissions: the zip the server takes, and the server's rules as a validator.

Layout: directory entries `sequences/`, `sequences/11/` .. `sequences/21/`, each with `predictions/`; one
`sequences/SS/predictions/FFFFFF.label` for each `voxels/FFFFFF.bin` of the test sequences: uint16 little-endian, C
order of `[x, y, z]`, *original* ids; optionally `description.txt`; nothing else. Ids 1, 52 and 99 must not occur: the
server's evaluator maps them outside its confusion matrix and the submission fails.

Source: rules of semantic-kitti-api's `validate_submission.py` (task completion) and `evaluate_completion.py`.
"""

import os
import re
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from occkit.data.predictions import read_prediction
from occkit.data.semantickitti import grid_of_size, read_label
from occkit.errors import DataError
from occkit.files import open_file
from occkit.geometry import KITTI_GRID, VoxelGrid
from occkit.taxonomy import SEMANTICKITTI, SEMANTICKITTI_INVERSE_MAP

TEST_SEQUENCES: tuple[str, ...] = tuple(f"{s:02d}" for s in range(11, 22))
"""Sequences 11 to 21, whose labels only the server has."""
_TOKEN = re.compile(r"(\d\d)[_-](\d{6})$")
_MAX_ARCHIVE_BYTES = 64 * 2**30


def find_predictions(folder: Path) -> dict[tuple[str, str], Path]:
    """Return the predictions in a folder by (sequence, frame).

    Found are `SS_FFFFFF.npz` (as `occkit predict` writes them), `SS/FFFFFF.npz` and
    `sequences/SS/predictions/FFFFFF.label`.

    Raises:
        DataError: if the folder is missing, empty, or holds one frame twice.
    """
    if not folder.is_dir():
        raise DataError(folder, "expected a folder of predictions", "give the folder `occkit predict` wrote")
    found: dict[tuple[str, str], Path] = {}
    for path in sorted(folder.rglob("*")):
        key = _frame_of(path)
        if key is None:
            continue
        if key in found:
            raise DataError(path, f"frame {key[0]}/{key[1]} is here twice, also as {found[key]}", "keep one of them")
        found[key] = path
    if not found:
        raise DataError(folder, "no predictions found", "expected SS_FFFFFF.npz or sequences/SS/predictions/*.label")
    return found


def _frame_of(path: Path) -> tuple[str, str] | None:
    if path.suffix == ".label" and path.parent.name == "predictions":
        return path.parent.parent.name, path.stem
    if path.suffix != ".npz":
        return None
    match = _TOKEN.fullmatch(path.stem) or _TOKEN.fullmatch(f"{path.parent.name}_{path.stem}")
    return (match[1], match[2]) if match else None


def server_frames(data_root: Path) -> dict[tuple[str, str], VoxelGrid]:
    """Return the frames the server asks for: each `.bin` of the test sequences, with the grid its size implies.

    Raises:
        DataError: if the root has no test sequences.
    """
    base = next((b for b in (data_root / "sequences", data_root / "dataset" / "sequences") if b.is_dir()), None)
    if base is None:
        raise DataError(data_root, "expected a SemanticKITTI root with sequences/", "give the folder above sequences/")
    frames: dict[tuple[str, str], VoxelGrid] = {}
    for sequence in TEST_SEQUENCES:
        for path in sorted((base / sequence / "voxels").glob("*.bin")):
            frames[sequence, path.stem] = grid_of_size(path, 8 * path.stat().st_size)
    if not frames:
        raise DataError(base, "no voxels/*.bin in sequences 11 to 21", "the test sequences are a part of the download")
    return frames


def original_ids(path: Path, grid: VoxelGrid) -> npt.NDArray[np.uint16]:
    """Read one prediction as original ids `[x, y, z]`: an npz holds train ids 0..19, a `.label` original ids.

    Raises:
        DataError: if the shape is not that of the grid, or an id is none the server accepts.
    """
    if path.suffix == ".label":
        ids = read_label(path, grid=grid)
        _refuse_ids(path, ids)
        return ids
    train = read_prediction(path, shape=grid.shape)
    if train.max(initial=0) >= SEMANTICKITTI.num_classes:
        raise DataError(
            path, f"expected train ids 0..19, got {int(train.max())}", "predict in the SemanticKITTI taxonomy, no 255"
        )
    return np.array(SEMANTICKITTI_INVERSE_MAP, dtype=np.uint16)[train]


def _refuse_ids(path: object, ids: npt.NDArray[np.uint16]) -> None:
    present = np.flatnonzero(np.bincount(ids.ravel(), minlength=1))
    wrong = [int(i) for i in present if int(i) not in SEMANTICKITTI_INVERSE_MAP]
    if wrong:
        hint = "apply the inverse map: these look like train ids" if max(present) < 20 else "the evaluator fails on it"
        raise DataError(path, f"id {wrong[0]} must not occur in a submission", hint)


def write_submission(
    predictions: Path,
    archive: Path,
    *,
    data_root: Path | None = None,
    description: str | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> int:
    """Write the zip for the server.

    Args:
        predictions: folder, see `find_predictions`.
        archive: zip to write; its name must end in `.zip`.
        data_root: SemanticKITTI root with the test sequences; the frames must then be exactly those the server asks
            for.
        description: text of the optional `description.txt`.
        progress: called with (frames done, frames in all).

    Returns:
        The number of frames written.

    Raises:
        DataError: naming the first prediction that is missing, too much, of the wrong shape or with a wrong id.
    """
    if archive.suffix != ".zip":
        raise DataError(archive, "the server takes a name that ends in .zip", "rename it")
    found = find_predictions(predictions)
    frames = dict.fromkeys(found, KITTI_GRID) if data_root is None else server_frames(data_root)
    _compare(predictions, set(found), set(frames))
    beside = archive.with_name(f".{archive.name}.{os.getpid()}.partial")
    archive.parent.mkdir(parents=True, exist_ok=True)
    try:
        with zipfile.ZipFile(beside, "w", zipfile.ZIP_DEFLATED, compresslevel=3) as target:
            for name in ["sequences/", *(f"sequences/{s}/{p}" for s in TEST_SEQUENCES for p in ("", "predictions/"))]:
                target.writestr(_member(name), b"")
            if description is not None:
                target.writestr(_member("description.txt"), description)
            for done, ((sequence, frame), grid) in enumerate(sorted(frames.items(), key=lambda item: item[0])):
                ids = original_ids(found[sequence, frame], grid)
                target.writestr(_member(_label_name(sequence, frame)), ids.astype("<u2").tobytes())
                progress(done + 1, len(frames))
        beside.replace(archive)
    finally:
        beside.unlink(missing_ok=True)
    return len(frames)


def _label_name(sequence: str, frame: str) -> str:
    return f"sequences/{sequence}/predictions/{frame}.label"


def _member(name: str) -> zipfile.ZipInfo:
    """Return an entry with the fixed date of ZipInfo, so that same predictions give the same bytes."""
    member = zipfile.ZipInfo(name)
    member.compress_type = zipfile.ZIP_STORED if name.endswith("/") else zipfile.ZIP_DEFLATED
    member.external_attr = (0o40755 << 16 | 0x10) if name.endswith("/") else 0o644 << 16
    return member


def _compare(folder: Path, found: set[tuple[str, str]], wanted: set[tuple[str, str]]) -> None:
    outside = sorted(f"{s}/{f}" for s, f in found if s not in TEST_SEQUENCES)
    if outside:
        raise DataError(folder, f"{outside[0]} is not of the test sequences 11..21", "predict with split=test")
    for what, frames in (("missing", wanted - found), ("not asked for by the server", found - wanted)):
        if frames:
            first = ", ".join(f"{s}/{f}" for s, f in sorted(frames)[:3])
            raise DataError(folder, f"{len(frames)} frames are {what}: {first}", "predict every test frame, no other")


def validate_submission(archive: Path, *, data_root: Path | None = None) -> list[str]:
    """Apply the server's rules to a zip.

    Args:
        archive: the zip.
        data_root: SemanticKITTI root with the test sequences; without it, completeness is not checked and every file
            must have the size of the real grid.

    Returns:
        What is wrong, one sentence each; empty if the server will take it.

    Raises:
        DataError: if the file cannot be opened.
    """
    problems = [] if archive.suffix == ".zip" else [f"the name must end in .zip, got {archive.name}"]
    frames = None if data_root is None else server_frames(data_root)
    stream, _ = open_file(archive, max_bytes=_MAX_ARCHIVE_BYTES)
    with stream:
        problems.extend(_problems(stream, frames))
    return problems


def _problems(stream: BinaryIO, frames: dict[tuple[str, str], VoxelGrid] | None) -> Iterator[str]:
    try:
        with zipfile.ZipFile(stream) as bundle:
            names = Counter(bundle.namelist())
            needed = ["sequences/", *(f"sequences/{s}/{p}" for s in TEST_SEQUENCES for p in ("", "predictions/"))]
            yield from (f"directory entry {name} is missing" for name in needed if name not in names)
            files = [n for n in names if not n.endswith("/") and n != "description.txt"]
            yield from (f"{n} is in the archive twice" for n in sorted(files) if names[n] > 1)
            pattern = re.compile(r"sequences/(1[1-9]|2[01])/predictions/(\d{6})\.label")
            matches = {n: pattern.fullmatch(n) for n in files}
            present = {(m[1], m[2]): n for n, m in matches.items() if m}
            wanted = present.keys() if frames is None else frames.keys()
            yield from (f"{_label_name(*key)} is missing" for key in sorted(wanted - present.keys()))
            extra = {n for n, m in matches.items() if m is None} | {present[k] for k in present.keys() - wanted}
            yield from (f"{name} must not be in the archive" for name in sorted(extra))
            for key in sorted(wanted & present.keys()):
                grid = KITTI_GRID if frames is None else frames[key]
                yield from _label_problems(bundle, present[key], grid)
    except Exception as error:
        # zipfile and zlib answer damage with a dozen unrelated exceptions.
        yield f"the archive is damaged ({type(error).__name__}: {str(error)[:120]})"


def _label_problems(bundle: zipfile.ZipFile, name: str, grid: VoxelGrid) -> Iterator[str]:
    size = 2 * grid.num_voxels
    with bundle.open(name) as member:
        # One byte more than allowed tells a file that is too long, whatever size its entry claims.
        data = member.read(size + 1)
    if len(data) != size:
        got = f"more than {size:,}" if len(data) > size else f"{len(data):,}"
        yield f"{name}: expected {grid.num_voxels:,} uint16 labels ({size:,} bytes), got {got} bytes"
        return
    try:
        _refuse_ids(name, np.frombuffer(data, dtype="<u2"))
    except DataError as error:
        yield str(error)
