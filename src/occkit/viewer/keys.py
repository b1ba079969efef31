"""What the colours of a volume mean, as HTML: classes with their counts, or the scale of an answer to words."""

import html
from dataclasses import dataclass

import torch

from occkit.samples import Occupancy
from occkit.taxonomy import Taxonomy
from occkit.viewer.heat import HEAT, STEPS


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a frame answers to a query."""

    volume: Occupancy
    """Levels of the taxonomy `heat.HEAT`."""
    low: float
    """The lowest margin; below 0 is not found."""
    high: float
    """The highest margin."""
    remark: str
    """What was found, in a line."""


def class_name(taxonomy: Taxonomy, i: int) -> str:
    """Return the name of an id as it is shown; one without a class is named by its number."""
    return taxonomy.classes[i].replace("_", " ") if i < taxonomy.num_classes else f"id {i}"


def present_ids(volume: Occupancy) -> list[int]:
    """Return the ids that occur in a volume, but for free and unlabelled, ascending."""
    skipped = (volume.taxonomy.free_id, volume.taxonomy.ignore_id)
    return [int(i) for i in torch.unique(volume.semantics) if int(i) not in skipped]


def legend_html(volume: Occupancy) -> str:
    """Return the classes of a volume with their colours and the number of their voxels, as HTML."""
    palette = volume.taxonomy.palette()
    counts = torch.bincount(volume.semantics.flatten().long(), minlength=256)
    rows = "".join(
        f'<div><i style="display:inline-block;width:.8em;height:.8em;border-radius:2px;margin-right:.5em;'
        f'background:rgb({",".join(str(int(c)) for c in palette[i])})"></i>'
        f"{html.escape(class_name(volume.taxonomy, i))}"
        f'<span style="float:right;opacity:.6">{int(counts[i]):,}</span></div>'
        for i in present_ids(volume)
    )
    return f'<div style="font-size:.8em;padding:.3em .8em">{rows}</div>'


def scale_html(answer: Answer) -> str:
    """Return the scale of an answer's colours, as HTML: from the margin of the worst voxel to that of the best."""
    colours = [f"rgb{colour}" for colour in HEAT.colours]
    missed, found = ", ".join(colours[:STEPS]), ", ".join(colours[STEPS : 2 * STEPS])
    bar = '<i style="height:.7em;flex:1;background:linear-gradient(to right,'
    return (
        f'<div style="font-size:.8em;padding:.3em .8em">{html.escape(answer.remark)}'
        f'<div style="display:flex;gap:2px">{bar}{missed})"></i>{bar}{found})"></i></div>'
        f'<div style="display:flex;justify-content:space-between"><span>{min(answer.low, 0):.3f}</span>'
        f"<span>0: found</span><span>{max(answer.high, 0):.3f}</span></div></div>"
    )
