"""First hits of random rays in a street of 200 x 200 x 16 voxels, against the same walk in vectorised torch."""

import numpy as np
import torch

from benchmarks.measure import Row, compare, measure_pair
from occkit.ops.raycast import first_hit
from occkit.taxonomy import OCC3D

NAME = "raycast"
SHAPE = (200, 200, 16)
RAYS = 100_000


def street(seed: int = 0) -> np.ndarray:
    """Ids of a plausible frame: ground, buildings along both sides, boxes of every class, nothing around the car."""
    rng = np.random.default_rng(seed)
    semantics = np.full(SHAPE, OCC3D.free_id, dtype=np.uint8)
    semantics[:, :, :2] = OCC3D.id_of("driveable_surface")
    semantics[:, :60, 2:14] = semantics[:, 140:, 2:14] = OCC3D.id_of("manmade")
    for _ in range(200):
        x, y = rng.integers(0, 190), rng.integers(62, 135)
        length, height = rng.integers(2, 9), rng.integers(1, 9)
        semantics[x : x + length, y : y + 4, 2 : 2 + height] = rng.integers(0, OCC3D.free_id)
    semantics[90:110, 92:108, 2:] = OCC3D.free_id
    return semantics


def run() -> list[Row]:
    """Time both forms and check that they agree to the last bit."""
    rng = np.random.default_rng(1)
    occupied = torch.from_numpy(street() != OCC3D.free_id)
    origins = torch.from_numpy(rng.uniform((90, 92, 4), (110, 108, 10), (RAYS, 3)))
    directions = torch.nn.functional.normalize(torch.from_numpy(rng.normal(size=(RAYS, 3))), dim=1)
    fast, plain = (first_hit(occupied, origins, directions, backend=backend) for backend in ("numba", "torch"))
    same = all(torch.equal(getattr(fast, name), getattr(plain, name)) for name in ("index", "entry", "exit", "hit"))
    if not same:
        raise AssertionError("raycast: the numba form and the torch form disagree")
    ours, torch_form = measure_pair(
        lambda: first_hit(occupied, origins, directions, backend="numba"),
        lambda: first_hit(occupied, origins, directions, backend="torch"),
        repeats=3,
    )
    shapes = f"{RAYS} rays, {'x'.join(map(str, SHAPE))} voxels"
    speed = RAYS / ours / 1e6
    facts = {"hit_rate": float(fast.hit.double().mean()), "mean_voxels": float(fast.exit[fast.hit].mean())}
    return [
        compare(NAME, "first hit", ours, torch_form, at_least=25, shapes=shapes, dtype="float64", **facts),
        Row(
            name=NAME,
            what="first hit, rays a second",
            shapes=shapes,
            dtype="float64",
            ours=speed,
            unit="Mrays/s",
            plain=RAYS / torch_form / 1e6,
            ratio=torch_form / ours,
            target=">= 5 Mrays/s",
            reached=speed >= 5,
        ),
    ]
