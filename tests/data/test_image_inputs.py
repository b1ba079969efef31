"""Depth maps, classes and features as inputs: where they lie, where they go, and what is said when they are missing."""

from dataclasses import replace

import layouts
import numpy as np
import pytest
import torch
from PIL import Image

from fuzz import check_reader
from occkit.data import AugmentConfig, DataConfig, open_dataset
from occkit.data.feature_store import FeatureLayout, create_store
from occkit.data.image_inputs import (
    FeatureMaps,
    ImageInputsConfig,
    depth_map_path,
    follow_features,
    read_depth_map,
    write_depth_map,
)
from occkit.data.image_maps import map_path, write_class_map
from occkit.data.transforms import apply_to_image, plan_image
from occkit.errors import ConfigError, DataError
from occkit.samples import collate

ALL = ImageInputsConfig(depth="look/depth", masks="look/masks", features="look/features", feature_stride=4)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A SemanticKITTI folder with depth, classes and features of every frame: the frame's number, columns, rows."""
    path = layouts.write_kitti(tmp_path_factory.mktemp("kitti"))
    grid = {"origin": [0, -25.6, -2], "voxel_size": [1.6, 1.6, 1.6], "shape": [32, 32, 4]}
    layouts.save(path / "grid.json", grid)
    layout = FeatureLayout(
        source={"by": "hand"}, cameras=("image_3", "image_2"), image_size=(32, 96), map_size=(4, 12), width=2, dim=2,
        codec="float16",
    )  # fmt: skip
    store = create_store(path / "look/features", layout)
    for token in open_dataset(path, split="all", config=DataConfig()).tokens:
        columns = torch.arange(96.0).expand(32, 96)
        write_depth_map(depth_map_path(path / "look/depth", token, "image_2"), columns / 2)
        ids = np.full((32, 96), int(token[-2:]), dtype=np.uint8)
        ids[:, :10] = 255
        write_class_map(map_path(path / "look/masks", token, "image_2"), ids, ignore_id=255)
        angle = torch.linspace(0, 1, 12).expand(4, 12)
        shown = torch.stack([angle.cos(), angle.sin()])
        store.write(token, torch.stack([torch.zeros_like(shown), shown]))
    return path


def opened(root, split="train", training=False, **changes):
    config = replace(DataConfig(inputs=ALL), **changes)
    return open_dataset(root, split=split, config=config, training=training)


@pytest.mark.parametrize("training", [True, False])
def test_inputs_are_there_in_evaluation_too(root, training):
    sample = opened(root, training=training)[1]
    assert sample.token == "00_000005"
    assert torch.equal(sample.inputs.depth[0], torch.arange(96.0).expand(32, 96) / 2)
    assert (sample.inputs.masks[0, :, :10] == 255).all()
    assert (sample.inputs.masks[0, :, 10:] == 5).all()
    assert sample.inputs.features.shape == (1, 2, 8, 24)
    assert sample.inputs.features[0, 0, 0, 0] == pytest.approx(1.0, abs=1e-3), "image_2 is the store's second camera"
    assert opened(root, inputs=None)[0].inputs is None


def test_batches_carry_them(root):
    data = opened(root)
    batch = collate([data[0], data[1]])
    assert batch.inputs.depth.shape == (2, 1, 32, 96)
    assert batch.inputs.masks.dtype == torch.uint8
    moved = batch.map(lambda tensor: tensor.to("meta"))
    assert moved.inputs.features.is_meta
    assert collate([data[0], replace(data[1], inputs=None)]).inputs is None


@pytest.mark.parametrize("seed", [None, 0, 1, 2])
def test_depth_and_features_go_where_their_image_goes(tmp_path, seed):
    """The depth and the features of each pixel are its column and its row: they agree with a picture of them."""
    rows, columns = np.meshgrid(np.arange(60), np.arange(80), indexing="ij")
    picture = Image.fromarray(np.stack([columns * 3, rows * 4, rows * 0 + 255], axis=2).astype(np.uint8))
    write_depth_map(tmp_path / "depth.png", torch.from_numpy(columns * 3.0))
    maps = torch.from_numpy(np.stack([columns * 3.0, rows * 4.0])).float()
    augment = None if seed is None else AugmentConfig(scale=(-0.2, 0.3), rotate_degrees=20.0)
    rng = None if seed is None else np.random.default_rng(seed)
    plan = plan_image((60, 80), (32, 64), keep_aspect=True, augment=augment, rng=rng)
    shown = torch.from_numpy(apply_to_image(picture, plan).astype(np.float32))
    depth = read_depth_map([tmp_path / "none.png", tmp_path / "depth.png"], plan, stored=(60, 80))
    inside = shown[2] > 250
    assert inside.sum() > 500
    assert (depth - shown[0])[inside].abs().quantile(0.95) <= 6
    found = follow_features(maps, plan, stride=4)
    assert found.shape == (2, 8, 16)
    cells = torch.nn.functional.avg_pool2d(shown[None], 4)[0]
    calm = cells[2] > 254.9
    assert calm.sum() > 30
    assert (found - cells[:2])[:, calm].abs().max() < 6


def test_what_is_missing_is_named(root, tmp_path):
    for change, problem in (
        ({"depth": "nowhere"}, r"nowhere/00_000000/image_2\.png: no depth map of this image -- .*occkit look"),
        ({"masks": "nowhere"}, r"image_2\.png: no such map of an image -- make them with occkit look --masks"),
    ):
        with pytest.raises(DataError, match=problem):
            opened(root, inputs=replace(ALL, **change))[0]
    with pytest.raises(DataError, match="no store of features"):
        opened(root, inputs=replace(ALL, features="nowhere"))
    with pytest.raises(ConfigError, match="feature_stride 5 does not divide images of 32 x 96"):
        opened(root, inputs=replace(ALL, feature_stride=5))[0]
    with pytest.raises(DataError, match="no features of the camera CAM"):
        FeatureMaps(root / "look/features", ("CAM",))
    with pytest.raises(ConfigError, match="at least 1"):
        ImageInputsConfig(feature_stride=0)


def test_the_published_depth_files_are_read_too(root, tmp_path):
    depth = np.full((32, 96), 7.5, dtype=np.float32)
    depth[0, :3] = np.nan, -1.0, np.inf
    path = tmp_path / "sequences" / "00" / "000000.npy"
    path.parent.mkdir(parents=True)
    np.save(path, depth)
    found = opened(root, inputs=ImageInputsConfig(depth=str(tmp_path)))[0].inputs.depth
    assert found[0, 0, :4].tolist() == [0.0, 0.0, 0.0, 7.5]
    np.save(path, depth[:5])
    with pytest.raises(DataError, match=r"expected \(32, 96\) pixels like its image, got \(5, 96\)"):
        opened(root, inputs=ImageInputsConfig(depth=str(tmp_path)))[0]


def test_damaged_depth_ends_in_a_data_error(tmp_path):
    plan = plan_image((6, 8), (6, 8), keep_aspect=False)
    write_depth_map(tmp_path / "a.png", torch.rand(6, 8))
    path = tmp_path / "a.png"
    check_reader(lambda _: read_depth_map([path], plan, stored=(6, 8)), path.read_bytes(), path)


def test_depth_is_kept_to_a_256th_of_a_metre(tmp_path):
    depth = torch.tensor([[0.0, 1.001, 255.9, 400.0, float("nan"), -2.0]])
    write_depth_map(tmp_path / "a.png", depth)
    plan = plan_image((1, 6), (1, 6), keep_aspect=False)
    found = read_depth_map([tmp_path / "a.png"], plan, stored=(1, 6))
    assert found[0].tolist() == pytest.approx([0.0, 1.0, 255.9, 0.0, 0.0, 0.0], abs=1 / 500)


def test_a_control_learns_from_the_classes_of_others(root):
    config = {"inputs": None, "image_semantics": "look/masks"}
    own = [opened(root, training=True, **config)[i].image_semantics[0, 0, -1].item() for i in range(3)]
    other = opened(root, training=True, image_semantics_of_others=True, **config)
    assert own == [0, 5, 10]
    assert [other[i].image_semantics[0, 0, -1].item() for i in range(3)] == [5, 10, 0]


def test_the_fourth_column_moves_the_camera_unless_it_is_dropped(root):
    with_it = opened(root, inputs=None)[0].cameras.ego_from_camera[0, 0, :3, 3]
    without = opened(root, inputs=None, camera_shift=False)[0].cameras.ego_from_camera[0, 0, :3, 3]
    assert torch.allclose((with_it - without).norm(), torch.tensor(layouts.P2_SHIFT).norm().float(), atol=1e-6)
    assert (with_it - without).norm() > 0.05
