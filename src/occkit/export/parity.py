"""Does the file say what the system says: differences, agreement, scores, and how long both take."""

import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from occkit.export.graph import GraphSpec, Tensors, batch_of
from occkit.metrics import Evaluator, main_score
from occkit.samples import Occupancy, Prediction

MAX_DIFFERENCE = 1e-4
"""Of two scores, up to which the float32 file counts as equal."""
MIN_AGREEMENT = 0.999
"""Share of voxels whose labels must agree for that."""

Array = npt.NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class Frame:
    """One frame to compare on."""

    token: str
    """Its name."""
    inputs: Tensors
    """See `frame_inputs`."""
    label: Occupancy | None = None
    """To score with, without a batch dimension; None where there is none, or the cameras are not the frame's own."""
    origins: npt.NDArray[np.float64] | None = None
    """For ray protocols, see `Evaluator.add`."""


@dataclass(kw_only=True)
class Difference:
    """How far scores and labels are from the system's, over all voxels of all frames so far."""

    frames: int = 0
    """Frames compared."""
    values: int = 0
    """Scores compared."""
    largest: float = 0.0
    """Largest absolute difference of two scores."""
    total: float = 0.0
    """Sum of the absolute differences."""
    voxels: int = 0
    """Labels compared."""
    agreeing: int = 0
    """Labels that agree."""
    tokens: list[str] = field(default_factory=list)
    """Frames compared."""

    def add(self, token: str, logits: Array, labels: Array, expected: Array) -> None:
        """Compare one frame; see `compare`."""
        self.frames += 1
        self.tokens.append(token)
        self.compare(logits, labels, expected)

    def compare(self, logits: Array, labels: Array, expected: Array) -> None:
        """Compare scores `[c, x, y, z]` and labels `[x, y, z]` with the system's scores."""
        apart = np.abs(logits.astype(np.float64) - expected)
        # A score that is no number is as far off as can be.
        apart = np.where(np.isfinite(apart), apart, np.inf)
        same = labels == expected.argmax(axis=0)
        self.values += apart.size
        self.largest = max(self.largest, float(apart.max()))
        self.total += float(apart.sum())
        self.voxels += same.size
        self.agreeing += int(same.sum())

    @property
    def mean(self) -> float:
        """Mean absolute difference of two scores."""
        return self.total / max(1, self.values)

    @property
    def agreement(self) -> float:
        """Share of voxels whose labels agree."""
        return self.agreeing / max(1, self.voxels)

    @property
    def holds(self) -> bool:
        """Whether that counts as equal."""
        return self.frames > 0 and self.largest <= MAX_DIFFERENCE and self.agreement >= MIN_AGREEMENT


class Session:
    """An exported file in ONNX Runtime on the CPU, called frame by frame."""

    def __init__(self, model: bytes, *, threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self.inputs = tuple(value.name for value in self.session.get_inputs())
        self.outputs = tuple(value.name for value in self.session.get_outputs())
        size = self.session.get_inputs()[0].shape[0]
        # Frames of a call; where any number will do, two show that each is its own.
        self.batch = size if isinstance(size, int) else 2
        self.timed = size if isinstance(size, int) else 1

    def feeds(self, frames: Sequence[Tensors]) -> dict[str, Array]:
        """Return what the session takes for frames; points of unequal number are filled up with points far away."""
        return {name: _stacked([frame[name].numpy() for frame in frames]) for name in self.inputs}

    def run(self, frames: Sequence[Tensors]) -> dict[str, Array]:
        """Return the outputs by name, `[b, ...]`."""
        found = cast(list[Array], self.session.run(None, self.feeds(frames)))
        return dict(zip(self.outputs, found, strict=True))


@dataclass(frozen=True, kw_only=True)
class Compared:
    """What was found on the frames, file by file."""

    differences: Mapping[str, Difference]
    """One a file."""
    scores: Mapping[str, float | None]
    """Main figure of the protocol (0..1): of the system, "torch", and of each file. Empty without labels."""


def compare(
    system: nn.Module,
    spec: GraphSpec,
    sessions: Mapping[str, Session],
    frames: Iterable[Frame],
    *,
    protocol: str | None = None,
) -> Compared:
    """Run system and files on the same frames.

    Args:
        system: in evaluation mode, on the CPU.
        spec: of the files.
        sessions: one a file.
        frames: what to run on.
        protocol: score frames that have a label by this.
    """
    differences = {name: Difference() for name in sessions}
    names = ("torch", *sessions)
    evaluators = {} if protocol is None else {name: Evaluator([protocol]) for name in names}
    scored, before = False, None
    for frame in frames:
        expected = _system_logits(system, spec, frame.inputs)
        volumes = {"torch": expected.argmax(axis=0).astype(np.uint8)}
        # A batch is filled up with the frame before: each row must be its own frame's.
        other, others = before or (frame, expected)
        for name, session in sessions.items():
            found = session.run([frame.inputs, *[other.inputs] * (session.batch - 1)])
            difference = differences[name]
            difference.add(frame.token, found["logits"][0], found["labels"][0], expected)
            for row in range(1, session.batch):
                difference.compare(found["logits"][row], found["labels"][row], others)
            volumes[name] = found["labels"][0]
        before = (frame, expected)
        if frame.label is not None and evaluators:
            scored = True
            for name, volume in volumes.items():
                evaluators[name].add(frame.token, volume, frame.label, frame.origins)
    reports = {name: evaluator.report() for name, evaluator in evaluators.items()} if scored else {}
    scores = {name: main_score(entry) for name, report in reports.items() for entry in report.values()}
    return Compared(differences=differences, scores=scores)


def latencies(
    system: nn.Module, spec: GraphSpec, sessions: Mapping[str, Session], inputs: Tensors, *, repeats: int
) -> dict[str, float]:
    """Return the median time of one call, seconds: of the system, "torch", and of each file; measured in turns."""
    calls: dict[str, Callable[[], object]] = {"torch": lambda: _system_logits(system, spec, inputs)}
    for name, session in sessions.items():
        feeds = session.feeds([inputs] * session.timed)
        calls[name] = lambda session=session, feeds=feeds: session.session.run(None, feeds)
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats + 1):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            taken[name].append(time.perf_counter() - start)
    return {name: statistics.median(times[1:]) for name, times in taken.items()}


def _system_logits(system: nn.Module, spec: GraphSpec, inputs: Tensors) -> Array:
    with torch.no_grad():
        prediction: Prediction = system(batch_of(inputs, spec))
    return prediction.logits[0].float().numpy()


def _stacked(arrays: Sequence[Array]) -> Array:
    longest = max(len(array) for array in arrays)
    if any(len(array) != longest for array in arrays):
        far = [np.full((longest - len(a), *a.shape[1:]), 1e6, a.dtype) for a in arrays]
        arrays = [np.concatenate(pair) for pair in zip(arrays, far, strict=True)]
    return np.stack(arrays)
