"""Recipes, the training loop, checkpoints, evaluation and claims.

Only the light half is exported here; `loop`, `evaluate`, `checkpoint` and `claim` are imported by name.
"""

from occkit.training.optim import Constant, Cosine, OneCycle, OptimConfig, Steps, Twice
from occkit.training.recipe import Recipe, load_recipe
from occkit.training.recipe_json import recipe_from_json, recipe_to_json
from occkit.training.system import System, SystemConfig, build_system

__all__ = [
    "Constant",
    "Cosine",
    "OneCycle",
    "OptimConfig",
    "Recipe",
    "Steps",
    "System",
    "SystemConfig",
    "Twice",
    "build_system",
    "load_recipe",
    "recipe_from_json",
    "recipe_to_json",
]
