"""Contracted space: a volume whose middle is a grid at full resolution and whose rim reaches to infinity.

Axis by axis, and so not the contraction of spheres of mip-NeRF 360: the middle stays a box.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from occkit.geometry.grids import VoxelGrid


def contract(r: Float[Tensor, "*n"], *, alpha: float = 2 / 3) -> Float[Tensor, "*n"]:
    """Map the real line onto (-1, 1): [-1, 1] is scaled by `alpha`, what lies beyond is drawn together.

    `f(r) = alpha r` for `|r| <= 1`, else `sign(r) (1 - a / (|r| + b))`, `a = (1 - alpha)^2 / alpha`,
    `b = (1 - 2 alpha) / alpha`. Value and slope are continuous at 1.

    Args:
        r: each coordinate for itself, in units of half the side of the box that keeps its resolution.
        alpha: share of the result that the box takes, between 0 and 1.

    Returns:
        Contracted coordinates; 1 (or -1) at infinity and, rounded, far out. Differentiable.

    Raises:
        ValueError: if alpha is not between 0 and 1.

    Example:
        >>> [round(c, 4) for c in contract(torch.tensor([0.5, 1.0, -2.0])).tolist()]
        [0.3333, 0.6667, -0.8889]

    Source: Zhang et al. 2023 (OccNeRF), equations 1-3.
    """
    a, b = _constants(alpha)
    far = r.abs().clamp(min=1)
    return torch.where(r.abs() <= 1, alpha * r, r.sign() * (1 - a / (far + b)))


def uncontract(c: Float[Tensor, "*n"], *, alpha: float = 2 / 3) -> Float[Tensor, "*n"]:
    """Invert `contract`: `c / alpha` for `|c| <= alpha`, else `sign(c) (a / (1 - |c|) - b)`.

    Args:
        c: contracted coordinates, -1..1.
        alpha: as in `contract`.

    Returns:
        What they were before; infinite at -1 and 1. Differentiable. The rounding of c grows with `a / (1 - |c|)^2`.

    Raises:
        ValueError: if alpha is not between 0 and 1.

    Source: Zhang et al. 2023 (OccNeRF), equation 1 solved for r.
    """
    a, b = _constants(alpha)
    far = c.abs().clamp(min=alpha)
    return torch.where(c.abs() <= alpha, c / alpha, c.sign() * (a / (1 - far) - b))


def _constants(alpha: float) -> tuple[float, float]:
    if not 0 < alpha < 1:
        raise ValueError(f"alpha: expected a share between 0 and 1, got {alpha}")
    return (1 - alpha) ** 2 / alpha, (1 - 2 * alpha) / alpha


@dataclass(frozen=True, kw_only=True)
class ContractedGrid:
    """A volume of voxels over all of space: equal in contracted coordinates, ever larger outside the inner box.

    Along each axis `c = contract((x - middle) / half)` with middle and half side of inner's box, and voxel `i` of `N`
    fills `[2 i / N - 1, 2 (i + 1) / N - 1)` of c: the centre of voxel i is at `i + 0.5`, the inner box is the middle
    `alpha N` voxels exactly, and the outermost centres are finite. Methods are named as those of `VoxelGrid`.

    The released code of OccNeRF puts the centre of voxel i at `c = 2 i / (N - 1) - 1` instead. There the outermost
    centres would be at infinity and are clamped, and the inner voxels are up to half a voxel off the label's.

    Example:
        >>> from occkit.geometry import OCC3D_GRID
        >>> grid = ContractedGrid.around(OCC3D_GRID)
        >>> grid.shape, grid.inner_slices[2]
        ((300, 300, 24), slice(4, 20, None))

    Source: Zhang et al. 2023 (OccNeRF), section III-B; where voxels lie is original.
    """

    inner: VoxelGrid
    """The box that keeps its resolution; of this grid only the box counts, not its voxels."""
    shape: tuple[int, int, int]
    """Number of voxels along x, y, z, the rim included."""
    alpha: float = 2 / 3
    """Share of the volume, along each axis, that the inner box takes."""

    def __post_init__(self) -> None:
        _constants(self.alpha)
        if len(self.shape) != 3 or min(self.shape) <= 0:
            raise ValueError(f"ContractedGrid: shape needs three positive values, got {self.shape}")

    @classmethod
    def around(cls, inner: VoxelGrid, *, alpha: float = 2 / 3) -> "ContractedGrid":
        """Build the volume whose middle is `inner` voxel for voxel.

        Raises:
            ValueError: if `inner.shape / alpha` is not whole or leaves no equal rim on both sides.
        """
        _constants(alpha)
        nx, ny, nz = (round(n / alpha) for n in inner.shape)
        pairs = list(zip(inner.shape, (nx, ny, nz), strict=True))
        if any((total - n) % 2 or abs(alpha * total - n) > 1e-6 for n, total in pairs):
            raise ValueError(f"ContractedGrid: no volume has {inner.shape} voxels as its middle share of {alpha}")
        return cls(inner=inner, shape=(nx, ny, nz), alpha=alpha)

    @property
    def num_voxels(self) -> int:
        """Number of voxels."""
        return self.shape[0] * self.shape[1] * self.shape[2]

    @property
    def inner_slices(self) -> tuple[slice, slice, slice]:
        """Where the inner box lies in arrays over this volume: `volume[..., sx, sy, sz]` needs no interpolation.

        Raises:
            ValueError: if the box does not begin and end between two voxels.
        """
        rims = [(1 - self.alpha) / 2 * n for n in self.shape]
        if any(abs(rim - round(rim)) > 1e-6 for rim in rims):
            raise ValueError(f"ContractedGrid: the inner box begins inside a voxel of {self}; interpolate instead")
        x, y, z = (slice(round(rim), n - round(rim)) for rim, n in zip(rims, self.shape, strict=True))
        return x, y, z

    def centers(
        self, *, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
    ) -> Float[Tensor, "x y z 3"]:
        """Return the voxel centres, metres, in the frame of the inner grid."""
        axes = [torch.arange(n, dtype=torch.float64, device=device) + 0.5 for n in self.shape]
        return self.points_at(torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)).to(dtype)

    def continuous_index(self, points: Float[Tensor, "*n 3"]) -> Float[Tensor, "*n 3"]:
        """Return points (metres) in voxel units, 0 .. `shape`: the centre of voxel `i` is at `i + 0.5`."""
        middle, half = self._box(points)
        contracted = contract((points - middle) / half, alpha=self.alpha)
        return (contracted + 1) / 2 * points.new_tensor(self.shape)

    def points_at(self, index: Float[Tensor, "*n 3"]) -> Float[Tensor, "*n 3"]:
        """Return the points (metres) at continuous voxel coordinates; inverse of `continuous_index`."""
        middle, half = self._box(index)
        contracted = index / index.new_tensor(self.shape) * 2 - 1
        return uncontract(contracted, alpha=self.alpha) * half + middle

    def _box(self, like: Tensor) -> tuple[Float[Tensor, "3"], Float[Tensor, "3"]]:
        """Return middle and half side of the inner box, metres."""
        lower, upper = like.new_tensor(self.inner.origin), like.new_tensor(self.inner.upper)
        return (lower + upper) / 2, (upper - lower) / 2
