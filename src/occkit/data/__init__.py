"""FILES: readers and writers of the real formats, transforms and the loader.

`open_dataset(root, split=..., config=...)` recognises a folder and returns its frames; `iterate_batches` feeds a
training with them. Modules named after a format (`occ3d`, `semantickitti`, `surroundocc`, ...) are its bytes.
"""

from occkit.data.datasets import DataConfig, FrameDataset, Split, open_dataset
from occkit.data.loader import Turns, batch_indices, evaluation_indices, iterate_batches, iterate_evaluation
from occkit.data.transforms import AugmentConfig

__all__ = [
    "AugmentConfig",
    "DataConfig",
    "FrameDataset",
    "Split",
    "Turns",
    "batch_indices",
    "evaluation_indices",
    "iterate_batches",
    "iterate_evaluation",
    "open_dataset",
]
