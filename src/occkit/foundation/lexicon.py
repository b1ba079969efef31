"""What a street's words have to do with each other, and which of them a prompt is about: for simulated encoders."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType

LEXICON: Mapping[str, Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "vehicle": {
            "car": (
                *("car", "van", "taxi", "police car", "sedan", "hatch-back", "wagon", "mini-van", "suv", "jeep"),
                *("vehicle", "vehicle for personal use"),
            ),
            "truck": (
                *("truck", "pickup truck", "pick-up", "lorry", "semi-tractor", "tractor", "fire truck"),
                "vehicle that carries cargo",
            ),
            "trailer": ("trailer", "semi trailer", "truck trailer", "car trailer", "bike trailer"),
            "bus": ("bus", "coach", "rigid bus", "bendy bus", "double decker bus"),
            "construction vehicle": (
                *("construction vehicle", "excavator", "crane", "bulldozer"),
                "vehicle used for construction",
            ),
            "bicycle": ("bicycle", "bike", "cyclist", "bicyclist"),
            "motorcycle": ("motorcycle", "motorcyclist", "scooter", "vespa"),
        },
        "living": {
            "person": (
                *("pedestrian", "person", "people", "adult", "child", "man", "woman", "jogger"),
                *("construction worker", "police officer"),
            ),
            "animal": ("dog", "cat", "bird", "animal"),
        },
        "obstacle": {
            "cone": ("traffic cone", "cone"),
            "barrier": (
                *("barrier", "barricade", "traffic barrier", "jersey barrier", "temporary road barrier"),
                *("concrete barrier", "metal barrier", "water barrier"),
            ),
            "pushed": ("stroller", "shopping cart", "wheelchair"),
            "debris": ("debris", "box", "stray noise"),
        },
        "ground": {
            "road": (
                *("road", "street", "highway", "asphalt", "lane marking", "parking lot", "parking space"),
                *("paved surface to drive on", "unpaved surface to drive on"),
            ),
            "flat": (
                *("traffic island", "delimiter", "rail track", "small stairs", "lake", "river", "water"),
                *("road divider", "square"),
            ),
            "sidewalk": ("sidewalk", "pavement", "footpath", "walkway", "pedestrian walkway", "bike path"),
            "terrain": ("terrain", "grass", "soil", "sand", "gravel", "rolling hill"),
        },
        "structure": {
            "building": (
                *("building", "house", "shelter", "wall", "fence", "railing", "guard rail", "bridge", "tunnel"),
                *("pole", "lamp post", "street lamp", "street light", "traffic light", "traffic sign", "street sign"),
                *("man-made structure", "drainage", "flag", "banner", "billboard", "electric circuit box", "stairs"),
            ),
            "furniture": (
                *("mailbox", "bench", "trash bin", "ashbin", "fire hydrant", "hydrant", "parking meter"),
                *("phone booth", "bicycle rack"),
            ),
        },
        "nature": {
            "vegetation": (
                *("vegetation", "tree", "tree crown", "tree trunk", "bush", "plant", "potted plant", "hedge"),
            ),
            "sky": ("sky", "nothing"),
        },
    }
)
"""Kind -> class -> words. Two words of a class are much alike, two of a kind less so, others only share the street."""

_PICTURES = frozenset({"photo", "picture", "image", "view", "drawing", "sketch", "rendering"})
_OPENING = frozenset({"there", "this", "that", "it", "is", "are", "a", "an", "the", "one", "some", "many"})
_SCENES = frozenset({"scene", "image", "picture", "photo"})
_PREPOSITIONS = frozenset(
    {"in", "on", "at", "with", "near", "behind", "beside", "by", "under", "over", "for", "from", "that", "which"}
    | {"next", "used", "taken", "to", "of"}
)
_IRREGULAR = {"people": "person", "men": "man", "women": "woman", "children": "child"}


@dataclass(frozen=True, kw_only=True)
class Meaning:
    """What a prompt is about."""

    head: str
    """The word or phrase itself, singular and lower case."""
    kind: str | None
    """Kind of the head in `LEXICON`; None for a word it does not know."""
    name: str | None
    """Its class there."""
    context: str
    """What is said besides; empty if nothing is."""


def singular(token: str) -> str:
    """Return a word without its plural ending, by rule of thumb."""
    if token in _IRREGULAR:
        return _IRREGULAR[token]
    if token.endswith(("ses", "xes", "ches", "shes")):
        return token[:-2]
    if token.endswith("s") and not token.endswith(("ss", "us", "is")) and len(token) > 3:
        return token[:-1]
    return token


def tokens_of(text: str) -> tuple[str, ...]:
    """Return the words of a text, lower case and singular."""
    return tuple(singular(token) for token in re.findall(r"[^\W_]+(?:-[^\W_]+)*", text.lower()))


@lru_cache(maxsize=1)
def _known() -> Mapping[tuple[str, ...], tuple[str, str]]:
    return {
        tokens_of(word): (kind, name)
        for kind, classes in LEXICON.items()
        for name, words in classes.items()
        for word in words
    }


@lru_cache(maxsize=4096)
def meaning_of_prompt(prompt: str) -> Meaning:
    """Return what a prompt is about: its longest known phrase, of equal ones the last; else its last word.

    What stands around the subject of a sentence ("a photo of a ...", "... in the scene", "... with a dog") is context.
    """
    tokens = tokens_of(prompt)
    head = _head(_subject(tokens))
    kind, name = _known().get(head, (None, None))
    rest = list(tokens)
    for token in head:
        rest.remove(token)
    context = " ".join(token for token in rest if token not in ("a", "an", "the"))
    return Meaning(head=" ".join(head), kind=kind, name=name, context=context)


def _subject(tokens: tuple[str, ...]) -> tuple[str, ...]:
    """Return what a sentence made of a template was made for."""
    if "of" in tokens[:-1] and _PICTURES & set(tokens[: tokens.index("of")]):
        tokens = tokens[tokens.index("of") + 1 :]
    while len(tokens) > 1 and tokens[0] in _OPENING:
        tokens = tokens[1:]
    if len(tokens) > 3 and tokens[-3:-1] == ("in", "the") and tokens[-1] in _SCENES:
        tokens = tokens[:-3]
    return tokens


def _head(tokens: tuple[str, ...]) -> tuple[str, ...]:
    """Return the longest known phrase that begins before the first preposition, of equal ones the last."""
    end = next((place for place, token in enumerate(tokens) if place and token in _PREPOSITIONS), len(tokens))
    for length in range(len(tokens), 0, -1):
        for start in range(min(end, len(tokens) - length + 1) - 1, -1, -1):
            if tokens[start : start + length] in _known():
                return tokens[start : start + length]
    return tokens[end - 1 : end]
