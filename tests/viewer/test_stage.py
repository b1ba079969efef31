"""What is sent to a browser, and what is not sent again."""

import numpy as np
import pytest
import torch

from occkit.geometry import Cameras, VoxelGrid
from occkit.samples import Occupancy, Sample
from occkit.taxonomy import OCC3D
from occkit.viewer.boxes import Cut
from occkit.viewer.scene import EgoCar
from occkit.viewer.server import serve
from occkit.viewer.stage import Stage, field_of_view

GRID = VoxelGrid.from_range((-4, -4, -1), (4, 4, 3), 1.0)
CAR, ROAD, BUS = (OCC3D.id_of(name) for name in ("car", "driveable_surface", "bus"))


@pytest.fixture(scope="module")
def server():
    server = serve("127.0.0.1", 0, label="test")
    yield server
    server.stop()


@pytest.fixture
def stage(server):
    server.scene.reset()
    return Stage(server.scene)


def street(car_at=6):
    semantics = torch.full(GRID.shape, OCC3D.free_id, dtype=torch.uint8)
    semantics[:, :, 0] = ROAD
    semantics[car_at, 1, 1] = CAR
    return Occupancy(semantics=semantics, grid=GRID, taxonomy=OCC3D)


def node(server, name):
    return server.scene.get_handle_by_name(name)


def test_a_layer_a_class_and_only_what_changed_is_sent(server, stage):
    stage.put_volume(street())
    assert stage.sent == 2
    stage.put_volume(street())
    assert stage.sent == 2
    stage.put_volume(street(car_at=5))
    assert stage.sent == 3, "the road has not moved"
    np.testing.assert_allclose(node(server, "/car/voxels/car").batched_positions, [[1.5, -2.5, 0.5]])
    stage.put_volume(street(car_at=5), hidden=frozenset({ROAD}))
    assert stage.sent == 3, "hiding sends no voxels"
    assert not node(server, "/car/voxels/driveable surface").visible
    stage.put_volume(street(car_at=5))
    assert node(server, "/car/voxels/driveable surface").visible


def test_what_is_gone_is_removed(server, stage):
    stage.put_volume(street())
    stage.put_volume(street(), cut=Cut(axis=2, at=0.0))
    assert node(server, "/car/voxels/car") is None
    assert node(server, "/car/voxels/driveable surface") is not None


def test_ids_without_a_class_are_shown_by_number(server, stage):
    odd = street().map(lambda s: torch.where(s == CAR, 99, s).to(torch.uint8))
    stage.put_volume(odd)
    assert node(server, "/car/voxels/id 99") is not None


def test_cameras_stand_where_they_are_and_see_as_far_around(server, stage):
    pose = torch.tensor([[0.0, 0, 1, 1.5], [-1, 0, 0, 0.5], [0, -1, 0, 2.0], [0, 0, 0, 1]])
    matrix = torch.tensor([[60.0, 0, 80], [0, 30, 24], [0, 0, 1]])
    cameras = Cameras(intrinsics=matrix[None, None], ego_from_camera=pose[None, None], height=48, width=160)
    sample = Sample(
        token="a",
        scene="s",
        timestamp=0,
        images=torch.zeros(1, 1, 3, 48, 160, dtype=torch.uint8),
        cameras=cameras,
        camera_names=("front",),
        grid=GRID,
        taxonomy=OCC3D,
    )
    stage.put_cameras(sample, size=1.0, visible=True)
    frustum = node(server, "/car/cameras/front")
    np.testing.assert_allclose(frustum.position, (1.5, 0.5, 2.0))
    np.testing.assert_allclose(np.abs(frustum.wxyz), 0.5, atol=1e-6)
    assert frustum.fov == pytest.approx(2 * np.arctan(24 / 30))
    assert field_of_view(cameras[0, 0])[1] == pytest.approx((160 / 60) / (48 / 30))
    before = stage.sent
    stage.put_cameras(sample, size=1.0, visible=False)
    assert stage.sent == before
    stage.put_cameras(None, size=1.0, visible=True)
    assert node(server, "/car/cameras/front") is None


def test_points_and_the_car_come_and_go(server, stage):
    stage.put_points(torch.tensor([[1.0, 2, 3, 0.5], [40, 0, 0, 0.1]]), visible=True)
    cloud = node(server, "/car/lidar")
    np.testing.assert_allclose(cloud.points, [[1, 2, 3], [40, 0, 0]])
    assert cloud.colors[0, 2] > cloud.colors[0, 0], "near is blue"
    stage.put_car(EgoCar())
    assert node(server, "/car/ego/body") is not None
    stage.put_car(None)
    stage.put_points(None, visible=True)
    assert node(server, "/car/ego/body") is None
    assert node(server, "/car/lidar") is None


def test_moving_the_car_sends_no_layer(server, stage):
    stage.put_volume(street())
    before, pose = stage.sent, torch.eye(4)
    pose[:3, 3] = torch.tensor([5.0, 1.0, 0.0])
    stage.move_car(pose)
    assert stage.sent == before
    np.testing.assert_allclose(node(server, "/car").position, (5, 1, 0))


def test_sixty_thousand_voxels_in_a_few_megabytes():
    """One message a class; a box costs no more than its place and its turn: 28 bytes."""
    from occkit.viewer.boxes import outer_boxes

    generator = torch.Generator().manual_seed(0)
    grid = VoxelGrid.from_range((-40, -40, -1), (40, 40, 5.4), 0.4)
    semantics = torch.full(grid.shape, OCC3D.free_id, dtype=torch.uint8)
    chosen = torch.randperm(grid.num_voxels, generator=generator)[:60_000]
    semantics.view(-1)[chosen] = torch.randint(0, 17, (60_000,), generator=generator, dtype=torch.uint8)
    boxes = outer_boxes(Occupancy(semantics=semantics, grid=grid, taxonomy=OCC3D))
    assert sum(len(centres) for centres in boxes.values()) <= 60_000
    assert sum(centres.nbytes for centres in boxes.values()) * 28 / 12 < 2e6
