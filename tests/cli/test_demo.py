import json
from dataclasses import replace

import pytest

from occkit import cli
from occkit.cli import demo as command
from occkit.training.recipe import load_recipe

MAKE_PLAN = command.make_plan


def small_plan(args):
    """The demo with a tiny world and twenty steps of a tiny network."""
    plan = MAKE_PLAN(replace(args, fast=False))
    recipe = replace(load_recipe("lift.debug"), evaluate_every=None, seed=args.seed)
    return replace(plan, world=replace(plan.world, frames=3), num_scenes=3, recipe=recipe, num_shown=1)


@pytest.fixture(scope="module", autouse=True)
def small():
    """Let the long form be short."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command, "make_plan", lambda args: MAKE_PLAN(args) if args.fast else small_plan(args))
        yield


@pytest.fixture(scope="module")
def demo(tmp_path_factory, small):
    out = tmp_path_factory.mktemp("demo") / "out"
    assert cli.main(["demo", "--out", str(out)]) == 0
    return out


def test_fast_trains_nothing_and_beats_the_prior(tmp_path, capsys):
    out = tmp_path / "out"
    assert cli.main(["demo", "--fast", "--out", str(out)]) == 0
    assert not (out / "run").exists()
    scores = json.loads((out / "evaluation.json").read_text())["occ3d"]
    assert scores["miou"] > 1.5 * scores["constant_prior"]["miou"]
    page = (out / "report.html").read_text()
    assert "comes with occkit" in page
    assert "occkit view lift-nano --data" in page
    assert page.count("<section>") == 4, "nothing was trained, so there is no curve"
    kept = (out / "report.html").stat().st_mtime_ns
    assert cli.main(["demo", "--fast", "--out", str(out)]) == 0
    assert (out / "report.html").stat().st_mtime_ns == kept
    assert cli.main(["demo", "--out", str(out)]) == 1
    assert "other settings" in capsys.readouterr().err


def test_demo_leaves_world_run_numbers_pictures_and_page(demo):
    assert (demo / "world" / "annotations.json").is_file()
    assert (demo / "run" / "model.safetensors").is_file()
    scores = json.loads((demo / "evaluation.json").read_text())
    assert scores["occ3d"]["frames"] == scores["rayiou"]["constant_prior"]["frames"] == 3
    assert 0 < scores["occ3d"]["constant_prior"]["iou"] < 1
    page = (demo / "report.html").read_text()
    assert f"{100 * scores['occ3d']['constant_prior']['miou']:.1f}" in page
    assert "http" not in page
    assert page.count("<section>") == 5
    assert page.count("<img") == 17  # six cameras twice, two perspectives, three from above
    assert 'href="scene_1.html"' in page
    assert "__VISER_EMBED_DATA__" in (demo / "scene_1.html").read_text()
    assert len(list((demo / "pictures").iterdir())) == 7


def test_second_call_uses_what_is_there(demo, capsys):
    kept = [demo / "run" / "model.safetensors", demo / "evaluation.json", demo / "report.html"]
    before = [p.stat().st_mtime_ns for p in kept[1:]]
    assert cli.main(["demo", "--out", str(demo)]) == 0
    assert [p.stat().st_mtime_ns for p in kept[1:]] == before
    printed = capsys.readouterr().out
    assert f"report: {demo / 'report.html'}" in printed
    assert "prior" in printed


def test_another_demo_or_a_folder_of_other_things_is_refused(demo, tmp_path, capsys):
    assert cli.main(["demo", "--seed", "1", "--out", str(demo)]) == 1
    (tmp_path / "mine.txt").write_text("mine")
    assert cli.main(["demo", "--out", str(tmp_path)]) == 1
    assert "is not empty" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


def test_half_a_training_without_state_is_begun_again(demo, tmp_path):
    plan = small_plan(command.Args(out=tmp_path))
    run = tmp_path / "run"
    run.mkdir()
    (run / "recipe.json").write_text("{}")
    assert command._train(plan, demo / "world", run) == plan.recipe.steps
    assert command._train(plan, demo / "world", run) == 0
