import torch

from occkit.geometry import VoxelGrid
from occkit.metrics.agreement import lidar_agreement
from occkit.samples import Occupancy
from occkit.taxonomy import OCC3D

GRID = VoxelGrid.from_range((0, -2, 0), (10, 2, 2), 1.0)
ORIGIN = torch.tensor([0.5, 0.5, 0.5])


def volume(*occupied):
    semantics = torch.full(GRID.shape, OCC3D.free_id, dtype=torch.uint8)
    for index in occupied:
        semantics[index] = 4
    return Occupancy(semantics=semantics, grid=GRID, taxonomy=OCC3D)


def test_counts_of_one_beam_by_hand():
    # The beam runs along x at y = 0.5 (index 2) and ends in voxel 8; the car hides voxels 0..2.
    points = torch.tensor([[8.5, 0.5, 0.5, 0.1]])
    counts = lidar_agreement(volume((8, 2, 0), (5, 2, 0)), points, ORIGIN)
    assert (counts.points, counts.points_occupied) == (1, 1)
    assert (counts.hit_voxels, counts.hit_voxels_occupied) == (1, 1)
    assert (counts.free_voxels, counts.free_voxels_free) == (5, 4)  # voxels 3..7, of which 5 is wrongly occupied


def test_two_points_in_one_voxel_count_twice_as_points_and_once_as_voxel():
    points = torch.tensor([[8.5, 0.5, 0.5], [8.6, 0.6, 0.6], [5.5, 0.5, 0.5]])
    counts = lidar_agreement(volume((8, 2, 0)), points, ORIGIN)
    assert (counts.points, counts.points_occupied) == (3, 2)
    assert (counts.hit_voxels, counts.hit_voxels_occupied) == (2, 1)
    assert counts.free_voxels == 4  # 3, 4, 6 and 7: beams pass voxel 5 as well, but one ends there
    assert counts.fractions()["points_in_occupied"] == 2 / 3


def test_own_car_and_points_outside_or_not_finite_do_not_count():
    points = torch.tensor([[1.5, 0.5, 0.5], [float("nan"), 0.0, 0.0], [20.0, 0.5, 0.5]])
    counts = lidar_agreement(volume(), points, ORIGIN)
    assert counts.points == 0
    assert counts.free_voxels == 7  # the beam that leaves the grid still carves voxels 3..9


def test_constant_predictions_have_half():
    points = torch.tensor([[8.5, 0.5, 0.5], [7.5, -1.5, 1.5]])
    everything = volume(*[(x, y, z) for x in range(10) for y in range(4) for z in range(2)])
    for prediction in (volume(), everything):
        assert lidar_agreement(prediction, points, ORIGIN).fractions()["balanced"] == 0.5


def test_nothing_measured_gives_none():
    fractions = lidar_agreement(volume(), torch.zeros(0, 3), ORIGIN).fractions()
    assert set(fractions.values()) == {None}
