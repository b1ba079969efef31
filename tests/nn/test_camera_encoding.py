"""Occupancy in the frustums of cameras: a wall where it stands, a world that moves along, and nothing outside."""

import math

import pytest
import torch

from occkit.errors import ConfigError
from occkit.geometry import VoxelGrid, pose_from_rotation_translation, rotation_from_yaw
from occkit.nn.camera_encoding import (
    CameraEncodingConfig,
    DeformableConv3d,
    Views,
    depth_edges,
    describe_views,
    lift_frustum,
    lift_resized,
)

GRID = VoxelGrid(origin=(-8.0, -8.0, -2.0), voxel_size=(1.0, 1.0, 1.0), shape=(16, 16, 4))
FORWARD = torch.tensor([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])
"""Camera axes in the ego frame, for a camera that looks ahead."""


def views(yaws=(0.0,), *, batch=1, at=(0.0, 0.0, 0.0), focal=0.5, times=None):
    """Cameras of 90 degrees (focal length: half the image) turned to the left by `yaws`, radians."""
    poses = [
        pose_from_rotation_translation(rotation_from_yaw(torch.tensor(yaw)) @ FORWARD, torch.tensor(at)) for yaw in yaws
    ]
    lens = torch.tensor([[focal, 0.0, 0.5], [0.0, focal, 0.5], [0.0, 0.0, 1.0]])
    count = len(yaws)
    return Views(
        ego_from_camera=torch.stack(poses).expand(batch, count, 4, 4),
        intrinsics=lens.expand(batch, count, 3, 3),
        first_from_ego=torch.eye(4).expand(batch, count, 4, 4),
        times=times or (0,) * count,
    )


def volume(*filled):
    out = torch.zeros(1, 1, *GRID.shape, 1)
    for where in filled:
        out[(0, 0, *where)] = 1
    return out


DEPTHS = torch.tensor([[1.5], [3.5], [5.5]])


def test_a_wall_at_five_metres_is_in_the_bin_of_five_metres():
    """The wall fills x 5..6; the three columns of pixels look 2/3 of the depth to the left, ahead, and to the right."""
    wall = volume((13, slice(None), slice(None)))
    ahead, left, turned = lift_frustum(wall.unbind(), views((0.0, math.pi / 2, math.pi / 4)), GRID, DEPTHS, (1, 3))[
        0, :, 0
    ]
    # Ahead, depth is x: 5.5 m is the middle of the wall.
    assert ahead[:, 0].tolist() == [[0, 0, 0], [0, 0, 0], [1, 1, 1]]
    # A camera that looks left could see it in its right column alone, which reaches x = 5.5 * 2/3 = 3.7 m: not there.
    assert not left.any()
    # Turned by 45 degrees, the right column has x = depth (1 + 2/3) / sqrt(2): 4.125 m at 3.5 m, 6.48 m at 5.5 m, and
    # trilinear weights 1 - |x - 5.5|; straight ahead x = depth / sqrt(2) = 3.9 m.
    assert turned[:, 0].flatten().tolist() == pytest.approx([0, 0, 0, 0, 0, 0, 0, 0, 0.0182], abs=1e-3)


def test_rows_are_heights_and_columns_go_to_the_right():
    post = volume((13, 10, 2))  # x 5..6, y 2..3 (left), z 0..1
    (seen,) = lift_frustum(post.unbind(), views(), GRID, torch.tensor([[5.5]]), (11, 11))[0, :, 0, 0]
    # u = 0.5 - 0.5 * 2.5 / 5.5, v = 0.5 - 0.5 * 0.5 / 5.5: pixels (3.0, 5.0) of 11.
    row, column = divmod(int(seen.argmax()), 11)
    assert (row, column) in ((4, 2), (4, 3), (5, 2), (5, 3))
    assert seen[:, 6:].sum() == 0
    assert seen.sum() == seen[4:6, 2:4].sum() > 0


def test_a_view_looks_at_the_volume_of_its_time():
    volumes = torch.stack([volume((13, slice(None), slice(None)))[:, 0], volume()[:, 0]], dim=1)
    lifted = lift_frustum(volumes.unbind(), views((0.0,) * 3, times=(1, 0, 1)), GRID, DEPTHS, (1, 1))[0, :, 0, :, 0, 0]
    assert lifted.tolist() == [[0, 0, 0], [0, 0, 1], [0, 0, 0]]


def test_a_camera_that_moves_with_the_world_sees_the_same():
    torch.manual_seed(0)
    world = torch.rand(1, 1, *GRID.shape, 3)
    inner = torch.zeros_like(world)
    inner[:, :, 4:12, 4:12] = world[:, :, 4:12, 4:12]
    shift = (2, -1, 0)
    moved = inner.roll(shift, dims=(2, 3, 4))
    here = lift_frustum(inner.unbind(), views((0.7,), at=(0.2, 0.1, 0.3)), GRID, DEPTHS, (4, 5))
    there = lift_frustum(moved.unbind(), views((0.7,), at=(2.2, -0.9, 0.3)), GRID, DEPTHS, (4, 5))
    assert torch.allclose(here, there, atol=1e-5)
    assert here.abs().sum() > 0
    # A quarter turn of both.
    turned = inner.rot90(1, dims=(2, 3))
    around = lift_frustum(turned.unbind(), views((0.7 + math.pi / 2,), at=(-0.1, 0.2, 0.3)), GRID, DEPTHS, (4, 5))
    assert torch.allclose(here, around, atol=1e-5)


def test_voxels_of_any_edges_are_read_where_they_are():
    flat = VoxelGrid(origin=(0.0, -8.0, -2.0), voxel_size=(2.0, 4.0, 0.5), shape=(4, 4, 8))
    post = torch.zeros(1, 1, *flat.shape, 1)
    post[0, 0, 2, 1, 4] = 1  # x 4..6, y -4..0, z 0..0.5: the middle is 5 m ahead, 2 m to the right, 0.25 m up
    for depth, at, there in ((5.0, (0.0, -2.0, 0.25), 1), (2.5, (2.5, -2.0, 0.25), 1), (2.5, (0.0, -2.0, 0.25), 0)):
        assert lift_frustum(post.unbind(), views(at=at), flat, torch.tensor([[depth]]), (1, 1)).item() == there
    # Half a voxel off along each axis in turn.
    for off in ((1.0, 0.0, 0.0), (0.0, 2.0, 0.0), (0.0, 0.0, 0.25)):
        at = tuple(a + b for a, b in zip((2.5, -2.0, 0.25), off, strict=True))
        assert lift_frustum(post.unbind(), views(at=at), flat, torch.tensor([[2.5]]), (1, 1)).item() == pytest.approx(
            0.5
        )


def test_outside_of_the_grid_is_nothing():
    full = torch.ones(1, 1, *GRID.shape, 1)
    lifted = lift_frustum(full.unbind(), views(), GRID, torch.tensor([[7.4], [8.0], [9.0]]), (1, 1)).flatten()
    assert lifted.tolist() == pytest.approx([1, 0.5, 0])


def test_a_bin_is_the_mean_of_its_samples():
    wall = volume((13, slice(None), slice(None)))
    both = lift_frustum(wall.unbind(), views(), GRID, torch.tensor([[1.5, 5.5], [5.5, 5.5]]), (1, 1)).flatten()
    assert both.tolist() == [0.5, 1]


def test_bins_grow_linearly():
    assert depth_edges(near=1.0, far=13.0, count=3).tolist() == [1, 3, 7, 13]
    encoding = CameraEncodingConfig(near=1.0, far=13.0, depths=3, samples=2).build(num_classes=2, grid=GRID)
    assert encoding.depths.tolist() == [[1.5, 2.5], [4, 6], [8.5, 11.5]]
    assert not {"depths"} & set(encoding.state_dict())


def test_resizing_turns_the_axes_as_a_camera_ahead_has_them():
    lifted = lift_resized(volume((13, 10, 2)), views((0.0, 0.3)), 16, (4, 16))
    assert torch.equal(lifted[:, 0], lifted[:, 1])
    assert lifted[0, 0, 0].nonzero().tolist() == [[13, 1, 5]]


def test_describing_a_view():
    given = views((0.0,), at=(4.0, 0.0, 1.0))
    first = torch.eye(4)
    first[0, 3] = 16.0
    moved = Views(
        ego_from_camera=given.ego_from_camera,
        intrinsics=given.intrinsics,
        first_from_ego=first.expand(1, 1, 4, 4),
        times=(0,),
    )
    numbers = describe_views(moved, 10.0)[0, 0].tolist()
    assert numbers == pytest.approx([0, 0, 1, 2, -1, 0, 0, 0, 0, -1, 0, 0.1, 0.5, 0.5, 0.5, 0.5])


def test_a_deformable_convolution_is_a_plain_one_at_first_and_reads_elsewhere_later():
    torch.manual_seed(0)
    layer, x = DeformableConv3d(3).double(), torch.randn(2, 3, 4, 5, 6, dtype=torch.float64)
    assert torch.allclose(layer(x), layer.conv(x), atol=1e-12)
    with torch.no_grad():
        layer.offset.bias.copy_(torch.tensor([0.0, 0.0, 1.0]))
    shifted = torch.nn.functional.pad(x, (0, 1))[..., 1:]
    assert torch.allclose(layer(x), layer.conv(shifted), atol=1e-12)


def test_the_camera_vector_is_one_at_first_and_the_null_is_learned():
    torch.manual_seed(0)
    config = CameraEncodingConfig(channels=4, depths=3)
    encoding = config.build(num_classes=2, grid=GRID)
    bare = CameraEncodingConfig(channels=4, depths=3, camera=False).build(num_classes=2, grid=GRID)
    bare.load_state_dict(encoding.state_dict(), strict=False)
    occupancy = torch.rand(2, 1, 2, *GRID.shape)
    given = views((0.0, 0.5), batch=2)
    out = encoding(occupancy, given, (3, 4))
    assert torch.equal(out, bare(occupancy, given, (3, 4)))
    assert out.shape == (2, 2, 4, 3, 3, 4)
    with torch.no_grad():
        encoding.null.copy_(torch.arange(4.0))
    absent = encoding(occupancy, given, (3, 4), torch.tensor([True, False]))
    assert torch.allclose(absent[0], out[0], atol=1e-6)
    assert absent[1, 1, :, 2, 0, 3].tolist() == [0, 1, 2, 3]
    occupancy[1] = torch.nan
    assert torch.equal(encoding(occupancy, given, (3, 4), torch.tensor([True, False])), absent), "it is not read"
    nobody = encoding(occupancy, given, (3, 4), torch.tensor([False, False]))
    assert torch.equal(nobody[0], absent[1])


def test_what_does_not_fit_is_refused():
    with pytest.raises(ConfigError, match="samples must be at least 1"):
        CameraEncodingConfig(samples=0)
    with pytest.raises(ConfigError, match="expected 0 <= near < far"):
        CameraEncodingConfig(near=3.0, far=2.0)
    with pytest.raises(ConfigError, match=r"diagonal is 22.63 m, near is 30"):
        CameraEncodingConfig(near=30.0).build(num_classes=2, grid=GRID)
    encoding = CameraEncodingConfig(channels=4, depths=3).build(num_classes=2, grid=GRID)
    with pytest.raises(ValueError, match=r"occupancy: expected \[batch, times, 2, 16, 16, 4\]"):
        encoding(torch.zeros(1, 1, 3, *GRID.shape), views(), (2, 2))
    with pytest.raises(ValueError, match=r"\(0, 2\) look at more than the 2 volumes"):
        encoding(torch.zeros(1, 2, 2, *GRID.shape), views((0.0, 0.0), times=(0, 2)), (2, 2))
    with pytest.raises(ValueError, match="expected 1 indices, one a view"):
        views((0.0,), times=(0, 0))
