"""What is kept of a claim's arms, where, and what must be the same for it to count again.

Below the output folder: `worlds/<seed>/`, `runs/<arm>-<seed>/` (training runs), `results/<arm>-<seed>.json`, `logs/`.
"""

import importlib
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

from occkit.data.teaching import DESCRIPTION
from occkit.errors import ConfigError
from occkit.files import read_json
from occkit.training.claim import PRIOR, Claim, World
from occkit.training.recipe import Recipe, available_systems, load_file
from occkit.training.recipe_json import as_of_today, recipe_to_json
from occkit.training.start import newest_weights


def load_claim(system: str) -> Claim:
    """Return a claim of a system.

    Args:
        system: name of a system of occkit, or the path of a Python file with a function `claim() -> Claim`. Another
            claim than that one is `radocc.effects`, or `file.py:effects`.

    Raises:
        ConfigError: if there is no such system or it claims nothing.
    """
    if ".py" in system:
        file, _, name = system.partition(":")
        module = load_file(Path(file))
    else:
        known, _, name = system.partition(".")
        if known not in available_systems():
            raise ConfigError(f"system {system!r}: there are {', '.join(available_systems())}; or give a FILE.py")
        module = importlib.import_module(f"occkit.systems.{known}")
    function = getattr(module, name or "claim", None)
    claim = function() if callable(function) else None
    if not isinstance(claim, Claim):
        raise ConfigError(
            f"system {system!r} claims nothing: {module.__file__} has no function {name or 'claim'}() -> Claim"
        )
    return claim


def arm_identity(claim: Claim, arm: str, seed: int, world_seed: int) -> dict[str, Any]:
    """Return what must be unchanged for a kept result to count."""
    recipe = None if arm == PRIOR else recipe_to_json(arm_recipe(claim, arm, seed))
    world = world_identity(claim.world, world_seed + seed)
    identity: dict[str, Any] = {
        "arm": arm,
        "seed": seed,
        "recipe": recipe,
        "world": world,
        "protocols": list(claim.protocols),
    }
    read = [command for command in claim.commands if _names(recipe, _written(command))]
    if read:
        identity["commands"] = [list(command) for command in read]
    if claim.depth:
        identity["depth"] = True
    if claim.reports and arm == PRIOR:
        identity["reports"] = dict(claim.reports)
    if claim.retrieval:
        identity["retrieval"] = True
    if claim.visibility:
        identity["visibility"] = True
    if claim.judging is not None and claim.judges(arm):
        own = {**asdict(claim.judging), "arms": None, "told": arm in claim.judging.told}
        identity["judging"] = json.loads(json.dumps(own))
        identity["reader"] = arm_identity(claim, claim.judging.reader, seed, world_seed)
    if claim.threshold_frames is not None:
        identity["threshold_frames"] = claim.threshold_frames
    if claim.val_frames is not None:
        identity["val_frames"] = claim.val_frames
    if claim.starts.get(arm):
        earlier = claim.starts[arm]
        # How the drawings of an earlier arm are judged changes nothing of what is learnt from it.
        judged = ("judging", "reader")
        whole = {name: arm_identity(claim, name, seed, world_seed) for name in earlier}
        identity["starts"] = {n: {k: v for k, v in one.items() if k not in judged} for n, one in whole.items()}
    if claim.lesson is not None and arm != PRIOR:
        taught_by = recipe_to_json(arm_recipe(claim, claim.lesson.teacher, seed))
        identity["lesson"] = {**asdict(claim.lesson), "recipe": taught_by}
    return identity


def _written(command: tuple[str, ...]) -> str:
    return command[command.index("--out") + 1].removeprefix("{root}/")


def _names(value: Any, folder: str) -> bool:
    """Return whether a recipe, or a value in it, names a folder below the world, or what lies in it."""
    if isinstance(value, dict):
        return any(_names(one, folder) for one in cast("dict[str, Any]", value).values())
    if isinstance(value, list):
        return any(_names(one, folder) for one in cast("list[Any]", value))
    return isinstance(value, str) and (value == folder or value.startswith(f"{folder}/"))


def arm_recipe(claim: Claim, arm: str, seed: int) -> Recipe:
    """Return the recipe of an arm with a seed."""
    recipe = replace(claim.arms[arm](), seed=seed)
    return recipe if claim.val_frames is None else replace(recipe, max_val_frames=claim.val_frames)


def finished_result(claim: Claim, arm: str, seed: int, world_seed: int, out: Path) -> dict[str, Any] | None:
    """Return the kept result of an arm and seed if it still counts, else None.

    That of a teacher counts if it has taught in the world that is there, or if nobody is left to be taught; that of an
    arm whose weights others need, if these are there, or if no other is left to run.
    """
    path = result_path(out, arm, seed)
    if not path.is_file():
        return None
    result = refreshed(read_json(path))
    wanted = arm_identity(claim, arm, seed, world_seed)
    if any(result.get(key) != value for key, value in wanted.items()):
        return None

    def waits(other: str) -> bool:
        return finished_result(claim, other, seed, world_seed, out) is None

    needing = [other for other in claim.arms if arm in (*claim.starts.get(other, ()), *claim.judges(other))]
    if not newest_weights(run_path(out, arm, seed)).is_file() and any(waits(other) for other in needing):
        return None  # results may have come here without the runs behind them
    if claim.lesson is not None and arm == claim.lesson.teacher:
        lessons = world_folder(out, world_seed + seed) / claim.lesson.folder / DESCRIPTION
        if not lessons.is_file() and any(waits(other) for other in claim.arms if other != arm):
            return None  # the world was made again since, and nobody has taught there
    return result


def refreshed(kept: Any) -> dict[str, Any]:
    """Return what was kept of a run, its recipes as of today."""
    fresh: dict[str, Any] = dict(kept)
    if fresh.get("recipe") is not None:
        fresh["recipe"] = as_of_today(fresh["recipe"])
    if isinstance(fresh.get("starts"), dict):
        fresh["starts"] = {name: refreshed(one) for name, one in fresh["starts"].items()}
    if isinstance(fresh.get("reader"), dict):
        fresh["reader"] = refreshed(fresh["reader"])
    if isinstance(fresh.get("lesson"), dict):
        fresh["lesson"] = fresh["lesson"] | {"recipe": as_of_today(fresh["lesson"].get("recipe"))}
    return fresh


def world_identity(world: World, seed: int) -> dict[str, Any]:
    """Return what must be unchanged for a world to count."""
    commands = [list(command) for command in world.commands]
    described = {**asdict(world), "options": list(world.options), "commands": commands, "seed": seed}
    # Worlds that were made before there were commands are still what they were.
    return described if commands else {key: value for key, value in described.items() if key != "commands"}


def world_folder(out: Path, seed: int) -> Path:
    """Return where the world of a seed lies."""
    return out / "worlds" / str(seed)


def result_path(out: Path, arm: str, seed: int) -> Path:
    """Return where the result of an arm and seed lies."""
    return out / "results" / f"{arm}-{seed}.json"


def run_path(out: Path, arm: str, seed: int) -> Path:
    """Return the run folder of an arm and seed."""
    return out / "runs" / f"{arm}-{seed}"


def log_path(out: Path, arm: str, seed: int) -> Path:
    """Return where what an arm and seed print lies."""
    return out / "logs" / f"{arm}-{seed}.txt"
