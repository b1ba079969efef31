import numpy as np
import pytest
import torch

from occkit.geometry import VoxelGrid
from occkit.samples import Occupancy
from occkit.taxonomy import OCC3D
from occkit.viewer.compare import ERRORS
from occkit.viewer.grid import GridRow, GridStyle, draw_grid, framed_camera

GRID = VoxelGrid.from_range((-8, -8, -1), (8, 8, 3), 1.0)
PHOTO = np.full((30, 60, 3), (0, 90, 0), dtype=np.uint8)


def volume(*voxels, mask=None):
    semantics = torch.full(GRID.shape, OCC3D.free_id, dtype=torch.uint8)
    for voxel in voxels:
        semantics[voxel] = OCC3D.id_of("car")
    return Occupancy(semantics=semantics, grid=GRID, taxonomy=OCC3D, mask_camera=mask)


def small(**changes):
    return GridStyle(**{"width": 420, "view": "top", "ego": None} | changes)


def has(picture, colour, *, tolerance=40):
    return (np.abs(picture.astype(int) - colour).max(axis=-1) < tolerance).any()


def test_rows_and_columns_add_up_and_nothing_is_cut_off():
    row = GridRow(images=(PHOTO,), label=volume((4, 4, 1)), predictions=(volume((4, 5, 1)),))
    one = draw_grid([row], ["mine"], small())
    two = draw_grid([row, row], ["mine"], small())
    assert one.dtype == np.uint8
    assert abs(one.shape[1] - 420) < 20
    assert two.shape[1] == one.shape[1]
    assert two.shape[0] > one.shape[0] + 60
    assert (one[:, [0, -1]] == 255).all()
    assert has(one, PHOTO[0, 0], tolerance=10)


def test_errors_get_a_column_with_their_colours():
    row = GridRow(images=(), label=volume((4, 4, 1)), predictions=(volume((12, 12, 1)),))
    false = np.array(ERRORS.colours[ERRORS.id_of("false")])
    scene = slice(0, 120)  # above the legend, which has the colours always
    assert has(draw_grid([row], ["mine"], small(errors=True))[scene], false)
    assert not has(draw_grid([row], ["mine"], small())[scene], false)


def test_seen_only_leaves_out_what_no_camera_saw():
    mask = torch.zeros(GRID.shape, dtype=torch.bool)
    row = GridRow(images=(), label=volume((4, 4, 1), mask=mask), predictions=(volume((4, 4, 1)),))
    blue = np.array(OCC3D.colours[OCC3D.id_of("car")])
    assert has(draw_grid([row], ["mine"], small()), blue)
    assert not has(draw_grid([row], ["mine"], small(seen_only=True)), blue)


def test_framed_camera_just_holds_the_volume():
    camera = framed_camera(GRID, width=300)
    corners = torch.cartesian_prod(
        *(torch.tensor([a, b]).double() for a, b in zip(GRID.origin, GRID.upper, strict=True))
    )
    pose = camera.ego_from_camera.double()
    seen = (corners - pose[:3, 3]) @ torch.linalg.inv(pose[:3, :3]).T @ camera.intrinsics.double().T
    u, v = (seen[:, :2] / seen[:, 2:]).T
    assert camera.width == 300
    assert 0 < u.min() < 10
    assert 290 < u.max() < 300
    assert 0 < v.min() < 10
    assert camera.height - 10 < v.max() < camera.height


@pytest.mark.parametrize(
    ("rows", "names", "style", "message"),
    [
        ([], [], {}, "no frame"),
        ([GridRow(images=(), label=None, predictions=())], [], {}, "neither a label"),
        ([GridRow(images=(), label=None, predictions=(volume(),))], ["a"], {"errors": True}, "have none"),
        ([GridRow(images=(), label=volume(), predictions=(volume(),))], [], {}, "0 names for 1 predictions"),
    ],
)
def test_what_cannot_be_drawn_is_refused(rows, names, style, message):
    with pytest.raises(ValueError, match=message):
        draw_grid(rows, names, small(**style))


def test_volumes_of_different_grids_are_refused():
    other = VoxelGrid.from_range((0, 0, 0), (4, 4, 2), 1.0)
    strange = Occupancy(semantics=torch.zeros(other.shape, dtype=torch.uint8), grid=other, taxonomy=OCC3D)
    with pytest.raises(ValueError, match="different grids"):
        draw_grid([GridRow(images=(), label=volume(), predictions=(strange,))], ["a"], small())
