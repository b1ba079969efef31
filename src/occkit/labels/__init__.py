"""Pseudo-labels: labelled volumes made from images alone, by models that have seen other data. Files in, files out.

    images -> foundation models: depth and class of every pixel -> labelled points -> those of 13 earlier frames added,
    without what moves -> votes of the voxels -> labels.npz, as of Occ3D

Source: Hayes et al., "EasyOcc" / "Easy3D-Labels", arXiv 2509.26087. What the paper leaves open is an option here.
"""

from occkit.labels.factory import FactoryConfig, Made, make_labels
from occkit.labels.fusion import FusedLabels, FusionConfig, fuse
from occkit.labels.points import (
    LabelledPoints,
    LonelyPoints,
    StatisticalOutliers,
    back_project,
    read_points,
    write_points,
)

__all__ = [
    "FactoryConfig",
    "FusedLabels",
    "FusionConfig",
    "LabelledPoints",
    "LonelyPoints",
    "Made",
    "StatisticalOutliers",
    "back_project",
    "fuse",
    "make_labels",
    "read_points",
    "write_points",
]
