"""The small trainings with one thing changed: what perception learns alone, and what each part of the loop is worth."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Literal

from occkit.nn.alignment import (
    AlignmentConfig,
    ConcatAlignmentConfig,
    ControlAlignmentConfig,
    CrossAttentionAlignmentConfig,
    DualAlignmentConfig,
    TokensConfig,
)
from occkit.systems.lift import MIRROR
from occkit.systems.occscene.recipes import Place, nano_align, nano_mutual, nano_of, nano_perception, nano_system
from occkit.systems.occscene.stages import AlignConfig, ApartConfig, MutualConfig, OfflineConfig, StageConfig
from occkit.training.recipe import Recipe, RecipeFunction


def _instead(place: Place, name: str, stage: StageConfig, *, times: int = 1) -> Recipe:
    mutual = nano_mutual(place)
    return nano_of(place, name, nano_system(place, stage), steps=times * mutual.steps, lr=mutual.optim.lr)


def reader(place: Place) -> Recipe:
    """Who judges drawings: perception alone, on photographs with all labels, wider than that of any arm."""
    system = nano_system(place, ApartConfig(generation=False), channels=24)
    recipe = nano_perception(place)
    return nano_of(place, "reader", system, steps=recipe.steps, lr=1e-3, batch_size=recipe.batch_size)


def further(place: Place, *, times: int = 1) -> Recipe:
    """Control: perception learns on from photographs alone, for so many times the steps of the mutual stage."""
    name = "further" if times == 1 else f"further_{times}"
    return _instead(place, name, ApartConfig(generation=False), times=times)


def noised(place: Place) -> Recipe:
    """Control: `augmented`, and as many photographs as `nano` estimates with noise at the same levels and weights."""
    share = MutualConfig().sources.estimate
    recipe = _instead(place, "noised", ApartConfig(generation=False, noised=share))
    return replace(recipe, data=replace(recipe.data, augment=JITTER))


def augmented(place: Place) -> Recipe:
    """Control: perception learns on from photographs alone whose colours are changed by chance. No generator."""
    recipe = _instead(place, "augmented", ApartConfig(generation=False))
    return replace(recipe, data=replace(recipe.data, augment=JITTER))


def offline(place: Place, *, labels: Literal["true", "pseudo"] = "true") -> Recipe:
    """Control: perception learns from photographs and from a set of scenes that the generator of stage 1 drew.

    Of 800 photographs with the labels of 100 both sets have 800 scenes.
    """
    return _instead(place, f"offline_{labels}", OfflineConfig(labels=labels, versions=8 if labels == "true" else 1))


def self_trained(place: Place) -> Recipe:
    """Control: perception learns from the photographs without labels, too, labelled by itself as it was. No generator.

    The generator has seen the same photographs: what mutual learning adds must not be the photographs alone.
    """
    stage = OfflineConfig(images="photographs", labels="pseudo", versions=1, share=1.0)
    return _instead(place, "self_trained", stage)


def flat(place: Place) -> Recipe:
    """The mutual stage whose occupancy losses weigh the same at all noise levels."""
    return _instead(place, "flat", MutualConfig(gate="none"))


def detached(place: Place) -> Recipe:
    """The mutual stage without gradients between the two: each sees what the other says, and nothing flows back."""
    stage = MutualConfig(generation_teaches_perception=False, perception_teaches_generation=0.0)
    return _instead(place, "detached", stage)


def unaligned(place: Place) -> Recipe:
    """Instead of stage 1: the denoiser learns on without an occupancy, at the same noise levels and for as many steps.

    Its text encoder learns on, too.
    """
    recipe, aligned = nano_align(place), nano_system(place, AlignConfig())
    system = replace(aligned, stage=ApartConfig(perception=False), alignment=None)
    return replace(recipe, name=f"occscene.nano_{place}_unaligned", system=system)


def text(place: Place) -> Recipe:
    """Instead of stage 2, after `unaligned`: the denoiser never sees an occupancy, nor what perception says of its
    estimates, from which perception learns as in stage 2.
    """
    recipe = nano_mutual(place)
    system = replace(nano_system(place, MutualConfig(perception_teaches_generation=0.0)), alignment=None)
    return replace(recipe, name=f"{recipe.name}_text", system=system)


def aligned_by(place: Place, name: str, alignment: AlignmentConfig) -> Recipe:
    """Stage 1 with another way for the occupancy to come in, which is lifted along the cameras as in `nano_align`."""
    recipe, system = nano_align(place), nano_system(place, AlignConfig())
    assert system.alignment is not None
    alignment = replace(alignment, encoding=system.alignment.encoding)
    return replace(recipe, name=f"{recipe.name}_{name}", system=replace(system, alignment=alignment))


JITTER = replace(MIRROR, flip_y=0.0, brightness=0.3, contrast=0.3)
"""Colours alone: a mirrored street drives on the other side, and its text would be wrong."""
further_3 = partial(further, times=3)
"""Perception alone for three times the steps."""
offline_pseudo = partial(offline, labels="pseudo")
"""Scenes drawn from text alone, labelled by perception as it was."""
concat = partial(aligned_by, name="concat", alignment=ConcatAlignmentConfig(hidden=190))
"""Occupancy beside the latent; as many parameters as the dual alignment, within 1 %."""
attention = partial(aligned_by, name="attention", alignment=CrossAttentionAlignmentConfig())
"""The latent asks the occupancy."""
control = partial(aligned_by, name="control", alignment=ControlAlignmentConfig())
"""A branch of a ControlNet's type."""
seeing = partial(aligned_by, name="seeing", alignment=DualAlignmentConfig(tokens=TokensConfig(sees_latent=True)))
"""Dual alignment whose scan hears the latent, as its rivals do and the paper's figure does not."""


def _named(make: Callable[[Place], Recipe]) -> tuple[RecipeFunction, RecipeFunction]:
    """Return a variant of the street and of the room as recipes that `occkit train` finds by their names."""

    def street() -> Recipe:
        """On the small street, the variant of this name: see the function that it is made from."""
        return make("street")

    def room() -> Recipe:
        """In the small room, the variant of this name: see the function that it is made from."""
        return make("room")

    return street, room


nano_street_reader, nano_room_reader = _named(reader)
nano_street_further, nano_room_further = _named(further)
nano_street_further_3, nano_room_further_3 = _named(further_3)
nano_street_noised, nano_room_noised = _named(noised)
nano_street_augmented, nano_room_augmented = _named(augmented)
nano_street_offline_true, nano_room_offline_true = _named(offline)
nano_street_offline_pseudo, nano_room_offline_pseudo = _named(offline_pseudo)
nano_street_self_trained, nano_room_self_trained = _named(self_trained)
nano_street_flat, nano_room_flat = _named(flat)
nano_street_detached, nano_room_detached = _named(detached)
nano_street_unaligned, nano_room_unaligned = _named(unaligned)
nano_street_text, nano_room_text = _named(text)
nano_street_align_concat, nano_room_align_concat = _named(concat)
nano_street_align_attention, nano_room_align_attention = _named(attention)
nano_street_align_control, nano_room_align_control = _named(control)
nano_street_align_seeing, nano_room_align_seeing = _named(seeing)
