"""Weighted sums of table rows on the CPU with numba: every output row is written by one thread, in a fixed order."""

# pyright: basic
# (numba's decorators have no types)

from typing import Any

import torch
from numba import njit, prange
from torch import Tensor

from occkit.ops.threads import match_torch_threads

# Lets a dot product use vector registers; NaN and infinity keep their meaning.
_FAST = {"reassoc", "contract", "nsz", "arcp"}


@njit(parallel=True, fastmath=_FAST, cache=True)
def _sum_rows(table, index, offsets, weights, order, out):  # noqa: ANN001, ANN202
    num_channels = table.shape[1]
    for bag in prange(out.shape[0]):
        for channel in range(num_channels):
            out[bag, channel] = 0
        for k in range(offsets[bag], offsets[bag + 1]):
            row = index[k]
            weight = weights[order[k]] if order.size else weights[k]
            for channel in range(num_channels):
                out[bag, channel] += weight * table[row, channel]


@njit(parallel=True, fastmath=_FAST, cache=True)
def _dot_rows(grad, table, index, offsets, out):  # noqa: ANN001, ANN202
    num_channels = table.shape[1]
    for bag in prange(grad.shape[0]):
        for k in range(offsets[bag], offsets[bag + 1]):
            row = index[k]
            total = grad.dtype.type(0)
            for channel in range(num_channels):
                total += grad[bag, channel] * table[row, channel]
            out[k] = total


class GatherSum(torch.autograd.Function):
    """Forward sums rows bag by bag; backward does the same over the transposed bags, so no two threads share a row."""

    @staticmethod
    def forward(
        ctx: Any,
        table: Tensor,
        weights: Tensor,
        index: Tensor,
        offsets: Tensor,
        row_owner: Tensor,
        row_order: Tensor,
        row_offsets: Tensor,
    ) -> Tensor:
        """See `occkit.ops.gather.gather_sum`."""
        match_torch_threads()
        table, weights = table.contiguous(), weights.contiguous()
        out = table.new_empty(offsets.shape[0] - 1, table.shape[1])
        _sum_rows(
            table.detach().numpy(), index.numpy(), offsets.numpy(), weights.detach().numpy(), _NO_ORDER, out.numpy()
        )
        ctx.save_for_backward(table, weights, index, offsets, row_owner, row_order, row_offsets)
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of the table and of the weights."""
        match_torch_threads()
        table, weights, index, offsets, row_owner, row_order, row_offsets = ctx.saved_tensors
        grad = grad.contiguous()
        grad_table = grad_weights = None
        if ctx.needs_input_grad[0]:
            grad_table = torch.empty_like(table)
            _sum_rows(
                grad.numpy(),
                row_owner.numpy(),
                row_offsets.numpy(),
                weights.detach().numpy(),
                row_order.numpy(),
                grad_table.numpy(),
            )
        if ctx.needs_input_grad[1]:
            grad_weights = torch.empty_like(weights)
            _dot_rows(grad.numpy(), table.detach().numpy(), index.numpy(), offsets.numpy(), grad_weights.numpy())
        return grad_table, grad_weights, None, None, None, None, None


_NO_ORDER = torch.empty(0, dtype=torch.int64).numpy()
