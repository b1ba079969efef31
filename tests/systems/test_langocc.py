"""LangOcc: what rays see of a volume of vectors, what they are compared with, and how words become classes."""

import math
from dataclasses import replace

import pytest
import torch

from occkit.errors import ConfigError
from occkit.foundation import LANGOCC_PROMPTS, STREET_PROMPTS, ClipTextConfig, SimulatedTextConfig
from occkit.geometry import Cameras, Rays, VoxelGrid, camera_rays
from occkit.geometry.rays import pixel_grid
from occkit.losses.language import feature_loss
from occkit.nn.subspace import SvdSubspaceConfig
from occkit.samples import ObjectMotion, collate
from occkit.systems import langocc, lift
from occkit.systems.langocc import (
    LanguageRaysConfig,
    RayRenderConfig,
    RayRulesConfig,
    TextConfig,
    class_logits,
    render_rays,
)
from occkit.systems.langocc.guide import ImageGuideConfig, read_pixels
from occkit.systems.langocc.motion import follow, meets_what_has_gone
from occkit.taxonomy import OCC3D, SEMANTICKITTI
from occkit.training.system import AnswersWords, RendersDepth

GRID = VoxelGrid.from_range((-8, -8, -2), (8, 8, 2), 0.5)


def along_x(*heights: float, start: float = 0.0) -> Rays:
    origins = torch.tensor([[start, 0.1, z] for z in heights])
    return Rays(origins=origins, directions=torch.tensor([1.0, 0.0, 0.0]).expand(len(heights), 3).clone())


def slab(first: float, last: float, *, density: float) -> tuple[torch.Tensor, torch.Tensor]:
    """A wall between two x, and features that say where they are."""
    x = GRID.centers()[..., 0]
    return torch.where((x > first) & (x < last), density, 0.0), x.reshape(-1, 1).clone()


def test_a_wall_is_found_by_the_second_pass():
    density, features = slab(4.0, 8.0, density=8.0)
    config = RayRenderConfig(proposals=64, samples=64, min_weight=0.0)
    seen = render_rays(config, density, features, GRID, along_x(0.1, 0.6))
    assert torch.allclose(seen.opacity, torch.tensor(1.0), atol=1e-3)
    # The density is interpolated between the centres 3.75 and 4.25 and stops a ray early in the wall.
    assert ((seen.depth > 3.8) & (seen.depth < 4.4)).all()
    assert torch.allclose(seen.features[:, 0], seen.depth, atol=1e-3)
    assert seen.inside.all()


def test_a_constant_density_absorbs_as_it_should():
    density = torch.full(GRID.shape, 0.3)
    config = RayRenderConfig(proposals=50, samples=100, min_weight=0.0)
    seen = render_rays(config, density, torch.ones(GRID.num_voxels, 1), GRID, along_x(0.1))
    # 8 m of 0.3 a metre, but for the half voxel before the box ends, where zeros begin to mix in.
    assert seen.opacity.item() == pytest.approx(1 - math.exp(-0.3 * (8 - 0.125)), abs=5e-3)
    assert seen.features.item() == pytest.approx(seen.opacity.item(), abs=2e-2)


def fraction_of_each_ray(density, *, seed):
    """Opacities of many rays through a volume, the bins of each moved by chance."""
    rays = along_x(*[0.1] * 200)
    config = RayRenderConfig(proposals=32, samples=48, min_weight=0.0)
    features = torch.ones(GRID.num_voxels, 1)
    return render_rays(config, density, features, GRID, rays, generator=torch.Generator().manual_seed(seed)).opacity


@pytest.mark.parametrize("walls", [((4.0, 4.5, 0.5),), ((4.0, 4.5, 0.05),), ((2.0, 2.5, 0.6), (6.0, 6.5, 1.2))])
def test_thin_walls_absorb_what_they_should_wherever_the_bins_lie(walls):
    """What is empty between them counts for nothing: `1 - exp(-sum sigma d)`."""
    density = sum(slab(first, last, density=value)[0] for first, last, value in walls)
    true = 1 - math.exp(-sum((last - first) * value for first, last, value in walls))
    found = fraction_of_each_ray(density, seed=0)
    assert found.mean().item() == pytest.approx(true, rel=0.04)
    assert found.std().item() < 0.06 * true
    # A few of many samples are enough to find a wall in thin fog, too.
    foggy = fraction_of_each_ray(density + 0.002, seed=1)
    assert foggy.mean().item() == pytest.approx(1 - (1 - true) * math.exp(-0.002 * 7.875), rel=0.06)


def test_the_thickness_of_fog_keeps_its_slope():
    density = torch.full(GRID.shape, 8.0, requires_grad=True)
    seen = render_rays(RayRenderConfig(), density, torch.ones(GRID.num_voxels, 1), GRID, along_x(0.1))
    assert seen.thickness.item() == pytest.approx(8 * (8 - 0.125), rel=1e-2)
    opacity, thickness = (
        torch.autograd.grad(v.sum(), density, retain_graph=True)[0] for v in (seen.opacity, seen.thickness)
    )
    # Behind the first metre no voxel changes what the ray sees; all of them are in its way.
    row = GRID.index_of(torch.tensor([6.0, 0.1, 0.1]))[0].tolist()
    assert opacity[tuple(row)].abs() < 1e-8
    assert thickness[tuple(row)] > 0.1
    thin = render_rays(RayRenderConfig(), density.detach() / 40, torch.ones(GRID.num_voxels, 1), GRID, along_x(0.1))
    assert thin.opacity.item() == pytest.approx(1 - math.exp(-thin.thickness.item()), abs=5e-3)


def test_rays_that_miss_see_nothing_and_spoil_nothing():
    density = torch.full(GRID.shape, 1.0, requires_grad=True)
    features = torch.ones(GRID.num_voxels, 2, requires_grad=True)
    rays = Rays(origins=torch.tensor([[0.0, 0.0, 9.0], [0.0, 0.0, 0.0]]), directions=torch.eye(3)[[0, 0]])
    seen = render_rays(RayRenderConfig(), density, features, GRID, rays)
    assert seen.inside.tolist() == [False, True]
    assert seen.opacity[0].item() == 0.0
    (seen.features.sum() + seen.depth.sum()).backward()
    assert density.grad.isfinite().all()
    assert features.grad.isfinite().all()


def test_clipping_puts_the_samples_of_a_far_camera_into_the_volume():
    density, features = slab(4.0, 4.5, density=20.0)
    far = along_x(0.1, start=-30.0)
    config = RayRenderConfig(proposals=10, samples=16, far=60.0, min_weight=0.0)
    clipped = render_rays(config, density, features, GRID, far)
    assert clipped.depth.item() == pytest.approx(34.0, abs=0.3)
    assert clipped.opacity.item() > 0.9
    # Ten bins of six metres each, and none of their middles lies in the wall.
    assert render_rays(replace(config, clip=False), density, features, GRID, far).opacity.item() == 0.0


def test_gradients_reach_density_and_features():
    generator = torch.Generator().manual_seed(0)
    density = torch.rand(GRID.shape, generator=generator).double().requires_grad_()
    features = torch.rand(GRID.num_voxels, 3, generator=generator).double().requires_grad_()
    rays = along_x(0.1, 0.6)
    rays = Rays(origins=rays.origins.double(), directions=rays.directions.double())
    seen = render_rays(RayRenderConfig(proposals=8, samples=8, min_weight=0.0), density, features, GRID, rays)
    grad_density, grad_features = torch.autograd.grad(seen.features.sum(), (density, features))
    for values, grad in ((density, grad_density), (features, grad_features)):
        place = int(grad.abs().argmax())
        step = torch.zeros(values.numel(), dtype=torch.float64)
        step[place] = 1e-6

        def total(shifted, values=values):
            args = (shifted, features) if values is density else (density, shifted)
            config = RayRenderConfig(proposals=8, samples=8, min_weight=0.0)
            return render_rays(config, args[0].detach(), args[1].detach(), GRID, rays).features.sum()

        if values is features:
            slope = (total(values + step.view_as(values)) - total(values - step.view_as(values))) / 2e-6
            assert slope.item() == pytest.approx(grad.flatten()[place].item(), rel=1e-4)
        assert grad.abs().sum() > 0


def test_a_seed_moves_the_bins_and_none_leaves_them():
    density, features = slab(4.0, 8.0, density=0.5)

    def depth(seed):
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        return render_rays(RayRenderConfig(), density, features, GRID, along_x(0.1), generator=generator).depth.item()

    assert depth(0) == depth(0)
    assert depth(0) != depth(None)


def test_the_guided_loss_is_a_squared_cosine_distance():
    generator = torch.Generator().manual_seed(0)
    p = torch.randn(20, 8, generator=generator, dtype=torch.float64, requires_grad=True)
    g = torch.nn.functional.normalize(torch.randn(20, 8, generator=generator, dtype=torch.float64), dim=1)
    mask = torch.ones(20, dtype=torch.bool)
    c = 2 - 2 * torch.cosine_similarity(p, g)
    assert feature_loss(p, g, mask=mask).item() == pytest.approx((c * c).mean().item())
    guided = torch.autograd.grad(feature_loss(p, g, mask=mask), p)[0]
    squared = torch.autograd.grad((2 - 2 * torch.cosine_similarity(p, g)).square().mean() / 2, p)[0]
    assert torch.allclose(guided, squared)
    assert feature_loss(p, g, mask=mask, kind="mse").item() == pytest.approx(c.mean().item())
    assert feature_loss(p, g, mask=mask, kind="cosine").item() == pytest.approx(c.mean().item() / 2)


def test_rays_without_weight_or_direction_teach_nothing():
    p = torch.zeros(3, 4, requires_grad=True)
    g = torch.nn.functional.normalize(torch.ones(3, 4), dim=1)
    value = feature_loss(p, g, mask=torch.tensor([True, False, False]))
    value.backward()
    assert p.grad.isfinite().all()
    assert (p.grad[1:] == 0).all()
    opposite = feature_loss(-g.clone().requires_grad_(), g, mask=torch.ones(3, dtype=torch.bool))
    assert opposite.item() == pytest.approx(16.0)


def text_of(table=STREET_PROMPTS, **options) -> TextConfig:
    return TextConfig(encoder=SimulatedTextConfig(), width=64, prompts=table, **options)


def test_a_voxel_is_of_the_class_of_its_word_and_free_without_density():
    text = text_of()
    vectors = text.encode(STREET_PROMPTS.texts)
    density = torch.full((len(vectors),), 0.5)
    density[3] = 0.05
    logits = class_logits(vectors, density, vectors, STREET_PROMPTS.class_ids(), OCC3D, threshold=0.1)
    expected = STREET_PROMPTS.class_ids().clone()
    expected[3] = OCC3D.free_id
    assert torch.equal(logits.argmax(dim=1), expected)
    # The sky is a word of `others` and frees nothing.
    sky = STREET_PROMPTS.texts.index("sky")
    assert logits[sky].argmax() == OCC3D.id_of("others")


@pytest.fixture
def batch(make_sample):
    grid = langocc.debug().system.grid
    return collate([make_sample(grid=grid, taxonomy=OCC3D, size=(32, 88), num_rays=64, seed=seed) for seed in (0, 1)])


def built(**changes):
    torch.manual_seed(0)
    return replace(langocc.debug().system, **changes).build()


def losses_of(batch, **changes):
    model = built(signal=LanguageRaysConfig(rules=RayRulesConfig(**changes)))
    return model.loss(model(batch), batch)


def with_targets(batch, words):
    """The batch, its rays showing words in turn."""
    vectors = text_of().encode(STREET_PROMPTS.texts)
    rows = torch.stack([vectors[STREET_PROMPTS.texts.index(words[i % len(words)])] for i in range(64)])
    rays = replace(batch.feature_rays, features=rows.expand(2, -1, -1).clone())
    return replace(batch, feature_rays=rays)


def test_the_sky_is_emptied_dropped_or_kept(batch):
    sky, mixed = with_targets(batch, ["sky"]), with_targets(batch, ["sky", "car"])
    assert losses_of(sky)["features"].item() == 0.0
    assert losses_of(sky)["emptiness"].item() > 0.0
    assert set(losses_of(sky, sky="drop")) == {"features"}
    assert losses_of(sky, sky="keep")["features"].item() > 0.0
    assert losses_of(mixed)["emptiness"].item() < losses_of(sky)["emptiness"].item()


def test_the_comparison_has_a_weight(batch):
    signal = LanguageRaysConfig(weight=10.0)
    plain, heavy = (
        built(**extra).eval().loss(built(**extra).eval()(batch), batch)["features"].item()
        for extra in ({}, {"signal": signal})
    )
    assert heavy == pytest.approx(10 * plain)


def test_the_images_are_taught_what_their_pixels_show(batch):
    model = built(guide=ImageGuideConfig(weight=2.0))
    model.train()
    found = model.loss(model(batch), batch)
    assert set(found) == {"features", "emptiness", "images"}
    heavier = built(guide=ImageGuideConfig(weight=4.0)).train()
    assert heavier.loss(heavier(batch), batch)["images"].item() == pytest.approx(2 * found["images"].item())
    found["images"].backward()
    assert all(parameter.grad is not None for parameter in model.guide.parameters())
    assert all(p.grad is not None and p.grad.any() for p in model.encoder.backbone.parameters() if p.ndim > 1)
    assert all(p.grad is None for p in model.language.parameters()), "no ray in between"
    with pytest.raises(ConfigError, match="weight must be positive"):
        ImageGuideConfig(weight=0.0)


def test_rays_of_the_present_find_the_pixel_that_they_go_through(make_sample):
    sample = make_sample(grid=langocc.debug().system.grid, taxonomy=OCC3D, size=(32, 88), seed=3)
    cameras = sample.cameras[0]
    count = len(sample.images[0])
    # A map of two channels that says where in its image each pixel lies, and in which one.
    places = pixel_grid(32, 88).unflatten(0, (32, 88)).permute(2, 0, 1)
    number = torch.arange(count)[:, None, None, None].expand(-1, 1, 32, 88)
    maps = torch.cat([places.expand(count, -1, -1, -1), number.float()], dim=1)
    pixels = torch.tensor([[10.3, 5.6], [70.2, 20.1]])
    rays = camera_rays(cameras, pixels.expand(count, -1, -1), unit=True)
    found, seen = read_pixels(maps, cameras, rays.origins.flatten(0, 1), rays.directions.flatten(0, 1))
    assert seen.all()
    assert torch.allclose(found[:, :2], pixels.repeat(count, 1), atol=1e-2)
    assert torch.equal(found[:, 2].round().long(), torch.arange(count).repeat_interleave(2))
    behind = read_pixels(maps[:1], cameras[:1], rays.origins[0], -rays.directions[0])
    assert not behind[1].any()


def test_faint_rays_carry_what_little_they_meet():
    density, features = slab(4.0, 8.0, density=1e-5)
    seen = render_rays(RayRenderConfig(proposals=32, samples=48), density, features, GRID, along_x(0.1))
    assert 0 < seen.opacity.item() < 1e-3
    assert (seen.features / seen.opacity[:, None]).item() == pytest.approx(seen.depth.item(), rel=0.05)


def test_few_channels_do_not_decide_what_the_sky_is(batch):
    """Stored features of full width are compared with words at full width, however few channels are predicted."""
    mixed = with_targets(batch, [*STREET_PROMPTS.texts])
    rules = RayRulesConfig()
    full, few = built(), built(text=text_of(subspace=SvdSubspaceConfig(dim=1)))
    for model in (full, few):
        model.prepare_text()
    wide = mixed.feature_rays.features[0]
    assert torch.equal(full.kinds_of(rules, wide).sky, few.kinds_of(rules, wide).sky)
    assert not torch.equal(full.kinds_of(rules, wide).sky, few.kinds_of(rules, few.reduce(wide)).sky)


def test_what_is_compared_can_be_asked_to_end(batch):
    mixed = with_targets(batch, ["sky", "car"])
    assert "fullness" not in losses_of(mixed)
    half, whole = (losses_of(mixed, fullness=weight)["fullness"].item() for weight in (0.5, 1.0))
    assert whole == pytest.approx(2 * half)
    assert whole > 0
    # The sky has no part in it, unless it is a thing like any other.
    sky = with_targets(batch, ["sky"])
    assert losses_of(sky, fullness=1.0)["fullness"].item() == 0.0
    assert losses_of(sky, fullness=1.0, sky="keep")["fullness"].item() > 0
    with pytest.raises(ConfigError, match="not be negative"):
        RayRulesConfig(fullness=-1.0)


def test_depth_is_how_far_the_rays_of_each_pixel_get(make_sample):
    grid = langocc.debug().system.grid
    batch = collate([make_sample(grid=grid, taxonomy=OCC3D, size=(32, 88), num_cameras=1, seed=s) for s in (0, 1)])
    ahead = torch.tensor([[0.0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 0.1], [0, 0, 0, 1]])
    lens = torch.tensor([[44.0, 0, 44], [0, 44, 16], [0, 0, 1]])
    cameras = Cameras(
        intrinsics=lens.expand(2, 1, 1, 3, 3), ego_from_camera=ahead.expand(2, 1, 1, 4, 4), height=32, width=88
    )
    batch = replace(batch, cameras=cameras)
    model = built(render=RayRenderConfig(proposals=64, samples=64)).eval()
    assert isinstance(model, RendersDepth)
    seen = model(batch)
    x = seen.grid.centers()[..., 0]
    wall = torch.where((x > 6) & (x < 12), 50.0, 0.0).expand(2, *x.shape)
    depth = model.render_depth(replace(seen, density=wall), batch)
    assert depth.shape == (2, 1, 32, 88)
    near = seen.grid.voxel_size[0]
    # z-depth, and not the distance: the same at the edge of the image as in its middle.
    for column in (42, 2, 85):
        assert depth[0, 0, 16, column].item() == pytest.approx(6, abs=near)
    empty = model.render_depth(replace(seen, density=torch.zeros_like(wall)), batch)
    assert empty[0, 0, 13, 43].item() == pytest.approx(seen.grid.upper[0], abs=near), "where the ray leaves"


def motion_along_x(batch, by, *, remains=True):
    """All that stands around a point now stood `by` metres behind it a keyframe before."""
    then = torch.eye(4)
    then[0, 3] = by
    return replace(
        batch.feature_rays,
        motion=ObjectMotion(
            box_from_ego=then.expand(2, 1, 4, 4),
            ego_from_box=torch.eye(4).expand(2, 1, 4, 4),
            half_sizes=torch.full((2, 1, 3), 2.0),
            steps=torch.full((2, 1), -1),
            remains=torch.full((2, 1), remains),
        ),
    )


def test_samples_follow_what_has_moved_and_leave_where_it_was_not(batch):
    motion = motion_along_x(batch, 5.0).motion.map(lambda t: t[0])
    points = torch.tensor([[-5.5, 0.5, 0.1], [-5.0, 1.9, -1.9], [0.5, 0.0, 0.0], [-2.5, 0.0, 0.0], [-5.0, 2.2, 0.0]])
    moved, still = follow(motion, torch.tensor([-1, 0]), points.expand(2, -1, -1), margin=0.0)
    assert torch.equal(still, points), "rays of another keyframe than the box's"
    assert torch.allclose(moved[:2], points[:2] + torch.tensor([5.0, 0.0, 0.0]))
    assert (moved[2] > 1e5).all(), "where it stands now was something else"
    assert torch.equal(moved[3:], points[3:]), "beside both boxes"
    wider = follow(motion, torch.tensor([-1]), points[None], margin=0.4)[0]
    assert torch.allclose(wider[4], points[4] + torch.tensor([5.0, 0.0, 0.0]))
    gone = replace(motion, remains=torch.tensor([False]))
    assert (follow(gone, torch.tensor([-1]), points[None], margin=0.0)[0][:2] > 1e5).all()


def test_rays_that_saw_what_has_gone_are_known(batch):
    motion = motion_along_x(batch, 5.0, remains=False).motion.map(lambda t: t[0])
    starts = torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.0, 0.0], [-5.0, 5.0, 0.0], [-20.0, 0.0, 0.0], [-5.0, 0.0, 0.0]])
    ahead = torch.tensor([[-1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.6, -0.8, 0.0], [0.96, 0.28, 0.0], [0.0, 0.0, 1.0]])
    steps = torch.full((5,), -1)
    met = meets_what_has_gone(motion, steps, Rays(origins=starts, directions=ahead), margin=0.0)
    assert met.tolist() == [True, False, False, False, True]
    wide = meets_what_has_gone(motion, steps, Rays(origins=starts, directions=ahead), margin=1.0)
    assert wide.tolist() == [True, False, True, False, True]
    assert not meets_what_has_gone(motion, steps + 1, Rays(origins=starts, directions=ahead), margin=1.0).any()
    stays = replace(motion, remains=torch.tensor([True]))
    assert not meets_what_has_gone(stays, steps, Rays(origins=starts, directions=ahead), margin=0.0).any()


def test_rows_that_fill_up_a_batch_move_nothing(batch):
    alone, row = motion_along_x(batch, 5.0).motion.map(lambda t: t[0]), torch.tensor([[1.0, 0.0, 0.0]] * 3)
    steps, points = torch.tensor([-1, 0, 1]), torch.randn(3, 6, 3)
    filled = alone.map(lambda t: torch.cat([t, torch.zeros_like(t)]))
    expected = follow(alone, steps, points, margin=0.4)
    assert torch.equal(follow(filled, steps, points, margin=0.4), expected)
    assert torch.equal(expected[1], points[1])
    assert not meets_what_has_gone(filled, steps, Rays(origins=points[:, 0], directions=row), margin=0.4).any()


def test_rays_of_other_times_render_the_object_where_it_is_now(batch):
    """A volume that moves along with the rays' own keyframe looks the same as one that stands still."""
    rays = batch.feature_rays
    past = replace(rays, steps=torch.full_like(rays.steps, -1))
    behind = replace(past, origins=past.origins - torch.tensor([5.0, 0.0, 0.0]))
    everything = torch.full((2, 1, 3), 1e3)
    followed = replace(behind, motion=replace(motion_along_x(batch, 5.0).motion, half_sizes=everything))
    model = built().eval()
    rules = RayRulesConfig(movers="flow", margin=0.0)
    prediction = model(batch)
    prediction = replace(prediction, density=torch.rand(prediction.density.shape))
    # Bins at the same distances for both: clipped, they would lie where each ray meets the volume as it stands.
    config = replace(model.config.render, clip=False, samples=400, proposals=200)
    model.field_config = replace(model.field_config, render=config)
    plain = model.render(prediction, past, 0, RayRulesConfig())
    seen = model.render(prediction, followed, 0, rules)
    both = plain.inside & seen.inside
    assert both.float().mean() > 0.5
    torch.testing.assert_close(seen.opacity[both], plain.opacity[both], atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(seen.depth[both], plain.depth[both], atol=1e-2, rtol=1e-2)
    unmoved = model.render(prediction, behind, 0, RayRulesConfig())
    assert not torch.allclose(unmoved.opacity[both], plain.opacity[both], atol=1e-3)


def test_following_needs_to_know_what_has_moved(batch):
    with pytest.raises(ConfigError, match="feature_motion"):
        losses_of(batch, movers="flow")
    followed = replace(batch, feature_rays=motion_along_x(batch, 5.0))
    assert losses_of(followed, movers="flow")["features"].isfinite()
    gone = replace(batch, feature_rays=motion_along_x(batch, 5.0, remains=False))
    gone.feature_rays.motion.half_sizes.fill_(1e3)
    steps = gone.feature_rays.steps
    only_now = replace(gone.feature_rays, steps=torch.where(steps == -1, steps, 0))
    assert losses_of(replace(gone, feature_rays=only_now), movers="flow")["features"].isfinite()


def test_hidden_layers_computed_again_give_the_same_gradients(batch):
    gradients = []
    for recompute in (False, True):
        model = built(recompute=recompute).train()
        torch.manual_seed(1)
        sum(model.loss(model(batch), batch).values()).backward()
        gradients.append([p.grad.clone() for p in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_movers_of_other_times_can_be_left_out(batch):
    cars, houses = with_targets(batch, ["car"]), with_targets(batch, ["building"])
    now = replace(cars.feature_rays, steps=torch.zeros_like(cars.feature_rays.steps))
    present = losses_of(replace(cars, feature_rays=now), movers="drop")["features"].item()
    assert 0 < losses_of(cars, movers="drop")["features"].item() < losses_of(cars)["features"].item()
    assert present == pytest.approx(losses_of(cars)["features"].item())
    assert losses_of(houses, movers="drop") == losses_of(houses)


def test_the_reduced_variant_compares_in_the_subspace_of_its_prompts(batch):
    model = built(text=text_of(subspace=SvdSubspaceConfig(dim=24)))
    prediction = model(batch)
    assert prediction.features.shape[1] == 24
    losses = model.loss(prediction, batch)
    reduced = model.reduce(batch.feature_rays.features.flatten(0, 1)).unflatten(0, (2, 64))
    stored = replace(batch.feature_rays, features=reduced, basis=model.basis.expand(2, -1, -1))
    torch.manual_seed(1)
    again = model.eval().loss(prediction, replace(batch, feature_rays=stored))
    plain = model.loss(prediction, batch)
    assert again["features"].item() == pytest.approx(plain["features"].item(), rel=1e-4)
    assert set(losses) == set(again)
    turned = replace(stored, basis=stored.basis.flip(1))
    with pytest.raises(ConfigError, match="subspace of other prompts"):
        model.loss(prediction, replace(batch, feature_rays=turned))
    with pytest.raises(ConfigError, match="24 channels"):
        built().loss(built()(batch), replace(batch, feature_rays=stored))


def test_any_taxonomy_can_be_asked_for(batch):
    model = built().eval()
    with torch.no_grad():
        prediction = model(batch)
        logits = model.classify(prediction.features.permute(0, 2, 3, 4, 1), prediction.density, SEMANTICKITTI)
    assert logits.shape[1] == SEMANTICKITTI.num_classes
    assert prediction.density.shape == (2, *batch.grid.shape)
    assert float(prediction.density.max()) <= model.config.sigma_max


def test_words_are_encoded_once_and_travel_with_the_weights(batch):
    model = built()
    assert not bool(model.has_text)
    model(batch)
    assert bool(model.has_text)
    silent = replace(langocc.debug().system, text=replace(text_of(), encoder=None)).build()
    with pytest.raises(ConfigError, match="cannot read words"):
        silent(batch)
    silent.load_state_dict(model.state_dict())
    with torch.no_grad():
        assert torch.equal(silent.eval()(batch).logits, model.eval()(batch).logits)


def test_voxels_can_be_compared_with_any_words(batch):
    model = built().eval()
    assert isinstance(model, AnswersWords)
    assert not isinstance(lift.debug().system.build(), AnswersWords)
    vectors = model.encode_words(["red mailbox", "car"])
    assert torch.allclose(vectors, text_of().encode(("red mailbox", "car")))
    with torch.no_grad():
        prediction = model(batch)
        scores = model.score_words(prediction, vectors)
    assert scores.shape == (2, 2, *batch.grid.shape)
    place = (1, slice(None), 3, 4, 5)
    assert scores[place].tolist() == pytest.approx((vectors @ prediction.features[place]).tolist(), abs=1e-5)
    with pytest.raises(ConfigError, match="vectors of 3 numbers; expected 64"):
        model.score_words(prediction, torch.zeros(1, 3))


def test_words_are_compared_in_the_subspace_of_the_reduced_variant(batch):
    model = built(text=text_of(subspace=SvdSubspaceConfig(dim=24))).eval()
    vectors = model.encode_words(["mailbox"])
    assert vectors.shape == (1, 64)
    with torch.no_grad():
        prediction = model(batch)
        scores = model.score_words(prediction, vectors)
    direction = torch.nn.functional.normalize(vectors @ model.basis, dim=-1)[0]
    assert scores[0, 0, 3, 4, 5].item() == pytest.approx(
        float(prediction.features[0, :, 3, 4, 5] @ direction), abs=1e-5
    )


def test_without_an_encoder_only_the_prompts_can_be_asked(batch):
    model = built()
    model(batch)
    silent = replace(langocc.debug().system, text=replace(text_of(), encoder=None)).build()
    silent.load_state_dict(model.state_dict())
    assert torch.equal(silent.encode_words(["car", "road"]), model.encode_words(["car", "road"]))
    with pytest.raises(ConfigError, match=r"TextConfig.encoder: None cannot read words"):
        silent.encode_words(["car", "mailbox"])
    absent = ClipTextConfig(weights="/no/such/folder/of/clip")
    lost = replace(langocc.debug().system, text=replace(text_of(), encoder=absent)).build()
    lost.load_state_dict(model.state_dict())
    with pytest.raises(ConfigError, match="/no/such/folder/of/clip"):
        lost.encode_words(["mailbox"])


def test_words_of_another_taxonomy_are_encoded_once(batch, monkeypatch):
    model = built().eval()
    kitti, asked = replace(batch, taxonomy=SEMANTICKITTI, occupancy=None), []
    real = TextConfig.encode
    monkeypatch.setattr(TextConfig, "encode", lambda self, words: (asked.append(words), real(self, words))[1])
    with torch.no_grad():
        first, second = model(kitti).logits, model(kitti).logits
    assert torch.equal(first, second)
    assert first.shape[1] == SEMANTICKITTI.num_classes
    assert len(asked) == 2, "its own prompts, and what it lacks of the other's"
    text = text_of().encode(tuple(word for words in SEMANTICKITTI.prompts for word in words))
    assert len(text) > 20
    with torch.no_grad():
        prediction = model(kitti)
    chosen = prediction.density[0] >= model.config.threshold
    best = (prediction.features[0].movedim(0, -1)[chosen] @ text.T).argmax(dim=1)
    meaning = torch.tensor([i for i, words in enumerate(SEMANTICKITTI.prompts) for _ in words])
    assert torch.equal(prediction.semantics()[0][chosen].long(), meaning[best])
    assert chosen.any()


def test_what_does_not_fit_is_named(batch):
    model = built()
    with pytest.raises(ConfigError, match=r"frame0.*occkit features"):
        model.loss(model(batch), replace(batch, feature_rays=None))
    with pytest.raises(ConfigError, match="needs a prompt for the sky"):
        replace(langocc.debug().system, signal=LanguageRaysConfig(rules=RayRulesConfig(sky_words=("heaven",))))
    with pytest.raises(ConfigError, match="the encoder's vectors have 64"):
        TextConfig(encoder=SimulatedTextConfig()).open()
    assert len(LANGOCC_PROMPTS.texts) == 76


PAPER_SCALE = {"full_r50_occ3d": (328_960, 35_427_033), "reduced_r50_occ3d": (230_272, 35_328_345)}
"""Parameters of the language head and of everything. The published configurations have 35,686,783 and 35,588,095."""
SHARED_PARTS = {
    "encoder.backbone": 23_508_032,
    "encoder.neck": 1_377_024,
    "encoder.temporal": 83_136,
    "head.net.stages": 4_122_688,
    "head.net.mix": 7_232,
    "head.conv": 221_440,
    "head.classify": 0,
    "density": 197_633,
}
"""As the published configuration has them, by layer arithmetic."""
DEPTH_NET = 5_840_638
"""Of the published one with its stereo layers. Ours has no ASPP, 3x3 shortcuts and other numbers of a camera."""


def size_of(module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("name", PAPER_SCALE)
def test_paper_scale_parameters(name):
    """On the meta device: no memory."""
    recipe = getattr(langocc, name)()
    with torch.device("meta"):
        model = recipe.system.build()
    assert {part: size_of(model.get_submodule(part)) for part in SHARED_PARTS} == SHARED_PARTS
    assert (size_of(model.language), size_of(model)) == PAPER_SCALE[name]
    depth = size_of(model.encoder.depth) + size_of(model.encoder.stereo)
    published = sum(SHARED_PARTS.values()) + DEPTH_NET + size_of(model.language)
    assert published == {"full_r50_occ3d": 35_686_783, "reduced_r50_occ3d": 35_588_095}[name]
    assert DEPTH_NET - depth == published - size_of(model) == 259_750
