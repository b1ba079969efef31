"""Metric depth by networks of transformers (extra `hf`): ZoeDepth, Depth Anything, Depth Pro, GLPN."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional

from occkit.errors import ConfigError
from occkit.foundation.depth import CanonicalDepthConfig, check_depth_request, clean_depth
from occkit.foundation.depth_pro import DepthProSteps
from occkit.foundation.weights import load_model, load_processor
from occkit.geometry import Cameras

METRIC_DEPTH_KINDS = ("zoedepth", "depth_anything", "depth_pro", "glpn")
"""What `model_type` of a network may be that is metric as it is."""
_OTHERS = ("dpt",)
_MIN_SIDE = 32


@dataclass(frozen=True, kw_only=True)
class TransformersDepthConfig:
    """A depth network saved by `save_pretrained`; metric as it is, or trained for a canonical camera."""

    weights: str
    """Folder that holds `config.json`, safetensors and, but for a canonical camera, the image processor's settings."""
    canonical_focal: float | None = None
    """Focal length of the camera that the network was trained for, pixels of its input; None: it is metric as it is."""
    canonical_size: tuple[int, int] | None = None
    """(height, width) of the network's input, pixels; goes together with `canonical_focal`."""
    camera_focal: bool = False
    """Depth Pro: take the focal length of each camera instead of the one that the network sees in the image."""
    max_depth: float = 300.0
    """Larger depths become this, metres."""
    batch_size: int = 1
    """Images the network sees at once; changes memory and speed, not the result."""
    device: str = "cpu"
    """Where the network runs."""

    def __post_init__(self) -> None:
        if (self.canonical_focal is None) != (self.canonical_size is None):
            raise ConfigError("TransformersDepth: canonical_focal and canonical_size go together")
        if not self.max_depth > 0.0:
            raise ConfigError(f"TransformersDepth: max_depth {self.max_depth} must be above 0")
        if self.batch_size < 1:
            raise ConfigError(f"TransformersDepth: batch_size {self.batch_size} must be at least 1")
        self.canonical()

    def canonical(self) -> CanonicalDepthConfig | None:
        """Return the canonical camera, if there is one.

        Raises:
            ConfigError: if it cannot be.
        """
        if self.canonical_focal is None or self.canonical_size is None:
            return None
        return CanonicalDepthConfig(
            name=self.weights,
            canonical_focal=self.canonical_focal,
            canonical_size=self.canonical_size,
            max_depth=self.max_depth,
            batch_size=self.batch_size,
        )

    def build(self) -> "TransformersDepth":
        """Load the network.

        Raises:
            ConfigError: if transformers is not installed, the folder is missing, damaged or incomplete, or its network
                says only what is nearer than what.
        """
        return TransformersDepth(self)


class TransformersDepth:
    """See `TransformersDepthConfig`.

    A network that is metric as it is does not ask for the focal length: its own processor prepares the images and
    finishes the depth. Depth Pro has no processor that runs without torchvision and needs none here; see
    `DepthProSteps`. For a canonical camera the images are prepared as `canonical_depth` says, and each camera's own
    focal length counts.

    Networks know no sky and put it far away: it takes the labels of the image to leave it out.
    """

    def __init__(self, config: TransformersDepthConfig) -> None:
        self.config = config
        canonical = config.canonical()
        kinds = METRIC_DEPTH_KINDS if canonical is None else METRIC_DEPTH_KINDS + _OTHERS
        model = load_model(
            "TransformersDepth", config.weights, loader="AutoModelForDepthEstimation", kinds=kinds, local=True
        )
        self.model = model.to(config.device).eval()
        self._canonical = None if canonical is None else canonical.build(self._ask)
        self._depth_pro = self._depth_pro_steps() if self.model.config.model_type == "depth_pro" else None
        if config.camera_focal and (canonical is not None or self._depth_pro is None):
            raise ConfigError("TransformersDepth: camera_focal is for Depth Pro, without a canonical camera")
        self._processor: Any = None
        if canonical is None and self._depth_pro is None:
            if getattr(self.model.config, "depth_estimation_type", "metric") != "metric":
                raise ConfigError(
                    f"TransformersDepth: weights {config.weights!r}: this network says what is nearer than what, not "
                    "how far anything is; take a metric one"
                )
            self._processor = load_processor(
                "TransformersDepth", config.weights, loader="AutoImageProcessor", local=True
            )

    @property
    def description(self) -> dict[str, Any]:
        """Name and settings; not the device and the batch, which do not change the result."""
        settings = asdict(self.config)
        return {"depth": "transformers"} | {k: v for k, v in settings.items() if k not in ("device", "batch_size")}

    @torch.no_grad()
    def estimate(
        self, images: UInt8[Tensor, "n 3 h w"], *, cameras: Cameras, token: str, names: Sequence[str]
    ) -> Float[Tensor, "n h w"]:
        """Estimate depth; token and names are not looked at. See `DepthEstimator.estimate`."""
        check_depth_request(images, cameras, token, names)
        if self._canonical is not None:
            moved = images.to(self.config.device)
            depth = self._canonical.estimate(moved, cameras=cameras, token=token, names=names)
        elif self._depth_pro is not None:
            size = self.config.batch_size
            focal = cameras.intrinsics[:, 0, 0].to(self.config.device)
            some = zip(images.to(self.config.device).split(size), focal.split(size), strict=True)
            depth = torch.cat([self._depth_pro.estimate(batch, lengths) for batch, lengths in some])
            depth = clean_depth(depth, self.config.max_depth)
        else:
            depth = torch.cat([self._finished(some) for some in images.split(self.config.batch_size)])
        return depth.to(images.device)

    def _depth_pro_steps(self) -> DepthProSteps:
        if not self.config.camera_focal and not self.model.config.use_fov_model:
            raise ConfigError(
                f"TransformersDepth: weights {self.config.weights!r}: this Depth Pro has no head for the field of "
                "view; set camera_focal"
            )
        return DepthProSteps(self.model, camera_focal=self.config.camera_focal)

    def _ask(self, pixels: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n h w"]:
        return self.model(pixel_values=pixels).predicted_depth

    def _finished(self, images: UInt8[Tensor, "n 3 h w"]) -> Float[Tensor, "n h w"]:
        """Prepare images, ask the network and finish its depth by its own processor."""
        size = (images.shape[-2], images.shape[-1])
        if min(size) < _MIN_SIDE:
            # Processors that round down to whole cells leave nothing of a strip: it is stretched.
            larger = (max(_MIN_SIDE, size[0]), max(_MIN_SIDE, size[1]))
            stretched = functional.interpolate(images.float(), larger, mode="bilinear", align_corners=False)
            depth = self._finished(stretched.round().to(torch.uint8))
            return functional.interpolate(depth[:, None], size, mode="bilinear", align_corners=False)[:, 0]
        pixels = self._processor(
            images=list(images.cpu().numpy()), return_tensors="pt", input_data_format="channels_first"
        )
        answer = self.model(**pixels.to(self.config.device))
        if self.model.config.model_type == "zoedepth":
            depth = _cut_padding(answer.predicted_depth.float(), size, padded=self._processor.do_pad)
        else:
            found = self._processor.post_process_depth_estimation(answer, target_sizes=[size] * len(images))
            depth = torch.stack([one["predicted_depth"].float() for one in found])
        return clean_depth(depth, self.config.max_depth)


def _cut_padding(depth: Float[Tensor, "n s t"], size: tuple[int, int], *, padded: bool) -> Float[Tensor, "n h w"]:
    """Enlarge ZoeDepth's answer and cut off what its processor put around the image.

    Its processor can do so only with torchvision.
    """
    rows, columns = (int(math.sqrt(side / 2) * 3) if padded else 0 for side in size)
    whole = (size[0] + 2 * rows, size[1] + 2 * columns)
    enlarged = functional.interpolate(depth[:, None], whole, mode="bicubic", align_corners=False)[:, 0]
    return enlarged[:, rows : rows + size[0], columns : columns + size[1]]
