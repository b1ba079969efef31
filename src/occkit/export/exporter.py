"""From a system and some frames to files with a report: trace, check, compare, and only then write."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from occkit.errors import ConfigError
from occkit.export.graph import FrameGraph, GraphOptions, GraphSpec, Tensors, batch_of
from occkit.export.onnx_file import OPSET, bake, describe, trace, with_batch
from occkit.export.parity import MAX_DIFFERENCE, MIN_AGREEMENT, Compared, Frame, Session, compare, latencies
from occkit.export.report import Circumstances, make_report, versions, write_report
from occkit.export.variants import Variant, to_fp16, to_int8
from occkit.files import write_bytes
from occkit.nn.backbones import IMAGENET_MEAN, IMAGENET_STD

if TYPE_CHECKING:
    from onnx import ModelProto

RIG_INPUTS = ("intrinsics", "ego_from_camera", "distortion")
"""What a rig is, among the inputs."""
_MEANINGS = {
    "images": "RGB 0..255, [time, camera, 3, height, width]; time 0 is now and time grows into the past",
    "intrinsics": "camera matrices, pixels of the images as they come in; pixel centres at +0.5",
    "ego_from_camera": "poses in the present ego frame (x forward, y left, z up), metres; cameras are OpenCV's",
    "distortion": "k1 k2 p1 p2 k3 k4 k5 k6 of OpenCV; zeros are a pinhole",
    "depth_map": "z-depth of each pixel of the current images, metres; 0 where unknown",
    "masks": "class of each pixel of the current images; the free id is sky, the ignore id uncertain",
    "segmentation_features": "feature maps of the current images",
    "points": "LiDAR: x, y, z (metres, ego frame), intensity 0..1; to fill up, points at 1e6",
    "logits": "class scores before softmax, [class, x, y, z]",
    "labels": "most likely class, [x, y, z]",
    "voxel_features": "vector of each voxel, [feature, x, y, z]; compare with words by their cosine",
}


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """What is written."""

    batch: int | None = 1
    """Frames of a call; None is any number."""
    variants: tuple[Variant, ...] = ()
    """Beside the float32 file."""
    graph: GraphOptions = field(default_factory=GraphOptions)
    """Inputs and outputs."""
    fixed_rig: bool = False
    """Make the cameras of the first frame part of the file."""
    repeats: int = 5
    """Timed calls."""
    protocol: str | None = None
    """Score labelled frames by this."""

    def __post_init__(self) -> None:
        if self.batch is not None and not 1 <= self.batch <= 64:
            raise ConfigError(f"batch: expected 1..64 or dynamic, got {self.batch}")
        if self.repeats < 1:
            raise ConfigError(f"repeats: expected 1 or more, got {self.repeats}")


@dataclass(frozen=True, kw_only=True)
class About:
    """What a file says of itself, beside its inputs and outputs."""

    recipe: str
    """Name of the recipe."""
    weights_sha256: str
    """Fingerprint of the system's weights and buffers."""
    keep_aspect: bool = True
    """Images were scaled to the width and cut off at the top, not scaled along both axes on their own."""
    camera_names: tuple[str, ...] = ()
    """Of the cameras that were traced."""
    vocabulary: tuple[str, ...] = ()
    """Words whose vectors the classes are, of an open-vocabulary system."""


@dataclass(frozen=True, kw_only=True)
class Exported:
    """Files that have passed, not written yet."""

    models: Mapping[str, bytes]
    """ONNX of "fp32" and of each variant."""
    report: Mapping[str, Any]
    """See `make_report`."""

    def write(self, path: Path) -> tuple[Path, ...]:
        """Write `path`, `<stem>.<variant>.onnx`, `<stem>.parity.json` and `.md` beside it; returns all of them."""
        files = [variant_path(path, name) for name in self.models]
        for file, model in zip(files, self.models.values(), strict=True):
            write_bytes(file, model)
        report = path.with_name(f"{path.stem}.parity.json")
        write_report(report, self.report)
        return (*files, report, report.with_suffix(".md"))


def variant_path(path: Path, name: str) -> Path:
    """Return the file of a variant of `path`; "fp32" is `path` itself."""
    return path if name == "fp32" else path.with_name(f"{path.stem}.{name}.onnx")


def export_system(
    system: nn.Module,
    spec: GraphSpec,
    frames: Sequence[Frame],
    *,
    path: Path,
    about: About,
    config: ExportConfig,
    calibration: Sequence[Tensors] = (),
) -> Exported:
    """Export a system, and compare what was exported with it.

    Args:
        system: in evaluation mode, on the CPU.
        spec: what its tensors mean.
        frames: to compare on; the first is traced and timed.
        path: where the float32 file will lie; nothing is written here.
        about: goes into the files.
        config: what is made.
        calibration: frames to find 8-bit ranges on; the variant needs some.

    Raises:
        ConfigError: if the system cannot be traced, or the float32 file does not say what the system says.
    """
    system.eval()
    inputs = frames[0].inputs
    with torch.no_grad():
        system(batch_of(inputs, spec))  # whatever it works out at its first call, such as vectors of words
    graph = FrameGraph(system, spec, config.graph)
    frame = trace(graph, inputs)
    if config.fixed_rig:
        frame = bake(frame, {name: inputs[name].numpy() for name in RIG_INPUTS if name in inputs})
    traced = {"fp32": frame}
    for variant in config.variants:
        traced[variant] = to_fp16(frame) if variant == "fp16" else to_int8(frame, calibration)
    models = {
        name: describe(with_batch(model, config.batch), _description(graph, inputs, about, config, name, model))
        for name, model in traced.items()
    }
    threads = torch.get_num_threads()
    sessions = {name: Session(model, threads=threads) for name, model in models.items()}
    compared = compare(system, spec, sessions, frames, protocol=config.protocol)
    _check(compared)
    seconds = latencies(system, spec, sessions, inputs, repeats=config.repeats)
    circumstances = Circumstances(
        recipe=about.recipe,
        weights_sha256=about.weights_sha256,
        opset=OPSET,
        batch=config.batch,
        fixed_rig=config.fixed_rig,
        threads=threads,
        repeats=config.repeats,
        protocol=config.protocol,
        calibration_frames=len(calibration) if "int8" in config.variants else 0,
    )
    files = {name: (variant_path(path, name).name, len(model)) for name, model in models.items()}
    return Exported(models=models, report=make_report(circumstances, compared, seconds, files))


def _check(compared: Compared) -> None:
    found = compared.differences["fp32"]
    if not found.holds:
        raise ConfigError(
            f"export: the float32 file differs from the system by {found.largest:.2e} at most (limit "
            f"{MAX_DIFFERENCE:g}), labels agree on {100 * found.agreement:.3f} % of the voxels (limit "
            f"{100 * MIN_AGREEMENT:g} %), over {found.frames} frames; nothing was written"
        )


def _description(
    graph: FrameGraph, inputs: Tensors, about: About, config: ExportConfig, variant: str, model: "ModelProto"
) -> dict[str, Any]:
    """Return what a file says of itself, as JSON values; see docs/export.md."""
    spec = graph.spec
    taxonomy, grid = spec.taxonomy, spec.grid
    times, cameras = (int(n) for n in inputs["images"].shape[:2])
    return {
        "format": 1,
        "recipe": about.recipe,
        "variant": variant,
        "weights_sha256": about.weights_sha256,
        "versions": versions(),
        "batch": "dynamic" if config.batch is None else config.batch,
        "images": {
            "height": spec.height,
            "width": spec.width,
            "frames": times,
            "cameras": cameras,
            "camera_names": list(about.camera_names),
            "keep_aspect": about.keep_aspect,
            "mean": [255 * value for value in IMAGENET_MEAN],
            "std": [255 * value for value in IMAGENET_STD],
            "normalised": "in the graph",
        },
        "inputs": {value.name: _MEANINGS[value.name] for value in model.graph.input},
        "outputs": {name: _MEANINGS[name] for name in graph.outputs},
        "grid": {"origin": grid.origin, "voxel_size": grid.voxel_size, "shape": grid.shape, "frame": "ego"},
        "taxonomy": {
            "name": taxonomy.name,
            "classes": taxonomy.classes,
            "colours": taxonomy.colours,
            "free_id": taxonomy.free_id,
            "ignore_id": taxonomy.ignore_id,
        },
        "vocabulary": list(about.vocabulary),
    }
