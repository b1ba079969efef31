"""Weights of guests, loaded through transformers (extra `hf`): safetensors only, and whole or not at all."""

import importlib
from collections.abc import Sequence
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, TypeVar, cast

from occkit.errors import ConfigError

T = TypeVar("T")


def on_device(config: T, device: str) -> T:
    """Return the settings of a guest with every `device` in them, its parts' too, set to this one."""
    changes: dict[str, object] = {}
    for place in fields(cast(Any, config)):
        value = getattr(config, place.name)
        if place.name == "device":
            changes["device"] = device
        elif is_dataclass(value) and not isinstance(value, type):
            moved = on_device(value, device)
            if moved != value:
                changes[place.name] = moved
    return replace(cast(Any, config), **changes) if changes else config


def load_model(
    guest: str,
    weights: str,
    *,
    loader: str,
    kinds: Sequence[str],
    local: bool = False,
    fetch: str = "",
    unneeded: str = "",
) -> Any:
    """Load a model, in float32 whatever it is stored in.

    Args:
        guest: who asks, for messages.
        weights: folder or hub id with `config.json` and safetensors.
        loader: class of transformers whose `from_pretrained` loads it.
        kinds: what `model_type` in `config.json` may be.
        local: take a folder only and never ask the hub.
        fetch: what to fetch, and how; ends every message.
        unneeded: tensors whose names start so may be missing; nobody reads what becomes of them.

    Raises:
        ConfigError: if transformers is not installed, or the weights are missing, damaged, of another kind or
            incomplete.
    """
    model_kind(guest, weights, kinds=kinds, local=local, fetch=fetch)
    library, source = _transformers(guest), _source(guest, weights, local=local, fetch=fetch)
    try:
        model, report = getattr(library, loader).from_pretrained(
            source, output_loading_info=True, use_safetensors=True, local_files_only=local
        )
    except Exception as error:
        # Damage is answered with a dozen unrelated exceptions.
        raise _unloadable(guest, weights, error, kinds=kinds, local=local, fetch=fetch) from error
    missing = sorted(name for name in report["missing_keys"] if not unneeded or not name.startswith(unneeded))
    if missing:
        raise ConfigError(
            f"{guest}: weights {weights!r} lack {len(missing)} tensors, first {missing[0]}{_ending(fetch)}"
        )
    return model.float()


def model_kind(guest: str, weights: str, *, kinds: Sequence[str], local: bool = False, fetch: str = "") -> str:
    """Return the `model_type` that `config.json` names; arguments as in `load_model`.

    Raises:
        ConfigError: if transformers is not installed, `config.json` is missing or damaged, or the type is none of
            `kinds`.
    """
    library, source = _transformers(guest), _source(guest, weights, local=local, fetch=fetch)
    try:
        kind = library.PreTrainedConfig.get_config_dict(source, local_files_only=local)[0].get("model_type")
    except Exception as error:
        raise _unloadable(guest, weights, error, kinds=kinds, local=local, fetch=fetch) from error
    if kind not in kinds:
        raise ConfigError(
            f"{guest}: weights {weights!r}: expected a config.json of type {' or '.join(kinds)}, "
            f"got {kind or 'none'}{_ending(fetch)}"
        )
    return kind


def load_processor(guest: str, weights: str, *, loader: str, local: bool = False, fetch: str = "") -> Any:
    """Load what prepares images and words for a model; arguments as in `load_model`.

    Raises:
        ConfigError: if it is not there, damaged, or needs a package that is not installed.
    """
    library, source = _transformers(guest), _source(guest, weights, local=local, fetch=fetch)
    try:
        return getattr(library, loader).from_pretrained(source, local_files_only=local)
    except Exception as error:
        raise ConfigError(
            f"{guest}: the processor of {weights!r} cannot be loaded: {error}; save it beside the weights with "
            f"save_pretrained{_ending(fetch)}"
        ) from error


def _transformers(guest: str) -> Any:
    try:
        return importlib.import_module("transformers")
    except ImportError as error:
        raise ConfigError(
            f'{guest}: needs the package transformers, which is not installed -- pip install "occkit[hf]"'
        ) from error


def _source(guest: str, weights: str, *, local: bool, fetch: str) -> str:
    folder = Path(weights).expanduser()
    if folder.is_dir():
        return str(folder)
    if local:
        raise ConfigError(
            f"{guest}: weights {weights!r} are no folder; save a model there with save_pretrained{_ending(fetch)}"
        )
    # A misspelt folder must not become a question to the hub.
    if folder.is_absolute() or weights.startswith(".") or weights.count("/") != 1 or folder.parent.is_dir():
        raise ConfigError(f"{guest}: weights {weights!r} cannot be loaded: there is no such folder{_ending(fetch)}")
    return weights


def _unloadable(
    guest: str, weights: str, error: Exception, *, kinds: Sequence[str], local: bool, fetch: str
) -> ConfigError:
    place = "folder" if local else "folder or hub id"
    return ConfigError(
        f"{guest}: weights {weights!r} cannot be loaded: {error}; give a {place} of type {' or '.join(kinds)} that "
        f"has safetensors{_ending(fetch)}"
    )


def _ending(fetch: str) -> str:
    return f"; {fetch}" if fetch else ""
