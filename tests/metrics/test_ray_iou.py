"""RayIoU: the published constants, a scalar caster with its own walk, and known results of simple scenes."""

import math

import numpy as np
import pytest
import torch

from occkit.geometry import VoxelGrid
from occkit.metrics import Evaluator, ray_directions, ray_iou, select_origins
from occkit.metrics.ray_iou import cast, count_rays, pitches
from occkit.samples import Occupancy
from occkit.taxonomy import OCC3D, OPENOCC

CAR, BUS, FREE = 4, 3, 17
THRESHOLDS = (1.0, 2.0, 4.0)


def test_the_fan_has_the_published_numbers():
    angles = pitches()
    assert len(angles) == 39
    assert angles[0] == pytest.approx(-math.pi / 4)
    assert angles[9] == pytest.approx(-0.0997, abs=5e-5)
    assert np.diff(angles)[9:] == pytest.approx(0.010989, abs=5e-7)
    assert angles[-1] == pytest.approx(0.2190, abs=5e-5)
    directions = ray_directions()
    assert directions.shape == (14040, 3)
    assert directions.dtype == np.float32
    assert np.linalg.norm(directions, axis=1) == pytest.approx(1, abs=1e-6)
    assert directions[90] == pytest.approx([0, math.cos(angles[0]), math.sin(angles[0])], abs=1e-6)
    assert directions[360] == pytest.approx([math.cos(angles[1]), 0, math.sin(angles[1])], abs=1e-6)


def test_origins_are_strictly_near_and_thinned_with_halves_to_even():
    x = np.array([-39.0, -38.9, 0.0, 38.9, 39.0, 0.0])
    y = np.array([0.0, 0.0, 39.0, -38.9, 0.0, 0.0])
    z = np.array([0.0, 1.0, 2.0, 3.0, 4.0, 500.0])
    assert select_origins(np.stack([x, y, z], axis=1))[:, 2].tolist() == [1.0, 3.0, 500.0]
    for count, expected in (
        (8, [0, 1, 2, 3, 4, 5, 6, 7]),
        (9, [0, 1, 2, 3, 5, 6, 7, 8]),
        (11, [0, 1, 3, 4, 6, 7, 9, 10]),
        (36, [0, 5, 10, 15, 20, 25, 30, 35]),
        (40, [0, 6, 11, 17, 22, 28, 33, 39]),
    ):
        origins = np.zeros((count, 3))
        origins[:, 2] = np.arange(count)
        assert select_origins(origins)[:, 2].tolist() == expected


def scalar_cast(semantics, grid, origin):
    """The published caster, one ray at a time: `[(class, distance)]`."""
    size = grid.voxel_size[0]
    results = []
    for direction in ray_iou.ray_directions():
        start, toward = [], []
        for o, d, lower in zip(origin, direction, grid.origin, strict=True):
            start.append(float(np.float32((o - lower) / size)))
            toward.append(float(np.float32((o + float(d) - lower) / size)) - start[-1])
        length = math.sqrt(toward[0] ** 2 + toward[1] ** 2 + toward[2] ** 2)
        unit = [t / length for t in toward]
        voxel = [int(s) for s in start]
        step = [1 if u >= 0 else -1 for u in unit]
        t_max = [
            (v + (s > 0) - o) / u if u != 0 else 1e308 for v, s, o, u in zip(voxel, step, start, unit, strict=True)
        ]
        t_delta = [s / u if u != 0 else 1e308 for s, u in zip(step, unit, strict=True)]
        was_inside, distance, index = False, -1.0, (0, 0, 0)
        for _ in range(1000):
            inside = all(0 <= v < n for v, n in zip(voxel, semantics.shape, strict=True))
            if was_inside and not inside:
                break
            here = tuple(voxel)
            first = 0 if t_max[0] < t_max[1] else 1
            axis = first if t_max[first] < t_max[2] else 2
            leave = t_max[axis]
            voxel[axis] += step[axis]
            t_max[axis] += t_delta[axis]
            if inside:
                was_inside, distance, index = True, leave, here
                if semantics[here] != FREE:
                    break
        results.append((int(semantics[index]), np.float32(distance) * np.float32(size)))
    return results


def random_volumes(seed, shape=(6, 5, 4)):
    rng = np.random.default_rng(seed)
    label = np.where(rng.random(shape) < 0.15, rng.choice([0, 3, 4, 12, 255], shape), FREE).astype(np.uint8)
    prediction = np.where(rng.random(shape) < 0.8, label, rng.choice([0, 4, 9, FREE], shape)).astype(np.uint8)
    prediction[prediction == 255] = FREE
    return label, prediction


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("height", [0.1, 0.8, -0.15, 2.5])
@pytest.mark.parametrize("size", [0.4, 0.8])
def test_counts_equal_a_scalar_caster(monkeypatch, seed, height, size):
    """Also from half a voxel below the grid, which truncation puts inside, and from farther out."""
    some_rays = ray_directions()[seed::97]
    monkeypatch.setattr(ray_iou, "ray_directions", lambda: some_rays)
    label, prediction = random_volumes(seed)
    grid = VoxelGrid(origin=(-1.0, -1.0, 0.0), voxel_size=(size, size, size), shape=label.shape)
    occupancy = Occupancy(semantics=torch.from_numpy(label), grid=grid, taxonomy=OCC3D)
    origin = np.array([[0.35, -0.2, height]])
    expected = np.zeros((18, 5), dtype=np.int64)
    for (true, d_true), (seen, d_seen) in zip(
        scalar_cast(label, grid, origin[0]), scalar_cast(prediction, grid, origin[0]), strict=True
    ):
        if true == FREE:
            continue
        expected[seen, 1] += 1
        if true < 18:
            expected[true, 0] += 1
            for i, threshold in enumerate(THRESHOLDS):
                expected[true, 2 + i] += true == seen and abs(d_seen - d_true) < threshold
    counts = count_rays("frame", prediction, occupancy, origin, THRESHOLDS)
    assert counts.tolist() == expected.tolist()


def room(shift=0, kind=CAR):
    """A wall across a corridor, three voxels thick, and the origin before it."""
    semantics = np.full((60, 8, 8), FREE, np.uint8)
    semantics[20 + shift : 23 + shift] = kind
    return semantics


GRID = VoxelGrid(origin=(-4.0, -1.6, -1.6), voxel_size=(0.4, 0.4, 0.4), shape=(60, 8, 8))
ORIGIN = np.array([[0.05, 0.03, 0.02]])


def score(label, prediction, names=("rayiou",), origins=ORIGIN):
    evaluator = Evaluator(list(names), mask=None)
    occupancy = Occupancy(semantics=torch.from_numpy(label), grid=GRID, taxonomy=OCC3D)
    evaluator.add("frame", prediction, occupancy, origins)
    return evaluator.report()["rayiou"]


def test_identical_volumes_score_one():
    scores = score(room(), room())
    assert [scores[k] for k in ("rayiou", "rayiou@1", "rayiou@2", "rayiou@4", "rayiou_15")] == [1.0] * 5
    assert scores["per_class"]["car"] == 1.0
    assert scores["per_class"]["bus"] is None


def test_a_shift_of_three_voxels_along_a_ray_is_beyond_one_metre_and_within_two(monkeypatch):
    ahead = np.array([[1, 0, 0], [-1, 0, 0]], dtype=np.float32)
    monkeypatch.setattr(ray_iou, "ray_directions", lambda: ahead)
    _, true = cast(room(), GRID, FREE, ORIGIN)
    _, seen = cast(room(shift=3), GRID, FREE, ORIGIN)
    assert seen - true == pytest.approx([1.2, 0.0], abs=1e-5)
    scores = score(room(), room(shift=3))
    assert [scores[k] for k in ("rayiou@1", "rayiou@2", "rayiou@4")] == [0.0, 1.0, 1.0]
    assert scores["rayiou"] == pytest.approx(2 / 3)
    assert score(room(), room(kind=BUS))["rayiou"] == 0.0


def test_thresholds_are_strict(monkeypatch):
    """Voxels of half a metre, two apart: exactly one metre is not within one metre."""
    ahead = np.array([[1, 0, 0]], dtype=np.float32)
    monkeypatch.setattr(ray_iou, "ray_directions", lambda: ahead)
    grid = VoxelGrid(origin=(-4.0, -2.0, -2.0), voxel_size=(0.5, 0.5, 0.5), shape=(60, 8, 8))
    label = Occupancy(semantics=torch.from_numpy(room()), grid=grid, taxonomy=OCC3D)
    counts = count_rays("frame", room(shift=2), label, np.array([[0.25, 0.25, 0.25]]), THRESHOLDS)
    assert counts[CAR].tolist() == [1, 1, 0, 1, 1]


def test_the_distance_is_where_the_ray_leaves_the_voxel():
    classes, distances = cast(room(), GRID, FREE, ORIGIN)
    ahead = int(np.argmax(ray_directions()[:, 0]))
    assert classes[ahead] == CAR
    # The wall begins 8 m after the lower corner, at x = 4; its first voxel ends at 4.4, 4.35 from the origin.
    assert distances[ahead] == pytest.approx(4.35 / ray_directions()[ahead, 0], abs=1e-4)


def test_a_prediction_where_the_label_sees_through_costs_nothing():
    label, prediction = room(), room()
    prediction[:5] = BUS  # behind the origin the label is free up to the border
    assert score(label, prediction)["rayiou"] == 1.0
    label[:5] = BUS
    assert score(label, room())["rayiou"] < 1.0


def test_seventeen_and_fifteen_classes():
    """'others' found nowhere: one of two classes with everything counted, none of those that remain without it."""
    label, prediction = room(), room()
    label[:5] = 0
    scores = score(label, prediction)
    assert scores["rayiou"] == pytest.approx(0.5)
    assert scores["rayiou_15"] == 1.0


def test_openocc_labels_are_scored_too():
    semantics = np.full((6, 5, 4), OPENOCC.free_id, np.uint8)
    semantics[4] = OPENOCC.id_of("truck")
    grid = VoxelGrid(origin=(-1.0, -1.0, -1.0), voxel_size=(0.4, 0.4, 0.4), shape=(6, 5, 4))
    evaluator = Evaluator(["rayiou"])
    label = Occupancy(semantics=torch.from_numpy(semantics), grid=grid, taxonomy=OPENOCC)
    evaluator.add("frame", semantics, label, np.zeros((1, 3)))
    assert evaluator.report()["rayiou"]["rayiou"] == 1.0


@pytest.mark.parametrize(
    ("origins", "words"),
    [
        (None, "origins of frame: protocol rayiou needs LiDAR positions"),
        (np.zeros(3), "LiDAR positions"),
        (np.array([[39.0, 0.0, 0.0]]), "none of 1 lies within 39"),
    ],
)
def test_missing_origins_are_refused_by_token(origins, words):
    with pytest.raises(ValueError, match=words):
        score(room(), room(), origins=origins)


def test_wrong_ids_and_voxels_are_refused_by_token():
    with pytest.raises(ValueError, match="prediction of frame: id 18"):
        score(room(), room(kind=18))
    flat = VoxelGrid(origin=(0, 0, 0), voxel_size=(0.4, 0.4, 0.2), shape=(2, 2, 2))
    with pytest.raises(ValueError, match="cubic"):
        cast(np.zeros((2, 2, 2), np.uint8), flat, FREE, np.zeros((1, 3)))
