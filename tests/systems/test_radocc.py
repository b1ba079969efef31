"""RadOcc: the student alone, what each weight needs, the warm-up, mirrored prediction, the LiDAR teacher."""

from dataclasses import replace

import pytest
import torch

from occkit.data.transforms import flip_volume
from occkit.errors import ConfigError
from occkit.geometry import VoxelGrid
from occkit.losses.ray_distillation import RayDistillConfig, distill_along_rays
from occkit.nn.attention import AttentionLiftConfig
from occkit.samples import Teaching, collate
from occkit.systems import radocc
from occkit.taxonomy import OCC3D
from occkit.training.system import losses, predict

GRID = VoxelGrid(origin=(-16.0, -16.0, -1.0), voxel_size=(1.6, 1.6, 0.8), shape=(20, 20, 8))
RAYS = RayDistillConfig(termination=0.1, semantics=0.1, affinity=1.0, num_rays=32, step=2.0, far=20.0)


@pytest.fixture
def frames(make_sample):
    return collate([make_sample(grid=GRID, taxonomy=OCC3D, size=(32, 88), seed=seed) for seed in (0, 1)])


def config(**changes):
    recipe = radocc.debug()
    return replace(recipe.system, student=replace(recipe.system.student, grid=GRID), **changes)


def built(system):
    torch.manual_seed(0)
    return system.build()


def total(module, batch):
    torch.manual_seed(5)
    return losses(module, predict(module, batch), batch)


def test_without_a_teacher_it_is_its_student_to_the_bit(frames):
    plain = config(rays=RayDistillConfig())
    student, whole = built(plain.student), built(plain)
    blind = replace(frames, teaching=None, segments=None)
    assert torch.equal(predict(whole, blind).logits, predict(student, blind).logits)
    a, b = total(student, blind), total(whole, blind)
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_each_weight_adds_its_loss(frames):
    names = set(total(built(config(rays=RayDistillConfig())), frames))
    assert set(total(built(config(rays=RAYS)), frames)) - names == {"termination", "semantics", "affinity"}
    assert set(total(built(config(rays=RayDistillConfig(), logits=1.0)), frames)) - names == {"logits"}


def test_features_are_aligned_on_the_grid_they_live_on(frames):
    model = built(config(rays=RayDistillConfig(), features=2.0, teacher_channels=7))
    mine = predict(model, frames).features
    teaching = replace(frames.teaching, features=torch.randn(2, 7, *mine.shape[2:]))
    taught = replace(frames, teaching=teaching)
    value = total(model, taught)["features"]
    stride = [fine // coarse for fine, coarse in zip(GRID.shape, mine.shape[2:], strict=True)]
    seen = teaching.visible.unflatten(3, (-1, stride[2])).any(4)
    seen = seen.unflatten(2, (-1, stride[1])).any(3).unflatten(1, (-1, stride[0])).any(2)
    assert 0 < seen.float().mean() < 1 or seen.all()
    squares = (model.adapter(predict(model, taught).features) - teaching.features).square().mean(dim=1)
    assert torch.allclose(value, 2.0 * squares[seen].mean())
    with pytest.raises(ConfigError, match="occkit teach --features"):
        total(model, frames)


def test_what_a_weight_needs_must_be_there(frames):
    model = built(config(rays=RAYS))
    with pytest.raises(ConfigError, match=r"frame0 .* no teacher's output; write them with occkit teach"):
        total(model, replace(frames, teaching=None))
    with pytest.raises(ConfigError, match=r"set DataConfig\.segments"):
        total(model, replace(frames, segments=None))
    with pytest.raises(ConfigError, match="teacher_channels"):
        config(features=1.0)


def test_its_own_scores_teach_it_nothing(frames):
    model = built(config(rays=RAYS, logits=1.0)).eval()
    own = predict(model, frames).logits.detach()
    taught = replace(frames, teaching=Teaching(logits=own, visible=frames.teaching.visible))
    found = total(model, taught)
    for name in ("termination", "semantics", "affinity", "logits"):
        assert abs(found[name].item()) < 1e-5, name


def test_the_public_codes_logits_compare_rows_along_x(frames):
    model = built(config(rays=RayDistillConfig(), logits=1.0, logits_over="x")).eval()
    mine, theirs = (v.log_softmax(dim=2) for v in (predict(model, frames).logits.detach(), frames.teaching.logits))
    by_hand = (theirs.exp() * (theirs - mine)).sum(dim=2).mean()
    assert total(model, frames)["logits"].item() == pytest.approx(by_hand.item(), rel=1e-4)
    # A number added along a whole row of one class is not seen, although it changes every voxel's class.
    louder = frames.teaching.logits.clone()
    louder[:, 3] += 20.0
    taught = replace(frames, teaching=replace(frames.teaching, logits=louder))
    assert total(model, taught)["logits"].item() == pytest.approx(by_hand.item(), rel=1e-3)


def test_the_teachers_weight_rises(frames):
    model = built(config(rays=RayDistillConfig(), logits=1.0, warmup_steps=4)).train()
    whole = built(config(rays=RayDistillConfig(), logits=1.0)).train()
    shares = [(total(model, frames)["logits"] / total(whole, frames)["logits"]).item() for _ in range(6)]
    assert shares == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0, 1.0], rel=1e-4)


def test_the_teacher_is_silent_while_the_student_learns_images(frames):
    system = config(rays=RAYS)
    system = replace(system, student=replace(system.student, image_steps=1))
    model = built(system).train()
    assert set(total(model, frames)) == {"depth"}
    assert "termination" in total(model, frames)


def test_mirrored_predictions_are_averaged(make_sample):
    """Of a world and of the same world mirrored, the averages are mirror images."""
    sample = make_sample(grid=GRID, taxonomy=OCC3D, size=(32, 88))
    model = built(config(test_flips=((False, True),))).eval()
    with torch.no_grad():
        here = predict(model, collate([sample])).logits
        there = predict(model, collate([flip_volume(sample, y=True)])).logits
        once = predict(built(config()).eval(), collate([sample])).logits
    assert torch.allclose(here, there.flip(3), atol=1e-4)
    assert torch.allclose(here.exp().sum(dim=1), torch.ones(1, *GRID.shape), atol=1e-5)
    assert not torch.allclose(here, once.log_softmax(dim=1), atol=1e-3)


def test_rays_see_the_same_in_a_mirrored_world(make_sample):
    """Mirrored logits, rendered through mirrored cameras: every loss is what it was."""
    sample = make_sample(grid=GRID, taxonomy=OCC3D, size=(32, 88))
    logits = torch.randn(1, 18, *GRID.shape)
    values = []
    for axes in ((), (2,), (2, 3)):
        batch = collate([flip_volume(sample, x=2 in axes, y=3 in axes)])
        draw = torch.Generator().manual_seed(1)
        found = distill_along_rays(RAYS, logits.flip(axes), batch.teaching, batch, generator=draw)
        values.append([v.item() for v in found.values()])
    assert values[1] == pytest.approx(values[0], rel=1e-4)
    assert values[2] == pytest.approx(values[0], rel=1e-4)


def teacher(**changes):
    system = radocc.debug_teacher().system
    camera = replace(system.camera, grid=GRID, **changes)
    return built(replace(system, camera=camera))


def test_the_teacher_looks_at_the_points(frames):
    model = teacher().eval()
    nearer = replace(frames, points=tuple(0.5 * p for p in frames.points))
    with torch.no_grad():
        assert not torch.allclose(predict(model, frames).logits, predict(model, nearer).logits, atol=1e-4)
        alone = predict(model, replace(frames, points=tuple(p[:0] for p in frames.points))).logits
    assert alone.isfinite().all()


def test_the_teacher_trains_on_an_empty_sweep_and_says_when_there_is_none(frames):
    model = teacher().train()
    empty = replace(frames, points=tuple(p[:0] for p in frames.points))
    assert all(v.isfinite() for v in total(model, empty).values())
    with pytest.raises(ConfigError, match=r"no LiDAR points; set DataConfig\.load_points"):
        predict(model, replace(frames, points=None))


def test_lidar_and_fusion_learn_with_the_first_whole_step(frames):
    model = teacher(image_steps=1).train()
    for whole in (False, True):
        sum(total(model, frames).values()).backward()
        got = {n for n, p in model.named_parameters() if p.grad is not None}
        assert any(n.startswith(("lidar.", "fusion.")) for n in got) is whole
        missing = {n for n, _ in model.named_parameters()} - got
        assert [n for n in missing if not n.startswith(model.conditional_parameters)] == []


def test_a_teacher_without_use_for_depth_says_so():
    attention = AttentionLiftConfig(layers=1, heads=2, heights=2, points=1, neighbours=2, hidden=16)
    losses_without = replace(radocc.debug_teacher().system.camera.losses, depth=0.0)
    assert teacher(lift=attention, losses=losses_without).conditional_parameters == ("depth.",)


PAPER_SCALE = {
    # Trainable parameters of the backbone and of the whole model. The published students have 34.97 and 121.28 million,
    # the teacher 135.12, of which 4.63 are a wider head. Swin-B with two output norms has 86,879,608, and the map for
    # stereo has a third.
    "bevdet_r50": (23_508_032, 34_709_962),
    "bevdet_swinb": (86_879_608 + 256, 121_546_498),
    "bevdet_swinb_teacher": (86_879_608 + 256, 130_754_434),
    "bevformer_r101": (42_500_160, 68_778_104),
}


@pytest.mark.parametrize("name", PAPER_SCALE)
def test_paper_scale_shapes(name, make_sample):
    """On the meta device: no memory, no arithmetic, but every shape."""
    recipe = getattr(radocc, name)()
    with torch.device("meta"):
        model = recipe.system.build().eval()
    camera = model.student if isinstance(model, radocc.RadOcc) else model
    size, frames = recipe.data.image_size, 1 + recipe.data.num_past
    batch = collate([make_sample(grid=recipe.system.grid, taxonomy=OCC3D, size=size, num_frames=frames)]).to("meta")
    with torch.no_grad():
        assert model(batch).logits.shape == (1, 18, *recipe.system.grid.shape)
    counts = tuple(sum(p.numel() for p in part.parameters() if p.requires_grad) for part in (camera.backbone, model))
    assert counts == PAPER_SCALE[name]


def test_a_deformable_attention_student_learns_from_the_same_teacher(frames):
    system = config(rays=RAYS)
    student = replace(
        system.student,
        lift=AttentionLiftConfig(layers=1, heads=2, heights=2, points=1, neighbours=2, hidden=16),
        losses=replace(system.student.losses, depth=0.0),
    )
    model = built(replace(system, student=student))
    found = total(model, frames)
    assert {"termination", "semantics", "affinity"} <= set(found)
    sum(found.values()).backward()
    without = [n for n, p in model.named_parameters() if p.grad is None]
    assert [n for n in without if not n.startswith(model.conditional_parameters)] == []
    assert all(n.startswith("student.depth.") for n in without)
