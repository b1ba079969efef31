"""Lists of JSON objects that are too large to hold in memory, read object by object."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from occkit.errors import DataError
from occkit.files import JSON_DECODER, open_file, reason_of

_MAX_BYTES = 16 * 2**30
_MAX_RECORD_CHARS = 2**20
_CHUNK_CHARS = 2**20


def iterate_json_records(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the objects of a JSON list one by one, without holding the file in memory.

    `sample_data.json` of nuScenes has 2.6 million records in over a gigabyte, of which a reader wants one in seven.

    Raises:
        DataError: if the file is not a list of objects, each of at most a million characters.
    """
    stream, _ = open_file(path, max_bytes=_MAX_BYTES)
    with stream, io.TextIOWrapper(stream, encoding="utf-8-sig") as text:
        try:
            yield from _scan_records(text)
        except (ValueError, RecursionError, OSError) as error:
            raise DataError(
                path, f"is not a JSON list of records ({reason_of(error)})", "copy or download the file again"
            ) from error


def _scan_records(stream: io.TextIOBase) -> Iterator[dict[str, Any]]:
    buffer = stream.read(_CHUNK_CHARS).lstrip()
    if not buffer.startswith("["):
        raise ValueError("expected '[' at its start")
    position, first = 1, True
    while True:
        position = _skip_space(buffer, position)
        # A record is decoded when all of it is here; a separator or the closing bracket needs one character.
        record, after = _next_record(buffer, position, first=first)
        if after is None:
            more = stream.read(_CHUNK_CHARS)
            if not more:
                raise ValueError("the file ends inside the list")
            if len(buffer) - position > _MAX_RECORD_CHARS:
                raise ValueError("a record is longer than a million characters")
            buffer, position = buffer[position:] + more, 0
            continue
        if record is None:
            if (buffer[after:] + stream.read(_CHUNK_CHARS)).strip():
                raise ValueError("text follows the end of the list")
            return
        position, first = after, False
        yield record


def _skip_space(buffer: str, position: int) -> int:
    while position < len(buffer) and buffer[position] in " \t\r\n":
        position += 1
    return position


def _next_record(buffer: str, position: int, *, first: bool) -> tuple[dict[str, Any] | None, int | None]:
    """Return (record, end), (None, end) at the closing bracket, or (None, None) when more text is needed."""
    if position >= len(buffer):
        return None, None
    if buffer[position] == "]":
        return None, position + 1
    start = position
    if not first:
        if buffer[position] != ",":
            raise ValueError("expected ',' between records")
        start = _skip_space(buffer, position + 1)
        if start >= len(buffer):
            return None, None
    if buffer[start] != "{":
        raise ValueError("expected an object as record")
    try:
        record, end = JSON_DECODER.raw_decode(buffer, start)
    except json.JSONDecodeError:
        # Either cut off by the end of the buffer or broken: a broken one stays broken until the length limit.
        return None, None
    return record, end
