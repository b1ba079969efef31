"""Which rays teach what: those of things that may move, those that show the sky, and all others."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from occkit.errors import ConfigError
from occkit.foundation import PromptTable
from occkit.labels.fusion import MOVERS
from occkit.nn.open_vocabulary import cosine_scores
from occkit.systems.langocc.rendering import Seen


@dataclass(frozen=True, kw_only=True)
class RayRulesConfig:
    """Which rays are compared with what was seen, and what the others teach; the same whatever is rendered."""

    movers: Literal["keep", "drop", "flow"] = "keep"
    """Rays of other times on things that may move: kept as they are (the paper); or left out, if the prompt nearest to
    their target is one of the label factory's list (the released one has wrong ids); or samples in the boxes of moved
    objects go where these are now, which needs annotated boxes, `DataConfig.feature_motion` (ours)."""
    margin: float = 0.4
    """Metres by which boxes are widened, with `movers="flow"`."""
    sky: Literal["keep", "drop", "empty"] = "empty"
    """Rays whose target is nearest to a prompt for the sky: compared like any other, left out, or made to see nothing
    (ours; the paper's pixels never show the sky, for LiDAR chose them)."""
    sky_words: tuple[str, ...] = ("sky",)
    """These prompts."""
    emptiness: float = 0.1
    """Weight of the density along such rays, with `sky="empty"`."""
    fullness: float = 0.0
    """Weight of the opacity that the rays that are compared lack (ours). Directions of features do not tell thin air
    from thin fog, so that without it emptiness has nothing against it. Rays that leave the volume unstopped are asked
    to end in it too: keep it well below `emptiness`."""

    def __post_init__(self) -> None:
        if min(self.emptiness, self.fullness, self.margin) < 0:
            raise ConfigError(f"RayRulesConfig: weights and margin must not be negative: {self}")

    def check(self, prompts: PromptTable) -> None:
        """Complain if no prompt is one for the sky.

        Raises:
            ConfigError: if `sky` needs one and there is none.
        """
        if self.sky != "keep" and not set(self.sky_words) & set(prompts.texts):
            raise ConfigError(
                f"RayRulesConfig.sky: {self.sky!r} needs a prompt for the sky; none of {self.sky_words} is among those "
                f"of {prompts.name}"
            )


class RayKinds(NamedTuple):
    """What the targets of rays show, by the prompts nearest to them."""

    sky: Bool[Tensor, " r"]
    """The sky."""
    moves: Bool[Tensor, " r"]
    """A thing that may move."""


def kinds_of(
    rules: RayRulesConfig, target: Float[Tensor, "r k"], text: Float[Tensor, "p k"], prompts: PromptTable
) -> RayKinds:
    """Return what the targets of rays show.

    Args:
        rules: say which prompts are the sky's.
        target: what an image model saw along each ray.
        text: vectors of the prompts, in the space of the targets.
        prompts: the words and what they stand for.
    """
    nearest = cosine_scores(target, text).argmax(dim=-1)
    sky = torch.tensor([word in rules.sky_words for word in prompts.texts], device=target.device)
    movers = MOVERS.get(prompts.taxonomy, ())
    moves = torch.tensor([meaning in movers for _, meaning in prompts.prompts], device=target.device)
    return RayKinds(sky[nearest], moves[nearest])


def rays_that_count(
    rules: RayRulesConfig, seen: Seen, kinds: RayKinds, steps: Int64[Tensor, " r"]
) -> Bool[Tensor, " r"]:
    """Return the rays that are compared with their targets.

    Args:
        rules: what happens to the sky and to what moves.
        seen: what the rays see; those that see nothing have nothing to compare.
        kinds: what their targets show.
        steps: keyframes from the current one to theirs.
    """
    counts = seen.inside & (seen.opacity > 0)
    if rules.movers == "drop":
        counts = counts & ~(kinds.moves & (steps != 0))
    return counts if rules.sky == "keep" else counts & ~kinds.sky


def opacity_losses(rules: RayRulesConfig, seen: Seen, kinds: RayKinds, counts: Bool[Tensor, " r"]) -> dict[str, Tensor]:
    """Return what stands in the way of the rays of the sky, and how much the compared ones miss; weighted means.

    `emptiness = mean over rays of [sky] -log T = [sky] int sigma dt`, the cross-entropy of meeting nothing: the opacity
    itself has no slope in a fog. `fullness = mean over rays of [compared] (1 - opacity)`. One that is not asked for is
    left out.

    Args:
        rules: the weights, and what happens to the sky.
        seen: what the rays see.
        kinds: what their targets show.
        counts: rays that are compared, see `rays_that_count`.
    """
    losses: dict[str, Tensor] = {}
    if rules.sky == "empty" and rules.emptiness:
        losses["emptiness"] = rules.emptiness * torch.where(kinds.sky & seen.inside, seen.thickness, 0.0).mean()
    if rules.fullness:
        losses["fullness"] = rules.fullness * torch.where(counts, 1 - seen.opacity, 0.0).mean()
    return losses
