"""When two forms of an op count as equal: element by element, in direction, and without leaning to one side."""

import torch
from torch import Tensor


def assert_agrees(fast: Tensor, reference: Tensor, *, tolerance: float | None = None) -> None:
    """Bound the largest error, the cosine and the mean signed error, relative to a float64 reference."""
    assert fast.shape == reference.shape
    error = fast.double() - reference.double()
    scale = reference.double().abs().max().clamp(min=1e-12)
    bound = tolerance if tolerance is not None else {torch.float64: 1e-12, torch.float32: 2e-6}.get(fast.dtype, 2e-2)
    assert error.abs().max() <= bound * scale
    cosine = torch.nn.functional.cosine_similarity(fast.double().flatten(), reference.double().flatten(), dim=0)
    assert reference.abs().max() == 0 or cosine >= 1 - bound
    assert error.mean().abs() <= bound * scale / 4


def value_and_grads(function, *leaves: Tensor, seed: int = 0) -> tuple[Tensor, ...]:
    """Return what the function says and its gradients for a fixed incoming gradient, one a leaf."""
    leaves = tuple(leaf.detach().requires_grad_() for leaf in leaves)
    out = function(*leaves)
    incoming = torch.randn(out.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(out.dtype)
    return (out.detach(), *torch.autograd.grad(out, leaves, incoming))
