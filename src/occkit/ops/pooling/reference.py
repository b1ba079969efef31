"""Voxel pooling and view gathering in plain torch: the specification."""

import torch
from jaxtyping import Float
from torch import Tensor

from occkit.ops.pooling.plans import GatherPlan, PoolPlan


def pool_voxels(
    features: Float[Tensor, "p c"], depth_weights: Float[Tensor, "p d"], plan: PoolPlan
) -> Float[Tensor, "v c"]:
    """Outer product over all frustum points, then scatter: `out[voxel(p, d)] += depth_weights[p, d] features[p]`."""
    frustum = (depth_weights[:, :, None] * features[:, None, :]).flatten(0, 1)
    volume = torch.zeros(plan.num_voxels, features.shape[1], dtype=frustum.dtype, device=frustum.device)
    return volume.index_add(0, plan.bags.owner, frustum[plan.source])


def gather_views(
    features: Float[Tensor, "p c"], plan: GatherPlan, depth_weights: Float[Tensor, "p d"] | None
) -> Float[Tensor, "v c"]:
    """Read every visible tap, scale it, and add it to its voxel."""
    rows = plan.factors.to(features.dtype)[:, None] * features[plan.bags.index]
    if depth_weights is not None:
        rows = rows * tap_depth_weights(depth_weights, plan)[:, None]
    volume = torch.zeros(plan.num_voxels, features.shape[1], dtype=rows.dtype, device=rows.device)
    return volume.index_add(0, plan.bags.owner, rows)


def tap_depth_weights(depth_weights: Float[Tensor, "p d"], plan: GatherPlan) -> Float[Tensor, "k"]:
    """Interpolate each tap's depth distribution linearly at the depth of its voxel."""
    assert plan.depth_source is not None
    assert plan.depth_factors is not None
    near, far = plan.depth_source.unbind(-1)
    factors = plan.depth_factors.to(depth_weights.dtype)
    flat = depth_weights.reshape(-1)
    return flat.index_select(0, near) * factors[:, 0] + flat.index_select(0, far) * factors[:, 1]
