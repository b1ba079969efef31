"""What the nuScenes tables say about frames, for label layouts that are named by, or lie in the frame of, the LiDAR."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from occkit.data.convert import FrameName
from occkit.data.json_records import iterate_json_records
from occkit.data.nuscenes_tables import LIDAR, matrix_of
from occkit.data.records import Floats, field, name_field, path_field, pose_of, pose_of_quaternion
from occkit.errors import DataError
from occkit.files import read_json


def table_folder(root: Path) -> Path:
    """Return the folder of the tables: `root` itself or the one `v1.0-*` in it.

    Raises:
        DataError: if there is none, or several.
    """
    if (root / "sample_data.json").exists():
        return root
    found = sorted(p.parent for p in root.glob("v1.0-*/sample_data.json"))
    if len(found) != 1:
        what = "no v1.0-* folder with tables" if not found else f"several: {', '.join(p.name for p in found)}"
        raise DataError(root, what, "name the v1.0-... folder itself")
    return found[0]


def read_names(root: Path) -> dict[str, FrameName]:
    """Read names, times and LiDAR mounting of every sample.

    Returns:
        The frames by sample token, by LiDAR file name and by LiDAR token: whatever a label file is named after.

    Raises:
        DataError: naming the table that is missing, damaged, or lacks a record another one refers to.
    """
    folder = table_folder(root)
    lidars = {field(r, "token", str, path) for path, r in _rows(folder, "sensor") if r.get("channel") == LIDAR}
    mountings = {
        field(r, "token", str, path): matrix_of(pose_of_quaternion(r, LIDAR, path))
        for path, r in _rows(folder, "calibrated_sensor")
        if field(r, "sensor_token", str, path) in lidars
    }
    scenes = {name_field(r, "token", path): name_field(r, "name", path) for path, r in _rows(folder, "scene")}
    samples = {name_field(r, "token", path): r for path, r in _rows(folder, "sample")}
    names: dict[str, FrameName] = {}
    for path, record in _rows(folder, "sample_data"):
        mounting = mountings.get(field(record, "calibrated_sensor_token", str, path))
        if mounting is None or record.get("is_key_frame") is not True:
            continue
        token = field(record, "sample_token", str, path)
        sample = samples.get(token, {})
        scene = sample.get("scene_token")
        if not isinstance(scene, str) or scene not in scenes:
            raise DataError(path, f"a row points to sample {token[:40]!r}, which is in no scene", "download again")
        name = FrameName(
            token=token,
            scene=scenes[scene],
            scene_token=scene,
            lidar_file=path_field(record, "filename", path).name,
            lidar_token=name_field(record, "token", path),
            ego_from_lidar=mounting,
            timestamp=field(sample, "timestamp", int, folder / "sample.json"),
        )
        names.update({name.token: name, name.lidar_file: name, name.lidar_token: name})
    if not names:
        raise DataError(folder / "sample_data.json", f"no keyframe of {LIDAR}", "are these the tables of nuScenes?")
    return names


def _rows(folder: Path, table: str) -> Iterator[tuple[Path, dict[str, Any]]]:
    path = folder / f"{table}.json"
    for record in iterate_json_records(path):
        yield path, record


def read_pose(path: Path) -> Floats:
    """Read a rigid motion from a JSON file: a 4x4 matrix, rows first, metres.

    Raises:
        DataError: if it is not a rotation and a translation.
    """
    return pose_of(read_json(path, max_bytes=65536), "the mounting", path)
