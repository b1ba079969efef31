"""What a detector that understands words is asked for, and which class the answer is."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from occkit.errors import ConfigError
from occkit.taxonomy import OCC3D, TAXONOMIES, Taxonomy

Call = tuple[tuple[str, str | None], ...]
"""One question to the detector: phrases, each with its class; None stands for nothing, see `Vocabulary`."""


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """Phrases for the classes of a taxonomy. Phrases of one call compete with each other for each box."""

    name: str
    """Short name."""
    taxonomy: str
    """Name of the taxonomy, see `taxonomy.TAXONOMIES`."""
    calls: tuple[Call, ...]
    """Calls of phrases (lower case, without full stops) and class names. The sky's class is that of free space. A
    phrase without a class is there to lose: boxes it wins are dropped."""

    def __post_init__(self) -> None:
        if self.taxonomy not in TAXONOMIES:
            raise ConfigError(f"vocabulary {self.name}: taxonomy {self.taxonomy!r} is none of {', '.join(TAXONOMIES)}")
        if not self.calls or not all(self.calls):
            raise ConfigError(f"vocabulary {self.name}: expected calls with at least one phrase each")
        for call in self.calls:
            if len({phrase for phrase, _ in call}) < len(call):
                raise ConfigError(f"vocabulary {self.name}: a call asks twice for a phrase: {call}")
        for phrase, meaning in (pair for call in self.calls for pair in call):
            if not phrase.strip() or phrase != phrase.lower() or "." in phrase:
                raise ConfigError(f"vocabulary {self.name}: phrase {phrase!r} must be lower case and have no full stop")
            if meaning is not None and meaning not in TAXONOMIES[self.taxonomy].classes:
                raise ConfigError(
                    f"vocabulary {self.name}: phrase {phrase!r}: class {meaning!r} is not in {self.taxonomy}"
                )

    @property
    def table(self) -> Taxonomy:
        """The taxonomy itself."""
        return TAXONOMIES[self.taxonomy]

    def without_sky(self) -> "Vocabulary":
        """Return the same questions without the sky, to see what asking for it gives; a call of nothing else goes."""
        sky = self.table.classes[self.table.free_id]
        kept = (tuple(phrase for phrase in call if phrase[1] not in (None, sky)) for call in self.calls)
        return replace(self, name=f"{self.name} without sky", calls=tuple(call for call in kept if call))


def one_word_per_call(
    name: str, taxonomy: Taxonomy, phrases: Sequence[tuple[str, Sequence[str]]] | None = None
) -> Vocabulary:
    """Return a vocabulary in which every phrase is asked for alone, against the sky, and the sky alone.

    A detector gives many a box of sky to whatever single word it is asked for; the sky beside the word takes them.

    Args:
        name: of the vocabulary.
        taxonomy: whose classes are asked for.
        phrases: class name and its phrases; the taxonomy's own prompts by default.
    """
    if phrases is None:
        phrases = [(taxonomy.classes[i], taxonomy.prompts[i]) for i in taxonomy.semantic_ids]
    asked: list[Call] = [((phrase, meaning), ("sky", None)) for meaning, words in phrases for phrase in words]
    sky: Call = (("sky", taxonomy.classes[taxonomy.free_id]),)
    return Vocabulary(name=name, taxonomy=taxonomy.name, calls=(sky, *asked))


OCCNERF_VOCABULARY = Vocabulary(
    name="occnerf",
    taxonomy=OCC3D.name,
    calls=(
        (("pedestrian", "pedestrian"),),
        (("bus", "bus"),),
        (("truck", "truck"),),
        (("bicycle", "bicycle"), ("bicyclist", "bicycle")),
        (("motorcycle", "motorcycle"), ("motorcyclist", "motorcycle")),
        (("barrier", "barrier"), ("barricade", "barrier")),
        (
            ("sedan", "car"),
            ("highway", "driveable_surface"),
            ("terrain", "terrain"),
            ("tree", "vegetation"),
            ("sidewalk", "sidewalk"),
            ("building", "manmade"),
            ("bridge", "manmade"),
            ("pole", "manmade"),
            ("billboard", "manmade"),
            ("light", "manmade"),
            ("ashbin", "manmade"),
            ("crane", "construction_vehicle"),
            ("trailer", "trailer"),
            ("cone", "traffic_cone"),
            ("sky", "free"),
        ),
    ),
)
"""Seven calls for Occ3D. Nothing is called `others` or `other_flat`, and kerbs answer to `barrier`: 8.6 % of the pixels
of nuScenes became barrier, more than car.

Source: Zhang et al., "OccNeRF: Advancing 3D Occupancy Prediction in LiDAR-Free Environments", 2023.
"""

WORD_VOCABULARY = one_word_per_call(
    "words",
    OCC3D,
    [
        ("car", ("car", "sedan", "van", "jeep")),
        ("truck", ("truck", "lorry", "tractor")),
        ("trailer", ("trailer",)),
        ("bus", ("bus",)),
        ("construction_vehicle", ("excavator", "crane", "bulldozer")),
        ("bicycle", ("bicycle",)),
        ("motorcycle", ("motorcycle", "scooter")),
        ("pedestrian", ("person", "pedestrian")),
        ("traffic_cone", ("traffic cone",)),
        ("barrier", ("barricade", "guard rail")),
        ("driveable_surface", ("road", "street", "highway")),
        ("other_flat", ("traffic island", "road divider")),
        ("sidewalk", ("sidewalk", "walkway")),
        ("terrain", ("grass", "sand", "gravel", "soil")),
        ("manmade", ("building", "wall", "fence", "pole", "traffic sign", "street light", "bridge", "billboard")),
        ("vegetation", ("tree", "bush", "plant")),
    ],
)
"""One word a call, each against the sky, with words for `other_flat`: six times as many calls as `OCCNERF_VOCABULARY`.

Source: the wording is ours; one word a call after GaussianFlowOcc (ICCV 2025), the sky beside it after ShelfOcc (2025).
"""
