"""LangOcc's rivals: the same field taught by colours or by one LiDAR sweep, and the small recipe with one change."""

import math
from dataclasses import fields, replace

import pytest
import torch

from occkit.errors import ConfigError
from occkit.losses.language import feature_loss
from occkit.nn.subspace import SvdSubspaceConfig
from occkit.samples import collate
from occkit.systems import langocc
from occkit.systems.langocc import (
    ColourFieldConfig,
    FieldConfig,
    FreeColourConfig,
    HarmonicColourConfig,
    LangOccConfig,
    LidarSweepConfig,
    occupancy_logits,
    spherical_harmonics,
)
from occkit.systems.langocc.recipes import NANO_WEIGHTS, STREET
from occkit.taxonomy import OCC3D
from occkit.training.claim_results import load_claim
from occkit.training.recipe import recipes_in
from occkit.training.system import conditional_parameters


@pytest.fixture
def batch(make_sample):
    grid = langocc.debug().system.grid
    frames = collate([make_sample(grid=grid, taxonomy=OCC3D, size=(32, 88), num_rays=64, seed=seed) for seed in (0, 1)])
    draw = torch.Generator().manual_seed(0)
    seen = [torch.nn.functional.normalize(torch.randn(len(p), 64, generator=draw), dim=1) for p in frames.points]
    seen[0][:100] = 0.0
    rays = replace(frames.feature_rays, colours=torch.tensor([0.9, 0.1, 0.2]).expand(2, 64, 3).clone())
    return replace(frames, feature_rays=rays, point_features=tuple(seen))


def shared() -> dict:
    system = langocc.debug().system
    return {f.name: getattr(system, f.name) for f in fields(FieldConfig)}


RIVALS = {
    "lidar": lambda: LangOccConfig(**shared(), signal=LidarSweepConfig()),
    "free colours": lambda: ColourFieldConfig(**shared(), colour=FreeColourConfig()),
    "harmonic colours": lambda: ColourFieldConfig(**shared(), colour=HarmonicColourConfig()),
}


@pytest.mark.parametrize("kind", RIVALS)
def test_a_rival_trains_every_parameter_and_its_loss_falls(batch, kind):
    torch.manual_seed(0)
    model = RIVALS[kind]().build().train()
    optimizer = langocc.debug().optim.build(model)
    values = []
    for _ in range(8):
        losses = model.loss(model(batch), batch)
        assert all(value.shape == () and value.isfinite() for value in losses.values())
        total = torch.stack(list(losses.values())).sum()
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        values.append(total.item())
    without = [name for name, p in model.named_parameters() if p.grad is None]
    assert [name for name in without if not name.startswith(conditional_parameters(model))] == []
    assert min(values[-2:]) < 0.95 * values[0], values


def test_colours_tell_occupied_from_free_and_nothing_else(batch):
    density = torch.tensor([0.05, 0.5]).reshape(1, 2, 1, 1)
    semantics = occupancy_logits(density, OCC3D, threshold=0.1).argmax(dim=1)
    assert semantics.flatten().tolist() == [OCC3D.free_id, OCC3D.id_of("others")]
    torch.manual_seed(0)
    model = RIVALS["free colours"]().build().eval()
    with torch.no_grad():
        prediction = model(batch)
    occupied = prediction.semantics() != OCC3D.free_id
    assert torch.equal(occupied, prediction.density >= model.config.threshold)
    assert set(prediction.semantics().unique().tolist()) <= {OCC3D.free_id, OCC3D.id_of("others")}
    assert prediction.features.shape[1] == 3
    assert not hasattr(model, "classify"), "nobody may ask colours for words"


def test_harmonics_are_orthonormal_over_the_sphere():
    n = 20_000
    z = 1 - (2 * torch.arange(n, dtype=torch.float64) + 1) / n
    azimuth = torch.arange(n, dtype=torch.float64) * math.pi * (3 - 5**0.5)
    flat = (1 - z * z).sqrt()
    directions = torch.stack([flat * azimuth.cos(), flat * azimuth.sin(), z], dim=1)
    values = spherical_harmonics(directions)
    product = 4 * math.pi * values.T @ values / n
    assert torch.allclose(product, torch.eye(9, dtype=torch.float64), atol=1e-3)
    # One direction by hand: along x the bands are Y_0, sqrt(3 / 4 pi) in the place of x, and two of the third.
    one = spherical_harmonics(torch.tensor([[1.0, 0.0, 0.0]]))[0]
    expected = [0.28209, 0, 0, 0.48860, 0, 0, -0.31539, 0, 0.54627]
    assert one.tolist() == pytest.approx(expected, abs=1e-4)


def test_harmonics_above_zero_are_dim_from_most_sides_and_are_clipped():
    colour = HarmonicColourConfig()
    directions = torch.eye(3)[[0, 2]]
    constant = torch.zeros(2, 3, 9)
    constant[..., 0] = 1.0
    assert torch.allclose(colour.shade(constant.flatten(1), directions), torch.tensor(0.28209), atol=1e-4)
    bright = spherical_harmonics(directions).clamp(min=0).sign()[:, None].expand(-1, 3, -1).flatten(1)
    assert colour.shade(bright, directions).max().item() == 1.0
    assert colour.shade(bright, -directions).max().item() < 0.8


def test_the_gradient_of_harmonic_colours_in_double_precision():
    draw = torch.Generator().manual_seed(0)
    coefficients = (0.4 * torch.rand(4, 27, generator=draw, dtype=torch.float64)).requires_grad_()
    directions = torch.nn.functional.normalize(torch.randn(4, 3, generator=draw, dtype=torch.float64), dim=1)
    assert torch.autograd.gradcheck(lambda c: HarmonicColourConfig().shade(c, directions), (coefficients,))


def test_the_sweep_learns_at_its_points_and_nowhere_else(batch):
    torch.manual_seed(0)
    model = RIVALS["lidar"]().build().eval()
    prediction = model(batch)
    for name in ("features", "density"):
        getattr(prediction, name).retain_grad()
    sum(model.loss(prediction, batch).values()).backward()
    points, seen = batch.points[0], batch.point_features[0]
    here = prediction.grid.index_of(points[seen.any(dim=1), :3])[0]
    touched = prediction.features.grad[0].abs().sum(dim=0) > 0
    assert touched[here.unbind(-1)].all()
    assert 0 < touched.float().mean() < 0.9
    # A voxel with a point is to be occupied: more density there lowers the loss.
    ends = prediction.grid.index_of(points[:, :3])[0]
    assert (prediction.density.grad[0][ends.unbind(-1)] < 0).all()


def test_points_without_features_do_not_count(batch):
    torch.manual_seed(0)
    model = RIVALS["lidar"]().build().eval()
    prediction = model(batch)
    before = model.loss(prediction, batch)["features"]
    points = list(batch.points)
    points[0] = points[0].clone()
    points[0][:100, :3] = points[0][100, :3]
    assert model.loss(prediction, replace(batch, points=tuple(points)))["features"].item() == before.item()
    nothing = tuple(torch.zeros_like(seen) for seen in batch.point_features)
    assert model.loss(prediction, replace(batch, point_features=nothing))["features"].item() == 0.0


def test_what_a_rival_lacks_is_named(batch):
    lidar, colours = RIVALS["lidar"]().build(), RIVALS["free colours"]().build()
    with pytest.raises(ConfigError, match="point_features"):
        lidar.loss(lidar(batch), replace(batch, point_features=None))
    narrow = tuple(seen[:, :24] for seen in batch.point_features)
    with pytest.raises(ConfigError, match="24 channels; expected 64"):
        lidar.loss(lidar(batch), replace(batch, point_features=narrow))
    with pytest.raises(ConfigError, match="feature_colours"):
        colours.loss(colours(batch), replace(batch, feature_rays=replace(batch.feature_rays, colours=None)))
    with pytest.raises(ConfigError, match="needs a prompt for the sky"):
        ColourFieldConfig(**shared(), rules=langocc.RayRulesConfig(sky_words=("heaven",)))


def test_the_sweep_is_compared_in_the_subspace_of_the_reduced_variant(batch):
    torch.manual_seed(0)
    text = replace(langocc.debug().system.text, subspace=SvdSubspaceConfig(dim=24))
    model = LangOccConfig(**{**shared(), "text": text}, signal=LidarSweepConfig()).build().eval()
    prediction = model(batch)
    assert prediction.features.shape[1] == 24
    assert 0 < model.loss(prediction, batch)["features"].item() < 4


def test_arms_share_network_rays_and_schedule():
    nano = langocc.nano()
    for rival in (langocc.nano_rgb(), langocc.nano_rgb_harmonic(), langocc.nano_pop3d()):
        # Probabilities have a threshold of their own.
        same = {f.name for f in fields(FieldConfig)} - {"threshold"}
        assert {n: getattr(rival.system, n) for n in same} == {n: getattr(nano.system, n) for n in same}
        assert (rival.steps, rival.batch_size, rival.optim) == (nano.steps, nano.batch_size, nano.optim)
    rays = replace(langocc.nano_rgb().data, feature_colours=False)
    assert rays == nano.data
    assert langocc.nano_rgb().system.rules == nano.system.signal.rules


def test_one_vector_for_everything_costs_the_same_by_every_loss():
    prompts = STREET.encode(STREET.prompts.texts)
    same, every = prompts.mean(dim=0).expand_as(prompts), torch.ones(len(prompts), dtype=torch.bool)
    costs = [w * feature_loss(same, prompts, mask=every, kind=k).item() for k, w in NANO_WEIGHTS.items()]
    assert len(costs) == 3
    assert max(costs) < 2 * min(costs)
    assert NANO_WEIGHTS["cosine"] == 2 * NANO_WEIGHTS["mse"], "half the loss, twice the weight: the same training"
    assert langocc.nano_pop3d().system.signal.features == NANO_WEIGHTS["mse"]


def test_every_small_recipe_is_an_arm_of_one_of_the_claims():
    names = ["langocc", "langocc.effects", "langocc.losses", "langocc.choices"]
    claims = [load_claim(name) for name in names]
    assert [claim.system for claim in claims] == names
    arms = {arm().name for claim in claims for arm in claim.arms.values()}
    assert arms == {f"langocc.{name}" for name in recipes_in(langocc) if name.startswith("nano")}
    # All arms of a claim are trained on its world's features.
    for claim in claims:
        assert claim.world.commands[0][0] == "features"
        assert all(arm().data.features == langocc.FEATURES for arm in claim.arms.values())


@pytest.mark.parametrize("name", ["nano_sigma_half", "nano_sigma_3", "nano_sigma_10"])
def test_caps_of_the_density_start_alike(name):
    systems = [langocc.nano().system, getattr(langocc, name)().system]
    starts = [s.sigma_max / (1 + math.exp(-s.density_start)) for s in systems]
    assert starts[1] == pytest.approx(starts[0])
    assert systems[1].sigma_max != systems[0].sigma_max
    torch.manual_seed(0)
    field = replace(langocc.debug().system, density_start=-2.0, sigma_max=3.0).build()
    rows = torch.zeros(1, 1, 1, 1, field.config.channels)
    with torch.no_grad():
        for layer in field.density[:-1]:
            rows = layer(rows) * 0.0
        first = 3.0 * torch.sigmoid(field.density[-1](rows))
    assert first.item() == pytest.approx(3.0 / (1 + math.exp(2.0)))


def test_untrained_weights_stay_what_they_are():
    recipe = langocc.nano_untrained()
    torch.manual_seed(0)
    layer = torch.nn.Linear(3, 2)
    before = layer.weight.detach().clone()
    optimizer = recipe.optim.build(layer)
    layer(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    assert torch.allclose(layer.weight, before, atol=1e-10)
    assert recipe.steps == 1
    # Half the largest density is above the threshold: it says that all of space is occupied.
    assert recipe.system.sigma_max / 2 > recipe.system.threshold
