"""Rigs on disk: cameras written as `rig.json`, and cameras read from it without images."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from occkit.data.rig import Rig, find_rigs
from occkit.data.views import View
from occkit.errors import DataError
from occkit.files import write_json
from occkit.geometry import Cameras, compensate_motion, ego_motion, invert_pose


def write_rigs(folder: Path, cameras: Cameras, names: Sequence[str], *, token: str = "") -> tuple[str, ...]:
    """Write one `<000>/rig.json` a time, in the order of time, each in its own ego frame.

    The images that they name, `<camera>.png` beside each, are up to the caller.

    Args:
        folder: where to.
        cameras: `[t, n]`, time 0 is now and time grows into the past; poses in the present ego frame.
        names: one a camera.
        token: put before the place in time, with a `_` between; the tokens are the places alone without it.

    Returns:
        The tokens of the frames, in the order of time.
    """
    moves, count = ego_motion(cameras.ego_from_camera.double()), int(cameras.batch_shape[0])
    tokens: list[str] = []
    for place, time in enumerate(reversed(range(count))):
        now_from_then = moves[time]
        own = invert_pose(now_from_then) @ cameras.ego_from_camera[time].double()
        own_token = f"{token}_{place:03d}" if token else f"{place:03d}"
        tokens.append(own_token)
        rig = {"token": own_token, "timestamp": place * 500_000, "global_from_ego": now_from_then.tolist()}
        listed = [camera_entry(name, _view(cameras, time, i, name, own[i])) for i, name in enumerate(names)]
        write_json(folder / f"{place:03d}" / "rig.json", rig | {"cameras": listed})
    return tuple(tokens)


def camera_entry(name: str, view: View) -> dict[str, Any]:
    """Return what `rig.json` says of a camera whose image lies beside it; the size of the image must be known."""
    assert view.size is not None
    entry: dict[str, Any] = {
        "name": name,
        "image": view.path.name,
        "width": view.size[1],
        "height": view.size[0],
        "intrinsics": view.intrinsics.tolist(),
        "ego_from_camera": view.ego_from_camera.tolist(),
    }
    return entry | ({"distortion": list(view.distortion)} if view.distortion else {})


def read_rigs(path: Path) -> tuple[Cameras, tuple[str, ...]]:
    """Read the cameras of one rig file, its folder, or a folder of such folders in the order of time.

    Returns:
        cameras: `[t, n]`, time 0 is the last rig and time grows into the past; poses in the last one's ego frame.
        names: one a camera.

    Raises:
        DataError: if there is none, its cameras differ in size, or times lack `global_from_ego`.
    """
    files = find_rigs(path)
    if not files:
        raise DataError(path, "expected a rig.json here or in sub-folders", "see docs/files.md for the format")
    rigs = [Rig(file) for file in reversed(files)]
    names = tuple(rigs[0].cameras)
    views = [[_named(rig, name) for name in names] for rig in rigs]
    sizes = {view.size for row in views for view in row}
    if len(sizes) != 1 or (size := sizes.pop()) is None:
        raise DataError(path, f"cameras of different sizes: {sizes}", "images are drawn in one size; use equal cameras")
    poses = [torch.stack([torch.from_numpy(view.ego_from_camera) for view in row]) for row in views]
    if len(rigs) > 1:
        poses = [_into(rigs[0], rig, pose) for rig, pose in zip(rigs, poses, strict=True)]
    intrinsics = [torch.stack([torch.from_numpy(view.intrinsics) for view in row]) for row in views]
    lenses = [[(*view.distortion, *[0.0] * (8 - len(view.distortion))) for view in row] for row in views]
    bent = any(view.distortion for row in views for view in row)
    cameras = Cameras(
        intrinsics=torch.stack(intrinsics).float(),
        ego_from_camera=torch.stack(poses).float(),
        height=size[0],
        width=size[1],
        distortion=torch.tensor(lenses) if bent else None,
    )
    return cameras, names


def _named(rig: Rig, name: str) -> Any:
    if name not in rig.cameras:
        raise DataError(rig.path, f"lacks the camera {name} of the last rig", "every time needs the same cameras")
    return rig.cameras[name]


def _into(reference: Rig, rig: Rig, poses: Float[Tensor, "n 4 4"]) -> Float[Tensor, "n 4 4"]:
    """Return poses of a rig in the ego frame of another."""
    if rig.global_from_ego is None or reference.global_from_ego is None:
        raise DataError(rig.path, "several times need global_from_ego", "add it to every rig")
    exposed, present = torch.from_numpy(rig.global_from_ego), torch.from_numpy(reference.global_from_ego)
    return compensate_motion(poses, exposed.expand(len(poses), 4, 4), present)


def _view(cameras: Cameras, time: int, index: int, name: str, pose: Tensor) -> View:
    return View(
        path=Path(f"{name}.png"),
        intrinsics=cameras.intrinsics[time, index].double().numpy(),
        ego_from_camera=pose.numpy(),
        distortion=() if cameras.distortion is None else tuple(cameras.distortion[time, index].tolist()),
        size=(cameras.height, cameras.width),
    )


def drive_on(cameras: Cameras, count: int, *, advance: float = 1.0) -> Cameras:
    """Return cameras at as many times as asked for: the latest of those there are, or further ones before them.

    The rig is taken to have come the way it went between its first two times; from a single time straight along x.

    Args:
        cameras: `[t, n]`, time 0 is now; poses in the present ego frame.
        count: times wanted.
        advance: metres from one time to the next, for a single time.
    """
    have = int(cameras.batch_shape[0])
    if count <= have:
        return cameras[:count]
    poses = cameras.ego_from_camera.double()
    if have > 1:
        moves = ego_motion(poses)
        step = invert_pose(moves[-2]) @ moves[-1]
    else:
        moves, step = torch.eye(4, dtype=torch.float64)[None], torch.eye(4, dtype=torch.float64)
        step[0, 3] = -advance
    mounted, move, further = invert_pose(moves[-1]) @ poses[-1], moves[-1], [poses]
    for _ in range(count - have):
        move = move @ step
        further.append((move @ mounted)[None])
    again = [*range(have), *[have - 1] * (count - have)]
    lens = cameras.distortion
    return Cameras(
        intrinsics=cameras.intrinsics[again],
        ego_from_camera=torch.cat(further).to(cameras.ego_from_camera.dtype),
        height=cameras.height,
        width=cameras.width,
        distortion=None if lens is None else lens[again],
    )
