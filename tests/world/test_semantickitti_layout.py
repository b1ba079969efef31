"""The SemanticKITTI layout: sizes, packing, calibration, splits, and labels that agree with images and scans."""

from pathlib import Path

import numpy as np
import pytest

from occkit.data.semantickitti import read_label, read_packed
from occkit.files import read_image, read_json, read_raw
from occkit.taxonomy import semantickitti_lookup
from occkit.world import PRESETS, WorldConfig, generate
from occkit.world.words import WORDS

FRAMES = ("000000", "000005", "000010")
ALL_IDS = {word.kitti for word in WORDS} | {word.kitti_moving for word in WORDS} | {0, 1}


def sequence(root: Path, name: str) -> Path:
    return root / "dataset" / "sequences" / name


def calibration(folder: Path) -> dict[str, np.ndarray]:
    lines = (folder / "calib.txt").read_text().splitlines()
    return {line.split(":")[0]: np.array(line.split()[1:], float).reshape(3, 4) for line in lines}


def test_sequences_and_their_files(kitti_world: Path) -> None:
    assert sorted(p.name for p in (kitti_world / "dataset" / "sequences").iterdir()) == ["00", "08", "11"]
    for name in ("00", "08", "11"):
        folder = sequence(kitti_world, name)
        assert len((folder / "poses.txt").read_text().splitlines()) == 11
        assert len((folder / "times.txt").read_text().splitlines()) == 11
        images = sorted(p.stem for p in (folder / "image_2").iterdir())
        assert images == ["000000", "000002", "000005", "000007", "000010"]  # a sweep between voxel frames
        assert images == sorted(p.stem for p in (folder / "image_3").iterdir())
        assert images == sorted(p.stem for p in (folder / "velodyne").iterdir())
        assert sorted({p.stem for p in (folder / "voxels").iterdir()}) == list(FRAMES)
        for frame in FRAMES:
            assert (folder / "voxels" / f"{frame}.bin").stat().st_size == 64 * 64 * 8 // 8
        for image in ("image_2", "image_3"):
            assert read_image(folder / image / "000000.png").shape == (3, 64, 208)


def test_test_labels_are_kept_elsewhere(kitti_world: Path) -> None:
    folder = sequence(kitti_world, "11")
    assert {p.suffix for p in (folder / "voxels").iterdir()} == {".bin"}
    assert not (folder / "labels").exists()
    hidden = kitti_world / "truth" / "sequences" / "11"
    assert read_label(hidden / "voxels" / "000000.label").shape == (64, 64, 8)
    assert (hidden / "labels" / "000000.label").is_file()


def test_voxel_files(kitti_world: Path) -> None:
    for name in ("00", "08"):
        for frame in FRAMES:
            stem = sequence(kitti_world, name) / "voxels" / frame
            assert stem.with_suffix(".label").stat().st_size == 64 * 64 * 8 * 2
            ids = read_label(stem.with_suffix(".label"))
            single, invalid, occluded = (read_packed(stem.with_suffix(s)) for s in (".bin", ".invalid", ".occluded"))
            assert set(np.unique(ids).tolist()) <= ALL_IDS
            assert not (ids > 0)[invalid].any()
            assert not (invalid & ~occluded).any()  # what is seen now is seen from somewhere
            assert not (single & invalid).any()
            assert (ids > 0)[single].mean() > 0.98
            assert 0.05 < invalid.mean() < 0.8
            # the road under and before the vehicle: 1.73 m below the Velodyne, seen a few metres ahead
            assert (semantickitti_lookup()[ids[8:12, 32, 0]] == 9).any()


def test_moving_and_ignored_ids_occur(tmp_path: Path) -> None:
    from dataclasses import replace

    config = replace(PRESETS["kitti-nano"], frames=4, moving_share=1.0, traffic=2.0, outliers=0.01, truth=False)
    generate(config, tmp_path, format="semantickitti", num_scenes=2, seed=1)
    found: set[int] = set()
    for path in tmp_path.rglob("voxels/*.label"):
        found |= set(np.unique(read_label(path)).tolist())
    assert found & set(range(252, 260))
    assert {1, 99} <= found
    assert semantickitti_lookup()[[1, 52, 99]].tolist() == [255] * 3


def test_scan_points_and_their_labels(kitti_world: Path) -> None:
    folder = sequence(kitti_world, "00")
    for frame in FRAMES:
        points = read_raw(folder / "velodyne" / f"{frame}.bin", "<f4", columns=4)
        labels = read_raw(folder / "labels" / f"{frame}.label", "<u4")
        assert len(points) == len(labels) > 3000
        assert set(np.unique(labels & 0xFFFF).tolist()) <= ALL_IDS
        assert 0 <= points[:, 3].min() <= points[:, 3].max() <= 1
        ids = read_label(folder / "voxels" / f"{frame}.label")
        index = np.floor((points[:, :3] - [0, -25.6, -2]) / 0.8).astype(int)
        inside = ((index >= 0) & (index < [64, 64, 8])).all(axis=1)
        assert (ids[tuple(index[inside].T)] > 0).mean() > 0.98


def test_second_camera_sees_the_first_ones_points_at_its_disparity(kitti_world: Path) -> None:
    """P2 and P3 with their fourth columns put a scan point where the truth depth of both images agrees."""
    folder = sequence(kitti_world, "08")
    files = calibration(folder)
    assert abs(files["P2"][0, 3]) > 1
    points = read_raw(folder / "velodyne" / "000000.bin", "<f4", columns=4)[:, :3].astype(float)
    cam0 = files["Tr"][:, :3] @ points.T + files["Tr"][:, 3:]
    for image in ("image_2", "image_3"):
        u, v, w = files[f"P{image[-1]}"] @ np.concatenate([cam0, np.ones((1, cam0.shape[1]))])
        column, row = np.floor(u / w).astype(int), np.floor(v / w).astype(int)
        inside = (w > 1) & (column >= 0) & (column < 208) & (row >= 0) & (row < 64)
        truth = np.load(kitti_world / "truth" / "08" / "000000" / f"{image}.npz")
        depth = truth["depth"].astype(float)[row[inside], column[inside]]
        assert inside.sum() > 300
        assert np.median(np.abs(depth - w[inside])) < 0.1
        assert np.mean(np.abs(depth - w[inside]) < 0.5) > 0.8


def test_poses_carry_static_points_from_scan_to_scan(kitti_world: Path) -> None:
    folder = sequence(kitti_world, "00")
    files = calibration(folder)
    tr = np.vstack([files["Tr"], [0, 0, 0, 1]])
    poses = np.loadtxt(folder / "poses.txt").reshape(-1, 3, 4)
    assert np.allclose(poses[0], np.eye(4)[:3], atol=1e-9)
    second = np.linalg.inv(tr) @ np.vstack([poses[10], [0, 0, 0, 1]]) @ tr
    assert second[0, 3] > 1.0  # the vehicle went forward, along x of the Velodyne
    points = read_raw(folder / "velodyne" / "000010.bin", "<f4", columns=4)[:, :3]
    labels = read_raw(folder / "labels" / "000010.label", "<u4") & 0xFFFF
    moved = points[labels == 50] @ second[:3, :3].T + second[:3, 3]
    ids = read_label(folder / "voxels" / "000000.label")
    invalid = read_packed(folder / "voxels" / "000000.invalid")
    index = np.floor((moved - [0, -25.6, -2]) / 0.8).astype(int)
    index = index[((index >= 0) & (index < [64, 64, 8])).all(axis=1)]
    valid = ~invalid[tuple(index.T)]
    assert valid.sum() > 20
    assert (ids[tuple(index[valid].T)] == 50).mean() > 0.8


def test_captions_have_one_line_a_frame(kitti_world: Path) -> None:
    captions = read_json(kitti_world / "captions.json")
    assert sorted(captions) == [f"{s}_{f}" for s in ("00", "08", "11") for f in FRAMES]
    assert all("\n" not in text and text.startswith("a str") for text in captions.values())


def test_native_size_files(tmp_path: Path) -> None:
    """The real bit layouts at the real size: 256 x 256 x 32."""
    from dataclasses import replace

    from occkit.world.sensors import scaled

    config = PRESETS["kitti"]
    config = replace(config, frames=1, sweeps=0, shadows=False, rig=scaled(config.rig, 0.1))
    generate(config, tmp_path, format="semantickitti", num_scenes=1)
    folder = sequence(tmp_path, "00") / "voxels"
    sizes = {p.suffix: p.stat().st_size for p in folder.iterdir()}
    assert sizes == {".label": 4_194_304, ".bin": 262_144, ".invalid": 262_144, ".occluded": 262_144}
    assert config.grid.shape == (256, 256, 32)


def test_other_rigs_are_refused(tmp_path: Path, nuscenes_config: WorldConfig) -> None:
    with pytest.raises(Exception, match="image_2"):
        generate(nuscenes_config, tmp_path, format="semantickitti", num_scenes=1)
    assert list(tmp_path.iterdir()) == []
