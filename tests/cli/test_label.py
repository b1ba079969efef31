"""occkit label, from the command line."""

import json

import numpy as np
import pytest

from occkit.cli import main
from occkit.data.occ3d import read_labels
from occkit.foundation import OCCNERF_VOCABULARY
from occkit.geometry import OCC3D_GRID
from occkit.taxonomy import OCC3D
from tiny_models import save_depth_anything, save_grounding_dino, save_owlv2, save_sam, save_sam2


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    """Folders of a depth network, a detector and a SAM, as options of the command."""
    folder = tmp_path_factory.mktemp("weights")
    words = sorted({word for call in OCCNERF_VOCABULARY.calls for phrase, _ in call for word in phrase.split()})
    for name in ("depth", "detector", "sam"):
        (folder / name).mkdir()
    save_depth_anything(folder / "depth", max_depth=20)
    save_grounding_dino(folder / "detector", words)
    save_sam(folder / "sam")
    options = ["--teacher", "hf", "--vocabulary", "occnerf", "--detector", folder / "detector", "--sam", folder / "sam"]
    return [*map(str, options)], ["--depth-weights", str(folder / "depth")]


def only_label(folder):
    (path,) = folder.glob("gts/*/*/labels.npz")
    with np.load(path) as archive:
        return read_labels(path, grid=OCC3D_GRID), archive["count"]


def test_labels_scores_and_pictures(street, tmp_path, capsys):
    command = ["label", "--data", str(street), "--out", str(tmp_path / "out"), "--stride", "2", "--outliers", "lonely"]
    command += ["--split", "val", "--max-pictures", "1", "--json", str(tmp_path / "scores.json"), "--keep-images"]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "2 labels: " in said
    assert "occ3d-full" in said
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert 0 < scores["occ3d"]["miou"] < 1
    assert len(list((tmp_path / "out" / "pictures").iterdir())) >= 3
    assert len(list((tmp_path / "out" / "images").glob("*/*.png"))) == 12
    assert main(command) == 0
    assert "0 labels, 2 were there" in capsys.readouterr().out
    assert main([*command, "--history", "3"]) == 1
    assert "made in another way" in capsys.readouterr().err


def test_what_is_missing_is_named(street, rig, tmp_path, capsys):
    assert main(["label", "--out", str(tmp_path)]) == 2
    assert "--data ROOT or --rig RIG.json" in capsys.readouterr().err
    assert main(["label", "--data", str(street), "--out", str(tmp_path), "--teacher", "hf"]) == 1
    assert "--depth-weights" in capsys.readouterr().err
    hf = ["--teacher", "hf", "--depth", "lidar"]
    assert main(["label", "--data", str(street), "--out", str(tmp_path), *hf]) == 1
    assert "--detector and --sam" in capsys.readouterr().err
    for known in ([], ["--depth", "lidar"], ["--one-class", "others"]):
        assert main(["label", "--rig", str(rig), "--out", str(tmp_path / "out"), *known]) == 1
        assert "truth of a generated world" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_lidar_gives_the_depth(street, tmp_path):
    command = ["label", "--data", str(street), "--out", str(tmp_path), "--stride", "1", "--depth", "lidar"]
    assert main([*command, "--max-pictures", "0", "--split", "val"]) == 0
    assert len(list(tmp_path.glob("gts/*/*/labels.npz"))) == 2


def test_a_lidar_alone_gives_the_geometry_of_a_rig(rig, tmp_path, capsys):
    """Of the wall's 39 points, few and a metre apart, none may be lost to the stride or taken for an error."""
    command = ["label", "--rig", str(rig), "--depth", "lidar", "--one-class"]
    assert main([*command, "others", "--out", str(tmp_path / "out")]) == 0
    label, count = only_label(tmp_path / "out")
    places = label.occupied.nonzero().numpy() * 0.4 + np.array(OCC3D_GRID.origin) + 0.2
    assert len(places) == count.sum() == 39
    wall = np.array([[12, y, z + 1.8] for y in range(-6, 7) for z in (-1, 0, 1)])
    away = np.abs(places[:, None] - wall).max(-1)
    assert (away.min(0) < 0.27).all()
    assert label.semantics[label.occupied].unique().tolist() == [OCC3D.id_of("others")]
    assert 39 < label.mask_camera.sum() < 3000, "what the beams that the cameras see have passed"
    assert {path.name.rpartition("_")[2] for path in (tmp_path / "out" / "pictures").iterdir()} == {
        "cameras.jpg", "overlay.jpg", "perspective.png", "top.png",
    }  # fmt: skip
    assert main([*command, "others", "--out", str(tmp_path / "few"), "--outliers", "lonely"]) == 0
    assert only_label(tmp_path / "few")[1].sum() == 0
    assert main([*command, "house", "--out", str(tmp_path / "house")]) == 1
    assert "'house' is none of occ3d: others, barrier" in capsys.readouterr().err


@pytest.mark.parametrize("source", ["model", "lidar"])
def test_models_from_folders_label_a_rig(rig, weights, tmp_path, source):
    models, depth = weights
    command = ["label", "--rig", str(rig), "--out", str(tmp_path / "out"), *models, "--max-pictures", "0"]
    assert main([*command, *(["--depth", "lidar"] if source == "lidar" else depth)]) == 0
    label, count = only_label(tmp_path / "out")
    assert 0 < label.occupied.sum() <= count.sum()
    told = json.loads((tmp_path / "out" / "labels.json").read_text())
    assert told["labeller"]["labeller"] == "grounded_sam"
    assert told["depth"]["depth"] == ("lidar" if source == "lidar" else "transformers")
    assert told["config"]["outliers_kind"] == ("NoneType" if source == "lidar" else "StatisticalOutliers")
    if source == "lidar":
        assert count.sum() <= 39
        assert set(label.occupied.nonzero()[:, 0].tolist()) <= {129, 130}


def test_detector_and_sam_are_what_their_folders_say(rig, tmp_path):
    for name in ("owl", "sam2"):
        (tmp_path / name).mkdir()
    save_owlv2(tmp_path / "owl")
    save_sam2(tmp_path / "sam2", family="Sam2Video")
    command = ["label", "--rig", str(rig), "--out", str(tmp_path / "out"), "--teacher", "hf", "--depth", "lidar"]
    command += ["--detector", str(tmp_path / "owl"), "--sam", str(tmp_path / "sam2"), "--max-pictures", "0"]
    assert main(command) == 0
    told = json.loads((tmp_path / "out" / "labels.json").read_text())["labeller"]
    assert (told["detector"]["detector"], told["sam"]["segmenter"]) == ("owlv2", "sam2")


def test_models_from_folders_label_a_real_frame(real_frame, weights, tmp_path):
    models, depth = weights
    command = ["label", "--rig", str(real_frame / "rig.json"), "--out", str(tmp_path), *models, *depth]
    assert main([*command, "--max-pictures", "0"]) == 0
    label, count = only_label(tmp_path)
    assert 0 < label.occupied.sum() <= count.sum()


def test_a_lidar_alone_gives_the_geometry_of_a_real_frame(real_frame, tmp_path):
    command = ["label", "--rig", str(real_frame / "rig.json"), "--depth", "lidar", "--one-class", "others"]
    assert main([*command, "--out", str(tmp_path), "--max-pictures", "0"]) == 0
    label, count = only_label(tmp_path)
    assert count.sum() > 19_000, "of the 34,688 points, those that a camera sees within the volume"
    # Most of a sweep is road: height 0 in the ego frame lies in the third layer, with the lower half of what is above.
    layers = label.occupied.sum((0, 1))
    assert int(layers.argmax()) in (1, 2, 3)
    # The truck ahead to the left stands 12 m away and is higher than 3 m; the lane beside it is free above the road.
    assert label.occupied[125:140, 104:112, 5:11].any(2).sum() > 10
    assert not label.occupied[125:140, 90:98, 5:].any()
