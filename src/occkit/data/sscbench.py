"""SSCBench-KITTI-360 as a data set: rectified stereo images and voxels of drives; what its files hold is in `kitti360`.

    data_2d_raw/2013_05_28_drive_00SS_sync/image_00/data_rect/FFFFFF.png   (image_01: the right camera)
                                           voxels/FFFFFF.{bin,label,invalid}

Calibration is the same for all drives and not among the files. Poses are not read: SSCBench numbers its frames anew.
"""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from occkit.data.frames import DataConfig, FrameDataset, Split
from occkit.data.kitti360 import KITTI360_SPLITS, kitti360_lookup, read_invalid, sequence_folder
from occkit.data.records import Floats
from occkit.data.semantickitti import grid_of_files, read_label
from occkit.data.views import Frame, View, choose_cameras, read_grid
from occkit.errors import ConfigError, DataError
from occkit.geometry import VoxelGrid
from occkit.samples import Occupancy
from occkit.taxonomy import KITTI360

IMAGE_SIZE = (376, 1408)
"""(height, width) of the rectified images, pixels."""
INTRINSICS = ((552.554261, 0.0, 682.049453), (0.0, 552.554261, 238.769549), (0.0, 0.0, 1.0))
"""Of both cameras, pixels. Source: SSCBench's configuration, as all of these numbers."""
RIGHT_COLUMN = -328.318735
"""First entry of the fourth column of the right camera's projection matrix: it stands 0.594 m to the right."""
VELODYNE_FROM_CAMERA = (
    (0.04307104361, -0.08829286498, 0.995162929, 0.8043914418),
    (-0.999004371, 0.007784614041, 0.04392796942, 0.2993489574),
    (-0.01162548558, -0.9960641394, -0.08786966659, -0.1770225824),
    (0.0, 0.0, 0.0, 1.0),
)
"""Pose of the left camera."""
CAMERAS = ("image_00", "image_01")
"""The left and the right one."""


def drives_of(root: Path) -> Path | None:
    """Return the folder that holds the drives of a root, or None if it is no such root."""
    bases = (root / "data_2d_raw", root)
    return next((base for base in bases if any(base.glob("*_drive_00??_sync"))), None)


def pose_of(camera: str) -> Floats:
    """Return `velodyne_from_camera` of a camera, 4x4."""
    shift = np.eye(4)
    if camera == CAMERAS[1]:
        shift[0, 3] = -RIGHT_COLUMN / INTRINSICS[0][0]
    return np.array(VELODYNE_FROM_CAMERA) @ shift


class SscBenchDataset(FrameDataset):
    """SSCBench-KITTI-360. The reference frame is the Velodyne's; tokens are `<drive>_<frame>`, such as `06_000005`.

    Args:
        root: folder that holds `data_2d_raw`, or the drives themselves.
        split: which drives.
        config: what to load; frames of other times cannot be.
        training: leave out frames without a label where others have one, and allow augmentation.
        cache_bytes: memory for what was read.

    Raises:
        ConfigError: if the config asks for images of other times.
        DataError: if no frame is left.
    """

    name = "kitti360"

    def __init__(
        self, root: Path, *, split: Split, config: DataConfig, training: bool = False, cache_bytes: int = 0
    ) -> None:
        super().__init__(root, config=config, training=training, cache_bytes=cache_bytes)
        if self._other_times:
            raise ConfigError(f"{root}: SSCBench-KITTI-360 is read without poses; set {self._other_times}")
        folder = drives_of(root)
        if folder is None:
            raise DataError(root, "has no drives 2013_05_28_drive_00SS_sync", "give the folder above data_2d_raw")
        self._folder = folder
        self.taxonomy = KITTI360
        self.camera_names = choose_cameras(root, config.cameras or CAMERAS[:1], CAMERAS)
        self._open_features()
        tokens = [f"{drive}_{frame}" for drive in self._drives(split) for frame in self._frames_of(drive)]
        tokens = self._keep(tokens, self._has_images, "image of every camera")
        self.tokens = tuple(self._keep_labelled(tokens, self._has_label))
        if not self.tokens:
            raise DataError(folder, f"no frame of the split {split!r} has voxels", "download that part")
        self.grid = self._find_grid()

    def _drives(self, split: Split) -> list[str]:
        known = sorted(name for names in KITTI360_SPLITS.values() for name in names)
        wanted = known if split == "all" else KITTI360_SPLITS[split]
        found = [name for name in wanted if (self._folder / sequence_folder(name)).is_dir()]
        if not found:
            raise DataError(self._folder, f"has no drive of the split {split!r}: {', '.join(wanted)}", "use another")
        return found

    def _frames_of(self, drive: str) -> list[str]:
        files = (self._folder / sequence_folder(drive) / "voxels").glob("*")
        return sorted({p.stem for p in files if p.suffix in (".bin", ".label") and p.stem.isdecimal()})

    def _file(self, token: str, kind: str, suffix: str) -> Path:
        drive, frame = token.split("_")
        return self._folder / sequence_folder(drive) / kind / f"{frame}{suffix}"

    def _image(self, token: str, camera: str) -> Path:
        return self._file(token, f"{camera}/data_rect", ".png")

    def _has_images(self, token: str) -> bool:
        return all(self._image(token, camera).is_file() for camera in self.camera_names)

    def _has_label(self, token: str) -> bool:
        return self._file(token, "voxels", ".label").is_file()

    def _find_grid(self) -> VoxelGrid:
        stated = read_grid(self.root)
        if stated is not None:
            return stated
        return grid_of_files(self._file(token, "voxels", ".label") for token in self.tokens)

    def scene(self, token: str) -> str:
        """Return the drive of a frame."""
        return token.split("_")[0]

    def label(self, token: str) -> Occupancy | None:
        """Return the label of a frame in train ids, 255 where it is invalid or without a class; None if it has none.

        Raises:
            DataError: if its files are damaged.
        """
        if not self._has_label(token):
            return None
        path = self._file(token, "voxels", ".label")
        semantics = kitti360_lookup()[read_label(path, grid=self.grid)]
        semantics[read_invalid(path.with_suffix(".invalid"), grid=self.grid)] = KITTI360.ignore_id
        return Occupancy(semantics=torch.from_numpy(semantics), grid=self.grid, taxonomy=KITTI360)

    def ray_origins(self, token: str) -> Floats:
        """Return the Velodyne's own place `[1, 3]`, metres: where the other frames were is not known."""
        del token
        return np.zeros((1, 3))

    def _points(self, token: str) -> Float[Tensor, "p 4"] | None:
        del token  # SSCBench comes without the scans

    def _frame(self, token: str) -> Frame:
        seconds = int(token.split("_")[1]) * 0.1
        views = (self._own_views(token),)
        return Frame(
            token=token, scene=self.scene(token), timestamp=round(seconds * 1e6), views=views, global_from_ego=None
        )

    def _own_views(self, token: str) -> tuple[View, ...]:
        return tuple(
            View(
                path=self._image(token, camera),
                intrinsics=np.array(INTRINSICS),
                ego_from_camera=pose_of(camera),
                size=IMAGE_SIZE,
            )
            for camera in self.camera_names
        )

    def _beside(self, token: str, step: int) -> str | None:
        del token, step

    def _world_pose(self, token: str) -> Floats:
        raise ConfigError(f"{self.root}: frame {token} has no pose; set feature_horizon to 0")
