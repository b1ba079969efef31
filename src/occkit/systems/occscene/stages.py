"""The stages of training, one run each: what learns, what is frozen, and where the occupancy comes from.

    0  apart    perception on photographs, and the denoiser with its text encoder; nothing flows between them
    1  align    alignments and denoiser learn to use an occupancy; perception is frozen
    2  mutual   both learn, each from the other

Codec and CLIP's text encoder are frozen throughout, a text encoder of ours after stage 0. The paper trains in two
stages from a pretrained perception network; the rest of this schedule is our choice.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from occkit.errors import ConfigError
from occkit.nn.noise_schedules import Gate, check_gate

TRUTH, CLEAN, ESTIMATE, NULL = range(4)
"""Where the occupancy of a sample comes from."""


class Trains(NamedTuple):
    """What learns."""

    perception: bool
    denoiser: bool
    alignment: bool
    prompts: bool


@dataclass(frozen=True, kw_only=True)
class Sources:
    """How often the occupancy that the denoiser is shown comes from where; the shares add up to 1."""

    truth: float = 0.0
    """The label."""
    clean: float = 0.0
    """Perception of the photographs."""
    estimate: float = 0.0
    """Perception of what a first pass of the denoiser estimates: self-conditioning."""
    null: float = 0.0
    """None: a learnt stand-in."""

    def __post_init__(self) -> None:
        shares = self.shares
        if min(shares) < 0 or abs(sum(shares) - 1) > 1e-6:
            raise ConfigError(f"Sources: shares must not be negative and add up to 1, got {self}")

    @property
    def shares(self) -> tuple[float, float, float, float]:
        """The shares in the order of `TRUTH`, `CLEAN`, `ESTIMATE`, `NULL`."""
        return (self.truth, self.clean, self.estimate, self.null)

    def draw(self, labelled: Bool[Tensor, "b"]) -> Int64[Tensor, "b"]:
        """Draw a source for each sample, on the CPU; one without a label never has its label, but another of the rest.

        Args:
            labelled: which samples have one, on the CPU.
        """
        count = len(labelled)
        drawn = torch.multinomial(torch.tensor(self.shares), count, replacement=True)
        others = torch.tensor((0.0, *self.shares[1:]))
        instead = torch.full((count,), NULL)
        if bool(others.any()):
            instead = torch.multinomial(others, count, replacement=True)
        return torch.where((drawn == TRUTH) & ~labelled, instead, drawn)


@dataclass(frozen=True, kw_only=True)
class ApartConfig:
    """Stage 0. Either part can be left out: for controls, or to train one after the other, each for its own steps."""

    perception: bool = True
    """Let perception learn from the photographs."""
    generation: bool = True
    """Let denoiser and text encoder learn; alignments are left out as if they were not there."""
    drop_prompt: float = 0.1
    """Share of samples without their text, so that guidance has something to compare with."""
    noised: float = 0.0
    """Share of samples whose photographs perception sees with noise added, at the weight `gate`: the control for what
    noise alone does (ours)."""
    gate: Gate = "abar"
    """Weight of these by noise level."""

    def __post_init__(self) -> None:
        check_gate(self.gate, "Apart.gate")
        if not (self.perception or self.generation):
            raise ConfigError("Apart: perception and generation are both off; nothing would learn")

    @property
    def trains(self) -> Trains:
        """What learns."""
        return Trains(self.perception, self.generation, False, self.generation)


@dataclass(frozen=True, kw_only=True)
class AlignConfig:
    """Stage 1."""

    sources: Sources = Sources(truth=0.30, clean=0.60, null=0.10)
    """Where the occupancy comes from."""
    drop_prompt: float = 0.1
    """Share of samples without their text."""

    @property
    def trains(self) -> Trains:
        """What learns."""
        return Trains(False, True, True, False)


@dataclass(frozen=True, kw_only=True)
class MutualConfig:
    """Stage 2."""

    sources: Sources = Sources(truth=0.10, estimate=0.80, null=0.10)
    """Where the occupancy comes from."""
    drop_prompt: float = 0.1
    """Share of samples without their text."""
    occupancy: float = 1.0
    """Weight of perception's losses on the estimates."""
    gate: Gate = "abar"
    """What the noise level makes of that weight; the paper is silent."""
    clean: float = 1.0
    """Weight of perception's losses on the photographs, so that it never forgets them (ours)."""
    perceives: Literal["estimate", "noisy"] = "estimate"
    """Perception looks at the denoiser's estimate of the clean image, or at the noisy one itself."""
    generation_teaches_perception: bool = True
    """Let the denoiser's loss flow through the alignments into perception."""
    perception_teaches_generation: float = 0.03
    """How much of the gradient of perception's losses flows through the estimate into the denoiser: estimates that can
    be read. At 1 it is tens of times that of the denoiser's own loss in the small recipes, and spoils what is drawn."""
    readable: float = 0.1
    """They do where `a_t` is at least this; below, an estimate is a blur."""
    train_alignment: bool = True
    """Let the alignments learn further; False shows what they are worth (ours)."""

    def __post_init__(self) -> None:
        check_gate(self.gate, "Mutual.gate")
        if self.perception_teaches_generation < 0:
            raise ConfigError(
                f"Mutual.perception_teaches_generation must be 0 or more, got {self.perception_teaches_generation}"
            )

    @property
    def trains(self) -> Trains:
        """What learns."""
        return Trains(True, True, self.train_alignment, False)


@dataclass(frozen=True, kw_only=True)
class OfflineConfig:
    """Instead of stage 2, as a control: perception learns from photographs and from a set of scenes made before.

    The generator rests. A scene belongs to a frame and is drawn when it is first needed, from the frame's text and
    cameras with a seed of its own, and perception, which learns, has no part in it: the set is the same whenever and in
    whatever order it is drawn.
    """

    images: Literal["drawn", "photographs"] = "drawn"
    """Of scenes that the generator draws; or the photographs of frames without labels, as self-training takes them:
    what the generator learnt from, used without it. These have pseudo labels and one version."""
    labels: Literal["true", "pseudo"] = "true"
    """Of labelled frames, drawn for the frame's own label, which is then the scene's; or of all frames, from text alone
    and labelled by perception as it was when this stage began."""
    share: float = 0.8
    """Share of these samples beside which a drawn scene is looked at: as many as `MutualConfig` estimates."""
    versions: int = 8
    """Scenes of each frame."""
    steps: int = 10
    """Denoising steps of each."""
    guidance: float = 1.5
    """Scale of the text, as where drawings are judged: much of it makes them unlike photographs."""
    weight: float = 0.5
    """Weight of perception's losses on them: the mean of `MutualConfig.gate` over the noise levels."""

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1 or min(self.versions, self.steps) < 1 or self.weight <= 0:
            raise ConfigError(
                f"Offline: share must lie in (0, 1], versions, steps and weight must be positive, got {self}"
            )
        if self.images == "photographs" and (self.labels, self.versions) != ("pseudo", 1):
            raise ConfigError(f'Offline: photographs need labels="pseudo" and versions=1, got {self}')

    @property
    def trains(self) -> Trains:
        """What learns."""
        return Trains(True, False, False, False)


StageConfig = ApartConfig | AlignConfig | MutualConfig | OfflineConfig
"""The stages there are."""


@dataclass(frozen=True, kw_only=True)
class ClipConfig:
    """What is drawn together."""

    num_past: int = 0
    """Past frames that are drawn along with the current one; 0 is a single moment."""
    volumes: Literal["shared", "each"] = "shared"
    """All frames look at the occupancy of the current one, or each at its own. Labels belong to the current one."""

    def __post_init__(self) -> None:
        if self.num_past < 0:
            raise ConfigError(f"Clip: num_past must be 0 or more, got {self.num_past}")

    @property
    def num_frames(self) -> int:
        """Frames drawn together."""
        return 1 + self.num_past

    @property
    def num_volumes(self) -> int:
        """Occupancy volumes of a clip."""
        return 1 if self.volumes == "shared" else self.num_frames
