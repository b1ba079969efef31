"""Own cameras: images and a calibration file, no labels. The format is `rig.json` of docs/files.md.

A folder holds one `rig.json` (one frame), or sub-folders each with a `rig.json` (a drive: frames in the order of their
names), or sub-folders that are drives.
"""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from occkit.data.frames import DataConfig, FrameDataset
from occkit.data.records import Floats, array_of, field, intrinsics_of, name_field, path_field, pose_of
from occkit.data.selection import by_scene
from occkit.data.views import Frame, View, beside, choose_cameras, history, read_grid
from occkit.errors import DataError
from occkit.files import read_json, read_npy, read_raw
from occkit.geometry import OCC3D_GRID, VoxelGrid, compensate_motion, transform_points
from occkit.samples import Occupancy
from occkit.taxonomy import OCC3D

_MAX_RIG_BYTES = 2**20
_MAX_CAMERAS = 64


class Rig:
    """One parsed `rig.json`.

    Args:
        path: the file; image and LiDAR paths in it are relative to its folder.

    Raises:
        DataError: naming the camera and the field that is missing or wrong.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.folder = path.parent
        document = read_json(path, max_bytes=_MAX_RIG_BYTES)
        cameras = field(document, "cameras", list, path)
        if not 1 <= len(cameras) <= _MAX_CAMERAS:
            raise DataError(path, f"expected 1 to {_MAX_CAMERAS} cameras, got {len(cameras)}", "list each camera once")
        self.token = name_field(document, "token", path) if "token" in document else None
        self.timestamp = _microseconds(document.get("timestamp"), path)
        self.global_from_ego = _optional_pose(document, "the rig", path)
        self.cameras: dict[str, View] = {}
        for camera in cameras:
            name = name_field(camera, "name", path)
            if name in self.cameras:
                raise DataError(path, f"camera {name} is listed twice", "give each camera its own name")
            self.cameras[name] = self._read_camera(camera, name)
        self.lidar = self._read_lidar(document["lidar"]) if document.get("lidar") is not None else None

    def _read_camera(self, camera: Any, name: str) -> View:
        mounting = pose_of(camera.get("ego_from_camera"), f"{name} ego_from_camera", self.path)
        exposure = _optional_pose(camera, name, self.path)
        if exposure is not None:
            if self.global_from_ego is None:
                raise DataError(
                    self.path,
                    f"{name} states global_from_ego at its exposure, the rig none at the reference time",
                    "add global_from_ego beside cameras, or remove it from the cameras",
                )
            mounting = compensate_motion(
                torch.from_numpy(mounting), torch.from_numpy(exposure), torch.from_numpy(self.global_from_ego)
            ).numpy()
        lens = camera.get("distortion")
        coefficients = () if lens is None else array_of(lens, (-1,), f"{name} distortion", self.path).tolist()
        if len(coefficients) not in (0, 4, 5, 8):
            raise DataError(
                self.path, f"{name} distortion: expected 4, 5 or 8 values, got {len(coefficients)}", "see docs"
            )
        size = (field(camera, "height", int, self.path), field(camera, "width", int, self.path))
        if min(size) < 1:
            raise DataError(self.path, f"{name}: expected a positive size, got {size[1]} x {size[0]}", "in pixels")
        return View(
            path=self.folder / path_field(camera, "image", self.path),
            intrinsics=intrinsics_of(camera.get("intrinsics"), f"{name} intrinsics", self.path),
            ego_from_camera=mounting,
            distortion=tuple(coefficients),
            size=size,
        )

    def _read_lidar(self, lidar: Any) -> "tuple[PurePosixPath, tuple[str, ...], Floats]":
        file = path_field(lidar, "points", self.path)
        columns = field(lidar, "columns", list, self.path)
        if not {"x", "y", "z"}.issubset(c for c in columns if isinstance(c, str)) or len(columns) > 64:
            raise DataError(
                self.path, f"lidar columns: expected names with x, y and z, got {columns}"[:300], "name them"
            )
        if lidar.get("dtype", "float32") != "float32":
            raise DataError(self.path, "lidar dtype: expected float32", "save the points as little-endian float32")
        return file, tuple(map(str, columns)), pose_of(lidar.get("ego_from_lidar"), "lidar ego_from_lidar", self.path)

    def points(self) -> Float[Tensor, "p 4"] | None:
        """Return the LiDAR points: x, y, z (metres, reference frame), intensity 0..1; None without a LiDAR.

        Points that are not finite are left out. Intensities above 1 are taken to be 0..255; without the column they
        are 0.

        Raises:
            DataError: if the file is missing or its size does not fit its columns.
        """
        if self.lidar is None:
            return None
        file, columns, ego_from_lidar = self.lidar
        path = self.folder / file
        if file.suffix == ".npy":
            raw = read_npy(path, shape=(-1, len(columns)), kinds="f").astype(np.float32)
        else:
            raw = read_raw(path, "<f4", columns=len(columns)).reshape(-1, len(columns))
        wanted = [columns.index(name) for name in ("x", "y", "z", "intensity") if name in columns]
        points = torch.from_numpy(np.ascontiguousarray(raw[:, wanted]))
        points = points[points.isfinite().all(dim=1)]
        intensity = points[:, 3:4] if len(wanted) == 4 else torch.zeros(len(points), 1)
        if intensity.numel() and float(intensity.max()) > 1:
            intensity = intensity / 255
        xyz = transform_points(torch.from_numpy(ego_from_lidar), points[:, :3].double()).float()
        return torch.cat([xyz, intensity.clamp(0, 1)], dim=1)


class RigDataset(FrameDataset):
    """Frames of an own rig: any cameras, perhaps a LiDAR, no labels. The reference frame is the rig's ego frame.

    A drive is a scene. Frames of several drives are called `<drive>_<token>`.

    Args:
        root: a `rig.json`, its folder, a drive (a folder of such folders), or a folder of drives.
        config: what to load; past frames need `global_from_ego` in every rig.
        training: allow augmentation.
        cache_bytes: memory for what was read.

    Raises:
        DataError: if there is no rig, one is not as the format says, or drives lie on different grids.
    """

    name = "rig"

    def __init__(self, root: Path, *, config: DataConfig, training: bool = False, cache_bytes: int = 0) -> None:
        folder = root.parent if root.is_file() else root
        super().__init__(folder, config=config, training=training, cache_bytes=cache_bytes)
        drives = find_drives(root)
        if not drives:
            raise DataError(root, "expected a rig.json here or in sub-folders", "see docs/files.md for the format")
        fleet = not find_rigs(root)
        of_drives = {drive: [Rig(path) for path in files] for drive, files in drives.items()}
        rigs = [rig for drive in of_drives.values() for rig in drive]
        self.camera_names = choose_cameras(folder, config.cameras, tuple(rigs[0].cameras))
        self._open_features()
        for rig in rigs:
            absent = [name for name in self.camera_names if name not in rig.cameras]
            if absent:
                raise DataError(
                    rig.path, f"lacks cameras of the first frame: {', '.join(absent)}", "every frame needs them"
                )
            moves = len(rigs) > len(drives) and rig.global_from_ego is None
            if moves and self._other_times:
                remedy = f"add it, or set {self._other_times}"
                raise DataError(rig.path, "images of other times need global_from_ego", remedy)
        self._rigs: dict[str, Rig] = {}
        self._scenes: dict[str, str] = {}
        for drive, found in of_drives.items():
            for rig in found:
                token = rig.token or _token(rig, folder)
                token = f"{drive}_{token}" if fleet else token
                if token in self._rigs:
                    problem = f"has the same token as {self._rigs[token].path}: {token}"
                    raise DataError(rig.path, problem, "give each frame its own token")
                self._rigs[token], self._scenes[token] = rig, drive
        self._order = by_scene(self._rigs, self.scene)
        self.tokens = self._keep(tuple(self._rigs), self._has_images, "image of every camera")
        self._shown = by_scene(self.tokens, self.scene)
        if self._source_steps:
            has = self._has_sources
            self.tokens = self._keep(self.tokens, has, f"image {self._source_steps} steps away of every camera")
        if self._has_other_labels:
            self.tokens = self._keep_labelled(self.tokens, self._has_images)
        self.taxonomy = OCC3D
        self.stated_grid = read_grid(folder) or (_grid_of_all(folder, tuple(drives)) if fleet else None)
        """What `grid.json` says; None without one, and then `grid` is Occ3D's."""
        self.grid = self.stated_grid or OCC3D_GRID

    def _has_images(self, token: str) -> bool:
        return all(self._rigs[token].cameras[name].path.is_file() for name in self.camera_names)

    def _sources(self, token: str) -> list[str] | None:
        """Return the frames beside a frame, a step each; every frame of a rig is a keyframe."""
        order = self._order[self._scenes[token]]
        return beside(order, order.index(token), self._source_steps)

    def _has_sources(self, token: str) -> bool:
        sources = self._sources(token)
        return sources is not None and all(map(self._has_images, sources))

    def scene(self, token: str) -> str:
        """Return the name of the drive's folder."""
        return self._scenes[token]

    def label(self, token: str) -> Occupancy | None:
        """Return None: a rig has no labels."""
        return None

    def ray_origins(self, token: str) -> Floats:
        """Return the LiDAR's position, or the middle of the cameras without one: `[1, 3]`, metres, ego frame."""
        rig = self._rigs[token]
        if rig.lidar is not None:
            return rig.lidar[2][None, :3, 3]
        return np.mean([rig.cameras[n].ego_from_camera[:3, 3] for n in self.camera_names], axis=0, keepdims=True)

    def _points(self, token: str) -> Float[Tensor, "p 4"] | None:
        return self._rigs[token].points()

    def _frame(self, token: str) -> Frame:
        rig = self._rigs[token]
        shown = self._shown[self._scenes[token]]
        past = history(shown, shown.index(token), self.config.num_past)
        return Frame(
            token=token,
            scene=self.scene(token),
            timestamp=rig.timestamp,
            views=tuple(self._views(self._rigs[other], rig) for other in past),
            sources=tuple(self._views(self._rigs[other], rig) for other in self._sources(token) or ()),
            global_from_ego=rig.global_from_ego,
        )

    def _beside(self, token: str, step: int) -> str | None:
        order = self._order[self._scenes[token]]
        found = beside(order, order.index(token), (step,))
        return found[0] if found and self._has_images(found[0]) else None

    def _own_views(self, token: str) -> tuple[View, ...]:
        return self._views(self._rigs[token], self._rigs[token])

    def _world_pose(self, token: str) -> Floats:
        pose = self._rigs[token].global_from_ego
        if pose is None:
            raise DataError(self._rigs[token].path, "rays of other frames need global_from_ego", "add it")
        return pose

    def _views(self, rig: Rig, reference: Rig) -> tuple[View, ...]:
        return tuple(self._view(rig, name, reference) for name in self.camera_names)

    def _view(self, rig: Rig, name: str, reference: Rig) -> View:
        view = rig.cameras[name]
        if rig is reference or rig.global_from_ego is None or reference.global_from_ego is None:
            return view
        matrices = (view.ego_from_camera, rig.global_from_ego, reference.global_from_ego)
        pose = compensate_motion(*map(torch.from_numpy, matrices))
        return View(
            path=view.path,
            intrinsics=view.intrinsics,
            ego_from_camera=pose.numpy(),
            distortion=view.distortion,
            size=view.size,
        )


def find_rigs(root: Path) -> tuple[Path, ...]:
    """Return the rig files of the drive that a path stands for, in the order of frames; empty if there is none."""
    if root.is_file():
        return (root,) if root.suffix == ".json" else ()
    if (root / "rig.json").is_file():
        return (root / "rig.json",)
    return tuple(sorted(root.glob("*/rig.json")))


def find_drives(root: Path) -> dict[str, tuple[Path, ...]]:
    """Return the rig files of each drive that a path stands for, by the drive's name; empty if there is none."""
    if files := find_rigs(root):
        folder = root.parent if root.is_file() else root
        return {folder.name or "rig": files}
    drives: dict[str, tuple[Path, ...]] = {}
    for path in sorted(root.glob("*/*/rig.json")):
        drive = path.parent.parent.name
        drives[drive] = (*drives.get(drive, ()), path)
    return drives


def _grid_of_all(folder: Path, drives: Sequence[str]) -> VoxelGrid | None:
    """Return the grid that the drives of a folder state, each for itself; None if they state none."""
    first, *others = (read_grid(folder / drive) for drive in drives)
    for drive, grid in zip(drives[1:], others, strict=True):
        if grid != first:
            raise DataError(
                folder / drive / "grid.json", f"is another grid than that of {drives[0]}", "use one for all"
            )
    return first


def _token(rig: Rig, folder: Path) -> str:
    return rig.folder.resolve().name if rig.folder != folder else (folder.resolve().name or "rig")


def _microseconds(value: Any, path: Path) -> int:
    """The rig states seconds (a fraction) or microseconds (a whole number); nothing is 0."""
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1e18:
        raise DataError(path, f"timestamp: expected seconds or whole microseconds, got {value!r}"[:300], "see docs")
    return value if isinstance(value, int) else round(value * 1e6)


def _optional_pose(record: Any, what: str, path: Path) -> Floats | None:
    value = record.get("global_from_ego")
    return None if value is None else pose_of(value, f"{what} global_from_ego", path)
