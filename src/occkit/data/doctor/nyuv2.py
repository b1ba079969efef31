"""NYUv2 roots in SSCNet's layout: names, sizes, runs, poses, images, and whether labels lie where depth maps say."""

from collections import Counter
from pathlib import Path

import numpy as np
import torch

from occkit.data.doctor.alignment import MAX_FRAMES, Evidence, judge
from occkit.data.doctor.nuscenes import report_verdict
from occkit.data.doctor.report import Progress, Report, choose, relative
from occkit.data.nyuv2 import (
    NAME,
    NYUV2_GRID,
    NYUV2_SPLITS,
    ego_from_world,
    find_splits,
    points_of_depth,
    pool_ids,
    read_depth,
    read_volume,
    volume_to_sample,
)
from occkit.errors import DataError
from occkit.files import image_size
from occkit.taxonomy import NYUV2

_COLOURS = ("_color.jpg", "_color.png", "_rgb.png")


def examine_nyuv2(report: Report, root: Path, *, frames: int | None, progress: Progress) -> None:
    """Examine a NYUv2 root."""
    base = find_splits(root)
    if base is None:
        raise DataError(root, "no NYUtrain or NYUtest", "give the folder above them")
    report.kind = "NYUv2 scene completion"
    volumes: dict[str, Path] = {}
    for folder in NYUV2_SPLITS["all"]:
        found = sorted((base / folder).glob("*.bin")) if (base / folder).is_dir() else []
        if not found:
            report.add("warning", relative(base / folder, root), "no .bin files", "that split cannot be opened")
        for path in found:
            _note_volume(report, path, volumes, root)
    report.count("frames", len(volumes))
    if not volumes:
        report.add("error", root, "no frame: no NYU*.bin", "download SSCNet's depthbin")
        return
    _check_images(report, list(volumes.values()), root, frames)
    evidence: list[Evidence] = []
    chosen = choose(list(volumes.values()), frames)
    compared = set(choose(chosen, MAX_FRAMES))
    for done, path in enumerate(chosen):
        progress("examining labels", done, len(chosen))
        if (found := report.attempt(lambda path=path: _compare(report, path, root, path in compared))) is not None:
            evidence.append(found)
    if evidence:
        report_verdict(report, root, judge(evidence), frames=len(evidence), sensor="depth map")


def _note_volume(report: Report, path: Path, volumes: dict[str, Path], root: Path) -> None:
    name = relative(path, root)
    if not NAME.fullmatch(path.stem):
        report.add("warning", name, "is not named NYU0001_0000.bin, so no reader opens it", "rename it")
    elif path.stem in volumes:
        report.add(
            "error", name, f"the same frame is also {relative(volumes[path.stem], root)}", "keep it in one split"
        )
    elif report.attempt(lambda: read_volume(path, ids=False)) is not None:
        volumes[path.stem] = path


def _check_images(report: Report, paths: list[Path], root: Path, frames: int | None) -> None:
    sizes: Counter[tuple[int, int]] = Counter()
    images: list[Path] = []
    no_depth: list[str] = []
    for path in paths:
        image = next((p for s in _COLOURS if (p := path.with_name(path.stem + s)).is_file()), None)
        if image is None:
            report.add("error", relative(path, root), "no colour image beside it", "add NAME_color.jpg (MonoScene's)")
        else:
            images.append(image)
        if not path.with_suffix(".png").is_file():
            no_depth.append(relative(path, root))
    report.add_many("warning", no_depth, "no depth map beside it", "depth losses and depth metrics need it")
    for image in choose(images, frames):
        size = report.attempt(lambda image=image: image_size(image))
        if size is not None:
            report.count("images")
            sizes[size] += 1
            if 4 * size[0] != 3 * size[1]:
                problem = f"expected 640 x 480 or another 4 : 3, got {size[1]} x {size[0]}"
                report.add(
                    "error", relative(image, root), problem, "undo the cropping: the camera is that of all of it"
                )
    if len(sizes) > 1:
        report.add("error", root, f"images of several sizes: {sorted(sizes)}", "scale them alike")


def _compare(report: Report, path: Path, root: Path, compare: bool) -> Evidence | None:
    """Unpack a label; return where its depth map hits, None without one."""
    volume = read_volume(path)
    assert volume.ids is not None
    report.count("labels")
    semantics = volume_to_sample(pool_ids(volume.ids))
    occupied = (semantics != NYUV2.free_id) & (semantics != NYUV2.ignore_id)
    if not occupied.any():
        report.add("warning", relative(path, root), "nothing is labelled", "a frame without ground truth: leave it out")
        return None
    depth_path = path.with_suffix(".png")
    if not compare or not depth_path.is_file():
        return None
    pose = ego_from_world(volume.origin) @ volume.world_from_camera
    points = torch.from_numpy(points_of_depth(read_depth(depth_path), pose))
    index, inside = NYUV2_GRID.index_of(points[:, :3])
    return Evidence(hits=np.unique(index[inside].numpy().reshape(-1, 3), axis=0), occupied=occupied)
