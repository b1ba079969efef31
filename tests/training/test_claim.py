import json
import math
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import IO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from occkit.cli.reproduce import _make_world
from occkit.data import DataConfig, open_dataset
from occkit.data.semantickitti import write_packed
from occkit.errors import ConfigError, DataError, OcckitError
from occkit.files import read_json, write_bytes, write_json, write_npz
from occkit.systems import lift
from occkit.training import claim_arm, claim_run
from occkit.training.claim import AtLeast, Claim, Difference, Lesson, Ratio, World, flatten, judge, mean_interval
from occkit.training.claim_arm import run_arm
from occkit.training.claim_card import write_card
from occkit.training.claim_results import arm_identity, load_claim, world_identity
from occkit.training.claim_run import run_claim
from occkit.training.recipe import load_file, load_recipe
from occkit.training.recipe_json import as_of_today, recipe_to_json
from occkit.training.world_queries import LONG_TAIL

SCORES = {
    "new": {"occ3d.miou": [0.30, 0.34, 0.29, 0.36]},
    "old": {"occ3d.miou": [0.26, 0.29, 0.27, 0.30]},
    "prior": {"occ3d.miou": [0.10, 0.11, 0.09, 0.12]},
}


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=12))
def test_the_interval_is_scipys(values: list[float]) -> None:
    mean, interval = mean_interval(values)
    assert interval is not None
    error = float(stats.sem(values))
    expected = stats.t.interval(0.95, len(values) - 1, loc=np.mean(values), scale=error) if error else (mean, mean)
    assert mean == pytest.approx(np.mean(values), abs=1e-9)
    assert interval == pytest.approx(expected, rel=1e-6, abs=1e-7)


def test_one_seed_has_no_interval_and_shows_nothing() -> None:
    assert mean_interval([0.5]) == (0.5, None)
    one = {arm: {metric: values[:1] for metric, values in scores.items()} for arm, scores in SCORES.items()}
    line = judge(Difference(arm="new", baseline="old", metric="occ3d.miou"), one)
    assert (line.interval, line.met) == (None, False)
    assert line.value == pytest.approx(0.04)


def test_a_difference_is_the_paired_t_test() -> None:
    new, old = SCORES["new"]["occ3d.miou"], SCORES["old"]["occ3d.miou"]
    line = judge(Difference(arm="new", baseline="old", metric="occ3d.miou"), SCORES)
    paired = stats.ttest_rel(new, old).confidence_interval(0.95)
    assert line.interval == pytest.approx((paired.low, paired.high))
    assert line.met
    assert line.statement == "occ3d.miou of new exceeds that of old"
    # Unpaired the same numbers would show nothing.
    assert stats.ttest_ind(new, old).confidence_interval(0.95).low < 0


@pytest.mark.parametrize(
    ("line", "met"),
    [
        (Difference(arm="new", baseline="old", metric="occ3d.miou", threshold=0.03), False),
        (Difference(arm="old", baseline="new", metric="occ3d.miou"), False),
        (Difference(arm="old", baseline="new", metric="occ3d.miou", threshold=-0.1), True),
        (Ratio(arm="new", baseline="prior", metric="occ3d.miou", threshold=2.5), True),
        (Ratio(arm="new", baseline="prior", metric="occ3d.miou", threshold=3.0), False),
        (AtLeast(arm="new", metric="occ3d.miou", threshold=0.25), True),
        (AtLeast(arm="new", metric="occ3d.miou", threshold=0.32), False),
    ],
)
def test_a_line_holds_when_its_whole_interval_does(line: Difference | Ratio | AtLeast, met: bool) -> None:
    judged = judge(line, SCORES)
    assert judged.met is met
    assert judged.interval is not None
    assert met == (judged.interval[0] > line.threshold)


def test_a_baseline_that_scores_nothing_is_not_divided_by() -> None:
    scores = {"a": {"m": [0.1, 0.2]}, "b": {"m": [0.0, 0.1]}}
    line = judge(Ratio(arm="a", baseline="b", metric="m"), scores)
    assert (line.value, line.interval, line.met) == (None, None, False)


def test_a_claim_checks_its_names() -> None:
    with pytest.raises(ConfigError, match="nobody"):
        Claim(
            system="s", sentence="", arms={}, lines=(Difference(arm="prior", baseline="nobody", metric="m"),), seeds=2
        )
    with pytest.raises(ConfigError, match="prior"):
        Claim(system="s", sentence="", arms={"prior": lambda: None}, lines=())  # type: ignore[dict-item, return-value]
    with pytest.raises(ConfigError, match="val_frames"):
        Claim(system="s", sentence="", arms={}, lines=(), val_frames=0)
    with pytest.raises(ConfigError, match=r"no metric 'occ3d\.iou'; it has occ3d\.miou"):
        judge(AtLeast(arm="new", metric="occ3d.iou", threshold=0), SCORES)


def test_a_class_that_some_world_lacks_has_no_value() -> None:
    line = Difference(arm="new", baseline="old", metric="occ3d.per_class.bus")
    judged = judge(line, {**SCORES, "new": {**SCORES["new"], "occ3d.per_class.bus": [0.1, 0.2, 0.3, 0.4]}})
    assert (judged.value, judged.interval, judged.met) == (None, None, False)


def test_reports_are_flattened() -> None:
    report = {"occ3d": {"miou": 0.5, "iou": None, "frames": 3, "per_class": {"car": 0.25, "bus": None}, "counts": {}}}
    assert flatten(report) == {"occ3d.miou": 0.5, "occ3d.per_class.car": 0.25}


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Run arms here instead of in processes of their own, which take seconds to start; returns what was run."""
    ran: list[tuple[str, str]] = []

    def spawn(arguments: list[str], arm: str, seed: int, out: Path, processes: int, threads: int) -> None:
        system, name, number, world_seed, folder = arguments
        ran.append((name, number))
        run_arm(system, name, int(number), int(world_seed), Path(folder))

    monkeypatch.setattr(claim_run, "_spawn", spawn)
    return ran


def claimed(monkeypatch: pytest.MonkeyPatch, claim: Claim) -> None:
    """Let every name stand for this claim."""
    for module in (claim_run, claim_arm):
        monkeypatch.setattr(module, "load_claim", lambda name: claim)


def make_world_like(root: Path, made: list[int]) -> claim_run.MakeWorld:
    def make_world(world: World, seed: int, folder: Path) -> None:
        assert world.preset == "kitti-nano"
        made.append(seed)
        folder.mkdir(parents=True)
        (folder / "sequences").symlink_to(root / "sequences")

    return make_world


def test_a_claim_runs_resumes_and_writes_its_card(
    recipes: Path, tiny_kitti: Path, tmp_path: Path, in_process: list[tuple[str, str]]
) -> None:
    made: list[int] = []
    said: list[str] = []
    make_world, system = make_world_like(tiny_kitti, made), str(recipes)
    run_claim(system, tmp_path, make_world, seeds=[0], world_seed=5, report=said.append)
    assert (made, in_process) == ([5], [("prior", "0"), ("long", "0"), ("short", "0")])
    assert len([line for line in said if "running" in line]) == 3
    assert not any("kept" in line for line in said)
    outcome = run_claim(system, tmp_path, make_world, seeds=[0, 1], world_seed=5, report=said.append)
    assert ["seed 0" in line for line in said if "kept, of commit" in line] == [True] * 3
    assert (made, in_process[3:]) == ([5, 6], [("prior", "1"), ("long", "1"), ("short", "1")])
    assert set(outcome.scores) == {"prior", "long", "short"}
    assert all(len(values) == 2 for scores in outcome.scores.values() for values in scores.values())
    assert min(outcome.scores["long"]["cost.parameters"]) > 10_000
    claim = load_claim(system)
    card = write_card(claim, outcome, tmp_path, command="occkit reproduce tiny")
    assert read_json(tmp_path / "tiny.json") == card
    assert set(card) == {
        *("claim", "arms", "seeds", "scores", "pass_lines", "command", "commit", "versions", "device"),
        *("wall_s", "cpu_s"),
    }
    assert set(card["arms"]) == {"long", "short"}
    assert card["arms"]["short"]["steps"] == 1
    better, fifty_times, at_least = card["pass_lines"]
    named = {"name", "kind", "metric", "arm", "baseline", "statement"}
    assert set(better) == named | {"value", "interval", "threshold", "met"}
    assert (better["kind"], at_least["kind"], at_least["baseline"]) == ("difference", "score", None)
    assert better["value"] == pytest.approx(
        np.mean(card["scores"]["long"]["semantickitti.iou"]) - np.mean(card["scores"]["short"]["semantickitti.iou"])
    )
    assert (fifty_times["met"], at_least["met"]) == (False, True)
    assert "**no**" in (tmp_path / "tiny.md").read_text()
    assert (tmp_path / "tiny.png").read_bytes()[:4] == b"\x89PNG"
    assert math.isfinite(card["cpu_s"])


def test_results_of_another_recipe_are_not_kept(
    recipes: Path,
    tiny_kitti: Path,
    tmp_path: Path,
    in_process: list[tuple[str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make_world, system = make_world_like(tiny_kitti, []), str(recipes)
    run_claim(system, tmp_path, make_world, seeds=[0], report=lambda line: None)
    claim = load_claim(system)
    changed = replace(claim.arms["short"](), steps=2)
    arms = {"long": claim.arms["long"], "short": lambda: changed}
    claimed(monkeypatch, replace(claim, arms=arms))
    outcome = run_claim(system, tmp_path, make_world, seeds=[0], report=lambda line: None)
    assert in_process[3:] == [("short", "0")]
    assert outcome.recipes["short"]["steps"] == 2
    claimed(monkeypatch, replace(claim, arms=arms, val_frames=1))
    fewer = run_claim(system, tmp_path, make_world, seeds=[0], report=lambda line: None)
    assert in_process[4:] == [("prior", "0"), ("long", "0"), ("short", "0")]
    assert fewer.recipes["short"]["max_val_frames"] == 1
    assert fewer.scores["prior"] != outcome.scores["prior"]
    assert fewer.scores["long"]["cost.train_s"] != outcome.scores["long"]["cost.train_s"], "trained anew"
    again = replace(claim, arms=arms, val_frames=1, protocols=("monoscene",))
    claimed(monkeypatch, again)
    other = run_claim(system, tmp_path, make_world, seeds=[0], report=lambda line: None)
    assert in_process[7:] == [("prior", "0"), ("long", "0"), ("short", "0")]
    assert other.scores["long"].keys().isdisjoint({"semantickitti.miou"})
    assert "monoscene.miou" in other.scores["long"]
    assert fewer.scores["long"]["cost.train_s"] == other.scores["long"]["cost.train_s"], "trained once"


def test_results_without_the_weights_that_others_start_from_are_run_again(
    recipes: Path, tiny_kitti: Path, tmp_path: Path, in_process: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a claim whose results are kept by version control, and whose runs are not."""
    make_world, system = make_world_like(tiny_kitti, []), str(recipes)
    claimed(monkeypatch, replace(load_claim(system), starts={"long": ("short",)}))
    run_claim(system, tmp_path, make_world, seeds=[0], report=lambda line: None)
    shutil.rmtree(tmp_path / "runs")
    run_claim(system, tmp_path, make_world, seeds=[0], report=lambda line: None)
    assert in_process == [("prior", "0"), ("short", "0"), ("long", "0")], "nobody is left who would start from them"
    (tmp_path / "results" / "long-0.json").unlink()
    run_claim(system, tmp_path, make_world, seeds=[0], report=lambda line: None)
    assert in_process[3:] == [("short", "0"), ("long", "0")]


def test_only_worlds_that_some_arm_still_needs_are_made(
    recipes: Path, tiny_kitti: Path, tmp_path: Path, in_process: list[tuple[str, str]]
) -> None:
    made: list[int] = []
    make_world = make_world_like(tiny_kitti, made)
    run_claim(str(recipes), tmp_path, make_world, seeds=[0], report=lambda line: None)
    shutil.rmtree(tmp_path / "worlds")
    run_claim(str(recipes), tmp_path, make_world, seeds=[0, 1], report=lambda line: None)
    assert made == [0, 1]
    assert {seed for _, seed in in_process[3:]} == {"1"}


def test_worlds_are_made_at_once_and_arms_wait_for_their_own(
    recipes: Path, tiny_kitti: Path, tmp_path: Path, in_process: list[tuple[str, str]]
) -> None:
    made: list[int] = []
    together = threading.Barrier(2, timeout=30)
    make_world = make_world_like(tiny_kitti, made)

    def make(world: World, seed: int, folder: Path) -> None:
        together.wait()
        make_world(world, seed, folder)

    run_claim(str(recipes), tmp_path, make, seeds=[0, 1], jobs=2, report=lambda line: None)
    assert sorted(made) == [0, 1]
    assert len(in_process) == 6


def test_the_commands_of_a_world_are_part_of_what_it_is() -> None:
    plain = World(scenes=2)
    assert "commands" not in world_identity(plain, 0), "results from before there were commands still count"
    labelled = replace(plain, commands=(("label", "--data", "{root}"),))
    identity = world_identity(labelled, 0)
    assert identity["commands"] == [["label", "--data", "{root}"]]
    assert json.loads(json.dumps(identity)) == identity


def test_commands_run_on_the_world_they_belong_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[list[str]] = []

    def run(command: list[str], *, stdout: IO[bytes], **_: object) -> subprocess.CompletedProcess[bytes]:
        ran.append(command[3:])
        stdout.write(f"{command[3]} says so\n".encode())
        stdout.flush()
        return subprocess.CompletedProcess(command, 1 if command[3] == "label" else 0)

    monkeypatch.setattr(subprocess, "run", run)
    world = World(scenes=2, commands=(("doctor", "{root}"), ("label", "--out", "{root}/labels"), ("never",)))
    told = r"world of seed 7 could not be made: occkit label --out .*/w/labels: failed .world says so / doctor says so"
    with pytest.raises(OcckitError, match=told):
        _make_world(world, 7, tmp_path / "w")
    assert (tmp_path / "7.txt").read_text().splitlines()[-1] == "label says so"
    assert [command[0] for command in ran] == ["world", "doctor", "label"]
    assert ran[1] == ["doctor", str(tmp_path / "w")]
    assert ran[0][-4:] == ["--seed", "7", "--out", str(tmp_path / "w")]


def test_what_one_claim_alone_needs_is_added_to_a_world_that_others_share(
    recipes: Path, tiny_kitti: Path, tmp_path: Path, in_process: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[list[str]] = []
    monkeypatch.setattr(claim_run, "run_logged", lambda command, log: ran.append([*command[3:], str(log)]))
    claim, made = load_claim(str(recipes)), list[int]()
    make_world, system = make_world_like(tiny_kitti, made), str(recipes)
    run_claim(system, tmp_path, make_world, seeds=[0], world_seed=5, report=lambda line: None)
    assert ran == []
    arms = {**claim.arms, "third": claim.arms["long"]}
    claimed(monkeypatch, replace(claim, arms=arms, commands=(("label", "--out", "{root}/labels"),)))
    run_claim(system, tmp_path, make_world, seeds=[0], world_seed=5, report=lambda line: None)
    assert made == [5], "the world is the other claim's"
    assert ran == [["label", "--out", f"{tmp_path}/worlds/5/labels", f"{tmp_path}/worlds/5.txt"]]
    assert in_process[3:] == [("third", "0")]
    run_claim(system, tmp_path, make_world, seeds=[0], world_seed=5, report=lambda line: None)
    assert len(ran) == 1, "no arm needs it any more"
    with pytest.raises(ConfigError, match=r"--out \{root\}"):
        replace(claim, commands=(("label", "--out", "labels"),))


def test_an_arm_that_reads_what_a_command_writes_is_run_again_when_the_command_changes(recipes: Path) -> None:
    claim = load_claim(str(recipes))
    plain = claim.arms["short"]()
    arms = {"plain": lambda: plain, "taught": lambda: replace(plain, data=replace(plain.data, labels="labels/k3"))}
    few, many = (
        replace(claim, arms=arms, lines=(), commands=(("label", "--out", "{root}/labels/k3", "--history", n),))
        for n in ("3", "9")
    )
    before = replace(few, commands=())
    assert arm_identity(few, "taught", 0, 5) != arm_identity(many, "taught", 0, 5)
    for arm in ("plain", "prior"):
        assert arm_identity(few, arm, 0, 5) == arm_identity(many, arm, 0, 5) == arm_identity(before, arm, 0, 5)
    other = replace(few, commands=(("label", "--out", "{root}/labels/k"),))
    assert arm_identity(other, "taught", 0, 5) == arm_identity(before, "taught", 0, 5), "a longer name is another's"


def test_depth_is_scored_where_a_claim_asks_for_it(
    recipes: Path, tiny_kitti: Path, tmp_path: Path, in_process: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = replace(load_claim(str(recipes)), depth=True)

    def make_world(world: World, seed: int, folder: Path) -> None:
        shutil.copytree(tiny_kitti, folder)
        ahead = np.array([[8.0, 0.0, 0.0, 0.5], [16.0, -3.0, 0.0, 0.5]], dtype=np.float32)
        for label in folder.rglob("*.label"):
            write_bytes(label.parents[1] / "velodyne" / f"{label.stem}.bin", ahead.tobytes())

    claimed(monkeypatch, replace(claim, depth=False))
    without = run_claim(str(recipes), tmp_path, make_world, seeds=[0], report=lambda line: None)
    claimed(monkeypatch, claim)
    outcome = run_claim(str(recipes), tmp_path, make_world, seeds=[0], report=lambda line: None)
    # The prior knows the row of both points: the lower median of 8 and 16 is wrong by half at one of them.
    assert outcome.scores["prior"]["depth.abs_rel"] == [pytest.approx(0.25)]
    assert "depth.abs_rel" not in outcome.scores["long"], "it renders no depth"
    assert outcome.scores["long"]["cost.train_gb"][0] >= 0
    assert in_process[3:] == [("prior", "0"), ("long", "0"), ("short", "0")]
    assert without.scores["long"]["cost.train_s"] == outcome.scores["long"]["cost.train_s"], "trained once"


def test_thresholds_are_chosen_where_a_claim_asks_for_it(
    recipes: Path, tiny_kitti: Path, tmp_path: Path, in_process: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = replace(load_claim(str(recipes)), threshold_frames=2)
    claimed(monkeypatch, claim)
    plain = run_claim(
        str(recipes), tmp_path / "a", make_world_like(tiny_kitti, []), seeds=[0], report=lambda line: None
    )
    assert "threshold" not in plain.scores["long"], "it has none"
    system = type(load_recipe(f"{recipes}:tiny").system.build())
    monkeypatch.setattr(system, "threshold", 0.5, raising=False)
    monkeypatch.setattr(system, "thresholds", (0.2, 0.4), raising=False)
    outcome = run_claim(
        str(recipes), tmp_path / "b", make_world_like(tiny_kitti, []), seeds=[0], report=lambda line: None
    )
    assert outcome.scores["long"]["threshold"] == [0.2], "the first of equals"
    with pytest.raises(ConfigError, match="threshold_frames must be at least 1"):
        replace(claim, threshold_frames=0)


def test_parts_are_scored_where_a_claim_asks_for_it(
    recipes: Path, tiny_kitti: Path, tmp_path: Path, in_process: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = replace(load_claim(str(recipes)), visibility=True)

    def make_world(world: World, seed: int, folder: Path) -> None:
        shutil.copytree(tiny_kitti, folder)
        for label in folder.rglob("*.label"):
            write_packed(label.with_suffix(".occluded"), np.indices((16, 16, 2)).sum(axis=0) % 2 > 0)

    claimed(monkeypatch, claim)
    outcome = run_claim(str(recipes), tmp_path, make_world, seeds=[0], report=lambda line: None)
    assert {"visible.miou", "occluded.miou", "outside.miou", "occluded.iou"} <= outcome.scores["long"].keys()
    write_card(claim, outcome, tmp_path / "card", command="x")
    table = (tmp_path / "card" / f"{claim.system}.md").read_text()
    assert "visible.miou, %" in table


def test_what_a_command_of_the_world_scored_is_a_row_beside_the_arms(
    recipes: Path, tiny_kitti: Path, tmp_path: Path, in_process: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = load_claim(str(recipes))
    line = Difference(arm="long", baseline="labels", metric="semantickitti.miou")
    claim = replace(plain, lines=(line,), reports={"labels": "labels.json"})

    def make_world(world: World, seed: int, folder: Path) -> None:
        make_world_like(tiny_kitti, [])(world, seed, folder)
        (folder / "labels.json").write_text(json.dumps({"semantickitti": {"miou": 0.25 + seed, "frames": 3}}))

    claimed(monkeypatch, plain)
    run_claim(str(recipes), tmp_path, make_world, seeds=[0, 1], report=lambda line: None)
    claimed(monkeypatch, claim)
    outcome = run_claim(str(recipes), tmp_path, make_world, seeds=[0, 1], report=lambda line: None)
    assert outcome.scores["labels"] == {"semantickitti.miou": [0.25, 1.25]}
    assert in_process[6:] == [("prior", "0"), ("prior", "1")], "trained arms are kept"
    shutil.rmtree(tmp_path / "worlds")
    again = run_claim(str(recipes), tmp_path, make_world, seeds=[0, 1], report=lambda line: None)
    assert again.scores["labels"] == outcome.scores["labels"], "kept with the prior"
    with pytest.raises(ConfigError, match="'long'"):
        replace(claim, reports={"long": "labels.json"})


def test_retrieval_is_scored_where_a_claim_asks_for_it(
    recipes: Path, tiny_kitti: Path, tmp_path: Path, in_process: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = load_claim(str(recipes))
    module = load_file(recipes)
    config = replace(plain.arms["short"]().system, dropout=0.0)
    wordy = replace(plain.arms["short"](), system=module.WordyConfig(**vars(config)))
    claim = replace(plain, arms={"wordy": lambda: wordy, "mute": plain.arms["short"]}, lines=(), retrieval=True)
    # Five points of a mailbox ten metres ahead, five of a road beyond.
    points = np.array([[10.0 if i < 5 else 40.0, i, 0.0, 0.5] for i in range(10)], dtype=np.float32)
    words = ["sky", "road", *LONG_TAIL]

    def make_world(world: World, seed: int, folder: Path) -> None:
        shutil.copytree(tiny_kitti, folder)
        write_json(folder / "truth" / "words.json", [{"name": word, "standing": 0} for word in words])
        for label in (folder / "sequences" / "08").rglob("*.label"):
            write_bytes(label.parents[1] / "velodyne" / f"{label.stem}.bin", points.tobytes())
            hit = np.repeat(np.array([words.index("mailbox"), words.index("road")], dtype=np.uint8), 5)
            write_npz(folder / "truth" / "08" / label.stem / "points.npz", words=hit)

    claimed(monkeypatch, replace(claim, retrieval=False))
    without = run_claim(str(recipes), tmp_path, make_world, seeds=[0], report=lambda line: None)
    claimed(monkeypatch, claim)
    outcome = run_claim(str(recipes), tmp_path, make_world, seeds=[0], report=lambda line: None)
    assert not any(name.startswith("retrieval") for name in without.scores["wordy"])
    assert outcome.scores["prior"]["retrieval.langocc.map"] == [0.5]
    assert outcome.scores["wordy"]["retrieval.langocc.map"] == [1.0]
    assert outcome.scores["wordy"]["retrieval.pop3d.prevalence"] == [0.5]
    assert "retrieval.pop3d.map_visible" in outcome.scores["wordy"]
    assert not any(name.startswith("retrieval") for name in outcome.scores["mute"]), "it knows no words"
    assert len(in_process) == 6
    assert without.scores["wordy"]["cost.train_s"] == outcome.scores["wordy"]["cost.train_s"], "trained once"


def test_a_field_that_came_since_does_not_make_another_recipe() -> None:
    now = recipe_to_json(lift.debug())
    then = json.loads(json.dumps(now))
    del then["recipe"]["max_labelled_frames"], then["recipe"]["data"]["teaching"]
    assert as_of_today(then) == now
    then["recipe"]["steps"] += 1
    assert as_of_today(then) != now
    assert as_of_today({"recipe": "?"}) == {"recipe": "?"}


def test_a_teacher_comes_first_and_teaches_in_its_world(
    recipes: Path, tiny_kitti: Path, tmp_path: Path, in_process: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = load_claim(str(recipes))
    claim = replace(plain, lesson=Lesson(teacher="short", folder="teaching/tiny"))
    claimed(monkeypatch, claim)
    make_world, out = make_world_like(tiny_kitti, []), tmp_path / "out"
    run_claim(str(recipes), out, make_world, seeds=[0, 1], report=lambda line: None)
    assert [arm for arm, _ in in_process] == ["prior", "short", "prior", "short", "long", "long"]
    for seed in (0, 1):
        written = list((out / f"worlds/{seed}/teaching/tiny").rglob("*.npz"))
        assert len(written) == 10
    # A world that was made again has nobody's teaching, which matters as long as somebody is to be taught.
    shutil.rmtree(out / "worlds/1/teaching")
    run_claim(str(recipes), out, make_world, seeds=[0, 1], report=lambda line: None)
    assert len(in_process) == 6
    (out / "results/long-1.json").unlink()
    run_claim(str(recipes), out, make_world, seeds=[0, 1], report=lambda line: None)
    assert in_process[6:] == [("short", "1"), ("long", "1")]
    # Students of another teacher are other students.
    taught = replace(claim.arms["short"](), steps=2)
    other = replace(claim, arms={"long": claim.arms["long"], "short": lambda: taught})
    claimed(monkeypatch, other)
    shutil.rmtree(out / "worlds")
    run_claim(str(recipes), out, make_world, seeds=[0], report=lambda line: None)
    assert in_process[8:] == [("short", "0"), ("long", "0")]


def test_a_teacher_speaks_about_the_frames_that_are_trained_on(
    recipes: Path, tiny_kitti: Path, tmp_path: Path, in_process: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = load_claim(str(recipes))
    arms = {name: (lambda make=make: replace(make(), max_train_frames=3)) for name, make in plain.arms.items()}
    claim = replace(plain, arms=arms, lesson=Lesson(teacher="short", folder="teaching/tiny"))
    claimed(monkeypatch, claim)
    run_claim(str(recipes), tmp_path, make_world_like(tiny_kitti, []), seeds=[0], report=lambda line: None)
    root = tmp_path / "worlds/0"
    written = {path.stem for path in (root / "teaching/tiny").glob("**/*.npz")}
    frames = open_dataset(root, split="train", config=DataConfig(load_depth=False)).spread(3)
    assert written == {Path(token).name for token in frames.tokens}


def finished_if_in(ran: list[tuple[str, int]]) -> Callable[..., dict[str, object] | None]:
    """Take for finished, with a result without scores, what was run."""

    def finished(claim: Claim, arm: str, seed: int, *rest: object) -> dict[str, object] | None:
        kept = {"wall_s": 0.0, "cpu_s": 0.0, "scores": {}, "device": "", "commit": None, "recipe": None}
        return kept if (arm, seed) in ran else None

    return finished


def test_nobody_waits_for_the_world_of_a_later_seed(
    recipes: Path, tiny_kitti: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first_is_done, ran = threading.Event(), list[tuple[str, int]]()

    def spawn(arguments: list[str], arm: str, seed: int, *rest: object) -> None:
        ran.append((arm, seed))
        if {(name, 0) for name in ("prior", "short", "long")} <= set(ran):
            first_is_done.set()

    plain_world = make_world_like(tiny_kitti, [])

    def make_world(world: World, seed: int, folder: Path) -> None:
        assert seed == 0 or first_is_done.wait(30), "the arms of seed 0 wait for the world of seed 1"
        plain_world(world, seed, folder)

    monkeypatch.setattr(claim_run, "_spawn", spawn)
    monkeypatch.setattr(claim_run, "finished_result", finished_if_in(ran))
    run_claim(str(recipes), tmp_path, make_world, seeds=[0, 1], jobs=2, report=lambda line: None)
    assert len(ran) == 6


def test_two_arms_that_end_together_are_told_one_after_the_other(
    recipes: Path, tiny_kitti: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    telling, ran, together = threading.Lock(), list[tuple[str, int]](), threading.Barrier(2)

    def spawn(arguments: list[str], arm: str, seed: int, *rest: object) -> None:
        ran.append((arm, seed))
        together.wait(30)

    def tell(line: str) -> None:
        assert telling.acquire(blocking=False), "two lines of a log would run into each other"
        time.sleep(0.05)
        telling.release()

    monkeypatch.setattr(claim_run, "_spawn", spawn)
    monkeypatch.setattr(claim_run, "finished_result", finished_if_in(ran))
    run_claim(str(recipes), tmp_path, make_world_like(tiny_kitti, []), seeds=[0, 1], jobs=2, report=tell)
    assert len(ran) == 6


def test_students_wait_for_the_teacher_of_their_own_seed_alone(
    recipes: Path, tiny_kitti: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = load_claim(str(recipes))
    make = plain.arms["long"]
    student = replace(make(), data=replace(make().data, teaching="teaching/tiny"))
    arms = {"student": lambda: student, **plain.arms}
    claim = replace(plain, arms=arms, lesson=Lesson(teacher="short", folder="teaching/tiny"))
    claimed(monkeypatch, claim)
    student_ran, ran = threading.Event(), list[tuple[str, int]]()

    def spawn(arguments: list[str], arm: str, seed: int, *rest: object) -> None:
        if (arm, seed) == ("short", 1):
            assert student_ran.wait(30), "the student of seed 0 waits for the teacher of seed 1"
        ran.append((arm, seed))
        if (arm, seed) == ("student", 0):
            student_ran.set()

    monkeypatch.setattr(claim_run, "_spawn", spawn)
    monkeypatch.setattr(claim_run, "finished_result", finished_if_in(ran))
    run_claim(str(recipes), tmp_path, make_world_like(tiny_kitti, []), seeds=[0, 1], jobs=2, report=lambda line: None)
    assert ran.index(("student", 1)) > ran.index(("short", 1)) > ran.index(("student", 0))
    assert ran.index(("long", 0)) < ran.index(("student", 0)), "who needs no teacher does not wait"


def test_a_teacher_must_be_an_arm(recipes: Path) -> None:
    with pytest.raises(ConfigError, match="the teacher 'nobody' is none of the arms"):
        replace(load_claim(str(recipes)), lesson=Lesson(teacher="nobody", folder="t"))


def test_an_arm_runs_in_a_process_of_its_own(recipes: Path, tiny_kitti: Path, tmp_path: Path) -> None:
    (tmp_path / "worlds").mkdir()
    (tmp_path / "worlds" / "0").symlink_to(tiny_kitti)
    claim_run._spawn([str(recipes), "short", "0", "0", str(tmp_path)], "short", 0, tmp_path, processes=1, threads=1)
    result = read_json(tmp_path / "results" / "short-0.json")
    assert result["recipe"]["recipe"]["name"] == "plain"
    assert result["scores"]["semantickitti.iou"] >= 0


def test_an_arm_that_fails_stops_the_claim_with_the_end_of_its_log(
    recipes: Path, tiny_kitti: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho one; echo the reason; exit 3\n")
    broken.chmod(0o755)
    monkeypatch.setattr(claim_run.sys, "executable", str(broken))
    started: list[str] = []
    plain_spawn = claim_run._spawn
    monkeypatch.setattr(claim_run, "_spawn", lambda *a: (started.append(a[1]), plain_spawn(*a)))
    with pytest.raises(OcckitError, match=r"arm prior, seed 0: failed .*the reason"):
        run_claim(str(recipes), tmp_path / "out", make_world_like(tiny_kitti, []), seeds=[0], report=print)
    assert started == ["prior"]


def test_what_a_killed_claim_left_running_keeps_others_out(recipes: Path, tmp_path: Path) -> None:
    orphan = """import sys; from pathlib import Path; from occkit.training import claim_run
with claim_run._alone_in(Path(sys.argv[1])):
    claim_run.run_logged(["sh", "-c", "echo $$; exec sleep 60"], Path(sys.argv[1]) / "log")"""
    parent = subprocess.Popen([sys.executable, "-c", orphan, str(tmp_path)])
    log = tmp_path / "log"
    while not (log.is_file() and log.read_text().strip()):
        assert parent.poll() is None
        time.sleep(0.05)
    parent.kill()
    parent.wait()
    with pytest.raises(DataError, match=r"another occkit reproduce is at work here.*wait until they have ended"):
        run_claim(str(recipes), tmp_path, make_world_like(tmp_path, []), seeds=[0])
    os.kill(int(log.read_text()), signal.SIGKILL)
    for _ in range(200):  # the lock goes with the process
        try:
            with claim_run._alone_in(tmp_path):
                return
        except DataError:
            time.sleep(0.05)
    pytest.fail("the folder stayed locked")


def test_a_system_may_claim_more_than_one_thing(recipes: Path) -> None:
    assert load_claim("radocc.effects").system == "radocc.effects"
    assert load_claim(f"{recipes}:claim").system == load_claim(str(recipes)).system == "tiny"
    with pytest.raises(ConfigError, match=r"no function nothing\(\)"):
        load_claim("radocc.nothing")


def test_a_system_without_a_claim_says_so(tmp_path: Path) -> None:
    (tmp_path / "empty.py").write_text("")
    with pytest.raises(ConfigError, match=r"no function claim\(\)"):
        load_claim(str(tmp_path / "empty.py"))
    with pytest.raises(ConfigError, match=r"there are .*lift"):
        load_claim("nothing")
