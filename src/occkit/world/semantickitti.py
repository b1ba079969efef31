"""Writes a scene as one SemanticKITTI sequence: stereo images, scans, poses, point labels and packed voxel files.

A keyframe of the scene is a voxel frame, whose number is divisible by five; scans in between exist if the world records
sweeps (four of them give every scan, as in KITTI). Poses and times have a line for every number, recorded or not.
"""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from occkit.data.semantickitti import write_label, write_packed
from occkit.errors import ConfigError
from occkit.files import write_bytes, write_image, write_json, write_npz
from occkit.taxonomy import semantickitti_lookup
from occkit.world.labels import Volume, VoxelWords, seen_by_scanner, voxelise
from occkit.world.presets import WorldConfig
from occkit.world.primitives import Floats
from occkit.world.recording import (
    Scan,
    Shot,
    caption,
    counts_in_view,
    keyframe_time,
    scan,
    shoot,
)
from occkit.world.scene import Scene
from occkit.world.sensors import KITTI_EGO_FROM_CAM0
from occkit.world.tracing import Tracer
from occkit.world.truth import write_layers
from occkit.world.words import WORDS, kitti_table

TRAIN = ("00", "01", "02", "03", "04", "05", "06", "07", "09", "10")
VAL = ("08",)
TEST = tuple(str(number) for number in range(11, 22))
"""Sequence names of the splits."""

SequenceRecord = dict[str, Any]
"""JSON: name and captions of a finished sequence."""

_SPACING = 5
_STANDING, _MOVING = kitti_table(moving=False), kitti_table(moving=True)
_OUTLIER = 1
_IMAGES = ("image_2", "image_3")


def check_rig(config: WorldConfig) -> None:
    """Refuse a world whose rig this layout cannot describe.

    Raises:
        ConfigError: naming what does not fit.
    """
    names = tuple(camera.name for camera in config.rig.cameras)
    if names != _IMAGES:
        raise ConfigError(f"SemanticKITTI has the cameras {_IMAGES}, this rig has {names}; use a kitti preset")
    if config.sweeps >= _SPACING:
        raise ConfigError(f"SemanticKITTI has at most 4 scans between voxel frames, got sweeps={config.sweeps}")
    if config.grid.num_voxels % 64 or config.grid.shape[0] != 8 * config.grid.shape[2]:
        raise ConfigError(f"SemanticKITTI volumes are 8 : 8 : 1, got {config.grid.shape}; use a kitti preset")


class SequenceWriter:
    """Records one scene as one sequence."""

    def __init__(self, root: Path, scene: Scene, config: WorldConfig, *, hidden: bool) -> None:
        self.root, self.scene, self.config = root, scene, config
        self.folder = root / "dataset" / "sequences" / scene.name
        # The labels of test sequences are kept as the benchmark's server keeps them: elsewhere.
        self.answers = root / "truth" / "sequences" / scene.name if hidden else self.folder
        self.captions: dict[str, str] = {}

    def time(self, number: int) -> float:
        """Return the scene time (seconds) of a scan."""
        return keyframe_time(self.config, 0) + number * self.config.frame_interval / _SPACING

    def write(self) -> SequenceRecord:
        """Write all files of the sequence and return what the data set's own files need of it."""
        count = _SPACING * (self.config.frames - 1) + 1
        self._calibration(count)
        between = [round((i + 1) * _SPACING / (self.config.sweeps + 1)) for i in range(self.config.sweeps)]
        for number in range(count):
            if number % _SPACING == 0:
                self._voxel_frame(number)
            elif number % _SPACING in between:
                self._sensors(number)
        return {"name": self.scene.name, "captions": self.captions}

    def _ego(self, time: float) -> Floats:
        return self.scene.global_from_ego(time, self.config.rig.ground_clearance)

    def _calibration(self, count: int) -> None:
        cam0_from_ego = np.linalg.inv(KITTI_EGO_FROM_CAM0)
        centers = [np.zeros(3), np.array([0.54, 0.0, 0.0])]
        centers += [(cam0_from_ego @ camera.ego_from_camera)[:3, 3] for camera in self.config.rig.cameras]
        intrinsics = self.config.rig.cameras[0].intrinsics
        lines = []
        for index, center in enumerate(centers):
            matrix = intrinsics @ np.concatenate([np.eye(3), -center[:, None]], axis=1)
            lines.append(f"P{index}: {_numbers(matrix)}")
        lines.append(f"Tr: {_numbers(cam0_from_ego[:3])}")
        write_bytes(self.folder / "calib.txt", ("\n".join(lines) + "\n").encode())
        first = np.linalg.inv(self._ego(self.time(0)) @ KITTI_EGO_FROM_CAM0)
        poses = [first @ self._ego(self.time(n)) @ KITTI_EGO_FROM_CAM0 for n in range(count)]
        write_bytes(self.folder / "poses.txt", "".join(f"{_numbers(pose[:3])}\n" for pose in poses).encode())
        times = "".join(f"{self.time(n) - self.time(0):e}\n" for n in range(count))
        write_bytes(self.folder / "times.txt", times.encode())

    def _sensors(self, number: int) -> tuple[list[Shot], Scan]:
        time, name = self.time(number), f"{number:06d}"
        shots = [shoot(self.scene, self.config, i, time) for i in range(len(_IMAGES))]
        for image, shot in zip(_IMAGES, shots, strict=True):
            write_image(self.folder / image / f"{name}.png", shot.picture.colour.transpose(2, 0, 1))
        turn = scan(self.scene, self.config, time)
        write_bytes(self.folder / "velodyne" / f"{name}.bin", turn.points[:, :4].astype("<f4").tobytes())
        ids = np.where(turn.moving, _MOVING[turn.word], _STANDING[turn.word]).astype("<u4")
        ids |= turn.instance.astype("<u4") << 16
        write_bytes(self.answers / "labels" / f"{name}.label", ids.tobytes())
        return shots, turn

    def _voxel_frame(self, number: int) -> None:
        config, name, time = self.config, f"{number:06d}", self.time(number)
        shots, turn = self._sensors(number)
        tracer = Tracer.build(self.scene.solids(time), self.scene.ground)
        voxels = voxelise(tracer.solids, self.scene.ground, config.grid, self._ego(time))
        hits = _hit_voxels(turn.points[:, :3], config)
        pose, fan = self._ego(time), _fan(config)
        visible = seen_by_scanner(tracer, config.grid, pose, pose, fan) | hits
        observed = self._observed(tracer, time) | visible
        ids = self._ids(voxels, number)
        ids[~observed] = 0
        write_label(self.answers / "voxels" / f"{name}.label", ids)
        write_packed(self.answers / "voxels" / f"{name}.invalid", ~observed)
        write_packed(self.answers / "voxels" / f"{name}.occluded", ~visible)
        write_packed(self.folder / "voxels" / f"{name}.bin", hits)
        if config.truth:
            self._truth(name, shots, turn, voxels)
        counts = counts_in_view(self.scene, config, time, shots)
        self.captions[f"{self.scene.name}_{name}"] = caption(self.scene, counts)

    def _ids(self, voxels: VoxelWords, number: int) -> npt.NDArray[np.uint16]:
        ids = np.where(voxels.moving, _MOVING[voxels.word], _STANDING[voxels.word]).astype(np.uint16)
        if self.config.outliers > 0:
            rng = np.random.default_rng((self.scene.look.seed, 2000, number))
            ids[voxels.occupied & (rng.random(ids.shape) < self.config.outliers)] = _OUTLIER
        return ids

    def _observed(self, tracer: Tracer, time: float) -> Volume:
        """Voxels seen from any place of the drive, every two metres, from just behind to the far end of the volume."""
        grid, pose, fan = self.config.grid, self._ego(time), _fan(self.config)
        seen = np.zeros(grid.shape, np.bool_)
        last: Floats | None = None
        for moment in np.arange(self.time(0), keyframe_time(self.config, self.config.frames - 1) + 1e-6, 0.1):
            viewpoint = self._ego(float(moment))
            ahead = float((viewpoint[:3, 3] - pose[:3, 3]) @ pose[:3, 0])
            if not -10.0 < ahead < grid.upper[0] + 5.0:
                continue
            if last is None or np.linalg.norm(viewpoint[:3, 3] - last) >= 2.0:
                last = viewpoint[:3, 3]
                seen |= seen_by_scanner(tracer, grid, pose, viewpoint, fan)
        return seen

    def _truth(self, name: str, shots: list[Shot], turn: Scan, voxels: VoxelWords) -> None:
        folder, table = self.root / "truth" / self.scene.name / name, semantickitti_lookup()[_STANDING].astype(np.uint8)
        for image, shot in zip(_IMAGES, shots, strict=True):
            write_layers(folder / f"{image}.npz", shot.picture, table)
        write_npz(folder / "points.npz", words=turn.word)
        write_npz(folder / "voxels.npz", words=voxels.word, moving=voxels.moving.astype(np.uint8))


def _numbers(matrix: npt.NDArray[np.floating[Any]]) -> str:
    return " ".join(f"{value:.12e}" for value in matrix.ravel())


def _fan(config: WorldConfig) -> Floats:
    """Directions dense enough that neighbouring rays are about a voxel apart at the far end of the volume."""
    step = config.grid.voxel_size[0] / 45.0
    pitch, turn = np.meshgrid(np.arange(-0.44, 0.12, step), np.arange(0.0, 2 * np.pi, step), indexing="ij")
    return np.stack([np.cos(pitch) * np.cos(turn), np.cos(pitch) * np.sin(turn), np.sin(pitch)], axis=-1).reshape(-1, 3)


def _hit_voxels(points: npt.NDArray[np.float32], config: WorldConfig) -> Volume:
    grid = config.grid
    index = np.floor((points - np.array(grid.origin)) / np.array(grid.voxel_size)).astype(np.int64)
    index = index[((index >= 0) & (index < np.array(grid.shape))).all(axis=1)]
    volume = np.zeros(grid.shape, np.bool_)
    volume[tuple(index.T)] = True
    return volume


def write_summary(root: Path, config: WorldConfig, records: list[SequenceRecord]) -> None:
    """Write what belongs to the data set as a whole: captions (token -> text) and the world's words."""
    write_json(
        root / "captions.json", {token: text for record in records for token, text in record["captions"].items()}
    )
    if config.truth:
        words = [{"id": i, "name": w.name, "standing": w.kitti, "moving": w.kitti_moving} for i, w in enumerate(WORDS)]
        write_json(root / "truth" / "words.json", words)
