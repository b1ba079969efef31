"""Occupancy as the cameras see it: read along their frustums, straightened, and scaled by where each camera stands.

The first half of OccScene's dual alignment, and what all its rivals start from as well.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from occkit.errors import ConfigError
from occkit.geometry import VoxelGrid
from occkit.geometry.rays import pixel_grid
from occkit.ops.sampling import sampled_sum

NUM_VIEW_NUMBERS = 16
"""Length of `describe_views`."""


@dataclass(frozen=True, kw_only=True)
class Views:
    """Of all images that are drawn together; `v` is time x camera, time-major."""

    ego_from_camera: Float[Tensor, "b v 4 4"]
    """Poses in the frame of each view's own occupancy grid, metres."""
    intrinsics: Float[Tensor, "b v 3 3"]
    """Camera matrices in units of the image: x / width, y / height."""
    first_from_ego: Float[Tensor, "b v 4 4"]
    """Pose of each view's ego frame in the first one's, metres."""
    times: tuple[int, ...]
    """Which occupancy volume (an index into t) each view looks at."""

    def __post_init__(self) -> None:
        batch, count = self.intrinsics.shape[:2]
        if self.ego_from_camera.shape[:2] != (batch, count) or self.first_from_ego.shape[:2] != (batch, count):
            raise ValueError(
                f"Views: expected poses [{batch}, {count}, 4, 4] like the intrinsics, got "
                f"{tuple(self.ego_from_camera.shape)} and {tuple(self.first_from_ego.shape)}"
            )
        if len(self.times) != count or min(self.times, default=0) < 0:
            raise ValueError(f"Views.times: expected {count} indices, one a view, got {self.times}")

    def map(self, function: Callable[[Tensor], Tensor]) -> "Views":
        """Return a copy whose tensors went through `function`, which leaves the views `v` as many as they are."""
        return Views(
            ego_from_camera=function(self.ego_from_camera),
            intrinsics=function(self.intrinsics),
            first_from_ego=function(self.first_from_ego),
            times=self.times,
        )


@dataclass(frozen=True, kw_only=True)
class CameraEncodingConfig:
    """`X = P (x) deform(lift(E))`: embedded occupancy, lifted into each view, times a vector of its camera."""

    channels: int = 16
    """Width of the embedding."""
    lift: Literal["frustum", "resize"] = "frustum"
    """Read the volume along the rays of the pixels, or only resize it to the size of the latent (an ablation)."""
    depths: int = 12
    """Depth bins; their lengths grow linearly."""
    near: float = 1.0
    """Where the first bin begins, metres of z-depth."""
    far: float | None = None
    """Where the last bin ends, metres; None is the diagonal of the grid's ground plan."""
    samples: int = 1
    """Points of a bin whose mean is taken; a far bin is longer than a voxel, and one point may miss what is in it."""
    camera: bool = True
    """Multiply by a vector made from pose and intrinsics; False leaves it out (an ablation)."""

    def __post_init__(self) -> None:
        for name in ("channels", "depths", "samples"):
            if getattr(self, name) < 1:
                raise ConfigError(f"CameraEncoding: {name} must be at least 1, got {getattr(self, name)}")
        if self.near < 0 or (self.far is not None and self.far <= self.near):
            raise ConfigError(f"CameraEncoding: expected 0 <= near < far, got {self.near} and {self.far}")

    def build(self, *, num_classes: int, grid: VoxelGrid) -> "CameraEncoding":
        """Return the encoding of occupancy with `num_classes` on `grid`.

        Raises:
            ConfigError: if the grid ends before the first bin begins.
        """
        return CameraEncoding(self, num_classes=num_classes, grid=grid)


class CameraEncoding(nn.Module):
    """See `CameraEncodingConfig`.

    Source: Li et al. 2024 (OccScene), its figure of Mamba-based Dual Alignment, "cross-view camera encoding": depth
    axis and interpolation, deformable 3D convolution, product with camera parameters. That the interpolation reads
    along the rays, the numbers of a camera and all sizes are ours.
    """

    depths: Tensor

    def __init__(self, config: CameraEncodingConfig, *, num_classes: int, grid: VoxelGrid) -> None:
        super().__init__()
        self.config, self.grid, self.num_classes = config, grid, num_classes
        sides = [size * count for size, count in zip(grid.voxel_size, grid.shape, strict=True)]
        far = math.hypot(*sides[:2]) if config.far is None else config.far
        if far <= config.near:
            raise ConfigError(f"CameraEncoding: the grid's diagonal is {far:.2f} m, near is {config.near}; lower near")
        self.scale = max(sides)
        # In each bin, evenly: [depths, samples]. Derived from the config, and so not part of the state.
        edges = depth_edges(near=config.near, far=far, count=config.depths)
        inside = (torch.arange(config.samples) + 0.5) / config.samples
        self.register_buffer("depths", edges[:-1, None] + edges.diff()[:, None] * inside, persistent=False)
        self.embed = nn.Linear(num_classes, config.channels, bias=False)
        self.deform = DeformableConv3d(config.channels)
        self.null = nn.Parameter(torch.zeros(config.channels))
        self.camera = CameraVector(config.channels) if config.camera else None

    def forward(
        self,
        occupancy: Float[Tensor, "b t k x y z"],
        views: Views,
        size: tuple[int, int],
        present: Bool[Tensor, "b"] | None = None,
    ) -> Float[Tensor, "b v c d h w"]:
        """Return what each view has in front of it.

        Args:
            occupancy: class probabilities, one volume a time; finite.
            views: who looks where.
            size: rows and columns of the latent.
            present: where false, the occupancy is not read: a learned vector stands everywhere. None is all true.

        Raises:
            ValueError: if the occupancy does not fit classes, grid or views.
        """
        self._check(occupancy, views)
        if present is None or bool(present.all()):
            return self._encode(occupancy.unbind(), views, size)
        rows = present.nonzero()[:, 0]
        shape = (len(present), len(views.times), self.config.channels, self.config.depths, *size)
        encoded = self.null[:, None, None, None].expand(shape)
        if len(rows) == 0:
            return encoded
        volumes = occupancy.unbind()  # not copied
        known = self._encode([volumes[row] for row in rows.tolist()], views.map(lambda of_views: of_views[rows]), size)
        return encoded.to(known.dtype).index_copy(0, rows, known)

    def _encode(
        self, occupancy: Sequence[Float[Tensor, "t k x y z"]], views: Views, size: tuple[int, int]
    ) -> Float[Tensor, "b v c d h w"]:
        """Return what each view has in front of it, all of it known."""
        volumes = [of_times.movedim(1, -1) for of_times in occupancy]
        # Reading and embedding are both linear and may change places: there are fewer points than voxels to embed.
        if self.config.lift == "frustum":
            lifted = lift_frustum(volumes, views, self.grid, self.depths, size)
        else:
            lifted = lift_resized(torch.stack(volumes), views, self.config.depths, size)
        embedded = self.embed(lifted.movedim(2, -1)).movedim(-1, 2)
        straight = self.deform(embedded.flatten(0, 1)).unflatten(0, embedded.shape[:2])
        if self.camera is None:
            return straight
        numbers = describe_views(views, self.scale).to(straight)
        return straight * self.camera(numbers)[..., None, None, None]

    def _check(self, occupancy: Tensor, views: Views) -> None:
        expected = (self.num_classes, *self.grid.shape)
        if tuple(occupancy.shape[2:]) != expected:
            raise ValueError(
                f"occupancy: expected [batch, times, {', '.join(map(str, expected))}] for these classes and this grid, "
                f"got {tuple(occupancy.shape)}"
            )
        if max(views.times) >= occupancy.shape[1]:
            raise ValueError(f"views.times: {views.times} look at more than the {occupancy.shape[1]} volumes given")


class DeformableConv3d(nn.Module):
    """A 3x3x3 convolution of a volume read a learned offset away from each cell; offsets are zero at first.

    `out = conv(x')`, `x'(p) = x(p + offset(p))` by trilinear interpolation, zero outside. One offset a cell and not one
    for each of the 27 taps: nine times less to read.

    Source: Dai et al., "Deformable convolutional networks", ICCV 2017, in three dimensions; one offset a cell original.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.offset = nn.Conv3d(channels, 3, 3, padding=1)
        nn.init.zeros_(self.offset.weight)
        assert self.offset.bias is not None
        nn.init.zeros_(self.offset.bias)
        self.conv = nn.Conv3d(channels, channels, 3, padding=1)

    def forward(self, x: Float[Tensor, "m c d h w"]) -> Float[Tensor, "m c d h w"]:
        """Return the volumes, as large as they came."""
        places = _cell_centres(x) + self.offset(x).movedim(1, -1)
        moved = [_read(volume.movedim(0, -1), place[..., None, :]) for volume, place in zip(x, places, strict=True)]
        return self.conv(torch.stack(moved).movedim(-1, 1))


class CameraVector(nn.Module):
    """Two layers from the numbers of a view to one factor a channel, all of them 1 at first."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Linear(NUM_VIEW_NUMBERS, channels)
        self.last = nn.Linear(channels, channels)
        nn.init.zeros_(self.last.weight)
        nn.init.ones_(self.last.bias)

    def forward(self, numbers: Float[Tensor, "*b 16"]) -> Float[Tensor, "*b c"]:
        """Return the factors."""
        return self.last(F.silu(self.first(numbers)))


def depth_edges(*, near: float, far: float, count: int) -> Float[Tensor, "edges"]:
    """Return the edges of depth bins whose lengths grow linearly.

    `e_k = near + (far - near) k (k + 1) / (count (count + 1))`, k from 0 to count.

    Source: Reading et al., "CaDDN", CVPR 2021 (linear-increasing discretisation).
    """
    number = torch.arange(count + 1, dtype=torch.float64)
    return (near + (far - near) * number * (number + 1) / (count * (count + 1))).float()


def describe_views(views: Views, scale: float) -> Float[Tensor, "b v 16"]:
    """Return numbers of order one that say where a view looks: pose in the first ego frame (12), fx, fy, cx, cy (4).

    Args:
        views: who looks where.
        scale: what one unit of translation is, metres.
    """
    pose = (views.first_from_ego @ views.ego_from_camera)[..., :3, :]
    pose = pose / pose.new_tensor([1.0, 1.0, 1.0, scale])
    k = views.intrinsics
    lens = torch.stack([k[..., 0, 0], k[..., 1, 1], k[..., 0, 2], k[..., 1, 2]], dim=-1)
    return torch.cat([pose.flatten(-2), lens], dim=-1)


def lift_frustum(
    volumes: Sequence[Float[Tensor, "t x y z c"]],
    views: Views,
    grid: VoxelGrid,
    depths: Float[Tensor, "d s"],
    size: tuple[int, int],
) -> Float[Tensor, "b v c d h w"]:
    """Read volumes along the rays of each view's pixels: the mean of trilinear samples at the depths of each bin.

    Args:
        volumes: of each sample, one a time.
        views: who looks where, and at which volume.
        grid: of the volumes; outside of it there is nothing (0).
        depths: z-depths of the samples in each bin, metres.
        size: rows and columns of pixels.
    """
    height, width = size
    pixels = pixel_grid(height, width).to(views.intrinsics) / views.intrinsics.new_tensor([width, height])
    homogeneous = torch.cat([pixels, torch.ones_like(pixels[:, :1])], dim=-1)  # [h w, 3]
    in_camera = torch.linalg.solve(views.intrinsics, homogeneous.t())  # [b, v, 3, h w], forward component 1
    directions = (views.ego_from_camera[..., :3, :3] @ in_camera).transpose(-1, -2)
    origin = grid.continuous_index(views.ego_from_camera[..., :3, 3])[:, :, None, None, None]
    slope = (directions / directions.new_tensor(grid.voxel_size))[:, :, None, :, None]  # voxels a metre of depth
    places = origin + depths.to(slope)[:, None, :, None] * slope  # [b, v, d, h w, s, 3]
    lifted = [
        _read(of_times[time], places[b, v])
        for b, of_times in enumerate(each.unbind() for each in volumes)  # whose gradient is made once
        for v, time in enumerate(views.times)
    ]
    shape = (len(volumes), len(views.times), depths.shape[0], height, width)
    return torch.stack(lifted).reshape(*shape, -1).movedim(-1, 2)


def lift_resized(
    volumes: Float[Tensor, "b t x y z c"], views: Views, depths: int, size: tuple[int, int]
) -> Float[Tensor, "b v c d h w"]:
    """Resize volumes as if every camera looked straight ahead in parallel rays: depth is x, rows are z from top to
    bottom, columns are y from left to right.
    """
    upright = volumes.permute(0, 1, 5, 2, 4, 3).flip(-1, -2)  # [b, t, c, x, -z, -y]
    resized = F.interpolate(upright.flatten(0, 1), size=(depths, *size), mode="trilinear", align_corners=False)
    return resized.unflatten(0, volumes.shape[:2])[:, list(views.times)]


def _read(volume: Float[Tensor, "x y z c"], places: Float[Tensor, "*q s 3"]) -> Float[Tensor, "*q c"]:
    """Return the mean of trilinear samples of a volume, places in cells; zero outside."""
    x, y, z, channels = volume.shape
    points = places.reshape(-1, 1, *places.shape[-2:])
    weights = volume.new_full(points.shape[:-1], 1 / points.shape[2])
    table = volume.reshape(-1, 1, channels)
    return sampled_sum(table, (x, y, z), points, weights).reshape(*places.shape[:-2], channels)


def _cell_centres(x: Float[Tensor, "m c d h w"]) -> Float[Tensor, "d h w 3"]:
    axes = [torch.arange(n, dtype=torch.float32, device=x.device) + 0.5 for n in x.shape[2:]]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)
