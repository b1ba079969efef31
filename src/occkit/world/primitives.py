"""Primitives: every solid is a unit box, cylinder, cone, ball or roof seen through a rotation and a scale."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int32]

BOX, CYLINDER, CONE, BALL, ROOF = range(5)
"""Kinds of primitive. In unit coordinates: `max|q| <= 1`; `x^2 + y^2 <= 1, |z| <= 1`; the same with a radius that falls
from 1 at z = -1 to 0.15 at z = 1; `|q| <= 1`; a box whose y narrows to the ridge: `|y| <= (1 - z) / 2`."""

(PLAIN, ASPHALT, FACADE, FOLIAGE, BRICK, STRIPES, PAINT, SIGN, FENCE_MESH, CLOTH) = range(10)
(PLANKS, TILES, BOOKS, CANVAS, DRAPES, PLASTER) = range(10, 16)
"""Materials: how a surface's two colours are mixed over it (see `render.py`)."""


@dataclass(frozen=True, kw_only=True)
class Primitives:
    """Solids, one a row."""

    kind: npt.NDArray[np.uint8]
    """`[n]` BOX .. ROOF."""
    center: Floats
    """`[n, 3]` metres."""
    rotation: Floats
    """`[n, 3, 3]` world-from-unit rotation."""
    half: Floats
    """`[n, 3]` half extents along the primitive's own axes, metres."""
    word: npt.NDArray[np.uint8]
    """`[n]` id in `words.WORDS`."""
    instance: npt.NDArray[np.uint16]
    """`[n]` id of the object it belongs to; 0 for none."""
    material: npt.NDArray[np.uint8]
    """`[n]` PLAIN .. PLASTER."""
    colour: Floats
    """`[n, 6]` two RGB colours, 0..1."""
    moving: npt.NDArray[np.bool_]
    """`[n]` part of something that moves."""

    def __len__(self) -> int:
        return len(self.kind)

    def bounds(self) -> tuple[Floats, Floats]:
        """Return the lower and upper corners `[n, 3]` of the boxes around the primitives, metres."""
        reach = np.einsum("nij,nj->ni", np.abs(self.rotation), self.half)
        return self.center - reach, self.center + reach

    def posed(self, position: Floats, yaw: float) -> "Primitives":
        """Return the primitives turned by `yaw` about z (radians) and then moved to `position` (metres)."""
        turn = yaw_matrix(yaw)
        return replace(self, center=self.center @ turn.T + position, rotation=turn @ self.rotation)


def yaw_matrix(yaw: float) -> Floats:
    """Return the rotation about z, counter-clockwise seen from above."""
    return yaw_matrices(np.array([yaw]))[0]


def yaw_matrices(yaws: Floats) -> Floats:
    """Return rotations `[n, 3, 3]` about z for `[n]` angles, radians."""
    turns = np.zeros((len(yaws), 3, 3))
    turns[:, 0, 0] = turns[:, 1, 1] = np.cos(yaws)
    turns[:, 1, 0] = np.sin(yaws)
    turns[:, 0, 1] = -turns[:, 1, 0]
    turns[:, 2, 2] = 1.0
    return turns


def pitch_matrix(pitch: float) -> Floats:
    """Return the rotation about y that lifts the x axis by `pitch` radians."""
    cos, sin = np.cos(pitch), np.sin(pitch)
    return np.array([[cos, 0.0, -sin], [0.0, 1.0, 0.0], [sin, 0.0, cos]])


def concatenate(parts: Sequence[Primitives]) -> Primitives:
    """Join several sets of primitives (at least one)."""
    return Primitives(**{f.name: np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Primitives)})


@dataclass(frozen=True)
class Part:
    """One primitive of an object, in the object's frame: x forward, y left, z up from the ground."""

    kind: int
    center: tuple[float, float, float]
    half: tuple[float, float, float]
    colour: Floats
    material: int = PLAIN
    second: Floats | None = None
    """Second colour of the material; None repeats the first."""
    yaw: float = 0.0
    pitch: float = 0.0
    word: int | None = None
    """A word of its own (a trunk in a tree); None takes the object's."""


_UPRIGHT = yaw_matrix(0.0) @ pitch_matrix(0.0)


def _turned(part: Part) -> Floats:
    """Return the rotation of a part; most are as they were made."""
    return yaw_matrix(part.yaw) @ pitch_matrix(part.pitch) if part.yaw or part.pitch else _UPRIGHT


def assemble(parts: Sequence[Part], *, word: int, instance: int, moving: bool) -> Primitives:
    """Turn the parts of one object into primitives in the object's own frame."""
    count = len(parts)
    second = [p.colour if p.second is None else p.second for p in parts]
    return Primitives(
        kind=np.array([p.kind for p in parts], dtype=np.uint8),
        center=np.array([p.center for p in parts], dtype=np.float64).reshape(count, 3),
        rotation=np.array([_turned(p) for p in parts]).reshape(count, 3, 3),
        half=np.array([p.half for p in parts], dtype=np.float64).reshape(count, 3),
        word=np.array([word if p.word is None else p.word for p in parts], dtype=np.uint8),
        instance=np.full(count, instance, dtype=np.uint16),
        material=np.array([p.material for p in parts], dtype=np.uint8),
        colour=np.concatenate([np.array([p.colour for p in parts]), np.array(second)], axis=1).reshape(count, 6),
        moving=np.full(count, moving, dtype=np.bool_),
    )
