"""Rays of a batch, rendered for both models: literal walls, closed forms, a plain reference, what is refused."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from occkit.errors import ConfigError
from occkit.geometry import Cameras, VoxelGrid
from occkit.losses.ray_distillation import (
    SEGMENTS_PER_VIEW,
    RayDistillConfig,
    _segments_of,
    distill_along_rays,
    draw_rays,
    render_logits,
)
from occkit.ops.rendering import termination_distribution
from occkit.samples import Batch, Teaching
from occkit.taxonomy import OCC3D

GRID = VoxelGrid(origin=(0.0, -8.0, -8.0), voxel_size=(1.0, 1.0, 1.0), shape=(20, 16, 16))
FORWARD = torch.tensor([[0.0, 0.0, 1.0, 0.0], [-1.0, 0.0, 0.0, 0.0], [0.0, -1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]])
ALL = RayDistillConfig(termination=1.0, semantics=1.0, affinity=1.0, depth=1.0, num_rays=40, step=0.5, far=20.0)
FREE = OCC3D.free_id


def make_batch(num_frames=1, height=6, width=8, **fields):
    """Two cameras at the origin that look forward, the second from half a metre to the left."""
    pose = FORWARD.expand(num_frames, 1, 2, 4, 4).clone()
    pose[:, :, 1, 1, 3] = 0.5
    intrinsics = torch.tensor([[20.0, 0.0, width / 2], [0.0, 20.0, height / 2], [0.0, 0.0, 1.0]])
    cameras = Cameras(
        intrinsics=intrinsics.expand(num_frames, 1, 2, 3, 3), ego_from_camera=pose, height=height, width=width
    )
    images = torch.zeros(num_frames, 1, 2, 3, height, width, dtype=torch.uint8)
    segments = torch.zeros(num_frames, 2, height, width, dtype=torch.int64)
    base = Batch(
        tokens=tuple("abc"[:num_frames]), images=images, cameras=cameras, grid=GRID, taxonomy=OCC3D, segments=segments
    )
    return replace(base, **fields)


def wall(at, *, sure=200.0):
    """Scores of a wall of class 15 from x = `at` onwards, free before it."""
    logits = torch.zeros(18, *GRID.shape, dtype=torch.float64)
    logits[FREE] = sure
    logits[FREE, at:] = -sure
    logits[15, at:] = 5.0
    return logits


def generator():
    return torch.Generator().manual_seed(0)


def double(batch):
    cameras = batch.cameras
    return replace(
        batch,
        cameras=replace(
            cameras, intrinsics=cameras.intrinsics.double(), ego_from_camera=cameras.ego_from_camera.double()
        ),
    )


@pytest.mark.parametrize("density", ["neg_free_logit", "logodds"])
def test_a_wall_is_seen_where_it_stands(density):
    config = replace(ALL, density=density)
    batch = double(make_batch())
    rays = draw_rays(config, batch, 0, generator=generator())
    weights, depth, semantics = render_logits(config, wall(12), rays, GRID, FREE)
    # Voxel 12 begins at 12 m, and interpolation from the centre before it starts at 11.5 m: within a step of that.
    assert (depth - 11.75).abs().max() <= 0.5
    whole = termination_distribution(weights)
    assert torch.allclose(whole.sum(dim=-1), torch.ones(len(whole), dtype=torch.float64), atol=1e-9)
    assert (semantics.argmax(dim=-1) == 15).all()


def test_a_wall_in_another_place_costs_the_logarithm_of_epsilon():
    """All of the teacher's rays end where none of the student's do: the divergence is log((1 + eps) / eps)."""
    config = RayDistillConfig(termination=1.0, num_rays=96, step=1.0, far=18.0)
    batch = double(make_batch())
    teaching = Teaching(logits=wall(8)[None], visible=torch.ones(1, *GRID.shape, dtype=torch.bool))
    value = distill_along_rays(config, wall(14)[None], teaching, batch, generator=generator())["termination"]
    assert value.item() == pytest.approx(math.log((1 + 1e-6) / 1e-6), rel=1e-4)


def test_the_teacher_itself_loses_nothing_and_gets_no_gradient():
    torch.manual_seed(0)
    batch = double(make_batch(2, segments=torch.randint(0, 3, (2, 2, 6, 8))))
    teacher = torch.randn(2, 18, *GRID.shape, dtype=torch.float64).requires_grad_()
    teaching = Teaching(logits=teacher, visible=torch.ones(2, *GRID.shape, dtype=torch.bool))
    same = distill_along_rays(ALL, teacher.detach(), teaching, batch, generator=generator())
    assert set(same) == {"termination", "semantics", "affinity", "ray_depth"}
    assert all(abs(v.item()) < 1e-12 for v in same.values())
    student = torch.randn(2, 18, *GRID.shape, dtype=torch.float64).requires_grad_()
    other = distill_along_rays(ALL, student, teaching, batch, generator=generator())
    assert all(v.item() > 1e-6 for v in other.values())
    sum(other.values()).backward()
    assert student.grad.abs().sum() > 0
    assert teacher.grad is None


def plain(config, student, teacher, rays, segments):
    """Every channel sampled at every sample by grid_sample, in float64."""
    size = torch.tensor(GRID.shape, dtype=torch.float64)
    where = (rays.points / size * 2 - 1).flip(-1)[None, :, None]

    def render(logits):
        odds = logits[:FREE].logsumexp(dim=0) - logits[FREE]
        shown = logits[:FREE] if config.shows == "scores" else logits.softmax(dim=0)[:FREE]
        fields = torch.cat([F.softplus(odds)[None], shown])
        sampled = F.grid_sample(fields[None], where, align_corners=False)[0, :, :, 0]
        alpha = 1 - torch.exp(-sampled[0] * config.step)
        passed = torch.cat([torch.ones_like(alpha[:, :1]), (1 - alpha[:, :-1]).cumprod(dim=-1)], dim=-1)
        weights = passed * alpha
        ends = torch.cat([weights, 1 - weights.sum(dim=-1, keepdim=True)], dim=-1)
        kinds = sampled[1:] if config.shows == "scores" else sampled[1:] / sampled[1:].sum(dim=0)
        shown = (weights[None] * kinds).sum(dim=-1).T
        if config.shows == "probabilities":
            shown = torch.cat([shown, 1 - shown.sum(dim=-1, keepdim=True)], dim=-1)
        return ends, (weights * rays.t).sum(dim=-1), shown

    (ends, depth, shown), (ends_t, depth_t, shown_t) = render(student), render(teacher)
    total = (ends_t * ((ends_t + 1e-6).log() - (ends + 1e-6).log())).sum(dim=-1).mean()
    total = total + F.smooth_l1_loss(depth, depth_t)
    says, says_t = [x if config.shows == "scores" else (x + 1e-6).log() for x in (shown, shown_t)]
    total = total + F.kl_div(says.log_softmax(-1), says_t.softmax(-1), reduction="batchmean")
    unit, unit_t = F.normalize(shown, dim=-1), F.normalize(shown_t, dim=-1)
    groups = [segments == g for g in segments.unique() if (segments == g).sum() > 1]
    squares = [((unit_t[g] @ unit_t[g].T) - (unit[g] @ unit[g].T)).square().mean() for g in groups]
    return total + torch.stack(squares).mean()


@pytest.mark.parametrize("shows", ["scores", "probabilities"])
def test_values_and_gradients_equal_a_plain_reference(shows):
    torch.manual_seed(0)
    config = replace(ALL, min_weight=0.0, num_rays=60, rays_per_segment=60, shows=shows)
    batch = double(make_batch(segments=torch.randint(0, 3, (1, 2, 6, 8))))
    student = torch.randn(1, 18, *GRID.shape, dtype=torch.float64).requires_grad_()
    teacher = torch.randn(1, 18, *GRID.shape, dtype=torch.float64)
    teaching = Teaching(logits=teacher, visible=torch.ones(1, *GRID.shape, dtype=torch.bool))
    found = sum(distill_along_rays(config, student, teaching, batch, generator=generator()).values())
    rays = draw_rays(config, batch, 0, generator=generator())
    expected = plain(config, student[0], teacher[0], rays, _segments_of(batch, 0, rays))
    assert found.item() == pytest.approx(expected.item(), rel=1e-9)
    gradients = [torch.autograd.grad(value, student)[0] for value in (found, expected)]
    assert torch.allclose(*gradients, atol=1e-12)


def test_probabilities_of_what_a_ray_shows_and_of_nothing():
    config = replace(ALL, shows="probabilities")
    batch = double(make_batch())
    rays = draw_rays(config, batch, 0, generator=generator())
    _, _, shown = render_logits(config, wall(12), rays, GRID, FREE)
    sure = 1 / (1 + 16 * math.exp(-5.0))  # of class 15, beside 16 others that score 0
    assert torch.allclose(shown[:, 15], torch.full_like(shown[:, 15], sure), atol=1e-3)
    _, _, shown = render_logits(config, wall(30), rays, GRID, FREE)
    assert torch.allclose(shown[:, -1], torch.ones_like(shown[:, -1])), "there is no wall: nothing is shown"
    assert shown.shape[-1] == OCC3D.num_classes


def test_rays_go_through_the_pixels_they_name():
    batch = double(make_batch())
    rays = draw_rays(replace(ALL, num_rays=1000), batch, 0, generator=generator())
    assert rays.pixels.tolist() == list(range(2 * 6 * 8))
    points = GRID.points_at(rays.points)
    for view in (0, 1):
        mine = rays.pixels // 48 == view
        pixels, depth, _ = batch.cameras[0, 0][view].project(points[mine].reshape(-1, 3))
        expected = rays.pixels[mine] % 48
        row, column = (expected // 8).repeat_interleave(40), (expected % 8).repeat_interleave(40)
        assert torch.allclose(pixels, torch.stack([column, row], dim=-1).double() + 0.5, atol=1e-6)
        assert torch.allclose(depth.reshape(-1, 40), rays.t.expand(48, -1), atol=1e-9)


def test_rays_through_lidar_pixels_only():
    depth = torch.zeros(1, 2, 6, 8)
    depth[0, 0, 2, 3], depth[0, 1, 5, 7], depth[0, 1, 0, 0] = 5.0, 9.0, 30.0
    config = replace(ALL, pixels="lidar")
    rays = draw_rays(config, make_batch(depth=depth), 0, generator=generator())
    assert rays.pixels.tolist() == [2 * 8 + 3, 48 + 5 * 8 + 7]  # the third lies beyond `far`
    with pytest.raises(ConfigError, match=r"needs LiDAR depth; set DataConfig\.load_depth"):
        draw_rays(config, make_batch(), 0, generator=generator())


def test_a_frame_without_rays_adds_nothing():
    batch = make_batch(depth=torch.zeros(1, 2, 6, 8))
    student = torch.randn(1, 18, *GRID.shape).requires_grad_()
    teaching = Teaching(logits=torch.randn(1, 18, *GRID.shape), visible=torch.ones(1, *GRID.shape, dtype=torch.bool))
    found = distill_along_rays(replace(ALL, pixels="lidar"), student, teaching, batch, generator=generator())
    assert sum(found.values()).item() == 0
    sum(found.values()).backward()


def test_jitter_moves_each_camera_as_a_whole():
    batch = double(make_batch())
    config = replace(ALL, num_rays=1000)
    still = draw_rays(config, batch, 0, generator=generator())
    moved = draw_rays(replace(config, jitter=0.5), batch, 0, generator=generator())
    offset = moved.points - still.points
    for view in (0, 1):
        mine = offset[still.pixels // 48 == view].reshape(-1, 3)
        assert torch.allclose(mine, mine[:1].expand_as(mine), atol=1e-6)
        assert mine[0].abs().max() > 1e-3
    assert not torch.allclose(offset[0], offset[-1])


def test_the_same_id_in_two_images_is_two_segments():
    segments = torch.full((1, 2, 6, 8), 3)
    segments[0, 1, 0, 0] = -1
    batch = make_batch(segments=segments)
    rays = draw_rays(replace(ALL, num_rays=1000), batch, 0, generator=generator())
    ids = _segments_of(batch, 0, rays)
    assert ids.unique().tolist() == [-1, 3, 3 + SEGMENTS_PER_VIEW]
    assert (ids == -1).sum() == 1


def test_what_cannot_work_is_refused():
    batch = make_batch(segments=None)
    logits = torch.zeros(1, 18, *GRID.shape)
    teaching = Teaching(logits=logits, visible=torch.ones(1, *GRID.shape, dtype=torch.bool))
    with pytest.raises(ConfigError, match=r"needs segments of the images; set DataConfig\.segments"):
        distill_along_rays(ALL, logits, teaching, batch, generator=generator())
    for wrong in ({"num_rays": 0}, {"step": 0.0}, {"far": 0.1}, {"jitter": -1.0}):
        with pytest.raises(ConfigError, match="must be positive"):
            replace(ALL, **wrong)


def test_the_double_softmax_is_a_millionth():
    batch = double(make_batch())
    teaching = Teaching(logits=wall(8)[None], visible=torch.ones(1, *GRID.shape, dtype=torch.bool))
    config = RayDistillConfig(termination=1.0, num_rays=96, step=0.2, far=20.0)
    true, public = (
        distill_along_rays(c, wall(14)[None], teaching, batch, generator=generator())["termination"].item()
        for c in (config, replace(config, double_softmax=True))
    )
    assert 0 < public < 1e-4 * true
