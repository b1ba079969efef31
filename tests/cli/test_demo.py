import json

import pytest

from occkit import cli


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    out = tmp_path_factory.mktemp("demo") / "out"
    assert cli.main(["demo", "--fast", "--out", str(out)]) == 0
    return out


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
    assert cli.main(["demo", "--fast", "--out", str(demo)]) == 0
    assert [p.stat().st_mtime_ns for p in kept[1:]] == before
    printed = capsys.readouterr().out
    assert f"report: {demo / 'report.html'}" in printed
    assert "prior" in printed


def test_another_demo_or_a_folder_of_other_things_is_refused(demo, tmp_path, capsys):
    assert cli.main(["demo", "--fast", "--seed", "1", "--out", str(demo)]) == 1
    (tmp_path / "mine.txt").write_text("mine")
    assert cli.main(["demo", "--fast", "--out", str(tmp_path)]) == 1
    assert "is not empty" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


def test_half_a_training_without_state_is_begun_again(demo, tmp_path):
    from occkit.cli.demo import Args, _train, make_plan

    plan = make_plan(Args(out=tmp_path, fast=True))
    run = tmp_path / "run"
    run.mkdir()
    (run / "recipe.json").write_text("{}")
    assert _train(plan, demo / "world", run) == plan.recipe.steps
    assert _train(plan, demo / "world", run) == 0
