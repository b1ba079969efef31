"""Noise schedules of diffusion: how much of an image is left after t steps, what a network predicts, how loud it is.

`z_t = sqrt(a_t) z_0 + sqrt(1 - a_t) e`, with `a_t` ("abar" in papers) falling from almost 1 to almost 0. The steps of
sampling are those of diffusers' schedulers, made from the same numbers.
"""

import importlib
import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from occkit.errors import ConfigError

Gate = Literal["abar", "sqrt_abar", "none", "snr"]
"""Weight of a loss on an estimate that was made at step t; see `NoiseSchedule.gate`."""

SCHEDULERS = {
    "ddim": "DDIMScheduler",
    "ddpm": "DDPMScheduler",
    "dpm++": "DPMSolverMultistepScheduler",
    "euler": "EulerDiscreteScheduler",
    "euler-ancestral": "EulerAncestralDiscreteScheduler",
    "unipc": "UniPCMultistepScheduler",
}
"""Name of a way of sampling -> class of diffusers."""


@dataclass(frozen=True, kw_only=True)
class LinearNoiseConfig:
    """Stable Diffusion's schedule: the square roots of the variances rise linearly."""

    steps: int = 1000
    """Number of noise levels T."""
    first: float = 0.00085
    """Variance of the first step."""
    last: float = 0.012
    """Variance of the last step."""
    predicts: Literal["noise", "velocity"] = "noise"
    """What the network predicts: e, or `sqrt(a) e - sqrt(1 - a) z_0`."""
    focus: tuple[float, float] = (1.0, 1.0)
    """Training draws `t / T` from this Beta distribution (ours): (1, 1) is uniform; of (2, 2) the middle levels, where
    scenes take shape, come more often than those at which an image is all there, or nothing of it; of (3, 1.5) the
    higher ones, at which a layout can still be told."""

    def __post_init__(self) -> None:
        if self.steps < 2 or not 0 < self.first <= self.last < 1 or not min(self.focus) > 0:
            raise ConfigError(f"LinearNoise: needs 2 steps, 0 < first <= last < 1 and focus > 0, got {self}")

    def variances(self) -> Float[Tensor, "t"]:
        """Return the variance that each step adds, float64."""
        ends = (math.sqrt(self.first), math.sqrt(self.last))
        return torch.linspace(*ends, self.steps, dtype=torch.float64, device="cpu").square()


@dataclass(frozen=True, kw_only=True)
class CosineNoiseConfig:
    """`a_t` falls like a squared cosine. Source: Nichol and Dhariwal, 2021; velocities: Salimans and Ho, 2022."""

    steps: int = 1000
    """Number of noise levels T."""
    offset: float = 0.008
    """Keeps the first steps from being too small."""
    largest: float = 0.999
    """Limit of a step's variance."""
    predicts: Literal["noise", "velocity"] = "velocity"
    """As in `LinearNoiseConfig`."""
    focus: tuple[float, float] = (1.0, 1.0)
    """As in `LinearNoiseConfig`."""

    def __post_init__(self) -> None:
        if self.steps < 2 or self.offset < 0 or not 0 < self.largest < 1 or not min(self.focus) > 0:
            raise ConfigError(f"CosineNoise: needs 2 steps, offset >= 0, 0 < largest < 1 and focus > 0, got {self}")

    def variances(self) -> Float[Tensor, "t"]:
        """Return the variance that each step adds, float64."""
        at = torch.arange(self.steps + 1, dtype=torch.float64, device="cpu") / self.steps
        level = torch.cos((at + self.offset) / (1 + self.offset) * math.pi / 2).square()
        return (1 - level[1:] / level[:-1]).clamp(max=self.largest)


NoiseConfig = LinearNoiseConfig | CosineNoiseConfig
"""The kinds of schedules there are."""


class NoiseSchedule:
    """What a schedule's numbers do; see the module. Has no weights and is the same on every device."""

    def __init__(self, config: NoiseConfig) -> None:
        self.config = config
        self.steps = config.steps
        self.predicts = config.predicts
        self.variances = config.variances()
        self.signal = torch.cumprod(1 - self.variances, dim=0)
        """`a_t` of each step, float64."""

    def draw(self, count: int, device: torch.device | str | None = None) -> Int64[Tensor, "b"]:
        """Return steps to learn from, one a sample, drawn as the config says."""
        if self.config.focus == (1.0, 1.0):
            return torch.randint(self.steps, (count,), device=device)
        share = torch.distributions.Beta(*self.config.focus).sample((count,))
        return (self.steps * share).long().clamp(max=self.steps - 1).to(device)

    def signal_at(self, step: Int64[Tensor, "b"]) -> Float[Tensor, "b"]:
        """Return `a_t`, float32."""
        return self.signal.to(step.device)[step].float()

    def add_noise(
        self, clean: Float[Tensor, "b *s"], noise: Float[Tensor, "b *s"], step: Int64[Tensor, "b"]
    ) -> Float[Tensor, "b *s"]:
        """Return `sqrt(a) z_0 + sqrt(1 - a) e`."""
        kept, added = self._factors(step, clean)
        return kept * clean + added * noise

    def target(
        self, clean: Float[Tensor, "b *s"], noise: Float[Tensor, "b *s"], step: Int64[Tensor, "b"]
    ) -> Float[Tensor, "b *s"]:
        """Return what the network is to predict: the noise, or the velocity `sqrt(a) e - sqrt(1 - a) z_0`."""
        if self.predicts == "noise":
            return noise
        kept, added = self._factors(step, clean)
        return kept * noise - added * clean

    def estimate(
        self, predicted: Float[Tensor, "b *s"], noisy: Float[Tensor, "b *s"], step: Int64[Tensor, "b"]
    ) -> Float[Tensor, "b *s"]:
        """Return the clean values that follow from a prediction: the estimate of `z_0`."""
        kept, added = self._factors(step, noisy)
        if self.predicts == "noise":
            return (noisy - added * predicted) / kept
        return kept * noisy - added * predicted

    def gate(self, step: Int64[Tensor, "b"], kind: Gate) -> Float[Tensor, "b"]:
        """Return the weight `w(t)` of a loss on the estimate of step t.

        At a high level the estimate is another plausible scene, whose label is not that of the real one.

        Args:
            step: t.
            kind: "abar" is `a_t`, "sqrt_abar" its root, "snr" is `min(1, a_t / (1 - a_t))`, "none" is 1.

        Source: the specification of this system is ours; the paper's weight is not known.
        """
        signal = self.signal_at(step)
        if kind == "abar":
            return signal
        if kind == "sqrt_abar":
            return signal.sqrt()
        return (signal / (1 - signal)).clamp(max=1.0) if kind == "snr" else torch.ones_like(signal)

    def level(self, step: Int64[Tensor, "b"]) -> Float[Tensor, "b"]:
        """Return how noisy a step is, for networks that are told: above 0, 1 for the last one."""
        return (step + 1).float() / self.steps

    def scheduler(self, name: str, steps: int) -> Any:
        """Return a scheduler of diffusers for this schedule, its time steps set.

        Raises:
            ConfigError: if there is no such scheduler, or more steps than noise levels; if diffusers is missing.
        """
        if name not in SCHEDULERS:
            raise ConfigError(f"scheduler {name!r}: there is {', '.join(SCHEDULERS)}")
        if not 1 <= steps <= self.steps:
            raise ConfigError(f"steps: expected 1 to {self.steps}, the noise levels of this model, got {steps}")
        kind = "epsilon" if self.predicts == "noise" else "v_prediction"
        options: dict[str, Any] = {"trained_betas": self.variances.tolist(), "prediction_type": kind}
        options |= {"num_train_timesteps": self.steps, "timestep_spacing": "trailing"}
        if name in ("ddim", "ddpm"):
            options["clip_sample"] = False
        made = getattr(import_diffusers(), SCHEDULERS[name])(**options)
        made.set_timesteps(steps)
        if name == "euler-ancestral":
            # It takes the root of a difference of squares that, in float32, rounds to below 0 where steps are few.
            made.sigmas = made.sigmas.double()
        return made

    def _factors(self, step: Int64[Tensor, "b"], like: Tensor) -> tuple[Tensor, Tensor]:
        signal = self.signal.to(step.device)[step].reshape(-1, *[1] * (like.ndim - 1))
        return signal.sqrt().to(like.dtype), (1 - signal).sqrt().to(like.dtype)


def check_gate(gate: str, where: str) -> None:
    """Raise a ConfigError unless a name is one of `Gate`."""
    if gate not in get_args(Gate):
        raise ConfigError(f"{where}: {gate!r} is none of {', '.join(get_args(Gate))}")


def import_diffusers() -> Any:
    """Return diffusers, which takes seconds to import and is not needed by who only perceives.

    Raises:
        ConfigError: if it is not installed.
    """
    try:
        return importlib.import_module("diffusers")
    except (ImportError, RuntimeError) as error:
        raise ConfigError(
            'diffusion needs the package diffusers, which cannot be imported -- pip install "occkit[diffusion]"'
        ) from error
