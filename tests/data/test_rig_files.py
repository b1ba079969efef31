"""Cameras go to disk and come back; a drive is carried on."""

import json
from dataclasses import replace

import pytest
import torch

from occkit.data.rig_files import drive_on, read_rigs, write_rigs
from occkit.errors import DataError
from occkit.geometry import (
    Cameras,
    ego_motion,
    invert_pose,
    pose_from_rotation_translation,
    rotation_from_yaw,
)

OPTICAL = torch.tensor([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])


def drive(times=3, yaw=0.1, step=2.0):
    """Two cameras on a car that turns by `yaw` after each `step` metres."""
    mounting = pose_from_rotation_translation(
        rotation_from_yaw(torch.tensor([0.0, 1.0])) @ OPTICAL, torch.tensor([[1.0, 0.2, 1.5], [0.5, -0.3, 1.6]])
    )
    back = invert_pose(
        pose_from_rotation_translation(rotation_from_yaw(torch.tensor(yaw)), torch.tensor([step, 0.0, 0.0]))
    )
    moves = [torch.eye(4)]
    for _ in range(times - 1):
        moves.append(moves[-1] @ back)
    poses = torch.stack(moves)[:, None] @ mounting
    matrix = torch.tensor([[50.0, 0, 32], [0, 50, 16], [0, 0, 1]]).expand(times, 2, 3, 3)
    return Cameras(intrinsics=matrix, ego_from_camera=poses, height=32, width=64), torch.stack(moves)


def test_the_motion_is_found_in_the_poses():
    cameras, moves = drive()
    assert torch.allclose(ego_motion(cameras.ego_from_camera), moves, atol=1e-5)
    assert torch.allclose(ego_motion(cameras.ego_from_camera.expand(2, 3, 2, 4, 4))[1], moves, atol=1e-5)


@pytest.mark.parametrize("lens", [None, [-0.3, 0.1, 0.0, 0.0, 0.02]])
def test_rigs_come_back_as_they_were(tmp_path, lens):
    cameras, _ = drive()
    if lens is not None:
        cameras = replace(cameras, distortion=torch.tensor(lens).expand(3, 2, 5))
    assert write_rigs(tmp_path, cameras, ("a", "b"), token="x") == ("x_000", "x_001", "x_002")
    back, names = read_rigs(tmp_path)
    assert names == ("a", "b")
    assert torch.allclose(back.ego_from_camera, cameras.ego_from_camera, atol=1e-5)
    assert torch.allclose(back.intrinsics, cameras.intrinsics)
    assert (back.height, back.width) == (32, 64)
    if lens is None:
        assert back.distortion is None
    else:
        assert back.distortion[0, 0].tolist() == pytest.approx([*lens, 0, 0, 0])
    alone, _ = read_rigs(tmp_path / "000")
    mounted = invert_pose(ego_motion(cameras.ego_from_camera)[2]) @ cameras.ego_from_camera[2]
    assert torch.allclose(alone.ego_from_camera[0], mounted, atol=1e-5), "each in its own ego frame"


def test_a_drive_is_carried_on_as_it_went():
    longer, _ = drive(5)
    assert torch.allclose(drive_on(drive(2)[0], 5).ego_from_camera, longer.ego_from_camera, atol=1e-4)
    assert drive_on(longer, 2).ego_from_camera.equal(longer.ego_from_camera[:2])
    straight = drive_on(longer[:1], 3, advance=0.5)
    assert straight.ego_from_camera[:, 0, 0, 3].tolist() == pytest.approx([1.0, 0.5, 0.0])
    assert straight.intrinsics.shape == (3, 2, 3, 3)


def test_rigs_that_do_not_belong_together(tmp_path):
    with pytest.raises(DataError, match=r"expected a rig\.json"):
        read_rigs(tmp_path)
    write_rigs(tmp_path, drive(2)[0], ("a", "b"))
    file = tmp_path / "000" / "rig.json"
    stated = json.loads(file.read_text())

    def change(**values):
        file.write_text(json.dumps(stated | values))

    change(global_from_ego=None)
    with pytest.raises(DataError, match="several times need global_from_ego"):
        read_rigs(tmp_path)
    change(cameras=stated["cameras"][:1])
    with pytest.raises(DataError, match="lacks the camera b"):
        read_rigs(tmp_path)
    change(cameras=[stated["cameras"][0], stated["cameras"][1] | {"width": 65}])
    with pytest.raises(DataError, match="cameras of different sizes"):
        read_rigs(tmp_path)
