"""From labelled points of several frames to one labelled volume."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool, Float64, Int32, UInt8, UInt16
from numba import njit

from occkit.errors import ConfigError
from occkit.geometry import VoxelGrid
from occkit.labels.points import UNIT, LabelledPoints
from occkit.ops.raycast import carve, seen_voxels
from occkit.taxonomy import Taxonomy

MOVERS = {
    "occ3d": ("bicycle", "bus", "car", "construction_vehicle", "motorcycle", "pedestrian", "trailer", "truck"),
    "semantickitti": ("car", "bicycle", "motorcycle", "truck", "other-vehicle", "person", "bicyclist", "motorcyclist"),
}
"""Classes of things that may move. EasyOcc does not list its own; barriers and cones are kept here."""


@dataclass(frozen=True, kw_only=True)
class FusionConfig:
    """How points become labels. The defaults are EasyOcc's where it states them."""

    history: int = 13
    """Past keyframes whose points are added: 6.5 s of nuScenes."""
    future: int = 0
    """Keyframes to come whose points are added; EasyOcc uses none."""
    filter_movers: bool = True
    """Leave what may move out of the other frames; else a driving car becomes a trail."""
    oob: Literal["drop", "clamp"] = "drop"
    """Points outside the volume. `clamp` pulls them onto its faces: the slabs in EasyOcc's published figures."""
    vote: Literal["movers_first", "majority", "rare_first", "current_first", "near_first"] = "movers_first"
    """Who names a voxel: most points (a tie goes to the lower id), but the present frame where most of its points are
    of what moves, for fourteen frames of the road under a car outvote the car; most points without exception; near the
    ground the rarest class with a fifth of the points (ShelfOcc); the present frame where it has points; most points,
    each counting `1 / z^2`."""
    rare_below: float = 2.0
    """Height up to which `rare_first` applies, metres."""
    min_points: int = 1
    """Voxels with fewer points are empty, but for those that `movers_first` names: one frame alone shows them."""
    pass_ratio: float | None = None
    """Empty a voxel of standing things that so many times more rays pass than end in (ShelfOcc's static filter); None
    keeps all."""
    empty: Literal["free", "carved"] = "free"
    """Voxels without points: free, as in EasyOcc, or free only where a ray of the present frame passes and ignored
    elsewhere. Free is not the same as unknown."""
    carve_stride: int = 1
    """Every so many points of a frame carve."""

    def __post_init__(self) -> None:
        if self.history < 0 or self.future < 0 or self.min_points < 1 or self.carve_stride < 1:
            raise ConfigError(
                f"FusionConfig: counts must not be negative, min_points and carve_stride at least 1: {self}"
            )
        if self.pass_ratio is not None and self.pass_ratio <= 0:
            raise ConfigError(f"FusionConfig: pass_ratio must be positive, got {self.pass_ratio}")


@dataclass(frozen=True, kw_only=True)
class FusedLabels:
    """A labelled volume, and what it rests on."""

    semantics: UInt8[np.ndarray, "x y z"]
    """Ids of the taxonomy."""
    count: UInt16[np.ndarray, "x y z"]
    """Points in each voxel, 65535 at most."""
    visible: Bool[np.ndarray, "x y z"]
    """Passed or hit by a ray of the present frame."""


def fuse(
    frames: Sequence[tuple[LabelledPoints, Float64[np.ndarray, "4 4"]]],
    grid: VoxelGrid,
    taxonomy: Taxonomy,
    config: FusionConfig,
) -> FusedLabels:
    """Label a volume.

    Args:
        frames: the present frame first, then any others, each with the pose that carries its points into the present
            reference frame. The order of the others does not matter.
        grid: the volume, in the present reference frame.
        taxonomy: what the ids mean.
        config: how.

    Raises:
        ConfigError: if nothing is known about which classes of the taxonomy move.

    Source: Hayes et al., "EasyOcc", section 3; the rules of `FusionConfig` are named there.
    """
    told_apart = config.filter_movers or config.pass_ratio is not None or config.vote == "movers_first"
    movers = _mover_table(taxonomy) if told_apart else np.zeros(256, np.bool_)
    votes = np.zeros((int(np.prod(grid.shape)), taxonomy.num_classes), np.int32)
    number = np.zeros(len(votes), np.int32)
    own: Int32[np.ndarray, "v c"] | None = None
    for order, (points, pose) in enumerate(frames):
        counted = np.zeros(256, np.bool_)
        counted[list(taxonomy.semantic_ids)] = True
        if order > 0 and config.filter_movers:
            counted &= ~movers
        _vote(
            points.position,
            points.ids,
            counted,
            _into_voxels(grid, pose),
            grid.shape,
            config.oob == "clamp",
            _near_weights(points) if config.vote == "near_first" else np.ones(1, np.int32),
            votes,
            number,
        )
        if order == 0 and config.vote in ("current_first", "movers_first"):
            own = votes.copy()
            if config.vote == "movers_first":
                own[~movers[own.argmax(1)]] = 0
    if config.pass_ratio is not None:
        _drop_passed(frames, grid, config, movers, votes, number)
        if own is not None:
            own = np.minimum(own, votes)
    present, pose = frames[0]
    visible = _seen(present, grid, pose, config)
    semantics = _name(votes, own, number, grid, taxonomy, config)
    if config.empty == "carved":
        semantics[(semantics == taxonomy.free_id) & ~visible] = taxonomy.ignore_id
    return FusedLabels(
        semantics=semantics, count=number.clip(0, 65535).astype(np.uint16).reshape(grid.shape), visible=visible
    )


def _mover_table(taxonomy: Taxonomy) -> npt.NDArray[np.bool_]:
    if taxonomy.name not in MOVERS:
        known = ", ".join(MOVERS)
        raise ConfigError(
            f"fuse: which classes of {taxonomy.name} move is known for {known} only; set filter_movers=False "
            "and vote='majority'"
        )
    table = np.zeros(256, np.bool_)
    table[[taxonomy.id_of(name) for name in MOVERS[taxonomy.name]]] = True
    return table


def _into_voxels(grid: VoxelGrid, pose: Float64[np.ndarray, "4 4"]) -> Float64[np.ndarray, "3 4"]:
    """Return the affine map from a frame's centimetres to voxel units of the present grid."""
    size = np.array(grid.voxel_size)[:, None]
    matrix = np.concatenate([pose[:3, :3] * UNIT, pose[:3, 3:] - np.array(grid.origin)[:, None]], axis=1)
    return np.ascontiguousarray(matrix / size)


def _near_weights(points: LabelledPoints) -> Int32[np.ndarray, " p"]:
    """Return `1 / distance^2` of each point in whole 1/65536ths, so that sums do not depend on their order."""
    offset = points.position.astype(np.float32) * np.float32(UNIT) - points.origins[points.camera]
    return np.maximum(1, 65536 / np.maximum(16.0, (offset**2).sum(1))).astype(np.int32)


@njit(cache=True, nogil=True)
def _vote(
    position: npt.NDArray[np.int16],
    ids: npt.NDArray[np.uint8],
    counted: npt.NDArray[np.bool_],
    matrix: npt.NDArray[np.float64],
    shape: tuple[int, int, int],
    clamp: bool,
    weights: npt.NDArray[np.int32],
    votes: npt.NDArray[np.int32],
    number: npt.NDArray[np.int32],
) -> None:
    nx, ny, nz = shape
    for p in range(len(ids)):
        if not counted[ids[p]]:
            continue
        a, b, c = float(position[p, 0]), float(position[p, 1]), float(position[p, 2])
        x = int(np.floor(matrix[0, 0] * a + matrix[0, 1] * b + matrix[0, 2] * c + matrix[0, 3]))
        y = int(np.floor(matrix[1, 0] * a + matrix[1, 1] * b + matrix[1, 2] * c + matrix[1, 3]))
        z = int(np.floor(matrix[2, 0] * a + matrix[2, 1] * b + matrix[2, 2] * c + matrix[2, 3]))
        if clamp:
            x, y, z = min(max(x, 0), nx - 1), min(max(y, 0), ny - 1), min(max(z, 0), nz - 1)
        elif not (0 <= x < nx and 0 <= y < ny and 0 <= z < nz):
            continue
        voxel = (x * ny + y) * nz + z
        votes[voxel, ids[p]] += weights[p] if len(weights) > 1 else weights[0]
        number[voxel] += 1


def _rays(
    points: LabelledPoints, grid: VoxelGrid, pose: Float64[np.ndarray, "4 4"], stride: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return where the rays of a frame start and end, voxel units of the present grid."""
    matrix = _into_voxels(grid, pose)
    ends = points.position[::stride].astype(np.float64) @ matrix[:, :3].T + matrix[:, 3]
    starts = (points.origins.astype(np.float64) / UNIT) @ matrix[:, :3].T + matrix[:, 3]
    return torch.from_numpy(starts[points.camera[::stride]]), torch.from_numpy(ends)


def _seen(
    points: LabelledPoints, grid: VoxelGrid, pose: Float64[np.ndarray, "4 4"], config: FusionConfig
) -> Bool[np.ndarray, "x y z"]:
    origins, ends = _rays(points, grid, pose, config.carve_stride)
    return seen_voxels(grid.shape, origins, ends).numpy()


def _drop_passed(
    frames: Sequence[tuple[LabelledPoints, Float64[np.ndarray, "4 4"]]],
    grid: VoxelGrid,
    config: FusionConfig,
    movers: npt.NDArray[np.bool_],
    votes: Int32[np.ndarray, "v c"],
    number: Int32[np.ndarray, " v"],
) -> None:
    """Take the votes for standing things from voxels that rays pass far more often than they end there."""
    assert config.pass_ratio is not None
    passed, hit = np.zeros(len(votes)), np.zeros(len(votes))
    for points, pose in frames:
        counts = carve(grid.shape, *_rays(points, grid, pose, config.carve_stride))
        passed += counts[0].reshape(-1).numpy()
        hit += counts[1].reshape(-1).numpy()
    thin = passed > config.pass_ratio * np.maximum(hit, 1)
    standing = ~movers[: votes.shape[1]]
    votes[np.ix_(thin, standing)] = 0
    number[thin & (votes.sum(1) == 0)] = 0


def _name(
    votes: Int32[np.ndarray, "v c"],
    own: Int32[np.ndarray, "v c"] | None,
    number: Int32[np.ndarray, " v"],
    grid: VoxelGrid,
    taxonomy: Taxonomy,
    config: FusionConfig,
) -> UInt8[np.ndarray, "x y z"]:
    """Let the votes name each voxel that has enough of them."""
    semantics = np.full(len(votes), taxonomy.free_id, np.uint8)
    enough_points = (number >= config.min_points) & (number > 0)
    if config.vote == "movers_first" and own is not None:
        enough_points |= own.any(1)
    filled = np.flatnonzero(enough_points)
    cast = votes[filled]
    if own is not None:
        here = own[filled]
        cast = np.where(here.any(1, keepdims=True), here, cast)
    winner = cast.argmax(1)
    if config.vote == "rare_first":
        height = grid.origin[2] + (filled % grid.shape[2] + 0.5) * grid.voxel_size[2]
        total = votes.sum(0, dtype=np.int64)
        enough = cast * 5 >= cast.sum(1, keepdims=True)
        rarest = np.where(enough, total, np.iinfo(np.int64).max).argmin(1)
        winner = np.where(height <= config.rare_below, rarest, winner)
    semantics[filled] = winner
    return semantics.reshape(grid.shape)
