"""Selective scan: a linear recurrence over tokens whose decay, input and read-out depend on the token (Mamba-2).

A state of P x N numbers a head walks along the sequence. Each token lets it decay, adds to it and reads from it, and so
hears all tokens before it, at a cost that grows with the length and not with its square.
"""

import importlib.util
import os
from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from occkit.ops.scan import chunked, reference

__all__ = ["ScanBackend", "choose_scan_backend", "selective_scan"]

ScanBackend = Literal["auto", "reference", "chunked", "triton"]
"""`reference`: the recurrence, token by token; `chunked`: matrix products, any device; `triton`: CUDA kernels, float32;
`auto`: the fastest here."""

MAX_TRITON_WIDTH = 128
"""Largest head width and state size of the Triton form: a head's state is kept in registers."""


def choose_scan_backend(
    backend: ScanBackend, values: Float[Tensor, "b l h p"], state_size: int
) -> Literal["reference", "chunked", "triton"]:
    """Resolve `auto`: Triton on CUDA where it is installed, computes in float32 and the state fits; else chunks.

    Args:
        backend: what was asked for.
        values: what is to be scanned.
        state_size: N.

    Raises:
        ValueError: for an unknown name, or Triton asked for where it cannot run.
    """
    double = values.dtype == torch.float64
    fits = max(values.shape[-1], state_size) <= MAX_TRITON_WIDTH
    if backend == "auto":
        simple = values.is_cuda and fits and not double and not torch.compiler.is_compiling()
        return "triton" if simple and importlib.util.find_spec("triton") else "chunked"
    if backend not in ("reference", "chunked", "triton"):
        raise ValueError(f"backend: expected 'auto', 'reference', 'chunked' or 'triton', got {backend!r}")
    if backend == "triton":
        if not importlib.util.find_spec("triton"):
            raise ValueError("backend: 'triton' is not installed; pip install 'occkit[gpu]', or use 'auto'")
        if not values.is_cuda and os.environ.get("TRITON_INTERPRET") != "1":
            raise ValueError(f"backend: 'triton' runs on CUDA, the tensors are on {values.device}; use 'auto'")
        if double or not fits:
            raise ValueError(
                f"backend: 'triton' computes in float32, heads and states up to {MAX_TRITON_WIDTH} wide; got "
                f"{values.dtype}, {values.shape[-1]} and {state_size}; use 'auto'"
            )
    return backend


def selective_scan(
    values: Float[Tensor, "b l h p"],
    steps: Float[Tensor, "b l h"],
    rates: Float[Tensor, "h"],
    writes: Float[Tensor, "b l n"],
    reads: Float[Tensor, "b l n"],
    *,
    state: Float[Tensor, "b h p n"] | None = None,
    reverse: bool = False,
    backend: ScanBackend = "auto",
) -> tuple[Float[Tensor, "b l h p"], Float[Tensor, "b h p n"]]:
    """Scan a sequence with a selective state-space model, one scalar decay a head.

    `S_t = exp(dt_t A) S_{t-1} + dt_t x_t B_t^T`, `y_t = S_t C_t`.

    Args:
        values: x, what each token adds, L tokens of H heads of P channels. Half precision is computed in float32.
        steps: dt, how long each token lasts, not negative; one of step 0 reads, but neither writes nor lets decay.
        rates: A, negative, per unit of `steps`; a positive one lets the state grow without bound.
        writes: B, where in the state a token adds; the heads share it.
        reads: C, where in the state a token reads; the heads share it.
        state: S before the first token (the last one, with `reverse`); None is zero.
        reverse: walk from the last token to the first: the same as flipping everything along the tokens.
        backend: see `ScanBackend`.

    Returns:
        outputs: y, dtype of `values`; no skip term: add `D x` outside.
        state: S after the walk, in float32 or better. Handing it on to the next piece of a sequence gives what one scan
            of the whole would. Without a token it is the state given.

        Both are differentiable in everything (once with Triton).

    Raises:
        ValueError: if shapes do not agree, or the backend cannot run here.

    Example:
        >>> ones = torch.ones(1, 3, 1)
        >>> y, state = selective_scan(ones[..., None], ones, torch.tensor([-0.6931472]), ones, ones)
        >>> y.flatten().tolist(), state.item()
        ([1.0, 1.5, 1.75], 1.75)

    Source: Dao and Gu, "Transformers are SSMs", ICML 2024, equation 1 with a scalar times the identity for A.
    """
    _check(values, steps, rates, writes, reads, state)
    batch, length, heads, width = values.shape
    chosen = choose_scan_backend(backend, values, writes.shape[-1])
    dtype = torch.promote_types(values.dtype, torch.float32)
    if state is None:
        first = torch.zeros(batch, heads, width, writes.shape[-1], dtype=dtype, device=values.device)
    else:
        first = state.to(dtype)
    if length == 0:
        return values, first
    along = [tensor.to(dtype).flip(1) if reverse else tensor.to(dtype) for tensor in (values, steps, writes, reads)]
    outputs, last = _form(chosen)(along[0], along[1], rates.to(dtype), along[2], along[3], first)
    return (outputs.flip(1) if reverse else outputs).to(values.dtype), last


def _form(chosen: Literal["reference", "chunked", "triton"]) -> Callable[..., tuple[Tensor, Tensor]]:
    if chosen == "triton":
        from occkit.ops.scan.triton_kernels import SelectiveScan

        return SelectiveScan.apply
    return reference.selective_scan if chosen == "reference" else chunked.selective_scan


def _check(values: Tensor, steps: Tensor, rates: Tensor, writes: Tensor, reads: Tensor, state: Tensor | None) -> None:
    if values.ndim != 4:
        raise ValueError(f"values: expected [batch, length, heads, channels], got {tuple(values.shape)}")
    batch, length, heads, width = values.shape
    if steps.shape != (batch, length, heads):
        raise ValueError(f"steps: expected {(batch, length, heads)}, one a token and head, got {tuple(steps.shape)}")
    if rates.shape != (heads,):
        raise ValueError(f"rates: expected {(heads,)}, one a head, got {tuple(rates.shape)}")
    if writes.ndim != 3 or writes.shape[:2] != (batch, length) or reads.shape != writes.shape:
        raise ValueError(
            f"writes, reads: expected [{batch}, {length}, state size] both, got {tuple(writes.shape)} and "
            f"{tuple(reads.shape)}"
        )
    expected = (batch, heads, width, writes.shape[-1])
    if state is not None and state.shape != expected:
        raise ValueError(f"state: expected {expected}, as it was returned, got {tuple(state.shape)}")
