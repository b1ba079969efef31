"""Networks whose features say how near drawings are to photographs: a judge of the world, or one that the user has."""

import hashlib
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from occkit.nn.inception import InceptionV3
from occkit.training.checkpoint import fill_weights, read_tensors
from occkit.training.word_judge import WordJudge

_AT_ONCE = 64
"""Images that a network looks at together."""
_REMEDY = "give Inception-v3 of 2015 as safetensors, its tensors named as torchvision names them (docs/occscene.md)"
_UNUSED = ("fc.", "AuxLogits.")
"""Tensors of classifiers, which no feature needs."""


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


class InceptionFeatures:
    """The 2048 pooled features of Inception-v3, of which FID and KID are made where they are published.

    Args:
        path: safetensors of the network of 2015, its tensors named as in torchvision; classifiers are left out.

    Raises:
        DataError: if the file is missing, no safetensors, or holds another network.
    """

    def __init__(self, path: Path) -> None:
        found = {name: tensor for name, tensor in read_tensors(path).items() if not name.startswith(_UNUSED)}
        self.network = InceptionV3()
        counters = {name: t for name, t in self.network.state_dict().items() if name.endswith("num_batches_tracked")}
        fill_weights(self.network, counters | found, path, remedy=_REMEDY)
        self.network.eval()
        self.name = f"{path.name} ({hashlib.sha256(path.read_bytes()).hexdigest()[:8]})"

    @torch.no_grad()
    def features(self, images: UInt8[Tensor, "n 3 h w"]) -> Float[np.ndarray, "n 2048"]:
        """See `FeatureNetwork`."""
        return np.concatenate([self.network(part).numpy() for part in images.split(_AT_ONCE)])
