"""SemanticKITTI: bit order, calibration with its fourth column, poses, labels, splits, damage."""

import layouts
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fuzz import check_reader
from occkit.data import DataConfig, open_dataset
from occkit.data.semantickitti import (
    grid_of_size,
    read_calibration,
    read_label,
    read_packed,
    read_poses,
    read_semantics,
    write_label,
    write_packed,
)
from occkit.errors import ConfigError, DataError
from occkit.geometry import KITTI_GRID

PLAIN = DataConfig()


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    path = layouts.write_kitti(tmp_path_factory.mktemp("kitti"))
    grid = {"origin": [0, -25.6, -2], "voxel_size": [1.6, 1.6, 1.6], "shape": [32, 32, 4]}
    layouts.save(path / "grid.json", grid)
    return path


def opened(root, split="train", config=PLAIN, **options):
    return open_dataset(root, split=split, config=config, **options)


def test_the_first_voxel_is_the_most_significant_bit(tmp_path):
    volume = np.zeros((16, 16, 2), dtype=bool)
    volume[0, 0, 0] = volume[0, 0, 1] = volume[0, 4, 0] = volume[15, 15, 1] = True
    write_packed(tmp_path / "a.bin", volume)
    data = (tmp_path / "a.bin").read_bytes()
    assert len(data) == 64
    assert (data[0], data[1], data[63]) == (0b11000000, 0b10000000, 0b00000001)
    assert np.array_equal(read_packed(tmp_path / "a.bin"), volume)


def test_labels_are_little_endian_in_c_order(tmp_path):
    ids = np.zeros((16, 16, 2), dtype=np.uint16)
    ids[0, 0, 1], ids[1, 0, 0] = 259, 40
    write_label(tmp_path / "a.label", ids)
    data = (tmp_path / "a.label").read_bytes()
    assert data[2:4] == b"\x03\x01"
    assert data[64:66] == b"\x28\x00"
    assert np.array_equal(read_label(tmp_path / "a.label"), ids)


@settings(max_examples=20, deadline=None, database=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 2, 4]))
def test_round_trips(tmp_path_factory, seed, k):
    folder = tmp_path_factory.mktemp("trip")
    ids = np.random.default_rng(seed).integers(0, 2**16, (8 * k, 8 * k, k), dtype=np.uint16)
    write_label(folder / "a.label", ids)
    write_packed(folder / "a.invalid", ids % 3 == 0)
    assert np.array_equal(read_label(folder / "a.label"), ids)
    assert np.array_equal(read_packed(folder / "a.invalid"), ids % 3 == 0)


def test_the_grid_follows_from_the_size(tmp_path):
    assert grid_of_size(tmp_path, 2_097_152) == KITTI_GRID
    assert grid_of_size(tmp_path, 64 * 64 * 8).voxel_size == (0.8, 0.8, 0.8)
    for wrong in (0, 1, 63, 65, 2_097_151, 10**12 + 1):
        with pytest.raises(DataError, match="256 x 256 x 32"):
            grid_of_size(tmp_path, wrong)


def test_unpacked_masks_are_named(tmp_path):
    (tmp_path / "a.invalid").write_bytes(bytes(KITTI_GRID.num_voxels))
    with pytest.raises(DataError, match="one byte a voxel: pack it"):
        read_packed(tmp_path / "a.invalid", grid=KITTI_GRID)


def test_writers_refuse_other_arrays(tmp_path):
    with pytest.raises(ValueError, match="uint16"):
        write_label(tmp_path / "a", np.zeros((8, 8, 1), dtype=np.uint8))
    with pytest.raises(ValueError, match="bool"):
        write_packed(tmp_path / "a", np.zeros((8, 8, 1), dtype=np.uint8))


def test_the_fourth_column_moves_the_camera(root):
    """P2 projects as KITTI says: u ~ P2 @ Tr @ p, shift included."""
    folder = root / "dataset/sequences/00"
    lines = dict(line.split(":") for line in (folder / "calib.txt").read_text().splitlines())
    matrices = {name: np.array(text.split(), dtype=float).reshape(3, 4) for name, text in lines.items()}
    points = np.random.default_rng(0).uniform((3, -4, -1), (40, 4, 2), (50, 3))
    homogeneous = np.column_stack([points, np.ones(50)])
    tr = np.vstack([matrices["Tr"], [0, 0, 0, 1]])
    sample = opened(root, config=DataConfig(cameras=("image_2", "image_3")))[0]
    for n, name in enumerate(("P2", "P3")):
        projected = homogeneous @ (matrices[name] @ tr).T
        pixels, depth, _ = sample.cameras[0, n].project(torch.from_numpy(points).float())
        assert np.abs(pixels.numpy() - projected[:, :2] / projected[:, 2:]).max() < 1e-2
        assert np.allclose(depth, projected[:, 2], atol=1e-4)
    calibration = read_calibration(folder / "calib.txt")
    shift = calibration.velodyne_from_camera["image_2"][:3, 3] - calibration.velodyne_from_camera0[:3, 3]
    assert np.allclose(shift, -layouts.TR[:3, :3].T @ layouts.P2_SHIFT)
    baseline = calibration.velodyne_from_camera["image_3"] - calibration.velodyne_from_camera["image_2"]
    assert np.linalg.norm(baseline[:3, 3]) == pytest.approx(0.54)


def test_poses_are_those_of_the_velodyne(root):
    folder = root / "dataset/sequences/00"
    poses = read_poses(folder / "poses.txt", read_calibration(folder / "calib.txt"))
    expected = np.linalg.inv(layouts.TR) @ layouts.kitti_pose(7) @ layouts.TR
    assert np.allclose(poses[0], np.eye(4), atol=1e-9)
    assert np.allclose(poses[7], expected, atol=1e-6)
    # Forward along camera z is forward along Velodyne x.
    assert poses[7][0, 3] > 5


def test_past_frames_are_further_cameras(root):
    dataset = opened(root, config=DataConfig(num_past=1))
    sample = dataset[2]
    assert sample.token == "00_000010"
    assert sample.images.shape == (2, 1, 3, 32, 96)
    assert torch.equal(sample.images[1], dataset[1].images[0])
    step = np.linalg.inv(layouts.kitti_pose(10)) @ layouts.kitti_pose(5)
    camera0 = np.linalg.inv(layouts.TR) @ step
    camera2 = camera0 @ np.block([[np.eye(3), -layouts.P2_SHIFT[:, None]], [np.zeros(3), 1]])
    assert np.allclose(sample.cameras.ego_from_camera[1, 0], camera2, atol=1e-4)
    assert torch.equal(dataset[0].images[0], dataset[0].images[1])


def test_labels_become_train_ids(root):
    dataset = opened(root)
    folder = root / "dataset/sequences/00/voxels"
    raw = np.fromfile(folder / "000005.label", dtype="<u2")
    invalid = np.unpackbits(np.fromfile(folder / "000005.invalid", dtype=np.uint8)).astype(bool)
    table = {0: 0, 10: 1, 252: 1, 40: 9, 52: 255, 99: 255}
    expected = np.where(invalid, 255, [table[int(i)] for i in raw]).reshape(32, 32, 4)
    label = dataset[1].occupancy
    assert np.array_equal(label.semantics, expected)
    assert label.mask_camera is None
    assert label.taxonomy.name == "semantickitti"


def test_splits(root):
    assert [t[:2] for t in opened(root, "train").tokens] == ["00"] * 3
    assert opened(root, "val").tokens == ("08_000000", "08_000005", "08_000010")
    test = opened(root, "test", training=False)
    assert test.tokens[0] == "11_000000"
    assert test[0].occupancy is None
    with pytest.warns(UserWarning, match="3 of 9 frames have no label"):
        assert len(opened(root, "all")) == 9
    with pytest.warns(UserWarning, match="left out"):
        assert len(opened(root, "all", training=True)) == 6


def test_without_the_dataset_level_and_the_grid_file(tmp_path):
    layouts.write_kitti(tmp_path, sequences=("00",), level=".")
    for stem in ("000000", "000005", "000010"):
        ids = np.zeros((32, 32, 4), dtype=np.uint16)
        write_label(tmp_path / f"sequences/00/voxels/{stem}.label", ids[:16, :16, :2])
        write_packed(tmp_path / f"sequences/00/voxels/{stem}.invalid", ids[:16, :16, :2] > 0)
    dataset = opened(tmp_path)
    assert dataset.grid.shape == (16, 16, 2)
    assert dataset.grid.upper == KITTI_GRID.upper
    assert dataset[0].timestamp == 0
    assert dataset[1].timestamp == 500_000


def test_default_is_the_left_camera(root):
    dataset = opened(root, config=DataConfig(load_points=True))
    assert dataset.camera_names == ("image_2",)
    sample = dataset[0]
    assert sample.points.shape == (200, 4)
    assert sample.depth.shape == (1, 32, 96)
    assert (sample.depth > 0).sum() > 10


def test_a_sequence_without_voxels_gives_every_fifth_image(tmp_path):
    layouts.write_kitti(tmp_path, sequences=("11",))
    folder = tmp_path / "dataset/sequences/11"
    for path in (folder / "voxels").iterdir():
        path.unlink()
    layouts.picture(folder / "image_2/000003.png", (32, 96))
    assert opened(tmp_path, "test").tokens == ("11_000000", "11_000005", "11_000010")


def test_captions(tmp_path):
    layouts.write_kitti(tmp_path, sequences=("00",))
    assert opened(tmp_path)[0].caption is None
    layouts.save(tmp_path / "captions.json", {"00_000000": "a quiet street"})
    assert [sample.caption for sample in opened(tmp_path)][:2] == ["a quiet street", None]
    for wrong in (["a quiet street"], {"00_000000": 3}):
        layouts.save(tmp_path / "captions.json", wrong)
        with pytest.raises(DataError, match=r"captions\.json.*token: text"):
            opened(tmp_path)


def test_own_origin_comes_first(root):
    origins = opened(root).ray_origins("00_000000")
    assert origins[0].tolist() == [0, 0, 0]
    assert len(origins) == 3
    assert 3 < origins[1][0] < 5


def test_faults_of_the_text_files(tmp_path):
    layouts.write_kitti(tmp_path, sequences=("00",))
    folder = tmp_path / "dataset/sequences/00"
    sound = (folder / "calib.txt").read_text()
    for text in ("", sound.replace("Tr:", "Tx:"), sound.replace("P2: ", "P2: nan "), "P2: 1 2 3\nTr: 1", "\xff\xfe"):
        (folder / "calib.txt").write_text(text, encoding="latin-1")
        with pytest.raises(DataError, match=r"calib\.txt"):
            opened(tmp_path)
    (folder / "calib.txt").write_text(sound)
    (folder / "poses.txt").write_text("1 0 0 0 0 1 0 0 0 0 1 0\n")
    with pytest.raises(DataError, match="expected a pose for scan 000005, got 1"):
        opened(tmp_path)[1]
    (folder / "poses.txt").write_text("2 0 0 0 0 1 0 0 0 0 1 0\n")
    with pytest.raises(DataError, match="line 1: expected a rotation"):
        opened(tmp_path)
    (folder / "poses.txt").unlink()
    with pytest.raises(DataError, match="images of other times need it"):
        opened(tmp_path, config=DataConfig(num_past=1))
    with pytest.raises(DataError, match="no sequence of the split 'val'"):
        opened(tmp_path, "val")


def test_a_label_needs_its_invalid_file(tmp_path):
    write_label(tmp_path / "000000.label", np.zeros((8, 8, 1), dtype=np.uint16))
    with pytest.raises(DataError, match=r"000000\.invalid: no such file"):
        read_semantics(tmp_path / "000000.label")


def test_fuzzed_files_end_in_a_data_error(tmp_path, root):
    folder = root / "dataset/sequences/00"
    calibration = read_calibration(folder / "calib.txt")
    check_reader(read_calibration, (folder / "calib.txt").read_bytes(), tmp_path / "calib.txt", max_examples=40)
    check_reader(
        lambda path: read_poses(path, calibration),
        (folder / "poses.txt").read_bytes(),
        tmp_path / "p.txt",
        max_examples=40,
    )
    check_reader(read_label, bytes(128), tmp_path / "a.label", max_examples=40)
    check_reader(read_packed, bytes(8), tmp_path / "a.bin", max_examples=40)


def test_sequences_with_other_image_sizes_come_to_one_size(tmp_path):
    layouts.write_kitti(tmp_path, sequences=("00",), scans=1)
    layouts.write_kitti(tmp_path, sequences=("01",), scans=1, size=(30, 94))
    grid = {"origin": [0, -25.6, -2], "voxel_size": [1.6, 1.6, 1.6], "shape": [32, 32, 4]}
    layouts.save(tmp_path / "grid.json", grid)
    samples = list(opened(tmp_path))
    assert [s.images.shape[-2:] for s in samples] == [(32, 96)] * 2
    assert torch.allclose(samples[1].cameras.intrinsics[0, 0, 0, 0], torch.tensor(50 * 96 / 94))
    assert torch.allclose(samples[1].cameras.intrinsics[0, 0, 1, 2], torch.tensor(14 * 32 / 30))
    wide = opened(tmp_path, config=DataConfig(image_size=(16, 48)))[1]
    # 94 columns to 48: 30 rows become 15, one black row goes on top.
    assert wide.images[0, 0, :, 0].max() == 0
    assert torch.allclose(wide.cameras.intrinsics[0, 0, 1, 2], torch.tensor(14 * 15 / 30 + 1))


def test_cameras_can_be_misjudged(root):
    plain = opened(root, config=DataConfig(load_depth=False))[0]
    wrong = opened(root, config=DataConfig(load_depth=False, calibration_noise=2.0))[0]
    off = wrong.cameras.intrinsics - plain.cameras.intrinsics
    assert (off[..., :2, 2] != 0).all()
    assert torch.equal(wrong.images, plain.images)
    with pytest.raises(ConfigError, match="calibration_noise: expected 0 or more"):
        DataConfig(calibration_noise=-1.0)
