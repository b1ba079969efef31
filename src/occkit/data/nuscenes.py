"""nuScenes key frames with Occ3D labels: full, mini, partly downloaded or generated."""

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from occkit.data.frames import DataConfig, FrameDataset, Split
from occkit.data.nuscenes_boxes import motion_of, read_boxes
from occkit.data.nuscenes_tables import LIDAR, Recording, Tables, matrix_of, read_tables
from occkit.data.occ3d import label_path, read_labels, read_splits
from occkit.data.records import Floats
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
from occkit.files import read_raw
from occkit.geometry import OCC3D_GRID, VoxelGrid, compensate_motion, invert_pose, transform_points
from occkit.samples import FeatureRays, ObjectMotion, Occupancy
from occkit.taxonomy import OCC3D

VERSIONS = ("v1.0-trainval", "v1.0-mini", "v1.0-test")
"""Version folders; the first one present is read (for the split "test" the last)."""
MINI_TRAIN = ("0061", "0553", "0655", "0757", "0796", "1077", "1094", "1100")
"""Scenes of the official mini training split."""
MINI_VAL = ("0103", "0916")
"""Scenes of the official mini validation split."""


class NuScenesDataset(FrameDataset):
    """nuScenes key frames. The reference frame is the ego frame at the exposure of `LIDAR_TOP`.

    Splits come from Occ3D's `annotations.json` (at the root or in `gts/`); without it the ten scenes of mini have their
    official split. Frames whose images are not there (mini, partial downloads) are left out and counted in `report`.

    Args:
        root: folder that holds `v1.0-*`, `samples` and `gts`.
        split: which scenes.
        config: what to load.
        training: leave out frames without a label where others have one, and allow augmentation.
        cache_bytes: memory for what was read.

    Raises:
        DataError: if tables are missing or damaged, the split is unknown, or no frame is left.
    """

    name = "nuscenes"

    def __init__(
        self, root: Path, *, split: Split, config: DataConfig, training: bool = False, cache_bytes: int = 0
    ) -> None:
        super().__init__(root, config=config, training=training, cache_bytes=cache_bytes)
        self.taxonomy = OCC3D
        steps = self._source_steps if config.source_kind == "sweep" else ()
        self.tables = read_tables(_version_folder(root, split), steps=steps)
        self.camera_names = choose_cameras(root, config.cameras, self.tables.cameras)
        self._open_features()
        self._scene_of = {token: name for name, tokens in self.tables.scenes.items() for token in tokens}
        self._has_file = _Listings()
        scenes = select_scenes(root, split, self.tables)
        tokens = [token for name in scenes for token in self.tables.scenes[name]]
        self._check_recordings(tokens)
        tokens = self._keep(tokens, self._has_images, "image of every camera")
        if self._source_steps:
            tokens = self._keep(tokens, self._has_sources, f"image {self._source_steps} steps away of every camera")
        tokens = self._keep_labelled(tokens, self._has_label)
        if (config.load_points or (config.load_depth and training)) and any(map(self._has_lidar, tokens)):
            tokens = self._keep(tokens, self._has_lidar, "LiDAR sweep")
        self.tokens = tuple(tokens)
        self.grid = self._find_grid()
        self._captions = read_captions(root)
        everything = [other for name in scenes for other in self.tables.scenes[name]]
        wanted = training and config.feature_motion
        self._boxes = read_boxes(self.tables.folder, frozenset(everything)) if wanted else {}

    def _check_recordings(self, tokens: list[str]) -> None:
        for token in tokens:
            absent = [name for name in (LIDAR, *self.camera_names) if name not in self.tables.recordings[token]]
            if absent:
                path = self.tables.folder / "sample_data.json"
                raise DataError(path, f"sample {token} has no key frame of {', '.join(absent)}", "download again")

    def _recording(self, token: str, channel: str) -> Recording:
        return self.tables.recordings[token][channel]

    def _exists(self, recording: Recording) -> bool:
        return recording.file.name in self._has_file(self.root / recording.file.parent)

    def _has_images(self, token: str) -> bool:
        return all(self._exists(self._recording(token, name)) for name in self.camera_names)

    def _sources(self, token: str) -> list[dict[str, Recording]] | None:
        """Return the recordings beside a frame by camera, a step each; None if any is not there."""
        if self.config.source_kind == "keyframe":
            order = self.tables.scenes[self._scene_of[token]]
            others = beside(order, order.index(token), self._source_steps)
            return None if others is None else [self.tables.recordings[other] for other in others]
        nearby = self.tables.nearby[token]
        if any(step not in nearby.get(name, {}) for name in self.camera_names for step in self._source_steps):
            return None
        return [{name: nearby[name][step] for name in self.camera_names} for step in self._source_steps]

    def _has_sources(self, token: str) -> bool:
        sources = self._sources(token)
        return sources is not None and all(self._exists(row[name]) for row in sources for name in self.camera_names)

    def _has_lidar(self, token: str) -> bool:
        return self._exists(self._recording(token, LIDAR))

    def _has_label(self, token: str) -> bool:
        path = self._label_path(token)
        return token in self._has_file(path.parent.parent) and path.is_file()

    def _label_path(self, token: str) -> Path:
        return label_path(self.root, self._scene_of[token], token)

    def _find_grid(self) -> VoxelGrid:
        stated = read_grid(self.root)
        if stated is not None:
            return stated
        labelled = next((token for token in self.tokens if self._has_label(token)), None)
        return OCC3D_GRID if labelled is None else read_labels(self._label_path(labelled)).grid

    def scene(self, token: str) -> str:
        """Return the name of a frame's scene."""
        return self._scene_of[token]

    def label(self, token: str) -> Occupancy | None:
        """Return the Occ3D label of a frame; None if it has none.

        Raises:
            DataError: if its file is damaged or of another grid than the first.
        """
        return read_labels(self._label_path(token), grid=self.grid) if self._has_label(token) else None

    def ray_origins(self, token: str) -> Floats:
        """Return the LiDAR positions of the scene that lie in the frame's volume, at most 8: `[k, 3]`, metres, ego."""
        lidars = [self._recording(other, LIDAR) for other in self.tables.scenes[self._scene_of[token]]]
        egos = matrix_of(np.stack([lidar.global_from_ego for lidar in lidars]))
        sensors = matrix_of(np.stack([lidar.ego_from_sensor for lidar in lidars]))
        return origins_along(
            (egos @ sensors)[:, :3, 3],
            invert_pose(torch.from_numpy(self._world_pose(token))).numpy(),
            self.grid.origin,
            self.grid.upper,
        )

    def _world_pose(self, token: str) -> Floats:
        return matrix_of(self._recording(token, LIDAR).global_from_ego)

    def _frame(self, token: str) -> Frame:
        scene = self.scene(token)
        # A past frame without its images is no past frame: the one after it is repeated instead.
        order = self.tables.scenes[scene]
        position = order.index(token)
        known = position
        while known > 0 and position - known < self.config.num_past and self._has_images(order[known - 1]):
            known -= 1
        past = history(order[known : position + 1], position - known, self.config.num_past)
        reference = self._world_pose(token)
        return Frame(
            token=token,
            scene=scene,
            timestamp=self.tables.timestamps[token],
            views=tuple(self._views(self.tables.recordings[t], reference) for t in past),
            sources=tuple(self._views(row, reference) for row in self._sources(token) or ()),
            global_from_ego=reference,
            caption=self._captions.get(token),
        )

    def _beside(self, token: str, step: int) -> str | None:
        order = self.tables.scenes[self._scene_of[token]]
        found = beside(order, order.index(token), (step,))
        return found[0] if found and self._has_images(found[0]) else None

    def _draw_rays(self, token: str, seed: int | None) -> FeatureRays | None:
        rays = super()._draw_rays(token, seed)
        if rays is None or not self.config.feature_motion:
            return rays
        return replace(rays, motion=self._cache.get(("motion", token), lambda: self._motion(token)))

    def _motion(self, token: str) -> ObjectMotion:
        horizon = self.config.feature_horizon
        others = {step: self._beside(token, step) for step in range(-horizon, horizon + 1) if step}
        boxes = [(step, self._boxes.get(other, {})) for step, other in others.items() if other is not None]
        return motion_of(self._boxes.get(token, {}), boxes, self._world_pose(token))

    def _own_views(self, token: str) -> tuple[View, ...]:
        return self._views(self.tables.recordings[token], self._world_pose(token))

    def _views(self, recordings: Mapping[str, Recording], reference: Floats) -> tuple[View, ...]:
        cameras = [recordings[name] for name in self.camera_names]
        # All poses at once: a matrix costs a dozen small operations.
        poses = compensate_motion(
            torch.from_numpy(matrix_of(np.stack([camera.ego_from_sensor for camera in cameras]))),
            torch.from_numpy(matrix_of(np.stack([camera.global_from_ego for camera in cameras]))),
            torch.from_numpy(reference),
        ).numpy()
        return tuple(map(self._view, cameras, self.camera_names, poses))

    def _view(self, camera: Recording, channel: str, ego_from_camera: Floats) -> View:
        if camera.intrinsics is None:
            raise DataError(self.tables.folder, f"{channel} is no camera", "name cameras only")
        return View(
            path=self.root / camera.file,
            intrinsics=camera.intrinsics,
            ego_from_camera=ego_from_camera,
            size=camera.size,
        )

    def _points(self, token: str) -> Float[Tensor, "p 4"] | None:
        if not self._has_lidar(token):
            return None
        lidar = self._recording(token, LIDAR)
        raw = torch.from_numpy(read_raw(self.root / lidar.file, "<f4", columns=5))
        raw = raw[raw[:, :4].isfinite().all(dim=1)]
        pose = torch.from_numpy(matrix_of(lidar.ego_from_sensor))
        xyz = transform_points(pose, raw[:, :3].double()).float()
        return torch.cat([xyz, (raw[:, 3:4] / 255).clamp(0, 1)], dim=1)


class _Listings:
    """Names in a folder; one listing instead of a question a file, which a network disk would answer slowly."""

    def __init__(self) -> None:
        self._names: dict[Path, frozenset[str]] = {}

    def __call__(self, folder: Path) -> frozenset[str]:
        if folder not in self._names:
            try:
                self._names[folder] = frozenset(os.listdir(folder))
            except OSError:
                self._names[folder] = frozenset()
        return self._names[folder]

    def __reduce__(self) -> "tuple[type[_Listings], tuple[()]]":
        # Another process lists for itself.
        return _Listings, ()


def _version_folder(root: Path, split: Split) -> Path:
    present = [name for name in VERSIONS if (root / name).is_dir()]
    present += sorted(p.name for p in root.glob("v1.0-*") if p.is_dir() and p.name not in VERSIONS)
    if not present:
        raise DataError(root, "expected a folder v1.0-trainval, v1.0-mini or v1.0-test", "give the folder above it")
    return root / (present[-1] if split == "test" and "v1.0-test" in present else present[0])


def select_scenes(root: Path, split: Split, tables: Tables) -> tuple[str, ...]:
    """Return the names of a split's scenes.

    Raises:
        DataError: if nothing says how the scenes are split, or none of them is in the split.
    """
    present = tuple(tables.scenes)
    if split == "all" or (split == "test" and tables.folder.name == "v1.0-test"):
        return present
    listed = next((p for p in (root / "annotations.json", root / "gts" / "annotations.json") if p.is_file()), None)
    mini = {f"scene-{n}" for n in (*MINI_TRAIN, *MINI_VAL)}
    if listed is not None:
        wanted = read_splits(listed)[split]
    elif mini.issuperset(present):
        names = {"train": MINI_TRAIN, "val": MINI_VAL, "test": ()}[split]
        wanted = frozenset(f"scene-{n}" for n in names)
    else:
        raise DataError(
            root,
            f"nothing says which of its {len(present)} scenes are {split}",
            "put Occ3D's annotations.json there, or use the split 'all'",
        )
    chosen = tuple(name for name in present if name in wanted)
    if not chosen:
        raise DataError(
            root,
            f"none of its {len(present)} scenes ({present[0]} ...) is in the split {split!r}",
            "use another split, or 'all'",
        )
    return chosen
