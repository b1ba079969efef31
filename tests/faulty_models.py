"""Labellers with faults for the tests of engines; a module of its own, because workers import it."""

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from occkit.errors import DataError
from occkit.foundation import SimulatedLabeller, SimulatedLabellerConfig


@dataclass(frozen=True)
class Faulty:
    """Makes a perfect labeller that fails at one frame."""

    root: Path
    fault: str = "none"
    """none, die (SIGKILL), die_once, full (no space left), wait (for ever), linger (some seconds)."""
    token: str = ""
    marker: Path = Path("/nonexistent")
    """Says for die_once, wait and linger that it has happened."""

    def __call__(self) -> "Failing":
        return Failing(self, SimulatedLabellerConfig.perfect(self.root).build())


class Failing:
    def __init__(self, faulty: Faulty, inner: SimulatedLabeller) -> None:
        self.faulty, self.inner = faulty, inner
        self.taxonomy, self.description = inner.taxonomy, inner.description | {"a tuple": (1, 2)}

    def label(self, images, *, token, cameras):
        if token == self.faulty.token:
            self._fail()
        return self.inner.label(images, token=token, cameras=cameras)

    def _fail(self) -> None:
        fault, marker = self.faulty.fault, self.faulty.marker
        if fault == "die" or (fault == "die_once" and not marker.exists()):
            if fault == "die_once":
                marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if fault == "full":
            raise DataError(marker, "cannot be written (No space left on device)", "check the space left")
        if fault in ("wait", "linger"):
            marker.touch()
            time.sleep(600 if fault == "wait" else 4)
