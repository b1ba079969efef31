"""All pictures of one frame: what its cameras saw, with LiDAR and with voxels over them, and the scene itself."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from occkit.geometry import Cameras
from occkit.samples import Occupancy, Sample
from occkit.viewer import canvas
from occkit.viewer.canvas import Picture
from occkit.viewer.compare import ERRORS, error_volume
from occkit.viewer.overlay import draw_overlay, draw_points
from occkit.viewer.report import Block, Figure, Key, Row
from occkit.viewer.scene import EgoCar, draw_perspective, draw_top
from occkit.viewer.show import Shown

KITTI_CAR = EgoCar(ground=-1.73, rear=-2.5)
"""The recording car of SemanticKITTI, seen from its Velodyne."""

_SHEET = 1800
"""Width of a picture of a whole frame, pixels."""


def recording_car(dataset: str) -> EgoCar | None:
    """Return the car to draw for a data set, by its name; None in rooms."""
    return {"semantickitti": KITTI_CAR, "nyuv2": None}.get(dataset, EgoCar())


@dataclass(frozen=True, kw_only=True)
class FrameViews:
    """The pictures of one frame."""

    camera_names: tuple[str, ...]
    """One a camera."""
    images: tuple[Picture, ...]
    """What each camera saw."""
    lidar: tuple[Picture, ...] | None
    """LiDAR points over each image; None without points."""
    overlay: tuple[Picture, ...]
    """Predicted voxels over each image."""
    perspective: Picture
    """The prediction from behind and above."""
    top: Picture
    """The prediction from straight above."""
    label_perspective: Picture | None
    """The label from behind and above; None without a label."""
    label_top: Picture | None
    """The label from straight above."""
    errors: Picture | None
    """False, missed and wrongly named voxels from straight above, where the cameras saw."""
    classes: tuple[tuple[str, tuple[int, int, int]], ...]
    """Name and colour of the classes that occur."""


def draw_frame(sample: Sample, prediction: Occupancy, *, ego: EgoCar | None, width: int = 800) -> FrameViews:
    """Draw everything there is to see of a frame.

    Args:
        sample: current images (index 0 in time) and cameras; points and label if there are any.
        prediction: `[x, y, z]`, in the sample's reference frame.
        ego: the recording car, see `scene.EgoCar`; None leaves it out.
        width: of each camera picture, pixels; images are scaled to it.

    Returns:
        The pictures.
    """
    views = [scaled_view(sample, i, width) for i in range(len(sample.camera_names))]
    points = sample.points
    label = sample.occupancy
    shown = [prediction] if label is None else [prediction, label]
    return FrameViews(
        camera_names=sample.camera_names,
        images=tuple(image for image, _ in views),
        lidar=None if points is None else tuple(draw_points(image, camera, points) for image, camera in views),
        overlay=tuple(draw_overlay(image, camera, prediction) for image, camera in views),
        perspective=draw_perspective(prediction, ego=ego),
        top=draw_top(prediction, ego=ego, with_legend=False),
        label_perspective=None if label is None else draw_perspective(label, ego=ego),
        label_top=None if label is None else draw_top(label, ego=ego, with_legend=False),
        errors=None if label is None else draw_top(error_volume(prediction, label), ego=ego, with_legend=False),
        classes=tuple(canvas.present_classes(shown)),
    )


def camera_sheet(pictures: Sequence[Picture], names: Sequence[str], *, width: int = 1600) -> Picture:
    """Return the pictures of a rig in rows of three (two for up to two, or four, cameras), each with its name."""
    columns = 3 if len(pictures) not in (1, 2, 4) else min(2, len(pictures))
    return canvas.tile(pictures, columns=columns, captions=[name.replace("_", " ") for name in names], width=width)


def sheets(views: FrameViews) -> dict[str, Picture]:
    """Return the pictures of a frame as few large ones, by the name of the file each is kept in."""
    found = {"cameras": camera_sheet(views.images, views.camera_names)}
    if views.lidar is not None:
        found["lidar"] = camera_sheet(views.lidar, views.camera_names)
    found["overlay"] = camera_sheet(views.overlay, views.camera_names)
    if views.label_perspective is None or views.label_top is None:
        found["perspective"] = _with_legend(views.perspective, views)
        found["top"] = _with_legend(views.top, views)
        return found
    both = (views.perspective, views.label_perspective), (views.top, views.label_top)
    pair = canvas.tile(both[0], columns=2, captions=("prediction", "label"), width=1800)
    found["perspective"] = _with_legend(pair, views)
    found["top"] = _with_legend(canvas.tile(both[1], columns=2, captions=("prediction", "label")), views)
    if views.errors is not None:
        strip = canvas.legend([(name, ERRORS.colours[i]) for i, name in enumerate(ERRORS.classes[:4])], width=800)
        found["errors"] = canvas.stack([views.errors, strip])
    return found


def picture_of(shown: Shown, *, width: int = 640) -> Picture:
    """Return one picture of a frame: its cameras with the first volume over them, and every volume from behind.

    Args:
        shown: the frame.
        width: of each camera picture, pixels.
    """
    names = list(shown.volumes)
    first = shown.volumes[names[0]]
    rows: list[Picture] = []
    if shown.sample is not None:
        views = [scaled_view(shown.sample, i, width) for i in range(len(shown.sample.camera_names))]
        painted = [draw_overlay(image, camera, first) for image, camera in views]
        rows.append(camera_sheet(painted, shown.sample.camera_names, width=_SHEET))
    drawn = [draw_perspective(volume, ego=shown.ego) for volume in shown.volumes.values()]
    rows.append(canvas.tile(drawn, columns=min(2, len(drawn)), captions=names, width=_SHEET))
    rows += [canvas.legend(entries, width=_SHEET) for entries in _keys(shown)]
    return canvas.stack(rows)


def _keys(shown: Shown) -> list[list[tuple[str, tuple[int, int, int]]]]:
    """Return the classes that occur, those of each taxonomy together."""
    by_taxonomy: dict[str, list[Occupancy]] = {}
    for volume in shown.volumes.values():
        by_taxonomy.setdefault(volume.taxonomy.name, []).append(volume)
    return [entries for volumes in by_taxonomy.values() if (entries := canvas.present_classes(volumes))]


def _with_legend(picture: Picture, views: FrameViews) -> Picture:
    return canvas.stack([picture, canvas.legend(views.classes, width=picture.shape[1])])


def camera_blocks(views: FrameViews) -> tuple[Block, ...]:
    """Return the camera pictures as blocks of a report."""
    blocks: list[Block] = []
    if views.lidar is not None:
        blocks.append(_camera_row(views.lidar, views.camera_names, "LiDAR points"))
    blocks.append(_camera_row(views.overlay, views.camera_names, "predicted voxels"))
    return tuple(blocks)


def scene_blocks(views: FrameViews) -> tuple[Block, ...]:
    """Return the scene, prediction beside label where there is one, as blocks of a report."""
    prediction = Figure(picture=views.perspective, caption="Prediction.")
    above = Figure(picture=views.top, caption="Prediction from above; forward is up, circles are ten metres apart.")
    legend = Key(entries=views.classes)
    if views.label_perspective is None or views.label_top is None or views.errors is None:
        return prediction, legend, above
    label = Figure(picture=views.label_perspective, caption="Label.")
    label_above = Figure(picture=views.label_top, caption="Label from above, unseen voxels included.")
    wrong = Figure(
        picture=views.errors,
        caption="Errors where the cameras saw: grey is right, red false, blue missed, orange has the wrong class.",
    )
    return Row(figures=(prediction, label)), legend, Row(figures=(above, label_above, wrong), small=True)


def _camera_row(pictures: Sequence[Picture], names: Sequence[str], what: str) -> Row:
    captions = [f"{name.replace('_', ' ')}, {what}" for name in names]
    return Row(
        figures=tuple(Figure(picture=p, caption=c, photo=True) for p, c in zip(pictures, captions, strict=True)),
        small=True,
    )


def scaled_view(sample: Sample, index: int, width: int) -> tuple[Picture, Cameras]:
    """Return the current image of a camera at a width, with the camera that fits it."""
    picture = canvas.to_array(sample.images[0, index].numpy())
    camera = sample.cameras[0, index]
    height = round(camera.height * width / camera.width)
    if (height, width) == (camera.height, camera.width):
        return picture, camera
    return np.ascontiguousarray(canvas.resize(picture, height, width)), camera.resize(height, width)
