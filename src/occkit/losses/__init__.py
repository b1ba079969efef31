"""Losses: plain functions from predictions and labels to scalars. They know neither networks nor files."""

from occkit.losses.affinity import geometric_affinity, semantic_affinity
from occkit.losses.beams import beam_occupancy, beam_targets
from occkit.losses.classification import (
    cross_entropy,
    inverse_log_weights,
    inverse_power_weights,
    lovasz_softmax,
    select_labelled,
)
from occkit.losses.coarse_labels import coarse_labels
from occkit.losses.dense_distillation import distill_channels, distill_features, distill_logits
from occkit.losses.depth import (
    depth_binary_cross_entropy,
    depth_cross_entropy,
    depth_gaussian_divergence,
    nearest_depth_per_cell,
)
from occkit.losses.distillation import (
    distill_affinity,
    distill_depth,
    distill_semantics,
    distill_termination,
    fields_from_logits,
    ray_subset,
)
from occkit.losses.frustum import frustum_proportion
from occkit.losses.image_semantics import classes_of_cells
from occkit.losses.masks import mask_binary_cross_entropy, mask_shares, positive_weights
from occkit.losses.photometric import (
    PhotometricConfig,
    Reprojection,
    edge_aware_smoothness,
    photometric_error,
    photometric_loss,
    reproject,
    structural_similarity,
    warp_image,
)
from occkit.losses.relations import relation_loss, voxel_relations
from occkit.losses.rendering import colour_loss, distortion_loss, occupancy_sparsity, opacity_entropy
from occkit.losses.voxels import VoxelLossConfig, training_mask, voxel_losses

__all__ = [
    "PhotometricConfig",
    "Reprojection",
    "VoxelLossConfig",
    "beam_occupancy",
    "beam_targets",
    "classes_of_cells",
    "coarse_labels",
    "colour_loss",
    "cross_entropy",
    "depth_binary_cross_entropy",
    "depth_cross_entropy",
    "depth_gaussian_divergence",
    "distill_affinity",
    "distill_channels",
    "distill_depth",
    "distill_features",
    "distill_logits",
    "distill_semantics",
    "distill_termination",
    "distortion_loss",
    "edge_aware_smoothness",
    "fields_from_logits",
    "frustum_proportion",
    "geometric_affinity",
    "inverse_log_weights",
    "inverse_power_weights",
    "lovasz_softmax",
    "mask_binary_cross_entropy",
    "mask_shares",
    "nearest_depth_per_cell",
    "occupancy_sparsity",
    "opacity_entropy",
    "photometric_error",
    "photometric_loss",
    "positive_weights",
    "ray_subset",
    "relation_loss",
    "reproject",
    "select_labelled",
    "semantic_affinity",
    "structural_similarity",
    "training_mask",
    "voxel_losses",
    "voxel_relations",
    "warp_image",
]
