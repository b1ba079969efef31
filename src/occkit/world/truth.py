"""Writes the layers of what is true that the layouts have in common, in `<root>/truth/` (docs/world.md)."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from occkit.files import write_json, write_npz
from occkit.world.render import Picture
from occkit.world.words import NOTHING, WORDS


def write_layers(path: Path, picture: Picture, classes: npt.NDArray[np.uint8]) -> None:
    """Write what each pixel of an image shows, `[h, w]` each.

    Args:
        path: `.npz` to write, with `depth` (metres along the optical axis), `semantics` (a class; 255 where there is
            nothing), `instances` (0 for stuff) and `words`.
        picture: the image.
        classes: `[words]` table word id -> class of the layout's taxonomy.
    """
    semantics = classes[picture.word]
    semantics[picture.word == NOTHING] = 255
    write_npz(
        path,
        depth=picture.depth.astype(np.float16),
        semantics=semantics,
        instances=picture.instance,
        words=picture.word,
    )


def write_street_words(root: Path) -> None:
    """Write the words that the layers of a street name by their ids, with the Occ3D class of each."""
    rows = [{"id": i, "name": word.name, "occ3d": word.occ3d} for i, word in enumerate(WORDS)]
    write_json(root / "truth" / "words.json", rows)
