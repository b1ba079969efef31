"""The network of LangOcc: a density and a vision-language vector for every voxel, learnt by rendering them.

The same network learns from one LiDAR sweep instead (`LidarSweepConfig`): the rival that LangOcc measures itself by.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from occkit.errors import ConfigError
from occkit.losses.beams import beam_occupancy, beam_targets
from occkit.losses.language import FeatureLossKind, feature_loss
from occkit.nn.open_vocabulary import cosine_scores
from occkit.ops.sampling import sample_trilinear
from occkit.samples import Batch, Prediction
from occkit.systems.langocc.field import Field, FieldConfig, mean_over_frames
from occkit.systems.langocc.guide import ImageGuideConfig, read_pixels
from occkit.systems.langocc.rays import RayRulesConfig, opacity_losses, rays_that_count
from occkit.systems.langocc.text import class_logits
from occkit.taxonomy import Taxonomy


@dataclass(frozen=True, kw_only=True)
class LanguageRaysConfig:
    """LangOcc's own signal: rays through pixels of several keyframes, and what an image model saw in these pixels."""

    kind: FeatureLossKind = "cosine_guided"
    """How directions of features are compared."""
    weight: float = 1.0
    """Of this comparison; the paper has no other loss."""
    rules: RayRulesConfig = field(default_factory=RayRulesConfig)
    """Which rays count."""


@dataclass(frozen=True, kw_only=True)
class LidarSweepConfig:
    """POP-3D's signal: the LiDAR sweep of the frame says where something is, its points what an image model saw there.

    `L = occupancy L_occ + features L_ft`. Occupied are the voxels with a point, empty those that a beam crosses before
    it ends; nothing is said of all others. `L_ft` compares the vector at each point inside the volume with that of the
    pixels it falls into, without asking whether the camera sees it.

    Source: Vobecky et al., "POP-3D: Open-vocabulary 3D occupancy prediction from images", NeurIPS 2023. Ours: binary
    cross-entropy, beams for what is empty, squared distance of unit vectors, and the trunk of LangOcc.
    """

    origin: tuple[float, float, float] = (0.943713, 0.0, 1.84023)
    """Where the beams start, metres, frame of the grid (nuScenes' ego frame). A data set that is mirrored along x has
    another one; along y it stays."""
    occupancy: float = 1.0
    """Weight of the occupancy."""
    features: float = 1.0
    """Weight of the features at the points."""
    kind: FeatureLossKind = "mse"
    """How they are compared."""


@dataclass(frozen=True, kw_only=True)
class LangOccConfig(FieldConfig):
    """Every choice of the network, its text side and its losses."""

    signal: LanguageRaysConfig | LidarSweepConfig = field(default_factory=LanguageRaysConfig)
    """What it learns from."""
    guide: ImageGuideConfig | None = None
    """Teaches the images as well what their pixels show; None is the paper."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.signal, LanguageRaysConfig):
            self.signal.rules.check(self.text.prompts)

    def build(self) -> "LangOcc":
        """Return the network, freshly initialised."""
        return LangOcc(self)


class LangOcc(Field):
    """See `LangOccConfig`.

    Source: Boeder et al., "LangOcc: Open vocabulary occupancy estimation via volume rendering", 3DV 2025.
    """

    def __init__(self, config: LangOccConfig) -> None:
        super().__init__(config)
        self.config = config
        self.language = self.voxel_network(config.text.channels)
        self.guide = None
        if config.guide is not None:
            self.guide = nn.Linear(config.encoder.depth.context_channels, config.text.channels)
        self._others: dict[str, Tensor] = {}

    def forward(self, batch: Batch) -> Prediction:
        """Predict densities and features; the scores are those of the classes' prompts."""
        self.prepare_text()
        rows, image_features = self.voxel_rows(batch)
        density = self.densities(rows)
        features = F.normalize(self.of_voxels(self.language, rows), dim=-1)
        with torch.no_grad():
            logits = self.classify(features, density, batch.taxonomy)
        return Prediction(
            logits=logits,
            grid=batch.grid,
            taxonomy=batch.taxonomy,
            features=features.permute(0, 4, 1, 2, 3),
            image_features=image_features,
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
            threshold=self.threshold,
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
        self.prepare_text()
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

    def loss(self, prediction: Prediction, batch: Batch) -> dict[str, Tensor]:
        """Return the weighted losses by name.

        Raises:
            ConfigError: if the batch has no feature rays (or LiDAR points and their features, for that signal), or they
                are of another width or subspace.
        """
        if isinstance(self.config.signal, LidarSweepConfig):
            return self._lidar_losses(self.config.signal, prediction, batch) | self._guide_losses(prediction, batch)
        return self._ray_losses(self.config.signal, prediction, batch) | self._guide_losses(prediction, batch)

    def _ray_losses(self, signal: LanguageRaysConfig, prediction: Prediction, batch: Batch) -> dict[str, Tensor]:
        rays = self.feature_rays_of(batch)
        targets = self.targets_of(rays)
        frames: list[dict[str, Tensor]] = []
        for frame, target in enumerate(targets):
            seen, rules = self.render(prediction, rays, frame, signal.rules), signal.rules
            kinds = self.kinds_of(rules, rays.features[frame])
            counts = rays_that_count(rules, seen, kinds, rays.steps[frame])
            compared = feature_loss(seen.features, target, mask=counts, kind=signal.kind)
            frames.append({"features": signal.weight * compared} | opacity_losses(rules, seen, kinds, counts))
        return mean_over_frames(frames)

    def _guide_losses(self, prediction: Prediction, batch: Batch) -> dict[str, Tensor]:
        guide = self.config.guide
        if guide is None or self.guide is None:
            return {}
        assert prediction.image_features is not None
        rays, frames = self.feature_rays_of(batch), list[dict[str, Tensor]]()
        for frame, target in enumerate(self.targets_of(rays)):
            now = rays.steps[frame] == 0
            maps, cameras = prediction.image_features[frame].float(), batch.cameras[frame, 0]
            read, seen = read_pixels(maps, cameras, rays.origins[frame][now], rays.directions[frame][now])
            compared = feature_loss(self.guide(read), target[now], mask=seen, kind=guide.kind)
            frames.append({"images": guide.weight * compared})
        return mean_over_frames(frames)

    def _lidar_losses(self, signal: LidarSweepConfig, prediction: Prediction, batch: Batch) -> dict[str, Tensor]:
        if batch.points is None or batch.point_features is None:
            raise ConfigError(
                f"LangOcc: frame {batch.tokens[0]} (or one beside it) has no LiDAR points with features; set "
                "DataConfig.features, load_points and point_features"
            )
        assert prediction.features is not None
        assert prediction.density is not None
        grid, frames = prediction.grid, list[dict[str, Tensor]]()
        for frame, (points, seen) in enumerate(zip(batch.points, batch.point_features, strict=True)):
            if seen.shape[1] != self.config.text.width:
                raise ConfigError(
                    f"LangOcc: the features at the LiDAR points have {seen.shape[1]} channels; expected "
                    f"{self.config.text.width}: write them without --subspace"
                )
            hit, passed = beam_targets(points[:, :3], signal.origin, grid)
            probability = prediction.density[frame].float() / self.config.sigma_max
            shown = grid.index_of(points[:, :3])[1] & seen.any(dim=1)
            rows = prediction.features[frame].flatten(1).T.float().contiguous()
            there = sample_trilinear(rows, grid.shape, grid.continuous_index(points[shown, :3]))
            mask = torch.ones_like(shown[shown])
            compared = feature_loss(there, self.reduce(seen[shown]), mask=mask, kind=signal.kind)
            frames.append(
                {
                    "occupancy": signal.occupancy * beam_occupancy(probability, hit, passed),
                    "features": signal.features * compared,
                }
            )
        return mean_over_frames(frames)
