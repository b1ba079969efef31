"""LangOcc's rival that renders colours: the same field and rays, and no idea of what anything is called."""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from occkit.errors import ConfigError
from occkit.losses.rendering import colour_loss
from occkit.samples import Batch, Prediction
from occkit.systems.langocc.field import Field, FieldConfig, mean_over_frames
from occkit.systems.langocc.rays import RayRulesConfig, opacity_losses, rays_that_count
from occkit.systems.langocc.text import occupancy_logits


@dataclass(frozen=True, kw_only=True)
class FreeColourConfig:
    """A voxel may have any colour, the same from all sides: three numbers, each a sigmoid."""

    @property
    def channels(self) -> int:
        """Numbers of a voxel."""
        return 3

    def shade(self, rendered: Float[Tensor, "r 3"], directions: Float[Tensor, "r 3"]) -> Float[Tensor, "r 3"]:
        """Return the colours of rays; what they see of the voxels is that already."""
        del directions
        return rendered


@dataclass(frozen=True, kw_only=True)
class HarmonicColourConfig:
    """A voxel has nine coefficients of spherical harmonics for each of red, green and blue, each a sigmoid.

    The colour along a direction is `clip(sum_k Y_k(d) c_k, 0, 1)`. Coefficients above 0 alone cannot say "the same from
    all sides" of a bright voxel: the constant function gives 0.28 at most, and every other one is as often below 0.
    """

    @property
    def channels(self) -> int:
        """Numbers of a voxel."""
        return 27

    def shade(self, rendered: Float[Tensor, "r 27"], directions: Float[Tensor, "r 3"]) -> Float[Tensor, "r 3"]:
        """Return the colours of rays.

        Harmonics are linear in their coefficients, so that these are rendered and shaded once a ray; where a sample
        alone would be clipped, this is not the same.

        Source: Boeder et al., "LangOcc", 3DV 2025, released configuration of its colour ablation.
        """
        basis = spherical_harmonics(directions)
        return (rendered.unflatten(-1, (3, 9)) * basis[:, None]).sum(dim=-1).clamp(0, 1)


def spherical_harmonics(directions: Float[Tensor, "*r 3"]) -> Float[Tensor, "*r 9"]:
    """Return the real spherical harmonics of the first three bands, orthonormal over the sphere.

    `Y_0 = sqrt(1 / 4 pi)`; `sqrt(3 / 4 pi) (y, z, x)`; `sqrt(15 / 4 pi) (xy, yz, (3 z^2 - 1) / sqrt 12, zx,
    (x^2 - y^2) / 2)`. No sign is turned (Condon and Shortley's phase).

    Args:
        directions: unit length.

    Returns:
        Nine numbers a direction. Differentiable.

    Source: the usual definition.
    """
    x, y, z = directions.unbind(dim=-1)
    one, three, fifteen = 0.28209479177387814, 0.4886025119029199, 1.0925484305920792
    flat = [torch.full_like(x, one), three * y, three * z, three * x]
    bent = [x * y, y * z, (3 * z * z - 1) / 12**0.5, z * x, (x * x - y * y) / 2]
    return torch.stack([*flat, *(fifteen * values for values in bent)], dim=-1)


@dataclass(frozen=True, kw_only=True)
class ColourFieldConfig(FieldConfig):
    """A field learnt from the colours of pixels: LangOcc's comparison of what teaches geometry.

    Words still say which rays show the sky, so that the rays that count are those of LangOcc.
    """

    colour: FreeColourConfig | HarmonicColourConfig = field(default_factory=FreeColourConfig)
    """What a voxel carries."""
    weight: float = 1.0
    """Of the comparison of colours."""
    rules: RayRulesConfig = field(default_factory=RayRulesConfig)
    """Which rays count."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.rules.check(self.text.prompts)

    def build(self) -> "ColourField":
        """Return the network, freshly initialised."""
        return ColourField(self)


class ColourField(Field):
    """See `ColourFieldConfig`.

    It knows where something is and not what: all of it gets the taxonomy's first class (Occ3D: `others`). Its IoU is a
    figure, its mIoU is none.

    Source: Boeder et al., "LangOcc", 3DV 2025, ablation of the supervision.
    """

    def __init__(self, config: ColourFieldConfig) -> None:
        super().__init__(config)
        self.config = config
        self.colour = self.voxel_network(config.colour.channels)

    def forward(self, batch: Batch) -> Prediction:
        """Predict densities and what voxels carry of a colour; the scores know free and not free."""
        self.prepare_text()
        rows, _ = self.voxel_rows(batch)
        density = self.densities(rows)
        carried = torch.sigmoid(self.of_voxels(self.colour, rows))
        with torch.no_grad():
            logits = occupancy_logits(density, batch.taxonomy, threshold=self.threshold)
        return Prediction(
            logits=logits,
            grid=batch.grid,
            taxonomy=batch.taxonomy,
            features=carried.permute(0, 4, 1, 2, 3),
            density=density,
        )

    def loss(self, prediction: Prediction, batch: Batch) -> dict[str, Tensor]:
        """Return the weighted losses by name.

        Raises:
            ConfigError: if the batch has no feature rays, they have no colours, or their features are of another width.
        """
        rays, rules = self.feature_rays_of(batch), self.config.rules
        if rays.colours is None:
            raise ConfigError("ColourField: the rays have no colours; set DataConfig.feature_colours")
        self.check_width(rays)
        frames: list[dict[str, Tensor]] = []
        for frame in range(len(rays.features)):
            seen, kinds = self.render(prediction, rays, frame, rules), self.kinds_of(rules, rays.features[frame])
            counts = rays_that_count(rules, seen, kinds, rays.steps[frame])
            shown = self.config.colour.shade(seen.features, rays.directions[frame])
            losses = {"colours": self.config.weight * colour_loss(shown, rays.colours[frame], mask=counts)}
            frames.append(losses | opacity_losses(rules, seen, kinds, counts))
        return mean_over_frames(frames)
