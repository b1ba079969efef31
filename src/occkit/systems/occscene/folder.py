"""Scenes that were drawn, on disk: images with their rig, the occupancy that belongs to them, a sheet, and a page."""

import hashlib
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from occkit.data.predictions import prediction_path, read_prediction, write_prediction
from occkit.data.records import grid_of
from occkit.data.rig_files import read_rigs, write_rigs
from occkit.errors import DataError
from occkit.files import read_image, read_json, write_image, write_json
from occkit.geometry import Cameras, VoxelGrid
from occkit.samples import Occupancy
from occkit.systems.occscene.sampling import Drawn
from occkit.taxonomy import TAXONOMIES, Taxonomy
from occkit.viewer import canvas, draw_perspective, draw_top, save_picture
from occkit.viewer.canvas import Picture
from occkit.viewer.figures import KITTI_CAR
from occkit.viewer.report import Block, Figure, Key, Report, Row, Section, Text, write_report
from occkit.viewer.scene import EgoCar

SETTINGS = "generated.json"
"""What the samples of a folder have in common."""
SAMPLE = "sample.json"
"""Prompt, seed and frames of a sample."""
_MOST_ON_PAGE = 60
_SHOWN = 420


@dataclass(frozen=True, kw_only=True)
class Request:
    """One sample to draw."""

    prompt: str
    """What to draw."""
    seed: int
    """Decides everything random."""

    @property
    def name(self) -> str:
        """The folder's name: a few words of the prompt, a digest of all of it, the seed."""
        words = "-".join(re.findall(r"[a-z0-9]+", self.prompt.lower()))[:40].strip("-") or "prompt"
        return f"{words}_{hashlib.sha256(self.prompt.encode()).hexdigest()[:8]}_{self.seed}"


def open_folder(out: Path, settings: dict[str, Any]) -> None:
    """Make a folder ours, or see that it already holds samples drawn in the same way.

    Raises:
        DataError: if it holds anything else.
    """
    marker = out / SETTINGS
    if marker.is_file():
        kept = read_json(marker)
        if kept != settings:
            differs = [key for key in settings if not isinstance(kept, dict) or kept.get(key) != settings[key]]
            raise DataError(out, f"holds samples drawn otherwise ({', '.join(differs)} differ)", "give a new folder")
        return
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(out, "is not empty and holds no samples", "give a new folder as --out")
    write_json(marker, settings)


def is_drawn(out: Path, request: Request) -> bool:
    """Say whether a sample is there; one that was interrupted is not."""
    return (out / request.name / SAMPLE).is_file()


def write_sample(
    out: Path,
    request: Request,
    drawn: Drawn,
    cameras: Cameras,
    names: Sequence[str],
    *,
    grid: VoxelGrid,
    taxonomy: Taxonomy,
    remarks: Sequence[str] = (),
) -> Path:
    """Write a sample's folder, whole or not at all, and return it.

    Args:
        out: the folder of all samples.
        request: what was asked for.
        drawn: what came out.
        cameras: `[t, n]`, as it was drawn for.
        names: of the cameras.
        grid: of the occupancy.
        taxonomy: of the occupancy.
        remarks: what was said about the prompt.
    """
    final, partial = out / request.name, out / f".{request.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    tokens = write_rigs(partial, cameras, names, token=request.name)
    for time, images in enumerate(drawn.images):
        for name, image in zip(names, images, strict=True):
            write_image(partial / f"{len(tokens) - 1 - time:03d}" / f"{name}.png", image.numpy())
    described = tokens[::-1][: len(drawn.semantics)]
    for token, volume in zip(described, drawn.semantics, strict=True):
        write_prediction(partial / "occupancy", token, volume.numpy())
    said = {"prompt": request.prompt, "seed": request.seed, "frames": list(tokens), "occupancy": list(described[::-1])}
    write_json(partial / SAMPLE, said | {"remarks": list(remarks)})
    _draw_pictures(partial, grid, taxonomy)
    shutil.rmtree(final, ignore_errors=True)
    partial.rename(final)
    return final


def write_page(out: Path, *, run: str, grid: VoxelGrid, taxonomy: Taxonomy) -> Path:
    """Write `index.html` with the samples of a folder, in the order of their names, and return its path.

    Raises:
        DataError: if a sample is damaged.
    """
    folders = sample_folders(out)
    sections = tuple(_section(folder, grid, taxonomy) for folder in folders[:_MOST_ON_PAGE])
    left = f" The first {_MOST_ON_PAGE} are shown." if len(folders) > _MOST_ON_PAGE else ""
    lead = f"{len(folders)} scenes that {run} drew from text, with the occupancy that it read in them.{left}"
    write_report(out / "index.html", Report(title="Generated scenes", lead=lead, sections=sections))
    return out / "index.html"


def read_sample(folder: Path) -> tuple[Cameras, tuple[str, ...], dict[str, Any]]:
    """Read the cameras, their names and what is said about a sample.

    Raises:
        DataError: if it is damaged.
    """
    said = read_json(folder / SAMPLE, max_bytes=2**20)
    if not isinstance(said, dict) or not {"prompt", "seed", "frames", "occupancy"} <= said.keys():
        raise DataError(folder / SAMPLE, "expected prompt, seed, frames and occupancy", "draw it again")
    cameras, names = read_rigs(folder)
    return cameras, names, said


def sample_folders(out: Path) -> tuple[Path, ...]:
    """Return the folders of the samples that are drawn, in the order of their names."""
    return tuple(sorted(path.parent for path in out.glob(f"*/{SAMPLE}")))


def read_volume(out: Path, folder: Path, token: str) -> Occupancy:
    """Read the occupancy of a frame of a sample.

    Args:
        out: the folder of all samples, whose settings state grid and classes.
        folder: the sample's.
        token: the frame's.

    Raises:
        DataError: if the settings or the volume are damaged.
    """
    settings = read_json(out / SETTINGS, max_bytes=2**24)
    if not isinstance(settings, dict) or settings.get("taxonomy") not in TAXONOMIES:
        raise DataError(out / SETTINGS, f"expected a taxonomy, one of {', '.join(TAXONOMIES)}", "draw the scenes again")
    grid = grid_of(settings.get("grid"), out / SETTINGS)
    volume = read_prediction(prediction_path(folder / "occupancy", token), shape=grid.shape)
    return Occupancy(semantics=torch.from_numpy(volume), grid=grid, taxonomy=TAXONOMIES[settings["taxonomy"]])


def _pictures(folder: Path, names: Sequence[str], frames: int) -> list[tuple[str, Picture]]:
    """Return caption and picture of each image, in the order of time, no smaller than can be looked at."""
    found: list[tuple[str, Picture]] = []
    for place in range(frames):
        for name in names:
            picture = canvas.to_array(read_image(folder / f"{place:03d}" / f"{name}.png"))
            factor = max(1, round(_SHOWN / picture.shape[1]))
            picture = picture.repeat(factor, axis=0).repeat(factor, axis=1)
            said = name.replace("_", " ") + (f", frame {place + 1}" if frames > 1 else "")
            found.append((said, np.ascontiguousarray(picture)))
    return found


def _occupancies(folder: Path, said: dict[str, Any], grid: VoxelGrid, taxonomy: Taxonomy) -> list[Occupancy]:
    volumes = [read_prediction(prediction_path(folder / "occupancy", t), shape=grid.shape) for t in said["occupancy"]]
    return [Occupancy(semantics=torch.from_numpy(v), grid=grid, taxonomy=taxonomy) for v in volumes]


def _ego(taxonomy: Taxonomy) -> EgoCar | None:
    """Return the car to draw; in rooms there is none."""
    if taxonomy.name == "nyuv2":
        return None
    return KITTI_CAR if taxonomy.name in ("semantickitti", "kitti360") else EgoCar()


def _draw_pictures(folder: Path, grid: VoxelGrid, taxonomy: Taxonomy) -> None:
    """Draw the occupancy of the last frame from behind and from above, and a sheet of images, occupancy and legend."""
    _, names, said = read_sample(folder)
    shown = _pictures(folder, names, len(said["frames"]))
    occupancies, ego = _occupancies(folder, said, grid, taxonomy), _ego(taxonomy)
    last = draw_perspective(occupancies[-1], ego=ego)
    width, columns = last.shape[1], min(3, len(shown))
    images = canvas.tile([p for _, p in shown], columns=columns, captions=[c for c, _ in shown], width=width)
    title = canvas.legend([(said["prompt"][:140], canvas.PAPER)], width=width)
    legend = canvas.legend(canvas.present_classes(occupancies), width=width)
    save_picture(folder / "scene.png", last)
    save_picture(folder / "above.png", draw_top(occupancies[-1], ego=ego, with_legend=False))
    save_picture(folder / "sheet.png", canvas.stack([title, images, last, legend]))


def _section(folder: Path, grid: VoxelGrid, taxonomy: Taxonomy) -> Section:
    _, names, said = read_sample(folder)
    occupancies = _occupancies(folder, said, grid, taxonomy)
    shown = _pictures(folder, names, len(said["frames"]))
    figures = tuple(Figure(picture=picture, caption=caption) for caption, picture in shown)
    drawn = (
        ("scene.png", "Occupancy, from behind and above."),
        ("above.png", "Occupancy from straight above; forward is up."),
    )
    scenes = [Figure(picture=canvas.to_array(read_image(folder / name)), caption=said_of) for name, said_of in drawn]
    remarks = "".join(f" {remark}." for remark in said.get("remarks", ()))
    text = Text(paragraphs=(f"Seed {said['seed']}, {len(said['frames'])} frames of {len(names)} cameras.{remarks}",))
    key = Key(entries=tuple(canvas.present_classes(occupancies)))
    blocks: tuple[Block, ...] = (text, Row(figures=figures, small=True), Row(figures=tuple(scenes)), key)
    return Section(title=said["prompt"][:200], blocks=blocks)
