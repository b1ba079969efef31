"""Writing down the vision-language features of a data set's images, so that a training need not run their model."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jaxtyping import Float
from rich.console import Console
from rich.progress import track
from torch import Tensor

from occkit.data.feature_store import FeatureLayout, FeatureStore, create_store
from occkit.data.frames import FrameDataset
from occkit.errors import ConfigError
from occkit.foundation import TEMPLATES, FeatureExtractor, PromptTable, TextEncoder, encode_with_templates
from occkit.nn.subspace import SubspaceConfig, reduce_features
from occkit.training.evaluate import share
from occkit.training.processes import process_state


@dataclass(frozen=True, kw_only=True)
class Subspace:
    """Fewer channels, chosen for a vocabulary."""

    basis: Float[Tensor, "c k"]
    """See `occkit.nn.subspace`."""
    description: Mapping[str, Any]
    """JSON of the vocabulary, its encoder, and how the basis was found."""


def find_subspace(config: SubspaceConfig, encoder: TextEncoder, prompts: PromptTable) -> Subspace:
    """Return the subspace of a vocabulary, each prompt averaged over `TEMPLATES`.

    Raises:
        ConfigError: if more channels are asked for than the encoder has.
    """
    text = encode_with_templates(encoder, prompts.texts)
    settings = {name: getattr(config, name) for name in config.__dataclass_fields__}
    return Subspace(
        basis=config.build(text),
        description={
            "kind": type(config).__name__.removesuffix("Config"),
            "settings": settings,
            "encoder": dict(encoder.description),
            "prompts": list(prompts.texts),
            "templates": list(TEMPLATES),
        },
    )


def choose_layout(layout: FeatureLayout, num_frames: int, budget_bytes: int | None) -> FeatureLayout:
    """Return a layout with the finest numbers of which all frames fit into a budget.

    Args:
        layout: what shall be written.
        num_frames: frames to keep.
        budget_bytes: None takes 8 bits.

    Raises:
        ConfigError: if 8 bits do not fit either.
    """
    small = replace(layout, codec="uint8")
    if budget_bytes is None:
        return small
    for choice in (replace(layout, codec="float16"), small):
        if num_frames * choice.frame_bytes <= budget_bytes:
            return choice
    fitting = [k for k in range(1, small.dim) if num_frames * replace(small, dim=k).frame_bytes <= budget_bytes]
    needed = f"{num_frames} frames of {small.dim} channels need {num_frames * small.frame_bytes:,} bytes at 8 bits"
    remedy = f"raise it, or keep fewer channels: --subspace {fitting[-1]}" if fitting else "raise it"
    raise ConfigError(f"--budget: {needed}, {budget_bytes:,} are allowed; {remedy}")


def write_features(
    extractor: FeatureExtractor,
    dataset: FrameDataset,
    folder: Path,
    *,
    subspace: Subspace | None = None,
    budget_bytes: int | None = None,
    progress: bool = True,
) -> tuple[FeatureStore, int]:
    """Write the features of every frame's images; frames that are there already are not looked at again.

    Args:
        extractor: any of `occkit.foundation`.
        dataset: the frames, opened as they are stored: without an image size and without augmentation.
        folder: where to write, see `occkit.data.feature_store`.
        subspace: channels to keep; None keeps all.
        budget_bytes: largest size of all frames; decides between 16 and 8 bits a number.
        progress: show a bar on the terminal.

    Returns:
        The store, and the number of frames written now by this process.

    Raises:
        ConfigError: if the budget is too small.
        DataError: if the folder holds other features, or an image cannot be read.
    """
    state = process_state()
    first = dataset.sample(0)
    image_size = (first.images.shape[-2], first.images.shape[-1])
    layout = FeatureLayout(
        source={
            "extractor": dict(extractor.description),
            "subspace": None if subspace is None else dict(subspace.description),
        },
        cameras=tuple(first.camera_names),
        image_size=image_size,
        map_size=extractor.map_size(image_size),
        width=extractor.width,
        dim=extractor.width if subspace is None else subspace.basis.shape[1],
        codec="uint8",
    )
    layout = choose_layout(layout, len(dataset), budget_bytes)
    if state.is_main_process:
        create_store(folder, layout, None if subspace is None else subspace.basis)
    state.wait_for_everyone()
    store = FeatureStore(folder)
    missing = [token for token in share(dataset.tokens) if not store.has(token)]
    places = {token: index for index, token in enumerate(dataset.tokens)}
    show = progress and state.is_main_process
    for token in track(missing, "features", console=Console(stderr=True), disable=not show):
        sample = dataset.sample(places[token])
        maps = extractor.extract(sample.images[0], token=token, cameras=sample.camera_names)
        if store.basis is not None:
            maps = reduce_features(maps.cpu().movedim(1, -1), store.basis).movedim(-1, 1)
        store.write(token, maps)
    state.wait_for_everyone()
    return store, len(missing)
