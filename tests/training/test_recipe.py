import itertools
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from occkit.data.frames import AugmentConfig, DataConfig
from occkit.errors import ConfigError
from occkit.training import (
    Constant,
    Cosine,
    OneCycle,
    OptimConfig,
    Recipe,
    Steps,
    Twice,
    build_system,
    load_recipe,
    recipe_from_json,
    recipe_to_json,
)
from occkit.training.optim import set_learning_rate
from occkit.training.recipe import load_file, override, recipes_in


@pytest.fixture
def recipe(recipes: Path) -> Recipe:
    return load_recipe(f"{recipes}:tiny")


def through_text(recipe: Recipe) -> dict[str, Any]:
    return json.loads(json.dumps(recipe_to_json(recipe)))


def test_a_file_is_loaded_once_and_its_recipes_are_found(recipes: Path) -> None:
    assert load_recipe(f"{recipes}:tiny") == load_recipe(f"{recipes}:tiny")
    assert set(recipes_in(load_file(recipes))) == {
        *("tiny", "accumulating", "slow", "plain", "plain_wide", "spare", "explodes")
    }


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("{file}:nothing", "tiny_recipes.py has accumulating"),
        ("{file}:claim", "claim is not declared as a recipe"),
        ("{file}", "has accumulating"),
        ("missing/file.py:tiny", "no such file"),
        ("lift.nothing_like_it", "nano"),
        ("nothing.nano", "the systems are"),
        ("lift", "SYSTEM.FUNCTION"),
        ("os.path", "the systems are"),
    ],
)
def test_a_wrong_name_says_which_recipes_there_are(recipes: Path, name: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        load_recipe(name.format(file=recipes))


def test_json_gives_the_same_recipe(recipe: Recipe, recipes: Path) -> None:
    variants = [
        recipe,
        replace(recipe, optim=OptimConfig(schedule=Constant(), clip_norm=None), precision="bf16"),
        replace(recipe, data=DataConfig(image_size=(8, 16), cameras=("a", "b"), augment=AugmentConfig())),
        replace(recipe, system=replace(recipe.system, head=load_file(recipes).OtherHead(widths=(1, 2, 3)))),  # type: ignore[type-var]
    ]
    for variant in variants:
        assert recipe_from_json(through_text(variant), code=recipes) == variant


def test_json_of_a_foreign_file_asks_for_that_file(recipe: Recipe, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"defined in tiny_recipes\.py"):
        recipe_from_json(through_text(recipe))
    with pytest.raises(ConfigError, match=r"defined in tiny_recipes\.py"):
        recipe_from_json(through_text(recipe), code=tmp_path / "other.py")


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        (("optim", "type"), "os.system", "not a dataclass"),
        (("optim", "type"), "occkit.training.checkpoint.shutil", "not a dataclass"),
        (("optim", "type"), "occkit.no.such.Thing", "there is no"),
        (("optim", "type"), "occkit.training.optim.Cosine", "expected OptimConfig"),
        (("optim", "type"), "occkit.training.recipe.load_recipe", "not a dataclass"),
        (("optim", "type"), "occkit.training.recipe.OptimConfig", "not a dataclass"),
        (("optim", "type"), None, "expected OptimConfig"),
        (("optim", "schedule"), {"type": "occkit.training.recipe.Recipe"}, "expected"),
        (("optim", "lr"), "fast", "optim.lr"),
        (("optim", "lr"), True, "optim.lr"),
        (("optim", "betas"), [0.9], "optim.betas"),
        (("optim", "unheard"), 1, "unheard"),
        (("steps",), 1.5, "steps"),
        (("steps",), [3], "steps"),
        (("steps",), 0, "steps"),
        (("precision",), "fp8", "precision"),
        (("system", "head"), {"type": "tiny_recipes.py:tiny"}, "not a dataclass"),
    ],
)
def test_json_makes_nothing_but_the_dataclasses_it_may(
    recipe: Recipe, recipes: Path, path: tuple[str, ...], value: Any, says: str
) -> None:
    document = through_text(recipe)
    inner = document["recipe"]
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    with pytest.raises(ConfigError, match=says):
        recipe_from_json(document, code=recipes)


def test_json_of_another_version_or_shape_is_refused() -> None:
    for document in ({}, {"format": 99, "recipe": {}}, {"format": 1}, {"format": 1, "recipe": 3}):
        with pytest.raises(ConfigError):
            recipe_from_json(document)


def test_fields_are_overridden_by_name(recipe: Recipe) -> None:
    changed = override(
        recipe,
        ["--optim.lr", "1e-4", "--steps", "7", "--system.channels", "9", "--optim.schedule.peak", "0.5"],
        prog="test",
    )
    assert (changed.optim.lr, changed.steps) == (1e-4, 7)
    assert changed.optim.schedule == OneCycle(peak=0.5)
    assert changed.system == replace(recipe.system, channels=9)  # type: ignore[type-var]
    assert replace(changed, optim=recipe.optim, steps=recipe.steps, system=recipe.system) == recipe
    assert override(recipe, [], prog="test") == recipe


@pytest.mark.parametrize("arguments", [["--optim.learning-rate", "1"], ["--steps", "many"], ["--system.nothing", "1"]])
def test_what_is_not_a_field_cannot_be_overridden(recipe: Recipe, arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as error:
        override(recipe, arguments, prog="test")
    assert error.value.code == 2


@pytest.mark.parametrize(
    "values",
    [
        {"steps": 0},
        {"ema_decay": 1.0},
        {"protocols": ()},
        {"accumulate": 0},
        {"max_val_frames": 0},
        {"labelled_share": 0.5},
        {"labelled_share": 1.5, "max_labelled_frames": 2},
    ],
)
def test_a_recipe_checks_its_values(recipe: Recipe, values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(values)) if "protocols" not in values else "protocol"):
        replace(recipe, **values)


def test_learning_rate_warms_up_and_falls() -> None:
    optim = OptimConfig(lr=1.0, warmup_steps=4, schedule=Cosine(final=0.1))
    rates = [optim.lr_at(step, 25) for step in range(25)]
    assert rates[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert rates[14] == pytest.approx(0.55)
    assert rates[-1] == pytest.approx(0.1)
    assert all(a > b for a, b in itertools.pairwise(rates[4:]))


def test_one_cycle_rises_to_its_peak() -> None:
    schedule = OneCycle(peak=0.25, initial=0.1, final=0.01)
    assert schedule.factor(0.0) == pytest.approx(0.1)
    assert schedule.factor(0.125) == pytest.approx(0.55)
    assert schedule.factor(0.25) == pytest.approx(1.0)
    assert schedule.factor(1.0) == pytest.approx(0.01)
    assert Constant().factor(0.3) == 1.0
    assert OptimConfig(lr=2.0).lr_at(0, 1) == 2.0


def test_a_schedule_twice_begins_again() -> None:
    optim = OptimConfig(lr=1.0, schedule=Twice(at=1 / 3, schedule=OneCycle(peak=0.5, initial=0.1, final=0.01)))
    rates = [optim.lr_at(step, 600) for step in range(600)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[199] == pytest.approx(0.01, abs=2e-3)
    assert rates[200] == pytest.approx(0.1, abs=2e-3)
    assert max(rates[:200]) == pytest.approx(1.0, abs=1e-3) == max(rates[200:])
    assert rates[-1] == pytest.approx(0.01)
    with pytest.raises(ConfigError, match="between 0 and 1"):
        Twice(at=1.0)


def test_steps_drop_at_their_points() -> None:
    schedule = Steps(at=(0.5, 10 / 12), drop=0.1)
    assert [schedule.factor(p) for p in (0.0, 0.49, 0.5, 0.83, 0.84, 1.0)] == pytest.approx(
        [1, 1, 0.1, 0.1, 0.01, 0.01]
    )


def test_groups_have_their_own_rate_and_biases_do_not_decay() -> None:
    module = nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.Linear(2, 2)})
    optimizer = OptimConfig(lr=1.0, lr_factors=(("a.", 0.1),)).build(module)
    set_learning_rate(optimizer, 2.0)
    found = {
        name: (group["lr"], group["weight_decay"])
        for name, parameter in module.named_parameters()
        for group in optimizer.param_groups
        if any(parameter is p for p in group["params"])
    }
    assert found == {"a.weight": (0.2, 0.01), "a.bias": (0.2, 0.0), "b.weight": (2.0, 0.01), "b.bias": (2.0, 0.0)}
    with pytest.raises(ConfigError, match="backbone"):
        OptimConfig(lr_factors=(("backbone.", 0.1),)).build(module)


def test_a_config_must_build_a_system() -> None:
    class Wrong:
        def build(self) -> nn.Module:
            return nn.Linear(1, 1)

    with pytest.raises(ConfigError, match=r"Wrong\.build"):
        build_system(Wrong())


def test_building_is_decided_by_torchs_random_state(recipe: Recipe) -> None:
    weights = []
    for _ in range(2):
        torch.manual_seed(3)
        weights.append(next(build_system(recipe.system).parameters()))
    assert torch.equal(*weights)
    assert not math.isnan(float(weights[0].detach().sum()))
