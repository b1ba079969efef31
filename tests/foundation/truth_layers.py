"""Truth layers of a world, made by hand."""

import json
from pathlib import Path

import numpy as np

SIZE = (32, 48)


def write_layers(root, token="t", camera="front", *, scene="scene-1", size=SIZE, depth=10.0, semantics=0, words=1):
    """Write one image's layers; numbers fill them."""
    folder = Path(root) / "truth" / scene / token
    folder.mkdir(parents=True, exist_ok=True)
    layers = {
        "depth": np.broadcast_to(np.asarray(depth, np.float16), size),
        "semantics": np.broadcast_to(np.asarray(semantics, np.uint8), size),
        "instances": np.zeros(size, np.uint16),
        "words": np.broadcast_to(np.asarray(words, np.uint8), size),
    }
    np.savez(folder / f"{camera}.npz", **layers)


def write_words(root, taxonomy="occ3d"):
    """Write the list of words by which a world shows its taxonomy."""
    entry = {"occ3d": {"occ3d": "free"}, "semantickitti": {"standing": 0, "moving": 0}}[taxonomy]
    path = Path(root) / "truth" / "words.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([{"id": 0, "name": "nothing"} | entry]))
