"""Muon for convolution kernels, AdamW for everything else, in one optimiser.

A kernel's momentum, as a matrix of output channels by the rest, is replaced by (nearly) its closest orthogonal matrix
before it is subtracted: every direction that a layer can learn moves at one speed. Small networks then need far fewer
steps than with AdamW alone.

Source: Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024. torch's own Muon takes
two-dimensional parameters only.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.optim import AdamW

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
"""Coefficients of the quintic iteration that pulls singular values towards 1."""


def orthogonalise(matrix: Float[Tensor, "n m"], *, steps: int = 5) -> Float[Tensor, "n m"]:
    """Return a matrix of the same singular vectors whose singular values lie near 1 (0.7 to 1.2); zero stays zero.

    `X <- (a I + b A + c A A) X` with `A = X X^T`, from `X = matrix / |matrix|`. The factors of `X` commute, so they are
    multiplied up on the small side and meet the matrix once: a fifth of the work for a kernel's wide matrix.

    Args:
        matrix: any; taller ones are worked on transposed.
        steps: iterations.

    Source: Jordan et al. 2024 (coefficients and number of steps); the order of the products is ours.
    """
    a, b, c = NEWTON_SCHULZ
    x = matrix / (matrix.norm() + 1e-7)
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    gram = x @ x.T
    product = None
    for step in range(steps):
        factor = b * gram + c * gram @ gram
        factor.diagonal().add_(a)
        product = factor if product is None else factor @ product
        if step < steps - 1:
            gram = factor @ gram @ factor
    x = x if product is None else product @ x
    return x.T if tall else x


class MuonAdamW(AdamW):
    """AdamW, but for parameter groups with `muon=True`, whose parameters have at least two dimensions.

    Of those groups, `lr` is the size of a step in units of orthogonal matrices (0.02 is usual), scaled by
    `sqrt(max(1, n / m))` for `n` output channels of `m` weights each; `muon_momentum` is that of Nesterov's rule, and
    weight decay is decoupled. AdamW's part is torch's fused one.
    """

    def __init__(self, params: Iterable[dict[str, Any]], *, betas: tuple[float, float]) -> None:
        super().__init__(params, betas=betas, fused=True)
        # Fused, AdamW says that it skips a step whose 16-bit gradients overflowed by itself. Muon's part would not.
        self._step_supports_amp_scaling = False

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Do one step; see `torch.optim.Optimizer.step`."""
        groups = self.param_groups
        self.param_groups = [g for g in groups if not g.get("muon")]
        try:
            loss = super().step(closure)
        finally:
            self.param_groups = groups
        with torch.no_grad():
            for group in groups:
                if group.get("muon"):
                    self._muon_step(group)
        return loss

    def _muon_step(self, group: dict[str, Any]) -> None:
        lr, momentum = float(group["lr"]), float(group["muon_momentum"])
        for parameter in group["params"]:
            if parameter.grad is None:
                continue
            state = self.state[parameter]
            if not state:
                state["step"] = torch.zeros(())  # AdamW asks every parameter for it when a state is loaded
                state["momentum"] = torch.zeros_like(parameter)
            average: Tensor = state["momentum"]
            average.lerp_(parameter.grad, 1 - momentum)
            ahead = parameter.grad.lerp(average, momentum).flatten(1)
            update = orthogonalise(ahead).reshape(parameter.shape)
            rows, columns = ahead.shape
            parameter.mul_(1 - lr * float(group["weight_decay"]))
            parameter.add_(update, alpha=-lr * max(1.0, rows / columns) ** 0.5)
