"""The processes that torchrun started, as accelerate sees them; one process where nothing was started."""

import atexit
import os
import time
from typing import Any, Literal, Protocol, cast

import torch
from accelerate import Accelerator, PartialState

from occkit.errors import ConfigError
from occkit.foundation.weights import on_device


class Buildable(Protocol):
    """The settings of something that can be built."""

    def build(self) -> Any:
        """Build it."""
        ...


_REST_SECONDS = 0.5
"""How long a process of several waits before it ends; its threads need milliseconds."""


def process_state() -> PartialState:
    """Return rank, number of processes and device of this process; the first call joins the others.

    Raises:
        ConfigError: if torchrun started several processes and they do not know of each other.
    """
    first = not PartialState._shared_state
    # Without cpu=True accelerate takes processes that torchrun started on a machine without a GPU for single ones.
    state = _checked(PartialState(cpu=not _has_accelerator()))
    if first and state.num_processes > 1:
        atexit.register(_leave, state)
    return state


def process_device() -> torch.device:
    """Return the device of this process: its GPU, or the CPU."""
    return cast(torch.device, process_state().device)


def chosen_device(name: str | None) -> torch.device:
    """Return the device that a user names, or that of this process.

    Raises:
        ConfigError: if torch does not know it or the machine does not have it.
    """
    if name is None:
        return process_device()
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"--device {name}: cannot be used ({reason}); take cpu, cuda, cuda:1 or mps") from error
    return device


def build_on(config: Buildable, device: str | None) -> Any:
    """Build a guest whose networks run on a device, chosen in the process that builds it.

    Args:
        config: of `occkit.foundation`; one without a network has no device and is built as it is.
        device: as in `chosen_device`.

    Raises:
        ConfigError: if the device or the weights cannot be used.
    """
    return on_device(config, str(chosen_device(device))).build()


def make_accelerator(precision: Literal["fp32", "bf16", "fp16"]) -> Accelerator:
    """Return what wraps model and optimiser for this device, precision and number of processes.

    Raises:
        ConfigError: if the device does not have the precision.
    """
    if precision != "fp32":
        if not torch.cuda.is_available():
            raise ConfigError(f"precision {precision} needs a GPU, and there is none; use --precision fp32")
        if precision == "bf16" and not torch.cuda.is_bf16_supported():
            raise ConfigError("precision bf16 is not supported by this GPU; use --precision fp16 or fp32")
    process_state()
    return Accelerator(mixed_precision="no" if precision == "fp32" else precision, cpu=not _has_accelerator())


def _leave(state: PartialState) -> None:
    """End the group and let its threads come to rest.

    A thread of gloo that lets go of the last collective's tensors needs the interpreter, and aborts the process where
    that is ending already. Destroying the group does not join the threads once a model was wrapped for it.
    """
    state.destroy_process_group()
    time.sleep(_REST_SECONDS)


def _has_accelerator() -> bool:
    return torch.cuda.is_available() or torch.backends.mps.is_available()


def _checked(state: PartialState) -> PartialState:
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if state.num_processes != started:
        raise ConfigError(
            f"torchrun started {started} processes and accelerate sees {state.num_processes}; "
            "create no PartialState or Accelerator before training or evaluating"
        )
    return state
