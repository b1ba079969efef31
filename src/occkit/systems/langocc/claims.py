"""What LangOcc claims, and what changes it."""

from collections.abc import Callable

from occkit.systems.langocc.recipes import (
    FEATURES,
    nano,
    nano_horizon_0,
    nano_horizon_1,
    nano_horizon_4,
    nano_pop3d,
    nano_rgb,
    nano_rgb_harmonic,
    nano_untrained,
)
from occkit.systems.langocc.variants import (
    nano_arccos,
    nano_flow,
    nano_guided,
    nano_lidar_pixels,
    nano_movers,
    nano_mse,
    nano_reduced,
    nano_reduced_4,
    nano_reduced_8,
    nano_reduced_16,
    nano_reduced_32,
    nano_sigma_3,
    nano_sigma_10,
    nano_sigma_half,
    nano_sky_drop,
    nano_sky_keep,
)
from occkit.training.claim import PRIOR, Claim, Difference, Line, Ratio, World
from occkit.training.recipe import Recipe

CLAIM_WORLD = World(
    scenes=40,
    options=("--frames", "16", "--radius", "19.2"),
    commands=tuple(
        ("features", "--data", "{root}", "--split", split, "--out", f"{{root}}/{FEATURES}")
        for split in ("train", "val")
    ),
)
"""32 streets to learn from, 16 keyframes of each, and what an image model sees in them; 8 others to be scored on. The
near half of each: what small images show without depth. What the image model sees in the others is its own row of
retrieval, and nothing that a network is shown."""

_RETRIEVAL = (
    Difference(arm="full", baseline="pop3d", metric="retrieval.langocc.map"),
    Difference(arm="full", baseline="pop3d", metric="retrieval.langocc.map_visible"),
    Ratio(arm="full", baseline=PRIOR, metric="retrieval.langocc.map", threshold=3.0),
    Ratio(arm="pop3d", baseline=PRIOR, metric="retrieval.langocc.map", threshold=3.0),
    Difference(arm="full", baseline="horizon_0", metric="retrieval.langocc.map"),
)
"""LiDAR points found by words that no prompt has; what the prior scores is the share of points that are meant."""
_RETRIEVAL_EFFECTS = (
    Difference(arm="full", baseline="reduced_8", metric="retrieval.langocc.map"),
    Difference(arm="full", baseline="reduced_24", metric="retrieval.langocc.map"),
)
"""Fewer channels are for the prompts: other words lose."""


def claim() -> Claim:
    """Language against colours, against one LiDAR sweep and against no training; rays of other times.

    Each arm has the threshold on its density that is best on frames of its training. `rgb`, whose voxels may have any
    colour, has no line: whether it closes the gap is a finding.

    Some 10,000 processor seconds on two cores: of each seed 150 for its world, 500 for each of five trainings of 1000
    steps, 40 to choose a threshold, 40 to score an arm on 64 frames and 20 more to ask it for words.
    """
    return Claim(
        system="langocc",
        sentence=(
            "Rendering what images share with words teaches classes without a label, geometry that rendering colours "
            "does not, and to find things by name better than a LiDAR sweep does; it takes rays of other keyframes."
        ),
        arms={
            "full": nano,
            "untrained": nano_untrained,
            "rgb": nano_rgb,
            "rgb_harmonic": nano_rgb_harmonic,
            "pop3d": nano_pop3d,
            "horizon_0": nano_horizon_0,
        },
        lines=(
            Difference(arm="full", baseline=PRIOR, metric="occ3d.miou"),
            Difference(arm="full", baseline="untrained", metric="occ3d.iou", threshold=0.15),
            Difference(arm="full", baseline="rgb_harmonic", metric="occ3d.iou"),
            Difference(arm="full", baseline="horizon_0", metric="occ3d.iou"),
            Difference(arm="full", baseline="horizon_0", metric="occ3d.miou"),
            *_RETRIEVAL,
        ),
        protocols=("occ3d", "rayiou"),
        world=CLAIM_WORLD,
        depth=True,
        retrieval=True,
        threshold_frames=16,
        val_frames=64,
        seeds=3,
    )


def effects() -> Claim:
    """How far in time, and how many channels.

    Four trainings a seed beside two of the claim: some 7,000 processor seconds. What channels cost in memory is
    measured by `occkit bench langocc`: here a process hides it.
    """
    return _changed(
        suffix="effects",
        sentence="As many channels as there are prompts are enough for them; farther keyframes do harm.",
        arms={
            "horizon_0": nano_horizon_0,
            "horizon_1": nano_horizon_1,
            "horizon_4": nano_horizon_4,
            "reduced_8": nano_reduced_8,
            "reduced_24": nano_reduced,
        },
        lines=(
            Difference(arm="horizon_1", baseline="horizon_0", metric="occ3d.iou"),
            Difference(arm="full", baseline="horizon_4", metric="occ3d.iou"),
            Difference(arm="reduced_24", baseline="full", metric="occ3d.miou", threshold=-0.005),
            Difference(arm="reduced_24", baseline="reduced_8", metric="occ3d.miou"),
            *_RETRIEVAL_EFFECTS,
        ),
    )


def losses() -> Claim:
    """Which loss, which pixels, how dense.

    Four trainings a seed beside one of the claim: some 6,500 processor seconds. The pixels that LiDAR chose, beside
    `sky_drop`, which has the same rules, and the cap of the density have no line: what they change is a finding,
    whichever way it goes. One minus the cosine is half the squared distance of unit vectors: with its weight doubled
    it is the same training to the last digit, and no arm of its own.
    """
    return _changed(
        suffix="losses",
        sentence="The guided loss is no worse than the squared distance; the sky teaches what is empty.",
        arms={
            "mse": nano_mse,
            "lidar_pixels": nano_lidar_pixels,
            "sky_drop": nano_sky_drop,
            "sigma_3": nano_sigma_3,
        },
        lines=(
            Difference(arm="full", baseline="mse", metric="occ3d.miou", threshold=-0.005),
            Difference(arm="full", baseline="sky_drop", metric="occ3d.iou"),
        ),
    )


def choices() -> Claim:
    """Our own choices, and more doses: channels, the paper's subspace, movers, density, the sky, images taught too."""
    return _changed(
        suffix="choices",
        sentence=(
            "The closed form of the subspace is better than the paper's; more channels than prompts are as good; "
            "the sky is not a thing; rays of other times do harm on cars; images that are taught their own pixels help."
        ),
        arms={
            "reduced_4": nano_reduced_4,
            "reduced_16": nano_reduced_16,
            "reduced_24": nano_reduced,
            "reduced_32": nano_reduced_32,
            "arccos_24": nano_arccos,
            "sky_keep": nano_sky_keep,
            "sigma_half": nano_sigma_half,
            "sigma_10": nano_sigma_10,
            "no_movers": nano_movers,
            "flow": nano_flow,
            "guided": nano_guided,
        },
        lines=(
            Difference(arm="reduced_32", baseline="full", metric="occ3d.miou", threshold=-0.005),
            Difference(arm="reduced_24", baseline="arccos_24", metric="occ3d.miou"),
            Difference(arm="full", baseline="sky_keep", metric="occ3d.iou"),
            *(Difference(arm=arm, baseline="full", metric="occ3d.per_class.car") for arm in ("no_movers", "flow")),
            Difference(arm="guided", baseline="full", metric="occ3d.miou"),
        ),
    )


def _changed(*, suffix: str, sentence: str, arms: dict[str, Callable[[], Recipe]], lines: tuple[Line, ...]) -> Claim:
    """Return a claim about `langocc.nano` with one thing changed; goes on in the folder of `claim`."""
    return Claim(
        system=f"langocc.{suffix}",
        sentence=sentence,
        arms={"full": nano, **arms},
        lines=lines,
        protocols=("occ3d", "rayiou"),
        world=CLAIM_WORLD,
        depth=True,
        retrieval=True,
        threshold_frames=16,
        val_frames=64,
        seeds=3,
    )
