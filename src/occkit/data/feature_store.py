"""Vision-language features of images on disk: one file a frame, of which single rays are read without the rest.

A folder holds

- `features.json`, which says what made the features, how they are written and what that cost;
- `basis-<digest>.npz` if they are reduced to a subspace;
- `frames/<token>.json`, which names a frame's object and the digests of the images it was made of;
- `objects/<key>.features`, the features themselves. The key is the SHA-256 of what they were made of: the description
  and the bytes of the images. Frames with the same images share an object, and changed images have another.

An object holds, little-endian:

- 16 bytes that belong to the folder's `features.json`;
- 32 bytes, the SHA-256 of tag, key and all that follows;
- with 8 bits the smallest and the largest value of each channel, float32 `[k, 2]`;
- the vectors, float16 or uint8 `[n, rows, columns, k]`, cameras in the order of `features.json`.

A vector lies in one piece, and the place of every byte is known before the file is opened. An object is never changed,
only replaced as a whole, and a frame's record is written after its object: any number of processes may write.
"""

import hashlib
import json
import mmap
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from occkit.data.feature_bytes import (
    MAX_VALUE,
    check_seal,
    decode_vectors,
    encode_maps,
    neighbours,
    seal,
    source_key,
    unit,
)
from occkit.data.feature_layout import (
    DIGEST_BYTES,
    DTYPES,
    MAX_FRAME_BYTES,
    TAG_BYTES,
    FeatureCost,
    FeatureLayout,
    as_json,
    is_sha256,
    parse_description,
    tag_of,
)
from occkit.errors import DataError
from occkit.files import (
    create_bytes,
    open_file,
    read_json,
    read_npz_array,
    remove_partials,
    write_bytes,
    write_json,
    write_npz,
)

DESCRIPTION = "features.json"
"""File of a store that says what it holds."""
FRAMES, OBJECTS, SUFFIX = "frames", "objects", ".features"
_MAX_DESCRIPTION_BYTES, _MAX_RECORD_BYTES = 2**20, 2**16
_AGAIN = "write it again with occkit features"
_DELETE = "delete it, and run occkit features again"


@dataclass(frozen=True, kw_only=True)
class FrameRecord:
    """What a store knows of a frame."""

    key: str
    """Its object."""
    images: tuple[str, ...]
    """SHA-256 of the image files it was made of, in the order of the cameras; none if nobody said."""


class FeatureStore:
    """A folder of features, opened; see `create_store` for making one.

    Args:
        folder: where `occkit features` wrote.

    Raises:
        DataError: if it is no such folder, or damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        path = self.folder / DESCRIPTION
        if not path.is_file():
            raise DataError(path, "no such file: this is no store of features", "write one with occkit features")
        self.layout, digest, self.cost = parse_description(path, read_json(path, max_bytes=_MAX_DESCRIPTION_BYTES))
        self.basis: Float[Tensor, "c k"] | None = None
        """Brings text into the store's channels; None if they are those of the extractor."""
        if digest is not None:
            self.basis = _read_basis(basis_path(self.folder, digest), self.layout, digest)
        self._tag = tag_of(self.layout, digest)
        self._keys: dict[str, str] = {}

    def tokens(self) -> list[str]:
        """Return the names of the frames that have a record, in the order of their names."""
        return sorted(path.stem for path in (self.folder / FRAMES).glob("[!.]*.json"))

    def record(self, token: str) -> FrameRecord:
        """Read what is known of a frame.

        Raises:
            DataError: if there is no record of it, or it is damaged.
        """
        path = self._record_path(token)
        if not path.is_file():
            raise DataError(path, "no features of this frame", "run occkit features on this data set")
        value = read_json(path, max_bytes=_MAX_RECORD_BYTES)
        key, images = (value.get("object"), value.get("images")) if isinstance(value, dict) else (None, None)
        if not is_sha256(key) or not isinstance(images, list) or not all(map(is_sha256, images)):
            raise DataError(path, "expected the SHA-256 of an object and of images", _DELETE)
        return FrameRecord(key=key, images=tuple(images))

    def object_path(self, key: str) -> Path:
        """Return where an object lies."""
        return self.folder / OBJECTS / f"{key}{SUFFIX}"

    def path(self, token: str) -> Path:
        """Return where the features of a frame lie.

        Raises:
            DataError: as `record`.
        """
        # Objects do not change: what was found once stays right for as long as somebody reads.
        if token not in self._keys:
            self._keys[token] = self.record(token).key
        return self.object_path(self._keys[token])

    def key(self, token: str, images: Sequence[str]) -> str:
        """Return the name of the object that is made of images for a frame."""
        parts: dict[str, Sequence[str]] = {"images": images}
        return source_key(self._tag, parts | {"token": [token]} if self.layout.by_name else parts)

    def has(self, token: str, images: Sequence[str] | None = None) -> bool:
        """Whether the features of a frame are there and whole, and were made of these images.

        Args:
            token: name of the frame.
            images: SHA-256 of its image files; None does not ask what they were made of.
        """
        try:
            record = self.record(token)
        except DataError:
            return False
        if images is not None and record != FrameRecord(key=self.key(token, images), images=tuple(images)):
            return False
        return self._is_whole(record.key)

    def adopt(self, token: str, images: Sequence[str]) -> bool:
        """Give a frame the features that were made of the same images for another one.

        Returns:
            Whether there are any.

        Raises:
            DataError: if the folder cannot be written.
        """
        key = self.key(token, images)
        if not self._is_whole(key):
            return False
        self._note(token, FrameRecord(key=key, images=tuple(images)))
        return True

    def write(self, token: str, maps: Float[Tensor, "n k rows columns"], images: Sequence[str] = ()) -> None:
        """Write the features of a frame; a reader sees a whole file or none.

        Args:
            token: name of the frame.
            maps: in the store's channels, vectors of length 1.
            images: SHA-256 of the image files they were made of; without them the numbers themselves name the object.

        Raises:
            ValueError: if they are of another shape, not finite, or longer.
            DataError: if the folder cannot be written.
        """
        payload = encode_maps(self.layout, maps)
        key = self.key(token, images) if images else source_key(self._tag, {"numbers": payload})
        write_bytes(self.object_path(key), seal(self._tag, key, payload))
        self._note(token, FrameRecord(key=key, images=tuple(images)))

    def read(self, token: str) -> Float[Tensor, "n k rows columns"]:
        """Read all features of a frame, vectors of length 1.

        Raises:
            DataError: if there is no such file, or it is cut short or belongs to another store. A changed number within
                -1..1 is not noticed; `check` does.
        """
        codes, limits = self._open(token, scattered=False)
        vectors = unit(self._decode(token, codes.reshape(-1, self.layout.dim), limits))
        return vectors.reshape(self.layout.shape).permute(0, 3, 1, 2)

    def sample(self, token: str, cameras: Int64[Tensor, "r"], pixels: Float[Tensor, "r 2"]) -> Float[Tensor, "r k"]:
        """Read the features that rays of a frame see, and no other part of its file.

        The four cells around a pixel are weighed linearly (`align_corners=False`; at the border the nearest), and the
        mean is given length 1 again.

        Args:
            token: name of the frame.
            cameras: index of each ray's camera in `layout.cameras`.
            pixels: (u, v) of each ray in the image as it is stored, pixel centres at +0.5.

        Raises:
            ValueError: if there is no such camera, or a pixel lies outside the image.
            DataError: as `read`.
        """
        layout = self.layout
        height, width = layout.image_size
        u, v = pixels.detach().cpu().double().numpy().reshape(-1, 2).T
        inside = (u >= 0) & (u <= width) & (v >= 0) & (v <= height)
        which = cameras.detach().cpu().numpy()
        if not inside.all() or len(which) != len(u):
            raise ValueError(f"pixels: expected one a camera, (u, v) within {width} x {height}")
        if len(which) and not (which.min() >= 0 and which.max() < len(layout.cameras)):
            raise ValueError(f"cameras: expected 0..{len(layout.cameras) - 1}, got {which.min()}..{which.max()}")
        codes, limits = self._open(token, scattered=True)
        rows, columns = layout.map_size
        low_row, high_row, down = neighbours(v * (rows / height), rows)
        low_column, high_column, right = neighbours(u * (columns / width), columns)
        # In numpy, as loader threads call this: torch's own threads would wait for each other at every small step.
        total = np.zeros((len(u), layout.dim), np.float32)
        for row, vertical in ((low_row, 1 - down), (high_row, down)):
            for column, horizontal in ((low_column, 1 - right), (high_column, right)):
                weight = (vertical * horizontal).astype(np.float32)
                total += weight[:, None] * self._decode(token, codes[which, row, column], limits)
        return unit(total)

    def tidy(self) -> None:
        """Remove what killed writers left on its way an hour ago or earlier."""
        for folder in (self.folder, self.folder / FRAMES, self.folder / OBJECTS):
            remove_partials(folder)

    def check(self, token: str) -> None:
        """Read all bytes of a frame's features, and compare them with their digest.

        Raises:
            DataError: naming the file that is missing or damaged.
        """
        record = self.record(token)
        if record.images and record.key != self.key(token, record.images):
            raise DataError(self._record_path(token), "names an object that was not made of its images", _DELETE)
        path = self.object_path(record.key)
        check_seal(path, self._tag, record.key, size=self.layout.frame_bytes, again=_DELETE)

    def _is_whole(self, key: str) -> bool:
        path = self.object_path(key)
        return path.is_file() and path.stat().st_size == self.layout.frame_bytes

    def _record_path(self, token: str) -> Path:
        return self.folder / FRAMES / f"{token}.json"

    def _note(self, token: str, record: FrameRecord) -> None:
        write_json(self._record_path(token), {"object": record.key, "images": list(record.images)})
        self._keys[token] = record.key

    def _open(self, token: str, *, scattered: bool) -> tuple[npt.NDArray[Any], npt.NDArray[np.float32]]:
        """Map the numbers of a frame's file into memory, and read the limits of its channels (none with float16)."""
        path, layout = self.path(token), self.layout
        if not path.is_file():
            raise DataError(path, f"the features of frame {token} are gone", "run occkit features on this data set")
        stream, size = open_file(path, max_bytes=MAX_FRAME_BYTES)
        try:
            with stream:
                if size != layout.frame_bytes:
                    raise DataError(path, f"expected {layout.frame_bytes:,} bytes, got {size:,}", _AGAIN)
                if stream.read(TAG_BYTES) != self._tag:
                    raise DataError(path, f"does not belong to the {DESCRIPTION} beside it", _DELETE)
                stream.seek(DIGEST_BYTES, 1)
                limits = np.frombuffer(stream.read(layout.header_bytes - TAG_BYTES - DIGEST_BYTES), "<f4")
                pages = mmap.mmap(stream.fileno(), size, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise DataError(path, f"cannot be read ({error})", _AGAIN) from error
        # Else the system reads the neighbourhood of every vector ahead, which is most of the file.
        if scattered and hasattr(mmap, "MADV_RANDOM"):
            pages.madvise(mmap.MADV_RANDOM)
        codes = np.frombuffer(pages, DTYPES[layout.codec], offset=layout.header_bytes).reshape(layout.shape)
        return codes, limits.reshape(-1, 2).astype(np.float32)

    def _decode(self, token: str, codes: npt.NDArray[Any], limits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        vectors = decode_vectors(codes, limits)
        if not (np.abs(vectors) <= MAX_VALUE).all():
            raise DataError(self.path(token), "holds numbers beyond -1..1", _DELETE)
        return vectors


def create_store(
    folder: Path, layout: FeatureLayout, basis: Float[Tensor, "c k"] | None = None, *, cost: FeatureCost | None = None
) -> FeatureStore:
    """Make a folder for features, or open one that is made already for the same.

    Of several processes that make the same folder at the same time one wins, and all use what it wrote. What killed
    writers left on its way an hour ago or earlier is removed.

    Args:
        folder: where to write.
        layout: what shall be written, and how.
        basis: `[width, dim]`, if they are reduced. A folder that is there keeps the one it has: the same vocabulary may
            give another machine a basis that differs in the last bits.
        cost: what that takes from the features, if it was measured. A folder that is there keeps its own.

    Raises:
        ValueError: if the basis does not fit the layout.
        DataError: if the folder holds something else.
    """
    shape = (layout.width, layout.width) if basis is None else tuple(basis.shape)
    if shape != (layout.width, layout.dim):
        raise ValueError(f"basis: expected {(layout.width, layout.dim)}, got {None if basis is None else shape}")
    path = Path(folder) / DESCRIPTION
    if not path.is_file():
        if any(path.parent.glob(f"{OBJECTS}/*{SUFFIX}")) or any(path.parent.glob(f"*{SUFFIX}")):
            raise DataError(folder, f"holds features, but no {DESCRIPTION} that says of what", "give a new folder")
        _describe(path, layout, basis, cost)
    store = FeatureStore(folder)
    wanted, found = as_json(layout), as_json(store.layout)
    different = [key for key in wanted if wanted[key] != found[key]]
    if different or (store.basis is None) != (basis is None):
        raise DataError(
            folder, f"holds other features (different: {', '.join(different) or 'basis'})", "give a new folder"
        )
    store.tidy()
    return store


def _describe(path: Path, layout: FeatureLayout, basis: Float[Tensor, "c k"] | None, cost: FeatureCost | None) -> None:
    digest = None
    if basis is not None:
        array = basis.detach().cpu().numpy().astype("<f4")
        digest = hashlib.sha256(array.tobytes()).hexdigest()
        # Named by its digest, so that it is the one that the description means, whoever's that is.
        write_npz(basis_path(path.parent, digest), basis=array)
    said = as_json(layout) | {"basis_sha256": digest, "cost": None if cost is None else asdict(cost)}
    # A writer that comes second leaves a basis that nobody names; that does no harm.
    create_bytes(path, (json.dumps(said, indent=1, allow_nan=False, ensure_ascii=False) + "\n").encode())


def basis_path(folder: Path, digest: str) -> Path:
    """Return where the basis with a digest lies."""
    return folder / f"basis-{digest[:16]}.npz"


def _read_basis(path: Path, layout: FeatureLayout, digest: str) -> Float[Tensor, "c k"]:
    basis = read_npz_array(path, "basis", shape=(layout.width, layout.dim), kinds="f").astype("<f4")
    if hashlib.sha256(basis.tobytes()).hexdigest() != digest:
        raise DataError(path, f"is not the basis that {DESCRIPTION} names", "write the folder again")
    return torch.from_numpy(basis.astype(np.float32))
