"""Schedules by their published numbers, and steps that undo what noise did."""

import pytest
import torch

from occkit.errors import ConfigError
from occkit.nn.noise_schedules import (
    SCHEDULERS,
    CosineNoiseConfig,
    LinearNoiseConfig,
    NoiseSchedule,
    check_gate,
)

KINDS = [
    LinearNoiseConfig(),
    CosineNoiseConfig(),
    LinearNoiseConfig(predicts="velocity"),
    CosineNoiseConfig(predicts="noise", steps=100),
]


def test_the_linear_schedule_is_stable_diffusions():
    schedule = NoiseSchedule(LinearNoiseConfig())
    stated = {0: 0.999, 100: 0.894, 200: 0.754, 300: 0.591, 400: 0.425, 500: 0.276, 600: 0.161, 700: 0.083, 800: 0.037}
    for step, value in (stated | {900: 0.014, 999: 0.005}).items():
        assert float(schedule.signal[step]) == pytest.approx(value, abs=6e-4), step
    assert float(schedule.signal.mean()) == pytest.approx(0.373, abs=1e-3)


@pytest.mark.parametrize("config", KINDS)
def test_the_signal_falls_from_almost_one_to_almost_zero(config):
    signal = NoiseSchedule(config).signal
    assert (signal.diff() < 0).all()
    assert signal[0] > 0.99
    assert signal[-1] < 0.01


@pytest.mark.parametrize("config", KINDS)
def test_the_exact_prediction_gives_the_clean_image_back(config):
    schedule = NoiseSchedule(config)
    clean, noise = torch.randn(5, 3, 4, 6), torch.randn(5, 3, 4, 6)
    step = (torch.tensor([0, 10, 40, 70, 95]) * config.steps) // 100
    noisy = schedule.add_noise(clean, noise, step)
    back = schedule.estimate(schedule.target(clean, noise, step), noisy, step)
    assert torch.allclose(back, clean, atol=1e-3)


def test_noise_and_velocity_by_hand():
    schedule = NoiseSchedule(CosineNoiseConfig())
    schedule.signal = torch.tensor([0.36], dtype=torch.float64)  # sqrt 0.6, and 0.8 of noise
    clean, noise, step = torch.tensor([[2.0]]), torch.tensor([[1.0]]), torch.tensor([0])
    assert schedule.add_noise(clean, noise, step).item() == pytest.approx(0.6 * 2 + 0.8)
    assert schedule.target(clean, noise, step).item() == pytest.approx(0.6 - 0.8 * 2)


def test_gates_by_hand():
    schedule = NoiseSchedule(LinearNoiseConfig(steps=3))
    schedule.signal = torch.tensor([0.64, 0.5, 0.2], dtype=torch.float64)
    step = torch.arange(3)
    assert schedule.gate(step, "abar").tolist() == pytest.approx([0.64, 0.5, 0.2])
    assert schedule.gate(step, "sqrt_abar").tolist() == pytest.approx([0.8, 0.5**0.5, 0.2**0.5])
    assert schedule.gate(step, "snr").tolist() == pytest.approx([1.0, 1.0, 0.25])
    assert schedule.gate(step, "none").tolist() == [1.0, 1.0, 1.0]
    assert schedule.level(step).tolist() == pytest.approx([1 / 3, 2 / 3, 1.0])
    with pytest.raises(ConfigError, match="'square' is none of abar, sqrt_abar"):
        check_gate("square", "here")


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("config", KINDS[:2])
def test_a_scheduler_with_the_exact_prediction_ends_at_the_clean_image(name, config):
    pytest.importorskip("diffusers")
    schedule = NoiseSchedule(config)
    clean, random = torch.full((1, 3, 2, 2), 0.7), torch.Generator().manual_seed(0)
    scheduler = schedule.scheduler(name, 12)
    noisy = torch.randn(clean.shape, generator=random) * scheduler.init_noise_sigma
    for time in scheduler.timesteps:
        step = time.round().long()[None]
        seen = scheduler.scale_model_input(noisy, time)
        signal = schedule.signal_at(step)
        noise = (seen - signal.sqrt() * clean) / (1 - signal).sqrt()
        options = {} if name == "unipc" else {"generator": random}
        noisy = scheduler.step(schedule.target(clean, noise, step), time, noisy, **options).prev_sample
    # Ancestral and stochastic ones end one small step before the image itself.
    assert (noisy - clean).abs().max() < 0.12


def test_levels_to_learn_from_are_uniform_in_the_middle_or_where_the_config_says():
    """Of Beta(2, 2), `6 t (1 - t)`, half lies within 0.174 of the middle; the mean of Beta(a, b) is a / (a + b)."""
    torch.manual_seed(0)
    foci = {(1.0, 1.0): 0.5, (2.0, 2.0): 0.5, (0.01, 0.01): 0.5, (3.0, 1.5): 2 / 3}
    drawn = {focus: NoiseSchedule(CosineNoiseConfig(focus=focus)).draw(20_000) for focus in foci}
    for focus, steps in drawn.items():
        assert steps.dtype == torch.int64
        assert 0 <= int(steps.min()) <= int(steps.max()) <= 999
        assert float(steps.double().mean()) == pytest.approx(1000 * foci[focus], abs=12)
    within = {focus: float(((steps - 499.5).abs() < 173.6).double().mean()) for focus, steps in drawn.items()}
    assert within[1.0, 1.0] == pytest.approx(0.347, abs=0.02)
    assert within[2.0, 2.0] == pytest.approx(0.5, abs=0.02)


def test_what_cannot_be_sampled_is_named():
    schedule = NoiseSchedule(CosineNoiseConfig(steps=10))
    with pytest.raises(ConfigError, match=r"scheduler 'dimm': there is ddim, ddpm, dpm\+\+, euler"):
        schedule.scheduler("dimm", 5)
    for steps in (0, 11):
        with pytest.raises(ConfigError, match=f"steps: expected 1 to 10.*got {steps}"):
            schedule.scheduler("ddim", steps)
    with pytest.raises(ConfigError, match="first <= last"):
        LinearNoiseConfig(first=0.2, last=0.1)
    with pytest.raises(ConfigError, match="CosineNoise"):
        CosineNoiseConfig(largest=1.0)
    for config in (LinearNoiseConfig, CosineNoiseConfig):
        with pytest.raises(ConfigError, match="focus > 0"):
            config(focus=(2.0, 0.0))
