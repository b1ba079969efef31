"""SemanticKITTI: voxel label files, calibration, poses, and the data set made of them.

Source: Behley et al., "SemanticKITTI", 2019; Geiger et al., "KITTI", 2012.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from occkit.data.frames import DataConfig, FrameDataset, Split
from occkit.data.records import Floats, nearest_rotation
from occkit.data.views import (
    Frame,
    View,
    beside,
    choose_cameras,
    history,
    origins_along,
    read_captions,
    read_grid,
)
from occkit.errors import DataError
from occkit.files import read_bytes, read_raw, write_bytes
from occkit.geometry import KITTI_GRID, VoxelGrid, invert_pose
from occkit.samples import Occupancy
from occkit.taxonomy import SEMANTICKITTI, semantickitti_lookup

SPLITS = {
    "train": tuple(f"{n:02d}" for n in (0, 1, 2, 3, 4, 5, 6, 7, 9, 10)),
    "val": ("08",),
    "test": tuple(f"{n:02d}" for n in range(11, 22)),
}
"""Sequences of the official split."""
CAMERAS = {"image_2": "P2", "image_3": "P3"}
"""Image folder -> its line in `calib.txt`: the left and the right colour camera."""
LABEL_INTERVAL = 5
"""Voxel frames exist for every fifth scan."""
_MAX_TEXT_BYTES = 16 * 2**20
_LOOKUP = semantickitti_lookup()


def grid_of_files(labels: Iterable[Path]) -> VoxelGrid:
    """Return the grid that the first label file there is, or the `.bin` beside it, has the size of; else KITTI's."""
    for label in labels:
        for path, bits in ((label, 16), (label.with_suffix(".bin"), 1)):
            if path.is_file():
                return grid_of_size(path, path.stat().st_size * 8 // bits)
    return KITTI_GRID


def grid_of_size(path: Path, num_voxels: int) -> VoxelGrid:
    """Return the grid over KITTI's box (0, -25.6, -2) to (51.2, 25.6, 4.4) that has so many cubic voxels.

    The box is 8 : 8 : 1, so `num_voxels = 64 k^3`: 256 x 256 x 32 is the real one, 64 x 64 x 8 a small generated one.

    Raises:
        DataError: naming `path`, if there is no such k.
    """
    k = round((num_voxels / 64) ** (1 / 3))
    if k < 1 or 64 * k**3 != num_voxels:
        raise DataError(
            path,
            f"expected 2,097,152 voxels (256 x 256 x 32), or another 8k x 8k x k, got {num_voxels:,}",
            "copy the file again, or state the grid in grid.json at the data root",
        )
    return VoxelGrid.from_shape(KITTI_GRID.origin, KITTI_GRID.upper, (8 * k, 8 * k, k))


def write_label(path: Path, ids: npt.NDArray[np.uint16]) -> None:
    """Write a voxel `.label` (or prediction): uint16 little-endian *original* ids of `[x, y, z]` in C order.

    Raises:
        ValueError: if `ids` is not uint16 with three dimensions.
    """
    if ids.dtype != np.uint16 or ids.ndim != 3:
        raise ValueError(f"ids: expected uint16 [x, y, z], got {ids.dtype} {ids.shape}")
    write_bytes(path, ids.astype("<u2").tobytes())


def read_label(path: Path, *, grid: VoxelGrid | None = None) -> npt.NDArray[np.uint16]:
    """Read a voxel `.label`: original ids, uint16 `[x, y, z]`; the grid follows from the size unless given.

    Raises:
        DataError: if the size is not that of the grid.
    """
    data = read_bytes(path, expected=None if grid is None else 2 * grid.num_voxels)
    if len(data) % 2:
        raise DataError(path, f"expected two bytes a voxel, got {len(data):,} bytes", "copy the file again")
    grid = grid or grid_of_size(path, len(data) // 2)
    return np.frombuffer(data, dtype="<u2").astype(np.uint16).reshape(grid.shape)


def write_packed(path: Path, volume: npt.NDArray[np.bool_]) -> None:
    """Write a `.bin`, `.invalid` or `.occluded`: one bit a voxel of `[x, y, z]` in C order, most significant bit first.

    Raises:
        ValueError: if `volume` is not bool with three dimensions and a multiple of 8 voxels.
    """
    if volume.dtype != np.bool_ or volume.ndim != 3 or volume.size % 8:
        raise ValueError(f"volume: expected bool [x, y, z], a multiple of 8, got {volume.dtype} {volume.shape}")
    write_bytes(path, np.packbits(volume.ravel()).tobytes())


def read_packed(path: Path, *, grid: VoxelGrid | None = None) -> npt.NDArray[np.bool_]:
    """Read a packed volume: bool `[x, y, z]`; the grid follows from the size unless given.

    Raises:
        DataError: if the size is not that of the grid; a file of one byte a voxel is named as such.
    """
    data = read_bytes(path)
    if grid is not None and 8 * len(data) != grid.num_voxels:
        hint = "one byte a voxel: pack it" if len(data) == grid.num_voxels else "copy the file again"
        raise DataError(path, f"expected {grid.num_voxels // 8:,} bytes (a bit a voxel), got {len(data):,}", hint)
    grid = grid or grid_of_size(path, 8 * len(data))
    return np.unpackbits(np.frombuffer(data, dtype=np.uint8)).astype(np.bool_).reshape(grid.shape)


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What `calib.txt` says of one sequence."""

    intrinsics: dict[str, Floats]
    """Image folder -> 3x3, pixels."""
    velodyne_from_camera: dict[str, Floats]
    """Image folder -> 4x4 pose of that camera, the fourth column of its projection matrix included."""
    velodyne_from_camera0: Floats
    """4x4 pose of the rectified camera 0, to which `poses.txt` refers."""


def read_calibration(path: Path, *, shift: bool = True) -> Calibration:
    """Read `calib.txt`.

    A projection matrix is `P = K [I | b]`: camera 2 stands `b = K^-1 p4` (6 cm for KITTI) beside camera 0. Several
    public readers drop `b`; here `camera2_from_velodyne = [I | b] @ Tr`, unless `shift` is False.

    Raises:
        DataError: if a line is missing or is not 12 finite numbers, or Tr is no rigid motion.
    """
    lines: dict[str, Floats] = {}
    for line in _text(path).splitlines():
        name, colon, numbers = line.partition(":")
        if colon and name.strip() in ("P2", "P3", "Tr"):
            lines[name.strip()] = _numbers(numbers, path, name.strip())
    for name in ("P2", "Tr"):
        if name not in lines:
            raise DataError(
                path, f"expected a line '{name}: ' with 12 numbers", "take the calib.txt of the odometry set"
            )
    camera0 = _rigid(lines["Tr"], path, "Tr")
    intrinsics, poses = {}, {}
    for camera, name in CAMERAS.items():
        if name not in lines:
            continue
        matrix = lines[name][:, :3]
        if min(matrix[0, 0], matrix[1, 1]) <= 0 or not np.allclose(matrix[2], (0, 0, 1), atol=1e-6):
            raise DataError(path, f"{name}: expected K [I | b] with positive focal lengths", "copy the file again")
        offset = np.eye(4)
        if shift:
            offset[:3, 3] = np.linalg.solve(matrix, lines[name][:, 3])
        intrinsics[camera], poses[camera] = matrix, _inverse(offset @ camera0)
    return Calibration(intrinsics=intrinsics, velodyne_from_camera=poses, velodyne_from_camera0=_inverse(camera0))


def read_poses(path: Path, calibration: Calibration) -> Floats:
    """Read `poses.txt` and return the pose of the Velodyne at each scan: `[n, 4, 4]`, in its own frame at scan 0.

    `velodyne(0)_from_velodyne(k) = Tr^-1 @ pose_k @ Tr`; the file holds poses of camera 0.

    Raises:
        DataError: if a line is not 12 finite numbers that make a rigid motion.
    """
    rows = [line for line in _text(path).splitlines() if line.strip()]
    if not rows:
        raise DataError(path, "expected a pose a line, got an empty file", "copy the file again")
    camera = np.stack(
        [_rigid(_numbers(row, path, f"line {i + 1}"), path, f"line {i + 1}") for i, row in enumerate(rows)]
    )
    return calibration.velodyne_from_camera0 @ camera @ _inverse(calibration.velodyne_from_camera0)


def read_semantics(path: Path, *, grid: VoxelGrid | None = None) -> UInt8[Tensor, "x y z"]:
    """Read a voxel label as train ids: `path` is the `.label`, the `.invalid` lies beside it.

    Original ids go through the learning map; invalid voxels, and ids that scene completion ignores, become 255.

    Raises:
        DataError: if one of the two files is missing or has the wrong size.
    """
    raw = read_label(path, grid=grid)
    semantics = _LOOKUP[raw]
    grid = grid or grid_of_size(path, raw.size)
    semantics[read_packed(path.with_suffix(".invalid"), grid=grid)] = SEMANTICKITTI.ignore_id
    return torch.from_numpy(semantics)


class SemanticKittiDataset(FrameDataset):
    """SemanticKITTI scene completion. The reference frame is the Velodyne's; tokens are `<sequence>_<frame>`.

    `image_2` is the camera unless the config names others (`image_3` is the right one of the stereo pair). Frames are
    those with a voxel file; in a sequence without `voxels`, every fifth image. Test sequences have no labels. The real
    data set has no captions; a `captions.json` at the root, as the world writes it, is read.

    Args:
        root: folder that holds `sequences`, or `dataset/sequences`.
        split: which sequences.
        config: what to load; past frames (the previous voxel frames) need `poses.txt`.
        training: leave out frames without a label where others have one, and allow augmentation.
        cache_bytes: memory for what was read.

    Raises:
        DataError: if a calibration is missing or damaged, the captions are, or no frame is left.
    """

    name = "semantickitti"

    def __init__(
        self, root: Path, *, split: Split, config: DataConfig, training: bool = False, cache_bytes: int = 0
    ) -> None:
        super().__init__(root, config=config, training=training, cache_bytes=cache_bytes)
        self.taxonomy = SEMANTICKITTI
        self.camera_names = choose_cameras(root, config.cameras or ("image_2",), tuple(CAMERAS))
        self._open_features()
        self._folder = next(p for p in (root / "sequences", root / "dataset" / "sequences") if p.is_dir())
        self._captions = read_captions(root)
        self._order: dict[str, tuple[str, ...]] = {}
        self._calibrations: dict[str, Calibration] = {}
        self._poses: dict[str, Floats] = {}
        self._times: dict[str, Floats] = {}
        for sequence in self._sequences(split):
            self._open_sequence(sequence)
        tokens = [f"{sequence}_{frame}" for sequence, frames in self._order.items() for frame in frames]
        tokens = self._keep(tokens, self._has_images, "image of every camera")
        if self._source_steps:
            tokens = self._keep(tokens, self._has_sources, f"image {self._source_steps} steps away of every camera")
        tokens = self._keep_labelled(tokens, self._has_label)
        if config.load_points or (config.load_depth and training):
            swept = frozenset(token for token in tokens if self._file(token, "velodyne", ".bin").is_file())
            tokens = self._keep(tokens, swept.__contains__, "LiDAR sweep") if swept else tokens
        self.tokens = tuple(tokens)
        self.grid = self._find_grid()

    def _sequences(self, split: Split) -> list[str]:
        present = sorted(p.name for p in self._folder.iterdir() if re.fullmatch(r"\d\d", p.name) and p.is_dir())
        chosen = [name for name in present if split == "all" or name in SPLITS[split]]
        if not chosen:
            listed = ", ".join(present) or "no sequence"
            raise DataError(self._folder, f"has no sequence of the split {split!r}, got {listed}", "use another split")
        return chosen

    def _open_sequence(self, sequence: str) -> None:
        folder = self._folder / sequence
        calibration = read_calibration(folder / "calib.txt", shift=self.config.camera_shift)
        self._calibrations[sequence] = calibration
        for camera in self.camera_names:
            if camera not in calibration.intrinsics:
                raise DataError(
                    folder / "calib.txt", f"lacks {CAMERAS[camera]}, the matrix of {camera}", "copy it again"
                )
        voxels = {p.stem for p in folder.glob("voxels/*") if p.suffix in (".bin", ".label")}
        if not voxels:
            images = {p.stem for p in (folder / self.camera_names[0]).glob("*") if p.suffix in (".png", ".jpg")}
            voxels = {stem for stem in images if stem.isdecimal() and int(stem) % LABEL_INTERVAL == 0}
        self._order[sequence] = tuple(sorted(stem for stem in voxels if re.fullmatch(r"\d{1,9}", stem)))
        if (folder / "poses.txt").is_file():
            self._poses[sequence] = read_poses(folder / "poses.txt", calibration)
        elif self._other_times:
            needed = "no such file, and images of other times need it"
            raise DataError(folder / "poses.txt", needed, f"set {self._other_times}")
        if (folder / "times.txt").is_file():
            self._times[sequence] = _column(folder / "times.txt")

    def _file(self, token: str, kind: str, suffix: str) -> Path:
        sequence, frame = token.split("_")
        return self._folder / sequence / kind / f"{frame}{suffix}"

    def _depth_files(self, folder: Path, token: str, camera: str) -> tuple[Path, ...]:
        sequence, frame = token.split("_")
        files = super()._depth_files(folder, token, camera)
        return (*files, folder / "sequences" / sequence / f"{frame}.npy") if camera == "image_2" else files

    def _image(self, token: str, camera: str) -> Path:
        png = self._file(token, camera, ".png")
        return png if png.is_file() else png.with_suffix(".jpg")

    def _has_images(self, token: str) -> bool:
        return all(self._image(token, camera).is_file() for camera in self.camera_names)

    def _sources(self, token: str) -> list[str] | None:
        """Return the frames beside a frame, a step each: of all scans, or of those with voxels; None if any is none."""
        sequence, frame = token.split("_")
        if self.config.source_kind == "keyframe":
            order = self._order[sequence]
            return beside(order, order.index(frame), self._source_steps)
        numbers = [int(frame) + step for step in self._source_steps]
        return [f"{number:0{len(frame)}d}" for number in numbers] if min(numbers, default=0) >= 0 else None

    def _has_sources(self, token: str) -> bool:
        sources = self._sources(token)
        return sources is not None and all(self._has_images(f"{token.split('_')[0]}_{frame}") for frame in sources)

    def _has_label(self, token: str) -> bool:
        return self._file(token, "voxels", ".label").is_file()

    def _find_grid(self) -> VoxelGrid:
        stated = read_grid(self.root)
        if stated is not None:
            return stated
        return grid_of_files(self._file(token, "voxels", ".label") for token in self.tokens)

    def scene(self, token: str) -> str:
        """Return the sequence of a frame."""
        return token.split("_")[0]

    def label(self, token: str) -> Occupancy | None:
        """Return the label of a frame in train ids; None if it has none.

        Raises:
            DataError: if its files are damaged.
        """
        if not self._has_label(token):
            return None
        semantics = read_semantics(self._file(token, "voxels", ".label"), grid=self.grid)
        return Occupancy(semantics=semantics, grid=self.grid, taxonomy=self.taxonomy)

    def occluded(self, token: str) -> npt.NDArray[np.bool_]:
        """Return the voxels `[x, y, z]` of a frame that are not seen from where its scanner stands.

        Raises:
            DataError: if the file is missing or damaged.
        """
        return read_packed(self._file(token, "voxels", ".occluded"), grid=self.grid)

    def ray_origins(self, token: str) -> Floats:
        """Return the Velodyne positions of the sequence that lie in the frame's volume, at most 8: `[k, 3]`, metres.

        There is no published ray metric for KITTI. The frame's own origin comes first; it lies on the face of the
        volume. Others are those of the voxel frames more than 1 m inside, thinned as in `origins_along`.
        """
        sequence, frame = token.split("_")
        own = np.zeros((1, 3))
        if sequence not in self._poses:
            return own
        order = [self._pose(sequence, other)[:3, 3] for other in self._order[sequence] if other != frame]
        if not order:
            return own
        inverse = _inverse(self._pose(sequence, frame))
        others = origins_along(np.stack(order), inverse, self.grid.origin, self.grid.upper)
        return np.concatenate([own, others[:7]])

    def _pose(self, sequence: str, frame: str) -> Floats:
        poses = self._poses[sequence]
        if int(frame) >= len(poses):
            path = self._folder / sequence / "poses.txt"
            raise DataError(path, f"expected a pose for scan {frame}, got {len(poses)} poses", "copy the file again")
        return poses[int(frame)]

    def _frame(self, token: str) -> Frame:
        sequence, frame = token.split("_")
        order = self._order[sequence]
        position = order.index(frame)
        known = position
        while (
            known > 0 and position - known < self.config.num_past and self._has_images(f"{sequence}_{order[known - 1]}")
        ):
            known -= 1
        past = history(order[known : position + 1], position - known, self.config.num_past)
        times = self._times.get(sequence)
        seconds = times[int(frame)] if times is not None and int(frame) < len(times) else int(frame) * 0.1
        return Frame(
            token=token,
            scene=sequence,
            timestamp=round(float(seconds) * 1e6),
            views=tuple(self._views(sequence, other, frame) for other in past),
            sources=tuple(self._views(sequence, other, frame) for other in self._sources(token) or ()),
            global_from_ego=self._pose(sequence, frame) if sequence in self._poses else None,
            caption=self._captions.get(token),
        )

    def _beside(self, token: str, step: int) -> str | None:
        sequence, frame = token.split("_")
        order = self._order[sequence]
        found = beside(order, order.index(frame), (step,))
        other = f"{sequence}_{found[0]}" if found else None
        return other if other is not None and self._has_images(other) else None

    def _own_views(self, token: str) -> tuple[View, ...]:
        sequence, frame = token.split("_")
        return self._views(sequence, frame, frame)

    def _world_pose(self, token: str) -> Floats:
        return self._pose(*token.split("_"))

    def _views(self, sequence: str, frame: str, reference: str) -> tuple[View, ...]:
        return tuple(self._view(sequence, frame, camera, reference) for camera in self.camera_names)

    def _view(self, sequence: str, frame: str, camera: str, reference: str) -> View:
        calibration = self._calibrations[sequence]
        pose = calibration.velodyne_from_camera[camera]
        if frame != reference:
            pose = _inverse(self._pose(sequence, reference)) @ self._pose(sequence, frame) @ pose
        return View(
            path=self._image(f"{sequence}_{frame}", camera),
            intrinsics=calibration.intrinsics[camera],
            ego_from_camera=pose,
        )

    def _points(self, token: str) -> Float[Tensor, "p 4"] | None:
        path = self._file(token, "velodyne", ".bin")
        if not path.is_file():
            return None
        raw = torch.from_numpy(read_raw(path, "<f4", columns=4))
        raw = raw[raw.isfinite().all(dim=1)]
        return torch.cat([raw[:, :3], raw[:, 3:].clamp(0, 1)], dim=1)


def _text(path: Path) -> str:
    try:
        return read_bytes(path, max_bytes=_MAX_TEXT_BYTES).decode("ascii")
    except UnicodeDecodeError as error:
        raise DataError(path, "expected plain text", "copy the file again") from error


def _numbers(text: str, path: Path, what: str) -> Floats:
    words = text.split()
    try:
        values = np.array([float(word) for word in words[:13]])
    except ValueError:
        values = np.empty(0)
    if values.shape != (12,) or not (np.abs(values) < 1e9).all():
        raise DataError(path, f"{what}: expected 12 finite numbers, got {text[:80]!r}", "copy the file again")
    return values.reshape(3, 4)


def _rigid(rows: Floats, path: Path, what: str) -> Floats:
    pose = np.eye(4)
    pose[:3, :3] = nearest_rotation(rows[:, :3], what, path)
    pose[:3, 3] = rows[:, 3]
    return pose


def _column(path: Path) -> Floats:
    try:
        values = np.array([float(word) for word in _text(path).split()])
    except ValueError:
        values = np.array([np.nan])
    if not (np.abs(values) < 1e9).all():
        raise DataError(path, "expected a number of seconds a line", "copy the file again")
    return values


def _inverse(pose: Floats) -> Floats:
    return invert_pose(torch.from_numpy(pose)).numpy()
