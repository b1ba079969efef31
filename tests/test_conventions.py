"""One test a sentence of docs/conventions.md, under the sentence's number."""

import dataclasses
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from occkit.data import DataConfig, occ3d, open_dataset
from occkit.files import read_image
from occkit.geometry import (
    KITTI_GRID,
    OCC3D_GRID,
    Cameras,
    VoxelGrid,
    camera_rays,
    compensate_motion,
    distort,
    invert_pose,
    pose_from_rotation_translation,
    project,
    rotation_from_quaternion,
    rotation_from_yaw,
    transform_points,
)
from occkit.samples import Occupancy, Prediction, Sample, collate
from occkit.taxonomy import KITTI360, NYUV2, OCC3D, OPENOCC, SEMANTICKITTI, semantickitti_lookup
from occkit.world.sensors import surround_rig

PAGE = Path(__file__).parents[1] / "docs" / "conventions.md"
EGO_FROM_FRONT_CAMERA = torch.tensor([[0.0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 1.5], [0, 0, 0, 1]])


def front_camera(height: int = 120, width: int = 160) -> Cameras:
    intrinsics = torch.tensor([[100.0, 0, width / 2], [0, 100, height / 2], [0, 0, 1]])
    return Cameras(intrinsics=intrinsics[None], ego_from_camera=EGO_FROM_FRONT_CAMERA[None], height=height, width=width)


def tiny_sample() -> Sample:
    grid = VoxelGrid(origin=(0, 0, 0), voxel_size=(1, 1, 1), shape=(2, 3, 4))
    cameras = front_camera().map(lambda t: t[None])
    return Sample(
        token="a", scene="s", timestamp=0, images=torch.zeros(1, 1, 3, 120, 160, dtype=torch.uint8), cameras=cameras,
        camera_names=("front",), grid=grid, taxonomy=OCC3D,
    )  # fmt: skip


def test_every_sentence_has_a_test():
    numbers = {int(n) for n in re.findall(r"^(\d+)\. ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)}
    tests = {int(m.group(1)) for name in globals() if (m := re.match(r"test_(\d\d)_", name))}
    assert numbers == tests


def test_01_ego_axes():
    x, y, z = torch.eye(3)
    assert torch.equal(torch.linalg.cross(x, y), z)
    turned = rotation_from_yaw(torch.tensor(math.pi / 2)) @ x  # forward, turned left
    assert torch.allclose(turned, y, atol=1e-6)


def test_02_camera_axes():
    cameras = front_camera()
    left_up_ahead = torch.tensor([[[10.0, 2.0, 3.5]]])  # 2 m left of and 2 m above the camera
    pixels, depth, visible = cameras.project(left_up_ahead)
    assert visible.all()
    assert depth.item() == 10
    assert pixels[0, 0, 0] < cameras.width / 2  # left in the ego frame is left in the image: x points right
    assert pixels[0, 0, 1] < cameras.height / 2  # higher up is further up: y points down


def test_03_transforms_compose():
    ego_from_camera = EGO_FROM_FRONT_CAMERA
    camera_from_x = pose_from_rotation_translation(rotation_from_yaw(torch.tensor(0.3)), torch.tensor([1.0, 2, 3]))
    point = torch.tensor([[0.5, -1.0, 2.0]])
    stepwise = transform_points(ego_from_camera, transform_points(camera_from_x, point))
    assert torch.allclose(transform_points(ego_from_camera @ camera_from_x, point), stepwise, atol=1e-6)


def test_04_inverse():
    assert torch.allclose(invert_pose(EGO_FROM_FRONT_CAMERA), torch.linalg.inv(EGO_FROM_FRONT_CAMERA), atol=1e-6)


def test_05_quaternion_order():
    quarter_turn_left = torch.tensor([math.cos(math.pi / 4), 0.0, 0.0, math.sin(math.pi / 4)])
    assert torch.allclose(
        rotation_from_quaternion(quarter_turn_left), rotation_from_yaw(torch.tensor(math.pi / 2)), atol=1e-6
    )


def test_06_motion_is_compensated():
    def at(x: float) -> torch.Tensor:
        return pose_from_rotation_translation(torch.eye(3), torch.tensor([x, 0.0, 0.0]))

    # the car was 0.3 m further back when the camera fired
    pose = compensate_motion(EGO_FROM_FRONT_CAMERA, at(99.7), at(100.0))
    assert torch.allclose(pose[:3, 3], torch.tensor([-0.3, 0.0, 1.5]), atol=1e-5)


def test_07_lidar_axes():
    rig = surround_rig(64, 176, beams=4, azimuths=8)
    forward_in_lidar = np.array([0.0, 1.0, 0.0, 0.0])
    assert np.allclose(rig.lidar.ego_from_lidar @ forward_in_lidar, [1.0, 0.0, 0.0, 0.0])


def test_07_points_in_the_reference_frame(real_frame: Path):
    """Of a real sweep, the road lies at the ego frame's height zero, not at the LiDAR's -1.84 m."""
    data = open_dataset(real_frame / "rig.json", split="all", config=DataConfig(load_points=True, image_size=(90, 160)))
    points = data[0].points
    assert points is not None
    near = points[(points[:, :2].norm(dim=-1) < 15) & (points[:, 2] < 1.0)]
    assert near[:, 2].median().abs() < 0.3


def test_08_pixel_centres():
    cameras = front_camera()
    point = torch.tensor([[[5.0, 1.0, 1.0]]])
    small, _, _ = cameras.project(point)
    large, _, _ = cameras.resize(240, 320).project(point)
    assert torch.allclose(large, 2 * small, atol=1e-4)


def test_09_image_border():
    cameras = front_camera()
    corners = torch.tensor([[[0.0, 0.0], [159.99, 119.99], [160.01, 60.0], [80.0, 120.01], [-0.01, 60.0]]])
    points = cameras.unproject(corners, torch.full((1, 5), 4.0))
    shifted = points + torch.tensor([0.0, -1e-5, -1e-5])  # rounding must not decide the corner at exactly zero
    assert cameras.project(shifted)[2].tolist() == [[True, True, False, False, False]]


def test_10_depth_and_distance():
    cameras = front_camera()
    pixels = torch.tensor([[[20.0, 90.0]]])
    by_depth = camera_rays(cameras, pixels).at(torch.full((1, 1, 1), 7.0))[0, 0, 0]
    by_distance = camera_rays(cameras, pixels, unit=True).at(torch.full((1, 1, 1), 7.0))[0, 0, 0]
    camera = EGO_FROM_FRONT_CAMERA[:3, 3]
    assert (by_depth - camera)[0].item() == pytest.approx(7.0, rel=1e-6)  # ego x is the camera's z here
    assert (by_distance - camera).norm().item() == pytest.approx(7.0, rel=1e-6)


def test_11_distortion_order():
    point = torch.tensor([[0.5, 0.25]])
    r2 = 0.5**2 + 0.25**2
    radial = distort(point, torch.tensor([0.1, 0.2, 0.0, 0.0, 0.3]))
    assert torch.allclose(radial, point * (1 + 0.1 * r2 + 0.2 * r2**2 + 0.3 * r2**3), atol=1e-6)
    tangential = distort(point, torch.tensor([0.0, 0.0, 0.1, 0.0]))
    assert torch.allclose(
        tangential - point, torch.tensor([[0.1 * 2 * 0.5 * 0.25, 0.1 * (r2 + 2 * 0.25**2)]]), atol=1e-6
    )


def test_12_images(tmp_path: Path):
    Image.fromarray(np.full((4, 6, 3), (255, 0, 0), dtype=np.uint8)).save(tmp_path / "red.png")
    image = read_image(tmp_path / "red.png")
    assert image.shape == (3, 4, 6)
    assert image.dtype == np.uint8
    assert image[0].min() == 255
    assert image[1:].max() == 0


def test_13_volume_axes():
    index, _ = OCC3D_GRID.index_of(torch.tensor([[0.1, 0.1, 0.1], [1.1, 0.1, 0.1], [0.1, 1.1, 0.1], [0.1, 0.1, 1.1]]))
    forward, left, up = (index[1:] - index[0]).unbind()
    assert forward[0] > 0
    assert forward[1:].tolist() == [0, 0]
    assert left[1] > 0
    assert up[2] > 0


def test_14_grid_origin():
    assert torch.allclose(OCC3D_GRID.centers()[0, 0, 0], torch.tensor([-39.8, -39.8, -0.8]))


def test_15_point_to_voxel():
    index, inside = OCC3D_GRID.index_of(torch.tensor([[-40.0, -40.0, -1.0], [40.0, 0.0, 0.0], [0.0, 0.0, -1.0001]]))
    assert index[0].tolist() == [0, 0, 0]
    assert inside.tolist() == [True, False, False]


def test_16_flat_index():
    volume = torch.arange(KITTI_GRID.num_voxels).reshape(KITTI_GRID.shape)
    index = torch.tensor([3, 5, 7])
    assert KITTI_GRID.flat_index(index) == volume[3, 5, 7]


def test_17_continuous_index():
    centers = OCC3D_GRID.centers(dtype=torch.float64)[3, 5, 7]
    assert torch.allclose(OCC3D_GRID.continuous_index(centers), torch.tensor([3.5, 5.5, 7.5], dtype=torch.float64))


def test_18_ids_are_channels():
    logits = torch.zeros(1, OCC3D.num_classes, 2, 3, 4)
    logits[:, OCC3D.id_of("car")] = 1
    grid = VoxelGrid(origin=(0, 0, 0), voxel_size=(1, 1, 1), shape=(2, 3, 4))
    prediction = Prediction(logits=logits, grid=grid, taxonomy=OCC3D)
    assert (prediction.semantics() == OCC3D.classes.index("car")).all()


def test_19_free_ids():
    assert [t.free_id for t in (OCC3D, OPENOCC, SEMANTICKITTI, KITTI360, NYUV2)] == [17, 16, 0, 0, 0]


def test_20_ignore_is_not_free():
    grid = VoxelGrid(origin=(0, 0, 0), voxel_size=(1, 1, 1), shape=(1, 1, 3))
    semantics = torch.tensor([[[4, 17, 255]]], dtype=torch.uint8)
    occupancy = Occupancy(semantics=semantics, grid=grid, taxonomy=OCC3D)
    assert occupancy.occupied.tolist() == [[[True, False, False]]]
    assert all(t.ignore_id == 255 != t.free_id for t in (OCC3D, SEMANTICKITTI))


def test_21_masks(tmp_path: Path):
    semantics = np.full((4, 4, 2), 17, dtype=np.uint8)
    observed = np.zeros_like(semantics)
    observed[1, 2, 0] = 1
    occ3d.write_labels(tmp_path / "labels.npz", semantics=semantics, mask_lidar=observed * 0, mask_camera=observed)
    label = occ3d.read_labels(tmp_path / "labels.npz")
    assert label.mask_camera is not None
    assert label.mask_lidar is not None
    assert label.mask_camera.nonzero().tolist() == [[1, 2, 0]]
    assert not label.mask_lidar.any()


def test_22_semantickitti_ignored_ids():
    table = semantickitti_lookup()
    assert table[[1, 52, 99]].tolist() == [255, 255, 255]
    assert table[[0, 10, 252, 81]].tolist() == [0, 1, 1, 19]


def test_23_image_dimensions():
    sample = tiny_sample()
    with pytest.raises(ValueError, match="cameras: expected leading dimensions"):
        dataclasses.replace(sample, images=torch.zeros(2, 1, 3, 120, 160, dtype=torch.uint8))
    assert collate([sample, sample]).images.shape == (2, 1, 1, 3, 120, 160)


def test_24_missing_is_none():
    batch = collate([tiny_sample()])
    assert batch.occupancy is None
    assert batch.points is None
    assert batch.depth is None


def test_25_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        tiny_sample().token = "b"  # type: ignore[misc]


def test_projection_matches_the_pencil():
    pixels, depth = project(torch.tensor([[1.0, 2.0, 4.0]]), torch.tensor([[100.0, 0, 50], [0, 200, 60], [0, 0, 1]]))
    assert pixels.tolist() == [[75.0, 160.0]]
    assert depth.tolist() == [4.0]
