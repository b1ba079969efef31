"""Dose response: what a level gives must shrink as its information is made worse, and so must what masks teach.

Depth and masks are made worse by the strength of their stand-ins (`occkit look --strength`), colours by the world's
`--colour-overlap`.
"""

from dataclasses import replace
from typing import Literal

from occkit.systems.cigocc.claims import CLAIM_WORLD, MIOU, look_command
from occkit.systems.cigocc.recipes import LOOK, nano_images
from occkit.systems.cigocc.variants import looking_in, nano_d, nano_gd, nano_gd_sam, nano_gs, nano_gsd, nano_sd
from occkit.training.claim import Claim, Difference
from occkit.training.recipe import Recipe

Strength = Literal["perfect", "poor"]


def _dosed(make: Recipe, name: str, strength: Strength, *, depth: bool = False, masks: bool = False) -> Recipe:
    """Return a recipe that reads depth, or classes and features, of stand-ins of another strength."""
    return replace(looking_in(make, f"{LOOK}_{strength}", depth=depth, masks=masks), name=f"cigocc.{name}")


def nano_gsd_clear_masks() -> Recipe:
    """`nano_gsd` with classes and features without faults."""
    return _dosed(nano_gsd(), "nano_gsd_clear_masks", "perfect", masks=True)


def nano_gsd_poor_masks() -> Recipe:
    """`nano_gsd` with classes that are often wrong, and features of which half says nothing."""
    return _dosed(nano_gsd(), "nano_gsd_poor_masks", "poor", masks=True)


def nano_sd_poor_masks() -> Recipe:
    """`nano_sd` with the same."""
    return _dosed(nano_sd(), "nano_sd_poor_masks", "poor", masks=True)


def nano_gsd_clear_depth() -> Recipe:
    """`nano_gsd` with true depth."""
    return _dosed(nano_gsd(), "nano_gsd_clear_depth", "perfect", depth=True)


def nano_gsd_poor_depth() -> Recipe:
    """`nano_gsd` with a depth that is off by three pixels of disparity, and anywhere in a fifth of the image."""
    return _dosed(nano_gsd(), "nano_gsd_poor_depth", "poor", depth=True)


def nano_gd_sam_clear() -> Recipe:
    """`nano_gd_sam` taught by masks without faults."""
    return _dosed(nano_gd_sam(), "nano_gd_sam_clear", "perfect", masks=True)


def nano_gd_sam_poor() -> Recipe:
    """`nano_gd_sam` taught by masks that are often wrong."""
    return _dosed(nano_gd_sam(), "nano_gd_sam_poor", "poor", masks=True)


def doses() -> Claim:
    """Faults of depth and masks, at three strengths each: without, as in `claim`, and bad.

    With the same `--out` as `claim`'s, worlds and the arms both have are made once.
    """
    worse = ("perfect", "poor")
    return Claim(
        system="cigocc.doses",
        sentence="What depth, segmentation and masks as teachers give shrinks as they get worse.",
        arms={
            "gs": nano_gs,
            "gd": nano_gd,
            "gsd_clear_masks": nano_gsd_clear_masks,
            "gsd_clear_depth": nano_gsd_clear_depth,
            "gsd": nano_gsd,
            "gsd_poor_masks": nano_gsd_poor_masks,
            "gsd_poor_depth": nano_gsd_poor_depth,
            "gd_sam_clear": nano_gd_sam_clear,
            "gd_sam": nano_gd_sam,
            "gd_sam_poor": nano_gd_sam_poor,
        },
        lines=(
            # `gsd` less `gd` is what segmentation gives; as `gd` is the same for all, so is the order of the `gsd`.
            Difference(arm="gsd_clear_masks", baseline="gsd", metric=MIOU),
            Difference(arm="gsd", baseline="gsd_poor_masks", metric=MIOU),
            Difference(arm="gsd_clear_depth", baseline="gsd", metric=MIOU),
            Difference(arm="gsd", baseline="gsd_poor_depth", metric=MIOU),
            Difference(arm="gd_sam_clear", baseline="gd_sam", metric=MIOU),
            Difference(arm="gd_sam", baseline="gd_sam_poor", metric=MIOU),
        ),
        protocols=("semantickitti",),
        world=CLAIM_WORLD,
        commands=tuple(look_command(f"{LOOK}_{strength}", "--strength", strength) for strength in worse),
        visibility=True,
        val_frames=60,
        seeds=3,
    )


def learned_images() -> Claim:
    """What appearance gives once its image network has learnt by itself to tell classes apart.

    The arm `images` is that training, and has no answer of its own for voxels; those that start from it see what it saw
    (the same frames and labels, and the LiDAR behind them) for its steps longer. `poor` arms read a segmenter that is
    often wrong. With the same `--out` as `claim`'s, worlds and the arms both have are made once.
    """
    alone = {"d": nano_d, "gd": nano_gd, "sd": nano_sd, "gsd": nano_gsd, "sd_poor": nano_sd_poor_masks}
    taught = {"gd_images": nano_gd, "gsd_images": nano_gsd, "gsd_poor_images": nano_gsd_poor_masks}
    return Claim(
        system="cigocc.learned_images",
        sentence=(
            "An image network that has learnt classes before lets appearance add to depth, and to segmentation and "
            "depth."
        ),
        arms={"images": nano_images} | alone | taught,
        lines=(
            Difference(arm="gd_images", baseline="gd", metric=MIOU),
            Difference(arm="gd_images", baseline="d", metric=MIOU),
            Difference(arm="gsd_images", baseline="gsd", metric=MIOU),
            Difference(arm="gsd_images", baseline="sd", metric=MIOU),
            Difference(arm="gsd_poor_images", baseline="sd_poor", metric=MIOU),
        ),
        starts=dict.fromkeys(taught, ("images",)),
        protocols=("semantickitti",),
        world=CLAIM_WORLD,
        commands=(look_command(f"{LOOK}_poor", "--strength", "poor"),),
        visibility=True,
        val_frames=60,
        seeds=3,
    )


def typical_colours() -> Claim:
    """What appearance gives where every class has its colours; `claim` has it where colours say little."""
    gain = Difference(arm="gsd", baseline="sd", metric=MIOU)
    return _colours("typical_colours", 0.0, "Colours of their own let images add to segmentation and depth.", gain)


def random_colours() -> Claim:
    """What appearance gives where any object has any colour; less, by the arm `sd`, than in the other two worlds?"""
    gain = Difference(arm="gsd", baseline="gd", metric=MIOU)
    return _colours("random_colours", 1.0, "Where colours say nothing, segmentation adds to images and depth.", gain)


def _colours(name: str, overlap: float, sentence: str, line: Difference) -> Claim:
    options = list(CLAIM_WORLD.options)
    options[options.index("--colour-overlap") + 1] = f"{overlap:g}"
    return Claim(
        system=f"cigocc.{name}",
        sentence=sentence,
        arms={"sd": nano_sd, "gsd": nano_gsd, "gd": nano_gd},
        lines=(line,),
        protocols=("semantickitti",),
        world=replace(CLAIM_WORLD, options=tuple(options)),
        val_frames=60,
        seeds=3,
    )
