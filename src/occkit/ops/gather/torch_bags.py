"""Weighted sums of table rows through `embedding_bag`: any device, no `k x c` buffer."""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def gather_sum(
    table: Float[Tensor, "v c"],
    index: Int[Tensor, "k"],
    offsets: Int[Tensor, "edges"],
    weights: Float[Tensor, "k"],
) -> Float[Tensor, "m c"]:
    """See `occkit.ops.gather.gather_sum`; gradients to table and weights are those of `embedding_bag`."""
    return torch.nn.functional.embedding_bag(
        index, table, offsets, mode="sum", per_sample_weights=weights, include_last_offset=True
    )
