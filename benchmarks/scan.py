"""The selective scan in chunks at 4,096 tokens, against the recurrence token by token and against attention."""

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.measure import Row, compare, measure_pair, peak_memory
from occkit.ops.scan import ScanBackend, selective_scan

NAME = "scan"
SEQUENCES, HEADS, CHANNELS, STATE = 2, 4, 32, 16
LENGTH, SHORT = 4_096, 1_024


def _leaves(length: int) -> tuple[Tensor, ...]:
    """Values, steps, rates, writes, reads as a Mamba-2 block starts with them."""
    steps = torch.empty(SEQUENCES, length, HEADS).uniform_(-6.9, -2.3).exp()
    drawn = (
        torch.randn(SEQUENCES, length, HEADS, CHANNELS),
        steps,
        -torch.empty(HEADS).uniform_(1, 16),
        torch.randn(SEQUENCES, length, STATE),
        torch.randn(SEQUENCES, length, STATE),
    )
    return tuple(tensor.requires_grad_() for tensor in drawn)


def _sizes(length: int) -> str:
    return f"{SEQUENCES} sequences of {length} tokens, {HEADS} heads x {CHANNELS} channels, state {STATE}"


def _train(leaves: tuple[Tensor, ...], grad: Tensor, backend: ScanBackend) -> tuple[Tensor, ...]:
    """Return outputs and gradients."""
    outputs, _ = selective_scan(*leaves, backend=backend)
    return (outputs.detach(), *torch.autograd.grad(outputs, leaves, grad))


def _attend(leaves: tuple[Tensor, ...], grad: Tensor) -> tuple[Tensor, ...]:
    x = leaves[0].transpose(1, 2)
    outputs = F.scaled_dot_product_attention(x, x, x, is_causal=True)
    return torch.autograd.grad(outputs, leaves[0], grad.transpose(1, 2))


def _difference(leaves: tuple[Tensor, ...], grad: Tensor) -> float:
    """Return the largest error of a value or gradient, as a share of its largest."""
    pairs = zip(_train(leaves, grad, "auto"), _train(leaves, grad, "reference"), strict=True)
    return max(float((ours - plain).abs().max() / plain.abs().max()) for ours, plain in pairs)


def run() -> list[Row]:
    """Measure time, agreement and memory at two lengths."""
    torch.manual_seed(0)
    leaves, short = _leaves(LENGTH), _leaves(SHORT)
    grad, short_grad = (torch.randn(SEQUENCES, n, HEADS, CHANNELS) for n in (LENGTH, SHORT))
    shared = {"shapes": _sizes(LENGTH), "dtype": "float32"}

    def ours() -> object:
        return _train(leaves, grad, "auto")

    def plain() -> object:
        return _train(leaves, grad, "reference")

    times = measure_pair(ours, plain, repeats=3)
    beside = measure_pair(ours, lambda: _attend(leaves, grad), repeats=3)
    difference = _difference(leaves, grad)
    bytes_ours, bytes_plain = peak_memory(ours), peak_memory(plain)
    token, short_token = bytes_ours / LENGTH, peak_memory(lambda: _train(short, short_grad, "auto")) / SHORT
    return [
        compare(NAME, "forward + backward", *times, at_least=8, **shared),
        Row(
            name=NAME,
            what="largest difference of values and gradients, share of the largest",
            ours=difference,
            unit="",
            target="<= 0.0001",
            reached=difference <= 1e-4,
            **shared,
        ),
        compare(NAME, "forward + backward; plain: causal attention", *beside, at_least=1, **shared),
        compare(NAME, "peak memory", bytes_ours, bytes_plain, at_least=1, unit="B", **shared),
        Row(
            name=NAME,
            what=f"peak memory a token; plain: at {SHORT} tokens",
            ours=token,
            unit="B",
            plain=short_token,
            ratio=short_token / token,
            target="<= 1.05x that of the short ones",
            reached=token <= 1.05 * short_token,
            **shared,
        ),
    ]
