"""The selective scan as a recurrence over tokens: the specification."""

import torch
from jaxtyping import Float
from torch import Tensor


def selective_scan(
    values: Float[Tensor, "b l h p"],
    steps: Float[Tensor, "b l h"],
    rates: Float[Tensor, "h"],
    writes: Float[Tensor, "b l n"],
    reads: Float[Tensor, "b l n"],
    state: Float[Tensor, "b h p n"],
) -> tuple[Float[Tensor, "b l h p"], Float[Tensor, "b h p n"]]:
    """`S_t = exp(dt_t A) S_{t-1} + dt_t x_t B_t^T`, `y_t = S_t C_t`, one token after the other."""
    # unbind and not an index in the loop: the backward of `kept[:, t]` would write all of `kept` for every token.
    kept = torch.exp(steps * rates)[..., None, None].unbind(1)
    added = (steps[..., None] * values)[..., None].unbind(1)
    outputs: list[Tensor] = []
    for keep, add, write, read in zip(kept, added, writes.unbind(1), reads.unbind(1), strict=True):
        state = keep * state + add * write[:, None, None, :]
        outputs.append((state @ read[:, None, :, None])[..., 0])
    return torch.stack(outputs, dim=1), state
