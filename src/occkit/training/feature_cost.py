"""What writing features down costs in accuracy: the rungs of a budget's ladder, and the measurement of each.

From the finest: all channels at 16 bits, all at 8 bits, then ever fewer channels at 8 bits. Rounding to 8 bits costs
some millionths of cosine and a channel that is left out far more, so 16 bits never come with fewer channels.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from jaxtyping import Float
from torch import Tensor

from occkit.data.feature_bytes import read_back
from occkit.data.feature_layout import Codec, FeatureCost, FeatureLayout
from occkit.errors import ConfigError
from occkit.nn.subspace import expand_features, pca_basis, reduce_features, svd_basis

Kind = Literal["all", "asked", "images", "both", "words"]
"""Which channels: all; the subspace that was asked for; those in which most of the images' features lie; most of these
and of the words of a vocabulary, in equal parts; those that tell the words apart."""
FEWEST = 4
"""Channels below which nothing is chosen."""


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """Words as vectors of the space the features live in."""

    words: tuple[str, ...]
    """The prompts."""
    text: Float[Tensor, "p c"]
    """Their vectors, length 1."""
    description: Mapping[str, Any]
    """JSON of the words and what encoded them."""


@dataclass(frozen=True, kw_only=True)
class Rung:
    """A way to write features down."""

    kind: Kind
    """Which channels are kept."""
    codec: Codec
    """Bits a number."""
    dim: int
    """How many channels."""

    def layout(self, base: FeatureLayout) -> FeatureLayout:
        """Return a layout changed to this rung; its source does not yet name the subspace."""
        return replace(base, codec=self.codec, dim=self.dim)


@dataclass(frozen=True)
class Priced:
    """A rung, what it weighs and what it costs."""

    rung: Rung
    """The way."""
    bytes: int
    """Of all frames."""
    cost: FeatureCost
    """Measured."""


def choose_rung(
    base: FeatureLayout, num_frames: int, budget_bytes: int | None, *, asked: bool, words: bool = False
) -> Rung:
    """Return the finest way to write features of which all frames fit into a budget.

    Args:
        base: what shall be written; `dim` is that of the subspace that was asked for, or the width.
        num_frames: frames to keep.
        budget_bytes: None takes 8 bits and leaves no channel out.
        asked: the channels were chosen already; the budget then only decides between 16 and 8 bits.
        words: a vocabulary is at hand, whose words fewer channels must keep too.

    Raises:
        ConfigError: if the coarsest does not fit either.
    """
    kind: Kind = "asked" if asked else "all"
    small = replace(base, codec="uint8")
    if budget_bytes is None:
        return Rung(kind=kind, codec="uint8", dim=base.dim)
    for codec in ("float16", "uint8"):
        if num_frames * replace(base, codec=codec).frame_bytes <= budget_bytes:
            return Rung(kind=kind, codec=codec, dim=base.dim)
    # The size grows by the same with each channel.
    each = num_frames * (replace(small, dim=1).frame_bytes - _header(small))
    most = min((budget_bytes - num_frames * _header(small)) // each, base.dim - 1)
    if not asked and most >= FEWEST:
        return Rung(kind="both" if words else "images", codec="uint8", dim=most if most < 8 else most - most % 8)
    fewest = base.dim if asked else FEWEST
    needed = num_frames * replace(small, dim=min(fewest, base.dim)).frame_bytes
    remedy = f"raise it, or keep fewer channels: --subspace {most}" if asked and most >= 1 else "raise it"
    raise ConfigError(
        f"--budget: {num_frames} frames of {min(fewest, base.dim)} channels need {needed:,} bytes at 8 bits, "
        f"{budget_bytes:,} are allowed; {remedy}"
    )


def _header(layout: FeatureLayout) -> int:
    return replace(layout, codec="float16").header_bytes


def ladder(base: FeatureLayout, chosen: Rung, *, words: bool) -> list[Rung]:
    """Return the rungs worth comparing with the one that was chosen, from the finest.

    Args:
        base: what shall be written.
        chosen: one of them.
        words: a vocabulary is at hand, so that its subspaces can be compared.
    """
    kind: Kind = "asked" if chosen.kind == "asked" else "all"
    rungs = [Rung(kind=kind, codec=codec, dim=base.dim) for codec in ("float16", "uint8")]
    if chosen.kind == "asked":
        return rungs
    dims = {base.width // part for part in (2, 4, 8)} | {chosen.dim}
    kinds: tuple[Kind, ...] = ("both", "images", "words") if words else ("images",)
    for dim in sorted((dim for dim in dims if FEWEST <= dim < base.width), reverse=True):
        rungs += [Rung(kind=some, codec="uint8", dim=dim) for some in kinds]
    return rungs


def moment_of(frames: Iterable[Float[Tensor, "n c rows columns"]]) -> Float[Tensor, "c c"]:
    """Return the second moment of the features of some frames, float64."""
    total: Tensor | None = None
    for maps in frames:
        cells = cells_of(maps).double()
        total = cells.T @ cells if total is None else total + cells.T @ cells
    if total is None:
        raise ValueError("frames: expected at least one")
    return total


def basis_of(
    rung: Rung,
    *,
    asked: Float[Tensor, "c k"] | None,
    moment: Float[Tensor, "c c"] | None,
    vocabulary: Vocabulary | None,
) -> Float[Tensor, "c k"] | None:
    """Return the basis of a rung; None if all channels are kept.

    Raises:
        ValueError: if what it is made from was not given.
    """
    if rung.kind == "asked":
        return asked
    if rung.kind in ("images", "both") and moment is not None:
        return pca_basis(moment if rung.kind == "images" else _joined(moment, vocabulary), rung.dim)
    if rung.kind == "words" and vocabulary is not None:
        return svd_basis(vocabulary.text, rung.dim)
    if rung.kind != "all":
        raise ValueError(f"rung: nothing to find the basis of {rung} from")
    return None


def _joined(moment: Float[Tensor, "c c"], vocabulary: Vocabulary | None) -> Float[Tensor, "c c"]:
    """Return the second moment of features and words, each with the same part in it.

    Words are reduced as features are, to length 1 again: one that hardly lies in the features' channels would be blown
    up, and win where it should not.
    """
    if vocabulary is None:
        raise ValueError("vocabulary: needed to keep words")
    words = vocabulary.text.double()
    words = words.T @ words
    return moment / moment.trace() + words / words.trace()


def cells_of(maps: Float[Tensor, "n c rows columns"]) -> Float[Tensor, "m c"]:
    """Return the vectors of maps, one row a cell."""
    return maps.detach().cpu().float().movedim(1, -1).reshape(-1, maps.shape[1])


def measure_rungs(
    rungs: Sequence[tuple[Codec, Float[Tensor, "c k"] | None]],
    frames: Iterable[Float[Tensor, "n c rows columns"]],
    vocabulary: Vocabulary | None = None,
) -> list[FeatureCost]:
    """Measure what ways of writing features take from them.

    A cell's error is `1 - cos(x, x'')` with the extractor's float32 vector `x` and what is read back of it, `x''`,
    brought into all channels again. Its best word is the one of the highest cosine: among all channels before, and
    as a system asks after: with words reduced as the features were.

    Args:
        rungs: bits a number, and a basis or None.
        frames: of the extractor, one after the other; each is looked at once.
        vocabulary: the words; without them none are compared.

    Raises:
        ConfigError: if words and features have different numbers of channels.
        ValueError: if there is no frame.
    """
    errors: list[list[np.ndarray]] = [[] for _ in rungs]
    changed, count = [0] * len(rungs), 0
    for maps in frames:
        count += 1
        cells = cells_of(maps)
        best = None if vocabulary is None else _best(cells, vocabulary)
        for place, (codec, basis) in enumerate(rungs):
            kept = cells if basis is None else reduce_features(cells, basis)
            back = read_back(kept[None], codec)[0]
            whole = back if basis is None else expand_features(back, basis)
            # For unit vectors; 1 - cosine itself would drown in rounding.
            errors[place].append(((whole - cells).double().square().sum(-1) / 2).numpy())
            if vocabulary is not None and best is not None:
                changed[place] += int((_best(back, vocabulary, basis) != best).sum())
    if not count:
        raise ValueError("frames: expected at least one")
    words = 0 if vocabulary is None else len(vocabulary.words)
    found = []
    for some, turned in zip(errors, changed, strict=True):
        cells_errors = np.concatenate(some)
        found.append(
            FeatureCost(
                frames=count,
                mean=float(cells_errors.mean()),
                p99=float(np.percentile(cells_errors, 99)),
                words=words,
                changed=turned / len(cells_errors) if words else None,
            )
        )
    return found


def _best(cells: Float[Tensor, "m k"], vocabulary: Vocabulary, basis: Float[Tensor, "c k"] | None = None) -> Tensor:
    text = vocabulary.text if basis is None else reduce_features(vocabulary.text, basis)
    if text.shape[1] != cells.shape[1]:
        raise ConfigError(f"words of {text.shape[1]} channels, features of {cells.shape[1]}; they share no space")
    return (cells @ text.T).argmax(dim=-1)
