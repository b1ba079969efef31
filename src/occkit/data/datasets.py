"""Opens a data set, whatever its format."""

from pathlib import Path
from typing import Literal

from occkit.data.frames import DataConfig, FrameDataset, Split
from occkit.data.nuscenes import NuScenesDataset
from occkit.data.nyuv2 import NyuV2Dataset, find_splits
from occkit.data.rig import RigDataset, find_drives
from occkit.data.semantickitti import SemanticKittiDataset
from occkit.data.sscbench import SscBenchDataset, drives_of
from occkit.errors import DataError

DEFAULT_CACHE_BYTES = 512 * 2**20
"""Memory for what was read: enough for a few hundred small frames, so that training does not wait for decoding."""

Layout = Literal["nuscenes", "semantickitti", "sscbench", "nyuv2", "rig"]
"""Of the files of a data set."""

_READERS = {
    "nuscenes": NuScenesDataset,
    "semantickitti": SemanticKittiDataset,
    "sscbench": SscBenchDataset,
    "nyuv2": NyuV2Dataset,
}
"""Of the layouts that are split."""

__all__ = [
    "DEFAULT_CACHE_BYTES",
    "DataConfig",
    "FrameDataset",
    "Layout",
    "Split",
    "open_dataset",
    "recognise_dataset",
]


def open_dataset(
    root: Path,
    *,
    split: Split,
    config: DataConfig,
    training: bool = False,
    cache_bytes: int = DEFAULT_CACHE_BYTES,
) -> FrameDataset:
    """Open a data set; its format is recognised by what the folder holds.

    Args:
        root: a nuScenes root (`v1.0-*`), a SemanticKITTI root (`sequences` or `dataset/sequences`), an
            SSCBench-KITTI-360 root (`data_2d_raw`), a NYUv2 root (`NYUtrain`, `NYUtest`), or a `rig.json`, its
            folder, or a folder or two above.
        split: train, val, test, or all there is. A rig is not split: every split is all of it.
        config: what to load.
        training: allow augmentation and leave out frames without a label where others have one.
        cache_bytes: memory for what was read; 0 reads everything from disk each time.

    Raises:
        DataError: if the folder is none of these, damaged, or has no frame of the split.
        ConfigError: if the config asks for cameras that are not there.
    """
    root = Path(root)
    if not root.exists():
        raise DataError(root, "no such file or folder", "give the root of a data set, or a rig.json")
    layout = recognise_dataset(root)
    if layout is None:
        raise DataError(
            root,
            "is no data set that can be opened: no v1.0-* (nuScenes), sequences (SemanticKITTI), "
            "data_2d_raw (SSCBench-KITTI-360), NYUtrain (NYUv2) or rig.json",
            "give its root folder; `occkit doctor` says what a folder is",
        )
    if layout == "rig":
        return RigDataset(root, config=config, training=training, cache_bytes=cache_bytes)
    return _READERS[layout](root, split=split, config=config, training=training, cache_bytes=cache_bytes)


def recognise_dataset(root: Path) -> Layout | None:
    """Return the layout of a data set that `open_dataset` opens, by what the folder holds; None if there is none."""
    if root.is_dir() and any(root.glob("v1.0-*")):
        return "nuscenes"
    if any((root / level).is_dir() for level in ("sequences", "dataset/sequences")):
        return "semantickitti"
    if root.is_dir() and drives_of(root) is not None:
        return "sscbench"
    if find_splits(root) is not None:
        return "nyuv2"
    return "rig" if find_drives(root) else None
