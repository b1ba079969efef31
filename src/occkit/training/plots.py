"""Plots with one look: type, colours, and the bytes of a file. Without pyplot: no display, and no state left behind."""

import io
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, FAINT, RULE = "#26292e", "#7a8088", "#e3e6ea"
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c564b", "#4d4d4d")
"""Distinct also to the colour-blind (Okabe and Ito, 2008, with two more)."""
GOOD, BAD = "#00795a", "#c4460a"
"""Of what holds and what does not; the two also differ in shape wherever they are used."""
DOTS_PER_INCH = 300
_STYLE: Any = {
    "font.family": "sans-serif",
    "font.size": 8,
    "axes.titlesize": 8.5,
    "axes.labelsize": 8,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "legend.fontsize": 8,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": FAINT,
    "axes.linewidth": 0.7,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "svg.fonttype": "none",
    "svg.hashsalt": "occkit",
    "pdf.fonttype": 42,
}
_METADATA: dict[str, dict[str, None]] = {
    "png": {"Software": None},
    "svg": {"Date": None},
    "pdf": {"CreationDate": None},
}
"""Nothing that changes from one call to the next."""


@contextmanager
def plot_style() -> Generator[None]:
    """Draw with this look within the block."""
    from matplotlib import rc_context

    with rc_context(_STYLE):
        yield


def new_figure(width: float, height: float) -> "Figure":
    """Return an empty figure, in inches, whose parts arrange themselves."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def open_frame(axes: "Axes", *, grid: Literal["x", "y", "both"]) -> None:
    """Leave of the frame only what carries numbers, and draw faint lines across the axes named by `grid`."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis=grid, color=RULE, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(length=2.5)


def encode_figure(figure: "Figure", ending: str) -> bytes:
    """Return a figure as the bytes of a `.png`, `.svg` or `.pdf`."""
    kind = ending.lower().removeprefix(".")
    buffer = io.BytesIO()
    with plot_style():
        figure.savefig(buffer, format=kind, dpi=DOTS_PER_INCH, metadata=_METADATA[kind])
    return buffer.getvalue()
