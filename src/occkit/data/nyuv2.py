"""NYUv2 scene completion as SSCNet laid it out: volumes, depth maps, and the data set made of them.

`NYUtrain/` and `NYUtest/` hold for each frame `NAME.bin`, `NAME.png` and, where colour is used, `NAME_color.jpg`; names
are `NYU0001_0000`. Little-endian bytes of a `.bin`: three float32, the origin of the volume; sixteen float32, the pose
of the camera, `world_from_camera` row by row; then uint32 pairs (id, how often) whose run lengths sum to
240 x 144 x 240. The world is z up, aligned with the walls, its origin on the floor below the camera (x right, y
forward); axes of the volume are **(x, z, y)** of the world, in voxels of 0.02 m. Ids are those of
`taxonomy.NYUV2_RAW_CLASSES`.

255 is empty space beside the floor's outline, at any height. What no pixel looks through is stored as 0, like free
space, if it lies above the floor; both are evaluated as stored. The image is 640 x 480 with a focal length of 518.8579
pixels and its centre at (320, 240); images of another size are taken to be the same view, scaled.

Source: Song et al., "SSCNet", CVPR 2017; pooling and 12 classes as Cao and de Charette, "MonoScene", CVPR 2022.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, UInt8
from numba import njit
from torch import Tensor

from occkit.data.frames import DataConfig, FrameDataset, Split
from occkit.data.records import Floats, nearest_rotation
from occkit.data.views import Frame, View, choose_cameras, read_captions
from occkit.errors import ConfigError, DataError
from occkit.files import image_size, read_bytes, read_grey16, write_bytes, write_image
from occkit.geometry import VoxelGrid
from occkit.samples import Occupancy
from occkit.taxonomy import NYUV2, NYUV2_RAW_CLASSES, nyuv2_lookup

RAW_SHAPE = (240, 144, 240)
"""Stored voxels along x, z and y of the world."""
RAW_SIZE = 0.02
"""Edge of a stored voxel, metres."""
POOL = 4
"""Stored voxels along each edge of one that is trained and evaluated."""
NYUV2_GRID = VoxelGrid.from_range((0.0, -2.4, -0.05), (4.8, 2.4, 2.83), 0.08)
"""60 x 60 x 36 voxels of 0.08 m in the frame of a sample: x forward (the world's y), y left (its -x), z up; the volume
begins at x = 0, and z = 0 is the floor. The field writes the shape in the stored order, 60 x 36 x 60."""
FOCAL, CENTRE, IMAGE_SIZE = 518.8579, (320.0, 240.0), (480, 640)
"""Focal length and centre, pixels, of images of (height, width)."""
NYUV2_SPLITS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"train": ("NYUtrain",), "val": ("NYUtest",), "test": ("NYUtest",), "all": ("NYUtrain", "NYUtest")}
)
"""Folders of each split; the field validates on the test frames."""
CAMERA = "color"
"""Name of the only camera."""
NAME = re.compile(r"NYU\d{4}_\d{4}")
"""Names of frames."""
_HEADER = 4 * (3 + 16)
_MAX_BYTES = _HEADER + 8 * 240 * 144 * 240
_EGO_FROM_WORLD = np.array([[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
_EMPTY_SHARE = 0.95
_DAMAGED = "copy or download the file again"
_LOOKUP = nyuv2_lookup()


@dataclass(frozen=True, kw_only=True)
class NyuVolume:
    """What a `.bin` holds."""

    origin: Floats
    """`[3]` lower corner of the volume, metres, world."""
    world_from_camera: Floats
    """`[4, 4]`."""
    ids: UInt8[np.ndarray, "x z y"] | None
    """Stored ids, 0..36 or 255, axes as stored; None if only the head was asked for."""


def write_volume(path: Path, volume: NyuVolume) -> None:
    """Write a `.bin`.

    Raises:
        ValueError: if the ids are not uint8 of the stored shape, or one is no stored id.
    """
    ids = volume.ids
    if ids is None or ids.dtype != np.uint8 or ids.shape != RAW_SHAPE:
        found = "nothing" if ids is None else f"{ids.dtype} {ids.shape}"
        raise ValueError(f"ids: expected uint8 {RAW_SHAPE}, got {found}")
    wrong = np.unique(ids[(ids >= len(NYUV2_RAW_CLASSES)) & (ids != NYUV2.ignore_id)])
    if wrong.size:
        raise ValueError(f"ids: expected 0..{len(NYUV2_RAW_CLASSES) - 1} or 255, got {wrong.tolist()}")
    head = np.concatenate([volume.origin, volume.world_from_camera.ravel()]).astype("<f4")
    write_bytes(path, head.tobytes() + encode_runs(ids.ravel()).tobytes())


def encode_runs(ids: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint32]:
    """Return the pairs (id, how often) of a flat array as `[2 n]`, little-endian uint32."""
    starts = np.flatnonzero(np.diff(ids, prepend=ids[:1] ^ 1))
    pairs = np.empty((len(starts), 2), dtype="<u4")
    pairs[:, 0], pairs[:, 1] = ids[starts], np.diff(starts, append=len(ids))
    return pairs.ravel()


def read_volume(path: Path, *, ids: bool = True) -> NyuVolume:
    """Read a `.bin`.

    Args:
        path: the file.
        ids: whether to unpack the volume; without, only the head is looked at.

    Raises:
        DataError: if the file is cut off, its pose is no rigid motion, its runs do not fill the volume exactly, or an
            id is not one of those stored.
    """
    data = read_bytes(path, max_bytes=_MAX_BYTES)
    if len(data) < _HEADER or (len(data) - _HEADER) % 8:
        problem = f"expected {_HEADER} bytes and pairs of 8 bytes after them, got {len(data):,} bytes: it is cut off"
        raise DataError(path, problem, _DAMAGED)
    head = np.frombuffer(data, dtype="<f4", count=19).astype(np.float64)
    if not (np.abs(head) < 1e4).all():
        raise DataError(path, "origin or pose: expected finite metres", _DAMAGED)
    pose = head[3:].reshape(4, 4).copy()
    if not np.allclose(pose[3], (0, 0, 0, 1), atol=1e-4):
        raise DataError(path, f"pose: expected the last row 0 0 0 1, got {pose[3].tolist()}", "is it transposed?")
    pose[:3, :3] = nearest_rotation(pose[:3, :3], "pose", path)
    pose[3] = (0, 0, 0, 1)
    pairs = np.frombuffer(data, dtype="<u4", offset=_HEADER).reshape(-1, 2)
    return NyuVolume(origin=head[:3], world_from_camera=pose, ids=decode_runs(pairs, path) if ids else None)


def decode_runs(pairs: npt.NDArray[np.uint32], path: Path) -> UInt8[np.ndarray, "x z y"]:
    """Return the volume that pairs `[n, 2]` (id, how often) describe; nothing is unpacked before they are checked.

    Raises:
        DataError: naming `path`, if they do not fill the volume exactly or an id is not stored in NYUv2.
    """
    expected, total = int(np.prod(RAW_SHAPE)), int(pairs[:, 1].astype(np.uint64).sum())
    if total != expected:
        what = "it is cut off" if total < expected else "this is no volume of NYUv2"
        raise DataError(path, f"expected runs of {expected:,} voxels in all, got {total:,}: {what}", _DAMAGED)
    unknown = np.unique(pairs[(pairs[:, 0] >= len(NYUV2_RAW_CLASSES)) & (pairs[:, 0] != NYUV2.ignore_id), 0])
    if unknown.size:
        listed = ", ".join(map(str, unknown[:8].tolist()))
        raise DataError(path, f"expected ids 0..36 or 255, got {listed}", "are the classes mapped already?")
    return np.repeat(pairs[:, 0].astype(np.uint8), pairs[:, 1]).reshape(RAW_SHAPE)


def pool_ids(ids: UInt8[np.ndarray, "x z y"], factor: int = POOL) -> UInt8[np.ndarray, "_ _ _"]:
    """Return ids of `NYUV2` in voxels `factor` times as large, axes as they come.

    Of the stored voxels in one, if more than 95 % are empty or 255 it is what most of those are (255 if equal), else
    the most frequent class; of equally frequent ones the lowest.

    Source: SSCNet's rule as MonoScene uses it.
    """
    return _pool(_LOOKUP[np.ascontiguousarray(ids)], factor, int(_EMPTY_SHARE * factor**3), NYUV2.num_classes)


@njit(cache=True)
def _pool(classes: npt.NDArray[np.uint8], factor: int, most: int, count: int) -> npt.NDArray[np.uint8]:
    nx, ny, nz = classes.shape[0] // factor, classes.shape[1] // factor, classes.shape[2] // factor
    pooled = np.empty((nx, ny, nz), np.uint8)
    votes = np.zeros(count + 1, np.int64)
    for x in range(nx):
        for y in range(ny):
            for z in range(nz):
                votes[:] = 0
                for a in range(x * factor, (x + 1) * factor):
                    for b in range(y * factor, (y + 1) * factor):
                        for c in range(z * factor, (z + 1) * factor):
                            found = classes[a, b, c]
                            votes[count if found == 255 else found] += 1
                if votes[0] + votes[count] > most:
                    pooled[x, y, z] = 0 if votes[0] > votes[count] else 255
                else:
                    pooled[x, y, z] = 1 + np.argmax(votes[1:count])
    return pooled


def volume_to_sample(stored: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return a volume `[x, z, y]` of the world as `[x, y, z]` of the sample's frame: forward, left, up."""
    return np.ascontiguousarray(stored.transpose(2, 0, 1)[:, ::-1])


def volume_from_sample(volume: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Inverse of `volume_to_sample`."""
    return np.ascontiguousarray(volume[:, ::-1].transpose(1, 2, 0))


def ego_from_world(origin: Floats) -> Floats:
    """Return the `[4, 4]` pose of the world in the sample's frame, for a volume whose lower corner is at `origin`."""
    matrix = np.eye(4)
    matrix[:3, :3] = _EGO_FROM_WORLD
    middle = origin + np.array([NYUV2_GRID.upper[1], 0.0, -NYUV2_GRID.origin[2]])
    matrix[:3, 3] = -_EGO_FROM_WORLD @ middle
    return matrix


def read_semantics(path: Path) -> UInt8[Tensor, "x y z"]:
    """Read the label of a frame: ids of `NYUV2` in the sample's frame, voxels of 0.08 m (`NYUV2_GRID`).

    Raises:
        DataError: as `read_volume`.
    """
    ids = read_volume(path).ids
    assert ids is not None
    return torch.from_numpy(volume_to_sample(pool_ids(ids)))


def intrinsics_of_size(size: tuple[int, int]) -> Floats:
    """Return the 3x3 camera matrix of NYUv2's view in an image of (height, width), pixels."""
    scale = np.array([size[1] / IMAGE_SIZE[1], size[0] / IMAGE_SIZE[0], 1.0])[:, None]
    return scale * np.array([[FOCAL, 0.0, CENTRE[0]], [0.0, FOCAL, CENTRE[1]], [0.0, 0.0, 1.0]])


def write_depth(path: Path, depth: Float[np.ndarray, "h w"]) -> None:
    """Write a depth map: 16-bit PNG, millimetres turned left by three bits; 0 is unknown, 8.191 m the most."""
    millimetres = np.clip(np.round(depth * 1000.0), 0, 8191).astype(np.uint16)
    write_image(path, ((millimetres << 3) | (millimetres >> 13)).astype(np.uint16))


def read_depth(path: Path) -> Float[np.ndarray, "h w"]:
    """Read a depth map: z-depth in metres, 0 where unknown.

    Raises:
        DataError: if it is no 16-bit greyscale image.
    """
    stored = read_grey16(path).astype(np.uint32)
    millimetres = ((stored >> 3) | (stored << 13)) & 0xFFFF
    return millimetres.astype(np.float32) / 1000.0


def find_splits(root: Path) -> Path | None:
    """Return the folder that holds `NYUtrain` or `NYUtest`: the root or its `depthbin`; None if neither does."""
    for base in (root, root / "depthbin"):
        if any((base / name).is_dir() for name in NYUV2_SPLITS["all"]):
            return base
    return None


class NyuV2Dataset(FrameDataset):
    """NYUv2 scene completion: one image a frame, labels of 60 x 60 x 36 voxels (see `NYUV2_GRID`).

    Frames stand alone: there is no past and no pose between two of them. Depth maps, where there are any, take the
    place of a LiDAR: their pixels are points of the frame. A `captions.json` at the root, as the world writes it, is
    read.

    Args:
        root: folder that holds `NYUtrain` and `NYUtest`, or their parent `depthbin`.
        split: `val` and `test` are both NYUtest.
        config: what to load; nothing of other times.
        training: allow augmentation.
        cache_bytes: memory for what was read.

    Raises:
        DataError: if the split has no frame, or the first image is not 4 : 3.
        ConfigError: if images of other times are asked for.
    """

    name = "nyuv2"

    def __init__(
        self, root: Path, *, split: Split, config: DataConfig, training: bool = False, cache_bytes: int = 0
    ) -> None:
        super().__init__(root, config=config, training=training, cache_bytes=cache_bytes)
        if self._other_times:
            raise ConfigError(f"NYUv2: frames stand alone, there are none before or after; set {self._other_times}")
        self.taxonomy, self.grid = NYUV2, NYUV2_GRID
        self.camera_names = choose_cameras(root, config.cameras, (CAMERA,))
        self._open_features()
        base = find_splits(root)
        if base is None:
            raise DataError(root, "has neither NYUtrain nor NYUtest", "give the folder above them")
        self._captions = read_captions(root)
        self._volumes: dict[str, Path] = {}
        for folder in NYUV2_SPLITS[split]:
            for path in sorted((base / folder).glob("*.bin")):
                if NAME.fullmatch(path.stem):
                    self._volumes[path.stem] = path
        if not self._volumes:
            listed = " or ".join(NYUV2_SPLITS[split])
            raise DataError(base, f"the split {split!r} has no frame: no NYU*.bin in {listed}", "use another split")
        tokens = self._keep(tuple(self._volumes), self._has_image, "colour image")
        self.tokens = self._keep_labelled(tokens, lambda token: True)
        self._stored = self._size_of(self._image(self.tokens[0]))

    def _size_of(self, path: Path) -> tuple[int, int]:
        """Return the (height, width) of the images, which says how NYUv2's camera was scaled."""
        height, width = image_size(path)
        if 4 * height != 3 * width:
            problem = f"expected NYUv2's 640 x 480 pixels, or another 4 : 3, got {width} x {height}"
            raise DataError(path, problem, "the calibration belongs to the whole image; undo the cropping")
        return height, width

    def _image(self, token: str) -> Path:
        path = self._volumes[token]
        for suffix in ("_color.jpg", "_color.png", "_rgb.png"):
            found = path.with_name(f"{token}{suffix}")
            if found.is_file():
                return found
        return path.with_name(f"{token}_color.jpg")

    def _has_image(self, token: str) -> bool:
        return self._image(token).is_file()

    def scene(self, token: str) -> str:
        """Return the first half of a frame's name: each is a room of its own."""
        return token.split("_")[0]

    def label(self, token: str) -> Occupancy:
        """Return the label of a frame.

        Raises:
            DataError: if its file is damaged.
        """
        return Occupancy(semantics=read_semantics(self._volumes[token]), grid=self.grid, taxonomy=self.taxonomy)

    def ray_origins(self, token: str) -> Floats:
        """Return the camera's position: `[1, 3]`, metres, reference frame."""
        return self._camera_pose(token)[None, :3, 3]

    def _camera_pose(self, token: str) -> Floats:
        head = self._cache.get(("head", token), lambda: read_volume(self._volumes[token], ids=False))
        return ego_from_world(head.origin) @ head.world_from_camera

    def _frame(self, token: str) -> Frame:
        return Frame(
            token=token,
            scene=self.scene(token),
            timestamp=0,
            views=(self._own_views(token),),
            global_from_ego=None,
            caption=self._captions.get(token),
        )

    def _own_views(self, token: str) -> tuple[View, ...]:
        view = View(
            path=self._image(token),
            intrinsics=intrinsics_of_size(self._stored),
            ego_from_camera=self._camera_pose(token),
            size=self._stored,
        )
        return (view,)

    def _points(self, token: str) -> Float[Tensor, "p 4"] | None:
        path = self._volumes[token].with_suffix(".png")
        if not path.is_file():
            return None
        return torch.from_numpy(points_of_depth(read_depth(path), self._camera_pose(token)))


def points_of_depth(depth: Float[np.ndarray, "h w"], ego_from_camera: Floats) -> Float[np.ndarray, "p 4"]:
    """Return the point of each pixel of NYUv2's camera that has a depth: x, y, z (metres) and intensity 0."""
    rows, columns = np.nonzero(depth > 0)
    pixels = np.stack([columns + 0.5, rows + 0.5, np.ones(len(rows))], axis=1)
    height, width = depth.shape
    rays = pixels @ np.linalg.inv(intrinsics_of_size((height, width))).T
    points = np.zeros((len(rows), 4), np.float32)
    local = rays * depth[rows, columns, None]
    points[:, :3] = local @ ego_from_camera[:3, :3].T + ego_from_camera[:3, 3]
    return points
