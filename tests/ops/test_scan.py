"""The selective scan: by hand, gradients against differences, chunks against the recurrence, and what must hold."""

import pytest
import torch
from agreement import assert_agrees, value_and_grads

from occkit.ops.scan import choose_scan_backend, chunked, reference, selective_scan

BACKENDS = ("reference", "chunked")
SHAPES = [(1, 1, 1, 1, 1), (2, 7, 1, 3, 2), (1, 32, 2, 4, 5), (2, 33, 3, 2, 1), (1, 100, 2, 5, 4)]
"""Sequences, tokens, heads, channels, state."""


def leaves(batch, length, heads, width, size, *, seed=0):
    """Values, steps from 1e-3 to 10, rates, writes, reads and a state, float64, rounded to float32."""
    generator = torch.Generator().manual_seed(seed)

    def random(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    drawn = (
        random(batch, length, heads, width),
        10 ** (2 * random(batch, length, heads).clamp(-1.5, 0.5)),
        -torch.exp(random(heads)),
        random(batch, length, size),
        random(batch, length, size),
        random(batch, heads, width, size),
    )
    return tuple(tensor.float().double() for tensor in drawn)


def both(form, **options):
    """Turn a scan into a function of one flat result, so that outputs and state get a gradient."""

    def scanned(*arguments):
        outputs, state = form(*arguments, **options)
        return torch.cat([outputs.flatten(), state.flatten()])

    return scanned


def scan(x, dt, rates, writes, reads, state, **options):
    return selective_scan(x, dt, rates, writes, reads, state=state, **options)


HALF = -0.6931471805599453
"""A rate at which a step of 1 leaves a half."""


@pytest.mark.parametrize("backend", BACKENDS)
def test_three_tokens_by_hand(backend):
    x = torch.tensor([1.0, 2.0, 4.0]).reshape(1, 3, 1, 1)
    steps = torch.tensor([1.0, 2.0, 1.0]).reshape(1, 3, 1)
    writes = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])[None]
    reads = torch.tensor([[1.0, 1.0], [1.0, 0.0], [1.0, -1.0]])[None]
    first = torch.tensor([8.0, 0.0]).reshape(1, 1, 1, 2)
    # States: [8/2 + 1, 0], [5/4, 4], [5/8 + 4, 2 + 4].
    y, state = scan(x, steps, torch.tensor([HALF]), writes, reads, first, backend=backend)
    assert y.flatten().tolist() == pytest.approx([5.0, 1.25, -1.375])
    assert state.flatten().tolist() == pytest.approx([4.625, 6.0])
    y, state = scan(x, steps, torch.tensor([HALF]), writes, reads, first, backend=backend, reverse=True)
    # From the back: [8/2 + 4, 4], [2, 1 + 4], [1 + 1, 5/2].
    assert y.flatten().tolist() == pytest.approx([4.5, 2.0, 4.0])
    assert state.flatten().tolist() == pytest.approx([2.0, 2.5])


@pytest.mark.parametrize("backend", BACKENDS)
def test_one_token(backend):
    y, state = selective_scan(
        torch.tensor([3.0]).reshape(1, 1, 1, 1),
        torch.tensor([2.0]).reshape(1, 1, 1),
        torch.tensor([-5.0]),
        torch.tensor([0.5]).reshape(1, 1, 1),
        torch.tensor([4.0]).reshape(1, 1, 1),
        backend=backend,
    )
    assert (y.item(), state.item()) == (12.0, 3.0)


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_token_leaves_the_state_as_it_was(backend):
    x, steps, rates, writes, reads, first = leaves(2, 0, 3, 2, 4)
    y, state = scan(x, steps, rates, writes, reads, first, backend=backend)
    assert y.shape == (2, 0, 3, 2)
    assert torch.equal(state, first)
    assert not selective_scan(x, steps, rates, writes, reads, backend=backend)[1].any()


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_token_of_no_step_reads_and_does_nothing_else(backend):
    x, steps, rates, writes, reads, first = leaves(2, 5, 3, 2, 4)
    y, state = scan(x, torch.zeros_like(steps), rates, writes, reads, first, backend=backend)
    assert torch.equal(state, first)
    assert torch.allclose(y, torch.einsum("bhpn,bln->blhp", first, reads))


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_token_that_lasts_long_forgets_all_before_it(backend):
    x, steps, rates, writes, reads, first = leaves(1, 40, 2, 3, 2)
    steps[:, 20] = 1e6
    y, _ = scan(x, steps, rates, writes, reads, first, backend=backend)
    alone, _ = selective_scan(x[:, 20:], steps[:, 20:], rates, writes[:, 20:], reads[:, 20:], backend=backend)
    assert torch.allclose(y[:, 20:], alone, rtol=1e-8)


def test_gradients_of_the_reference():
    arguments = tuple(tensor.requires_grad_() for tensor in leaves(1, 3, 2, 2, 2))
    assert torch.autograd.gradcheck(reference.selective_scan, arguments)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("chunk", [1, 7, 32])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_chunks_agree_with_the_recurrence(dtype, chunk, shape):
    arguments = leaves(*shape)
    want = value_and_grads(both(reference.selective_scan), *arguments)
    got = value_and_grads(both(chunked.selective_scan, chunk=chunk), *(a.to(dtype) for a in arguments))
    for fast, plain in zip(got, want, strict=True):
        assert fast.dtype == dtype
        assert_agrees(fast, plain, tolerance=5e-6 if dtype == torch.float32 else None)


def test_a_large_step_does_not_blur_the_small_ones_after_it():
    """In float32 a sum that has passed 1e6 has lost the digits of steps of 1e-3: their decay would be 1."""
    x, steps, rates, writes, reads, first = (tensor.float() for tensor in leaves(1, 32, 1, 2, 2))
    steps[:] = 1e-3
    steps[:, 3] = 1e6
    want = reference.selective_scan(*(a.double() for a in (x, steps, rates, writes, reads, first)))[0]
    got = chunked.selective_scan(x, steps, rates, writes, reads, first)[0]
    assert_agrees(got[:, 4:], want[:, 4:])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("length", [1, 40, 100])
def test_a_token_is_heard_by_itself_and_later_ones_alone(backend, length):
    x, steps, rates, writes, reads, first = leaves(1, length, 2, 3, 2)
    at = length // 2
    before = scan(x, steps, rates, writes, reads, first, backend=backend)[0]
    for changed in (x, steps, writes, reads):
        kept = changed[:, at].clone()
        changed[:, at] += 1
        after = scan(x, steps, rates, writes, reads, first, backend=backend)[0]
        assert torch.equal(after[:, :at], before[:, :at])
        assert not torch.allclose(after[:, at], before[:, at])
        changed[:, at] = kept
    steps[:] = steps.clamp(max=0.01)
    x.requires_grad_()
    heard = scan(x, steps, rates, writes, reads, first, backend=backend)[0][:, -1]
    assert torch.autograd.grad(heard.sum(), x)[0].abs().amin(dim=1).max() > 0  # the last one hears all


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("at", [0, 1, 32, 45, 70])
def test_pieces_that_hand_their_state_on_are_the_whole(backend, reverse, at):
    x, steps, rates, writes, reads, first = leaves(2, 70, 2, 3, 4)
    whole, last = scan(x, steps, rates, writes, reads, first, backend=backend, reverse=reverse)
    pieces, state = {}, first
    for piece in (slice(at, None), slice(at)) if reverse else (slice(at), slice(at, None)):
        part = (x[:, piece], steps[:, piece], rates, writes[:, piece], reads[:, piece])
        pieces[piece.start], state = scan(*part, state, backend=backend, reverse=reverse)
    assert_agrees(torch.cat([pieces[None], pieces[at]], dim=1), whole)
    assert_agrees(state, last)


def test_the_reverse_is_a_flip_on_both_sides():
    arguments = leaves(2, 50, 2, 3, 4)
    x, steps, rates, writes, reads, first = arguments
    flipped = scan(x.flip(1), steps.flip(1), rates, writes.flip(1), reads.flip(1), first)
    got = scan(*arguments, reverse=True)
    assert torch.equal(got[0], flipped[0].flip(1))
    assert torch.equal(got[1], flipped[1])


@pytest.mark.parametrize("backend", BACKENDS)
def test_sequences_do_not_hear_each_other(backend):
    arguments = leaves(3, 40, 2, 3, 4)
    x, steps, rates, writes, reads, first = arguments
    one = scan(x[1:2], steps[1:2], rates, writes[1:2], reads[1:2], first[1:2], backend=backend)
    for got, want in zip(scan(*arguments, backend=backend), one, strict=True):
        assert_agrees(got[1:2], want)


def test_half_precision_is_computed_in_float32():
    x, steps, rates, writes, reads, first = (tensor.bfloat16() for tensor in leaves(1, 40, 2, 3, 4))
    y, state = scan(x, steps, rates, writes, reads, first)
    wide, last = scan(*(tensor.float() for tensor in (x, steps, rates, writes, reads, first)))
    assert (y.dtype, state.dtype) == (torch.bfloat16, torch.float32)
    assert torch.equal(y, wide.bfloat16())
    assert torch.equal(state, last)


def test_memory_grows_with_the_length_and_not_with_its_square():
    """Bytes that the backward pass keeps: what autograd saves, counted tensor by tensor."""

    def kept(length):
        storages = {}

        def count(tensor):
            storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        arguments = [tensor.float().requires_grad_() for tensor in leaves(1, length, 2, 4, 4)]
        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            outputs = scan(*arguments)
        assert outputs[0].requires_grad
        return sum(storages.values())

    assert kept(2048) <= 4.1 * kept(512)


def test_wrong_shapes_and_backends_are_refused():
    x, steps, rates, writes, reads, first = leaves(2, 5, 3, 2, 4)
    with pytest.raises(ValueError, match=r"values: expected \[batch, length, heads, channels\], got \(2, 5, 3\)"):
        scan(x[..., 0], steps, rates, writes, reads, first)
    with pytest.raises(ValueError, match=r"steps: expected \(2, 5, 3\), one a token and head, got \(2, 5, 1\)"):
        scan(x, steps[..., :1], rates, writes, reads, first)
    with pytest.raises(ValueError, match=r"rates: expected \(3,\), one a head"):
        scan(x, steps, rates[:2], writes, reads, first)
    with pytest.raises(ValueError, match=r"writes, reads: expected \[2, 5, state size\] both"):
        scan(x, steps, rates, writes, reads[..., :2], first)
    with pytest.raises(ValueError, match=r"state: expected \(2, 3, 2, 4\), as it was returned, got \(1, 3, 2, 4\)"):
        scan(x, steps, rates, writes, reads, first[:1])
    with pytest.raises(ValueError, match="backend: expected 'auto', 'reference', 'chunked' or 'triton', got 'cuda'"):
        scan(x, steps, rates, writes, reads, first, backend="cuda")
    assert choose_scan_backend("auto", x, 4) == "chunked"


def test_triton_is_refused_where_it_cannot_run(monkeypatch):
    from occkit.ops import scan as op

    x = leaves(2, 5, 3, 2, 4)[0]
    monkeypatch.setattr(op.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"'triton' is not installed; pip install 'occkit\[gpu\]'"):
        choose_scan_backend("triton", x.float(), 4)
    monkeypatch.setattr(op.importlib.util, "find_spec", lambda name: name)
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(ValueError, match="'triton' runs on CUDA, the tensors are on cpu"):
        choose_scan_backend("triton", x.float(), 4)
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert choose_scan_backend("triton", x.float(), 4) == "triton"
    with pytest.raises(ValueError, match="computes in float32, heads and states up to 128 wide"):
        choose_scan_backend("triton", x, 4)
    with pytest.raises(ValueError, match=r"float32, 2 and 129"):
        choose_scan_backend("triton", x.float(), 129)
