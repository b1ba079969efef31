"""Image backbones: feature maps at falling resolutions from normalised RGB.

Each config has `build()`; each network tells the `channels` and `strides` of the maps that it returns, finest first.
"""

import importlib
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from occkit.errors import ConfigError
from occkit.nn.blocks import ConvBlock, GroupNormConfig, NormConfig, ResidualBlock

IMAGENET_MEAN = (0.485, 0.456, 0.406)
"""Mean of RGB in 0..1 that pretrained networks expect to be subtracted."""
IMAGENET_STD = (0.229, 0.224, 0.225)
"""Standard deviation of RGB in 0..1 that pretrained networks expect to be divided by."""


def normalise_images(
    images: UInt8[Tensor, "*b 3 h w"] | Float[Tensor, "*b 3 h w"],
) -> Float[Tensor, "*b 3 h w"]:
    """Return `(rgb / 255 - mean) / std` of RGB 0..255, with ImageNet's mean and standard deviation."""
    mean = torch.tensor(IMAGENET_MEAN, device=images.device)[:, None, None]
    std = torch.tensor(IMAGENET_STD, device=images.device)[:, None, None]
    return (images.float() / 255.0 - mean) / std


@dataclass(frozen=True, kw_only=True)
class SmallConvNetConfig:
    """A light residual encoder for small images: stride 2 at each stage, no pretrained weights."""

    widths: tuple[int, ...] = (16, 32, 64, 96)
    """Channels of the stages; stage `i` has stride `2^(i+1)`."""
    blocks: tuple[int, ...] = (0, 1, 1, 1)
    """Residual blocks of each stage after its strided convolution."""
    out_stages: tuple[int, ...] = (2, 3)
    """Indices of the stages whose maps are returned, ascending."""
    norm: NormConfig = field(default_factory=GroupNormConfig)
    """Normalisation after each convolution."""

    def __post_init__(self) -> None:
        if len(self.widths) != len(self.blocks):
            raise ConfigError(f"SmallConvNet: widths {self.widths} and blocks {self.blocks} differ in length")
        if not self.out_stages or max(self.out_stages) != len(self.widths) - 1:
            raise ConfigError(f"SmallConvNet: out_stages {self.out_stages} must end with the last of the stages")

    def build(self) -> "SmallConvNet":
        """Return the network with random weights."""
        return SmallConvNet(self)


class SmallConvNet(nn.Module):
    """See `SmallConvNetConfig`. Source: original."""

    def __init__(self, config: SmallConvNetConfig) -> None:
        super().__init__()
        self.out_stages = config.out_stages
        self.channels = tuple(config.widths[i] for i in config.out_stages)
        self.strides = tuple(2 ** (i + 1) for i in config.out_stages)
        stages = []
        previous = 3
        for width, blocks in zip(config.widths, config.blocks, strict=True):
            layers: list[nn.Module] = [ConvBlock(previous, width, norm=config.norm, dims=2, stride=2)]
            layers += [ResidualBlock(width, width, norm=config.norm, dims=2) for _ in range(blocks)]
            stages.append(nn.Sequential(*layers))
            previous = width
        self.stages = nn.ModuleList(stages)

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> list[Float[Tensor, "b _ _ _"]]:
        """Return the maps of `out_stages`; a side that is odd is rounded up at each stage."""
        x, maps = images, []
        for index, stage in enumerate(self.stages):
            x = stage(x)
            if index in self.out_stages:
                maps.append(x)
        return maps


@dataclass(frozen=True, kw_only=True)
class ResNetConfig:
    """ResNet-18, -50 or -101 of transformers (extra `hf`), batch normalisation."""

    depth: Literal[18, 50, 101] = 50
    """Number of layers."""
    out_stages: tuple[int, ...] = (3, 4)
    """Stages whose maps are returned, ascending; stage `i` has stride `2^(i+1)`: 1 is a quarter of the image. Those
    behind the last one are not built."""
    weights: str | None = None
    """Folder or hub id of pretrained weights, read when the network is built; None is random."""

    def __post_init__(self) -> None:
        if not self.out_stages or list(self.out_stages) != sorted({*self.out_stages} & {1, 2, 3, 4}):
            raise ConfigError(f"ResNet: out_stages {self.out_stages} must be ascending numbers in 1..4")

    def build(self) -> "ResNet":
        """Return the network.

        Raises:
            ConfigError: if transformers is not installed, or the weights are not those of this network.
        """
        return ResNet(self)


class ResNet(nn.Module):
    """See `ResNetConfig`. Source: He et al., "Deep residual learning", CVPR 2016; implementation of transformers."""

    def __init__(self, config: ResNetConfig) -> None:
        super().__init__()
        library = _transformers("ResNet")
        bottleneck = config.depth >= 50
        widths = [256, 512, 1024, 2048] if bottleneck else [64, 128, 256, 512]
        last = config.out_stages[-1]
        options = {
            "embedding_size": 64,
            "hidden_sizes": widths[:last],
            "depths": {18: [2, 2, 2, 2], 50: [3, 4, 6, 3], 101: [3, 4, 23, 3]}[config.depth][:last],
            "layer_type": "bottleneck" if bottleneck else "basic",
            "out_features": [f"stage{i}" for i in config.out_stages],
        }
        architecture = library.ResNetConfig(**options)
        # The concrete class: AutoBackbone does not load from a folder.
        if config.weights is None:
            self.body: nn.Module = library.ResNetBackbone(architecture)
        else:
            self.body = _load_backbone("ResNet", library.ResNetBackbone, config.weights, architecture)
        self.channels = tuple(widths[i - 1] for i in config.out_stages)
        self.strides = tuple(2 ** (i + 1) for i in config.out_stages)

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> list[Float[Tensor, "b _ _ _"]]:
        """Return the maps of `out_stages`, finest first."""
        return list(self.body(images).feature_maps)


@dataclass(frozen=True, kw_only=True)
class SwinConfig:
    """Swin transformer of transformers (extra `hf`); the defaults are Swin-B with windows of 12."""

    width: int = 128
    """Channels of the first stage; each further one has twice as many."""
    depths: tuple[int, int, int, int] = (2, 2, 18, 2)
    """Layers of each stage."""
    heads: tuple[int, int, int, int] = (4, 8, 16, 32)
    """Attention heads of each stage."""
    window: int = 12
    """Side of the attention windows, cells."""
    drop_path: float = 0.1
    """Share of the residual branches that training leaves out, rising over the layers up to this."""
    out_stages: tuple[int, ...] = (3, 4)
    """Stages whose maps are returned, ascending; stage `i` has stride `2^(i+1)`: 1 is a quarter of the image."""
    weights: str | None = None
    """Folder or hub id of pretrained weights, read when the network is built; None is random."""

    def __post_init__(self) -> None:
        if not self.out_stages or max(self.out_stages) != 4 or min(self.out_stages) < 1:
            raise ConfigError(f"Swin: out_stages {self.out_stages} must lie in 1..4 and end with 4")

    def build(self, in_channels: int = 3) -> "Swin":
        """Return the network, for images or for maps of `in_channels`.

        Raises:
            ConfigError: if transformers is not installed, or the weights are not those of this network.
        """
        return Swin(self, in_channels)


class Swin(nn.Module):
    """See `SwinConfig`. Source: Liu et al., "Swin Transformer", ICCV 2021; implementation of transformers."""

    def __init__(self, config: SwinConfig, in_channels: int = 3) -> None:
        super().__init__()
        library = _transformers("Swin")
        architecture = library.SwinConfig(
            num_channels=in_channels,
            embed_dim=config.width,
            depths=list(config.depths),
            num_heads=list(config.heads),
            window_size=config.window,
            drop_path_rate=config.drop_path,
            out_features=[f"stage{i}" for i in config.out_stages],
        )
        if config.weights is None:
            self.body: nn.Module = library.SwinBackbone(architecture)
        else:
            # Checkpoints of classifiers lack the norms of the maps, which then start as they are made.
            new = "hidden_states_norms."
            self.body = _load_backbone("Swin", library.SwinBackbone, config.weights, architecture, may_lack=new)
        for name, parameter in self.body.named_parameters():
            # The maps have norms of their own: this one, behind the last stage, is never used.
            if name.startswith("swin.layernorm."):
                parameter.requires_grad_(False)
        self.channels = tuple(config.width * 2 ** (i - 1) for i in config.out_stages)
        self.strides = tuple(2 ** (i + 1) for i in config.out_stages)

    def forward(self, images: Float[Tensor, "b c h w"]) -> list[Float[Tensor, "b _ _ _"]]:
        """Return the maps of `out_stages`, finest first."""
        return list(self.body(images).feature_maps)


@dataclass(frozen=True, kw_only=True)
class EfficientNetConfig:
    """EfficientNet of transformers (extra `hf`); the defaults are B7."""

    width: float = 2.0
    """Factor on the channels of B0."""
    depth: float = 3.1
    """Factor on its number of blocks."""
    top: bool = True
    """Also return what the last 1x1 convolution makes of the coarsest map, at the same stride."""
    weights: str | None = None
    """Folder or hub id of pretrained weights, read when the network is built; None is random."""

    def build(self) -> "EfficientNet":
        """Return the network.

        Raises:
            ConfigError: if transformers is not installed, or the weights are not those of this network.
        """
        return EfficientNet(self)


class EfficientNet(nn.Module):
    """See `EfficientNetConfig`; maps at strides 4, 8, 16 and 32, and at 32 once more with `top`.

    Source: Tan and Le, "EfficientNet", ICML 2019; implementation of transformers.
    """

    stem: Any
    encoder: Any

    def __init__(self, config: EfficientNetConfig) -> None:
        super().__init__()
        library = _transformers("EfficientNet")
        architecture = library.EfficientNetConfig(width_coefficient=config.width, depth_coefficient=config.depth)
        architecture.hidden_dim = _rounded(1280 * config.width)
        network = library.EfficientNetModel
        if config.weights is None:
            body = network(architecture)
        else:
            body = _load_backbone("EfficientNet", network, config.weights, architecture)
        self.stem, self.encoder, self.top = body.embeddings, body.encoder, config.top
        if not config.top:
            for name in ("top_conv", "top_bn"):
                getattr(self.encoder, name).requires_grad_(False)
        counts = [math.ceil(config.depth * repeats) for repeats in architecture.num_block_repeats]
        # The last blocks of strides 4, 8, 16 and 32: of the seven groups the second, third, fifth and seventh.
        self.ends = [sum(counts[: group + 1]) - 1 for group in (1, 2, 4, 6)]
        widths = [_rounded(architecture.out_channels[group] * config.width) for group in (1, 2, 4, 6)]
        self.channels = (*widths, architecture.hidden_dim) if config.top else tuple(widths)
        self.strides = (4, 8, 16, 32, 32) if config.top else (4, 8, 16, 32)

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> list[Float[Tensor, "b _ _ _"]]:
        """Return the maps, finest first."""
        x, maps = self.stem(images), []
        for index, block in enumerate(self.encoder.blocks):
            x = block(x)
            if index in self.ends:
                maps.append(x)
        if self.top:
            maps.append(self.encoder.top_activation(self.encoder.top_bn(self.encoder.top_conv(x))))
        return maps


def _rounded(width: float) -> int:
    """Return the multiple of 8 next to a width, not below nine tenths of it."""
    near = max(8, int(width + 4) // 8 * 8)
    return near if near >= 0.9 * width else near + 8


def _transformers(who: str) -> Any:
    try:
        return importlib.import_module("transformers")
    except ImportError as error:
        raise ConfigError(
            f'{who}: needs the package transformers, which is not installed -- pip install "occkit[hf]"'
        ) from error


def _load_backbone(
    who: str, network: Any, weights: str, architecture: object, *, may_lack: str | None = None
) -> nn.Module:
    source = str(Path(weights).expanduser()) if Path(weights).expanduser().is_dir() else weights
    try:
        model, report = network.from_pretrained(
            source, config=architecture, output_loading_info=True, use_safetensors=True
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise ConfigError(
            f"{who}: weights {weights!r} cannot be loaded: {error}; give a folder or hub id that has safetensors"
        ) from error
    missing = sorted(key for key in report["missing_keys"] if may_lack is None or not key.startswith(may_lack))
    if missing:
        raise ConfigError(
            f"{who}: weights {weights!r} lack {len(missing)} tensors, first {missing[0]} -- another network?"
        )
    return model


BackboneConfig = SmallConvNetConfig | ResNetConfig | SwinConfig | EfficientNetConfig
