"""Voxel grids: an axis-aligned box of equal voxels, indexed `[x, y, z]`, whose origin is its lower corner."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class VoxelGrid:
    """An axis-aligned volume of voxels.

    Voxel `(i, j, k)` fills `[origin + (i, j, k) * voxel_size, origin + (i+1, j+1, k+1) * voxel_size)`; its centre is
    `origin + (index + 0.5) * voxel_size`. Arrays over a grid have shape `shape` and are indexed `[x, y, z]`.

    Example:
        >>> grid = VoxelGrid.from_range((-40, -40, -1), (40, 40, 5.4), 0.4)
        >>> grid.shape, grid.num_voxels
        ((200, 200, 16), 640000)

    Source: original; ranges of the data sets from their papers (Occ3D, SemanticKITTI).
    """

    origin: tuple[float, float, float]
    """Lower corner (x, y, z), metres."""
    voxel_size: tuple[float, float, float]
    """Edge lengths of one voxel (x, y, z), metres."""
    shape: tuple[int, int, int]
    """Number of voxels along x, y, z."""

    def __post_init__(self) -> None:
        if len(self.origin) != 3 or len(self.voxel_size) != 3 or len(self.shape) != 3:
            raise ValueError(f"VoxelGrid: origin, voxel_size and shape need three values each, got {self}")
        if min(self.voxel_size) <= 0 or min(self.shape) <= 0:
            raise ValueError(
                f"VoxelGrid: voxel_size and shape must be positive, got {self.voxel_size} and {self.shape}"
            )

    @classmethod
    def from_range(
        cls, lower: tuple[float, float, float], upper: tuple[float, float, float], voxel_size: float
    ) -> "VoxelGrid":
        """Build the grid of cubic voxels that fills the box from `lower` to `upper`.

        Args:
            lower: lower corner, metres.
            upper: upper corner, metres.
            voxel_size: edge of a voxel, metres.

        Raises:
            ValueError: if the range is not a whole number of voxels.
        """
        counts = [(u - lo) / voxel_size for lo, u in zip(lower, upper, strict=True)]
        if any(abs(c - round(c)) > 1e-4 or round(c) < 1 for c in counts):
            raise ValueError(f"range {lower} to {upper} is not a whole number of {voxel_size} m voxels: {counts}")
        nx, ny, nz = (round(c) for c in counts)
        return cls(
            origin=(float(lower[0]), float(lower[1]), float(lower[2])),
            voxel_size=(float(voxel_size), float(voxel_size), float(voxel_size)),
            shape=(nx, ny, nz),
        )

    @classmethod
    def from_shape(
        cls, lower: tuple[float, float, float], upper: tuple[float, float, float], shape: tuple[int, int, int]
    ) -> "VoxelGrid":
        """Build the grid that divides the box from `lower` to `upper` (metres) into `shape` voxels."""
        # Rounded to a tenth of a micrometre: 6.4 / 16 is 0.4 and not 0.40000000000000002.
        sx, sy, sz = (round((u - lo) / n, 7) for lo, u, n in zip(lower, upper, shape, strict=True))
        return cls(
            origin=(float(lower[0]), float(lower[1]), float(lower[2])),
            voxel_size=(sx, sy, sz),
            shape=shape,
        )

    @property
    def upper(self) -> tuple[float, float, float]:
        """Upper corner (x, y, z), metres."""
        x, y, z = (round(o + s * n, 7) for o, s, n in zip(self.origin, self.voxel_size, self.shape, strict=True))
        return (x, y, z)

    @property
    def num_voxels(self) -> int:
        """Number of voxels."""
        return self.shape[0] * self.shape[1] * self.shape[2]

    def coarsen(self, factor: int | tuple[int, int, int]) -> "VoxelGrid":
        """Return the grid over the same box whose voxels are `factor` times larger, along all axes or along (x, y, z).

        Raises:
            ValueError: if a side is not divisible by its factor.
        """
        factors = (factor, factor, factor) if isinstance(factor, int) else factor
        if any(n % f for n, f in zip(self.shape, factors, strict=True)):
            raise ValueError(f"grid of {self.shape} voxels cannot be divided by {factor}")
        nx, ny, nz = (n // f for n, f in zip(self.shape, factors, strict=True))
        return VoxelGrid.from_shape(self.origin, self.upper, (nx, ny, nz))

    def centers(
        self, *, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
    ) -> Float[Tensor, "x y z 3"]:
        """Return the voxel centres, metres, in the frame of the grid."""
        axes = [
            o + s * (torch.arange(n, dtype=torch.float64, device=device) + 0.5)
            for o, s, n in zip(self.origin, self.voxel_size, self.shape, strict=True)
        ]
        return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).to(dtype)

    def continuous_index(self, points: Float[Tensor, "*n 3"]) -> Float[Tensor, "*n 3"]:
        """Return points (metres) in voxel units: the centre of voxel `i` is at `i + 0.5`."""
        return (points - points.new_tensor(self.origin)) / points.new_tensor(self.voxel_size)

    def points_at(self, index: Float[Tensor, "*n 3"]) -> Float[Tensor, "*n 3"]:
        """Return the points (metres) at continuous voxel coordinates; inverse of `continuous_index`."""
        return index * index.new_tensor(self.voxel_size) + index.new_tensor(self.origin)

    def index_of(self, points: Float[Tensor, "*n 3"]) -> tuple[Int[Tensor, "*n 3"], Bool[Tensor, "*n"]]:
        """Return the voxel each point lies in, and whether it lies in the grid at all.

        Args:
            points: metres, in the frame of the grid.

        Returns:
            index: int64, `floor((p - origin) / voxel_size)`; outside the grid it is out of range, and must not be used.
            inside: true where the point is in the grid. A point on the upper face is outside.
        """
        index = torch.floor(self.continuous_index(points)).long()
        shape = torch.tensor(self.shape, device=points.device)
        inside = ((index >= 0) & (index < shape)).all(dim=-1)
        return index, inside

    def flat_index(self, index: Int[Tensor, "*n 3"]) -> Int[Tensor, "*n"]:
        """Return the C-order flat index `(x * Y + y) * Z + z`."""
        _, ny, nz = self.shape
        return (index[..., 0] * ny + index[..., 1]) * nz + index[..., 2]


OCC3D_GRID = VoxelGrid.from_range((-40, -40, -1), (40, 40, 5.4), 0.4)
"""Occ3D-nuScenes: 200 x 200 x 16 voxels of 0.4 m, ego frame."""

KITTI_GRID = VoxelGrid.from_range((0, -25.6, -2), (51.2, 25.6, 4.4), 0.2)
"""SemanticKITTI and SSCBench-KITTI-360: 256 x 256 x 32 voxels of 0.2 m, Velodyne frame."""
