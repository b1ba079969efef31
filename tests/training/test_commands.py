"""`occkit train`, `evaluate` and `reproduce` through their door."""

import subprocess
import sys
from pathlib import Path

import pytest

from occkit.cli import main
from occkit.cli import reproduce as reproduce_command
from occkit.files import read_json
from occkit.training import claim_run
from occkit.training.checkpoint import load_run
from occkit.training.claim_arm import run_arm
from occkit.training.evaluate import write_predictions
from occkit.training.loop import _frames


@pytest.fixture(scope="module")
def run(recipes: Path, tiny_kitti: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    command = ["train", f"{recipes}:tiny", "--data", str(tiny_kitti), "--out", str(folder), "--steps", "4"]
    assert main([*command, "--optim.lr", "0.1", "--evaluate-every", "2"]) == 0
    return folder


@pytest.mark.parametrize("command", ["train", "evaluate", "reproduce"])
def test_help_does_without_torch(command: str) -> None:
    program = (
        "import sys\nfrom occkit.cli import main\ntry:\n    main([sys.argv[1], '--help'])\n"
        "except SystemExit as end:\n    assert not end.code\nassert 'torch' not in sys.modules"
    )
    ended = subprocess.run([sys.executable, "-c", program, command], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert f"usage: occkit {command}" in ended.stdout


def test_overrides_are_in_the_archived_recipe(run: Path, recipes: Path) -> None:
    _, recipe = load_run(run, code=recipes)
    assert (recipe.steps, recipe.optim.lr, recipe.evaluate_every, recipe.name) == (4, 0.1, 2, "tiny")


def test_help_of_a_recipe_lists_its_fields(recipes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", f"{recipes}:tiny", "--help"]) == 0
    shown = capsys.readouterr().out
    for field in ("--optim.schedule.peak", "--system.head.scale", "--batch-size", "--data.num-past"):
        assert field in shown


def test_failures_are_one_line_with_status_1(
    run: Path, recipes: Path, tiny_kitti: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["train", f"{recipes}:tiny", "--data", str(tiny_kitti), "--out", str(run)]
    assert main(command) == 1
    assert capsys.readouterr().err.count("\n") == 1
    assert main([*command, "--resume"]) == 1
    assert "differs in" in capsys.readouterr().err
    assert main(["train", "lift.nothing", "--data", "x", "--out", "y"]) == 1
    assert main(["evaluate", str(run), "--data", str(tiny_kitti), "--protocol", "nothing", "--code", str(recipes)]) == 1
    assert "monoscene" in capsys.readouterr().err


def test_evaluate_run_and_dump_agree(
    run: Path, recipes: Path, tiny_kitti: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, protocols = ["--code", str(recipes)], ["--protocol", "semantickitti", "monoscene"]
    direct, dumped, tree = (tmp_path / f"{name}.json" for name in ("direct", "dumped", "tree"))
    model, recipe = load_run(run, code=recipes)
    write_predictions(model, _frames(tiny_kitti, recipe, "val"), tmp_path / "dump", progress=False)
    data = ["--data", str(tiny_kitti)]
    options = ["--explain", "--per-class", "--json"]
    assert main(["evaluate", str(run), *data, *protocols, *code, *options, str(direct)]) == 0
    shown = capsys.readouterr().out
    for text in ("semantickitti", "car", "zero", "none", "5 frames"):
        assert text in shown
    dump = ["--predictions", str(tmp_path / "dump")]
    assert main(["evaluate", *dump, *data, *protocols, "--json", str(dumped)]) == 0
    labels = ["--labels", str(tiny_kitti / "sequences" / "08")]
    assert main(["evaluate", *dump, *labels, *protocols, "--json", str(tree)]) == 0
    assert read_json(direct) == read_json(dumped) == read_json(tree)
    assert 0 < read_json(direct)["semantickitti"]["iou"] <= 1
    (tmp_path / "dump" / "08_000001.npz").unlink()
    assert main(["evaluate", *dump, *labels, *protocols]) == 1
    assert main(["evaluate", *dump, *labels, *protocols, "--allow-missing"]) == 0
    assert "1 of 5 labelled frames have no prediction" in capsys.readouterr().out


def test_the_prior_stands_beside_a_generated_worlds_scores(
    run: Path, recipes: Path, tiny_kitti: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "sequences").symlink_to(tiny_kitti / "sequences")
    (tmp_path / "captions.json").write_text("{}")
    file = tmp_path / "figures.json"
    command = ["evaluate", str(run), "--data", str(tmp_path), "--protocol", "semantickitti", "--code", str(recipes)]
    assert main([*command, "--json", str(file)]) == 0
    assert "prior" in capsys.readouterr().out
    assert read_json(file)["semantickitti"]["constant_prior"]["iou"] > 0


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["run", "--predictions", "p", "--data", "d"],
        ["run"],
        ["run", "--labels", "l"],
        ["--predictions", "p", "--data", "d", "--origins", "o"],
        ["--predictions", "p", "--data", "d", "--labels", "l"],
    ],
)
def test_wrong_usage_of_evaluate_is_status_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", *arguments]) == 2
    assert "occkit evaluate: " in capsys.readouterr().err


def test_reproduce_writes_the_card(
    recipes: Path,
    tiny_kitti: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def make_world(world: object, seed: int, folder: Path) -> None:
        folder.mkdir(parents=True)
        (folder / "sequences").symlink_to(tiny_kitti / "sequences")

    def spawn(arguments: list[str], *rest: object) -> None:
        system, arm, seed, world_seed, out = arguments
        run_arm(system, arm, int(seed), int(world_seed), Path(out))

    monkeypatch.setattr(reproduce_command, "_make_world", make_world)
    monkeypatch.setattr(claim_run, "_spawn", spawn)
    assert main(["reproduce", str(recipes), "--seeds", "2", "--out", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "FAILS" in shown
    assert "holds" in shown
    assert read_json(tmp_path / "tiny.json")["command"].endswith(f"--seeds 2 --out {tmp_path}")
    assert main(["reproduce", "nothing"]) == 1
    assert main(["reproduce", str(recipes), "--jobs", "0"]) == 1


def test_a_world_is_made_through_the_same_door(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from occkit.training.claim import World

    commands: list[list[str]] = []

    monkeypatch.setattr("occkit.training.claim_run.run_logged", lambda command, _: commands.append(command))
    world = World(format="semantickitti", preset="kitti-nano", scenes=3, options=("--frames", "4"))
    reproduce_command._make_world(world, 7, tmp_path / "world")
    expected = "-m occkit.cli world --format semantickitti --preset kitti-nano --scenes 3 --seed 7"
    assert commands[0][1:] == [*expected.split(), "--out", str(tmp_path / "world"), "--frames", "4"]
