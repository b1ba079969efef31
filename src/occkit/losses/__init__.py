"""Losses: plain functions from predictions and labels to a scalar. They know neither networks nor files."""

from occkit.losses.affinity import geometric_affinity, semantic_affinity
from occkit.losses.classification import (
    cross_entropy,
    inverse_log_weights,
    inverse_power_weights,
    lovasz_softmax,
    select_labelled,
)
from occkit.losses.depth import depth_binary_cross_entropy, depth_cross_entropy, nearest_depth_per_cell
from occkit.losses.image_semantics import classes_of_cells

__all__ = [
    "classes_of_cells",
    "cross_entropy",
    "depth_binary_cross_entropy",
    "depth_cross_entropy",
    "geometric_affinity",
    "inverse_log_weights",
    "inverse_power_weights",
    "lovasz_softmax",
    "nearest_depth_per_cell",
    "select_labelled",
    "semantic_affinity",
]
