"""Guests: models trained elsewhere that label images. Each has a Protocol, a real adapter and a simulated stand-in.

The simulated ones read the truth layers of a procedural world and spoil them as the real model would, so that what is
built on a guest can be trained and tested without its weights.
"""

from occkit.foundation.segment_files import CachedSegmenter, read_segments, write_segments
from occkit.foundation.segmentation import SamSegmenter, SamSegmenterConfig, Segmenter
from occkit.foundation.simulated_segmentation import SimulatedSegmenter, SimulatedSegmenterConfig

__all__ = [
    "CachedSegmenter",
    "SamSegmenter",
    "SamSegmenterConfig",
    "Segmenter",
    "SimulatedSegmenter",
    "SimulatedSegmenterConfig",
    "read_segments",
    "write_segments",
]
