"""Weighted sums of trilinear samples on the CPU with numba: corners are worked out where they are used, none is stored.

Forward and the gradients of weights and points run over queries. The gradient of the volume runs over *pencils* (voxels
that share x and y): each thread walks all samples but writes only pencils whose number is its own modulo the number of
threads, so that no two threads write one voxel and the order of additions does not depend on timing.
"""

# pyright: basic
# (numba's decorators have no types)

from typing import Any

import numba
import numpy as np
import torch
from numba import njit, prange
from torch import Tensor

from occkit.ops.threads import match_torch_threads

# Lets a dot product use vector registers; NaN and infinity keep their meaning.
_FAST = {"reassoc", "contract", "nsz", "arcp"}


@njit(cache=True)
def _centred(value, size, border):  # noqa: ANN001, ANN202
    """Return the coordinate counted from the first voxel centre, and whether any voxel is near and the slope is 1."""
    value -= 0.5
    if border:
        if not value > 0:  # also a NaN, which must not become an index
            return 0.0, True, False
        if value >= size - 1:
            return size - 1.0, True, False
        return value, True, True
    near = value > -1 and value < size
    return value, near, near


@njit(parallel=True, fastmath=_FAST, cache=True)
def _forward(volume, nx, ny, nz, points, weights, border, out):  # noqa: ANN001, ANN202
    num_queries, num_heads, num_points = weights.shape
    num_channels = volume.shape[2]
    for q in prange(num_queries):
        for h in range(num_heads):
            for c in range(num_channels):
                out[q, h, c] = 0
            for p in range(num_points):
                weight = weights[q, h, p]
                x, near_x, _ = _centred(points[q, h, p, 0], nx, border)
                y, near_y, _ = _centred(points[q, h, p, 1], ny, border)
                z, near_z, _ = _centred(points[q, h, p, 2], nz, border)
                if weight == 0 or not (near_x and near_y and near_z):
                    continue
                x0, y0, z0 = int(np.floor(x)), int(np.floor(y)), int(np.floor(z))
                fx, fy, fz = x - x0, y - y0, z - z0
                for corner in range(4):
                    ix, iy = x0 + (corner >> 1), y0 + (corner & 1)
                    if ix < 0 or ix >= nx or iy < 0 or iy >= ny:
                        continue
                    pencil = weight * (fx if corner >> 1 else 1 - fx) * (fy if corner & 1 else 1 - fy)
                    if pencil == 0:
                        continue
                    row = (ix * ny + iy) * nz + z0
                    low = weights.dtype.type(pencil * (1 - fz)) if z0 >= 0 else weights.dtype.type(0)
                    high = weights.dtype.type(pencil * fz) if z0 + 1 < nz else weights.dtype.type(0)
                    if low != 0 and high != 0:
                        for c in range(num_channels):
                            out[q, h, c] += low * volume[row, h, c] + high * volume[row + 1, h, c]
                    elif low != 0:
                        for c in range(num_channels):
                            out[q, h, c] += low * volume[row, h, c]
                    elif high != 0:
                        for c in range(num_channels):
                            out[q, h, c] += high * volume[row + 1, h, c]


@njit(parallel=True, fastmath=_FAST, cache=True)
def _backward_samples(volume, nx, ny, nz, points, weights, border, planar, skip_zeros, grad, grad_points, grad_weights):  # noqa: ANN001, ANN202
    """Each corner's dot product with the incoming gradient serves the weight and the three coordinates.

    `grad_points` is empty where nobody asks for it.
    """
    wants_points = grad_points.size > 0
    num_queries, num_heads, num_points = weights.shape
    num_channels = volume.shape[2]
    for q in prange(num_queries):
        for h in range(num_heads):
            for p in range(num_points):
                x, near_x, slope_x = _centred(points[q, h, p, 0], nx, border)
                y, near_y, slope_y = _centred(points[q, h, p, 1], ny, border)
                z, near_z, slope_z = _centred(points[q, h, p, 2], nz, border)
                value = by_x = by_y = by_z = weights.dtype.type(0)
                weight = weights[q, h, p]
                if near_x and near_y and near_z and not (skip_zeros and weight == 0):
                    x0, y0, z0 = int(np.floor(x)), int(np.floor(y)), int(np.floor(z))
                    fx, fy, fz = x - x0, y - y0, z - z0
                    for corner in range(8):
                        dx, dy, dz = corner >> 2, (corner >> 1) & 1, corner & 1
                        ix, iy, iz = x0 + dx, y0 + dy, z0 + dz
                        if (planar and dx) or ix < 0 or ix >= nx or iy < 0 or iy >= ny or iz < 0 or iz >= nz:
                            continue
                        row = (ix * ny + iy) * nz + iz
                        dot = weights.dtype.type(0)
                        for c in range(num_channels):
                            dot += grad[q, h, c] * volume[row, h, c]
                        wx, wy, wz = fx if dx else 1 - fx, fy if dy else 1 - fy, fz if dz else 1 - fz
                        value += wx * wy * wz * dot
                        by_x += (dot if dx else -dot) * wy * wz
                        by_y += (dot if dy else -dot) * wx * wz
                        by_z += (dot if dz else -dot) * wx * wy
                grad_weights[q, h, p] = value
                if wants_points:
                    grad_points[q, h, p, 0] = by_x * weight if slope_x else 0
                    grad_points[q, h, p, 1] = by_y * weight if slope_y else 0
                    grad_points[q, h, p, 2] = by_z * weight if slope_z else 0


@njit(parallel=True, fastmath=_FAST, cache=True)
def _backward_volume(nx, ny, nz, points, weights, border, grad, num_threads, grad_volume):  # noqa: ANN001, ANN202
    num_queries, num_heads, num_points = weights.shape
    num_channels = grad.shape[2]
    for thread in prange(num_threads):
        for q in range(num_queries):
            for h in range(num_heads):
                for p in range(num_points):
                    weight = weights[q, h, p]
                    x, near_x, _ = _centred(points[q, h, p, 0], nx, border)
                    y, near_y, _ = _centred(points[q, h, p, 1], ny, border)
                    z, near_z, _ = _centred(points[q, h, p, 2], nz, border)
                    if weight == 0 or not (near_x and near_y and near_z):
                        continue
                    x0, y0, z0 = int(np.floor(x)), int(np.floor(y)), int(np.floor(z))
                    fx, fy, fz = x - x0, y - y0, z - z0
                    for corner in range(4):
                        ix, iy = x0 + (corner >> 1), y0 + (corner & 1)
                        if ix < 0 or ix >= nx or iy < 0 or iy >= ny or (ix * ny + iy) % num_threads != thread:
                            continue
                        pencil = weight * (fx if corner >> 1 else 1 - fx) * (fy if corner & 1 else 1 - fy)
                        row = (ix * ny + iy) * nz + z0
                        low, high = weights.dtype.type(pencil * (1 - fz)), weights.dtype.type(pencil * fz)
                        if z0 >= 0 and low != 0:
                            for c in range(num_channels):
                                grad_volume[row, h, c] += low * grad[q, h, c]
                        if z0 + 1 < nz and high != 0:
                            for c in range(num_channels):
                                grad_volume[row + 1, h, c] += high * grad[q, h, c]


class SampledSum(torch.autograd.Function):
    """`reference.sampled_sum` with gradients to volume, weights and points."""

    @staticmethod
    def forward(
        ctx: Any,
        volume: Tensor,
        points: Tensor,
        weights: Tensor,
        shape: tuple[int, int, int],
        flags: tuple[bool, bool, bool],
    ) -> Tensor:
        """See `reference.sampled_sum`; flags are border, planar, skip_zeros of `occkit.ops.sampling.sampled_sum`."""
        match_torch_threads()
        volume, points, weights = volume.contiguous(), points.contiguous(), weights.contiguous()
        out = volume.new_empty(weights.shape[0], volume.shape[1], volume.shape[2])
        nx, ny, nz = shape
        _forward(
            volume.detach().numpy(),
            nx,
            ny,
            nz,
            points.detach().numpy(),
            weights.detach().numpy(),
            flags[0],
            out.numpy(),
        )
        ctx.save_for_backward(volume, points, weights)
        ctx.settings = (shape, flags)
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of volume, points and weights."""
        match_torch_threads()
        volume, points, weights = (tensor.detach() for tensor in ctx.saved_tensors)
        (nx, ny, nz), (border, planar, skip_zeros) = ctx.settings
        grad = grad.contiguous()
        grad_volume = grad_points = grad_weights = None
        if ctx.needs_input_grad[0]:
            grad_volume = torch.zeros_like(volume)
            _backward_volume(
                nx,
                ny,
                nz,
                points.numpy(),
                weights.numpy(),
                border,
                grad.numpy(),
                numba.get_num_threads(),
                grad_volume.numpy(),
            )
        if ctx.needs_input_grad[1] or ctx.needs_input_grad[2]:
            grad_weights = torch.empty_like(weights)
            grad_points = torch.empty_like(points) if ctx.needs_input_grad[1] else points.new_empty(0, 0, 0, 3)
            _backward_samples(
                volume.numpy(),
                nx,
                ny,
                nz,
                points.numpy(),
                weights.numpy(),
                border,
                planar,
                skip_zeros,
                grad.numpy(),
                grad_points.numpy(),
                grad_weights.numpy(),
            )
        return grad_volume, grad_points if ctx.needs_input_grad[1] else None, grad_weights, None, None
