"""Inception-v3 as the Fréchet inception distance uses it: its layers, and the features that published FIDs are made of.

Source: Szegedy et al., Rethinking the Inception Architecture for Computer Vision, 2016; Heusel et al., GANs Trained by
a Two Time-Scale Update Rule, 2017, whose network of 2015 pools without the padding and, in its last block, by maximum.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor, nn

_SIDE = 299
"""Pixels of the images that the network was trained on, each way."""

_Layer = tuple[str, int, int | tuple[int, int]]
"""Name, channels and kernel of one convolution."""
_Pool = Literal["average", "maximum"]


class InceptionV3(nn.Module):
    """Return the 2048 pooled features of images; tensors are named as in torchvision, the classifier left out."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = _Convolution(3, 32, 3, stride=2)
        self.Conv2d_2a_3x3 = _Convolution(32, 32, 3)
        self.Conv2d_2b_3x3 = _Convolution(32, 64, 3, padding=1)
        self.Conv2d_3b_1x1 = _Convolution(64, 80, 1)
        self.Conv2d_4a_3x3 = _Convolution(80, 192, 3)
        self.Mixed_5b = _square_block(192, pooled=32)
        self.Mixed_5c = _square_block(256, pooled=64)
        self.Mixed_5d = _square_block(288, pooled=64)
        self.Mixed_6a = _Mixed(
            288,
            (("branch3x3", 384, 3),),
            (("branch3x3dbl_1", 64, 1), ("branch3x3dbl_2", 96, 3), ("branch3x3dbl_3", 96, 3)),
            halves=True,
        )
        self.Mixed_6b = _long_block(128)
        self.Mixed_6c = _long_block(160)
        self.Mixed_6d = _long_block(160)
        self.Mixed_6e = _long_block(192)
        self.Mixed_7a = _Mixed(
            768,
            (("branch3x3_1", 192, 1), ("branch3x3_2", 320, 3)),
            (
                ("branch7x7x3_1", 192, 1),
                ("branch7x7x3_2", 192, (1, 7)),
                ("branch7x7x3_3", 192, (7, 1)),
                ("branch7x7x3_4", 192, 3),
            ),
            halves=True,
        )
        self.Mixed_7b = _Forked(1280, pool="average")
        self.Mixed_7c = _Forked(2048, pool="maximum")

    def forward(self, images: UInt8[Tensor, "n 3 h w"]) -> Float[Tensor, "n 2048"]:
        """Return a vector an image.

        Args:
            images: RGB of any size; resized bilinearly to 299 x 299, without smoothing, and scaled to [-1, 1].
        """
        x = F.interpolate(images.float() / 255.0, size=(_SIDE, _SIDE), mode="bilinear", align_corners=False)
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(2.0 * x - 1.0)))
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(F.max_pool2d(x, 3, stride=2)))
        x = F.max_pool2d(x, 3, stride=2)
        for block in (self.Mixed_5b, self.Mixed_5c, self.Mixed_5d, self.Mixed_6a, self.Mixed_6b, self.Mixed_6c):
            x = block(x)
        for block in (self.Mixed_6d, self.Mixed_6e, self.Mixed_7a, self.Mixed_7b, self.Mixed_7c):
            x = block(x)
        return x.mean(dim=(2, 3))


class _Convolution(nn.Module):
    """A convolution without bias, batch normalisation, ReLU."""

    def __init__(
        self,
        channels: int,
        out: int,
        kernel: int | tuple[int, int],
        *,
        stride: int = 1,
        padding: int | tuple[int, int] = 0,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, out, kernel, stride=stride, padding=padding, bias=False)
        self.bn = nn.BatchNorm2d(out, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


class _Mixed(nn.Module):
    """Chains of convolutions side by side, and pooling beside them.

    Args:
        channels: of the input.
        chains: the layers of each chain, in the order in which their channels follow each other.
        pooled: channels of the pooled input; None keeps them all.
        halves: whether the last layer of each chain, and the pooling, go by two pixels.
    """

    def __init__(
        self, channels: int, *chains: tuple[_Layer, ...], pooled: int | None = None, halves: bool = False
    ) -> None:
        super().__init__()
        self.halves = halves
        self.chains = [_add_chain(self, channels, chain, halves=halves) for chain in chains]
        if pooled is not None:
            self.branch_pool = _Convolution(channels, pooled, 1)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d h2 w2"]:
        found = [_through(self, chain, x) for chain in self.chains]
        pooled = F.max_pool2d(x, 3, stride=2) if self.halves else self.branch_pool(_pool(x, "average"))
        return torch.cat([*found, pooled], dim=1)


class _Forked(nn.Module):
    """The blocks of the coarsest level, two of whose chains end in a row and a column side by side."""

    def __init__(self, channels: int, *, pool: _Pool) -> None:
        super().__init__()
        self.pool: _Pool = pool
        self.branch1x1 = _Convolution(channels, 320, 1)
        self.branch3x3_1 = _Convolution(channels, 384, 1)
        self.branch3x3_2a, self.branch3x3_2b = _row_and_column()
        self.branch3x3dbl_1 = _Convolution(channels, 448, 1)
        self.branch3x3dbl_2 = _Convolution(448, 384, 3, padding=1)
        self.branch3x3dbl_3a, self.branch3x3dbl_3b = _row_and_column()
        self.branch_pool = _Convolution(channels, 192, 1)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n 2048 h w"]:
        single, double = self.branch3x3_1(x), self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        forks = [self.branch3x3_2a(single), self.branch3x3_2b(single)]
        forks += [self.branch3x3dbl_3a(double), self.branch3x3dbl_3b(double)]
        return torch.cat([self.branch1x1(x), *forks, self.branch_pool(_pool(x, self.pool))], dim=1)


def _square_block(channels: int, *, pooled: int) -> _Mixed:
    return _Mixed(
        channels,
        (("branch1x1", 64, 1),),
        (("branch5x5_1", 48, 1), ("branch5x5_2", 64, 5)),
        (("branch3x3dbl_1", 64, 1), ("branch3x3dbl_2", 96, 3), ("branch3x3dbl_3", 96, 3)),
        pooled=pooled,
    )


def _long_block(middle: int) -> _Mixed:
    return _Mixed(
        768,
        (("branch1x1", 192, 1),),
        (("branch7x7_1", middle, 1), ("branch7x7_2", middle, (1, 7)), ("branch7x7_3", 192, (7, 1))),
        (
            ("branch7x7dbl_1", middle, 1),
            ("branch7x7dbl_2", middle, (7, 1)),
            ("branch7x7dbl_3", middle, (1, 7)),
            ("branch7x7dbl_4", middle, (7, 1)),
            ("branch7x7dbl_5", 192, (1, 7)),
        ),
        pooled=192,
    )


def _row_and_column() -> tuple[_Convolution, _Convolution]:
    return _Convolution(384, 384, (1, 3), padding=(0, 1)), _Convolution(384, 384, (3, 1), padding=(1, 0))


def _add_chain(module: nn.Module, channels: int, chain: tuple[_Layer, ...], *, halves: bool) -> tuple[str, ...]:
    """Add the layers of a chain to a module and return their names; the last goes by two pixels, unpadded."""
    for index, (name, out, kernel) in enumerate(chain):
        rows, columns = kernel if isinstance(kernel, tuple) else (kernel, kernel)
        strides = halves and index == len(chain) - 1
        padding = (0, 0) if strides else (rows // 2, columns // 2)
        module.add_module(name, _Convolution(channels, out, kernel, stride=2 if strides else 1, padding=padding))
        channels = out
    return tuple(name for name, _, _ in chain)


def _through(module: nn.Module, names: tuple[str, ...], x: Tensor) -> Tensor:
    for name in names:
        x = module.get_submodule(name)(x)
    return x


def _pool(x: Tensor, kind: _Pool) -> Tensor:
    if kind == "maximum":
        return F.max_pool2d(x, 3, stride=1, padding=1)
    return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)
