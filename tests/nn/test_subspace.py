"""Subspaces of a vocabulary: what is kept of its words, and that neither form ever ends in NaN."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from occkit.errors import ConfigError
from occkit.nn.subspace import (
    ArccosSubspaceConfig,
    SvdSubspaceConfig,
    arccos_basis,
    expand_features,
    reduce_features,
    subspace_angle,
    svd_basis,
)


def vectors(count, width, *, rank=None, seed=0):
    draw = torch.Generator().manual_seed(seed)
    rank = rank or width
    plain = torch.randn(count, rank, generator=draw) @ torch.randn(rank, width, generator=draw)
    return functional.normalize(plain, dim=-1)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 12), st.integers(0, 8), st.integers(0, 999))
def test_nothing_is_lost_from_the_rank_on(rank, more, seed):
    text = vectors(20, 24, rank=rank, seed=seed)
    basis = svd_basis(text, rank + more)
    assert basis.shape == (24, rank + more)
    assert torch.allclose(basis.T @ basis, torch.eye(rank + more), atol=1e-5)
    assert subspace_angle(text, basis).max() < 1e-5
    words = reduce_features(text, basis)
    assert torch.allclose(words @ words.T, text @ text.T, atol=1e-5), "angles between words stay"


def test_the_angle_falls_with_the_dimension():
    text = vectors(20, 24)
    lost = [float(subspace_angle(text, svd_basis(text, k)).mean()) for k in (1, 2, 4, 8, 16, 20)]
    assert lost == sorted(lost, reverse=True)
    assert lost[0] > 0.8
    assert lost[-1] < 1e-6


def test_an_angle_by_hand():
    text = torch.tensor([[0.6, 0.8], [1.0, 0.0]])
    first_axis = torch.tensor([[1.0], [0.0]])
    assert subspace_angle(text, first_axis).tolist() == pytest.approx([math.acos(0.6), 0.0])
    assert reduce_features(text, first_axis).tolist() == [[1.0], [1.0]]
    assert expand_features(torch.tensor([[2.0]]), first_axis).tolist() == [[1.0, 0.0]]
    assert reduce_features(torch.tensor([0.0, 1.0]), first_axis).tolist() == [0.0], "zeros, not NaN"


def test_words_outside_the_vocabulary_are_turned():
    text = torch.eye(4)[:2]
    other = functional.normalize(torch.tensor([[1.0, 0.0, 1.0, 0.0]]), dim=-1)
    assert subspace_angle(other, svd_basis(text, 2)).item() == pytest.approx(math.pi / 4)


def test_the_gradient_form_learns_and_stops():
    text = vectors(12, 16, rank=6)
    guess = arccos_basis(text, 8, steps=1)
    found = arccos_basis(text, 8)
    before, after = (subspace_angle(text, basis).mean() for basis in (guess, found))
    assert after < 0.3 * before
    assert torch.equal(found, arccos_basis(text, 8))
    assert not torch.equal(found, arccos_basis(text, 8, seed=1))
    # A loss that hardly moves ends the search before its last step.
    calm = arccos_basis(text, 8, tolerance=1e9, patience=5)
    assert torch.equal(calm, arccos_basis(text, 8, steps=7))


@pytest.mark.parametrize("dim", [1, 4])
def test_neither_form_is_ever_nan(dim):
    exact = torch.eye(4)
    for text in (exact, exact[:1].repeat(5, 1), torch.zeros(3, 4), torch.cat([exact[:1], -exact[:1]])):
        for config in (SvdSubspaceConfig(dim=dim), ArccosSubspaceConfig(dim=dim, learning_rate=0.1)):
            basis = config.build(text)
            assert basis.isfinite().all()
            assert subspace_angle(text, basis).isfinite().all()


def test_the_same_words_give_the_same_signs():
    text = vectors(6, 8).double()
    turned = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64))[0] @ text
    assert torch.allclose(svd_basis(text, 3), svd_basis(turned, 3), atol=1e-9)


def test_what_cannot_be_is_refused():
    with pytest.raises(ConfigError, match="dim 9 is more than the 8 channels"):
        svd_basis(vectors(3, 8), 9)
    with pytest.raises(ConfigError, match="dim 9 is more"):
        arccos_basis(vectors(3, 8), 9)
    with pytest.raises(ValueError, match="expected finite"):
        svd_basis(torch.tensor([[float("nan"), 1.0]]), 1)
    with pytest.raises(ConfigError, match="at least 1"):
        SvdSubspaceConfig(dim=0)
    with pytest.raises(ConfigError, match="above 0"):
        ArccosSubspaceConfig(steps=0)
