"""How every benchmark is measured: medians of paired repeats, peaks of memory, rows for the table.

A benchmark is a file with `NAME` and `run() -> list[Row]`. `occkit bench --json benchmarks/results.json` runs them all,
and `python benchmarks/table.py` turns that file into the table of `benchmarks/README.md`.
"""

import ctypes
import gc
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile


@dataclass(frozen=True, kw_only=True)
class Row:
    """One figure: what was measured, ours and the plain form in the same run, and what it was to reach."""

    name: str
    """Benchmark file, without .py."""
    what: str
    """What was timed or weighed, with its unit if that is not seconds."""
    shapes: str
    """Sizes, in words."""
    dtype: str
    """Number format."""
    ours: float
    """Our figure: median, in `unit`."""
    unit: str = "s"
    """Unit of `ours` and `plain`."""
    plain: float | None = None
    """The plain form's figure in the same run, in `unit`; None where there is none to compare with."""
    ratio: float | None = None
    """How many times better ours is: plain / ours for times and bytes."""
    target: str = ""
    """What was to be reached, in words."""
    reached: bool | None = None
    """Whether it was; None where there is no target."""
    extra: dict[str, float] = field(default_factory=dict)
    """Further figures: spread, differences between the two forms."""


def measure(function: Callable[[], object], *, repeats: int = 5, warmup: int = 1) -> float:
    """Return the median wall time of `function`, seconds. The garbage collector rests meanwhile."""
    return measure_pair(function, None, repeats=repeats, warmup=warmup)[0]


def measure_pair(
    ours: Callable[[], object], plain: Callable[[], object] | None, *, repeats: int = 5, warmup: int = 1
) -> tuple[float, float]:
    """Return the median wall times of two forms, run in turns so that a busy neighbour slows both; NaN for no form."""
    forms = [form for form in (ours, plain) if form is not None]
    times: list[list[float]] = [[] for _ in forms]
    for _ in range(warmup):
        for form in forms:
            form()
    gc.collect()
    gc.disable()
    try:
        for _ in range(repeats):
            for form, record in zip(forms, times, strict=True):
                _wait()
                start = time.perf_counter()
                form()
                _wait()
                record.append(time.perf_counter() - start)
    finally:
        gc.enable()
    medians = [statistics.median(record) for record in times]
    return medians[0], medians[1] if plain is not None else float("nan")


def peak_memory(function: Callable[[], object]) -> int:
    """Return by how many bytes the tensors alive during `function` exceed those alive before it, at the worst moment.

    On the CPU this adds up every allocation and release that torch's profiler records (numba's kernels allocate only
    through torch); on CUDA the allocator counts itself.
    """
    if torch.cuda.is_available():
        _wait()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        function()
        return torch.cuda.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        function()
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.json"
        recorded.export_chrome_trace(str(trace))
        events = json.loads(trace.read_text(encoding="utf-8"))["traceEvents"]
    moves = [(event["ts"], event["args"]["Bytes"]) for event in events if event["name"] == "[memory]"]
    live = peak = 0
    for _, size in sorted(moves, key=lambda move: move[0]):
        live += size
        peak = max(peak, live)
    return peak


def peak_resident(function: Callable[[], object]) -> int | None:
    """Return by how many bytes the memory of the process grows during `function`, at the worst moment.

    For work whose arrays torch does not allocate (numpy, numba, scipy). None where the system does not say: only Linux
    forgets the peak of a process on request.
    """
    status, forget = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    if not (status.is_file() and forget.exists()):
        return None

    def kilobytes(name: str) -> int:
        (line,) = [line for line in status.read_text(encoding="utf-8").splitlines() if line.startswith(f"{name}:")]
        return int(line.split()[1])

    gc.collect()
    library = ctypes.CDLL(None)
    if hasattr(library, "malloc_trim"):
        library.malloc_trim(0)  # what was freed before must not be there to be taken again, unseen
    forget.write_text("5", encoding="utf-8")
    before = kilobytes("VmRSS")
    function()
    return 1024 * (kilobytes("VmHWM") - before)


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def compare(
    name: str,
    what: str,
    ours: float,
    plain: float,
    *,
    at_least: float,
    shapes: str,
    dtype: str,
    unit: str = "s",
    **extra: float,
) -> Row:
    """Make the row of a figure that is to be `at_least` times better than the plain form's."""
    ratio = plain / ours
    return Row(
        name=name,
        what=what,
        shapes=shapes,
        dtype=dtype,
        ours=ours,
        unit=unit,
        plain=plain,
        ratio=ratio,
        target=f">= {at_least:g}x the plain form",
        reached=ratio >= at_least,
        extra=extra,
    )


def overhead(
    name: str,
    what: str,
    ours: Callable[[], object],
    plain: Callable[[], object],
    *,
    at_most: float,
    shapes: str,
    repeats: int = 7,
) -> list[Row]:
    """Measure time and peak memory of a step that is to cost `at_most` times the plain one. `what` has a `{}`."""
    seconds = measure_pair(ours, plain, repeats=repeats, warmup=2)
    memory = float(peak_memory(ours)), float(peak_memory(plain))
    return [
        Row(
            name=name,
            what=what.format(measured),
            shapes=shapes,
            dtype="float32",
            ours=mine,
            unit=unit,
            plain=other,
            ratio=other / mine,
            target=f"<= {at_most:g}x the plain step",
            reached=mine <= at_most * other,
        )
        for measured, unit, (mine, other) in (("time", "s", seconds), ("peak memory", "B", memory))
    ]


def amount(value: float, unit: str) -> str:
    """Write a figure with a prefix that suits it."""
    if unit == "s":
        for scale, prefix in ((1, "s"), (1e-3, "ms"), (1e-6, "us")):
            if value >= scale:
                return f"{value / scale:.3g} {prefix}"
        return f"{value * 1e9:.3g} ns"
    if unit == "B":
        for scale, prefix in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
            if value >= scale:
                return f"{value / scale:.3g} {prefix}"
        return f"{value:.0f} B"
    return f"{value:.3g} {unit}"


def describe(row: Row) -> str:
    """Return one line about a row."""
    line = f"{row.what} ({row.shapes}, {row.dtype}): {amount(row.ours, row.unit)}"
    if row.plain is not None:
        line += f", plain {amount(row.plain, row.unit)}"
    if row.ratio is not None:
        line += f", {row.ratio:.1f}x"
    if row.reached is not None:
        line += f" [{'reached' if row.reached else 'not reached'}: {row.target}]"
    return line


def machine() -> dict[str, str | int]:
    """Say what the figures were measured on."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        names = [
            line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")
        ]
        model = names[0] if names else model
    return {
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "cpu": model,
        "cores": os.cpu_count() or 1,
        "threads": torch.get_num_threads(),
        "torch": str(torch.__version__),
        "python": platform.python_version(),
        "load_average": round(os.getloadavg()[0]) if hasattr(os, "getloadavg") else -1,
    }
