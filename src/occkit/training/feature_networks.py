"""Networks whose features say how near drawings are to photographs: a judge of the world, or one that the user has."""

import hashlib
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from occkit.errors import DataError
from occkit.training.word_judge import WordJudge

_AT_ONCE = 64
"""Images that a network looks at together."""
_REMEDY = "give a TorchScript module that is called as module(images, return_features=True)"


class FeatureNetwork(Protocol):
    """Gives a vector an image, and has a name that no other network has."""

    @property
    def name(self) -> str:
        """Network and weights; distances of two names are never put into one table."""
        ...

    def features(self, images: UInt8[Tensor, "n 3 h w"]) -> Float[np.ndarray, "n c"]:
        """Return a vector an image, RGB."""
        ...


class JudgeFeatures:
    """The pooled features of the network that judges words (`WordJudge`)."""

    def __init__(self, judge: WordJudge, size: tuple[int, int]) -> None:
        self.judge = judge
        self.name = f"WordJudge {judge.widths} at {size[0]} x {size[1]}"

    @torch.no_grad()
    def features(self, images: UInt8[Tensor, "n 3 h w"]) -> Float[np.ndarray, "n c"]:
        """See `FeatureNetwork`."""
        return np.concatenate([self.judge.features(part).numpy() for part in images.split(_AT_ONCE)])


class ScriptedFeatures:
    """A TorchScript module called as `module(images, return_features=True)`, images uint8 `[n, 3, h, w]`.

    That is how the metrics of StyleGAN call their Inception network (`inception-2015-12-05.pt`), whose 2048 features
    FID and KID are made of. The module does the resizing. TorchScript is code: give files that you trust.

    Args:
        path: the file.

    Raises:
        DataError: if the file is missing or no TorchScript module.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise DataError(path, "there is no such file", _REMEDY)
        self.path = path
        try:
            self.module: Any = torch.jit.load(str(path), map_location="cpu").eval()
        except RuntimeError as error:
            raise DataError(path, "is no TorchScript module", _REMEDY) from error
        self.name = f"{path.name} ({hashlib.sha256(path.read_bytes()).hexdigest()[:8]})"

    @torch.no_grad()
    def features(self, images: UInt8[Tensor, "n 3 h w"]) -> Float[np.ndarray, "n c"]:
        """See `FeatureNetwork`.

        Raises:
            DataError: if the module cannot be called so, or gives no vector an image.
        """
        return np.concatenate([self._ask(part) for part in images.split(_AT_ONCE)])

    def _ask(self, images: Tensor) -> Float[np.ndarray, "n c"]:
        try:
            found = self.module(images, return_features=True)
        except RuntimeError as error:
            raise DataError(self.path, f"failed on images {tuple(images.shape)}, uint8: {error}", _REMEDY) from error
        if not isinstance(found, Tensor) or found.ndim != 2 or len(found) != len(images):
            shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise DataError(self.path, f"expected features [{len(images)}, c], got {shape}", _REMEDY)
        return found.float().numpy()
