"""The label factory on engines: in this process and on a Ray cluster of this machine, and what a dead worker costs.

The models are stand-ins that read a world's truth, so the figures are those of everything but the networks: reading,
points, outliers, fusion, files, and what an engine costs.
"""

import importlib.util
import os
import signal
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from jaxtyping import UInt8
from torch import Tensor

from benchmarks.measure import Row
from occkit.data import DataConfig, open_dataset
from occkit.data.frames import FrameDataset
from occkit.engine import Engine, LocalEngine, RayEngine, ray_cluster
from occkit.foundation import SemanticLabeller, SimulatedDepthConfig, SimulatedLabellerConfig
from occkit.labels import FactoryConfig, LonelyPoints, make_labels
from occkit.taxonomy import Taxonomy
from occkit.world.generate import generate
from occkit.world.presets import PRESETS

NAME = "engine"
SCENES, FRAMES, REPEATS = 2, 8, 3


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


@dataclass(frozen=True)
class Times:
    """Of one run, seconds."""

    whole: float
    """From the call to its end: making the workers, which import torch, included."""
    frame: float
    """Between two labels, on average from the first to the last: workers are there."""


def run() -> list[Row]:
    """Measure; without Ray this process alone."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "world"
        generate(replace(PRESETS["nano"], frames=FRAMES), root, num_scenes=SCENES, seed=0)
        frames = open_dataset(root, split="all", config=DataConfig(load_depth=False))
        here = [_make(frames, LocalEngine()) for _ in range(REPEATS)]
        rows = _rows("in this process", here, None, frames)
        if importlib.util.find_spec("ray") is None:
            return rows
        with ray_cluster():  # one for all runs, so that its start is not part of them
            for workers in (1, 2):
                engine = RayEngine(workers=workers)
                found = [_make(frames, engine) for _ in range(REPEATS)]
                rows += _rows(f"on Ray with {workers} workers", found, here, frames)
            died = [_make(frames, engine, dies=True) for _ in range(REPEATS)]
            rows += _rows("on Ray with 2 workers, one of which is killed halfway", died, here, frames)
        return rows


def _make(frames: FrameDataset, engine: Engine, *, dies: bool = False) -> Times:
    """Make the labels of all frames in a new folder."""
    config = FactoryConfig(stride=1, outliers=LonelyPoints())
    depth = SimulatedDepthConfig.realistic(frames.root).build
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        mortal = Mortal(frames.root)
        if dies:
            mortal = Mortal(frames.root, frames.tokens[len(frames) // 2], folder / "died")
        started = time.perf_counter()
        made = make_labels(
            frames, folder / "out", depth=depth, labeller=mortal, config=config, engine=engine, progress=False
        )
        whole = time.perf_counter() - started
        if made.written != len(frames) or made.skipped:
            raise AssertionError(f"engine: {made.written} of {len(frames)} labels, skipped {dict(made.skipped)}")
        ends = [path.stat().st_mtime for path in (folder / "out").glob("gts/*/*/labels.npz")]
    return Times(whole=whole, frame=(max(ends) - min(ends)) / (len(ends) - 1))


def _rows(where: str, times: list[Times], plain: list[Times] | None, frames: FrameDataset) -> list[Row]:
    """Return a row for whole runs and one for a frame: medians of the repeats, and all of them."""
    shapes = f"{len(frames)} frames of {len(frames.camera_names)} images, {'x'.join(map(str, frames.grid.shape))}"
    rows: list[Row] = []
    for what, name in (("labels of all frames", "whole"), ("a further label", "frame")):
        found = [getattr(one, name) for one in times]
        ours = statistics.median(found)
        other = None if plain is None else statistics.median(getattr(one, name) for one in plain)
        extra = {f"repeat_{i}": seconds for i, seconds in enumerate(found)} | {"load_average": os.getloadavg()[0]}
        ratio = None if other is None else other / ours
        shared = {"name": NAME, "shapes": shapes, "dtype": "int16", "extra": extra}
        rows.append(Row(what=f"{what} {where}", ours=ours, plain=other, ratio=ratio, **shared))
    return rows
