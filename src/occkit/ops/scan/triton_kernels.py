"""The selective scan in Triton: one program a sequence and head walks the chunks, its state in registers.

What `chunked.py` says, forward and backward. Sums of logarithms are added up pair by pair and never subtracted. It is
imported only when chosen. `TRITON_INTERPRET=1`, set before Triton is imported, runs the kernels without a GPU.
"""

# pyright: basic, reportMissingImports=false, reportIndexIssue=false
# (Triton has no types, and is not installed everywhere)
# ruff: noqa: ANN001, ANN202

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

CHUNK = 32
"""Tokens in a chunk."""


@triton.jit
def _decays(logs, Q: tl.constexpr):
    """Return what is left of token j at token i (0 for i < j), of the entering state at i, of j at the end, of all."""
    at = tl.arange(0, Q)
    later = at[:, None] > at[None, :]
    between = tl.where(later, logs[:, None], 0.0)  # [i, j]
    pairs = tl.where(at[:, None] >= at[None, :], tl.exp(tl.cumsum(between, axis=0)), 0.0)
    return pairs, tl.exp(tl.cumsum(logs, axis=0)), tl.exp(tl.sum(between, axis=0)), tl.exp(tl.sum(logs, axis=0))


@triton.jit
def _matmul(a, b):
    return tl.dot(a, b, input_precision="ieee")


@triton.jit
def _forward(
    values, steps, rates, writes, reads, first, outputs, entering, last,
    length, heads, width, size,
    Q: tl.constexpr, P: tl.constexpr, N: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)  # sequence and head
    batch, head = row // heads, row % heads
    q, p, n = tl.arange(0, Q), tl.arange(0, P), tl.arange(0, N)
    at_state = p[:, None] * size + n[None, :]
    in_state = (p < width)[:, None] & (n < size)[None, :]
    rate = tl.load(rates + head)
    state = tl.load(first + row * width * size + at_state, mask=in_state, other=0.0)
    chunks = tl.cdiv(length, Q)
    for c in range(chunks):
        token = batch * length + c * Q + q
        inside = c * Q + q < length
        at_value = (token * heads + head)[:, None] * width + p[None, :]
        in_value = inside[:, None] & (p < width)[None, :]
        at_code = token[:, None] * size + n[None, :]
        in_code = inside[:, None] & (n < size)[None, :]
        step = tl.load(steps + token * heads + head, mask=inside, other=0.0)
        added = tl.load(values + at_value, mask=in_value, other=0.0) * step[:, None]
        write = tl.load(writes + at_code, mask=in_code, other=0.0)
        read = tl.load(reads + at_code, mask=in_code, other=0.0)
        tl.store(entering + (row * chunks + c) * width * size + at_state, state, mask=in_state)
        pairs, from_start, to_end, whole = _decays(step * rate, Q)
        scores = _matmul(read, tl.trans(write)) * pairs
        out = _matmul(scores, added) + from_start[:, None] * _matmul(read, tl.trans(state))
        tl.store(outputs + at_value, out, mask=in_value)
        state = whole * state + _matmul(tl.trans(added * to_end[:, None]), write)
    tl.store(last + row * width * size + at_state, state, mask=in_state)


@triton.jit
def _backward(
    values, steps, rates, writes, reads, entering, grad_outputs, grad_last,
    grad_values, grad_steps, grad_rates, grad_writes, grad_reads, grad_first,
    length, heads, width, size,
    Q: tl.constexpr, P: tl.constexpr, N: tl.constexpr,
):  # fmt: skip
    """Walk back over the chunks; gradients of what the heads share are written for each head."""
    row = tl.program_id(0).to(tl.int64)
    batch, head = row // heads, row % heads
    q, p, n = tl.arange(0, Q), tl.arange(0, P), tl.arange(0, N)
    at_state = p[:, None] * size + n[None, :]
    in_state = (p < width)[:, None] & (n < size)[None, :]
    rate = tl.load(rates + head)
    grad_state = tl.load(grad_last + row * width * size + at_state, mask=in_state, other=0.0)
    grad_rate = rate * 0.0
    chunks = tl.cdiv(length, Q)
    for done in range(chunks):
        c = chunks - 1 - done
        token = batch * length + c * Q + q
        inside = c * Q + q < length
        at_value = (token * heads + head)[:, None] * width + p[None, :]
        in_value = inside[:, None] & (p < width)[None, :]
        at_code = token[:, None] * size + n[None, :]
        in_code = inside[:, None] & (n < size)[None, :]
        step = tl.load(steps + token * heads + head, mask=inside, other=0.0)
        value = tl.load(values + at_value, mask=in_value, other=0.0)
        write = tl.load(writes + at_code, mask=in_code, other=0.0)
        read = tl.load(reads + at_code, mask=in_code, other=0.0)
        grad = tl.load(grad_outputs + at_value, mask=in_value, other=0.0)
        state = tl.load(entering + (row * chunks + c) * width * size + at_state, mask=in_state, other=0.0)
        added = value * step[:, None]
        pairs, from_start, to_end, whole = _decays(step * rate, Q)
        scores = _matmul(read, tl.trans(write)) * pairs
        grad_scores = _matmul(grad, tl.trans(added))
        grad_inner = grad_scores * pairs

        to_later = to_end[:, None] * _matmul(write, tl.trans(grad_state))
        grad_added = _matmul(tl.trans(scores), grad) + to_later
        tl.store(grad_values + at_value, grad_added * step[:, None], mask=in_value)
        from_before = from_start[:, None] * _matmul(grad, state)
        at_shared = (row * length + c * Q + q)[:, None] * size + n[None, :]
        tl.store(grad_reads + at_shared, _matmul(grad_inner, write) + from_before, mask=in_code)
        grad_write = _matmul(tl.trans(grad_inner), read) + to_end[:, None] * _matmul(added, grad_state)
        tl.store(grad_writes + at_shared, grad_write, mask=in_code)

        # Token k decays whatever goes from j to i past it, j < k <= i: pairs, the entering state, what is left behind.
        earlier = q[:, None] > q[None, :]  # [k, j]
        past = tl.cumsum(grad_scores * scores, axis=0, reverse=True)
        left = tl.sum(to_later * added, axis=1)
        grad_log = tl.sum(tl.where(earlier, past + left[None, :], 0.0), axis=1)
        grad_log += tl.cumsum(tl.sum(from_before * read, axis=1), axis=0, reverse=True)
        grad_log += whole * tl.sum(state * grad_state)
        grad_step = grad_log * rate + tl.sum(grad_added * value, axis=1)
        tl.store(grad_steps + token * heads + head, grad_step, mask=inside)
        grad_rate += tl.sum(grad_log * step, axis=0)
        grad_state = whole * grad_state + _matmul(tl.trans(grad * from_start[:, None]), read)
    tl.store(grad_first + row * width * size + at_state, grad_state, mask=in_state)
    tl.store(grad_rates + row, grad_rate)


def _block(size: int) -> int:
    """Return the side of a tile that holds `size` numbers; Triton multiplies tiles of 16 or more."""
    return max(16, triton.next_power_of_2(size))


class SelectiveScan(torch.autograd.Function):
    """`occkit.ops.scan.selective_scan` for float32 tensors, all given; differentiable once."""

    @staticmethod
    def forward(
        ctx: Any, values: Tensor, steps: Tensor, rates: Tensor, writes: Tensor, reads: Tensor, state: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Launch the forward kernel; the state that enters each chunk is kept for the backward pass."""
        inputs = [tensor.contiguous() for tensor in (values, steps, rates, writes, reads)]
        batch, length, heads, width = values.shape
        size = writes.shape[-1]
        outputs, last = torch.empty_like(inputs[0]), torch.empty_like(state, memory_format=torch.contiguous_format)
        entering = values.new_empty(batch, heads, triton.cdiv(length, CHUNK), width, size)
        _forward[(batch * heads,)](
            *inputs, state.contiguous(), outputs, entering, last, length, heads, width, size,
            Q=CHUNK, P=_block(width), N=_block(size),
        )  # fmt: skip
        ctx.save_for_backward(*inputs, entering)
        return outputs, last

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_outputs: Tensor, grad_last: Tensor) -> tuple[Tensor, ...]:
        """Launch the backward kernel and add up over heads what they share."""
        values, steps, rates, writes, reads, entering = ctx.saved_tensors
        batch, length, heads, width = values.shape
        size = writes.shape[-1]
        grad_values, grad_steps = torch.empty_like(values), torch.empty_like(steps)
        grad_rates = rates.new_empty(batch, heads)
        grad_writes, grad_reads = (values.new_empty(batch, heads, length, size) for _ in range(2))
        grad_first = values.new_empty(batch, heads, width, size)
        _backward[(batch * heads,)](
            values, steps, rates, writes, reads, entering, grad_outputs.contiguous(), grad_last.contiguous(),
            grad_values, grad_steps, grad_rates, grad_writes, grad_reads, grad_first, length, heads, width, size,
            Q=CHUNK, P=_block(width), N=_block(size),
        )  # fmt: skip
        return grad_values, grad_steps, grad_rates.sum(0), grad_writes.sum(1), grad_reads.sum(1), grad_first
