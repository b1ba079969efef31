"""What every file in `occkit/systems` promises, checked on its `debug()` recipe. There is no skip list."""

import dataclasses
import importlib
import json

import pytest
import torch

from occkit.samples import Batch, Prediction, collate
from occkit.taxonomy import TAXONOMIES
from occkit.training.checkpoint import from_pretrained, save_pretrained
from occkit.training.claim_results import load_claim
from occkit.training.recipe import Recipe, available_systems, load_recipe, recipes_in
from occkit.training.recipe_json import recipe_from_json, recipe_to_json
from occkit.training.system import build_system, conditional_parameters, losses, predict

SYSTEMS = available_systems()
RECIPES = [
    f"{system}.{name}" for system in SYSTEMS for name in recipes_in(importlib.import_module(f"occkit.systems.{system}"))
]
STEPS = 8
"""Optimiser steps on one batch after which the loss must have fallen."""


@pytest.fixture(params=SYSTEMS)
def recipe(request) -> Recipe:
    return load_recipe(f"{request.param}.debug")


@pytest.fixture
def module(recipe):
    torch.manual_seed(recipe.seed)
    return build_system(recipe.system)


@pytest.fixture
def batches(recipe, make_sample):
    """Return a function that makes the batch of the frames with the given seeds, as the recipe's data would be."""
    assert recipe.data.image_size is not None, "debug() must fix the image size, so that any data will do"

    def make(*seeds: int) -> Batch:
        return collate(
            [
                make_sample(
                    grid=recipe.system.grid,
                    taxonomy=TAXONOMIES[recipe.system.taxonomy],
                    size=recipe.data.image_size,
                    num_frames=1 + recipe.data.num_past,
                    num_sources=len(recipe.data.source_steps),
                    num_rays=recipe.data.feature_rays,
                    seed=seed,
                )
                for seed in seeds
            ]
        )

    return make


def total(module, prediction, batch):
    return torch.stack(list(losses(module, prediction, batch).values())).sum()


def test_there_are_systems_and_each_has_its_recipes():
    assert SYSTEMS
    for system in SYSTEMS:
        names = recipes_in(importlib.import_module(f"occkit.systems.{system}"))
        assert {"debug", "nano"} <= names.keys(), system


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_called_by_its_name_and_survives_json(name):
    recipe = load_recipe(name)
    assert recipe.name == name
    assert recipe_from_json(json.loads(json.dumps(recipe_to_json(recipe)))) == recipe


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_system_claims_something_about_its_own_recipes(system):
    claim = load_claim(system)
    assert claim.system == system
    assert claim.lines
    assert {arm().name for arm in claim.arms.values()} <= set(RECIPES)


def test_prediction_has_a_score_for_every_voxel_and_class(recipe, module, batches):
    batch = batches(0, 1)
    prediction = predict(module, batch)
    assert isinstance(prediction, Prediction)
    assert prediction.logits.shape == (2, batch.taxonomy.num_classes, *batch.grid.shape)
    assert (prediction.grid, prediction.taxonomy) == (batch.grid, batch.taxonomy)
    assert prediction.logits.isfinite().all()


def test_inference_needs_no_labels(recipe, module, batches):
    module.eval()
    batch = batches(0)
    teaching = ("occupancy", "depth", "points", "captions", "teaching", "segments", "image_semantics", "feature_rays")
    bare = dataclasses.replace(batch, **dict.fromkeys((*teaching, "sources", "source_cameras")))
    with torch.no_grad():
        assert torch.equal(predict(module, bare).logits, predict(module, batch).logits)


def test_losses_are_finite_scalars_and_every_parameter_gets_a_gradient(recipe, module, batches):
    batch = batches(0, 1)
    named = losses(module, predict(module, batch), batch)
    assert named
    for name, value in named.items():
        assert value.shape == (), name
        assert value.isfinite(), name
        assert value.requires_grad, name
    torch.stack(list(named.values())).sum().backward()
    listed = conditional_parameters(module)
    without = [n for n, p in module.named_parameters() if p.requires_grad and p.grad is None]
    assert [n for n in without if not n.startswith(listed)] == []
    wrong = [n for n, p in module.named_parameters() if p.grad is not None and not p.grad.isfinite().all()]
    assert wrong == []


def test_a_few_steps_lower_the_loss(recipe, module, batches):
    batch = batches(0, 1)
    optimizer = recipe.optim.build(module)
    module.train()
    values = []
    for _ in range(STEPS):
        loss = total(module, predict(module, batch), batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        values.append(loss.item())
    assert min(values[-2:]) < 0.95 * values[0], values


def test_a_saved_model_predicts_the_same(recipe, module, batches, tmp_path):
    batch = batches(0)
    save_pretrained(module, recipe, tmp_path / "model")
    again, read = from_pretrained(tmp_path / "model")
    module.eval()
    with torch.no_grad():
        assert torch.equal(predict(again, batch).logits, predict(module, batch).logits)
    assert read == recipe


def test_a_batch_of_two_is_two_of_one(recipe, module, batches):
    module.eval()
    with torch.no_grad():
        together = predict(module, batches(0, 1)).logits
        apart = torch.cat([predict(module, batches(seed)).logits for seed in (0, 1)])
    assert torch.allclose(together, apart, atol=1e-4, rtol=1e-4)


def test_the_same_seed_builds_the_same_network(recipe):
    states = []
    for _ in range(2):
        torch.manual_seed(3)
        states.append(build_system(recipe.system).state_dict())
    assert all(torch.equal(a, b) for a, b in zip(states[0].values(), states[1].values(), strict=True))
