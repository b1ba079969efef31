"""Weights of guests, loaded through transformers (extra `hf`): safetensors only, and whole or not at all."""

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from occkit.errors import ConfigError


def load_model(guest: str, weights: str, *, loader: str, kinds: Sequence[str], local: bool = False) -> Any:
    """Load a model.

    Args:
        guest: who asks, for messages.
        weights: folder or hub id with `config.json` and safetensors.
        loader: class of transformers whose `from_pretrained` loads it.
        kinds: what `model_type` in `config.json` may be.
        local: take a folder only and never ask the hub.

    Raises:
        ConfigError: if transformers is not installed, or the weights are missing, damaged, of another kind or
            incomplete.
    """
    library, source = _transformers(guest), _source(guest, weights, local=local)
    try:
        kind = library.PreTrainedConfig.get_config_dict(source, local_files_only=local)[0].get("model_type")
        if kind not in kinds:
            raise ConfigError(
                f"{guest}: weights {weights!r}: expected a config.json of type {' or '.join(kinds)}, "
                f"got {kind or 'none'}"
            )
        model, report = getattr(library, loader).from_pretrained(
            source, output_loading_info=True, use_safetensors=True, local_files_only=local
        )
    except ConfigError:
        raise
    except Exception as error:
        # Damage is answered with a dozen unrelated exceptions.
        place = "folder" if local else "folder or hub id"
        raise ConfigError(
            f"{guest}: weights {weights!r} cannot be loaded: {error}; give a {place} of type {' or '.join(kinds)} that "
            "has safetensors"
        ) from error
    missing = sorted(report["missing_keys"])
    if missing:
        raise ConfigError(f"{guest}: weights {weights!r} lack {len(missing)} tensors, first {missing[0]}")
    return model


def load_processor(guest: str, weights: str, *, loader: str, local: bool = False) -> Any:
    """Load what prepares images and words for a model; arguments as in `load_model`.

    Raises:
        ConfigError: if it is not there, damaged, or needs a package that is not installed.
    """
    library, source = _transformers(guest), _source(guest, weights, local=local)
    try:
        return getattr(library, loader).from_pretrained(source, local_files_only=local)
    except Exception as error:
        raise ConfigError(
            f"{guest}: the processor of {weights!r} cannot be loaded: {error}; save it beside the weights with "
            "save_pretrained"
        ) from error


def _transformers(guest: str) -> Any:
    try:
        return importlib.import_module("transformers")
    except ImportError as error:
        raise ConfigError(
            f'{guest}: needs the package transformers, which is not installed -- pip install "occkit[hf]"'
        ) from error


def _source(guest: str, weights: str, *, local: bool) -> str:
    folder = Path(weights).expanduser()
    if folder.is_dir():
        return str(folder)
    if local:
        raise ConfigError(f"{guest}: weights {weights!r} are no folder; save a model there with save_pretrained")
    return weights
