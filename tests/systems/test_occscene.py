"""OccScene: what is frozen, which gradients flow, what weighs what, and that a seed decides a scene."""

import math
from dataclasses import replace

import pytest
import torch

from occkit.errors import ConfigError, DataError
from occkit.geometry import invert_pose
from occkit.nn.alignment import ConcatAlignmentConfig
from occkit.nn.image_codecs import PixelCodecConfig, VaeCodecConfig
from occkit.nn.noise_level import HearsNoise
from occkit.samples import Batch, Occupancy, Prediction, collate
from occkit.systems import monoscene, occscene
from occkit.systems.cigocc.variants import with_levels
from occkit.systems.lift import LiftConfig
from occkit.systems.occscene import recipes, variants
from occkit.systems.occscene.stages import (
    AlignConfig,
    ApartConfig,
    ClipConfig,
    MutualConfig,
    OfflineConfig,
    Sources,
)
from occkit.systems.occscene.views import (
    as_probabilities,
    colour_images,
    describe_label,
    perceived,
    signed_images,
    views_of,
)
from occkit.taxonomy import SEMANTICKITTI, TAXONOMIES
from occkit.training.checkpoint import save_pretrained
from occkit.training.start import start_from
from occkit.training.system import losses, predict
from occkit.world.recording import caption_words

pytest.importorskip("diffusers")
ESTIMATES = Sources(estimate=1.0)


def recipe_of(stage, **changes):
    recipe = occscene.debug()
    return replace(recipe, system=replace(recipe.system, stage=stage, **changes))


def build(stage, **changes):
    torch.manual_seed(0)
    return recipe_of(stage, **changes).system.build()


@pytest.fixture
def batch(make_sample) -> Batch:
    system = occscene.debug().system
    taxonomy = TAXONOMIES[system.taxonomy]
    made = [
        make_sample(grid=system.grid, taxonomy=taxonomy, size=(32, 88), num_frames=2, num_cameras=2, seed=seed)
        for seed in (0, 1)
    ]
    return collate(made)


def step(model, batch, seed=0):
    torch.manual_seed(seed)
    model.train()
    found = losses(model, predict(model, batch), batch)
    torch.stack(list(found.values())).sum().backward()
    return found


def awaken(model):
    """Alignments say nothing at first, and nothing would flow back through them either."""
    for weight in model.denoiser.alignments.parameters():
        if weight.ndim > 1 and not weight.any():
            torch.nn.init.normal_(weight, std=0.1)


def learns(module):
    return any(p.grad is not None and bool(p.grad.abs().max() > 0) for p in module.parameters())


STAGES = {
    "apart": (ApartConfig(), (True, True, False, True)),
    "perception": (ApartConfig(generation=False), (True, False, False, False)),
    "generation": (ApartConfig(perception=False), (False, True, False, True)),
    "align": (AlignConfig(), (False, True, True, False)),
    "mutual": (MutualConfig(), (True, True, True, False)),
    "offline": (OfflineConfig(steps=1, share=1.0), (True, False, False, False)),
    "pseudo": (OfflineConfig(steps=1, share=1.0, labels="pseudo"), (True, False, False, False)),
    "photographs": (
        OfflineConfig(images="photographs", labels="pseudo", versions=1, share=1.0),
        (True, False, False, False),
    ),
    "unaligned": (MutualConfig(train_alignment=False), (True, True, False, False)),
}


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_trains_what_it_says_and_freezes_the_rest(name, batch):
    stage, expected = STAGES[name]
    model = build(stage)
    step(model, batch)
    parts = (model.perception, model.denoiser.unet, model.denoiser.alignments, model.prompts)
    for part, trained in zip(parts, expected, strict=True):
        assert learns(part) == trained
        assert all(p.requires_grad == trained for p in part.parameters())
        assert trained or all(p.grad is None for p in part.parameters())
    assert not any(p.requires_grad for p in model.codec.parameters())
    assert model.perception.training == expected[0], "running statistics are frozen too"


def offline_scenes(model, batch, *, seed=0):
    torch.manual_seed(seed)
    return model.scenes.of(model, batch, ("a street", "a street at night"))


@pytest.mark.parametrize("labels", ["true", "pseudo"])
def test_a_scene_is_the_same_whenever_it_is_drawn(labels, batch):
    stage = OfflineConfig(steps=3, share=1.0, versions=1, labels=labels)
    model = build(stage)
    awaken(model)
    first = offline_scenes(model, batch)
    model.train()
    again = build(stage)
    again.load_state_dict(model.state_dict())
    with torch.no_grad():
        for parameter in again.perception.parameters():
            parameter.add_(torch.randn_like(parameter))  # perception has learnt since, and has no part in it
    backwards = again.scenes.of(again, batch.take([1, 0]), ("a street at night", "a street"))
    assert torch.equal(first.images, backwards.images.flip(0))
    assert torch.equal(first.occupancy.semantics, backwards.occupancy.semantics.flip(0))
    assert not torch.equal(first.images[0], first.images[1])
    assert model.training, "drawing leaves the mode as it was"


def test_a_true_scene_is_drawn_for_its_label_and_a_pseudo_one_is_labelled_by_the_teacher(batch):
    true = build(OfflineConfig(steps=1, share=1.0, versions=1))
    awaken(true)
    scenes = offline_scenes(true, batch)
    assert torch.equal(scenes.occupancy.semantics, batch.occupancy.semantics)
    other = replace(batch.occupancy, semantics=torch.full_like(batch.occupancy.semantics, 9))
    true.scenes._scenes.clear()
    assert not torch.equal(offline_scenes(true, replace(batch, occupancy=other)).images, scenes.images)

    pseudo = build(OfflineConfig(steps=1, share=1.0, versions=1, labels="pseudo"))
    scenes = offline_scenes(pseudo, batch)
    assert torch.equal(scenes.occupancy.semantics, predict(pseudo.scenes.teacher, scenes).semantics())
    assert not scenes.depth.any()
    optimizer = torch.optim.SGD([p for p in pseudo.parameters() if p.requires_grad], lr=1.0)
    before = {name: tensor.clone() for name, tensor in pseudo.scenes.teacher.state_dict().items()}
    step(pseudo, batch)
    optimizer.step()
    assert all(torch.equal(tensor, before[name]) for name, tensor in pseudo.scenes.teacher.state_dict().items())


def test_the_teacher_is_perception_as_it_began(tmp_path):
    apart = build(ApartConfig())
    torch.nn.init.ones_(next(apart.perception.parameters()))
    save_pretrained(apart, recipe_of(ApartConfig()), tmp_path / "apart")
    model = build(OfflineConfig(labels="pseudo"))
    start_from(model, tmp_path / "apart")
    for mine, taught in zip(model.perception.parameters(), model.scenes.teacher.parameters(), strict=True):
        assert torch.equal(mine, taught)
    assert bool((next(model.scenes.teacher.parameters()) == 1).all())


def test_self_training_labels_the_photographs_that_have_no_label(batch):
    hidden = batch.occupancy.semantics.clone()
    hidden[0] = SEMANTICKITTI.ignore_id
    batch = replace(batch, occupancy=replace(batch.occupancy, semantics=hidden))
    model = build(OfflineConfig(images="photographs", labels="pseudo", versions=1, share=1.0))
    scenes = offline_scenes(model, batch)
    assert scenes.tokens == batch.tokens[:1], "who has a label learns from it"
    assert torch.equal(scenes.images, batch.images[:1])
    told = predict(model.scenes.teacher, replace(batch.take([0]), inputs=None)).semantics()
    assert torch.equal(scenes.occupancy.semantics, told)
    assert not scenes.depth.any(), "it is learnt from the photograph already"
    with torch.no_grad():
        for parameter in model.perception.parameters():
            parameter.add_(torch.randn_like(parameter))
    model.scenes._scenes.clear()
    assert torch.equal(offline_scenes(model, batch).occupancy.semantics, told)
    with pytest.raises(ConfigError, match='photographs need labels="pseudo"'):
        OfflineConfig(images="photographs")


def test_drawings_for_a_label_follow_it(batch):
    model = build(MutualConfig()).eval()
    awaken(model)
    options = {"steps": 2, "seeds": (3, 4), "guidance": 1.0}
    free, _ = model.draw(("a street", "a street"), batch.cameras, **options)
    told, _ = model.draw(("a street", "a street"), batch.cameras, **options, occupancy=batch.occupancy)
    other = replace(batch.occupancy, semantics=batch.occupancy.semantics.flip(0))
    swapped, _ = model.draw(("a street", "a street"), batch.cameras, **options, occupancy=other)
    assert not torch.equal(told, free)
    assert not torch.equal(told[0], swapped[0])
    again, _ = model.draw(("a street", "a street"), batch.cameras, **options, occupancy=batch.occupancy)
    assert torch.equal(told, again)


def test_frames_without_a_label_lend_no_scene(batch):
    hidden = batch.occupancy.semantics.clone()
    hidden[0] = SEMANTICKITTI.ignore_id
    model = build(OfflineConfig(steps=1, share=1.0))
    scenes = offline_scenes(model, replace(batch, occupancy=replace(batch.occupancy, semantics=hidden)))
    assert scenes.tokens == batch.tokens[1:]
    hidden[1] = SEMANTICKITTI.ignore_id
    unlabelled = replace(batch, occupancy=replace(batch.occupancy, semantics=hidden))
    assert offline_scenes(model, unlabelled) is None
    pseudo = build(OfflineConfig(steps=1, share=1.0, labels="pseudo"))
    scenes = offline_scenes(pseudo, unlabelled)
    assert scenes.tokens == batch.tokens, "the teacher needs no label"
    assert (scenes.occupancy.semantics != SEMANTICKITTI.ignore_id).all()
    with pytest.raises(ConfigError, match="share must lie in"):
        OfflineConfig(share=0.0)


def test_a_withheld_label_is_shown_to_nobody(batch):
    torch.manual_seed(0)
    sources = Sources(truth=0.5, clean=0.2, estimate=0.2, null=0.1)
    drawn = sources.draw(torch.arange(4000) % 2 == 0)
    shares = [torch.bincount(drawn[half::2], minlength=4) / 2000 for half in (0, 1)]
    assert shares[0].tolist() == pytest.approx([0.5, 0.2, 0.2, 0.1], abs=0.04)
    assert shares[1].tolist() == pytest.approx([0.0, 0.4, 0.4, 0.2], abs=0.04)
    assert (Sources(truth=1.0).draw(torch.tensor([False, True])) == torch.tensor([3, 0])).all(), "none, and its label"
    hidden = torch.full_like(batch.occupancy.semantics, SEMANTICKITTI.ignore_id)
    model = build(AlignConfig(sources=Sources(truth=1.0)))
    awaken(model)
    seen = []
    model.denoiser.register_forward_pre_hook(lambda _, a, kw: seen.append(kw["present"]), with_kwargs=True)
    step(model, replace(batch, occupancy=replace(batch.occupancy, semantics=hidden)))
    assert not seen[-1].any()


def test_an_occupancy_to_draw_for_must_fit(batch):
    model = build(MutualConfig()).eval()
    cameras = batch.cameras.map(lambda t: t[0])
    sampling = occscene.SamplingConfig(steps=1)
    with pytest.raises(ConfigError, match="occupancy: expected"):
        occscene.generate(model, "a street", cameras, sampling=sampling, seed=0, occupancy=torch.zeros(1, 20, 2, 2, 2))


def test_alignment_leaves_perception_as_it_is_to_the_bit(batch):
    model = build(AlignConfig())
    before = {name: tensor.clone() for name, tensor in model.perception.state_dict().items()}
    optimizer = recipe_of(AlignConfig()).optim.build(model)
    for seed in range(2):
        step(model, batch, seed)
        optimizer.step()
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.perception.state_dict().items())


@pytest.mark.parametrize("flows", [True, False])
def test_the_loss_of_generation_reaches_perception_if_it_may(flows, batch):
    stage = MutualConfig(sources=ESTIMATES, occupancy=0.0, clean=0.0, generation_teaches_perception=flows)
    model = build(stage)
    awaken(model)
    found = step(model, batch)
    assert set(found) == {"generation"}
    assert learns(model.perception.head) == flows


def test_the_loss_of_perception_reaches_the_denoiser_as_much_as_it_may(batch):
    gradients = {}
    for share in (0.0, 0.25, 1.0):
        stage = MutualConfig(sources=ESTIMATES, clean=0.0, perception_teaches_generation=share, readable=0.0)
        torch.manual_seed(1)
        model = build(stage)
        model.train()
        torch.manual_seed(0)
        found = losses(model, predict(model, batch), batch)
        sum(value for name, value in found.items() if name.startswith("occupancy_")).backward()
        assert learns(model.denoiser.unet) == (share > 0)
        assert learns(model.perception)
        gradients[share] = model.denoiser.unet.conv_out.weight.grad
    assert torch.allclose(gradients[0.25], 0.25 * gradients[1.0], rtol=1e-3)


def test_a_negative_share_of_a_gradient_is_refused():
    with pytest.raises(ConfigError, match="perception_teaches_generation must be 0 or more, got -1"):
        MutualConfig(perception_teaches_generation=-1)


def test_estimates_of_mere_noise_teach_nothing_back(batch):
    model = build(MutualConfig(sources=ESTIMATES, clean=0.0, readable=1.0))
    model.train()
    found = losses(model, predict(model, batch), batch)
    sum(value for name, value in found.items() if name.startswith("occupancy_")).backward()
    assert not learns(model.denoiser.unet)


def test_losses_on_estimates_are_weighed_by_the_noise_level(batch):
    model = build(MutualConfig()).eval()
    prediction = predict(model, batch)
    found = {
        noise: model._gated(prediction, batch, torch.tensor(steps), "abar", 0.5)["occupancy_cross_entropy"].item()
        for noise, steps in {"low": [100, 100], "high": [800, 800], "one": [100, 999]}.items()
    }
    ratio = model.schedule.signal[800] / model.schedule.signal[100]
    assert found["high"] / found["low"] == pytest.approx(float(ratio), rel=1e-4)
    assert 0 < found["one"] < found["low"]


def test_where_nothing_is_estimated_nothing_is_perceived(batch):
    model = build(MutualConfig(sources=Sources(null=1.0)))
    found = step(model, batch)
    assert not any(name.startswith("occupancy_") for name in found)
    shown = build(MutualConfig(sources=Sources(truth=0.5, clean=0.5), clean=0.0))
    assert set(step(shown, batch)) == {"generation"}


def test_the_control_adds_noise_to_photographs_and_has_no_generator(batch):
    found = step(build(ApartConfig(generation=False, noised=1.0)), batch)
    assert {name.split("_")[0] for name in found} == {"clean", "occupancy"}


def test_the_control_sees_photographs_as_noisy_as_the_denoiser_does(batch, monkeypatch):
    """Of the first level little noise is left in the pixels, and the less the larger the codec's scale."""
    strengths = {}
    for scale in (1.0, 4.0):
        model = build(ApartConfig(generation=False, noised=1.0), codec=PixelCodecConfig(square=2, scale=scale))
        seen = []
        model.perception.register_forward_pre_hook(lambda _, inputs, seen=seen: seen.append(inputs[0].images.float()))
        monkeypatch.setattr(model.schedule, "draw", lambda count, _device: torch.full((count,), 99))
        step(model, batch)
        monkeypatch.undo()
        photographs, noisy = seen
        strengths[scale] = float((noisy - photographs).abs().mean())
    assert 2.0 * strengths[4.0] < strengths[1.0] < 40.0


def test_perception_is_not_asked_where_the_denoiser_alone_learns(batch):
    model = build(ApartConfig(perception=False))
    asked = []
    model.perception.register_forward_pre_hook(lambda *_: asked.append(True))
    step(model, batch)
    assert not asked
    assert predict(model.eval(), batch).logits.any(), "evaluation asks it"


def test_perception_is_told_the_noise_level_of_estimates_alone(batch):
    model = build(MutualConfig()).eval()
    assert isinstance(model.perception, HearsNoise)
    torch.nn.init.normal_(model.perception.noise_embedding.out.weight)
    with torch.no_grad():
        clean = predict(model, batch).logits
        noisy = predict(model, replace(batch, noise_level=torch.tensor([0.2, 0.9]))).logits
        same = predict(model, replace(batch, images=batch.images.float())).logits
    assert torch.equal(clean, same)
    assert not torch.allclose(clean, noisy, atol=1e-3)
    assert build(MutualConfig(), noise_level=False).perception.noise_embedding is None


def test_views_of_each_frame_see_what_the_batch_sees(batch):
    """A point at rest, carried into each frame's own ego frame, falls on the same pixel."""
    cameras, clip = batch.cameras, ClipConfig(num_past=1, volumes="each")
    views = views_of(cameras, clip)
    assert views.times == (0, 0, 1, 1)
    for view in range(4):
        time, camera = divmod(view, 2)
        point = torch.tensor([9.0 if camera == 0 else -9.0, 2.0, 1.0, 1.0])  # the second looks back
        pixels, _, _ = cameras[0, time, camera].project(point[None, :3])
        own = invert_pose(views.first_from_ego[0, view]) @ point
        seen = views.intrinsics[0, view] @ (invert_pose(views.ego_from_camera[0, view]) @ own)[:3]
        assert torch.allclose(seen[:2] / seen[2] * torch.tensor([88.0, 32.0]), pixels[0], atol=1e-2)
    shared = views_of(cameras, ClipConfig(num_past=1))
    assert shared.times == (0, 0, 0, 0)
    assert torch.equal(shared.ego_from_camera, cameras.ego_from_camera.flatten(1, 2))
    frames = perceived(batch, clip)
    assert frames.images.shape == (4, 1, 2, 3, 32, 88)
    assert torch.equal(frames.images[1, 0], batch.images[0, 1])
    assert torch.allclose(frames.cameras.ego_from_camera[1, 0], cameras.ego_from_camera[0, 0], atol=1e-5), (
        "mounted alike"
    )


def test_what_is_said_of_each_sample_alone_teaches_the_same(batch):
    shared = torch.randn(2, 5, requires_grad=True)
    volume = shared[:, :, None, None, None].expand(-1, -1, *batch.grid.shape)
    whole = Prediction(
        logits=volume,
        features=volume,
        depth_logits=shared[:, None, :, None, None],
        grid=batch.grid,
        taxonomy=batch.taxonomy,
    )
    values = []
    for alone in (whole.unbind(), [whole.take([row]) for row in range(2)]):
        gradient = torch.zeros(())
        for row, one in enumerate(alone):
            assert one.depth_logits is not None
            gradient = gradient + (row + 1) * (one.logits.square().sum() + one.depth_logits.sin().sum())
        values.append(torch.autograd.grad(gradient, shared, retain_graph=True)[0])
    assert torch.allclose(*values)
    assert values[0].abs().min() > 0


def test_samples_are_taken_out_of_a_batch(batch):
    one = batch.take([1])
    assert one.tokens == ("frame1",)
    assert one.captions == batch.captions[1:]
    assert torch.equal(one.occupancy.semantics, batch.occupancy.semantics[1:])
    assert torch.equal(one.points[0], batch.points[1])
    assert torch.equal(batch.take([1, 0]).cameras.intrinsics, batch.cameras.intrinsics[[1, 0]])


def test_colours_come_back_and_labels_become_probabilities(batch):
    assert torch.allclose(colour_images(signed_images(batch.images)), batch.images.float(), atol=1e-4)
    semantics = torch.tensor([SEMANTICKITTI.ignore_id, SEMANTICKITTI.free_id, 9, 9]).byte().reshape(1, 4, 1, 1)
    grid = replace(batch.grid, shape=(4, 1, 1))
    label = Occupancy(semantics=semantics, grid=grid, taxonomy=SEMANTICKITTI)
    shares = as_probabilities(label, SEMANTICKITTI)
    assert shares.sum(dim=1).flatten().tolist() == [0, 1, 1, 1]
    assert shares[0, 9].flatten().tolist() == [0, 0, 1, 1]
    assert describe_label(label, 0, SEMANTICKITTI) == f"a scene with {SEMANTICKITTI.classes[9]}"
    nothing = replace(label, semantics=torch.zeros_like(semantics) + SEMANTICKITTI.free_id)
    assert describe_label(nothing, 0, SEMANTICKITTI) == "a scene with nothing"


def test_data_without_captions_is_described_by_its_label(batch):
    model = build(ApartConfig(drop_prompt=0.0))
    texts = []
    model.prompts.register_forward_pre_hook(lambda _, args: texts.append(args[0]))
    losses(model, predict(model, batch), replace(batch, captions=None))
    assert all(text.startswith("a scene with ") for text in texts[0])
    with pytest.raises(ConfigError, match="no label to learn from"):
        losses(model, predict(model, batch), replace(batch, captions=None, occupancy=None))


def test_settings_that_cannot_work(batch):
    system = occscene.debug().system
    with pytest.raises(ConfigError, match=r"text_width is 16, prompts\.width 8"):
        replace(system, prompts=replace(system.prompts, width=8))
    with pytest.raises(ConfigError, match="nothing to align"):
        replace(system, alignment=None, stage=AlignConfig())
    with pytest.raises(ConfigError, match="states no grid"):
        replace(system, perception=system.prompts)
    with pytest.raises(ConfigError, match="add up to 1"):
        Sources(truth=0.5)
    with pytest.raises(ConfigError, match="both off"):
        ApartConfig(perception=False, generation=False)
    model = build(MutualConfig())
    with pytest.raises(ConfigError, match=r"set DataConfig\.num_past"):
        losses(model, predict(model, batch), replace(batch, images=batch.images[:, :1], cameras=batch.cameras[:, :1]))
    with pytest.raises(ConfigError, match="made for the grid"):
        losses(model, predict(model, batch), replace(batch, grid=batch.grid.coarsen(2), occupancy=None))


def test_one_seed_draws_one_scene(batch):
    model = build(MutualConfig()).eval()
    awaken(model)
    cameras, prompt = batch.cameras[0], "a straight street with 2 cars at night"

    def draw(seed=0, **options):
        sampling = occscene.SamplingConfig(**{"steps": 3} | options)
        return occscene.generate(model, prompt, cameras, sampling=sampling, seed=seed)

    first = draw()
    assert first.images.shape == (2, 2, 3, 32, 88)
    assert first.images.dtype == torch.uint8
    assert first.probabilities.shape == (2, 20, *model.config.grid.shape)
    assert torch.allclose(first.probabilities.sum(dim=1), torch.ones(2, *model.config.grid.shape), atol=1e-4)
    again = draw()
    assert torch.equal(first.images, again.images)
    assert torch.equal(first.probabilities, again.probabilities)
    assert not torch.equal(first.images, draw(seed=1).images)
    assert not torch.equal(first.images, draw(guidance=1.0).images)
    assert not torch.equal(first.images, draw(occupancy_guidance=3.0).images), "the loop is closed"
    never = draw(readable=1.0)
    assert torch.equal(never.images, draw(readable=1.0, every=2, average=0.5).images)
    said = predict(model, Batch(
        tokens=("x",), images=first.images[None, :1], cameras=batch.cameras[:1, :1], grid=batch.grid,
        taxonomy=batch.taxonomy,
    ))  # fmt: skip
    assert torch.equal(said.semantics()[0], first.semantics[0]), "the occupancy belongs to the images"


@pytest.mark.parametrize("scheduler", ["ddim", "euler-ancestral"])
def test_scenes_that_are_drawn_together_are_those_that_are_drawn_alone(batch, scheduler):
    model = build(MutualConfig()).eval()
    awaken(model)
    prompts = ("a street with 2 cars at night", "a street with a crossing")
    for options in ({}, {"occupancy_guidance": 2.0}, {"guidance": 1.0}):
        sampling = occscene.SamplingConfig(steps=3, scheduler=scheduler, **options)
        together = occscene.generate_batch(model, prompts, batch.cameras, sampling=sampling, seeds=(4, 5))
        for i, scene in enumerate(together):
            alone = occscene.generate(model, prompts[i], batch.cameras[i], sampling=sampling, seed=4 + i)
            assert (scene.images.int() - alone.images.int()).abs().max() <= 1
            assert torch.allclose(scene.probabilities, alone.probabilities, atol=0.02)
        assert (together[0].images.int() - together[1].images.int()).abs().max() > 1


@pytest.mark.parametrize("frames", [1, 3])
def test_any_number_of_frames_and_any_rig(batch, frames):
    model = build(MutualConfig(), clip=ClipConfig()).eval()
    cameras = batch.cameras[0, 0].map(lambda tensor: tensor[:1].expand(frames, 1, *tensor.shape[1:]))
    sampling = occscene.SamplingConfig(steps=1, scheduler="dpm++")
    drawn = occscene.generate(model, "a street with cars", cameras, sampling=sampling, seed=0)
    assert drawn.images.shape == (frames, 1, 3, 32, 88)
    assert len(drawn.semantics) == 1, "one volume is shared"


def test_what_cannot_be_drawn_is_named(batch):
    model = build(MutualConfig()).eval()
    cameras = batch.cameras[0]
    for options, message in (
        ({"scheduler": "dimm"}, "scheduler 'dimm': there is ddim"),
        ({"steps": 0}, "at least 1"),
        ({"guidance": math.inf}, "guidance"),
        ({"average": 1.0}, "average"),
    ):
        with pytest.raises(ConfigError, match=message):
            occscene.SamplingConfig(**options)
    sampling = occscene.SamplingConfig(steps=2)
    for arguments, message in (
        ((model, "", cameras), "is empty"),
        ((model, "eine Straße", cameras), "no word of"),
        ((model, "a street", cameras.resize(30, 80)), "multiples of 4, not 30 x 80"),
    ):
        with pytest.raises(ConfigError, match=message):
            occscene.generate(*arguments, sampling=sampling, seed=0)
    with pytest.raises(ConfigError, match="noise levels, got 1001"):
        occscene.generate(model, "a street", cameras, sampling=replace(sampling, steps=1001), seed=0)
    with pytest.raises(ConfigError, match="seed"):
        occscene.generate(model, "a street", cameras, sampling=sampling, seed=-1)


@pytest.mark.parametrize("make", [occscene.claim, occscene.rooms, occscene.effects])
def test_the_arms_of_a_claim_start_from_the_arms_it_names(make, tmp_path):
    claim, built = make(), {}
    for arm in claim.arms:
        recipe = claim.arms[arm]()
        torch.manual_seed(0)
        built[arm] = recipe.system.build()
        save_pretrained(built[arm], recipe, tmp_path / arm)
    for arm, earlier in claim.starts.items():
        for name in earlier:
            taken = start_from(built[arm], tmp_path / name)
            assert {n.split(".")[0] for n in taken} >= {"denoiser", "perception", "prompts"}, (arm, name)


def test_the_next_stage_starts_from_the_last_and_from_a_perception_network(tmp_path, batch):
    first = recipe_of(ApartConfig())
    torch.manual_seed(1)
    model = first.system.build()
    save_pretrained(model, first, tmp_path / "apart")
    perception = replace(first, system=first.system.perception)
    torch.manual_seed(2)
    host = perception.system.build()
    save_pretrained(host, perception, tmp_path / "lift")
    second = build(MutualConfig())
    taken = start_from(second, tmp_path / "apart")
    assert set(taken) == set(second.state_dict())
    assert all(torch.equal(t, second.state_dict()[n]) for n, t in model.state_dict().items())
    taken = start_from(second, tmp_path / "lift")
    assert all(name.startswith("perception.") for name in taken)
    assert torch.equal(second.perception.state_dict()["trained_steps"], host.trained_steps)
    assert all(torch.equal(t, second.perception.state_dict()[n]) for n, t in host.state_dict().items())
    wide = replace(first.system.denoiser, channels=(16, 40))
    with pytest.raises(DataError, match=r"denoiser\..*expected \(\d+, 40\), got \(\d+, 32\)"):
        start_from(build(MutualConfig(), denoiser=wide), tmp_path / "apart")
    rival = build(AlignConfig(), alignment=ConcatAlignmentConfig(hidden=8))
    begun = {name: tensor.clone() for name, tensor in rival.state_dict().items()}
    taken = start_from(rival, tmp_path / "apart")
    for name, tensor in rival.state_dict().items():
        anew = name.startswith("denoiser.alignments.")
        assert (name in taken) is not anew
        assert torch.equal(tensor, (begun if anew else model.state_dict())[name])
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"neither recipe\.json nor unet/config\.json"):
        start_from(second, tmp_path / "empty")


def test_the_worlds_words_are_the_vocabulary():
    words = caption_words()
    assert {"street", "crossing", "fog", "children", "buses", "police", "3"} <= set(words)
    assert set(occscene.nano_street().system.prompts.words) == set(words)


@pytest.mark.parametrize("name", ["sd21_street", "sd21_room"])
def test_the_published_sizes(name, monkeypatch):
    """Stable Diffusion 2.1-base: 865.9 million weights in the UNet, 83.7 in the autoencoder, 340.4 for text."""
    recipe, widths = getattr(occscene, name)(), []
    kind = type(recipe.system.alignment)
    original = kind.build
    monkeypatch.setattr(kind, "build", lambda self, **sizes: widths.append(sizes) or original(self, **sizes))
    with torch.device("meta"):
        model = recipe.system.build()

    def count(module):
        return sum(p.numel() for p in module.parameters())

    assert count(model.denoiser.unet) == 865_910_724
    assert count(model.codec) == 83_653_863
    assert count(model.prompts) == 340_387_840
    assert [sizes["latent_channels"] for sizes in widths] == [320, 320, 640, 1280, 1280]
    assert {sizes["grid"] for sizes in widths} == {recipe.system.grid}
    height, width = recipe.data.image_size
    assert height % (8 * 8) == width % (8 * 8) == 0 or name == "sd21_room"
    assert isinstance(recipe.system.perception, LiftConfig)
    assert bool(model.denoiser.temporal) == (name == "sd21_street")


def test_a_latent_diffusion_model_learns_and_draws(batch):
    """The autoencoder's way through both passes, at tiny sizes."""
    vae = VaeCodecConfig(channels=(8, 8, 8), layers=1, latent_channels=4, norm_groups=4)
    model = build(MutualConfig(sources=ESTIMATES, readable=0.0), codec=vae)
    step(model, batch)
    assert learns(model.denoiser.unet)
    assert all(p.grad is None for p in model.codec.parameters())
    drawn = occscene.generate(
        model.eval(), "a street", batch.cameras[0], sampling=occscene.SamplingConfig(steps=1), seed=0
    )
    assert drawn.images.shape == (2, 2, 3, 32, 88)


@pytest.mark.parametrize("name", ["monoscene", "cigocc"])
def test_perception_may_be_any_system_that_reads_images(name, batch):
    grid = batch.grid
    if name == "monoscene":
        perception = replace(monoscene.debug().system, taxonomy="semantickitti", grid=grid)
    else:
        perception = replace(with_levels(high=False, middle=True, low=False), grid=grid)
    model = build(MutualConfig(sources=ESTIMATES), perception=perception)
    awaken(model)
    found = step(model, batch)
    assert all(value.isfinite() for value in found.values())
    assert {"generation"} < set(found)
    assert any(key.startswith("clean_") for key in found)
    assert any(key.startswith("occupancy_") for key in found), "it learns from estimates"
    learnt = [p.grad is not None and bool(p.grad.any()) for p in model.perception.parameters() if p.requires_grad]
    assert sum(learnt) > 0.8 * len(learnt)
    model.eval()
    sampling = occscene.SamplingConfig(steps=2)
    drawn = occscene.generate(model, "a street with cars", batch.cameras[0], sampling=sampling, seed=0)
    assert drawn.probabilities.shape == (2, 20, *grid.shape)


def test_rivals_differ_in_the_alignment_alone():
    for place in ("street", "room"):
        own = recipes.nano_align(place)
        for make in (variants.concat, variants.attention, variants.control, variants.seeing):
            rival = make(place)
            assert rival.system.alignment.encoding == own.system.alignment.encoding
            assert replace(rival.system, alignment=own.system.alignment) == own.system
            assert replace(rival, name=own.name, system=own.system) == own
            sizes = [sum(p.numel() for p in r.system.build().denoiser.alignments.parameters()) for r in (own, rival)]
            assert sizes[1] == pytest.approx(sizes[0], rel=0.05)


def test_the_generator_without_an_occupancy_learns_as_long_as_the_one_with_it():
    for place in ("street", "room"):
        aligned, mutual = recipes.nano_align(place), recipes.nano_mutual(place)
        unaligned, text = variants.unaligned(place), variants.text(place)
        assert replace(unaligned, name=aligned.name, system=aligned.system) == aligned
        assert unaligned.system.noise == aligned.system.noise != mutual.system.noise
        assert replace(text, name=mutual.name, system=mutual.system) == mutual
        stage = replace(mutual.system.stage, perception_teaches_generation=0.0)
        assert text.system == replace(mutual.system, stage=stage, alignment=None)
        assert not list(unaligned.system.build().denoiser.alignments.parameters())


def test_estimates_are_compared_by_what_is_known_of_the_occupancy(batch):
    model = build(MutualConfig()).eval()
    untrained = model.estimation_errors(batch, seeds=(3, 4))
    assert untrained.shape == (2,)
    assert torch.equal(untrained, model.estimation_errors(batch, seeds=(3, 4), told=True)), "alignments add nothing yet"
    awaken(model)
    read, told = (model.estimation_errors(batch, seeds=(3, 4), told=told) for told in (False, True))
    assert torch.equal(read, model.estimation_errors(batch, seeds=(3, 4)))
    assert not torch.equal(read, told)
    other = replace(batch, occupancy=replace(batch.occupancy, semantics=batch.occupancy.semantics.flip(0)))
    assert torch.equal(read, model.estimation_errors(other, seeds=(3, 4))), "who reads is shown no label"
    assert not torch.equal(told, model.estimation_errors(other, seeds=(3, 4), told=True))
    assert not torch.equal(read, model.estimation_errors(batch, seeds=(3, 5)))
    second = model.estimation_errors(batch.take([1]), seeds=(4,))
    assert torch.allclose(second, read[1:], rtol=1e-4)


def test_who_knows_the_noise_has_no_error(batch, monkeypatch):
    model = build(MutualConfig(), alignment=None).eval()
    times = model.config.clip.num_frames
    images = signed_images(batch.images[:, :times].flatten(1, 2))
    clean = model.codec.encode(images.flatten(0, 1)).unflatten(0, images.shape[:2])

    def knows(noisy, step, text, **others):
        kept, added = model.schedule._factors(step, noisy)
        return model.schedule.target(clean, (noisy - kept * clean) / added, step)

    monkeypatch.setattr(model.denoiser, "forward", knows)
    assert model.estimation_errors(batch, seeds=(0, 1)).max() < 1e-6
