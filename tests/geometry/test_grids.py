import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from occkit.geometry import KITTI_GRID, OCC3D_GRID, VoxelGrid


def test_published_grids():
    assert OCC3D_GRID.shape == (200, 200, 16)
    assert KITTI_GRID.shape == (256, 256, 32)
    assert OCC3D_GRID.upper == (40.0, 40.0, 5.4)
    assert KITTI_GRID.upper == (51.2, 25.6, 4.4)


def test_range_must_be_whole_voxels():
    with pytest.raises(ValueError, match=r"not a whole number of 0.3 m voxels"):
        VoxelGrid.from_range((0, 0, 0), (1, 1, 1), 0.3)


@pytest.mark.parametrize("bad", [{"shape": (0, 1, 1)}, {"voxel_size": (1.0, -1.0, 1.0)}])
def test_empty_grids_are_refused(bad: dict):
    with pytest.raises(ValueError, match="must be positive"):
        VoxelGrid(**({"origin": (0.0, 0, 0), "voxel_size": (1.0, 1, 1), "shape": (1, 1, 1)} | bad))


def test_coarsen_keeps_the_box():
    coarse = OCC3D_GRID.coarsen(2)
    assert coarse.shape == (100, 100, 8)
    assert coarse.voxel_size == (0.8, 0.8, 0.8)
    assert (coarse.origin, coarse.upper) == (OCC3D_GRID.origin, OCC3D_GRID.upper)
    assert OCC3D_GRID.coarsen((1, 2, 16)).shape == (200, 100, 1)
    with pytest.raises(ValueError, match="cannot be divided by 3"):
        OCC3D_GRID.coarsen(3)


def test_centers_index_to_themselves():
    grid = VoxelGrid(origin=(-1.0, 2, 0.5), voxel_size=(0.5, 0.25, 1.0), shape=(3, 4, 2))
    index, inside = grid.index_of(grid.centers())
    assert inside.all()
    expected = torch.stack(torch.meshgrid(*(torch.arange(n) for n in grid.shape), indexing="ij"), dim=-1)
    assert torch.equal(index, expected)
    assert torch.equal(grid.flat_index(index).reshape(-1), torch.arange(grid.num_voxels))


@settings(max_examples=50, deadline=None)
@given(
    origin=st.tuples(*[st.floats(-50, 50)] * 3),
    size=st.tuples(*[st.floats(0.05, 5)] * 3),
    fraction=st.tuples(*[st.floats(0, 1, exclude_max=True)] * 3),
)
def test_points_inside_are_inside(origin: tuple, size: tuple, fraction: tuple):
    """Any point at a fraction of the box lies in the voxel of that fraction; coordinates go there and back."""
    grid = VoxelGrid(origin=origin, voxel_size=size, shape=(7, 5, 3))
    coordinates = torch.tensor(fraction, dtype=torch.float64) * torch.tensor(grid.shape)
    point = grid.points_at(coordinates)
    back = grid.continuous_index(point)
    assert torch.allclose(back, coordinates, atol=1e-9)
    away_from_faces = ((coordinates - coordinates.round()).abs() > 1e-9).all()
    if away_from_faces:
        index, inside = grid.index_of(point)
        assert inside
        assert torch.equal(index, coordinates.floor().long())
