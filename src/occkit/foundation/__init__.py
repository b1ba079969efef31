"""Guests: models trained elsewhere that label images and understand words.

Each has a Protocol, a real adapter and a simulated stand-in. The simulated ones read the truth layers of a procedural
world and spoil them as the real model would, so that what is built on a guest can be trained and tested without its
weights.
"""

from occkit.foundation.clip import ClipFeatures, ClipFeaturesConfig, ClipText, ClipTextConfig
from occkit.foundation.dense_features import FeatureExtractor
from occkit.foundation.depth import CanonicalDepth, CanonicalDepthConfig, DepthEstimator, canonical_depth
from occkit.foundation.detection import (
    Detections,
    Detector,
    GroundingDinoDetector,
    GroundingDinoDetectorConfig,
)
from occkit.foundation.dino_features import DinoFeatures, DinoFeaturesConfig
from occkit.foundation.families import (
    detector_config,
    language_features_config,
    segmenter_config,
    text_config,
    vision_features_config,
)
from occkit.foundation.grounding import GroundedSam, GroundedSamConfig, SemanticLabeller, merge_detections
from occkit.foundation.language import NO_TEMPLATES, TEMPLATES, TextEncoder, encode_with_templates
from occkit.foundation.lidar_depth import LidarDepth, LidarDepthConfig
from occkit.foundation.one_class import OneClassLabeller, OneClassLabellerConfig
from occkit.foundation.owlv2 import Owlv2Detector, Owlv2DetectorConfig
from occkit.foundation.prompts import LANGOCC_PROMPTS, STREET_PROMPTS, PromptTable, taxonomy_prompts
from occkit.foundation.sam2 import Sam2Features, Sam2FeaturesConfig, Sam2Segmenter, Sam2SegmenterConfig
from occkit.foundation.sam_features import (
    SamFeatures,
    SamFeaturesConfig,
    SimulatedSamFeatures,
    SimulatedSamFeaturesConfig,
)
from occkit.foundation.segment_files import CachedSegmenter, read_segments, write_segments
from occkit.foundation.segmentation import BoxSegmenter, SamSegmenter, SamSegmenterConfig, Segmenter
from occkit.foundation.sentences import SentenceText, SentenceTextConfig
from occkit.foundation.siglip import SiglipFeatures, SiglipFeaturesConfig, SiglipText, SiglipTextConfig
from occkit.foundation.simulated_depth import SimulatedDepth, SimulatedDepthConfig
from occkit.foundation.simulated_features import SimulatedFeatures, SimulatedFeaturesConfig
from occkit.foundation.simulated_grounding import SimulatedLabeller, SimulatedLabellerConfig
from occkit.foundation.simulated_language import SimulatedText, SimulatedTextConfig
from occkit.foundation.simulated_segmentation import SimulatedSegmenter, SimulatedSegmenterConfig
from occkit.foundation.simulated_stereo import SimulatedStereo, SimulatedStereoConfig
from occkit.foundation.transformers_depth import TransformersDepth, TransformersDepthConfig
from occkit.foundation.vocabularies import OCCNERF_VOCABULARY, WORD_VOCABULARY, Vocabulary, one_word_per_call

__all__ = [
    "LANGOCC_PROMPTS",
    "NO_TEMPLATES",
    "OCCNERF_VOCABULARY",
    "STREET_PROMPTS",
    "TEMPLATES",
    "WORD_VOCABULARY",
    "BoxSegmenter",
    "CachedSegmenter",
    "CanonicalDepth",
    "CanonicalDepthConfig",
    "ClipFeatures",
    "ClipFeaturesConfig",
    "ClipText",
    "ClipTextConfig",
    "DepthEstimator",
    "Detections",
    "Detector",
    "DinoFeatures",
    "DinoFeaturesConfig",
    "FeatureExtractor",
    "GroundedSam",
    "GroundedSamConfig",
    "GroundingDinoDetector",
    "GroundingDinoDetectorConfig",
    "LidarDepth",
    "LidarDepthConfig",
    "OneClassLabeller",
    "OneClassLabellerConfig",
    "Owlv2Detector",
    "Owlv2DetectorConfig",
    "PromptTable",
    "Sam2Features",
    "Sam2FeaturesConfig",
    "Sam2Segmenter",
    "Sam2SegmenterConfig",
    "SamFeatures",
    "SamFeaturesConfig",
    "SamSegmenter",
    "SamSegmenterConfig",
    "Segmenter",
    "SemanticLabeller",
    "SentenceText",
    "SentenceTextConfig",
    "SiglipFeatures",
    "SiglipFeaturesConfig",
    "SiglipText",
    "SiglipTextConfig",
    "SimulatedDepth",
    "SimulatedDepthConfig",
    "SimulatedFeatures",
    "SimulatedFeaturesConfig",
    "SimulatedLabeller",
    "SimulatedLabellerConfig",
    "SimulatedSamFeatures",
    "SimulatedSamFeaturesConfig",
    "SimulatedSegmenter",
    "SimulatedSegmenterConfig",
    "SimulatedStereo",
    "SimulatedStereoConfig",
    "SimulatedText",
    "SimulatedTextConfig",
    "TextEncoder",
    "TransformersDepth",
    "TransformersDepthConfig",
    "Vocabulary",
    "canonical_depth",
    "detector_config",
    "encode_with_templates",
    "language_features_config",
    "merge_detections",
    "one_word_per_call",
    "read_segments",
    "segmenter_config",
    "taxonomy_prompts",
    "text_config",
    "vision_features_config",
    "write_segments",
]
