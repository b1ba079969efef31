"""Ray casting: literals worked out by hand, the published walk one ray at a time, numba against plain torch."""

import math
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from occkit.ops.raycast import Hits, carve, first_hit, seen_voxels, visible_voxels

BACKENDS = ("numba", "torch")


def rays(*rows):
    table = torch.tensor(rows, dtype=torch.float64)
    return table[:, :3], table[:, 3:]


def volume(shape, *occupied):
    grid = torch.zeros(shape, dtype=torch.bool)
    for index in occupied:
        grid[index] = True
    return grid


def cast_one(occupied, origin, direction, truncate):
    """The published walk, written as one scalar loop: `(index, entry, exit, hit)`."""
    voxel = [math.trunc(o) if truncate else math.floor(o) for o in origin]
    step = [1 if d >= 0 else -1 for d in direction]
    t_max, t_delta = [], []
    for v, o, d, s in zip(voxel, origin, direction, step, strict=True):
        t_max.append((v + (1 if s > 0 else 0) - o) / d if d != 0 else float("inf"))
        t_delta.append(s / d if d != 0 else float("inf"))
    best, last_t, was_inside = ((0, 0, 0), -1.0, -1.0, False), 0.0, False
    for _ in range(1001):
        inside = all(0 <= v < n for v, n in zip(voxel, occupied.shape, strict=True))
        if was_inside and not inside:
            break
        was_inside = inside
        here = tuple(voxel)
        first = 0 if t_max[0] < t_max[1] else 1
        axis = first if t_max[first] < t_max[2] else 2
        leave = t_max[axis]
        voxel[axis] += step[axis]
        t_max[axis] += t_delta[axis]
        if inside:
            best = (here, last_t, leave, bool(occupied[here]))
            if best[3]:
                break
        last_t = leave
    return best


def as_rows(hits: Hits):
    return list(
        zip(map(tuple, hits.index.tolist()), hits.entry.tolist(), hits.exit.tolist(), hits.hit.tolist(), strict=True)
    )


@pytest.mark.parametrize("backend", BACKENDS)
def test_literals(backend):
    grid = volume((4, 3, 2), (2, 1, 0))
    origins, directions = rays(
        [0.5, 1.5, 0.5, 1, 0, 0],  # along x: enters voxel 2 after 1.5, leaves after 2.5
        [0.5, 1.5, 0.5, 2, 0, 0],  # the same ray, twice the speed
        [2.5, 1.5, 0.5, 0, 1, 0],  # starts in the occupied voxel
        [0.5, 0.5, 0.5, 0, 0, 1],  # no hit: last voxel is (0, 0, 1), left at 1.5
        [9.0, 1.5, 0.5, 1, 0, 0],  # outside and going away
        [-1.5, 1.5, 0.5, 1, 0, 0],  # outside, enters the grid at 1.5 and the voxel at 3.5
    )
    expected = [
        ((2, 1, 0), 1.5, 2.5, True),
        ((2, 1, 0), 0.75, 1.25, True),
        ((2, 1, 0), 0.0, 0.5, True),
        ((0, 0, 1), 0.5, 1.5, False),
        ((0, 0, 0), -1.0, -1.0, False),
        ((2, 1, 0), 3.5, 4.5, True),
    ]
    assert as_rows(first_hit(grid, origins, directions, backend=backend)) == expected


@pytest.mark.parametrize("backend", BACKENDS)
def test_ties_go_to_the_later_axis(backend):
    """From a voxel's centre along a diagonal all faces are equally far: z is crossed first, then y, then x."""
    path = [(0, 0, 0), (0, 0, 1), (0, 1, 1), (1, 1, 1)]
    for stop, before in zip(path[1:], [0.5, 0.5, 0.5], strict=True):
        origins, directions = rays([0.5, 0.5, 0.5, 1, 1, 1])
        hits = first_hit(volume((2, 2, 2), stop), origins, directions, backend=backend)
        assert hits.hit.item()
        assert hits.entry.item() == before
    seen = visible_voxels(volume((2, 2, 2)), *rays([0.5, 0.5, 0.5, 1, 1, 1]), backend=backend)
    assert sorted(map(tuple, seen.nonzero().tolist())) == sorted(path)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("direction", "crossed"), [((1, 1, 0), (0, 1, 0)), ((1, 0, 1), (0, 0, 1)), ((0, 1, 1), (0, 0, 1))]
)
def test_of_two_equal_faces_that_of_the_later_axis_is_crossed(backend, direction, crossed):
    hits = first_hit(volume((2, 2, 2), crossed), *rays([0.5, 0.5, 0.5, *direction]), backend=backend)
    assert as_rows(hits) == [(crossed, 0.5, 0.5, True)]


@pytest.mark.parametrize("backend", BACKENDS)
def test_truncation_moves_an_origin_just_below_the_grid_into_it(backend):
    """Half a voxel below, going sideways: the published caster sees layer 0, a floor never gets there."""
    grid = volume((4, 1, 1), (3, 0, 0))
    origins, directions = rays([0.5, 0.5, -0.5, 1, 0, 0])
    assert first_hit(grid, origins, directions, start="truncate", backend=backend).index.tolist() == [[3, 0, 0]]
    assert first_hit(grid, origins, directions, backend=backend).exit.tolist() == [-1.0]


coordinate = st.one_of(st.integers(-3, 8).map(float), st.integers(-6, 16).map(lambda v: v / 2), st.floats(-3, 8))
component = st.one_of(st.sampled_from([0.0, -0.0, 1.0, -1.0, 0.5]), st.floats(-2, 2))


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**16),
    density=st.sampled_from([0.0, 0.05, 0.3]),
    drawn=st.lists(st.tuples(*[coordinate] * 3, *[component] * 3), min_size=1, max_size=12),
    truncate=st.booleans(),
)
def test_both_forms_equal_the_scalar_walk(seed, density, drawn, truncate):
    grid = torch.from_numpy(np.random.default_rng(seed).random((6, 5, 4)) < density)
    drawn = [row for row in drawn if any(abs(d) > 1e-6 for d in row[3:])] or [(0.5, 0.5, 0.5, 1.0, 0.0, 0.0)]
    origins, directions = rays(*drawn)
    expected = [cast_one(grid, row[:3], row[3:], truncate) for row in drawn]
    start = "truncate" if truncate else "floor"
    for backend in BACKENDS:
        assert as_rows(first_hit(grid, origins, directions, start=start, backend=backend)) == expected


def random_scene(num_rays, seed=0):
    rng = np.random.default_rng(seed)
    occupied = torch.from_numpy((rng.random((20, 18, 8)) < 0.1).astype(np.uint8))
    origins = torch.from_numpy(rng.uniform((-4, -4, -2), (24, 22, 10), (num_rays, 3)))
    directions = torch.from_numpy(rng.normal(size=(num_rays, 3)))
    return occupied, origins, directions


@pytest.mark.parametrize("num_rays", [45, 4001])
def test_forms_agree_to_the_last_bit(num_rays):
    occupied, origins, directions = random_scene(num_rays)
    fast = first_hit(occupied, origins, directions, backend="numba")
    plain = first_hit(occupied, origins, directions, backend="torch")
    for name in ("index", "entry", "exit", "hit"):
        assert torch.equal(getattr(fast, name), getattr(plain, name)), name
    assert 0.1 < fast.hit.double().mean() < 0.9
    for limit in (None, 3.0):
        seen = [visible_voxels(occupied, origins, directions, max_distance=limit, backend=b) for b in BACKENDS]
        assert torch.equal(*seen)
    counts = [carve((20, 18, 8), origins, origins + 5 * directions, backend=b) for b in BACKENDS]
    assert torch.equal(counts[0][0], counts[1][0])
    assert torch.equal(counts[0][1], counts[1][1])
    seen = [seen_voxels((20, 18, 8), origins[:300], origins[:300] + 5 * directions[:300], backend=b) for b in BACKENDS]
    assert torch.equal(*seen)
    assert 0.05 < seen[0].double().mean() < 0.9


def test_a_hit_lies_on_the_ray_and_nothing_occupied_lies_before_it():
    occupied, origins, directions = random_scene(500, seed=1)
    hits = first_hit(occupied, origins, directions)
    middle = origins + (0.5 * (hits.entry + hits.exit))[:, None] * directions
    entered = hits.exit >= 0
    assert torch.equal(middle.floor().long()[entered], hits.index[entered])
    for origin, direction, entry, hit in zip(origins, directions, hits.entry, hits.hit, strict=True):
        if hit and entry > 0:
            t = torch.linspace(0, 1, 400, dtype=torch.float64)[:, None] * (entry * (1 - 1e-9))
            index = (origin + t * direction).floor().long()
            inside = ((index >= 0) & (index < torch.tensor([20, 18, 8]))).all(dim=1)
            assert not occupied[tuple(index[inside].unbind(1))].any()


@pytest.mark.parametrize("backend", BACKENDS)
def test_scaling_a_direction_scales_only_the_distances(backend):
    occupied, origins, directions = random_scene(300, seed=2)
    once = first_hit(occupied, origins, directions, backend=backend)
    twice = first_hit(occupied, origins, 2 * directions, backend=backend)
    assert torch.equal(once.index, twice.index)
    entered = once.exit >= 0
    assert torch.equal(once.exit[entered], 2 * twice.exit[entered])


@pytest.mark.parametrize("backend", BACKENDS)
def test_visible_voxels_stop_at_the_wall_and_at_the_limit(backend):
    grid = volume((6, 1, 1), (4, 0, 0))
    look = rays([0.5, 0.5, 0.5, 1, 0, 0])
    assert visible_voxels(grid, *look, backend=backend).flatten().tolist() == [True] * 5 + [False]
    near = visible_voxels(grid, *look, max_distance=2.5, backend=backend).flatten().tolist()
    assert near == [True, True, True, False, False, False]


@pytest.mark.parametrize("backend", BACKENDS)
def test_carve_literals(backend):
    origins = torch.tensor([[0.5, 0.5, 0.5]] * 4, dtype=torch.float64)
    ends = torch.tensor([[3.5, 0.5, 0.5], [3.2, 0.5, 0.5], [9.0, 0.5, 0.5], [0.6, 0.5, 0.5]], dtype=torch.float64)
    passed, hit = carve((5, 1, 1), origins, ends, backend=backend)
    assert passed.flatten().tolist() == [3, 3, 3, 1, 1]
    assert hit.flatten().tolist() == [1, 0, 0, 2, 0]
    for ray in range(4):
        passed, hit = carve((5, 1, 1), origins[ray : ray + 1], ends[ray : ray + 1], backend=backend)
        seen = seen_voxels((5, 1, 1), origins[ray : ray + 1], ends[ray : ray + 1], backend=backend)
        assert seen.tolist() == (passed + hit > 0).tolist()


def test_single_precision_and_integers_become_double():
    occupied, origins, directions = random_scene(50, seed=3)
    single = first_hit(occupied, origins.float(), directions.float())
    double = first_hit(occupied, origins.float().double(), directions.float().double())
    assert single.exit.dtype == torch.float64
    assert torch.equal(single.exit, double.exit)


def test_no_rays_give_empty_answers():
    nothing = torch.zeros(0, 3)
    for backend in BACKENDS:
        assert first_hit(volume((2, 2, 2)), nothing, nothing, backend=backend).index.shape == (0, 3)
        assert not visible_voxels(volume((2, 2, 2)), nothing, nothing, backend=backend).any()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"occupied": torch.zeros(2, 2, dtype=torch.bool)}, "occupied"),
        ({"occupied": torch.zeros(2, 2, 2)}, "semantics != free_id"),
        ({"origins": torch.zeros(1, 2)}, "origins"),
        ({"origins": torch.full((1, 3), float("nan"))}, "finite"),
        ({"origins": torch.full((1, 3), -float("inf"))}, "finite"),
        ({"directions": torch.zeros(1, 3)}, "length"),
        ({"directions": torch.ones(2, 3)}, "like origins"),
        ({"backend": "cuda"}, "backend"),
        ({"start": "round"}, "start"),
    ],
)
def test_wrong_arguments_are_named(change, words):
    arguments = {"occupied": volume((2, 2, 2)), "origins": torch.zeros(1, 3), "directions": torch.ones(1, 3)} | change
    with pytest.raises(ValueError, match=words):
        first_hit(**arguments)


def test_threads_may_cast_at_once(monkeypatch):
    occupied, origins, directions = random_scene(20_000, seed=4)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    alone = first_hit(occupied, origins, directions)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(lambda _: first_hit(occupied, origins, directions), range(6)))
    assert all(torch.equal(hits.exit, alone.exit) and torch.equal(hits.index, alone.index) for hits in together)


FORKED = """
import multiprocessing, torch
from occkit.ops.raycast import first_hit
arguments = torch.zeros(4, 4, 4, dtype=torch.bool), torch.full((9, 3), 0.5), torch.ones(9, 3)
first_hit(*arguments)
child = multiprocessing.get_context("fork").Process(target=first_hit, args=arguments)
child.start()
child.join(60)
assert child.exitcode == 0, child.exitcode
"""


def test_a_forked_process_may_cast():
    """In a process of its own: whatever else ran in this one may have started threads that no fork survives."""
    done = subprocess.run([sys.executable, "-c", FORKED], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
