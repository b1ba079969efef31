"""A frame of sixty thousand voxels in the browser's server: what moves is sent again, and nothing else."""

import numpy as np
import torch

from benchmarks.measure import Row, measure_pair
from occkit.geometry import OCC3D_GRID
from occkit.samples import Occupancy
from occkit.taxonomy import OCC3D
from occkit.viewer.boxes import outer_boxes
from occkit.viewer.server import serve, stop
from occkit.viewer.stage import Stage

NAME = "viewing"
_BYTES_A_BOX = 28
"""A place and a turn, float32."""


def _street(shift: int) -> Occupancy:
    """Return two layers of ground, houses along it, and a car that stands `shift` voxels ahead."""
    semantics = np.full(OCC3D_GRID.shape, OCC3D.free_id, np.uint8)
    semantics[:, :, 1] = OCC3D.id_of("driveable_surface")
    semantics[:, :50, :2] = semantics[:, 150:, :2] = OCC3D.id_of("sidewalk")
    for begin in range(0, 200, 25):
        semantics[begin : begin + 14, 20:34, 2:12] = OCC3D.id_of("manmade")
    semantics[60 + shift : 71 + shift, 95:100, 2:6] = OCC3D.id_of("car")
    return Occupancy(semantics=torch.from_numpy(semantics), grid=OCC3D_GRID, taxonomy=OCC3D)


def run() -> list[Row]:
    """Time a step to a frame in which one class has moved, against sending that frame whole."""
    frames = [_street(shift) for shift in range(2)]
    server = serve("127.0.0.1", 0, label="benchmark")
    try:
        careful, careless = Stage(server.scene), Stage(server.scene)
        turn = {"ours": 0, "plain": 0}

        def step(stage: Stage, which: str) -> None:
            turn[which] ^= 1
            stage.put_volume(frames[turn[which]])

        def plain() -> None:
            careless._digests.clear()
            step(careless, "plain")

        times = measure_pair(lambda: step(careful, "ours"), plain, repeats=9)
    finally:
        stop(server)
    boxes = [outer_boxes(frame) for frame in frames]
    moved = [i for i in boxes[1] if not np.array_equal(boxes[0].get(i), boxes[1][i])]
    ours, whole = (_BYTES_A_BOX * sum(len(boxes[1][i]) for i in chosen) for chosen in (moved, list(boxes[1])))
    occupied = int(frames[1].occupied.sum())
    shared = {"name": NAME, "dtype": "uint8"}
    shared["shapes"] = f"{occupied} occupied voxels of 200x200x16, {len(moved)} class of {len(boxes[1])} moves"
    took = Row(
        what="next frame, on the server's side", ours=times[0], plain=times[1], ratio=times[1] / times[0], **shared
    )
    size = Row(what="next frame, to the browser", unit="B", ours=ours, plain=whole, ratio=whole / ours, **shared)
    return [took, size]
