"""Weighted sums of trilinear samples through `embedding_bag`: any device, no `points x channels` buffer."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from occkit.ops.sampling.reference import Padding, corner_taps

CHUNK_TAPS = 1 << 21
"""Corners in memory at a time; they are worked out again in the backward pass."""


def sampled_sum(
    volume: Float[Tensor, "v h c"],
    shape: tuple[int, int, int],
    points: Float[Tensor, "q h p 3"],
    weights: Float[Tensor, "q h p"],
    padding: Padding,
) -> Float[Tensor, "q h c"]:
    """See `reference.sampled_sum`; the corners are made for a chunk of queries at a time."""
    num_queries, num_heads, num_points = weights.shape
    rows_a_query = max(1, 8 * num_heads * num_points)
    chunk = max(1, CHUNK_TAPS // rows_a_query)
    table = volume.flatten(0, 1)
    if num_queries <= chunk:
        return _bag_chunk(table, shape, points, weights, padding)
    parts = [
        checkpoint(_bag_chunk, table, shape, some_points, some_weights, padding, use_reentrant=False)
        for some_points, some_weights in zip(points.split(chunk), weights.split(chunk), strict=True)
    ]
    return torch.cat([part for part in parts if part is not None])


def _bag_chunk(
    table: Float[Tensor, "rows c"],
    shape: tuple[int, int, int],
    points: Float[Tensor, "q h p 3"],
    weights: Float[Tensor, "q h p"],
    padding: Padding,
) -> Float[Tensor, "q h c"]:
    num_queries, num_heads, num_points = weights.shape
    rows, factors = corner_taps(points, shape, padding)
    rows = rows * num_heads + torch.arange(num_heads, device=table.device)[:, None, None]
    summed = torch.nn.functional.embedding_bag(
        rows.reshape(num_queries * num_heads, num_points * 8),
        table,
        mode="sum",
        per_sample_weights=(factors * weights[..., None]).reshape(num_queries * num_heads, num_points * 8),
    )
    return summed.reshape(num_queries, num_heads, -1)
