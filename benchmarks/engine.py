"""The label factory on engines: frames a second in this process and on a Ray cluster of this machine, and a dead worker.

The models are stand-ins that read a world's truth, so the figures are those of everything but the networks: reading,
points, outliers, fusion, files, and what an engine costs.
"""

import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from jaxtyping import UInt8
from torch import Tensor

from benchmarks.measure import Row
from occkit.data import DataConfig, open_dataset
from occkit.data.frames import FrameDataset
from occkit.engine import Engine, LocalEngine, RayEngine
from occkit.foundation import SemanticLabeller, SimulatedDepthConfig, SimulatedLabellerConfig
from occkit.labels import FactoryConfig, LonelyPoints, make_labels
from occkit.taxonomy import Taxonomy
from occkit.world.generate import generate
from occkit.world.presets import PRESETS

NAME = "engine"
SCENES, FRAMES, REPEATS = 2, 12, 3


@dataclass(frozen=True)
class Mortal:
    """Makes a labeller that kills its process at one frame, once."""

    root: Path
    token: str = ""
    marker: Path = Path("/nonexistent")

    def __call__(self) -> SemanticLabeller:
        """Make it."""
        return MortalLabeller(self)


class MortalLabeller:
    """See `Mortal`."""

    def __init__(self, mortal: Mortal) -> None:
        self.mortal = mortal
        self.inner = SimulatedLabellerConfig.realistic(mortal.root).build()

    @property
    def description(self) -> dict[str, object]:
        """That of the stand-in."""
        return self.inner.description

    @property
    def taxonomy(self) -> Taxonomy:
        """That of the stand-in."""
        return self.inner.taxonomy

    def label(self, images: UInt8[Tensor, "n 3 h w"], *, token: str, cameras: Sequence[str]) -> UInt8[Tensor, "n h w"]:
        """Label a frame, or die."""
        if token == self.mortal.token and not self.mortal.marker.exists():
            self.mortal.marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return self.inner.label(images, token=token, cameras=cameras)


def run() -> list[Row]:
    """Measure; without Ray this process alone."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "world"
        generate(replace(PRESETS["nano"], frames=FRAMES), root, num_scenes=SCENES, seed=0)
        frames = open_dataset(root, split="all", config=DataConfig(load_depth=False))
        here = _repeated(frames, LocalEngine())
        rows = [_row("labels, in this process", here, None, frames)]
        with _cluster() as there:
            if not there:
                return rows
            for workers in (1, 2):
                found = _repeated(frames, RayEngine(workers=workers))
                rows.append(_row(f"labels, Ray with {workers} workers", found, here, frames))
                died = _repeated(frames, RayEngine(workers=workers), dies=True)
                rows.append(_row(f"labels, Ray with {workers} workers, one of which is killed", died, found, frames))
        return rows


def _repeated(frames: FrameDataset, engine: Engine, *, dies: bool = False) -> list[float]:
    """Return the seconds of each repeat, from the start of the factory to its end."""
    times: list[float] = []
    for _ in range(REPEATS):
        with tempfile.TemporaryDirectory() as folder:
            mortal = Mortal(frames.root)
            if dies:
                mortal = Mortal(frames.root, frames.tokens[len(frames) // 2], Path(folder) / "died")
            times.append(_timed(lambda out=Path(folder) / "out", who=mortal: _make(frames, out, who, engine)))
    return times


def _make(frames: FrameDataset, folder: Path, labeller: Mortal, engine: Engine) -> None:
    config = FactoryConfig(stride=1, outliers=LonelyPoints())
    depth = SimulatedDepthConfig.realistic(frames.root).build
    made = make_labels(frames, folder, depth=depth, labeller=labeller, config=config, engine=engine, progress=False)
    if made.written != len(frames) or made.skipped:
        raise AssertionError(f"engine: {made.written} of {len(frames)} labels, skipped {dict(made.skipped)}")
    shutil.rmtree(folder)


def _timed(function: Callable[[], None]) -> float:
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def _row(what: str, times: list[float], plain: list[float] | None, frames: FrameDataset) -> Row:
    """Return the row of a run of all frames: the median of the repeats, and all of them."""
    middle, other = sorted(times)[len(times) // 2], None if plain is None else sorted(plain)[len(plain) // 2]
    extra = {f"seconds_{i}": seconds for i, seconds in enumerate(times)}
    return Row(
        name=NAME,
        what=what,
        shapes=f"{len(frames)} frames of {len(frames.camera_names)} images, {'x'.join(map(str, frames.grid.shape))}",
        dtype="int16",
        ours=middle,
        plain=other,
        ratio=None if other is None else other / middle,
        extra=extra | {"frames_a_second": len(frames) / middle, "load_average": os.getloadavg()[0]},
    )


@contextmanager
def _cluster():
    """Have a cluster of this machine for all runs, so that its start is not part of them; say whether there is Ray."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_worker_niceness", "0")
    try:
        import ray
    except ImportError:
        yield False
        return
    quiet = {"include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR"}
    ray.init(address="local", **quiet)
    try:
        yield True
    finally:
        ray.shutdown()
