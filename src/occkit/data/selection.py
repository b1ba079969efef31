"""Which frames are meant: by name, by scene, or so many, evenly spread."""

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from occkit.errors import ConfigError

T = TypeVar("T")


def evenly_spread(items: Sequence[T], limit: int) -> tuple[T, ...]:
    """Return at most `limit` of the items: the middle one of as many equal parts."""
    count = min(limit, len(items))
    return tuple(items[(2 * i + 1) * len(items) // (2 * count)] for i in range(count))


def half_way_round(items: Sequence[T], item: T) -> T:
    """Return the item that is half of all away; with two or more it is another one."""
    return items[(items.index(item) + len(items) // 2) % len(items)]


def by_scene(tokens: Iterable[str], scene_of: Callable[[str], str]) -> dict[str, list[str]]:
    """Return the frames of each scene, in the order they come in."""
    found: dict[str, list[str]] = {}
    for token in tokens:
        found.setdefault(scene_of(token), []).append(token)
    return found


def choose_frames(tokens: Sequence[str], wanted: Sequence[str]) -> tuple[str, ...]:
    """Return the frames that a user asks for, in the order of the data set.

    Args:
        tokens: names of the frames there are.
        wanted: names of frames; or one number, how many, unless a frame is called so.

    Raises:
        ConfigError: if nothing is asked for, or a frame is not there.
    """
    if len(wanted) == 1 and wanted[0] not in tokens and wanted[0].isdecimal() and len(wanted[0]) < 10:
        wanted = evenly_spread(tokens, int(wanted[0]))
    if not wanted:
        raise ConfigError("--frames: name at least one frame, or say how many")
    missing = [token for token in wanted if token not in tokens]
    if missing:
        raise ConfigError(f"--frames: there is no frame {missing[0]!r}, but such as {tokens[0]}")
    return tuple(token for token in tokens if token in wanted)
