"""What occscene claims of perception; what it claims of the images is measured by `metrics.generation`."""

from collections.abc import Callable
from dataclasses import replace

from occkit.systems.occscene.recipes import nano_street, nano_street_align, nano_street_apart
from occkit.systems.occscene.variants import (
    nano_street_detached,
    nano_street_flat,
    nano_street_further,
    nano_street_noised,
    nano_street_text,
)
from occkit.training.claim import Claim, Difference, World
from occkit.training.recipe import Recipe

CLAIM_WORLD = World(scenes=500, options=("--frames", "2"))
"""400 streets to learn from, 100 others; their variety counts, not how long each drive is."""
LABELLED = 100
"""Frames whose labels are shown; the others have text only."""


def few(recipe: Callable[[], Recipe]) -> Callable[[], Recipe]:
    """Return a recipe that is shown the labels of `LABELLED` frames only."""
    return lambda: replace(recipe(), max_labelled_frames=LABELLED)


def claim() -> Claim:
    """Whether learning with the generator teaches perception more than learning on, and more than noise alone does."""
    first = ("apart",)
    return Claim(
        system="occscene",
        sentence=(
            "With the labels of 100 frames, perception that learns together with a generator exceeds perception that "
            "learns on alone for as many steps, and the same with noise added to the photographs."
        ),
        arms={
            "apart": few(nano_street_apart),
            "align": few(nano_street_align),
            "mutual": few(nano_street),
            "further": few(nano_street_further),
            "noised": few(nano_street_noised),
            "flat": few(nano_street_flat),
            "detached": few(nano_street_detached),
            "text": few(nano_street_text),
        },
        starts={
            "align": first,
            "further": first,
            "noised": first,
            "mutual": ("align",),
            "flat": ("align",),
            "detached": ("align",),
            "text": first,
        },
        lines=(
            Difference(arm="mutual", baseline="further", metric="occ3d.miou"),
            Difference(arm="mutual", baseline="noised", metric="occ3d.miou"),
            Difference(arm="mutual", baseline="detached", metric="occ3d.miou"),
            Difference(arm="mutual", baseline="flat", metric="occ3d.miou"),
            Difference(arm="mutual", baseline="text", metric="occ3d.miou"),
        ),
        protocols=("occ3d",),
        world=CLAIM_WORLD,
        val_frames=100,
        seeds=3,
    )
