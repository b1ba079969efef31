"""Voxels as boxes and as a mesh."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis.extra import numpy as arrays

from occkit.geometry import VoxelGrid
from occkit.samples import Occupancy
from occkit.taxonomy import OCC3D
from occkit.viewer.boxes import Cut, outer_boxes, outer_surface

GRID = VoxelGrid(origin=(-2.0, -3.0, 0.5), voxel_size=(0.5, 1.0, 0.25), shape=(5, 4, 3))
CAR, ROAD = OCC3D.id_of("car"), OCC3D.id_of("driveable_surface")


def volume(semantics, grid=GRID):
    return Occupancy(semantics=torch.as_tensor(semantics, dtype=torch.uint8), grid=grid, taxonomy=OCC3D)


def empty():
    return np.full(GRID.shape, OCC3D.free_id, np.uint8)


def test_a_voxel_lies_at_its_centre_under_its_class():
    semantics = empty()
    semantics[1, 2, 0] = CAR
    semantics[4, 0, 2] = OCC3D.ignore_id
    boxes = outer_boxes(volume(semantics))
    assert list(boxes) == [CAR]
    np.testing.assert_allclose(boxes[CAR], [[-2 + 1.5 * 0.5, -3 + 2.5, 0.5 + 0.125]])
    assert outer_boxes(volume(empty())) == {}


def test_what_its_own_class_shuts_in_is_left_out_and_another_class_shuts_nothing_in():
    semantics = np.full(GRID.shape, ROAD, np.uint8)
    middle = len(outer_boxes(volume(semantics))[ROAD])
    assert middle == semantics.size - 3 * 2 * 1
    semantics[2, 1, 2] = CAR  # above an inner voxel: road below it can be seen once cars are hidden
    boxes = outer_boxes(volume(semantics))
    centre = GRID.points_at(torch.tensor([2.5, 1.5, 1.5])).numpy()
    assert (np.abs(boxes[ROAD] - centre).max(axis=1) < 1e-6).any()


def test_a_cut_removes_what_lies_above_and_opens_what_lies_below():
    semantics = np.full(GRID.shape, ROAD, np.uint8)
    cut = outer_boxes(volume(semantics), cut=Cut(axis=2, at=0.5 + 2 * 0.25))[ROAD]
    assert cut[:, 2].max() < 1.0
    assert len(cut) == 5 * 4 * 2  # two layers, none shut in
    assert outer_boxes(volume(semantics), cut=Cut(axis=0, at=-9.0)) == {}
    with pytest.raises(ValueError, match="axis 0, 1 or 2"):
        outer_boxes(volume(semantics), cut=Cut(axis=3, at=0.0))
    with pytest.raises(ValueError, match="one volume"):
        outer_boxes(volume(semantics[None]))


@settings(max_examples=40, deadline=None)
@given(arrays.arrays(np.bool_, GRID.shape))
def test_the_mesh_encloses_exactly_the_occupied_voxels(occupied):
    """The divergence theorem: the sum of signed tetrahedra is the volume, whatever the shape."""
    mesh = outer_surface(volume(np.where(occupied, CAR, OCC3D.free_id)))
    a, b, c = (mesh.vertices[mesh.faces[:, i]].astype(np.float64) for i in range(3))
    enclosed = np.einsum("ij,ij->i", a, np.cross(b, c)).sum() / 6
    assert enclosed == pytest.approx(occupied.sum() * 0.5 * 1.0 * 0.25, abs=1e-4)
    assert len(mesh.vertices) == len(mesh.ids) == 2 * len(mesh.faces)


def test_a_side_between_two_voxels_is_no_side_whatever_their_classes():
    semantics = empty()
    semantics[0, 0, 0], semantics[1, 0, 0] = CAR, ROAD
    mesh = outer_surface(volume(semantics))
    assert len(mesh.faces) == 2 * 10
    assert sorted(np.unique(mesh.ids)) == sorted((CAR, ROAD))
