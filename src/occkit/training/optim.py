"""Optimiser and learning rate: the schedule is a pure function of the step, so that resuming needs no state for it."""

import math
from dataclasses import dataclass

from torch import nn
from torch.optim import Optimizer

from occkit.errors import ConfigError
from occkit.training.muon import MuonAdamW


@dataclass(frozen=True, kw_only=True)
class Cosine:
    """Half a cosine from 1 down to `final`."""

    final: float = 0.01
    """Factor of the learning rate at the last step."""

    def factor(self, progress: float) -> float:
        """Return the factor of the learning rate at `progress` 0..1 after warm-up."""
        return self.final + (1 - self.final) * 0.5 * (1 + math.cos(math.pi * progress))


@dataclass(frozen=True, kw_only=True)
class OneCycle:
    """Half a cosine up from `initial` to 1, then half a cosine down to `final`.

    Source: Smith and Topin, "Super-Convergence", 2018; cosine halves.
    """

    peak: float = 0.3
    """Progress 0..1 at which the learning rate is highest."""
    initial: float = 0.04
    """Factor of the learning rate at the first step."""
    final: float = 1e-4
    """Factor of the learning rate at the last step."""

    def __post_init__(self) -> None:
        if not 0 < self.peak < 1:
            raise ConfigError(f"OneCycle.peak must lie between 0 and 1, got {self.peak}")

    def factor(self, progress: float) -> float:
        """Return the factor of the learning rate at `progress` 0..1 after warm-up."""
        if progress < self.peak:
            start, end, t = self.initial, 1.0, progress / self.peak
        else:
            start, end, t = 1.0, self.final, (progress - self.peak) / (1 - self.peak)
        return end + (start - end) * 0.5 * (1 + math.cos(math.pi * t))


@dataclass(frozen=True, kw_only=True)
class Constant:
    """The same learning rate throughout."""

    def factor(self, progress: float) -> float:
        """Return 1 whatever `progress` is."""
        del progress
        return 1.0


@dataclass(frozen=True, kw_only=True)
class Steps:
    """Constant, but for a drop at each of some points."""

    at: tuple[float, ...]
    """Progress 0..1 of each drop."""
    drop: float = 0.1
    """What the learning rate is multiplied by."""

    def factor(self, progress: float) -> float:
        """Return the factor of the learning rate at `progress` 0..1 after warm-up."""
        return self.drop ** sum(progress >= point for point in self.at)


@dataclass(frozen=True, kw_only=True)
class Twice:
    """A schedule from beginning to end, and then once more: for two stages of training in one run."""

    at: float
    """Progress 0..1 at which the second begins."""
    schedule: Cosine | OneCycle = OneCycle()
    """What each of the two follows."""

    def __post_init__(self) -> None:
        if not 0 < self.at < 1:
            raise ConfigError(f"Twice.at must lie between 0 and 1, got {self.at}")

    def factor(self, progress: float) -> float:
        """Return the factor of the learning rate at `progress` 0..1 after warm-up."""
        if progress < self.at:
            return self.schedule.factor(progress / self.at)
        return self.schedule.factor((progress - self.at) / (1 - self.at))


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """AdamW (or Muon for convolutions), its learning rate over the steps, and gradient clipping."""

    lr: float = 2e-4
    """Highest learning rate."""
    weight_decay: float = 0.01
    """Decoupled weight decay; only for parameters of two or more dimensions, never for biases and norms."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay of the running mean and of the running square of the gradient."""
    muon_lr: float | None = None
    """Train convolution kernels by Muon at this learning rate, 0.02 or so; None trains everything by AdamW."""
    muon_momentum: float = 0.95
    """Decay of the running mean of a kernel's gradient under Muon."""
    warmup_steps: int = 0
    """First steps, in which the learning rate rises linearly to where the schedule starts."""
    schedule: Cosine | OneCycle | Constant | Steps | Twice = Cosine()
    """How the learning rate falls after the warm-up."""
    clip_norm: float | None = 35.0
    """Largest norm of the whole gradient; None = no clipping."""
    lr_factors: tuple[tuple[str, float], ...] = ()
    """(prefix of parameter names, factor of their learning rate), such as ("backbone.", 0.1); the first that fits."""

    def __post_init__(self) -> None:
        if not self.lr > 0:
            raise ConfigError(f"optim.lr must be positive, got {self.lr}")
        if self.warmup_steps < 0 or self.weight_decay < 0:
            raise ConfigError("optim.warmup_steps and optim.weight_decay must not be negative")
        if self.muon_lr is not None and not self.muon_lr > 0:
            raise ConfigError(f"optim.muon_lr must be positive or None, got {self.muon_lr}")
        if self.clip_norm is not None and not self.clip_norm > 0:
            raise ConfigError(f"optim.clip_norm must be positive or None, got {self.clip_norm}")

    def lr_at(self, step: int, steps: int) -> float:
        """Return the learning rate of step `step` (0-based) of `steps`."""
        if step < self.warmup_steps:
            return self.lr * self.schedule.factor(0.0) * (step + 1) / (self.warmup_steps + 1)
        remaining = max(steps - 1 - self.warmup_steps, 1)
        return self.lr * self.schedule.factor(min((step - self.warmup_steps) / remaining, 1.0))

    def build(self, module: nn.Module) -> MuonAdamW:
        """Return the optimiser; one parameter group for each learning-rate factor, weight decay and rule.

        Raises:
            ConfigError: if a prefix of `lr_factors` fits no trainable parameter.
        """
        trainable = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
        for prefix, _ in self.lr_factors:
            if not any(name.startswith(prefix) for name, _ in trainable):
                raise ConfigError(f"optim.lr_factors: no trainable parameter's name starts with {prefix!r}")
        groups: dict[tuple[float, float, bool], list[nn.Parameter]] = {}
        for name, parameter in trainable:
            factor = next((f for prefix, f in self.lr_factors if name.startswith(prefix)), 1.0)
            decay = self.weight_decay if parameter.ndim >= 2 else 0.0
            muon = self.muon_lr is not None and parameter.ndim >= 4
            groups.setdefault((factor, decay, muon), []).append(parameter)
        optimizer = MuonAdamW(
            [
                {
                    "params": parameters,
                    "weight_decay": decay,
                    "lr_factor": factor * (self.muon_lr / self.lr if muon and self.muon_lr is not None else 1.0),
                    "muon": muon,
                    "muon_momentum": self.muon_momentum,
                }
                for (factor, decay, muon), parameters in groups.items()
            ],
            betas=self.betas,
        )
        set_learning_rate(optimizer, self.lr)
        return optimizer


def set_learning_rate(optimizer: Optimizer, lr: float) -> None:
    """Give each parameter group `lr` times its own factor."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_factor"]
