"""Keeps what was read in memory, up to a limit, so that small data sets are read from disk once."""

import threading
from collections.abc import Callable, Hashable
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar, cast

from PIL import Image
from torch import Tensor

T = TypeVar("T")
_MISSING = object()


class ByteCache:
    """What comes first stays; once the limit is reached nothing more is kept.

    Training visits all frames equally often: throwing out the oldest would miss every time, keeping the first does not.

    Args:
        max_bytes: limit; 0 keeps nothing.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.num_bytes = 0
        self._items: dict[Hashable, Any] = {}
        self._lock = threading.Lock()

    def __reduce__(self) -> "tuple[type[ByteCache], tuple[int]]":
        # Another process gets the limit, not what was kept.
        return ByteCache, (self.max_bytes,)

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return the value kept under `key`, or make it. Two threads may make the same value; one of them is kept."""
        kept = self._items.get(key, _MISSING)
        if kept is not _MISSING:
            return cast(T, kept)
        value = make()
        size = _num_bytes(value)
        with self._lock:
            if key not in self._items and self.num_bytes + size <= self.max_bytes:
                self._items[key] = value
                self.num_bytes += size
        return value


def _num_bytes(value: object) -> int:
    if isinstance(value, Tensor):
        return value.nbytes
    if isinstance(value, Image.Image):
        return 4 * value.width * value.height
    if isinstance(value, tuple):
        return sum(map(_num_bytes, value))
    if is_dataclass(value):
        return sum(_num_bytes(getattr(value, field.name)) for field in fields(value))
    return 64
