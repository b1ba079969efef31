"""The doctor: healthy trees have no error, and each fault is named."""

import json
import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_trees import (
    KITTI_SHAPE,
    OCC3D_SHAPE,
    picture,
    street,
    write_nuscenes,
    write_rig,
    write_semantickitti,
    write_sscbench,
)

from occkit.cli import main
from occkit.data.doctor import examine
from occkit.data.doctor.alignment import Evidence, judge, mistakes
from occkit.data.doctor.report import Report, choose
from occkit.data.semantickitti import read_label, read_packed, write_packed
from occkit.files import write_bytes, write_image, write_json, write_npz


def findings(path, level="error"):
    return [f"{f.path}: {f.problem} | {f.remedy}" for f in examine(path).findings if f.level == level]


@pytest.mark.parametrize(
    ("write", "kind"),
    [
        (write_nuscenes, "nuScenes, v1.0-mini"),
        (write_semantickitti, "SemanticKITTI"),
        (write_sscbench, "SSCBench-KITTI-360"),
        (write_rig, "rig of own cameras"),
    ],
)
def test_healthy_trees_are_healthy(tmp_path, write, kind):
    report = examine(write(tmp_path / "data"))
    assert report.kind == kind
    assert [f for f in report.findings if f.level != "info"] == []


# ---- nuScenes: one fault each ---------------------------------------------------------------------------------------

LABEL = "gts/scene-0000/t00/labels.npz"


def table(root, name):
    path = root / "v1.0-mini" / f"{name}.json"
    return json.loads(path.read_text())


def change_table(root, name, change):
    records = table(root, name)
    change(records)
    (root / "v1.0-mini" / f"{name}.json").write_text(json.dumps(records))


def change_labels(root, change, *, only=None):
    """Rewrite labels: `change` maps the dictionary of arrays to another."""
    for path in root.glob("gts/*/*/labels.npz"):
        if only is None or path.parent.name == only:
            with np.load(path) as arrays:
                write_npz(path, **change(dict(arrays)))


def with_semantics(function):
    return lambda arrays: {name: function(array) for name, array in arrays.items()}


def shift(offset):
    def move(array):
        moved = np.full_like(array, 17) if array.max() == 17 else np.ones_like(array)
        target, source = [], []
        for length, d in zip(array.shape, offset, strict=True):
            target.append(slice(max(d, 0), length + min(d, 0)))
            source.append(slice(max(-d, 0), length + min(-d, 0)))
        moved[tuple(target)] = array[tuple(source)]
        return moved

    return move


NUSCENES_FAULTS = {
    "image gone": (
        lambda r: (r / "samples/CAM_FRONT/t00.png").unlink(),
        "samples/CAM_FRONT/t00.png: missing file of CAM_FRONT",
    ),
    "sweep gone": (lambda r: (r / "samples/LIDAR_TOP/t01.pcd.bin").unlink(), "missing file of LIDAR_TOP"),
    "image empty": (lambda r: (r / "samples/CAM_FRONT/t00.png").write_bytes(b""), "empty file"),
    "image cut": (lambda r: cut(r / "samples/CAM_FRONT/t00.png"), "t00.png: is not a readable image"),
    "image is text": (lambda r: (r / "samples/CAM_FRONT/t00.png").write_text("hello"), "is not a readable image"),
    "image size": (
        lambda r: write_image(r / "samples/CAM_FRONT/t00.png", picture(4, 6)),
        "image is 6 x 4, the tables say 12 x 8",
    ),
    "sweep cut": (
        lambda r: cut(r / "samples/LIDAR_TOP/t00.pcd.bin", odd=True),
        "wrong size: a sweep is rows of 5 float32",
    ),
    "sweep NaN": (lambda r: (r / "samples/LIDAR_TOP/t00.pcd.bin").write_bytes(b"\xff" * 400), "LiDAR points hold NaN"),
    "table gone": (lambda r: (r / "v1.0-mini/ego_pose.json").unlink(), "ego_pose.json: missing in v1.0-mini"),
    "table cut": (lambda r: cut(r / "v1.0-mini/sample.json"), "sample.json: is not a JSON list of records"),
    "field gone": (lambda r: change_table(r, "sample", lambda t: t[0].pop("next")), "has no 'next'"),
    "chain broken": (
        lambda r: change_table(r, "sample", lambda t: t[0].update(next="")),
        "t00, not at last_sample_token: broken prev/next chain",
    ),
    "chain circle": (
        lambda r: change_table(r, "sample", lambda t: t[1].update(next="t00")),
        "scene-0000: prev of t00 does not lead back: broken prev/next chain",
    ),
    "chain count": (lambda r: change_table(r, "scene", lambda t: t[0].update(nbr_samples=7)), "nbr_samples says 7"),
    "pose NaN": (
        lambda r: change_table(r, "ego_pose", lambda t: t[0].update(translation=[float("nan"), 0, 0])),
        "ego_pose.json: is not a JSON list of records (NaN",
    ),
    "pose long": (
        lambda r: change_table(r, "ego_pose", lambda t: t[0].update(rotation=[2.0, 0, 0, 0])),
        "ego_pose is no pose",
    ),
    "pose gone": (lambda r: change_table(r, "ego_pose", lambda t: t.pop(0)), "ego_pose record missing"),
    "calibration gone": (lambda r: change_table(r, "calibrated_sensor", lambda t: t.pop(1)), "missing calibration"),
    "intrinsics gone": (
        lambda r: change_table(r, "calibrated_sensor", lambda t: t[1].update(camera_intrinsic=[])),
        "missing calibration: CAM_FRONT has no usable 3x3 camera_intrinsic",
    ),
    "camera gone from a sample": (
        lambda r: change_table(r, "sample_data", lambda t: t.pop(1)),
        "t00: sample without CAM_FRONT",
    ),
    "label gone": (
        lambda r: shutil.rmtree(r / "gts/scene-0000/t00"),
        "gts/scene-0000/t00: missing labels.npz in a labelled scene",
    ),
    "label under another scene": (
        lambda r: (r / "gts/scene-0000/t00").rename(r / "gts/scene-0001/t00"),
        "label lies under another scene",
    ),
    "label cut": (lambda r: cut(r / LABEL), "labels.npz: is not a sound npz file"),
    "label is [z, y, x]": (lambda r: change_labels(r, with_semantics(lambda a: a.transpose(2, 1, 0))), "swapped axes"),
    "ids": (
        lambda r: change_labels(r, lambda a: a | {"semantics": a["semantics"] + 3}, only="t00"),
        "ids out of range",
    ),
    "mask 255": (
        lambda r: change_labels(r, lambda a: a | {"mask_camera": a["mask_camera"] * 255}, only="t00"),
        "mask_camera: not 0/1, holds 255",
    ),
    "mask packed": (
        lambda r: change_labels(r, lambda a: a | {"mask_lidar": np.packbits(a["mask_lidar"])}, only="t00"),
        "mask_lidar: its bits are packed",
    ),
    "upside down": (
        lambda r: change_labels(r, with_semantics(lambda a: a[:, :, ::-1])),
        "upside down: the ground lies",
    ),
    "x and y swapped": (
        lambda r: change_labels(r, with_semantics(lambda a: a.transpose(1, 0, 2))),
        "x and y are swapped: stored [y, x, z]",
    ),
    "LiDAR frame": (
        lambda r: change_labels(r, with_semantics(lambda a: a[:, ::-1].transpose(1, 0, 2))),
        "into the LiDAR frame",
    ),
    "mirrored": (lambda r: change_labels(r, with_semantics(lambda a: a[:, ::-1])), "mirrored: y points right"),
    "turned": (lambda r: change_labels(r, with_semantics(lambda a: a[::-1, ::-1])), "turned by 180 degrees"),
    "shifted x": (lambda r: change_labels(r, with_semantics(shift((1, 0, 0)))), "shifted by a voxel: 1 in +x "),
    "shifted y": (lambda r: change_labels(r, with_semantics(shift((0, -1, 0)))), "shifted by a voxel: 1 in -y "),
    "shifted z": (lambda r: change_labels(r, with_semantics(shift((0, 0, 1)))), "shifted by a voxel: 1 in +z "),
    "split mixed": (
        lambda r: write_json(r / "annotations.json", {"train_split": ["scene-0000"], "val_split": ["scene-0000"]}),
        "scene-0000: scene in the training and the validation split",
    ),
    "split of another set": (
        lambda r: write_json(r / "annotations.json", {"train_split": ["scene-9"], "val_split": []}),
        "names no scene of these tables",
    ),
    "split damaged": (lambda r: (r / "annotations.json").write_text("{"), "annotations.json: is not a JSON document"),
    "grid damaged": (lambda r: (r / "grid.json").write_text('{"origin": 3}'), "grid.json: expected a field"),
}


def cut(path, *, odd=False):
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2 | odd])


@pytest.mark.parametrize("fault", NUSCENES_FAULTS)
def test_nuscenes_faults_are_named(tmp_path, fault):
    root = write_nuscenes(tmp_path / "data")
    damage, words = NUSCENES_FAULTS[fault]
    damage(root)
    assert any(words in finding for finding in findings(root)), findings(root)


def test_nuscenes_warnings(tmp_path):
    root = write_nuscenes(tmp_path / "data")
    (root / "annotations.json").unlink()
    (root / "nuscenes_infos_train.pkl").write_bytes(b"cos\nsystem\n")
    assert any("missing split list" in w for w in findings(root, "warning"))
    assert any("a pickle" in w and "not needed" in w for w in findings(root, "info"))
    shutil.rmtree(root / "gts")
    assert any("no Occ3D labels" in w for w in findings(root, "warning"))
    assert findings(root) == []


def test_a_whole_scene_without_labels_is_a_warning(tmp_path):
    root = write_nuscenes(tmp_path / "data")
    shutil.rmtree(root / "gts" / "scene-0001")
    assert findings(root) == []
    assert any("frame of a scene without labels: gts/scene-0001/t10" in w for w in findings(root, "warning"))


def test_many_missing_files_are_one_finding(tmp_path):
    root = write_nuscenes(tmp_path / "data", scenes=3)
    shutil.rmtree(root / "samples" / "CAM_FRONT")
    (finding,) = findings(root)
    assert "6 x missing file of CAM_FRONT" in finding
    assert "and 3 more" in finding


# ---- SemanticKITTI and SSCBench: one fault each ---------------------------------------------------------------------

VOXELS = "sequences/00/voxels"


def change_kitti_labels(root, change):
    for path in root.glob(f"{VOXELS}/*.label"):
        ids = change(read_label(path))
        write_bytes(path, np.ascontiguousarray(ids).astype("<u2").tobytes())


def unpack_invalid(root):
    path = root / VOXELS / "000000.invalid"
    path.write_bytes(read_packed(path).astype(np.uint8).tobytes())


KITTI_FAULTS = {
    "unpacked": (unpack_invalid, "unpacked mask: 4,096 bytes where 512 packed are expected"),
    "label cut": (lambda r: cut(r / VOXELS / "000000.label"), "wrong size 4,096: one byte a voxel"),
    "label odd": (
        lambda r: (r / VOXELS / "000000.label").write_bytes(bytes(99)),
        "expected 8,192 bytes (uint16 a voxel), got 99",
    ),
    "label uint32": (
        lambda r: (r / VOXELS / "000000.label").write_bytes(bytes(4 * 4096)),
        "four bytes a voxel",
    ),
    "invalid gone": (lambda r: (r / VOXELS / "000000.invalid").unlink(), "label without its .invalid file"),
    "train ids": (
        lambda r: change_kitti_labels(r, lambda ids: np.where(ids == 40, 9, np.where(ids == 50, 13, 0))),
        "ids out of range: these look like train ids",
    ),
    "ids": (
        lambda r: change_kitti_labels(r, lambda ids: np.where(ids == 40, 777, ids)),
        "ids out of range: it holds [777]",
    ),
    "[z, y, x]": (
        lambda r: change_kitti_labels(r, lambda ids: ids.transpose(2, 1, 0)),
        "swapped axes: the labels look stored [z, y, x]",
    ),
    "[y, x, z]": (lambda r: change_kitti_labels(r, lambda ids: ids.transpose(1, 0, 2)), "x and y are swapped"),
    "a cell too high": (
        lambda r: change_kitti_labels(r, lambda ids: np.roll(ids, 1, axis=2)),
        "shifted by a voxel: 1 in +z ",
    ),
    "calib gone": (lambda r: (r / "sequences/00/calib.txt").unlink(), "missing calibration"),
    "calib cut": (lambda r: cut(r / "sequences/00/calib.txt"), "missing calibration: no line"),
    "poses NaN": (
        lambda r: (r / "sequences/00/poses.txt").write_text("nan " * 12 + "\n" + "1 " * 12),
        "NaN poses: 1 lines",
    ),
    "poses short": (lambda r: (r / "sequences/00/poses.txt").write_text("1 " * 12), "1 poses for 2 scans"),
    "poses text": (lambda r: (r / "sequences/00/poses.txt").write_text("x y"), "expected 12 numbers a line"),
    "image gone": (lambda r: (r / "sequences/00/image_2/000005.png").unlink(), "missing image of a voxel frame"),
    "image cut": (lambda r: cut(r / "sequences/00/image_2/000005.png"), "is not a readable image"),
    "image size": (
        lambda r: write_image(r / "sequences/00/image_2/000005.png", picture(4, 4)),
        "images of several sizes",
    ),
    "scan cut": (lambda r: cut(r / "sequences/00/velodyne/000005.bin", odd=True), "a scan is rows of 4 float32"),
    "scan of another frame": (
        lambda r: [write_packed(p, np.roll(read_packed(p), 1, axis=0)) for p in r.glob(f"{VOXELS}/*.bin")],
        ".bin does not hold the voxels of velodyne/: shifted by a voxel: 1 in +x",
    ),
}


@pytest.mark.parametrize("fault", KITTI_FAULTS)
def test_semantickitti_faults_are_named(tmp_path, fault):
    root = write_semantickitti(tmp_path / "data")
    damage, words = KITTI_FAULTS[fault]
    damage(root)
    assert any(words in finding for finding in findings(root)), findings(root)


def test_p2_without_its_fourth_column_is_a_warning(tmp_path):
    root = write_semantickitti(tmp_path / "data")
    path = root / "sequences" / "00" / "calib.txt"
    path.write_text(path.read_text().replace("45.38", "0"))
    assert any("P2's 4th column is zero" in w for w in findings(root, "warning"))


def test_the_dataset_level_of_the_download_is_found(tmp_path):
    write_semantickitti(tmp_path / "data" / "dataset")
    assert examine(tmp_path / "data").kind == "SemanticKITTI"


def test_sscbench_faults_are_named(tmp_path):
    root = write_sscbench(tmp_path / "data")
    voxels = root / "data_2d_raw" / "2013_05_28_drive_0006_sync" / "voxels"
    write_packed(voxels / "000000.invalid", np.zeros(KITTI_SHAPE, dtype=np.bool_))
    assert any("packed mask" in f and "does not pack it" in f for f in findings(root))


# ---- small things ---------------------------------------------------------------------------------------------------


def change_rig(root, change):
    rig = json.loads((root / "rig.json").read_text())
    change(rig)
    (root / "rig.json").write_text(json.dumps(rig))


RIG_FAULTS = {
    "no pose": (lambda r: r["cameras"][0].pop("ego_from_camera"), "camera front: missing ego_from_camera"),
    "no image": (lambda r: r["cameras"][0].update(image="gone.png"), "gone.png: no such file"),
    "size": (lambda r: r["cameras"][0].update(width=1600), "the image is 12 x 8, the rig says 1600 x 8"),
    "intrinsics": (lambda r: r["cameras"][0].update(intrinsics=[[1, 0], [0, 1]]), "no pinhole matrix"),
    "scaled pose": (lambda r: r.update(global_from_ego=(2 * np.eye(4)).tolist()), "global_from_ego is no rigid motion"),
    "transposed": (
        lambda r: r["cameras"][0].update(ego_from_camera=[[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [1, 2, 3, 1]]),
        "was it stored transposed?",
    ),
    "text": (lambda r: r["cameras"][0].update(ego_from_camera="x"), "no 4x4 matrix"),
    "twice": (lambda r: r["cameras"].append(r["cameras"][0]), "camera name used twice"),
    "none": (lambda r: r.update(cameras=[]), "expected a list 'cameras'"),
    "lidar": (lambda r: r["lidar"].update(columns=["x", "y", "z", "i", "r", "t", "u"]), "not a multiple of 28"),
    "lens": (lambda r: r["cameras"][0].update(distortion=["k1"]), "distortion is no list of numbers"),
}


@pytest.mark.parametrize("fault", RIG_FAULTS)
def test_rig_faults_are_named(tmp_path, fault):
    root = write_rig(tmp_path / "data")
    damage, words = RIG_FAULTS[fault]
    change_rig(root, damage)
    assert any(words in finding for finding in findings(root)), findings(root)


def test_the_real_frame_is_healthy(real_frame):
    report = examine(real_frame)
    assert (report.kind, report.healthy, report.checked["cameras"]) == ("rig of own cameras", True, 6)


def test_label_trees_without_tables(tmp_path):
    root = write_nuscenes(tmp_path / "data") / "gts"
    report = examine(root)
    assert report.kind.startswith("Occ3D labels")
    assert report.healthy
    cut(root / "scene-0000" / "t00" / "labels.npz")
    assert not examine(root).healthy
    label = root / "scene-0000" / "t01" / "labels.npz"
    assert examine(label).healthy


def test_predictions(tmp_path):
    volume = np.arange(np.prod(OCC3D_SHAPE)).reshape(OCC3D_SHAPE).astype(np.uint8) % 18
    for token in "ab":
        write_npz(tmp_path / "p" / f"{token}.npz", semantics=volume)
    report = examine(tmp_path / "p")
    assert (report.kind, report.healthy) == ("predictions", True)
    write_npz(tmp_path / "p" / "c.npz", pred=volume[:4])
    write_npz(tmp_path / "p" / "d.npz", wrong=volume)
    assert [("several shapes" in f or "array named" in f) for f in findings(tmp_path / "p")] == [True, True]
    write_npz(tmp_path / "q" / "a.npz", semantics=np.where(volume == 0, 255, volume).astype(np.uint8))
    assert any("ids out of range: up to 255" in f for f in findings(tmp_path / "q"))


def test_runs(tmp_path):
    from safetensors.numpy import save

    root = tmp_path / "run"
    write_json(root / "recipe.json", {})
    write_json(root / "environment.json", {})
    weights = save({"w": np.zeros(100, np.float32)})
    write_bytes(root / "model.safetensors", weights)
    write_bytes(root / "metrics.jsonl", b'{"loss": 1.0}\n{"loss": 0.5}\n')
    assert (examine(root).kind, examine(root).findings) == ("run", [])
    write_bytes(root / "model.safetensors", weights[:-8])
    assert any("truncated or damaged" in f for f in findings(root))
    write_bytes(root / "model.safetensors", weights)
    write_bytes(root / "metrics.jsonl", b'{"loss": 1.0}\n{"loss": NaN}\n')
    assert any("loss is not finite from line 2" in f for f in findings(root))
    (root / "model.safetensors").unlink()
    assert any("no weights" in f for f in findings(root))


@pytest.mark.parametrize(
    "name", ["a.pkl", "a.npz", "a.npy", "a.json", "a.png", "a.zip", "a.safetensors", "a.xyz", "rig.json"]
)
@pytest.mark.parametrize("data", [b"", b"\x80\x04garbage", bytes(200)])
def test_damaged_single_files_are_findings(tmp_path, name, data):
    (tmp_path / name).write_bytes(data)
    assert findings(tmp_path / name)


def test_what_is_no_data_set_is_said(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    assert "not recognised as a data set: holds notes.txt" in findings(tmp_path)[0]
    (tmp_path / "gts.tar.gz").write_bytes(b"")
    assert "gts.tar.gz: archive that is not unpacked" in findings(tmp_path)[0]
    assert "no such file or folder" in findings(tmp_path / "gone")[0]


# ---- whatever a file holds, the answer is a report ------------------------------------------------------------------

ODD_VALUES = [
    None,
    True,
    -1,
    1.5,
    10**400,
    "",
    "x",
    "../../etc/passwd",
    "/dev/zero",
    [],
    {},
    [[]],
    [None] * 3,
    ["x"] * 4,
]
TREES = [write_nuscenes, write_semantickitti, write_sscbench, write_rig]


@pytest.fixture(scope="module")
def sound_trees(tmp_path_factory):
    return [write(tmp_path_factory.mktemp("tree") / "data") for write in TREES]


def all_files(root):
    return sorted(p for p in root.rglob("*") if p.is_file())


@settings(max_examples=60, deadline=None, database=None)
@given(st.integers(0, len(TREES) - 1), st.integers(0, 10**6), st.binary(max_size=20), st.integers(0, 3000))
def test_damaged_bytes_end_in_a_report(sound_trees, tree, which, patch, at):
    root = sound_trees[tree]
    path = all_files(root)[which % len(all_files(root))]
    sound = path.read_bytes()
    for damaged in (sound[:at], sound[:at] + patch + sound[at + len(patch) :], patch):
        path.write_bytes(damaged)
        try:
            assert isinstance(examine(root, frames=3), Report)
        finally:
            path.write_bytes(sound)


@settings(max_examples=120, deadline=None, database=None)
@given(st.data())
def test_odd_values_in_json_end_in_a_report(sound_trees, data):
    root = data.draw(st.sampled_from([sound_trees[0], sound_trees[3]]))
    path = data.draw(st.sampled_from([p for p in all_files(root) if p.suffix == ".json"]))
    sound = path.read_bytes()
    document = json.loads(sound)
    place = document
    while True:  # walk down to a random value
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = data.draw(st.sampled_from(keys))
        if not place[key] or not isinstance(place[key], (dict, list)) or data.draw(st.booleans()):
            break
        place = place[key]
    place[key] = data.draw(st.sampled_from(ODD_VALUES))
    path.write_text(json.dumps(document))
    try:
        report = examine(root, frames=3)
        assert json.dumps(report.to_json())
    finally:
        path.write_bytes(sound)


# ---- the comparison with the LiDAR ----------------------------------------------------------------------------------


def evidence(label, truth):
    return [Evidence(hits=np.argwhere(truth), occupied=label)]


def noisy(truth, *, share, seed=0):
    """Empty a share of the occupied voxels and fill a tenth as many empty ones: labels are never perfect."""
    rng = np.random.default_rng(seed)
    return np.where(truth, rng.random(truth.shape) > share, rng.random(truth.shape) < share / 10)


@pytest.mark.parametrize("share", [0.0, 0.2])
def test_every_mistake_is_told_from_every_other_also_in_noise(share):
    index = np.argwhere(np.ones(OCC3D_SHAPE))
    for words, lookup in mistakes(OCC3D_SHAPE, lidar_height=2).items():
        stored = lookup(index, OCC3D_SHAPE)
        inside = ((stored >= 0) & (stored < OCC3D_SHAPE)).all(axis=1)
        frames = []
        for seed in range(5):
            flat, tall = street(OCC3D_SHAPE, seed=seed)
            label = np.zeros(OCC3D_SHAPE, dtype=np.bool_)
            label[tuple(stored[inside].T)] = noisy(flat | tall, share=share, seed=seed).ravel()[inside]
            frames += evidence(label, flat | tall)
        verdict = judge(frames, lidar_height=2)
        assert verdict.mistake == words
        assert verdict.undone > verdict.agreement


def test_sound_and_random_labels_are_not_accused():
    flat, tall = street(OCC3D_SHAPE)
    truth = flat | tall
    assert judge(evidence(noisy(truth, share=0.3), truth)).mistake is None
    random = np.random.default_rng(0).random(OCC3D_SHAPE) < 0.1
    assert judge(evidence(random, truth)).mistake is None
    assert judge([]).mistake is None


def test_choose_spreads_evenly():
    assert choose(list(range(10)), 5) == [0, 2, 4, 6, 8]
    assert choose([1, 2], 5) == choose([1, 2], None) == [1, 2]


def test_command_line(tmp_path, capsys):
    root = write_nuscenes(tmp_path / "data")
    assert main(["doctor", str(root), "--json", str(tmp_path / "r.json")]) == 0
    assert "healthy" in capsys.readouterr().out
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["healthy"] is True
    assert report["checked"]["images"] == 4
    cut(root / LABEL)
    assert main(["doctor", str(root), "--frames", "1"]) == 1
    assert "1 error" in capsys.readouterr().out
    assert main(["doctor", str(root), "--frames", "0"]) == 1
    assert "--frames" in capsys.readouterr().err


def test_equal_faults_are_one_finding():
    report = Report(path="x")
    report.add_many("warning", [], "nothing")
    report.add_many("warning", ["a", "b", "c", "d"], "gone")
    report.add("error", "e", "bad", "mend it")
    assert [(f.level, f.path, f.problem, f.count) for f in report.findings] == [
        ("error", "e", "bad", 1),
        ("warning", "a", "4 x gone: a, b, c, and 1 more", 4),
    ]


def test_labels_only_trees_of_kitti_are_fit_for_evaluation(tmp_path):
    root = write_semantickitti(tmp_path / "data")
    for sequence in (root / "sequences").iterdir():
        (sequence / "calib.txt").unlink()
        shutil.rmtree(sequence / "image_2")
    assert findings(root) == []
    assert any("voxels only" in w for w in findings(root, "warning"))
