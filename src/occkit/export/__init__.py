"""EXPORT: any system's inference path as ONNX without custom operators, with a report on how well it agrees.

    system, frames -> one frame traced -> batch around it -> compared with the system -> files

What is traced is one frame, calibration included, so that a file serves any rig of as many cameras. What differs from
the system is the form of the operators: those of `reference.py` and fused torch stand in for the kernels of `ops`.
"""

from occkit.export.exporter import About, ExportConfig, Exported, export_system
from occkit.export.graph import FrameGraph, GraphOptions, GraphSpec, batch_of, frame_inputs, moved_rig, spec_of
from occkit.export.onnx_file import check_standard, trace, with_batch
from occkit.export.parity import Difference, Frame, Session, compare, latencies

__all__ = [
    "About",
    "Difference",
    "ExportConfig",
    "Exported",
    "Frame",
    "FrameGraph",
    "GraphOptions",
    "GraphSpec",
    "Session",
    "batch_of",
    "check_standard",
    "compare",
    "export_system",
    "frame_inputs",
    "latencies",
    "moved_rig",
    "spec_of",
    "trace",
    "with_batch",
]
