"""Between pixels and voxels: lift-splat pooling (`pool_voxels`) and its inverse, project-and-gather (`gather_views`).

Both work from a plan made once for a rig, `PoolPlan` and `GatherPlan`.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from occkit.ops.gather import Backend, choose_backend, gather_sum
from occkit.ops.pooling import reference
from occkit.ops.pooling.plans import GatherPlan, PoolPlan

__all__ = ["GatherPlan", "PoolPlan", "gather_views", "pool_voxels"]


def pool_voxels(
    features: Float[Tensor, "p c"],
    depth_weights: Float[Tensor, "p d"],
    plan: PoolPlan,
    *,
    backend: Backend = "auto",
) -> Float[Tensor, "v c"]:
    """Lift pixel features along their rays by a depth distribution and sum them in voxels.

    `out[v] = sum over (p, d) in v of depth_weights[p, d] features[p]`; the frustum `p x d x c` is never made.

    Args:
        features: one row a pixel, in the plan's order of pixels.
        depth_weights: weight of each depth bin of each pixel, usually a softmax over bins.
        plan: which voxel each (pixel, bin) falls into; see `PoolPlan.build`.
        backend: see `occkit.ops.gather.Backend`.

    Returns:
        Volume, C order of the voxels; zeros where no point falls. Differentiable in features and depth_weights.

    Raises:
        ValueError: if features or depth_weights do not fit the plan.

    Example:
        >>> plan = PoolPlan.build(torch.tensor([[0, 2], [0, -1]]), num_voxels=3)
        >>> pool_voxels(torch.tensor([[1.0], [10.0]]), torch.tensor([[0.2, 0.8], [0.5, 0.5]]), plan).flatten().tolist()
        [5.199999809265137, 0.0, 0.800000011920929]

    Source: Philion and Fidler 2020 (Lift, Splat, Shoot), section 3.2; the evaluation order is original.
    """
    _check_rows("features", features, plan.num_pixels)
    if depth_weights.shape != (plan.num_pixels, plan.num_bins):
        raise ValueError(
            f"depth_weights: expected {(plan.num_pixels, plan.num_bins)} for this plan, "
            f"got {tuple(depth_weights.shape)}"
        )
    chosen = choose_backend(backend, features)
    if backend == "reference":
        return reference.pool_voxels(features, depth_weights, plan)
    weights = depth_weights.reshape(-1).index_select(0, plan.source)
    return gather_sum(features, plan.bags, weights, backend=chosen)


def gather_views(
    features: Float[Tensor, "p c"],
    plan: GatherPlan,
    depth_weights: Float[Tensor, "p d"] | None = None,
    *,
    backend: Backend = "auto",
) -> Float[Tensor, "v c"]:
    """Project each voxel into the cameras that see it and gather their features.

    `out[v] = sum over views n of a_n F_n(u, v) [ P_n(u, v, depth) ]`, a_n = 1 or 1 / number of views; with a depth
    distribution P each neighbouring pixel's feature is scaled by its own probability at the voxel's depth, i.e. the
    frustum `P x F` is interpolated trilinearly.

    Args:
        features: one row a pixel: cameras stacked, each row by row (`maps.permute(0, 2, 3, 1).flatten(0, 2)`).
        plan: which pixels each voxel reads; see `GatherPlan.build`.
        depth_weights: depth distribution of each pixel; needs a plan built with `bins`. None = plain features.
        backend: see `occkit.ops.gather.Backend`.

    Returns:
        Volume, C order of the voxels; zeros where no camera sees. Differentiable in features and depth_weights.

    Raises:
        ValueError: if features or depth_weights do not fit the plan.

    Source: original; plain gathering as in Harley et al. 2023 (Simple-BEV), section 3.
    """
    _check_rows("features", features, plan.num_pixels)
    if depth_weights is not None:
        if plan.num_bins is None:
            raise ValueError("depth_weights: this plan has no depth; pass bins and num_bins to GatherPlan.build")
        if depth_weights.shape != (plan.num_pixels, plan.num_bins):
            raise ValueError(
                f"depth_weights: expected {(plan.num_pixels, plan.num_bins)} for this plan, "
                f"got {tuple(depth_weights.shape)}"
            )
    chosen = choose_backend(backend, features)
    if chosen == "reference":
        return reference.gather_views(features, plan, depth_weights)
    weights = plan.factors.to(torch.promote_types(features.dtype, torch.float32))
    if depth_weights is not None:
        weights = weights * reference.tap_depth_weights(depth_weights.to(weights.dtype), plan)
    return gather_sum(features, plan.bags, weights, backend=chosen)


def _check_rows(name: str, table: Tensor, num_rows: int) -> None:
    if table.ndim != 2 or table.shape[0] != num_rows:
        raise ValueError(f"{name}: expected [{num_rows}, channels] for this plan, got {tuple(table.shape)}")
