"""The processes that torchrun started, as accelerate sees them; one process where nothing was started."""

import os
from typing import Literal, cast

import torch
from accelerate import Accelerator, PartialState

from occkit.errors import ConfigError


def process_state() -> PartialState:
    """Return rank, number of processes and device of this process; the first call joins the others.

    Raises:
        ConfigError: if torchrun started several processes and they do not know of each other.
    """
    # Without cpu=True accelerate takes processes that torchrun started on a machine without a GPU for single ones.
    return _checked(PartialState(cpu=not _has_accelerator()))


def process_device() -> torch.device:
    """Return the device of this process: its GPU, or the CPU."""
    return cast(torch.device, process_state().device)


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
