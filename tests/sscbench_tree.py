"""Writes drives of SSCBench-KITTI-360: images of their real size, voxels of a coarse grid."""

import numpy as np

from occkit.data.kitti360 import sequence_folder, write_invalid
from occkit.data.semantickitti import write_label, write_packed
from occkit.data.sscbench import IMAGE_SIZE
from occkit.files import write_image

SHAPE = (16, 16, 2)


def write_drive(root, drive, frames):
    """Write a drive with so many voxel frames, five apart: a road, a structure (52), a bicyclist (31) on it."""
    folder = root / "data_2d_raw" / sequence_folder(drive)
    for number in range(frames):
        name = f"{5 * number:06d}"
        shade = np.full((3, *IMAGE_SIZE), 40 + 30 * number, dtype=np.uint8)
        for camera in ("image_00", "image_01"):
            write_image(folder / camera / "data_rect" / f"{name}.png", shade)
        ids = np.zeros(SHAPE, dtype=np.uint16)
        ids[:, :, 0], ids[9, 9, 1], ids[9, 8, 1] = 40, 52, 31
        invalid = np.zeros(SHAPE, dtype=np.bool_)
        invalid[15, 15, 1] = True
        write_label(folder / "voxels" / f"{name}.label", ids)
        write_invalid(folder / "voxels" / f"{name}.invalid", invalid)
        write_packed(folder / "voxels" / f"{name}.bin", ids > 0)
