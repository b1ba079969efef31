"""Conversion between label formats: loss-free where it can be, and an honest account where not."""

import json

import numpy as np
import pytest
import torch

from fuzz import check_reader
from occkit.cli import main
from occkit.data import occ3d, openoccupancy, semantickitti, surroundocc
from occkit.data.convert import (
    NUSCENES_EGO_FROM_LIDAR,
    Conversion,
    convert_folder,
    stated_frame,
)
from occkit.data.convert_classes import KITTI_TO_NUSCENES, NUSCENES_TO_KITTI, class_map
from occkit.data.convert_files import FORMATS, recognise_format
from occkit.data.convert_names import read_names, read_pose
from occkit.data.resample import resample
from occkit.data.views import read_grid
from occkit.errors import ConfigError, DataError
from occkit.files import write_json
from occkit.geometry import OCC3D_GRID, VoxelGrid
from occkit.samples import Occupancy
from occkit.taxonomy import KITTI360, NYUV2, OCC3D, OPENOCC, SEMANTICKITTI, SURROUNDOCC

SHAPE = (16, 16, 8)
# Classes that every format has one of its own for: what these say can go everywhere and come back.
EVERYWHERE = [
    OCC3D.id_of(c)
    for c in ["bicycle", "car", "motorcycle", "truck", "driveable_surface", "sidewalk", "terrain", "vegetation"]
]


def write_tree(root, *, classes, frames=2, shape=SHAPE, mask=True):
    rng = np.random.default_rng(0)
    for scene in ("scene-0001", "scene-0002"):
        for frame in range(frames):
            semantics = rng.choice([OCC3D.free_id, OCC3D.free_id, *classes], size=shape).astype(np.uint8)
            seen = rng.random(shape) < 0.7 if mask else np.ones(shape, dtype=np.bool_)
            path = root / "gts" / scene / f"token{scene[-1]}{frame}" / "labels.npz"
            occ3d.write_labels(path, semantics=semantics, mask_lidar=seen, mask_camera=seen)
    return root


def convert(source, out, source_name, target_name, **options):
    return convert_folder(source, out, Conversion(source=FORMATS[source_name], target=FORMATS[target_name], **options))


@pytest.mark.parametrize("target", ["openocc", "surroundocc", "openoccupancy", "semantickitti", "sscbench"])
def test_round_trip_on_the_source_grid_gives_equal_labels(tmp_path, target):
    root = write_tree(tmp_path / "in", classes=EVERYWHERE, mask=False)
    there = convert(root, tmp_path / "there", "occ3d", target, keep_grid=True)
    back = convert(tmp_path / "there", tmp_path / "back", target, "occ3d", keep_grid=True)
    assert there.frames == back.frames == 4
    assert (there.lost.total(), there.uncovered, there.dropped, back.lost.total()) == (0, 0, 0, 0)
    before = sorted(root.rglob("labels.npz"))
    after = sorted((tmp_path / "back").rglob("labels.npz"))
    for one, other in zip(before, after, strict=True):
        assert one.read_bytes() == other.read_bytes()


def test_masks_survive_where_the_format_has_them(tmp_path):
    root = write_tree(tmp_path / "in", classes=EVERYWHERE)
    assert convert(root, tmp_path / "kitti", "occ3d", "semantickitti", keep_grid=True).lossless
    convert(tmp_path / "kitti", tmp_path / "back", "semantickitti", "occ3d", keep_grid=True)
    for one, other in zip(sorted(root.rglob("*.npz")), sorted((tmp_path / "back").rglob("*.npz")), strict=True):
        assert one.read_bytes() == other.read_bytes()
    report = convert(root, tmp_path / "sparse", "occ3d", "surroundocc", keep_grid=True)
    hidden = sum(int((np.load(p)["mask_lidar"] == 0).sum()) for p in root.rglob("*.npz"))
    assert not report.lossless
    assert report.unsaid["mask_lidar has no place in surroundocc, unobserved"] == hidden


def test_dense_formats_of_one_frame_are_not_resampled(tmp_path):
    root = write_tree(tmp_path / "in", classes=EVERYWHERE, mask=False)
    report = convert(root, tmp_path / "out", "occ3d", "openocc")
    assert not report.resampled
    label = np.load(tmp_path / "out" / "openocc_v2" / "scene-0001" / "token10" / "labels.npz")["semantics"]
    source = np.load(root / "gts" / "scene-0001" / "token10" / "labels.npz")["semantics"]
    assert label.shape == SHAPE
    np.testing.assert_array_equal(label == OPENOCC.id_of("car"), source == OCC3D.id_of("car"))
    assert label[source == OCC3D.free_id].max() == OPENOCC.free_id


def test_losses_are_counted_by_class(tmp_path):
    root = write_tree(tmp_path / "in", classes=[OCC3D.id_of(c) for c in ("others", "bus", "traffic_cone", "car")])
    counts = sum(np.bincount(np.load(p)["semantics"].ravel(), minlength=18) for p in root.rglob("*.npz"))
    report = convert(root, tmp_path / "out", "occ3d", "semantickitti", keep_grid=True)
    assert report.lost["others"] == counts[0] > 0
    assert report.lost["traffic_cone"] == counts[OCC3D.id_of("traffic_cone")]
    assert report.merged["bus -> other-vehicle"] == counts[OCC3D.id_of("bus")]
    assert any("class others has no counterpart" in line for line in report.lines())
    account = json.loads((tmp_path / "out" / "conversion.json").read_text())
    assert account["loss"]["classes_without_counterpart"]["others"] == counts[0]
    assert account["loss"]["lossless"] is False
    assert account["target"] == {"format": "semantickitti", "frame": "ego"}
    # What lost its label is ignored by the evaluation (original id 1), not called empty.
    ids = semantickitti.read_label(tmp_path / "out" / account["files"]["token10"], grid=read_grid(tmp_path / "out"))
    source = np.load(root / "gts" / "scene-0001" / "token10" / "labels.npz")["semantics"]
    assert set(ids[source == 0].tolist()) == {1}


def test_class_tables_name_existing_classes():
    assert set(NUSCENES_TO_KITTI) <= set(OCC3D.classes)
    assert set(NUSCENES_TO_KITTI.values()) <= {*SEMANTICKITTI.classes, *KITTI360.classes}
    assert set(KITTI_TO_NUSCENES) <= {*SEMANTICKITTI.classes, *KITTI360.classes}
    assert set(KITTI_TO_NUSCENES.values()) <= set(OCC3D.classes)
    assert class_map(OCC3D, OPENOCC).lost == ("others",)
    assert class_map(SEMANTICKITTI, KITTI360).lost == ("bicyclist", "motorcyclist", "trunk")
    assert class_map(SEMANTICKITTI, OCC3D).lost == ("other-vehicle",)
    with pytest.raises(ValueError, match="nyuv2"):
        class_map(NYUV2, OCC3D)


def test_resampling_takes_the_voxel_under_each_target_centre():
    source = VoxelGrid(origin=(0.0, 0.0, 0.0), voxel_size=(1.0, 1.0, 1.0), shape=(4, 2, 1))
    semantics = torch.tensor([[1, 2], [3, 4], [5, 6], [7, 8]], dtype=torch.uint8)[..., None]
    label = Occupancy(semantics=semantics, grid=source, taxonomy=SURROUNDOCC)
    target = VoxelGrid(origin=(-2.0, 0.0, 0.0), voxel_size=(2.0, 1.0, 1.0), shape=(3, 2, 1))
    moved = resample(label, grid=target, source_from_target=np.eye(4))
    # Centres x = -1 (outside), 1 and 3: on a face the upper voxel counts.
    assert moved.occupancy.semantics[..., 0].tolist() == [[255, 255], [3, 4], [7, 8]]
    assert (moved.uncovered, moved.dropped) == (2, 4)
    assert moved.occupancy.mask_lidar is not None
    assert moved.occupancy.mask_lidar[..., 0].tolist() == [[False, False], [True, True], [True, True]]


def test_resampling_turns_into_the_lidar_frame():
    """A voxel ahead of the car (ego +x) lies along +y of the LiDAR."""
    grid = VoxelGrid.from_range((-4, -4, -4), (4, 4, 4), 1.0)
    semantics = torch.zeros(grid.shape, dtype=torch.uint8)
    semantics[7, 4, 4] = 4  # x = 3.5, y = 0.5, z = 0.5 in the ego frame
    label = Occupancy(semantics=semantics, grid=grid, taxonomy=SURROUNDOCC)
    turned = np.round(NUSCENES_EGO_FROM_LIDAR)
    turned[:3, 3] = 0
    moved = resample(label, grid=grid, source_from_target=turned).occupancy.semantics
    assert torch.nonzero(moved == 4).tolist() == [[3, 7, 4]]  # x right = -0.5, y forward = 3.5


@pytest.mark.parametrize("matrix", [np.eye(4), NUSCENES_EGO_FROM_LIDAR])
def test_resampling_equals_a_loop_over_centres(matrix):
    source = VoxelGrid.from_range((-2, -2, -1), (2, 2, 1), 0.5)
    target = VoxelGrid.from_range((-3, -2, -1), (3, 2, 2), 0.4 if matrix is None else 1.0)
    rng = np.random.default_rng(0)
    semantics = rng.integers(0, 17, source.shape).astype(np.uint8)
    label = Occupancy(semantics=torch.from_numpy(semantics), grid=source, taxonomy=SURROUNDOCC)
    moved = resample(label, grid=target, source_from_target=matrix).occupancy.semantics.numpy()
    for index in np.ndindex(target.shape):
        centre = np.array(target.origin) + (np.array(index) + 0.5) * target.voxel_size
        at = np.floor(((matrix @ [*centre, 1])[:3] - source.origin) / source.voxel_size + 1e-9).astype(int)
        inside = (at >= 0).all() and (at < source.shape).all()
        assert moved[index] == (semantics[tuple(at)] if inside else 255)


def test_to_surroundocc_and_back_keeps_places(tmp_path):
    """A wall 20 m ahead is 20 m ahead in the LiDAR frame too, and again after the way back."""
    semantics = np.full(OCC3D_GRID.shape, OCC3D.free_id, dtype=np.uint8)
    semantics[150:155, 90:110, 4:12] = OCC3D.id_of("manmade")  # x 20..22, y -4..4, z 0.6..3.8
    ones = np.ones(OCC3D_GRID.shape, dtype=np.bool_)
    path = tmp_path / "in" / "scene-0001" / "t0" / "labels.npz"
    occ3d.write_labels(path, semantics=semantics, mask_lidar=ones, mask_camera=ones)
    report = convert(tmp_path / "in", tmp_path / "out", "occ3d", "surroundocc")
    assert report.resampled
    there = surroundocc.read_voxels(tmp_path / "out" / "samples" / "t0.npy")
    wall = there.grid.centers()[there.semantics == SURROUNDOCC.id_of("manmade")].mean(dim=0)
    assert abs(float(wall[1]) - (21 - 0.94)) < 0.3
    assert abs(float(wall[0])) < 0.5
    convert(tmp_path / "out", tmp_path / "back", "surroundocc", "occ3d")
    back = np.load(tmp_path / "back" / "gts" / "unknown" / "t0" / "labels.npz")
    again = back["semantics"] == OCC3D.id_of("manmade")
    first = semantics == OCC3D.id_of("manmade")
    assert (again & first).sum() / (again | first).sum() > 0.6
    # The LiDAR grid ends 3 m above the sensor; what lies beyond is unobserved, not free.
    unseen = back["mask_lidar"] == 0
    assert unseen[:, :, -1].mean() > 0.5
    assert set(back["semantics"][unseen].tolist()) == {OCC3D.free_id}


def test_uncovered_voxels_are_unlabelled(tmp_path):
    root = write_tree(tmp_path / "in", classes=EVERYWHERE, frames=1, mask=False)
    convert(root, tmp_path / "out", "occ3d", "semantickitti")
    label = next((tmp_path / "out").rglob("*.label"))
    ids, invalid = semantickitti.read_label(label), semantickitti.read_packed(label.with_suffix(".invalid"))
    assert ids.shape == (256, 256, 32)
    assert invalid[-1].all()  # 51 m ahead: Occ3D ends at 40
    assert set(ids[invalid].tolist()) == {1}
    assert not invalid[10, 128, 10]


def test_kitti_layouts_number_frames_and_keep_their_own_numbers(tmp_path):
    root = write_tree(tmp_path / "in", classes=EVERYWHERE, frames=2)
    convert(root, tmp_path / "kitti", "occ3d", "semantickitti", keep_grid=True)
    names = sorted(p.relative_to(tmp_path / "kitti").as_posix() for p in (tmp_path / "kitti").rglob("*.label"))
    assert names == [f"sequences/{s}/voxels/{f}.label" for s in ("00", "01") for f in ("000000", "000005")]
    convert(tmp_path / "kitti", tmp_path / "ssc", "semantickitti", "sscbench", keep_grid=True)
    second = tmp_path / "ssc" / "data_2d_raw" / "2013_05_28_drive_0001_sync" / "voxels" / "000005.invalid"
    assert second.stat().st_size == np.prod(SHAPE)  # a byte a voxel


def test_grid_and_frame_of_an_earlier_conversion_are_believed(tmp_path):
    root = write_tree(tmp_path / "in", classes=EVERYWHERE)
    convert(root, tmp_path / "kitti", "occ3d", "semantickitti", keep_grid=True)
    assert stated_frame(tmp_path / "kitti") == "ego"
    back = convert(tmp_path / "kitti", tmp_path / "back", "semantickitti", "occ3d")
    assert not back.resampled  # the boxes and frames are the same: nothing to move


def test_recognise_format(tmp_path):
    root = write_tree(tmp_path / "occ3d", classes=EVERYWHERE, frames=1)
    assert recognise_format(root) == "occ3d"
    for name in ("openocc", "surroundocc", "openoccupancy", "semantickitti", "sscbench"):
        convert(root, tmp_path / name, "occ3d", name, keep_grid=True)
        assert recognise_format(tmp_path / name) == name
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(DataError, match="no label format"):
        recognise_format(empty)
    with pytest.raises(DataError, match=r"found .* and "):
        recognise_format(tmp_path)


def write_tables(root):
    half = float(np.sqrt(0.5))
    tables = {
        "sensor": [{"token": "s0", "channel": "LIDAR_TOP", "modality": "lidar"}],
        "calibrated_sensor": [
            {"token": "c0", "sensor_token": "s0", "translation": [1.0, 0.0, 1.8], "rotation": [half, 0, 0, -half]}
        ],
        "scene": [{"token": f"sc{s}", "name": f"scene-000{s}"} for s in (1, 2)],
        "sample": [
            {"token": f"token{s}{f}", "scene_token": f"sc{s}", "timestamp": 10 * s - f} for s in (1, 2) for f in (0, 1)
        ],
        "sample_data": [
            {
                "token": f"lidar{s}{f}",
                "sample_token": f"token{s}{f}",
                "calibrated_sensor_token": "c0",
                "filename": f"samples/LIDAR_TOP/sweep{s}{f}.pcd.bin",
                "is_key_frame": True,
            }
            for s in (1, 2)
            for f in (0, 1)
        ],
    }
    for name, records in tables.items():
        write_json(root / "v1.0-mini" / f"{name}.json", records)
    return root


def test_tables_give_names_and_mounting(tmp_path):
    names = read_names(write_tables(tmp_path / "nuscenes"))
    name = names["token11"]
    assert names["sweep11.pcd.bin"] is names["lidar11"] is name
    # x of the LiDAR points right (-y of the ego frame), y forward.
    np.testing.assert_allclose(name.ego_from_lidar[:3, :2], [[0, 1], [-1, 0], [0, 0]], atol=1e-12)
    root = write_tree(tmp_path / "in", classes=EVERYWHERE)
    convert(root, tmp_path / "s", "occ3d", "surroundocc", keep_grid=True, names=names)
    assert (tmp_path / "s" / "samples" / "sweep10.pcd.bin.npy").exists()
    convert(root, tmp_path / "o", "occ3d", "openoccupancy", keep_grid=True, names=names)
    assert (tmp_path / "o" / "scene_sc2" / "occupancy" / "lidar21.npy").exists()
    # And back: files named by the sweep find their sample again.
    convert(tmp_path / "s", tmp_path / "b", "surroundocc", "occ3d", keep_grid=True, names=names)
    assert (tmp_path / "b" / "gts" / "scene-0002" / "token21" / "labels.npz").exists()
    # Time, not the token, numbers the frames: token11 was taken before token10.
    convert(root, tmp_path / "k", "occ3d", "semantickitti", keep_grid=True, names=names)
    files = json.loads((tmp_path / "k" / "conversion.json").read_text())["files"]
    assert files["token11"].endswith("00/voxels/000000.label")


def test_frames_that_are_not_in_the_tables_are_named(tmp_path):
    names = read_names(write_tables(tmp_path / "nuscenes"))
    root = write_tree(tmp_path / "in", classes=EVERYWHERE, frames=3)
    with pytest.raises(DataError, match="token12 is not in the tables"):
        convert(root, tmp_path / "out", "occ3d", "surroundocc", names=names)


def test_velocities_and_folded_ids_are_accounted_for(tmp_path):
    write = tmp_path / "in" / "scene_a" / "occupancy" / "t.npy"
    write.parent.mkdir(parents=True)
    np.save(write, np.array([[3, 2, 5, 1.0, 0, 0, 4], [3, 2, 6, 0, 0, 0, 4]], dtype=np.float32))
    report = convert(tmp_path / "in", tmp_path / "out", "openoccupancy", "surroundocc", keep_grid=True)
    assert report.unsaid["velocity is not carried over"] == 1
    ids = np.zeros((16, 16, 2), dtype=np.uint16)
    ids[0, 0, 0], ids[0, 0, 1], ids[0, 1, 0] = 252, 52, 10  # moving car, other-structure, car
    semantickitti.write_label(tmp_path / "k" / "sequences" / "00" / "voxels" / "000000.label", ids)
    report = convert(tmp_path / "k", tmp_path / "o", "semantickitti", "occ3d", keep_grid=True)
    assert [n for what, n in report.unsaid.items() if "folded" in what] == [2]


def test_command_line(tmp_path, capsys):
    root = write_tree(tmp_path / "in", classes=EVERYWHERE, frames=1)
    status = main(
        ["convert", str(root), "--to", "openocc", "--out", str(tmp_path / "o"), "--json", str(tmp_path / "r")]
    )
    assert status == 0
    assert "mask_lidar has no place in openocc" in capsys.readouterr().out
    assert json.loads((tmp_path / "r").read_text())["frames"] == 2
    assert main(["convert", str(root), "--to", "occ3d", "--out", str(tmp_path / "o")]) == 1
    assert "nothing to convert" in capsys.readouterr().err
    assert main(["convert", str(tmp_path / "none"), "--to", "occ3d", "--out", str(tmp_path / "o")]) == 1
    assert "expected a folder of labels" in capsys.readouterr().err


def test_same_format_is_refused():
    with pytest.raises(ConfigError, match="both occ3d"):
        Conversion(source=FORMATS["occ3d"], target=FORMATS["occ3d"])


def test_openoccupancy_file_of_another_grid_is_refused(tmp_path):
    write_tree(tmp_path / "in", classes=EVERYWHERE, frames=1)
    convert(tmp_path / "in", tmp_path / "out", "occ3d", "openoccupancy", keep_grid=True)
    (tmp_path / "out" / "grid.json").write_text(
        json.dumps({"origin": [0, 0, 0], "voxel_size": [1, 1, 1], "shape": [16, 16, 4]})
    )
    with pytest.raises(DataError, match="below"):
        convert(tmp_path / "out", tmp_path / "back", "openoccupancy", "occ3d", keep_grid=True)
    assert openoccupancy.OPENOCCUPANCY_GRID.num_voxels == 512 * 512 * 40


def test_fuzz(tmp_path):
    check_reader(read_pose, json.dumps(np.eye(4).tolist()).encode(), tmp_path / "pose.json")
    sound = {"origin": [0, 0, 0], "voxel_size": [1, 1, 1], "shape": [2, 2, 2]}
    check_reader(lambda p: read_grid(p.parent), json.dumps(sound).encode(), tmp_path / "grid.json")
    sound = {"target": {"frame": "ego"}}
    check_reader(lambda p: stated_frame(p.parent), json.dumps(sound).encode(), tmp_path / "conversion.json")
    root = write_tables(tmp_path / "nuscenes") / "v1.0-mini"
    for table in ("sample_data", "calibrated_sensor", "scene"):
        path = root / f"{table}.json"
        sound = path.read_bytes()
        path.unlink()

        def read(damaged, path=path):
            path.write_bytes(damaged.read_bytes())
            try:
                read_names(root)
            except DataError as error:
                raise DataError(damaged, str(error)) from error

        check_reader(read, sound, tmp_path / "damaged.json", max_examples=20)
        path.write_bytes(sound)
