"""Where a training starts from: weights of other runs, whole or in part."""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, runtime_checkable

from torch import Tensor, nn

from occkit.errors import DataError
from occkit.training.checkpoint import LAST_FILE, WEIGHTS_FILE, read_tensors


@runtime_checkable
class StartsFrom(Protocol):
    """A system that knows more folders to start from than runs of its own."""

    def start_from(self, folder: Path) -> tuple[str, ...]:
        """Take over the weights of a folder and return the names of those parameters and buffers.

        Raises:
            DataError: if the folder is not one to start from, or does not fit.
        """
        ...


def start_from(module: nn.Module, folder: Path) -> tuple[str, ...]:
    """Fill a module with the weights of a run or model folder, as far as they have the same names.

    Returns:
        The names of what was filled.

    Raises:
        DataError: if there is nothing to read, nothing fits, or a tensor of the same name has another shape.
    """
    if not folder.is_dir():
        raise DataError(folder, "no such folder to start from", "give a run of `occkit train` as --start")
    if isinstance(module, StartsFrom):
        return module.start_from(folder)
    path = newest_weights(folder)
    return load_fitting(module, read_tensors(path), path)


def newest_weights(folder: Path) -> Path:
    """Return the file of the last weights of a run, or of the weights of a model folder."""
    return folder / (LAST_FILE if (folder / LAST_FILE).is_file() else WEIGHTS_FILE)


def load_fitting(module: nn.Module, tensors: Mapping[str, Tensor], path: Path, *, prefix: str = "") -> tuple[str, ...]:
    """Fill what a module and a file have in common.

    Args:
        module: to fill.
        tensors: of the file.
        path: the file, for messages.
        prefix: of the module's names, put before those of the file.

    Returns:
        The module's names of what was filled.

    Raises:
        DataError: if a tensor has another shape, or nothing fits.
    """
    own = module.state_dict()
    found = {prefix + name: tensor for name, tensor in tensors.items() if prefix + name in own}
    for name, tensor in found.items():
        if tensor.shape != own[name].shape:
            raise DataError(
                path,
                f"{name}: expected {tuple(own[name].shape)}, got {tuple(tensor.shape)}",
                "start from a run whose recipe has the same sizes",
            )
    if not found:
        raise DataError(path, "has no tensor of this model", "start from a run of the same system, or of a part of it")
    module.load_state_dict(found, strict=False)
    return tuple(found)
