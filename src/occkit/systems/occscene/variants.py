"""The small street with one thing changed: what perception learns alone, and what each part of the loop is worth."""

from dataclasses import replace

from occkit.systems.occscene.recipes import nano_of, nano_street, street_system
from occkit.systems.occscene.stages import ApartConfig, MutualConfig, StageConfig
from occkit.training.recipe import Recipe


def _instead(name: str, stage: StageConfig) -> Recipe:
    return nano_of(name, street_system(stage), steps=nano_street().steps, lr=nano_street().optim.lr)


def nano_street_further() -> Recipe:
    """Control: perception learns on from photographs alone, for as many steps as `nano_street`."""
    return _instead("nano_street_further", ApartConfig(generation=False))


def nano_street_noised() -> Recipe:
    """Control: the same, half of the photographs with noise added at the same levels and weights. No generator."""
    return _instead("nano_street_noised", ApartConfig(generation=False, noised=0.5))


def nano_street_flat() -> Recipe:
    """`nano_street` whose occupancy losses weigh the same at all noise levels."""
    return _instead("nano_street_flat", MutualConfig(gate="none"))


def nano_street_detached() -> Recipe:
    """`nano_street` without gradients between the two: each sees what the other says, and nothing flows back."""
    stage = MutualConfig(generation_teaches_perception=False, perception_teaches_generation=False)
    return _instead("nano_street_detached", stage)


def nano_street_text() -> Recipe:
    """`nano_street` whose denoiser never sees an occupancy: perception still learns from its estimates."""
    recipe = nano_street()
    return replace(
        recipe, name="occscene.nano_street_text", system=replace(street_system(MutualConfig()), alignment=None)
    )
