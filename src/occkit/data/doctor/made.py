"""Folders that occkit itself wrote: features of images, a teacher's outputs, pseudo-labels."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from occkit.data.doctor.report import Progress, Report, choose, relative
from occkit.data.feature_layout import is_sha256
from occkit.data.feature_store import DESCRIPTION as FEATURES
from occkit.data.feature_store import FRAMES, OBJECTS, SUFFIX, FeatureStore
from occkit.data.occ3d import PSEUDO_LABELS, SKIPPED, read_labels
from occkit.data.teaching import DESCRIPTION as TEACHING
from occkit.data.teaching import read_teaching
from occkit.errors import DataError
from occkit.files import PARTIAL, npz_keys, read_json, read_npz_array
from occkit.taxonomy import TAXONOMIES

_MAX_JSON = 2**22
_NOT_THERE = "run occkit features again"


def examiner_of(root: Path) -> Callable[[Report, Path, int | None, Progress], None] | None:
    """Return what examines a folder that a command of occkit wrote; None if it is no such folder."""
    if (root / FEATURES).is_file() or next(root.glob(f"{OBJECTS}/*{SUFFIX}"), None) is not None:
        return examine_features
    if (root / TEACHING).is_file():
        return examine_teachings
    if (root / PSEUDO_LABELS).is_file() and (root / "gts").is_dir():
        return examine_pseudo_labels
    return None


def examine_features(report: Report, root: Path, frames: int | None, progress: Progress) -> None:
    """Examine a store of features: names and sizes of all files, every byte of some or all."""
    report.kind = "features of images"
    store = FeatureStore(root)
    tokens = store.tokens()
    report.count("frames", len(tokens))
    first_of: dict[str, str] = {}
    for token in tokens:
        record = report.attempt(lambda token=token: store.record(token))
        if record is not None:
            first_of.setdefault(record.key, token)
    report.count("objects", len(first_of))
    whole = [key for key in sorted(first_of) if _has_its_size(report, store, key)]
    for done, key in enumerate(chosen := choose(whole, frames)):
        progress("reading every byte", done, len(chosen))
        if report.attempt(lambda key=key: store.check(first_of[key]) or True):
            report.count("objects read")
    _note_strangers(report, store, set(first_of))
    if store.cost is not None:
        report.add("info", FEATURES, f"what writing cost, measured on {store.cost.frames} frames: {store.cost}")


def _has_its_size(report: Report, store: FeatureStore, key: str) -> bool:
    path, expected = store.object_path(key), store.layout.frame_bytes
    name = relative(path, store.folder)
    if not path.is_file():
        report.add("error", name, "an object that a frame names is gone", _NOT_THERE)
        return False
    if path.stat().st_size != expected:
        report.add("error", name, f"cut short or of another store: not {expected:,} bytes", _NOT_THERE)
        return False
    return True


def _note_strangers(report: Report, store: FeatureStore, keys: set[str]) -> None:
    """Note what no frame needs: leftovers of killed writers, objects of images that have changed, other files."""
    root = store.folder
    known = {FEATURES, FRAMES, OBJECTS}
    loose = [path for path in root.iterdir() if path.name not in known and not path.name.startswith("basis-")]
    for folder in (root / FRAMES, root / OBJECTS):
        loose += [path for path in folder.glob("*") if not _is_part(path)]
    partial = {path for path in loose if path.name.endswith(PARTIAL)}
    _list(report, "info", root, partial, "left by a killed writer", "removed by occkit features an hour after")
    _list(report, "warning", root, set(loose) - partial, "not part of the store", "move it elsewhere")
    spare = {path for path in (root / OBJECTS).glob(f"*{SUFFIX}") if _is_part(path)}
    spare = {path for path in spare if path.name.removesuffix(SUFFIX) not in keys}
    remedy = "of images that have changed since, or being written now; delete it when nobody writes, to have the space"
    _list(report, "info", root, spare, "features that no frame names", remedy)


def _is_part(path: Path) -> bool:
    if path.parent.name == FRAMES:
        return path.suffix == ".json" and not path.name.startswith(".")
    return path.name.endswith(SUFFIX) and is_sha256(path.name.removesuffix(SUFFIX))


def _list(report: Report, level: Any, root: Path, paths: Iterable[Path], problem: str, remedy: str) -> None:
    report.add_many(level, [relative(path, root) for path in sorted(paths)], problem, remedy)


def examine_teachings(report: Report, root: Path, frames: int | None, progress: Progress) -> None:
    """Examine what `occkit teach` wrote: shapes that agree; the archives carry sums of their bytes."""
    report.kind = "outputs of a teacher"
    report.attempt(lambda: read_json(root / TEACHING, max_bytes=_MAX_JSON))
    paths = sorted(root.glob("*.npz"))
    report.count("frames", len(paths))
    shape: tuple[int, ...] | None = None
    for done, path in enumerate(chosen := choose(paths, frames)):
        progress("reading", done, len(chosen))
        codes = report.attempt(lambda path=path: read_npz_array(path, "logits", shape=(-1,) * 4, kinds="u"))
        if codes is None:
            continue
        shape = shape or codes.shape
        if codes.shape != shape:
            report.add("error", path.name, f"scores of shape {codes.shape}, others have {shape}", "write it again")
            continue
        classes, size = codes.shape[0], (codes.shape[1], codes.shape[2], codes.shape[3])
        wants = "features" in npz_keys(path)
        report.attempt(
            lambda path=path, classes=classes, size=size, wants=wants: read_teaching(
                root, path.stem, num_classes=classes, shape=size, features=wants
            )
        )
    _list(report, "info", root, root.glob(f".*{PARTIAL}"), "left by a killed writer", "delete it")


def examine_pseudo_labels(report: Report, root: Path, frames: int | None, progress: Progress) -> None:
    """Examine what `occkit label` wrote: shape and classes as `labels.json` says, masks and counts."""
    report.kind = "pseudo-labels of occkit label"
    said = read_json(root / PSEUDO_LABELS, max_bytes=_MAX_JSON)
    name, shape = (said.get("taxonomy"), said.get("shape")) if isinstance(said, dict) else (None, None)
    if (
        not isinstance(name, str)
        or name not in TAXONOMIES
        or not isinstance(shape, list)
        or [type(n) for n in shape] != [int] * 3
    ):
        problem = "expected the name of a taxonomy and a shape [x, y, z]"
        raise DataError(root / PSEUDO_LABELS, problem, "make the labels again")
    taxonomy, paths = TAXONOMIES[name], sorted(root.glob("gts/*/*/labels.npz"))
    report.count("labels", len(paths))
    seen = np.zeros(256, dtype=np.int64)
    for done, path in enumerate(chosen := choose(paths, frames)):
        progress("examining labels", done, len(chosen))
        label = report.attempt(lambda path=path: read_labels(path, taxonomy=taxonomy))
        if label is None:
            continue
        if label.semantics.shape != tuple(shape):
            problem = f"expected shape {shape} as {PSEUDO_LABELS} says, got {list(label.semantics.shape)}"
            report.add("error", relative(path, root), problem, "delete it, and run occkit label again")
        seen += np.bincount(label.semantics.numpy().ravel(), minlength=256)
        if "count" in npz_keys(path):
            report.attempt(lambda path=path: read_npz_array(path, "count", shape=tuple(shape), kinds="ui"))
    if paths and int((seen > 0).sum()) == 1:
        report.add("warning", root, f"every voxel has id {int(seen.argmax())}", "did the models see anything?")
    if (root / SKIPPED).is_file():
        skipped = report.attempt(lambda: read_json(root / SKIPPED, max_bytes=_MAX_JSON))
        report.add_many("warning", list(skipped or {}), "frame without a label", "skipped.json says why")
    leftovers = list(root.glob(f"gts/*/*/.*{PARTIAL}"))
    _list(report, "info", root, leftovers, "left by a killed writer", "delete it")
