"""The Triton form of the selective scan against the recurrence: on a GPU, or without one through the interpreter."""

import os

import pytest
import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # read when Triton is imported
pytest.importorskip("triton", reason="Triton is not installed (pip install 'occkit[gpu]'): its kernels are not checked")

from agreement import assert_agrees, value_and_grads
from test_scan import both, leaves, scan

from occkit.ops.scan import reference

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("shape", [(1, 1, 1, 1, 1), (2, 33, 2, 3, 5), (1, 70, 3, 17, 4), (1, 64, 1, 16, 16)], ids=str)
def test_triton_agrees_with_the_recurrence(shape, reverse):
    arguments = leaves(*shape)
    want = value_and_grads(both(scan, reverse=reverse, backend="reference"), *arguments)
    given = [argument.float().to(DEVICE) for argument in arguments]
    got = value_and_grads(both(scan, reverse=reverse, backend="triton"), *given)
    for fast, plain in zip(got, want, strict=True):
        assert_agrees(fast.cpu(), plain, tolerance=5e-6)


def test_a_large_step_does_not_blur_the_small_ones_after_it():
    x, steps, rates, writes, reads, first = leaves(1, 32, 1, 2, 2)
    steps[:] = torch.tensor(1e-3).double()
    steps[:, 3] = 1e6
    arguments = (x, steps, rates, writes, reads, first)
    want = reference.selective_scan(*arguments)[0]
    got = scan(*(argument.float().to(DEVICE) for argument in arguments), backend="triton")[0]
    assert_agrees(got[:, 4:].cpu(), want[:, 4:])
