import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from occkit.errors import ConfigError, DataError, OcckitError
from occkit.files import read_json, write_json
from occkit.training import loop
from occkit.training.checkpoint import load_run, read_tensors
from occkit.training.evaluate import evaluate_model
from occkit.training.loop import train
from occkit.training.recipe import Recipe, load_recipe


def metrics(run: Path) -> list[dict[str, Any]]:
    """The lines of a run's metrics without the speeds, which no two runs share."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "frames_per_s"} for line in lines]


def assert_same_run(one: Path, other: Path) -> None:
    names = sorted(str(p.relative_to(one)) for p in one.rglob("*") if p.is_file())
    assert names == sorted(str(p.relative_to(other)) for p in other.rglob("*") if p.is_file())
    for name in names:
        if name not in ("metrics.jsonl", "environment.json"):
            assert (one / name).read_bytes() == (other / name).read_bytes(), name
    assert metrics(one) == metrics(other)


@pytest.fixture(scope="module")
def accumulating(recipes: Path, tiny_kitti: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Recipe, Path]:
    recipe = load_recipe(f"{recipes}:accumulating")
    run = tmp_path_factory.mktemp("runs") / "whole"
    assert train(recipe, tiny_kitti, run).finished
    return recipe, run


def test_a_run_folder_says_everything(accumulating: tuple[Recipe, Path], tiny_kitti: Path, recipes: Path) -> None:
    recipe, run = accumulating
    steps = [line for line in metrics(run) if "losses" in line]
    validations = {line["step"]: line["validation"]["semantickitti"] for line in metrics(run) if "validation" in line}
    assert [line["step"] for line in steps] == list(range(1, 13))
    assert steps[-1]["loss"] < steps[0]["loss"]
    assert set(steps[0]["losses"]) == {"entropy", "size"}
    assert list(validations) == [4, 8, 12]
    assert {"commit", "versions", "device", "seed", "threads", "processes"} <= set(read_json(run / "environment.json"))
    assert [p.name for p in (run / "state").iterdir()] == ["00000012"]
    best, _ = load_run(run, code=recipes)
    last, reread = load_run(run, weights="last", code=recipes)
    assert reread == recipe
    val_set = loop._frames(tiny_kitti, recipe, "val")
    scores = [evaluate_model(m, val_set, ["semantickitti"]).report()["semantickitti"]["miou"] for m in (best, last)]
    assert scores == [max(v["miou"] for v in validations.values()), validations[12]["miou"]]


def test_the_averaged_weights_are_the_ones_kept(accumulating: tuple[Recipe, Path]) -> None:
    _, run = accumulating
    state = run / "state" / "00000012"
    assert (run / "last.safetensors").read_bytes() == (state / "ema.safetensors").read_bytes()
    assert (run / "last.safetensors").read_bytes() != (state / "model.safetensors").read_bytes()


def test_ctrl_c_writes_the_state_and_resuming_ends_with_the_same_bits(
    accumulating: tuple[Recipe, Path], tiny_kitti: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, whole = accumulating
    plain_step = loop._Trainer.train_step

    def interrupted(self: Any, batches: Any) -> Any:
        if self.step == 4:
            signal.raise_signal(signal.SIGINT)
        return plain_step(self, batches)

    monkeypatch.setattr(loop._Trainer, "train_step", interrupted)
    before = signal.getsignal(signal.SIGINT)
    stopped = train(recipe, tiny_kitti, tmp_path / "run")
    assert (stopped.finished, stopped.step) == (False, 5)
    assert signal.getsignal(signal.SIGINT) is before
    monkeypatch.undo()
    with (tmp_path / "run" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 6, "loss": 0.0}\n{"step": 7, "lo')  # what a killed run may have left
    assert train(recipe, tiny_kitti, tmp_path / "run", resume=True).finished
    assert_same_run(whole, tmp_path / "run")


def test_resuming_remembers_the_best_score(accumulating: tuple[Recipe, Path], tiny_kitti: Path, tmp_path: Path) -> None:
    recipe, whole = accumulating
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    state = run / "state" / "00000012"
    info = read_json(state / "info.json")
    write_json(state / "info.json", info | {"step": 11, "best_score": 2.0})
    state.rename(run / "state" / "00000011")
    before = (run / "model.safetensors").read_bytes()
    result = train(recipe, tiny_kitti, run, resume=True)
    assert (result.finished, result.best_score) == (True, 2.0)
    assert (run / "model.safetensors").read_bytes() == before
    assert (run / "last.safetensors").read_bytes() != before


def test_killed_and_resumed_is_bit_equal_to_never_stopped(recipes: Path, tiny_kitti: Path, tmp_path: Path) -> None:
    recipe = load_recipe(f"{recipes}:slow")
    run = tmp_path / "killed"
    command = [sys.executable, "-m", "occkit.cli", "train", f"{recipes}:slow"]
    command += ["--data", str(tiny_kitti), "--out", str(run)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    child = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not (run / "state" / "00000005").is_dir() and time.monotonic() < deadline and child.poll() is None:
        time.sleep(0.005)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    reached = max(int(p.name) for p in (run / "state").glob("[0-9]*"))
    assert 5 <= reached < recipe.steps
    assert train(recipe, tiny_kitti, run, resume=True).finished
    assert train(recipe, tiny_kitti, tmp_path / "whole").finished
    assert_same_run(tmp_path / "whole", run)


def test_accumulated_gradients_are_those_of_the_larger_batch(recipes: Path, tiny_kitti: Path, tmp_path: Path) -> None:
    wide = load_recipe(f"{recipes}:plain_wide")
    train(wide, tiny_kitti, tmp_path / "wide")
    train(replace(wide, batch_size=2, accumulate=2), tiny_kitti, tmp_path / "twice")
    one, other = (read_tensors(tmp_path / name / "last.safetensors") for name in ("wide", "twice"))
    for name, tensor in one.items():
        torch.testing.assert_close(tensor, other[name], rtol=1e-4, atol=1e-5)
    # Adam does not see a constant factor of the gradient, its norm does.
    norms = [[line["grad_norm"] for line in metrics(tmp_path / name) if "losses" in line] for name in ("wide", "twice")]
    assert norms[0] == pytest.approx(norms[1], rel=1e-3)


def test_two_processes_agree_and_equal_one_with_the_doubled_batch(
    recipes: Path, tiny_kitti: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += [str(Path(__file__).with_name("two_processes.py")), str(recipes), str(tiny_kitti), str(tmp_path)]
    ended = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=120
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    for name in ("plain", "spare", "tiny"):
        first, second = ((tmp_path / f"{name}-{rank}.safetensors").read_bytes() for rank in (0, 1))
        assert first == second
        assert read_json(tmp_path / f"{name}-0.json") == read_json(tmp_path / f"{name}-1.json")
    wide = load_recipe(f"{recipes}:plain_wide")
    train(wide, tiny_kitti, tmp_path / "wide")
    one = read_tensors(tmp_path / "wide" / "last.safetensors")
    for name, tensor in read_tensors(tmp_path / "plain-0.safetensors").items():
        torch.testing.assert_close(tensor, one[name], rtol=1e-4, atol=1e-5)
    # Five frames over two processes: one is evaluated twice and counts once.
    model, recipe = load_run(tmp_path / "plain", weights="last", code=recipes)
    alone = evaluate_model(model, loop._frames(tiny_kitti, recipe, "val"), ["semantickitti"]).report()
    assert alone == read_json(tmp_path / "plain-0.json")
    assert alone["semantickitti"]["frames"] == 5
    together = [line["losses"]["entropy"] for line in metrics(tmp_path / "plain") if "losses" in line]
    single = [line["losses"]["entropy"] for line in metrics(tmp_path / "wide") if "losses" in line]
    assert together == pytest.approx(single, rel=1e-4)


def test_a_loss_that_is_not_finite_stops_the_run(recipes: Path, tiny_kitti: Path, tmp_path: Path) -> None:
    with pytest.raises(OcckitError, match=r"step \d+: the loss .* is not finite"):
        train(load_recipe(f"{recipes}:explodes"), tiny_kitti, tmp_path / "run")


def test_a_folder_in_use_is_not_overwritten(accumulating: tuple[Recipe, Path], tiny_kitti: Path) -> None:
    recipe, run = accumulating
    with pytest.raises(ConfigError, match=r"not empty.*--resume"):
        train(recipe, tiny_kitti, run)


def test_resuming_another_recipe_names_what_differs(accumulating: tuple[Recipe, Path], tiny_kitti: Path) -> None:
    recipe, run = accumulating
    changed = replace(recipe, seed=3, optim=replace(recipe.optim, lr=1.0))
    with pytest.raises(ConfigError, match=r"differs in optim\.lr, seed"):
        train(changed, tiny_kitti, run, resume=True)


def test_resuming_a_finished_run_leaves_it_as_it_is(
    accumulating: tuple[Recipe, Path], tiny_kitti: Path, tmp_path: Path
) -> None:
    recipe, run = accumulating
    shutil.copytree(run, tmp_path / "run")
    write_json(tmp_path / "run" / "environment.json", {"commit": "of then"})
    assert train(recipe, tiny_kitti, tmp_path / "run", resume=True).finished
    assert read_json(tmp_path / "run" / "environment.json") == {"commit": "of then"}
    assert metrics(tmp_path / "run") == metrics(run)


def test_resuming_nothing_is_an_error(accumulating: tuple[Recipe, Path], tiny_kitti: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no state"):
        train(accumulating[0], tiny_kitti, tmp_path / "new", resume=True)


@pytest.mark.skipif(torch.cuda.is_available(), reason="is about machines without a GPU")
def test_reduced_precision_needs_a_device_that_has_it(
    accumulating: tuple[Recipe, Path], tiny_kitti: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="bf16 needs a GPU"):
        train(replace(accumulating[0], precision="bf16"), tiny_kitti, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_fewer_frames_are_spread_evenly(accumulating: tuple[Recipe, Path], tiny_kitti: Path) -> None:
    recipe = replace(accumulating[0], max_train_frames=3, max_val_frames=100)
    whole = loop._frames(tiny_kitti, accumulating[0], "train").tokens
    chosen = loop._frames(tiny_kitti, recipe, "train")
    assert chosen.tokens == (whole[1], whole[5], whole[8])
    assert chosen[1].token == whole[5]
    assert len(loop._frames(tiny_kitti, recipe, "val")) == 5
