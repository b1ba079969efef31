"""Images of other times, sweeps or keyframes, before and after: which ones, and from where they were taken."""

import json
from dataclasses import replace

import layouts
import numpy as np
import pytest
import torch

from occkit.data import AugmentConfig, DataConfig, open_dataset
from occkit.errors import ConfigError, DataError
from occkit.samples import collate
from occkit.world.generate import generate
from occkit.world.presets import PRESETS

BOTH = DataConfig(source_steps=(-1, 1), load_points=True)


@pytest.fixture(scope="module")
def nuscenes(tmp_path_factory):
    root = tmp_path_factory.mktemp("world")
    generate(replace(PRESETS["nano"], frames=3, sweeps=1, moving_share=0.0), root, num_scenes=2, seed=5)
    return root


@pytest.fixture(scope="module")
def kitti(tmp_path_factory):
    root = tmp_path_factory.mktemp("world")
    config = replace(PRESETS["kitti-nano"], frames=3, sweeps=4, moving_share=0.0)
    generate(config, root, format="semantickitti", num_scenes=2, num_test=0, seed=5)
    return root


def opened(root, config=BOTH, split="train"):
    return open_dataset(root, split=split, config=config, training=True)


def colour_difference(sample, cameras):
    """Mean difference of the colours in which the current images and the source images show the LiDAR points."""
    differences = []
    for s in range(len(sample.sources)):
        for n in range(len(sample.camera_names)):
            here, there = sample.cameras[0, n], cameras[s, n]
            seen_at, depth, visible = here.project(sample.points[:, :3], min_depth=2)
            other_at, _, also = there.project(sample.points[:, :3], min_depth=2)
            both = visible & also & (depth < 20)
            colours = [
                image[:, at[both, 1].long(), at[both, 0].long()].float()
                for image, at in ((sample.images[0, n], seen_at), (sample.sources[s, n], other_at))
            ]
            differences.append((colours[0] - colours[1]).abs().mean(0))
    return float(torch.cat(differences).mean())


def test_sweeps_before_and_after_show_the_same_static_world(nuscenes, kitti):
    # KITTI's scans follow each other so closely that the nearest look alike.
    for root, steps in ((nuscenes, (-1, 1)), (kitti, (-4, 4))):
        with pytest.warns(UserWarning, match="2 of 3 frames left out"):
            data = opened(root, replace(BOTH, source_steps=steps))
        for index in range(len(data)):
            sample = data[index]
            assert sample.sources.shape == (2, *sample.images.shape[1:])
            assert tuple(sample.source_cameras.batch_shape) == tuple(sample.sources.shape[:2])
            still = replace(
                sample.source_cameras,
                ego_from_camera=sample.cameras.ego_from_camera.expand_as(sample.source_cameras.ego_from_camera),
            )
            assert colour_difference(sample, sample.source_cameras) < 0.85 * colour_difference(sample, still)


def test_a_sweep_lies_nearer_than_the_next_keyframe(nuscenes):
    with pytest.warns(UserWarning, match="left out"):
        sweeps, keys = opened(nuscenes), opened(nuscenes, replace(BOTH, source_kind="keyframe"))
    assert len(sweeps) == len(keys) == 1  # nothing lies before the first frame of a scene or after the last
    way = {}
    for name, data in (("sweep", sweeps), ("key", keys)):
        sample = data[data.tokens.index(keys.tokens[0])]
        origin = sample.cameras.ego_from_camera[0, :, :3, 3]
        way[name] = (sample.source_cameras.ego_from_camera[..., :3, 3] - origin)[..., 0].mean(1)
    assert way["sweep"][0] < 0 < way["sweep"][1]
    assert way["key"][0] < way["sweep"][0]
    assert way["key"][1] > way["sweep"][1]
    with pytest.warns(UserWarning, match="left out"):
        before = opened(nuscenes, replace(BOTH, source_steps=(-2, 2), load_depth=False))
    sample = before[before.tokens.index(keys.tokens[0])]
    assert torch.equal(sample.sources, keys[0].sources), "with one sweep between keyframes two steps lead to the next"


def test_nothing_is_loaded_for_evaluation(nuscenes):
    data = open_dataset(nuscenes, split="train", config=BOTH)
    assert len(data) == 3
    assert data[0].sources is None
    assert data[0].source_cameras is None


def test_augmentation_and_mirroring_carry_the_sources_along(nuscenes):
    augment = AugmentConfig(scale=(-0.1, 0.1), rotate_degrees=5.0, mirror_image=1.0, flip_x=0.0, flip_y=1.0)
    with pytest.warns(UserWarning, match="left out"):
        data = opened(nuscenes, replace(BOTH, augment=augment))
    sample = data.sample(0, seed=3)
    assert torch.linalg.det(sample.source_cameras.ego_from_camera[0, 0, :3, :3]) == pytest.approx(-1.0, abs=1e-4)
    still = replace(
        sample.source_cameras,
        ego_from_camera=sample.cameras.ego_from_camera.expand_as(sample.source_cameras.ego_from_camera),
    )
    assert colour_difference(sample, sample.source_cameras) < 0.85 * colour_difference(sample, still)


def test_sources_are_stacked_or_left_out_of_a_batch(nuscenes):
    with pytest.warns(UserWarning, match="left out"):
        data = opened(nuscenes)
    batch = collate([data[0], data.sample(0, seed=1)])
    assert batch.sources.shape == (2, *data[0].sources.shape)
    assert tuple(batch.source_cameras.batch_shape) == (2, 2, 6)
    assert torch.equal(batch.source_cameras.ego_from_camera[1], data[0].source_cameras.ego_from_camera)
    mixed = collate([data[0], replace(data[0], sources=None, source_cameras=None)])
    assert mixed.sources is None
    assert mixed.source_cameras is None


def test_frames_whose_neighbours_are_not_on_disk_are_left_out(tmp_path):
    root = layouts.write_nuscenes(tmp_path, scenes=("scene-0001",), frames=4, val=())
    config = DataConfig(source_steps=(1,), source_kind="keyframe", image_size=(24, 32))
    with pytest.warns(UserWarning, match="1 of 4 frames left out"):
        assert opened(root, config).tokens == ("0001f0", "0001f1", "0001f2")
    with pytest.raises(DataError, match=r"none of 4 frames has image .* steps away"):
        opened(root, replace(config, source_kind="sweep", source_steps=(-1,)))


def test_own_rigs_have_neighbours_in_the_order_of_their_names(tmp_path):
    for index, name in enumerate("abc"):
        document = layouts.rig_document()
        document.pop("token", None)
        document["global_from_ego"] = layouts.ego_at(0.5 * index).tolist()
        for camera in document["cameras"]:
            camera.pop("global_from_ego", None)
        layouts.write_rig(tmp_path / name, document)
    config = DataConfig(source_steps=(-1, 1))
    with pytest.warns(UserWarning, match="2 of 3 frames left out"):
        data = open_dataset(tmp_path, split="all", config=config, training=True)
    sample = data[0]
    assert data.tokens == ("b",)
    here, before = layouts.ego_at(0.5), layouts.ego_at(0.0)
    expected = np.linalg.inv(here) @ before @ layouts.mountings()["CAM_FRONT"]
    assert np.allclose(sample.source_cameras.ego_from_camera[0, 0], expected, atol=1e-5)
    document = json.loads((tmp_path / "c" / "rig.json").read_text())
    document.pop("global_from_ego")
    (tmp_path / "c" / "rig.json").write_text(json.dumps(document))
    with pytest.raises(DataError, match=r"need global_from_ego.*source_steps"):
        open_dataset(tmp_path, split="all", config=config, training=True)


@pytest.mark.parametrize("steps", [(0,), (1, 1)])
def test_steps_lead_elsewhere(steps):
    with pytest.raises(ConfigError, match="source_steps"):
        DataConfig(source_steps=steps)
