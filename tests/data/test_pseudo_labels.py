"""Labels and classes of pixels that a model made: training sees them in place of the data's own, evaluation never."""

from dataclasses import replace

import layouts
import numpy as np
import pytest
import torch

from occkit.data import AugmentConfig, DataConfig, open_dataset
from occkit.data.image_maps import map_path, write_class_map
from occkit.data.occ3d import label_path, write_labels
from occkit.errors import DataError
from occkit.samples import collate

OTHER = DataConfig(labels="labels/mine", image_size=(24, 32))
MAPS = DataConfig(image_semantics="labels/mine/images", image_size=(24, 32))


@pytest.fixture
def root(tmp_path):
    return layouts.write_nuscenes(tmp_path, scenes=("scene-0001",), frames=3, val=())


def write(root, token, value):
    path = label_path(root / "labels" / "mine", "scene-0001", token)
    volume = np.full(layouts.SHAPE, value, np.uint8)
    write_labels(path, semantics=volume, mask_lidar=volume > 99, mask_camera=volume < 99)


def opened(root, config, **options):
    return open_dataset(root, split="train", config=config, **options)


def test_training_sees_the_other_labels(root):
    for token in ("0001f0", "0001f1", "0001f2"):
        write(root, token, 13)
    sample = opened(root, OTHER, training=True)[1]
    assert (sample.occupancy.semantics == 13).all()
    assert sample.occupancy.mask_camera.all()
    assert not sample.occupancy.mask_lidar.any()
    own = opened(root, OTHER)[1].occupancy.semantics
    assert torch.equal(own, opened(root, DataConfig())[1].occupancy.semantics)
    assert not torch.equal(own, sample.occupancy.semantics)


def test_frames_without_another_label_are_left_out(root):
    write(root, "0001f2", 13)
    with pytest.warns(UserWarning, match="2 of 3 frames left out: no label in labels/mine"):
        assert opened(root, OTHER, training=True).tokens == ("0001f2",)
    with pytest.raises(DataError, match="none of 3 frames has label in nowhere"):
        opened(root, replace(OTHER, labels="nowhere"), training=True)


def test_classes_of_pixels_follow_their_image(root):
    data = opened(root, DataConfig(cameras=("CAM_FRONT",)))
    token = data.tokens[0]
    ids = np.full(layouts.SIZE, 255, np.uint8)
    ids[:, : layouts.SIZE[1] // 2] = 4
    write_class_map(map_path(root / "labels/mine/images", token, "CAM_FRONT"), ids, ignore_id=255)
    config = replace(MAPS, cameras=("CAM_FRONT",), image_size=layouts.SIZE)
    found = opened(root, config, training=True)[0].image_semantics
    assert found.dtype == torch.uint8
    assert np.array_equal(found[0].numpy(), ids)
    mirrored = replace(config, augment=AugmentConfig(scale=(0.0, 0.0), rotate_degrees=0.0, mirror_image=1.0))
    turned = opened(root, mirrored, training=True).sample(0, seed=1).image_semantics
    assert np.array_equal(turned[0].numpy(), ids[:, ::-1])
    assert opened(root, config)[0].image_semantics is None
    with pytest.raises(DataError, match="occkit label --keep-images"):
        opened(root, config, training=True)[1]


def test_classes_of_pixels_are_stacked(root):
    data = opened(root, DataConfig(image_size=(24, 32)))
    shown = torch.zeros(len(data.camera_names), 24, 32, dtype=torch.uint8)
    samples = [replace(data[i], image_semantics=shown + i) for i in (0, 1)]
    assert collate(samples).image_semantics[1].eq(1).all()
    assert collate([samples[0], data[1]]).image_semantics is None
