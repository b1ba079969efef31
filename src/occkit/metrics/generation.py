"""How images that were drawn compare with photographs, on the features of a network that is named with every number.

The distances depend on the network more than on the images: figures of two networks are never put into one table.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy import linalg

from occkit.errors import ConfigError

KERNEL_DEGREE = 3
"""Degree of the polynomial kernel of `kernel_distance`."""
_ROWS = 1024


@dataclass(frozen=True, kw_only=True)
class FeatureSet:
    """Features of a set of images."""

    network: str
    """Name of the network, its weights and the size that it saw images in: "inception-v3 pool3, 299 x 299"."""
    values: Float[np.ndarray, "n c"]
    """A row an image."""

    def __post_init__(self) -> None:
        if not self.network.strip():
            raise ConfigError("FeatureSet.network: name the network; a distance without it says nothing")
        if self.values.ndim != 2 or len(self.values) < 2 or not np.isfinite(self.values).all():
            raise ConfigError(
                f"FeatureSet of {self.network}: expected finite features [n, c] of 2 images or more, got shape "
                f"{self.values.shape}"
            )


@dataclass(frozen=True, kw_only=True)
class GenerationScores:
    """What `compare` found."""

    network: str
    """Whose features."""
    images: int
    """Images that were drawn."""
    photographs: int
    """Photographs they were compared with."""
    frechet: float
    """Fréchet distance; lower is nearer. Falls with the number of images, so compare equal numbers."""
    kernel: float
    """Kernel distance (KID); lower is nearer, 0 on average for images of the same kind, whatever their number."""
    nearest: float
    """Median distance of a drawn image to the nearest training photograph; near 0 it was learnt by heart."""
    diversity: float
    """Mean distance between two drawn images."""
    diversity_of_photographs: float
    """The same of the photographs, to hold beside it."""


def compare(drawn: FeatureSet, photographs: FeatureSet, training: FeatureSet) -> GenerationScores:
    """Compare drawn images with photographs that were held out, and with those that were trained on.

    Raises:
        ConfigError: if the features come from different networks.
    """
    return GenerationScores(
        network=drawn.network,
        images=len(drawn.values),
        photographs=len(photographs.values),
        frechet=frechet_distance(drawn, photographs),
        kernel=kernel_distance(drawn, photographs),
        nearest=float(np.median(nearest_distances(drawn, training))),
        diversity=mean_distance(drawn),
        diversity_of_photographs=mean_distance(photographs),
    )


def table(scores: Mapping[str, GenerationScores]) -> str:
    """Return a Markdown table, a row an entry.

    Raises:
        ConfigError: if the entries are of different networks or numbers of images.
    """
    protocols = {(s.network, s.images, s.photographs) for s in scores.values()}
    if len(protocols) != 1:
        raise ConfigError(f"table: figures of different protocols are not comparable: {sorted(protocols)}")
    network, images, photographs = protocols.pop()
    lines = [
        f"Features of {network}; {images} images against {photographs} photographs.",
        "",
        "| | Fréchet distance | kernel distance | nearest training image | diversity | of photographs |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, s in scores.items():
        figures = (s.frechet, s.kernel, s.nearest, s.diversity, s.diversity_of_photographs)
        lines.append(f"| {name} | {' | '.join(f'{figure:.4g}' for figure in figures)} |")
    return "\n".join(lines) + "\n"


def frechet_distance(first: FeatureSet, second: FeatureSet) -> float:
    r"""Return `|m_1 - m_2|^2 + tr(C_1 + C_2 - 2 (C_1 C_2)^{1/2})`, with the unbiased covariances.

    The trace of the root is that of `(C_1^{1/2} C_2 C_1^{1/2})^{1/2}`, which is symmetric and exists for any number of
    images.

    Source: Heusel et al., "GANs Trained by a Two Time-Scale Update Rule" (FID), NeurIPS 2017.
    """
    a, b = _pair(first, second)
    mean = np.square(a.mean(axis=0) - b.mean(axis=0)).sum()
    ca, cb = (np.atleast_2d(np.cov(x, rowvar=False)) for x in (a, b))
    values, vectors = linalg.eigh(ca)
    root = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
    cross = np.sqrt(np.clip(linalg.eigvalsh(root @ cb @ root), 0, None)).sum()
    return float(max(mean + np.trace(ca) + np.trace(cb) - 2 * cross, 0.0))


def kernel_distance(first: FeatureSet, second: FeatureSet) -> float:
    r"""Return the unbiased squared maximum mean discrepancy with the kernel `(x . y / c + 1)^3`; may be below 0.

    `mean_{i != j} k(x_i, x_j) + mean_{i != j} k(y_i, y_j) - 2 mean k(x_i, y_j)`.

    Source: Binkowski et al., "Demystifying MMD GANs" (KID), ICLR 2018; over all images instead of subsets of them.
    """
    a, b = _pair(first, second)
    return _within(a) + _within(b) - 2 * _kernel_sum(a, b) / (len(a) * len(b))


def nearest_distances(drawn: FeatureSet, training: FeatureSet) -> Float[np.ndarray, "n"]:
    """Return the Euclidean distance of each drawn image to the nearest training image."""
    a, b = _pair(drawn, training)
    rows = (a[start : start + _ROWS] for start in range(0, len(a), _ROWS))
    return np.concatenate([np.sqrt(_squared_distances(row, b).min(axis=1)) for row in rows])


def mean_distance(features: FeatureSet) -> float:
    """Return the mean Euclidean distance between two different images of a set."""
    values = features.values.astype(np.float64)
    rows = (values[start : start + _ROWS] for start in range(0, len(values), _ROWS))
    total = sum(float(np.sqrt(_squared_distances(row, values)).sum()) for row in rows)
    return total / (len(values) * (len(values) - 1))


def _pair(first: FeatureSet, second: FeatureSet) -> tuple[Float[np.ndarray, "n c"], Float[np.ndarray, "m c"]]:
    if first.network != second.network:
        raise ConfigError(f"features of {first.network} and of {second.network} cannot be compared; take one network")
    if first.values.shape[1] != second.values.shape[1]:
        widths = (first.values.shape[1], second.values.shape[1])
        raise ConfigError(f"features of {first.network}: expected one width, got {widths}")
    return first.values.astype(np.float64), second.values.astype(np.float64)


def _kernel_sum(a: Float[np.ndarray, "n c"], b: Float[np.ndarray, "m c"]) -> float:
    starts = range(0, len(a), _ROWS)
    return sum(float(((a[i : i + _ROWS] @ b.T / a.shape[1] + 1) ** KERNEL_DEGREE).sum()) for i in starts)


def _within(a: Float[np.ndarray, "n c"]) -> float:
    own = float(((np.square(a).sum(axis=1) / a.shape[1] + 1) ** KERNEL_DEGREE).sum())
    return (_kernel_sum(a, a) - own) / (len(a) * (len(a) - 1))


def _squared_distances(a: Float[np.ndarray, "n c"], b: Float[np.ndarray, "m c"]) -> Float[np.ndarray, "n m"]:
    squares = np.square(a).sum(axis=1)[:, None] + np.square(b).sum(axis=1)[None]
    found = np.clip(squares - 2 * a @ b.T, 0, None)
    # What is left of equal rows after rounding is nothing.
    return np.where(found <= 1e-12 * squares, 0.0, found)
