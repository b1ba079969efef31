"""What a store of features holds: the description beside them, the digest that ties files to it, and what it cost.

The tag of a store is the digest of everything in its description that changes the numbers; each file carries it.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeGuard, cast

import numpy as np

from occkit.errors import DataError

Codec = Literal["float16", "uint8"]

FORMAT = 2
"""Of `features.json`; 1 was a file a frame, named after it."""
TAG_BYTES = 16
DIGEST_BYTES = 32
MAX_FRAME_BYTES = 2**36
_MAX_SIDE = 2**24
DTYPES: Mapping[Codec, np.dtype[Any]] = {"float16": np.dtype("<f2"), "uint8": np.dtype("u1")}


@dataclass(frozen=True, kw_only=True)
class FeatureLayout:
    """What a store holds, and how it is written."""

    source: Mapping[str, Any]
    """JSON of what made the features: extractor, and the subspace they are reduced to."""
    cameras: tuple[str, ...]
    """Names, in the order of the files."""
    image_size: tuple[int, int]
    """(height, width) of the images as they are stored, pixels."""
    map_size: tuple[int, int]
    """(rows, columns) of cells that divide an image."""
    width: int
    """Channels of the extractor, `c`."""
    dim: int
    """Channels that are kept, `k`; less than `width` only with a basis."""
    codec: Codec
    """Two bytes a number, or one."""
    by_name: bool = True
    """Frames of other names have other features even of the same images; else they share a file."""

    def __post_init__(self) -> None:
        sizes = (*self.image_size, *self.map_size, self.width, self.dim)
        if min(sizes) < 1 or max(sizes) > _MAX_SIDE or self.codec not in DTYPES:
            raise ValueError(f"FeatureLayout: expected sizes in 1..{_MAX_SIDE} and float16 or uint8, got {self}")
        if not self.cameras or len(set(self.cameras)) != len(self.cameras):
            raise ValueError(f"FeatureLayout: expected different cameras, got {self.cameras}")
        if self.dim > self.width or self.frame_bytes > MAX_FRAME_BYTES:
            raise ValueError(f"FeatureLayout: expected dim <= width and a frame of at most 64 GiB, got {self}")

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Of the numbers of a frame: cameras, rows, columns, channels."""
        return (len(self.cameras), *self.map_size, self.dim)

    @property
    def header_bytes(self) -> int:
        """What stands before the numbers of a frame."""
        return TAG_BYTES + DIGEST_BYTES + (8 * self.dim if self.codec == "uint8" else 0)

    @property
    def frame_bytes(self) -> int:
        """Size of a frame's file."""
        count, rows, columns, dim = self.shape
        return self.header_bytes + count * rows * columns * dim * DTYPES[self.codec].itemsize


@dataclass(frozen=True, kw_only=True)
class FeatureCost:
    """What writing features down took from them, measured on some frames."""

    frames: int
    """Frames that were compared."""
    mean: float
    """Mean over cells of 1 - cosine between the extractor's float32 features and what is read back, 0..2."""
    p99: float
    """Its 99th percentile."""
    words: int = 0
    """Words that a cell's best was chosen among; 0 if the space has none."""
    changed: float | None = None
    """Share of cells whose best word is another one, 0..1; None without words."""

    def __str__(self) -> str:
        text = f"1 - cosine {self.mean:.1e} (99 % of the cells below {self.p99:.1e})"
        if self.changed is not None:
            text += f", {100 * self.changed:.3f} % of the cells have another best word of {self.words}"
        return text


def as_json(layout: FeatureLayout) -> dict[str, Any]:
    """Return the part of `features.json` that the tag is about."""
    # By way of JSON, which knows no tuples.
    return json.loads(json.dumps({"format": FORMAT} | asdict(layout)))


def tag_of(layout: FeatureLayout, basis_sha256: str | None) -> bytes:
    """Return what every file of a store begins with."""
    text = json.dumps(as_json(layout) | {"basis_sha256": basis_sha256}, sort_keys=True)
    return hashlib.sha256(text.encode()).digest()[:TAG_BYTES]


def parse_description(path: Path, value: Any) -> tuple[FeatureLayout, str | None, FeatureCost | None]:
    """Return what `features.json` says: the layout, the digest of the basis, and what was lost.

    Raises:
        DataError: if it is no such description, or one of an earlier format.
    """
    remedy = "give a folder that occkit features wrote, or write it again"
    if isinstance(value, dict) and value.get("format") == 1:
        again = "write the features again, into a new folder"
        raise DataError(path, "format 1, a file a frame, is of an earlier occkit; this one reads format 2", again)
    if not isinstance(value, dict) or type(value.get("format")) is not int or value["format"] != FORMAT:
        raise DataError(path, f"expected a description of features, format {FORMAT}", remedy)
    wanted = {"source": dict, "cameras": list, "image_size": list, "map_size": list, "width": int, "dim": int,
              "codec": str, "by_name": bool}  # fmt: skip
    wrong = [key for key, kind in wanted.items() if type(value.get(key)) is not kind]
    digest = value.get("basis_sha256")
    if (
        wrong
        or not (digest is None or is_sha256(digest))
        or not all(isinstance(name, str) for name in value["cameras"])
    ):
        raise DataError(path, f"{', '.join(wrong) or 'cameras or basis_sha256'}: not what it should be", remedy)
    for key in ("image_size", "map_size"):
        if len(value[key]) != 2 or not all(type(side) is int for side in value[key]):
            raise DataError(path, f"{key}: expected two integers, got {str(value[key])[:80]}", remedy)
    try:
        layout = FeatureLayout(
            source=value["source"],
            cameras=tuple(value["cameras"]),
            image_size=_pair(value["image_size"]),
            map_size=_pair(value["map_size"]),
            width=value["width"],
            dim=value["dim"],
            codec=cast(Codec, value["codec"]),
            by_name=value["by_name"],
        )
    except ValueError as error:
        raise DataError(path, str(error)[:300], remedy) from error
    if digest is None and layout.dim != layout.width:
        raise DataError(path, "names no basis although channels are left out", remedy)
    return layout, digest, _parse_cost(path, value.get("cost"))


def _parse_cost(path: Path, value: Any) -> FeatureCost | None:
    if value is None:
        return None
    names = FeatureCost.__dataclass_fields__
    numbers = [number for number in value.values() if number is not None] if isinstance(value, dict) else []
    sound = all(type(number) in (int, float) and abs(number) < 2**53 for number in numbers)
    if not numbers or set(value) != set(names) or not sound or value["mean"] is None or value["p99"] is None:
        raise DataError(path, f"cost: expected {', '.join(names)}, got {str(value)[:80]}", "write it again, or null")
    changed = None if value["changed"] is None else float(value["changed"])
    mean, p99 = float(value["mean"]), float(value["p99"])
    return FeatureCost(
        frames=int(value["frames"] or 0), mean=mean, p99=p99, words=int(value["words"] or 0), changed=changed
    )


def is_sha256(value: object) -> TypeGuard[str]:
    """Whether it is a SHA-256 in hexadecimal, small letters."""
    return isinstance(value, str) and len(value) == 64 and set(value) <= set("0123456789abcdef")


def _pair(values: Sequence[int]) -> tuple[int, int]:
    return values[0], values[1]
