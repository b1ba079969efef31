"""Guests: models trained elsewhere that label images. Each has a Protocol, a real adapter and a simulated stand-in.

The simulated ones read the truth layers of a procedural world and spoil them as the real model would, so that what is
built on a guest can be trained and tested without its weights.
"""

from occkit.foundation.depth import CanonicalDepth, CanonicalDepthConfig, DepthEstimator, canonical_depth
from occkit.foundation.grounding import GroundedSam, GroundedSamConfig, SemanticLabeller, merge_detections
from occkit.foundation.lidar_depth import LidarDepth, LidarDepthConfig
from occkit.foundation.one_class import OneClassLabeller, OneClassLabellerConfig
from occkit.foundation.segment_files import CachedSegmenter, read_segments, write_segments
from occkit.foundation.segmentation import SamSegmenter, SamSegmenterConfig, Segmenter
from occkit.foundation.simulated_depth import SimulatedDepth, SimulatedDepthConfig
from occkit.foundation.simulated_grounding import SimulatedLabeller, SimulatedLabellerConfig
from occkit.foundation.simulated_segmentation import SimulatedSegmenter, SimulatedSegmenterConfig
from occkit.foundation.transformers_depth import TransformersDepth, TransformersDepthConfig
from occkit.foundation.vocabularies import OCCNERF_VOCABULARY, WORD_VOCABULARY, Vocabulary, one_word_per_call

__all__ = [
    "OCCNERF_VOCABULARY",
    "WORD_VOCABULARY",
    "CachedSegmenter",
    "CanonicalDepth",
    "CanonicalDepthConfig",
    "DepthEstimator",
    "GroundedSam",
    "GroundedSamConfig",
    "LidarDepth",
    "LidarDepthConfig",
    "OneClassLabeller",
    "OneClassLabellerConfig",
    "SamSegmenter",
    "SamSegmenterConfig",
    "Segmenter",
    "SemanticLabeller",
    "SimulatedDepth",
    "SimulatedDepthConfig",
    "SimulatedLabeller",
    "SimulatedLabellerConfig",
    "SimulatedSegmenter",
    "SimulatedSegmenterConfig",
    "TransformersDepth",
    "TransformersDepthConfig",
    "Vocabulary",
    "canonical_depth",
    "merge_detections",
    "one_word_per_call",
    "read_segments",
    "write_segments",
]
