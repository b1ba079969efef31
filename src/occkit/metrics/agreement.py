"""What a LiDAR sweep says about a prediction where there is no label.

Is there something where points are, and nothing where the beams passed?
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from occkit.ops.raycast import carve
from occkit.samples import Occupancy


@dataclass(frozen=True, kw_only=True)
class LidarAgreement:
    """Counts of a sweep against a prediction; only voxels and points inside the grid."""

    points: int
    """Points in the grid."""
    points_occupied: int
    """Points that lie in a voxel predicted as occupied."""
    hit_voxels: int
    """Voxels that hold a point."""
    hit_voxels_occupied: int
    """Voxels that hold a point and are predicted as occupied."""
    free_voxels: int
    """Voxels that beams passed through and in which none ended."""
    free_voxels_free: int
    """Voxels that beams only passed through and that are predicted as free."""

    def fractions(self) -> dict[str, float | None]:
        """Return the fractions 0..1; None where there was nothing to count.

        `balanced` is the mean over occupied and free voxels: a prediction that is the same everywhere has 0.5.
        """
        occupied, free = (
            _ratio(self.hit_voxels_occupied, self.hit_voxels),
            _ratio(self.free_voxels_free, self.free_voxels),
        )
        return {
            "points_in_occupied": _ratio(self.points_occupied, self.points),
            "hit_voxels_occupied": occupied,
            "passed_voxels_free": free,
            "balanced": None if occupied is None or free is None else (occupied + free) / 2,
        }


def lidar_agreement(
    prediction: Occupancy,
    points: Float[Tensor, "p c"],
    origin: Float[Tensor, "3"],
    *,
    car_radius: float = 2.5,
) -> LidarAgreement:
    """Compare a prediction with one LiDAR sweep.

    A voxel in which at least one point lies should be occupied; one that beams cross without any ending in it should be
    free. A sweep sees no class, and a thin thing in a large voxel lets beams pass, so 100 % is not to be expected.

    Args:
        prediction: `[x, y, z]`.
        points: `x, y, z`, metres, frame of the grid; further columns are not looked at.
        origin: where the beams started, metres, frame of the grid.
        car_radius: points and voxels within this horizontal distance (metres) of the beams' origin are left out: they
            are the car that carries the LiDAR.

    Returns:
        Counts.

    Raises:
        ValueError: if the volume has leading dimensions.

    Source: original; free-space carving as in occupancy grid mapping.
    """
    if prediction.semantics.dim() != 3:
        raise ValueError(f"prediction: expected one volume [x, y, z], got {tuple(prediction.semantics.shape)}")
    grid, start = prediction.grid, origin.double()
    ends = points[:, :3].double()
    ends = ends[torch.isfinite(ends).all(dim=1)]
    ends = ends[(ends[:, :2] - start[:2]).norm(dim=1) > car_radius]
    begins = grid.continuous_index(start).expand_as(ends).contiguous()
    passed, hit = carve(grid.shape, begins, grid.continuous_index(ends))
    centers = grid.centers(dtype=torch.float64)[..., :2]
    around = (centers - start[:2]).norm(dim=-1) > car_radius
    occupied = prediction.occupied
    hit_voxels, free_voxels = (hit > 0) & around, (passed > 0) & (hit == 0) & around
    return LidarAgreement(
        points=int(hit[around].sum()),
        points_occupied=int(hit[around & occupied].sum()),
        hit_voxels=int(hit_voxels.sum()),
        hit_voxels_occupied=int((hit_voxels & occupied).sum()),
        free_voxels=int(free_voxels.sum()),
        free_voxels_free=int((free_voxels & ~occupied).sum()),
    )


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None
