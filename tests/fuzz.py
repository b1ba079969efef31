"""Damage for readers: every file they are given must end in a value or a DataError, nothing else."""

import contextlib
from collections.abc import Callable
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from occkit.errors import DataError


def check_reader(read: Callable[[Path], object], sound: bytes, path: Path, *, max_examples: int = 40) -> None:
    """Feed a reader random bytes, and a sound file cut off, overwritten and lengthened."""

    def attempt(data: bytes) -> None:
        path.write_bytes(data)
        with contextlib.suppress(DataError):
            read(path)

    quiet = settings(max_examples=max_examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))

    @quiet
    @given(st.binary(max_size=300))
    def random_bytes(data: bytes) -> None:
        attempt(data)

    @quiet
    @given(st.integers(0, len(sound)), st.binary(max_size=12), st.integers(0, 400))
    def mutated(cut: int, patch: bytes, at: int) -> None:
        attempt(sound[:cut])
        attempt(sound[:at] + patch + sound[at + len(patch) :])
        attempt(sound + patch)

    random_bytes()
    mutated()
