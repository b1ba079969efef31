"""What the voxels of a frame answer to words, on disk: one `<token>.npz` a frame."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int

from occkit.data.predictions import prediction_path
from occkit.files import read_npz_array, write_npz
from occkit.geometry import VoxelGrid


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What the occupied voxels of a frame answer to queries."""

    grid: VoxelGrid
    """Where the volume lies, ego frame."""
    voxels: Int[np.ndarray, "v 3"]
    """Index of each occupied voxel."""
    cosines: Float[np.ndarray, "v q"]
    """Of each voxel's vector with each query, -1..1."""
    margins: Float[np.ndarray, "v q"]
    """How far the cosine lies above what is needed to be found; below 0 the voxel is not found."""
    centres: Float[np.ndarray, "q 3"]
    """Middle of each query's best cluster, metres, ego frame; NaN where nothing is found."""
    clusters: Int[np.ndarray, "q"]
    """Voxels of that cluster."""

    @property
    def found(self) -> Bool[np.ndarray, "v q"]:
        """Which voxels are found."""
        return self.margins >= 0

    @property
    def counts(self) -> Int[np.ndarray, "q"]:
        """Number of voxels found, of each query."""
        return self.found.sum(axis=0)


def write_answers(folder: Path, token: str, answers: Answers) -> Path:
    """Write the answers of a frame and return the file's path."""
    path, grid = prediction_path(folder, token), answers.grid
    write_npz(
        path,
        voxels=answers.voxels.astype(np.int16),
        cosines=answers.cosines.astype(np.float32),
        margins=answers.margins.astype(np.float32),
        centres=answers.centres.astype(np.float32),
        clusters=answers.clusters.astype(np.int32),
        origin=np.array(grid.origin),
        voxel_size=np.array(grid.voxel_size),
        shape=np.array(grid.shape),
    )
    return path


def read_answers(path: Path, *, queries: int) -> Answers:
    """Read what `write_answers` wrote.

    Args:
        path: the file.
        queries: how many it must be about.

    Raises:
        DataError: if it is missing, damaged or about another number of queries.
    """
    voxels = read_npz_array(path, "voxels", shape=(-1, 3), kinds="ui")
    x, y, z = read_npz_array(path, "origin", shape=(3,), kinds="f").tolist()
    width, depth, height = read_npz_array(path, "voxel_size", shape=(3,), kinds="f").tolist()
    nx, ny, nz = read_npz_array(path, "shape", shape=(3,), kinds="ui").tolist()
    return Answers(
        grid=VoxelGrid(origin=(x, y, z), voxel_size=(width, depth, height), shape=(nx, ny, nz)),
        voxels=voxels,
        cosines=read_npz_array(path, "cosines", shape=(len(voxels), queries), kinds="f"),
        margins=read_npz_array(path, "margins", shape=(len(voxels), queries), kinds="f"),
        centres=read_npz_array(path, "centres", shape=(queries, 3), kinds="f"),
        clusters=read_npz_array(path, "clusters", shape=(queries,), kinds="ui"),
    )
