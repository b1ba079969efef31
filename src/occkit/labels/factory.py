"""The label factory: frame after frame of a data set, each fused with those before it, interrupted or not."""

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.progress import track

from occkit.data.frames import FrameDataset
from occkit.data.occ3d import PSEUDO_LABELS, SKIPPED
from occkit.engine import Crew, Engine, LocalEngine, Stage
from occkit.errors import ConfigError
from occkit.files import read_json, remove_partials, write_json
from occkit.foundation import DepthEstimator, SemanticLabeller
from occkit.labels.fusion import FusionConfig
from occkit.labels.points import OutlierConfig, StatisticalOutliers
from occkit.labels.schedule import FUSE, LOOK, Schedule
from occkit.labels.stages import Described, FuseConfig, LookConfig

POINTS_DESCRIPTION = "points.json"
"""File of a folder of points that says whose they are."""
_POINTS = ".points"


@dataclass(frozen=True, kw_only=True)
class FactoryConfig:
    """From images to labels, but for the models that look at the images."""

    stride: int = 4
    """Take one pixel of each block of so many squared: the middle one, or if that has no depth the nearest to it
    that has. A network's depth is thinned out, that of a LiDAR stays whole."""
    max_depth: float = 52.0
    """Leave out what is farther, metres of z-depth; the corner of Occ3D's volume is 57 m away."""
    uncertain: Literal["ignored", "free"] = "ignored"
    """Pixels without a class: they name nothing and carve up to their depth, or they are taken for the sky, as in
    OccNeRF's released code (an index that wraps around): their rays carve all they pass."""
    outliers: OutlierConfig | None = field(default_factory=StatisticalOutliers)
    """Which points are taken for errors; None keeps all."""
    fusion: FusionConfig = field(default_factory=FusionConfig)
    """How the points of several frames name the voxels of one."""

    def __post_init__(self) -> None:
        if self.stride < 1 or self.max_depth <= 0:
            raise ConfigError(f"FactoryConfig: expected stride >= 1 and max_depth > 0, got {self}")


@dataclass(frozen=True, kw_only=True)
class Made:
    """What a run of the factory did."""

    written: int
    """Labels written now."""
    kept: int
    """Labels that were there."""
    changed: tuple[str, ...] = ()
    """Frames whose label was there, but of other images, lenses or poses: written again, unless they are skipped."""
    skipped: Mapping[str, str]
    """Frames without a label, and why."""


def make_labels(
    dataset: FrameDataset,
    folder: Path,
    *,
    depth: DepthEstimator | Callable[[], DepthEstimator],
    labeller: SemanticLabeller | Callable[[], SemanticLabeller],
    config: FactoryConfig,
    keep_images: bool = False,
    points: Path | None = None,
    engine: Engine | None = None,
    trust: bool = False,
    progress: bool = True,
) -> Made:
    """Write a label for every frame; those that are there already are not made again, unless their images changed.

    A label states a digest of the images, lenses and poses of all frames that it was fused from. For those that are
    there, all these images are read and compared.

    The points of a frame are kept below the folder as long as later frames need them, so that an interrupted run goes
    on without asking the models again, and ends with the same bytes, whichever engine does the work.

    Args:
        dataset: the frames, opened as they are stored: without an image size and without augmentation.
        folder: where to write: `gts/<scene>/<token>/labels.npz` with `semantics`, `mask_camera` (seen by a ray of the
            frame), `mask_lidar` (has points) and `count`; `labels.json`; `skipped.json` if a frame could not be read.
        depth: says how far each pixel is, or makes who does: workers elsewhere make their own.
        labeller: says what each pixel shows, or makes who does.
        config: the rest.
        keep_images: also write the classes of the pixels, `images/<token>/<camera>.png` (`DataConfig.image_semantics`).
        points: folder in which the points of every frame are kept, and taken from if they are there: labels that are
            fused in another way need no model again. None keeps them below `folder`, as long as they are needed.
        engine: who does the work; this process by default. Other machines must see all folders under the same paths.
        trust: take the labels that are there for good, and read no image of theirs.
        progress: show a bar on the terminal.

    Returns:
        What was done. A frame whose images cannot be read, or whose worker died every time, has no label, and later
        frames go without its points.

    Raises:
        ConfigError: if the folder holds labels made in another way, or the labeller speaks of other classes, or the
            points are those of other models.
        DataError: if frames are to be joined whose poses are unknown, or a file cannot be written. What is there is
            whole, and the next call goes on.
    """
    folder = folder.absolute()
    kept_points = None if points is None else points.absolute()
    look = LookConfig(
        dataset=dataset,
        depth=depth,
        labeller=labeller,
        points=kept_points or folder / _POINTS,
        images=folder / "images" if keep_images else None,
        stride=config.stride,
        max_depth=config.max_depth,
        uncertain=config.uncertain,
        outliers=config.outliers,
    )
    fuse = FuseConfig(
        folder=folder, points=look.points, grid=dataset.grid, taxonomy=dataset.taxonomy, fusion=config.fusion
    )
    schedule = Schedule(
        dataset=dataset,
        folder=folder,
        points=look.points,
        keep_points=points is not None,
        images=look.images,
        fusion=config.fusion,
        trust=trust,
    )
    stages = (
        Stage(name=LOOK, build=look.build, stateful=True, gpu=True),
        Stage(name=FUSE, build=fuse.build, stateful=False),
    )
    remove_partials(look.points)
    with (engine or LocalEngine()).open(stages) as crew:
        _describe_all(crew, folder, kept_points, config, dataset)
        bar = track(
            schedule.run(crew),
            "labels",
            total=len(dataset),
            console=Console(stderr=True),
            disable=not progress,
        )
        for _ in bar:
            pass
    _finish(folder, schedule.skipped)
    return Made(written=schedule.written, kept=schedule.kept, changed=tuple(schedule.changed), skipped=schedule.skipped)


def _describe_all(crew: Crew, folder: Path, points: Path | None, config: FactoryConfig, dataset: FrameDataset) -> None:
    """Ask the models what they are, and write it down or refuse to mix what they would make with other things."""
    crew.submit(LOOK, "description", None)
    outcome = crew.next()
    if outcome.lost is not None:
        raise ConfigError(f"make_labels: the models cannot be loaded: {outcome.lost}")
    found: Described = outcome.value
    if found.taxonomy != dataset.taxonomy.name:
        raise ConfigError(
            f"make_labels: the labeller gives classes of {found.taxonomy}, {dataset.root} has those of "
            f"{dataset.taxonomy.name}; take another vocabulary"
        )
    _describe(folder / PSEUDO_LABELS, _description_of_labels(found, config, dataset))
    if points is not None:
        _describe(points / POINTS_DESCRIPTION, _description_of_points(found, config, dataset))


def _finish(folder: Path, skipped: Mapping[str, str]) -> None:
    shutil.rmtree(folder / _POINTS, ignore_errors=True)
    if skipped:
        write_json(folder / SKIPPED, dict(skipped))
    else:
        (folder / SKIPPED).unlink(missing_ok=True)


def _description_of_points(models: Described, config: FactoryConfig, dataset: FrameDataset) -> dict[str, Any]:
    outliers = None if config.outliers is None else asdict(config.outliers)
    return {
        "format": 1,
        "depth": models.depth,
        "labeller": models.labeller,
        "stride": config.stride,
        "max_depth": config.max_depth,
        "uncertain": config.uncertain,
        "outliers": {"kind": type(config.outliers).__name__, "config": outliers},
        "taxonomy": dataset.taxonomy.name,
    }


def _description_of_labels(models: Described, config: FactoryConfig, dataset: FrameDataset) -> dict[str, Any]:
    return {
        "format": 1,
        "depth": models.depth,
        "labeller": models.labeller,
        "config": asdict(config) | {"outliers_kind": type(config.outliers).__name__},
        "grid": {"origin": list(dataset.grid.origin), "voxel_size": list(dataset.grid.voxel_size)},
        "shape": list(dataset.grid.shape),
        "taxonomy": dataset.taxonomy.name,
    }


def _describe(path: Path, wanted: dict[str, Any]) -> None:
    """Say how what lies in a folder is made, or refuse to mix it with what was made in another way."""
    wanted = json.loads(json.dumps(wanted))  # as it is read back: a tuple is a list
    if not path.is_file():
        write_json(path, wanted)
        return
    found = read_json(path)
    if found != wanted:
        keys = [key for key in wanted if not isinstance(found, dict) or found.get(key) != wanted[key]]
        what = path.stem
        raise ConfigError(
            f"{path.parent}: holds {what} made in another way (different: {', '.join(keys)}); take another folder"
        )
