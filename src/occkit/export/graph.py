"""One frame as plain tensors: what an exported graph takes, and the module that is traced into it.

`named tensors -> Batch of one frame -> System -> Prediction -> named tensors`. Calibration is an input like any other,
so that one file serves any rig of as many cameras; grid, classes and the size of the images are part of the graph.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from occkit.errors import ConfigError
from occkit.geometry import Cameras, VoxelGrid
from occkit.samples import Batch, ImageInputs, Prediction
from occkit.taxonomy import Taxonomy

Tensors = dict[str, Tensor]

_IMAGE_INPUTS = {"depth_map": "depth", "masks": "masks", "segmentation_features": "features"}
"""Names of inputs, and the fields of `ImageInputs` that they fill."""


@dataclass(frozen=True, kw_only=True)
class GraphOptions:
    """What else a graph takes and gives."""

    lens: bool = False
    """Take lens coefficients `[t, n, 8]` (zeros are a pinhole) even if the example's cameras have none."""
    points: bool = False
    """Take LiDAR points; for a system that looks at them."""
    voxel_features: bool = False
    """Give the features of the voxels too; for a system that can be asked for words."""


@dataclass(frozen=True, kw_only=True)
class GraphSpec:
    """What the tensors of a graph mean."""

    names: tuple[str, ...]
    """Inputs, in order."""
    height: int
    """Of the images, pixels."""
    width: int
    """Of the images, pixels."""
    grid: VoxelGrid
    """Volume that is predicted."""
    taxonomy: Taxonomy
    """Classes that are predicted."""


def frame_inputs(batch: Batch, row: int, options: GraphOptions) -> Tensors:
    """Return what a graph takes of one frame, by name, without a leading batch dimension.

    Args:
        batch: has the frame.
        row: which of its frames.
        options: what else than images, intrinsics, poses and what models said of the images.

    Raises:
        ConfigError: if points are asked for and the batch has none.
    """
    cameras = batch.cameras
    found: Tensors = {
        "images": batch.images[row].to(torch.uint8),
        "intrinsics": cameras.intrinsics[row].float(),
        "ego_from_camera": cameras.ego_from_camera[row].float(),
    }
    if options.lens or cameras.distortion is not None:
        zeros = cameras.intrinsics.new_zeros(*cameras.batch_shape, 8)
        lens = zeros if cameras.distortion is None else cameras.distortion
        found["distortion"] = nn.functional.pad(lens, (0, 8 - lens.shape[-1]))[row].float()
    for name, field in _IMAGE_INPUTS.items():
        value = None if batch.inputs is None else getattr(batch.inputs, field)
        if value is not None:
            found[name] = value[row] if name == "masks" else value[row].float()
    if options.points:
        if batch.points is None:
            raise ConfigError(f"export: frame {batch.tokens[row]} has no LiDAR points, which this system looks at")
        found["points"] = batch.points[row].float()
    return {name: tensor.contiguous() for name, tensor in found.items()}


def spec_of(batch: Batch, inputs: Mapping[str, Tensor]) -> GraphSpec:
    """Return what the tensors of a frame mean."""
    return GraphSpec(
        names=tuple(inputs),
        height=batch.cameras.height,
        width=batch.cameras.width,
        grid=batch.grid,
        taxonomy=batch.taxonomy,
    )


def batch_of(inputs: Mapping[str, Tensor], spec: GraphSpec) -> Batch:
    """Return the batch of one frame that its tensors stand for; inverse of `frame_inputs`."""
    of_images = {field: inputs[name][None] for name, field in _IMAGE_INPUTS.items() if name in inputs}
    return Batch(
        tokens=("frame",),
        images=inputs["images"][None],
        cameras=Cameras(
            intrinsics=inputs["intrinsics"][None],
            ego_from_camera=inputs["ego_from_camera"][None],
            height=spec.height,
            width=spec.width,
            distortion=inputs["distortion"][None] if "distortion" in inputs else None,
        ),
        grid=spec.grid,
        taxonomy=spec.taxonomy,
        points=(inputs["points"],) if "points" in inputs else None,
        inputs=ImageInputs(**of_images) if of_images else None,
    )


class FrameGraph(nn.Module):
    """A system as a function of the tensors of one frame: the module that is traced.

    Counters among its buffers (steps trained, whether words are encoded) become Python numbers, so that what a system
    decides by them is decided when it is traced.
    """

    def __init__(self, system: nn.Module, spec: GraphSpec, options: GraphOptions) -> None:
        super().__init__()
        self.system = _without_counters(system)
        self.spec, self.options = spec, options
        self.eval()

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of what `forward` returns."""
        return ("logits", "labels", *(("voxel_features",) if self.options.voxel_features else ()))

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Return scores `[c, x, y, z]`, ids `[x, y, z]` uint8, and the features `[f, x, y, z]` if they are wanted.

        Args:
            tensors: in the order of `spec.names`.

        Raises:
            ConfigError: if voxel features are wanted and the system has none.
        """
        inputs = dict(zip(self.spec.names, tensors, strict=True))
        prediction: Prediction = self.system(batch_of(inputs, self.spec))
        found = [prediction.logits[0], prediction.logits[0].argmax(dim=0).to(torch.uint8)]
        if self.options.voxel_features:
            if prediction.features is None:
                raise ConfigError("export: this system has no voxel features")
            found.append(prediction.features[0])
        return tuple(found)


def moved_rig(batch: Batch) -> Batch:
    """Return the frames as if other cameras had taken them: turned by 0.1 rad, a little higher, longer lenses."""
    cameras = batch.cameras
    turn = torch.eye(4, dtype=cameras.ego_from_camera.dtype)
    turn[:2, :2] = torch.tensor([[0.995, -0.0998], [0.0998, 0.995]])
    turn[:3, 3] = torch.tensor([0.31, -0.17, 0.13])
    intrinsics = cameras.intrinsics.clone()
    intrinsics[..., :2, :2] *= 1.07
    moved = replace(cameras, intrinsics=intrinsics, ego_from_camera=turn @ cameras.ego_from_camera)
    return replace(batch, cameras=moved)


def _without_counters(system: nn.Module) -> nn.Module:
    """Return a copy whose buffers of a single whole number or truth value are plain Python numbers."""
    changed = copy.deepcopy(system)
    for module in changed.modules():
        for name, value in list(module.named_buffers(recurse=False)):
            if value.ndim == 0 and not value.is_floating_point():
                delattr(module, name)
                setattr(module, name, value.item())
    return changed
