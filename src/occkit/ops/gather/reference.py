"""Weighted sums of table rows in plain torch: the specification."""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def gather_sum(
    table: Float[Tensor, "v c"],
    index: Int[Tensor, "k"],
    owner: Int[Tensor, "k"],
    weights: Float[Tensor, "k"],
    num_bags: int,
) -> Float[Tensor, "m c"]:
    """`out[m] = sum over k with owner[k] = m of weights[k] table[index[k]]`, by writing out all k rows."""
    rows = weights[:, None] * table[index]
    return torch.zeros(num_bags, table.shape[1], dtype=rows.dtype, device=rows.device).index_add(0, owner, rows)
