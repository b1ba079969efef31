"""Prompts and the classes they stand for, to name voxels by text.

Other than a detector's `Vocabulary`, a table has no calls: every prompt competes with every other.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int64
from torch import Tensor

from occkit.errors import ConfigError
from occkit.taxonomy import OCC3D, TAXONOMIES, Taxonomy


@dataclass(frozen=True, kw_only=True)
class PromptTable:
    """Prompts for the classes of a taxonomy; several may stand for one class, and not every class needs one."""

    name: str
    """Short name."""
    taxonomy: str
    """Name of the taxonomy, see `taxonomy.TAXONOMIES`."""
    prompts: tuple[tuple[str, str], ...]
    """Prompt and class name; a prompt occurs once."""

    def __post_init__(self) -> None:
        if self.taxonomy not in TAXONOMIES:
            raise ConfigError(f"prompts {self.name}: taxonomy {self.taxonomy!r} is none of {', '.join(TAXONOMIES)}")
        if not self.prompts or len(set(self.texts)) < len(self.prompts):
            raise ConfigError(f"prompts {self.name}: expected at least one prompt, and none of them twice")
        named = {self.table.classes[i] for i in self.table.semantic_ids}
        for prompt, meaning in self.prompts:
            if not prompt.strip() or meaning not in named:
                raise ConfigError(
                    f"prompts {self.name}: {prompt!r}: class {meaning!r} is none of {', '.join(sorted(named))}"
                )

    @property
    def table(self) -> Taxonomy:
        """The taxonomy itself."""
        return TAXONOMIES[self.taxonomy]

    @property
    def texts(self) -> tuple[str, ...]:
        """The prompts."""
        return tuple(prompt for prompt, _ in self.prompts)

    def class_ids(self) -> Int64[Tensor, "p"]:
        """Return the id of each prompt's class."""
        return torch.tensor([self.table.id_of(meaning) for _, meaning in self.prompts])


def taxonomy_prompts(taxonomy: Taxonomy) -> PromptTable:
    """Return the prompts that a taxonomy brings itself; classes without any are never answered."""
    rows = [(taxonomy.classes[i], taxonomy.prompts[i]) for i in taxonomy.semantic_ids]
    return _table(taxonomy.name, taxonomy, rows)


def _table(name: str, taxonomy: Taxonomy, rows: Sequence[tuple[str, Sequence[str]]]) -> PromptTable:
    prompts = tuple((prompt, meaning) for meaning, words in rows for prompt in words)
    return PromptTable(name=name, taxonomy=taxonomy.name, prompts=prompts)


LANGOCC_PROMPTS = _table(
    "langocc",
    OCC3D,
    [
        (
            "car",
            (
                *("vehicle for personal use", "car", "vehicle", "sedan", "hatch-back"),
                *("wagon", "van", "mini-van", "SUV", "jeep"),
            ),
        ),
        ("truck", ("vehicle that carries cargo", "pick-up", "lorry", "truck", "semi-tractor")),
        ("trailer", ("trailer", "truck trailer", "car trailer", "bike trailer")),
        ("bus", ("rigid bus", "bendy bus")),
        ("construction_vehicle", ("vehicle used for construction", "crane")),
        ("bicycle", ("bicycle",)),
        ("motorcycle", ("motorcycle", "vespa", "scooter")),
        ("pedestrian", ("adult", "child", "construction worker", "police officer")),
        ("traffic_cone", ("traffic cone",)),
        ("barrier", ("temporary road barrier", "concrete barrier", "metal barrier", "water barrier")),
        ("driveable_surface", ("paved surface to drive on", "unpaved surface to drive on")),
        ("other_flat", ("traffic island", "delimiter", "rail track", "small stairs", "lake", "river")),
        ("sidewalk", ("sidewalk", "pedestrian walkway", "bike path")),
        ("terrain", ("grass", "rolling hill", "soil", "sand", "gravel")),
        (
            "manmade",
            (
                *("man-made structure", "building", "wall", "guard rail", "fence", "pole", "drainage", "hydrant"),
                *("flag", "banner", "street sign", "electric circuit box", "traffic light", "parking meter", "stairs"),
            ),
        ),
        ("vegetation", ("bushes", "bush", "plants", "plant", "potted plant", "tree", "trees")),
        ("others", ("stray noise", "sky")),
    ],
)
"""76 prompts for the 17 classes of Occ3D. The sky is called `others`: it makes no voxel free.

Source: LangOcc, 2024; where it asks with definitions of the nuScenes manual, the wording is ours.
"""

STREET_PROMPTS = _table(
    "street",
    OCC3D,
    [
        ("car", ("car", "van")),
        ("truck", ("truck",)),
        ("trailer", ("trailer",)),
        ("bus", ("bus",)),
        ("construction_vehicle", ("construction vehicle",)),
        ("bicycle", ("bicycle", "cyclist")),
        ("motorcycle", ("motorcycle", "motorcyclist")),
        ("pedestrian", ("pedestrian",)),
        ("traffic_cone", ("traffic cone",)),
        ("barrier", ("barrier",)),
        ("driveable_surface", ("road",)),
        ("other_flat", ("traffic island",)),
        ("sidewalk", ("sidewalk",)),
        ("terrain", ("grass", "soil")),
        ("manmade", ("building", "fence", "pole")),
        ("vegetation", ("tree", "bush")),
        ("others", ("sky",)),
    ],
)
"""24 plain words for Occ3D that leave the long tail of the world out: mailbox, excavator, hydrant, police car, ..."""
