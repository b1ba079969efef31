import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from occkit.geometry import Cameras, distort, project, undistort

LENSES = {
    "pinhole": None,
    "four": [-0.2, 0.05, 0.001, -0.002],
    "five": [-0.3, 0.12, 0.001, 0.0005, -0.02],
    "eight": [0.4, 0.1, 0.0003, 0.0001, 0.01, 0.7, 0.2, 0.03],
}


def cameras(lens: list | None = None) -> Cameras:
    poses = torch.eye(4, dtype=torch.float64).repeat(2, 1, 1)
    poses[0, :3, :3] = torch.tensor([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])
    poses[1, :3, :3] = torch.tensor([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
    poses[:, :3, 3] = torch.tensor([[1.5, 0.0, 1.6], [0.2, 0.4, 1.4]])
    intrinsics = torch.tensor([[220.0, 0, 160], [0, 230, 100], [0, 0, 1]], dtype=torch.float64)
    return Cameras(
        intrinsics=intrinsics.repeat(2, 1, 1),
        ego_from_camera=poses,
        height=200,
        width=320,
        distortion=None if lens is None else torch.tensor(lens, dtype=torch.float64).repeat(2, 1),
    )


@pytest.mark.parametrize("lens", LENSES.values(), ids=LENSES.keys())
@settings(max_examples=25, deadline=None)
@given(u=st.floats(0, 319.9), v=st.floats(0, 199.9), depth=st.floats(0.5, 80))
def test_project_inverts_unproject(lens: list | None, u: float, v: float, depth: float):
    rig = cameras(lens)
    pixels = torch.tensor([[[u, v]], [[u, v]]], dtype=torch.float64)
    z = torch.full((2, 1), depth, dtype=torch.float64)
    seen, seen_depth, _ = rig.project(rig.unproject(pixels, z))
    assert torch.allclose(seen, pixels, atol=1e-5)
    assert torch.allclose(seen_depth, z, atol=1e-9)


@pytest.mark.parametrize("lens", [v for v in LENSES.values() if v], ids=[k for k, v in LENSES.items() if v])
def test_undistort_inverts_distort(lens: list):
    coefficients = torch.tensor(lens, dtype=torch.float64)
    points = torch.stack(torch.meshgrid(torch.linspace(-0.7, 0.7, 9), torch.linspace(-0.5, 0.5, 9), indexing="ij"), -1)
    points = points.reshape(-1, 2).double()
    assert torch.allclose(undistort(distort(points, coefficients), coefficients), points, atol=1e-10)


def test_distortion_needs_a_known_number_of_coefficients():
    with pytest.raises(ValueError, match="expected 4, 5 or 8 coefficients"):
        distort(torch.zeros(1, 2), torch.zeros(6))


def test_points_that_fold_back_are_not_visible():
    """Strong barrel distortion maps far-off points into the image again; they must not count."""
    rig = cameras([-0.3, 0.0, 0.0, 0.0])
    far_off = torch.tensor([[[6.0, 8.0, 1.6]], [[6.0, 8.0, 1.6]]], dtype=torch.float64)
    pixels, depth, visible = rig.project(far_off)
    inside = (pixels[0, 0, 0] >= 0) & (pixels[0, 0, 0] < rig.width)
    assert depth[0, 0] > 0
    assert inside  # the pixel alone would say it is seen
    assert not visible[0, 0]


def test_behind_the_camera():
    _, depth, visible = cameras().project(torch.tensor([[[-5.0, 0, 1.6]]] * 2, dtype=torch.float64))
    assert depth[0, 0] < 0
    assert not visible[0, 0]


def test_resize_and_crop_follow_the_image():
    rig = cameras()
    point = torch.tensor([[[9.0, 1.0, 1.0]]] * 2, dtype=torch.float64)
    pixels = rig.project(point)[0][0, 0]
    halved = rig.resize(100, 160).project(point)[0][0, 0]
    assert torch.allclose(halved, pixels / 2)
    cut = rig.crop(top=30, left=-10, height=150, width=330).project(point)[0][0, 0]
    assert torch.allclose(cut, pixels + torch.tensor([10.0, -30.0], dtype=torch.float64))


def test_indexing_and_flattening():
    rig = cameras(LENSES["five"]).map(lambda t: t[None].expand(3, *t.shape))
    assert rig.batch_shape == (3, 2)
    assert rig[0, 1].batch_shape == ()
    assert rig.flatten().intrinsics.shape == (6, 3, 3)
    assert rig.flatten().distortion.shape == (6, 5)


def test_projection_gradients():
    points = torch.tensor([[0.3, -0.2, 2.0], [1.0, 0.5, 4.0]], dtype=torch.float64, requires_grad=True)
    intrinsics = torch.tensor([[50.0, 0, 20], [0, 60, 30], [0, 0, 1]], dtype=torch.float64)
    lens = torch.tensor(LENSES["eight"], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda p: project(p, intrinsics, lens)[0], points)
