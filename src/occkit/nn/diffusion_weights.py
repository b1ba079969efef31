"""Stable Diffusion's weights from a folder on disk: `unet/`, `vae/`, `text_encoder/`, as diffusers saves them.

Safetensors only, nothing is asked of the network, and every part fits whole or is refused with the value that differs.
"""

from pathlib import Path
from typing import Any

from torch import nn

from occkit.errors import DataError
from occkit.files import read_json
from occkit.nn.diffusion import Denoiser
from occkit.nn.image_codecs import PixelCodec, VaeCodec
from occkit.nn.noise_schedules import NoiseSchedule
from occkit.nn.prompt_encoders import ClipPrompts, WordPrompts

_UNET = (
    *("block_out_channels", "down_block_types", "up_block_types", "layers_per_block", "attention_head_dim"),
    *("cross_attention_dim", "in_channels", "out_channels", "norm_num_groups", "act_fn"),
)
_VAE = ("block_out_channels", "layers_per_block", "latent_channels", "norm_num_groups", "scaling_factor")
_TEXT = (
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "vocab_size",
    "max_position_embeddings",
    "hidden_act",
)


def is_diffusers_folder(folder: Path) -> bool:
    """Say whether a folder holds a model as diffusers saves it."""
    return (folder / "unet" / "config.json").is_file()


def load_diffusers_folder(
    folder: Path,
    *,
    denoiser: Denoiser,
    codec: VaeCodec | PixelCodec,
    prompts: ClipPrompts | WordPrompts,
    schedule: NoiseSchedule,
) -> tuple[str, ...]:
    """Fill the parts of a generator that a folder has weights for; a part of another kind keeps its own.

    Returns:
        The names of the parts that were filled.

    Raises:
        DataError: naming the file, the setting or tensor that differs, what was expected and what is there.
    """
    _check_schedule(folder / "scheduler" / "scheduler_config.json", schedule)
    _load(denoiser.unet, folder / "unet", _UNET)
    filled = ["unet"]
    if isinstance(codec, VaeCodec):
        _load(codec.vae, folder / "vae", _VAE)
        filled.append("vae")
    if isinstance(prompts, ClipPrompts):
        _load(prompts.model, folder / "text_encoder", _TEXT)
        filled.append("text_encoder")
    return tuple(filled)


def _check_schedule(path: Path, schedule: NoiseSchedule) -> None:
    """Compare what the model predicts and at which noise levels, if the folder says."""
    if not path.is_file():
        return
    stated = _settings(path)
    kinds = {"epsilon": "noise", "v_prediction": "velocity"}
    predicts = kinds.get(str(stated.get("prediction_type", "epsilon")), str(stated.get("prediction_type")))
    if predicts != schedule.predicts:
        raise DataError(path, f"prediction_type: expected {schedule.predicts}, got {predicts}", "set noise.predicts")
    steps = stated.get("num_train_timesteps", schedule.steps)
    if steps != schedule.steps:
        raise DataError(path, f"num_train_timesteps: expected {schedule.steps}, got {steps}", "set noise.steps")


def _load(module: Any, folder: Path, names: tuple[str, ...]) -> None:
    """Fill a module of diffusers or transformers with the weights of a folder of the same kind."""
    path = folder / "config.json"
    stated, own = _settings(path), module.config.to_dict() if hasattr(module.config, "to_dict") else module.config
    for name in names:
        if name in stated and _plain(stated[name], own[name]) != _plain(own[name], own[name]):
            raise DataError(
                path,
                f"{name}: expected {_plain(own[name], own[name])}, got {stated[name]}",
                "use a recipe of this model's sizes, or the weights of another model",
            )
    try:
        found, report = type(module).from_pretrained(
            str(folder), output_loading_info=True, use_safetensors=True, local_files_only=True
        )
    except Exception as error:
        # Damage is answered with a dozen unrelated exceptions.
        problem = f"cannot be loaded: {' '.join(str(error).split())[:300]}"
        raise DataError(folder, problem, "give a folder that save_pretrained wrote, with safetensors") from error
    missing = sorted(report["missing_keys"])
    if missing:
        raise DataError(folder, f"lacks {len(missing)} tensors, first {missing[0]}", "copy the model again")
    _copy(module, found, folder)


def _copy(module: nn.Module, found: nn.Module, folder: Path) -> None:
    own, theirs = module.state_dict(), found.state_dict()
    for name, tensor in own.items():
        there = tuple(theirs[name].shape) if name in theirs else "nothing"
        if there != tuple(tensor.shape):
            raise DataError(
                folder, f"{name}: expected {tuple(tensor.shape)}, got {there}", "use the recipe of its sizes"
            )
    unknown = sorted(theirs.keys() - own.keys())
    if unknown:
        raise DataError(folder, f"{unknown[0]}: expected nothing, got a tensor", "use the recipe of its sizes")
    module.load_state_dict(theirs)


def _settings(path: Path) -> dict[str, Any]:
    stated = read_json(path, max_bytes=2**20)
    if not isinstance(stated, dict):
        raise DataError(path, "expected an object", "copy the model again")
    return stated


def _plain(value: Any, like: Any) -> Any:
    """Return a setting as it can be compared: one number for all levels is a list of it, a tuple a list."""
    value = list(value) if isinstance(value, tuple) else value
    if isinstance(like, (list, tuple)) and not isinstance(value, list):
        return [value] * len(like)
    return value
