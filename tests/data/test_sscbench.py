"""SSCBench-KITTI-360 as a data set: drives and splits, labels by its own table, where a point falls in the images."""

import numpy as np
import pytest
import torch

from occkit.data import DataConfig, open_dataset
from occkit.data.kitti360 import sequence_folder
from occkit.data.sscbench import SscBenchDataset, pose_of
from occkit.errors import ConfigError, DataError
from occkit.taxonomy import KITTI360
from sscbench_tree import SHAPE, write_drive


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sscbench")
    for drive, frames in (("00", 2), ("10", 1), ("06", 1), ("09", 1)):
        write_drive(folder, drive, frames)
    return folder


def opened(root, split="train", **options):
    training = options.pop("training", False)
    return open_dataset(root, split=split, config=DataConfig(image_size=(48, 176), **options), training=training)


def test_drives_belong_to_splits(root):
    frames = opened(root)
    assert isinstance(frames, SscBenchDataset)
    assert frames.tokens == ("00_000000", "00_000005", "10_000000")
    assert (opened(root, "val").tokens, opened(root, "test").tokens) == (("06_000000",), ("09_000000",))
    assert len(opened(root, "all")) == 5
    assert opened(root / "data_2d_raw").tokens == frames.tokens
    assert frames.grid.shape == SHAPE
    assert frames.grid.upper == pytest.approx((51.2, 25.6, 4.4))


def test_labels_go_through_the_table_of_this_data_set(root):
    label = opened(root).label("00_000000")
    ids = {name: KITTI360.id_of(name) for name in ("road", "other-structure")}
    assert label.semantics[2, 2, 0] == ids["road"] == 7
    assert label.semantics[9, 9, 1] == ids["other-structure"] == 17, "52 is ignored in SemanticKITTI"
    assert label.semantics[9, 8, 1] == 255, "a bicyclist has no class"
    assert label.semantics[15, 15, 1] == 255, "invalid"
    assert label.semantics[3, 3, 1] == 0


def test_a_point_on_the_axis_falls_on_the_principal_point_and_to_the_left_of_it_in_the_other_image(root):
    frames = open_dataset(root, split="val", config=DataConfig(cameras=("image_00", "image_01")))
    cameras = frames[0].cameras[0]
    left = torch.from_numpy(pose_of("image_00"))
    assert torch.allclose(left[:3, :3] @ left[:3, :3].T, torch.eye(3, dtype=torch.float64), atol=1e-6)
    point = (left[:3, 3] + 10 * left[:3, 2]).float()
    assert point[0] == pytest.approx(10.756, abs=1e-3), "ahead of the car"
    pixels, depth, seen = cameras.project(point.expand(2, 1, 3))
    assert seen.all()
    assert depth.flatten().tolist() == pytest.approx([10, 10], abs=1e-4)
    assert pixels[0, 0].tolist() == pytest.approx([682.05, 238.77], abs=0.01)
    assert pixels[1, 0].tolist() == pytest.approx([682.05 - 32.83, 238.77], abs=0.01), "f B / z"


def test_what_is_not_there_is_said(root, tmp_path):
    with pytest.raises(ConfigError, match="read without poses; set num_past to 0"):
        opened(root, num_past=1)
    with pytest.raises(ConfigError, match="has no 'image_2'; it has image_00, image_01"):
        opened(root, cameras=("image_2",))
    write_drive(tmp_path, "06", 1)
    with pytest.raises(DataError, match=r"no drive of the split 'train': 00, 02"):
        opened(tmp_path)
    folder = tmp_path / "data_2d_raw" / sequence_folder("06")
    (folder / "voxels" / "000000.invalid").write_bytes(np.packbits(np.zeros(SHAPE, np.bool_)).tobytes())
    with pytest.raises(DataError, match="bits are packed"):
        opened(tmp_path, "val").label("06_000000")
    (folder / "image_00" / "data_rect" / "000000.png").unlink()
    with pytest.raises(DataError, match="none of 1 frames has image of every camera"):
        opened(tmp_path, "val")


def test_a_frame_without_a_label_is_for_inference(tmp_path):
    write_drive(tmp_path, "00", 2)
    (tmp_path / "data_2d_raw" / sequence_folder("00") / "voxels" / "000005.label").unlink()
    with pytest.warns(UserWarning, match="1 of 2 frames have no label"):
        assert opened(tmp_path)[1].occupancy is None
    with pytest.warns(UserWarning, match="left out: no label"):
        assert opened(tmp_path, training=True).tokens == ("00_000000",)
