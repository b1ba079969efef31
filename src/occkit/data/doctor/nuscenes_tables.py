"""nuScenes tables: are they all there, do they refer to each other, do the chains hold, are the poses poses?"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from occkit.data.doctor.report import Report
from occkit.data.json_records import iterate_json_records
from occkit.data.records import path_field
from occkit.errors import DataError

TABLES: dict[str, tuple[str, ...]] = {
    "scene": ("token", "name", "nbr_samples", "first_sample_token", "last_sample_token"),
    "sample": ("token", "timestamp", "scene_token", "prev", "next"),
    "sensor": ("token", "channel", "modality"),
    "calibrated_sensor": ("token", "sensor_token", "translation", "rotation", "camera_intrinsic"),
    "sample_data": (
        "token",
        "sample_token",
        "ego_pose_token",
        "calibrated_sensor_token",
        "filename",
        "timestamp",
        "is_key_frame",
    ),
    "ego_pose": ("token", "translation", "rotation"),
}
"""The tables a reader needs, and of each the fields."""

Record = dict[str, Any]

MAX_MOUNTING = 20.0
"""A sensor farther than this from the ego frame's origin, metres, is no sensor of this car."""


@dataclass(kw_only=True)
class Tables:
    """What was read, by token; of sample_data and ego_pose only what belongs to keyframes."""

    scenes: dict[str, Record] = field(default_factory=dict)
    """Scenes."""
    samples: dict[str, Record] = field(default_factory=dict)
    """Samples."""
    sensors: dict[str, Record] = field(default_factory=dict)
    """Sensors."""
    calibrations: dict[str, Record] = field(default_factory=dict)
    """Calibrated sensors."""
    keyframes: dict[str, dict[str, Record]] = field(default_factory=dict)
    """Sample token -> channel -> sample_data."""
    poses: dict[str, Record] = field(default_factory=dict)
    """Ego poses of keyframe sample_data."""
    num_sweeps: int = 0
    """sample_data that are no keyframes."""


def read_tables(report: Report, folder: Path) -> Tables | None:
    """Read the tables and note what is wrong in them; None if they cannot be worked with."""
    missing = [f"{name}.json" for name in TABLES if not (folder / f"{name}.json").exists()]
    if missing:
        report.add_many("error", missing, f"missing in {folder.name}", "unpack the metadata archive of nuScenes again")
        return None
    tables = Tables()
    try:
        tables.scenes = {r["token"]: r for r in _records(folder, "scene")}
        tables.samples = {r["token"]: r for r in _records(folder, "sample")}
        tables.sensors = {r["token"]: r for r in _records(folder, "sensor")}
        tables.calibrations = {r["token"]: r for r in _records(folder, "calibrated_sensor")}
        wanted = _read_keyframes(report, folder, tables)
        tables.poses = {r["token"]: r for r in _records(folder, "ego_pose") if r["token"] in wanted}
    except DataError as error:
        hint = "NaN" in error.problem
        report.add("error", error.path, error.problem, "replace NaN poses by real ones" if hint else error.remedy)
        return None
    report.count("scenes", len(tables.scenes))
    report.count("samples", len(tables.samples))
    lost = sorted(token for token in wanted if token not in tables.poses)
    report.add_many("error", lost, "ego_pose record missing, for a keyframe", "the tables do not belong together")
    _check_chains(report, folder, tables)
    _check_calibrations(report, folder, tables)
    bad = [token for token, record in tables.poses.items() if not is_pose(record, reach=1e6)]
    report.add_many("error", bad, "ego_pose is no pose (rotation not of length 1, or not finite)", "take the original")
    return tables


def _records(folder: Path, table: str) -> Iterator[Record]:
    path = folder / f"{table}.json"
    for number, record in enumerate(iterate_json_records(path)):
        for key in TABLES[table]:
            if key not in record:
                raise DataError(path, f"record {number} has no {key!r}", "take the table nuScenes publishes")
            if (key.endswith("token") or key in ("prev", "next", "filename", "name", "channel")) and not isinstance(
                record[key], str
            ):
                raise DataError(path, f"record {number}: {key!r} is no text", "take the table nuScenes publishes")
        if table == "sample_data":
            path_field(record, "filename", path)  # a path that climbs out of the data folder is refused
        yield {key: record[key] for key in (*TABLES[table], "width", "height") if key in record}


def _read_keyframes(report: Report, folder: Path, tables: Tables) -> set[str]:
    """Read sample_data; return the tokens of the ego poses the keyframes need."""
    wanted: set[str] = set()
    orphans: list[str] = []
    for record in _records(folder, "sample_data"):
        if not record["is_key_frame"]:
            tables.num_sweeps += 1
            continue
        calibration = tables.calibrations.get(record["calibrated_sensor_token"])
        sensor = tables.sensors.get(calibration["sensor_token"]) if calibration else None
        if record["sample_token"] not in tables.samples or sensor is None:
            orphans.append(record["token"])
            continue
        tables.keyframes.setdefault(record["sample_token"], {})[sensor["channel"]] = record
        wanted.add(record["ego_pose_token"])
    report.add_many(
        "error",
        orphans,
        "sample_data refers to a sample, calibrated_sensor or sensor that is not there: missing calibration",
        "the tables do not belong together",
    )
    return wanted


def _check_chains(report: Report, folder: Path, tables: Tables) -> None:
    broken: list[str] = []
    for scene in tables.scenes.values():
        problem = _broken_chain(scene, tables.samples)
        if problem:
            broken.append(f"{scene['name']}: {problem}")
    report.add_many("error", broken, "broken prev/next chain", f"take {folder.name}/sample.json from the original")
    strays = [t for t, s in tables.samples.items() if s["scene_token"] not in tables.scenes]
    report.add_many("error", strays, "sample of a scene that is not there", "the tables do not belong together")


def _broken_chain(scene: Record, samples: dict[str, Record]) -> str:
    """Follow a scene from its first sample; return what breaks, or nothing."""
    token, previous, seen = scene["first_sample_token"], "", 0
    before = -math.inf
    while token:
        sample = samples.get(token)
        if sample is None:
            return f"sample {token} is not there"
        if sample["prev"] != previous:
            return f"prev of {token} does not lead back"
        if not isinstance(sample["timestamp"], int) or sample["timestamp"] <= before:
            return f"time does not advance at {token}"
        before, previous, token, seen = sample["timestamp"], token, sample["next"], seen + 1
        # A loop would end at the timestamps; the count bounds it all the same.
        if seen > len(samples):
            return "it runs in a circle"
    if previous != scene["last_sample_token"]:
        return f"it ends at {previous}, not at last_sample_token"
    return "" if seen == scene["nbr_samples"] else f"it has {seen} samples, nbr_samples says {scene['nbr_samples']}"


def _check_calibrations(report: Report, folder: Path, tables: Tables) -> None:
    path = folder / "calibrated_sensor.json"
    for token, record in tables.calibrations.items():
        sensor = tables.sensors.get(record["sensor_token"])
        if not is_pose(record, reach=MAX_MOUNTING):
            report.add(
                "error", path, f"{token}: mounting is no pose (rotation of length 1, a few metres)", "take the original"
            )
        if sensor and sensor["channel"].startswith("CAM") and sensor["modality"] != "camera":
            report.add("error", folder / "sensor.json", f"{sensor['channel']} has modality {sensor['modality']!r}")
        elif sensor and sensor["modality"] == "camera" and not is_intrinsics(record["camera_intrinsic"]):
            report.add(
                "error",
                path,
                f"{token}: missing calibration: {sensor['channel']} has no usable 3x3 camera_intrinsic",
                "take the original",
            )
    channels = sorted({channel for frame in tables.keyframes.values() for channel in frame})
    for channel in channels:
        without = [token for token in tables.samples if channel not in tables.keyframes.get(token, {})]
        if channel.startswith(("CAM", "LIDAR")):
            report.add_many("error", without, f"sample without {channel}", "the table sample_data is incomplete")
    if channels and not any(c.startswith("CAM") for c in channels):
        report.add("error", folder, f"no camera among the sensors {', '.join(channels)}", "is this nuScenes?")


def is_numbers(value: object, count: int) -> bool:
    """Whether a JSON value is a list of so many finite numbers."""
    return (
        isinstance(value, list)
        and len(value) == count
        and all(isinstance(v, (int, float)) and not isinstance(v, bool) and abs(v) < 1e15 for v in value)
    )


def is_intrinsics(value: object) -> bool:
    """Whether a JSON value is a pinhole matrix: 3x3, positive focal lengths, last row 0 0 1."""
    rows = value if isinstance(value, list) else []
    return (
        len(rows) == 3
        and all(is_numbers(row, 3) for row in rows)
        and rows[0][0] > 0
        and rows[1][1] > 0
        and rows[2] == [0, 0, 1]
    )


def is_pose(record: Record, *, reach: float) -> bool:
    """Whether a record has a rotation of length 1 and a translation of less than `reach` metres."""
    rotation, translation = record["rotation"], record["translation"]
    if not is_numbers(rotation, 4) or not is_numbers(translation, 3):
        return False
    return abs(math.hypot(*rotation) - 1) < 1e-2 and math.hypot(*translation) < reach
