"""The network of LangOcc: a density and a vision-language vector for every voxel, learnt by rendering them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from occkit.errors import ConfigError
from occkit.geometry import Rays, VoxelGrid
from occkit.labels.fusion import MOVERS
from occkit.losses.language import FeatureLossKind, feature_loss
from occkit.nn.heads import HeadConfig, HeightInChannelsHeadConfig, VolumeHeadConfig
from occkit.nn.open_vocabulary import cosine_scores
from occkit.nn.subspace import reduce_features
from occkit.samples import Batch, FeatureRays, Prediction
from occkit.systems.langocc.rendering import RayRenderConfig, Seen, render_rays
from occkit.systems.langocc.text import TextConfig, class_logits
from occkit.systems.lift import LiftEncoder, LiftEncoderConfig
from occkit.taxonomy import Taxonomy


@dataclass(frozen=True, kw_only=True)
class LangOccLossConfig:
    """What a ray is compared by, and which rays count."""

    kind: FeatureLossKind = "cosine_guided"
    """How directions of features are compared."""
    movers: Literal["keep", "drop"] = "keep"
    """Rays of other times on things that may move: kept as they are (the paper), or left out. What they are is told by
    the prompt nearest to their target, what may move by the label factory's list; the released one has wrong ids."""
    sky: Literal["keep", "drop", "empty"] = "empty"
    """Rays whose target is nearest to a prompt for the sky: compared like any other, left out, or made to see nothing
    (ours; the paper's pixels never show the sky, for LiDAR chose them)."""
    sky_words: tuple[str, ...] = ("sky",)
    """These prompts."""
    emptiness: float = 0.1
    """Weight of the opacity of such rays, with `sky="empty"`."""


@dataclass(frozen=True, kw_only=True)
class LangOccConfig:
    """Every choice of the network, its text side and its losses."""

    encoder: LiftEncoderConfig = field(default_factory=LiftEncoderConfig)
    """From images to a lifted volume."""
    head: HeadConfig = field(default_factory=VolumeHeadConfig)
    """From that volume to features of each voxel, of which both heads read."""
    channels: int = 256
    """Width of these features."""
    hidden: int = 256
    """Width of the heads' hidden layers."""
    layers: int = 3
    """Hidden layers of each head."""
    text: TextConfig = field(default_factory=TextConfig)
    """Words and their vectors."""
    sigma_max: float = 1.0
    """Largest density, per metre. At the paper's 1 a voxel of 0.4 m stops a third of a ray at most."""
    threshold: float = 0.1
    """Voxels of less density are free."""
    render: RayRenderConfig = field(default_factory=RayRenderConfig)
    """Samples of a ray."""
    losses: LangOccLossConfig = field(default_factory=LangOccLossConfig)
    """Comparison of rays."""

    def __post_init__(self) -> None:
        if self.layers < 0 or min(self.channels, self.hidden) < 1 or not self.sigma_max > 0 or self.threshold < 0:
            raise ConfigError(f"LangOccConfig: sizes and sigma_max must be positive, threshold not negative: {self}")
        known = set(self.text.prompts.texts)
        if self.losses.sky != "keep" and not set(self.losses.sky_words) & known:
            raise ConfigError(
                f"LangOccConfig.losses.sky: {self.losses.sky!r} needs a prompt for the sky; none of "
                f"{self.losses.sky_words} is among those of {self.text.prompts.name}"
            )

    @property
    def grid(self) -> VoxelGrid:
        """Volume that the network is meant for."""
        return self.encoder.grid

    @property
    def taxonomy(self) -> str:
        """Name of the classes whose words are encoded with the network."""
        return self.text.prompts.taxonomy

    def build(self) -> "LangOcc":
        """Return the network, freshly initialised."""
        return LangOcc(self)


class LangOcc(nn.Module):
    """See `LangOccConfig`.

    Source: Boeder et al., "LangOcc: Open vocabulary occupancy estimation via volume rendering", 3DV 2025.
    """

    def __init__(self, config: LangOccConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = LiftEncoder(config.encoder)
        width = self.encoder.volume_channels
        if isinstance(config.head, HeightInChannelsHeadConfig):
            width *= config.grid.coarsen(config.encoder.lift_stride).shape[2]
        self.head = config.head.build(width, config.channels)
        self.density = _mlp(config.channels, config.hidden, config.layers, 1)
        self.language = _mlp(config.channels, config.hidden, config.layers, config.text.channels)
        self.text: Tensor
        self.basis: Tensor
        self.has_text: Tensor
        prompts, text = len(config.text.prompts.prompts), config.text
        self.register_buffer("text", torch.zeros(prompts, text.width))
        self.register_buffer("basis", torch.zeros(text.width, text.channels if text.subspace is not None else 0))
        self.register_buffer("has_text", torch.zeros((), dtype=torch.bool))
        self._others: dict[str, Tensor] = {}

    def forward(self, batch: Batch) -> Prediction:
        """Predict densities and features; the scores are those of the classes' prompts."""
        self._prepare()
        volume, _ = self.encoder.encode(batch)
        rows = self.head(volume, batch.grid.shape).permute(0, 2, 3, 4, 1)
        density = self.config.sigma_max * torch.sigmoid(self.density(rows))[..., 0]
        features = F.normalize(self.language(rows), dim=-1)
        with torch.no_grad():
            logits = self.classify(features, density, batch.taxonomy)
        return Prediction(
            logits=logits,
            grid=batch.grid,
            taxonomy=batch.taxonomy,
            features=features.permute(0, 4, 1, 2, 3),
            density=density,
        )

    def classify(
        self, features: Float[Tensor, "b x y z k"], density: Float[Tensor, "b x y z"], taxonomy: Taxonomy
    ) -> Float[Tensor, "b c x y z"]:
        """Return zero-shot class scores of any taxonomy, see `class_logits`."""
        table = self.config.text.table_for(taxonomy)
        text = self.text if table is self.config.text.prompts else self.encode_words(table.texts)
        scores = class_logits(
            features.flatten(0, 3),
            density.flatten(),
            self.reduce(text.to(features)),
            table.class_ids().to(features.device),
            taxonomy,
            threshold=self.config.threshold,
        )
        return scores.reshape(*density.shape, -1).permute(0, 4, 1, 2, 3)

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """The prompts of the classes, see `AnswersWords`."""
        return self.config.text.prompts.texts

    def encode_words(self, words: Sequence[str]) -> Float[Tensor, "p c"]:
        """Return the vectors of words, averaged over sentences; each is encoded once.

        Raises:
            ConfigError: if a word is none of the prompts' and there is no encoder, see `TextConfig.open`.
        """
        self._prepare()
        own = dict(zip(self.vocabulary, self.text, strict=True))
        missing = tuple(dict.fromkeys(word for word in words if word not in own and word not in self._others))
        if missing:
            self._others |= dict(zip(missing, self.config.text.encode(missing), strict=True))
        return torch.stack([own[word] if word in own else self._others[word].to(self.text) for word in words])

    def score_words(self, prediction: Prediction, vectors: Float[Tensor, "p c"]) -> Float[Tensor, "b p x y z"]:
        """Return the cosines of the voxels with words, see `AnswersWords`.

        Raises:
            ConfigError: if the vectors are not of the text encoder's width.
        """
        if vectors.shape[1] != self.config.text.width:
            raise ConfigError(f"LangOcc: vectors of {vectors.shape[1]} numbers; expected {self.config.text.width}")
        assert prediction.features is not None
        features = prediction.features.movedim(1, -1)
        return cosine_scores(features, self.reduce(vectors.to(features))).movedim(-1, 1)

    def reduce(self, vectors: Float[Tensor, "n c"]) -> Float[Tensor, "n k"]:
        """Return vectors of the text encoder's space in that of the predicted features."""
        return vectors if self.config.text.subspace is None else reduce_features(vectors, self.basis.to(vectors))

    def loss(self, prediction: Prediction, batch: Batch) -> dict[str, Tensor]:
        """Return the weighted losses by name.

        Raises:
            ConfigError: if the batch has no feature rays, or they are of another width or subspace.
        """
        rays = batch.feature_rays
        if rays is None:
            raise ConfigError(
                f"LangOcc: frame {batch.tokens[0]} (or one beside it) has no features to compare with; write them with "
                "occkit features, and set DataConfig.features and feature_rays"
            )
        assert prediction.features is not None
        assert prediction.density is not None
        targets = self._targets(rays)
        values: dict[str, list[Tensor]] = {}
        for frame in range(batch.size):
            seen = self._render(prediction, rays, frame, batch.grid)
            for name, value in self._compare(seen, targets[frame], rays.steps[frame]).items():
                values.setdefault(name, []).append(value)
        return {name: torch.stack(parts).mean() for name, parts in values.items()}

    def _prepare(self) -> None:
        """Encode the prompts, once; loaded weights bring them along."""
        if bool(self.has_text):
            return
        text = self.config.text.encode(self.config.text.prompts.texts)
        self.text.copy_(text)
        if self.config.text.subspace is not None:
            self.basis.copy_(self.config.text.subspace.build(text))
        self.has_text.fill_(True)

    def _targets(self, rays: FeatureRays) -> Float[Tensor, "b r k"]:
        """Return what was seen in the space of the predicted features."""
        width, channels = rays.features.shape[-1], self.config.text.channels
        if width == self.config.text.width:
            return self.reduce(rays.features.flatten(0, 1)).unflatten(0, rays.features.shape[:2])
        if width != channels or rays.basis is None:
            raise ConfigError(
                f"LangOcc: the features have {width} channels; expected {self.config.text.width}, or {channels} in the "
                "subspace of the same prompts (occkit features --subspace)"
            )
        if not torch.allclose(rays.basis[0].to(self.basis), self.basis, atol=1e-3):
            raise ConfigError("LangOcc: the features are reduced to the subspace of other prompts; write them again")
        return rays.features

    def _render(self, prediction: Prediction, rays: FeatureRays, frame: int, grid: VoxelGrid) -> Seen:
        assert prediction.features is not None
        assert prediction.density is not None
        generator = None
        if self.training:
            # Torch's random state is that of the step (training/loop.py), so that a resumed run draws the same.
            generator = torch.Generator().manual_seed(int(torch.randint(2**62, ())))
        return render_rays(
            self.config.render,
            prediction.density[frame].float(),
            prediction.features[frame].flatten(1).T.float().contiguous(),
            grid,
            Rays(origins=rays.origins[frame], directions=rays.directions[frame]),
            generator=generator,
        )

    def _compare(self, seen: Seen, target: Float[Tensor, "r k"], steps: Int64[Tensor, " r"]) -> dict[str, Tensor]:
        losses, config = dict[str, Tensor](), self.config.losses
        sky, moves = self._kinds(target)
        counts = seen.inside & (seen.opacity > 0)
        if config.movers == "drop":
            counts = counts & ~(moves & (steps != 0))
        if config.sky != "keep":
            counts = counts & ~sky
        losses["features"] = feature_loss(seen.features, target, mask=counts, kind=config.kind)
        if config.sky == "empty" and config.emptiness:
            empty = torch.where(sky & seen.inside, seen.opacity, 0.0)
            losses["emptiness"] = config.emptiness * empty.mean()
        return losses

    def _kinds(self, target: Float[Tensor, "r k"]) -> tuple[Bool[Tensor, " r"], Bool[Tensor, " r"]]:
        """Return which rays show the sky, and which a thing that may move, by the prompts nearest to their targets."""
        table = self.config.text.prompts
        nearest = cosine_scores(target, self.reduce(self.text.to(target))).argmax(dim=-1)
        sky = torch.tensor([text in self.config.losses.sky_words for text, _ in table.prompts], device=target.device)
        movers = MOVERS.get(table.taxonomy, ())
        moves = torch.tensor([meaning in movers for _, meaning in table.prompts], device=target.device)
        return sky[nearest], moves[nearest]


def _mlp(channels: int, hidden: int, layers: int, out: int) -> nn.Sequential:
    modules: list[nn.Module] = []
    for _ in range(layers):
        modules += [nn.Linear(channels, hidden), nn.ReLU(inplace=True)]
        channels = hidden
    return nn.Sequential(*modules, nn.Linear(channels, out))
