"""Pictures as `[h, w, 3]` uint8 arrays: text on them, legends, colour bars, several side by side, PNG and JPEG."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont

from occkit.files import write_bytes
from occkit.samples import Occupancy

Picture = UInt8[np.ndarray, "h w 3"]

PAPER = (255, 255, 255)
INK = (38, 42, 48)
FAINT = (120, 126, 134)


def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Return the typeface of all pictures (it comes with Pillow) at a height in pixels."""
    return ImageFont.load_default(size=size)


def encode(picture: Picture, *, jpeg: bool = False, inches: float | None = None) -> bytes:
    """Return a picture as the bytes of a PNG, or of a JPEG of quality 88; `inches` says how wide to print it."""
    buffer = io.BytesIO()
    image = Image.fromarray(np.ascontiguousarray(picture))
    dpi: dict[str, Any] = {} if inches is None else {"dpi": (image.width / inches,) * 2}
    if jpeg:
        image.save(buffer, "JPEG", quality=88, subsampling=0, **dpi)
    else:
        image.save(buffer, "PNG", **dpi)
    return buffer.getvalue()


def save_picture(path: Path, picture: Picture, *, inches: float | None = None) -> None:
    """Write a picture; the ending `.jpg` or `.png` chooses the format, `inches` says how wide to print it."""
    write_bytes(path, encode(picture, jpeg=path.suffix.lower() in (".jpg", ".jpeg"), inches=inches))


def resize(picture: Picture, height: int, width: int) -> Picture:
    """Return the picture at another size, filtered."""
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.LANCZOS))


def write_text(
    picture: Picture,
    text: str,
    *,
    at: tuple[float, float],
    size: int,
    colour: tuple[int, int, int] = INK,
    anchor: str = "la",
    halo: tuple[int, int, int] | None = None,
) -> Picture:
    """Return the picture with a line of text.

    Args:
        picture: is not changed.
        text: one line.
        at: `(u, v)` of the anchor, pixels.
        size: height of the type, pixels.
        colour: RGB.
        anchor: Pillow's two letters: left/middle/right and ascender/middle/baseline.
        halo: colour of a thin outline that keeps the text readable on any ground.
    """
    image = Image.fromarray(picture)
    outline = 0 if halo is None else max(1, size // 8)
    ImageDraw.Draw(image).text(at, text, colour, font(size), anchor, stroke_width=outline, stroke_fill=halo)
    return np.asarray(image)


def present_classes(occupancies: Sequence[Occupancy], *, most: int = 24) -> list[tuple[str, tuple[int, int, int]]]:
    """Return name and colour of the classes that occur in the volumes, in the order of their ids."""
    taxonomy = occupancies[0].taxonomy
    counts = np.zeros(256, dtype=np.int64)
    for occupancy in occupancies:
        counts += np.bincount(occupancy.semantics.numpy().ravel(), minlength=256)
    ids = [i for i in taxonomy.semantic_ids if counts[i] > 0]
    return [(taxonomy.classes[i].replace("_", " "), taxonomy.colours[i]) for i in ids[:most]]


def legend(entries: Sequence[tuple[str, tuple[int, int, int]]], *, width: int, size: int = 18) -> Picture:
    """Return a strip of colour patches with names that wraps within `width` pixels."""
    face = font(size)
    gap, line = size, round(size * 1.7)
    places: list[tuple[float, int]] = []
    u, row = 0.0, 0
    for name, _ in entries:
        needed = size + 0.45 * size + face.getlength(name)
        if u > 0 and u + needed > width:
            u, row = 0.0, row + 1
        places.append((u, row))
        u += needed + gap
    image = Image.new("RGB", (width, line * (row + 1)), PAPER)
    draw = ImageDraw.Draw(image)
    for (name, colour), (left, at_row) in zip(entries, places, strict=True):
        top = at_row * line + (line - size) // 2
        draw.rounded_rectangle((left, top, left + size, top + size), size // 5, colour)
        draw.text((left + 1.45 * size, at_row * line + line / 2), name, INK, face, "lm")
    return np.asarray(image)


def turbo(values: Float[np.ndarray, "*n"]) -> UInt8[np.ndarray, "*n 3"]:
    """Return the colours of values 0..1 in the 'turbo' map: blue is low, red is high."""
    from matplotlib import colormaps  # a second of import time that only LiDAR pictures need

    return (colormaps["turbo"](np.clip(values, 0, 1))[..., :3] * 255).round().astype(np.uint8)


def add_colour_bar(picture: Picture, *, low: float, high: float, unit: str) -> Picture:
    """Return the picture with a bar of the 'turbo' map in its lower right corner that says what its ends mean."""
    height, width = picture.shape[:2]
    length, thick, margin = round(width * 0.22), max(6, round(height * 0.018)), round(height * 0.03)
    top, left = height - margin - thick, width - margin - length
    size = max(10, round(height * 0.032))
    result = picture.copy()
    plate = slice(max(0, top - round(size * 1.6)), height), slice(max(0, left - margin), width)
    result[plate] = (result[plate] * 0.45).astype(np.uint8)
    result[top : top + thick, left : left + length] = turbo(np.linspace(0, 1, length))[None]
    for share, anchor in ((0.0, "ls"), (0.5, "ms"), (1.0, "rs")):
        number = f"{low + share * (high - low):.0f} {unit}"
        at = (left + share * length, top - 0.3 * size)
        result = write_text(result, number, at=at, size=size, colour=PAPER, anchor=anchor)
    return result


def add_caption(picture: Picture, caption: str, *, size: int | None = None) -> Picture:
    """Return the picture with a name on a dark plate in its upper left corner."""
    height = picture.shape[0]
    size = size or min(max(11, round(height * 0.045)), 20)
    pad = round(size * 0.45)
    box = round(font(size).getlength(caption)) + 2 * pad, size + 2 * pad
    result = picture.copy()
    plate = result[: box[1], : box[0]]
    plate[:] = (plate * 0.35 + np.array(INK) * 0.25).astype(np.uint8)
    return write_text(result, caption, at=(pad, box[1] / 2), size=size, colour=PAPER, anchor="lm")


def stack(pictures: Sequence[Picture], *, gap: int = 12) -> Picture:
    """Return pictures below each other, left-aligned on paper."""
    width = max(p.shape[1] for p in pictures)
    rows: list[Picture] = []
    for picture in pictures:
        if rows:
            rows.append(np.full((gap, width, 3), PAPER, dtype=np.uint8))
        rest = np.full((picture.shape[0], width - picture.shape[1], 3), PAPER, dtype=np.uint8)
        rows.append(np.concatenate([picture, rest], axis=1))
    return np.concatenate(rows, axis=0)


def tile(
    pictures: Sequence[Picture],
    *,
    columns: int,
    captions: Sequence[str] | None = None,
    width: int | None = None,
    gap: int = 8,
) -> Picture:
    """Return pictures of one shape side by side.

    Args:
        pictures: row by row; they may differ in size, each is scaled to the cell of the first.
        columns: pictures in a row.
        captions: one a picture, written on it.
        width: width of the whole in pixels; default: as large as the pictures are.
        gap: paper between two pictures, pixels.

    Raises:
        ValueError: if there is no picture, or another number of captions.
    """
    if not pictures or (captions is not None and len(captions) != len(pictures)):
        raise ValueError(f"tile: {len(pictures)} pictures with {None if captions is None else len(captions)} captions")
    height, cell = pictures[0].shape[:2]
    if width is not None:
        narrow = (width - gap * (columns - 1)) // columns
        height, cell = round(height * narrow / cell), narrow
    rows = -(-len(pictures) // columns)
    sheet = np.full((rows * (height + gap) - gap, columns * (cell + gap) - gap, 3), PAPER, dtype=np.uint8)
    for i, picture in enumerate(pictures):
        shown = picture if picture.shape[:2] == (height, cell) else resize(picture, height, cell)
        if captions is not None:
            shown = add_caption(shown, captions[i])
        top, left = (i // columns) * (height + gap), (i % columns) * (cell + gap)
        sheet[top : top + height, left : left + cell] = shown
    return sheet


def to_array(image: npt.NDArray[np.uint8]) -> Picture:
    """Return a `[3, h, w]` image (the layout of `Sample.images`) as a `[h, w, 3]` picture."""
    return np.ascontiguousarray(image.transpose(1, 2, 0))
