"""Writes drives of an own car: images, calibration and poses, as a user has them, and the truth apart from them.

`<out>/<drive>/<000>/rig.json` with its images, `<drive>/grid.json`; nothing else that a user would not have but for
`<drive>/truth/`: layers of each image for the simulated models, and `truth/labels/`, in Occ3D's layout, to be scored
against.
"""

from pathlib import Path
from typing import Any

import numpy as np

from occkit.data.occ3d import label_path, write_labels
from occkit.data.rig_files import camera_entry
from occkit.data.views import View, write_grid
from occkit.errors import ConfigError
from occkit.files import write_image, write_json
from occkit.world.labels import voxelise
from occkit.world.presets import WorldConfig
from occkit.world.recording import Shot, keyframe_time, shoot
from occkit.world.scene import Scene
from occkit.world.truth import write_layers, write_street_words
from occkit.world.words import occ3d_table

Record = dict[str, Any]
"""JSON: name of a finished drive."""
_OCC3D_IDS = occ3d_table()


def check_drives(config: WorldConfig, num_test: int) -> None:
    """Refuse what a drive cannot hold.

    Raises:
        ConfigError: if there are sweeps, or scenes for testing.
    """
    if config.sweeps:
        raise ConfigError("a rig has no sweeps: every frame is a keyframe; ask for more frames")
    if num_test:
        raise ConfigError(f"drives are not split; asked for {num_test} for testing")


class DriveWriter:
    """Records one drive frame by frame."""

    def __init__(self, root: Path, scene: Scene, config: WorldConfig) -> None:
        self.root, self.scene, self.config = root / scene.name, scene, config

    def write(self) -> Record:
        """Write all files of the drive and return its record."""
        write_grid(self.root, self.config.grid)
        if self.config.truth:
            write_street_words(self.root)
        for frame in range(self.config.frames):
            self._frame(frame)
        return {"name": self.scene.name}

    def _frame(self, frame: int) -> None:
        config, rig = self.config, self.config.rig
        name, time = f"{frame:03d}", keyframe_time(config, frame)
        shots = [shoot(self.scene, config, i, time) for i in range(len(rig.cameras))]
        ego = self.scene.global_from_ego(time, rig.ground_clearance)
        cameras: list[Record] = []
        for camera, shot in zip(rig.cameras, shots, strict=True):
            view = View(
                path=self.root / name / f"{camera.name}.jpg",
                intrinsics=camera.intrinsics,
                ego_from_camera=camera.ego_from_camera,
                distortion=camera.distortion,
                size=(rig.height, rig.width),
            )
            write_image(view.path, shot.picture.colour.transpose(2, 0, 1))
            cameras.append(camera_entry(camera.name, view) | {"global_from_ego": shot.global_from_ego.tolist()})
        document = {"token": name, "timestamp": round(time * 1e6), "global_from_ego": ego.tolist(), "cameras": cameras}
        write_json(self.root / name / "rig.json", document)
        if config.truth:
            self._truth(name, time, shots)

    def _truth(self, name: str, time: float, shots: list[Shot]) -> None:
        for camera, shot in zip(self.config.rig.cameras, shots, strict=True):
            path = self.root / "truth" / self.scene.name / name / f"{camera.name}.npz"
            write_layers(path, shot.picture, _OCC3D_IDS)
        ego = self.scene.global_from_ego(time, self.config.rig.ground_clearance)
        voxels = voxelise(self.scene.solids(time), self.scene.ground, self.config.grid, ego)
        semantics = _OCC3D_IDS[voxels.word]
        seen = np.ones(semantics.shape, np.bool_)
        path = label_path(self.root / "truth" / "labels", self.scene.name, name)
        write_labels(path, semantics=semantics, mask_lidar=seen, mask_camera=seen)
