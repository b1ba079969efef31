"""Render a volume: how depth comes out of a density, and how a wall is found by looking at its depth only.

What you learn: the weights of volume rendering, the depth and the distribution of where a ray ends, and that all of it
is differentiable. This is the idea behind every method that learns 3D occupancy without 3D labels: render the volume
along the rays of a camera, compare with what was measured there, and follow the gradient.

    python examples/04_render_a_volume.py --out rendering

What comes out, in the folder of --out (by default a new temporary one):

    rendering.png  left: the density, the weights and the end of one ray; right: a wall on its way to where it belongs

There is no data set in this example, just a wall.
"""

import argparse
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from occkit.geometry import Rays, camera_rays
from occkit.geometry.rays import pixel_grid
from occkit.ops.rendering import render_depth, render_weights_from_density, termination_distribution
from occkit.viewer import look_at

NEAR, FAR, SAMPLES, STEPS = 1.0, 41.0, 160, 120
"""Where along a ray we look (metres), how often, and the steps of gradient descent."""


@dataclass
class Wall:
    """A wall across the road that starts at `x = distance + slope * y` and is endlessly thick behind."""

    distance: Tensor
    """Metres along x, straight ahead."""
    slope: Tensor
    """Metres of x for each metre of y."""
    softness: float = 1.0
    """Metres over which the density rises: a hard wall would have no gradient anywhere else."""

    def density(self, points: Tensor) -> Tensor:
        """Return the volume density at points `[..., 3]`, per metre: 0 in front of the wall, 3 inside."""
        behind = points[..., 0] - (self.distance + self.slope * points[..., 1])
        return 3.0 * torch.sigmoid(behind / self.softness)


def main() -> None:
    """Look at one ray, then find a wall."""
    parser = argparse.ArgumentParser(description="Volume rendering, and a wall found by its rendered depth.")
    parser.add_argument("--out", type=Path, help="folder to write; default: a new temporary one")
    out: Path = parser.parse_args().out or Path(tempfile.mkdtemp(prefix="occkit_"))
    out.mkdir(parents=True, exist_ok=True)

    # The rays of a small camera 1.5 m above the road; its rays have a forward component of 1, so depth means z-depth.
    camera = look_at((0.0, 0.0, 1.5), (10.0, 0.0, 1.5), height=8, width=24, field_of_view=70.0)
    rays = camera_rays(camera, pixel_grid(camera.height, camera.width).double())
    truth = Wall(distance=torch.tensor(24.0), slope=torch.tensor(0.4))
    with torch.no_grad():
        measured = render(truth, rays)
    print(f"{len(measured)} rays measure depths of {float(measured.min()):.2f} to {float(measured.max()):.2f} m")

    figure = Figure(figsize=(12, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    draw_one_ray(left, truth, rays)
    history = find_wall(rays, measured)
    draw_walls(right, history, truth)
    figure.savefig(out / "rendering.png", dpi=110)
    print(f"picture: {out / 'rendering.png'}")


def samples() -> tuple[Tensor, Tensor]:
    """Return the middle of each interval along a ray, and its length; units of the ray parameter."""
    edges = torch.linspace(NEAR, FAR, SAMPLES + 1, dtype=torch.float64)
    return (edges[1:] + edges[:-1]) / 2, edges[1:] - edges[:-1]


def render(wall: Wall, rays: Rays) -> Tensor:
    """Return the depth of each ray, `[r]`."""
    t, deltas = samples()
    points = rays.at(t.expand(len(rays.origins), -1))  # [r, s, 3], metres
    # A weight is the probability that the ray gets as far as this sample and ends in it.
    weights = render_weights_from_density(wall.density(points), deltas)
    # `normalize` divides by the sum of the weights: a ray that might miss everything does not seem to be near.
    return render_depth(weights, t, normalize=True)


def find_wall(rays: Rays, measured: Tensor) -> list[tuple[float, float]]:
    """Move a wall from a bad guess until its rendered depth is the measured one; return each (distance, slope)."""
    guess = Wall(distance=torch.tensor(9.0, requires_grad=True), slope=torch.tensor(-0.3, requires_grad=True))
    optimizer = torch.optim.Adam([{"params": [guess.distance], "lr": 0.8}, {"params": [guess.slope], "lr": 0.03}])
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS + 1)
    history: list[tuple[float, float]] = []
    for step in range(STEPS + 1):
        depth = render(guess, rays)
        loss = (depth - measured).square().mean()
        history.append((guess.distance.item(), guess.slope.item()))
        if step % 30 == 0:
            print(
                f"  step {step:>3}: loss {loss.item():8.4f}, distance {guess.distance:5.2f}, slope {guess.slope:+.3f}"
            )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    print(f"found a wall at {history[-1][0]:.2f} m with slope {history[-1][1]:+.3f}")
    return history


def draw_one_ray(axes: Axes, wall: Wall, rays: Rays) -> None:
    """Plot density, weights and the probability of hitting nothing, for a ray through fog and a thin wall."""
    t, deltas = samples()
    middle = len(rays.origins) // 2
    points = rays.at(t.expand(len(rays.origins), -1))[middle]
    # Fog before the wall takes a part of the ray, and a wall of 4 m that is no denser than this lets a part through.
    inside = (points[:, 0] > wall.distance) & (points[:, 0] < wall.distance + 4)
    density = torch.where(inside, 0.35, 0.012)
    weights = render_weights_from_density(density, deltas)
    # The last entry is the probability that the ray ends nowhere; only with it is this a distribution.
    ends = termination_distribution(weights)
    width = float(deltas[0])
    axes.fill_between(t, density, step="mid", color="#d5d9de", label="density (per metre)")
    axes.plot(t, weights / width, color="#1f77d0", label="weight (per metre)")
    axes.bar(FAR + 1.5, float(ends[-1]), width=1.5, color="#d04040", label=f"ends nowhere: {float(ends[-1]):.0%}")
    for normalize, style in ((False, ":"), (True, "--")):
        depth = float(render_depth(weights, t, normalize=normalize))
        axes.axvline(depth, color="black", linestyle=style, label=f"depth, normalize={normalize}: {depth:.1f} m")
    axes.set(title="one ray: fog, and a thin wall", xlabel="z-depth (m)")
    axes.legend(loc="upper left", fontsize=8)


def draw_walls(axes: Axes, history: list[tuple[float, float]], truth: Wall) -> None:
    """Plot the wall from above while it moves, and where it should go."""
    y = torch.linspace(-12, 12, 2)
    for i, step in enumerate((0, 5, 10, 20, 40, STEPS)):
        distance, slope = history[step]
        axes.plot(-y, distance + slope * y, color=colormaps["viridis"](i / 5), label=f"step {step}")
    axes.plot(-y, truth.distance + truth.slope * y, color="#d04040", linestyle="--", label="the wall")
    axes.plot(0, 0, marker="^", color="black", markersize=10)
    axes.set(title="from above: camera and wall", xlabel="to the right (m)", ylabel="ahead (m)", ylim=(-2, 34))
    axes.legend(loc="lower right", fontsize=8)


if __name__ == "__main__":
    main()
