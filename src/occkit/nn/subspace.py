"""Subspaces of a vision-language space: fewer channels that still tell the words of a vocabulary apart.

A basis `U` is a `[c, k]` matrix. A feature `x` becomes `x U / |x U|`, and is brought back as `x' U^T / |x' U^T|`.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from occkit.errors import ConfigError

ARCCOS_LIMIT = 1e-6
"""The gradient form keeps cosines this far from -1 and 1, where the slope of arccos is infinite."""


@dataclass(frozen=True, kw_only=True)
class SvdSubspaceConfig:
    """The closed form, see `svd_basis`."""

    dim: int = 128
    """Channels that are left, `k`."""

    def __post_init__(self) -> None:
        _check_dim(self.dim)

    def build(self, text: Float[Tensor, "p c"]) -> Float[Tensor, "c k"]:
        """Return the basis for the text vectors of a vocabulary."""
        return svd_basis(text, self.dim)


@dataclass(frozen=True, kw_only=True)
class ArccosSubspaceConfig:
    """The gradient form of the paper, see `arccos_basis`."""

    dim: int = 128
    """Channels that are left, `k`."""
    seed: int = 0
    """Of the first guess."""
    steps: int = 250
    """Most steps of Adam."""
    learning_rate: float = 1e-3
    """Of Adam."""

    def __post_init__(self) -> None:
        _check_dim(self.dim)
        if self.steps < 1 or not self.learning_rate > 0:
            raise ConfigError(f"ArccosSubspace: steps {self.steps} and learning_rate must be above 0")

    def build(self, text: Float[Tensor, "p c"]) -> Float[Tensor, "c k"]:
        """Return the basis for the text vectors of a vocabulary."""
        return arccos_basis(text, self.dim, seed=self.seed, steps=self.steps, learning_rate=self.learning_rate)


SubspaceConfig = SvdSubspaceConfig | ArccosSubspaceConfig
"""How a basis is found."""


def _check_dim(dim: int) -> None:
    if dim < 1:
        raise ConfigError(f"subspace: dim {dim} must be at least 1")


def _check_text(text: Tensor, dim: int) -> None:
    if not bool(text.isfinite().all()):
        raise ValueError("text: expected finite numbers, got NaN or infinity")
    if dim > text.shape[1]:
        raise ConfigError(f"subspace: dim {dim} is more than the {text.shape[1]} channels of the text vectors")


def svd_basis(text: Float[Tensor, "p c"], dim: int) -> Float[Tensor, "c k"]:
    """Return the orthonormal basis that keeps most of the text vectors: their first right singular vectors.

    From `k` equal to the vectors' rank on nothing of them is lost; further columns are some orthonormal complement,
    which keeps part of what the vocabulary has no words for.

    Args:
        text: one vector a prompt.
        dim: `k`, at most `c`.

    Raises:
        ConfigError: if `dim` is more than `c`.
        ValueError: if a number is not finite.

    Source: original; the optimum of the loss of `arccos_basis` where that reaches 0.
    """
    _check_text(text, dim)
    _, _, right = torch.linalg.svd(text.double(), full_matrices=True)
    return _with_signs(right[:dim].T).to(text.dtype).contiguous()


def _with_signs(basis: Float[Tensor, "c k"]) -> Float[Tensor, "c k"]:
    # Either sign would do: the largest number of a column is positive.
    return basis * basis.gather(0, basis.abs().argmax(0, keepdim=True)).sign()


def pca_basis(moment: Float[Tensor, "c c"], dim: int) -> Float[Tensor, "c k"]:
    """Return the orthonormal basis that keeps most of features: first eigenvectors of their second moment.

    `U` maximises `sum_i |x_i U|^2`, which for unit vectors is the sum of the squared cosines between a feature and
    what comes back of it. Nothing is centred: what all features have in common is kept, as directions from 0 are
    what is compared.

    Args:
        moment: `sum_i x_i x_i^T`, best in float64.
        dim: `k`, at most `c`.

    Raises:
        ConfigError: if `dim` is more than `c`.
        ValueError: if a number is not finite.

    Source: original.
    """
    _check_text(moment, dim)
    _, vectors = torch.linalg.eigh(moment.double())
    return _with_signs(vectors.flip(1)[:, :dim]).float().contiguous()


def arccos_basis(
    text: Float[Tensor, "p c"],
    dim: int,
    *,
    seed: int = 0,
    steps: int = 250,
    learning_rate: float = 1e-3,
    tolerance: float = 1e-4,
    patience: int = 30,
) -> Float[Tensor, "c k"]:
    """Return a basis found by gradient descent on the angle between text vectors and what comes back of them.

    `L = 10 mean_i arccos <t_i, t_i''>` with `t' = t U / |t U|` and `t'' = t' U^T / |t' U^T|`, full batch, Adam, from
    normal numbers of deviation 0.1. The columns are not orthonormal.

    Args:
        text: one vector a prompt, unit length.
        dim: `k`, at most `c`.
        seed: of the first guess.
        steps: most steps.
        learning_rate: of Adam.
        tolerance: a loss that changes less than this has settled...
        patience: ...once it has done so for more than so many steps.

    Raises:
        ConfigError: if `dim` is more than `c`.
        ValueError: if a number is not finite.

    Source: LangOcc, 2024, feature subspace learning.
    """
    _check_text(text, dim)
    first = 0.1 * torch.randn(text.shape[1], dim, generator=torch.Generator().manual_seed(seed))
    basis = first.to(text).requires_grad_()
    optimiser = torch.optim.Adam([basis], lr=learning_rate)
    before, calm = float("inf"), 0
    with torch.enable_grad():
        for _ in range(steps):
            back = expand_features(reduce_features(text.detach(), basis), basis)
            cosine = (text.detach() * back).sum(-1).clamp(ARCCOS_LIMIT - 1, 1 - ARCCOS_LIMIT)
            loss = 10 * cosine.arccos().mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            calm = calm + 1 if abs(before - loss.item()) < tolerance else 0
            before = loss.item()
            if calm > patience:
                break
    return basis.detach()


def reduce_features(features: Float[Tensor, "*s c"], basis: Float[Tensor, "c k"]) -> Float[Tensor, "*s k"]:
    """Return features in a subspace, `x U / |x U|`; zeros for what has no part in it."""
    return functional.normalize(features @ basis, dim=-1)


def expand_features(reduced: Float[Tensor, "*s k"], basis: Float[Tensor, "c k"]) -> Float[Tensor, "*s c"]:
    """Return reduced features in the whole space, `x' U^T / |x' U^T|`."""
    return functional.normalize(reduced @ basis.T, dim=-1)


def subspace_angle(text: Float[Tensor, "p c"], basis: Float[Tensor, "c k"]) -> Float[Tensor, "p"]:
    """Return by how much a subspace turns each text vector, radians (0..pi).

    `2 atan2(|a - b|, |a + b|)` for unit vectors, which is exact for small angles where arccos is not.
    """
    unit = functional.normalize(text.double(), dim=-1)
    back = expand_features(reduce_features(unit, basis.double()), basis.double())
    return (2 * torch.atan2((unit - back).norm(dim=-1), (unit + back).norm(dim=-1))).to(text.dtype)
