"""State-space bricks: a Mamba block that reads a sequence both ways, and orders in which image tokens are scanned."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from occkit.errors import ConfigError
from occkit.ops.scan import ScanBackend, selective_scan

ScanOrder = Literal["frame_raster", "time_fast", "column", "depth", "hilbert"]
"""Which token comes after which; see `scan_permutation`."""

SCAN_ORDERS: tuple[ScanOrder, ...] = get_args(ScanOrder)
"""All of them."""

_AXES: dict[ScanOrder, tuple[int, int, int, int]] = {
    "frame_raster": (0, 3, 1, 2),
    "time_fast": (3, 1, 2, 0),
    "column": (0, 3, 2, 1),
    "depth": (0, 1, 2, 3),
}
"""Axes of `[frames, rows, columns, depths]`, slowest first."""


@dataclass(frozen=True, kw_only=True)
class BidirectionalMambaConfig:
    """`M = S + W ((f + b) g)`: selective scans of a sequence forwards and backwards, added."""

    expand: int = 2
    """Width inside, in widths of the tokens."""
    state: int = 16
    """Numbers that a channel of a head remembers (N)."""
    head: int = 32
    """Channels of a head; a head decays at one rate."""
    kernel: int = 4
    """Tokens under the depth-wise convolution before the scan: this one and those before it."""
    gate: bool = False
    """Multiply by `SiLU` of a third projection; not visible in OccScene's figure."""
    backward: bool = True
    """Scan the flipped sequence too; False is a forward scan alone."""
    rates: tuple[float, float] = (1.0, 16.0)
    """Range of the decays A at first, drawn evenly, negated."""
    steps: tuple[float, float] = (1e-3, 1e-1)
    """Range of the steps dt of a token of zeros at first, drawn evenly in their logarithm."""

    def __post_init__(self) -> None:
        for name in ("expand", "state", "head", "kernel"):
            if getattr(self, name) < 1:
                raise ConfigError(f"BidirectionalMamba: {name} must be at least 1, got {getattr(self, name)}")
        for name, (low, high) in (("rates", self.rates), ("steps", self.steps)):
            if not 0 < low <= high:
                raise ConfigError(f"BidirectionalMamba: {name} must be a range above 0, got {(low, high)}")

    def build(self, channels: int) -> "BidirectionalMamba":
        """Return the block for tokens of `channels`.

        Raises:
            ConfigError: if the heads do not share the inner channels out evenly.
        """
        return BidirectionalMamba(self, channels)


class BidirectionalMamba(nn.Module):
    """See `BidirectionalMambaConfig`.

    Source: Li et al. 2024 (OccScene), figure of Mamba-based Dual Alignment: projections, two branches of depth-wise
    convolution, activation and selective scan, one of them flipped, added, projected. The scan and its initialisation
    are Mamba-2's (Dao and Gu, ICML 2024); norm and residual are ours.
    """

    def __init__(self, config: BidirectionalMambaConfig, channels: int) -> None:
        super().__init__()
        inner = config.expand * channels
        if inner % config.head:
            raise ConfigError(
                f"BidirectionalMamba: heads of {config.head} do not share out {config.expand} x {channels} channels"
            )
        branches = 2 if config.backward else 1
        self.widths = [inner] * (branches + config.gate)
        self.norm = nn.LayerNorm(channels)
        self.project = nn.Linear(channels, sum(self.widths))
        self.branches = nn.ModuleList(SelectiveBranch(config, inner) for _ in range(branches))
        self.out = nn.Linear(inner, channels)

    def forward(self, tokens: Float[Tensor, "b n c"], *, backend: ScanBackend = "auto") -> Float[Tensor, "b n c"]:
        """Return the tokens with what the scans added to each.

        Args:
            tokens: in the order in which they are scanned.
            backend: see `occkit.ops.scan.ScanBackend`.
        """
        parts = self.project(self.norm(tokens)).split(self.widths, dim=-1)
        mixed = self.branches[0](parts[0], backend=backend)
        if len(self.branches) > 1:
            mixed = mixed + self.branches[1](parts[1].flip(1), backend=backend).flip(1)
        if len(parts) > len(self.branches):
            mixed = mixed * F.silu(parts[-1])
        return tokens + self.out(mixed)


class SelectiveBranch(nn.Module):
    """Depth-wise causal convolution, SiLU, selective scan; step, write and read are linear in what is scanned.

    `dt = softplus(W_dt u + b)`, `B = W_B u`, `C = W_C u`, `A = -exp(a)`, `y = scan(u) + D u`; A, D and b one a head.
    """

    def __init__(self, config: BidirectionalMambaConfig, channels: int) -> None:
        super().__init__()
        heads = channels // config.head
        self.sizes = [heads, config.state, config.state]
        self.conv = nn.Conv1d(channels, channels, config.kernel, groups=channels, padding=config.kernel - 1)
        self.select = nn.Linear(channels, sum(self.sizes), bias=False)
        self.log_rate = nn.Parameter(torch.empty(heads).uniform_(*config.rates).log())
        low, high = (math.log(step) for step in config.steps)
        step = torch.empty(heads).uniform_(low, high).exp()
        self.step_bias = nn.Parameter(step + torch.log(-torch.expm1(-step)))  # softplus of it is the step
        self.skip = nn.Parameter(torch.ones(heads))

    def forward(self, x: Float[Tensor, "b n d"], *, backend: ScanBackend = "auto") -> Float[Tensor, "b n d"]:
        """Return what each token hears of itself and those before it."""
        convolved = self.conv(x.transpose(1, 2))[..., : x.shape[1]].transpose(1, 2)
        u = F.silu(convolved)
        step, write, read = self.select(u).split(self.sizes, dim=-1)
        values = u.unflatten(-1, (self.sizes[0], -1))
        steps = F.softplus(step + self.step_bias)
        heard, _ = selective_scan(values, steps, -self.log_rate.exp(), write, read, backend=backend)
        return (heard + self.skip[:, None] * values).flatten(-2)


def scan_permutation(
    order: ScanOrder,
    frames: int,
    rows: int,
    columns: int,
    depths: int = 1,
    *,
    device: torch.device | str = "cpu",
) -> Int64[Tensor, "n"]:
    """Return which token is scanned first, second, and so on.

    Tokens are numbered in C order of `[frames, rows, columns, depths]`. From the slowest axis to the fastest:

    - `frame_raster`: frame, depth, row, column: image after image, line after line;
    - `time_fast`: depth, row, column, frame: a place in all images, then the next place;
    - `column`: frame, depth, column, row: a street's columns from ground to sky are one piece;
    - `depth`: frame, row, column, depth: along one viewing ray after the other;
    - `hilbert`: frame, depth, then a Hilbert curve through the image: neighbours on the curve are neighbours there. The
      curve fills the smallest square of a power of two that holds the image; it skips what lies outside, and may jump.

    Args:
        order: which one.
        frames: images, one after the other.
        rows: of tokens in an image.
        columns: of tokens in an image.
        depths: tokens along the ray of a place in an image.
        device: of the result.

    Returns:
        Numbers of tokens: `tokens[:, permutation]` is scanned, and `argsort` brings the result back.

    Raises:
        ValueError: for an unknown order.

    Example:
        >>> scan_permutation("column", 1, 2, 3).tolist()
        [0, 3, 1, 4, 2, 5]

    Source: original; OccScene's figure shows frames stacked one after the other (`frame_raster`).
    """
    if order not in SCAN_ORDERS:
        raise ValueError(f"order: expected one of {SCAN_ORDERS}, got {order!r}")
    numbers = torch.arange(frames * rows * columns * depths, device=device).reshape(frames, rows, columns, depths)
    if order == "hilbert":
        curve = _hilbert(rows, columns).to(device)
        return numbers.permute(0, 3, 1, 2).flatten(2)[..., curve].flatten()
    return numbers.permute(_AXES[order]).flatten()


def _hilbert(rows: int, columns: int) -> Int64[Tensor, "n"]:
    """Return the cells of an image, C order, along a Hilbert curve from the top left to the top right corner."""
    row, column = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    side = 1 << max(rows - 1, columns - 1, 0).bit_length()
    x, y, place = column, row, torch.zeros_like(row)
    half = side // 2
    while half:
        right, low = (x & half > 0).long(), (y & half > 0).long()
        place = place + half * half * ((3 * right) ^ low)
        turn, swap = (right == 1) & (low == 0), low == 0
        x, y = torch.where(turn, side - 1 - x, x), torch.where(turn, side - 1 - y, y)
        x, y = torch.where(swap, y, x), torch.where(swap, x, y)
        half //= 2
    return place.flatten().argsort()
