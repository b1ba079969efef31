"""Generates a data set: scenes in parallel, tables at the end, the same bytes whatever the number of workers."""

import contextlib
import json
import multiprocessing
import os
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import numpy as np

from occkit.errors import ConfigError, DataError
from occkit.files import read_json, write_json
from occkit.world import nuscenes, nyuv2, rig, semantickitti
from occkit.world.presets import WorldConfig
from occkit.world.room_scene import RoomConfig, make_room
from occkit.world.streets import make_scene

Format = Literal["nuscenes", "semantickitti", "nyuv2", "rig"]
Split = Literal["train", "val", "test"]
_SPLIT_SEED = {"train": 0, "val": 1, "test": 2}
_NOTES = ".world"


@dataclass(frozen=True, kw_only=True)
class SceneJob:
    """One scene to write; picklable."""

    name: str
    """Scene or drive name, sequence number for SemanticKITTI, or name of a room's only frame for NYUv2."""
    split: Split
    """Decides the seed, and what is published of the labels."""
    index: int
    """Place of the scene within its split."""
    position: int
    """Place among all scenes of the data set."""


def generate(
    config: WorldConfig | RoomConfig,
    out: Path,
    *,
    format: Format = "nuscenes",
    num_scenes: int = 12,
    seed: int = 0,
    workers: int = 1,
    val_fraction: float = 0.2,
    num_test: int = 0,
    progress: Callable[[str, int, int], None] | None = None,
) -> None:
    """Write a procedural data set.

    Scenes of different splits never share a seed. A scene that is already finished in `out` is not written again, so an
    interrupted call is continued by repeating it.

    Args:
        config: what the world is like: streets, or rooms for NYUv2's layout.
        out: data root; made if missing.
        format: layout; SemanticKITTI has ten training sequences and one for validation at most. In NYUv2's a scene is a
            room with one frame: the layout says of no two frames what they have to do with each other. In that of a rig
            it is a drive with a folder of its own, and drives are not split.
        num_scenes: training and validation scenes together.
        seed: of the whole data set.
        workers: processes.
        val_fraction: share of validation scenes, at least one if there are two scenes (one at most in SemanticKITTI).
        num_test: further scenes for testing; in SemanticKITTI their labels go to `truth/` instead of the sequence.
        progress: called with (scene name, scenes done, scenes in all).

    Raises:
        DataError: if `out` holds a world of other settings.
        ConfigError: if the config does not fit the layout.
        ValueError: if the numbers make no data set.
    """
    if workers < 1:
        raise ValueError(f"workers: expected at least 1, got {workers}")
    if seed < 0:
        raise ValueError(f"seed: expected 0 or more, got {seed}")
    _check_layout(config, format, num_test)
    jobs = plan_scenes(format, num_scenes, val_fraction, num_test)
    world = _claim_folder(out, config, format, seed, jobs)
    for done, job in enumerate(_run_all(config, out, format, seed, world, jobs, workers), start=1):
        if progress is not None:
            progress(job.name, done, len(jobs))
    records = {job.name: read_json(_record_path(out, job.name)) for job in jobs}
    if isinstance(config, RoomConfig):
        nyuv2.write_summary(out, config, list(records.values()))
    elif format == "nuscenes":
        splits = {split: [records[j.name] for j in jobs if j.split == split] for split in ("train", "val", "test")}
        nuscenes.write_tables(out, config, splits)
    elif format == "semantickitti":
        semantickitti.write_summary(out, config, list(records.values()))


def _check_layout(config: WorldConfig | RoomConfig, format: Format, num_test: int) -> None:
    if isinstance(config, RoomConfig) != (format == "nyuv2"):
        made = "rooms" if isinstance(config, RoomConfig) else "streets"
        raise ConfigError(f"the config describes {made}, which the layout {format} cannot hold; use another preset")
    if isinstance(config, RoomConfig):
        nyuv2.check_split(num_test)
    elif format == "semantickitti":
        semantickitti.check_rig(config)
    elif format == "rig":
        rig.check_drives(config, num_test)


def plan_scenes(format: Format, num_scenes: int, val_fraction: float, num_test: int = 0) -> list[SceneJob]:
    """Name the scenes and give each its split.

    Raises:
        ValueError: if the numbers make no data set.
    """
    if num_scenes < 1 or num_test < 0 or not 0 <= val_fraction <= 1:
        raise ValueError(
            "expected num_scenes > 0, num_test >= 0 and val_fraction in 0..1, "
            f"got {num_scenes}, {num_test} and {val_fraction}"
        )
    val = round(num_scenes * val_fraction)
    if 0 < val_fraction < 1 and num_scenes > 1:
        val = min(max(val, 1), num_scenes - 1)
    if format == "semantickitti":
        val = min(val, 1)
    counts: dict[Split, int] = {"train": num_scenes - val, "val": val, "test": num_test}
    if format == "semantickitti":
        available = {"train": semantickitti.TRAIN, "val": semantickitti.VAL, "test": semantickitti.TEST}
        for split, count in counts.items():
            if count > len(available[split]):
                raise ValueError(
                    f"SemanticKITTI has {len(available[split])} {split} sequences, asked for {count}; "
                    "make the sequences longer instead (frames)"
                )
        names = [name for split, count in counts.items() for name in available[split][:count]]
    elif format == "nyuv2":
        names = [f"NYU{i + 1:04d}_0000" for i in range(sum(counts.values()))]
        if len(names) > 9999:
            raise ValueError(f"NYUv2's names count to 9999, asked for {len(names)} rooms")
    else:
        kind = "drive" if format == "rig" else "scene"
        names = [f"{kind}-{i + 1:04d}" for i in range(sum(counts.values()))]
    places: list[tuple[Split, int]] = [(split, i) for split, count in counts.items() for i in range(count)]
    return [
        SceneJob(name=name, split=split, index=index, position=position)
        for position, (name, (split, index)) in enumerate(zip(names, places, strict=True))
    ]


def _claim_folder(out: Path, config: WorldConfig | RoomConfig, format: Format, seed: int, jobs: list[SceneJob]) -> str:
    """Write down the settings of the data set, or check that they are those written there; return their hash."""
    settings = {"format": format, "seed": seed, "scenes": [[j.name, j.split] for j in jobs], "config": _plain(config)}
    path = out / _NOTES / "settings.json"
    if path.exists():
        if read_json(path) != json.loads(json.dumps(settings)):
            raise DataError(out, "holds a world of other settings", "choose another folder or remove this one")
    else:
        if out.is_dir() and any(out.iterdir()):
            raise DataError(out, "is not empty and holds no world", "choose another folder")
        write_json(path, settings)
    return sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def _plain(value: Any) -> Any:
    """Turn a configuration into what JSON can hold."""

    def factory(items: list[tuple[str, Any]]) -> dict[str, Any]:
        return {name: v.tolist() if isinstance(v, np.ndarray) else v for name, v in items}

    return asdict(value, dict_factory=factory)


def _record_path(out: Path, name: str) -> Path:
    return out / _NOTES / "scenes" / f"{name}.json"


def _run_all(
    config: WorldConfig | RoomConfig,
    out: Path,
    format: Format,
    seed: int,
    world: str,
    jobs: list[SceneJob],
    workers: int,
) -> Iterator[SceneJob]:
    """Write the missing scenes, yielding each job as it is done."""
    missing = []
    for job in jobs:
        if _record_path(out, job.name).exists():
            yield job
        else:
            missing.append(job)
    if workers == 1 or len(missing) <= 1:
        for job in missing:
            write_scene(config, out, format, seed, world, job)
            yield job
        return
    # Spawned, not forked: a fork of a process whose numba or torch threads have run may hang.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(missing)), context, initializer=_be_single_threaded) as pool:
        with one_thread_for_children():
            running = {pool.submit(write_scene, config, out, format, seed, world, job): job for job in missing}
        try:
            for future in as_completed(running):
                future.result()
                yield running[future]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


@contextlib.contextmanager
def one_thread_for_children() -> Generator[None]:
    """Let processes that start meanwhile use one thread: BLAS reads the number when it is loaded, and never again."""
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = before


def _be_single_threaded() -> None:
    import numba
    import torch

    torch.set_num_threads(1)
    numba.set_num_threads(1)


def write_scene(
    config: WorldConfig | RoomConfig, out: Path, format: Format, seed: int, world: str, job: SceneJob
) -> None:
    """Write the files of one scene, and its record last: a scene with a record is whole."""
    entropy = (seed, _SPLIT_SEED[job.split], job.index)
    if isinstance(config, RoomConfig):
        made = nyuv2.RoomWriter(out, make_room(config, job.name, entropy), config, split=job.split).write()
        write_json(_record_path(out, job.name), made, indent=None)
        return
    scene = make_scene(config, job.name, entropy)
    if format == "nuscenes":
        record = nuscenes.SceneWriter(out, scene, config, job.position, world).write()
    elif format == "rig":
        record = rig.DriveWriter(out, scene, config).write()
    else:
        record = semantickitti.SequenceWriter(out, scene, config, hidden=job.split == "test").write()
    write_json(_record_path(out, job.name), record, indent=None)
