"""A run as one frozen value, and how its name on the command line finds the function that makes it."""

import hashlib
import importlib
import importlib.util
import inspect
import pkgutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Literal

from occkit.data.frames import DataConfig
from occkit.errors import ConfigError
from occkit.training.optim import OptimConfig
from occkit.training.system import SystemConfig


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that decides the outcome of a training run, except for the data's folder and the machine.

    A recipe is made by a function without parameters; a variant calls it and uses `dataclasses.replace`.
    """

    name: str
    """What the run is called, such as "lift.nano"."""
    system: SystemConfig
    """The method and all of its choices."""
    data: DataConfig
    """How frames are read: image size, past frames, augmentation."""
    optim: OptimConfig = field(default_factory=OptimConfig)
    """Optimiser, learning rate and clipping."""
    steps: int
    """Optimiser steps."""
    batch_size: int = 1
    """Frames of one process in one forward pass; a step sees `batch_size * accumulate * processes` frames."""
    accumulate: int = 1
    """Forward passes whose gradients are averaged into one step."""
    ema_decay: float | None = None
    """Decay a step of the moving average of the weights, which is then what is validated and kept; None = none."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Arithmetic of the forward pass; the reduced ones need a GPU."""
    start: tuple[str, ...] = ()
    """Folders whose weights the training starts from, one after the other: runs or model folders, and whatever else the
    system can read. What no folder has starts freshly."""
    seed: int = 0
    """Decides the initial weights, the order of the frames, augmentation and dropout."""
    evaluate_every: int | None = None
    """Steps between validations, and one more at the end; None = never."""
    save_every: int = 1000
    """Steps between states to resume from; one more is written at each validation and at the end."""
    protocols: tuple[str, ...] = ("occ3d",)
    """Evaluation protocols of a validation; the main figure of the first decides which weights are best."""
    max_train_frames: int | None = None
    """Use only so many frames of the training split, evenly spread; None = all."""
    max_labelled_frames: int | None = None
    """Show the labels of only so many of these, evenly spread, as if the others had none; None = all."""
    labelled_share: float | None = None
    """Deal labelled frames and the others in turns, this share of them labelled; 1 leaves the others out. None deals
    all alike."""
    max_val_frames: int | None = None
    """Use only so many frames of the validation split, evenly spread; None = all."""
    num_workers: int = 2
    """Threads of each process that read frames ahead; 0 reads in between. Changes speed, never the outcome."""

    def __post_init__(self) -> None:
        counts = ("steps", "batch_size", "accumulate", "evaluate_every", "save_every")
        for name in (*counts, "max_train_frames", "max_labelled_frames", "max_val_frames"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"recipe {self.name}: {name} must be at least 1, got {value}")
        if self.ema_decay is not None and not 0 < self.ema_decay < 1:
            raise ConfigError(f"recipe {self.name}: ema_decay must lie between 0 and 1, got {self.ema_decay}")
        if self.labelled_share is not None and not (0 < self.labelled_share <= 1 and self.max_labelled_frames):
            raise ConfigError(
                f"recipe {self.name}: labelled_share must lie in (0, 1] and needs max_labelled_frames, got "
                f"{self.labelled_share} of {self.max_labelled_frames}"
            )
        if self.evaluate_every is not None and not self.protocols:
            raise ConfigError(f"recipe {self.name}: evaluate_every needs at least one protocol")


RecipeFunction = Callable[[], Recipe]


def load_recipe(name: str) -> Recipe:
    """Call the function that makes a recipe.

    Args:
        name: `system.function`, such as "lift.nano" for `occkit.systems.lift.nano`, or `path/to/file.py:function`.

    Raises:
        ConfigError: if there is no such file, system or function; says which recipes there are.
    """
    return recipe_function(name)()


def recipe_function(name: str) -> RecipeFunction:
    """Return the function behind the name of a recipe; see `load_recipe`."""
    path, colon, function = name.rpartition(":")
    if colon and path.endswith(".py"):
        module = load_file(Path(path))
    elif name.endswith(".py"):
        raise _unknown(name, "the function is missing", load_file(Path(name)))
    else:
        system, dot, function = name.rpartition(".")
        if not dot or system not in available_systems():
            raise ConfigError(
                f"recipe {name!r}: expected SYSTEM.FUNCTION or FILE.py:FUNCTION; the systems are "
                f"{', '.join(available_systems()) or '(none)'}"
            )
        module = importlib.import_module(f"occkit.systems.{system}")
    found = recipes_in(module).get(function)
    if found is None:
        what = f"there is no recipe {function!r}"
        if callable(getattr(module, function, None)):
            what = f"{function} is not declared as a recipe, `def {function}() -> Recipe:`"
        raise _unknown(name, what, module)
    return found


def available_systems() -> tuple[str, ...]:
    """Return the names of the systems that come with occkit, without importing them."""
    package = importlib.import_module("occkit.systems")
    return tuple(sorted(m.name for m in pkgutil.iter_modules(package.__path__) if not m.name.startswith("_")))


def recipes_in(module: ModuleType) -> dict[str, RecipeFunction]:
    """Return the recipe functions of a module by name: public, annotated `-> Recipe`, callable without arguments."""
    found: dict[str, RecipeFunction] = {}
    for name, function in inspect.getmembers(module, inspect.isfunction):
        if name.startswith("_") or function.__annotations__.get("return") not in (Recipe, "Recipe"):
            continue
        parameters = inspect.signature(function).parameters.values()
        if all(p.default is not p.empty or p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in parameters):
            found[name] = function
    return found


def load_file(path: Path) -> ModuleType:
    """Import a Python file that the user named; the same file gives the same module.

    Raises:
        ConfigError: if it does not exist.
    """
    path = path.resolve()
    if not path.is_file():
        raise ConfigError(f"{path}: no such file; expected FILE.py:FUNCTION, or SYSTEM.FUNCTION for a system of occkit")
    # Two files may share a stem, and dataclasses look their module up in sys.modules.
    name = f"{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{path}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def override(recipe: Recipe, arguments: Sequence[str], *, prog: str) -> Recipe:
    """Return the recipe with fields replaced from the command line, such as `--optim.lr 1e-4`.

    Only fields that the recipe has can be named, with the types that they have. A field that is one of several kinds
    keeps its kind. Wrong usage ends the program with status 2, as on any command line.
    """
    import tyro  # here, because a program that trains from Python needs no command line

    return tyro.cli(type(recipe), default=recipe, args=list(arguments), prog=prog, config=(tyro.conf.AvoidSubcommands,))


def _unknown(name: str, problem: str, module: ModuleType) -> ConfigError:
    names = ", ".join(recipes_in(module)) or "(none: a recipe is a function annotated `-> Recipe` without parameters)"
    return ConfigError(f"recipe {name!r}: {problem}; {module.__file__} has {names}")
