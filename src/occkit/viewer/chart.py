"""Line charts as inline SVG that takes its colours from the page around it, light or dark."""

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Series:
    """One line of a chart."""

    name: str
    """What it is, for the key."""
    x: Sequence[float]
    """Ascending."""
    y: Sequence[float]
    """As many as x; values that are not finite are left out."""
    marks: bool = False
    """Draw a dot at each point: for few points."""


_WIDTH, _HEIGHT = 640, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 14, 14, 40


def nice_ticks(low: float, high: float, *, most: int = 6) -> list[float]:
    """Return round numbers (1, 2 or 5 times a power of ten apart) that lie within the range."""
    if high <= low:
        return [low]
    raw = (high - low) / most
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(s * power for s in (1, 2, 5, 10) if s * power >= raw * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 12) for i in range(first, math.floor(high / step + 1e-9) + 1)]


def _points(series: Series) -> list[tuple[float, float]]:
    return [(x, y) for x, y in zip(series.x, series.y, strict=True) if math.isfinite(x) and math.isfinite(y)]


def line_chart(lines: Sequence[Series], *, x_label: str, y_label: str, from_zero: bool = True) -> str:
    """Return an `<svg>` element.

    Args:
        lines: at least one with at least one finite point; drawn in the page's colours `--line-0`, `--line-1`, ...
        x_label: what x is, with its unit.
        y_label: what y is, with its unit.
        from_zero: let the y axis begin at 0.

    Raises:
        ValueError: if there is nothing to draw.
    """
    points = [_points(line) for line in lines]
    everything = [p for line in points for p in line]
    if not everything:
        raise ValueError("line_chart: no series has a finite point")
    x_low, x_high = min(p[0] for p in everything), max(p[0] for p in everything)
    y_low, y_high = min(p[1] for p in everything), max(p[1] for p in everything)
    if from_zero:
        y_low = min(y_low, 0.0)
    x_high, y_high = max(x_high, x_low + 1e-9), y_high + 0.05 * max(y_high - y_low, 1e-9)

    def at(x: float, y: float) -> tuple[float, float]:
        across = _LEFT + (x - x_low) / (x_high - x_low) * (_WIDTH - _LEFT - _RIGHT)
        down = _HEIGHT - _BOTTOM - (y - y_low) / (y_high - y_low) * (_HEIGHT - _TOP - _BOTTOM)
        return round(across, 1), round(down, 1)

    parts = [f'<svg class="chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{html.escape(y_label)}">']
    for tick in nice_ticks(y_low, y_high):
        _, v = at(x_low, tick)
        parts.append(f'<line class="rule" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{v}" y2="{v}"/>')
        parts.append(f'<text x="{_LEFT - 7}" y="{v + 4}" text-anchor="end">{tick:g}</text>')
    for tick in nice_ticks(x_low, x_high, most=7):
        u, _ = at(tick, y_low)
        parts.append(f'<text x="{u}" y="{_HEIGHT - _BOTTOM + 16}" text-anchor="middle">{tick:g}</text>')
    parts.append(f'<text x="{_WIDTH - _RIGHT}" y="{_HEIGHT - 6}" text-anchor="end">{html.escape(x_label)}</text>')
    parts.append(f'<text x="{_LEFT}" y="{_HEIGHT - 6}">{html.escape(y_label)}</text>')
    for i, (line, found) in enumerate(zip(lines, points, strict=True)):
        places = [at(*p) for p in found]
        path = " ".join(f"{u},{v}" for u, v in places)
        parts.append(f'<polyline class="line line-{i}" points="{path}"/>')
        if line.marks:
            parts += [f'<circle class="mark line-{i}" cx="{u}" cy="{v}" r="3.5"/>' for u, v in places]
    parts.append("</svg>")
    if len(lines) > 1:
        keys = "".join(f'<span class="key key-{i}">{html.escape(line.name)}</span>' for i, line in enumerate(lines))
        parts.append(f'<div class="keys">{keys}</div>')
    return "".join(parts)
