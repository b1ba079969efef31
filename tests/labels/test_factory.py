"""The label factory on a generated world: what it writes, what a kill leaves, and what cannot be read."""

import hashlib
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from occkit.data import DataConfig, open_dataset
from occkit.data.fingerprint import fingerprint_of
from occkit.data.occ3d import label_path, read_labels
from occkit.errors import ConfigError, DataError
from occkit.files import read_npz_array
from occkit.foundation import (
    LidarDepthConfig,
    SimulatedDepthConfig,
    SimulatedLabellerConfig,
)
from occkit.labels import FactoryConfig, FusionConfig, LonelyPoints, make_labels
from occkit.labels.quality import score_labels
from occkit.taxonomy import SEMANTICKITTI
from occkit.world.generate import generate
from occkit.world.presets import PRESETS

CONFIG = FactoryConfig(stride=2, outliers=LonelyPoints(cell=1.0, least=2), fusion=FusionConfig(history=2))


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    root = tmp_path_factory.mktemp("world")
    generate(replace(PRESETS["nano"], frames=4), root, num_scenes=2, seed=5)
    return root


@pytest.fixture
def frames(world):
    return open_dataset(world, split="all", config=DataConfig(load_depth=False))


class Counting:
    """A labeller that counts how often it is asked, and may die."""

    def __init__(self, inner, *, dies_at=None):
        self.inner, self.asked, self.dies_at = inner, [], dies_at
        self.taxonomy, self.description = inner.taxonomy, inner.description

    def label(self, images, *, token, cameras):
        if len(self.asked) == self.dies_at:
            raise KeyboardInterrupt
        self.asked.append(token)
        return self.inner.label(images, token=token, cameras=cameras)


def make(frames, folder, *, config=CONFIG, dies_at=None, **options):
    labeller = Counting(SimulatedLabellerConfig.perfect(frames.root).build(), dies_at=dies_at)
    depth = SimulatedDepthConfig.perfect(frames.root).build()
    made = make_labels(frames, folder, depth=depth, labeller=labeller, config=config, progress=False, **options)
    return made, labeller.asked


def digest(folder):
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def test_labels_look_like_occ3d_and_like_the_street(frames, tmp_path):
    made, asked = make(frames, tmp_path, keep_images=True)
    assert (made.written, made.kept, dict(made.skipped)) == (8, 0, {})
    assert sorted(asked) == sorted(frames.tokens), "each frame is looked at once"
    path = label_path(tmp_path, frames.scene(frames.tokens[3]), frames.tokens[3])
    label = read_labels(path, grid=frames.grid)
    truth = frames.label(frames.tokens[3])
    seen = truth.mask_camera & label.occupied & label.mask_camera
    assert seen.sum() > 500
    agree = (label.semantics == truth.semantics)[seen].float().mean()
    assert agree > 0.75
    count = read_npz_array(path, "count")
    assert count.dtype == np.uint16
    assert np.array_equal(count > 0, label.mask_lidar.numpy())
    assert not (tmp_path / ".points").exists()
    assert not (tmp_path / "skipped.json").exists()
    assert len(list((tmp_path / "images").glob("*/*.png"))) == 8 * 6


class Undecided:
    """A labeller that cannot name anything."""

    def __init__(self, taxonomy):
        self.taxonomy, self.description = taxonomy, {"name": "undecided"}

    def label(self, images, *, token, cameras):
        return torch.full((len(images), *images.shape[-2:]), self.taxonomy.ignore_id, dtype=torch.uint8)


def test_what_has_no_class_carves_to_its_depth_or_is_taken_for_the_sky(frames, tmp_path):
    seen = {}
    for uncertain in ("ignored", "free"):
        make_labels(
            frames,
            tmp_path / uncertain,
            depth=SimulatedDepthConfig.perfect(frames.root).build(),
            labeller=Undecided(frames.taxonomy),
            config=replace(CONFIG, uncertain=uncertain),
            progress=False,
        )
        path = label_path(tmp_path / uncertain, frames.scene(frames.tokens[0]), frames.tokens[0])
        label = read_labels(path, grid=frames.grid)
        assert not label.occupied.any()
        seen[uncertain] = label.mask_camera
    truth = frames.label(frames.tokens[0])
    assert (seen["free"] & seen["ignored"]).sum() > 0.95 * seen["ignored"].sum()
    through = seen["free"] & ~seen["ignored"] & truth.occupied
    assert through.sum() > 0.2 * (truth.occupied & truth.mask_camera).sum(), "rays of the sky end nowhere"


def test_perfect_models_make_better_labels_than_poor_ones_and_more_frames_fill_the_scene(frames, tmp_path):
    scores = {}
    for name, history in (("perfect", 0), ("perfect", 3), ("poor", 3)):
        folder = tmp_path / f"{name}{history}"
        config = replace(CONFIG, stride=1, fusion=FusionConfig(history=history))
        depth = getattr(SimulatedDepthConfig, name)(frames.root).build()
        labeller = getattr(SimulatedLabellerConfig, name)(frames.root).build()
        make_labels(frames, folder, depth=depth, labeller=labeller, config=config, progress=False)
        scores[name, history] = score_labels(frames, folder)
    assert scores["perfect", 3]["occ3d"]["miou"] > 1.5 * scores["poor", 3]["occ3d"]["miou"]
    assert scores["perfect", 3]["occ3d-full"]["iou"] > 1.1 * scores["perfect", 0]["occ3d-full"]["iou"]
    assert score_labels(frames, tmp_path / "nothing") is None


def test_a_killed_factory_goes_on_and_ends_with_the_same_bytes(frames, tmp_path):
    make(frames, tmp_path / "whole", keep_images=True)
    with pytest.raises(KeyboardInterrupt):
        make(frames, tmp_path / "killed", keep_images=True, dies_at=3)
    assert len(list((tmp_path / "killed").glob("gts/*/*/labels.npz"))) == 3
    before = digest(tmp_path / "killed" / "gts")
    made, asked = make(frames, tmp_path / "killed", keep_images=True)
    assert (made.written, made.kept) == (5, 3)
    assert sorted(asked) == sorted(frames.tokens[3:]), "what the models said of the first three was kept"
    after = digest(tmp_path / "killed" / "gts")
    assert before.items() <= after.items()
    assert digest(tmp_path / "whole") == digest(tmp_path / "killed")
    assert make(frames, tmp_path / "killed", keep_images=True)[1] == []


def test_points_that_are_kept_serve_other_labels(frames, tmp_path, monkeypatch):
    """The models are asked once, and no image is decoded again; the labels are those of a factory of its own."""
    points = tmp_path / "points"
    _, asked = make(frames, tmp_path / "first", points=points)
    assert len(asked) == len(frames)
    assert len(list(points.glob("*.npz"))) == len(frames)
    other = replace(CONFIG, fusion=FusionConfig(history=0, vote="rare_first"))
    with monkeypatch.context() as patch:
        patch.setattr(frames, "sample", lambda index: pytest.fail("an image is decoded"))
        _, asked = make(frames, tmp_path / "shared", config=other, points=points)
    assert asked == []
    make(frames, tmp_path / "alone", config=other)
    assert digest(tmp_path / "shared") == digest(tmp_path / "alone")
    with pytest.raises(ConfigError, match=r"points: holds points made in another way \(different: stride\)"):
        make(frames, tmp_path / "third", config=replace(CONFIG, stride=1), points=points)


def test_images_can_be_asked_for_later(frames, tmp_path):
    make(frames, tmp_path)
    before = digest(tmp_path / "gts")
    _, asked = make(frames, tmp_path, keep_images=True)
    assert sorted(asked) == sorted(frames.tokens)
    assert digest(tmp_path / "gts") == before
    assert len(list((tmp_path / "images").glob("*/*.png"))) == 48


def test_labels_made_in_another_way_are_not_mixed(frames, tmp_path):
    make(frames, tmp_path)
    with pytest.raises(ConfigError, match=r"made in another way \(different: config\)"):
        make(frames, tmp_path, config=replace(CONFIG, max_depth=30.0))


def test_an_unreadable_image_costs_its_frame_and_is_named(world, tmp_path):
    root = tmp_path / "world"
    shutil.copytree(world, root)
    frames = open_dataset(root, split="all", config=DataConfig(load_depth=False))
    broken = frames.tokens[1]
    frames._frame(broken).views[0][0].path.write_bytes(b"no image")
    made, _ = make(frames, tmp_path / "labels")
    assert (made.written, list(made.skipped)) == (7, [broken])
    told = json.loads((tmp_path / "labels" / "skipped.json").read_text())
    assert ".jpg" in told[broken] or ".png" in told[broken]
    shutil.copy(
        open_dataset(world, split="all", config=DataConfig())._frame(broken).views[0][0].path,
        frames._frame(broken).views[0][0].path,
    )
    made, _ = make(frames, tmp_path / "labels")
    assert (made.written, dict(made.skipped)) == (3, {}), "the frame, and the two after it that went without"
    assert made.changed == frames.tokens[2:4]
    assert not (tmp_path / "labels" / "skipped.json").exists()
    make(open_dataset(world, split="all", config=DataConfig(load_depth=False)), tmp_path / "whole")
    assert digest(tmp_path / "labels" / "gts") == digest(tmp_path / "whole" / "gts")


def test_what_was_made_of_other_images_is_made_again(world, tmp_path):
    root = tmp_path / "world"
    shutil.copytree(world, root)
    frames = open_dataset(root, split="all", config=DataConfig(load_depth=False))
    points = tmp_path / "points"
    make(frames, tmp_path / "labels", points=points)
    before = digest(tmp_path / "labels" / "gts")
    changed = frames.tokens[2]
    path = frames.image_files(changed)[0]
    whole = path.read_bytes()
    Image.open(path).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(path)
    made, asked = make(frames, tmp_path / "labels", points=points, trust=True)
    assert (made.written, asked) == (0, []), "asked to trust them, it does not look"
    made, asked = make(frames, tmp_path / "labels", points=points)
    assert asked == [changed], "points of other images are not taken either"
    assert made.changed == frames.tokens[2:4], "it is in the window of the next, and no other's"
    assert (made.written, made.kept) == (2, 6)
    assert make(frames, tmp_path / "labels", points=points)[0].kept == 8
    path.write_bytes(whole)
    make(frames, tmp_path / "labels", points=points)
    assert digest(tmp_path / "labels" / "gts") == before


def test_a_frame_whose_description_is_damaged_costs_its_frame(frames, tmp_path, monkeypatch):
    plain, broken = frames._frame, frames.tokens[1]

    def describe(token):
        if token == broken:
            raise DataError(frames.root, "is damaged", "write it again")
        return plain(token)

    monkeypatch.setattr(frames, "_frame", describe)
    made, _ = make(frames, tmp_path)
    assert (made.written, list(made.skipped)) == (7, [broken])
    assert make(frames, tmp_path)[0].kept == 7, "nothing changed, so nothing is made again"
    monkeypatch.undo()
    assert make(frames, tmp_path)[0].changed == frames.tokens[2:4]


@pytest.mark.parametrize("what", ["intrinsics", "ego_from_camera", "global_from_ego"])
def test_a_frame_is_known_by_lenses_and_poses_too_but_not_by_its_name(frames, what):
    frame = frames._frame(frames.tokens[0])
    known = fingerprint_of(frame)
    assert fingerprint_of(replace(frame, token="other", scene="other")) == known
    for by, same in ((1e-9, True), (1e-3, False)):
        if what == "global_from_ego":
            other = replace(frame, global_from_ego=frame.global_from_ego + by)
        else:
            first, *rest = frame.views[0]
            moved = replace(first, **{what: getattr(first, what) + by})
            other = replace(frame, views=((moved, *rest), *frame.views[1:]))
        assert (fingerprint_of(other) == known) == same


def test_frames_without_a_pose_are_not_joined(frames, tmp_path, monkeypatch):
    plain = frames._frame
    monkeypatch.setattr(frames, "_frame", lambda token: replace(plain(token), global_from_ego=None))
    with pytest.raises(DataError, match=r"has no pose in the world.*history and future 0"):
        make(frames, tmp_path / "a")
    alone = replace(CONFIG, fusion=FusionConfig(history=0))
    assert make(frames, tmp_path / "b", config=alone)[0].written == 8


def test_frames_to_come_may_be_joined_too(frames, tmp_path):
    config = replace(CONFIG, fusion=FusionConfig(history=1, future=1))
    made, asked = make(frames, tmp_path, config=config)
    assert made.written == 8
    assert sorted(asked) == sorted(frames.tokens)
    make(frames, tmp_path / "past", config=replace(CONFIG, fusion=FusionConfig(history=1)))
    token = frames.tokens[0]
    both, one = (
        read_npz_array(label_path(f, frames.scene(token), token), "count") for f in (tmp_path, tmp_path / "past")
    )
    assert both.sum() > one.sum()


def test_lidar_may_say_how_far_things_are(world, frames, tmp_path):
    swept = open_dataset(world, split="all", config=DataConfig(load_points=True))
    depth = LidarDepthConfig().build(lambda token: swept.sample(swept.tokens.index(token)).points)
    labeller = SimulatedLabellerConfig.perfect(world).build()
    make_labels(frames, tmp_path, depth=depth, labeller=labeller, config=replace(CONFIG, stride=1), progress=False)
    report = score_labels(frames, tmp_path)
    assert report["occ3d"]["miou"] > 0.1


def test_a_labeller_of_other_classes_is_refused(frames, tmp_path):
    labeller = Counting(SimulatedLabellerConfig.perfect(frames.root).build())
    labeller.taxonomy = SEMANTICKITTI
    with pytest.raises(ConfigError, match="classes of semantickitti"):
        make_labels(
            frames, tmp_path, depth=SimulatedDepthConfig.perfect(frames.root).build(), labeller=labeller,
            config=CONFIG, progress=False,
        )  # fmt: skip
