"""Rays against closed forms, and against a plain form without cells."""

import numpy as np
import pytest

from occkit.world.ground import PATCH, RASTER, Ground
from occkit.world.primitives import BALL, BOX, CONE, CYLINDER, ROOF, Part, assemble, concatenate
from occkit.world.tracing import GROUND, MISS, Tracer, hit_unit_solid

GREY = np.full(3, 0.5)


def flat_ground(size: int = 10, slope: float = 0.0) -> Ground:
    half = size * PATCH / 2
    x = np.linspace(-half, half, size + 1)
    cells = round(2 * half / RASTER)
    return Ground(
        origin=(-half, -half),
        patch=PATCH,
        heights=slope * np.broadcast_to(x[:, None], (size + 1, size + 1)).copy(),
        raster=RASTER,
        words=np.full((cells, cells), 1, np.uint8),
        along=np.zeros((cells, cells), np.float32),
        across=np.full((cells, cells), 1e6, np.float32),
    )


def solid(kind: int, center: tuple, half: tuple, yaw: float = 0.0, pitch: float = 0.0):
    return assemble([Part(kind, center, half, GREY, yaw=yaw, pitch=pitch)], word=8, instance=1, moving=False)


@pytest.mark.parametrize(
    ("kind", "origin", "direction", "expected"),
    [
        (BOX, (-3, 0.5, 0.5), (1, 0, 0), 2.0),
        (BOX, (-3, 1.5, 0), (1, 0, 0), np.inf),
        (BOX, (0, 0, 0), (1, 0, 0), np.inf),  # an eye inside a solid does not see it
        (BALL, (-3, 0, 0), (1, 0, 0), 2.0),
        (BALL, (-3, 0.6, 0), (1, 0, 0), 3 - 0.8),
        (BALL, (-3, 0.9, 0.9), (1, 0, 0), np.inf),
        (CYLINDER, (-3, 0.6, 0), (1, 0, 0), 3 - 0.8),
        (CYLINDER, (0.5, 0, 4), (0, 0, -1), 3.0),
        (CYLINDER, (0.8, 0.8, 4), (0, 0, -1), np.inf),
        (CONE, (-3, 0, 0), (1, 0, 0), 3 - 0.575),
        (CONE, (0.5, 0, 4), (0, 0, -1), 4 - (0.575 - 0.5) / 0.425),
        (ROOF, (0, 0, 4), (0, 0, -1), 3.0),
        (ROOF, (0, -3, 0), (0, 1, 0), 2.5),
        (ROOF, (0, -3, 0.99), (0, 1, 0), 3 - 0.005),
    ],
)
def test_unit_solids(kind: int, origin: tuple, direction: tuple, expected: float) -> None:
    assert hit_unit_solid(kind, *map(float, origin), *map(float, direction), 1e9) == pytest.approx(expected)


def test_ray_meets_plane_and_slope() -> None:
    tracer = Tracer.build(solid(BOX, (0, 15, 1), (1, 1, 1)), flat_ground(slope=0.05))
    t, hit = tracer.trace(np.array([[-10.0, 0, 2]]), np.array([[1.0, 0, -0.1]]), 100.0)
    # 2 - 0.1 t = 0.05 (t - 10)
    assert hit[0] == GROUND
    assert t[0] == pytest.approx(2.5 / 0.15)


def test_rotated_box() -> None:
    tracer = Tracer.build(solid(BOX, (10, 0, 1), (1, 1, 1), yaw=np.pi / 4), flat_ground())
    t, hit = tracer.trace(np.array([[0.0, 0, 1]]), np.array([[1.0, 0, 0]]), 100.0)
    assert hit[0] == 0
    assert t[0] == pytest.approx(10 - np.sqrt(2))


def test_misses_and_reach() -> None:
    tracer = Tracer.build(solid(BOX, (10, 0, 1), (1, 1, 1)), flat_ground())
    eye = np.array([[0.0, 0, 1.0]] * 2)
    t, hit = tracer.trace(eye, np.array([[1.0, 0, 0], [0, 0, 1.0]]), 5.0)
    assert hit.tolist() == [MISS, MISS]
    assert t.tolist() == [5.0, 5.0]


def test_cells_agree_with_trying_every_solid(rng: np.random.Generator) -> None:
    """The grid is only an acceleration: it must find what a loop over all solids finds."""
    parts = [
        solid(int(kind), (*rng.uniform(-18, 18, 2), rng.uniform(0, 3)), tuple(rng.uniform(0.1, 3, 3)), yaw, pitch)
        for kind, yaw, pitch in zip(rng.integers(0, 5, 60), rng.uniform(0, 6, 60), rng.uniform(-1, 1, 60), strict=True)
    ]
    solids = concatenate(parts)
    tracer = Tracer.build(solids, flat_ground(slope=0.02))
    origins = np.tile([0.0, 0.0, 8.0], (400, 1)) + rng.normal(0, 0.5, (400, 3))
    directions = rng.normal(size=(400, 3))
    t, hit = tracer.trace(origins, directions, 30.0)
    for ray in range(400):
        local_o = (
            np.einsum("nij,nj->ni", np.swapaxes(solids.rotation, 1, 2), origins[ray] - solids.center) / solids.half
        )
        local_d = np.einsum("nij,j->ni", np.swapaxes(solids.rotation, 1, 2), directions[ray]) / solids.half
        found = [hit_unit_solid(solids.kind[i], *local_o[i], *local_d[i], 1e9) for i in range(len(solids))]
        down = (0.02 * origins[ray, 0] - origins[ray, 2]) / (directions[ray, 2] - 0.02 * directions[ray, 0])
        where = origins[ray] + down * directions[ray]
        if down > 0 and np.abs(where[:2]).max() < 20:
            found.append(down)
        # Solids reach beyond the ground's cells, where nothing is traced.
        expected = min(min(found), 30.0)
        if np.abs((origins[ray] + expected * directions[ray])[:2]).max() < 19.9:
            assert t[ray] == pytest.approx(expected), (ray, hit[ray])


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(5)
