"""Writes rooms in SSCNet's layout of NYUv2: a volume, a depth map and a colour image each, and the truth beside them.

Labels follow NYUv2's habits (`occkit.data.nyuv2`): voxels that no pixel's ray could reach are 0 even where furniture
stands, and empty ones beside the floor's outline are 255. The truth layers keep what is there.
"""

import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from occkit.data import nyuv2 as layout
from occkit.errors import ConfigError
from occkit.files import write_image, write_json, write_npz
from occkit.geometry import VoxelGrid
from occkit.taxonomy import NYUV2
from occkit.world.labels import Volume, voxelise
from occkit.world.primitives import Floats
from occkit.world.render import Exposure, Lens, Picture, render
from occkit.world.room_scene import Room, RoomConfig
from occkit.world.room_words import ROOM_WORDS, label_weights, nyuv2_table, raw_table
from occkit.world.rooms import KINDS
from occkit.world.truth import write_layers
from occkit.world.words import plural

FOLDERS = {"train": "NYUtrain", "val": "NYUtest"}
"""Split -> folder; there is no third."""

RoomRecord = dict[str, Any]
"""JSON: name and caption of a finished room."""

_RAW_GRID = VoxelGrid.from_shape(layout.NYUV2_GRID.origin, layout.NYUV2_GRID.upper, (240, 240, 144))
_CLASSES, _STORED = nyuv2_table(), raw_table()
_EXPOSURE = 7


def check_split(num_test: int) -> None:
    """Refuse scenes that the layout has no folder for.

    Raises:
        ConfigError: if there are any.
    """
    if num_test:
        raise ConfigError(f"NYUv2 has no third split: NYUtest is the validation split; asked for {num_test} test rooms")


class RoomWriter:
    """Records one room as one frame."""

    def __init__(self, root: Path, room: Room, config: RoomConfig, *, split: str) -> None:
        self.root, self.room, self.config = root, room, config
        self.path = root / FOLDERS[split] / f"{room.name}.bin"
        self.ego_from_world = layout.ego_from_world(room.origin)

    def write(self) -> RoomRecord:
        """Write all files of the room and return what the data set's own files need of it."""
        picture = photograph(self.room, self.config)
        write_image(self.path.with_name(f"{self.room.name}_color.jpg"), picture.colour.transpose(2, 0, 1))
        layout.write_depth(self.path.with_suffix(".png"), picture.depth)
        words = self._words()
        ids = np.where(self._in_view(), _STORED[words], 0).astype(np.uint8)
        ids[(ids == 0) & ~self._above_floor()] = NYUV2.ignore_id
        volume = layout.NyuVolume(
            origin=self.room.origin,
            world_from_camera=self.room.world_from_camera,
            ids=layout.volume_from_sample(ids),
        )
        layout.write_volume(self.path, volume)
        if self.config.truth:
            self._truth(picture, words)
        return {"name": self.room.name, "caption": caption(self.room, self._counts(picture))}

    def _words(self) -> npt.NDArray[np.uint8]:
        """The word of every stored voxel, in the frame of the sample: complete, seen or not."""
        tracer = self.room.tracer()
        weights = label_weights()
        none = np.zeros(len(ROOM_WORDS), np.bool_)
        pose = np.linalg.inv(self.ego_from_world).astype(np.float64)
        return voxelise(tracer.solids, tracer.ground, _RAW_GRID, pose, weights=weights, hollow=none).word

    def _in_view(self) -> Volume:
        """Stored voxels whose centre falls into the image, behind walls or not."""
        camera = np.linalg.inv(self.room.world_from_camera) @ np.linalg.inv(self.ego_from_world)
        matrix = layout.intrinsics_of_size(layout.IMAGE_SIZE) @ camera[:3]
        x, y, z = (_RAW_GRID.origin[i] + (np.arange(n) + 0.5) * layout.RAW_SIZE for i, n in enumerate(_RAW_GRID.shape))
        height, width = layout.IMAGE_SIZE
        seen = np.empty(_RAW_GRID.shape, np.bool_)
        # Slab by slab: all centres at once take half a gigabyte.
        for slab in range(len(x)):
            u, v, depth = (row[0] * x[slab] + (row[1] * y)[:, None] + (row[2] * z)[None] + row[3] for row in matrix)
            seen[slab] = (depth > 0) & (u >= 0) & (u < width * depth) & (v >= 0) & (v < height * depth)
        return seen

    def _above_floor(self) -> Volume:
        """Stored voxels in or over or under the outline of the floor, at any height."""
        world = np.linalg.inv(self.ego_from_world)
        x, y = (_RAW_GRID.origin[i] + (np.arange(240) + 0.5) * layout.RAW_SIZE for i in (0, 1))
        flat = np.stack(np.meshgrid(x, y, indexing="ij"), axis=-1) @ world[:2, :2].T + world[:2, 3]
        low = np.array(self.room.corner)
        inside = np.all((flat >= low) & (flat < low + np.array(self.room.size[:2])), axis=-1)
        return np.broadcast_to(inside[..., None], _RAW_GRID.shape)

    def _counts(self, picture: Picture) -> dict[str, int]:
        """Count the pieces that have a pixel and whose middle lies in the volume, by word."""
        visible = set(np.unique(picture.instance).tolist())
        low, high = np.array(_RAW_GRID.origin), np.array(_RAW_GRID.upper)
        counts: dict[str, int] = {}
        for piece in self.room.pieces:
            middle = self.ego_from_world[:3, :3] @ ((piece.low + piece.high) / 2) + self.ego_from_world[:3, 3]
            if int(piece.solids.instance[0]) in visible - {0} and ((middle >= low) & (middle < high))[:2].all():
                counts[piece.name] = counts.get(piece.name, 0) + 1
        return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))

    def _truth(self, picture: Picture, words: npt.NDArray[np.uint8]) -> None:
        folder = self.root / "truth" / Path(*self.room.name.split("_"))
        write_layers(folder / f"{layout.CAMERA}.npz", picture, _CLASSES)
        write_npz(folder / "voxels.npz", words=words)


def photograph(room: Room, config: RoomConfig) -> Picture:
    """Take the picture of a room."""
    rng = np.random.default_rng((room.look.seed, _EXPOSURE))
    exposure = Exposure(
        gain=float(np.exp(config.gain_spread * rng.normal())),
        noise=config.sensor_noise * (1.5 if room.light == "evening" else 1.0),
        seed=int(rng.integers(2**31)),
        texture=config.texture,
        shadows=config.shadows,
        supersample=config.supersample,
    )
    intrinsics: Floats = layout.intrinsics_of_size((config.height, config.width))
    lens = Lens(
        intrinsics=intrinsics, global_from_camera=room.world_from_camera, height=config.height, width=config.width
    )
    return render(room.tracer(), lens, room.look, None, exposure)


_LIGHT = {"day": "by day", "evening": "in the evening"}


def caption(room: Room, counts: dict[str, int]) -> str:
    """Say a room in one line: its kind, the light, and how many of what are in view."""
    article = "an" if room.kind[0] in "aeiou" else "a"
    start = f"{article} {room.kind} {_LIGHT[room.light]}"
    if not counts:
        return f"{start}, empty"
    return f"{start}, with {', '.join(plural(name, count) for name, count in counts.items())}"


def room_caption_words(most: int = 60) -> tuple[str, ...]:
    """Return every word that a caption of a room may have, sorted; of numbers those up to `most`."""
    phrases = [*KINDS, *_LIGHT.values(), "a an empty with"]
    phrases += [plural(word.name, count) for word in ROOM_WORDS if word.counted for count in (1, 2)]
    numbers = {str(count) for count in range(1, most + 1)}
    return tuple(sorted({word for phrase in phrases for word in re.findall(r"\w+", phrase.lower())} | numbers))


def write_summary(root: Path, config: RoomConfig, records: list[RoomRecord]) -> None:
    """Write what belongs to the data set as a whole: captions (token -> text) and the rooms' words."""
    write_json(root / "captions.json", {record["name"]: record["caption"] for record in records})
    if config.truth:
        rows = [
            {"id": i, "name": word.name, "nyuv2": NYUV2.classes[_CLASSES[i]], "stored": int(_STORED[i])}
            for i, word in enumerate(ROOM_WORDS)
        ]
        write_json(root / "truth" / "words.json", rows)
