"""PICTURES: shows an Occupancy, whoever made it; knows no model. Arrays in, uint8 `[h, w, 3]` pictures out."""

from occkit.viewer.canvas import Picture, add_caption, legend, save_picture, stack, tile
from occkit.viewer.compare import ERRORS, OBSERVED, error_counts, error_volume, observed_volume
from occkit.viewer.overlay import draw_overlay, draw_points
from occkit.viewer.scene import EgoCar, chase_camera, draw_perspective, draw_top, look_at

__all__ = [
    "ERRORS",
    "OBSERVED",
    "EgoCar",
    "Picture",
    "add_caption",
    "chase_camera",
    "draw_overlay",
    "draw_perspective",
    "draw_points",
    "draw_top",
    "error_counts",
    "error_volume",
    "legend",
    "look_at",
    "observed_volume",
    "save_picture",
    "stack",
    "tile",
]
