from dataclasses import replace
from pathlib import Path

import huggingface_hub
import pytest
import torch
from torch import nn

from occkit.errors import ConfigError, DataError
from occkit.files import read_json, write_json
from occkit.training import build_system, load_recipe
from occkit.training.checkpoint import (
    find_model,
    from_pretrained,
    load_run,
    open_recipe,
    pack_optimizer,
    read_state,
    read_tensors,
    save_pretrained,
    shipped_models,
    truncate_lines,
    unpack_optimizer,
    write_state,
    write_tensors,
)
from occkit.training.ema import Ema
from occkit.training.recipe import Recipe


@pytest.fixture
def recipe(recipes: Path) -> Recipe:
    return load_recipe(f"{recipes}:tiny")


def test_a_model_folder_gives_the_model_back(recipe: Recipe, recipes: Path, tmp_path: Path) -> None:
    model = build_system(recipe.system)
    save_pretrained(model, recipe, tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["README.md", "model.safetensors", "recipe.json"]
    again, reread = from_pretrained(tmp_path, code=recipes)
    assert reread == recipe
    assert not again.training
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name])


def test_a_hub_id_is_downloaded(recipe: Recipe, recipes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_pretrained(build_system(recipe.system), recipe, tmp_path)
    asked: list[str] = []

    def snapshot_download(name: str, *, allow_patterns: list[str]) -> str:
        asked.append(name)
        assert allow_patterns == ["recipe.json", "model.safetensors"]
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    assert from_pretrained("someone/tiny", code=recipes)[1] == recipe
    assert asked == ["someone/tiny"]
    with pytest.raises(ConfigError, match="hub id"):
        from_pretrained(tmp_path / "not there" / "at all", code=recipes)


def test_a_shipped_model_is_known_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "lift-nano" in shipped_models()
    for name in shipped_models():
        folder = find_model(name)
        assert folder is not None
        assert sum(path.stat().st_size for path in folder.iterdir()) < 4e6
        assert "license: apache-2.0" in (folder / "README.md").read_text()
        model, recipe = from_pretrained(name)
        assert not model.training
        assert recipe.name.startswith(name.partition("-")[0])
        assert open_recipe(name) == (name, recipe)
    with pytest.raises(ConfigError, match=r"comes with occkit \(.*lift-nano"):
        from_pretrained("lift-nanu")
    (tmp_path / "lift-nano").mkdir()  # a folder of one's own comes first
    assert find_model("lift-nano") is None
    with pytest.raises(DataError, match="has no recipe"):
        from_pretrained("lift-nano")


def test_damaged_and_foreign_weights_are_named(recipe: Recipe, recipes: Path, tmp_path: Path) -> None:
    save_pretrained(build_system(recipe.system), recipe, tmp_path)
    path = tmp_path / "model.safetensors"
    whole = path.read_bytes()
    for damaged in (b"", whole[:6], whole[:-5], b"\xff" * 40, b"\x80\x04pickle"):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match="safetensors"):
            load_run(tmp_path, code=recipes)
    wide = build_system(replace(recipe.system, channels=9))  # type: ignore[type-var]
    write_tensors(path, wide.state_dict())
    with pytest.raises(DataError, match=r"wrong shape .*9.* instead of"):
        load_run(tmp_path, code=recipes)
    write_tensors(path, {"other": torch.zeros(1)})
    with pytest.raises(DataError, match=r"unknown .*other"):
        load_run(tmp_path, code=recipes)
    path.unlink()
    with pytest.raises(DataError, match="no such file"):
        load_run(tmp_path, code=recipes)


def test_damaged_recipes_are_named(recipe: Recipe, recipes: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no recipe\.json"):
        load_run(tmp_path)
    with pytest.raises(DataError, match="no such folder"):
        load_run(tmp_path / "missing")
    save_pretrained(build_system(recipe.system), recipe, tmp_path)
    document = read_json(tmp_path / "recipe.json")
    document["recipe"]["steps"] = -1
    write_json(tmp_path / "recipe.json", document)
    with pytest.raises(DataError, match="steps must be at least 1"):
        load_run(tmp_path, code=recipes)


def test_tied_and_strided_tensors_come_back(tmp_path: Path) -> None:
    base = torch.arange(6.0).reshape(2, 3)
    write_tensors(tmp_path / "t.safetensors", {"a": base, "b": base, "c": base.T})
    found = read_tensors(tmp_path / "t.safetensors")
    assert torch.equal(found["a"], base)
    assert torch.equal(found["b"], base)
    assert torch.equal(found["c"], base.T)


def test_only_the_newest_state_is_kept_and_a_half_written_one_is_not_seen(tmp_path: Path) -> None:
    state = tmp_path / "state"
    for step in (5, 100_000_000):
        write_state(state, step, {"model": {"w": torch.full((2,), float(step))}}, {"note": step})
    (state / ".partial").mkdir()
    (state / ".partial" / "info.json").write_text("{")
    groups, info = read_state(state)
    assert info == {"step": 100_000_000, "note": 100_000_000}
    assert groups["model"]["w"].tolist() == [1e8, 1e8]
    assert len(list(state.glob("[0-9]*"))) == 1
    write_state(state, 100_000_001, {"model": {}}, {})
    assert read_state(state)[1]["step"] == 100_000_001


def test_an_optimizer_goes_on_where_it_was() -> None:
    def steps(module: nn.Module, optimizer: torch.optim.Optimizer, count: int) -> None:
        for _ in range(count):
            optimizer.zero_grad()
            module(torch.ones(1, 3)).square().sum().backward()
            optimizer.step()

    torch.manual_seed(0)
    one, other = nn.Linear(3, 2), nn.Linear(3, 2)
    first, second = torch.optim.AdamW(one.parameters()), torch.optim.AdamW(other.parameters())
    steps(one, first, 3)
    other.load_state_dict(one.state_dict())
    unpack_optimizer(second, pack_optimizer(first))
    steps(one, first, 2)
    steps(other, second, 2)
    assert torch.equal(one.weight, other.weight)


def test_the_average_follows_its_formula() -> None:
    module = nn.BatchNorm1d(1)
    ema = Ema(module, decay=0.5)
    module.weight.data.fill_(3.0)
    module.num_batches_tracked.fill_(7)
    ema.update(module)  # decay min(0.5, 1/10)
    assert float(ema.average["weight"]) == pytest.approx(0.1 * 1 + 0.9 * 3)
    assert int(ema.average["num_batches_tracked"]) == 7
    for _ in range(20):
        ema.update(module)
    before = float(ema.average["weight"])
    module.weight.data.fill_(0.0)
    ema.update(module)  # decay min(0.5, 22/31)
    assert float(ema.average["weight"]) == pytest.approx(before / 2)
    with ema.applied(module):
        assert float(module.weight.detach()) == pytest.approx(before / 2)
    assert float(module.weight.detach()) == 0.0


def test_metrics_are_cut_back_to_a_step(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"step": 2, "validation": {}}\nnonsense\n{"step": 3}\n{"ste')
    truncate_lines(path, 2)
    assert path.read_text() == '{"step": 1}\n{"step": 2}\n{"step": 2, "validation": {}}\n'
