"""Writes a scene in the nuScenes layout with Occ3D labels, and at the end the tables of all scenes.

Everything a table needs to know of a scene is in its `SceneRecord`, so that scenes can be written in any order by any
number of processes. Tokens are hashes of what they name. The official devkit opens the result (docs/world.md).
"""

import hashlib
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from occkit.data.occ3d import write_labels
from occkit.data.views import write_grid
from occkit.files import write_bytes, write_image, write_json, write_npz
from occkit.geometry import OCC3D_GRID, quaternion_from_rotation
from occkit.world.presets import WorldConfig
from occkit.world.primitives import Floats
from occkit.world.recording import (
    Scan,
    Shot,
    Truth,
    caption,
    counts_in_view,
    keyframe_time,
    label,
    scan,
    shoot,
    sweep_times,
)
from occkit.world.scene import Scene, Thing
from occkit.world.truth import write_layers, write_street_words
from occkit.world.words import CATEGORIES, WORDS, is_annotated, occ3d_table

VERSION = "v1.0-trainval"
"""Folder of the tables."""
LIDAR = "LIDAR_TOP"

Record = dict[str, Any]
SceneRecord = dict[str, Any]
"""JSON: the rows a scene adds to each table, its captions, and its part of `annotations.json`."""

_EPOCH = 1_530_000_000_000_000
_SCENE_GAP = 3_600_000_000
_PER_SCENE = ("scene", "sample", "sample_data", "ego_pose", "calibrated_sensor", "sample_annotation", "instance", "log")
_ANNOTATED_RANGE = 70.0
_OCC3D_IDS = occ3d_table()
_WALKING, _STANDING = "pedestrian.moving", "pedestrian.standing"
_ATTRIBUTES = ("vehicle.moving", "vehicle.parked", "cycle.with_rider", "cycle.without_rider", _WALKING, _STANDING)
_VISIBILITIES = (("1", "v0-40"), ("2", "v40-60"), ("3", "v60-80"), ("4", "v80-100"))


def token(*parts: object) -> str:
    """Return 32 hexadecimal digits that name something."""
    return hashlib.md5("/".join(map(str, parts)).encode(), usedforsecurity=False).hexdigest()


def _pose_record(pose: Floats) -> Record:
    rotation = quaternion_from_rotation(torch.from_numpy(np.ascontiguousarray(pose[:3, :3])))
    return {"rotation": [float(v) for v in rotation], "translation": [float(v) for v in pose[:3, 3]]}


def _ego_record(pose: Floats) -> Record:
    """The same for an ego pose, which is always upright."""
    heading = np.arctan2(pose[1, 0], pose[0, 0])
    rotation = [float(np.cos(heading / 2)), 0.0, 0.0, float(np.sin(heading / 2))]
    return {"rotation": rotation, "translation": [float(v) for v in pose[:3, 3]]}


class SceneWriter:
    """Records one scene frame by frame."""

    def __init__(self, root: Path, scene: Scene, config: WorldConfig, index: int, world: str) -> None:
        self.root, self.scene, self.config, self.world = root, scene, config, world
        self.epoch = _EPOCH + index * _SCENE_GAP
        self.tables: dict[str, list[Record]] = {name: [] for name in _PER_SCENE}
        self.infos: Record = {}
        self.captions: dict[str, str] = {}
        self.channels = (*(camera.name for camera in config.rig.cameras), LIDAR)
        self._mountings = {camera.name: _pose_record(camera.ego_from_camera) for camera in config.rig.cameras}
        self._annotated: dict[int, list[Record]] = {}

    def token(self, *parts: object) -> str:
        """Return the token of something in this scene."""
        return token(self.world, self.scene.name, *parts)

    def stamp(self, time: float) -> int:
        """Return the timestamp (microseconds) of a scene time (seconds)."""
        return self.epoch + round(time * 1e6)

    def write(self) -> SceneRecord:
        """Write all files of the scene and return its record."""
        self._calibrate()
        for frame in range(self.config.frames):
            self._keyframe(frame)
            if frame + 1 < self.config.frames:
                for number, time in enumerate(sweep_times(self.config, frame)):
                    self._sweep(frame, number, time)
        self._link()
        return {
            "name": self.scene.name,
            "tables": self.tables,
            "captions": self.captions,
            "infos": self.infos,
        }

    def _calibrate(self) -> None:
        rig = self.config.rig
        for camera in rig.cameras:
            self._sensor_record(camera.name, camera.ego_from_camera, camera.intrinsics.tolist())
        self._sensor_record(LIDAR, rig.lidar.ego_from_lidar, [])

    def _sensor_record(self, channel: str, pose: Floats, intrinsics: list[list[float]]) -> None:
        self.tables["calibrated_sensor"].append(
            {"token": self.token("calibration", channel), "sensor_token": token("sensor", channel)}
            | _pose_record(pose)
            | {"camera_intrinsic": intrinsics}
        )

    def _keyframe(self, frame: int) -> None:
        config, time = self.config, keyframe_time(self.config, frame)
        shots = [shoot(self.scene, config, i, time) for i in range(len(config.rig.cameras))]
        turn = scan(self.scene, config, time)
        truth = label(self.scene, config, time, shots)
        sample = self.token("sample", frame)
        self.tables["sample"].append(
            {"token": sample, "timestamp": self.stamp(time), "prev": "", "next": "", "scene_token": self.token("scene")}
        )
        data = self._sensor_files(sample, shots, turn, key=True)
        self._labels(sample, truth)
        self._annotate(sample, frame, time, shots, turn)
        self.captions[sample] = caption(self.scene, counts_in_view(self.scene, config, time, shots))
        self.infos[sample] = self._info(sample, time, data)

    def _sweep(self, frame: int, number: int, time: float) -> None:
        shots = [shoot(self.scene, self.config, i, time) for i in range(len(self.config.rig.cameras))]
        turn = scan(self.scene, self.config, time)
        # A sweep belongs to the keyframe that follows it, as in nuScenes.
        self._sensor_files(self.token("sample", frame + 1), shots, turn, key=False)

    def _sensor_files(self, sample: str, shots: list[Shot], turn: Scan, *, key: bool) -> list[Record]:
        folder, made = "samples" if key else "sweeps", []
        for camera, shot in zip(self.config.rig.cameras, shots, strict=True):
            stamp = self.stamp(shot.time)
            name = f"{folder}/{camera.name}/{self.scene.name}__{camera.name}__{stamp}.jpg"
            write_image(self.root / name, shot.picture.colour.transpose(2, 0, 1))
            made.append(self._data_record(sample, camera.name, name, shot.time, shot.global_from_ego, key=key))
            if key and self.config.truth:
                path = self.root / "truth" / self.scene.name / sample / f"{camera.name}.npz"
                write_layers(path, shot.picture, _OCC3D_IDS)
        name = f"{folder}/{LIDAR}/{self.scene.name}__{LIDAR}__{self.stamp(turn.time)}.pcd.bin"
        if key and self.config.truth:
            write_npz(self.root / "truth" / self.scene.name / sample / "points.npz", words=turn.word)
        points = turn.points * np.array([1, 1, 1, 255, 1], np.float32)
        write_bytes(self.root / name, points.astype("<f4").tobytes())
        made.append(self._data_record(sample, LIDAR, name, turn.time, turn.global_from_ego, key=key))
        return made

    def _data_record(self, sample: str, channel: str, filename: str, time: float, ego: Floats, *, key: bool) -> Record:
        stamp, camera = self.stamp(time), channel != LIDAR
        name = self.token("data", channel, stamp)
        self.tables["ego_pose"].append({"token": name, "timestamp": stamp} | _ego_record(ego))
        record = {
            "token": name,
            "sample_token": sample,
            "ego_pose_token": name,
            "calibrated_sensor_token": self.token("calibration", channel),
            "timestamp": stamp,
            "fileformat": "jpg" if camera else "pcd",
            "is_key_frame": key,
            "height": self.config.rig.height if camera else 0,
            "width": self.config.rig.width if camera else 0,
            "filename": filename,
            "prev": "",
            "next": "",
        }
        self.tables["sample_data"].append(record)
        return record

    def _labels(self, sample: str, truth: Truth) -> None:
        write_labels(
            self.root / "gts" / self.scene.name / sample / "labels.npz",
            semantics=_OCC3D_IDS[truth.voxels.word],
            mask_lidar=truth.mask_lidar,
            mask_camera=truth.mask_camera,
        )
        if self.config.truth:
            write_npz(
                self.root / "truth" / self.scene.name / sample / "voxels.npz",
                words=truth.voxels.word,
                moving=truth.voxels.moving.astype(np.uint8),
            )

    def _annotate(self, sample: str, frame: int, time: float, shots: list[Shot], turn: Scan) -> None:
        here = self.scene.global_from_ego(time, self.config.rig.ground_clearance)[:3, 3]
        hits = np.bincount(turn.instance, minlength=len(self.scene.things) + 1)
        pixels = np.zeros(len(hits), np.int64)
        for shot in shots:
            pixels += np.bincount(shot.picture.instance.ravel(), minlength=len(hits))
        positions, headings = self.scene.fleet.poses(time)
        near = np.hypot(*(positions - here)[:, :2].T) < _ANNOTATED_RANGE
        for thing in self.scene.things:
            row = thing.instance - 1
            if not near[row] or not is_annotated(WORDS[thing.word]):
                continue
            seen = int(pixels[thing.instance])
            record = self._box_record(sample, frame, thing, positions[row], float(headings[row]))
            record["num_lidar_pts"] = int(hits[thing.instance])
            record["visibility_token"] = str(1 + int(seen > 4) + int(seen > 20) + int(seen > 80))
            self.tables["sample_annotation"].append(record)
            self._annotated.setdefault(thing.instance, []).append(record)

    def _box_record(self, sample: str, frame: int, thing: Thing, position: Floats, heading: float) -> Record:
        cos, sin = np.cos(heading), np.sin(heading)
        x, y, z = thing.middle
        middle = position + np.array([cos * x - sin * y, sin * x + cos * y, z])
        length, width, height = thing.size
        attribute = _attribute(thing)
        return {
            "token": self.token("annotation", thing.instance, frame),
            "sample_token": sample,
            "instance_token": self.token("instance", thing.instance),
            "visibility_token": "",
            "attribute_tokens": [token("attribute", attribute)] if attribute else [],
            "translation": [float(v) for v in middle],
            "size": [width, length, height],
            "rotation": [float(np.cos(heading / 2)), 0.0, 0.0, float(np.sin(heading / 2))],
            "prev": "",
            "next": "",
            "num_lidar_pts": 0,
            "num_radar_pts": 0,
        }

    def _info(self, sample: str, time: float, data: list[Record]) -> Record:
        cameras = {}
        poses = {r["token"]: r for r in self.tables["ego_pose"][-len(data) :]}
        for camera, record in zip(self.config.rig.cameras, data, strict=False):
            ego = poses[record["token"]]
            cameras[record["token"]] = {
                "img_path": record["filename"],
                "intrinsic": camera.intrinsics.tolist(),
                "extrinsic": self._mountings[camera.name],
                "ego_pose": {key: ego[key] for key in ("rotation", "translation")},
            }
        ego = poses[data[-1]["token"]]
        return {
            "timestamp": self.stamp(time),
            "camera_sensor": cameras,
            "ego_pose": {key: ego[key] for key in ("rotation", "translation")},
            "gt_path": f"gts/{self.scene.name}/{sample}/labels.npz",
            "prev": None,
            "next": None,
        }

    def _link(self) -> None:
        """Chain samples, the data of each sensor and the boxes of each object, and write the scene's own rows."""
        samples = self.tables["sample"]
        _chain(samples)
        for before, after in pairwise(samples):
            self.infos[before["token"]]["next"], self.infos[after["token"]]["prev"] = after["token"], before["token"]
        for channel in self.channels:
            calibration = self.token("calibration", channel)
            rows = [r for r in self.tables["sample_data"] if r["calibrated_sensor_token"] == calibration]
            _chain(sorted(rows, key=lambda r: r["timestamp"]))
        for instance, boxes in self._annotated.items():
            _chain(boxes)
            category = WORDS[self.scene.things[instance - 1].word].category
            self.tables["instance"].append(
                {
                    "token": self.token("instance", instance),
                    "category_token": token("category", category),
                    "nbr_annotations": len(boxes),
                    "first_annotation_token": boxes[0]["token"],
                    "last_annotation_token": boxes[-1]["token"],
                }
            )
        log = self.token("log")
        self.tables["log"].append(
            {
                "token": log,
                "logfile": "",
                "vehicle": "procedural",
                "date_captured": "2018-06-26",
                "location": "procedural",
            }
        )
        self.tables["scene"].append(
            {
                "token": self.token("scene"),
                "log_token": log,
                "nbr_samples": len(samples),
                "first_sample_token": samples[0]["token"],
                "last_sample_token": samples[-1]["token"],
                "name": self.scene.name,
                "description": caption(self.scene, {}).removesuffix(", empty"),
            }
        )


def _chain(records: list[Record]) -> None:
    for before, after in pairwise(records):
        before["next"], after["prev"] = after["token"], before["token"]


def _attribute(thing: Thing) -> str | None:
    category, moving = WORDS[thing.word].category, thing.motion is not None
    if category in ("vehicle.bicycle", "vehicle.motorcycle"):
        return "cycle.with_rider" if WORDS[thing.word].name.endswith("cyclist") else "cycle.without_rider"
    if category.startswith("vehicle"):
        return "vehicle.moving" if moving else "vehicle.parked"
    if category.startswith("human"):
        return _WALKING if moving else _STANDING
    return None


def write_tables(root: Path, config: WorldConfig, splits: Mapping[str, list[SceneRecord]]) -> None:
    """Write the tables, splits and captions of finished scenes, in the order given.

    Args:
        root: data root.
        config: of the world.
        splits: train, val and test -> records of their scenes.
    """
    scenes = [scene for part in splits.values() for scene in part]
    folder = root / VERSION
    for name in _PER_SCENE:
        write_json(folder / f"{name}.json", [row for scene in scenes for row in scene["tables"][name]], indent=None)
    channels = (*(camera.name for camera in config.rig.cameras), LIDAR)
    shared = {
        "sensor": [
            {"token": token("sensor", c), "channel": c, "modality": "lidar" if c == LIDAR else "camera"}
            for c in channels
        ],
        "category": [
            {"token": token("category", name), "name": name, "description": "", "index": index}
            for index, name in enumerate(CATEGORIES)
        ],
        "attribute": [{"token": token("attribute", name), "name": name, "description": ""} for name in _ATTRIBUTES],
        "visibility": [{"token": key, "level": level, "description": ""} for key, level in _VISIBILITIES],
        "map": [
            {
                "token": token("map"),
                "log_tokens": [row["token"] for scene in scenes for row in scene["tables"]["log"]],
                "category": "semantic_prior",
                "filename": "maps/procedural.png",
            }
        ],
    }
    for name, rows in shared.items():
        write_json(folder / f"{name}.json", rows, indent=None)
    write_image(root / "maps" / "procedural.png", np.full((16, 16), 255, np.uint8))
    listed = {f"{name}_split": [s["name"] for s in part] for name, part in splits.items()}
    write_json(
        root / "annotations.json", listed | {"scene_infos": {s["name"]: s["infos"] for s in scenes}}, indent=None
    )
    write_json(root / "captions.json", {t: text for s in scenes for t, text in s["captions"].items()}, indent=None)
    grid = config.grid
    if (grid.origin, grid.upper) != (OCC3D_GRID.origin, OCC3D_GRID.upper):
        # Readers take a volume for Occ3D's box unless they are told otherwise.
        write_grid(root, grid)
    if config.truth:
        write_street_words(root)
