import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from occkit.geometry import (
    compensate_motion,
    invert_pose,
    pose_from_quaternion,
    quaternion_from_rotation,
    rotation_from_quaternion,
    transform_points,
)

component = st.floats(-1, 1)
quaternions = st.tuples(component, component, component, component).filter(lambda q: sum(x * x for x in q) > 1e-3)


def pose(quaternion: tuple, translation: tuple = (1.0, -2.0, 3.0)) -> torch.Tensor:
    return pose_from_quaternion(
        torch.tensor(quaternion, dtype=torch.float64), torch.tensor(translation, dtype=torch.float64)
    )


@settings(max_examples=60, deadline=None)
@given(quaternions)
def test_quaternion_round_trip(quaternion: tuple):
    rotation = rotation_from_quaternion(torch.tensor(quaternion, dtype=torch.float64))
    assert torch.allclose(rotation @ rotation.T, torch.eye(3, dtype=torch.float64), atol=1e-12)
    assert torch.linalg.det(rotation) > 0
    again = quaternion_from_rotation(rotation)
    assert again[0] >= 0
    assert torch.allclose(rotation_from_quaternion(again), rotation, atol=1e-10)


@pytest.mark.parametrize("axis", range(3))
def test_half_turns(axis: int):
    """The trace is -1 here: the naive formula divides by zero."""
    rotation = -torch.eye(3, dtype=torch.float64)
    rotation[axis, axis] = 1
    quaternion = quaternion_from_rotation(rotation)
    assert torch.allclose(rotation_from_quaternion(quaternion), rotation, atol=1e-12)


def test_quaternion_of_length_zero():
    with pytest.raises(ValueError, match="length zero"):
        rotation_from_quaternion(torch.zeros(4))


@settings(max_examples=40, deadline=None)
@given(quaternions, quaternions)
def test_inverse_and_composition(first: tuple, second: tuple):
    a_from_b, b_from_c = pose(first), pose(second, (0.0, 5.0, -1.0))
    identity = torch.eye(4, dtype=torch.float64)
    assert torch.allclose(a_from_b @ invert_pose(a_from_b), identity, atol=1e-12)
    points = torch.tensor([[0.0, 0, 0], [1, 2, 3]], dtype=torch.float64)
    there_and_back = transform_points(invert_pose(a_from_b), transform_points(a_from_b, points))
    assert torch.allclose(there_and_back, points, atol=1e-12)
    composed = transform_points(a_from_b @ b_from_c, points)
    assert torch.allclose(composed, transform_points(a_from_b, transform_points(b_from_c, points)), atol=1e-12)


def test_motion_compensation_far_from_the_origin():
    """Global coordinates of kilometres must not cost centimetres."""
    turn = (0.9, 0.0, 0.0, 0.4358898943540674)
    at_camera = pose(turn, (4321.05, 8765.43, 0.1))
    reference = pose(turn, (4321.25, 8765.53, 0.1))
    mounting = torch.eye(4)
    moved = compensate_motion(mounting, at_camera, reference)
    heading = rotation_from_quaternion(torch.tensor(turn, dtype=torch.float64))
    expected = heading.T @ torch.tensor([-0.2, -0.1, 0.0], dtype=torch.float64)
    assert torch.allclose(moved[:3, 3].double(), expected, atol=1e-6)


def test_transform_is_differentiable():
    point = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda p: transform_points(pose((1.0, 2.0, 3.0, 4.0)), p), point)
