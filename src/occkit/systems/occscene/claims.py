"""What occscene claims: of perception, of the images, and of the way in which the occupancy comes into them."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from occkit.systems.occscene.recipes import Place, nano_align, nano_denoiser, nano_mutual, nano_perception
from occkit.systems.occscene.variants import (
    attention,
    augmented,
    concat,
    control,
    detached,
    flat,
    further,
    further_3,
    noised,
    offline,
    offline_pseudo,
    reader,
    seeing,
    self_trained,
    text,
    unaligned,
)
from occkit.training.claim import Claim, Difference, Line, World
from occkit.training.evaluate_generation import Judging
from occkit.training.recipe import Recipe

WORLDS = {
    "street": World(preset="front-nano", scenes=500),
    "room": World(format="nyuv2", preset="room-nano", scenes=1000),
}
"""Streets and rooms to learn from, four fifths of them; their variety counts, not how long each drive is."""
LABELLED = 100
"""Frames whose labels are shown, half of each step's; the others have text and LiDAR depth only."""
_JUDGING = Judging(
    reader="reader",
    arms=("mutual", "text", "align", "concat", "attention"),
    told=("mutual", "align", "concat", "attention"),
)


def _few(make: Callable[[Place], Recipe], place: Place, *, part: int = 1) -> Recipe:
    """Return a recipe with the labels of a few frames, and with one of so many parts of its steps."""
    recipe = make(place)
    steps = recipe.steps // part
    return replace(recipe, steps=steps, evaluate_every=steps, max_labelled_frames=LABELLED, labelled_share=0.5)


def claim() -> Claim:
    """Outdoors: whether learning with the generator teaches perception more than learning on, and draws better."""
    return _claim("street", "")


def rooms() -> Claim:
    """The same indoors."""
    return _claim("room", ".rooms")


def quick() -> Claim:
    """Outdoors, perception alone: mutual learning against learning on, and against noise. Nothing is drawn.

    All trainings have half of their steps, and those of the generator alone a quarter.
    """
    return _claim("street", ".quick", short=True)


def rooms_quick() -> Claim:
    """The same indoors."""
    return _claim("room", ".rooms_quick", short=True)


def effects() -> Claim:
    """Outdoors, what gate and gradients between the two are worth, and further ways for the occupancy to come in.

    Goes on in the folder of `claim`. That the dual alignment hears the latent, too, has no line: it is a finding.
    """
    whole = claim()
    arms = {name: whole.arms[name] for name in ("reader", "perception", "denoiser", "align", "mutual")}
    further_arms = {"flat": flat, "detached": detached, "control": control, "seeing": seeing}
    arms |= {name: partial(_few, make, "street") for name, make in further_arms.items()}
    drawn = tuple(name for name in arms if name not in ("reader", "perception", "denoiser"))
    miou = "occ3d.miou"
    return replace(
        whole,
        system="occscene.effects",
        sentence=(
            "Losses on estimates that weigh less the noisier these are, and gradients both ways, help perception; dual "
            "alignment draws better than a branch of a ControlNet's type."
        ),
        arms=arms,
        starts={"denoiser": ("perception",)}
        | dict.fromkeys(("align", "control", "seeing"), ("denoiser",))
        | dict.fromkeys(("mutual", "flat", "detached"), ("align",)),
        lines=(
            *(Difference(arm="mutual", baseline=other, metric=miou) for other in ("flat", "detached")),
            Difference(arm="control", baseline="align", metric="told.error"),
            Difference(arm="control", baseline="align", metric="drawn.kernel"),
            Difference(arm="align", baseline="control", metric="drawn.consistency"),
        ),
        judging=replace(_JUDGING, arms=drawn, told=("mutual", "align", "control", "seeing")),
    )


def _claim(place: Place, suffix: str, *, short: bool = False) -> Claim:
    part = 2 if short else 1
    arms: dict[str, Callable[[Place], Recipe]] = {
        "perception": partial(_few, nano_perception, part=part),
        "denoiser": partial(_few, nano_denoiser, part=part * part),
        "align": partial(_few, nano_align, part=part * part),
        "mutual": partial(_few, nano_mutual, part=part),
        "further": partial(_few, further, part=part),
        "noised": partial(_few, noised, part=part),
    }
    if not short:
        arms |= {
            "reader": reader,
            "further_3": partial(_few, further_3),
            "augmented": partial(_few, augmented),
            "offline": partial(_few, offline),
            "offline_pseudo": partial(_few, offline_pseudo),
            "self_trained": partial(_few, self_trained),
            "unaligned": partial(_few, unaligned),
            "text": partial(_few, text),
            "concat": partial(_few, concat),
            "attention": partial(_few, attention),
        }
    starts = dict.fromkeys(("mutual", "offline", "offline_pseudo"), ("align",))
    alone = ("further", "further_3", "augmented", "noised", "self_trained")
    starts |= dict.fromkeys(("denoiser", *alone), ("perception",))
    starts |= dict.fromkeys(("align", "unaligned", "concat", "attention"), ("denoiser",)) | {"text": ("unaligned",)}
    protocol = "occ3d" if place == "street" else "monoscene"
    return Claim(
        system=f"occscene{suffix}",
        sentence=(
            "With the labels of 100 frames, perception that learns together with a generator exceeds perception that "
            "learns on alone, with noise or with scenes drawn before; a generator that knows what perception reads "
            "draws better."
            if not short
            else "With the labels of 100 frames, perception that learns together with a generator exceeds perception "
            "that learns on alone, and with noise."
        ),
        arms={name: partial(make, place) for name, make in arms.items()},
        starts={arm: before for arm, before in starts.items() if arm in arms},
        lines=_lines(protocol, short=short),
        protocols=(protocol,),
        world=WORLDS[place],
        judging=None if short else _JUDGING,
        val_frames=100,
        seeds=3,
    )


def _lines(protocol: str, *, short: bool) -> tuple[Line, ...]:
    """Return what must hold; distances are lower where images are better, so there the baseline's must exceed."""
    miou = f"{protocol}.miou"
    lines: tuple[Line, ...] = tuple(
        Difference(arm="mutual", baseline=control, metric=miou) for control in ("further", "noised")
    )
    if short:
        return lines
    return (
        *lines,
        *(
            Difference(arm="mutual", baseline=control, metric=miou)
            for control in ("further_3", "augmented", "offline", "offline_pseudo", "self_trained")
        ),
        Difference(arm="text", baseline="mutual", metric="drawn.kernel"),
        Difference(arm="mutual", baseline="text", metric="drawn.consistency"),
        Difference(arm="mutual", baseline="text", metric="drawn.words"),
        *(
            Difference(arm=first, baseline=second, metric=metric)
            for rival in ("concat", "attention")
            for first, second, metric in (
                (rival, "align", "told.error"),
                (rival, "align", "drawn.kernel"),
                ("align", rival, "drawn.consistency"),
            )
        ),
    )
