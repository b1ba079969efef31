"""Writing down the vision-language features of a data set's images, so that a training need not run their model."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.progress import track

from occkit.data.feature_bytes import file_digests
from occkit.data.feature_store import FeatureStore
from occkit.data.frames import FrameDataset
from occkit.errors import DataError
from occkit.foundation import FeatureExtractor
from occkit.nn.subspace import reduce_features
from occkit.training.evaluate import share
from occkit.training.processes import process_state


@dataclass(frozen=True, kw_only=True)
class Filled:
    """What writing did, in this process."""

    written: int
    """Frames whose features were made."""
    shared: int
    """Frames that were given the features of others of the same images."""
    changed: tuple[str, ...]
    """Of both, frames that had features of other images: their files have changed since."""


def fill_store(
    extractor: FeatureExtractor, dataset: FrameDataset, store: FeatureStore, *, progress: bool = True
) -> Filled:
    """Write the features of every frame's images; those that were made of the same images are not made again.

    Every image file is read for its digest. Any number of processes may write, started by torchrun, which divides the
    frames among them, or on their own, which does not.

    Args:
        extractor: as for `open_for_writing`.
        dataset: likewise.
        store: what that returned.
        progress: show a bar on the terminal.

    Raises:
        DataError: if an image cannot be read, or the folder cannot be written.
    """
    state = process_state()
    places = {token: index for index, token in enumerate(dataset.tokens)}
    show = progress and state.is_main_process
    written, shared, changed = 0, 0, list[str]()
    for token in track(share(dataset.tokens), "features", console=Console(stderr=True), disable=not show):
        images = file_digests(dataset.image_files(token))
        if store.has(token, images):
            continue
        if _was_other(store, token, images):
            changed.append(token)
        if store.adopt(token, images):
            shared += 1
            continue
        sample = dataset.sample(places[token])
        maps = extractor.extract(sample.images[0], token=token, cameras=sample.camera_names)
        if store.basis is not None:
            maps = reduce_features(maps.cpu().movedim(1, -1), store.basis).movedim(-1, 1)
        store.write(token, maps, images)
        written += 1
    state.wait_for_everyone()
    return Filled(written=written, shared=shared, changed=tuple(changed))


def _was_other(store: FeatureStore, token: str, images: Sequence[str]) -> bool:
    try:
        return store.record(token).images not in ((), tuple(images))
    except DataError:
        return False


def compare_with_images(dataset: FrameDataset, store: FeatureStore, *, progress: bool = True) -> dict[str, list[str]]:
    """Return the frames of a data set whose features are not there, damaged, or of other images; nothing is written.

    Args:
        dataset: the frames.
        store: what was written of them.
        progress: show a bar on the terminal.

    Returns:
        "missing", "changed", "damaged" -> tokens in the order of the data set; the last with what is wrong.

    Raises:
        DataError: if an image cannot be read.
    """
    found: dict[str, list[str]] = {"missing": [], "changed": [], "damaged": []}
    known = set(store.tokens())
    for token in track(dataset.tokens, "comparing", console=Console(stderr=True), disable=not progress):
        if token not in known:
            found["missing"].append(token)
            continue
        if _was_other(store, token, file_digests(dataset.image_files(token))):
            found["changed"].append(token)
            continue
        try:
            store.check(token)
        except DataError as error:
            found["damaged"].append(f"{token}: {error}")
    return found
