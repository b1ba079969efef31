"""A recipe file as a user would write one, with a network of a few hundred weights for the tiny data of conftest."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from occkit.data.frames import DataConfig
from occkit.samples import Batch, Prediction
from occkit.training import Cosine, OneCycle, OptimConfig, Recipe
from occkit.training.claim import AtLeast, Claim, Difference, Ratio, World


@dataclass(frozen=True, kw_only=True)
class PlainHead:
    """One bias a voxel column."""

    scale: float = 1.0
    """Factor of the bias."""


@dataclass(frozen=True, kw_only=True)
class OtherHead:
    """Another kind."""

    widths: tuple[int, ...] = (4, 4)
    """Channels."""


@dataclass(frozen=True, kw_only=True)
class TinyConfig:
    """The network."""

    channels: int = 6
    """Width."""
    dropout: float = 0.2
    """Share of channels that is dropped."""
    batch_norm: bool = True
    """Running statistics, which are buffers."""
    head: PlainHead | OtherHead = field(default_factory=PlainHead)
    """What comes last."""
    seconds: float = 0.0
    """Time a forward pass takes at least."""
    spare: bool = False
    """Have a branch that only some batches use."""

    def build(self) -> "Tiny":
        return Tiny(self)


class Tiny(nn.Module):
    conditional_parameters = ("spare.",)

    def __init__(self, config: TinyConfig) -> None:
        super().__init__()
        self.config = config
        norm = nn.BatchNorm2d(config.channels) if config.batch_norm else nn.Identity()
        self.body = nn.Sequential(nn.Conv2d(3, config.channels, 3, stride=2), norm, nn.ReLU())
        self.dropout = nn.Dropout(config.dropout)
        self.classify = nn.Linear(config.channels, 20)
        self.places = nn.Parameter(torch.zeros(20, 16, 16, 2))
        self.spare = nn.Linear(1, 1) if config.spare else None

    def forward(self, batch: Batch) -> Prediction:
        time.sleep(self.config.seconds)
        images = batch.images[:, 0, 0].float() / 255
        features = self.dropout(self.body(images).mean(dim=(2, 3)))
        logits = self.classify(features)[:, :, None, None, None] + self.places
        if self.spare is not None and batch.tokens[0].endswith("0"):
            logits = logits + self.spare(torch.ones(1))
        return Prediction(logits=logits, grid=batch.grid, taxonomy=batch.taxonomy)

    def loss(self, prediction: Prediction, batch: Batch) -> dict[str, Tensor]:
        assert batch.occupancy is not None
        labels = batch.occupancy.semantics.long()
        entropy = nn.functional.cross_entropy(prediction.logits, labels, ignore_index=255, reduction="none")
        return {"entropy": entropy.mean(), "size": 1e-3 * prediction.logits.square().mean()}


@dataclass(frozen=True, kw_only=True)
class WordyConfig(TinyConfig):
    """The network, which also answers to words."""

    def build(self) -> "Wordy":
        return Wordy(self)


class Wordy(Tiny):
    """Whatever it is asked for lies near the origin."""

    vocabulary = ("road",)

    def encode_words(self, words: Sequence[str]) -> Tensor:
        return torch.eye(2)[[int(word == "road") for word in words]]

    def score_words(self, prediction: Prediction, vectors: Tensor) -> Tensor:
        nearness = torch.linspace(1, 0, 16)[:, None, None].expand(16, 16, 2)
        return nearness.expand(1, len(vectors), 16, 16, 2)


def tiny() -> Recipe:
    return Recipe(
        name="tiny",
        system=TinyConfig(),
        data=DataConfig(load_depth=False),
        optim=OptimConfig(lr=0.05, warmup_steps=2, schedule=OneCycle(), lr_factors=(("places", 2.0),)),
        steps=12,
        batch_size=2,
        ema_decay=0.9,
        evaluate_every=6,
        protocols=("semantickitti",),
        num_workers=1,
    )


def accumulating() -> Recipe:
    return replace(tiny(), name="accumulating", accumulate=2, save_every=1, evaluate_every=4)


def slow() -> Recipe:
    return replace(accumulating(), system=TinyConfig(seconds=0.05), steps=14)


def plain() -> Recipe:
    """No randomness between frames, so that only their sum matters."""
    system = TinyConfig(dropout=0.0, batch_norm=False)
    return replace(tiny(), name="plain", system=system, optim=OptimConfig(lr=0.02, schedule=Cosine()), ema_decay=None)


def plain_wide() -> Recipe:
    return replace(plain(), name="plain_wide", batch_size=4)


def spare() -> Recipe:
    return replace(plain(), name="spare", system=TinyConfig(dropout=0.0, batch_norm=False, spare=True), batch_size=1)


def explodes() -> Recipe:
    return replace(plain(), name="explodes", optim=OptimConfig(lr=1e30, clip_norm=None))


def _hidden() -> Recipe:
    return tiny()


def with_argument(steps: int) -> Recipe:
    return replace(tiny(), steps=steps)


def claim() -> Claim:
    return Claim(
        system="tiny",
        sentence="Twelve steps are better than one.",
        arms={"long": plain, "short": lambda: replace(plain(), steps=1, evaluate_every=None)},
        lines=(
            Difference(arm="long", baseline="short", metric="semantickitti.iou"),
            Ratio(arm="long", baseline="prior", metric="semantickitti.iou", threshold=50.0),
            AtLeast(arm="long", metric="semantickitti.iou", threshold=-20.0),
        ),
        protocols=("semantickitti",),
        world=World(format="semantickitti", preset="kitti-nano", scenes=2, options=("--frames", "4")),
        seeds=3,
    )
