"""The voxel walk in plain torch, all rays a step at a time: what the compiled form must equal; also runs on GPUs."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

_NEVER = torch.finfo(torch.float64).max


@dataclass(kw_only=True)
class _Walk:
    """Rays on their way; `keep` drops those that have arrived, so late steps cost only the rays still walking."""

    ray: Int[Tensor, "k"]
    """Number of the ray among all that set out."""
    voxel: Int[Tensor, "k 3"]
    step: Int[Tensor, "k 3"]
    next_face: Float[Tensor, "k 3"]
    """Ray parameter at the next face along each axis."""
    between_faces: Float[Tensor, "k 3"]
    t: Float[Tensor, "k"]
    """Ray parameter at which the ray entered its voxel."""

    @classmethod
    def begin(cls, origins: Float[Tensor, "r 3"], directions: Float[Tensor, "r 3"], *, truncate: bool) -> "_Walk":
        voxel = origins.trunc() if truncate else origins.floor()
        forward = directions >= 0
        step = torch.where(forward, 1.0, -1.0).to(origins)
        level = directions == 0
        divisor = torch.where(level, torch.ones_like(directions), directions)
        never = torch.full_like(directions, _NEVER)
        return cls(
            ray=torch.arange(len(origins), device=origins.device),
            voxel=voxel.long(),
            step=step.long(),
            next_face=torch.where(level, never, (voxel + forward.to(origins) - origins) / divisor),
            between_faces=torch.where(level, never, step / divisor),
            t=origins.new_zeros(len(origins)),
        )

    def keep(self, walking: Bool[Tensor, "k"]) -> "_Walk":
        return _Walk(**{name: value[walking] for name, value in vars(self).items()})

    def inside(self, shape: Int[Tensor, "3"]) -> Bool[Tensor, "k"]:
        return ((self.voxel >= 0) & (self.voxel < shape)).all(dim=1)

    def leaving(self, shape: Int[Tensor, "3"]) -> Bool[Tensor, "k"]:
        """Whether a ray is beyond the grid and moves away from it."""
        return (((self.voxel < 0) & (self.step < 0)) | ((self.voxel >= shape) & (self.step > 0))).any(dim=1)

    def advance(self) -> None:
        """Cross the nearest face; of equal ones that of the later axis."""
        t_x, t_y, t_z = self.next_face.unbind(dim=1)
        take_x = (t_x < t_y) & (t_x < t_z)
        take_y = ~(t_x < t_y) & (t_y < t_z)
        axis = torch.where(take_x, 0, torch.where(take_y, 1, 2))
        crossed = torch.nn.functional.one_hot(axis, 3).bool()
        self.t = self.next_face.gather(1, axis[:, None])[:, 0]
        self.voxel = torch.where(crossed, self.voxel + self.step, self.voxel)
        self.next_face = torch.where(crossed, self.next_face + self.between_faces, self.next_face)


def _enter(walk: _Walk, shape: Int[Tensor, "3"], max_steps_outside: int) -> _Walk:
    """Walk every ray up to its first voxel inside the grid; rays that never get there are dropped."""
    arrived: list[_Walk] = []
    for _ in range(max_steps_outside):
        inside = walk.inside(shape)
        arrived.append(walk.keep(inside))
        walk = walk.keep(~inside & ~walk.leaving(shape))
        if not len(walk.ray):
            break
        walk.advance()
    return _Walk(**{name: torch.cat([getattr(w, name) for w in arrived]) for name in vars(walk)})


def first_hit(
    occupied: Tensor,
    origins: Float[Tensor, "r 3"],
    directions: Float[Tensor, "r 3"],
    *,
    truncate: bool,
    max_steps_outside: int,
) -> tuple[Int[Tensor, "r 3"], Float[Tensor, "r"], Float[Tensor, "r"], Bool[Tensor, "r"]]:
    """Return `index, entry, exit, hit` of `Hits`; float64 in, float64 out."""
    num_rays = len(origins)
    shape = torch.tensor(occupied.shape, device=occupied.device)
    index = torch.zeros(num_rays, 3, dtype=torch.long, device=occupied.device)
    entry, exit_ = origins.new_full((num_rays,), -1.0), origins.new_full((num_rays,), -1.0)
    hit = torch.zeros(num_rays, dtype=torch.bool, device=occupied.device)
    walk = _enter(_Walk.begin(origins, directions, truncate=truncate), shape, max_steps_outside)
    while len(walk.ray):
        full = occupied[tuple(walk.voxel.unbind(dim=1))] != 0
        index[walk.ray], entry[walk.ray], hit[walk.ray] = walk.voxel, walk.t, full
        walk.advance()
        exit_[walk.ray] = walk.t
        walk = walk.keep(~full & walk.inside(shape))
    return index, entry, exit_, hit


def visible_voxels(
    occupied: Tensor,
    origins: Float[Tensor, "r 3"],
    directions: Float[Tensor, "r 3"],
    *,
    max_distance: float,
    max_steps_outside: int,
) -> Bool[Tensor, "x y z"]:
    """Return the voxels that a ray enters at a parameter below `max_distance` and before anything stops it."""
    shape = torch.tensor(occupied.shape, device=occupied.device)
    seen = torch.zeros(occupied.shape, dtype=torch.bool, device=occupied.device)
    walk = _enter(_Walk.begin(origins, directions, truncate=False), shape, max_steps_outside)
    walk = walk.keep(walk.t < max_distance)
    while len(walk.ray):
        voxel = tuple(walk.voxel.unbind(dim=1))
        seen[voxel] = True
        full = occupied[voxel] != 0
        walk.advance()
        walk = walk.keep(~full & walk.inside(shape) & (walk.t < max_distance))
    return seen


def carve(
    shape: tuple[int, int, int],
    origins: Float[Tensor, "r 3"],
    ends: Float[Tensor, "r 3"],
    *,
    max_steps_outside: int,
) -> tuple[Int[Tensor, "x y z"], Int[Tensor, "x y z"]]:
    """Return `passed, hit`; a ray is over where its parameter reaches 1 or it enters the voxel of its end."""
    sizes = torch.tensor(shape, device=origins.device)
    passed = torch.zeros(shape, dtype=torch.long, device=origins.device)
    hit = torch.zeros_like(passed)
    end = ends.floor().long()
    in_grid = ((end >= 0) & (end < sizes)).all(dim=1)
    one = torch.ones((), dtype=torch.long, device=origins.device)
    hit.index_put_(tuple(end[in_grid].unbind(dim=1)), one, accumulate=True)
    walk = _enter(_Walk.begin(origins, ends - origins, truncate=False), sizes, max_steps_outside)
    walk = walk.keep((walk.voxel != end[walk.ray]).any(dim=1) & (walk.t < 1))
    while len(walk.ray):
        passed.index_put_(tuple(walk.voxel.unbind(dim=1)), one, accumulate=True)
        walk.advance()
        walk = walk.keep((walk.voxel != end[walk.ray]).any(dim=1) & walk.inside(sizes) & (walk.t < 1))
    return passed, hit


def seen_voxels(
    shape: tuple[int, int, int],
    origins: Float[Tensor, "r 3"],
    ends: Float[Tensor, "r 3"],
    *,
    max_steps_outside: int,
) -> Bool[Tensor, "x y z"]:
    """Return the voxels that `carve` counts anything in."""
    passed, hit = carve(shape, origins, ends, max_steps_outside=max_steps_outside)
    return (passed > 0) | (hit > 0)
