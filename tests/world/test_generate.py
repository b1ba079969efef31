"""Same seed, same bytes; what is finished is not done again; knobs do what they say."""

import os
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import torch

from occkit.cli import main
from occkit.data import DataConfig, open_dataset
from occkit.errors import DataError
from occkit.files import read_json
from occkit.geometry import VoxelGrid
from occkit.world import PRESETS, generate
from occkit.world.generate import one_thread_for_children, plan_scenes
from occkit.world.recording import counts_in_view, keyframe_time, label, shoot
from occkit.world.streets import make_scene
from occkit.world.words import WORDS, word_id

TINY = replace(PRESETS["nano"], frames=1)


def digest(root: Path) -> dict[str, str]:
    files = sorted(p for p in root.rglob("*") if p.is_file())
    return {str(p.relative_to(root)): sha256(p.read_bytes()).hexdigest() for p in files}


def test_workers_do_not_matter(tmp_path: Path) -> None:
    generate(TINY, tmp_path / "one", num_scenes=3, seed=5)
    generate(TINY, tmp_path / "two", num_scenes=3, seed=5, workers=2)
    one, two = digest(tmp_path / "one"), digest(tmp_path / "two")
    assert one == two
    assert len(one) > 60


@pytest.mark.parametrize("before", [None, "3"])
def test_processes_that_start_get_one_thread(monkeypatch: pytest.MonkeyPatch, before: str | None) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if before is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", before)
    with one_thread_for_children():
        assert os.environ["OMP_NUM_THREADS"] == "1"
    assert os.environ.get("OMP_NUM_THREADS") == before


def test_workers_do_not_matter_for_kitti(tmp_path: Path) -> None:
    config = replace(PRESETS["kitti-nano"], frames=1)
    for name, workers in (("one", 1), ("two", 2)):
        generate(config, tmp_path / name, format="semantickitti", num_scenes=2, seed=5, workers=workers)
    assert digest(tmp_path / "one") == digest(tmp_path / "two")


def test_seeds_and_splits_differ() -> None:
    scenes = [make_scene(TINY, "scene-0001", seed) for seed in ((0, 0, 0), (0, 1, 0), (1, 0, 0), (0, 0, 1))]
    images = [shoot(s, TINY, 0, 1.0).picture.colour for s in scenes]
    assert all((images[0] != other).mean() > 0.5 for other in images[1:])


def test_a_finished_scene_is_not_redone_and_an_unfinished_one_is(tmp_path: Path) -> None:
    generate(TINY, tmp_path, num_scenes=2, seed=5)
    before = digest(tmp_path)
    stamp = (tmp_path / "samples" / "CAM_FRONT").stat().st_mtime_ns
    generate(TINY, tmp_path, num_scenes=2, seed=5)
    assert (tmp_path / "samples" / "CAM_FRONT").stat().st_mtime_ns == stamp
    (tmp_path / ".world" / "scenes" / "scene-0002.json").unlink()
    next((tmp_path / "gts" / "scene-0002").rglob("labels.npz")).write_bytes(b"half")
    generate(TINY, tmp_path, num_scenes=2, seed=5)
    assert digest(tmp_path) == before


def test_other_settings_are_refused(tmp_path: Path) -> None:
    generate(TINY, tmp_path / "a", num_scenes=1, seed=5)
    with pytest.raises(DataError, match="other settings"):
        generate(TINY, tmp_path / "a", num_scenes=1, seed=6)
    with pytest.raises(DataError, match="other settings"):
        generate(replace(TINY, texture=0.5), tmp_path / "a", num_scenes=1, seed=5)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "thesis.txt").write_text("dear to someone")
    with pytest.raises(DataError, match="not empty"):
        generate(TINY, tmp_path / "b", num_scenes=1)


@pytest.mark.parametrize("wrong", [{"num_scenes": 0}, {"val_fraction": 1.5}, {"workers": 0}, {"seed": -1}])
def test_impossible_numbers_are_refused(tmp_path: Path, wrong: dict) -> None:
    with pytest.raises(ValueError):
        generate(TINY, tmp_path, **wrong)


@pytest.mark.parametrize("wrong", [{"frames": 0}, {"colour_overlap": 2.0}, {"traffic": -1.0}, {"speed": (9.0, 4.0)}])
def test_impossible_knobs_are_refused(wrong: dict) -> None:
    with pytest.raises(ValueError):
        replace(TINY, **wrong)


def test_plan_of_splits() -> None:
    plan = plan_scenes("nuscenes", 10, 0.2, 1)
    assert [j.split for j in plan] == ["train"] * 8 + ["val"] * 2 + ["test"]
    assert plan[8].name == "scene-0009"
    assert [j.index for j in plan[7:]] == [7, 0, 1, 0]
    kitti = plan_scenes("semantickitti", 11, 0.2, 2)
    assert [j.name for j in kitti] == ["00", "01", "02", "03", "04", "05", "06", "07", "09", "10", "08", "11", "12"]
    assert plan_scenes("nuscenes", 2, 0.01)[1].split == "val"
    with pytest.raises(ValueError, match="sequences"):
        plan_scenes("semantickitti", 30, 0.1)


def test_empty_street() -> None:
    config = replace(TINY, traffic=0.0, crowd=0.0, long_tail=0.0, relief=0.0)
    scene = make_scene(config, "scene-0001", (0, 0, 0))
    time = keyframe_time(config, 0)
    shots = [shoot(scene, config, i, time) for i in range(6)]
    truth = label(scene, config, time, shots)
    names = {WORDS[w].name for w in np.unique(truth.voxels.word)}
    assert not names & {"pedestrian", "mailbox", "fire hydrant", "excavator", "cyclist"}
    assert not truth.voxels.moving.any()
    road = truth.voxels.word == word_id("road")
    assert road[:, :, 1].any()
    assert not road[:, :, [0, 2, 3, 4, 5, 6, 7]].any()


def test_traffic_and_crowd_add_objects() -> None:
    def count(**knobs: float) -> int:
        config = replace(TINY, **knobs)
        return sum(len(make_scene(config, "s", (0, 0, i)).things) for i in range(3))

    assert count(traffic=3.0) > count() > count(traffic=0.0)
    assert count(crowd=3.0) > count() > count(crowd=0.0)


def test_nobody_moves_without_moving_share_but_the_ego() -> None:
    config = replace(TINY, moving_share=0.0, crowd=2.0)
    scene = make_scene(config, "s", (0, 0, 2))
    movers = [t for t in scene.things if t.motion is not None]
    # its own lane must move with the ego vehicle, and cyclists ride
    assert all(WORDS[t.word].name == "cyclist" or t.motion.across == scene.ego.across for t in movers)


def test_course_weather_and_caption_follow_the_knobs() -> None:
    for course, weather, said in (("left", "fog", "bending left"), ("cross", "night", "crossing")):
        config = replace(TINY, street=course, weather=weather, roadside="trees")
        scene = make_scene(config, "s", (0, 0, 0))
        turn = float(scene.ego.line.headings[-1] - scene.ego.line.headings[0])
        assert (turn > 0.4) == (course == "left")
        from occkit.world.recording import caption

        text = caption(scene, {"car": 2, "child": 1, "bus": 3})
        assert said in text
        assert "trees" in text
        assert text.endswith("with 2 cars, 1 child, 3 buses")
        shots = [shoot(scene, config, i, 1.0) for i in range(6)]
        bright = np.mean([s.picture.colour.mean() for s in shots])
        assert (bright < 70) == (weather == "night")


def test_counts_need_a_pixel() -> None:
    scene = make_scene(TINY, "s", (0, 0, 0))
    assert counts_in_view(scene, TINY, 1.0, []) == {}


def test_colours_say_less_with_overlap() -> None:
    """How far a linear rule on colour separates road from sidewalk falls when the overlap knob rises."""

    def separation(overlap: float) -> float:
        gaps = []
        for i in range(8):
            look = make_scene(replace(TINY, colour_overlap=overlap), "s", (0, 0, i)).look
            gaps.append(np.abs(look.palette[word_id("road")] - look.palette[word_id("sidewalk")]).mean())
        return float(np.mean(gaps))

    assert separation(0.0) > 2 * separation(0.8)


def test_ego_stays_on_its_lane_and_never_turns_back() -> None:
    for i in range(6):
        scene = make_scene(replace(TINY, frames=20), "s", (0, 0, i))
        times = np.arange(0, 11, 0.25)
        along = np.array([scene.ego.along(t) for t in times])
        assert (np.diff(along) > 0).all()
        spots = np.array([scene.ego.pose(t)[0] for t in times])
        assert (scene.ground.words[scene.ground.index(spots)] == word_id("road")).all()


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "w"
    assert (
        main(["world", "--out", str(out), "--scenes", "2", "--frames", "1", "--workers", "1", "--weather", "sun"]) == 0
    )
    assert "2 frames of 2 scenes" in capsys.readouterr().out
    assert all("sunny" in text for text in read_json(out / "captions.json").values())
    assert main(["world", "--out", str(out), "--scenes", "3", "--frames", "1", "--workers", "1"]) == 1
    assert "other settings" in capsys.readouterr().err
    assert main(["world", "--out", str(out), "--preset", "kitti"]) == 1
    assert os.listdir(tmp_path) == ["w"]


def test_a_smaller_volume_is_the_middle_of_a_larger_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shared = ["--scenes", "2", "--frames", "1", "--workers", "1"]
    for name, options in (("whole", []), ("middle", ["--radius", "19.2"])):
        assert main(["world", "--out", str(tmp_path / name), *shared, *options]) == 0
    whole, middle = (open_dataset(tmp_path / n, split="all", config=DataConfig())[0] for n in ("whole", "middle"))
    assert middle.grid == VoxelGrid.from_range((-19.2, -19.2, -1), (19.2, 19.2, 5.4), 0.8)
    assert not (tmp_path / "whole" / "grid.json").exists()
    inner = (slice(26, 74), slice(26, 74))
    assert torch.equal(middle.occupancy.semantics, whole.occupancy.semantics[inner])
    assert torch.equal(middle.images, whole.images)
    assert main(["world", "--out", str(tmp_path / "no"), *shared, "--radius", "10"]) == 1
    assert "whole voxels of 0.8 m" in capsys.readouterr().err
