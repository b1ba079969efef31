"""Before features are written down: the subspace of a vocabulary, what a budget allows, and what that costs."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jaxtyping import Float
from rich.console import Console
from rich.progress import track
from torch import Tensor

from occkit.data.feature_bytes import file_digest
from occkit.data.feature_layout import Codec, FeatureCost, FeatureLayout
from occkit.data.feature_store import DESCRIPTION, FeatureStore, create_store
from occkit.data.frames import FrameDataset
from occkit.errors import ConfigError
from occkit.foundation import TEMPLATES, FeatureExtractor, PromptTable, TextEncoder, encode_with_templates
from occkit.nn.subspace import SubspaceConfig
from occkit.training.feature_cost import (
    Priced,
    Rung,
    Vocabulary,
    basis_of,
    choose_rung,
    ladder,
    measure_rungs,
    moment_of,
)
from occkit.training.processes import process_state

MEASURED_FRAMES = 8
"""Frames on which the cost of writing is measured, and as many others that a PCA is made of."""


@dataclass(frozen=True, kw_only=True)
class Subspace:
    """Fewer channels, chosen for a vocabulary."""

    basis: Float[Tensor, "c k"]
    """See `occkit.nn.subspace`."""
    description: Mapping[str, Any]
    """JSON of the vocabulary, its encoder, and how the basis was found."""


def find_vocabulary(encoder: TextEncoder, prompts: PromptTable) -> Vocabulary:
    """Return the vectors of prompts, each averaged over `TEMPLATES`."""
    return Vocabulary(
        words=prompts.texts,
        text=encode_with_templates(encoder, prompts.texts),
        description={
            "encoder": _by_content(encoder.description),
            "prompts": list(prompts.texts),
            "templates": list(TEMPLATES),
        },
    )


def find_subspace(config: SubspaceConfig, vocabulary: Vocabulary) -> Subspace:
    """Return the subspace of a vocabulary.

    Raises:
        ConfigError: if more channels are asked for than the encoder has.
    """
    settings = {name: getattr(config, name) for name in config.__dataclass_fields__}
    kind = type(config).__name__.removesuffix("Config")
    return Subspace(
        basis=config.build(vocabulary.text),
        description={"kind": kind, "settings": settings, **vocabulary.description},
    )


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A folder that is ready to be written into, and what was compared before it was made."""

    store: FeatureStore
    """The folder."""
    ladder: tuple[Priced, ...] = ()
    """Ways to write that were measured; empty if the folder was there, or in all processes but the first."""
    chosen: Rung | None = None
    """The one of them that was taken."""


def open_for_writing(
    extractor: FeatureExtractor,
    dataset: FrameDataset,
    folder: Path,
    *,
    subspace: Subspace | None = None,
    budget_bytes: int | None = None,
    vocabulary: Vocabulary | None = None,
    progress: bool = True,
) -> Plan:
    """Make a folder for features, or open it: decide how they are written, and measure what that costs.

    A folder that is there and was made with a budget stays as it is written, if the frames still fit.

    Args:
        extractor: any of `occkit.foundation`.
        dataset: the frames, opened as they are stored: without an image size and without augmentation.
        folder: where to write, see `occkit.data.feature_store`.
        subspace: channels to keep; None leaves that to the budget, or keeps all.
        budget_bytes: largest size of all frames, see `choose_rung`.
        vocabulary: words by which cells are compared before and after.
        progress: show a bar on the terminal.

    Raises:
        ConfigError: if the budget is too small.
        DataError: if the folder holds other features, or an image cannot be read.
    """
    if vocabulary is not None and vocabulary.text.shape[1] != extractor.width:
        there = f"words of {vocabulary.text.shape[1]} channels, features of {extractor.width}"
        raise ConfigError(f"{there}: not one space; take the text encoder of the same model")
    state = process_state()
    plan: Plan | None = None
    if state.is_main_process:
        base = _base_layout(extractor, dataset, subspace)
        if not _goes_on(folder, base, dataset, budget_bytes, asked=subspace is not None):
            words = vocabulary is not None
            rung = choose_rung(base, len(dataset), budget_bytes, asked=subspace is not None, words=words)
            if (folder / DESCRIPTION).is_file():
                create_store(folder, replace(base, codec=rung.codec), None if subspace is None else subspace.basis)
            else:
                rungs = [rung] if budget_bytes is None else ladder(base, rung, words=words)
                bases, costs = _weigh(extractor, dataset, rungs, subspace, vocabulary, progress=progress)
                place = rungs.index(rung)
                layout = _named(rung.layout(base), rung, vocabulary)
                store = create_store(folder, layout, bases[place], cost=costs[place])
                sizes = [len(dataset) * rung.layout(base).frame_bytes for rung in rungs]
                plan = Plan(store=store, ladder=tuple(map(Priced, rungs, sizes, costs)), chosen=rung)
    state.wait_for_everyone()
    return plan or Plan(store=FeatureStore(folder))


def _base_layout(extractor: FeatureExtractor, dataset: FrameDataset, subspace: Subspace | None) -> FeatureLayout:
    first = dataset.sample(0)
    image_size = (first.images.shape[-2], first.images.shape[-1])
    return FeatureLayout(
        source={
            "extractor": _by_content(extractor.description),
            "subspace": None if subspace is None else dict(subspace.description),
        },
        cameras=tuple(first.camera_names),
        image_size=image_size,
        map_size=extractor.map_size(image_size),
        width=extractor.width,
        dim=extractor.width if subspace is None else subspace.basis.shape[1],
        codec="uint8",
        by_name=extractor.reads_names,
    )


def _by_content(description: Mapping[str, Any]) -> dict[str, Any]:
    """Name weights of a folder by what is in them, not by where they lie; a hub id stays as it is."""
    named, weights = dict(description), description.get("weights")
    if isinstance(weights, str) and Path(weights).is_dir():
        files = sorted([*Path(weights).glob("*.safetensors"), *Path(weights).glob("config.json")])
        named["weights"] = {path.name: file_digest(path) for path in files}
    return json.loads(json.dumps(named))


def _goes_on(
    folder: Path, base: FeatureLayout, dataset: FrameDataset, budget_bytes: int | None, *, asked: bool
) -> bool:
    """Whether a folder was made for the same with a budget, so that it is written on as it is.

    Raises:
        ConfigError: if the budget no longer suffices for that.
    """
    if budget_bytes is None or not (folder / DESCRIPTION).is_file():
        return False
    store = FeatureStore(folder)
    layout, source = store.layout, dict(store.layout.source)
    made = source.get("subspace")
    if not asked and isinstance(made, dict) and made.get("kind") in ("images", "both"):
        source["subspace"] = None
        layout = replace(layout, source=source, dim=base.dim)
    if replace(layout, codec=base.codec) != base:
        return False
    needed = len({*store.tokens(), *dataset.tokens}) * store.layout.frame_bytes
    if needed > budget_bytes:
        raise ConfigError(
            f"--budget: {folder} is written as {store.layout.codec}, {store.layout.dim} channels; with these frames it "
            f"grows to {needed:,} bytes, {budget_bytes:,} are allowed; raise it, or give a new folder"
        )
    store.tidy()
    return True


def _named(layout: FeatureLayout, rung: Rung, vocabulary: Vocabulary | None) -> FeatureLayout:
    """Say in the layout where a basis that the budget asked for is from."""
    if rung.kind not in ("images", "both"):
        return layout
    words = vocabulary.description if rung.kind == "both" and vocabulary is not None else {}
    made = {"kind": rung.kind, "frames": MEASURED_FRAMES, **words}
    return replace(layout, source={**layout.source, "subspace": made})


def _weigh(
    extractor: FeatureExtractor,
    dataset: FrameDataset,
    rungs: Sequence[Rung],
    subspace: Subspace | None,
    vocabulary: Vocabulary | None,
    *,
    progress: bool,
) -> tuple[list[Float[Tensor, "c k"] | None], list[FeatureCost]]:
    """Return the basis of each rung and what it costs, on other frames than a PCA is made of where there are any."""
    chosen = dataset.spread(2 * MEASURED_FRAMES).tokens
    measured, fitted = chosen[::2], chosen[1::2] or chosen
    asked = None if subspace is None else subspace.basis
    moment = None
    if any(rung.kind in ("images", "both") for rung in rungs):
        moment = moment_of(_extract(extractor, dataset, fitted, "looking", progress=progress))
    bases = [basis_of(rung, asked=asked, moment=moment, vocabulary=vocabulary) for rung in rungs]
    ways: list[tuple[Codec, Tensor | None]] = [(rung.codec, basis) for rung, basis in zip(rungs, bases, strict=True)]
    frames = _extract(extractor, dataset, measured, "measuring", progress=progress)
    return bases, measure_rungs(ways, frames, vocabulary)


def _extract(
    extractor: FeatureExtractor, dataset: FrameDataset, tokens: Sequence[str], doing: str, *, progress: bool
) -> Iterator[Float[Tensor, "n c rows columns"]]:
    places = {token: index for index, token in enumerate(dataset.tokens)}
    for token in track(tokens, doing, console=Console(stderr=True), disable=not progress):
        sample = dataset.sample(places[token])
        yield extractor.extract(sample.images[0], token=token, cameras=sample.camera_names)
