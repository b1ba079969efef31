import math

import pytest
import torch
import torch.nn.functional as F

from occkit.errors import ConfigError
from occkit.geometry import Cameras, camera_rays, pose_from_rotation_translation, rotation_from_yaw
from occkit.geometry.rays import pixel_grid
from occkit.losses import (
    PhotometricConfig,
    edge_aware_smoothness,
    photometric_error,
    photometric_loss,
    reproject,
    structural_similarity,
    warp_image,
)

EGO_FROM_OPTICAL = torch.tensor([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]], dtype=torch.float64)
WARP_ONLY = PhotometricConfig(auto_mask=False)


def random(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def cameras(*places, yaw=0.0, size=(48, 64), focal=60.0):
    """Cameras at `(x, y, z)` of the ego frame, looking along x; leading dimension: the places."""
    height, width = size
    intrinsics = torch.tensor([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]], dtype=torch.float64)
    rotation = rotation_from_yaw(torch.tensor(yaw, dtype=torch.float64)) @ EGO_FROM_OPTICAL
    poses = [pose_from_rotation_translation(rotation, torch.tensor(p, dtype=torch.float64)) for p in places]
    return Cameras(
        intrinsics=intrinsics.expand(len(places), 3, 3).clone(),
        ego_from_camera=torch.stack(poses),
        height=height,
        width=width,
    )


def together(*rigs):
    """Stack rigs of leading dimension `[b]` to `[b, s]`."""
    return Cameras(
        intrinsics=torch.stack([r.intrinsics for r in rigs], dim=1),
        ego_from_camera=torch.stack([r.ego_from_camera for r in rigs], dim=1),
        height=rigs[0].height,
        width=rigs[0].width,
    )


def photograph(rig):
    """Take pictures of the slanted wall x + 0.3 y = 8 with a smooth texture; return them and the true z-depth."""
    rays = camera_rays(rig, pixel_grid(rig.height, rig.width).double().expand(len(rig.intrinsics), -1, -1))
    normal = torch.tensor([1.0, 0.3, 0.0], dtype=torch.float64)
    depth = (8 - rays.origins @ normal) / (rays.directions @ normal)
    _, y, z = (rays.origins + depth[..., None] * rays.directions).unbind(-1)
    colours = [
        (a * y + b * z + c).sin() * 0.4 + 0.5 for a, b, c in ((2.0, 0.7, 0.0), (-0.9, 1.7, 1.0), (1.1, 2.3, 2.0))
    ]
    image = torch.stack(colours, dim=1)
    return image.unflatten(-1, (rig.height, rig.width)), depth.unflatten(-1, (rig.height, rig.width))


def test_similarity_by_hand():
    # Windows without contrast: only the means differ.
    x, y = torch.full((1, 1, 3, 4), 0.2, dtype=torch.float64), torch.full((1, 1, 3, 4), 0.6, dtype=torch.float64)
    expected = (2 * 0.2 * 0.6 + 1e-4) / (0.2**2 + 0.6**2 + 1e-4)
    torch.testing.assert_close(structural_similarity(x, y), torch.full_like(x, expected))
    image = random(2, 3, 5, 6)
    torch.testing.assert_close(structural_similarity(image, image), torch.ones_like(image))
    # A checkerboard and its negative: covariance = -variance. 0/1 pixels, five or four of nine are 1.
    board = (torch.arange(4)[:, None] + torch.arange(4)) % 2
    found = structural_similarity(board.double()[None, None], 1 - board.double()[None, None])[0, 0, 1, 1]
    product, variance = 5 / 9 * 4 / 9, 5 / 9 - (5 / 9) ** 2
    squares = (5 / 9) ** 2 + (4 / 9) ** 2
    expected = (2 * product + 1e-4) * (-2 * variance + 9e-4) / ((squares + 1e-4) * (2 * variance + 9e-4))
    assert found.item() == pytest.approx(expected)


def test_similarity_equals_a_plain_loop():
    x, y = random(1, 1, 4, 5), random(1, 1, 4, 5, seed=1)
    found = structural_similarity(x, y)[0, 0]
    padded = [F.pad(image, (1, 1, 1, 1), mode="reflect")[0, 0] for image in (x, y)]
    for row in range(4):
        for column in range(5):
            a, b = (image[row : row + 3, column : column + 3].reshape(-1) for image in padded)
            covariance = ((a - a.mean()) * (b - b.mean())).mean()
            top = (2 * a.mean() * b.mean() + 1e-4) * (2 * covariance + 9e-4)
            bottom = (a.mean() ** 2 + b.mean() ** 2 + 1e-4) * (a.var(correction=0) + b.var(correction=0) + 9e-4)
            assert found[row, column].item() == pytest.approx((top / bottom).item())


def test_error_weighs_structure_and_difference():
    x, y = torch.full((1, 3, 3, 3), 0.2, dtype=torch.float64), torch.full((1, 3, 3, 3), 0.6, dtype=torch.float64)
    dissimilarity = (1 - (2 * 0.12 + 1e-4) / (0.4 + 1e-4)) / 2
    assert photometric_error(x, y)[0, 1, 1].item() == pytest.approx(0.85 * dissimilarity + 0.15 * 0.4)
    assert photometric_error(x, y, structure=0.0)[0, 1, 1].item() == pytest.approx(0.4)
    torch.testing.assert_close(photometric_error(x, x), torch.zeros(1, 3, 3, dtype=torch.float64))


def test_a_disparity_of_one_pixel_shifts_the_image():
    # 60 pixels of focal length at 6 m depth: a camera 0.1 m to the left sees everything one pixel to the right.
    here, left = cameras((0.0, 0.0, 0.0)), cameras((0.0, 0.1, 0.0))
    source = random(1, 3, 48, 64)
    warped, visible = warp_image(source, torch.full((1, 48, 64), 6.0, dtype=torch.float64), here, left)
    torch.testing.assert_close(warped[..., :-1], source[..., 1:])
    torch.testing.assert_close(warped[..., -1], source[..., -1])  # continued by its edge
    assert visible[..., :-1].all()
    assert not visible[..., -1].any()


def test_depth_may_be_coarser_than_the_images():
    here = cameras((0.0, 0.0, 0.0))
    source = random(1, 3, 48, 64)
    warped, visible = warp_image(source, torch.full((1, 24, 32), 3.0, dtype=torch.float64), here, here)
    torch.testing.assert_close(warped, F.avg_pool2d(source, 2))
    assert visible.all()


def test_the_true_depth_explains_another_view():
    here = cameras((0.0, 0.0, 0.0))
    there = cameras((0.4, 0.3, 0.1), yaw=0.05)
    target, depth = photograph(here)
    source, _ = photograph(there)
    warped, visible = warp_image(source, depth, here, there)
    assert visible[..., 8:-8, 8:-8].all()
    assert (warped - target)[..., 8:-8, 8:-8].abs().max() < 0.01
    assert (source - target).abs().mean() > 0.1


def test_wrong_depths_explain_it_worse():
    here, back, ahead = (cameras(place) for place in ((0.0, 0.0, 0.0), (-0.6, 0.2, 0.0), (0.6, -0.2, 0.05)))
    target, depth = photograph(here)
    sources = torch.stack([photograph(back)[0], photograph(ahead)[0]], dim=1)

    def loss(scale, config=WARP_ONLY):
        return photometric_loss(config, target, sources, scale * depth, here, together(back, ahead)).item()

    losses = [loss(scale) for scale in (0.6, 0.75, 0.9, 1.0, 1.1, 1.3, 1.7)]
    assert losses[3] == min(losses)
    assert losses[3] < 0.2 * losses[2]
    assert losses[3] < 0.2 * losses[4]
    assert losses[:4] == sorted(losses[:4], reverse=True)
    assert losses[3:] == sorted(losses[3:])
    assert loss(1.0, PhotometricConfig()) == pytest.approx(losses[3], rel=0.05)


def test_gradient_pulls_a_constant_error_of_depth_back():
    here, side = cameras((0.0, 0.0, 0.0)), cameras((0.0, 0.3, 0.0))
    target, depth = photograph(here)
    source, _ = photograph(side)
    for scale, sign in ((0.95, -1), (1.05, 1)):
        factor = torch.tensor(scale, dtype=torch.float64, requires_grad=True)
        photometric_loss(WARP_ONLY, target, source[:, None], factor * depth, here, together(side)).backward()
        assert factor.grad is not None
        assert factor.grad.item() * sign > 0


def test_each_pixel_takes_its_best_source_that_sees_it():
    here, left, right = (cameras((0.0, y, 0.0)) for y in (0.0, 0.4, -0.4))
    target, depth = photograph(here)
    sources = torch.stack([photograph(left)[0], photograph(right)[0]], dim=1)
    sources[:, 0, :, :24, 12:] = 0.0  # much of the upper half of one source is spoilt
    both = reproject(WARP_ONLY, target, sources, depth, here, together(left, right))
    assert both.seen.all()  # each misses a strip, at either side
    assert both.error.max() < 0.05
    one = reproject(WARP_ONLY, target, sources[:, :1], depth, here, together(left))
    assert not one.seen.all()
    assert one.error[~one.seen].eq(0).all()
    assert one.error[:, :22, 16:][one.seen[:, :22, 16:]].min() > 0.05
    assert (both.error <= one.error + 1e-12)[one.seen].all()


def test_a_source_that_looks_away_teaches_nothing():
    here, away = cameras((0.0, 0.0, 0.0)), cameras((0.0, 0.0, 0.0), yaw=math.pi)
    target, depth = photograph(here)
    depth.requires_grad_()
    for config in (WARP_ONLY, PhotometricConfig()):
        result = reproject(config, target, target[:, None], depth, here, together(away))
        assert not result.seen.any()
        assert not result.warped.any()
        loss = photometric_loss(config, target, target[:, None], depth, here, together(away))
        (gradient,) = torch.autograd.grad(loss, depth, allow_unused=False)
        assert loss.item() == 0
        assert gradient.eq(0).all()


def test_only_what_is_seen_is_compared_and_averaged():
    here, away, far_left = cameras((0.0, 0.0, 0.0)), cameras((0.0, 0.0, 0.0), yaw=math.pi), cameras((0.0, 3.2, 0.0))
    depth = torch.full((1, 48, 64), 6.0, dtype=torch.float64)
    target, right, wrong = (torch.full((1, 3, 48, 64), grey, dtype=torch.float64) for grey in (0.6, 0.6, 0.2))
    expected = photometric_error(wrong, target)[0, 0, 0].item()
    # The source that would be right does not see a thing.
    sources = torch.stack([wrong, right], dim=1)
    assert photometric_loss(WARP_ONLY, target, sources, depth, here, together(here, away)).item() == pytest.approx(
        expected
    )
    # 32 pixels of disparity: half of the image is seen.
    result = reproject(WARP_ONLY, target, wrong[:, None], depth, here, together(far_left))
    assert result.seen.float().mean() == 0.5
    loss = photometric_loss(WARP_ONLY, target, wrong[:, None], depth, here, together(far_left))
    assert loss.item() == pytest.approx(expected)


def test_pixels_that_stand_still_are_masked():
    here, ahead = cameras((0.0, 0.0, 0.0)), cameras((0.5, 0.0, 0.0))
    target, depth = photograph(here)
    source = photograph(ahead)[0]
    source[..., :32] = target[..., :32]  # the left half moves with the camera
    result = reproject(PhotometricConfig(), target, source[:, None], depth, here, together(ahead))
    assert not result.warped[..., :28].any()
    assert result.error[..., :28].eq(0).all()
    assert result.seen[..., 8:28].any()
    assert result.warped[:, 4:-4, 36:-4].float().mean() > 0.95
    assert reproject(WARP_ONLY, target, source[:, None], depth, here, together(ahead)).warped[..., :28].any()


def test_noise_breaks_ties_by_its_generator():
    here = cameras((0.0, 0.0, 0.0))
    target, depth = photograph(here)
    arguments = (target, target[:, None], depth, here, together(here))
    assert not reproject(PhotometricConfig(noise=1.0), *arguments).warped.any()  # no generator, no noise
    noisy = PhotometricConfig(noise=1e-3)  # far above the rounding of the warp
    first, again, other = (
        reproject(noisy, *arguments, generator=torch.Generator().manual_seed(seed)).warped for seed in (1, 1, 2)
    )
    assert 0.3 < first.float().mean() < 0.7
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    moved = (*arguments[:-1], together(cameras((0.5, 0.0, 0.0))))
    faint = PhotometricConfig(noise=1e-9)
    assert not reproject(faint, *moved, generator=torch.Generator().manual_seed(1)).warped.any()


def test_photometric_gradients():
    here, left, back = (cameras(p, size=(5, 6), focal=6.0) for p in ((0, 0, 0.0), (0.1, 0.4, 0.05), (-0.3, -0.2, 0)))
    target, sources = random(1, 2, 5, 6), random(1, 2, 2, 5, 6, seed=1)
    depth = (3 + random(1, 5, 6, seed=2)).requires_grad_()
    rigs = (here, together(left, back))
    for config in (WARP_ONLY, PhotometricConfig()):
        assert reproject(config, target, sources, depth, *rigs).warped.any()
        assert torch.autograd.gradcheck(lambda d, c=config: photometric_loss(c, target, sources, d, *rigs), (depth,))
    images = (random(1, 1, 4, 4).requires_grad_(), random(1, 1, 4, 4, seed=1).requires_grad_())
    assert torch.autograd.gradcheck(photometric_error, images)


def test_smoothness_by_hand():
    depth = torch.tensor([[[1.0, 0.5], [1.0, 0.5]]], dtype=torch.float64)
    image = torch.tensor([[[0.1, 0.6], [0.1, 0.6]], [[0.0, 0.1], [0.0, 0.1]]], dtype=torch.float64)[None]
    # Inverse depth 1 and 2 over its mean 1.5: a step of 2/3; the image's step is 0.3 on average. No slope along v.
    assert edge_aware_smoothness(depth, image).item() == pytest.approx(2 / 3 * math.exp(-0.3))
    assert edge_aware_smoothness(7 * depth, image).item() == pytest.approx(2 / 3 * math.exp(-0.3))
    turned = edge_aware_smoothness(depth.transpose(1, 2), image.transpose(2, 3))
    assert turned.item() == pytest.approx(2 / 3 * math.exp(-0.3))
    assert edge_aware_smoothness(torch.full((2, 3, 4), 5.0), torch.rand(2, 3, 3, 4)).item() == 0
    inputs = ((1 + random(2, 3, 4)).requires_grad_(), random(2, 3, 3, 4, seed=1))
    assert torch.autograd.gradcheck(edge_aware_smoothness, inputs)


def test_each_image_is_normalised_by_its_own_mean():
    depth, image = 1 + random(2, 4, 5), random(2, 3, 4, 5)
    scaled = depth * torch.tensor([1.0, 30.0], dtype=torch.float64)[:, None, None]
    torch.testing.assert_close(edge_aware_smoothness(scaled, image), edge_aware_smoothness(depth, image))


def test_shares_outside_zero_and_one_are_refused():
    for wrong in ({"structure": 1.2}, {"noise": -1.0}):
        with pytest.raises(ConfigError, match="structure must be"):
            PhotometricConfig(**wrong)
