"""Weights and training state on disk: safetensors and JSON, never a pickle.

A model folder, and a run, hold `recipe.json` and `model.safetensors`. A run also holds `last.safetensors` and
`state/<step>/` with everything that resuming needs; such a folder appears by one rename, complete or not at all.
"""

import hashlib
import json
import re
import shutil
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from occkit.errors import ConfigError, DataError
from occkit.files import read_json, write_bytes, write_json
from occkit.training.model_card import CARD_FILE, collect_facts, write_model_card
from occkit.training.recipe import Recipe
from occkit.training.recipe_json import recipe_from_json, recipe_to_json
from occkit.training.system import build_system

RECIPE_FILE = "recipe.json"
"""The recipe of a run or model folder."""
WEIGHTS_FILE = "model.safetensors"
"""The weights to use: of a run the best validated ones, averaged (EMA) if the recipe says so."""
RIGS_FOLDER = "rigs"
"""The cameras of a training frame, a rig a time, in a run."""
SHIPPED = Path(__file__).parents[1] / "shipped"
"""Models that come with occkit, a folder each; `make weights` trains them."""
LAST_FILE = "last.safetensors"
"""The newest weights of a run, averaged if the recipe says so."""


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write named tensors as safetensors; same tensors, same bytes."""
    # Clones, because safetensors refuses tensors that share memory, as tied weights do.
    plain = {name: tensors[name].detach().cpu().contiguous().clone() for name in sorted(tensors)}
    write_bytes(path, save(plain))


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read named tensors from a safetensors file.

    Raises:
        DataError: if the file is missing or not safetensors.
    """
    if not path.is_file():
        raise DataError(path, "no such file", "check the folder; weights are kept as safetensors")
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError, struct.error) as error:
        raise DataError(path, f"not a readable safetensors file ({error})", "copy or train it again") from error


def load_weights(module: nn.Module, path: Path) -> None:
    """Fill a module from a safetensors file.

    Raises:
        DataError: naming the first weights that are missing, unknown or of another shape.
    """
    fill_weights(module, read_tensors(path), path, remedy="use the recipe that the weights were trained with")


def fill_weights(module: nn.Module, tensors: Mapping[str, Tensor], path: Path, *, remedy: str) -> None:
    """Fill a module with named tensors that were read from a file.

    Raises:
        DataError: naming the file, the first weights that are missing, unknown or of another shape, and the remedy.
    """
    own = module.state_dict()
    missing = [name for name in own if name not in tensors]
    unknown = [name for name in tensors if name not in own]
    shapes = [
        f"{name}: {tuple(tensors[name].shape)} instead of {tuple(own[name].shape)}"
        for name in own
        if name in tensors and tensors[name].shape != own[name].shape
    ]
    if missing or unknown or shapes:
        raise DataError(
            path,
            f"does not fit the model: missing {missing[:3]}, unknown {unknown[:3]}, wrong shape {shapes[:3]}",
            remedy,
        )
    module.load_state_dict(tensors)


def save_pretrained(
    model: nn.Module, recipe: Recipe, folder: Path | str, *, run: Path | None = None, license: str | None = None
) -> None:
    """Write a model folder: `recipe.json`, `model.safetensors` and a model card, `README.md`.

    Args:
        model: its weights are written.
        recipe: of the model.
        folder: where to.
        run: the run the model comes from; the card takes its numbers, data and machine from there.
        license: of the weights, an identifier of the hub such as "apache-2.0".

    Raises:
        ConfigError: if the licence is no identifier.
        DataError: if a file of the run is damaged.
    """
    folder = Path(folder)
    document = recipe_to_json(recipe)
    facts = collect_facts(document, sum(t.numel() for t in model.state_dict().values()), run, license=license)
    write_json(folder / RECIPE_FILE, document)
    write_tensors(folder / WEIGHTS_FILE, model.state_dict())
    write_bytes(folder / CARD_FILE, write_model_card(facts).encode())


def from_pretrained(
    name: Path | str, *, code: Path | None = None, device: torch.device | str = "cpu"
) -> tuple[nn.Module, Recipe]:
    """Build a model in evaluation mode from a model folder, a run, a shipped model or one of the Hugging Face hub.

    Args:
        name: a folder, a name of `shipped_models()`, or a hub id `owner/model`; looked for in this order.
        code: the user's own recipe file, if the model's classes come from one; see `recipe_from_json`.
        device: where to put the model.

    Raises:
        DataError: if a file is missing or damaged, or the weights do not fit the recipe.
        ConfigError: if the recipe cannot be read, or `name` is none of these.
    """
    folder = Path(name) if Path(name).is_dir() else find_model(name)
    return load_run(folder or _download(str(name)), code=code, device=device)


def shipped_models() -> tuple[str, ...]:
    """Return the names of the small models that come with occkit, trained on a generated world."""
    return tuple(sorted(path.parent.name for path in SHIPPED.glob(f"*/{RECIPE_FILE}")))


def find_model(name: Path | str) -> Path | None:
    """Return the folder of a run, model folder or shipped model on this machine; None if that is no such thing."""
    if Path(name).exists():
        return Path(name) if (Path(name) / RECIPE_FILE).is_file() else None
    return SHIPPED / str(name) if str(name) in shipped_models() else None


def open_recipe(name: Path | str, *, code: Path | None = None) -> tuple[str, Recipe]:
    """Return where a model is, for another process's `from_pretrained`, and its recipe; no model is built.

    Args:
        name: as in `from_pretrained`; what is on the hub is fetched.
        code: as in `from_pretrained`.

    Returns:
        The absolute path of a folder, or the name as it is: other machines have or fetch their own.

    Raises:
        DataError: if the folder has no recipe.
        ConfigError: as `from_pretrained`.
    """
    folder = Path(name)
    if folder.is_dir():
        return str(folder.absolute()), read_recipe(folder, code=code)
    return str(name), read_recipe(find_model(name) or _download(str(name)), code=code)


def load_run(
    run: Path | str,
    *,
    weights: Literal["best", "last"] = "best",
    code: Path | None = None,
    device: torch.device | str = "cpu",
) -> tuple[nn.Module, Recipe]:
    """Build the model of a training run or model folder, in evaluation mode.

    Args:
        run: the folder.
        weights: those that validated best (the last ones where there was no validation), or the last ones; averaged
            ones where the recipe has `ema_decay`.
        code: the user's own recipe file, if the model's classes come from one; see `recipe_from_json`.
        device: where to put the model.

    Raises:
        DataError: if a file is missing or damaged, or the weights do not fit the recipe.
        ConfigError: if the recipe cannot be read.
    """
    run = Path(run)
    if not run.is_dir():
        raise DataError(run, "no such folder", "expected the folder that `occkit train --out` wrote")
    recipe = read_recipe(run, code=code)
    model = build_system(recipe.system)
    load_weights(model, run / (WEIGHTS_FILE if weights == "best" else LAST_FILE))
    return model.to(device).eval(), recipe


def read_recipe(folder: Path, *, code: Path | None = None) -> Recipe:
    """Read the `recipe.json` of a run or model folder.

    Raises:
        DataError: if it is missing or cannot be read.
    """
    path = folder / RECIPE_FILE
    if not path.is_file():
        raise DataError(
            folder, f"has no {RECIPE_FILE}", "expected a run of `occkit train` or a folder of save_pretrained"
        )
    try:
        return recipe_from_json(read_json(path), code=code)
    except ConfigError as error:
        raise DataError(path, str(error), "use the version of occkit that wrote it") from error


def _download(name: str) -> Path:
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        shipped = ", ".join(shipped_models())
        raise ConfigError(
            f"{name}: expected a folder with {RECIPE_FILE}, a model that comes with occkit ({shipped}), or a hub id "
            "such as owner/model"
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, allow_patterns=[RECIPE_FILE, WEIGHTS_FILE]))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise ConfigError(f"{name}: there is no such folder, and the hub gave nothing either ({error})") from error


def write_state(folder: Path, step: int, groups: Mapping[str, Mapping[str, Tensor]], info: Mapping[str, Any]) -> None:
    """Write `folder/<step>/`, whole or not at all, and remove older ones.

    Args:
        folder: `state` of a run.
        step: number of optimiser steps done.
        groups: file name without suffix -> named tensors.
        info: JSON values, written as `info.json`.
    """
    final, partial = folder / f"{step:08d}", folder / ".partial"
    if final.is_dir():
        return
    shutil.rmtree(partial, ignore_errors=True)
    for name, tensors in groups.items():
        write_tensors(partial / f"{name}.safetensors", tensors)
    write_json(partial / "info.json", {"step": step, **info})
    partial.rename(final)
    for older in _states(folder)[:-1]:
        shutil.rmtree(older, ignore_errors=True)


def read_state(folder: Path) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
    """Read the newest state that `write_state` wrote: its groups of tensors and its info.

    Raises:
        DataError: if there is none, or it is damaged.
    """
    states = _states(folder)
    if not states:
        raise DataError(folder, "has no state to resume from", "start again without --resume, in a new folder")
    groups = {path.stem: read_tensors(path) for path in sorted(states[-1].glob("*.safetensors"))}
    return groups, read_json(states[-1] / "info.json")


def _states(folder: Path) -> list[Path]:
    return sorted(p for p in folder.glob("*") if p.is_dir() and re.fullmatch(r"\d{8,}", p.name))


def pack_optimizer(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return an optimiser's running values as named tensors, `<parameter index>.<value>`.

    Learning rates and other options are not part of it: they follow from the recipe and the step.
    """
    state: dict[int, dict[str, Tensor]] = optimizer.state_dict()["state"]
    return {f"{index}.{name}": torch.as_tensor(v) for index, values in state.items() for name, v in values.items()}


def unpack_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Give an optimiser the running values that `pack_optimizer` returned."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        index, _, name = key.partition(".")
        state.setdefault(int(index), {})[name] = tensor.clone()  # load_state_dict would share it
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def truncate_lines(path: Path, last_step: int) -> None:
    """Drop the lines of a `metrics.jsonl` that belong to steps after `last_step`, and a last line that was cut off."""
    kept: list[str] = []
    for line in path.read_text().splitlines() if path.is_file() else []:
        try:
            if json.loads(line)["step"] <= last_step:
                kept.append(line)
        except (ValueError, KeyError, TypeError):
            continue
    write_bytes(path, "".join(line + "\n" for line in kept).encode())


def fingerprint(model: nn.Module) -> str:
    """Return the SHA-256 of a model's weights and buffers, in the order of their names."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
