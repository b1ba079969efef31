"""The selective scan in chunks: matrix products within a chunk, a short recurrence between chunks.

With `s_i` the sum of `dt A` over the tokens of a chunk up to and with i, and S the state that enters the chunk:

`y_i = sum_{j<=i} exp(s_i - s_j) (C_i . B_j) dt_j x_j  +  exp(s_i) S C_i`
`S'  = exp(s_last) S + sum_j exp(s_last - s_j) dt_j x_j B_j^T`

Source: Dao and Gu, "Transformers are SSMs", ICML 2024, section 6.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

CHUNK = 32
"""Tokens in a chunk: work within chunks grows with it, steps between them fall."""


def selective_scan(
    values: Float[Tensor, "b l h p"],
    steps: Float[Tensor, "b l h"],
    rates: Float[Tensor, "h"],
    writes: Float[Tensor, "b l n"],
    reads: Float[Tensor, "b l n"],
    state: Float[Tensor, "b h p n"],
    *,
    chunk: int = CHUNK,
) -> tuple[Float[Tensor, "b l h p"], Float[Tensor, "b h p n"]]:
    """Return what the reference does, from matrix products; memory grows with length times chunk.

    The last chunk is filled up with tokens of step 0, which keep the state and write nothing.
    """
    length = values.shape[1]
    chunk = min(chunk, length)
    added = _split(steps[..., None] * values, chunk)  # [b, c, q, h, p]
    write, read = _split(writes, chunk), _split(reads, chunk)  # [b, c, q, n]
    sums = _sums(_split(steps * rates, chunk))  # [b, c, h, q]
    within = _within(added, write, read, sums)
    to_end = _exp(sums[..., -1:] - sums, values).transpose(2, 3)[..., None]  # [b, c, q, h, 1]
    written = write.transpose(2, 3) @ (added * to_end).flatten(3)  # [b, c, n, h p]
    entering, state = _pass_on(written.unflatten(3, values.shape[2:]), _exp(sums[..., -1], values), state)
    from_start = _exp(sums, values).transpose(2, 3)[..., None]  # [b, c, q, h, 1]
    remembered = from_start * (read @ entering.flatten(3)).unflatten(3, values.shape[2:])
    return (within + remembered).flatten(1, 2)[:, :length], state


def _split(x: Float[Tensor, "b l *r"], chunk: int) -> Float[Tensor, "b c q *r"]:
    """Cut the tokens into chunks, the last one filled up with zeros."""
    missing = -x.shape[1] % chunk
    if missing:
        x = F.pad(x, (0, 0) * (x.ndim - 2) + (0, missing))
    return x.unflatten(1, (-1, chunk))


def _sums(logs: Float[Tensor, "b c q h"]) -> Float[Tensor, "b c h q"]:
    """Add up along each chunk, in float64: differences of float32 sums lose what small steps add to large ones."""
    return logs.transpose(2, 3).double().cumsum(dim=-1)


def _exp(logs: Tensor, like: Tensor) -> Tensor:
    return logs.to(like.dtype).exp()


def _within(
    added: Float[Tensor, "b c q h p"],
    write: Float[Tensor, "b c q n"],
    read: Float[Tensor, "b c q n"],
    sums: Float[Tensor, "b c h q"],
) -> Float[Tensor, "b c q h p"]:
    """Return what the tokens of a chunk read of each other: attention without a softmax, with decay."""
    chunk = sums.shape[-1]
    future = torch.ones(chunk, chunk, dtype=torch.bool, device=sums.device).triu(1)
    logs = (sums[..., :, None] - sums[..., None, :]).to(added.dtype).masked_fill(future, -torch.inf)
    scores = (read @ write.transpose(2, 3))[:, :, None] * logs.exp()  # [b, c, h, q, q]
    return (scores @ added.transpose(2, 3)).transpose(2, 3)


def _pass_on(
    written: Float[Tensor, "b c n h p"], kept: Float[Tensor, "b c h"], state: Float[Tensor, "b h p n"]
) -> tuple[Float[Tensor, "b c n h p"], Float[Tensor, "b h p n"]]:
    """Return the state that enters each chunk, and the one that leaves the last."""
    now = state.permute(0, 3, 1, 2)
    entering: list[Tensor] = []
    for keep, write in zip(kept[:, :, None, :, None].unbind(1), written.unbind(1), strict=True):
        entering.append(now)
        now = keep * now + write
    return torch.stack(entering, dim=1), now.permute(0, 2, 3, 1)
