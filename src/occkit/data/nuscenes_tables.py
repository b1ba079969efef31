"""The relational tables of nuScenes (`v1.0-*/*.json`), read without the devkit.

Six of them place an image or a sweep: `scene`, `sample`, `sample_data`, `calibrated_sensor`, `ego_pose`, `sensor`. The
two large ones are streamed; kept are key frames of cameras and of the LiDAR, and what lies beside them if wanted.

Source: Caesar et al., "nuScenes", 2020; the published schema.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import torch

from occkit.data.json_records import iterate_json_records
from occkit.data.records import Floats, field, intrinsics_of, name_field, path_field, pose_of_quaternion
from occkit.errors import DataError
from occkit.geometry import pose_from_quaternion

LIDAR = "LIDAR_TOP"
"""The channel whose ego pose is the reference frame of a sample."""
TABLES = ("scene", "sample", "sample_data", "calibrated_sensor", "ego_pose", "sensor")
"""Tables that are read."""
CAMERA_ORDER = ("CAM_FRONT_LEFT", "CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_BACK_LEFT", "CAM_BACK", "CAM_BACK_RIGHT")
"""nuScenes cameras come in this order, others after them in the order of `sensor.json`."""


@dataclass(frozen=True, slots=True)
class Recording:
    """One key frame of one sensor: a row of `sample_data` with what it points to."""

    file: PurePosixPath
    """Relative to the data root."""
    timestamp: int
    """Microseconds."""
    size: tuple[int, int]
    """(height, width) of an image, pixels; zeros for a LiDAR."""
    ego_from_sensor: Floats
    """Mounting, as (w, x, y, z, tx, ty, tz)."""
    global_from_ego: Floats
    """Ego pose at this sensor's own exposure, as (w, x, y, z, tx, ty, tz)."""
    intrinsics: Floats | None
    """3x3, pixels; None for a LiDAR."""


@dataclass(frozen=True, kw_only=True)
class Tables:
    """The key frames of a version folder."""

    folder: Path
    """`<root>/v1.0-*`."""
    scenes: dict[str, tuple[str, ...]]
    """Scene name -> sample tokens in the order of time."""
    timestamps: dict[str, int]
    """Sample token -> microseconds."""
    recordings: dict[str, dict[str, Recording]]
    """Sample token -> channel -> recording."""
    cameras: tuple[str, ...]
    """Channels that are cameras."""
    nearby: dict[str, dict[str, dict[int, Recording]]]
    """Sample token -> camera -> step -> the recording so many before (negative) or after its key frame."""


def matrix_of(poses: Floats) -> Floats:
    """Return the matrices `[..., 4, 4]` of poses `[..., 7]`: w, x, y, z, tx, ty, tz."""
    both = torch.from_numpy(poses)
    return pose_from_quaternion(both[..., :4], both[..., 4:]).numpy()


def read_tables(folder: Path, *, steps: Collection[int] = ()) -> Tables:
    """Read the tables of a version folder.

    Args:
        folder: `<root>/v1.0-*`.
        steps: which recordings beside each key frame of a camera to keep, sweeps or key frames; needs a second reading
            of the largest table.

    Raises:
        DataError: if a table is missing or damaged, or a row points to one that is not there.
    """
    channels, cameras = _read_sensors(folder)
    mountings = _read_mountings(folder, channels)
    scenes, timestamps, scene_of = _read_scenes(folder)
    beside = _beside_keys(folder, mountings, scene_of, steps) if steps else {}
    rows = list(_wanted_rows(folder, mountings, timestamps, beside))
    poses = _read_poses(folder, {row.pose for row in rows})
    recordings: dict[str, dict[str, Recording]] = {token: {} for token in timestamps}
    nearby: dict[str, dict[str, dict[int, Recording]]] = {token: {} for token in timestamps}
    for row in rows:
        channel, ego_from_sensor, intrinsics = mountings[row.mounting]
        recording = Recording(
            file=row.file,
            timestamp=row.timestamp,
            size=row.size,
            ego_from_sensor=ego_from_sensor,
            global_from_ego=poses[row.pose],
            intrinsics=intrinsics,
        )
        if row.is_key:
            recordings[row.sample][channel] = recording
        for sample, step in beside.get(row.token, ()):
            nearby[sample].setdefault(channel, {})[step] = recording
    by_scene: dict[str, list[str]] = {name: [] for name in scenes.values()}
    for token in sorted(timestamps, key=lambda t: (timestamps[t], t)):
        by_scene[scenes[scene_of[token]]].append(token)
    return Tables(
        folder=folder,
        scenes={name: tuple(by_scene[name]) for name in sorted(by_scene)},
        timestamps=timestamps,
        recordings=recordings,
        cameras=cameras,
        nearby=nearby,
    )


def _rows(folder: Path, table: str) -> Iterator[tuple[Path, dict[str, Any]]]:
    path = folder / f"{table}.json"
    for record in iterate_json_records(path):
        yield path, record


def _read_sensors(folder: Path) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return sensor token -> channel (cameras and the LiDAR), and the camera channels in order."""
    channels: dict[str, str] = {}
    cameras: list[str] = []
    for path, record in _rows(folder, "sensor"):
        channel, modality = name_field(record, "channel", path), field(record, "modality", str, path)
        if modality == "camera" and channel not in cameras:
            cameras.append(channel)
        if modality == "camera" or channel == LIDAR:
            channels[field(record, "token", str, path)] = channel
    known = [name for name in CAMERA_ORDER if name in cameras]
    return channels, (*known, *(name for name in cameras if name not in known))


def _read_mountings(folder: Path, channels: dict[str, str]) -> dict[str, tuple[str, Floats, Floats | None]]:
    """Return calibrated_sensor token -> (channel, ego_from_sensor, intrinsics)."""
    mountings = {}
    for path, record in _rows(folder, "calibrated_sensor"):
        channel = channels.get(field(record, "sensor_token", str, path))
        if channel is None:
            continue
        token = field(record, "token", str, path)
        what = f"{channel} ({token})"
        intrinsics = None
        if channel != LIDAR:
            intrinsics = intrinsics_of(record.get("camera_intrinsic"), f"{what} camera_intrinsic", path)
        mountings[token] = (channel, pose_of_quaternion(record, what, path), intrinsics)
    return mountings


def _read_scenes(folder: Path) -> tuple[dict[str, str], dict[str, int], dict[str, str]]:
    """Return scene token -> name, sample token -> timestamp, sample token -> scene token."""
    scenes = {field(r, "token", str, path): name_field(r, "name", path) for path, r in _rows(folder, "scene")}
    timestamps: dict[str, int] = {}
    scene_of: dict[str, str] = {}
    for path, record in _rows(folder, "sample"):
        token, scene = name_field(record, "token", path), field(record, "scene_token", str, path)
        if scene not in scenes:
            raise DataError(
                path, f"sample {token} belongs to scene {scene[:40]!r}, which scene.json lacks", "download again"
            )
        timestamps[token], scene_of[token] = field(record, "timestamp", int, path), scene
    if not timestamps:
        raise DataError(folder / "sample.json", "expected samples, got an empty table", "download again")
    return scenes, timestamps, scene_of


class _Row(NamedTuple):
    """A row of `sample_data`."""

    token: str
    sample: str
    is_key: bool
    file: PurePosixPath
    timestamp: int
    size: tuple[int, int]
    mounting: str
    pose: str


def _beside_keys(
    folder: Path,
    mountings: dict[str, tuple[str, Floats, Floats | None]],
    scene_of: dict[str, str],
    steps: Collection[int],
) -> dict[str, list[tuple[str, int]]]:
    """Return sample_data token -> the (sample, step) that it serves, in the order of a camera's times in a scene."""
    order: dict[tuple[str, str], list[tuple[int, str, str | None]]] = {}
    for path, record in _rows(folder, "sample_data"):
        mounting = mountings.get(field(record, "calibrated_sensor_token", str, path))
        sample = field(record, "sample_token", str, path)
        if mounting is None or mounting[2] is None or sample not in scene_of:
            continue
        key = sample if record.get("is_key_frame") is True else None
        row = (field(record, "timestamp", int, path), field(record, "token", str, path), key)
        order.setdefault((scene_of[sample], mounting[0]), []).append(row)
    serves: dict[str, list[tuple[str, int]]] = {}
    for rows in order.values():
        rows.sort(key=lambda row: row[:2])
        for position, (_, _, sample) in enumerate(rows):
            for step in steps:
                if sample is not None and 0 <= position + step < len(rows):
                    serves.setdefault(rows[position + step][1], []).append((sample, step))
    return serves


def _wanted_rows(
    folder: Path, mountings: dict[str, Any], samples: Collection[str], beside: Collection[str]
) -> Iterator[_Row]:
    """Yield the key frames of cameras and LiDAR, and the rows of `beside`."""
    for path, record in _rows(folder, "sample_data"):
        is_key = record.get("is_key_frame") is True
        if not is_key and not (beside and record.get("token") in beside):
            continue
        mounting = field(record, "calibrated_sensor_token", str, path)
        if mounting not in mountings:
            continue
        sample = field(record, "sample_token", str, path)
        if sample not in samples:
            raise DataError(path, f"a row points to sample {sample[:40]!r}, which sample.json lacks", "download again")
        size = (0, 0)
        if mountings[mounting][0] != LIDAR:
            size = (field(record, "height", int, path), field(record, "width", int, path))
            if min(size) < 1:
                raise DataError(path, f"expected the size of an image, got {size[1]} x {size[0]}", "download again")
        yield _Row(
            token=field(record, "token", str, path),
            sample=sample,
            is_key=is_key,
            file=path_field(record, "filename", path),
            timestamp=field(record, "timestamp", int, path),
            size=size,
            mounting=mounting,
            pose=field(record, "ego_pose_token", str, path),
        )


def _read_poses(folder: Path, wanted: set[str]) -> dict[str, Floats]:
    poses = {}
    for path, record in _rows(folder, "ego_pose"):
        token = field(record, "token", str, path)
        if token in wanted:
            poses[token] = pose_of_quaternion(record, token, path)
    missing = wanted - poses.keys()
    if missing:
        first = min(missing)[:40]
        raise DataError(folder / "ego_pose.json", f"lacks {len(missing)} poses, e.g. {first!r}", "download again")
    return poses
