"""OpenOcc v2.1 labels: `openocc_v2/<scene>/<token>/labels.npz`, dense classes and flow in the ego frame.

Bytes: a deflated npz with `semantics` uint8 (200, 200, 16) and `flow` float (200, 200, 16, 2), metres per second along
x and y. Frame and grid as Occ3D: ego, box (-40, -40, -1) to (40, 40, 5.4). 17 ids, free = 16, in another order than
Occ3D's.

Source: Tong et al., "OccNet", ICCV 2023 and the CVPR 2024 occupancy and flow challenge; layout as in the published
data.
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float32

from occkit.data.occ3d import read_labels as read_occ3d_labels
from occkit.errors import DataError
from occkit.files import npz_keys, read_npz_array, write_npz
from occkit.geometry import VoxelGrid
from occkit.samples import Occupancy
from occkit.taxonomy import OPENOCC


def read_labels(path: Path, *, grid: VoxelGrid | None = None) -> Occupancy:
    """Read the classes of a `labels.npz`; the grid is Occ3D's box divided by the file's shape unless given.

    Raises:
        DataError: if `semantics` is not a uint8 volume with ids 0..16 (or 255).
    """
    return read_occ3d_labels(path, grid=grid, taxonomy=OPENOCC)


def read_flow(path: Path, *, shape: tuple[int, int, int]) -> Float32[np.ndarray, "x y z 2"] | None:
    """Read the flow of a `labels.npz`, metres per second along x and y of the ego frame; None where it has none.

    Raises:
        DataError: if it has another shape than `shape + (2,)` or holds NaN or infinity.
    """
    if "flow" not in npz_keys(path):
        return None
    flow = read_npz_array(path, "flow", shape=(*shape, 2), kinds="f").astype(np.float32)
    if not np.isfinite(flow).all():
        raise DataError(path, "flow: expected numbers, got NaN or infinity", "write the file again")
    return flow


def write_labels(path: Path, occupancy: Occupancy, *, flow: npt.NDArray[np.float32] | None = None) -> None:
    """Write a `labels.npz`.

    Args:
        path: the file.
        occupancy: classes of the OpenOcc taxonomy; 255 stays 255.
        flow: `[x, y, z, 2]` metres per second; zeros where None, because the format has no way to say "unknown".

    Raises:
        ValueError: if the taxonomy or the shape of the flow is another.
    """
    if occupancy.taxonomy != OPENOCC:
        raise ValueError(f"occupancy: expected taxonomy {OPENOCC.name}, got {occupancy.taxonomy.name}")
    shape = (*occupancy.grid.shape, 2)
    if flow is not None and flow.shape != shape:
        raise ValueError(f"flow: expected {shape}, got {flow.shape}")
    motion = np.zeros(shape, dtype=np.float32) if flow is None else flow.astype(np.float32)
    write_npz(path, semantics=occupancy.semantics.to(torch.uint8).numpy(), flow=motion)
