"""Generated worlds, opened as what they claim to be: sensors, labels and poses must agree with each other."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from occkit.data import DataConfig, open_dataset
from occkit.files import read_npz_array
from occkit.geometry import transform_points
from occkit.geometry.rays import pixel_grid
from occkit.world.generate import generate
from occkit.world.presets import PRESETS

CONFIG = DataConfig(load_points=True, num_past=1)


@pytest.fixture(scope="module")
def nuscenes(tmp_path_factory):
    root = tmp_path_factory.mktemp("world")
    generate(replace(PRESETS["nano"], frames=3, moving_share=0.0), root, num_scenes=2, seed=5)
    return open_dataset(root, split="all", config=CONFIG)


@pytest.fixture(scope="module")
def kitti(tmp_path_factory):
    root = tmp_path_factory.mktemp("world")
    generate(replace(PRESETS["kitti-nano"], frames=3), root, format="semantickitti", num_scenes=2, num_test=1, seed=5)
    return open_dataset(root, split="train", config=replace(CONFIG, cameras=("image_2", "image_3")))


def test_the_layouts_are_recognised_and_split(nuscenes, kitti):
    assert (nuscenes.name, len(nuscenes), nuscenes.report) == ("nuscenes", 6, ())
    assert nuscenes.grid == PRESETS["nano"].grid
    assert len(nuscenes.camera_names) == 6
    scenes = {split: len(open_dataset(nuscenes.root, split=split, config=CONFIG)) for split in ("train", "val")}
    assert scenes == {"train": 3, "val": 3}
    assert (kitti.name, len(kitti), kitti.grid.shape) == ("semantickitti", 3, PRESETS["kitti-nano"].grid.shape)
    assert open_dataset(kitti.root, split="test", config=CONFIG)[0].occupancy is None


def test_captions_are_read(nuscenes, kitti):
    for dataset in (nuscenes, kitti):
        for sample in dataset:
            assert sample.caption.startswith("a street") or sample.caption.startswith("a straight street")


def test_lidar_points_lie_in_occupied_voxels(nuscenes, kitti):
    for dataset in (nuscenes, kitti):
        for sample in dataset:
            index, inside = sample.grid.index_of(sample.points[:, :3])
            assert inside.float().mean() > 0.3
            ids = sample.occupancy.semantics[tuple(index[inside].T)]
            assert (ids != sample.taxonomy.free_id).float().mean() > 0.97


def test_past_cameras_see_the_same_static_world(nuscenes):
    """A LiDAR point of now, carried into a past image by `Sample.cameras`, has the truth depth of that image."""
    for first in (1, 4):
        sample = nuscenes[first]
        unmoved = sample.cameras.map(lambda tensor: tensor[:1].expand_as(tensor))
        good, bad = (_agreement(nuscenes, first, cameras) for cameras in (sample.cameras, unmoved))
        assert good[0] == bad[0] > 0.8
        assert good[1] > 0.75, "past images"
        assert bad[1] < good[1] - 0.15, "past images, were the car standing"


def _agreement(dataset, index, cameras):
    """Share of LiDAR points within 25 m whose depth is that of the image (to 5 %): current frame, past frame."""
    sample = dataset[index]
    shares = []
    for t in range(2):
        errors = []
        for n, name in enumerate(dataset.camera_names):
            folder = dataset.root / "truth" / sample.scene / dataset.tokens[index - t]
            truth = torch.from_numpy(read_npz_array(folder / f"{name}.npz", "depth").astype(np.float32))
            pixels, depth, visible = cameras[t, n].project(sample.points[:, :3], min_depth=2)
            near = visible & (depth < 25)
            column, row = pixels[near].floor().long().unbind(-1)
            errors.append((truth[row, column] - depth[near]).abs() / depth[near])
        shares.append(float((torch.cat(errors) < 0.05).float().mean()))
    return shares


def test_unprojected_truth_depth_lies_in_occupied_voxels(nuscenes):
    sample = nuscenes[1]
    shares = []
    for n, name in enumerate(sample.camera_names):
        truth = read_npz_array(nuscenes.root / "truth" / sample.scene / sample.token / f"{name}.npz", "depth")
        depth = torch.from_numpy(truth.astype(np.float32)).reshape(-1)
        points = sample.cameras[0, n].unproject(pixel_grid(*truth.shape), depth)
        index, inside = sample.grid.index_of(points)
        inside &= (depth > 1) & (depth < 30)
        ids = sample.occupancy.semantics[tuple(index[inside].T)]
        shares.append((ids != sample.taxonomy.free_id).float().mean())
    assert torch.stack(shares).mean() > 0.9


def test_origins_of_rays_are_the_lidar_positions(nuscenes):
    token = nuscenes.tokens[0]
    origins = nuscenes.ray_origins(token)
    ahead = nuscenes[1]
    here = nuscenes[0].global_from_ego
    other = transform_points(torch.linalg.inv(here) @ ahead.global_from_ego, torch.tensor(origins[:1]))
    assert np.allclose(other, origins[1:2], atol=1e-3)


def test_the_stereo_pair_is_54_centimetres_apart(kitti):
    poses = kitti[0].cameras.ego_from_camera[0]
    assert torch.linalg.norm(poses[0, :3, 3] - poses[1, :3, 3]) == pytest.approx(0.54, abs=0.02)
    # The right camera stands to the right: y is left.
    assert poses[1, 1, 3] < poses[0, 1, 3]
